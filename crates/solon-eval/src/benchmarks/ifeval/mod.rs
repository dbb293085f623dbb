//! IFEval (Zhou et al. 2023): does an answer follow instructions that a program can verify, such as "in at least 300 words"?
//!
//! Contract: reads `input_data.jsonl` as published: `key`, `prompt`, `instruction_id_list` and `kwargs`. All 25 instructions are
//! checked as lm-evaluation-harness 0.4.13 does (`tasks/ifeval`), the language and the number of sentences only nearly so
//! ([`instruction`] says where). Strict judges the answer as it is; loose also without its first line, its last line, and its
//! asterisks, and one of these eight texts is enough.

mod instruction;
mod text;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use solon_records::{Message, SamplingSettings};

use self::instruction::Instruction;
use super::{
    EMPTY, Known, Open, REPETITION, Settings, TRUNCATED, first, greedy, part, places, read, text_outcomes,
};
use crate::benchmark::{
    Answer, Ask, Benchmark, Better, Group, Item, Judgement, Measure, Method, Outcome, Unit,
};
use crate::degenerate::fault;
use crate::error::EvalError;

/// The benchmark in the list of all.
pub const KNOWN: Known = Known {
    name: "ifeval",
    about: "IFEval: instructions that a program can verify",
    data: "input_data.jsonl",
    groups: &GROUPS,
    files: &[],
    open: Open::Files(open),
};

const GROUPS: [Group; 1] = [Group { name: "prompts", heading: "Prompts", by_category: "prompt_strict" }];

const MEASURES: [Measure; 7] = [
    share(
        "prompt_strict",
        "prompts, strict",
        "Share of prompts all of whose instructions the answer follows.",
    )
    .scored(),
    share("instruction_strict", "instructions, strict", "Share of all instructions that are followed.")
        .in_unit(SHARES),
    share(
        "prompt_loose",
        "prompts, loose",
        "The same of prompts, with the answer's frame and asterisks left out.",
    ),
    share("instruction_loose", "instructions, loose", "The same of instructions.").in_unit(SHARES),
    REPETITION,
    EMPTY,
    TRUNCATED,
];

/// A prompt's followed instructions over the mean number of instructions of a prompt: the mean of these is the share of all
/// instructions that are followed, and its interval takes each prompt as one.
const SHARES: Unit = Unit::Number { least: 0.0, most: 1.0 };

const fn share(key: &'static str, title: &'static str, explanation: &'static str) -> Measure {
    Measure::share(key, title, explanation, Better::Higher, &[])
}

#[derive(Deserialize)]
struct Row {
    key: Value,
    prompt: String,
    instruction_id_list: Vec<String>,
    kwargs: Vec<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Largest number of new tokens in an answer; the harness's.
    #[serde(default = "answer_length")]
    max_new_tokens: usize,
    /// So many prompts are asked, from the start; 0 asks all.
    #[serde(default)]
    limit: usize,
}

fn answer_length() -> usize {
    1280
}

struct IfEval {
    items: Vec<Item>,
    places: HashMap<String, usize>,
    instructions: Vec<Vec<Instruction>>,
    /// Instructions of a prompt.
    mean: f64,
    sampling: SamplingSettings,
    file: PathBuf,
    limit: usize,
}

