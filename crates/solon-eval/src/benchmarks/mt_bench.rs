//! MT-Bench (Zheng et al., NeurIPS 2023): two-turn conversations, each answer graded from 1 to 10 by a judge.
//!
//! Contract: reads FastChat's folder: `judge_prompts.jsonl`, `mt_bench/question.jsonl` and
//! `mt_bench/reference_answer/NAME.jsonl`. Temperatures by category, the judge's prompts and how its score is read are those
//! of FastChat at 0e6d3e4 (single-answer grading); a score outside 1 to 10 is no score. The figure is the mean over all
//! turns that got one.

use std::collections::HashMap;
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
    groups: &GROUPS,
    files: &[],
    open: Open::Files(open),
};

const FIRST: &str = "turn_1";
const SECOND: &str = "turn_2";

const GROUPS: [Group; 2] = [
    Group { name: FIRST, heading: "First turns", by_category: "score" },
    Group { name: SECOND, heading: "Second turns", by_category: "score" },
];

const MEASURES: [Measure; 7] = [
    score("score", "score", "The judge's mean score, from 1 to 10.", &[]),
    score("score_turn_1", "score, first turn", "The same of first turns.", &[FIRST]),
    score("score_turn_2", "score, second turn", "The same of second turns.", &[SECOND]),
    UNJUDGED,
    REPETITION,
    EMPTY,
    TRUNCATED,
];

const fn score(
    key: &'static str,
    title: &'static str,
    explanation: &'static str,
    groups: &'static [&'static str],
) -> Measure {
    let unit = Unit::Number { most: 10.0 };
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
    templates: HashMap<String, Template>,
    sampling: SamplingSettings,
    reference_file: PathBuf,
    limit: usize,
}

