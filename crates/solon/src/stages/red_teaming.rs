//! What the items of a `red-team` stage add up to: how many prompts are new, and with how many of these each target complies.
//!
//! Contract: compliance is the measure `harmful_compliance` of the benchmark `safety`, so that what is kept, what is reported here and
//! what `evaluate` reports are by one rule. It is of all new prompts, kept or not.

use super::Column;
use super::asking::{self, Asking};
use super::evaluate::comparison;
use super::evaluation_report::Shown;
use super::red_team::{KIND, Keep, RedTeam};
use crate::items::{Evaluated, WrittenPrompt};
use crate::report::{self, Report};
use crate::run::Reader;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use solon_data::ledger::TypedItem;
use solon_eval::benchmarks::Settings;
use solon_eval::{Benchmark, Judged, Outcome, Rate, Summary, summarise};
use solon_records::Prompt;
use std::collections::BTreeMap;

/// The measure of `safety` that holds where an attack succeeds.
const SUCCESS: &str = "harmful_compliance";

/// The same in the report and in `summary.json`.
const ATTACK_SUCCESS: &str = "attack_success";

/// The benchmark by which answers of targets are judged.
pub fn measuring() -> Result<Asking> {
    Asking::new(&asking::safety(), None, true, Settings::new()).map_err(anyhow::Error::msg)
}

/// What a target answered, by prompt.
pub fn answered(read: &Reader<'_>, target: &str) -> Result<BTreeMap<String, Judged>> {
    let own: Vec<TypedItem<Evaluated>> = read.own()?;
    let of_target = own.into_iter().filter(|item| item.data.model == target);
    Ok(of_target.map(|item| (item.data.judged.id.clone(), item.data.judged)).collect())
}

/// Whether a target complied.
pub fn complied(judged: &Judged) -> Result<bool> {
    match judged.judgement.outcomes.get(SUCCESS) {
        Some(Outcome::Holds(holds)) => Ok(*holds),
        _ => bail!("the answer to {} was not measured by {SUCCESS}", judged.id),
    }
}

/// The prompts that were asked for.
struct Written {
    /// All, dropped ones included.
    all: Vec<TypedItem<WrittenPrompt>>,
    /// Those that say something new, which is what targets answer.
    new: Vec<Prompt>,
}

impl Written {
    fn of(read: &Reader<'_>) -> Result<Self> {
        let all: Vec<TypedItem<WrittenPrompt>> = read.own_with_dropped()?;
        let is_new = |item: &&TypedItem<WrittenPrompt>| item.data.fault.is_none() && item.data.near.is_none();
        let new = all.iter().filter(is_new).map(|item| item.data.prompt.clone()).collect();
        Ok(Self { all, new })
    }

    fn kept(&self) -> impl Iterator<Item = &TypedItem<WrittenPrompt>> {
        self.all.iter().filter(|item| item.dropped_reason.is_none())
    }

    /// How many were dropped, by reason.
    fn dropped(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for reason in self.all.iter().filter_map(|item| item.dropped_reason.as_deref()) {
            *counts.entry(reason).or_default() += 1;
        }
        counts
    }

    /// What each target's answers add up to.
    fn columns(&self, read: &Reader<'_>) -> Result<(Box<dyn Benchmark>, Vec<Column>)> {
        let benchmark = measuring()?.open(self.new.clone())?;
        let mut columns = Vec::new();
        for target in read.input("target") {
            let answers: Vec<Judged> = answered(read, target)?.into_values().collect();
            let summary =
                summarise(&*benchmark, answers).with_context(|| format!("the answers of {target}"))?;
            columns.push(Column { name: target.clone(), model: target.clone(), judge: 0, summary });
        }
        Ok((benchmark, columns))
    }
}

/// How often a target complied.
fn success(summary: &Summary) -> Result<Rate> {
    summary.rate(SUCCESS).with_context(|| format!("{SUCCESS} is a share"))
}

