//! MT-Bench (Zheng et al., NeurIPS 2023): two-turn conversations, each answer graded from 1 to 10 by a judge.
//!
//! Contract: reads FastChat's folder: `judge_prompts.jsonl`, `mt_bench/question.jsonl` and
//! `mt_bench/reference_answer/NAME.jsonl`. Temperatures by category, the judge's prompts and how its score is read are those
//! of FastChat at 0e6d3e4 (single-answer grading); a score outside 1 to 10 is no score. The figure is the mean over all
//! turns that got one. With `against`, the answers are compared with those of a file ([`pair`]). Some references are wrong
//! ([`known_wrong`]).

mod known_wrong;
mod pair;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use solon_records::{Message, SamplingSettings};

use super::{EMPTY, Known, Open, REPETITION, Settings, TRUNCATED, greedy, jsonl, part, read, text_outcomes};
use crate::benchmark::{
    Answer, Ask, Benchmark, Better, Group, Item, Judgement, Measure, Method, Outcome, Question, Reply, Unit,
};
use crate::degenerate::fault;
use crate::error::EvalError;
use crate::judge::{UNJUDGED, fill};

/// The benchmark in the list of all.
pub const KNOWN: Known = Known {
    name: "mt-bench",
    about: "MT-Bench: two-turn conversations, graded by a judge",
    data: "folder with judge_prompts.jsonl and mt_bench/question.jsonl",
    groups: &GROUPS,
    files: &["against"],
    open: Open::Files(open),
};

const FIRST: &str = "turn_1";
const SECOND: &str = "turn_2";

const GROUPS: [Group; 2] = [
    Group { name: FIRST, heading: "First turns", by_category: "score" },
    Group { name: SECOND, heading: "Second turns", by_category: "score" },
];

/// After [`PLAIN`] are those of references that are known to be wrong.
const MEASURES: [Measure; 9] = [
    score("score", "score", "The judge's mean score, from 1 to 10.", &[]),
    score("score_turn_1", "score, first turn", "The same of first turns.", &[FIRST]),
    score("score_turn_2", "score, second turn", "The same of second turns.", &[SECOND]),
    UNJUDGED,
    REPETITION,
    EMPTY,
    TRUNCATED,
    score(
        "score_sound",
        "score, sound references",
        "The same without the questions whose references are known to be wrong.",
        &[],
    ),
    score(
        "score_corrected",
        "score, corrected references",
        "The same with references of our own in place of those that are known to be wrong.",
        &[],
    ),
];
const PLAIN: usize = 7;

const fn score(
    key: &'static str,
    title: &'static str,
    explanation: &'static str,
    groups: &'static [&'static str],
) -> Measure {
    let unit = Unit::Number { least: 1.0, most: 10.0 };
    Measure::share(key, title, explanation, Better::Higher, groups).in_unit(unit)
}

/// FastChat's temperatures; below 1e-4 it answers greedily.
const TEMPERATURES: [(&str, f64); 8] = [
    ("writing", 0.7),
    ("roleplay", 0.7),
    ("extraction", 0.0),
    ("math", 0.0),
    ("coding", 0.0),
    ("reasoning", 0.0),
    ("stem", 0.1),
    ("humanities", 0.1),
];

/// Categories whose judge sees a reference answer.
const WITH_REFERENCE: [&str; 3] = ["math", "reasoning", "coding"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Largest number of new tokens in an answer.
    #[serde(default = "answer_length")]
    max_new_tokens: usize,
    /// The file of reference answers, without its ending.
    #[serde(default = "references")]
    references: String,
    /// Whether the judge is also asked with corrected references.
    #[serde(default)]
    corrected_references: bool,
    /// FastChat's file of another model's answers, with which the answers are compared.
    against: Option<PathBuf>,
    /// So many questions are asked, from the start; 0 asks all.
    #[serde(default)]
    limit: usize,
}

fn answer_length() -> usize {
    1024
}

fn references() -> String {
    "gpt-4".to_owned()
}

#[derive(Deserialize)]
struct Conversation {
    question_id: u64,
    category: String,
    turns: [String; 2],
}

#[derive(Deserialize)]
struct Reference {
    question_id: u64,
    choices: Vec<Turns>,
}

#[derive(Deserialize)]
struct Turns {
    turns: [String; 2],
}

#[derive(Deserialize)]
struct Template {
    name: String,
    system_prompt: String,
    prompt_template: String,
}

struct MtBench {
    items: Vec<Item>,
    /// By the id of the first turn's item.
    references: HashMap<String, [String; 2]>,
    /// Whether the references are those of which some are known to be wrong.
    flagged: bool,
    corrected: bool,
    against: Option<pair::Baseline>,
    templates: HashMap<String, Template>,
    sampling: SamplingSettings,
    reference_file: PathBuf,
    limit: usize,
}

