//! The TOML file that describes a benchmark, and its rows.
//!
//! Contract: every error names the file, the line and the field, and says what to give. A key that the format does not have is
//! refused; other columns of a CSV or JSONL file are left alone.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use crate::error::EvalError;

/// A benchmark as its file describes it.
pub struct Description {
    /// Shown in the report.
    pub name: String,
    /// Where the items come from, and under which licence.
    pub source: Option<String>,
    /// The system's message.
    pub system: Option<String>,
    /// A question up to its answer, with `{question}` and, of options, `{options}`.
    pub prompt: String,
    /// Largest number of new tokens in an answer.
    pub max_new_tokens: usize,
    /// How answers are made and judged.
    pub form: Form,
}

/// How answers are made and judged.
pub enum Form {
    /// Options are scored.
    Choice(Scored),
    /// The model writes, and a judge grades.
    Open {
        /// The system's message to the judge.
        system: Option<String>,
        /// What the judge is asked, with `{question}`, `{answer}` and `{reference}`.
        prompt: String,
        /// How its reply is read.
        verdict: Verdict,
        /// Largest number of new tokens in its reply.
        max_new_tokens: usize,
    },
}

/// What is scored of an option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scored {
    /// Its letter; the options stand in the question.
    #[default]
    Letters,
    /// Its text; the options do not stand in the question.
    Continuation,
}

/// How a judge's reply is read.
pub enum Verdict {
    /// It begins with yes or no.
    YesNo,
    /// It holds a number.
    Score {
        /// Its first group is the number.
        pattern: Regex,
        /// The lowest score.
        from: f64,
        /// The highest score.
        to: f64,
    },
}

/// One question.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its own, or its number from 1.
    pub id: String,
    /// The question.
    pub question: String,
    /// Its options; of an open question none.
    pub options: Vec<String>,
    /// The place of the right one.
    pub right: Option<usize>,
    /// What an open question's right answer is; empty where it has none.
    pub reference: String,
    /// A finer label.
    pub category: Option<String>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    source: Option<String>,
    system: Option<String>,
    prompt: Option<String>,
    scored: Option<Scored>,
    max_new_tokens: Option<usize>,
    judge: Option<Judge>,
    /// A file beside this one.
    items: Option<String>,
    #[serde(default)]
    columns: Columns,
    /// The number of the first option, where answers are numbers.
    numbers_from: Option<FirstNumber>,
    #[serde(default)]
    item: Vec<Spanned<toml::Table>>,
    #[serde(default)]
    example: Vec<Spanned<toml::Table>>,
}

/// 0 or 1.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
struct FirstNumber(usize);

