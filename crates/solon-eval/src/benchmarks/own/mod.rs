//! A benchmark of your own, described in a TOML file: multiple choice, or open questions that a judge grades.
//!
//! Contract: [`file`] reads the description and its rows, which stand in it or in a CSV or JSONL file beside it. Options are
//! scored as in `mmlu`: by their letters, or by their texts. An answer in words is asked about with the prompt of the file; the
//! verdict is a yes or no, or a number that a pattern finds. recipes/README.md describes the file.

mod file;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use serde::Deserialize;
use solon_records::{Message, SamplingSettings};

use self::file::{Description, Form, Row, Scored, Verdict};
use super::{
    EMPTY, Known, Open, REPETITION, Settings, TRUNCATED, greedy, how, option, part, places, read,
    text_outcomes,
};
use crate::benchmark::{
    Answer, Ask, Benchmark, Better, Group, Item, Judgement, Measure, Method, Outcome, Question, Reply, Unit,
};
use crate::degenerate::fault;
use crate::error::EvalError;
use crate::judge::{JUDGE_REFUSED, UNJUDGED, YES_NO, fill, yes_no};
use crate::options::{best, best_by_length, outcomes};
use crate::refusal::declines;

pub use self::file::beside;

/// The benchmark in the list of all.
pub const KNOWN: Known = Known {
    name: "toml",
    about: "A benchmark of your own, described in a TOML file",
    data: "the TOML file",
    groups: &GROUPS,
    files: &[],
    open: Open::Files(open),
};

const CHOICE: &str = "choice";
const RIGHT: &str = "open";
const SCORE: &str = "scored";

/// A file has items of one of them.
const GROUPS: [Group; 3] = [
    Group { name: CHOICE, heading: "Questions", by_category: "accuracy" },
    Group { name: RIGHT, heading: "Questions", by_category: "right" },
    Group { name: SCORE, heading: "Questions", by_category: "score" },
];

const CHOICES: [Measure; 3] = [
    share("accuracy", "accuracy", "Share of questions whose right option is the likeliest.").scored(),
    crate::options::TRUNCATED,
    share(
        "accuracy_by_length",
        "accuracy by length",
        "Share of questions whose right option has the highest log-prob for each of its characters.",
    ),
];
/// Those of options that are scored by their letters.
const LETTERS: usize = 2;

const JUDGED: [Measure; 6] = [
    share("right", "right", "Share of answers about which the judge says yes.").scored(),
    UNJUDGED,
    JUDGE_REFUSED,
    REPETITION,
    EMPTY,
    TRUNCATED,
];

const fn share(key: &'static str, title: &'static str, explanation: &'static str) -> Measure {
    Measure::share(key, title, explanation, Better::Higher, &[])
}

/// The measures of a score from `least` to `most`. Measures are static: each list is made once for a range, and kept.
fn of_score(least: f64, most: f64) -> &'static [Measure] {
    static MADE: Mutex<Vec<&'static [Measure]>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let unit = Unit::Number { least, most };
    if let Some(known) = made.iter().find(|measures| measures[0].unit == unit) {
        return known;
    }
    let score = share("score", "score", "The judge's mean score.").in_unit(unit);
    let measures = Vec::leak(vec![score, UNJUDGED, JUDGE_REFUSED, REPETITION, EMPTY, TRUNCATED]);
    made.push(measures);
    measures
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// In place of the file's.
    max_new_tokens: Option<usize>,
    /// Of options: whether the question is a user's turn in the model's chat template; true where it is not given.
    template: Option<bool>,
    /// So many of the file's examples stand before each question; all where it is not given.
    shots: Option<usize>,
    /// So many items are asked, from the start; 0 asks all.
    #[serde(default)]
    limit: usize,
}

struct Own {
    items: Vec<Item>,
    places: HashMap<String, usize>,
    /// Of each item the question and the reference, as the file has them.
    rows: Vec<(String, String)>,
    description: Description,
    ask: Ask,
    shots: usize,
    limit: usize,
}

