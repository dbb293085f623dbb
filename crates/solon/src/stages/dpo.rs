//! `dpo`: direct preference optimisation (Rafailov et al. 2023) on preferences with soft labels; the model it starts from
//! is the reference. Beside the pairs it may imitate answers and be held on others. Where all pairs were dropped, as those
//! of a labeller that is not better than chance are, it learns nothing: it saves the model it starts from, so that the run
//! goes on.

use super::beside::Beside;
use super::settings::{Rates, positive};
use super::{Curve, Data, Input, Keys, Kind, Method, OneOrMany, Stage, Training, base};
use crate::items::Labelled;
use crate::report::Report;
use crate::run::{Reader, StageRun};
use crate::tokenise;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_train::Trainer;
use solon_train::dpo::{DpoTrainer, reference_sums};
use solon_train::losses::dpo::{DpoLoss, DpoSettings};
use std::time::Instant;

pub const KIND: Kind =
    Kind { name: "dpo", about: "Optimises a model on preferences directly.", parse, files: Vec::new };

struct Dpo {
    own: Own,
    beside: Beside,
    training: Training,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// The model to start from, which is the reference.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// Preferences.
    #[serde(default, skip_serializing)]
    pairs: OneOrMany,
    /// Strength of the pull towards the reference.
    #[serde(default = "tenth", deserialize_with = "positive")]
    beta: f64,
    /// `sigmoid`, `ipo`, `hinge` or `robust`.
    #[serde(default = "sigmoid")]
    loss: DpoLoss,
    /// How often labels are taken to be flipped: cDPO with `sigmoid`, and `robust`'s rate.
    #[serde(default)]
    label_smoothing: f64,
}

fn tenth() -> f64 {
    0.1
}

fn sigmoid() -> DpoLoss {
    DpoLoss::Sigmoid
}

impl Own {
    fn loss(&self) -> DpoSettings {
        DpoSettings { loss: self.loss, beta: self.beta, label_smoothing: self.label_smoothing }
    }
}

/// Of what a stage told: why it trained nothing.
const SKIPPED: &str = "skipped";

/// Why there are no pairs to learn from: they were dropped. Where there never was a pair, that is an error.
fn why_empty(read: &Reader<'_>) -> Result<String> {
    let mut reasons: Vec<String> = Vec::new();
    for name in read.input("pairs") {
        let Some(stage) = read.reader_of(name) else { continue };
        let pairs = stage.own_with_dropped::<Labelled>()?.into_iter().filter(|pair| !pair.data.known);
        for reason in pairs.filter_map(|pair| pair.dropped_reason) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
    }
    if reasons.is_empty() {
        bail!("there are no preferences to learn from: {} is empty", read.input_shown("pairs"));
    }
    Ok(format!("all pairs of {} were dropped ({})", read.input_shown("pairs"), reasons.join(", ")))
}

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let training = Training::take(&mut keys, &Rates { lora: 5e-5, full: 1e-6 })?;
    let beside = Beside::take(&mut keys, training.method)?;
    let own: Own = keys.rest()?;
    own.loss().validate().map_err(|error| error.to_string())?;
    Ok(Box::new(Dpo { own, beside, training }))
}

impl Stage for Dpo {
    fn inputs(&self) -> Vec<Input> {
        let mut inputs = vec![
            Input::required("from", [self.own.from.clone()], &[Data::Model]),
            Input::required("pairs", &self.own.pairs, &[Data::Preferences]),
        ];
        inputs.extend(self.beside.inputs());
        inputs
    }

    fn output(&self) -> Data {
        Data::Model
    }

    fn settings(&self) -> Value {
        json!([self.own, self.beside, self.training])
    }

    fn trains(&self) -> Option<Method> {
        Some(self.training.method)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let started = Instant::now();
        let preferences = run.read().preferences("pairs")?;
        if preferences.is_empty() {
            let reason = why_empty(&run.read())?;
            let start = run.start("from", self.training.method)?;
            let student = run.student(start, None)?;
            run.save(&student, 0)?;
            let seconds = started.elapsed().as_secs_f64();
            return Ok(json!({"pairs": 0, "steps": 0, "seconds": seconds, SKIPPED: reason}));
        }
        let start = run.start("from", self.training.method)?;
        let pairs = tokenise::pairs(start.chat(), &preferences, None)?;
        let beside = self.beside.tokenise(run, start.chat())?;
        let references = reference_sums(&start.chat().decoder, start.adapter(), &pairs, &mut |_| {});
        let settings = run.train_settings(&self.training, &start)?;
        let mut student = run.student(start, None)?;
        let draws = run.draws().item("order");
        let lessons = beside.lessons();
        let loss = self.own.loss();
        let mut trainer =
            DpoTrainer::new(&mut student.learner, &pairs, references, settings, loss, lessons, draws)?;
        let mut told = run.train(&mut trainer, started)?;
        let steps = trainer.total_steps();
        run.save(&student, steps)?;
        told["pairs"] = json!(pairs.len());
        beside.tell(&mut told);
        Ok(told)
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        if let Some(reason) = read.detail()?[SKIPPED].as_str() {
            let name = read.name();
            report
                .warnings
                .push(format!("The stage {name} trained nothing and is the model it starts from: {reason}."));
        }
        Ok(())
    }

    fn curves(&self) -> Vec<Curve> {
        let mut curves = vec![
            Curve { title: "loss", y_label: "loss", series: &[("loss", "loss")] },
            Curve {
                title: "implicit rewards",
                y_label: "reward",
                series: &[("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")],
            },
            Curve {
                title: "share of pairs whose chosen answer has the higher implicit reward",
                y_label: "accuracy",
                series: &[("rewards/accuracies", "accuracy")],
            },
        ];
        curves.extend(self.beside.curves());
        curves
    }
}
