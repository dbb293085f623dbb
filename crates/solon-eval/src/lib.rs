//! Evaluations: safety with over-refusal beside harm.
//!
//! Contract: pure functions over (prompt, kind, answer text, truncated) records. This crate knows no
//! model, no tokenizer and no network; whoever generates the answers hands the text in. The one
//! function that reads files is [`agreement::measure_on_xstest`], which checks the refusal rule
//! against published human labels.

pub mod agreement;
pub mod compare;
pub mod degenerate;
pub mod error;
pub mod refusal;
pub mod safety;
mod sentences;
pub mod wilson;

pub use agreement::{Agreement, RuleAgreement, measure_on_xstest};
pub use compare::{Comparison, compare};
pub use degenerate::{Fault, fault};
pub use error::EvalError;
pub use refusal::{Verdict, classify, evades, xstest_string_match};
pub use safety::{Kind, SafetyItem, SafetyReport, judge};
pub use wilson::Rate;
