//! MMLU's files: the subjects of a folder, and the questions of a subject.
//!
//! Contract: one CSV a subject and split (`test/anatomy_test.csv`), with or without a header; or Parquet as on the Hugging Face Hub,
//! in a folder for each subject (`anatomy/test-00000-of-00001.parquet`) or all together with a column `subject`. The answer is a letter
//! or a number. Errors name file and row. A folder with none of the official subjects has its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use solon_tables::{ParquetRows, TableError};

use super::{GROUPS, KNOWN, LETTERS};
use crate::benchmark::Group;
use crate::error::EvalError;

/// The subjects of each of [`GROUPS`], as lm-evaluation-harness groups them.
pub(super) const SUBJECTS: [&[&str]; 4] = [
    &[
        "abstract_algebra",
        "anatomy",
        "astronomy",
        "college_biology",
        "college_chemistry",
        "college_computer_science",
        "college_mathematics",
        "college_physics",
        "computer_security",
        "conceptual_physics",
        "electrical_engineering",
        "elementary_mathematics",
        "high_school_biology",
        "high_school_chemistry",
        "high_school_computer_science",
        "high_school_mathematics",
        "high_school_physics",
        "high_school_statistics",
        "machine_learning",
    ],
    &[
        "formal_logic",
        "high_school_european_history",
        "high_school_us_history",
        "high_school_world_history",
        "international_law",
        "jurisprudence",
        "logical_fallacies",
        "moral_disputes",
        "moral_scenarios",
        "philosophy",
        "prehistory",
        "professional_law",
        "world_religions",
    ],
    &[
        "econometrics",
        "high_school_geography",
        "high_school_government_and_politics",
        "high_school_macroeconomics",
        "high_school_microeconomics",
        "high_school_psychology",
        "human_sexuality",
        "professional_psychology",
        "public_relations",
        "security_studies",
        "sociology",
        "us_foreign_policy",
    ],
    &[
        "business_ethics",
        "clinical_knowledge",
        "college_medicine",
        "global_facts",
        "human_aging",
        "management",
        "marketing",
        "medical_genetics",
        "miscellaneous",
        "nutrition",
        "professional_accounting",
        "professional_medicine",
        "virology",
    ],
];

/// One row of a file.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) question: String,
    pub(super) choices: [String; 4],
    pub(super) answer: usize,
}

/// The folder that a benchmark reads, and how its files lie in it.
pub(super) struct Files {
    folder: PathBuf,
    layout: Layout,
}

enum Layout {
    /// `test/anatomy_test.csv`.
    Csv,
    /// `anatomy/test-00000-of-00001.parquet`.
    Apart,
    /// `all/test-00000-of-00001.parquet`, in `all`, `data` or the folder itself; the questions of each split by subject.
    Together(BTreeMap<&'static str, BTreeMap<String, Vec<Question>>>),
}

const SPLITS: [&str; 2] = ["test", "dev"];
/// The folders of the Hub's copy that are no subjects.
const NO_SUBJECTS: [&str; 3] = ["all", "data", "auxiliary_train"];

impl Files {
    /// The files of a folder, and the subjects they are about with their groups. These are MMLU's 57; a folder with none of them
    /// has its own, all in the group of other subjects.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<(String, Group)>), EvalError> {
        let (layout, mut found) = layout(folder)?;
        let official = SUBJECTS
            .iter()
            .zip(GROUPS)
            .flat_map(|(subjects, group)| subjects.iter().map(move |s| (*s, group)));
        let official: Vec<(String, Group)> =
            official.map(|(subject, group)| (subject.to_owned(), group)).collect();
        let files = Self { folder: folder.to_owned(), layout };
        if found.iter().any(|found| official.iter().any(|(known, _)| known == found)) {
            return Ok((files, official));
        }
        found.sort();
        Ok((files, found.into_iter().map(|subject| (subject, GROUPS[3])).collect()))
    }

