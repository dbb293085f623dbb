//! Thresholds that are written down before training: `solon run --preregister FILE`. What came of them is in `attempts.rs`.
//!
//! Contract: what is frozen in `preregistration.json` is never overwritten: the thresholds, the recipe's hash, and of each
//! evaluation that a threshold names its settings and the hash of every file that it reads. It is frozen only where nothing
//! has begun that trains, and no evaluation that a threshold names or that reads the same files: a threshold that is written
//! after its figure was seen predicts nothing. From then on every run in the folder is held to it, with the flag or without.
//! (Whoever deletes the file can begin anew: it keeps an honest count, it does not stop a forger.)

use super::Run;
use super::folder::sha256_json;
use crate::cli::UsageError;
use crate::plan::Plan;
use crate::stages::{Data, Source};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use solon_data::files::{create_bytes_atomically, sha256_bytes};
use solon_data::ledger::{ItemKind, Ledger, Stage};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The frozen file.
const FROZEN: &str = "preregistration.json";

/// The file as the user writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    threshold: Vec<Threshold>,
}

/// A measure of one model in one evaluation, and what it is to be.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// The stage that evaluates.
    pub stage: String,
    /// The model, by its stage's name.
    pub model: String,
    /// The measure's key.
    pub measure: String,
    /// It is to be at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// It is to be at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
}

/// A file or folder that an evaluation reads.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct Dataset {
    path: PathBuf,
    sha256: String,
}

impl From<&Source> for Dataset {
    fn from(source: &Source) -> Self {
        Self { path: source.path.clone(), sha256: source.sha256().to_owned() }
    }
}

/// An evaluation as it was when it was preregistered.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Evaluation {
    stage: String,
    /// Of its own settings and those of the stages that its prompts come from.
    settings_sha256: String,
    datasets: Vec<Dataset>,
}

/// The recipe at that time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct RecipeFile {
    sha256: String,
    /// What `--set` changed of it.
    set: Vec<String>,
}

/// What is frozen.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Preregistration {
    pub(super) thresholds: Vec<Threshold>,
    pub(super) recipe: RecipeFile,
    pub(super) evaluations: Vec<Evaluation>,
}

impl Threshold {
    /// Whether a value is on its side.
    pub(super) fn is_met(&self, value: f64) -> bool {
        self.at_most.is_none_or(|most| value <= most) && self.at_least.is_none_or(|least| value >= least)
    }

    /// Refuses what the plan does not have.
    fn check(&self, plan: &Plan) -> Result<(), String> {
        let Self { stage, model, measure, at_most, at_least } = self;
        let evaluations = plan.stages.iter().filter(|planned| planned.stage.output() == Data::Evaluation);
        let names: Vec<&str> = evaluations.map(|planned| planned.name.as_str()).collect();
        let Some(planned) = plan.stage(stage).filter(|_| names.contains(&stage.as_str())) else {
            return Err(format!("no stage `{stage}` evaluates\nhint: {}", listed("stages", &names)));
        };
        if planned.stage.judges().len() > 1 {
            return Err(format!(
                "the stage `{stage}` has two judges, and so two figures of each model\nhint: give it one judge"
            ));
        }
        let models: Vec<&str> = planned.input("models").iter().map(String::as_str).collect();
        if !models.contains(&model.as_str()) {
            return Err(format!(
                "the stage `{stage}` evaluates no model `{model}`\nhint: {}",
                listed("models", &models)
            ));
        }
        let measures = planned.stage.measures().map_err(|error| format!("{error:#}"))?;
        let Some(known) = measures.iter().find(|known| known.key == measure) else {
            let keys: Vec<&str> = measures.iter().map(|measure| measure.key).collect();
            return Err(format!(
                "the stage `{stage}` has no measure `{measure}`\nhint: {}",
                listed("measures", &keys)
            ));
        };
        let [least, most] = known.unit.range();
        match (at_most, at_least) {
            (Some(bound), None) | (None, Some(bound))
                if bound.is_finite() && (least..=most).contains(bound) =>
            {
                Ok(())
            }
            (Some(bound), None) | (None, Some(bound)) => {
                Err(format!("`{measure}` is from {least} to {most}, and never {bound}"))
            }
            _ => Err("give one of `at_most` and `at_least`".to_owned()),
        }
    }
}

fn listed(what: &str, names: &[&str]) -> String {
    match names {
        [] => format!("there are no {what}"),
        names => format!("the {what} are {}", names.join(", ")),
    }
}

