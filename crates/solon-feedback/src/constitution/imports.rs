//! Which form a JSON file has: this project's, or one that others published.
//!
//! Contract: the form is told by what the file holds, not by its name. A file of no known form is refused with the forms
//! that are known.

use std::path::Path;

use super::value::Value;
use super::{Constitution, hugging_face, own, published, traits};
use crate::FeedbackError;

/// Reads JSON text; `path` names it in errors, and the constitution where the form has no name.
pub(super) fn parse(text: &str, path: &Path) -> Result<Constitution, FeedbackError> {
    let constitution = match Value::from_json(text, path)? {
        Value::List(items) => match first_keys(&items) {
            Some(keys) if keys.contains(&"trait") => traits::read(items, path)?,
            Some(_) => published::comparison_few_shots(items, path)?,
            None => published::texts(items, path)?,
        },
        Value::Table(table) => {
            let holds = |key: &str, test: fn(&Value) -> bool| {
                table.iter().any(|(name, value)| name == key && test(value))
            };
            if holds("constitutions", |value| matches!(value, Value::List(_))) {
                hugging_face::read(table, path)?
            } else if holds("version", |value| matches!(value, Value::Integer(_))) {
                own::parse(Value::Table(table), path)?
            } else {
                published::instructions(table, path)?
            }
        }
        other => {
            return Err(FeedbackError::Malformed {
                path: path.into(),
                reason: format!(
                    "it holds a single {}; a constitution in JSON is an object or a list, see constitutions/README.md",
                    other.kind()
                ),
            });
        }
    };
    constitution.validate(path)?;
    Ok(constitution)
}

/// A constitution named after its file, without entries.
pub(super) fn named_after(path: &Path, description: &str) -> Constitution {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Constitution::empty(name, description)
}

/// The keys of a list's first entry, if that is an object.
fn first_keys(items: &[Value]) -> Option<Vec<&str>> {
    match items.first()? {
        Value::Table(table) => Some(table.iter().map(|(key, _)| key.as_str()).collect()),
        _ => None,
    }
}
