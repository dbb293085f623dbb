//! The run itself: its stages and their time, its inputs, and how to repeat it.

use super::data::{Report, Stage};
use super::figures::{self, bytes, count, counted, duration};
use super::html::Html;

/// Writes the stages and how long each took.
pub fn stages(html: &mut Html, stages: &[Stage]) {
    let longest = stages.iter().map(|stage| stage.seconds).filter(|s| s.is_finite()).fold(0.0, f64::max);
    html.element("table", &[("class", &"cards stages"), ("role", &"table")], |html| {
        html.leaf("caption", &[], "The stages in the order they ran; the longest bar is the longest stage.");
        html.element("thead", &[("role", &"rowgroup")], |html| {
            html.element("tr", &[("role", &"row")], |html| {
                for (name, class) in [("Stage", ""), ("Items", "number"), ("Dropped", ""), ("Time", "time")] {
                    html.leaf("th", &[("scope", &"col"), ("role", &"columnheader"), ("class", &class)], name);
                }
            });
        });
        html.element("tbody", &[("role", &"rowgroup")], |html| {
            for stage in stages {
                row(html, stage, longest);
            }
        });
    });
}

fn row(html: &mut Html, stage: &Stage, longest: f64) {
    html.element("tr", &[("role", &"row")], |html| {
        html.element("th", &[("scope", &"row"), ("role", &"rowheader")], |html| {
            html.leaf("span", &[("class", &"name")], &stage.name);
            html.leaf("span", &[("class", &"explanation")], &stage.what);
        });
        html.leaf(
            "td",
            &[("role", &"cell"), ("class", &"number"), ("data-label", &"Items")],
            count(stage.items),
        );
        html.element("td", &[("role", &"cell"), ("data-label", &"Dropped")], |html| {
            dropped(html, &stage.dropped)
        });
        html.element("td", &[("role", &"cell"), ("class", &"time"), ("data-label", &"Time")], |html| {
            html.leaf("span", &[("class", &"seconds")], duration(stage.seconds));
            let share = if longest > 0.0 { (stage.seconds / longest).clamp(0.0, 1.0) } else { 0.0 };
            // NaN fails every comparison, so a stage without a time has no bar.
            let share = if share > 0.0 { share } else { 0.0 };
            html.element("span", &[("class", &"track"), ("aria-hidden", &"true")], |html| {
                html.leaf(
                    "span",
                    &[("class", &"bar"), ("style", &format!("width:{:.1}%", share * 100.0))],
                    "",
                );
            });
        });
    });
}

fn dropped(html: &mut Html, reasons: &[(String, usize)]) {
    if reasons.is_empty() {
        return html.leaf("span", &[("class", &"explanation")], "none");
    }
    html.element("ul", &[("class", &"reasons")], |html| {
        for (reason, n) in reasons {
            html.leaf("li", &[], format!("{} {}", count(*n), figures::reason(reason)));
        }
    });
}

/// The run's inputs and its machine: names and values, without those that are not known.
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let (model, constitution, setting) = (&report.model, &report.constitution, &report.setting);
    let number = |n: usize| if n == 0 { String::new() } else { n.to_string() };
    let principles = match constitution.name.as_str() {
        "" => String::new(),
        _ => format!(
            "{} for revision, {} for comparison, {}",
            counted(constitution.revision_principles, "principle"),
            count(constitution.comparison_principles),
            counted(constitution.examples, "worked example"),
        ),
    };
    let memory =
        if setting.peak_memory_bytes == 0 { String::new() } else { bytes(setting.peak_memory_bytes) };
    let delivered = report.delivered.as_ref().map(|delivered| delivered.sha256.clone());
    let facts = [
        ("Solon", setting.solon_version.clone()),
        ("Seed", setting.seed.to_string()),
        ("Base model", model.name.clone()),
        ("Base model, file", model.path.clone()),
        ("Base model, SHA-256", model.sha256.clone()),
        ("Delivered weights, SHA-256", delivered.unwrap_or_default()),
        ("Constitution", constitution.name.clone()),
        ("Constitution, SHA-256", constitution.sha256.clone()),
        ("Principles", principles),
        ("Precision", setting.precision.clone()),
        ("Instruction set", setting.isa.clone()),
        ("Threads", number(setting.threads)),
        ("Started", setting.started.clone()),
        ("Total time", duration(setting.total_seconds)),
        ("Peak memory", memory),
    ];
    facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

/// Writes the run's inputs and its recipe.
pub fn ingredients(html: &mut Html, report: &Report) {
    html.element("dl", &[("class", &"facts")], |html| {
        for (name, value) in facts(report) {
            html.element("div", &[], |html| {
                html.leaf("dt", &[], name);
                html.leaf("dd", &[], value);
            });
        }
    });
    if !report.setting.recipe.is_empty() {
        html.element("details", &[("class", &"recipe")], |html| {
            html.leaf("summary", &[], "The recipe with all settings, as the run used it");
            html.leaf("pre", &[("tabindex", &"0")], &report.setting.recipe);
        });
    }
}

/// The command that repeats the run.
pub const COMMAND: &str = "solon run recipe.toml --out again";

/// Writes how to repeat the run.
pub fn reproduce(html: &mut Html, report: &Report) {
    html.leaf("h2", &[], "Repeat this run");
    html.element("p", &[], |html| {
        html.text("Save the recipe above as ");
        html.leaf("code", &[], "recipe.toml");
        html.text(" and run");
    });
    html.leaf("pre", &[("tabindex", &"0")], COMMAND);
    for sentence in promise(report) {
        html.leaf("p", &[], sentence);
    }
    if !report.setting.solon_version.is_empty() {
        let version = format!("The run was made with Solon {}.", report.setting.solon_version);
        html.leaf("p", &[("class", &"note")], version);
    }
}

/// What the same run gives, and how to see it.
pub fn promise(report: &Report) -> Vec<String> {
    let isa = match report.setting.isa.as_str() {
        "" => "the same instruction set".to_owned(),
        isa => format!("the same instruction set ({isa})"),
    };
    let mut sentences = vec![format!(
        "The same program, recipe and base model on {isa} give byte-identical weights, whatever the number of threads and \
         however often the run is stopped and resumed."
    )];
    if report.delivered.is_some() {
        sentences.push(
            "To see that they are the same, compare weights_sha256 in summary.json with the delivered weights' SHA-256 \
             above."
                .to_owned(),
        );
    }
    sentences
}
