//! Saves a LoRA adapter as a GGUF file for llama.cpp's `--lora`.
//!
//! Contract: names, keys and row orders are those of llama.cpp's converter: `blk.0.attn_q.weight.lora_a` is
//! `[rank, in]`, `….lora_b` is `[out, rank]` with its rows in the order of the model's. llama.cpp adds
//! `alpha / rank · B A` with each pair's own rank and one `alpha`; of a rank-stabilised adapter the `alpha` that equals it is
//! written, and where a pair needs another one, its B is multiplied by their ratio.
//!
//! Source: llama.cpp, `convert_lora_to_gguf.py` and `src/llama-adapter.cpp`.

use std::borrow::Cow;
use std::path::Path;

use super::gguf_names::{gguf_name, is_rotated, pairs_from_halves};
use super::gguf_quant::GgmlType;
use super::gguf_write::{self, GgufValue, PlannedTensor};
use super::save::check_data;
use super::save_gguf::{check_range, is_interleaved, prefix};
use super::{AdapterFile, GgufType, WeightsError};
use crate::config::ModelConfig;

/// Saves the adapter of a model of this shape, which it fits, to the file `path`, as F32, F16 or BF16.
pub fn save_gguf_adapter(
    path: &Path,
    config: &ModelConfig,
    adapter: &AdapterFile,
    file_type: GgufType,
) -> Result<(), WeightsError> {
    let kind = match file_type {
        GgufType::F32 => GgmlType::F32,
        GgufType::F16 => GgmlType::F16,
        GgufType::Bf16 => GgmlType::BF16,
        other => {
            let hint = "an adapter is small; save it as f16";
            return Err(WeightsError::unsupported(path, "type", format!("an adapter in {other}"), hint));
        }
    };
    if adapter.score.is_some() {
        let hint = "llama.cpp's adapters have no score head; use the PEFT folder";
        return Err(WeightsError::unsupported(path, "score", "the adapter of a reward model", hint));
    }
    let alpha = adapter.config.plain(adapter.config.own_shape()).alpha;
    if alpha == 0.0 {
        let hint = "llama.cpp runs such an adapter at full strength";
        return Err(WeightsError::unsupported(path, "lora_alpha", "0", hint));
    }
    let mut planned = Vec::new();
    let mut sources = Vec::new();
    for (from, tensor) in &adapter.tensors {
        let matrix = from.rsplit_once(".lora_").map(|(module, part)| (format!("{module}.weight"), part));
        let found = matrix.and_then(|(matrix, part)| Some((gguf_name(&matrix)?, matrix, part)));
        let Some((name, matrix, part)) = found else {
            let hint = "adapt the matrices of attention and MLP";
            return Err(WeightsError::tensor(path, from, "it has no name in GGUF", hint));
        };
        check_data(path, from, tensor)?;
        check_range(path, from, tensor, kind)?;
        planned.push(PlannedTensor {
            name: format!("{name}.lora_{}", part.to_ascii_lowercase()),
            shape: tensor.shape.clone(),
            kind,
        });
        // B's rows are the matrix's.
        let is_reordered = part == "B" && is_interleaved(config.architecture) && is_rotated(&matrix);
        let of_module = adapter.config.plain(adapter.config.shape(matrix.trim_end_matches(".weight")));
        let factor = if part == "B" { of_module.alpha / alpha } else { 1.0 };
        sources.push((tensor, is_reordered, factor));
    }
    let text = |value: &str| GgufValue::Text(value.to_string());
    let keys = [
        ("general.architecture", text(prefix(config.architecture))),
        ("general.type", text("adapter")),
        ("general.file_type", GgufValue::U32(file_type.id())),
        ("general.quantization_version", GgufValue::U32(2)),
        ("adapter.type", text("lora")),
        ("adapter.lora.alpha", GgufValue::F32(alpha)),
    ]
    .map(|(key, value)| (key.to_string(), value));
    gguf_write::write(path, &keys, &planned, |place| match sources[place] {
        (tensor, false, 1.0) => Cow::Borrowed(tensor.data.as_slice()),
        (tensor, is_reordered, factor) => {
            let mut data = match is_reordered {
                true => pairs_from_halves(tensor, config.head_dim).data,
                false => tensor.data.clone(),
            };
            data.iter_mut().for_each(|value| *value *= factor);
            Cow::Owned(data)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::gguf::GgufFile;
    use super::super::gguf_names::halves_from_pairs;
    use super::super::test_models::tiny;
    use super::super::{AdapterConfig, AdapterTask, Tensor};
    use super::*;
    use crate::config::Architecture;

    fn adapter(config: &ModelConfig) -> AdapterFile {
        let tensor = |shape: [usize; 2]| Tensor {
            shape: shape.to_vec(),
            data: (0..shape[0] * shape[1]).map(|value| value as f32 / 8.0).collect(),
        };
        let mut tensors = BTreeMap::new();
        for (module, rows, columns) in [
            ("self_attn.q_proj", config.q_width(), config.hidden_size),
            ("mlp.down_proj", config.hidden_size, config.intermediate_size),
        ] {
            tensors.insert(format!("model.layers.1.{module}.lora_A"), tensor([4, columns]));
            tensors.insert(format!("model.layers.1.{module}.lora_B"), tensor([rows, 4]));
        }
        AdapterFile {
            config: AdapterConfig {
                rank: 4,
                alpha: 6.0,
                exceptions: BTreeMap::new(),
                target_modules: ["q_proj", "down_proj"].map(str::to_owned).into(),
                base_model: None,
                task: AdapterTask::CausalLm,
                use_rslora: true,
            },
            tensors,
            score: None,
        }
    }

    #[test]
    fn tensors_have_the_names_and_rows_of_the_model() {
        for architecture in [Architecture::Llama, Architecture::Qwen3] {
            let config = tiny(architecture);
            let adapter = adapter(&config);
            let file = tempfile::NamedTempFile::new().unwrap();
            save_gguf_adapter(file.path(), &config, &adapter, GgufType::F32).unwrap();
            let mut read = GgufFile::open(file.path()).unwrap();
            assert_eq!(read.metadata.string("general.type").unwrap(), Some("adapter"));
            // Rank-stabilised: 6 / sqrt(4) = 12 / 4.
            assert_eq!(read.metadata.f32("adapter.lora.alpha").unwrap(), Some(12.0));
            let names: Vec<&str> = read.tensors.keys().map(String::as_str).collect();
            let modules = ["blk.1.attn_q.weight", "blk.1.ffn_down.weight"];
            let expected =
                modules.map(|module| [format!("{module}.lora_a"), format!("{module}.lora_b")]).concat();
            assert_eq!(names, expected);
            let mut b = read.read("blk.1.attn_q.weight.lora_b").unwrap();
            if architecture == Architecture::Llama {
                assert_ne!(b, adapter.tensors["model.layers.1.self_attn.q_proj.lora_B"]);
                b = halves_from_pairs(&b, config.head_dim);
            }
            assert_eq!(b, adapter.tensors["model.layers.1.self_attn.q_proj.lora_B"]);
            let a = read.read("blk.1.ffn_down.weight.lora_a").unwrap();
            assert_eq!(a, adapter.tensors["model.layers.1.mlp.down_proj.lora_A"]);
        }
    }

    #[test]
    fn what_llama_cpp_would_not_take_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter.gguf");
        let config = tiny(Architecture::Llama);
        let refuses = |adapter: &AdapterFile, file_type: GgufType, part: &str| {
            let message = save_gguf_adapter(&path, &config, adapter, file_type).unwrap_err().to_string();
            assert!(message.contains(part) && !path.exists(), "{message:?} does not say {part:?}");
        };
        refuses(&adapter(&config), GgufType::Q4KM, "an adapter in q4_k_m");
        let score = Some(Tensor { shape: vec![1, 12], data: vec![0.0; 12] });
        refuses(&AdapterFile { score, ..adapter(&config) }, GgufType::F16, "the adapter of a reward model");
    }
}
