//! Benchmarks: what a model is asked, how an answer is judged, what is measured, and which model to deliver.
//!
//! Contract: pure functions over answers. This crate knows no model, no tokenizer and no network: the caller generates
//! the answers and passes their text. A benchmark says what to ask ([`benchmarks::open`]) and judges each answer
//! ([`Judged`]); [`summarise`], [`compare()`] and [`choose`] work on any benchmark. Benchmarks
//! on published files read them, and so do [`agreement::measure_on_xstest`], which compares the refusal rule with human
//! labels, and [`judge::labels`], which measures a judge. [`samples`] compares two files of results item by item, [`formats`]
//! writes results as other programs read them.

pub mod agreement;
pub mod benchmark;
pub mod benchmarks;
mod bleu;
pub mod compare;
pub mod degenerate;
pub mod deliver;
pub mod diversity;
pub mod error;
pub mod fabrication;
pub mod formats;
pub mod judge;
pub mod leak;
mod near;
mod options;
pub mod refusal;
mod rouge;
pub mod samples;
mod sentences;
mod subject;
pub mod summary;

pub use agreement::{Agreement, RuleAgreement, measure_on_xstest};
pub use benchmark::{
    Answer, Ask, Benchmark, Better, Group, Item, Judged, Judgement, Measure, Method, Outcome, Question,
    Reply, Unit,
};
pub use compare::{Comparison, compare};
pub use degenerate::{Fault, fault};
pub use deliver::{Candidate, Choice, choose, score};
pub use diversity::Diversity;
pub use error::EvalError;
pub use fabrication::{candid, disclaims};
pub use leak::leaks;
pub use near::{Near, Texts};
pub use refusal::{Verdict, classify, declines, evades, states_incapacity, xstest_string_match};
pub use solon_stats::{Mean, Rate};
pub use summary::{CategoryFigure, Figure, Figures, JudgedItem, Summary, summarise};
