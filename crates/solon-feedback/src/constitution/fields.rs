//! Reads fields of a table by name. Errors name the file, the entry and the field.
//!
//! Contract: each method takes its field out, and [`Fields::finish`] refuses what is left, so nothing is ignored. Written
//! by hand, because serde's errors name a line but no entry, and people edit long constitutions.

use std::path::{Path, PathBuf};

use super::value::Value;
use crate::FeedbackError;

/// One table and its position in the file.
pub(super) struct Fields {
    path: PathBuf,
    entry: String,
    table: Vec<(String, Value)>,
}

impl Fields {
    /// Refuses keys outside `allowed`.
    pub(super) fn new(
        path: &Path,
        entry: String,
        table: Vec<(String, Value)>,
        allowed: &[&str],
    ) -> Result<Self, FeedbackError> {
        let fields = Self { path: path.into(), entry, table };
        match fields.table.iter().find(|(key, _)| !allowed.contains(&key.as_str())) {
            Some((key, _)) => {
                Err(fields.wrong(key, format!("unknown key; the keys are {}", allowed.join(", "))))
            }
            None => Ok(fields),
        }
    }

    /// The same of a value that must be a table.
    pub(super) fn of(
        path: &Path,
        entry: String,
        value: Value,
        allowed: &[&str],
    ) -> Result<Self, FeedbackError> {
        match value {
            Value::Table(table) => Self::new(path, entry, table, allowed),
            other => Err(FeedbackError::Malformed {
                path: path.into(),
                reason: format!(
                    "{entry} is of type {}; write an object with the keys {}",
                    other.kind(),
                    allowed.join(", ")
                ),
            }),
        }
    }

    /// An error about a field of this table.
    pub(super) fn wrong(&self, field: &str, reason: impl Into<String>) -> FeedbackError {
        FeedbackError::Entry {
            path: self.path.clone(),
            entry: self.entry.clone(),
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Whether the field is there.
    pub(super) fn has(&self, field: &str) -> bool {
        self.table.iter().any(|(key, _)| key == field)
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        let place = self.table.iter().position(|(key, _)| key == field)?;
        Some(self.table.swap_remove(place).1)
    }

    /// Refuses fields that are left.
    pub(super) fn finish(self, rule: &str) -> Result<(), FeedbackError> {
        match self.table.first() {
            Some((key, _)) => Err(self.wrong(key, rule)),
            None => Ok(()),
        }
    }

    /// A string.
    pub(super) fn text(&mut self, field: &str) -> Result<String, FeedbackError> {
        match self.take(field) {
            Some(Value::Text(text)) => Ok(text),
            Some(other) => {
                Err(self.wrong(field, format!("it is of type {}; write a string in quotes", other.kind())))
            }
            None => Err(self.wrong(field, "the field is missing; add it")),
        }
    }

    /// A string, where there is one.
    pub(super) fn some_text(&mut self, field: &str) -> Result<Option<String>, FeedbackError> {
        match self.has(field) {
            true => self.text(field).map(Some),
            false => Ok(None),
        }
    }

    /// A list of names; none where it is absent.
    pub(super) fn names(&mut self, field: &str) -> Result<Vec<String>, FeedbackError> {
        if !self.has(field) {
            return Ok(Vec::new());
        }
        let names = self.texts(field)?;
        match names.is_empty() {
            true => {
                Err(self.wrong(field, "the list is empty; leave it out for a principle about every prompt"))
            }
            false => Ok(names),
        }
    }

    /// A list of strings, which may be empty.
    pub(super) fn texts(&mut self, field: &str) -> Result<Vec<String>, FeedbackError> {
        let values = match self.take(field) {
            Some(Value::List(values)) => values,
            Some(other) => {
                let kind = other.kind();
                return Err(
                    self.wrong(field, format!("it is of type {kind}; write a list of strings in brackets"))
                );
            }
            None => return Err(self.wrong(field, "the field is missing; add it")),
        };
        let mut texts = Vec::with_capacity(values.len());
        for (number, value) in (1..).zip(values) {
            match value {
                Value::Text(text) => texts.push(text),
                other => {
                    let kind = other.kind();
                    return Err(self.wrong(
                        field,
                        format!("number {number} of the list is of type {kind}; write strings in quotes"),
                    ));
                }
            }
        }
        Ok(texts)
    }

    /// How often a principle is drawn; 1 where it is absent. Its range is checked with the other values.
    pub(super) fn weight(&mut self, field: &str) -> Result<f64, FeedbackError> {
        match self.take(field) {
            None => Ok(1.0),
            Some(Value::Integer(number)) => Ok(number as f64),
            Some(Value::Float(number)) => Ok(number),
            Some(other) => {
                Err(self.wrong(field, format!("it is of type {}; write a number, such as 2", other.kind())))
            }
        }
    }

    /// A whole number from 1.
    pub(super) fn version(&mut self, field: &str) -> Result<u32, FeedbackError> {
        let number = match self.take(field) {
            Some(Value::Integer(number)) => u32::try_from(number).ok(),
            _ => None,
        };
        number.filter(|&n| n >= 1).ok_or_else(|| self.wrong(field, "it must be a whole number, at least 1"))
    }

    /// An array of tables; empty where it is absent.
    pub(super) fn entries(
        &mut self,
        name: &'static str,
        allowed: &[&str],
    ) -> Result<Vec<Fields>, FeedbackError> {
        let tables_expected = || format!("write each entry under its own [[{name}]] heading");
        let values = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::List(values)) => values,
            Some(_) => return Err(self.wrong(name, tables_expected())),
        };
        let mut entries = Vec::with_capacity(values.len());
        for (number, value) in (1..).zip(values) {
            let Value::Table(table) = value else { return Err(self.wrong(name, tables_expected())) };
            let id = table.iter().find_map(|(key, value)| match value {
                Value::Text(id) if key == "id" => Some(id),
                _ => None,
            });
            let entry = match id {
                Some(id) => format!("[[{name}]] {id:?}"),
                None => format!("[[{name}]] number {number}"),
            };
            entries.push(Fields::new(&self.path, entry, table, allowed)?);
        }
        Ok(entries)
    }

    /// A list of tables inside this one; `of` names one of them in errors, such as `message`.
    pub(super) fn tables(
        &mut self,
        field: &str,
        of: &str,
        allowed: &[&str],
    ) -> Result<Vec<Fields>, FeedbackError> {
        let values = match self.take(field) {
            Some(Value::List(values)) => values,
            Some(other) => {
                return Err(
                    self.wrong(field, format!("it is of type {}; write a list of {of}s", other.kind()))
                );
            }
            None => return Err(self.wrong(field, "the field is missing; add it")),
        };
        (1..)
            .zip(values)
            .map(|(number, value)| {
                Fields::of(&self.path, format!("{}, {of} {number}", self.entry), value, allowed)
            })
            .collect()
    }

    /// A list of anything.
    pub(super) fn list(&mut self, field: &str) -> Result<Vec<Value>, FeedbackError> {
        match self.take(field) {
            Some(Value::List(values)) => Ok(values),
            Some(other) => Err(self.wrong(field, format!("it is of type {}; write a list", other.kind()))),
            None => Err(self.wrong(field, "the field is missing; add it")),
        }
    }
}
