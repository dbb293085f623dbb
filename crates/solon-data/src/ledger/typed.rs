//! Items with typed `data`: a stage writes a `T`, and the next stage reads a `T`.
//!
//! Contract: no default is filled in. If an item's data lacks a field or holds the wrong type, the error names the
//! stage, the item, the field and the ledger.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use solon_records::{Demonstration, Pair, Prompt};

use super::{ItemKind, Ledger, LedgerError, NewItem};
use crate::jsonl::field;

/// The type of `data` of one kind of item.
pub trait ItemData: Serialize + DeserializeOwned {
    /// The kind of item.
    const KIND: ItemKind;
}

impl ItemData for Prompt {
    const KIND: ItemKind = ItemKind::Prompt;
}

impl ItemData for Demonstration {
    const KIND: ItemKind = ItemKind::Demonstration;
}

impl ItemData for Pair {
    const KIND: ItemKind = ItemKind::Pair;
}

/// An item as stored, with its data as a `T`.
#[derive(Debug, Clone, PartialEq)]
pub struct TypedItem<T> {
    /// Unique in the run.
    pub id: String,
    /// Its position among the stage's items of that kind.
    pub ordinal: u64,
    /// The prompt it belongs to.
    pub prompt_id: Option<String>,
    /// The principle it was made with.
    pub principle_id: Option<String>,
    /// The text.
    pub text: String,
    /// Why later stages do not use it.
    pub dropped_reason: Option<String>,
    /// Other data of the item.
    pub data: T,
}

impl NewItem {
    /// An item of `T`'s kind with its text and data; set the other fields as needed.
    ///
    /// # Errors
    /// [`LedgerError::Unwritable`] if `data` cannot be written as JSON, such as a map whose keys are not strings.
    pub fn of<T: ItemData>(
        id: impl Into<String>,
        ordinal: u64,
        text: impl Into<String>,
        data: &T,
    ) -> Result<Self, LedgerError> {
        let item = Self::new(id, T::KIND, ordinal, text);
        let unwritable = |error: serde_json::Error| LedgerError::Unwritable {
            id: item.id.clone(),
            kind: T::KIND,
            message: error.to_string(),
        };
        let data: Value = serde_json::to_value(data).map_err(unwritable)?;
        Ok(Self { data, ..item })
    }
}

impl Ledger {
    /// A stage's items of `T`'s kind by ordinal (then id), dropped ones included.
    ///
    /// # Errors
    /// [`LedgerError::ItemData`] for the first item that is not a `T`; [`LedgerError::Sqlite`] if SQLite refuses.
    pub fn items<T: ItemData>(&self, stage: &str) -> Result<Vec<TypedItem<T>>, LedgerError> {
        self.typed("", stage)
    }

    /// Like [`Self::items`], without the dropped ones: the input of the next stage.
    ///
    /// # Errors
    /// As [`Self::items`]; a dropped item's data is not read.
    pub fn kept_items<T: ItemData>(&self, stage: &str) -> Result<Vec<TypedItem<T>>, LedgerError> {
        self.typed("AND dropped_reason IS NULL", stage)
    }

    fn typed<T: ItemData>(&self, condition: &str, stage: &str) -> Result<Vec<TypedItem<T>>, LedgerError> {
        let sql = format!(
            "SELECT id, ordinal, prompt_id, principle_id, text, dropped_reason, data FROM items
             WHERE stage = ?1 AND kind = ?2 {condition} ORDER BY ordinal, id"
        );
        let read = || -> rusqlite::Result<Vec<TypedItem<String>>> {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let rows = statement.query_map([stage, T::KIND.as_str()], |row| {
                Ok(TypedItem {
                    id: row.get(0)?,
                    ordinal: row.get::<_, i64>(1)?.unsigned_abs(),
                    prompt_id: row.get(2)?,
                    principle_id: row.get(3)?,
                    text: row.get(4)?,
                    dropped_reason: row.get(5)?,
                    data: row.get(6)?,
                })
            })?;
            rows.collect()
        };
        let items = read().map_err(self.failed("read"))?;
        items.into_iter().map(|item| self.with_type(stage, item)).collect()
    }

    /// The item with its JSON read as a `T`.
    fn with_type<T: ItemData>(
        &self,
        stage: &str,
        item: TypedItem<String>,
    ) -> Result<TypedItem<T>, LedgerError> {
        let TypedItem { id, ordinal, prompt_id, principle_id, text, dropped_reason, data } = item;
        match serde_json::from_str(&data) {
            Ok(data) => Ok(TypedItem { id, ordinal, prompt_id, principle_id, text, dropped_reason, data }),
            Err(error) => Err(LedgerError::ItemData {
                path: self.path.clone(),
                stage: stage.to_owned(),
                id,
                kind: T::KIND,
                message: field::describe(&data, &error),
            }),
        }
    }
}
