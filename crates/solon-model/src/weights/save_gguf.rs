//! Saves a model as one GGUF file that llama.cpp and Ollama load.
//!
//! Contract: the inverse of `gguf_model.rs`: what is saved as F32, [`Checkpoint::open`](super::Checkpoint::open) opens
//! to equal tensors. Names, keys, row orders and the choice of each tensor's type are those of llama.cpp's converter and
//! quantiser, of the latter without an importance matrix and without its exception for models of 80 layers. Vectors
//! (norms, biases) stay F32. The same input gives the same bytes, and the file appears whole or not at all.
//!
//! A Mistral model is saved as `llama`, as the converter does: the two compute the same.
//!
//! Source: llama.cpp, `convert_hf_to_gguf.py` and `src/llama-quant.cpp` (`llama_tensor_get_type_impl`,
//! `tensor_type_fallback`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::gguf_names::{EMBEDDING, HEAD, gguf_name, is_rotated, pairs_from_halves};
use super::gguf_quant::GgmlType;
use super::gguf_quantize::largest;
use super::gguf_rope;
use super::gguf_write::{self, GgufValue, PlannedTensor};
use super::save::{check_config, check_data};
use super::{Tensor, WeightsError, check_tensors, expected_tensors};
use crate::config::{Architecture, ModelConfig};

/// The type of a file: that of most of its matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    /// Exact.
    F32,
    /// Rounded to 16-bit IEEE floats.
    F16,
    /// Rounded to 16-bit brain floats.
    Bf16,
    /// 8 bits.
    Q8_0,
    /// 4 bits in blocks of 32; the head has more.
    Q4_0,
    /// 4 bits in blocks of 256; the head and the matrices that matter most have 6.
    Q4KM,
}

impl GgufType {
    /// llama.cpp's name, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4KM => "q4_k_m",
        }
    }

    /// `general.file_type`. Source: llama.cpp, `gguf-py/gguf/constants.py::LlamaFileType`.
    pub(super) fn id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4KM => 15,
            Self::Bf16 => 32,
        }
    }

    /// How a matrix is stored whose rows have `width` values.
    fn of_matrix(self, name: &str, width: usize, config: &ModelConfig) -> GgmlType {
        let is_head = name == HEAD || (name == EMBEDDING && config.tie_word_embeddings);
        let wanted = match self {
            Self::F32 => GgmlType::F32,
            Self::F16 => GgmlType::F16,
            Self::Bf16 => GgmlType::BF16,
            Self::Q8_0 => GgmlType::Q8_0,
            Self::Q4_0 | Self::Q4KM if is_head => GgmlType::Q6_K,
            Self::Q4_0 => GgmlType::Q4_0,
            Self::Q4KM if takes_more_bits(name, config.num_layers) => GgmlType::Q6_K,
            Self::Q4KM => GgmlType::Q4_K,
        };
        let fits = |kind: GgmlType| width.is_multiple_of(kind.block_length());
        match wanted {
            kind if fits(kind) => kind,
            GgmlType::Q4_K if fits(GgmlType::Q5_0) => GgmlType::Q5_0,
            GgmlType::Q6_K if fits(GgmlType::Q8_0) => GgmlType::Q8_0,
            _ => GgmlType::F16,
        }
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The values and the last matrix of the MLP, in the first and last eighth of the layers and in every third between.
fn takes_more_bits(name: &str, layers: usize) -> bool {
    let of_block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
    let Some((layer, "attn_v.weight" | "ffn_down.weight")) = of_block else { return false };
    let (layer, eighth) = (layer.parse().unwrap_or(0), layers / 8);
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// Saves a model to the file `path`.
///
/// `tensors` are those of [`expected_tensors`]; `lm_head.weight` is left out where the configuration ties it. `text` are
/// further keys: the tokenizer's, and `general.name`.
pub fn save_gguf(
    path: &Path,
    config: &ModelConfig,
    tensors: &BTreeMap<String, Tensor>,
    file_type: GgufType,
    text: &[(String, GgufValue)],
) -> Result<(), WeightsError> {
    check_config(path, config)?;
    let saved = tensors.iter().filter(|(name, _)| !(config.tie_word_embeddings && *name == "lm_head.weight"));
    check_tensors(path, config, saved.map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice())))?;

    let mut planned = Vec::new();
    let mut sources = Vec::new();
    let rope = gguf_rope::write(path, config)?;
    for (name, factors) in &rope.factors {
        planned.push(PlannedTensor {
            name: (*name).to_string(),
            shape: vec![factors.len()],
            kind: GgmlType::F32,
        });
    }
    for (from, shape) in expected_tensors(config) {
        let Some(name) = gguf_name(&from) else {
            return Err(WeightsError::tensor(
                path,
                from,
                "it has no name in GGUF",
                "save the model as a folder",
            ));
        };
        let kind = match shape[..] {
            [_, width] => file_type.of_matrix(&name, width, config),
            _ => GgmlType::F32,
        };
        let tensor = &tensors[&from];
        check_data(path, &from, tensor)?;
        check_range(path, &from, tensor, kind)?;
        planned.push(PlannedTensor { name, shape, kind });
        sources.push(from);
    }
    let interleaved = is_interleaved(config.architecture);
    let values = |place: usize| match place.checked_sub(rope.factors.len()).map(|place| &sources[place]) {
        None => Cow::Borrowed(rope.factors[place].1.as_slice()),
        Some(from) if interleaved && is_rotated(from) => {
            Cow::Owned(pairs_from_halves(&tensors[from], config.head_dim).data)
        }
        Some(from) => Cow::Borrowed(tensors[from].data.as_slice()),
    };
    let keys: Vec<_> =
        keys(config, file_type).into_iter().chain(rope.keys).chain(text.iter().cloned()).collect();
    gguf_write::write(path, &keys, &planned, values)
}

