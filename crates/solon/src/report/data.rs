//! The data of a report: plain data, readable from and writable to JSON, without layout.
//!
//! Figures that are not finite are kept: serde_json writes them as `null`, and `null` is read back as NaN.

use serde::{Deserialize, Deserializer, Serialize};

/// The report of one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The page's heading.
    pub title: String,
    /// What improved and what did not, and which model is delivered.
    pub verdict: Vec<String>,
    /// What happened on the way: figures of stages that neither evaluate nor deliver.
    pub notes: Vec<String>,
    /// The model that was handed over, where the run delivers one.
    pub delivered: Option<Delivered>,
    /// Warnings that the reader must know before using the figures.
    pub warnings: Vec<String>,
    /// The model the run started from.
    pub model: Model,
    /// The constitution it was trained on.
    pub constitution: Constitution,
    /// How and on which machine the run was made.
    pub setting: Setting,
    /// The stages in the order they ran.
    pub stages: Vec<Stage>,
    /// Figures before and after, one for each benchmark.
    pub evaluations: Vec<Evaluation>,
    /// Metrics of training.
    pub curves: Vec<Curve>,
    /// The judge report, where preferences were labelled.
    pub labeller: Option<Labeller>,
    /// Principles that were inferred from preferences, a part for each stage.
    pub inferred: Vec<Inferred>,
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
    /// The path it was read from.
    pub path: String,
    /// SHA-256 of its weights, in hexadecimal.
    pub sha256: String,
    /// Its id on the Hugging Face Hub, where that is known.
    pub hub: Option<String>,
    /// Its licence as the Hub names it, where that is known.
    pub license: Option<String>,
}

/// The model that was handed over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delivered {
    /// The stage that trained it.
    pub name: String,
    /// SHA-256 of `model/model.safetensors`, in hexadecimal.
    pub sha256: String,
    /// The stages that trained it, the first one first.
    pub lineage: Vec<String>,
    /// The evaluation that decided, where one did.
    pub evaluation: Option<String>,
}

/// The constitution and the size of its parts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Constitution {
    /// Its own name.
    pub name: String,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Number of principles for critique and revision.
    pub revision_principles: usize,
    /// Number of principles for comparing two answers.
    pub comparison_principles: usize,
    /// Number of worked examples.
    pub examples: usize,
}

/// How and on which machine a run was made: everything needed to repeat it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The version of Solon that ran.
    pub solon_version: String,
    /// The recipe's name.
    pub name: String,
    /// The resolved recipe, as TOML.
    pub recipe: String,
    /// The seed every random draw is keyed by.
    pub seed: u64,
    /// The instruction set the kernels ran on, such as `avx512-bf16`.
    pub isa: String,
    /// Number of threads.
    pub threads: usize,
    /// Number format of matrix products' inputs, `bf16` or `f32`.
    pub precision: String,
    /// The start of the run, as it is shown.
    pub started: String,
    /// Seconds from the first stage's start to the last one's end.
    pub total_seconds: f64,
    /// The largest memory of the process.
    pub peak_memory_bytes: u64,
}

/// One stage of the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name in the recipe.
    pub name: String,
    /// Its kind, such as `dpo`.
    pub kind: String,
    /// What the stage does, in one sentence.
    pub what: String,
    /// Its duration.
    pub seconds: f64,
    /// Number of items it made.
    pub items: usize,
    /// Drop reasons, and the number of items for each.
    pub dropped: Vec<(String, usize)>,
}

/// The results of one benchmark on every model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The stage that ran it.
    pub name: String,
    /// The benchmark's name, such as `safety`.
    pub benchmark: String,
    /// The models' names. The others are compared with the first.
    pub columns: Vec<String>,
    /// One row for each measure.
    pub rows: Vec<Measure>,
    /// How intervals and p-values were computed.
    pub method: String,
    /// How an answer is judged to be a refusal.
    pub rule: String,
    /// How well that judgement agrees with people's.
    pub rule_agreement: Option<String>,
    /// What training cost on ordinary requests, for each column; empty if it was not measured.
    pub costs: Vec<Option<Cost>>,
    /// The judges, where models judged.
    pub judges: Vec<Judge>,
    /// Figures of each category, one entry for each group of items that has categories.
    pub categories: Vec<Categories>,
}

/// A model that judged answers, and how often it was right on answers whose labels are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judge {
    /// As it was given.
    pub name: String,
    /// Each set of labelled answers; none where it was not measured.
    pub sets: Vec<JudgedSet>,
}

/// A judge on one set of labelled answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedSet {
    /// Its name.
    pub name: String,
    /// Answers that it was asked about.
    pub answers: usize,
    /// Those without a verdict.
    pub unjudged: usize,
    /// Share of the others on which it agrees with the label.
    pub accuracy: Option<f64>,
    /// Agreement beyond chance on the others.
    pub kappa: Option<f64>,
    /// A cautious lower end of kappa.
    #[serde(deserialize_with = "null_is_nan")]
    pub kappa_low: f64,
}

/// One measure by category, on every model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Categories {
    /// The heading of the group of items.
    pub heading: String,
    /// The name of the measure.
    pub measure: String,
    /// Which way is an improvement.
    pub better: Better,
    /// As in [`Measure::most`].
    pub most: f64,
    /// One for each category, in alphabetical order.
    pub rows: Vec<Category>,
}

