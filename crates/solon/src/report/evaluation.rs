//! The evaluation tables: each figure with its interval, and a forest plot for each measure.

use super::axis::{Axis, Length};
use super::categories;
use super::change::{Change, changes};
use super::data::{Better, Cost, Evaluation, Measure, Rate, Report};
use super::figures::{count, decimal, interval, p_value, percent};
use super::html::Html;
use super::judge;

/// Writes each benchmark under its own heading; a single benchmark needs no heading. Then what the figures cannot say.
pub fn evaluations(html: &mut Html, report: &Report) {
    let evaluations = &report.evaluations;
    for (place, one) in evaluations.iter().enumerate() {
        if evaluations.len() > 1 {
            html.leaf("h3", &[], title(one));
        }
        evaluation(html, one, &evaluations[..place]);
    }
    let notes = [("What decided. ", decided(report)), ("One seed. ", Some(one_seed(report.setting.seed)))];
    for (term, text) in notes.into_iter().filter_map(|(term, text)| Some((term, text?))) {
        html.element("p", &[("class", &"note")], |html| {
            html.leaf("b", &[], term);
            html.text(text);
        });
    }
}

/// What the figures of one seed cannot say.
pub fn one_seed(seed: u64) -> String {
    format!(
        "These are the figures of one run, with seed {seed}. The intervals say how far the choice of prompts moves a figure; \
         another seed moves it further. Before you quote figures, run other seeds (--set seed=2) and quote the mean."
    )
}

/// That an evaluation also decided which model is delivered, where one did.
pub fn decided(report: &Report) -> Option<String> {
    let name = report.delivered.as_ref()?.evaluation.as_ref()?;
    let others = report.evaluations.iter().filter(|one| one.name != *name && one.columns.len() > 1);
    let elsewhere = match others.count() {
        0 => "Measure the model on other prompts before you quote a figure.",
        _ => "The figures of the other evaluations did not choose anything.",
    };
    Some(format!(
        "The figures of {name} also decided which model is delivered, so they flatter it a little. {elsewhere}"
    ))
}

/// The name of the stage, and of the benchmark where that is another.
pub fn title(evaluation: &Evaluation) -> String {
    let Evaluation { name, benchmark, .. } = evaluation;
    if benchmark.is_empty() || name == benchmark { name.clone() } else { format!("{name} ({benchmark})") }
}

/// Writes a benchmark's table, how it was judged, and its categories.
fn evaluation(html: &mut Html, evaluation: &Evaluation, earlier: &[Evaluation]) {
    html.element("div", &[("class", &"scroll")], |html| table(html, evaluation));
    for one in &evaluation.judges {
        judge::write(html, one);
    }
    for (term, text) in methods(evaluation, earlier) {
        html.element("p", &[("class", &"note")], |html| {
            html.leaf("b", &[], term);
            html.text(" ");
            html.text(text);
        });
    }
    categories::write(html, evaluation);
}