impl TryFrom<i64> for FirstNumber {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match number {
            0 => Ok(Self(0)),
            1 => Ok(Self(1)),
            other => Err(format!("numbers_from = {other}; give 0 or 1, the number of the first option")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Judge {
    system: Option<String>,
    prompt: String,
    verdict: WrittenVerdict,
    max_new_tokens: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected \"yes-no\", or { score = \"a pattern\", from = 1, to = 10 }")]
enum WrittenVerdict {
    Word(YesNo),
    Score(Score),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum YesNo {
    YesNo,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Score {
    score: String,
    from: f64,
    to: f64,
}

/// The names of the columns in a file of items, where they are not the names of the fields.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Columns {
    id: Option<String>,
    question: Option<String>,
    options: Option<OneOrMany>,
    answer: Option<String>,
    reference: Option<String>,
    category: Option<String>,
}

/// The column that holds all options as a list, or a column for each.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

const FIELDS: [&str; 6] = ["id", "question", "options", "answer", "reference", "category"];
/// As many as there are letters.
const MOST_OPTIONS: usize = 26;

/// A row as it stands in a file, with its line.
struct Raw {
    line: u64,
    fields: Map<String, Value>,
}

fn parse(path: &Path) -> Result<(String, Written), EvalError> {
    let wrong = |reason: String| EvalError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let written = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        EvalError::Row { path: path.to_owned(), line, reason: error.message().to_owned() }
    })?;
    Ok((text, written))
}

fn line_of(text: &str, at: usize) -> u64 {
    text[..at.min(text.len())].matches('\n').count() as u64 + 1
}

/// The file beside a description that holds its items, where there is one: its content belongs to the benchmark. Whatever its own
/// name ends with: a description is opened under any.
pub fn beside(path: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Items {
        items: Option<String>,
    }
    // A file that does not fit is refused when the benchmark is opened.
    let items: Items = toml::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    Some(path.parent()?.join(items.items?))
}

/// The description, its rows and its examples.
pub fn read(path: &Path) -> Result<(Description, Vec<Row>, Vec<Row>), EvalError> {
    let (text, written) = parse(path)?;
    let wrong = |reason: String| EvalError::File { path: path.to_owned(), reason };
    let Written { name, source, system, prompt, scored, max_new_tokens, judge, .. } = &written;
    if judge.is_some() && scored.is_some() {
        return Err(wrong(
            "`scored` is of options, `judge` of answers in words\nhint: give one of them".to_owned(),
        ));
    }
    let form = match judge {
        Some(judge) => open_form(judge).map_err(|reason| wrong(format!("[judge] {reason}")))?,
        None => Form::Choice(scored.unwrap_or_default()),
    };
    if matches!(form, Form::Choice(_)) && max_new_tokens.is_some() {
        let reason = "`max_new_tokens` is of answers in words, and there is no [judge]\nhint: leave it out";
        return Err(wrong(reason.to_owned()));
    }
    let (default, names): (&str, &[&str]) = match &form {
        Form::Choice(Scored::Letters) => ("{question}\n{options}\nAnswer:", &["question", "options"]),
        Form::Choice(Scored::Continuation) => ("Question: {question}\nAnswer:", &["question"]),
        Form::Open { .. } => ("{question}", &["question"]),
    };
    let prompt = prompt.clone().unwrap_or(default.to_owned());
    placeholders(&prompt, names, names).map_err(|reason| wrong(format!("`prompt` {reason}")))?;
    let reader = RowReader { columns: &written.columns, numbers_from: written.numbers_from, form: &form };
    let inline = |rows: &[Spanned<toml::Table>]| -> Result<Vec<Raw>, EvalError> {
        let rows = rows.iter().map(|row| inline_row(path, line_of(&text, row.span().start), row.get_ref()));
        rows.collect()
    };
    let own = |rows: Vec<Raw>| reader.rows(path, rows, &Columns::default());
    let rows = match &written.items {
        Some(_) if !written.item.is_empty() => {
            return Err(wrong(
                "`items` names a file, and there are [[item]] too\nhint: give one of them".to_owned(),
            ));
        }
        Some(file) => {
            let file = path.parent().unwrap_or(Path::new("")).join(file);
            reader.rows(&file, rows_of(&file)?, reader.columns)?
        }
        None => own(inline(&written.item)?)?,
    };
    if rows.is_empty() {
        return Err(wrong("it has no items\nhint: write [[item]], or items = \"file.csv\"".to_owned()));
    }
    let examples = own(inline(&written.example)?)?;
    if matches!(form, Form::Open { .. }) && examples.iter().any(|example| example.reference.is_empty()) {
        return Err(wrong(
            "an [[example]] of open questions needs a `reference`, which is shown as the answer".to_owned(),
        ));
    }
    let description = Description {
        name: name.clone(),
        source: source.clone(),
        system: system.clone(),
        prompt,
        max_new_tokens: max_new_tokens.unwrap_or(super::super::answer_length().get()),
        form,
    };
    Ok((description, rows, examples))
}

fn open_form(judge: &Judge) -> Result<Form, String> {
    let Judge { system, prompt, verdict, max_new_tokens } = judge;
    let prompt_names = ["question", "answer", "reference"];
    placeholders(prompt, &["answer"], &prompt_names).map_err(|reason| format!("`prompt` {reason}"))?;
    let (verdict, length) = match verdict {
        WrittenVerdict::Word(YesNo::YesNo) => (Verdict::YesNo, 4),
        WrittenVerdict::Score(Score { score, from, to }) => {
            let pattern = Regex::new(score).map_err(|error| format!("`score`: {error}"))?;
            if pattern.captures_len() < 2 {
                return Err(format!(
                    "`score`: {score:?} has no group\nhint: put the number in brackets: (\\d+)"
                ));
            }
            if !(0.0 <= *from && from < to && to.is_finite()) {
                return Err(format!(
                    "a score from {from} to {to}\nhint: `from` is at least 0, and `to` is more"
                ));
            }
            (Verdict::Score { pattern, from: *from, to: *to }, 512)
        }
    };
    let (system, prompt) = (system.clone(), prompt.clone());
    Ok(Form::Open { system, prompt, verdict, max_new_tokens: max_new_tokens.unwrap_or(length) })
}

/// Refuses a template that lacks a name it needs, or that holds another in braces.
fn placeholders(template: &str, needed: &[&str], known: &[&str]) -> Result<(), String> {
    let shown = known.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
    if let Some(missing) = needed.iter().find(|name| !template.contains(&format!("{{{name}}}"))) {
        return Err(format!("has no {{{missing}}}\nhint: {shown} stand for what is put in"));
    }
    for (at, _) in template.match_indices('{') {
        let Some((name, _)) = template[at + 1..].split_once('}') else { continue };
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_');
        if plain && !known.contains(&name) {
            return Err(format!("has {{{name}}}, which stands for nothing\nhint: give one of {shown}"));
        }
    }
    Ok(())
}

fn inline_row(path: &Path, line: u64, table: &toml::Table) -> Result<Raw, EvalError> {
    let wrong = |reason: String| EvalError::Row { path: path.to_owned(), line, reason };
    if let Some(unknown) = table.keys().find(|key| !FIELDS.contains(&key.as_str())) {
        let reason = format!("there is no field `{unknown}`\nhint: the fields are {}", FIELDS.join(", "));
        return Err(wrong(reason));
    }
    match serde_json::to_value(table) {
        Ok(Value::Object(fields)) => Ok(Raw { line, fields }),
        _ => Err(wrong("the item is no table".to_owned())),
    }
}

/// The rows of a CSV file with a header, or of a JSONL file.
fn rows_of(file: &Path) -> Result<Vec<Raw>, EvalError> {
    let wrong = |reason: String| EvalError::File { path: file.to_owned(), reason };
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("csv") => {
            let csv = |source| EvalError::Csv { path: file.to_owned(), source };
            let mut reader = csv::Reader::from_path(file).map_err(csv)?;
            let header = reader.headers().map_err(csv)?.clone();
            let mut rows = Vec::new();
            for record in reader.records() {
                let record = record.map_err(csv)?;
                let line = record.position().map_or(0, csv::Position::line);
                let fields = header.iter().zip(&record);
                // Excel and others put a mark before the first name.
                let field = |(name, value): (&str, &str)| {
                    (name.trim_start_matches('\u{feff}').to_owned(), value.into())
                };
                rows.push(Raw { line, fields: fields.map(field).collect() });
            }
            Ok(rows)
        }
        Some("jsonl") => {
            let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let rows = lines.map(|(place, line)| {
                let line_number = place as u64 + 1;
                let fields = serde_json::from_str(line).map_err(|error| EvalError::Row {
                    path: file.to_owned(),
                    line: line_number,
                    reason: error.to_string(),
                })?;
                Ok(Raw { line: line_number, fields })
            });
            rows.collect()
        }
        _ => Err(wrong("`items` is a file that ends with .csv or .jsonl".to_owned())),
    }
}

