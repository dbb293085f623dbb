//! What came of preregistered thresholds, and on which attempt.
//!
//! Contract: an attempt is what a recipe makes of the models that thresholds name: another setting of their training, or of
//! what they come from, the seed among it, is another attempt. Each is kept in `attempts.jsonl` as soon as its evaluation is
//! done, so that no figure can be seen that does not count.

use super::folder::sha256_json;
use super::preregister::{Preregistration, Threshold};
use super::{Run, base_hash, constitution_hash};
use crate::plan::Plan;
use crate::stages::BASE;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::files::{sha256_parts, write_bytes_atomically};
use solon_eval::Summary;
use std::collections::{BTreeMap, BTreeSet};

/// The attempts, a line for each evaluation of one.
const ATTEMPTS: &str = "attempts.jsonl";

/// What became of a threshold.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Found {
    #[serde(flatten)]
    threshold: Threshold,
    /// `None` where it was not measured.
    value: Option<f64>,
    /// At 95 %; `None` where it was not measured, or of too few items.
    interval: Option<[f64; 2]>,
    /// Whether the value is on the right side; the interval does not count.
    met: bool,
}

/// One evaluation of one attempt.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Attempt {
    /// From 1.
    attempt: usize,
    /// Hash of the settings of all training that thresholds are about.
    training: String,
    stage: String,
    found: Vec<Found>,
}

impl Found {
    fn of(threshold: &Threshold, summary: &Summary) -> Self {
        let figure = summary.figure(&threshold.measure);
        let value = figure.map(|figure| figure.value()).filter(|value| value.is_finite());
        let interval = figure.map(|figure| figure.interval());
        Self {
            threshold: threshold.clone(),
            value,
            interval: interval.filter(|ends| value.is_some() && ends.iter().all(|end| end.is_finite())),
            met: value.is_some_and(|value| threshold.is_met(value)),
        }
    }
}

/// Hash of the settings of a model's training and of everything that it comes from. Nothing is run to know it.
fn training_hash(plan: &Plan, model: &str, base: &str, constitution: &str) -> Result<String> {
    let Some(planned) = plan.stage(model).filter(|_| model != BASE) else { return Ok(base.to_owned()) };
    let mut parts =
        vec![model.to_owned(), planned.kind.name.to_owned(), sha256_json(&planned.stage.settings())?];
    if planned.stage.needs_constitution() {
        parts.push(constitution.to_owned());
    }
    for (key, names) in &planned.inputs {
        parts.push((*key).to_owned());
        for name in names {
            parts.push(training_hash(plan, name, base, constitution)?);
        }
    }
    Ok(sha256_parts(parts))
}

impl Run {
    /// The hash of the attempt that this plan is.
    fn attempt_hash(&self, held_to: &Preregistration) -> Result<String> {
        let base = base_hash(&self.plan, &self.model_sha256)?;
        let constitution = constitution_hash(&self.plan)?;
        let models: BTreeSet<&str> =
            held_to.thresholds.iter().map(|threshold| threshold.model.as_str()).collect();
        let hashes: Result<BTreeMap<&str, String>> = models
            .into_iter()
            .map(|model| Ok((model, training_hash(&self.plan, model, &base, &constitution)?)))
            .collect();
        sha256_json(&hashes?)
    }

