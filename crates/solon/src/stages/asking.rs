//! What stages that put a benchmark to models share: opening it, checking it before anything runs, asking its items, and
//! recording an answer.

use super::{Preflight, Stage};
use crate::cli::UsageError;
use crate::items::Evaluated;
use crate::run::Reader;
use anyhow::Result;
use solon_data::ledger::NewItem;
use solon_draws::Draws;
use solon_eval::benchmarks::{self, Settings};
use solon_eval::{Answer, Benchmark, Item};
use solon_feedback::{FeedbackModel, GenerateRequest};
use solon_records::{Prompt, SamplingSettings};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;

/// A benchmark as a recipe describes it.
pub struct Asking<'a> {
    /// Its name.
    pub benchmark: &'a str,
    /// Most new tokens of an answer.
    pub max_new_tokens: NonZeroUsize,
    /// Prompts of each kind, evenly spaced; 0 takes all.
    pub limit_each: usize,
}

impl Asking<'_> {
    /// The benchmark over these prompts.
    pub fn open(&self, prompts: Vec<Prompt>) -> Result<Box<dyn Benchmark>> {
        let settings = Settings { max_new_tokens: self.max_new_tokens.get(), limit_each: self.limit_each };
        Ok(benchmarks::open(self.benchmark, prompts, &settings)?)
    }

    /// Refuses a benchmark that does not exist.
    pub fn check_name(&self) -> Result<()> {
        let known = benchmarks::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        if known.contains(&self.benchmark) {
            return Ok(());
        }
        let what = format!("there is no benchmark `{}`; it is one of {}", self.benchmark, known.join(", "));
        Err(UsageError(what).into())
    }

    /// Opens the benchmark over the prompts of the input, where these are known before the run.
    pub fn open_before(&self, preflight: &Preflight<'_>) -> Result<Option<Box<dyn Benchmark>>> {
        let mut prompts = Vec::new();
        for stage in (preflight.inputs)("prompts") {
            match stage.prompts() {
                Some(known) => prompts.extend(known?),
                // Known only when it has run: then it is looked at.
                None => return Ok(None),
            }
        }
        self.open(prompts).map(Some)
    }
}

/// Refuses a model that was made from the prompts of the input, or from a stage of prompts that holds some of them under
/// whatever ids. Prompts of other files, such as demonstrations, are not compared.
pub fn check_unseen(preflight: &Preflight<'_>, model: &str) -> Result<()> {
    let own = (preflight.names)("prompts");
    let mut asked: BTreeSet<String> = own.iter().flat_map(|name| (preflight.ancestors)(name)).collect();
    asked.extend(own.iter().cloned());
    let wanted = texts(own.iter().filter_map(|name| (preflight.stage)(name)))?;
    for before in (preflight.ancestors)(model) {
        let what = if asked.contains(&before) {
            format!("`{model}` was made from the prompts of `{before}`, so it cannot be measured on them")
        } else {
            match wanted.intersection(&texts((preflight.stage)(&before).into_iter())?).count() {
                0 => continue,
                shared => format!(
                    "`{model}` was made from `{before}`, which holds {shared} of the prompts it is to be measured on"
                ),
            }
        };
        let hint = "hint: measure on prompts that no training sees";
        return Err(UsageError(format!("{what}\n{hint}")).into());
    }
    Ok(())
}

/// What is asked in stages of prompts. A stage whose prompts are known only when it has run gives none.
fn texts<'a>(stages: impl Iterator<Item = &'a dyn Stage>) -> Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for prompts in stages.filter_map(Stage::prompts) {
        for prompt in prompts? {
            texts.insert(Reader::learnt_key(&prompt.messages)?);
        }
    }
    Ok(texts)
}

/// A model's answers to some items.
pub fn answers(
    model: &dyn FeedbackModel,
    todo: &[(u64, &Item)],
    sampling: &SamplingSettings,
    draws: Draws,
) -> Result<Vec<Answer>> {
    let requests: Vec<GenerateRequest> = todo
        .iter()
        .map(|(_, item)| GenerateRequest {
            id: item.id.clone(),
            messages: item.messages.clone(),
            prefill: String::new(),
        })
        .collect();
    let answers = model.generate(&requests, sampling, draws, &mut |_| {})?;
    Ok(answers.into_iter().map(|answer| Answer { text: answer.text, truncated: answer.truncated }).collect())
}

/// A judged answer as the ledger holds it.
pub fn recorded(id: String, place: u64, item: &Item, data: &Evaluated) -> Result<NewItem> {
    let mut made = NewItem::of(id, place, &data.judged.answer.text, data)?.parent(item.id.clone(), "prompt");
    made.prompt_id = Some(item.id.clone());
    Ok(made)
}
