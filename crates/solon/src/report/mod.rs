//! The report of a run: one HTML file without other files, to read, print, send or keep.
//!
//! [`render`] is a pure function from [`Report`] to text: no files, no clock, no network. All text of models and recipes
//! is escaped, and invisible characters are made visible. The page's content policy forbids every request, and every script
//! but the one that works the samples' filter, which it knows by its hash. So a hostile answer stays text.
//! [`markdown`] is the same report as Markdown, [`card`] the card of the delivered model for the Hugging Face Hub.
//!
//! The page follows the reader's light or dark setting. On a phone, tables turn into cards. Nothing is shown by colour
//! alone.

mod axis;
mod card;
mod categories;
mod change;
mod chart;
mod data;
mod data_card;
mod evaluation;
mod figures;
mod headline;
mod html;
mod inferred;
mod judge;
mod labeller;
mod labels;
mod markdown;
mod marks;
mod run;
mod samples;
mod tables;
#[cfg(test)]
mod tests;
mod tradeoff;
mod visible;
mod yaml;

pub use card::card;
pub use data::*;
pub use data_card::{DataFile, LabelledBy, data_card, how_labelled};
use figures::unbroken;
use html::Html;
pub use markdown::markdown;

/// The hash is of [`samples::SCRIPT`]; a test says what it must be.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'sha256-q8B8zwZ6Ft7W4eonoH3jDqIvuT7qrPzvcNzwcRA7HTA='; img-src 'none'; base-uri 'none'; form-action 'none'";

/// A part of the page. It is left out if the report has no data for it.
struct Section {
    id: &'static str,
    heading: &'static str,
    /// One sentence that introduces it.
    about: &'static str,
    present: bool,
    write: fn(&mut Html, &Report),
}

/// Everything below the verdict, in reading order.
fn sections(report: &Report) -> Vec<Section> {
    let planes = tradeoff::planes(&report.evaluations);
    let all = [
        Section {
            id: "tradeoffs",
            heading: "Trade-offs",
            about: "Each point is a model. A model is better than another where it is better on one axis and no worse on \
                    the other.",
            present: !planes.is_empty(),
            write: |html, report| tradeoff::write(html, &tradeoff::planes(&report.evaluations)),
        },
        Section {
            id: "evaluation",
            heading: "Before and after",
            about: "",
            present: report.evaluations.iter().any(|evaluation| !evaluation.rows.is_empty()),
            write: evaluation::evaluations,
        },
        Section {
            id: "samples",
            heading: "Samples",
            about: "The same prompts, answered by each model, evenly spaced over the prompts of each kind. The text is as \
                    the models wrote it; the word beside a name is the verdict on the answer.",
            present: !report.samples.is_empty(),
            write: |html, report| {
                let delivered = report.delivered.as_ref().map(|delivered| delivered.name.as_str());
                samples::samples(html, &report.samples, delivered);
            },
        },
        Section {
            id: "curves",
            heading: "Training",
            about: "A thin line is what each step measured on its own batch; the thick line is its running mean.",
            present: !report.curves.is_empty() || !report.notes.is_empty(),
            write: |html, report| {
                if !report.notes.is_empty() {
                    html.element("ul", &[("class", &"notes")], |html| {
                        report.notes.iter().for_each(|note| html.leaf("li", &[], unbroken(note)));
                    });
                }
                chart::curves(html, &report.curves);
            },
        },
        Section {
            id: "labeller",
            heading: "The labeller",
            about: "Preference labels are only as good as the model that gives them. This model, the labeller, was \
                    measured before its labels were used.",
            present: report.labeller.is_some(),
            write: |html, report| {
                if let Some(labeller) = &report.labeller {
                    labeller::labeller(html, labeller);
                }
            },
        },
        Section {
            id: "principles",
            heading: "Inferred principles",
            about: "Which rules explain the preferences. A rule is right where it prefers the answer that was preferred; guessing is \
                    right on half. It explains a pair where it votes and is right. Intervals are of 95 %.",
            present: !report.inferred.is_empty(),
            write: |html, report| report.inferred.iter().for_each(|part| inferred::inferred(html, part)),
        },
        Section {
            id: "trail",
            heading: "Trails",
            about: "Every item that was trained on can be traced back to what it was made from, and to the principle behind it. \
                    Examples, as solon explain prints them, without their data:",
            present: !report.trail.is_empty(),
            write: |html, report| samples::trail(html, &report.trail),
        },
        Section {
            id: "stages",
            heading: "Stages and time",
            about: "",
            present: !report.stages.is_empty(),
            write: |html, report| run::stages(html, &report.stages),
        },
        Section { id: "run", heading: "The run", about: "", present: true, write: run::ingredients },
    ];
    all.into_iter().filter(|section| section.present).collect()
}

