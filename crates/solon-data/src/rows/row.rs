//! One row: columns that are taken by name, and what is wrong with them.
//!
//! Contract: [`Row::get`] and its like mark a column as used; [`Row::unused`] names the others. An error names the field, and the column
//! in the line where the file has lines.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};

use super::{Place, json, scan};
use crate::DataError;
use crate::jsonl::{MAX_LINE_BYTES, field};

/// What is wrong with a row.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    /// How many lines below the row's first one.
    pub lines_down: usize,
    /// What is wrong, naming the field, and what to do.
    pub message: String,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self { lines_down: 0, message }
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        Self::from(message.to_owned())
    }
}

/// What kind of value a column holds, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// There is no such column, it is null, or its cell is empty.
    Absent,
    Text,
    List,
    Object,
    /// A number, true or false.
    Other,
}

/// How the file holds what is in the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cells {
    /// As JSON; the row begins at this column of its first line.
    Json { column: usize },
    /// As typed values.
    Typed,
    /// As texts. A cell that must be something else holds it as JSON.
    Texts,
}

/// A row of a data file.
#[derive(Debug)]
pub(crate) struct Row {
    pub place: Place,
    /// An object, as it is in the file.
    text: String,
    /// `text` as JSON, if it holds numbers that JSON does not have.
    mended: Option<String>,
    fields: Vec<Field>,
    cells: Cells,
    /// Fields inside messages that are not used, in their order; and the same to look them up.
    inside: Vec<String>,
    known_inside: HashSet<String>,
}

#[derive(Debug)]
struct Field {
    name: String,
    value: Range<usize>,
    used: bool,
}

impl Row {
    /// A row from the text of a JSON object that begins at `column` of its line.
    pub fn from_json(path: &Path, place: Place, column: usize, text: String) -> Result<Self, DataError> {
        Self::new(place, text, Cells::Json { column }).map_err(|fault| place.fault(path, fault))
    }

    /// A row with typed values.
    pub fn from_values(place: Place, values: Map<String, Value>) -> Result<Self, Fault> {
        Self::from_typed(place, Value::Object(values).to_string())
    }

    /// A row with typed values, as the text of a JSON object.
    pub fn from_typed(place: Place, text: String) -> Result<Self, Fault> {
        Self::new(place, text, Cells::Typed)
    }

    /// A row of texts.
    pub fn from_texts(place: Place, texts: Map<String, Value>) -> Result<Self, Fault> {
        Self::new(place, Value::Object(texts).to_string(), Cells::Texts)
    }

    fn new(place: Place, text: String, cells: Cells) -> Result<Self, Fault> {
        if text.len() > MAX_LINE_BYTES {
            return Err(json::too_long().into());
        }
        let mut row = Self {
            place,
            text,
            mended: None,
            fields: Vec::new(),
            cells,
            inside: Vec::new(),
            known_inside: HashSet::new(),
        };
        if let Err(error) = serde_json::from_str::<IgnoredAny>(&row.text) {
            row.mended = scan::without_no_numbers(&row.text);
            let mended = row.mended.as_deref().map(serde_json::from_str::<IgnoredAny>);
            match mended {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(row.fault(0, &row.text, &error)),
                None => return Err(row.fault(0, &row.text, &error)),
            }
        }
        if !row.json().trim_start().starts_with('{') {
            let value: String = row.text.trim().chars().take(40).collect();
            return Err(
                format!("`{value}` is no row; each row must be an object, `{{\"column\": …}}`").into()
            );
        }
        let fields = scan::fields(row.json());
        row.fields = fields.into_iter().map(|(name, value)| Field { name, value, used: false }).collect();
        Ok(row)
    }

    fn json(&self) -> &str {
        self.mended.as_deref().unwrap_or(&self.text)
    }

    /// The error of a parser of `slice`, which begins at `start` of the text.
    fn fault(&self, start: usize, slice: &str, error: &serde_json::Error) -> Fault {
        // serde counts lines and columns of the slice; the column is that of the last byte it read. An error that says what is wrong
        // with a value has no place where the value is the whole slice.
        let lines_before = slice.split_inclusive('\n').take(error.line().saturating_sub(1));
        let read = match error.line() {
            0 => slice.len(),
            _ => lines_before.map(str::len).sum::<usize>() + error.column(),
        };
        let found = field::find(&self.text, start + read, error);
        let before =
            self.text.as_bytes().get(..found.offset.saturating_sub(1)).unwrap_or(self.text.as_bytes());
        let lines_down = before.iter().filter(|byte| **byte == b'\n').count();
        match self.cells {
            Cells::Json { column } => {
                let in_line = match before.iter().rposition(|byte| *byte == b'\n') {
                    Some(end) => found.offset - end - 1,
                    None => found.offset + column - 1,
                };
                Fault { lines_down, message: format!("{} (column {in_line})", found.message) }
            }
            Cells::Typed | Cells::Texts => found.message.into(),
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        self.json().get(field.value.clone())
    }

    /// What kind of value a column holds. This does not use it.
    pub fn shape(&self, name: &str) -> Shape {
        self.value(name).map_or(Shape::Absent, |value| self.shape_of(value))
    }

    fn shape_of(&self, value: &str) -> Shape {
        match value.as_bytes().first() {
            None | Some(b'n') => Shape::Absent,
            Some(b'"') if self.cells == Cells::Texts && value == "\"\"" => Shape::Absent,
            Some(b'"') if self.cells == Cells::Texts => match self.cell_as_json(value) {
                Some(json) if json.starts_with('[') => Shape::List,
                Some(json) if json.starts_with('{') => Shape::Object,
                _ => Shape::Text,
            },
            Some(b'"') => Shape::Text,
            Some(b'[') => Shape::List,
            Some(b'{') => Shape::Object,
            Some(_) => Shape::Other,
        }
    }

    /// Whether there is such a column with something in it.
    pub fn has(&self, name: &str) -> bool {
        self.shape(name) != Shape::Absent
    }

    /// The value of a column; none if it is not there or null.
    pub fn get<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Fault> {
        match self.has(name) {
            true => self.given(name),
            false => {
                self.used(name)?;
                Ok(None)
            }
        }
    }

    /// The value of a column that may be left out, but not be null.
    pub fn given<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Fault> {
        self.used(name)?;
        let Some(field) = self.fields.iter().find(|field| field.name == name) else {
            return Ok(None);
        };
        let range = field.value.clone();
        let slice = self.json().get(range.clone()).unwrap_or_default();
        let read = serde_json::from_str::<T>(slice);
        match (read, self.cells) {
            (Ok(value), Cells::Texts) if self.has(name) => Ok(Some(value)),
            (_, Cells::Texts) if !self.has(name) => Ok(None),
            (Ok(value), _) => Ok(Some(value)),
            (Err(error), Cells::Texts) => self.cell(name, slice, &error).map(Some),
            (Err(error), _) => Err(self.fault(range.start, slice, &error)),
        }
    }

    /// The value of a column that must be there.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Fault> {
        self.get(name)?.ok_or_else(|| format!("missing field `{name}`").into())
    }

