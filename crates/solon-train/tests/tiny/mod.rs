//! Learners small enough to train in a test, and training data for them.
//!
//! The tests inside the crate (which import from `crate`) and those beside it (from `solon_train`) share this file.

// Each of the two uses only a part of it.
#![allow(dead_code)]

use super::{
    Learner, MAX_SKIPPED, Optimizer, Schedule, TokenPair, TrainSettings, ppo::trainer::PpoPrompt,
    sft::SftExample,
};
use solon_draws::Draws;
use solon_kernels::Precision;
use solon_model::config::{Architecture, ModelConfig, RopeScaling};
use solon_model::parameters::Projection;
use solon_model::{Adapter, Cpu, Decoder, LoraSettings, ScalarHead, Training};
use std::sync::Arc;

pub fn seed() -> Draws {
    Draws::new(11, "resume")
}

pub fn decoder(training: Training, precision: Precision) -> Arc<Decoder<Cpu>> {
    let config = ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: 50,
        hidden_size: 16,
        intermediate_size: 24,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 4,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 64,
        tie_word_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
    };
    let make = |name: &str, shape: &[usize]| {
        let key = seed().item(name);
        let values = (0..shape.iter().product::<usize>() as u64).map(|i| key.normal(i) as f32 * 0.2);
        Ok::<_, std::convert::Infallible>(values.collect())
    };
    let Ok(decoder) = Decoder::build(Cpu::new(precision), config, training, 64, make);
    Arc::new(decoder)
}

pub fn adapter(decoder: &Decoder<Cpu>) -> Adapter<Cpu> {
    let settings = LoraSettings::new(4, 8.0, Projection::ALL);
    Adapter::fresh(decoder.backend(), decoder.config(), settings, |name, i| {
        seed().item("adapter").item(name).uniform(i as u64) as f32
    })
}

/// A frozen decoder, an adapter on it and, if requested, a scalar head.
pub fn learner(scalar: bool) -> Learner<Cpu> {
    learner_in(Precision::auto(), scalar)
}

/// The same in a given precision; finite differences need f32.
pub fn learner_in(precision: Precision, scalar: bool) -> Learner<Cpu> {
    let decoder = decoder(Training::Frozen, precision);
    let adapter = adapter(&decoder);
    let head = scalar.then(|| ScalarHead::new(decoder.backend(), (0..16).map(|i| i as f32 * 0.1).collect()));
    Learner::new(decoder, Some(adapter), head)
}

pub fn tokens(key: u64, len: usize) -> Vec<u32> {
    (0..len as u64).map(|i| seed().index(key).below(i, 50) as u32).collect()
}

pub fn settings() -> TrainSettings {
    TrainSettings {
        learning_rate: 1e-2,
        schedule: Schedule::Cosine,
        warmup: 0.1,
        batch_size: 3,
        epochs: 2,
        optimizer: Optimizer::default(),
        max_skipped: MAX_SKIPPED,
        tokens_per_pass: 24,
        keep: solon_model::Keep::Activations,
    }
}

pub fn pairs() -> Vec<TokenPair> {
    (0..7)
        .map(|i| TokenPair {
            id: format!("pair {i}"),
            prompt: tokens(3 * i, 5),
            chosen: tokens(3 * i + 1, 4),
            rejected: tokens(3 * i + 2, 6),
            probability: 0.6 + 0.05 * i as f32,
            margin: None,
        })
        .collect()
}

pub fn examples() -> Vec<SftExample> {
    (0..7).map(|i| SftExample { id: format!("{i}"), tokens: tokens(i, 9), mask: vec![true; 9] }).collect()
}

pub fn prompts() -> Vec<PpoPrompt> {
    (0..7).map(|i| PpoPrompt { id: format!("{i}"), tokens: tokens(i, 5), group: None }).collect()
}