/// Renders `report` as one self-contained HTML file.
pub fn render(report: &Report) -> String {
    let sections = sections(report);
    let mut html = Html::page();
    html.element("html", &[("lang", &"en")], |html| {
        html.element("head", &[], |html| head(html, report));
        html.element("body", &[], |html| {
            html.element("header", &[("class", &"top")], |html| top(html, report));
            html.element("nav", &[("aria-label", &"Sections")], |html| {
                for section in &sections {
                    html.leaf("a", &[("href", &format!("#{}", section.id))], section.heading);
                    html.text("\n");
                }
            });
            html.element("main", &[], |html| {
                for section in &sections {
                    html.element("section", &[("id", &section.id)], |html| {
                        html.leaf("h2", &[], section.heading);
                        if !section.about.is_empty() {
                            html.leaf("p", &[("class", &"about")], section.about);
                        }
                        (section.write)(html, report);
                    });
                }
            });
            html.element("footer", &[], |html| run::reproduce(html, report));
        });
    });
    html.finish()
}

fn head(html: &mut Html, report: &Report) {
    html.empty("meta", &[("charset", &"utf-8")]);
    html.empty("meta", &[("http-equiv", &"Content-Security-Policy"), ("content", &POLICY)]);
    html.empty("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]);
    html.empty("meta", &[("name", &"color-scheme"), ("content", &"light dark")]);
    html.empty("meta", &[("name", &"referrer"), ("content", &"no-referrer")]);
    html.leaf("title", &[], title(report));
    html.style(include_str!("style.css"));
}

fn title(report: &Report) -> &str {
    if report.title.is_empty() { "A Solon run" } else { &report.title }
}

/// Title, verdict and warnings: the most important part.
fn top(html: &mut Html, report: &Report) {
    html.leaf("p", &[("class", &"overline")], overline(report));
    html.leaf("h1", &[], title(report));
    if let Some(sentence) = headline::headline(report) {
        html.leaf("p", &[("class", &"headline")], unbroken(&sentence));
    }
    if !report.verdict.is_empty() {
        html.element("ul", &[("class", &"verdict")], |html| {
            for sentence in &report.verdict {
                html.leaf("li", &[], unbroken(sentence));
            }
        });
    }
    if !report.warnings.is_empty() {
        html.element("div", &[("class", &"warning"), ("role", &"note")], |html| {
            html.leaf("h2", &[], "⚠ Before you believe the figures");
            html.element("ul", &[], |html| {
                for warning in &report.warnings {
                    html.leaf("li", &[], warning);
                }
            });
        });
    }
}

fn overline(report: &Report) -> String {
    let took = match report.setting.total_seconds {
        seconds if seconds > 0.0 => figures::duration(seconds),
        _ => String::new(),
    };
    let constitution = match report.constitution.name.as_str() {
        "" => String::new(),
        name => format!("constitution “{name}”"),
    };
    let parts = ["Solon", &report.model.name, &constitution, &report.setting.started, &took];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ")
}