fn open(folder: &Path, settings: Settings) -> Result<Box<dyn Benchmark>, EvalError> {
    let Keys { max_new_tokens, references, corrected_references: corrected, against, limit } =
        read(KNOWN.name, settings)?;
    let wrong_setting = |reason| EvalError::Settings { benchmark: KNOWN.name.to_owned(), reason };
    let sampling = greedy(&KNOWN, max_new_tokens)?;
    if !references.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
        let reason = format!("references = {references:?}\nhint: name a file of mt_bench/reference_answer");
        return Err(wrong_setting(reason));
    }
    let flagged = references == known_wrong::FILE;
    if corrected && (!flagged || against.is_some()) {
        let reason = format!(
            "corrected_references are for the references `{}` in single-answer grading\nhint: leave it out",
            known_wrong::FILE
        );
        return Err(wrong_setting(reason));
    }
    let template_file = folder.join("judge_prompts.jsonl");
    let templates: Vec<Template> = jsonl(&template_file)?;
    let templates: HashMap<String, Template> =
        templates.into_iter().map(|template| (template.name.clone(), template)).collect();
    for name in if against.is_some() { pair::TEMPLATES } else { TEMPLATES } {
        if !templates.contains_key(name) {
            let reason = format!("there is no template `{name}`");
            return Err(EvalError::File { path: template_file, reason });
        }
    }
    let reference_file = folder.join(format!("mt_bench/reference_answer/{references}.jsonl"));
    let mut references = HashMap::new();
    for Reference { question_id, choices } in jsonl(&reference_file)? {
        let Some(Turns { turns }) = choices.into_iter().next() else {
            let reason = format!("question {question_id} has no choices");
            return Err(EvalError::File { path: reference_file, reason });
        };
        references.insert(first_id(question_id), turns);
    }
    let question_file = folder.join("mt_bench/question.jsonl");
    let mut conversations: Vec<Conversation> = jsonl(&question_file)?;
    if limit > 0 {
        conversations.truncate(limit);
    }
    let asked = conversations.iter().map(|conversation| conversation.question_id);
    let against = against.map(|file| pair::Baseline::read(&file, asked)).transpose()?;
    let (mut items, mut ids) = (Vec::<Item>::new(), HashSet::new());
    for Conversation { question_id, category, turns: [first, second] } in conversations {
        let wrong = |reason: String| EvalError::File { path: question_file.clone(), reason };
        let id = first_id(question_id);
        if !ids.insert(id.clone()) {
            return Err(EvalError::DuplicateId { id });
        }
        let known = TEMPERATURES.iter().find(|(known, _)| *known == category);
        let Some((_, temperature)) = known else {
            return Err(wrong(format!("question {question_id}: there is no category `{category}`")));
        };
        if WITH_REFERENCE.contains(&category.as_str()) && !references.contains_key(&id) {
            let reason = format!("question {question_id} ({category}) needs a reference answer");
            return Err(EvalError::File { path: reference_file, reason });
        }
        let turn = |id: String, text: String, after: Option<String>| Item {
            id,
            messages: vec![Message::user(text)],
            group: if after.is_some() { SECOND } else { FIRST },
            after,
            temperature: Some(*temperature),
            category: Some(category.clone()),
            ..Item::default()
        };
        items.push(turn(id.clone(), first, None));
        items.push(turn(format!("{question_id}/2"), second, Some(id)));
    }
    if items.is_empty() {
        let reason = "the file has no questions".to_owned();
        return Err(EvalError::File { path: question_file, reason });
    }
    Ok(Box::new(MtBench {
        items,
        references,
        flagged,
        corrected,
        against,
        templates,
        sampling,
        reference_file,
        limit,
    }))
}

fn first_id(question_id: u64) -> String {
    format!("{question_id}/1")
}

/// The score in a judge's text, as FastChat reads it: the first number in double brackets, else the first in single ones.
/// `None` where there is none, or where it is not from 1 to 10.
fn score_of(text: &str) -> Option<f64> {
    static PATTERNS: LazyLock<[Option<Regex>; 2]> = LazyLock::new(|| {
        [r"\[\[([0-9]+\.?[0-9]*)\]\]", r"\[([0-9]+\.?[0-9]*)\]"].map(|pattern| Regex::new(pattern).ok())
    });
    let found = PATTERNS.iter().flatten().find_map(|pattern| pattern.captures(text))?;
    found[1].parse().ok().filter(|score| (1.0..=10.0).contains(score))
}

const TEMPLATES: [&str; 4] =
    ["single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"];

/// The number of the question that an item is a turn of.
fn conversation_of(item: &Item) -> u64 {
    item.id.split('/').next().and_then(|id| id.parse().ok()).unwrap_or_default()
}

/// The text of an item's question.
fn asked(item: &Item) -> &str {
    item.messages.last().map(|message| message.content.as_str()).unwrap_or_default()
}

fn has_reference(item: &Item) -> bool {
    WITH_REFERENCE.contains(&item.category.as_deref().unwrap_or_default())
}

