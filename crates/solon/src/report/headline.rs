//! The verdict in a sentence: which model was delivered, and what its scored measures did.

use super::change::{Change, changes};
use super::data::{Evaluation, Measure, Report};
use super::evaluation::shown;

/// The sentence; `None` where no model was delivered, or none of its measures was compared with another model's.
pub fn headline(report: &Report) -> Option<String> {
    let delivered = &report.delivered.as_ref()?.name;
    let (evaluation, column) = decisive(&report.evaluations, delivered)?;
    let scored = evaluation.rows.iter().filter(|measure| measure.scored);
    let parts: Vec<String> =
        scored.filter_map(|measure| change(measure, column, evaluation.columns.len())).collect();
    let first = evaluation.columns.first()?;
    let before = if first == "base" { "the base model" } else { first };
    let (last, others) = parts.split_last()?;
    let list = match others {
        [] => last.clone(),
        others => format!("{}, and {last}", others.join(", ")),
    };
    Some(format!("The delivered model is {delivered}. Compared with {before}, {list}."))
}

/// The last evaluation that compares the model with another one and has a score, and the model's column in it.
pub fn decisive<'a>(evaluations: &'a [Evaluation], model: &str) -> Option<(&'a Evaluation, usize)> {
    evaluations.iter().rev().find_map(|evaluation| {
        let column =
            evaluation.columns.iter().position(|column| column == model).filter(|place| *place > 0)?;
        evaluation.rows.iter().any(|measure| measure.scored).then_some((evaluation, column))
    })
}

/// What a measure did, as a part of a sentence.
fn change(measure: &Measure, column: usize, columns: usize) -> Option<String> {
    let figures = changes(measure, columns);
    let (before, _) = (*figures.first()?)?;
    let (after, change) = (*figures.get(column)?)?;
    if !before.rate.is_finite() || !after.rate.is_finite() {
        return None;
    }
    let [(from, _), (to, _)] = [before, after].map(|rate| shown(rate, measure.most));
    let name = &measure.name;
    let word = if after.rate > before.rate { "rose" } else { "fell" };
    Some(match change {
        Change::Better => format!("{name} {word} from {from} to {to} (better)"),
        Change::Worse => format!("{name} {word} from {from} to {to} (worse)"),
        Change::Different => format!("{name} {word} from {from} to {to}"),
        Change::None | Change::Unclear => format!("{name} shows no clear change ({from}, now {to})"),
    })
}