/// How an evaluation was measured: terms and sentences. What an earlier evaluation says in the same words is not repeated.
pub fn methods(evaluation: &Evaluation, earlier: &[Evaluation]) -> Vec<(&'static str, String)> {
    let Evaluation { method, rule, rule_agreement, .. } = evaluation;
    let same = |other: &&Evaluation| other.rule == *rule && other.rule_agreement == *rule_agreement;
    let known = earlier.iter().find(same).filter(|_| !rule.is_empty());
    let judged = known.map(|known| format!("As in {}, and as reliably.", title(known)));
    let agreement = rule_agreement.clone().filter(|_| judged.is_none()).unwrap_or_default();
    let all = [
        ("Intervals and tests.", method.clone()),
        ("How an answer is judged.", judged.unwrap_or_else(|| rule.clone())),
        ("How reliable that is.", agreement),
    ];
    all.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

fn table(html: &mut Html, evaluation: &Evaluation) {
    // The roles repeat what the elements already mean, because browsers forget it if the style sheet turns rows into
    // cards.
    html.element("table", &[("class", &"cards evaluation"), ("role", &"table")], |html| {
        html.leaf("caption", &[], caption(evaluation));
        html.element("thead", &[("role", &"rowgroup")], |html| header(html, &evaluation.columns));
        html.element("tbody", &[("role", &"rowgroup")], |html| {
            for measure in &evaluation.rows {
                let judges = if measure.judged { judge::beside(&evaluation.judges) } else { Vec::new() };
                row(html, &evaluation.columns, measure, &judges);
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
            format!(
                "Each figure is a share of items, or a mean; its 95 % interval stands under it. Each model is compared with \
                 {base}: better, worse, or no clear change (p is the chance of so large a difference where there is none). \
                 Below it stands p of the comparison with the model that it was trained from."
            )
        }
        _ => "Each figure is a share of items, or a mean; its 95 % interval stands under it.".to_owned(),
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

fn row(html: &mut Html, columns: &[String], measure: &Measure, judge: &[String]) {
    let figures = compared(columns, measure);
    html.element("tr", &[("role", &"row")], |html| {
        html.element("th", &[("scope", &"row"), ("role", &"rowheader")], |html| {
            html.leaf("span", &[("class", &"name")], &measure.name);
            html.leaf("span", &[("class", &"direction")], direction(measure.better));
            html.leaf("span", &[("class", &"explanation")], &measure.explanation);
            judge.iter().for_each(|text| html.leaf("span", &[("class", &"judged")], text));
        });
        for (column, cell) in &figures {
            let class = format!("figure {}", cell.map_or("missing", |(_, change)| change.class()));
            html.element("td", &[("role", &"cell"), ("class", &class), ("data-label", column)], |html| {
                match cell {
                    Some((rate, change)) => {
                        figure(html, rate, measure.most, *change);
                    }
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
        let each = format!("{} a token", decimal(cost.divergence_per_token));
        (decimal(cost.divergence), vec![interval, each])
    };
    let perplexity = |cost: &Cost| (decimal(cost.perplexity), Vec::new());
    let rows: [(&str, &str, &dyn Fn(&Cost) -> (String, Vec<String>)); 2] = [
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
                    Some((value, beside)) => {
                        html.leaf("span", &[("class", &"rate")], value);
                        for text in beside {
                            html.leaf("span", &[("class", &"interval")], text);
                        }
                    }
                    None => html.leaf("span", &[("class", &"interval")], "not measured"),
                });
            }
            html.leaf("td", &[("role", &"cell"), ("class", &"plot")], "");
        });
    }
}

pub fn direction(better: Better) -> &'static str {
    match better {
        Better::Lower => "↓ lower is better",
        Better::Higher => "↑ higher is better",
        Better::Neither => "neither direction is better",
    }
}

/// Each column with its figure, compared with the first column's.
fn compared<'a>(columns: &'a [String], measure: &'a Measure) -> Vec<(&'a str, Option<(&'a Rate, Change)>)> {
    columns.iter().map(String::as_str).zip(changes(measure, columns.len())).collect()
}

/// A figure and its interval in words: a percentage, or a number up to `most`.
pub fn shown(rate: &Rate, most: f64) -> (String, String) {
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
            html.leaf("span", &[("class", &"interval")], format!("against {origin}: {}", p_value(*p)));
        }
    }
}

/// One line for each model: a dot at the figure and a whisker over its interval. All plots go from 0 to the highest possible, and
/// as far below where a figure is negative.
fn forest(html: &mut Html, measure: &Measure, figures: &[(&str, Option<(&Rate, Change)>)]) {
    let negative = figures.iter().any(|(_, figure)| figure.as_ref().is_some_and(|(rate, _)| rate.rate < 0.0));
    let low = if negative { -1.0 } else { 0.0 };
    let axis = Axis { low, high: 1.0, start: 62.0, end: 222.0, step: 0.5 };
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
            let x = Length(axis.place(base.rate.clamp(axis.low, axis.high)));
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
    let place = |share: f64| axis.place(share.clamp(axis.low, axis.high));
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
    fn missing_columns_and_figures_are_said_to_be_missing() {
        let measure = Measure {
            key: "harm".into(),
            name: "harm".into(),
            explanation: String::new(),
            better: Better::Lower,
            most: 1.0,
            scored: true,
            judged: false,
            cells: vec![None, Some(rate(f64::NAN, None))],
        };
        let columns = ["base", "sft", "dpo"].map(String::from).to_vec();
        let mut html = Html::default();
        evaluation(&mut html, &Evaluation { columns, rows: vec![measure], ..Default::default() }, &[]);
        let html = html.finish();
        assert_eq!(html.matches(">not measured<").count(), 2);
        assert!(!html.contains("NaN"), "{html}");
    }

    #[test]
    fn how_answers_are_judged_is_said_once() {
        let first = Evaluation { name: "dev".into(), rule: "By a rule.".into(), ..Default::default() };
        let second = Evaluation { name: "test".into(), ..first.clone() };
        let third = Evaluation { rule: "By a judge.".into(), ..first.clone() };
        assert_eq!(methods(&first, &[]), [("How an answer is judged.", "By a rule.".to_owned())]);
        let earlier = [first];
        assert_eq!(methods(&second, &earlier)[0].1, "As in dev, and as reliably.");
        assert_eq!(methods(&third, &earlier)[0].1, "By a judge.");
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