fn open(path: &Path, settings: Settings) -> Result<Box<dyn Benchmark>, EvalError> {
    let Keys { max_new_tokens, limit } = read(KNOWN.name, settings)?;
    let sampling = greedy(&KNOWN, max_new_tokens)?;
    let file = if path.is_dir() { path.join("input_data.jsonl") } else { path.to_owned() };
    let wrong = |reason: String| EvalError::File { path: file.clone(), reason };
    let (mut items, mut instructions, mut ids) = (Vec::new(), Vec::new(), HashSet::new());
    for Row { key, prompt, instruction_id_list, kwargs } in super::jsonl(&file)? {
        let id = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        if !ids.insert(id.clone()) {
            return Err(EvalError::DuplicateId { id });
        }
        let (names, arguments) = (instruction_id_list.len(), kwargs.len());
        if names == 0 || names != arguments {
            return Err(wrong(format!(
                "prompt {id}: {names} instructions and {arguments} `kwargs`; it needs as many, and at least one"
            )));
        }
        let read = instruction_id_list.iter().zip(&kwargs);
        let read = read.map(|(name, arguments)| Instruction::read(name, arguments, &prompt));
        let read: Vec<Instruction> =
            read.collect::<Result<_, _>>().map_err(|reason| wrong(format!("prompt {id}: {reason}")))?;
        let several = if names == 1 { "" } else { "s" };
        items.push(Item {
            id,
            messages: vec![Message::user(prompt)],
            group: GROUPS[0].name,
            category: Some(format!("{names} instruction{several}")),
            ..Item::default()
        });
        instructions.push(read);
    }
    first(&mut items, limit);
    instructions.truncate(items.len());
    if items.is_empty() {
        return Err(wrong("the file has no prompts".to_owned()));
    }
    let mean = instructions.iter().map(Vec::len).sum::<usize>() as f64 / items.len() as f64;
    Ok(Box::new(IfEval { places: places(&items), items, instructions, mean, sampling, file, limit }))
}

/// The texts of which one has to follow an instruction, loosely: the answer, without its first line, its last, and both, and each
/// of these without asterisks.
fn loose(answer: &str) -> Vec<String> {
    let lines: Vec<&str> = answer.split('\n').collect();
    let joined = |lines: &[&str]| lines.join("\n").trim().to_owned();
    let (without_first, without_last) = (&lines[1..], &lines[..lines.len() - 1]);
    let without_both = without_first.get(..without_first.len().saturating_sub(1)).unwrap_or_default();
    let texts = [answer.to_owned(), joined(without_first), joined(without_last), joined(without_both)];
    let plain = texts.each_ref().map(|text| text.replace('*', ""));
    texts.into_iter().chain(plain).collect()
}

impl Benchmark for IfEval {
    fn known(&self) -> &'static Known {
        &KNOWN
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn ask(&self) -> Ask {
        Ask::Generate(self.sampling.clone())
    }

    fn judge(&self, item: &Item, answer: &Answer) -> Judgement {
        let fault = fault(&answer.text);
        let place = self.places.get(&item.id);
        let instructions = place.map(|place| &self.instructions[*place][..]).unwrap_or_default();
        let follows =
            |text: &str, instruction: &Instruction| !text.trim().is_empty() && instruction.follows(text);
        let texts = loose(&answer.text);
        let strict: Vec<bool> = instructions.iter().map(|wanted| follows(&answer.text, wanted)).collect();
        let loose = instructions.iter().map(|wanted| texts.iter().any(|text| follows(text, wanted)));
        let loose: Vec<bool> = loose.collect();
        let mut outcomes = text_outcomes(fault, answer);
        for (followed, [prompt, instruction]) in [
            (&strict, ["prompt_strict", "instruction_strict"]),
            (&loose, ["prompt_loose", "instruction_loose"]),
        ] {
            let count = followed.iter().filter(|follows| **follows).count();
            outcomes.insert(prompt.to_owned(), (count == instructions.len() && count > 0).into());
            outcomes.insert(instruction.to_owned(), Outcome::Number(count as f64 / self.mean));
        }
        let missed = instructions.iter().zip(&strict).filter(|(_, follows)| !**follows);
        let missed: Vec<&str> = missed.map(|(instruction, _)| instruction.name()).collect();
        let verdict =
            if missed.is_empty() { "followed".to_owned() } else { format!("not {}", missed.join(", ")) };
        Judgement { verdict, fault, outcomes }
    }

    fn measures(&self) -> &'static [Measure] {
        &MEASURES
    }

    fn rule(&self) -> &'static str {
        "ifeval"
    }

    fn method(&self) -> Method {
        Method {
            asked: format!(
                "Prompts of {}; greedy answers of up to {} tokens.{}",
                self.file.file_name().unwrap_or_default().to_string_lossy(),
                self.sampling.max_new_tokens,
                part(self.limit)
            ),
            judged: "Each instruction is verified by a program, as in lm-evaluation-harness. Languages are told by whatlang, where \
                     the harness uses langdetect, and sentences end by a rule, where it uses a trained model: on instructions \
                     about these, single verdicts differ."
                .to_owned(),
            believed: None,
        }
    }
}

#[cfg(test)]
mod tests;
