//! Trade-off charts: each model is a point with its intervals, one measure against another.
//!
//! Harm stands against over-refusal and against what helps (`harmless answered`), against capability, and against honesty.
//! Only what was measured of the same models is drawn: a model without one of the two figures is no point, and a chart
//! with fewer than two points is left out.

use super::axis::{Axis, Length};
use super::chart::frame;
use super::data::{Better, Evaluation, Measure, Rate};
use super::evaluation::title;
use super::figures::percent;
use super::html::Html;
use super::labels::{Box, place};
use super::marks;

/// Measures of harm, of over-refusal, of help and of dishonesty, by their names in files.
const HARM: [&str; 3] = ["harmful_compliance", "unsafe_complied", "attack_success"];
const OVER_REFUSAL: [&str; 2] = ["over_refusal", "safe_refused"];
const HELP: [&str; 1] = ["harmless_answered"];
const DISHONESTY: [&str; 1] = ["fabrication"];

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 336.0;

/// A chart: one measure against another.
pub struct Plane<'a> {
    title: String,
    /// Which evaluations the figures are of.
    of: String,
    x: &'a Measure,
    y: &'a Measure,
    points: Vec<Point<'a>>,
}

struct Point<'a> {
    /// The place of the model among the columns, for its mark.
    index: usize,
    name: &'a str,
    x: &'a Rate,
    y: &'a Rate,
}

/// Every chart that the figures allow.
pub fn planes(evaluations: &[Evaluation]) -> Vec<Plane<'_>> {
    let mut planes = Vec::new();
    for own in evaluations {
        if let Some(harm) = measure(own, &HARM) {
            for (keys, name) in [(&OVER_REFUSAL[..], "Harm and over-refusal"), (&HELP, "Harm and help")] {
                planes.extend(measure(own, keys).and_then(|x| plane(name.to_owned(), (own, x), (own, harm))));
            }
            continue;
        }
        let Some((other, harm)) = harm_beside(evaluations, own) else { continue };
        let dishonesty = measure(own, &DISHONESTY);
        if let Some(x) = dishonesty {
            planes.extend(plane("Harm and honesty".to_owned(), (own, x), (other, harm)));
            continue;
        }
        let capable = |x: &&Measure| x.scored && x.most == 1.0 && x.better == Better::Higher;
        for x in own.rows.iter().filter(capable) {
            let name = format!("Harm and capability: {}", own.benchmark);
            planes.extend(plane(name, (own, x), (other, harm)));
        }
    }
    planes
}

/// The measure of the first of these keys that was measured.
fn measure<'a>(evaluation: &'a Evaluation, keys: &[&str]) -> Option<&'a Measure> {
    keys.iter().find_map(|key| evaluation.rows.iter().find(|measure| measure.key == *key))
}

/// The harm of the models of `own` as another evaluation measured it: the one that shares most models, of several the last.
fn harm_beside<'a>(evaluations: &'a [Evaluation], own: &Evaluation) -> Option<(&'a Evaluation, &'a Measure)> {
    let shared = |other: &Evaluation| own.columns.iter().filter(|name| other.columns.contains(name)).count();
    let measured = evaluations.iter().filter_map(|other| Some((other, measure(other, &HARM)?)));
    measured.max_by_key(|(other, _)| shared(other))
}

fn plane<'a>(
    name: String,
    (own, x): (&'a Evaluation, &'a Measure),
    (other, y): (&'a Evaluation, &'a Measure),
) -> Option<Plane<'a>> {
    let figure = |evaluation: &'a Evaluation, measure: &'a Measure, name: &str| {
        let column = evaluation.columns.iter().position(|column| column == name)?;
        measure.cells.get(column)?.as_ref().filter(|rate| rate.rate.is_finite())
    };
    let point = |(index, name): (usize, &'a String)| {
        Some(Point { index, name, x: figure(own, x, name)?, y: figure(other, y, name)? })
    };
    let points: Vec<Point> = own.columns.iter().enumerate().filter_map(point).collect();
    let of = match std::ptr::eq(own, other) {
        true => title(own),
        false => format!("{} across, {} up", title(own), title(other)),
    };
    (points.len() > 1).then_some(Plane { title: name, of, x, y, points })
}

