//! Inserting and reading items, and the links between them.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde_json::Value;

use super::item::{DropCount, Item, ItemKind, Link, NewItem};
use super::stages::require_running;
use super::{Ledger, LedgerError, nearest, signed};
use crate::files::sha256_parts;

impl Ledger {
    /// Inserts items into a running stage: all or none. If the stage already has an item with the same id, it is
    /// replaced.
    ///
    /// # Errors
    /// [`LedgerError::StageNotRunning`]; [`LedgerError::ItemOfAnotherStage`]; [`LedgerError::MissingReference`] for a
    /// parent that is neither in the ledger nor in `items`; [`LedgerError::Sqlite`].
    pub fn insert_items(&mut self, stage: &str, items: &[NewItem]) -> Result<(), LedgerError> {
        self.transact("insert items into", |transaction, path| {
            require_running(transaction, path, stage)?;
            for item in items {
                insert(transaction, path, stage, item)?;
            }
            // Parents are checked last, so that a batch may hold children before their parents.
            for item in items {
                for parent in &item.parents {
                    require_item(transaction, path, &parent.id, || format!("item `{}`", item.id))?;
                }
            }
            Ok(())
        })
    }

    /// A stage's items of one kind by ordinal (then id), dropped ones included, with their data as untyped JSON. Use it
    /// to show or copy items; a stage reads its inputs with [`Self::items`].
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn raw_items(&self, stage: &str, kind: ItemKind) -> Result<Vec<Item>, LedgerError> {
        self.select("WHERE stage = ?1 AND kind = ?2 ORDER BY ordinal, id", stage, kind)
    }

    /// Like [`Self::raw_items`], without the dropped ones.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn kept_raw_items(&self, stage: &str, kind: ItemKind) -> Result<Vec<Item>, LedgerError> {
        self.select(
            "WHERE stage = ?1 AND kind = ?2 AND dropped_reason IS NULL ORDER BY ordinal, id",
            stage,
            kind,
        )
    }

    /// The ids of a stage's items of one kind, dropped ones included. A resumed stage need not make these again.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn item_ids(&self, stage: &str, kind: ItemKind) -> Result<HashSet<String>, LedgerError> {
        let read = || -> rusqlite::Result<HashSet<String>> {
            let mut statement =
                self.connection.prepare_cached("SELECT id FROM items WHERE stage = ?1 AND kind = ?2")?;
            statement.query_map([stage, kind.as_str()], |row| row.get(0))?.collect()
        };
        read().map_err(self.failed("read"))
    }

    /// One item.
    ///
    /// # Errors
    /// [`LedgerError::UnknownItem`] with the most similar ids; [`LedgerError::Sqlite`].
    pub fn item(&self, id: &str) -> Result<Item, LedgerError> {
        match self.find_item(id)? {
            Some(item) => Ok(item),
            None => {
                Err(LedgerError::UnknownItem { id: id.to_owned(), nearest: nearest::nearest_ids(self, id)? })
            }
        }
    }

    /// One item, or `None` if it does not exist.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn find_item(&self, id: &str) -> Result<Option<Item>, LedgerError> {
        self.connection
            .prepare_cached(&format!("{SELECT} WHERE id = ?1"))
            .and_then(|mut statement| statement.query_row([id], read_item).optional())
            .map_err(self.failed("read"))
    }

    /// The parents of an item, by role and id.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn parents(&self, id: &str) -> Result<Vec<Link>, LedgerError> {
        self.links("SELECT parent, role FROM links WHERE child = ?1 ORDER BY role, parent", id)
    }

    /// The children of an item, in the order of their stages and ordinals.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn children(&self, id: &str) -> Result<Vec<Link>, LedgerError> {
        self.links(
            "SELECT child, role FROM links JOIN items ON items.id = child JOIN stages ON stages.name = stage
             WHERE parent = ?1 ORDER BY stages.rowid, kind, ordinal, child, role",
            id,
        )
    }

    /// How many of a stage's items were dropped, and why.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn drop_counts(&self, stage: &str) -> Result<Vec<DropCount>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare(
                "SELECT kind, dropped_reason, count(*) FROM items
                 WHERE stage = ?1 AND dropped_reason IS NOT NULL GROUP BY kind, dropped_reason ORDER BY 3 DESC, 1, 2",
            )?;
            let rows = statement.query_map([stage], |row| {
                Ok(DropCount {
                    kind: kind_column(row, 0)?,
                    reason: row.get(1)?,
                    count: row.get::<_, i64>(2)?.unsigned_abs(),
                })
            })?;
            rows.collect()
        };
        read().map_err(self.failed("read"))
    }

    /// Hash of all of a stage's items in order, with their drop reasons: a stage's `output_hash`.
    ///
    /// # Errors
    /// [`LedgerError::Sqlite`] when SQLite refuses.
    pub fn items_hash(&self, stage: &str) -> Result<String, LedgerError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare(
                "SELECT id, kind, ordinal, sha256, dropped_reason FROM items WHERE stage = ?1 ORDER BY kind, ordinal, id",
            )?;
            let mut rows = statement.query([stage])?;
            let mut parts = Vec::new();
            while let Some(row) = rows.next()? {
                let dropped: Option<String> = row.get(4)?;
                parts.extend([row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.to_string(), row.get(3)?]);
                parts.push(dropped.map_or("-".into(), |reason| format!("+{reason}")));
            }
            Ok(parts)
        };
        Ok(sha256_parts(read().map_err(self.failed("read"))?))
    }

    fn select(&self, condition: &str, stage: &str, kind: ItemKind) -> Result<Vec<Item>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare_cached(&format!("{SELECT} {condition}"))?;
            statement.query_map([stage, kind.as_str()], read_item)?.collect()
        };
        read().map_err(self.failed("read"))
    }

    fn links(&self, sql: &str, id: &str) -> Result<Vec<Link>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map([id], |row| Ok(Link { id: row.get(0)?, role: row.get(1)? }))?.collect()
        };
        read().map_err(self.failed("read"))
    }
}