/// Reads rows of either place.
struct RowReader<'a> {
    columns: &'a Columns,
    numbers_from: Option<FirstNumber>,
    form: &'a Form,
}

impl RowReader<'_> {
    fn rows(&self, path: &Path, raw: Vec<Raw>, columns: &Columns) -> Result<Vec<Row>, EvalError> {
        let mut ids = HashSet::new();
        let mut rows = Vec::with_capacity(raw.len());
        for (place, Raw { line, fields }) in raw.into_iter().enumerate() {
            let wrong = |reason: String| EvalError::Row { path: path.to_owned(), line, reason };
            let row = self.row(place, &fields, columns).map_err(wrong)?;
            if !ids.insert(row.id.clone()) {
                return Err(wrong(format!(
                    "the id {:?} appears more than once\nhint: give each item its own id",
                    row.id
                )));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn row(&self, place: usize, fields: &Map<String, Value>, columns: &Columns) -> Result<Row, String> {
        let text = |name: &Option<String>, field: &str| -> Result<Option<String>, String> {
            match (fields.get(name.as_deref().unwrap_or(field)), name) {
                (Some(Value::String(text)), _) => Ok(Some(text.clone())),
                (Some(Value::Number(number)), _) => Ok(Some(number.to_string())),
                (Some(Value::Null) | None, None) => Ok(None),
                (None | Some(Value::Null), Some(name)) => Err(missing(name, fields)),
                (Some(other), _) => Err(format!("`{field}` is {other}; give a text")),
            }
        };
        let needed = |name: &Option<String>, field: &str| {
            let found = text(name, field)?.filter(|text| !text.trim().is_empty());
            found.ok_or_else(|| match fields.contains_key(name.as_deref().unwrap_or(field)) {
                true => format!("`{field}` is empty"),
                false => missing(name.as_deref().unwrap_or(field), fields),
            })
        };
        let question = needed(&columns.question, "question")?;
        let (options, right, reference) = match self.form {
            Form::Choice(_) => {
                let options = self.options(fields, columns)?;
                let answer = needed(&columns.answer, "answer")?;
                let right = self.right(&answer, &options)?;
                (options, Some(right), String::new())
            }
            Form::Open { prompt, .. } => {
                if fields.contains_key("options") && columns.options.is_none() {
                    return Err("`options` of a question that a judge grades\nhint: leave [judge] out, and options are scored".to_owned());
                }
                let reference = match prompt.contains("{reference}") {
                    true => needed(&columns.reference, "reference")?,
                    false => text(&columns.reference, "reference")?.unwrap_or_default(),
                };
                (Vec::new(), None, reference)
            }
        };
        let id = text(&columns.id, "id")?.unwrap_or_else(|| (place + 1).to_string());
        Ok(Row { id, question, options, right, reference, category: text(&columns.category, "category")? })
    }

    fn options(&self, fields: &Map<String, Value>, columns: &Columns) -> Result<Vec<String>, String> {
        let plain = |name: &str, value: Option<&Value>| match value {
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            None => Err(missing(name, fields)),
            Some(_) => Err(format!("the option in `{name}` is empty or no text")),
        };
        let options: Vec<String> = match &columns.options {
            Some(OneOrMany::Many(names)) => {
                names.iter().map(|name| plain(name, fields.get(name))).collect::<Result<_, _>>()?
            }
            one => {
                let name = if let Some(OneOrMany::One(name)) = one { name } else { "options" };
                match fields.get(name) {
                    Some(Value::Array(texts)) => {
                        texts.iter().map(|text| plain(name, Some(text))).collect::<Result<_, _>>()?
                    }
                    None => return Err(missing(name, fields)),
                    Some(_) => {
                        let hint = "give a list, or in [columns] options = [\"a\", \"b\"], a column for each";
                        return Err(format!("`{name}` is no list\nhint: {hint}"));
                    }
                }
            }
        };
        if !(2..=MOST_OPTIONS).contains(&options.len()) {
            return Err(format!("{} options; give from 2 to {MOST_OPTIONS}", options.len()));
        }
        let mut seen = HashSet::new();
        match options.iter().find(|option| !seen.insert(*option)) {
            Some(twice) => Err(format!("the option {twice:?} stands twice")),
            None => Ok(options),
        }
    }

    /// The place of the right option: its text, its letter, or its number.
    fn right(&self, answer: &str, options: &[String]) -> Result<usize, String> {
        let last = super::letter(options.len() - 1);
        if let Some(FirstNumber(from)) = self.numbers_from {
            let place = answer.trim().parse().ok().and_then(|number: usize| number.checked_sub(from));
            let most = from + options.len() - 1;
            let found = place.filter(|place| *place < options.len());
            return found.ok_or_else(|| {
                format!("`answer` is {answer:?}; with numbers_from = {from} give {from} to {most}")
            });
        }
        if let Some(place) = options.iter().position(|option| option == answer) {
            return Ok(place);
        }
        let trimmed = answer.trim();
        if let Some(place) = (0..options.len()).find(|place| super::letter(*place) == trimmed) {
            return Ok(place);
        }
        let hint = match trimmed.parse::<i64>() {
            Ok(_) => "where answers are numbers, say numbers_from = 0, or 1",
            Err(_) => "give the letter or the text of an option",
        };
        Err(format!("`answer` is {answer:?}, and the options are A to {last}\nhint: {hint}"))
    }
}

fn missing(name: &str, fields: &Map<String, Value>) -> String {
    let there = fields.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    format!("there is no `{name}`; it has {there}\nhint: [columns] says which column a field is in")
}
