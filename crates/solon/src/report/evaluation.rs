//! The evaluation tables: each figure with its interval, and a forest plot for each measure.
//!
//! A difference from the first column is called clear if its p-value is below 0.05 or, if there is no test, if the
//! intervals do not overlap. Any other difference is "no clear change", however large it looks.

use super::axis::{Axis, Length};
use super::data::{Better, Cost, Evaluation, Measure, Rate};
use super::figures::{count, decimal, interval, p_value, percent};
use super::html::Html;

/// How a figure compares with that of the first column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It is the first column, or there is nothing to compare it with.
    None,
    Unclear,
    Better,
    Worse,
    /// Clear, but for this measure no direction is better.
    Different,
}

impl Change {
    fn of(cell: &Rate, base: &Rate, better: Better) -> Self {
        let clear = match cell.p_value {
            Some(p) => p < 0.05,
            None => cell.low > base.high || cell.high < base.low,
        };
        if !clear || cell.rate == base.rate {
            return Change::Unclear;
        }
        match (better, cell.rate > base.rate) {
            (Better::Neither, _) => Change::Different,
            (Better::Higher, true) | (Better::Lower, false) => Change::Better,
            (Better::Higher, false) | (Better::Lower, true) => Change::Worse,
        }
    }

    /// The class in the style sheet.
    fn class(self) -> &'static str {
        match self {
            Change::None => "base",
            Change::Unclear => "unclear",
            Change::Better => "better",
            Change::Worse => "worse",
            Change::Different => "different",
        }
    }

    /// A sign and a word, so that the meaning does not depend on colour.
    fn words(self) -> &'static str {
        match self {
            Change::None => "",
            Change::Unclear => "≈ no clear change",
            Change::Better => "✓ better",
            Change::Worse => "✗ worse",
            Change::Different => "≠ different",
        }
    }
}

/// Writes each benchmark under its own heading; a single benchmark needs no heading. Then what one seed cannot say.
pub fn evaluations(html: &mut Html, evaluations: &[Evaluation], seed: u64) {
    for one in evaluations {
        if evaluations.len() > 1 {
            html.leaf("h3", &[], &one.name);
        }
        evaluation(html, one);
    }
    html.element("p", &[("class", &"note")], |html| {
        html.leaf("b", &[], "One seed.");
        html.text(format!(
            " These are the figures of one run, with seed {seed}. The intervals are over prompts; another seed moves the \
             figures further. Before you quote them, run other seeds (--set seed=2) and quote the mean."
        ));
    });
}

/// Writes a benchmark's table and how it was judged.
fn evaluation(html: &mut Html, evaluation: &Evaluation) {
    html.element("div", &[("class", &"scroll")], |html| table(html, evaluation));
    for (term, text) in [
        ("Intervals and tests.", Some(&evaluation.method)),
        ("How an answer is judged.", Some(&evaluation.rule)),
        ("How reliable that is.", evaluation.rule_agreement.as_ref()),
    ] {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            html.element("p", &[("class", &"note")], |html| {
                html.leaf("b", &[], term);
                html.text(" ");
                html.text(text);
            });
        }
    }
}

fn table(html: &mut Html, evaluation: &Evaluation) {
    // The roles repeat what the elements already mean, because browsers forget it if the style sheet turns rows into
    // cards.
    html.element("table", &[("class", &"cards evaluation"), ("role", &"table")], |html| {
        html.leaf("caption", &[], caption(evaluation));
        html.element("thead", &[("role", &"rowgroup")], |html| header(html, &evaluation.columns));
        html.element("tbody", &[("role", &"rowgroup")], |html| {
            for measure in &evaluation.rows {
                row(html, &evaluation.columns, measure);
            }
            if evaluation.costs.iter().any(Option::is_some) {
                costs(html, &evaluation.columns, &evaluation.costs);
            }
        });
    });
}

fn caption(evaluation: &Evaluation) -> String {
    match evaluation.columns.first() {
        Some(base) if evaluation.columns.len() > 1 => {
            format!("Share of items or mean, with its interval under it. Each model is compared with {base}.")
        }
        _ => "Share of items or mean, with its interval under it.".to_owned(),
    }
}