impl Preregistration {
    /// What a run in the folder `out` is held to: the user's file, or what is frozen there. Writes nothing.
    ///
    /// Errors, all of usage, where the file is wrong, where something else is frozen in the folder, where training or an
    /// evaluation has begun there without it, and where an evaluation is no longer what it was.
    pub fn of(
        plan: &Plan,
        out: &Path,
        file: Option<&Path>,
        recipe: &Path,
        set: &[String],
    ) -> Result<Option<Self>> {
        let wanted = file.map(|file| Self::read(plan, file, recipe, set)).transpose()?;
        let frozen = Self::frozen(out)?;
        match (wanted, frozen) {
            (None, None) => Ok(None),
            (Some(wanted), None) => {
                if let Some(begun) = wanted.begun(plan, out)? {
                    return Err(UsageError(format!(
                        "{} cannot be preregistered: {begun}\n\
                         hint: give another --out, so that the thresholds are older than what they are about",
                        out.display()
                    ))
                    .into());
                }
                Ok(Some(wanted))
            }
            (Some(wanted), Some(frozen)) if wanted.thresholds != frozen.thresholds => {
                Err(UsageError(format!(
                    "{} holds another preregistration\nhint: give another --out, or the file that was given first",
                    out.join(FROZEN).display()
                ))
                .into())
            }
            (_, Some(frozen)) => {
                frozen.still_holds(plan, out)?;
                Ok(Some(frozen))
            }
        }
    }

    /// The user's file, checked against the plan.
    fn read(plan: &Plan, file: &Path, recipe: &Path, set: &[String]) -> Result<Self> {
        let wrong = |what: String| UsageError(format!("{}: {what}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let Written { threshold: thresholds } = toml::from_str(&text).map_err(|error| {
            wrong(format!(
                "{}\nhint: [[threshold]] stage = \"evaluate\" model = \"dpo\" measure = \"harmful_compliance\" at_most = 0.1, \
                 each key on a line of its own",
                error.to_string().trim_end()
            ))
        })?;
        if thresholds.is_empty() {
            return Err(wrong("there is no [[threshold]]".to_owned()).into());
        }
        for (place, threshold) in thresholds.iter().enumerate() {
            let number = place + 1;
            threshold.check(plan).map_err(|what| wrong(format!("[[threshold]] {number}: {what}")))?;
            if thresholds[..place].contains(threshold) {
                return Err(wrong(format!("[[threshold]] {number} stands there twice")).into());
            }
        }
        let stages: BTreeSet<&str> = thresholds.iter().map(|threshold| threshold.stage.as_str()).collect();
        let evaluations: Result<Vec<Evaluation>> =
            stages.into_iter().map(|stage| Evaluation::of(plan, stage)).collect();
        let bytes = std::fs::read(recipe).with_context(|| recipe.display().to_string())?;
        Ok(Self {
            recipe: RecipeFile { sha256: sha256_bytes(&bytes), set: set.to_vec() },
            evaluations: evaluations?,
            thresholds,
        })
    }

