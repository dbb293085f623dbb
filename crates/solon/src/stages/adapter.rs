//! `adapter`: takes a PEFT adapter from a folder into the run, as a model to start from.

use super::{Data, Kind, Source, Stage, parse};
use crate::run::{StageRun, copy_adapter};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub const KIND: Kind = Kind {
    name: "adapter",
    about: "Takes a PEFT adapter on the base model into the run.",
    parse: parse::<AdapterFolder>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AdapterFolder {
    file: Source,
}

impl Stage for AdapterFolder {
    fn output(&self) -> Data {
        Data::Model
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        copy_adapter(run, &self.file.path)?;
        Ok(json!({}))
    }
}
