//! Stages: which are finished with which inputs, so that a finished stage is skipped and an interrupted one is resumed.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde_json::Value;

use super::items::json_column;
use super::{Ledger, LedgerError};

/// A stage as stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// The stage's name, such as `revise` or `dpo`.
    pub name: String,
    /// Hash of its inputs and settings.
    pub input_hash: String,
    /// Whether it is finished. An unfinished stage may be resumed.
    pub done: bool,
    /// When it was first started with this input: seconds since 1970. For the reader; never hash it.
    pub started_at: i64,
    /// Working time as given to [`Ledger::finish_stage`]. For the reader; never hash it.
    pub seconds: Option<f64>,
    /// Hash of its output, if done.
    pub output_hash: Option<String>,
    /// What the stage reports: counts, reports.
    pub detail: Value,
}

/// The state that [`Ledger::begin_stage`] found.
#[derive(Debug, Clone, PartialEq)]
pub enum StageState {
    /// There is nothing to resume.
    Fresh {
        /// What was deleted, if the stage was started or finished with other inputs.
        replaced: Option<Replaced>,
    },
    /// Started with the same inputs and not finished.
    Resumed {
        /// Items it has made, dropped ones included.
        items: u64,
        /// Its last recorded training step.
        last_step: Option<u64>,
    },
    /// Finished with the same inputs.
    Done {
        /// Hash of its output.
        output_hash: String,
        /// Working time.
        seconds: f64,
        /// What the stage reported.
        detail: Value,
    },
}

/// What was deleted because a stage's inputs changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// The hash of its old inputs.
    pub input_hash: String,
    /// Whether it was finished.
    pub was_done: bool,
    /// Items deleted.
    pub items: u64,
    /// Training steps deleted.
    pub steps: u64,
}

impl Ledger {
    /// Starts, resumes or skips a stage.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses; then nothing changed.
    pub fn begin_stage(&mut self, name: &str, input_hash: &str) -> Result<StageState, LedgerError> {
        self.transact("begin a stage in", |transaction, path| {
            let existing = find(transaction, name).map_err(LedgerError::sqlite("read", path))?;
            let counts = count(transaction, name).map_err(LedgerError::sqlite("read", path))?;
            let replaced = match existing {
                Some(stage) if stage.input_hash == input_hash => {
                    return Ok(match stage.output_hash {
                        Some(output_hash) if stage.done => StageState::Done {
                            output_hash,
                            seconds: stage.seconds.unwrap_or(0.0),
                            detail: stage.detail,
                        },
                        _ => StageState::Resumed { items: counts.items, last_step: counts.last_step },
                    });
                }
                Some(stage) => Some(Replaced {
                    input_hash: stage.input_hash,
                    was_done: stage.done,
                    items: counts.items,
                    steps: counts.steps,
                }),
                None => None,
            };
            // Items, steps and checkpoints are deleted with the stage: their tables refer to it with ON DELETE CASCADE.
            transaction
                .execute("DELETE FROM stages WHERE name = ?1", [name])
                .and_then(|_| {
                    transaction.execute(
                        "INSERT INTO stages (name, input_hash, status, started_at) VALUES (?1, ?2, 'running', ?3)",
                        params![name, input_hash, now()],
                    )
                })
                .map_err(LedgerError::sqlite("begin a stage in", path))?;
            Ok(StageState::Fresh { replaced })
        })
    }

    /// Removes a stage with its items, links, steps and checkpoints. A stage that is not there is no error.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses; then nothing changed.
    pub fn remove_stage(&mut self, name: &str) -> Result<(), LedgerError> {
        self.transact("remove a stage from", |transaction, path| {
            transaction
                .execute("DELETE FROM stages WHERE name = ?1", [name])
                .map(|_| ())
                .map_err(LedgerError::sqlite("remove a stage from", path))
        })
    }

