//! Looks a data file over without a model: what it is, and what in it is probably a mistake.
//!
//! Contract: the file is read as training would read it, so a file that is refused there is an error here. What is found is counted with the
//! places of its rows; nothing is printed and nothing is changed.

mod earlier;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub use earlier::Earlier;
use solon_records::{Beside, Demonstration, Message, Pair, Prompt};

use crate::files::sha256_parts;
use crate::records::{
    DataFile, Form, LabelRow, Purpose, Unpaired, UnusedColumn, open_demonstrations, open_labels,
    open_prompts, open_unpaired,
};
use crate::rows::{FileFormat, Place};
use crate::{DataError, Packing};

/// What was found in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The file's format.
    pub format: FileFormat,
    /// How it is compressed as a whole, if it is.
    pub packing: Option<Packing>,
    /// What it was read as.
    pub purpose: Purpose,
    /// Whose formats its rows are in, each with the number of rows.
    pub forms: BTreeMap<Form, usize>,
    /// How many rows it has.
    pub rows: usize,
    /// Rows that say the same as an earlier one, whatever their ids: each with that one.
    pub duplicates: Vec<(Place, Place)>,
    /// Pairs whose two answers are the same, so that there is nothing to learn.
    pub same_answers: Vec<Place>,
    /// Rows with an answer to learn from that is empty or blank: see [`empty_answers`].
    pub empty_answers: Vec<Place>,
    /// Pairs without a label, which are not trained on.
    pub unlabelled: Vec<Place>,
    /// Of unpaired preferences: how many answers are good, and how many are not.
    pub labels: Option<[usize; 2]>,
    /// Columns that hold something and are not used.
    pub unused: Vec<UnusedColumn>,
}

/// A file of records, whatever they are for.
#[derive(Debug, Clone, PartialEq)]
pub enum Opened {
    /// Conversations to imitate.
    Demonstrations(DataFile<Demonstration>),
    /// Pairs of answers.
    Preferences(DataFile<LabelRow>),
    /// Answers with a label each.
    Unpaired(DataFile<Unpaired>),
    /// Conversations to answer.
    Prompts(DataFile<Prompt>),
}

impl Opened {
    /// Reads a file. Without a `purpose` its first row says what it is for.
    ///
    /// # Errors
    /// Those of reading the file for its purpose.
    pub fn open(path: &Path, purpose: Option<Purpose>) -> Result<Self, DataError> {
        let purpose = match purpose {
            Some(purpose) => purpose,
            None => Purpose::of_file(path)?,
        };
        Ok(match purpose {
            Purpose::Demonstrations => Self::Demonstrations(open_demonstrations(path)?),
            Purpose::Preferences => Self::Preferences(open_labels(path)?),
            Purpose::Unpaired => Self::Unpaired(open_unpaired(path)?),
            Purpose::Prompts => Self::Prompts(open_prompts(path)?),
        })
    }

    /// Looks it over.
    pub fn check(&self) -> Check {
        match self {
            Self::Demonstrations(file) => looked_over(Purpose::Demonstrations, file),
            Self::Preferences(file) => looked_over(Purpose::Preferences, file),
            Self::Unpaired(file) => {
                let good = file.records.iter().filter(|row| row.is_good).count();
                let labels = Some([good, file.records.len() - good]);
                Check { labels, ..looked_over(Purpose::Unpaired, file) }
            }
            Self::Prompts(file) => looked_over(Purpose::Prompts, file),
        }
    }

    /// The rows whose prompt is in the other file as well, each with the first such row there. Case and white space do not
    /// matter, nor does a system message.
    pub fn shared_questions(&self, other: &Opened) -> Vec<(Place, Place)> {
        let mut there: HashMap<String, Place> = HashMap::new();
        for (question, place) in other.questions() {
            there.entry(question).or_insert(place);
        }
        let shared = self.questions().into_iter();
        shared.filter_map(|(question, place)| Some((place, *there.get(&question)?))).collect()
    }

    fn questions(&self) -> Vec<(String, Place)> {
        match self {
            Self::Demonstrations(file) => questions(file),
            Self::Preferences(file) => questions(file),
            Self::Unpaired(file) => questions(file),
            Self::Prompts(file) => questions(file),
        }
    }
}

/// The rows with an answer to learn from that is empty or blank: training on one teaches to say nothing. It is trained on and
/// said in a note, because published pairs have such (HH-RLHF among its chosen ones).
pub fn empty_answers<T: Looked>(file: &DataFile<T>) -> Vec<Place> {
    let is_empty = |record: &T| record.answers().iter().any(|answer| answer.trim().is_empty());
    let rows = file.records.iter().zip(&file.places);
    rows.filter(|(record, _)| is_empty(record)).map(|(_, place)| *place).collect()
}

