//! Rows of data files: JSON, CSV, Parquet or Arrow, compressed or not.
//!
//! Contract: whatever the file is, a row is an object with named columns, and its place in the file is known. The file's format is
//! recognised by its content, and by its name only where the content does not say; a text without a name's ending, as from a pipe, is CSV. Rows are given one by one in their order. A reader takes
//! the columns it knows; the others are named afterwards and are never read. Files come from outside, so no bytes may cause a panic.

mod csv;
mod json;
mod row;
mod scan;
mod tables;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use row::{Fault, Row, Shape};

use crate::DataError;
use crate::input::{Content, Input, Packing};

/// What is done with each row.
type Visit<'a> = &'a mut dyn FnMut(Row) -> Result<(), DataError>;

/// The format of a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// One JSON object on each line.
    JsonLines,
    /// An array of JSON objects.
    JsonArray,
    /// JSON objects over several lines, one after another.
    IndentedJson,
    /// Comma-separated values with a header.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// Apache Arrow, as a file or a stream.
    Arrow,
}

impl fmt::Display for FileFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::JsonLines => "JSON Lines",
            Self::JsonArray => "a JSON array",
            Self::IndentedJson => "indented JSON",
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow",
        })
    }
}

/// Where a row is in its file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The line in which it begins, as an editor shows it; the only row of that line.
    Line(usize),
    /// The row, and the line in which it begins. Other rows may begin in that line.
    Record {
        /// The row.
        row: usize,
        /// The line.
        line: usize,
    },
    /// The row of a table that has no lines.
    Row(usize),
}

impl Place {
    /// The error of a row in this place.
    pub(crate) fn fault(self, path: &Path, fault: impl Into<Fault>) -> DataError {
        let Fault { lines_down, message } = fault.into();
        match self {
            Self::Line(line) | Self::Record { line, .. } => DataError::line(path, line + lines_down, message),
            Self::Row(row) => DataError::Row { path: path.to_path_buf(), row, message },
        }
    }

    /// The id of a row that has none.
    pub(crate) fn id(self) -> String {
        match self {
            Self::Line(line) => format!("line-{line}"),
            Self::Record { row, .. } | Self::Row(row) => format!("row-{row}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(formatter, "line {line}"),
            Self::Record { row, line } => write!(formatter, "row {row} (line {line})"),
            Self::Row(row) => write!(formatter, "row {row}"),
        }
    }
}

/// Gives every row of a file to `visit`.
///
/// # Errors
/// [`DataError::Io`] if the file cannot be read; [`DataError::Format`] if it is not one of the formats; [`DataError::Line`] or
/// [`DataError::Row`] for the first row that is none, and what `visit` returns.
pub(crate) fn read_rows(path: &Path, visit: Visit<'_>) -> Result<(FileFormat, Option<Packing>), DataError> {
    let input = Input::open(path)?;
    let packing = input.packing;
    let format = match input.content {
        Content::JsonArray | Content::JsonObject => json::read(path, input, visit)?,
        Content::Parquet => tables::parquet(path, packing, visit)?,
        Content::Arrow => tables::arrow(path, input.reader, visit)?,
        Content::Text | Content::Unknown if path.extension().is_none() => {
            csv::read(path, input.reader, visit)?
        }
        _ if named(path, "csv") => csv::read(path, input.reader, visit)?,
        content => json::read(path, input, visit).map_err(|error| hinted(error, content))?,
    };
    Ok((format, packing))
}

/// The error of a file that does not begin as rows of JSON do, with what may be given.
fn hinted(mut error: DataError, content: Content) -> DataError {
    if let DataError::Line { message, .. } = &mut error {
        if content == Content::Text {
            message.insert_str(0, "this is plain text, not rows: ");
        }
        message.push_str(
            "\nhint: data is JSON Lines, a JSON array, Parquet, Arrow, or CSV in a file whose name ends in .csv",
        );
    }
    error
}

/// Whether a file's name ends so, before an ending that says how it is compressed.
fn named(path: &Path, ending: &str) -> bool {
    let ends =
        |path: &Path, wanted: &str| path.extension().is_some_and(|one| one.eq_ignore_ascii_case(wanted));
    let inner = match ["gz", "zst"].iter().any(|packed| ends(path, packed)) {
        true => path.with_extension(""),
        false => PathBuf::from(path),
    };
    ends(&inner, ending)
}

#[cfg(test)]
mod tests;
