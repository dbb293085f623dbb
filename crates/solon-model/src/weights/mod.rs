//! Model files in and out: Hugging Face folders, GGUF files and PEFT adapters.
//!
//! Contract: what comes from outside is untrusted. Sizes, offsets, types, counts and names are checked before they are
//! used, nothing is allocated from a length that was not checked, and every failure is a [`WeightsError`]. What comes
//! out of [`Checkpoint::open`] has a valid configuration and exactly the tensors that [`expected_tensors`] lists, with
//! Hugging Face names and layouts and finite values, whichever format it was read from.
//!
//! Knows nothing of the decoder or of tokenizers (of an adapter it knows the factors): it says where the tokenizer is found ([`TextSource`]), no more.

mod error;
pub mod gguf;
mod gguf_model;
mod gguf_names;
pub mod gguf_quant;
mod gguf_quantize;
mod gguf_quantize_k;
mod gguf_rope;
mod gguf_write;
mod hugging_face;
mod hugging_face_config;
mod hugging_face_rope;
mod json_fields;
pub mod peft;
mod peft_adapter;
mod peft_config;
mod peft_patterns;
mod safetensors_file;
pub mod save;
mod save_gguf;
mod save_gguf_adapter;
mod staging;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use error::WeightsError;
pub use gguf::GgufMetadata;
pub use gguf_write::GgufValue;
pub use peft::AdapterFile;
pub use peft_config::{AdapterConfig, AdapterTask};
pub use save::{SaveType, TokenIds, save_hugging_face};
pub use save_gguf::{GgufType, save_gguf};
pub use save_gguf_adapter::save_gguf_adapter;

use crate::config::ModelConfig;

/// A dense array of f32, row-major.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    /// Length of each axis, the slowest first.
    pub shape: Vec<usize>,
    /// The values; as many as the product of `shape`.
    pub data: Vec<f32>,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Tensor{:?}", self.shape)
    }
}

/// Where the tokenizer and the chat template of a checkpoint are found.
#[derive(Clone, Debug)]
pub enum TextSource {
    /// A folder with `tokenizer.json` and `tokenizer_config.json`.
    Folder(PathBuf),
    /// The metadata of a GGUF file (`tokenizer.*`).
    Gguf(Box<GgufMetadata>),
}

/// A model as it was found on disk.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The shape; already validated. For a checkpoint with a score head and no language head,
    /// `tie_word_embeddings` is true, because there is no `lm_head.weight` of its own.
    pub config: ModelConfig,
    /// Exactly the tensors of [`expected_tensors`], by Hugging Face name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Where tokenizer and chat template are found.
    pub text: TextSource,
    /// `score.weight` of a `*ForSequenceClassification`: `[labels, hidden_size]`; a reward model has one label.
    pub score: Option<Tensor>,
    /// `pad_token_id` of a `*ForSequenceClassification`, whose score is that of the last token which is another.
    pub padding: Option<u32>,
    /// What was opened.
    pub path: PathBuf,
}

/// What a model is, without its weights.
#[derive(Clone, Debug)]
pub struct Description {
    /// The shape; already validated.
    pub config: ModelConfig,
    /// Where tokenizer and chat template are found.
    pub text: TextSource,
}

impl Description {
    /// Reads what [`Checkpoint::open`] reads, but no tensors.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        match is_folder(path)? {
            true => hugging_face::describe(path),
            false => gguf_model::describe(path),
        }
    }
}

impl Checkpoint {
    /// Opens a Hugging Face folder, or a GGUF file (recognised by its first four bytes).
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        match is_folder(path)? {
            true => hugging_face::open(path),
            false => gguf_model::open(path),
        }
    }
}

/// Whether it is a Hugging Face folder, and not a GGUF file; an error if it is neither.
fn is_folder(path: &Path) -> Result<bool, WeightsError> {
    let metadata = std::fs::metadata(path).map_err(WeightsError::io(path, "open"))?;
    if metadata.is_dir() {
        return Ok(true);
    }
    let mut start = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(64).read_to_end(&mut start))
        .map_err(WeightsError::io(path, "read"))?;
    if start.starts_with(gguf::MAGIC) {
        return Ok(false);
    }
    if let Some(pointer) = WeightsError::if_pointer(path, &start) {
        return Err(pointer);
    }
    let hint = match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors" | "json") => {
            "give the folder that holds config.json and model.safetensors instead"
        }
        Some("bin" | "pt" | "pth") => "pickled PyTorch files are not read; save the model as safetensors",
        _ => "a model is a folder with config.json and model.safetensors, or a .gguf file",
    };
    Err(WeightsError::invalid(path, "file type", "neither a folder nor a GGUF file", hint))
}

