//! Votes as a table with a header.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::super::prompt::prompt_messages;
use super::super::turns::Turns;
use super::{ForeignVote, ForeignVotes, IGNORE_HINT, VotedPair, never_there};
use crate::DataError;

/// Every column that is read.
const COLUMNS: [&str; 8] =
    ["id", "prompt", "chosen", "rejected", "response_a", "response_b", "label", "annotator"];

pub(super) fn read(path: &Path, text: &str, ignored: &HashSet<&str>) -> Result<ForeignVotes, DataError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let wrong = |error: csv::Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        DataError::line(path, line, format!("is not CSV: {error}"))
    };
    let header = reader.headers().map_err(wrong)?.clone();
    never_there(
        path,
        &ignored.iter().copied().filter(|name| !header.iter().any(|one| one == *name)).collect(),
    )?;
    let columns = columns(&header, ignored).map_err(|message| DataError::line(path, 1, message))?;
    let mut pairs = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let row = record.position().map_or(1, |position| position.line() as usize);
        let cell = |name: &str| columns.get(name).and_then(|place| record.get(*place));
        pairs.push(pair(row, cell).map_err(|message| DataError::line(path, row, message))?);
    }
    Ok(ForeignVotes { pairs, not_submitted: 0 })
}

/// Where each column is.
fn columns<'a>(
    header: &'a csv::StringRecord,
    ignored: &HashSet<&str>,
) -> Result<HashMap<&'a str, usize>, String> {
    let mut columns = HashMap::new();
    for (place, name) in header.iter().enumerate().filter(|(_, name)| !ignored.contains(name)) {
        if !COLUMNS.contains(&name) {
            return Err(format!(
                "column `{name}` is not read; these are: {}{IGNORE_HINT}",
                COLUMNS.join(", ")
            ));
        }
        if columns.insert(name, place).is_some() {
            return Err(format!("column `{name}` is there twice"));
        }
    }
    let has = |name: &&str| columns.contains_key(name);
    let (chosen, compared) = (["chosen", "rejected"], ["response_a", "response_b", "label"]);
    if !has(&"prompt") || (chosen.iter().all(has) == compared.iter().all(has)) {
        return Err(
            "the columns must be `prompt`, and either `chosen` and `rejected` or `response_a`, `response_b` and `label`"
                .into(),
        );
    }
    // Half of the other form would be silently unread.
    let of_other = if has(&"chosen") && has(&"rejected") { &compared[..] } else { &chosen[..] };
    match of_other.iter().find(|name| has(name)) {
        Some(name) => Err(format!("column `{name}` is of the other form; take it out{IGNORE_HINT}")),
        None => Ok(columns),
    }
}

fn pair<'a>(row: usize, cell: impl Fn(&str) -> Option<&'a str>) -> Result<VotedPair, String> {
    let named = |name: &str| cell(name).filter(|value| !value.trim().is_empty()).map(str::to_owned);
    let prompt = prompt_messages("prompt", Turns::Text(cell("prompt").unwrap_or_default().to_owned()))?;
    let answer = |name: &str| cell(name).unwrap_or_default().to_owned();
    let (first, second, probability) = match cell("chosen") {
        Some(chosen) => (chosen.to_owned(), answer("rejected"), Some(1.0)),
        None => (answer("response_a"), answer("response_b"), label(cell("label").unwrap_or_default())?),
    };
    if cell("annotator").is_some_and(|name| name.trim().is_empty()) && probability.is_some() {
        return Err("column `annotator`: is empty; say who voted in every row, or in none".into());
    }
    let annotator = named("annotator");
    let votes = probability.map(|probability| ForeignVote { annotator, probability });
    Ok(VotedPair { row, id: named("id"), prompt, first, second, votes: votes.into_iter().collect() })
}

fn label(value: &str) -> Result<Option<f64>, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "a" | "response_a" => Ok(Some(1.0)),
        "b" | "response_b" => Ok(Some(0.0)),
        "tie" => Ok(Some(0.5)),
        "" => Ok(None),
        _ => Err(format!(
            "column `label`: is {:?}; it must be a, b, tie, or nothing where nobody voted",
            value.chars().take(40).collect::<String>()
        )),
    }
}
