//! Readers of the file formats of prompts, demonstrations and preferences.
//!
//! Contract: a file in any of TRL's formats (or HH-RLHF's) becomes one type for each purpose:
//! [`Prompt`](solon_records::Prompt), [`Demonstration`](solon_records::Demonstration),
//! [`Preference`](solon_records::Preference). Nothing is guessed. A row is refused, with its file, line and field, if
//! it could mean two things, or if it would train on something else than the user expects. Unused columns are ignored,
//! because datasets have many. Texts are kept unchanged; only HH-RLHF's turns are trimmed.
//!
//! Source: <https://huggingface.co/docs/trl/dataset_formats>; <https://github.com/anthropics/hh-rlhf>.

mod demonstration;
mod hh;
mod preference;
mod prompt;
mod turns;
mod votes;

use std::collections::HashMap;
use std::path::Path;

use serde::de::DeserializeOwned;

pub use demonstration::read_demonstrations;
pub use preference::{LabelRow, parse_preference, read_labels, read_pairs, read_preferences};
pub use prompt::read_prompts;
pub use votes::{ForeignVote, ForeignVotes, VotedPair, read_foreign_votes};

use crate::DataError;
use crate::jsonl::read_jsonl_numbered;

/// A row as it is in the file.
trait Raw: DeserializeOwned {
    type Record;
    /// The id in the file, if any.
    fn id(&mut self) -> Option<String>;
    /// The record, or the fault of the row.
    fn normalise(self, id: String) -> Result<Self::Record, String>;
}

/// Ids become keys in the ledger, so they must be unique in a file.
fn read_records<R: Raw>(path: &Path) -> Result<Vec<R::Record>, DataError> {
    let mut records = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    for row in read_jsonl_numbered::<R>(path)? {
        let (line, mut raw) = (row.line, row.value);
        let id = raw.id().unwrap_or_else(|| format!("line-{line}"));
        if let Some(first) = lines.insert(id.clone(), line) {
            let message = format!("field `id`: `{id}` is already the id of line {first}; ids must be unique");
            return Err(DataError::line(path, line, message));
        }
        records.push(raw.normalise(id).map_err(|message| DataError::line(path, line, message))?);
    }
    Ok(records)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Reads `text` as a file with `read`; errors are given without the folder's name.
    pub(crate) fn from_text<T>(
        read: impl FnOnce(&Path) -> Result<Vec<T>, DataError>,
        text: &str,
    ) -> Result<Vec<T>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn ids_are_derived_from_the_line_and_may_not_repeat() {
        let records = from_text(read_prompts, "\n{\"prompt\":\"a\"}\n{\"id\":7,\"prompt\":\"b\"}\n").unwrap();
        assert_eq!(records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["line-2", "7"]);
        let error =
            from_text(read_prompts, "{\"prompt\":\"a\"}\n{\"id\":\"line-1\",\"prompt\":\"b\"}").unwrap_err();
        assert_eq!(error, "f.jsonl:2: field `id`: `line-1` is already the id of line 1; ids must be unique");
        let error = from_text(read_prompts, r#"{"id":"","prompt":"a"}"#).unwrap_err();
        assert!(error.starts_with("f.jsonl:1: field `id`: "), "{error}");
    }
}