/// Refuses values that the type would turn into infinities.
pub(super) fn check_range(
    path: &Path,
    name: &str,
    tensor: &Tensor,
    kind: GgmlType,
) -> Result<(), WeightsError> {
    let most = largest(kind);
    match tensor.data.iter().find(|value| value.abs() > most) {
        None => Ok(()),
        Some(value) => {
            let found = format!("{value} is beyond {kind:?}, which ends at {most}");
            Err(WeightsError::tensor(path, name, found, "save it as bf16 or f32"))
        }
    }
}

/// `general.architecture`, which is also the prefix of the model's keys.
pub(super) fn prefix(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Llama | Architecture::Mistral => "llama",
        Architecture::Qwen2 => "qwen2",
        Architecture::Qwen3 => "qwen3",
    }
}

/// Whether this architecture's runtime rotates neighbours, so that the rows of q and k are reordered.
pub(super) fn is_interleaved(architecture: Architecture) -> bool {
    prefix(architecture) == "llama"
}

/// The model's keys.
fn keys(config: &ModelConfig, file_type: GgufType) -> Vec<(String, GgufValue)> {
    let prefix = prefix(config.architecture);
    let text = |value: &str| GgufValue::Text(value.to_string());
    let mut keys = vec![
        ("general.architecture".to_string(), text(prefix)),
        ("general.type".to_string(), text("model")),
        ("general.file_type".to_string(), GgufValue::U32(file_type.id())),
        ("general.quantization_version".to_string(), GgufValue::U32(2)),
    ];
    for (key, value) in [
        ("block_count", config.num_layers),
        ("context_length", config.published_context()),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_heads),
        ("attention.head_count_kv", config.num_kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
        ("vocab_size", config.vocab_size),
    ] {
        // `ModelConfig::validate` bounds them all by 2^24.
        keys.push((format!("{prefix}.{key}"), GgufValue::U32(value as u32)));
    }
    for (key, value) in
        [("attention.layer_norm_rms_epsilon", config.rms_norm_eps), ("rope.freq_base", config.rope_theta)]
    {
        keys.push((format!("{prefix}.{key}"), GgufValue::F32(value)));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::super::Checkpoint;
    use super::super::gguf::GgufFile;
    use super::super::test_models::{random_tensors, tiny};
    use super::*;

    const ALL: [Architecture; 4] =
        [Architecture::Llama, Architecture::Mistral, Architecture::Qwen2, Architecture::Qwen3];

    fn saved(config: &ModelConfig, tensors: &BTreeMap<String, Tensor>, file_type: GgufType) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        save_gguf(&path, config, tensors, file_type, &[]).unwrap();
        std::fs::read(path).unwrap()
    }

    fn open(bytes: &[u8]) -> Checkpoint {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Checkpoint::open(file.path()).unwrap()
    }

    #[test]
    fn every_family_comes_back() {
        for architecture in ALL {
            for tied in [false, true] {
                let config = ModelConfig { tie_word_embeddings: tied, ..tiny(architecture) };
                let tensors = random_tensors(&config);
                let bytes = saved(&config, &tensors, GgufType::F32);
                assert_eq!(bytes, saved(&config, &tensors, GgufType::F32), "the same bytes each time");
                let read = open(&bytes);
                let family = match architecture {
                    Architecture::Mistral => Architecture::Llama,
                    other => other,
                };
                assert_eq!(read.config, ModelConfig { architecture: family, ..config });
                assert_eq!(read.tensors, tensors);
            }
        }
    }

    #[test]
    fn a_tied_head_is_left_out() {
        let untied = tiny(Architecture::Llama);
        let tied = ModelConfig { tie_word_embeddings: true, ..untied.clone() };
        let read = open(&saved(&tied, &random_tensors(&untied), GgufType::F32));
        assert!(read.config.tie_word_embeddings && !read.tensors.contains_key("lm_head.weight"));
    }

    /// The widths of SmolLM2-135M: 576 is no multiple of 256, 1536 is.
    #[test]
    fn rows_that_are_no_whole_blocks_fall_back() {
        let config = ModelConfig { num_layers: 30, tie_word_embeddings: true, ..tiny(Architecture::Llama) };
        let kind = |file_type: GgufType, name: &str, width| file_type.of_matrix(name, width, &config);
        assert_eq!(kind(GgufType::Q4KM, "blk.9.attn_q.weight", 576), GgmlType::Q5_0);
        assert_eq!(kind(GgufType::Q4KM, "blk.9.attn_q.weight", 512), GgmlType::Q4_K);
        assert_eq!(kind(GgufType::Q4KM, EMBEDDING, 576), GgmlType::Q8_0);
        assert_eq!(kind(GgufType::Q4_0, EMBEDDING, 512), GgmlType::Q6_K);
        assert_eq!(kind(GgufType::Q4_0, EMBEDDING, 576), GgmlType::Q8_0);
        assert_eq!(kind(GgufType::Q4_0, "blk.9.attn_q.weight", 576), GgmlType::Q4_0);
        assert_eq!(kind(GgufType::Q8_0, "blk.9.attn_q.weight", 12), GgmlType::F16);
        assert_eq!(kind(GgufType::Bf16, "blk.9.attn_q.weight", 12), GgmlType::BF16);
        let untied = ModelConfig { tie_word_embeddings: false, ..config.clone() };
        assert_eq!(GgufType::Q4KM.of_matrix(EMBEDDING, 512, &untied), GgmlType::Q4_K);
        assert_eq!(GgufType::Q4KM.of_matrix(HEAD, 512, &untied), GgmlType::Q6_K);
        let more: Vec<usize> = (0..30)
            .filter(|layer| {
                kind(GgufType::Q4KM, &format!("blk.{layer}.ffn_down.weight"), 1536) == GgmlType::Q6_K
            })
            .collect();
        assert_eq!(more, [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]);
    }

    #[test]
    fn vectors_stay_exact_and_matrices_take_the_type() {
        let config = ModelConfig { hidden_size: 256, ..tiny(Architecture::Qwen2) };
        let tensors = random_tensors(&config);
        for file_type in [GgufType::F16, GgufType::Bf16, GgufType::Q8_0, GgufType::Q4_0, GgufType::Q4KM] {
            let read = open(&saved(&config, &tensors, file_type)).tensors;
            for (name, tensor) in &tensors {
                let largest = tensor.data.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                let bound = if tensor.shape.len() == 1 { 0.0 } else { largest / 14.0 };
                let pairs = tensor.data.iter().zip(&read[name].data);
                let error = pairs.fold(0.0f32, |most, (was, is)| most.max((was - is).abs()));
                assert!(error <= bound, "{name} as {file_type}: {error} of {largest}");
            }
        }
    }

    #[test]
    fn what_cannot_be_saved_is_refused_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let config = tiny(Architecture::Llama);
        let refuses = |config: &ModelConfig, tensors: &BTreeMap<String, Tensor>, part: &str| {
            let message = save_gguf(&path, config, tensors, GgufType::F16, &[]).unwrap_err().to_string();
            assert!(message.contains(part), "{message:?} does not say {part:?}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        };
        let mut tensors = random_tensors(&config);
        tensors.get_mut("lm_head.weight").unwrap().data[3] = 70_000.0;
        refuses(&config, &tensors, "tensor lm_head.weight: 70000 is beyond F16");
        tensors.get_mut("lm_head.weight").unwrap().data[3] = f32::NAN;
        refuses(&config, &tensors, "tensor lm_head.weight: element 3 is NaN");
        tensors.remove("lm_head.weight");
        refuses(&config, &tensors, "tensor lm_head.weight: missing");
        refuses(&ModelConfig { qk_norm: true, ..config.clone() }, &tensors, "qk_norm true");
    }

    #[test]
    fn the_files_own_keys_are_those_of_the_converter() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = tiny(Architecture::Qwen3);
        let name = [("general.name".to_string(), GgufValue::Text("mine".to_string()))];
        save_gguf(file.path(), &config, &random_tensors(&config), GgufType::Q4KM, &name).unwrap();
        let metadata = GgufFile::open(file.path()).unwrap().metadata;
        assert_eq!(metadata.string("general.architecture").unwrap(), Some("qwen3"));
        assert_eq!(metadata.string("general.name").unwrap(), Some("mine"));
        assert_eq!(metadata.u64("general.file_type").unwrap(), Some(15));
        assert_eq!(metadata.u64("general.quantization_version").unwrap(), Some(2));
        assert_eq!(metadata.u64("qwen3.rope.dimension_count").unwrap(), Some(8));
    }
}
