//! Errors of the ledger.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use super::ItemKind;

/// An error of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite or the operating system refused.
    #[error("cannot {action} the ledger {}: {source}", path.display())]
    Sqlite {
        /// The action that failed, as in "cannot ACTION the ledger".
        action: &'static str,
        /// The ledger's file.
        path: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// The file is not a ledger.
    #[error("{} is not a Solon ledger: {message}\nhint: give another file, or move this one away", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        message: String,
    },
    /// The file is damaged.
    #[error(
        "the ledger {} is damaged: {message}\nhint: restore it from a backup, or move the run's folder away and run again",
        path.display()
    )]
    Damaged {
        /// The ledger's file.
        path: PathBuf,
        /// What was found.
        message: String,
    },
    /// A newer Solon made the file.
    #[error(
        "the ledger {} has schema version {found}; this Solon supports up to {supported}\n\
         hint: use the newer Solon that wrote it",
        path.display()
    )]
    NewerSchema {
        /// The ledger's file.
        path: PathBuf,
        /// The file's version.
        found: i64,
        /// [`crate::ledger::SCHEMA_VERSION`].
        supported: i64,
    },
    /// The stage is not `running`, so it cannot be written to.
    #[error("stage `{stage}` is {status}; call begin_stage before writing to it")]
    StageNotRunning {
        /// The stage.
        stage: String,
        /// Its status, or "unknown".
        status: String,
    },
    /// Another stage made an item with this id.
    #[error(
        "item `{id}` of stage `{stage}` already belongs to stage `{owner}`; ids must be unique in the run"
    )]
    ItemOfAnotherStage {
        /// The item.
        id: String,
        /// The stage that tried to insert it.
        stage: String,
        /// The stage it belongs to.
        owner: String,
    },
    /// An item or a step names an item that is not in the ledger.
    #[error("{what} names the item `{item}`, which is not in the ledger; insert it first")]
    MissingReference {
        /// The item or step that names it.
        what: String,
        /// The missing item.
        item: String,
    },
    /// An item's data does not have the type it is read as.
    #[error(
        "item `{id}` of stage `{stage}` in the ledger {} is not a {kind} that this Solon can read: {message}\n\
         hint: run the stage again",
        path.display()
    )]
    ItemData {
        /// The ledger's file.
        path: PathBuf,
        /// The stage that made it.
        stage: String,
        /// The item.
        id: String,
        /// The kind of item that was expected.
        kind: ItemKind,
        /// Which field, and what is wrong with it.
        message: String,
    },
    /// An item's data cannot be written as JSON.
    #[error("the data of item `{id}` ({kind}) cannot be written as JSON: {message}")]
    Unwritable {
        /// The item.
        id: String,
        /// The kind of item.
        kind: ItemKind,
        /// The reason.
        message: String,
    },
    /// No such item.
    #[error("there is no item `{id}` in the ledger{}", did_you_mean(nearest))]
    UnknownItem {
        /// The id that was asked for.
        id: String,
        /// The most similar ids, best first.
        nearest: Vec<String>,
    },
    /// A number that SQLite cannot hold.
    #[error("{what} {number} is too large for the ledger; the largest is 9223372036854775807")]
    TooLarge {
        /// What the number is.
        what: &'static str,
        /// The number.
        number: u64,
    },
}

impl LedgerError {
    /// Whether the disk may be full. Where the size of files is limited, SQLite says that writing failed, as it does of a disk that is
    /// broken.
    pub fn may_be_full(&self) -> bool {
        let Self::Sqlite { source: rusqlite::Error::SqliteFailure(failure, _), .. } = self else {
            return false;
        };
        failure.code == ErrorCode::DiskFull || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_WRITE
    }

    /// Distinguishes damage from other failures, because the user must do something else.
    pub(super) fn sqlite(action: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        move |source| match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => {
                Self::NotALedger { path, message: "it is not an SQLite file".into() }
            }
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, message: source.to_string() },
            _ => Self::Sqlite { action, path, source },
        }
    }
}

fn did_you_mean(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return String::new();
    }
    format!("; did you mean {}?", nearest.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    #[test]
    fn only_what_could_not_be_written_may_be_for_want_of_space() {
        let may_be_full = |code| {
            let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            LedgerError::Sqlite { action: "write to", path: "l".into(), source }.may_be_full()
        };
        assert!(may_be_full(ffi::SQLITE_FULL) && may_be_full(ffi::SQLITE_IOERR_WRITE));
        for other in [ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR, ffi::SQLITE_BUSY] {
            assert!(!may_be_full(other), "{other}");
        }
    }
}
