//! Votes as Argilla exports them.
//!
//! Contract: a record is turned into one form (fields, questions with their responses) and then read; so all exports mean the same. The
//! export `to_json` of Argilla 2.x does not say which responses were submitted, and no export of 2.x keeps ties of a ranking: its list
//! then has one answer first.
//!
//! Source: argilla-io/argilla, `argilla/src/argilla/records/_io/` and `_resource.py` (2.x);
//! `src/argilla/client/feedback/integrations/huggingface/dataset.py` (1.x).

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::prompt::prompt_messages;
use super::super::turns::Turns;
use super::{ForeignVote, ForeignVotes, IGNORE_HINT, VotedPair, never_there};
use crate::DataError;

/// Names of the field that holds the prompt.
const PROMPTS: [&str; 3] = ["prompt", "instruction", "input"];
/// Keys of a record that are no field and no question, in any form.
const NO_VOTES: [&str; 6] = ["id", "_server_id", "external_id", "metadata", "vectors", "suggestions"];

/// A record of any form.
#[derive(Default)]
struct Record {
    id: Option<String>,
    fields: Map<String, Value>,
    questions: BTreeMap<String, Vec<Response>>,
}

struct Response {
    user: Option<String>,
    value: Value,
    submitted: bool,
}

pub(super) fn read(path: &Path, text: &str, ignored: &HashSet<&str>) -> Result<ForeignVotes, DataError> {
    let array = text.trim_start().starts_with('[');
    let at = |row: usize, message: String| match array {
        true => DataError::Format { path: path.to_path_buf(), message: format!("record {row}: {message}") },
        false => DataError::line(path, row, message),
    };
    let rows: Vec<(usize, Map<String, Value>)> = if array {
        let rows: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|error| {
            DataError::line(path, error.line(), format!("is no list of records: {error}"))
        })?;
        (1..).zip(rows).collect()
    } else {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let row = |(place, line): (usize, &str)| match serde_json::from_str(line) {
            Ok(record) => Ok((place + 1, record)),
            Err(error) => Err(DataError::line(path, place + 1, format!("is no record: {error}"))),
        };
        lines.map(row).collect::<Result<_, _>>()?
    };
    let mut votes = ForeignVotes::default();
    let mut unseen = ignored.clone();
    for (row, record) in rows {
        let record = Record::of(record).map_err(|message| at(row, message))?;
        unseen.retain(|name| !record.has(name));
        let (pair, not_submitted) = record.pair(row, ignored).map_err(|message| at(row, message))?;
        votes.pairs.push(pair);
        votes.not_submitted += not_submitted;
    }
    never_there(path, &unseen)?;
    Ok(votes)
}

impl Record {
    /// A record in one of the three forms.
    fn of(mut raw: Map<String, Value>) -> Result<Self, String> {
        let id = ["id", "external_id"].iter().find_map(|key| match raw.get(*key) {
            Some(Value::String(id)) if !id.trim().is_empty() => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        });
        raw.retain(|key, _| !NO_VOTES.contains(&key.as_str()));
        let mut record = Self { id, ..Self::default() };
        match (raw.remove("fields"), raw.remove("responses")) {
            (Some(Value::Object(fields)), Some(Value::Object(questions))) => {
                record.fields = fields;
                for (question, responses) in questions {
                    record.questions.insert(question.clone(), responses_of(&question, responses)?);
                }
                // Another key is treated as a field, so that it is refused or ignored by name.
                record.fields.extend(raw);
            }
            (None, None) => record.take_flat(raw)?,
            _ => return Err("`fields` and `responses` must both be objects".into()),
        }
        Ok(record)
    }

