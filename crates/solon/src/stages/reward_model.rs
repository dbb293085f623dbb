//! `reward-model`: takes a reward model from a folder into the run: an adapter with a scalar head, as `solon reward` makes
//! on the same base model.

use super::{Data, Kind, Source, Stage, parse};
use crate::run::{StageRun, copy_adapter};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_feedback::Ask;

pub const KIND: Kind = Kind {
    name: "reward-model",
    about: "Takes a reward model into the run.",
    parse: parse::<RewardFolder>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RewardFolder {
    file: Source,
}

impl Stage for RewardFolder {
    fn output(&self) -> Data {
        Data::RewardModel
    }

    fn ask(&self) -> Option<Ask> {
        Some(Ask::Reward)
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        if !copy_adapter(run, &self.file.path)? {
            bail!(
                "{} has no score head of one label\nhint: train it with `solon reward` on the same model",
                self.file.path.display()
            );
        }
        Ok(json!({}))
    }
}
