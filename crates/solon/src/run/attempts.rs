//! What came of preregistered thresholds, and on which attempt.
//!
//! Contract: an attempt is what a recipe makes of the models that thresholds name. Another setting of their training, or of
//! what they come from, the seed among it, is another attempt. So is the same training when an evaluation of it finds other
//! figures than before: another build of the program computed them, or a judge that is served answered otherwise. Each attempt
//! is kept in `attempts.jsonl` as soon as its evaluation is done, so that no figure can be seen that does not count. Only
//! evaluations that a threshold names are kept there; how often another evaluation was run is not counted.

use super::Run;
use super::folder::sha256_json;
use super::preregister::{Preregistration, Threshold};
use crate::plan::Plan;
use crate::stages::BASE;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::files::{sha256_parts, write_bytes_atomically};
use solon_eval::Summary;
use std::collections::{BTreeMap, BTreeSet};

/// What was found of the thresholds of each evaluation, by the evaluation's stage.
type Figures = BTreeMap<String, Vec<Found>>;

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

/// The number of the attempt that trained like this and found nothing that differs from these figures; `None` where there is
/// none yet. An attempt that was stopped between two evaluations has the figures of the first alone, and goes on.
fn number_of(attempts: &[Attempt], training: &str, figures: &Figures) -> Option<usize> {
    let of_training: BTreeSet<usize> =
        attempts.iter().filter(|known| known.training == training).map(|known| known.attempt).collect();
    of_training.into_iter().find(|number| {
        let mut lines = attempts.iter().filter(|known| known.attempt == *number);
        lines.all(|known| figures.get(&known.stage).is_none_or(|found| *found == known.found))
    })
}

impl Run {
    /// The hash of the training that thresholds are about.
    pub(super) fn training_of(&self, held_to: &Preregistration) -> Result<String> {
        let models: BTreeSet<&str> =
            held_to.thresholds.iter().map(|threshold| threshold.model.as_str()).collect();
        let hash = |model| training_hash(&self.plan, model, &self.base_hash, &self.constitution_hash);
        let hashes: Result<BTreeMap<&str, String>> =
            models.into_iter().map(|model| Ok((model, hash(model)?))).collect();
        sha256_json(&hashes?)
    }

    /// What the evaluations that are done found of the thresholds.
    fn figures(&self, held_to: &Preregistration) -> Result<Figures> {
        let mut figures = Figures::new();
        let done = held_to.stages().into_iter().filter(|stage| self.has_made(stage));
        for stage in done {
            let columns = self.columns(stage)?.into_iter();
            let summaries: BTreeMap<String, Summary> =
                columns.map(|column| (column.model, column.summary)).collect();
            let found = held_to
                .of_stage(stage)
                .filter_map(|threshold| Some(Found::of(threshold, summaries.get(&threshold.model)?)));
            figures.insert(stage.to_owned(), found.collect());
        }
        Ok(figures)
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

    /// Keeps what the evaluations found that are done, unless these figures of this training are kept already.
    pub(super) fn record_attempt(&self, stage: &str) -> Result<()> {
        let Some((held_to, training)) = self.preregistration.as_ref().zip(self.training.as_ref()) else {
            return Ok(());
        };
        if held_to.of_stage(stage).next().is_none() {
            return Ok(());
        }
        let (mut attempts, figures) = (self.attempts()?, self.figures(held_to)?);
        let next = attempts.iter().map(|attempt| attempt.attempt).max().unwrap_or(0) + 1;
        let number = number_of(&attempts, training, &figures).unwrap_or(next);
        let known = attempts.len();
        for (stage, found) in figures {
            if !attempts.iter().any(|attempt| attempt.attempt == number && attempt.stage == stage) {
                attempts.push(Attempt { attempt: number, training: training.clone(), stage, found });
            }
        }
        if attempts.len() == known {
            return Ok(());
        }
        let mut text = String::new();
        for attempt in &attempts {
            text += &serde_json::to_string(attempt)?;
            text.push('\n');
        }
        Ok(write_bytes_atomically(&self.folder.path.join(ATTEMPTS), text.as_bytes())?)
    }

    /// What came of the thresholds, for the summary, and in one line; `None` where an evaluation that they name is not done.
    pub(super) fn preregistered(&self) -> Result<Option<(Value, String)>> {
        let Some((held_to, training)) = self.preregistration.as_ref().zip(self.training.as_ref()) else {
            return Ok(None);
        };
        if !held_to.stages().iter().all(|stage| self.has_made(stage)) {
            return Ok(None);
        }
        let attempts = self.attempts()?;
        let Some(number) = number_of(&attempts, training, &self.figures(held_to)?) else { return Ok(None) };
        let count = attempts.iter().map(|attempt| attempt.attempt).max().unwrap_or(0);
        let mut by_number: BTreeMap<usize, Vec<Found>> = BTreeMap::new();
        for attempt in &attempts {
            by_number.entry(attempt.attempt).or_default().extend(attempt.found.iter().cloned());
        }
        let of = held_to.thresholds.len();
        let met = |found: &[Found]| found.iter().filter(|found| found.met).count();
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

    fn found(value: Option<f64>, met: bool) -> Found {
        let threshold = Threshold {
            stage: "evaluate".to_owned(),
            model: "dpo".to_owned(),
            measure: "empty".to_owned(),
            at_most: Some(0.1),
            at_least: None,
        };
        Found { threshold, value, interval: None, met }
    }

    #[test]
    fn other_figures_of_the_same_training_are_another_attempt() {
        let line = |attempt: usize, training: &str, stage: &str, value: f64| Attempt {
            attempt,
            training: training.to_owned(),
            stage: stage.to_owned(),
            found: vec![found(Some(value), true)],
        };
        let figures = |of: &[(&str, f64)]| -> Figures {
            of.iter().map(|(stage, value)| ((*stage).to_owned(), vec![found(Some(*value), true)])).collect()
        };
        // The first attempt was stopped before its second evaluation.
        let attempts = [
            line(1, "a", "one", 0.1),
            line(2, "b", "one", 0.2),
            line(3, "b", "one", 0.3),
            line(3, "b", "two", 0.4),
        ];
        for (training, of, number) in [
            ("a", &[("one", 0.1)][..], Some(1)),
            ("a", &[("one", 0.1), ("two", 0.7)], Some(1)),
            ("a", &[("one", 0.2)], None),
            ("b", &[("one", 0.2), ("two", 0.4)], Some(2)),
            ("b", &[("one", 0.3), ("two", 0.4)], Some(3)),
            ("b", &[("one", 0.3), ("two", 0.5)], None),
            ("c", &[("one", 0.1)], None),
        ] {
            assert_eq!(number_of(&attempts, training, &figures(of)), number, "{training}: {of:?}");
        }
    }

    #[test]
    fn the_line_says_what_was_met_and_on_which_attempt() {
        let both = [found(Some(0.0), true), found(Some(0.25), false)];
        assert_eq!(
            told(&both, 2, 1, 1),
            "preregistered: 1 of 2 thresholds met, on attempt 1 (dpo in evaluate: empty is 0.250, and was to be at most 0.1)"
        );
        assert_eq!(told(&both[..1], 1, 2, 3), "preregistered: 1 of 1 thresholds met, on attempt 2 of 3");
        assert!(told(&[found(None, false)], 1, 1, 1).contains("empty is not measured"));
    }
}
