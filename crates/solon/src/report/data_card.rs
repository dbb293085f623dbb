//! The data card: `README.md` beside exported data, with the front matter that the Hugging Face Hub reads of data sets.
//!
//! Contract: it says only what the run knows. The licence is `other`: of the answers it is for the user to state. Files without rows
//! are no configurations, because the Hub cannot read them. Source: huggingface/hub-docs, `datasetcard.md`, and the Hub's
//! "Manual configuration".

use super::data::Report;
use super::figures::{count, counted};
use super::markdown::{Markdown, repeat};
use super::tables;
use super::yaml::yaml;
use serde_json::{Value, json};

/// A file of exported data.
pub struct DataFile {
    /// Its name in the folder.
    pub name: &'static str,
    /// Its rows.
    pub rows: usize,
    /// What a row is.
    pub about: &'static str,
    /// Its columns, and what each holds.
    pub columns: Vec<(&'static str, &'static str)>,
    /// Whether the Hub can show it as rows.
    pub is_table: bool,
}

/// How a stage labelled pairs.
pub struct LabelledBy {
    /// The stage's name.
    pub stage: String,
    /// Who labelled and how they were asked, in sentences.
    pub how: String,
}

/// The card of a run's exported data.
pub fn data_card(report: &Report, files: &[DataFile], labelled: &[LabelledBy]) -> String {
    let mut out = Markdown::default();
    out.heading(1, &format!("Data of the run {}", report.setting.name));
    let base = match report.model.hub.as_deref().unwrap_or(&report.model.name) {
        "" => "without a base model".to_owned(),
        base => format!("with {base} as its base model"),
    };
    let constitution = match report.constitution.name.as_str() {
        "" => "No constitution took part.".to_owned(),
        name => {
            format!("The constitution is \u{201c}{name}\u{201d} (SHA-256 {}).", report.constitution.sha256)
        }
    };
    out.paragraph(&format!(
        "A run of Solon made these data {base}, from the recipe {} with the seed {}. {constitution} \
         Solon is at {}.",
        report.setting.name,
        report.setting.seed,
        env!("CARGO_PKG_REPOSITORY")
    ));
    out.heading(2, "Files");
    for file in files {
        out.heading(3, file.name);
        out.paragraph(&format!("{}: {}.", counted(file.rows, "row"), file.about));
        out.table(&tables::pairs(["Column", "What it holds"], file.columns.iter().copied()));
    }
    if !labelled.is_empty() {
        out.heading(2, "Who labelled the pairs");
        for LabelledBy { stage, how } in labelled {
            out.term(&format!("The stage {stage}."), how);
        }
    }
    if let Some(labeller) = &report.labeller {
        out.heading(2, "How far the labels can be believed");
        out.paragraph(&labeller.verdict);
        if let Some(warning) = &labeller.warning {
            out.term("Warning.", warning);
        }
        let rows = labeller.rows.iter().map(|(what, figure)| (what.as_str(), figure.as_str()));
        out.table(&tables::pairs(["Measured", "Figure"], rows));
    }
    let told = report.labeller.as_ref().and_then(|labeller| labeller.warning.as_deref());
    let warnings: Vec<&str> =
        report.warnings.iter().map(String::as_str).filter(|warning| Some(*warning) != told).collect();
    if !warnings.is_empty() {
        out.heading(2, "Before you use the data");
        out.list(warnings);
    }
    if !report.stages.is_empty() {
        out.heading(2, "How they were made");
        out.paragraph("The stages of the run, with what each dropped and why:");
        out.table(&tables::stages(&report.stages));
    }
    out.heading(2, "Licence");
    out.paragraph(&licence(report));
    out.heading(2, "How to make them again");
    repeat(&mut out, report);
    format!("---\n{}---\n\n{}", yaml(&front_matter(report, files, labelled)), out.finish())
}

/// What is known of the rights in the data.
fn licence(report: &Report) -> String {
    let model = match &report.model.license {
        Some(license) => format!(" The base model's licence is {license}."),
        None => String::new(),
    };
    format!(
        "No licence is stated here. The prompts are those of the files that the recipe names, and the answers are of the models of the \
         run.{model} Replace \u{201c}other\u{201d} in the front matter before you publish the data."
    )
}

fn front_matter(report: &Report, files: &[DataFile], labelled: &[LabelledBy]) -> Value {
    let tables = || files.iter().filter(|file| file.is_table && file.rows > 0);
    let rows: usize = tables().map(|file| file.rows).sum();
    let mut tags = vec!["solon", "alignment"];
    if !labelled.is_empty() {
        tags.push("preference");
    }
    if report.stages.iter().any(|stage| stage.kind == "revise") {
        tags.push("constitutional-ai");
    }
    let configs: Vec<Value> = tables()
        .map(|file| {
            let name = file.name.split('.').next().unwrap_or(file.name);
            json!({"config_name": name, "data_files": [{"split": "train", "path": file.name}]})
        })
        .collect();
    let mut front = json!({
        "license": "other",
        "pretty_name": format!("Data of the run {}", report.setting.name),
        "task_categories": ["text-generation"],
        "size_categories": [size(rows)],
        "tags": tags,
    });
    if !configs.is_empty() {
        front["configs"] = configs.into();
    }
    front
}

