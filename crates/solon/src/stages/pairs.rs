//! `pairs`: loads pairs of answers to be labelled, from a file in one of the preference formats. Which of the two the file
//! calls chosen does not matter: the first is only a place, and a label in the file is not read.

use super::{Data, Kind, Preflight, Source, Stage, parse};
use crate::items::pair_text;
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_data::records::read_pairs;

pub const KIND: Kind = Kind {
    name: "pairs",
    about: "Loads pairs of answers to be labelled from a file.",
    parse: parse::<Pairs>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Pairs {
    file: Source,
}

impl Stage for Pairs {
    fn output(&self) -> Data {
        Data::Pairs
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, _: &Preflight<'_>) -> Result<Vec<String>> {
        read_pairs(&self.file.path)?;
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let mut items = Vec::new();
        for (place, pair) in (0..).zip(read_pairs(&self.file.path)?) {
            items.push(NewItem::of(run.id(&pair.id), place, pair_text(&pair), &pair)?);
        }
        run.insert(&items)?;
        Ok(json!({"pairs": items.len()}))
    }
}
