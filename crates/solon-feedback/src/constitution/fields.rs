//! Reads fields of a TOML table by name. Errors name the file, the entry and the field.
//!
//! Written by hand, because serde's errors name a line but no entry, and people edit long constitutions.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::FeedbackError;

/// One table and its position in the file.
pub(super) struct Fields {
    path: PathBuf,
    entry: String,
    table: Table,
}

impl Fields {
    /// Refuses keys outside `allowed`.
    pub(super) fn new(
        path: &Path,
        entry: String,
        table: Table,
        allowed: &[&str],
    ) -> Result<Self, FeedbackError> {
        let fields = Self { path: path.into(), entry, table };
        match fields.table.keys().find(|key| !allowed.contains(&key.as_str())) {
            Some(key) => Err(fields.wrong(key, format!("unknown key; the keys are {}", allowed.join(", ")))),
            None => Ok(fields),
        }
    }

    fn wrong(&self, field: &str, reason: impl Into<String>) -> FeedbackError {
        FeedbackError::Entry {
            path: self.path.clone(),
            entry: self.entry.clone(),
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A string.
    pub(super) fn text(&mut self, field: &str) -> Result<String, FeedbackError> {
        match self.table.remove(field) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => {
                Err(self
                    .wrong(field, format!("it is of type {}; write a string in quotes", other.type_str())))
            }
            None => Err(self.wrong(field, "the field is missing; add it")),
        }
    }

    /// A string, where there is one.
    pub(super) fn some_text(&mut self, field: &str) -> Result<Option<String>, FeedbackError> {
        match self.table.contains_key(field) {
            true => self.text(field).map(Some),
            false => Ok(None),
        }
    }

    /// A list of names; none where it is absent.
    pub(super) fn names(&mut self, field: &str) -> Result<Vec<String>, FeedbackError> {
        let values = match self.table.remove(field) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) if values.is_empty() => {
                return Err(
                    self.wrong(field, "the list is empty; leave it out for a principle about every prompt")
                );
            }
            Some(Value::Array(values)) => values,
            Some(other) => {
                let kind = other.type_str();
                return Err(
                    self.wrong(field, format!("it is of type {kind}; write a list of names in brackets"))
                );
            }
        };
        let mut names = Vec::with_capacity(values.len());
        for value in values {
            match value {
                Value::String(name) => names.push(name),
                other => {
                    let kind = other.type_str();
                    return Err(
                        self.wrong(field, format!("it holds a value of type {kind}; write names in quotes"))
                    );
                }
            }
        }
        Ok(names)
    }

    /// A whole number from 1.
    pub(super) fn version(&mut self, field: &str) -> Result<u32, FeedbackError> {
        let value = self.table.remove(field);
        let number = value.as_ref().and_then(Value::as_integer).and_then(|n| u32::try_from(n).ok());
        number.filter(|&n| n >= 1).ok_or_else(|| self.wrong(field, "it must be a whole number, at least 1"))
    }

    /// An array of tables; empty where it is absent.
    pub(super) fn entries(
        &mut self,
        name: &'static str,
        allowed: &[&str],
    ) -> Result<Vec<Fields>, FeedbackError> {
        let tables_expected = || format!("write each entry under its own [[{name}]] heading");
        let values = match self.table.remove(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values,
            Some(_) => return Err(self.wrong(name, tables_expected())),
        };
        let mut entries = Vec::with_capacity(values.len());
        for (position, value) in values.into_iter().enumerate() {
            let Value::Table(table) = value else { return Err(self.wrong(name, tables_expected())) };
            let entry = match table.get("id").and_then(Value::as_str) {
                Some(id) => format!("[[{name}]] {id:?}"),
                None => format!("[[{name}]] number {}", position + 1),
            };
            entries.push(Fields::new(&self.path, entry, table, allowed)?);
        }
        Ok(entries)
    }
}
