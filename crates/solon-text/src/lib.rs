//! Text in, token ids out, and back: tokenizer, chat template and loss masks.
//!
//! This crate knows no model and reads no files other than a tokenizer folder. It promises that a [`ChatTokenizer`]
//! gives the same ids and renderings as transformers' `AutoTokenizer` and `apply_chat_template` for the same files; the
//! golden tests under `tests/` check that.
//!
//! Three things that callers should know:
//!
//! - **Special tokens written in content become special tokens.** A user message that contains the literal text
//!   `<|im_start|>` is encoded as that control token, because `apply_chat_template` does the same by default
//!   (`sanitize_control_tokens=False`). A caller who shows untrusted text to a model should reject or rewrite such text
//!   first.
//! - **Masks do not use the pad token.** Many models pad with their end-of-turn token (SmolLM2: both are `<|im_end|>`).
//!   Masks here are built from positions, never by comparing ids, so the end of turn is still trained on.
//! - **Templates are untrusted programs.** They run with a limit on steps, memory and recursion, and see no clock and
//!   no files; see [`template`](ChatTokenizer::render).

mod apart;
mod closing;
mod conversation;
mod date;
mod definition;
mod error;
mod export;
mod folder;
mod gguf;
mod python;
mod stream;
mod template;
mod tojson;
mod tokenizer;
mod traces;
mod turn_parts;

pub use closing::Closing;
pub use conversation::{Encoded, Turn};
pub use date::TemplateDate;
pub use error::TextError;
pub use gguf::GgufVocabulary;
pub use stream::StreamDecoder;
pub use template::{CHATML_TEMPLATE, LONGEST_TEMPLATE};
pub use tokenizer::ChatTokenizer;
pub use turn_parts::TurnParts;
