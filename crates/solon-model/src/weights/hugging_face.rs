//! Opens a Hugging Face folder: `config.json` and `model.safetensors`, whole or in shards.
//!
//! Contract: all headers are read and held to the configuration before any tensor is; tensors are then read one at a
//! time. Names in the shard index are plain file names in the folder, never paths.
//! Source: transformers, `modeling_utils.py` (`from_pretrained`) and `utils/hub.py` (`get_checkpoint_shard_files`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::DAMAGED;
use super::hugging_face_config::{self, Head};
use super::safetensors_file::SafetensorsFile;
use crate::config::ModelConfig;

use super::{Checkpoint, Description, TextSource, WeightsError, check_tensors, read_small_file};

/// More than any published `config.json` or index has.
const MAX_CONFIG: u64 = 16 << 20;
const MAX_INDEX: u64 = 64 << 20;

const SCORE: &str = "score.weight";
const LANGUAGE_HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Reads what `config.json` says of the model.
pub(super) fn describe(folder: &Path) -> Result<Description, WeightsError> {
    let (config, _) = configuration(folder)?;
    Ok(Description { config, text: TextSource::Folder(folder.to_path_buf()) })
}

fn configuration(folder: &Path) -> Result<(ModelConfig, Head), WeightsError> {
    let path = folder.join("config.json");
    if !path.exists() {
        return Err(not_a_model(folder));
    }
    hugging_face_config::parse(&path, &read_small_file(&path, MAX_CONFIG)?)
}

/// Opens the folder.
pub(super) fn open(folder: &Path) -> Result<Checkpoint, WeightsError> {
    let (config, head) = configuration(folder)?;
    let mut shards = open_shards(folder)?;

    let prefix = missing_prefix(shards.iter().flat_map(|(_, shard)| shard.tensors.keys()));
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    for (shard, (path, file)) in shards.iter().enumerate() {
        for name in file.tensors.keys() {
            let full = format!("{}{name}", if is_head(name) { "" } else { prefix });
            if let Some(first) = places.insert(full, Place { shard, name: name.clone() }) {
                let found = format!("also in {}", shards[first.shard].0.display());
                return Err(WeightsError::tensor(path, name, found, "each tensor belongs to one shard"));
            }
        }
    }
    let shape = |place: &Place| shards[place.shard].1.tensors[&place.name].shape.as_slice();
    // Old exports carry the RoPE frequencies as buffers; the decoder computes them from the configuration.
    places.retain(|name, _| !name.ends_with(".rotary_emb.inv_freq"));
    let (scores, padding) = match head {
        Head::Score { padding } => (true, padding),
        Head::Language => (false, None),
    };
    let score_place = if scores { places.remove(SCORE) } else { None };
    if scores {
        let rows = score_place.as_ref().map(shape);
        if !matches!(rows, Some([labels, width]) if *labels > 0 && *width == config.hidden_size) {
            return Err(WeightsError::tensor(
                folder,
                SCORE,
                format!("its shape is {rows:?}, but should be [labels, {}]", config.hidden_size),
                "a *ForSequenceClassification folder holds it; for a plain model name *ForCausalLM in config.json",
            ));
        }
        // A scoring model saved from a chat model may carry the head along; nothing uses it.
        places.remove(LANGUAGE_HEAD);
    }
    let tied_head = if config.tie_word_embeddings { places.remove(LANGUAGE_HEAD) } else { None };
    check_tensors(folder, &config, places.iter().map(|(name, place)| (name.as_str(), shape(place))))?;

    let mut tensors = BTreeMap::new();
    let mut read = |place: &Place| shards[place.shard].1.read(&place.name);
    for (name, place) in places {
        let tensor = read(&place)?;
        tensors.insert(name, tensor);
    }
    if let Some(place) = tied_head
        && tensors.get(EMBEDDING) != Some(&read(&place)?)
    {
        return Err(WeightsError::tensor(
            folder,
            LANGUAGE_HEAD,
            "it differs from the embedding, but tie_word_embeddings says they are one",
            "set tie_word_embeddings to false in config.json if the head was trained, else delete the tensor",
        ));
    }
    let score = score_place.map(|place| read(&place)).transpose()?;
    let text = TextSource::Folder(folder.to_path_buf());
    Ok(Checkpoint { config, tensors, text, score, padding, path: folder.to_path_buf() })
}

/// Where a tensor lies.
struct Place {
    shard: usize,
    /// Its name there.
    name: String,
}

/// What the names lack if the model was saved without its head, as `AutoModel` saves it. transformers adds it as well
/// (`base_model_prefix`).
fn missing_prefix<'a>(mut names: impl Iterator<Item = &'a String>) -> &'static str {
    const PREFIX: &str = "model.";
    if names.any(|name| name.starts_with(PREFIX)) { "" } else { PREFIX }
}

/// Whether a tensor stands on top of the model, not in it.
fn is_head(name: &str) -> bool {
    [SCORE, LANGUAGE_HEAD].contains(&name)
}

fn not_a_model(folder: &Path) -> WeightsError {
    let gguf = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")));
    let hint = match gguf {
        Some(file) => format!("to load the GGUF file, name it: {}", file.display()),
        None if folder.join("adapter_config.json").exists() => {
            "this is a PEFT adapter; open its base model and load the adapter onto it".to_string()
        }
        None => "a model is a folder with config.json and model.safetensors, or a .gguf file".to_string(),
    };
    WeightsError::invalid(folder, "config.json", "absent", hint)
}

/// Opens every file of the weights, with headers checked.
fn open_shards(folder: &Path) -> Result<Vec<(PathBuf, SafetensorsFile)>, WeightsError> {
    let single = folder.join("model.safetensors");
    if single.exists() {
        let file = SafetensorsFile::open(&single)?;
        return Ok(vec![(single, file)]);
    }
    let index_path = folder.join("model.safetensors.index.json");
    if !index_path.exists() {
        let pickled =
            folder.join("pytorch_model.bin").exists() || folder.join("pytorch_model.bin.index.json").exists();
        let hint = match pickled {
            true => "pytorch_model.bin is not read; save it again with transformers' save_pretrained",
            false => "download it, or merge and save the model as safetensors",
        };
        return Err(WeightsError::invalid(folder, "model.safetensors", "absent", hint));
    }

    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_str(&read_small_file(&index_path, MAX_INDEX)?)
        .map_err(|error| WeightsError::invalid(&index_path, "JSON", error.to_string(), DAMAGED))?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    let mut shards = Vec::new();
    let mut places = BTreeMap::new();
    for name in names {
        if !is_plain_name(name) {
            return Err(WeightsError::invalid(
                &index_path,
                "weight_map",
                format!("{name:?} is no plain file name"),
                "shards lie beside the index; do not trust this folder",
            ));
        }
        let path = folder.join(name);
        let file = SafetensorsFile::open(&path)?;
        places.insert(name, shards.len());
        shards.push((path, file));
    }
    for (tensor, name) in &index.weight_map {
        let (path, file) = &shards[places[name]];
        if !file.tensors.contains_key(tensor) {
            return Err(WeightsError::tensor(
                path,
                tensor,
                "the index places it here, but it is missing",
                DAMAGED,
            ));
        }
    }
    Ok(shards)
}

/// A file name that cannot lead out of its folder, on any platform.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}