    /// The first questions of a subject's `dev` split.
    pub(super) fn examples(&self, subject: &str, shots: usize) -> Result<Vec<Question>, EvalError> {
        let mut dev = self.questions("dev", subject)?;
        if dev.len() < shots {
            let reason = format!(
                "shots = {shots}, but the `dev` file of {subject} has {} questions\nhint: lower `shots`",
                dev.len()
            );
            return Err(EvalError::Settings { benchmark: KNOWN.name.to_owned(), reason });
        }
        dev.truncate(shots);
        Ok(dev)
    }

    /// The questions of a subject and split; there is at least one.
    pub(super) fn questions(&self, split: &str, subject: &str) -> Result<Vec<Question>, EvalError> {
        match &self.layout {
            Layout::Csv => csv_questions(&self.folder.join(split).join(format!("{subject}_{split}.csv"))),
            Layout::Apart => {
                let folder = self.folder.join(subject);
                let mut questions = Vec::new();
                for file in parquet_files(&folder, split)? {
                    questions.extend(
                        table_questions(&file, Some(subject))?.into_iter().map(|(_, question)| question),
                    );
                }
                match questions.is_empty() {
                    true => Err(EvalError::File {
                        path: folder,
                        reason: format!("there are no questions of `{split}`"),
                    }),
                    false => Ok(questions),
                }
            }
            Layout::Together(splits) => {
                let questions = splits.get(split).and_then(|subjects| subjects.get(subject)).cloned();
                questions.ok_or_else(|| EvalError::File {
                    path: self.folder.clone(),
                    reason: format!("there are no questions of `{split}` in the subject {subject}"),
                })
            }
        }
    }
}

