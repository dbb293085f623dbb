//! What can go wrong in an evaluation. Every message says what was wrong, where, and what to do.

use std::path::PathBuf;

/// An evaluation error.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A `kind` that is none of the three.
    #[error("unknown kind {found:?}: expected \"harmful\", \"harmless\" or \"sounds-harmful\"")]
    UnknownKind {
        /// The string that was given.
        found: String,
    },
    /// Two items share an id, so answers of two models could not be paired.
    #[error("the id {id:?} appears more than once: give each prompt its own id")]
    DuplicateId {
        /// The repeated id.
        id: String,
    },
    /// A CSV file could not be opened or parsed; the source names the line.
    #[error("could not read {}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: csv::Error,
    },
    /// A label outside the ones XSTest publishes.
    #[error("{}, id {id}: unknown {column} {found:?}: expected one of {expected}", path.display())]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// The row's `id` column.
        id: String,
        /// The column of the label.
        column: &'static str,
        /// The label found.
        found: String,
        /// The labels known.
        expected: &'static str,
    },
}