impl MtBench {
    /// The references of both turns; empty where the category has none.
    fn references_of<'a>(&'a self, before: &[(&Item, &Answer)], item: &Item) -> [&'a str; 2] {
        let first = before.first().map_or(item, |(first, _)| first);
        self.references.get(&first.id).map_or(["", ""], |[one, two]| [one.as_str(), two.as_str()])
    }

    /// What the judge is asked in single-answer grading.
    fn graded(
        &self,
        [one, two]: [&str; 2],
        before: &[(&Item, &Answer)],
        item: &Item,
        answer: &Answer,
    ) -> Option<Question> {
        let with_reference = has_reference(item);
        match before.first() {
            None => {
                let values = [("question", asked(item)), ("answer", &answer.text), ("ref_answer_1", one)];
                self.filled(if with_reference { "single-math-v1" } else { "single-v1" }, &values)
            }
            Some((first, first_answer)) => {
                let name = if with_reference { "single-math-v1-multi-turn" } else { "single-v1-multi-turn" };
                let values = [
                    ("question_1", asked(first)),
                    ("answer_1", &first_answer.text),
                    ("question_2", asked(item)),
                    ("answer_2", &answer.text),
                    ("ref_answer_1", one),
                    ("ref_answer_2", two),
                ];
                self.filled(name, &values)
            }
        }
    }

    /// A question to the judge from one of FastChat's templates.
    fn filled(&self, template: &str, values: &[(&str, &str)]) -> Option<Question> {
        let template = self.templates.get(template)?;
        Some(Question {
            messages: vec![
                Message::system(template.system_prompt.clone()),
                Message::user(fill(&template.prompt_template, values)),
            ],
            options: Vec::new(),
            max_new_tokens: 2048,
        })
    }
}

impl Benchmark for MtBench {
    fn known(&self) -> &'static Known {
        &KNOWN
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn ask(&self) -> Ask {
        Ask::Generate(self.sampling.clone())
    }

    fn questions(&self, before: &[(&Item, &Answer)], item: &Item, answer: &Answer) -> Vec<Question> {
        let references = self.references_of(before, item);
        if let Some(baseline) = &self.against {
            return self.both_orders(baseline, references, before, item, answer);
        }
        let corrected = if self.corrected { known_wrong::correction(conversation_of(item)) } else { None };
        let all = [Some(references), corrected].into_iter().flatten();
        all.filter_map(|references| self.graded(references, before, item, answer)).collect()
    }

    fn needs_judge(&self) -> bool {
        true
    }

    fn judge(&self, item: &Item, answer: &Answer) -> Judgement {
        if self.against.is_some() {
            return pair::judge(item, answer);
        }
        let fault = fault(&answer.text);
        let parts = answer.judge.as_ref().map(Reply::parts).unwrap_or_default();
        let outcome = |part: Option<&Reply>| {
            part.and_then(Reply::text).and_then(score_of).map_or(Outcome::Unknown, Outcome::Number)
        };
        let found = outcome(parts.first());
        let of_turn = if item.group == FIRST { "score_turn_1" } else { "score_turn_2" };
        let mut outcomes = text_outcomes(fault, answer);
        let wrong = known_wrong::is_wrong(conversation_of(item));
        let all = [
            ("score", found),
            (of_turn, found),
            (UNJUDGED.key, (found == Outcome::Unknown).into()),
            ("score_sound", if wrong { Outcome::Unknown } else { found }),
            ("score_corrected", if wrong { outcome(parts.get(1)) } else { found }),
        ];
        let covered = all.into_iter().filter(|(key, _)| self.measures().iter().any(|m| m.key == *key));
        outcomes.extend(covered.map(|(key, outcome)| (key.to_owned(), outcome)));
        let verdict = match found {
            Outcome::Number(score) => format!("score {score}"),
            _ => "unjudged".to_owned(),
        };
        Judgement { verdict, fault, outcomes }
    }

    fn measures(&self) -> &'static [Measure] {
        match (&self.against, self.flagged, self.corrected) {
            (Some(_), ..) => &pair::MEASURES,
            (None, _, true) => &MEASURES,
            (None, true, false) => &MEASURES[..=PLAIN],
            (None, false, false) => &MEASURES[..PLAIN],
        }
    }

    fn groups(&self) -> &'static [Group] {
        if self.against.is_some() { &pair::GROUPS } else { &GROUPS }
    }

    fn rule(&self) -> &'static str {
        if self.against.is_some() { "mt-bench-pairwise" } else { "mt-bench" }
    }

    fn method(&self) -> Method {
        let file = self.reference_file.file_name().unwrap_or_default().to_string_lossy();
        let wrong = match self.flagged {
            true => format!(
                ", of which {} of 30 are known to be wrong (FastChat, pull request 3158)",
                known_wrong::COUNT
            ),
            false => String::new(),
        };
        let references = format!("in math, reasoning and coding it sees the references of {file}{wrong}.");
        Method {
            asked: format!(
                "MT-Bench's conversations, answers of up to {} tokens at FastChat's temperatures.{}",
                self.sampling.max_new_tokens,
                part(self.limit)
            ),
            judged: match &self.against {
                Some(baseline) => baseline.method(&references),
                None => {
                    format!("A judge grades each turn from 1 to 10 (single-answer grading); {references}")
                }
            },
            believed: None,
        }
    }
}

#[cfg(test)]
mod tests;