    /// A cell that is no text: it holds JSON.
    fn cell<T: DeserializeOwned>(
        &self,
        name: &str,
        quoted: &str,
        as_text: &serde_json::Error,
    ) -> Result<T, Fault> {
        let wrong = |message: String| Fault::from(format!("field `{name}`: {message}"));
        let cell: String = serde_json::from_str(quoted).map_err(|error| wrong(error.to_string()))?;
        let json = match cell.trim() {
            "True" | "TRUE" => "true",
            "False" | "FALSE" => "false",
            other => other,
        };
        serde_json::from_str(json).map_err(|error| {
            if looks_like_python(json) {
                return wrong(PYTHON.to_owned());
            }
            if error.is_data() || json.starts_with(['[', '{']) {
                let found = field::find(json, error.column(), &error);
                return wrong(format!("the cell, read as JSON: {}", found.message));
            }
            let found = field::find(quoted, 0, as_text);
            wrong(found.message)
        })
    }

    /// A cell that holds a JSON list or object, where a text could stand too.
    fn cell_as_json(&self, quoted: &str) -> Option<String> {
        // Most cells are plain texts.
        let inner = quoted.strip_prefix('"')?.trim_start();
        if !inner.starts_with(['[', '{', '\\']) {
            return None;
        }
        let cell: String = serde_json::from_str(quoted).ok()?;
        let json = cell.trim();
        // A text may begin with a bracket, so only what could be messages is taken for more than a text.
        let messages =
            json.starts_with(['[', '{']) && (json.contains("\"role\"") || json.contains("\"from\""));
        (messages && serde_json::from_str::<IgnoredAny>(json).is_ok()).then(|| json.to_owned())
    }

    /// The value of a column that is a text or something else. In a file of texts it is read as JSON where it holds messages.
    pub fn text_or<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Fault> {
        if self.cells != Cells::Texts {
            return self.get(name);
        }
        let Some(quoted) = self.value(name).map(str::to_owned) else {
            return self.get(name);
        };
        let cell: String = serde_json::from_str(&quoted).unwrap_or_default();
        if looks_like_python(&cell) {
            return Err(format!("field `{name}`: {PYTHON}").into());
        }
        match self.cell_as_json(&quoted) {
            None => self.get(name),
            Some(json) => {
                self.used(name)?;
                serde_json::from_str(&json).map(Some).map_err(|error| {
                    let found = field::find(&json, error.column(), &error);
                    format!("field `{name}`: the cell, read as JSON: {}", found.message).into()
                })
            }
        }
    }

    /// Marks a column as used.
    pub fn used(&mut self, name: &str) -> Result<(), Fault> {
        let mut found = self.fields.iter_mut().filter(|field| field.name == name);
        if let Some(field) = found.next() {
            field.used = true;
        }
        match found.next() {
            Some(_) => Err(format!("field `{name}` is there twice").into()),
            None => Ok(()),
        }
    }

    /// Notes a field inside a column that is not used, such as `messages[].name`.
    pub fn not_used_inside(&mut self, field: String) {
        if self.known_inside.insert(field.clone()) {
            self.inside.push(field);
        }
    }

    /// The columns that nobody took and that hold something.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        let holds = |field: &Field| {
            let value = self.json().get(field.value.clone());
            value.is_some_and(|value| self.shape_of(value) != Shape::Absent)
        };
        let columns = self.fields.iter().filter(move |field| !field.used && holds(field));
        columns.map(|field| field.name.as_str()).chain(self.inside.iter().map(String::as_str))
    }
}

const PYTHON: &str = "holds a list as Python writes it, which is no JSON\nhint: `Dataset.to_csv` writes lists so; write the file with \
    `Dataset.to_json` or `Dataset.to_parquet` instead";

/// Whether a cell holds messages as Python's `str` writes them.
fn looks_like_python(cell: &str) -> bool {
    let cell = cell.trim_start();
    ["role", "content", "from", "value"].iter().any(|key| {
        ["[{'", "{'"].iter().any(|start| cell.strip_prefix(start).is_some_and(|rest| rest.starts_with(key)))
    })
}
