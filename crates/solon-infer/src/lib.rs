//! Generate and score: KV cache, prefix sharing, continuous batching, sampling.
//!
//! [`engine`], [`generate`], [`score`] and [`sampling`] know token ids only; [`chat`] puts text around them.

pub mod chat;
pub mod engine;
pub mod generate;
pub mod prefixes;
pub mod sampling;
pub mod score;
