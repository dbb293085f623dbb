//! The judge report: how far the labeller's labels can be trusted, with its reliability diagram.

use super::axis::{Axis, Length, drawable};
use super::chart::frame;
use super::data::{CalibrationBin, Labeller};
use super::figures::{count, counted, percent};
use super::html::Html;

/// Writes the section.
pub fn labeller(html: &mut Html, labeller: &Labeller) {
    html.leaf("p", &[("class", &"lead")], &labeller.verdict);
    if let Some(warning) = &labeller.warning {
        html.element("p", &[("class", &"warning")], |html| {
            html.leaf("b", &[], "⚠ Warning. ");
            html.text(warning);
        });
    }
    html.element("div", &[("class", &"beside")], |html| {
        if !labeller.rows.is_empty() {
            measurements(html, &labeller.rows);
        }
        if labeller.calibration.iter().any(|bin| drawable((bin.mean_confidence, bin.accuracy))) {
            calibration(html, &labeller.calibration);
        }
    });
}

fn measurements(html: &mut Html, rows: &[(String, String)]) {
    html.element("table", &[], |html| {
        html.leaf("caption", &[], "Measured before its labels were used.");
        html.element("tbody", &[], |html| {
            for (what, figure) in rows {
                html.element("tr", &[], |html| {
                    html.leaf("th", &[("scope", &"row")], what);
                    html.leaf("td", &[("class", &"number")], figure);
                });
            }
        });
    });
}

fn calibration(html: &mut Html, bins: &[CalibrationBin]) {
    html.element("figure", &[("class", &"reliability")], |html| {
        html.leaf("figcaption", &[], "Is it right when it is confident?");
        diagram(html, bins);
        let note = "On the dashed line the labeller is right as often as its confidence says; below the line it is overconfident. \
                    Larger dots stand for more labels.";
        html.leaf("p", &[("class", &"note")], note);
        html.element("details", &[], |html| {
            html.leaf("summary", &[], "The same in figures");
            html.element("table", &[], |html| {
                html.leaf("caption", &[], "Labels grouped by confidence.");
                html.element("thead", &[], |html| {
                    html.element("tr", &[], |html| {
                        for name in ["Mean confidence", "Right", "Labels"] {
                            html.leaf("th", &[("scope", &"col"), ("class", &"number")], name);
                        }
                    });
                });
                html.element("tbody", &[], |html| {
                    for bin in bins {
                        html.element("tr", &[], |html| {
                            for text in
                                [percent(bin.mean_confidence), percent(bin.accuracy), count(bin.count)]
                            {
                                html.leaf("td", &[("class", &"number")], text);
                            }
                        });
                    }
                });
            });
        });
    });
}

/// Accuracy against confidence. The confidence in one of two options is at least one half, so the axis starts there
/// unless a label is below it.
fn diagram(html: &mut Html, bins: &[CalibrationBin]) {
    let shown: Vec<_> = bins.iter().filter(|bin| drawable((bin.mean_confidence, bin.accuracy))).collect();
    let low = if shown.iter().all(|bin| bin.mean_confidence >= 0.5) { 0.5 } else { 0.0 };
    let x_axis = Axis { low, high: 1.0, start: 50.0, end: 310.0, step: if low > 0.0 { 0.1 } else { 0.2 } };
    let y_axis = Axis { low: 0.0, high: 1.0, start: 220.0, end: 22.0, step: 0.2 };
    let most = shown.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    html.element("svg", &[("class", &"chart"), ("viewBox", &"0 0 320 260"), ("role", &"img")], |html| {
        html.leaf("title", &[], "Reliability diagram of the labeller");
        html.leaf("desc", &[], description(&shown));
        frame(html, x_axis, y_axis, "Mean confidence", "Share that was right");
        let line =
            [("x1", x_axis.place(low)), ("y1", y_axis.place(low)), ("x2", x_axis.end), ("y2", y_axis.end)];
        let [x1, y1, x2, y2] = line.map(|(_, place)| Length(place));
        html.empty("line", &[("class", &"before"), ("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2)]);
        for bin in shown {
            let x = Length(x_axis.place(bin.mean_confidence.clamp(low, 1.0)));
            let y = Length(y_axis.place(bin.accuracy.clamp(0.0, 1.0)));
            // The dot's area, not its radius, grows with the count.
            let radius = Length(2.5 + 7.5 * (bin.count as f64 / most as f64).sqrt());
            html.empty("circle", &[("class", &"bubble"), ("cx", &x), ("cy", &y), ("r", &radius)]);
        }
    });
}

fn description(bins: &[&CalibrationBin]) -> String {
    let sentences: Vec<String> = bins
        .iter()
        .map(|bin| {
            let labels = counted(bin.count, "label");
            format!(
                "At {} confidence, {} of {labels} were right.",
                percent(bin.mean_confidence),
                percent(bin.accuracy)
            )
        })
        .collect();
    sentences.join(" ")
}