fn open(path: &Path, settings: Settings) -> Result<Box<dyn Benchmark>, EvalError> {
    let Keys { max_new_tokens, template, shots, limit } = read(KNOWN.name, settings)?;
    let wrong = |reason: String| EvalError::Settings { benchmark: KNOWN.name.to_owned(), reason };
    let (description, mut rows, examples) = file::read(path)?;
    let shots = shots.unwrap_or(examples.len());
    let Some(examples) = examples.get(..shots) else {
        let there = examples.len();
        return Err(wrong(format!(
            "shots = {shots}, but the file has {there} examples\nhint: lower `shots`"
        )));
    };
    let (ask, group) = match &description.form {
        Form::Choice(_) if max_new_tokens.is_some() => {
            return Err(wrong(
                "options are scored and no text is written\nhint: leave `max_new_tokens` out".to_owned(),
            ));
        }
        Form::Open { .. } if template.is_some() => {
            return Err(wrong(
                "answers in words are in the chat template\nhint: leave `template` out".to_owned(),
            ));
        }
        Form::Choice(_) => (Ask::Choose { template: template.unwrap_or(true) }, CHOICE),
        Form::Open { verdict, .. } => {
            let length = max_new_tokens.unwrap_or(description.max_new_tokens);
            let group = if matches!(verdict, Verdict::YesNo) { RIGHT } else { SCORE };
            (Ask::Generate(greedy(&KNOWN, length)?), group)
        }
    };
    if limit > 0 {
        rows.truncate(limit);
    }
    let template = !matches!(ask, Ask::Choose { template: false });
    let items = rows.iter().map(|row| Item {
        // With the name, because rows of other files are numbered too.
        id: format!("{}/{}", description.name, row.id),
        messages: description.messages(examples, row, template),
        options: match &description.form {
            Form::Choice(Scored::Letters) => {
                (0..row.options.len()).map(|place| option(&letter(place), template)).collect()
            }
            Form::Choice(Scored::Continuation) => {
                row.options.iter().map(|text| option(text, template)).collect()
            }
            Form::Open { .. } => Vec::new(),
        },
        right: row.right.into_iter().collect(),
        group,
        category: row.category.clone(),
        ..Item::default()
    });
    let items: Vec<Item> = items.collect();
    let rows = rows.into_iter().map(|row| (row.question, row.reference)).collect();
    Ok(Box::new(Own { places: places(&items), items, rows, description, ask, shots, limit }))
}

/// A, B, C …
fn letter(place: usize) -> String {
    char::from(b'A' + place as u8).to_string()
}

impl Description {
    /// What stands before the answer. In a chat template the examples are turns; as plain text all is one text.
    fn messages(&self, examples: &[Row], row: &Row, template: bool) -> Vec<Message> {
        if template {
            let system = self.system.iter().map(Message::system);
            let turns = examples.iter().flat_map(|example| {
                [Message::user(self.question(example)), Message::assistant(self.answer(example))]
            });
            return system.chain(turns).chain([Message::user(self.question(row))]).collect();
        }
        let mut text = self.system.as_ref().map(|system| format!("{system}\n\n")).unwrap_or_default();
        for example in examples {
            text += &format!("{} {}\n\n", self.question(example), self.answer(example));
        }
        vec![Message::user(text + &self.question(row))]
    }

    /// A question up to its answer.
    fn question(&self, row: &Row) -> String {
        let lines = row.options.iter().enumerate().map(|(place, text)| format!("{}. {text}", letter(place)));
        let options = lines.collect::<Vec<_>>().join("\n");
        fill(&self.prompt, &[("question", &row.question), ("options", &options)])
    }

    /// The right answer of an example.
    fn answer(&self, row: &Row) -> String {
        match (&self.form, row.right) {
            (Form::Choice(Scored::Letters), Some(place)) => letter(place),
            (Form::Choice(Scored::Continuation), Some(place)) => row.options[place].clone(),
            _ => row.reference.clone(),
        }
    }
}

impl Verdict {
    /// The score in a judge's text: what the pattern's first group holds where it first fits. `None` where there is none, or
    /// where it is out of the range.
    fn score(&self, answer: &Answer) -> Option<f64> {
        let (Self::Score { pattern, from, to }, Some(Reply::Said(text))) = (self, &answer.judge) else {
            return None;
        };
        let found = pattern.captures(text)?.get(1)?;
        found.as_str().trim().parse().ok().filter(|score| (*from..=*to).contains(score))
    }
}

impl Benchmark for Own {
    fn known(&self) -> &'static Known {
        &KNOWN
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn ask(&self) -> Ask {
        self.ask.clone()
    }

    fn question(&self, _: &[(&Item, &Answer)], item: &Item, answer: &Answer) -> Option<Question> {
        let Form::Open { system, prompt, verdict, max_new_tokens } = &self.description.form else {
            return None;
        };
        let (question, reference) = &self.rows[*self.places.get(&item.id)?];
        let values = [("question", &question[..]), ("answer", &answer.text), ("reference", reference)];
        let system = system.iter().map(Message::system);
        Some(Question {
            messages: system.chain([Message::user(fill(prompt, &values))]).collect(),
            options: match verdict {
                Verdict::YesNo => YES_NO.map(str::to_owned).into(),
                Verdict::Score { .. } => Vec::new(),
            },
            max_new_tokens: *max_new_tokens,
        })
    }

