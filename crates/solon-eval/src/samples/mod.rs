//! Files of results item by item, as `solon eval --samples` or another harness wrote them, and their comparison.
//!
//! Contract: [`read`] turns a file, or a harness's folder of files, into [`Sample`]s; [`compare_samples`] pairs two of them. No
//! model and no benchmark is opened, so what a file does not say stays unknown. Files are untrusted: an error names file and
//! line. One file for each form that is read: `own.rs`, `harness.rs`.

mod compare;
mod harness;
mod own;
mod pairing;

pub use compare::{Choices, Differing, FigureRow, LogProbs, SampleComparison, Side, compare_samples};

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::benchmark::Outcome;
use crate::error::EvalError;

/// What a file says of one item.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The item's id as Solon writes it, such as `anatomy/0`.
    pub id: String,
    /// The question in the forms in which another file may hold it; empty where the file does not hold it.
    pub questions: Vec<String>,
    /// The place of the option that was chosen, where options were scored.
    pub choice: Option<usize>,
    /// The log-prob of each option in nats; NaN where the file has no number.
    pub log_probs: Vec<f64>,
    /// The place of the right option, where the file tells and there is one.
    pub right: Option<usize>,
    /// The answer, where one was written.
    pub answer: Option<String>,
    /// What was found of the answer, by the name of the measure.
    pub figures: BTreeMap<String, Outcome>,
}

/// Which program wrote a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `solon eval --samples`.
    Solon,
    /// lm-evaluation-harness's `--log_samples`.
    LmEvaluationHarness,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// The file or folder as it was given.
    pub path: PathBuf,
    /// Who wrote it.
    pub form: Form,
    /// In the order of the file; ids are unique.
    pub rows: Vec<Sample>,
}

/// What files there are, for errors.
const HINT: &str = "hint: give the file that `solon eval --samples` wrote, or lm-evaluation-harness's samples_TASK_DATE.jsonl \
     (`--log_samples`) or the folder that holds several of them";

/// A row of either form.
enum Row {
    Own(own::Row),
    Harness(Box<harness::Row>),
}

/// Reads a file, or the harness's files in a folder.
///
/// Errors name the file and the line: it is not JSON, of neither form, or an id stands twice.
pub fn read(path: &Path) -> Result<Samples, EvalError> {
    let files = if path.is_dir() { harness::files(path)? } else { vec![path.to_owned()] };
    let mut samples = Samples { path: path.to_owned(), form: Form::Solon, rows: Vec::new() };
    let mut seen: HashMap<String, (PathBuf, u64)> = HashMap::new();
    for file in files {
        let task = harness::task(&file);
        let mut form = None;
        for_each_line(&file, |line, text| {
            let wrong = |reason: String| EvalError::Row { path: file.clone(), line, reason };
            let (found, sample) = match row(text).map_err(wrong)? {
                Row::Own(row) => (Form::Solon, row.sample()),
                Row::Harness(row) => (Form::LmEvaluationHarness, row.sample(task.as_deref()).map_err(wrong)?),
            };
            if *form.get_or_insert(found) != found {
                let what = format!("this row is of another program than those before it\n{HINT}");
                return Err(wrong(what));
            }
            samples.form = found;
            if let Some((file, first)) = seen.insert(sample.id.clone(), (file.clone(), line)) {
                let first = format!("{}, line {first}", file.display());
                let what =
                    format!("{:?} stands in {first} already\nhint: give the results of one run", sample.id);
                return Err(wrong(what));
            }
            samples.rows.push(sample);
            Ok(())
        })?;
        if form.is_none() {
            let reason = format!("the file has no rows\n{HINT}");
            return Err(EvalError::File { path: file, reason });
        }
    }
    Ok(samples)
}

/// Calls `each` with the number of every line that is not empty, from 1, and its text.
fn for_each_line(
    path: &Path,
    mut each: impl FnMut(u64, &str) -> Result<(), EvalError>,
) -> Result<(), EvalError> {
    let file = File::open(path)
        .map_err(|error| EvalError::File { path: path.to_owned(), reason: format!("{error}\n{HINT}") })?;
    for (place, line) in BufReader::new(file).lines().enumerate() {
        let number = place as u64 + 1;
        let line = line.map_err(|error| EvalError::Row {
            path: path.to_owned(),
            line: number,
            reason: format!("{error}\n{HINT}"),
        })?;
        if !line.trim().is_empty() {
            each(number, &line)?;
        }
    }
    Ok(())
}

/// A line as a row of the form whose keys it has.
fn row(text: &str) -> Result<Row, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("this line is not JSON: {error}\n{HINT}"))?;
    let typed = |error: serde_json::Error| format!("{error}\n{HINT}");
    let has = |key: &str| value.get(key).is_some();
    if has("doc_id") {
        return harness::Row::deserialize(&value).map(|row| Row::Harness(Box::new(row))).map_err(typed);
    }
    if has("id") && (has("loglikelihoods") || has("outcomes")) {
        return own::Row::deserialize(&value).map(Row::Own).map_err(typed);
    }
    Err(format!("this row is neither of Solon's samples nor of the harness's\n{HINT}"))
}

/// The place of the largest log-prob.
fn likeliest(log_probs: &[f64]) -> Option<usize> {
    crate::options::argmax(log_probs.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with this text, in a folder of its own.
    pub(super) fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_no_file_of_samples_is_named_by_its_line() {
        let short = r#"{"id": "a/0", "choice": 0, "loglikelihoods": [-1.0]}"#;
        let theirs = r#"{"doc_id": 0, "target": "0", "filtered_resps": [["-1.0", "True"]]}"#;
        for (text, expected) in [
            (String::new(), "the file has no rows"),
            ("\n \n".to_owned(), "the file has no rows"),
            (format!("{short}\nnonsense"), ", line 2: this line is not JSON"),
            ("[1, 2]".to_owned(), ", line 1: this row is neither of"),
            (format!("\n{{\"id\": \"a\"}}\n{short}"), ", line 2: this row is neither of"),
            (format!("{short}\n{short}"), ", line 2: \"a/0\" stands in"),
            (format!("{short}\n{theirs}"), ", line 2: this row is of another program"),
            (r#"{"id": 3, "loglikelihoods": []}"#.to_owned(), ", line 1: invalid type: integer `3`"),
            (r#"{"id": "a", "loglikelihoods": ["x"]}"#.to_owned(), ", line 1: invalid type: string"),
            (r#"{"doc_id": 0, "filtered_resps": [["much", "True"]]}"#.to_owned(), "\"much\" is no log-prob"),
            (r#"{"doc_id": -1}"#.to_owned(), ", line 1: invalid value: integer `-1`"),
        ] {
            let (_folder, path) = file("samples.jsonl", &text);
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("hint: "), "{text}: {error}");
            assert!(error.starts_with(&path.display().to_string()), "{error}");
        }
        let (_folder, path) = file("samples.jsonl", "");
        std::fs::write(&path, [0xff, 0xfe, 0x0a]).unwrap();
        assert!(
            read(&path).unwrap_err().to_string().contains(", line 1: stream did not contain valid UTF-8")
        );
        let gone = read(&path.with_file_name("gone.jsonl")).unwrap_err().to_string();
        assert!(gone.contains("gone.jsonl: No such file"), "{gone}");
    }
}
