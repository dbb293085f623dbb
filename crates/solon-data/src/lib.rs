//! Readers of data files, the run ledger, JSON Lines, and atomic file writes.
//!
//! Contract: everything that Solon stores on disk except weights goes through this crate. A file is replaced completely
//! or not at all. What the ledger confirmed survives a kill and a power cut. Nothing that is hashed depends on the
//! clock or on chance. This crate knows no model and no tokenizer; it does not change texts.

pub mod annotated_pairs;
pub mod check;
mod error;
pub mod export;
pub mod files;
mod input;
pub mod jsonl;
pub mod ledger;
pub mod metrics;
pub mod records;
mod rows;

pub use error::DataError;
pub use input::Packing;
pub use rows::{FileFormat, Place};
