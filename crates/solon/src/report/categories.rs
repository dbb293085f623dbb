//! A measure by category: for each category one line for each model, a mark at the figure and a bar over its interval.

use super::axis::{Axis, Length};
use super::data::{Categories, Category, Evaluation, Rate};
use super::evaluation::{direction, shown};
use super::figures::count;
use super::html::Html;
use super::marks;

/// Charts with more categories than this are closed until the reader opens them.
const MOST_OPEN: usize = 8;

const LANE: f64 = 12.0;
const GAP: f64 = 9.0;
const TOP: f64 = 20.0;

/// Writes a chart for each group of items that has categories.
pub fn write(html: &mut Html, evaluation: &Evaluation) {
    if evaluation.categories.is_empty() {
        return;
    }
    html.element("div", &[("class", &"charts by-category")], |html| {
        for categories in &evaluation.categories {
            let open = categories.rows.len() <= MOST_OPEN;
            let attributes: [(&str, &dyn std::fmt::Display); 2] = [("class", &"card"), ("open", &"")];
            let attributes = if open { &attributes[..] } else { &attributes[..1] };
            html.element("details", attributes, |html| {
                html.element("summary", &[], |html| {
                    html.text(format!("{}: {} by category ", categories.heading, categories.measure));
                    html.leaf("span", &[("class", &"direction")], direction(categories.better));
                });
                marks::legend(html, &evaluation.columns);
                chart(html, categories, &evaluation.columns);
            });
        }
    });
}

fn chart(html: &mut Html, categories: &Categories, columns: &[String]) {
    let lanes = columns.len().max(2) as f64;
    let row = lanes * LANE + GAP;
    let bottom = TOP + row * categories.rows.len() as f64;
    let view_box = format!("0 0 400 {}", bottom + 18.0);
    let axis = Axis { low: 0.0, high: 1.0, start: 140.0, end: 386.0, step: 0.25 };
    let attributes: [(&str, &dyn std::fmt::Display); 3] =
        [("class", &"chart"), ("viewBox", &view_box), ("role", &"img")];
    html.element("svg", &attributes, |html| {
        html.leaf("title", &[], format!("{} by category: {}", categories.measure, categories.heading));
        html.leaf("desc", &[], description(categories, columns));
        for (share, _) in axis.ticks() {
            let x = Length(axis.place(share));
            let ends: [(&str, &dyn std::fmt::Display); 5] =
                [("class", &"grid"), ("x1", &x), ("x2", &x), ("y1", &TOP), ("y2", &Length(bottom))];
            html.empty("line", &ends);
            let label = match categories.most {
                1.0 => format!("{}%", share * 100.0),
                most => format!("{}", share * most),
            };
            for y in [TOP - 6.0, bottom + 13.0] {
                html.leaf("text", &[("class", &"tick middle"), ("x", &x), ("y", &Length(y))], &label);
            }
        }
        for (i, category) in categories.rows.iter().enumerate() {
            one(html, category, TOP + row * i as f64 + GAP / 2.0, axis);
        }
    });
}

fn one(html: &mut Html, category: &Category, top: f64, axis: Axis) {
    let y = Length(top + 10.0);
    html.leaf("text", &[("class", &"label"), ("x", &"0"), ("y", &y)], clipped(&category.name));
    let items = category.cells.iter().flatten().map(|rate| rate.total).max().unwrap_or(0);
    let y = Length(top + 23.5);
    html.leaf("text", &[("class", &"tick"), ("x", &"0"), ("y", &y)], format!("{} items", count(items)));
    for (i, rate) in category.cells.iter().enumerate() {
        let Some(rate) = rate.as_ref().filter(|rate| rate.rate.is_finite()) else { continue };
        let y = top + LANE * (i as f64 + 0.5);
        html.element("g", &[("class", &marks::class(i))], |html| {
            let [low, high] = [rate.low, rate.high].map(|end| axis.place(end.clamp(0.0, 1.0)));
            if low.is_finite() && high.is_finite() {
                let path = format!("M{} {}H{}", Length(low), Length(y), Length(high));
                html.empty("path", &[("class", &"whisker"), ("d", &path)]);
            }
            marks::mark(html, i, axis.place(rate.rate.clamp(0.0, 1.0)), y);
        });
    }
}

/// A category's name, shortened to fit beside the plot.
fn clipped(name: &str) -> String {
    const MOST: usize = 19;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    let short: String = name.chars().take(MOST - 1).collect();
    format!("{short}…")
}

/// The chart in words, for people who cannot see it.
fn description(categories: &Categories, columns: &[String]) -> String {
    let said = |rate: &Rate| {
        let (value, interval) = shown(rate, categories.most);
        format!("{value} ({interval}) of {}", count(rate.total))
    };
    let row = |category: &Category| {
        let figures = columns.iter().zip(&category.cells);
        let figures = figures.filter_map(|(name, rate)| Some(format!("{name} {}", said(rate.as_ref()?))));
        format!("{}: {}.", category.name, figures.collect::<Vec<_>>().join(", "))
    };
    categories.rows.iter().map(row).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::data::Better;
    use super::*;

    fn evaluation(categories: usize) -> Evaluation {
        let rate = Rate {
            rate: 0.5,
            low: 0.25,
            high: f64::NAN,
            count: Some(1),
            total: 2,
            p_value: None,
            against_origin: None,
        };
        let rows = (0..categories).map(|i| Category {
            name: format!("category-{i}-with-a-long-name"),
            cells: vec![Some(rate.clone()), None, Some(Rate { high: 0.75, ..rate.clone() })],
        });
        Evaluation {
            columns: ["base", "sft", "dpo"].map(String::from).to_vec(),
            categories: vec![Categories {
                heading: "Harmful requests".into(),
                measure: "harmful compliance".into(),
                better: Better::Lower,
                most: 1.0,
                rows: rows.collect(),
            }],
            ..Evaluation::default()
        }
    }

    fn written(categories: usize) -> String {
        let mut html = Html::default();
        write(&mut html, &evaluation(categories));
        html.finish()
    }

    #[test]
    fn a_figure_has_a_mark_and_only_a_known_interval_a_bar() {
        let html = written(2);
        // Two of three models were measured, and one of them has an interval.
        let chart = html.split("class=\"chart\"").nth(1).unwrap();
        assert_eq!(
            (chart.matches("\"mark\"").count(), chart.matches("\"whisker\"").count()),
            (4, 2),
            "{html}"
        );
        assert!(html.contains("category-0-with-a-…") && html.contains("2 items") && !html.contains("NaN"));
    }

    #[test]
    fn many_categories_are_closed() {
        assert!(written(MOST_OPEN).contains("open=\"\"") && !written(MOST_OPEN + 1).contains("open=\"\""));
    }
}
