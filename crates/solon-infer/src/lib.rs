//! Generate and score: KV cache, prefix sharing, continuous batching, sampling.
//!
//! [`engine`], [`batch`], [`generate`], [`score`] and [`sampling`] know only token ids; [`chat`] adds the tokenizer and the chat
//! template, which [`checkpoint_text`] finds.

pub mod batch;
pub mod chat;
pub mod checkpoint_text;
pub mod divergence;
pub mod engine;
pub mod generate;
pub mod prefixes;
pub mod sampling;
pub mod score;