fn header(html: &mut Html, columns: &[String]) {
    html.element("tr", &[("role", &"row")], |html| {
        let names = std::iter::once("Measure").chain(columns.iter().map(String::as_str)).chain(["Plot"]);
        for name in names {
            html.leaf("th", &[("scope", &"col"), ("role", &"columnheader")], name);
        }
    });
}

fn row(html: &mut Html, columns: &[String], measure: &Measure) {
    let figures = compared(columns, measure);
    html.element("tr", &[("role", &"row")], |html| {
        html.element("th", &[("scope", &"row"), ("role", &"rowheader")], |html| {
            html.leaf("span", &[("class", &"name")], &measure.name);
            html.leaf("span", &[("class", &"direction")], direction(measure.better));
            html.leaf("span", &[("class", &"explanation")], &measure.explanation);
        });
        for (column, cell) in &figures {
            let class = format!("figure {}", cell.map_or("missing", |(_, change)| change.class()));
            html.element("td", &[("role", &"cell"), ("class", &class), ("data-label", column)], |html| {
                match cell {
                    Some((rate, change)) => figure(html, rate, measure.most, *change),
                    None => html.leaf("span", &[("class", &"interval")], "not measured"),
                }
            });
        }
        html.element("td", &[("role", &"cell"), ("class", &"plot")], |html| forest(html, measure, &figures));
    });
}

/// Writes what training cost: how far each model is from the base model where nothing was to change.
fn costs(html: &mut Html, columns: &[String], costs: &[Option<Cost>]) {
    let divergence = |cost: &Cost| {
        let interval = match cost.low.is_finite() && cost.high.is_finite() {
            true => format!("{} – {} nats", decimal(cost.low), decimal(cost.high)),
            false => "no interval".to_owned(),
        };
        let interval = format!("{interval}; {} a token", decimal(cost.divergence_per_token));
        (decimal(cost.divergence), interval)
    };
    let perplexity = |cost: &Cost| (decimal(cost.perplexity), String::new());
    let rows: [(&str, &str, &dyn Fn(&Cost) -> (String, String)); 2] = [
        (
            "distance from the base model",
            "KL divergence from the base model over an answer to a plainly harmless request, in nats. 0 means unchanged.",
            &divergence,
        ),
        (
            "perplexity on the base model's answers",
            "How surprising the base model's own answers to plainly harmless requests are to this model.",
            &perplexity,
        ),
    ];
    for (name, explanation, figure) in rows {
        html.element("tr", &[("role", &"row")], |html| {
            html.element("th", &[("scope", &"row"), ("role", &"rowheader")], |html| {
                html.leaf("span", &[("class", &"name")], name);
                html.leaf("span", &[("class", &"direction")], direction(Better::Lower));
                html.leaf("span", &[("class", &"explanation")], explanation);
            });
            for (column, cost) in columns.iter().zip(costs) {
                let attributes: [(&str, &dyn std::fmt::Display); 3] =
                    [("role", &"cell"), ("class", &"figure"), ("data-label", column)];
                html.element("td", &attributes, |html| match cost.as_ref().map(figure) {
                    Some((value, interval)) => {
                        html.leaf("span", &[("class", &"rate")], value);
                        html.leaf("span", &[("class", &"interval")], interval);
                    }
                    None => html.leaf("span", &[("class", &"interval")], "not measured"),
                });
            }
            html.leaf("td", &[("role", &"cell"), ("class", &"plot")], "");
        });
    }
}

fn direction(better: Better) -> &'static str {
    match better {
        Better::Lower => "↓ lower is better",
        Better::Higher => "↑ higher is better",
        Better::Neither => "neither direction is better",
    }
}