fn open(folder: &Path, settings: Settings) -> Result<Box<dyn Benchmark>, EvalError> {
    let Keys { max_new_tokens, references, limit } = read(KNOWN.name, settings)?;
    let wrong_setting = |reason| EvalError::Settings { benchmark: KNOWN.name.to_owned(), reason };
    let sampling = greedy(&KNOWN, max_new_tokens)?;
    if !references.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
        let reason = format!("references = {references:?}\nhint: name a file of mt_bench/reference_answer");
        return Err(wrong_setting(reason));
    }
    let template_file = folder.join("judge_prompts.jsonl");
    let templates: Vec<Template> = jsonl(&template_file)?;
    let templates: HashMap<String, Template> =
        templates.into_iter().map(|template| (template.name.clone(), template)).collect();
    for name in ["single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"] {
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
    let mut items: Vec<Item> = Vec::new();
    for Conversation { question_id, category, turns: [first, second] } in conversations {
        let wrong = |reason: String| EvalError::File { path: question_file.clone(), reason };
        let id = first_id(question_id);
        if items.iter().any(|item| item.id == id) {
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
    Ok(Box::new(MtBench { items, references, templates, sampling, reference_file, limit }))
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

impl Benchmark for MtBench {
    fn name(&self) -> &'static str {
        KNOWN.name
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn ask(&self) -> Ask {
        Ask::Generate(self.sampling.clone())
    }

    fn question(&self, before: &[(&Item, &Answer)], item: &Item, answer: &Answer) -> Option<Question> {
        let with_reference = WITH_REFERENCE.contains(&item.category.as_deref().unwrap_or_default());
        let text = |item: &Item| item.messages.last().map(|m| m.content.clone()).unwrap_or_default();
        let asked = text(item);
        let (name, values) = match before.first() {
            None => {
                let references = self.references.get(&item.id);
                let reference = references.map(|[first, _]| first.as_str()).unwrap_or_default();
                let values = vec![
                    ("question", asked.as_str()),
                    ("answer", answer.text.as_str()),
                    ("ref_answer_1", reference),
                ];
                (if with_reference { "single-math-v1" } else { "single-v1" }, values)
            }
            Some((first, first_answer)) => {
                let references = self.references.get(&first.id);
                let [one, two] = references.map_or(["", ""], |[one, two]| [one.as_str(), two.as_str()]);
                let name = if with_reference { "single-math-v1-multi-turn" } else { "single-v1-multi-turn" };
                let first_asked = first.messages.last().map(|m| m.content.as_str()).unwrap_or_default();
                let values = vec![
                    ("question_1", first_asked),
                    ("answer_1", first_answer.text.as_str()),
                    ("question_2", asked.as_str()),
                    ("answer_2", answer.text.as_str()),
                    ("ref_answer_1", one),
                    ("ref_answer_2", two),
                ];
                (name, values)
            }
        };
        let template = self.templates.get(name)?;
        Some(Question {
            messages: vec![
                Message::system(template.system_prompt.clone()),
                Message::user(fill(&template.prompt_template, &values)),
            ],
            options: Vec::new(),
            max_new_tokens: 2048,
        })
    }

    fn needs_judge(&self) -> bool {
        true
    }

    fn judge(&self, item: &Item, answer: &Answer) -> Judgement {
        let fault = fault(&answer.text);
        let score = match &answer.judge {
            Some(Reply::Said(text)) => score_of(text),
            _ => None,
        };
        let outcome = score.map_or(Outcome::Unknown, Outcome::Number);
        let of_turn = if item.group == FIRST { "score_turn_1" } else { "score_turn_2" };
        let mut outcomes = text_outcomes(fault, answer);
        let found = [("score", outcome), (of_turn, outcome), (UNJUDGED.key, score.is_none().into())];
        outcomes.extend(found.map(|(key, outcome)| (key.to_owned(), outcome)));
        let verdict = score.map_or("unjudged".to_owned(), |score| format!("score {score}"));
        Judgement { verdict, fault, outcomes }
    }

    fn measures(&self) -> &'static [Measure] {
        &MEASURES
    }

    fn groups(&self) -> &'static [Group] {
        &GROUPS
    }

    fn rule(&self) -> &'static str {
        "mt-bench"
    }

    fn method(&self) -> Method {
        Method {
            asked: format!(
                "MT-Bench's conversations, answers of up to {} tokens at FastChat's temperatures.{}",
                self.sampling.max_new_tokens,
                part(self.limit)
            ),
            judged: format!(
                "A judge grades each turn from 1 to 10 (single-answer grading); in math, reasoning and coding it sees the \
                 references of {}, some of which are known to be wrong.",
                self.reference_file.file_name().unwrap_or_default().to_string_lossy()
            ),
            believed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::tests::{describes_itself_consistently, shared_data};

    #[derive(Deserialize)]
    struct Graded {
        question_id: u64,
        model: String,
        judge: [String; 2],
        user_prompt: String,
        judgment: String,
        score: f64,
        turn: usize,
    }

    #[derive(Deserialize)]
    struct Answered {
        question_id: u64,
        choices: Vec<Turns>,
    }

    #[test]
    fn a_score_is_read_as_fastchat_reads_it() {
        for (text, expected) in [
            ("Rating: [[7]]", Some(7.0)),
            ("[3] is too low: [[6.5]], not [[9]]", Some(6.5)),
            ("Rating: [8.]", Some(8.0)),
            ("[[a]] [[ 5 ]] 5", None),
            ("Rating: [[0]]", None),
            ("Rating: [[10]]", Some(10.0)),
            ("Rating: [[100]]", None),
            ("", None),
        ] {
            assert_eq!(score_of(text), expected, "{text}");
        }
    }

    #[test]
    fn published_scores_and_prompts_are_made_again() {
        let Some(data) = shared_data("mt-bench") else { return };
        let benchmark = open(&data, Settings::new()).unwrap();
        describes_itself_consistently(&KNOWN, &*benchmark);
        let items: HashMap<&str, &Item> =
            benchmark.items().iter().map(|item| (item.id.as_str(), item)).collect();
        assert_eq!(items.len(), 160);
        let graded: Vec<Graded> = jsonl(&data.join("model_judgment/gpt-4_single.jsonl")).unwrap();
        assert_eq!(graded.len(), 800);
        let mut answers: HashMap<(String, u64), [String; 2]> = HashMap::new();
        for model in ["mistral-orpo", "mistral-orpo-capybara", "mistral-orpo-mix", "mistral-orpo-trl"] {
            for Answered { question_id, choices } in
                jsonl(&data.join(format!("model_answer/{model}.jsonl"))).unwrap()
            {
                answers.insert((model.to_owned(), question_id), choices.into_iter().next().unwrap().turns);
            }
        }
        let (mut same, mut scores) = (0, HashMap::<(&str, usize), Vec<f64>>::new());
        for row in &graded {
            assert_eq!(
                score_of(&row.judgment).unwrap_or(-1.0),
                row.score,
                "{} {}",
                row.model,
                row.question_id
            );
            let [first, second] = &answers[&(row.model.clone(), row.question_id)];
            let answer = |text: &String| Answer::written(text.clone(), false);
            let (first, second) = (answer(first), answer(second));
            let (one, two) =
                (items[first_id(row.question_id).as_str()], items[format!("{}/2", row.question_id).as_str()]);
            let question = match row.turn {
                1 => benchmark.question(&[], one, &first),
                _ => benchmark.question(&[(one, &first)], two, &second),
            };
            let question = question.unwrap();
            // One model was run twice; the answers of its first run are not published.
            if question.messages[1].content == row.user_prompt {
                same += 1;
                assert!(row.judge[1].ends_with("multi-turn") == (row.turn == 2), "{:?}", row.judge);
                let item = if row.turn == 1 { one } else { two };
                let answer = Answer { judge: Some(Reply::Said(row.judgment.clone())), ..first };
                if let Outcome::Number(score) = benchmark.judge(item, &answer).outcomes["score"] {
                    scores.entry((&row.model, row.turn)).or_default().push(score);
                }
            }
        }
        assert_eq!(same, 640);
        let mean = |parts: &[(&str, usize)]| {
            let all: Vec<f64> = parts.iter().flat_map(|part| scores[part].clone()).collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        for (model, expected) in [
            ("mistral-orpo-capybara", [7.1250, 6.5125, 6.8187]),
            ("mistral-orpo-trl", [7.7313, 6.6000, 7.1656]),
            ("mistral-orpo-mix", [6.4313, 5.5750, 6.0031]),
        ] {
            let found = [mean(&[(model, 1)]), mean(&[(model, 2)]), mean(&[(model, 1), (model, 2)])];
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - expected).abs() < 6e-5, "{model}: {found}, not {expected}");
            }
        }
        let of = |model: &str, turn: usize| {
            let rows = graded.iter().filter(|row| row.model == model && row.turn == turn && row.score > 0.0);
            rows.map(|row| row.score).collect::<Vec<_>>()
        };
        let [one, two] = [of("mistral-orpo", 1), of("mistral-orpo", 2)];
        assert_eq!((one.len(), two.len()), (160, 159));
        let all = one.iter().chain(&two).sum::<f64>() / 319.0;
        assert!((all - 5.8589).abs() < 6e-5, "{all}");
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("mt_bench/reference_answer")).unwrap();
        let template = |name: &str| {
            serde_json::json!({"name": name, "system_prompt": "Judge.", "prompt_template": "{question} {answer} {ref_answer_1}"}).to_string()
        };
        let names = ["single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"];
        let templates = names.map(template).join("\n");
        let question = r#"{"question_id": 1, "category": "math", "turns": ["2+2?", "And 3+3?"]}"#;
        let reference = r#"{"question_id": 1, "choices": [{"turns": ["4", "6"]}]}"#;
        let error = |templates: &str, questions: &str, references: &str, keys: serde_json::Value| {
            std::fs::write(path("judge_prompts.jsonl"), templates).unwrap();
            std::fs::write(path("mt_bench/question.jsonl"), questions).unwrap();
            std::fs::write(path("mt_bench/reference_answer/gpt-4.jsonl"), references).unwrap();
            open(folder.path(), keys.as_object().unwrap().clone()).err().map(|error| error.to_string())
        };
        let none = || serde_json::json!({});
        assert_eq!(error(&templates, question, reference, none()), None);
        for (templates, questions, references, keys, part) in [
            (template("single-v1").as_str(), question, reference, none(), "no template `single-math-v1`"),
            (&templates, question, "", none(), "question 1 (math) needs a reference"),
            (&templates, &question.replace("math", "maths"), reference, none(), "no category `maths`"),
            (
                &templates,
                &format!("{question}\n{question}"),
                reference,
                none(),
                "\"1/1\" appears more than once",
            ),
            (&templates, "{", reference, none(), "question.jsonl, line 1"),
            (&templates, "\n", reference, none(), "no questions"),
            (&templates, question, reference, serde_json::json!({"references": "../gpt-4"}), "references"),
            (&templates, question, reference, serde_json::json!({"references": "gpt-5"}), "gpt-5.jsonl"),
        ] {
            let error = error(templates, questions, references, keys).unwrap();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
