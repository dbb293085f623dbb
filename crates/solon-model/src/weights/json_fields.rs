//! Fields of a JSON object that came from outside, with errors that name file and field.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::WeightsError;

/// A JSON object and the file it came from.
pub(super) struct Fields<'a> {
    pub(super) path: &'a Path,
    pub(super) fields: &'a Map<String, Value>,
}

impl Fields<'_> {
    /// The value, where it is there and not null.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn unsupported(&self, field: &str, hint: &str) -> WeightsError {
        WeightsError::unsupported(
            self.path,
            field,
            short(self.fields.get(field).unwrap_or(&Value::Null)),
            hint,
        )
    }

    pub(super) fn wrong(&self, field: &str, wanted: &str) -> WeightsError {
        let found = short(self.fields.get(field).unwrap_or(&Value::Null));
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let hint = format!("correct it in {file}");
        WeightsError::invalid(self.path, field, format!("{found} is no {wanted}"), hint)
    }

    pub(super) fn integer(&self, field: &str) -> Result<Option<usize>, WeightsError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let integer = value.as_u64().and_then(|integer| usize::try_from(integer).ok());
        integer.map(Some).ok_or_else(|| self.wrong(field, "whole number"))
    }

    pub(super) fn required(&self, field: &str) -> Result<usize, WeightsError> {
        let absent =
            || WeightsError::invalid(self.path, field, "absent", "add it from the published config.json");
        self.integer(field)?.ok_or_else(absent)
    }

    pub(super) fn number(&self, field: &str) -> Result<Option<f32>, WeightsError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.wrong(field, "finite number"))
    }

    pub(super) fn boolean(&self, field: &str) -> Result<Option<bool>, WeightsError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(field, "true or false"))
    }
}

/// A value as it may stand in a message.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The shortest decimal that reads back as this f32, where `f64::from` would write 9.999999747378752e-06 for 1e-5.
pub(super) fn number(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value)))
}
