//! A model from a GGUF file, in Hugging Face's names and layouts.
//!
//! Contract: metadata keys become a [`ModelConfig`], `blk.0.attn_q.weight` becomes
//! `model.layers.0.self_attn.q_proj.weight`, and the rows of `llama` files' q and k go back to Hugging Face's order.
//! Settings that would change the computation in a way the decoder does not know are refused by name.
//!
//! Source: llama.cpp, `convert_hf_to_gguf.py` (what it writes, undone here) and `src/llama-model.cpp` (what the keys
//! mean).

use std::collections::BTreeMap;
use std::path::Path;

use super::gguf::{GgufFile, GgufMetadata};
use super::gguf_names::{EMBEDDING, HEAD, halves_from_pairs, hugging_face_name, is_rotated};
use super::gguf_rope::{self, ROPE_FACTORS};
use super::{Checkpoint, Description, TextSource, WeightsError, check_tensors};
use crate::config::{Architecture, ModelConfig, RopeScaling};

/// Reads what the file says of the model.
pub(super) fn describe(path: &Path) -> Result<Description, WeightsError> {
    let mut file = GgufFile::open(path)?;
    let config = Family::of(path, &file.metadata)?.whole_config(path, &mut file)?;
    Ok(Description { config, text: TextSource::Gguf(Box::new(file.metadata)) })
}

/// Opens the file.
pub(super) fn open(path: &Path) -> Result<Checkpoint, WeightsError> {
    let mut file = GgufFile::open(path)?;
    let family = Family::of(path, &file.metadata)?;
    let config = family.whole_config(path, &mut file)?;

    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for name in file.tensors.keys().filter(|name| !ROPE_FACTORS.contains(&name.as_str())) {
        let Some(to) = hugging_face_name(name) else {
            return Err(WeightsError::tensor(
                path,
                name,
                "no part of this architecture; without it the model would compute something else",
                "check general.architecture, or choose another file",
            ));
        };
        names.insert(to, name.clone());
    }
    check_tensors(
        path,
        &config,
        names.iter().map(|(to, from)| (to.as_str(), file.tensors[from].shape.as_slice())),
    )?;
    let mut tensors = BTreeMap::new();
    for (to, from) in names {
        let mut tensor = file.read(&from)?;
        if family.interleaved && is_rotated(&to) {
            tensor = halves_from_pairs(&tensor, config.head_dim);
        }
        tensors.insert(to, tensor);
    }
    let text = TextSource::Gguf(Box::new(file.metadata));
    Ok(Checkpoint { config, tensors, text, score: None, padding: None, path: path.to_path_buf() })
}

/// What `general.architecture` says.
struct Family {
    architecture: Architecture,
    /// The prefix of the metadata keys.
    prefix: String,
    /// RoPE rotates neighbours `(2i, 2i+1)` in this architecture's runtime, where Hugging Face rotates `(i, i+d/2)`:
    /// the converter permuted the rows of q and k.
    interleaved: bool,
}

impl Family {
    fn of(path: &Path, metadata: &GgufMetadata) -> Result<Self, WeightsError> {
        let prefix = metadata.string("general.architecture")?.unwrap_or("absent").to_string();
        let (architecture, interleaved) = match prefix.as_str() {
            "llama" => (Architecture::Llama, true),
            "mistral3" => (Architecture::Mistral, true),
            "qwen2" => (Architecture::Qwen2, false),
            "qwen3" => (Architecture::Qwen3, false),
            other => {
                return Err(WeightsError::unsupported(
                    path,
                    "general.architecture",
                    other.chars().take(100).collect::<String>(),
                    "supported are llama (with Mistral and SmolLM), mistral3, qwen2 and qwen3",
                ));
            }
        };
        Ok(Self { architecture, prefix, interleaved })
    }

    /// The configuration, which is partly among the tensors.
    fn whole_config(&self, path: &Path, file: &mut GgufFile) -> Result<ModelConfig, WeightsError> {
        let mut config = self.config(path, file)?;
        gguf_rope::Scaling { path, prefix: &self.prefix, file }.read_into(&mut config)?;
        config.validate().map_err(|found| {
            WeightsError::invalid(path, "metadata", found, "convert the model again with a current llama.cpp")
        })?;
        Ok(config)
    }