fn insert(
    transaction: &Transaction<'_>,
    path: &Path,
    stage: &str,
    item: &NewItem,
) -> Result<(), LedgerError> {
    let failed = |error| LedgerError::sqlite("insert items into", path)(error);
    let owner: Option<String> = transaction
        .prepare_cached("SELECT stage FROM items WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([&item.id], |row| row.get(0)).optional())
        .map_err(failed)?;
    if let Some(owner) = owner.filter(|owner| owner != stage) {
        return Err(LedgerError::ItemOfAnotherStage { id: item.id.clone(), stage: stage.to_owned(), owner });
    }
    let ordinal = signed("ordinal", item.ordinal)?;
    let data = item.data.to_string();
    let write = || -> rusqlite::Result<()> {
        transaction
            .prepare_cached(
                "INSERT INTO items (id, stage, kind, ordinal, prompt_id, principle_id, text, data, sha256, dropped_reason)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (id) DO UPDATE SET kind = ?3, ordinal = ?4, prompt_id = ?5, principle_id = ?6, text = ?7,
                     data = ?8, sha256 = ?9, dropped_reason = ?10",
            )?
            .execute(params![
                item.id,
                stage,
                item.kind.as_str(),
                ordinal,
                item.prompt_id,
                item.principle_id,
                item.text,
                data,
                item.sha256(&data),
                item.dropped_reason
            ])?;
        transaction.prepare_cached("DELETE FROM links WHERE child = ?1")?.execute([&item.id])?;
        let mut seen = HashSet::new();
        for parent in &item.parents {
            if seen.insert((&parent.id, &parent.role)) {
                transaction
                    .prepare_cached("INSERT INTO links (child, parent, role) VALUES (?1, ?2, ?3)")?
                    .execute([&item.id, &parent.id, &parent.role])?;
            }
        }
        Ok(())
    };
    write().map_err(failed)
}

/// Refuses a missing item now, because a trail with a gap would be worse.
pub(super) fn require_item(
    transaction: &Transaction<'_>,
    path: &Path,
    item: &str,
    what: impl FnOnce() -> String,
) -> Result<(), LedgerError> {
    let found = transaction
        .prepare_cached("SELECT 1 FROM items WHERE id = ?1")
        .and_then(|mut statement| statement.exists([item]))
        .map_err(LedgerError::sqlite("read", path))?;
    if found { Ok(()) } else { Err(LedgerError::MissingReference { what: what(), item: item.to_owned() }) }
}

const SELECT: &str =
    "SELECT id, stage, kind, ordinal, prompt_id, principle_id, text, data, sha256, dropped_reason FROM items";

fn read_item(row: &Row<'_>) -> rusqlite::Result<Item> {
    Ok(Item {
        id: row.get(0)?,
        stage: row.get(1)?,
        kind: kind_column(row, 2)?,
        ordinal: row.get::<_, i64>(3)?.unsigned_abs(),
        prompt_id: row.get(4)?,
        principle_id: row.get(5)?,
        text: row.get(6)?,
        data: json_column(row, 7)?,
        sha256: row.get(8)?,
        dropped_reason: row.get(9)?,
    })
}

fn kind_column(row: &Row<'_>, column: usize) -> rusqlite::Result<ItemKind> {
    let name: String = row.get(column)?;
    name.parse()
        .map_err(|error: String| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

/// A column that holds JSON.
pub(super) fn json_column(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}
