//! A constitution: principles for critique and revision, questions for comparison, and worked examples of both.
//!
//! Contract: what [`Constitution::open`] returns is valid. Ids are unique in the file and use plain characters, no text
//! is empty or holds control characters, weights are positive, every example names a revision principle that exists, and
//! what is not understood is refused: no field of a file is dropped silently. Errors name the file, the entry and the
//! field. Sources: this project's format (`own`), and the published forms of others (`imports`); `constitutions/README.md`
//! describes all of them.

mod check;
mod content;
mod diff;
mod draw;
mod few_shot;
mod fields;
mod hugging_face;
mod imports;
mod own;
mod published;
mod traits;
mod validate;
mod value;

use std::io::Read;
use std::path::Path;

use serde::Serialize;

use crate::FeedbackError;

pub use check::{Checked, Weighted};
pub use content::Entry;
pub use diff::{Changed, ConstitutionDiff, FieldChange, Side, TableDiff};
pub(crate) use draw::{InTurn, draw};
pub use few_shot::{FewShot, Shot};

/// The largest file that is read. A constitution is read by people, so it is far smaller.
const LARGEST_FILE: u64 = 16 << 20;

/// What is known of a prompt: where its file puts it. Nothing where the file does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// Such as `harmful`, `harmless`, `sounds-harmful`, `unanswerable`.
    pub kind: Option<&'a str>,
    /// Such as `fraud`.
    pub category: Option<&'a str>,
}

impl<'a> About<'a> {
    /// What is known of a prompt of this kind and category.
    pub fn new(kind: Option<&'a str>, category: Option<&'a str>) -> Self {
        Self { kind, category }
    }

    /// Whether a principle with this `applies` is about the prompt. A principle without one is about every prompt, and
    /// every principle is about a prompt of which nothing is known.
    pub fn fits(&self, applies: &[String]) -> bool {
        let known = [self.kind, self.category];
        let listed = |name: &str| applies.iter().any(|listed| listed == name);
        applies.is_empty() || known == [None, None] || known.into_iter().flatten().any(listed)
    }
}

/// A principle of the supervised stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RevisionPrinciple {
    /// Unique in the constitution.
    pub id: String,
    /// Asks for a critique of an answer.
    pub critique: String,
    /// Asks for a revision of the answer.
    pub revision: String,
    /// Kinds and categories of prompts it is about; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applies: Vec<String>,
    /// How often it is drawn, relative to the others; positive.
    #[serde(skip_serializing_if = "is_one")]
    pub weight: f64,
}

/// A principle of the preference stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparisonPrinciple {
    /// Unique in the constitution.
    pub id: String,
    /// Asks which of two answers is better.
    pub question: String,
    /// Kinds and categories of prompts it is about; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applies: Vec<String>,
    /// Asks about the request alone. Yes means that by this principle the assistant should decline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// How often it is drawn, relative to the others; positive.
    #[serde(skip_serializing_if = "is_one")]
    pub weight: f64,
}

/// A worked critique and revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkedExample {
    /// Unique in the constitution.
    pub id: String,
    /// The kind of request, such as `harmful`, `sounds-harmful`, `harmless`, `unanswerable`.
    pub kind: String,
    /// The subject, such as `fraud`.
    pub category: String,
    /// The id of the [`RevisionPrinciple`] that it illustrates.
    pub principle: String,
    /// The user's request.
    pub request: String,
    /// An answer with a fault.
    pub flawed: String,
    /// What is wrong with it.
    pub critique: String,
    /// The better answer.
    pub revision: String,
}

/// A request that brings out whether an answer follows a principle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConstitutionPrompt {
    /// Unique in the constitution.
    pub id: String,
    /// The id of the principle, of either stage.
    pub principle: String,
    /// The user's request.
    pub text: String,
}

/// A written constitution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Constitution {
    /// Its name; the file's name for a published form, which has none.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// What it is for.
    pub description: String,
    /// Revision principles, in the file's order.
    pub revision: Vec<RevisionPrinciple>,
    /// Comparison principles, in the file's order.
    pub comparison: Vec<ComparisonPrinciple>,
    /// Worked examples, in the file's order.
    pub example: Vec<WorkedExample>,
    /// Texts and conversations to put in front of a question, in the file's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub few_shot: Vec<FewShot>,
    /// Requests about its principles, in the file's order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompt: Vec<ConstitutionPrompt>,
}

impl Constitution {
    /// Reads a `.toml` constitution, a `.json`, `.txt` or `.jsonl` file of this project's or a published form, or a folder
    /// with any of the five files of Bai et al. 2022.
    pub fn open(path: &Path) -> Result<Self, FeedbackError> {
        if path.is_dir() {
            return published::open_folder(path);
        }
        let text = read(path)?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Self::parse_toml(&text, path),
            Some("json" | "txt") => imports::parse(&text, path),
            Some("jsonl") => traits::parse_lines(&text, path),
            _ => Err(FeedbackError::Malformed {
                path: path.into(),
                reason:
                    "the file name must end in .toml, .json, .txt (JSON) or .jsonl; rename the file to match its format"
                        .into(),
            }),
        }
    }

    /// Reads a constitution from TOML text; `origin` names it in errors.
    pub fn parse_toml(text: &str, origin: &Path) -> Result<Self, FeedbackError> {
        own::parse(value::Value::from_toml(text, origin)?, origin)
    }

    /// A constitution without entries.
    pub(crate) fn empty(name: String, description: &str) -> Self {
        Self {
            name,
            version: 1,
            description: description.into(),
            revision: Vec::new(),
            comparison: Vec::new(),
            example: Vec::new(),
            few_shot: Vec::new(),
            prompt: Vec::new(),
        }
    }

    /// The revision principle with this id.
    pub fn revision_principle(&self, id: &str) -> Option<&RevisionPrinciple> {
        self.revision.iter().find(|principle| principle.id == id)
    }

    /// The comparison principle with this id.
    pub fn comparison_principle(&self, id: &str) -> Option<&ComparisonPrinciple> {
        self.comparison.iter().find(|principle| principle.id == id)
    }

    /// How many few-shots it has for a use, by its name in files.
    pub fn few_shots_for(&self, used_for: &str) -> usize {
        self.few_shot.iter().filter(|few_shot| few_shot.shot.used_for() == used_for).count()
    }

    /// The comparison principles that ask about the request alone, with their questions, in the file's order.
    pub fn request_questions(&self) -> Vec<(&ComparisonPrinciple, &str)> {
        self.comparison.iter().filter_map(|p| Some((p, p.request.as_deref()?.trim()))).collect()
    }
}

fn is_one(weight: &f64) -> bool {
    *weight == 1.0
}

/// The text of a file, which may be anything: its size and its bytes are checked.
fn read(path: &Path) -> Result<String, FeedbackError> {
    let failed = |source| FeedbackError::Read { path: path.into(), source };
    let malformed = |reason| FeedbackError::Malformed { path: path.into(), reason };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST_FILE {
        let limit = LARGEST_FILE >> 20;
        return Err(malformed(format!("it is larger than {limit} MiB, so it is no constitution")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        malformed(format!("byte {} is not UTF-8; save the file as UTF-8", at + 1))
    })?;
    // Some editors put a byte order mark in front, which no parser here takes.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
pub(crate) mod tests;