    /// Whether it has a field or a question of this name.
    fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name) || self.questions.contains_key(name)
    }

    /// The rows for `datasets`, in which fields, questions and what belongs to them are columns side by side.
    fn take_flat(&mut self, mut raw: Map<String, Value>) -> Result<(), String> {
        let flat: Vec<String> =
            raw.keys().filter_map(|key| key.strip_suffix(".responses")).map(str::to_owned).collect();
        for question in flat {
            let mut column = |ending: &str| raw.remove(&format!("{question}.responses{ending}"));
            let (values, users, states) = (column(""), column(".users"), column(".status"));
            self.questions.insert(question.clone(), columns(&question, values, users, states)?);
        }
        // What a program suggested, of 2.x and of 1.x.
        let suggestion = |key: &str| key.contains(".suggestion") || key.contains("-suggestion");
        raw.retain(|key, _| !suggestion(key));
        for (key, value) in raw {
            if is_responses(&value) {
                self.questions.insert(key.clone(), responses_of(&key, value)?);
            } else {
                self.fields.insert(key, value);
            }
        }
        Ok(())
    }

    /// The pair with its votes, and how many responses were not submitted.
    fn pair(mut self, row: usize, ignored: &HashSet<&str>) -> Result<(VotedPair, usize), String> {
        self.fields.retain(|name, value| !ignored.contains(name.as_str()) && !value.is_null());
        self.questions.retain(|name, responses| !ignored.contains(name.as_str()) && !responses.is_empty());
        let prompts: Vec<&str> = PROMPTS.into_iter().filter(|name| self.fields.contains_key(*name)).collect();
        let [name] = prompts[..] else {
            return Err(format!(
                "one field must be the prompt, called {}; here are {}",
                PROMPTS.join(" or "),
                self.names()
            ));
        };
        let turns = self.fields.remove(name).unwrap_or_default();
        let turns = Turns::deserialize(turns).map_err(|error| format!("field `{name}`: {error}"))?;
        let prompt = prompt_messages(name, turns)?;
        if self.fields.len() != 2 {
            let names = self.names();
            return Err(format!(
                "two fields beside `{name}` must be the answers; here are {names}{IGNORE_HINT}"
            ));
        }
        let mut answers: Vec<(String, Value)> = self.fields.into_iter().collect();
        // By name, so that the order of keys in a record does not matter.
        answers.sort_by(|one, other| one.0.cmp(&other.0));
        let Ok([first, second]) = <[(String, Value); 2]>::try_from(answers) else {
            return Err("two fields must be the answers".into());
        };
        let names = [first.0.as_str(), second.0.as_str()];
        if self.questions.len() > 1 {
            let names: Vec<String> = self.questions.keys().map(|name| format!("`{name}`")).collect();
            return Err(format!(
                "several questions have responses: {}; only one can be the vote{IGNORE_HINT}",
                names.join(", ")
            ));
        }
        let mut votes = Vec::new();
        let mut not_submitted = 0;
        for (question, response) in
            self.questions.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)))
        {
            if !response.submitted {
                not_submitted += 1;
                continue;
            }
            let probability = preferred(&response.value, names)
                .map_err(|message| format!("question `{question}`: {message}"))?;
            votes.push(ForeignVote { annotator: response.user.clone(), probability });
        }
        let answer = |(name, value): (String, Value)| match value {
            Value::String(text) => Ok(text),
            _ => Err(format!("field `{name}`: is no text, and so no answer{IGNORE_HINT}")),
        };
        let id = self.id;
        Ok((
            VotedPair { row, id, prompt, first: answer(first)?, second: answer(second)?, votes },
            not_submitted,
        ))
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.fields.keys().take(12).map(|name| format!("`{name}`")).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }
}

/// Whether a column of a 1.x row holds responses: a list of them, or lists side by side.
fn is_responses(value: &Value) -> bool {
    let keys = |value: &Value| ["user_id", "value"].iter().all(|key| value.get(key).is_some());
    match value {
        Value::Array(list) => list.iter().all(keys),
        other => keys(other),
    }
}

/// Responses as a list of objects, or as an object of lists.
fn responses_of(question: &str, value: Value) -> Result<Vec<Response>, String> {
    match value {
        Value::Array(list) => list.into_iter().map(|value| response(question, value)).collect(),
        Value::Object(mut lists) => {
            let mut column = |key: &str| lists.remove(key);
            columns(question, column("value"), column("user_id"), column("status"))
        }
        Value::Null => Ok(Vec::new()),
        _ => Err(format!("question `{question}`: its responses are no list")),
    }
}

fn response(question: &str, value: Value) -> Result<Response, String> {
    let Value::Object(mut fields) = value else {
        return Err(format!("question `{question}`: a response is no object"));
    };
    let mut take = |key: &str| fields.remove(key).unwrap_or_default();
    one(question, take("value"), take("user_id"), take("status"))
}