    /// What is frozen in a folder.
    pub(super) fn frozen(out: &Path) -> Result<Option<Self>> {
        let path = out.join(FROZEN);
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            text => {
                let text = text.with_context(|| path.display().to_string())?;
                Ok(Some(serde_json::from_str(&text).with_context(|| path.display().to_string())?))
            }
        }
    }

    /// Refuses a plan whose evaluations are not those that were preregistered.
    fn still_holds(&self, plan: &Plan, out: &Path) -> Result<()> {
        let hint = format!(
            "hint: {} was frozen before; give another --out for another evaluation",
            out.join(FROZEN).display()
        );
        let wrong = |what: String| UsageError(format!("{what}\n{hint}"));
        for threshold in &self.thresholds {
            threshold.check(plan).map_err(|what| wrong(format!("preregistered: {what}")))?;
        }
        for frozen in &self.evaluations {
            let now = Evaluation::of(plan, &frozen.stage)?;
            let changed =
                now.datasets.iter().zip(&frozen.datasets).find(|(now, then)| now.sha256 != then.sha256);
            if let Some((now, then)) = changed {
                return Err(wrong(format!(
                    "{} is not what was preregistered: the evaluation `{}` reads a file of SHA-256 {}, and {} was frozen",
                    now.path.display(),
                    frozen.stage,
                    now.sha256,
                    then.sha256
                ))
                .into());
            }
            if now.datasets.len() != frozen.datasets.len() || now.settings_sha256 != frozen.settings_sha256 {
                return Err(wrong(format!(
                    "the evaluation `{}` is not what was preregistered: its settings changed",
                    frozen.stage
                ))
                .into());
            }
        }
        Ok(())
    }

    /// What has begun in the folder that shows, or may show, what a threshold is about: training, by this plan or another; an
    /// evaluation of this plan that a threshold names, or that reads a file which such an evaluation reads; and answers of a
    /// stage that is not of this plan, which may be an evaluation that was renamed. `None` where there is nothing.
    fn begun(&self, plan: &Plan, out: &Path) -> Result<Option<String>> {
        let path = out.join("ledger.sqlite");
        if path.is_file() {
            let ledger = Ledger::open_read_only(&path)?;
            for Stage { name, .. } in ledger.stages()? {
                match plan.stage(&name) {
                    Some(planned) if planned.stage.trains().is_some() => {
                        return Ok(Some(format!("the stage `{name}` has begun to train")));
                    }
                    Some(planned)
                        if planned.stage.output() == Data::Evaluation
                            && self.shows(&Evaluation::of(plan, &name)?) =>
                    {
                        return Ok(Some(format!("the evaluation `{name}` has begun")));
                    }
                    None if !ledger.item_ids(&name, ItemKind::Response)?.is_empty() => {
                        return Ok(Some(format!("`{name}`, a stage of another recipe, has made answers")));
                    }
                    _ => {}
                }
            }
        }
        let Ok(mut saved) = std::fs::read_dir(out.join("checkpoints")) else { return Ok(None) };
        let name = saved.next().transpose()?.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Ok(name.map(|name| format!("the stage `{}` has begun to train", name.trim_end_matches(".state"))))
    }

    /// Whether an evaluation is one that a threshold names, or has some of its items.
    fn shows(&self, begun: &Evaluation) -> bool {
        self.evaluations.iter().any(|named| {
            let shared = |read: &Dataset| named.datasets.iter().any(|known| known.sha256 == read.sha256);
            named.stage == begun.stage || begun.datasets.iter().any(shared)
        })
    }

    /// The evaluations that thresholds name.
    pub(super) fn stages(&self) -> BTreeSet<&str> {
        self.thresholds.iter().map(|threshold| threshold.stage.as_str()).collect()
    }

    /// Those about one evaluation.
    pub(super) fn of_stage<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a Threshold> {
        self.thresholds.iter().filter(move |threshold| threshold.stage == stage)
    }
}

impl Evaluation {
    fn of(plan: &Plan, stage: &str) -> Result<Self> {
        let settings: Vec<Value> = plan.evaluation_settings(stage);
        Ok(Self {
            stage: stage.to_owned(),
            settings_sha256: sha256_json(&settings)?,
            datasets: plan.measures_on(stage).into_iter().map(Dataset::from).collect(),
        })
    }
}

impl Run {
    /// Freezes what the run is held to, where it is not frozen yet.
    pub fn preregister(&mut self, wanted: Preregistration) -> Result<()> {
        let path = self.folder.path.join(FROZEN);
        let text = serde_json::to_string_pretty(&wanted)? + "\n";
        if create_bytes_atomically(&path, text.as_bytes())? {
            eprintln!("preregistered: {} thresholds, in {}", wanted.thresholds.len(), path.display());
        } else if Preregistration::frozen(&self.folder.path)?.as_ref() != Some(&wanted) {
            // Another process froze something since the folder was looked at.
            return Err(UsageError(format!("{} holds another preregistration", path.display())).into());
        }
        self.training = Some(self.training_of(&wanted)?);
        self.preregistration = Some(wanted);
        // Whoever reads the folder later finds by it which attempt the run is.
        self.write_inputs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(at_most: Option<f64>, at_least: Option<f64>) -> Threshold {
        let word = |word: &str| word.to_owned();
        Threshold { stage: word("evaluate"), model: word("dpo"), measure: word("empty"), at_most, at_least }
    }

    #[test]
    fn a_threshold_is_met_on_its_own_side() {
        let (most, least) = (threshold(Some(0.1), None), threshold(None, Some(0.5)));
        for (value, of_most, of_least) in
            [(0.1, true, false), (0.11, false, false), (0.5, false, true), (0.0, true, false)]
        {
            assert_eq!((most.is_met(value), least.is_met(value)), (of_most, of_least), "{value}");
        }
    }
}
