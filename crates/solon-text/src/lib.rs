//! Text in, token ids out, and back: tokenizer, chat template and loss masks.
//!
//! This crate knows no model and no files other than a tokenizer folder. It promises that a [`ChatTokenizer`] gives the
//! ids and renderings that transformers' `AutoTokenizer` and `apply_chat_template` give for the same files; the golden
//! tests under `tests/` hold it to that.
//!
//! Three things a caller should know:
//!
//! - **Special tokens written in content become special tokens.** A user message that holds the literal text
//!   `<|im_start|>` is encoded as that control token, because `apply_chat_template` does the same by default
//!   (`sanitize_control_tokens=False`). A caller who shows untrusted people's text to a model it trusts should reject
//!   or rewrite such text first.
//! - **The pad token is never looked at.** Many models pad with their end-of-turn token (SmolLM2: both are
//!   `<|im_end|>`); masks here are built from positions, never by comparing ids, so the end of turn stays trained.
//! - **Templates are untrusted programs.** They run with a bound on steps, memory and recursion, and see no clock and
//!   no files; see [`template`](ChatTokenizer::render).

mod conversation;
mod date;
mod error;
mod export;
mod folder;
mod gguf;
mod stream;
mod template;
mod tokenizer;

pub use conversation::Encoded;
pub use date::TemplateDate;
pub use error::TextError;
pub use gguf::{GgufVocabulary, SUPPORTED_PRE_TOKENIZERS};
pub use stream::StreamDecoder;
pub use template::CHATML_TEMPLATE;
pub use tokenizer::ChatTokenizer;
