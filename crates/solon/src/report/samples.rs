//! Samples: each model's answers to the same prompts side by side, and trails from an item back to its principle.

use super::data::{Answer, Sample, Trail};
use super::html::Html;

/// Writes the samples, grouped by kind in the order in which kinds first appear.
pub fn samples(html: &mut Html, samples: &[Sample]) {
    let mut kinds: Vec<&str> = Vec::new();
    for sample in samples {
        if !kinds.contains(&sample.kind.as_str()) {
            kinds.push(&sample.kind);
        }
    }
    for kind in kinds {
        html.leaf("h3", &[], kind);
        for sample in samples.iter().filter(|sample| sample.kind == kind) {
            one(html, sample);
        }
    }
}

fn one(html: &mut Html, sample: &Sample) {
    html.element("article", &[("class", &"sample")], |html| {
        html.element("header", &[], |html| {
            html.leaf("span", &[("class", &"category")], &sample.category);
            html.leaf("code", &[], &sample.id);
        });
        html.leaf("p", &[("class", &"prompt written")], &sample.prompt);
        html.element("div", &[("class", &"answers")], |html| {
            for answer in &sample.answers {
                html.element("div", &[("class", &"answer")], |html| {
                    html.element("h4", &[], |html| {
                        html.leaf("span", &[], &answer.column);
                        chip(html, answer, sample.answers.first());
                    });
                    if answer.text.is_empty() {
                        html.leaf("p", &[("class", &"nothing")], "The answer is empty.");
                    } else {
                        html.leaf("p", &[("class", &"written")], &answer.text);
                    }
                });
            }
        });
    });
}

/// The verdict, marked if it differs from the first model's.
fn chip(html: &mut Html, answer: &Answer, first: Option<&Answer>) {
    if answer.verdict.is_empty() {
        return;
    }
    match first.filter(|first| first.verdict != answer.verdict) {
        Some(first) => html.element("span", &[("class", &"chip changed")], |html| {
            html.text(&answer.verdict);
            html.leaf("span", &[("class", &"against")], format!(" ≠ {}", first.column));
        }),
        None => html.leaf("span", &[("class", &"chip")], &answer.verdict),
    }
}

/// Writes examples of what `solon explain` prints.
pub fn trail(html: &mut Html, trail: &[Trail]) {
    for item in trail {
        html.element("figure", &[("class", &"trail")], |html| {
            html.element("figcaption", &[], |html| {
                html.leaf("code", &[], format!("solon explain {}", item.id))
            });
            html.leaf("pre", &[("tabindex", &"0")], item.lines.join("\n"));
        });
    }
}