    /// Marks a running stage as done.
    ///
    /// `seconds`: the working time, by the caller's clock.
    ///
    /// # Errors
    /// [`LedgerError::StageNotRunning`]; [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn finish_stage(
        &mut self,
        name: &str,
        output_hash: &str,
        seconds: f64,
        detail: &Value,
    ) -> Result<(), LedgerError> {
        self.transact("finish a stage in", |transaction, path| {
            require_running(transaction, path, name)?;
            // SQLite stores NaN as NULL, which means "never measured"; that is what it means here too.
            transaction
                .execute(
                    "UPDATE stages SET status = 'done', output_hash = ?2, seconds = ?3, detail = ?4 WHERE name = ?1",
                    params![name, output_hash, seconds, detail.to_string()],
                )
                .map_err(LedgerError::sqlite("finish a stage in", path))?;
            Ok(())
        })
    }

    /// Makes a finished stage a running one with the items it has; one that is not finished stays as it is. What later stages made
    /// of it is out of date once it changes.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn reopen_stage(&mut self, name: &str) -> Result<(), LedgerError> {
        self.transact("reopen a stage in", |transaction, path| {
            transaction
                .execute("UPDATE stages SET status = 'running', output_hash = NULL WHERE name = ?1", [name])
                .map(|_| ())
                .map_err(LedgerError::sqlite("reopen a stage in", path))
        })
    }

    /// A stage, or `None` if it was never started.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn stage(&self, name: &str) -> Result<Option<Stage>, LedgerError> {
        find(&self.connection, name).map_err(self.failed("read"))
    }

    /// All stages, in the order in which they were started.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn stages(&self) -> Result<Vec<Stage>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare(&format!("{SELECT} ORDER BY rowid"))?;
            statement.query_map([], read_stage)?.collect()
        };
        read().map_err(self.failed("read"))
    }
}

/// Later stages were computed from a finished stage's output, so nothing may be added to it.
pub(super) fn require_running(
    transaction: &Transaction<'_>,
    path: &std::path::Path,
    stage: &str,
) -> Result<(), LedgerError> {
    let status: Option<String> = transaction
        .query_row("SELECT status FROM stages WHERE name = ?1", [stage], |row| row.get(0))
        .optional()
        .map_err(LedgerError::sqlite("read", path))?;
    match status.as_deref() {
        Some("running") => Ok(()),
        other => Err(LedgerError::StageNotRunning {
            stage: stage.to_owned(),
            status: other.unwrap_or("unknown").to_owned(),
        }),
    }
}

const SELECT: &str = "SELECT name, input_hash, status, started_at, seconds, output_hash, detail FROM stages";

fn find(connection: &rusqlite::Connection, name: &str) -> rusqlite::Result<Option<Stage>> {
    connection.query_row(&format!("{SELECT} WHERE name = ?1"), [name], read_stage).optional()
}

fn read_stage(row: &Row<'_>) -> rusqlite::Result<Stage> {
    Ok(Stage {
        name: row.get(0)?,
        input_hash: row.get(1)?,
        done: row.get::<_, String>(2)? == "done",
        started_at: row.get(3)?,
        seconds: row.get(4)?,
        output_hash: row.get(5)?,
        detail: json_column(row, 6)?,
    })
}

struct Counts {
    items: u64,
    steps: u64,
    last_step: Option<u64>,
}

fn count(transaction: &Transaction<'_>, stage: &str) -> rusqlite::Result<Counts> {
    transaction.query_row(
        "SELECT (SELECT count(*) FROM items WHERE stage = ?1), count(*), max(step) FROM steps WHERE stage = ?1",
        [stage],
        |row| {
            Ok(Counts {
                items: row.get::<_, i64>(0)?.unsigned_abs(),
                steps: row.get::<_, i64>(1)?.unsigned_abs(),
                last_step: row.get::<_, Option<i64>>(2)?.map(i64::unsigned_abs),
            })
        },
    )
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
