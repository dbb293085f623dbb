//! Training steps, the items they were computed from, and checkpoints.

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde_json::Value;

use super::items::{json_column, require_item};
use super::stages::require_running;
use super::{Ledger, LedgerError, signed};

/// A training step to record.
#[derive(Debug, Clone, PartialEq)]
pub struct NewStep {
    /// The step's number, counted by the stage, usually from 1.
    pub step: u64,
    /// Metrics such as the loss and the gradient norm.
    pub data: Value,
    /// The demonstrations or pairs in the batch, in packed order.
    pub items: Vec<String>,
    /// Hash of the weights after the step, if the stage computes it.
    pub sha256: Option<String>,
}

/// A training step as stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// The stage.
    pub stage: String,
    /// The step.
    pub step: u64,
    /// Metrics such as the loss and the gradient norm.
    pub data: Value,
    /// The items in the batch, in packed order.
    pub items: Vec<String>,
    /// Hash of the weights after the step.
    pub sha256: Option<String>,
}

/// A checkpoint: weights on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checkpoint {
    /// The stage that wrote it.
    pub stage: String,
    /// The last step it contains.
    pub step: u64,
    /// Its path, relative to the run's folder.
    pub path: String,
    /// Hash of the weights.
    pub sha256: String,
}

impl Ledger {
    /// Records a step of a running stage; a step already recorded is replaced.
    ///
    /// # Errors
    /// [`LedgerError::StageNotRunning`]; [`LedgerError::MissingReference`] for an item that is not in the ledger;
    /// [`LedgerError::Sqlite`].
    pub fn record_step(&mut self, stage: &str, step: &NewStep) -> Result<(), LedgerError> {
        let number = signed("step", step.step)?;
        self.transact("record a step in", |transaction, path| {
            require_running(transaction, path, stage)?;
            for item in &step.items {
                require_item(transaction, path, item, || format!("step {} of stage `{stage}`", step.step))?;
            }
            let write = || -> rusqlite::Result<()> {
                transaction
                    .execute("DELETE FROM steps WHERE stage = ?1 AND step = ?2", params![stage, number])?;
                transaction.execute(
                    "INSERT INTO steps (stage, step, data, sha256) VALUES (?1, ?2, ?3, ?4)",
                    params![stage, number, step.data.to_string(), step.sha256],
                )?;
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO step_items (stage, step, position, item) VALUES (?1, ?2, ?3, ?4)",
                )?;
                for (position, item) in (0_i64..).zip(&step.items) {
                    insert.execute(params![stage, number, position, item])?;
                }
                Ok(())
            };
            write().map_err(LedgerError::sqlite("record a step in", path))
        })
    }

    /// Records a checkpoint of a running stage. Call it after the files are synced. A checkpoint of the same step is
    /// replaced.
    ///
    /// `path` is relative to the run's folder, so that the folder can be moved.
    ///
    /// # Errors
    /// [`LedgerError::StageNotRunning`]; [`LedgerError::Sqlite`].
    pub fn record_checkpoint(
        &mut self,
        stage: &str,
        step: u64,
        path: &str,
        sha256: &str,
    ) -> Result<(), LedgerError> {
        let step = signed("step", step)?;
        self.transact("record a checkpoint in", |transaction, file| {
            require_running(transaction, file, stage)?;
            transaction
                .execute(
                    "INSERT INTO checkpoints (stage, step, path, sha256) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (stage, step) DO UPDATE SET path = ?3, sha256 = ?4",
                    params![stage, step, path, sha256],
                )
                .map_err(LedgerError::sqlite("record a checkpoint in", file))?;
            Ok(())
        })
    }

    /// Deletes a running stage's steps and checkpoints after `step`, to resume from the checkpoint at `step` (0 for the
    /// start); returns the number of deleted steps.
    ///
    /// # Errors
    /// [`LedgerError::StageNotRunning`]; [`LedgerError::Sqlite`].
    pub fn truncate_steps_after(&mut self, stage: &str, step: u64) -> Result<u64, LedgerError> {
        let step = signed("step", step)?;
        self.transact("truncate the steps of", |transaction, path| {
            require_running(transaction, path, stage)?;
            let delete = |table: &str| {
                transaction
                    .execute(
                        &format!("DELETE FROM {table} WHERE stage = ?1 AND step > ?2"),
                        params![stage, step],
                    )
                    .map_err(LedgerError::sqlite("truncate the steps of", path))
            };
            delete("checkpoints")?;
            Ok(delete("steps")? as u64)
        })
    }

    /// A stage's steps, in order.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn steps(&self, stage: &str) -> Result<Vec<Step>, LedgerError> {
        self.select_steps("WHERE stage = ?1 ORDER BY step", stage)
    }

    /// The steps whose batch held an item, by stage and step.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn steps_using(&self, item: &str) -> Result<Vec<Step>, LedgerError> {
        self.select_steps(
            "WHERE (stage, step) IN (SELECT stage, step FROM step_items WHERE item = ?1)
             ORDER BY (SELECT rowid FROM stages WHERE name = stage), step",
            item,
        )
    }

    /// A stage's checkpoints, oldest first.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn checkpoints(&self, stage: &str) -> Result<Vec<Checkpoint>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare(
                "SELECT stage, step, path, sha256 FROM checkpoints WHERE stage = ?1 ORDER BY step",
            )?;
            statement.query_map([stage], read_checkpoint)?.collect()
        };
        read().map_err(self.failed("read"))
    }

    /// The first checkpoint that contains a step.
    pub(super) fn checkpoint_with(&self, stage: &str, step: u64) -> Result<Option<Checkpoint>, LedgerError> {
        let step = signed("step", step)?;
        self.connection
            .prepare_cached(
                "SELECT stage, step, path, sha256 FROM checkpoints WHERE stage = ?1 AND step >= ?2 ORDER BY step LIMIT 1",
            )
            .and_then(|mut statement| statement.query_row(params![stage, step], read_checkpoint).optional())
            .map_err(self.failed("read"))
    }

    fn select_steps(&self, condition: &str, argument: &str) -> Result<Vec<Step>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<Step>> {
            let mut statement = self
                .connection
                .prepare_cached(&format!("SELECT stage, step, data, sha256 FROM steps {condition}"))?;
            let mut steps: Vec<Step> = statement
                .query_map([argument], |row| {
                    Ok(Step {
                        stage: row.get(0)?,
                        step: row.get::<_, i64>(1)?.unsigned_abs(),
                        data: json_column(row, 2)?,
                        items: Vec::new(),
                        sha256: row.get(3)?,
                    })
                })?
                .collect::<Result<_, _>>()?;
            let mut items = self.connection.prepare_cached(
                "SELECT item FROM step_items WHERE stage = ?1 AND step = ?2 ORDER BY position",
            )?;
            for step in &mut steps {
                let number = step.step.cast_signed();
                step.items = items
                    .query_map(params![step.stage, number], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
            }
            Ok(steps)
        };
        read().map_err(self.failed("read"))
    }
}

fn read_checkpoint(row: &rusqlite::Row<'_>) -> rusqlite::Result<Checkpoint> {
    Ok(Checkpoint {
        stage: row.get(0)?,
        step: row.get::<_, i64>(1)?.unsigned_abs(),
        path: row.get(2)?,
        sha256: row.get(3)?,
    })
}
