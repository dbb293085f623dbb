//! Votes on pairs that people cast in other programs: CSV tables and Argilla's exports.
//!
//! Contract: a row becomes a pair of answers with the votes on it, or the file is refused with its row and column. A column is either
//! read, or one that the format documents as no part of a vote, or named by the caller in `ignore`; any other is refused by name, because
//! it may change what the vote means. Responses that a person did not submit are counted and left out.

mod argilla;
mod csv;

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use solon_records::Message;

use crate::DataError;

/// The largest file that is read: 1 GiB.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// A pair of answers with the votes on it, as one row has them.
#[derive(Debug, Clone, PartialEq)]
pub struct VotedPair {
    /// The row: a line of a CSV or JSON Lines file, or the number of a record in a JSON array; from 1.
    pub row: usize,
    /// The id in the file, if any.
    pub id: Option<String>,
    /// The conversation both answer.
    pub prompt: Vec<Message>,
    /// One answer.
    pub first: String,
    /// The other.
    pub second: String,
    /// The votes; none where the row has no label.
    pub votes: Vec<ForeignVote>,
}

/// A vote from another program.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignVote {
    /// Who voted, if the file says so.
    pub annotator: Option<String>,
    /// P(first is better): 1, 0, or 0.5 for a tie.
    pub probability: f64,
}

/// What a file of votes holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ForeignVotes {
    /// Its rows.
    pub pairs: Vec<VotedPair>,
    /// Responses that are drafts or were discarded.
    pub not_submitted: usize,
}

/// Reads votes: `.csv` as a table, `.json` and `.jsonl` as an export of Argilla.
///
/// A table has `prompt`, and `chosen` and `rejected`, or `response_a`, `response_b` and `label`: `a`, `b`, `tie`, or nothing where
/// nobody voted (`response_a` and `response_b` are read as `a` and `b`). `annotator` and `id` are optional.
///
/// Of Argilla all three forms are read: the records of `to_json` or `to_disk` (2.x), the rows of `to_datasets` (2.x), and those of
/// `format_as("datasets")` (1.x). The prompt is the field `prompt`, `instruction` or `input`; two other fields are the answers; one
/// ranking or label question is about them. Its values are the names of the answers' fields or their last parts (`response_1` or `1`),
/// and `tie`. Suggestions, metadata and vectors are no votes.
///
/// # Errors
/// [`DataError::Io`] if the file cannot be read; [`DataError::Line`] and [`DataError::Format`] for what is not in these forms.
pub fn read_foreign_votes(path: &Path, ignore: &[String]) -> Result<ForeignVotes, DataError> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let ignored: HashSet<&str> = ignore.iter().map(String::as_str).collect();
    match ending.to_ascii_lowercase().as_str() {
        "csv" => csv::read(path, &text(path)?, &ignored),
        "json" | "jsonl" => argilla::read(path, &text(path)?, &ignored),
        _ => Err(DataError::Format {
            path: path.to_path_buf(),
            message: "is of no known form; give a .csv table, or a .json or .jsonl export of Argilla".into(),
        }),
    }
}

fn text(path: &Path) -> Result<String, DataError> {
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    let refuse = |message: String| DataError::Format { path: path.to_path_buf(), message };
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refuse(format!("is larger than {} GiB; split it", MAX_FILE_BYTES >> 30)));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        refuse(format!("is not UTF-8 at byte {}; save it as UTF-8", error.utf8_error().valid_up_to() + 1))
    })?;
    // Excel and others put a mark before the first name.
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// Refuses to ignore what is not there: it is a misspelt name.
fn never_there(path: &Path, names: &HashSet<&str>) -> Result<(), DataError> {
    match names.iter().min() {
        Some(name) => Err(DataError::Format {
            path: path.to_path_buf(),
            message: format!("has no column `{name}` to ignore"),
        }),
        None => Ok(()),
    }
}

/// What to do about a column that is not read.
const IGNORE_HINT: &str = "\nhint: take it out, or give `--ignore-column NAME` if it does not matter";

#[cfg(test)]
mod tests;
