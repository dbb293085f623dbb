//! Rows of table files as JSON objects: Parquet and Arrow.
//!
//! Contract: a file gives its rows in order, each as an object with its columns as fields: texts, numbers, lists and structs become what they
//! are in JSON, dates and decimals texts. Bytes become base64 from Parquet, and hexadecimal from Arrow. Rows are given while they are read:
//! no more is held than a part of the file, which Parquet calls a page and Arrow a record batch. A file that is damaged, or is no table, is
//! an error that names it.

mod arrow;
mod parquet;

use solon_records::without_panic;
use std::path::PathBuf;

pub use arrow::ArrowRows;
pub use parquet::ParquetRows;

/// What is wrong with a table file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}", path = path.display())]
pub struct TableError {
    /// The file.
    pub path: PathBuf,
    /// What the reader said, and what to do.
    pub reason: String,
}

/// What a reader gives; of a reader that panics, that the file is damaged. It must not be asked again.
///
/// The readers panic at some damaged files (Parquet's version 60.1: a negative length, a dictionary that is missing).
fn guarded<T>(format: &str, read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    without_panic(read).unwrap_or_else(|| Err(format!("cannot be read as {format}: the file is damaged")))
}
