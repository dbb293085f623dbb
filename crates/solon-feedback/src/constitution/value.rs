//! A value of a TOML or JSON file, before anything is known of what it means.
//!
//! Contract: a JSON object keeps its order, and a key that occurs twice is refused at any depth (serde_json would keep
//! the last silently). Nesting is bounded by both parsers, so that a hostile file cannot exhaust the stack.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::FeedbackError;

/// What a constitution may hold, and by name what it may not.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    List(Vec<Value>),
    Table(Vec<(String, Value)>),
    /// A value of this type, which no field takes.
    Other(&'static str),
}

impl Value {
    /// The name of its type, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "string",
            Value::Integer(_) => "integer",
            Value::Float(_) => "float",
            Value::List(_) => "list",
            Value::Table(_) => "table",
            Value::Other(kind) => kind,
        }
    }

    /// Reads JSON; `path` names it in errors.
    pub(super) fn from_json(text: &str, path: &Path) -> Result<Self, FeedbackError> {
        serde_json::from_str(text).map_err(|error| FeedbackError::Malformed {
            path: path.into(),
            reason: format!("not valid JSON: {error}"),
        })
    }

    /// Reads TOML; `path` names it in errors.
    pub(super) fn from_toml(text: &str, path: &Path) -> Result<Self, FeedbackError> {
        let table: toml::Table = toml::from_str(text).map_err(|error| FeedbackError::Malformed {
            path: path.into(),
            reason: format!("not valid TOML: {error}"),
        })?;
        Ok(Value::from(toml::Value::Table(table)))
    }
}

impl From<toml::Value> for Value {
    fn from(value: toml::Value) -> Self {
        match value {
            toml::Value::String(text) => Value::Text(text),
            toml::Value::Integer(number) => Value::Integer(number),
            toml::Value::Float(number) => Value::Float(number),
            toml::Value::Boolean(_) => Value::Other("boolean"),
            toml::Value::Datetime(_) => Value::Other("datetime"),
            toml::Value::Array(values) => Value::List(values.into_iter().map(Value::from).collect()),
            toml::Value::Table(table) => {
                Value::Table(table.into_iter().map(|(key, value)| (key, Value::from(value))).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other("boolean"))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Other("null"))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = values.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (mut table, mut seen) = (Vec::new(), HashSet::new());
        while let Some((key, value)) = entries.next_entry::<String, Value>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("the key {key:?} occurs twice in one object")));
            }
            table.push((key, value));
        }
        Ok(Value::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_order_and_refuses_what_it_would_lose() {
        let read = |text: &str| Value::from_json(text, Path::new("a.json"));
        let table = |pairs: &[(&str, Value)]| {
            Value::Table(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
        };
        assert_eq!(
            read(r#"{"b": 1, "a": [2.5, "x", null, true]}"#).unwrap(),
            table(&[
                ("b", Value::Integer(1)),
                (
                    "a",
                    Value::List(vec![
                        Value::Float(2.5),
                        Value::Text("x".into()),
                        Value::Other("null"),
                        Value::Other("boolean")
                    ])
                )
            ])
        );
        for (text, said) in [
            (r#"{"a": [{"b": 1, "c": 2, "b": 3}]}"#.to_owned(), "\"b\" occurs twice"),
            (r#"{"a": 1"#.to_owned(), "line 1"),
            ("[1] 2".to_owned(), "trailing"),
            ("[".repeat(100_000), "recursion"),
            (format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)), "recursion"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("a.json"), "{error}");
        }
    }

    #[test]
    fn deep_toml_is_refused() {
        let deep = format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let error = Value::from_toml(&deep, Path::new("a.toml")).unwrap_err().to_string();
        assert!(error.contains("a.toml"), "{error}");
        let read = Value::from_toml("a = 2026-01-01\nb = true", Path::new("a.toml")).unwrap();
        let Value::Table(table) = read else { panic!("{read:?}") };
        assert_eq!(table.iter().map(|(_, value)| value.kind()).collect::<Vec<_>>(), ["datetime", "boolean"]);
    }
}
