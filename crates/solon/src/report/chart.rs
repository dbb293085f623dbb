//! Line charts of training metrics, as inline SVG.
//!
//! A line has a gap at a point that is not finite, and the page says how many points were left out. Lines differ in
//! dashes and in colour.

use super::axis::{Axis, Length, drawable};
use super::data::{Curve, Series};
use super::figures::{count, counted, short};
use super::html::Html;

const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 390.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 200.0;

/// Number of line classes in the style sheet; further lines use them again.
const STYLES: usize = 6;

/// A line with as many points has its running mean drawn.
const NOISY: usize = 60;

/// A line is thinned to about this many points, two for each unit of width.
const MAX_POINTS: usize = 700;

/// Writes the section's charts in a grid.
pub fn curves(html: &mut Html, curves: &[Curve]) {
    html.element("div", &[("class", &"charts")], |html| {
        for curve in curves {
            html.element("figure", &[], |html| {
                html.leaf("figcaption", &[], &curve.title);
                line_chart(html, curve);
            });
        }
    });
}

fn line_chart(html: &mut Html, curve: &Curve) {
    if curve.series.len() > 1 {
        legend(html, &curve.series);
    }
    let points = || curve.series.iter().flat_map(|series| &series.points).copied();
    let shown = || points().filter(|point| drawable(*point));
    let x_axis = Axis::over(shown().map(|(x, _)| x), LEFT, RIGHT);
    let y_axis = Axis::over(shown().map(|(_, y)| y), BOTTOM, TOP).map(Axis::rounded);
    match x_axis.zip(y_axis) {
        Some((x_axis, y_axis)) => svg(html, curve, x_axis, y_axis),
        None => html.leaf("p", &[("class", &"nothing")], "Nothing was recorded."),
    }
    let left_out = points().count() - shown().count();
    if left_out > 0 {
        let are = if left_out == 1 { "is" } else { "are" };
        let text = format!("{} {are} not finite and {are} left out.", counted(left_out, "point"));
        html.leaf("p", &[("class", &"note")], text);
    }
    if let Some(note) = &curve.note {
        html.leaf("p", &[("class", &"note")], note);
    }
}

fn legend(html: &mut Html, series: &[Series]) {
    html.element("ul", &[("class", &"legend")], |html| {
        for (i, series) in series.iter().enumerate() {
            html.element("li", &[], |html| {
                html.element("svg", &[("viewBox", &"0 0 24 8"), ("aria-hidden", &"true")], |html| {
                    html.empty("path", &[("class", &line_class(i)), ("d", &"M0 4H24")]);
                });
                html.text(&series.name);
            });
        }
    });
}

fn svg(html: &mut Html, curve: &Curve, x_axis: Axis, y_axis: Axis) {
    let view_box = format!("0 0 {WIDTH} {HEIGHT}");
    html.element("svg", &[("class", &"chart"), ("viewBox", &view_box), ("role", &"img")], |html| {
        html.leaf("title", &[], &curve.title);
        html.leaf("desc", &[], description(curve));
        frame(html, x_axis, y_axis, &curve.x_label, &curve.y_label);
        for (i, series) in curve.series.iter().enumerate() {
            for stretch in series.points.split(|point| !drawable(*point)) {
                // A noisy line is drawn faint behind its mean.
                match smoothed(stretch) {
                    Some(mean) => {
                        html.element("g", &[("class", &"each")], |html| {
                            line(html, i, stretch, x_axis, y_axis)
                        });
                        line(html, i, &mean, x_axis, y_axis);
                    }
                    None => line(html, i, stretch, x_axis, y_axis),
                }
            }
        }
    });
}

/// Writes grid, ticks and labels of a chart; its axes give its area.
pub fn frame(html: &mut Html, x_axis: Axis, y_axis: Axis, x_label: &str, y_label: &str) {
    for (value, label) in y_axis.ticks() {
        let y = y_axis.place(value);
        let (left, right) = (Length(x_axis.start), Length(x_axis.end));
        html.empty(
            "line",
            &[("class", &"grid"), ("x1", &left), ("x2", &right), ("y1", &Length(y)), ("y2", &Length(y))],
        );
        let x = Length(x_axis.start - 6.0);
        html.leaf("text", &[("class", &"tick end"), ("x", &x), ("y", &Length(y + 3.5))], label);
    }
    for (value, label) in x_axis.ticks() {
        let x = Length(x_axis.place(value));
        let (top, bottom) = (Length(y_axis.start), Length(y_axis.start + 4.0));
        html.empty("line", &[("class", &"axis"), ("x1", &x), ("x2", &x), ("y1", &top), ("y2", &bottom)]);
        html.leaf(
            "text",
            &[("class", &"tick middle"), ("x", &x), ("y", &Length(y_axis.start + 16.0))],
            label,
        );
    }
    let (left, right, bottom) = (Length(x_axis.start), Length(x_axis.end), Length(y_axis.start));
    html.empty(
        "line",
        &[("class", &"axis"), ("x1", &left), ("x2", &right), ("y1", &bottom), ("y2", &bottom)],
    );
    let middle = Length((x_axis.start + x_axis.end) / 2.0);
    html.leaf(
        "text",
        &[("class", &"label middle"), ("x", &middle), ("y", &Length(y_axis.start + 33.0))],
        x_label,
    );
    html.leaf("text", &[("class", &"label"), ("x", &"2"), ("y", &Length(y_axis.end - 11.0))], y_label);
}

