//! File formats of records, the run ledger, JSONL, and durable file writes.
//!
//! Contract: everything Solon keeps on disk apart from weights goes through here. A file is replaced whole or not at
//! all; what the ledger acknowledged survives a kill and a power cut; nothing that enters a hash depends on the clock
//! or on chance. This crate knows no model and no tokenizer: text goes in and out as it is.

mod error;
pub mod export;
pub mod files;
pub mod jsonl;
pub mod ledger;
pub mod metrics;
pub mod records;

pub use error::DataError;
