//! Results in the forms that other programs read: Inspect AI's log and Every Eval Ever's record.
//!
//! Contract: pure functions of a [`Summary`] and of what is known of how it came about ([`Provenance`]). Nothing is invented: a
//! field of a form that Solon does not know is left out. Where a form demands a time, it is the time at which the evaluation
//! began, from the run's ledger, so the same results give the same bytes however often they are written. One file for each form.

mod every_eval_ever;
mod inspect;

pub use every_eval_ever::every_eval_ever;
pub use inspect::inspect_log;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::summary::Summary;

/// A file or folder that an evaluation read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dataset {
    /// Its name, without the folders above it.
    pub name: String,
    /// Of its content.
    pub sha256: String,
}

/// How results came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// A hash of what was done: the same whenever it is written.
    pub id: String,
    /// Solon's version.
    pub version: String,
    /// The model: as it was named, or `RUN/STAGE` of one that the run trained.
    pub model: String,
    /// Hash of the files of the model that training started from.
    pub base_sha256: String,
    /// Whether the run that evaluated the model also trained it.
    pub trained_here: bool,
    /// The settings of the stage that evaluated, by key.
    pub settings: Map<String, Value>,
    /// What it read.
    pub datasets: Vec<Dataset>,
    /// Of every draw.
    pub seed: u64,
    /// Number format of matrix products.
    pub precision: String,
    /// The instruction set.
    pub isa: String,
    /// When the evaluation began: seconds since 1970.
    pub started_at: i64,
    /// The same as ISO 8601 in UTC.
    pub started: String,
    /// Seconds of work, of all models that the stage evaluated.
    pub seconds: f64,
}

impl Provenance {
    /// What is known beside what a form has fields for, as text.
    fn details(&self) -> Vec<(String, String)> {
        let mut details = vec![
            ("base_model_sha256".to_owned(), self.base_sha256.clone()),
            ("precision".to_owned(), self.precision.clone()),
            ("isa".to_owned(), self.isa.clone()),
            ("seed".to_owned(), self.seed.to_string()),
        ];
        details.extend(self.settings.iter().map(|(key, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (format!("setting_{key}"), text)
        }));
        details
    }
}

/// The judge and how far it can be believed, as text; empty where none was asked.
fn judge_details(summary: &Summary) -> Vec<(String, String)> {
    let Some(judge) = &summary.judge else { return Vec::new() };
    let number = |number: Option<f64>| number.map_or("not measured".to_owned(), |number| number.to_string());
    vec![
        ("judge".to_owned(), judge.name.clone()),
        ("judge_accuracy_on_labelled_answers".to_owned(), number(judge.accuracy)),
        ("judge_kappa_on_labelled_answers".to_owned(), number(judge.kappa)),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn provenance() -> Provenance {
        let settings = [("benchmark".to_owned(), "safety".into()), ("limit".to_owned(), 4.into())];
        Provenance {
            id: "ef56".to_owned(),
            version: "0.1.0".to_owned(),
            model: "tiny".to_owned(),
            base_sha256: "ab12".to_owned(),
            trained_here: false,
            settings: settings.into_iter().collect(),
            datasets: vec![Dataset { name: "prompts.jsonl".to_owned(), sha256: "cd34".to_owned() }],
            seed: 7,
            precision: "f32".to_owned(),
            isa: "portable".to_owned(),
            started_at: 1_790_000_000,
            started: "2026-09-21T14:13:20+00:00".to_owned(),
            seconds: 2.5,
        }
    }
}
