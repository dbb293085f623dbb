//! The ledger: an SQLite file in a run's folder with every text, label and training step of the run, and the links
//! between them.
//!
//! Contract: a call that returned `Ok` is on disk, whatever happens to the process or the machine afterwards. A call
//! that failed changed nothing. Stages go from `running` to `done`. A finished stage is not written to again, unless it is reopened. A stage
//! whose inputs changed starts again without its old items and steps. Provenance is the `links` table alone: an item's
//! parents are named when it is inserted and must exist then. Clock times are kept for the reader and are not part of
//! any hash.
//!
//! One process writes (hold the run's [`crate::files::FolderLock`]). Any number of processes may read at the same time
//! through [`Ledger::open_read_only`].

mod display;
mod error;
mod explain;
mod item;
mod items;
mod nearest;
mod schema;
mod stages;
mod steps;
mod typed;

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use error::LedgerError;
pub use explain::{Branch, BranchNote, Explanation, StepUse};
pub use item::{DropCount, Item, ItemKind, Link, NewItem};
pub use schema::SCHEMA_VERSION;
pub use stages::{Replaced, Stage, StageState};
pub use steps::{Checkpoint, NewStep, Step};
pub use typed::{ItemData, TypedItem};

/// An open ledger.
#[derive(Debug)]
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
}

impl Ledger {
    /// Opens a ledger for writing, creates it if it does not exist, and checks every page of it.
    ///
    /// # Errors
    /// [`LedgerError::NotALedger`], [`LedgerError::Damaged`], [`LedgerError::NewerSchema`], or [`LedgerError::Sqlite`]
    /// if the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let connection = Connection::open(path).map_err(LedgerError::sqlite("open", path))?;
        let ledger = Self { connection, path: path.to_path_buf() };
        schema::prepare(&ledger)?;
        Ok(ledger)
    }

    /// Opens an existing ledger for reading. Another process may be writing to it.
    ///
    /// # Errors
    /// As [`Self::open`]; also if the file is missing.
    pub fn open_read_only(path: &Path) -> Result<Self, LedgerError> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).map_err(LedgerError::sqlite("open", path))?;
        let ledger = Self { connection, path: path.to_path_buf() };
        schema::check_readable(&ledger)?;
        Ok(ledger)
    }

    /// The ledger's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` in one transaction: all of it is kept, or nothing.
    fn transact<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>, &Path) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let Self { connection, path } = self;
        // Immediate: a transaction that first reads and then writes would fail at once, and not wait, if another
        // process wrote in between.
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(LedgerError::sqlite(action, path))?;
        let result = work(&transaction, path)?;
        transaction.commit().map_err(LedgerError::sqlite(action, path))?;
        Ok(result)
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(rusqlite::Error) -> LedgerError {
        LedgerError::sqlite(action, &self.path)
    }
}

/// SQLite's integers are signed.
fn signed(what: &'static str, number: u64) -> Result<i64, LedgerError> {
    i64::try_from(number).map_err(|_| LedgerError::TooLarge { what, number })
}

#[cfg(test)]
mod tests;