/// The Hub's name for a number of rows.
fn size(rows: usize) -> &'static str {
    match rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        _ => "n>10M",
    }
}

/// How a stage labelled, from what its labels tell. `form`: the form of the questions where it is not the usual one.
pub fn how_labelled(
    sources: &str,
    asks: &[&str],
    (labels, voted): (usize, usize),
    both_orders: bool,
    form: Option<&str>,
) -> String {
    let mut how = format!("{} by {sources}.", counted(labels, "label"));
    if asks.is_empty() {
        return how + " No model was asked.";
    }
    if asks == ["reward"] {
        return how
            + " A reward model scored both answers, and a label is the sigmoid of the difference of its rewards.";
    }
    how += &format!(" It was asked with ask = {}", asks.join(" and "));
    if let Some(form) = form {
        how += &format!(" in the form of {form}");
    }
    how += match both_orders {
        true => ", in both orders of the answers.",
        false => ", in one order of the answers, or about each by itself.",
    };
    let votes = match voted {
        0 => " A label is the probability that the model's log-probs give.".to_owned(),
        voted if voted == labels => {
            " The labels are shares of votes, because the model shows no log-probs.".to_owned()
        }
        voted => format!(" {} of them are shares of votes, the others are of log-probs.", count(voted)),
    };
    how + &votes
}

#[cfg(test)]
mod tests {
    use super::super::data::{Constitution, Labeller, Model, Setting, Stage};
    use super::*;

    fn file(name: &'static str, rows: usize) -> DataFile {
        DataFile {
            name,
            rows,
            about: "a pair",
            columns: vec![("id", "its id")],
            is_table: name.ends_with(".jsonl"),
        }
    }

    #[test]
    fn a_card_says_what_the_run_knows_and_hostile_text_makes_no_markup() {
        let hostile = "a\n---\n# <script> [x](http://e)".to_owned();
        let report = Report {
            model: Model { name: hostile.clone(), ..Model::default() },
            constitution: Constitution {
                name: hostile.clone(),
                sha256: "abc".to_owned(),
                ..Constitution::default()
            },
            setting: Setting { name: hostile.clone(), seed: 7, ..Setting::default() },
            warnings: vec!["Weak.".to_owned(), hostile.clone()],
            labeller: Some(Labeller {
                verdict: "Its labels are weak.".to_owned(),
                warning: Some("Weak.".to_owned()),
                rows: vec![("accuracy".to_owned(), "60.0 %".to_owned())],
                calibration: Vec::new(),
            }),
            stages: vec![Stage {
                name: "label".to_owned(),
                kind: "label".to_owned(),
                what: "A model labels.".to_owned(),
                seconds: 1.0,
                items: 9,
                dropped: vec![("unlabelled: declines".to_owned(), 2)],
            }],
            ..Report::default()
        };
        let files = [
            file("demonstrations.jsonl", 0),
            file("preferences.jsonl", 1200),
            file("annotated-pairs.json", 1200),
        ];
        let labelled = [LabelledBy {
            stage: "label".to_owned(),
            how: how_labelled(&hostile, &["choice"], (9, 0), true, None),
        }];
        let card = data_card(&report, &files, &labelled);
        let front = card.split("---\n").nth(1).unwrap();
        assert!(
            front.contains("license: \"other\"") && front.contains("size_categories:\n  - \"1K<n<10K\""),
            "{front}"
        );
        assert!(
            front.contains("config_name: \"preferences\"") && !front.contains("demonstrations"),
            "{front}"
        );
        assert!(front.contains("path: \"preferences.jsonl\"") && !front.contains("annotated"), "{front}");
        assert!(front.contains("pretty_name: \"Data of the run a\\n---\\n#"), "{front}");
        let body = card.split_once("---\n\n").unwrap().1;
        for part in
            ["Its labels are weak.", "60.0 %", "SHA-256 abc", "with the seed 7", "declines", "in both orders"]
        {
            assert!(body.contains(part), "{part}: {body}");
        }
        assert_eq!(body.matches("Weak.").count(), 1, "{body}");
        assert!(!body.contains("<script>") && !body.contains("[x](") && !body.contains("\n---"), "{body}");
    }

    #[test]
    fn it_says_how_a_stage_labelled() {
        let how = |asks: &[&str], counts, both, form| how_labelled("openai:big", asks, counts, both, form);
        assert_eq!(how(&[], (1, 0), false, None), "1 label by openai:big. No model was asked.");
        assert!(how(&["reward"], (1, 0), false, None).contains("scored both answers"));
        let said = how(&["choice"], (8, 2), false, Some("the Constitutional AI paper"));
        assert!(said.contains("in the form of the Constitutional AI paper, in one order"), "{said}");
        assert!(said.ends_with("2 of them are shares of votes, the others are of log-probs."), "{said}");
        assert!(how(&["choice"], (8, 8), true, None).ends_with("because the model shows no log-probs."));
        assert_eq!((size(999), size(1000), size(99_999_999)), ("n<1K", "1K<n<10K", "n>10M"));
    }
}