fn line(html: &mut Html, index: usize, points: &[(f64, f64)], x_axis: Axis, y_axis: Axis) {
    match points {
        [] => (),
        [(x, y)] => {
            let (x, y) = (Length(x_axis.place(*x)), Length(y_axis.place(*y)));
            html.empty("circle", &[("class", &dot_class(index)), ("cx", &x), ("cy", &y), ("r", &"3")]);
        }
        points => {
            let mut path = String::new();
            for (i, (x, y)) in thinned(points).into_iter().enumerate() {
                let command = if i == 0 { 'M' } else { 'L' };
                path += &format!("{command}{} {}", Length(x_axis.place(x)), Length(y_axis.place(y)));
            }
            html.empty("path", &[("class", &line_class(index)), ("d", &path)]);
        }
    }
}

fn line_class(index: usize) -> String {
    format!("line series-{}", index % STYLES)
}

fn dot_class(index: usize) -> String {
    format!("dot series-{}", index % STYLES)
}

/// The mean of each point and those around it, over a twentieth of the line; `None` of a short line. Near an end the mean is
/// of fewer points, as many on both sides.
fn smoothed(points: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    if points.len() < NOISY {
        return None;
    }
    let most = points.len() / 40;
    let mean = |i: usize| {
        let reach = most.min(i).min(points.len() - 1 - i);
        let around = &points[i - reach..=i + reach];
        around.iter().map(|(_, y)| y).sum::<f64>() / around.len() as f64
    };
    Some(points.iter().enumerate().map(|(i, (x, _))| (*x, mean(i))).collect())
}

/// Keeps the smallest and the largest point of each group of neighbours, so that a spike is never lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(MAX_POINTS + 2);
    kept.push(points[0]);
    for run in points.chunks(points.len().div_ceil(MAX_POINTS / 2)) {
        let (mut least, mut greatest) = (0, 0);
        for (i, (_, y)) in run.iter().enumerate() {
            least = if *y < run[least].1 { i } else { least };
            greatest = if *y > run[greatest].1 { i } else { greatest };
        }
        kept.push(run[least.min(greatest)]);
        kept.push(run[least.max(greatest)]);
    }
    kept.push(points[points.len() - 1]);
    kept
}

/// The chart in words, for people who cannot see it.
fn description(curve: &Curve) -> String {
    let mut out = format!("{} against {}.", curve.y_label, curve.x_label);
    for series in &curve.series {
        let shown: Vec<_> = series.points.iter().copied().filter(|point| drawable(*point)).collect();
        if let (Some((x0, y0)), Some((x1, y1))) = (shown.first(), shown.last()) {
            let [x0, y0, x1, y1] = [*x0, *y0, *x1, *y1].map(short);
            out += &format!(" {}: {y0} at {x0}, {y1} at {x1}, {} points.", series.name, count(shown.len()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: &[&[(f64, f64)]]) -> String {
        let mut html = Html::default();
        let series =
            series.iter().map(|points| Series { name: "s".into(), points: points.to_vec() }).collect();
        let [title, x_label, y_label] = ["loss", "step", "nats"].map(String::from);
        curves(&mut html, &[Curve { title, x_label, y_label, series, note: None }]);
        html.finish()
    }

    #[test]
    fn points_that_are_not_finite_break_the_line_and_are_counted() {
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, f64::INFINITY), (4.0, 1.0), (5.0, 3.0)];
        let html = chart(&[&points]);
        assert_eq!(html.matches("<path").count(), 2);
        assert!(html.contains("2 points are not finite and are left out."));
        assert!(!html.contains("NaN") && !html.contains("inf\""), "{html}");
    }

    #[test]
    fn a_single_point_is_a_dot() {
        let html = chart(&[&[(7.0, 0.5)]]);
        assert_eq!(html.matches("<circle").count(), 1);
        assert!(!html.contains("<path"));
    }

    #[test]
    fn a_noisy_line_has_its_mean_and_a_short_one_has_not() {
        let points: Vec<_> = (0..200).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let mean = smoothed(&points).unwrap();
        assert_eq!((mean[0], mean[199]), (points[0], points[199]));
        assert!(mean[5..195].iter().all(|(_, y)| (y - 0.5).abs() < 0.1), "{mean:?}");
        assert_eq!(smoothed(&points[..NOISY - 1]), None);
        assert_eq!(chart(&[&points]).matches("<path").count(), 2);
    }

    #[test]
    fn an_empty_chart_says_so() {
        for series in [&[][..], &[&[][..]], &[&[(f64::NAN, f64::NAN)][..]]] {
            let html = chart(series);
            assert!(html.contains("Nothing was recorded.") && !html.contains("<svg"));
        }
    }

    #[test]
    fn thinning_keeps_both_ends_and_the_spike() {
        let mut points: Vec<_> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[51_234].1 = 9.0;
        let kept = thinned(&points);
        assert!(kept.len() <= MAX_POINTS + 2);
        assert_eq!((kept[0].0, kept[kept.len() - 1].0), (0.0, 99_999.0));
        assert!(kept.contains(&(51_234.0, 9.0)));
    }
}