    /// The attempts so far.
    fn attempts(&self) -> Result<Vec<Attempt>> {
        let path = self.folder.path.join(ATTEMPTS);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.with_context(|| path.display().to_string())?,
        };
        let lines = text.lines().enumerate();
        lines
            .map(|(place, line)| {
                serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), place + 1))
            })
            .collect()
    }

    /// Keeps what a finished evaluation found, unless this attempt's figures are kept already.
    pub(super) fn record_attempt(&self, stage: &str) -> Result<()> {
        let Some(held_to) =
            self.preregistration.as_ref().filter(|held_to| held_to.of_stage(stage).next().is_some())
        else {
            return Ok(());
        };
        let (training, mut attempts) = (self.attempt_hash(held_to)?, self.attempts()?);
        if attempts.iter().any(|attempt| attempt.training == training && attempt.stage == stage) {
            return Ok(());
        }
        let known = attempts.iter().find(|attempt| attempt.training == training).map(|known| known.attempt);
        let next = attempts.iter().map(|attempt| attempt.attempt).max().unwrap_or(0) + 1;
        let columns = self.columns(stage)?.into_iter();
        let summaries: BTreeMap<String, Summary> =
            columns.map(|column| (column.model, column.summary)).collect();
        let found = held_to
            .of_stage(stage)
            .filter_map(|threshold| Some(Found::of(threshold, summaries.get(&threshold.model)?)));
        attempts.push(Attempt {
            attempt: known.unwrap_or(next),
            training,
            stage: stage.to_owned(),
            found: found.collect(),
        });
        let mut text = String::new();
        for attempt in &attempts {
            text += &serde_json::to_string(attempt)?;
            text.push('\n');
        }
        Ok(write_bytes_atomically(&self.folder.path.join(ATTEMPTS), text.as_bytes())?)
    }

    /// What came of the thresholds, for the summary, and in one line.
    pub(super) fn preregistered(&self) -> Result<Option<(Value, String)>> {
        let Some(held_to) = &self.preregistration else { return Ok(None) };
        let (training, attempts) = (self.attempt_hash(held_to)?, self.attempts()?);
        let count = attempts.iter().map(|attempt| attempt.attempt).max().unwrap_or(0);
        let mut by_number: BTreeMap<usize, Vec<Found>> = BTreeMap::new();
        for attempt in &attempts {
            by_number.entry(attempt.attempt).or_default().extend(attempt.found.iter().cloned());
        }
        let of = held_to.thresholds.len();
        let met = |found: &[Found]| found.iter().filter(|found| found.met).count();
        let number =
            attempts.iter().find(|attempt| attempt.training == training).map_or(0, |now| now.attempt);
        let now = by_number.get(&number).cloned().unwrap_or_default();
        let first_met = by_number.iter().find(|(_, found)| met(found) == of).map(|(number, _)| *number);
        let told = told(&now, of, number, count);
        let value = json!({
            "told": told,
            "thresholds": now,
            "attempt": number,
            "attempts": count,
            "met_on_attempt": first_met,
            "every_attempt": by_number.iter().map(|(number, found)| json!({"attempt": number, "met": met(found), "thresholds": found})).collect::<Vec<_>>(),
            "recipe": held_to.recipe,
            "evaluations": held_to.evaluations,
        });
        Ok(Some((value, told)))
    }
}

/// `preregistered: 2 of 3 thresholds met, on attempt 1`, and what was not.
fn told(found: &[Found], of: usize, number: usize, count: usize) -> String {
    let met = found.iter().filter(|found| found.met).count();
    let among = if count > 1 { format!(" of {count}") } else { String::new() };
    let mut line = format!("preregistered: {met} of {of} thresholds met, on attempt {number}{among}");
    let missed = found.iter().filter(|found| !found.met).map(|found| {
        let Threshold { stage, model, measure, at_most, at_least } = &found.threshold;
        let value = found.value.map_or("not measured".to_owned(), |value| format!("{value:.3}"));
        let bound = match (at_most, at_least) {
            (Some(most), _) => format!("at most {most}"),
            (None, least) => format!("at least {}", least.unwrap_or(0.0)),
        };
        format!("{model} in {stage}: {measure} is {value}, and was to be {bound}")
    });
    let missed: Vec<String> = missed.collect();
    if !missed.is_empty() {
        line += &format!(" ({})", missed.join("; "));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_was_met_and_on_which_attempt() {
        let found = |value: Option<f64>, met: bool| Found {
            threshold: Threshold {
                stage: "evaluate".to_owned(),
                model: "dpo".to_owned(),
                measure: "empty".to_owned(),
                at_most: Some(0.1),
                at_least: None,
            },
            value,
            interval: None,
            met,
        };
        let both = [found(Some(0.0), true), found(Some(0.25), false)];
        assert_eq!(
            told(&both, 2, 1, 1),
            "preregistered: 1 of 2 thresholds met, on attempt 1 (dpo in evaluate: empty is 0.250, and was to be at most 0.1)"
        );
        assert_eq!(told(&both[..1], 1, 2, 3), "preregistered: 1 of 1 thresholds met, on attempt 2 of 3");
        assert!(told(&[found(None, false)], 1, 1, 1).contains("empty is not measured"));
    }
}