fn questions<T: Looked>(file: &DataFile<T>) -> Vec<(String, Place)> {
    let question = |record: &T| {
        let turns = record.prompt().iter().filter(|message| message.role != "system");
        let text: Vec<String> = turns.map(|message| message.content.to_lowercase()).collect();
        text.iter().flat_map(|text| text.split_whitespace()).collect::<Vec<_>>().join(" ")
    };
    let all = file.records.iter().zip(&file.places).map(|(record, place)| (question(record), *place));
    all.filter(|(question, _)| !question.is_empty()).collect()
}

fn looked_over<T: Looked>(purpose: Purpose, file: &DataFile<T>) -> Check {
    let mut check = Check {
        format: file.format,
        packing: file.packing,
        purpose,
        forms: file.forms.clone(),
        rows: file.records.len(),
        duplicates: Vec::new(),
        same_answers: Vec::new(),
        empty_answers: empty_answers(file),
        unlabelled: Vec::new(),
        labels: None,
        unused: file.unused.clone(),
    };
    let mut seen: HashMap<String, Place> = HashMap::new();
    for (record, place) in file.records.iter().zip(&file.places) {
        let place = *place;
        let content = sha256_parts(record.content());
        match seen.get(&content) {
            Some(first) => check.duplicates.push((place, *first)),
            None => drop(seen.insert(content, place)),
        }
        let answers = record.answers();
        if record.is_pair() && answers.windows(2).any(|two| two[0] == two[1]) {
            check.same_answers.push(place);
        }
        if record.is_unlabelled() {
            check.unlabelled.push(place);
        }
    }
    check
}

/// What of a record is looked at.
pub trait Looked {
    /// What two equal rows have in common, as parts.
    fn content(&self) -> Vec<String>;
    /// What stands before the answers.
    fn prompt(&self) -> &[Message];
    /// The answers that are learnt from.
    fn answers(&self) -> Vec<String>;
    /// Whether the answers are two to one prompt.
    fn is_pair(&self) -> bool {
        false
    }
    /// Whether it is a pair without a label.
    fn is_unlabelled(&self) -> bool {
        false
    }
}

fn parts(messages: &[Message]) -> impl Iterator<Item = String> {
    messages.iter().flat_map(|message| {
        let beside = if message.beside.is_empty() { String::new() } else { said_beside(&message.beside) };
        [message.role.clone(), message.content.clone(), beside]
    })
}

fn said_beside(beside: &Beside) -> String {
    serde_json::to_string(beside).unwrap_or_default()
}

/// What an answer says; calls of tools are something to learn as well.
fn said(message: &Message) -> String {
    match message.beside.tool_calls() {
        [] => message.content.clone(),
        calls => format!("{}{}", message.content, serde_json::Value::Array(calls.to_vec())),
    }
}

impl Looked for Demonstration {
    fn content(&self) -> Vec<String> {
        let learnt = (0..self.messages.len()).filter(|place| self.learns(*place));
        parts(&self.messages).chain(learnt.map(|place| place.to_string())).collect()
    }

    fn prompt(&self) -> &[Message] {
        &self.messages[..self.prompt_len]
    }

    fn answers(&self) -> Vec<String> {
        let learnt = self.messages.iter().enumerate().filter(|(place, _)| self.learns(*place));
        learnt.map(|(_, message)| said(message)).collect()
    }
}

impl Looked for LabelRow {
    fn content(&self) -> Vec<String> {
        match self {
            Self::Labelled(pair) => parts(&pair.prompt).chain(parts(&pair.answers())).collect(),
            Self::Unlabelled { pair: Pair { prompt, first, second, .. }, .. } => {
                parts(prompt).chain([first.clone(), second.clone()]).collect()
            }
        }
    }

    fn prompt(&self) -> &[Message] {
        match self {
            Self::Labelled(pair) => &pair.prompt,
            Self::Unlabelled { pair, .. } => &pair.prompt,
        }
    }

    fn answers(&self) -> Vec<String> {
        match self {
            Self::Labelled(pair) => pair.answers().iter().map(said).collect(),
            Self::Unlabelled { pair, .. } => vec![pair.first.clone(), pair.second.clone()],
        }
    }

    fn is_pair(&self) -> bool {
        true
    }

    fn is_unlabelled(&self) -> bool {
        matches!(self, Self::Unlabelled { .. })
    }
}

impl Looked for Unpaired {
    fn content(&self) -> Vec<String> {
        let mut parts = self.conversation.content();
        parts.push(self.is_good.to_string());
        parts
    }

