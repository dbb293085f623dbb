//! `ppo`: PPO against reward models, with a KL penalty to the model it starts from (Schulman et al. 2017; Ouyang et al.
//! 2022). The critic starts as a copy of the first reward model.

use super::rollouts::{Differences, Rollouts};
use super::settings::positive;
use super::{Curve, Data, Input, Keys, Kind, Method, Stage};
use crate::report::Report;
use crate::run::{Reader, StageRun};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::num::NonZeroUsize;

pub const KIND: Kind =
    Kind { name: "ppo", about: "Optimises a model against a reward model.", parse, files: Vec::new };

struct Ppo {
    own: Own,
    rollouts: Rollouts,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// The critic's peak learning rate.
    #[serde(default = "critic_rate", deserialize_with = "positive")]
    critic_learning_rate: f64,
}

fn critic_rate() -> f64 {
    1e-4
}

const DIFFERENCES: Differences = Differences {
    method: "PPO",
    answers_each: NonZeroUsize::MIN,
    overrides: &["gamma", "lambda", "value_clip", "whiten_rewards"],
    preset: |preset| preset,
};

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let rollouts = Rollouts::take(&mut keys, &DIFFERENCES)?;
    Ok(Box::new(Ppo { rollouts, own: keys.rest()? }))
}

impl Stage for Ppo {
    fn inputs(&self) -> Vec<Input> {
        self.rollouts.inputs()
    }

    fn output(&self) -> Data {
        Data::Model
    }

    fn settings(&self) -> Value {
        json!([self.own, self.rollouts.settings()])
    }

    fn trains(&self) -> Option<Method> {
        Some(self.rollouts.training().method)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        self.rollouts.run(run, Some(self.own.critic_learning_rate))
    }

    fn curves(&self) -> Vec<Curve> {
        self.rollouts.curves()
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        self.rollouts.report(read, report)
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        self.rollouts.summary(read, summary)
    }
}