/// Names and shapes of all the tensors a model of this shape has, in file order. `lm_head.weight` is among them
/// unless it is tied to the embedding.
pub fn expected_tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.q_width(), config.kv_width());
    let mut expected = vec![("model.embed_tokens.weight".to_string(), vec![config.vocab_size, hidden])];
    for layer in 0..config.num_layers {
        let mut push = |name: &str, shape: &[usize]| {
            expected.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        };
        push("input_layernorm.weight", &[hidden]);
        for (name, rows) in [("q", q), ("k", kv), ("v", kv)] {
            push(&format!("self_attn.{name}_proj.weight"), &[rows, hidden]);
            if config.qkv_bias {
                push(&format!("self_attn.{name}_proj.bias"), &[rows]);
            }
        }
        push("self_attn.o_proj.weight", &[hidden, q]);
        if config.qk_norm {
            push("self_attn.q_norm.weight", &[config.head_dim]);
            push("self_attn.k_norm.weight", &[config.head_dim]);
        }
        push("post_attention_layernorm.weight", &[hidden]);
        push("mlp.gate_proj.weight", &[inner, hidden]);
        push("mlp.up_proj.weight", &[inner, hidden]);
        push("mlp.down_proj.weight", &[hidden, inner]);
    }
    expected.push(("model.norm.weight".to_string(), vec![hidden]));
    if !config.tie_word_embeddings {
        expected.push(("lm_head.weight".to_string(), vec![config.vocab_size, hidden]));
    }
    expected
}

/// Holds the tensors that were found (name and shape) to [`expected_tensors`], naming the first that differs.
/// Cheap to call before any data is read.
fn check_tensors<'a>(
    path: &Path,
    config: &ModelConfig,
    found: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> Result<(), WeightsError> {
    let found: BTreeMap<&str, &[usize]> = found.collect();
    // Before the list is built: a configuration may claim 2^24 layers.
    if found.len() < config.num_layers {
        return Err(WeightsError::invalid(
            path,
            "tensors",
            format!("{} tensors cannot make {} layers", found.len(), config.num_layers),
            "configuration and weights do not belong together, or a shard is missing",
        ));
    }
    let expected: BTreeMap<String, Vec<usize>> = expected_tensors(config).into_iter().collect();
    for (name, shape) in &expected {
        match found.get(name.as_str()) {
            None => {
                return Err(WeightsError::tensor(
                    path,
                    name,
                    format!("missing; its shape should be {shape:?}"),
                    "configuration and weights do not belong together, or the file is incomplete",
                ));
            }
            Some(actual) if *actual != shape.as_slice() => {
                return Err(WeightsError::tensor(
                    path,
                    name,
                    format!("its shape is {actual:?}, but the configuration makes it {shape:?}"),
                    "configuration and weights do not belong together",
                ));
            }
            Some(_) => {}
        }
    }
    match found.iter().find(|(name, _)| !expected.contains_key(**name)) {
        None => Ok(()),
        Some((name, shape)) => Err(WeightsError::tensor(
            path,
            *name,
            format!(
                "no part of this architecture (shape {shape:?}); without it the model would compute something else"
            ),
            "check that the configuration names the right architecture",
        )),
    }
}

/// Product of the axes, or `None` on overflow.
fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &axis| product.checked_mul(axis))
}

/// Refuses NaN and infinities, naming the tensor and the place.
fn check_finite(path: &Path, name: &str, data: &[f32]) -> Result<(), WeightsError> {
    match data.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(WeightsError::tensor(
            path,
            name,
            format!("element {index} is {}", data[index]),
            "no computation survives such a weight; use an earlier checkpoint or another export",
        )),
    }
}

/// An empty vector with room for `length` elements, or an error instead of an abort when memory is short.
fn with_room<T>(path: &Path, name: &str, length: usize) -> Result<Vec<T>, WeightsError> {
    let mut data = Vec::new();
    data.try_reserve_exact(length).map_err(|_| {
        WeightsError::tensor(
            path,
            name,
            format!("no memory for its {length} elements"),
            "free memory or choose a smaller model",
        )
    })?;
    Ok(data)
}

/// Reads a small text file such as `config.json`: at most `limit` bytes, valid UTF-8.
fn read_small_file(path: &Path, limit: u64) -> Result<String, WeightsError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(WeightsError::io(path, "read"))?;
    if bytes.len() as u64 > limit {
        return Err(WeightsError::invalid(path, "size", format!("more than {limit} bytes"), error::DAMAGED));
    }
    if let Some(pointer) = WeightsError::if_pointer(path, &bytes) {
        return Err(pointer);
    }
    String::from_utf8(bytes).map_err(|error| {
        WeightsError::invalid(path, "encoding", format!("not UTF-8 ({error})"), error::DAMAGED)
    })
}

#[cfg(test)]
mod test_models;
#[cfg(test)]
mod tests;