/// Lists side by side, of which the last two may be missing.
fn columns(
    question: &str,
    values: Option<Value>,
    users: Option<Value>,
    states: Option<Value>,
) -> Result<Vec<Response>, String> {
    let list = |value: Option<Value>| match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("question `{question}`: its responses are no lists")),
    };
    let (values, mut users, mut states) = (list(values)?, list(users)?, list(states)?);
    for other in [&mut users, &mut states] {
        if other.is_empty() {
            other.resize(values.len(), Value::Null);
        }
        if other.len() != values.len() {
            return Err(format!("question `{question}`: its lists of responses have different lengths"));
        }
    }
    let rows = values.into_iter().zip(users).zip(states);
    rows.map(|((value, user), state)| one(question, value, user, state)).collect()
}

fn one(question: &str, value: Value, user: Value, state: Value) -> Result<Response, String> {
    let user = match user {
        // Python's None as text.
        Value::Null => None,
        Value::String(user) if user == "None" => None,
        Value::String(user) => Some(user),
        other => return Err(format!("question `{question}`: user {other} is no text")),
    };
    let submitted = match state.as_str() {
        Some("submitted") => true,
        None if state.is_null() => true,
        Some("draft" | "discarded" | "pending") => false,
        _ => {
            return Err(format!(
                "question `{question}`: status {state} is not submitted, draft, pending or discarded"
            ));
        }
    };
    Ok(Response { user, value, submitted })
}

/// P(first is better) of a label, or of a ranking in any of its three forms.
fn preferred(value: &Value, names: [&str; 2]) -> Result<f64, String> {
    let place = |value: &Value| match value.as_str() {
        Some(text) => place_of(text, names),
        None => Err(format!("{} is neither a ranking of two answers nor a label", short(value))),
    };
    let ranks = match value {
        Value::Array(list) if list.iter().all(Value::is_string) => {
            list.iter().enumerate().map(|(rank, value)| Ok((place(value)?, rank as f64))).collect()
        }
        Value::Array(list) => {
            list.iter().map(|one| Ok((place(&one["value"])?, rank(&one["rank"])?))).collect()
        }
        Value::Object(lists) => match (lists.get("rank"), lists.get("value")) {
            (Some(Value::Array(ranks)), Some(Value::Array(values))) if ranks.len() == values.len() => {
                ranks.iter().zip(values).map(|(one, value)| Ok((place(value)?, rank(one)?))).collect()
            }
            _ => Err("a ranking needs `rank` and `value` of one length".to_owned()),
        },
        label => {
            return match label.as_str().map(|text| text.trim().to_lowercase()).as_deref() {
                Some("tie") => Ok(0.5),
                _ => place(label).map(|place| if place == 0 { 1.0 } else { 0.0 }),
            };
        }
    };
    let ranks: Vec<(usize, f64)> = ranks?;
    match ranks[..] {
        [(one, a), (other, b)] if one != other => {
            let first_is_lower = if one == 0 { a.total_cmp(&b) } else { b.total_cmp(&a) };
            Ok(match first_is_lower {
                std::cmp::Ordering::Less => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Greater => 0.0,
            })
        }
        _ => Err(format!("{} does not rank `{}` and `{}` once each", short(value), names[0], names[1])),
    }
}

fn rank(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("the rank {} is no number", short(value)))
}

/// Which of the two fields a value names: its name, or the part of it that the other has not.
fn place_of(text: &str, names: [&str; 2]) -> Result<usize, String> {
    let text = text.trim();
    let last = |name: &str| name[shared_beginning(names)..].to_lowercase();
    let found = names
        .iter()
        .position(|name| !text.is_empty() && (*name == text || last(name) == text.to_lowercase()));
    found.ok_or_else(|| {
        format!(
            "{:?} is neither `{}` nor `{}` nor `tie`",
            text.chars().take(40).collect::<String>(),
            names[0],
            names[1]
        )
    })
}

/// Bytes that both names begin with, at a boundary of characters.
fn shared_beginning([one, other]: [&str; 2]) -> usize {
    let same = one.char_indices().zip(other.chars()).take_while(|((_, a), b)| a == b);
    same.last().map_or(0, |((at, character), _)| at + character.len_utf8())
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
