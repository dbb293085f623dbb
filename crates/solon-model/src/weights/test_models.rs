//! Tiny models and hand-made GGUF files for the tests of this folder.

use std::collections::BTreeMap;

use super::{Tensor, expected_tensors};
use crate::config::{Architecture, ModelConfig, RopeScaling};

/// Two layers of four query and two key heads, each eight wide.
pub(super) fn tiny(architecture: Architecture) -> ModelConfig {
    ModelConfig {
        architecture,
        vocab_size: 11,
        hidden_size: 12,
        intermediate_size: 10,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 64,
        tie_word_embeddings: false,
        qkv_bias: architecture == Architecture::Qwen2,
        qk_norm: architecture == Architecture::Qwen3,
    }
}

/// All expected tensors, every value different and exact in bf16's range of f32.
pub(super) fn random_tensors(config: &ModelConfig) -> BTreeMap<String, Tensor> {
    let mut next = 0.0;
    let mut tensor = |shape: Vec<usize>| {
        let data = (0..shape.iter().product()).map(|_| {
            next += 1.0;
            next / 1024.0
        });
        Tensor { data: data.collect(), shape }
    };
    expected_tensors(config).into_iter().map(|(name, shape)| (name, tensor(shape))).collect()
}

/// The model as llama.cpp's converter writes it, with room for more keys and tensors.
pub(super) fn gguf(config: &ModelConfig, tensors: &BTreeMap<String, Tensor>) -> GgufBuilder {
    let (prefix, permuted) = match config.architecture {
        Architecture::Llama => ("llama", true),
        Architecture::Mistral => ("mistral3", true),
        Architecture::Qwen2 => ("qwen2", false),
        Architecture::Qwen3 => ("qwen3", false),
    };
    let mut builder = GgufBuilder::default().text("general.architecture", prefix);
    for (key, value) in [
        ("block_count", config.num_layers),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_heads),
        ("attention.head_count_kv", config.num_kv_heads),
        ("attention.key_length", config.head_dim),
    ] {
        builder = builder.u32(&format!("{prefix}.{key}"), value as u32);
    }
    builder = builder
        .f32(&format!("{prefix}.attention.layer_norm_rms_epsilon"), config.rms_norm_eps)
        .f32(&format!("{prefix}.rope.freq_base"), config.rope_theta);
    for (name, tensor) in tensors {
        let short = name
            .replace("model.layers.", "blk.")
            .replace("self_attn.o_proj", "attn_output")
            .replace("self_attn.", "attn_")
            .replace("input_layernorm", "attn_norm")
            .replace("post_attention_layernorm", "ffn_norm")
            .replace("mlp.", "ffn_")
            .replace("_proj", "")
            .replace("model.embed_tokens", "token_embd")
            .replace("model.norm", "output_norm")
            .replace("lm_head", "output");
        let mut data = tensor.data.clone();
        if permuted && (name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight")) {
            let (half, width) = (config.head_dim / 2, config.hidden_size);
            for (row, values) in data.chunks_exact_mut(width).enumerate() {
                let (head, place) = (row / config.head_dim, row % config.head_dim);
                let from = head * config.head_dim + place % 2 * half + place / 2;
                values.copy_from_slice(&tensor.data[from * width..][..width]);
            }
        }
        builder.tensor(&short, &tensor.shape, &data);
    }
    builder
}

/// Writes GGUF files, sound or not.
#[derive(Default)]
pub(super) struct GgufBuilder {
    keys: Vec<u8>,
    key_count: u64,
    infos: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

fn text_bytes(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

impl GgufBuilder {
    /// A key of any type with any bytes.
    pub(super) fn raw_key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.extend([&text_bytes(key), &kind.to_le_bytes()[..], value].concat());
        self.key_count += 1;
        self
    }

    /// A list that claims `count` elements.
    pub(super) fn raw_list(self, key: &str, kind: u32, count: u64, elements: &[u8]) -> Self {
        self.raw_key(key, 9, &[&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat())
    }

    pub(super) fn text(self, key: &str, value: &str) -> Self {
        self.raw_key(key, 8, &text_bytes(value))
    }

    pub(super) fn texts(self, key: &str, values: &[&str]) -> Self {
        let elements: Vec<u8> = values.iter().flat_map(|value| text_bytes(value)).collect();
        self.raw_list(key, 8, values.len() as u64, &elements)
    }

    pub(super) fn u32(self, key: &str, value: u32) -> Self {
        self.raw_key(key, 4, &value.to_le_bytes())
    }

    pub(super) fn f32(self, key: &str, value: f32) -> Self {
        self.raw_key(key, 6, &value.to_le_bytes())
    }

    /// A tensor info with axes in the file's order, fastest first, and no data of its own.
    pub(super) fn raw_tensor(mut self, name: &str, axes: &[u64], kind: u32, offset: u64) -> Self {
        self.infos.extend(text_bytes(name));
        self.infos.extend((axes.len() as u32).to_le_bytes());
        self.infos.extend(axes.iter().flat_map(|axis| axis.to_le_bytes()));
        self.infos.extend(kind.to_le_bytes());
        self.infos.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    /// A sound F32 tensor, shape slowest axis first.
    pub(super) fn tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let axes: Vec<u64> = shape.iter().rev().map(|&axis| axis as u64).collect();
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        let offset = self.data.len() as u64;
        *self = std::mem::take(self).raw_tensor(name, &axes, 0, offset);
        self.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// The file, with the tensors' data.
    pub(super) fn build(&self) -> Vec<u8> {
        self.finish(&self.data)
    }

    /// The file, with other data.
    pub(super) fn finish(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.key_count.to_le_bytes());
        bytes.extend(&self.keys);
        bytes.extend(&self.infos);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(data);
        bytes
    }
}
