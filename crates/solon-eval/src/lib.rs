//! Evaluations: safety with over-refusal beside harm.
//!
//! Contract: pure functions over (prompt, kind, answer text, truncated) records. This crate knows no
//! model, no tokenizer and no network; whoever generates the answers hands the text in. The one
//! function that reads files is [`agreement::measure_on_xstest`], which checks the refusal rule
//! against published human labels.

pub mod agreement;
pub mod error;
pub mod refusal;
mod sentences;
pub mod wilson;

pub use agreement::{Agreement, RuleAgreement, measure_on_xstest};
pub use error::EvalError;
pub use refusal::{Verdict, classify, xstest_string_match};
pub use wilson::Rate;
