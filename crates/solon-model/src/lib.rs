//! The decoder, forward and backward, LoRA, and model files in and out.
//!
//! This crate knows no losses and no text: packed token ids in; hidden states, log-probs and scalars out.

pub mod adapter;
pub mod backend;
pub mod batch;
pub mod config;
pub mod decoder;
pub mod parameters;
pub mod rope;
pub mod weights;

pub use adapter::{Adapter, LoraSettings, LoraShape};
pub use backend::{Backend, Cpu, Reference};
pub use batch::{AnswerPack, PackedBatch, Scored};
pub use config::ModelConfig;
pub use decoder::memory::{fixed_training_bytes, training_bytes_per_token};
pub use decoder::{
    CachedRows, Decoder, Forward, Gradients, Keep, LOGIT_ROWS, Predictions, ScalarHead, Training, Weights,
};

/// The backend that the program runs on. This is the only place that chooses it; what is written above the [`Backend`] trait
/// says `Device` or is generic.
pub type Device = Cpu;