/// One category on every model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Category {
    /// Its name.
    pub name: String,
    /// One for each column of the evaluation; `None` where that model was not measured.
    pub cells: Vec<Option<Rate>>,
}

/// How far a model is from the base model on ordinary requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// KL(model ‖ base) of an answer in nats, the mean.
    #[serde(deserialize_with = "null_is_nan")]
    pub divergence: f64,
    /// Its interval's lower end.
    #[serde(deserialize_with = "null_is_nan")]
    pub low: f64,
    /// Its interval's upper end.
    #[serde(deserialize_with = "null_is_nan")]
    pub high: f64,
    /// Its mean over tokens.
    #[serde(deserialize_with = "null_is_nan")]
    pub divergence_per_token: f64,
    /// Perplexity of the base model's answers under the model.
    #[serde(deserialize_with = "null_is_nan")]
    pub perplexity: f64,
}

/// One measure on every model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Its name in files, such as `harmful_compliance`.
    pub key: String,
    /// Its name.
    pub name: String,
    /// One plain sentence.
    pub explanation: String,
    /// Which way is an improvement.
    pub better: Better,
    /// 1 of a share, which is shown as a percentage; the highest possible of another number. Figures are parts of it.
    #[serde(default = "one")]
    pub most: f64,
    /// Whether it is part of the benchmark's score.
    pub scored: bool,
    /// Whether the judge decides it.
    pub judged: bool,
    /// One for each column; `None` if that model was not measured.
    pub cells: Vec<Option<Rate>>,
}

fn one() -> f64 {
    1.0
}

/// The direction that is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// A lower rate is better.
    Lower,
    /// A higher rate is better.
    Higher,
    /// Neither direction is better.
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

/// A share of items, or a mean, with its interval, all in 0..=1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The share or the mean.
    #[serde(deserialize_with = "null_is_nan")]
    pub rate: f64,
    /// The interval's lower end.
    #[serde(deserialize_with = "null_is_nan")]
    pub low: f64,
    /// The interval's upper end.
    #[serde(deserialize_with = "null_is_nan")]
    pub high: f64,
    /// Number of items for which the measure holds; none of a mean.
    pub count: Option<usize>,
    /// Number of items.
    pub total: usize,
    /// The p-value of the difference from the first column; `None` in the first column and if there is no test.
    pub p_value: Option<f64>,
    /// The model it was trained from, if that is not the first column, and the p-value of the difference from it.
    pub against_origin: Option<(String, f64)>,
}

/// A chart of lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The title.
    pub title: String,
    /// The label of the horizontal axis, with its unit.
    pub x_label: String,
    /// The label of the vertical axis, with its unit.
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

/// The judge report: how far the labeller's labels can be trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Labeller {
    /// One plain sentence.
    pub verdict: String,
    /// Why its labels should not be trusted, if so.
    pub warning: Option<String>,
    /// What was measured, and the figure as it is shown.
    pub rows: Vec<(String, String)>,
    /// Labels in groups of similar confidence.
    pub calibration: Vec<CalibrationBin>,
}

/// Principles that were inferred from preferences.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inferred {
    /// The stage.
    pub stage: String,
    /// What was found.
    pub verdict: String,
    /// What was asked.
    pub method: String,
    /// Each principle and what it is compared with, a cell for each of [`Inferred::HEAD`].
    pub rows: Vec<Vec<String>>,
}

impl Inferred {
    /// The names of the columns.
    pub const HEAD: [&str; 5] =
        ["Principle", "What became of it", "Right, training", "Right, held out", "Explains, held out"];
}

/// Labels of similar confidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// The mean confidence of the labeller, in 0..=1.
    #[serde(deserialize_with = "null_is_nan")]
    pub mean_confidence: f64,
    /// How often it was right, in 0..=1.
    #[serde(deserialize_with = "null_is_nan")]
    pub accuracy: f64,
    /// Number of labels in the group.
    pub count: usize,
}

/// One prompt and each model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The prompt's id in the ledger.
    pub id: String,
    /// The group it is shown in, such as `Harmful requests`.
    pub kind: String,
    /// Its subject.
    pub category: String,
    /// The prompt.
    pub prompt: String,
    /// One for each model; of a revised answer, before and after the revision.
    pub answers: Vec<Answer>,
    /// How the first answer became the last one, where it was criticised and revised.
    pub rounds: Vec<Round>,
}

/// One round of critique and revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The principle's id.
    pub principle: String,
    /// What the principle asks of the critic.
    pub asks: String,
    /// The critique.
    pub critique: String,
    /// The revision.
    pub revision: String,
    /// Why the round was not used, if it was not.
    pub dropped: Option<String>,
}

/// One model's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The model's name, as in [`Evaluation::columns`].
    pub column: String,
    /// The answer.
    pub text: String,
    /// The judgement of the answer, in a word or two.
    pub verdict: String,
}

/// The output of `solon explain` for one item.
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
            count: Some(0),
            total: 0,
            p_value: None,
            against_origin: None,
        };
        let back: Rate = serde_json::from_str(&serde_json::to_string(&rate).unwrap()).unwrap();
        assert!(back.rate.is_nan());
    }
}
