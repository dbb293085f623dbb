//! The verdict in a sentence: which model was delivered, and what its scored measures did.

use super::change::{Change, changes};
use super::data::{Delivered, Evaluation, Measure, Report};
use super::evaluation::{shown, title};

/// The sentence; `None` where no model was delivered, or none of its measures was compared with another model's.
pub fn headline(report: &Report) -> Option<String> {
    let delivered = report.delivered.as_ref()?;
    let (evaluation, column) = decisive(&report.evaluations, delivered)?;
    let scored = evaluation.rows.iter().filter(|measure| measure.scored);
    let parts: Vec<String> =
        scored.filter_map(|measure| change(measure, column, evaluation.columns.len())).collect();
    let first = evaluation.columns.first()?;
    let before = if first == "base" { "the base model" } else { first };
    // Which evaluation is meant is only unclear where there are several.
    let measured = match report.evaluations.len() {
        1 => String::new(),
        _ => format!(" on {}", title(evaluation)),
    };
    let (last, others) = parts.split_last()?;
    let list = match others {
        [] => last.clone(),
        others => format!("{}, and {last}", others.join(", ")),
    };
    Some(format!("The delivered model is {}. Compared with {before}{measured}, {list}.", delivered.name))
}

/// The evaluation to tell of, and the model's column in it: of the benchmark that decided what was delivered, the last one
/// that compares the model with another; else the last one of any benchmark. A run that chooses on one set of prompts
/// and tests on another does so in this order.
fn decisive<'a>(evaluations: &'a [Evaluation], delivered: &Delivered) -> Option<(&'a Evaluation, usize)> {
    let decided = evaluations.iter().find(|one| Some(&one.name) == delivered.evaluation.as_ref());
    let last = |benchmark: Option<&str>| {
        evaluations.iter().rev().find_map(|one| {
            let place = one.columns.iter().position(|column| *column == delivered.name);
            let fits = benchmark.is_none_or(|name| name == one.benchmark);
            let scored = one.rows.iter().any(|measure| measure.scored);
            place.filter(|place| *place > 0 && fits && scored).map(|place| (one, place))
        })
    };
    decided.and_then(|one| last(Some(&one.benchmark))).or_else(|| last(None))
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
