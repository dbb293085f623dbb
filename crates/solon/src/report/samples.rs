//! Samples: each model's answers to the same prompts side by side, how answers were criticised and revised, and trails from
//! an item back to its principle.
//!
//! The filter is a form that a small script of this program shows and works. Without scripts the form stays hidden and every
//! sample can be read.

use super::data::{Answer, Round, Sample, Trail};
use super::figures::{self, counted};
use super::html::{Attributes, Html};
use std::collections::BTreeSet;
use std::fmt::Display;

/// Works the filter. The page's policy allows this script alone, by its hash.
pub const SCRIPT: &str = include_str!("samples.js");

/// Samples of each kind that are shown at once; the others are behind a fold. On paper the style sheet leaves three.
const FIRST: usize = 6;

/// Writes the samples, grouped by kind.
pub fn samples(html: &mut Html, samples: &[Sample], delivered: Option<&str>) {
    filter(html, samples);
    for (i, kind) in kinds(samples).into_iter().enumerate() {
        let of_kind: Vec<&Sample> = samples.iter().filter(|sample| sample.kind == kind).collect();
        let attributes: [(&str, &dyn Display); 2] = [("class", &"kind"), ("open", &"")];
        // The first kind is open, so that a reader sees what lies in the others.
        let attributes = if i == 0 { &attributes[..] } else { &attributes[..1] };
        html.element("details", attributes, |html| {
            html.element("summary", &[], |html| {
                html.leaf("h3", &[], kind);
                html.leaf("span", &[("class", &"explanation")], counted(of_kind.len(), "sample"));
            });
            let (first, more) = of_kind.split_at(FIRST.min(of_kind.len()));
            first.iter().for_each(|sample| one(html, sample, delivered));
            if !more.is_empty() {
                html.element("details", &[("class", &"more")], |html| {
                    html.leaf("summary", &[], format!("{} more", more.len()));
                    more.iter().for_each(|sample| one(html, sample, delivered));
                });
            }
        });
    }
    html.script(SCRIPT);
}

/// Every kind once, in the order of the samples; what training made of answers comes after what the models answer now.
fn kinds(samples: &[Sample]) -> Vec<&str> {
    let mut kinds: Vec<&str> = Vec::new();
    for sample in samples {
        if !kinds.contains(&sample.kind.as_str()) {
            kinds.push(&sample.kind);
        }
    }
    let revised =
        |kind: &&str| samples.iter().any(|sample| sample.kind == *kind && !sample.rounds.is_empty());
    kinds.sort_by_key(revised);
    kinds
}

fn filter(html: &mut Html, samples: &[Sample]) {
    let categories: BTreeSet<&str> = samples.iter().map(|sample| sample.category.as_str()).collect();
    let answers = samples.iter().flat_map(|sample| &sample.answers);
    let verdicts: BTreeSet<&str> = answers.map(|answer| answer.verdict.as_str()).collect();
    let choices: [(&str, &str, Vec<&str>); 3] = [
        ("kind", "Kind", kinds(samples)),
        ("category", "Category", categories.into_iter().collect()),
        ("verdict", "Verdict on any answer", verdicts.into_iter().collect()),
    ];
    html.element("form", &[("id", &"filter"), ("class", &"filter"), ("hidden", &"")], |html| {
        html.element("label", &[], |html| {
            html.leaf("span", &[], "Text");
            html.empty("input", &[("type", &"search"), ("name", &"text"), ("placeholder", &"any word")]);
        });
        for (name, label, options) in choices {
            html.element("label", &[], |html| {
                html.leaf("span", &[], label);
                html.element("select", &[("name", &name)], |html| {
                    html.leaf("option", &[("value", &"")], "all");
                    for option in options.into_iter().filter(|option| !option.is_empty()) {
                        html.leaf("option", &[("value", &option)], option);
                    }
                });
            });
        }
        html.element("label", &[("class", &"check")], |html| {
            html.empty("input", &[("type", &"checkbox"), ("name", &"changed")]);
            html.leaf("span", &[], "Only where the verdict changed");
        });
        html.leaf("button", &[("type", &"reset")], "Show all");
        html.leaf("output", &[("id", &"shown")], "");
    });
}

fn one(html: &mut Html, sample: &Sample, delivered: Option<&str>) {
    let mut verdicts: Vec<&str> = sample.answers.iter().map(|answer| answer.verdict.as_str()).collect();
    verdicts.dedup();
    let changed = if verdicts.len() > 1 { "yes" } else { "no" };
    let attributes: Attributes = &[
        ("class", &"sample"),
        ("data-kind", &sample.kind),
        ("data-category", &sample.category),
        ("data-verdicts", &verdicts.join("\n")),
        ("data-changed", &changed),
    ];
    html.element("article", attributes, |html| {
        html.element("header", &[], |html| {
            html.leaf("span", &[("class", &"category")], &sample.category);
            html.leaf("code", &[], &sample.id);
        });
        html.leaf("p", &[("class", &"prompt written"), ("dir", &"auto")], &sample.prompt);
        html.element("div", &[("class", &"answers")], |html| {
            for answer in &sample.answers {
                let is_delivered = delivered == Some(answer.column.as_str());
                html.element("div", &[("class", &"answer")], |html| {
                    html.element("h4", &[], |html| {
                        let name = if is_delivered { " (delivered)" } else { "" };
                        html.leaf("span", &[], format!("{}{name}", answer.column));
                        chip(html, answer, sample.answers.first());
                    });
                    written(html, &answer.text, "The answer is empty.");
                });
            }
        });
        for (i, round) in sample.rounds.iter().enumerate() {
            revised(html, round, i + 1, sample.rounds.len());
        }
    });
}

/// Writes what a model wrote. Its own direction of writing decides the alignment, and nothing outside it.
fn written(html: &mut Html, text: &str, nothing: &str) {
    if text.trim().is_empty() {
        html.leaf("p", &[("class", &"nothing")], nothing);
    } else {
        html.leaf("p", &[("class", &"written"), ("dir", &"auto")], text);
    }
}

/// Writes a round: the principle, the critique, the revision, and why it was not used.
fn revised(html: &mut Html, round: &Round, number: usize, of: usize) {
    html.element("dl", &[("class", &"round")], |html| {
        let which = if of > 1 { format!("Principle, round {number}") } else { "Principle".to_owned() };
        html.leaf("dt", &[], which);
        html.element("dd", &[], |html| {
            if !round.principle.is_empty() {
                html.leaf("code", &[], &round.principle);
            }
            // Its first line asks for the critique, its second for the revision.
            html.leaf("p", &[("class", &"explanation written")], &round.asks);
        });
        for (name, text) in [("Critique", &round.critique), ("Revision", &round.revision)] {
            html.leaf("dt", &[], name);
            html.element("dd", &[], |html| written(html, text, "None was written."));
        }
        if let Some(reason) = &round.dropped {
            html.leaf("dt", &[], "Not used");
            html.leaf("dd", &[], figures::reason(reason));
        }
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