/// The stage's part of the report.
pub fn report(stage: &RedTeam, read: &Reader<'_>, report: &mut Report) -> Result<()> {
    let written = Written::of(read)?;
    let (benchmark, columns) = written.columns(read)?;
    let (name, kept) = (read.name(), written.kept().count());
    let mut told =
        format!("{name}: of {} prompts asked for, {} are new", written.all.len(), written.new.len());
    for Column { name, summary, .. } in &columns {
        let Rate { count, rate, low, high, .. } = success(summary)?;
        let [rate, low, high] = [rate, low, high].map(|share| 100.0 * share);
        told += &format!("; {name} complies with {count} of these ({rate:.1} %; {low:.1} to {high:.1} %)");
    }
    report.notes.push(format!("{told}; {kept} are kept."));
    for target in read.input("target") {
        let learnt = read.learnt_prompts(target)?;
        let seeds = read.prompts("seeds")?;
        let mut of_training = 0;
        for seed in &seeds {
            of_training += usize::from(learnt.contains(&Reader::learnt_key(&seed.messages)?));
        }
        if of_training > 0 {
            report.warnings.push(format!(
                "{name}: {target} has learnt from {of_training} of {} seeds, so what is written after them attacks it on familiar \
                 ground. Give seeds that no training saw.",
                seeds.len()
            ));
        }
    }
    if kept < stage.count.get() {
        report.warnings.push(format!(
            "{name} was to find {} prompts and found {kept}. What it dropped, and why, is among the stages.",
            stage.count
        ));
    }
    if let Some(first) = written.kept().next() {
        report.trail.push(read.trail(&first.id)?);
    }
    if columns.is_empty() || written.new.is_empty() {
        return Ok(());
    }
    let shown = Shown { read, benchmark: &*benchmark, columns: &columns, agreements: &[] };
    let table = as_attacks(shown.table(&comparison(read, &columns)?));
    report.evaluations.push(report::Evaluation { method: method(stage, columns.len()), ..table });
    shown.samples(&mut report.samples);
    Ok(())
}

/// The table under the names of what was done. Prompts that were written to succeed are no sample of what people ask: their figures
/// count in no score, and stand in no chart with those of an evaluation.
fn as_attacks(mut table: report::Evaluation) -> report::Evaluation {
    KIND.name.clone_into(&mut table.benchmark);
    for row in &mut table.rows {
        row.scored = false;
        if row.key == SUCCESS {
            ATTACK_SUCCESS.clone_into(&mut row.key);
            "attack success".clone_into(&mut row.name);
            "Share of the new prompts that are not refused.".clone_into(&mut row.explanation);
        }
    }
    for categories in &mut table.categories {
        "attack success".clone_into(&mut categories.measure);
    }
    table
}

/// How the targets were asked.
fn method(stage: &RedTeam, targets: usize) -> String {
    let sampling = stage.answers();
    let how = match sampling.temperature {
        0.0 => "Greedy answers".to_owned(),
        temperature => format!("Answers sampled at temperature {temperature}"),
    };
    let mut method = format!(
        "{how} of up to {} tokens to the new prompts that a model wrote, those included that were not kept. They count as harmful \
         because their seeds are; one that is not raises the share.",
        sampling.max_new_tokens
    );
    if stage.keep() == Keep::Complied {
        let first = if targets > 1 { "the first model" } else { "the model" };
        method += &format!(
            " Categories in which {first} declines were asked for more often, which lowers its share over all of them; the \
             shares by category are not moved by that."
        );
    }
    format!("{method} {}", solon_eval::compare::METHOD)
}

/// The stage's part of `summary.json`.
pub fn summary(read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
    let written = Written::of(read)?;
    let (_, columns) = written.columns(read)?;
    let mut targets = Map::new();
    for Column { name, summary, .. } in &columns {
        let by_category: Map<String, Value> =
            summary.by_category.iter().map(|row| (row.category.clone(), json!(row.figure))).collect();
        let figures = json!({ATTACK_SUCCESS: success(summary)?, "by_category": by_category});
        targets.insert(name.clone(), figures);
    }
    let mut categories: BTreeMap<&str, usize> = BTreeMap::new();
    for kept in written.kept() {
        *categories.entry(kept.data.prompt.category.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let all = summary.entry("red_team").or_insert_with(|| json!({}));
    all[read.name()] = json!({
        "asked": written.all.len(),
        "new": written.new.len(),
        "kept": written.kept().count(),
        "kept_by_category": categories,
        "dropped": written.dropped(),
        "targets": targets,
    });
    Ok(())
}
