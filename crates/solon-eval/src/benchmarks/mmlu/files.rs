//! MMLU's files: the subjects of a folder, and the questions of a subject.
//!
//! Contract: one CSV a subject and split (`test/anatomy_test.csv`), with or without a header, the answer as a letter or a number.
//! Errors name file and line. A folder with none of the official subjects has its own.

use std::path::Path;

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
pub(super) struct Question {
    pub(super) question: String,
    pub(super) choices: [String; 4],
    pub(super) answer: usize,
}

/// The subjects that a folder is about, with their groups. They are MMLU's 57; a folder with none of these in `test` has its own,
/// one for each file there, in the group of other subjects.
pub(super) fn subjects(folder: &Path) -> Result<Vec<(String, Group)>, EvalError> {
    let test = folder.join("test");
    let official =
        SUBJECTS.iter().zip(GROUPS).flat_map(|(subjects, group)| subjects.iter().map(move |s| (*s, group)));
    let official: Vec<(String, Group)> =
        official.map(|(subject, group)| (subject.to_owned(), group)).collect();
    let wrong = |reason: String| EvalError::File { path: test.clone(), reason };
    let entries = std::fs::read_dir(&test)
        .map_err(|error| wrong(format!("{error}\nhint: give the folder that holds `test`")))?;
    let mut own = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| wrong(error.to_string()))?.file_name();
        let Some(subject) = name.to_str().and_then(|name| name.strip_suffix("_test.csv")) else { continue };
        if official.iter().any(|(known, _)| known == subject) {
            return Ok(official);
        }
        own.push((subject.to_owned(), GROUPS[3]));
    }
    if own.is_empty() {
        return Err(wrong("there is no SUBJECT_test.csv".to_owned()));
    }
    own.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(own)
}

/// The first questions of a subject's `dev` file.
pub(super) fn examples(folder: &Path, subject: &str, shots: usize) -> Result<Vec<Question>, EvalError> {
    let mut dev = questions(folder, "dev", subject)?;
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

/// The questions of a subject's file.
pub(super) fn questions(folder: &Path, split: &str, subject: &str) -> Result<Vec<Question>, EvalError> {
    let path = folder.join(split).join(format!("{subject}_{split}.csv"));
    let csv = |source| EvalError::Csv { path: path.clone(), source };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_path(&path).map_err(csv)?;
    let mut questions = Vec::new();
    for (place, record) in reader.records().enumerate() {
        let record = record.map_err(csv)?;
        let fields: Vec<&str> = record.iter().collect();
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |reason: String| EvalError::Row { path: path.clone(), line, reason };
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
        if question.trim().is_empty() {
            return Err(wrong("the question is empty".to_owned()));
        }
        let place = |letters: [&str; 4]| letters.iter().position(|letter| *letter == answer.trim());
        let answer = place(LETTERS)
            .or(place(["0", "1", "2", "3"]))
            .ok_or_else(|| wrong(format!("the answer is {answer:?}; it must be one of A to D, or 0 to 3")))?;
        let choices = [a, b, c, d].map(str::to_owned);
        questions.push(Question { question: question.to_owned(), choices, answer });
    }
    if questions.is_empty() {
        return Err(EvalError::Row { path, line: 1, reason: "the file has no questions".to_owned() });
    }
    Ok(questions)
}