/// Each column with its figure, compared with the first column's.
fn compared<'a>(columns: &'a [String], measure: &'a Measure) -> Vec<(&'a str, Option<(&'a Rate, Change)>)> {
    let cell = |i: usize| measure.cells.get(i).and_then(Option::as_ref);
    let figure = |i: usize| {
        cell(i).map(|rate| match cell(0) {
            Some(base) if i > 0 => (rate, Change::of(rate, base, measure.better)),
            _ => (rate, Change::None),
        })
    };
    columns.iter().enumerate().map(|(i, column)| (column.as_str(), figure(i))).collect()
}

/// A figure and its interval in words: a percentage, or a number up to `most`.
fn shown(rate: &Rate, most: f64) -> (String, String) {
    if most == 1.0 {
        return (percent(rate.rate), interval(rate.low, rate.high));
    }
    let ends = match rate.low.is_finite() && rate.high.is_finite() {
        true => format!("{} – {}", decimal(rate.low * most), decimal(rate.high * most)),
        false => "no interval".to_owned(),
    };
    (decimal(rate.rate * most), ends)
}

fn figure(html: &mut Html, rate: &Rate, most: f64, change: Change) {
    let (value, ends) = shown(rate, most);
    html.leaf("span", &[("class", &"rate")], value);
    html.leaf("span", &[("class", &"interval")], ends);
    let of = match rate.count {
        Some(holds) => format!("{} of {}", count(holds), count(rate.total)),
        None => format!("mean of {}", count(rate.total)),
    };
    html.leaf("span", &[("class", &"interval")], of);
    if change != Change::None {
        html.leaf("span", &[("class", &"change")], change.words());
        if let Some(p) = rate.p_value {
            html.leaf("span", &[("class", &"interval")], p_value(p));
        }
        if let Some((origin, p)) = &rate.against_origin {
            html.leaf("span", &[("class", &"interval")], format!("compared with {origin}: {}", p_value(*p)));
        }
    }
}

/// One line for each model: a dot at the figure and a whisker over its interval. All plots go from 0 to the highest possible.
fn forest(html: &mut Html, measure: &Measure, figures: &[(&str, Option<(&Rate, Change)>)]) {
    let axis = Axis { low: 0.0, high: 1.0, start: 62.0, end: 222.0, step: 0.5 };
    let bottom = 6.0 + 18.0 * figures.len() as f64;
    let view_box = format!("0 0 240 {}", bottom + 18.0);
    html.element("svg", &[("class", &"forest"), ("viewBox", &view_box), ("role", &"img")], |html| {
        html.leaf("title", &[], format!("{}: figures and intervals", measure.name));
        html.leaf("desc", &[], description(figures, measure.most));
        for (share, _) in axis.ticks() {
            let x = Length(axis.place(share));
            html.empty(
                "line",
                &[("class", &"grid"), ("x1", &x), ("x2", &x), ("y1", &"2"), ("y2", &Length(bottom))],
            );
            let label = match measure.most {
                1.0 => format!("{}%", share * 100.0),
                most => format!("{}", share * most),
            };
            html.leaf("text", &[("class", &"tick middle"), ("x", &x), ("y", &Length(bottom + 13.0))], label);
        }
        if let Some((_, Some((base, _)))) = figures.first()
            && base.rate.is_finite()
        {
            let x = Length(axis.place(base.rate.clamp(0.0, 1.0)));
            html.empty(
                "line",
                &[("class", &"before"), ("x1", &x), ("x2", &x), ("y1", &"2"), ("y2", &Length(bottom))],
            );
        }
        for (i, (column, figure)) in figures.iter().enumerate() {
            let y = 15.0 + 18.0 * i as f64;
            let x = Length(axis.start - 6.0);
            html.leaf("text", &[("class", &"tick end"), ("x", &x), ("y", &Length(y + 3.5))], clipped(column));
            if let Some((rate, change)) = figure {
                dot_and_whisker(html, rate, *change, axis, y);
            }
        }
    });
}