    fn needs_judge(&self) -> bool {
        matches!(self.description.form, Form::Open { .. })
    }

    fn judge(&self, item: &Item, answer: &Answer) -> Judgement {
        let Form::Open { verdict, .. } = &self.description.form else {
            let right = |choice: Option<usize>| choice.is_some_and(|choice| item.right.contains(&choice));
            let by_sum = right(best(answer));
            let outcomes = outcomes(self.measures().iter(), |key| match key {
                "accuracy" => by_sum,
                "accuracy_by_length" => right(best_by_length(item, answer)),
                _ => answer.truncated,
            });
            let verdict = if by_sum { "right" } else { "wrong" };
            return Judgement { verdict: verdict.to_owned(), fault: None, outcomes };
        };
        let fault = fault(&answer.text);
        let (key, found, shown) = match verdict {
            Verdict::YesNo => {
                let yes = yes_no(answer);
                let shown = yes.map(|yes| if yes { "right".to_owned() } else { "wrong".to_owned() });
                ("right", yes.map(Outcome::Holds), shown)
            }
            Verdict::Score { .. } => {
                let score = verdict.score(answer);
                ("score", score.map(Outcome::Number), score.map(|score| format!("score {score}")))
            }
        };
        let refused = match &answer.judge {
            Some(Reply::Said(text)) => found.is_none() && declines(text),
            _ => false,
        };
        let mut outcomes = text_outcomes(fault, answer);
        let of_judge = [
            (key, found.unwrap_or(Outcome::Unknown)),
            (UNJUDGED.key, found.is_none().into()),
            (JUDGE_REFUSED.key, refused.into()),
        ];
        outcomes.extend(of_judge.map(|(key, outcome)| (key.to_owned(), outcome)));
        Judgement { verdict: shown.unwrap_or("unjudged".to_owned()), fault, outcomes }
    }

    fn measures(&self) -> &'static [Measure] {
        match &self.description.form {
            Form::Choice(Scored::Letters) => &CHOICES[..LETTERS],
            Form::Choice(Scored::Continuation) => &CHOICES,
            Form::Open { verdict: Verdict::YesNo, .. } => &JUDGED,
            Form::Open { verdict: Verdict::Score { from, to, .. }, .. } => of_score(*from, *to),
        }
    }

    fn groups(&self) -> &'static [Group] {
        match &self.description.form {
            Form::Choice(_) => &GROUPS[..1],
            Form::Open { verdict: Verdict::YesNo, .. } => &GROUPS[1..2],
            Form::Open { verdict: Verdict::Score { .. }, .. } => &GROUPS[2..],
        }
    }

    fn rule(&self) -> &'static str {
        match &self.description.form {
            Form::Choice(Scored::Letters) => "toml-letters",
            Form::Choice(Scored::Continuation) => "toml-continuation",
            Form::Open { verdict: Verdict::YesNo, .. } => "toml-yes-no",
            Form::Open { verdict: Verdict::Score { .. }, .. } => "toml-score",
        }
    }

    fn method(&self) -> Method {
        let Description { name, source, form, .. } = &self.description;
        let shots = match self.shots {
            0 => String::new(),
            shots => format!(", each after {shots} examples"),
        };
        let source = source.as_ref().map(|source| format!(" Source: {}", source.trim())).unwrap_or_default();
        let how = match &self.ask {
            Ask::Choose { template } => how(*template).to_owned(),
            Ask::Generate(SamplingSettings { max_new_tokens, .. }) => {
                format!("greedy answers of up to {max_new_tokens} tokens")
            }
        };
        Method {
            asked: format!(
                "{name}: {} questions{shots}, {how}.{}{source}",
                self.items.len(),
                part(self.limit)
            ),
            judged: match form {
                Form::Choice(Scored::Letters) => {
                    "The answer is the likeliest of the options' letters.".to_owned()
                }
                Form::Choice(Scored::Continuation) => {
                    "The answer is the likeliest of the options' texts.".to_owned()
                }
                Form::Open { verdict: Verdict::YesNo, .. } => {
                    "A judge says of each answer whether it is right.".to_owned()
                }
                Form::Open { verdict: Verdict::Score { from, to, .. }, .. } => {
                    format!("A judge grades each answer from {from} to {to}.")
                }
            },
            believed: None,
        }
    }
}

#[cfg(test)]
mod tests;
