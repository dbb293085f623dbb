//! The tables of the report as text, for Markdown: the same figures as the page, a cell a text.

use super::change::{Change, changes};
use super::data::{Categories, Cost, Curve, Evaluation, Inferred, Judge, Measure, Rate};
use super::evaluation::{direction, shown};
use super::figures::{count, decimal, duration, p_value, short};
use super::{axis, data, judge as quality};

/// A table: its head and its rows, which are as long.
pub struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Self {
        Self { head: head.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }
}

/// An evaluation's figures, of these columns.
pub fn figures(evaluation: &Evaluation, columns: &[usize]) -> Table {
    let names = columns.iter().filter_map(|column| evaluation.columns.get(*column)).map(String::as_str);
    let mut table = Table::new(std::iter::once("Measure").chain(names));
    for measure in &evaluation.rows {
        let judges = if measure.judged { quality::beside(&evaluation.judges) } else { Vec::new() };
        let judge: String = judges.iter().map(|judge| format!("; {judge}")).collect();
        let all = changes(measure, evaluation.columns.len());
        let cells = columns.iter().map(|column| match all.get(*column).copied().flatten() {
            Some((rate, change)) => figure(rate, measure, change),
            None => "not measured".to_owned(),
        });
        let name = format!("{} ({}{judge})", measure.name, direction(measure.better));
        table.rows.push(std::iter::once(name).chain(cells).collect());
    }
    let costs: [(&str, fn(&Cost) -> String); 2] = [
        ("KL from the base model on harmless requests, nats an answer (↓ lower is better)", |cost| {
            format!("{} ({} – {})", decimal(cost.divergence), decimal(cost.low), decimal(cost.high))
        }),
        ("perplexity on the base model's answers to them (↓ lower is better)", |cost| {
            decimal(cost.perplexity)
        }),
    ];
    if evaluation.costs.iter().any(Option::is_some) {
        for (name, shown) in costs {
            let cells = columns.iter().map(|column| match evaluation.costs.get(*column) {
                Some(Some(cost)) => shown(cost),
                _ => "not measured".to_owned(),
            });
            table.rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
        }
    }
    table
}

fn figure(rate: &Rate, measure: &Measure, change: Change) -> String {
    let (value, interval) = shown(rate, measure.most);
    let items = count(rate.total);
    let mut text = format!("{value} ({interval}; {items} items)");
    if change != Change::None {
        text += &format!(" {}", change.words());
        if let Some(p) = rate.p_value {
            text += &format!(", {}", p_value(p));
        }
    }
    text
}

/// A judge on each set of labelled answers.
pub fn judge(judge: &Judge) -> Table {
    let mut table = Table::new(quality::COLUMNS);
    table.rows = quality::rows(judge).into_iter().map(Vec::from).collect();
    table
}

/// A measure by category.
pub fn categories(categories: &Categories, columns: &[String]) -> Table {
    let mut table = Table::new(std::iter::once("Category").chain(columns.iter().map(String::as_str)));
    for row in &categories.rows {
        let cells = row.cells.iter().map(|cell| match cell {
            Some(rate) => {
                let (value, interval) = shown(rate, categories.most);
                format!("{value} ({interval}; {} items)", count(rate.total))
            }
            None => "not measured".to_owned(),
        });
        table.rows.push(std::iter::once(row.name.clone()).chain(cells).collect());
    }
    table
}

/// Points at the end of a line that are taken together: one step is one batch, which is noisy.
const LAST: usize = 20;

/// Where each training metric began and where it ended.
pub fn curves(curves: &[Curve]) -> Table {
    let mut table = Table::new(["Metric", "Line", "First step", "Mean of the last 20 steps", "Steps"]);
    for curve in curves {
        for series in &curve.series {
            let shown: Vec<_> = series.points.iter().filter(|point| axis::drawable(**point)).collect();
            let Some((_, first)) = shown.first() else { continue };
            let last = &shown[shown.len().saturating_sub(LAST)..];
            let mean = last.iter().map(|(_, value)| value).sum::<f64>() / last.len() as f64;
            let (first, last) = (short(*first), short(mean));
            let row = [curve.title.clone(), series.name.clone(), first, last, count(shown.len())];
            table.rows.push(row.into());
        }
    }
    table
}

/// Inferred principles.
pub fn inferred(part: &Inferred) -> Table {
    let mut table = Table::new(Inferred::HEAD);
    table.rows.clone_from(&part.rows);
    table
}

/// The stages in the order they ran.
pub fn stages(stages: &[data::Stage]) -> Table {
    let mut table = Table::new(["Stage", "What it does", "Items", "Dropped", "Time"]);
    for stage in stages {
        let dropped: Vec<String> = stage
            .dropped
            .iter()
            .map(|(reason, n)| format!("{} {}", count(*n), super::figures::reason(reason)))
            .collect();
        let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join("; ") };
        let row =
            [stage.name.clone(), stage.what.clone(), count(stage.items), dropped, duration(stage.seconds)];
        table.rows.push(row.into());
    }
    table
}

/// Names and values.
pub fn pairs<'a>(head: [&str; 2], rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> Table {
    let mut table = Table::new(head);
    table.rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value.to_owned()]).collect();
    table
}