fn dot_and_whisker(html: &mut Html, rate: &Rate, change: Change, axis: Axis, y: f64) {
    if !rate.rate.is_finite() {
        return;
    }
    let place = |share: f64| axis.place(share.clamp(0.0, 1.0));
    html.element("g", &[("class", &change.class())], |html| {
        if rate.low.is_finite() && rate.high.is_finite() {
            let (low, high) = (Length(place(rate.low)), Length(place(rate.high)));
            let path = format!("M{low} {0}v6m0 -3H{high}m0 -3v6", y - 3.0);
            html.empty("path", &[("class", &"whisker"), ("d", &path)]);
        }
        let x = place(rate.rate);
        // Shapes and colours: a diamond is better, a square worse, a circle neither.
        match change {
            Change::Better => html.empty("path", &[("class", &"mark"), ("d", &diamond(x, y))]),
            Change::Worse => {
                let (x, y) = (Length(x - 3.5), Length(y - 3.5));
                html.empty(
                    "rect",
                    &[("class", &"mark"), ("x", &x), ("y", &y), ("width", &"7"), ("height", &"7")],
                );
            }
            Change::None | Change::Unclear | Change::Different => {
                html.empty("circle", &[("class", &"mark"), ("cx", &Length(x)), ("cy", &y), ("r", &"3.5")]);
            }
        }
    });
}

fn diamond(x: f64, y: f64) -> String {
    format!("M{} {}l5 5l-5 5l-5 -5z", Length(x), Length(y - 5.0))
}

/// A model's name, shortened to fit the plot.
fn clipped(name: &str) -> String {
    let short: String = name.chars().take(8).collect();
    if short == name { short } else { format!("{short}…") }
}

fn description(figures: &[(&str, Option<(&Rate, Change)>)], most: f64) -> String {
    let sentences: Vec<String> = figures
        .iter()
        .map(|(column, figure)| match figure {
            Some((rate, change)) => {
                let (value, ends) = shown(rate, most);
                format!("{column}: {value} ({ends}) {}.", change.words())
            }
            None => format!("{column}: not measured."),
        })
        .collect();
    sentences.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rate: f64, p_value: Option<f64>) -> Rate {
        Rate {
            rate,
            low: rate - 0.05,
            high: rate + 0.05,
            count: Some(1),
            total: 2,
            p_value,
            against_origin: None,
        }
    }

    #[test]
    fn a_change_is_named_only_where_it_is_clear() {
        let base = rate(0.5, None);
        let cases = [
            (rate(0.3, Some(0.001)), Better::Lower, Change::Better),
            (rate(0.3, Some(0.001)), Better::Higher, Change::Worse),
            (rate(0.3, Some(0.001)), Better::Neither, Change::Different),
            (rate(0.3, Some(0.2)), Better::Lower, Change::Unclear),
            (rate(0.3, Some(f64::NAN)), Better::Lower, Change::Unclear),
            (rate(0.45, None), Better::Lower, Change::Unclear),
            (rate(0.7, None), Better::Higher, Change::Better),
            (rate(f64::NAN, None), Better::Higher, Change::Unclear),
        ];
        for (cell, better, expected) in cases {
            assert_eq!(Change::of(&cell, &base, better), expected, "{cell:?} {better:?}");
        }
    }

    #[test]
    fn missing_columns_and_figures_are_said_to_be_missing() {
        let measure = Measure {
            name: "harm".into(),
            explanation: String::new(),
            better: Better::Lower,
            most: 1.0,
            cells: vec![None, Some(rate(f64::NAN, None))],
        };
        let columns = ["base", "sft", "dpo"].map(String::from).to_vec();
        let mut html = Html::default();
        evaluation(&mut html, &Evaluation { columns, rows: vec![measure], ..Default::default() });
        let html = html.finish();
        assert_eq!(html.matches(">not measured<").count(), 2);
        assert!(!html.contains("NaN"), "{html}");
    }

    #[test]
    fn a_score_is_shown_as_a_number() {
        let score = Rate { count: None, ..rate(0.625, None) };
        assert_eq!(shown(&score, 10.0), ("6.25".to_owned(), "5.75 – 6.75".to_owned()));
        assert_eq!(shown(&score, 1.0).0, "62.5%");
        let endless = Rate { low: f64::NEG_INFINITY, high: f64::INFINITY, ..score };
        assert_eq!(shown(&endless, 10.0).1, "no interval");
    }
}
