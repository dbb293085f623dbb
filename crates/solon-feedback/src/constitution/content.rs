//! A constitution's content as data: its entries by table, and their hash.
//!
//! Contract: the hash depends on the entries alone, their order included, because draws depend on it. It does not depend
//! on the file's formatting, comments or form, nor on name, version and description, which no model is shown. An entry
//! without a field hashes like one with the field's default.

use serde::Serialize;
use serde_json::{Map, Value};
use solon_data::files::sha256_parts;

use super::Constitution;
use crate::FeedbackError;

/// One entry of a constitution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// `revision`, `comparison`, `example`, `few_shot` or `prompt`.
    pub table: &'static str,
    /// Its fields with the names that they have in a file, `id` first.
    pub fields: Map<String, Value>,
}

impl Entry {
    /// Its id.
    pub fn id(&self) -> &str {
        self.fields.get("id").and_then(Value::as_str).unwrap_or_default()
    }

    /// Every text of it with the name of its field, those inside of lists included.
    pub fn texts(&self) -> Vec<(&str, &str)> {
        fn collect<'a>(field: &'a str, value: &'a Value, texts: &mut Vec<(&'a str, &'a str)>) {
            match value {
                Value::String(text) => texts.push((field, text)),
                Value::Array(values) => values.iter().for_each(|value| collect(field, value, texts)),
                Value::Object(fields) => fields.iter().for_each(|(key, value)| collect(key, value, texts)),
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        let mut texts = Vec::new();
        self.fields.iter().for_each(|(field, value)| collect(field, value, &mut texts));
        texts
    }
}

impl Constitution {
    /// All entries, table by table, in the file's order.
    pub fn entries(&self) -> Result<Vec<Entry>, FeedbackError> {
        let mut all = Vec::new();
        add(&mut all, "revision", &self.revision)?;
        add(&mut all, "comparison", &self.comparison)?;
        add(&mut all, "example", &self.example)?;
        add(&mut all, "few_shot", &self.few_shot)?;
        add(&mut all, "prompt", &self.prompt)?;
        Ok(all)
    }

    /// SHA-256 of the content, lowercase hex.
    pub fn sha256(&self) -> Result<String, FeedbackError> {
        let mut parts = vec!["solon constitution 1".to_owned()];
        for entry in self.entries()? {
            parts.push(serde_json::to_string(&entry).map_err(FeedbackError::Encode)?);
        }
        Ok(sha256_parts(parts))
    }
}

fn add<T: Serialize>(all: &mut Vec<Entry>, table: &'static str, entries: &[T]) -> Result<(), FeedbackError> {
    for entry in entries {
        if let Value::Object(fields) = serde_json::to_value(entry).map_err(FeedbackError::Encode)? {
            all.push(Entry { table, fields });
        }
    }
    Ok(())
}
