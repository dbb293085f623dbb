//! `reward`: a reward model on preferences with soft labels. Some pairs are kept back from it, and its accuracy on them is
//! told: a reward model that does not beat a constant there is worth nothing.

use super::settings::{Rates, not_negative};
use super::{Curve, Data, Input, Keys, Kind, Method, OneOrMany, Stage, Training, base};
use crate::report::Report;
use crate::run::{Reader, StageRun};
use crate::tokenise;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_draws::Draws;
use solon_records::Preference;
use solon_train::reward::{RewardTrainer, evaluate};
use solon_train::{TokenPair, Trainer};
use std::collections::BTreeMap;
use std::time::Instant;

pub const KIND: Kind = Kind { name: "reward", about: "Trains a reward model on preferences.", parse };

struct Reward {
    own: Own,
    training: Training,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// The model to start from; its head is fresh, or its own where it is a reward model.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// Preferences.
    #[serde(default, skip_serializing)]
    pairs: OneOrMany,
    /// Weight of `(r_chosen + r_rejected)²`, which keeps rewards near 0 (TRL's `center_rewards_coefficient`; 0.01 is its
    /// suggestion); 0 is off.
    #[serde(default, deserialize_with = "not_negative")]
    centering: f64,
    /// The pairs of one prompt in so many are kept back to measure the model on; 0 keeps none back.
    #[serde(default = "eight")]
    hold_out_every: usize,
}

fn eight() -> usize {
    8
}

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let training = Training::take(&mut keys, &Rates { lora: 1e-4, full: 9e-6 })?;
    let own: Own = keys.rest()?;
    if own.hold_out_every == 1 {
        return Err(
            "hold_out_every is 1, which would keep every pair back; give 2 or more, or 0 for none".to_owned()
        );
    }
    Ok(Box::new(Reward { training, own }))
}

impl Stage for Reward {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.own.from.clone()], &[Data::Model, Data::RewardModel]),
            Input::required("pairs", &self.own.pairs, &[Data::Preferences]),
        ]
    }

    fn output(&self) -> Data {
        Data::RewardModel
    }

    fn settings(&self) -> Value {
        json!([self.own, self.training])
    }

    fn trains(&self) -> Option<Method> {
        Some(self.training.method)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let started = Instant::now();
        let preferences = run.read().preferences("pairs")?;
        let start = run.start("from", self.training.method)?;
        let all = tokenise::pairs(start.chat(), &preferences)?;
        let prompts = prompt_numbers(&preferences)?;
        let (held_out, learnt): (Vec<_>, Vec<_>) =
            prompts.into_iter().zip(all).partition(|(prompt, _)| match self.own.hold_out_every {
                0 => false,
                every => prompt % every == 0,
            });
        let strip =
            |pairs: Vec<(usize, TokenPair)>| pairs.into_iter().map(|(_, pair)| pair).collect::<Vec<_>>();
        let (held_out, learnt) = (strip(held_out), strip(learnt));
        if learnt.is_empty() {
            bail!("there are no preferences to learn from: {} is empty", run.read().input_shown("pairs"));
        }
        let head = start
            .head()
            .unwrap_or_else(|| fresh_head(start.chat().config().hidden_size, run.draws().item("head")));
        let settings = run.train_settings(&self.training, &start)?;
        let mut student = run.student(start, Some(head))?;
        let draws = run.draws().item("order");
        let mut trainer =
            RewardTrainer::new(&mut student.learner, &learnt, settings, self.own.centering, draws)?;
        let mut told = run.train(&mut trainer, started)?;
        let steps = trainer.total_steps();
        run.save(&student, steps)?;
        told["pairs"] = json!(learnt.len());
        if !held_out.is_empty() {
            let learner = &student.learner;
            let head = learner.scalar.as_ref().context("a reward model has a head")?;
            let measured = evaluate(
                &learner.decoder,
                learner.adapter.as_ref(),
                head,
                &held_out,
                settings.tokens_per_pass,
            )?;
            told["held_out_accuracy"] = json!(measured.accuracy);
            told["held_out"] = json!(measured);
        }
        Ok(told)
    }

    fn curves(&self) -> Vec<Curve> {
        vec![Curve {
            title: "loss and accuracy on the pairs it learns from",
            y_label: "loss",
            series: &[("loss", "loss"), ("accuracy", "accuracy")],
        }]
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let detail = read.detail()?;
        let held_out = &detail["held_out"];
        let (Some(accuracy), Some(pairs)) = (held_out["accuracy"].as_f64(), held_out["pairs"].as_u64())
        else {
            report
                .warnings
                .push(format!("The reward model {} was not measured on pairs kept back.", read.name()));
            return Ok(());
        };
        let (loss, constant) = (held_out["loss"].as_f64(), held_out["constant_loss"].as_f64());
        report.verdict.push(format!(
            "Reward model {}: right on {:.0} % of {pairs} pairs kept back.",
            read.name(),
            100.0 * accuracy
        ));
        if let (Some(loss), Some(constant)) = (loss, constant)
            && loss >= constant
        {
            report.warnings.push(format!(
                "The reward model {} is no better than a constant on the pairs kept back (loss {loss:.2}, a constant's {constant:.2}).",
                read.name()
            ));
        }
        Ok(())
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        let models = summary.entry("reward_models").or_insert_with(|| json!({}));
        models[read.name()] = read.detail()?["held_out"].clone();
        Ok(())
    }
}

/// The number of each preference's prompt, from 1, in order of appearance: the pairs of a prompt are kept back together,
/// for a model that has learnt one of them knows more of the others.
fn prompt_numbers(preferences: &[Preference]) -> Result<Vec<usize>> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut out = Vec::new();
    for preference in preferences {
        let next = numbers.len() + 1;
        out.push(*numbers.entry(serde_json::to_string(&preference.prompt)?).or_insert(next));
    }
    Ok(out)
}

/// A scalar head's starting weight: variance 1/(hidden + 1) ("N details", 8).
fn fresh_head(hidden: usize, draws: Draws) -> Vec<f32> {
    let deviation = 1.0 / ((hidden + 1) as f64).sqrt();
    (0..hidden as u64).map(|i| (draws.normal(i) * deviation) as f32).collect()
}
