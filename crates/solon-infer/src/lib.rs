//! Generate and score: KV cache, prefix sharing, continuous batching, sampling.
//!
//! [`generate`], [`score`] and [`sampling`] know token ids only; [`chat`] puts text around them.

pub mod chat;
pub mod generate;
pub mod sampling;
pub mod score;