    fn config(&self, path: &Path, file: &GgufFile) -> Result<ModelConfig, WeightsError> {
        let metadata = &file.metadata;
        self.refuse_unknown_computation(path, metadata)?;
        let key = |field: &str| format!("{}.{field}", self.prefix);
        let count = |field: &str| -> Result<Option<usize>, WeightsError> {
            // Anything beyond usize is far beyond what validate() lets pass.
            Ok(metadata.u64(&key(field))?.map(|value| usize::try_from(value).unwrap_or(usize::MAX)))
        };
        let absent = |field: &str| {
            WeightsError::invalid(
                path,
                key(field),
                "absent",
                "convert the model again with a current llama.cpp",
            )
        };
        let required = |field: &str| count(field)?.ok_or_else(|| absent(field));
        let num_heads = required("attention.head_count")?;
        let hidden_size = required("embedding_length")?;
        let head_dim = match count("attention.key_length")? {
            Some(length) => length,
            None if num_heads > 0 && hidden_size % num_heads == 0 => hidden_size / num_heads,
            None => return Err(absent("attention.key_length")),
        };
        for (field, meaning) in
            [("attention.value_length", "values"), ("rope.dimension_count", "rotated parts")]
        {
            if let Some(other) = count(field)?
                && other != head_dim
            {
                let hint = format!("heads and their {meaning} have one width here ({head_dim})");
                return Err(WeightsError::unsupported(path, key(field), other.to_string(), hint));
            }
        }
        let Some(embedding) = file.tensors.get(EMBEDDING) else {
            return Err(WeightsError::tensor(
                path,
                EMBEDDING,
                "missing",
                "the file is incomplete; download it again",
            ));
        };
        let context = required("context_length")?;
        // As in hugging_face_config.rs: within the window, the limited attention is the full one.
        let window = count("attention.sliding_window")?.filter(|&window| window > 0).unwrap_or(usize::MAX);
        Ok(ModelConfig {
            architecture: self.architecture,
            // The vocabulary in the metadata may be shorter than the padded embedding.
            vocab_size: embedding.shape[0],
            hidden_size,
            intermediate_size: required("feed_forward_length")?,
            num_layers: required("block_count")?,
            num_heads,
            num_kv_heads: count("attention.head_count_kv")?.unwrap_or(num_heads),
            head_dim,
            rms_norm_eps: metadata
                .f32(&key("attention.layer_norm_rms_epsilon"))?
                .ok_or_else(|| absent("attention.layer_norm_rms_epsilon"))?,
            rope_theta: metadata.f32(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            // Partly among the tensors.
            rope_scaling: RopeScaling::None,
            max_position_embeddings: context.min(window),
            tie_word_embeddings: !file.tensors.contains_key(HEAD),
            qkv_bias: self.architecture == Architecture::Qwen2,
            qk_norm: self.architecture == Architecture::Qwen3,
        })
    }

    fn refuse_unknown_computation(&self, path: &Path, metadata: &GgufMetadata) -> Result<(), WeightsError> {
        let refuse =
            |key: String, found: String, hint: &str| Err(WeightsError::unsupported(path, key, found, hint));
        let split = "split.count".to_string();
        if let Some(parts) = metadata.u64(&split)?.filter(|&parts| parts > 1) {
            return refuse(split, format!("{parts} files"), "join them with llama-gguf-split --merge");
        }
        let experts = format!("{}.expert_count", self.prefix);
        if let Some(count) = metadata.u64(&experts)?.filter(|&count| count > 0) {
            return refuse(
                experts,
                format!("{count} experts"),
                "mixtures of experts are not run; choose a dense model",
            );
        }
        for field in [
            "attention.scale",
            "attention.temperature_scale",
            "logit_scale",
            "embedding_scale",
            "residual_scale",
        ] {
            let key = format!("{}.{field}", self.prefix);
            if let Some(value) = metadata.f32(&key)?.filter(|&value| value != 0.0) {
                return refuse(key, value.to_string(), "this scaling is not run; choose another model");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_models::{GgufBuilder, gguf, random_tensors, tiny};
    use super::*;

    fn open_bytes(bytes: &[u8]) -> Result<Checkpoint, WeightsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Checkpoint::open(file.path())
    }

    #[track_caller]
    fn refuses(builder: &GgufBuilder, part: &str) {
        let message = open_bytes(&builder.build()).expect_err("must be refused").to_string();
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }

    #[test]
    fn every_family_comes_back() {
        for architecture in
            [Architecture::Llama, Architecture::Mistral, Architecture::Qwen2, Architecture::Qwen3]
        {
            for tied in [false, true] {
                let config = ModelConfig { tie_word_embeddings: tied, ..tiny(architecture) };
                let tensors = random_tensors(&config);
                let checkpoint = open_bytes(&gguf(&config, &tensors).build()).unwrap();
                assert_eq!(checkpoint.config, config);
                assert_eq!(checkpoint.tensors, tensors);
                assert!(checkpoint.score.is_none() && matches!(checkpoint.text, TextSource::Gguf(_)));
            }
        }
    }

    #[test]
    fn refuses_what_the_decoder_would_compute_wrongly() {
        let config = tiny(Architecture::Llama);
        let tensors = random_tensors(&config);
        let model = || gguf(&config, &tensors);
        refuses(&model().u32("llama.expert_count", 8), "8 experts");
        refuses(&model().u32("llama.attention.value_length", 4), "llama.attention.value_length: 4");
        refuses(&model().u32("llama.rope.dimension_count", 4), "llama.rope.dimension_count: 4");
        refuses(&model().f32("llama.attention.scale", 0.5), "llama.attention.scale");
        refuses(&model().raw_key("split.count", 2, &[3, 0]), "split.count: 3 files");
        refuses(&GgufBuilder::default().text("general.architecture", "gpt2"), "general.architecture: gpt2");
        refuses(&GgufBuilder::default(), "general.architecture: absent");
        refuses(
            &GgufBuilder::default().text("general.architecture", "llama"),
            "attention.head_count: absent",
        );

        let mut extra = model();
        extra.tensor("blk.0.attn_q.bias", &[config.q_width()], &vec![0.0; config.q_width()]);
        refuses(&extra, "tensor model.layers.0.self_attn.q_proj.bias: no part");
        let mut extra = model();
        extra.tensor("blk.00.attn_norm.weight", &[1], &[0.0]);
        refuses(&extra, "tensor blk.00.attn_norm.weight: no part");
        let mut fewer = tensors.clone();
        fewer.remove("model.layers.1.mlp.up_proj.weight");
        refuses(&gguf(&config, &fewer), "tensor model.layers.1.mlp.up_proj.weight: missing");
        let many = ModelConfig { num_layers: 1 << 24, ..config.clone() };
        refuses(&gguf(&many, &tensors), "cannot make 16777216 layers");
    }

    #[test]
    fn a_window_caps_the_context() {
        let config = tiny(Architecture::Llama);
        let model = gguf(&config, &random_tensors(&config)).u32("llama.attention.sliding_window", 5);
        assert_eq!(open_bytes(&model.build()).unwrap().config.max_position_embeddings, 5);
    }
}