/// Writes the charts in a grid.
pub fn write(html: &mut Html, planes: &[Plane]) {
    html.element("div", &[("class", &"charts")], |html| {
        for plane in planes {
            html.element("figure", &[], |html| {
                html.element("figcaption", &[], |html| {
                    html.text(&plane.title);
                    html.leaf("span", &[("class", &"explanation")], &plane.of);
                });
                draw(html, plane);
            });
        }
    });
    let note = "Bars are the 95 % intervals of each figure by itself. Models answer the same items, so the tests in the tables below \
                may tell two models apart whose bars overlap.";
    html.leaf("p", &[("class", &"note")], note);
}

fn draw(html: &mut Html, plane: &Plane) {
    let ends = |side: for<'a> fn(&Point<'a>) -> &'a Rate, start: f64, end: f64| {
        let rates = plane.points.iter().map(side);
        let values =
            rates.flat_map(|rate| [rate.rate, rate.low, rate.high]).filter(|value| value.is_finite());
        let axis = Axis::over(values.map(|value| 100.0 * value.clamp(0.0, 1.0)), start, end)?;
        let axis = axis.rounded();
        Some(Axis { low: axis.low.max(0.0), high: axis.high.min(100.0), ..axis })
    };
    let axes = ends(|point| point.x, 50.0, WIDTH - 12.0).zip(ends(|point| point.y, HEIGHT - 58.0, 24.0));
    let Some((x_axis, y_axis)) = axes else { return };
    let view_box = format!("0 0 {WIDTH} {HEIGHT}");
    let attributes: [(&str, &dyn std::fmt::Display); 3] =
        [("class", &"chart tradeoff"), ("viewBox", &view_box), ("role", &"img")];
    html.element("svg", &attributes, |html| {
        html.leaf("title", &[], &plane.title);
        html.leaf("desc", &[], description(plane));
        frame(html, x_axis, y_axis, &axis_label(plane.x, ["←", "→"]), &axis_label(plane.y, ["↓", "↑"]));
        better_corner(html, plane);
        let spots: Vec<(f64, f64)> = (plane.points.iter())
            .map(|point| (x_axis.place(100.0 * point.x.rate), y_axis.place(100.0 * point.y.rate)))
            .collect();
        let mut taken: Vec<Box> = spots.iter().map(|(x, y)| Box::around(*x, *y, 6.0)).collect();
        for (point, (x, y)) in plane.points.iter().zip(&spots) {
            html.element("g", &[("class", &marks::class(point.index))], |html| {
                whiskers(html, point, (x_axis, *x), (y_axis, *y));
                marks::mark(html, point.index, *x, *y);
            });
        }
        // Names come last, so that nothing is drawn over them.
        let area = Box { left: x_axis.start, top: y_axis.end, right: x_axis.end, bottom: y_axis.start };
        for (point, spot) in plane.points.iter().zip(&spots) {
            let label = place(*spot, point.name, &area, &taken);
            let (x, y) = (Length(label.left), Length(label.bottom - 3.0));
            html.leaf("text", &[("class", &"label"), ("x", &x), ("y", &y)], point.name);
            taken.push(label);
        }
    });
}

fn axis_label(measure: &Measure, [lower, higher]: [&str; 2]) -> String {
    match measure.better {
        Better::Lower => format!("{}, % ({lower} lower is better)", measure.name),
        Better::Higher => format!("{}, % ({higher} higher is better)", measure.name),
        Better::Neither => format!("{}, %", measure.name),
    }
}

/// Names the corner that is best on both axes, on a line of its own below the chart, at the side where it lies.
fn better_corner(html: &mut Html, plane: &Plane) {
    let (right, up) = (plane.x.better == Better::Higher, plane.y.better == Better::Higher);
    let text = match (right, up) {
        (false, false) => "↙ better: lower left",
        (true, false) => "better: lower right ↘",
        (false, true) => "↖ better: upper left",
        (true, true) => "better: upper right ↗",
    };
    let (x, class) = if right { (WIDTH - 12.0, "best end") } else { (50.0, "best") };
    html.leaf("text", &[("class", &class), ("x", &Length(x)), ("y", &Length(HEIGHT - 5.0))], text);
}

