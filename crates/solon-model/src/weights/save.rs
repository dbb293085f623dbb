//! Saves a model as a Hugging Face folder that transformers (4 and 5) loads unchanged.
//!
//! Contract: the same input gives the same bytes. All files are written and synced under temporary names first
//! (`staging.rs`), so an error leaves nothing half-written under a final name. What is saved here,
//! [`Checkpoint::open`](super::Checkpoint::open) opens: tensors are held to the configuration and must be finite.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::hugging_face::is_plain_name;
use super::staging::{StagedFolder, bytes};
use super::{Tensor, WeightsError, check_finite, check_tensors, hugging_face_config, safetensors_file};
use crate::config::{Architecture, ModelConfig};

/// The type of saved weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveType {
    /// Exact.
    F32,
    /// Rounded to the nearest, ties to even; half the size.
    Bf16,
}

/// The special tokens `config.json` and `generation_config.json` name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenIds {
    /// Begins a sequence.
    pub bos: Option<u32>,
    /// At which generation stops; the first ends an answer.
    pub eos: Vec<u32>,
    /// Fills batches. A scoring model's score is that of the last token which is another.
    pub pad: Option<u32>,
}

impl TokenIds {
    /// `eos_token_id`: one id, or a list, as transformers writes it.
    pub(super) fn eos_json(&self) -> Value {
        match &self.eos[..] {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        }
    }
}

const WRITTEN_HERE: [&str; 3] = ["config.json", "generation_config.json", "model.safetensors"];

/// Saves a model to the folder `dir`.
///
/// `tensors` are those of [`expected_tensors`](super::expected_tensors). With a `score` head (`[labels,
/// hidden_size]`) a `*ForSequenceClassification` is saved, which has no language head: `lm_head.weight` is left out.
/// `lm_head.weight` is also left out where the configuration ties it to the embedding. `text_files` (the tokenizer's) are
/// written beside the model as they are.
pub fn save_hugging_face(
    dir: &Path,
    config: &ModelConfig,
    tensors: &BTreeMap<String, Tensor>,
    dtype: SaveType,
    score: Option<&Tensor>,
    text_files: &[(String, Vec<u8>)],
    ids: &TokenIds,
) -> Result<(), WeightsError> {
    let mut config = config.clone();
    // As `Checkpoint::open` reports it: a scoring model has no language head of its own.
    config.tie_word_embeddings |= score.is_some();
    check_config(dir, &config)?;
    let mut saved: BTreeMap<&str, &Tensor> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    if config.tie_word_embeddings {
        saved.remove("lm_head.weight");
    }
    check_tensors(dir, &config, saved.iter().map(|(name, tensor)| (*name, tensor.shape.as_slice())))?;
    if let Some(score) = score {
        if !matches!(score.shape[..], [labels, width] if labels > 0 && width == config.hidden_size) {
            let found =
                format!("its shape is {:?}, but should be [labels, {}]", score.shape, config.hidden_size);
            return Err(WeightsError::tensor(dir, "score.weight", found, "pass the head of this model"));
        }
        saved.insert("score.weight", score);
    }
    for (name, tensor) in &saved {
        check_data(dir, name, tensor)?;
    }

    let mut folder = StagedFolder::new(dir)?;
    let labels = score.map(|score| score.shape[0]);
    let config_text = hugging_face_config::render(&config, dtype, ids, labels);
    folder.write("config.json", bytes(config_text.as_bytes()))?;
    if score.is_none() {
        folder.write("generation_config.json", bytes(generation_config(ids).as_bytes()))?;
    }
    folder.write("model.safetensors", |writer| safetensors_file::write(writer, &saved, dtype))?;
    for (name, content) in text_files {
        if !is_plain_name(name) || WRITTEN_HERE.contains(&name.as_str()) {
            return Err(WeightsError::invalid(
                dir,
                "text files",
                format!("{name:?} cannot be a tokenizer's file"),
                "give plain names such as tokenizer.json",
            ));
        }
        folder.write(name, bytes(content))?;
    }
    folder.commit()
}

/// Refuses a configuration that the saved architecture could not express.
pub(super) fn check_config(dir: &Path, config: &ModelConfig) -> Result<(), WeightsError> {
    let invalid = |found: String| {
        WeightsError::invalid(
            dir,
            "configuration",
            found,
            "save the configuration that the model was loaded with",
        )
    };
    config.validate().map_err(invalid)?;
    let family = (config.architecture == Architecture::Qwen2, config.architecture == Architecture::Qwen3);
    if (config.qkv_bias, config.qk_norm) != family {
        return Err(invalid(format!(
            "{:?} with qkv_bias {} and qk_norm {}",
            config.architecture, config.qkv_bias, config.qk_norm
        )));
    }
    Ok(())
}

/// Refuses tensors whose data does not fill their shape or is not finite.
pub(super) fn check_data(path: &Path, name: &str, tensor: &Tensor) -> Result<(), WeightsError> {
    if super::element_count(&tensor.shape) != Some(tensor.data.len()) {
        let found = format!("{} values for shape {:?}", tensor.data.len(), tensor.shape);
        return Err(WeightsError::tensor(path, name, found, "this is a mistake in the program that saves"));
    }
    check_finite(path, name, &tensor.data)
}

fn generation_config(ids: &TokenIds) -> String {
    let mut fields = json!({"_from_model_config": true});
    for (name, id) in
        [("bos_token_id", json!(ids.bos)), ("eos_token_id", ids.eos_json()), ("pad_token_id", json!(ids.pad))]
    {
        if !id.is_null() {
            fields[name] = id;
        }
    }
    format!("{fields:#}\n")
}
