//! What a report holds: plain data, readable from and writable to JSON, with no say in how it looks.
//!
//! Figures that are not finite survive JSON: serde_json writes them as `null`, and `null` is read back as NaN.

use serde::{Deserialize, Deserializer, Serialize};

/// Everything one run has to tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The page's heading.
    pub title: String,
    /// Plain sentences for the top of the page: what improved, what did not.
    pub verdict: Vec<String>,
    /// What the reader must know before believing the figures.
    pub warnings: Vec<String>,
    /// The model the run started from.
    pub model: Model,
    /// The constitution it was trained on.
    pub constitution: Constitution,
    /// How and where the run was made.
    pub setting: Setting,
    /// The stages in the order they ran.
    pub stages: Vec<Stage>,
    /// Figures before and after, one for each benchmark.
    pub evaluations: Vec<Evaluation>,
    /// What was measured during training.
    pub curves: Vec<Curve>,
    /// The judge report, where preferences were labelled.
    pub labeller: Option<Labeller>,
    /// Answers of each model to the same prompts.
    pub samples: Vec<Sample>,
    /// Examples of what `solon explain` prints.
    pub trail: Vec<Trail>,
}

/// The model a run started from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its catalogue name, or the folder's.
    pub name: String,
    /// Where it was read from.
    pub path: String,
    /// Of its weights, in hexadecimal.
    pub sha256: String,
}

/// The constitution and how much it holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Constitution {
    /// Its own name.
    pub name: String,
    /// Principles that answers are criticised and revised by.
    pub revision_principles: usize,
    /// Principles that two answers are compared by.
    pub comparison_principles: usize,
    /// Worked examples.
    pub examples: usize,
}

/// How and where a run was made: all that is needed to make it again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The version of Solon that ran.
    pub solon_version: String,
    /// The frozen recipe, TOML.
    pub recipe: String,
    /// The seed every random draw is keyed by.
    pub seed: u64,
    /// The instruction set the kernels ran on, such as `avx512-bf16`.
    pub isa: String,
    /// How many threads ran.
    pub threads: usize,
    /// What GEMM inputs are rounded to, `bf16` or `f32`.
    pub precision: String,
    /// When the run began, as it is to be shown.
    pub started: String,
    /// From the first stage's start to the last one's end.
    pub total_seconds: f64,
    /// The most memory the process held.
    pub peak_memory_bytes: u64,
}

/// One stage of the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name in the recipe.
    pub name: String,
    /// One plain sentence.
    pub what: String,
    /// How long it ran.
    pub seconds: f64,
    /// How many items it made.
    pub items: usize,
    /// Why items were dropped, and how many for each reason.
    pub dropped: Vec<(String, usize)>,
}

/// The same measures on every model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The stage that evaluated.
    pub name: String,
    /// The models by name. The first is what the others are held against.
    pub columns: Vec<String>,
    /// One measure each.
    pub rows: Vec<Measure>,
    /// How intervals and p-values were computed.
    pub method: String,
    /// How an answer is judged to be a refusal.
    pub rule: String,
    /// How far that judgement agrees with people's.
    pub rule_agreement: Option<String>,
}

/// One measure on every model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name.
    pub name: String,
    /// One plain sentence.
    pub explanation: String,
    /// Which way is an improvement.
    pub better: Better,
    /// One for each column; `None` where that model was not measured.
    pub cells: Vec<Option<Rate>>,
}

/// Which way is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The lower the better.
    Lower,
    /// The higher the better.
    Higher,
    /// A description, not a merit.
    Neither,
}

impl From<solon_eval::Better> for Better {
    fn from(better: solon_eval::Better) -> Self {
        match better {
            solon_eval::Better::Lower => Better::Lower,
            solon_eval::Better::Higher => Better::Higher,
            solon_eval::Better::Neither => Better::Neither,
        }
    }
}

/// A share of items with its interval, all in 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The share.
    #[serde(deserialize_with = "null_is_nan")]
    pub rate: f64,
    /// The interval's lower end.
    #[serde(deserialize_with = "null_is_nan")]
    pub low: f64,
    /// The interval's upper end.
    #[serde(deserialize_with = "null_is_nan")]
    pub high: f64,
    /// Items that count.
    pub count: usize,
    /// Items in all.
    pub total: usize,
    /// Of the difference from the first column; `None` in the first column and where there is no test.
    pub p_value: Option<f64>,
    /// The model it was trained from, where that is not the first column, and the p-value of the difference from it.
    pub against_origin: Option<(String, f64)>,
}

/// A chart of lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What is shown.
    pub title: String,
    /// What runs to the right, with its unit.
    pub x_label: String,
    /// What runs up, with its unit.
    pub y_label: String,
    /// The lines.
    pub series: Vec<Series>,
    /// How to read it.
    pub note: Option<String>,
}

/// One line of a chart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// `(x, y)` in drawing order. A point that is not finite is a gap.
    #[serde(deserialize_with = "null_points_are_nan")]
    pub points: Vec<(f64, f64)>,
}

/// The judge report: how far the labeller can be believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labeller {
    /// One plain sentence.
    pub verdict: String,
    /// Why its labels should not be believed, where they should not.
    pub warning: Option<String>,
    /// What was measured, and the figure as it is to be shown.
    pub rows: Vec<(String, String)>,
    /// Labels in groups of like confidence.
    pub calibration: Vec<CalibrationBin>,
}

/// Labels of like confidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// The mean of what the labeller claimed, in 0..=1.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean_confidence: f64,
    /// How often it was right, in 0..=1.
    #[serde(deserialize_with = "null_is_nan")]
    pub accuracy: f64,
    /// Labels in the group.
    pub count: usize,
}

/// One prompt and what each model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The prompt's id in the ledger.
    pub id: String,
    /// The group it is shown in, such as `red-team`.
    pub kind: String,
    /// What it is about.
    pub category: String,
    /// The prompt.
    pub prompt: String,
    /// One for each model.
    pub answers: Vec<Answer>,
}

/// One model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The model's name, as in [`Evaluation::columns`].
    pub column: String,
    /// The answer.
    pub text: String,
    /// How it was judged, in a word or two.
    pub verdict: String,
}

/// What `solon explain` prints of one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trail {
    /// The item's id in the ledger.
    pub id: String,
    /// The lines as printed.
    pub lines: Vec<String>,
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn null_points_are_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(f64, f64)>, D::Error> {
    let points = Vec::<(Option<f64>, Option<f64>)>::deserialize(deserializer)?;
    Ok(points.into_iter().map(|(x, y)| (x.unwrap_or(f64::NAN), y.unwrap_or(f64::NAN))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_are_not_finite_survive_json() {
        let series = Series { name: "loss".into(), points: vec![(0.0, f64::NAN), (1.0, 0.5)] };
        let back: Series = serde_json::from_str(&serde_json::to_string(&series).unwrap()).unwrap();
        assert!(back.points[0].1.is_nan());
        assert_eq!(back.points[1], (1.0, 0.5));

        let rate = Rate {
            rate: f64::NAN,
            low: 0.0,
            high: 1.0,
            count: 0,
            total: 0,
            p_value: None,
            against_origin: None,
        };
        let back: Rate = serde_json::from_str(&serde_json::to_string(&rate).unwrap()).unwrap();
        assert!(back.rate.is_nan());
    }
}