    fn prompt(&self) -> &[Message] {
        self.conversation.prompt()
    }

    fn answers(&self) -> Vec<String> {
        self.conversation.answers()
    }
}

impl Looked for Prompt {
    fn content(&self) -> Vec<String> {
        parts(&self.messages).collect()
    }

    fn prompt(&self) -> &[Message] {
        &self.messages
    }

    fn answers(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::from_text;

    fn checked(text: &str) -> Check {
        opened(text).check()
    }

    pub(super) fn opened(text: &str) -> Opened {
        from_text(|path| Opened::open(path, None).map(|file| vec![file]), text).unwrap().remove(0)
    }

    #[test]
    fn questions_that_two_files_share_are_found_whatever_the_files_are_for() {
        let learnt = opened(
            r#"{"prompt":"Why  not?","completion":"A"}
{"prompt":"How?","completion":"A"}"#,
        );
        let measured = opened(r#"[{"prompt":"Who?"},{"prompt":[{"role":"user","content":"why not?\n"}]}]"#);
        let there = Place::Record { row: 2, line: 1 };
        assert_eq!(learnt.shared_questions(&measured), [(Place::Line(1), there)]);
        assert_eq!(measured.shared_questions(&learnt), [(there, Place::Line(1))]);
    }

    #[test]
    fn preferences_are_counted_with_their_rows() {
        let found = checked(
            r#"{"prompt":"Q","chosen":"A","rejected":"B","id":"x","score":1}
{"prompt":"Q","chosen":"A","rejected":"B","score":null}

{"prompt":"R","chosen":"A","rejected":"A","note":"n"}
{"prompt":"S","chosen":"A","rejected":" ","score":2}
{"id":"u","prompt":"T","first":"a","second":"b","unlabelled":"no reply"}"#,
        );
        assert_eq!((found.purpose, found.rows), (Purpose::Preferences, 5));
        assert_eq!(found.forms, BTreeMap::from([(Form::Preference, 4), (Form::Unlabelled, 1)]));
        assert_eq!(found.duplicates, [(Place::Line(2), Place::Line(1))]);
        assert_eq!(found.same_answers, [Place::Line(4)]);
        assert_eq!(found.empty_answers, [Place::Line(5)]);
        assert_eq!(found.unlabelled, [Place::Line(6)]);
        let unused =
            |name: &str, rows, line| UnusedColumn { name: name.into(), rows, first: Place::Line(line) };
        assert_eq!(found.unused, [unused("score", 2, 1), unused("note", 1, 4)]);
    }

    #[test]
    fn the_first_row_says_what_a_file_is_for() {
        let (u, a) = (r#"{"role":"user","content":"Q"}"#, r#"{"role":"assistant","content":"A"}"#);
        for (row, purpose) in [
            (format!(r#"{{"messages":[{u},{a}]}}"#), Purpose::Demonstrations),
            (format!(r#"{{"messages":[{u}]}}"#), Purpose::Prompts),
            (r#"{"prompt":"Q","completion":"A"}"#.into(), Purpose::Demonstrations),
            (r#"{"prompt":"Q","completion":"A","label":null}"#.into(), Purpose::Demonstrations),
            (r#"{"prompt":"Q","completion":"A","label":false}"#.into(), Purpose::Unpaired),
            (r#"{"prompt":"Q"}"#.into(), Purpose::Prompts),
            (r#"{"instruction":"Q","output":"A"}"#.into(), Purpose::Demonstrations),
            (r#"{"instruction":"Q","chosen":"A","rejected":"B"}"#.into(), Purpose::Preferences),
            (
                format!(r#"{{"chosen_messages":[{u},{a}],"rejected_messages":[{u},{a}]}}"#),
                Purpose::Preferences,
            ),
            (
                r#"{"conversations":[{"from":"human","value":"Q"},{"from":"gpt","value":"A"}]}"#.into(),
                Purpose::Demonstrations,
            ),
        ] {
            assert_eq!(checked(&row).purpose, purpose, "{row}");
        }
    }

    #[test]
    fn answers_that_are_learnt_and_empty_are_found() {
        let row = |weight| {
            format!(
                r#"{{"messages":[{{"role":"user","content":"Q"}},{{"role":"assistant","content":"","weight":{weight}}},
                {{"role":"user","content":"R"}},{{"role":"assistant","content":"B"}}]}}"#
            )
            .replace('\n', "")
        };
        assert_eq!(checked(&row(1)).empty_answers, [Place::Line(1)]);
        assert!(checked(&row(0)).empty_answers.is_empty());
        // The same words of which other ones are learnt are no duplicate.
        assert!(checked(&format!("{}\n{}", row(0), row(1))).duplicates.is_empty());
    }
}