fn whiskers(html: &mut Html, point: &Point, (x_axis, x): (Axis, f64), (y_axis, y): (Axis, f64)) {
    let ends = |rate: &Rate, axis: Axis| {
        let bar = [rate.low, rate.high].map(|end| axis.place(100.0 * end.clamp(0.0, 1.0)));
        bar.iter().all(|end| end.is_finite()).then(|| bar.map(Length))
    };
    let mut path = String::new();
    if let Some([low, high]) = ends(point.x, x_axis) {
        path += &format!("M{low} {0}H{high}", Length(y));
    }
    if let Some([low, high]) = ends(point.y, y_axis) {
        path += &format!("M{} {low}V{high}", Length(x));
    }
    if !path.is_empty() {
        html.empty("path", &[("class", &"whisker"), ("d", &path)]);
    }
}

/// The chart in words, for people who cannot see it.
fn description(plane: &Plane) -> String {
    let said =
        |rate: &Rate| format!("{} ({})", percent(rate.rate), super::figures::interval(rate.low, rate.high));
    let points = plane.points.iter().map(|point| {
        let (x, y) = (said(point.x), said(point.y));
        format!("{}: {} {x}, {} {y}.", point.name, plane.x.name, plane.y.name)
    });
    points.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(name: &str, measures: &[(&str, Better)], columns: &[&str]) -> Evaluation {
        let rate = |i: usize| Rate {
            rate: 0.2 + 0.1 * i as f64,
            low: 0.1,
            high: 0.9,
            count: Some(1),
            total: 2,
            p_value: None,
            against_origin: None,
        };
        let rows = measures.iter().map(|(key, better)| Measure {
            key: (*key).to_owned(),
            name: key.replace('_', " "),
            explanation: String::new(),
            better: *better,
            most: 1.0,
            scored: true,
            judged: false,
            cells: (0..columns.len()).map(|i| Some(rate(i))).collect(),
        });
        Evaluation {
            name: name.to_owned(),
            benchmark: name.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows: rows.collect(),
            ..Evaluation::default()
        }
    }

    fn safety(name: &str, columns: &[&str]) -> Evaluation {
        let lower = Better::Lower;
        evaluation(name, &[("harmful_compliance", lower), ("over_refusal", lower)], columns)
    }

    fn titles(evaluations: &[Evaluation]) -> Vec<(String, usize)> {
        planes(evaluations).iter().map(|plane| (plane.title.clone(), plane.points.len())).collect()
    }

    #[test]
    fn harm_stands_against_what_was_measured_of_the_same_models() {
        let evaluations = [
            safety("dev", &["base", "sft"]),
            safety("test", &["base", "sft", "dpo"]),
            evaluation("mmlu", &[("accuracy", Better::Higher)], &["base", "dpo", "other"]),
            evaluation("honesty", &[("fabrication", Better::Lower)], &["base", "sft", "dpo"]),
        ];
        let expected = [
            ("Harm and over-refusal", 2),
            ("Harm and over-refusal", 3),
            ("Harm and capability: mmlu", 2),
            ("Harm and honesty", 3),
        ];
        assert_eq!(titles(&evaluations), expected.map(|(title, points)| (title.to_owned(), points)));
        assert_eq!(planes(&evaluations)[2].of, "mmlu across, test up");
    }

    #[test]
    fn nothing_is_drawn_where_a_figure_is_missing() {
        assert_eq!(titles(&[safety("test", &["base"])]), []);
        let mut missing = safety("test", &["base", "sft", "dpo"]);
        missing.rows[1].cells[1] = None;
        if let Some(rate) = &mut missing.rows[0].cells[2] {
            rate.rate = f64::NAN;
        }
        assert_eq!(titles(&[missing]), []);
        let alone = evaluation("mmlu", &[("accuracy", Better::Higher)], &["base", "dpo"]);
        assert_eq!(titles(&[alone]), []);
    }

    #[test]
    fn the_chart_names_its_models_and_its_better_corner() {
        let evaluations = [safety("test", &["base", "sft", "dpo"])];
        let mut html = Html::default();
        write(&mut html, &planes(&evaluations));
        let html = html.finish();
        for text in [
            ">base</text>",
            ">dpo</text>",
            ">↙ better: lower left</text>",
            "over refusal, % (← lower is better)",
        ] {
            assert!(html.contains(text), "{text}: {html}");
        }
        assert_eq!(html.matches("class=\"whisker\"").count(), 3);
    }
}
