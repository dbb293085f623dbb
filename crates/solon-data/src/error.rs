//! Errors of reading and writing files. Each says what was wrong, in which file and line, and what to do.
//!
//! The ledger has its own errors, [`crate::ledger::LedgerError`].

use std::io;
use std::path::{Path, PathBuf};

/// An error with a data file.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The action that failed, as in "cannot ACTION PATH".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// One line of a text, such as JSON Lines or CSV, is not what was expected.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, naming the field, and what to do.
        message: String,
    },
    /// One row of a table without lines, such as Parquet, is not what was expected.
    #[error("{}, row {row}: {message}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row, counted from 1.
        row: usize,
        /// What is wrong, naming the field, and what to do.
        message: String,
    },
    /// The file as a whole is not what was expected.
    #[error("{} {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A record cannot be written in the requested format.
    #[error("record `{id}` cannot be written to {}: {message}", path.display())]
    Record {
        /// The file that was to be written; it is unchanged.
        path: PathBuf,
        /// The record's id.
        id: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// Another process has locked the folder.
    #[error(
        "{} is in use by another Solon process\nhint: wait for it to end, or stop it, then try again",
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

impl DataError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn line(path: &Path, line: usize, message: impl Into<String>) -> Self {
        Self::Line { path: path.to_path_buf(), line, message: message.into() }
    }
}