/// How the files lie in a folder, and the subjects that have a file.
fn layout(folder: &Path) -> Result<(Layout, Vec<String>), EvalError> {
    let subject = |name: &str| name.strip_suffix("_test.csv").map(str::to_owned);
    let test = folder.join("test");
    if test.is_dir() {
        let csv: Vec<String> = names(&test)?.iter().filter_map(|name| subject(name)).collect();
        return match csv.is_empty() {
            true => Err(EvalError::File { path: test, reason: "there is no SUBJECT_test.csv".to_owned() }),
            false => Ok((Layout::Csv, csv)),
        };
    }
    let mut apart = Vec::new();
    for name in names(folder)? {
        let is_subject = !NO_SUBJECTS.contains(&name.as_str()) && folder.join(&name).is_dir();
        if is_subject && !parquet_files(&folder.join(&name), "test")?.is_empty() {
            apart.push(name);
        }
    }
    if !apart.is_empty() {
        return Ok((Layout::Apart, apart));
    }
    let mut splits = BTreeMap::new();
    for split in SPLITS {
        let mut subjects: BTreeMap<String, Vec<Question>> = BTreeMap::new();
        for place in [folder.join("all"), folder.join("data"), folder.to_owned()] {
            let files = if place.is_dir() { parquet_files(&place, split)? } else { Vec::new() };
            for file in &files {
                for (subject, question) in table_questions(file, None)? {
                    subjects.entry(subject).or_default().push(question);
                }
            }
            if !files.is_empty() {
                break;
            }
        }
        splits.insert(split, subjects);
    }
    let found: Vec<String> = splits["test"].keys().cloned().collect();
    if found.is_empty() {
        let reason = "there are no questions\nhint: give the folder that holds `test` with a CSV for each subject, or the Parquet files of the Hub";
        return Err(EvalError::File { path: folder.to_owned(), reason: reason.to_owned() });
    }
    Ok((Layout::Together(splits), found))
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, EvalError> {
    let wrong =
        |error: std::io::Error| EvalError::File { path: folder.to_owned(), reason: error.to_string() };
    let entries = std::fs::read_dir(folder).map_err(wrong)?;
    let names: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
    let mut names: Vec<String> =
        names.map_err(wrong)?.into_iter().filter_map(|name| name.into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// The Parquet files of a split in a folder: `test.parquet`, or `test-00000-of-00002.parquet` and so on, in order.
fn parquet_files(folder: &Path, split: &str) -> Result<Vec<PathBuf>, EvalError> {
    let is_of_split = |name: &String| {
        let stem = name.strip_suffix(".parquet").and_then(|stem| stem.strip_prefix(split));
        stem.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    Ok(names(folder)?.iter().filter(|name| is_of_split(name)).map(|name| folder.join(name)).collect())
}

/// The questions of a Parquet file with their subjects: `question`, `choices`, `answer` and, unless the file is of one subject, `subject`.
fn table_questions(path: &Path, subject: Option<&str>) -> Result<Vec<(String, Question)>, EvalError> {
    let unreadable = |error: TableError| EvalError::File { path: path.to_owned(), reason: error.reason };
    let rows = ParquetRows::open(path).map_err(unreadable)?;
    let question = |(place, row): (usize, Result<Map<String, Value>, TableError>)| {
        let row = row.map_err(unreadable)?;
        let wrong = |reason: String| EvalError::File {
            path: path.to_owned(),
            reason: format!("row {}: {reason}", place + 1),
        };
        let text = |column: &str| row.get(column).and_then(Value::as_str);
        let own =
            text("subject").or(subject).ok_or_else(|| wrong("there is no text in `subject`".to_owned()))?;
        if subject.is_some_and(|subject| subject != own) {
            return Err(wrong(format!("the subject is {own:?}, but the folder is of another")));
        }
        let question = text("question").ok_or_else(|| wrong("there is no text in `question`".to_owned()))?;
        let choices = row.get("choices").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let choices: Vec<String> = choices.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let choices: [String; 4] = choices.try_into().map_err(|found: Vec<String>| {
            wrong(format!("`choices` has {} texts; it needs four", found.len()))
        })?;
        let answer = match row.get("answer") {
            Some(Value::String(letter)) => letter.clone(),
            Some(value) => value.to_string(),
            None => return Err(wrong("there is no `answer`".to_owned())),
        };
        Ok((own.to_owned(), checked(question, choices, &answer).map_err(wrong)?))
    };
    rows.enumerate().map(question).collect()
}

/// The questions of a subject's CSV.
fn csv_questions(path: &Path) -> Result<Vec<Question>, EvalError> {
    let csv = |source| EvalError::Csv { path: path.to_owned(), source };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_path(path).map_err(csv)?;
    let mut questions = Vec::new();
    for (place, record) in reader.records().enumerate() {
        let record = record.map_err(csv)?;
        let fields: Vec<&str> = record.iter().collect();
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |reason: String| EvalError::Row { path: path.to_owned(), line, reason };
        let [question, a, b, c, d, answer] = fields[..] else {
            let reason = format!(
                "the row has {} columns; it needs six: the question, four choices and the answer",
                fields.len()
            );
            return Err(wrong(reason));
        };
        if place == 0 && question == "question" && answer == "answer" {
            continue;
        }
        questions.push(checked(question, [a, b, c, d].map(str::to_owned), answer).map_err(wrong)?);
    }
    if questions.is_empty() {
        return Err(EvalError::Row {
            path: path.to_owned(),
            line: 1,
            reason: "the file has no questions".to_owned(),
        });
    }
    Ok(questions)
}

/// A question, or what is wrong with it.
fn checked(question: &str, choices: [String; 4], answer: &str) -> Result<Question, String> {
    if question.trim().is_empty() {
        return Err("the question is empty".to_owned());
    }
    let place = |names: [&str; 4]| names.iter().position(|name| *name == answer.trim());
    let answer = place(LETTERS)
        .or(place(["0", "1", "2", "3"]))
        .ok_or_else(|| format!("the answer is {answer:?}; it must be one of A to D, or 0 to 3"))?;
    Ok(Question { question: question.to_owned(), choices, answer })
}
