//! `demonstrations`: loads conversations to imitate from a file (TRL's conversational and prompt-completion formats).

use super::{Data, Kind, Preflight, Source, Stage, note_unused, parse};
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_data::records::{open_demonstrations, read_demonstrations};
use solon_records::transcript;

pub const KIND: Kind = Kind {
    name: "demonstrations",
    about: "Loads demonstrations from a file.",
    parse: parse::<Demonstrations>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Demonstrations {
    file: Source,
}

impl Stage for Demonstrations {
    fn output(&self) -> Data {
        Data::Demonstrations
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, _: &Preflight<'_>) -> Result<Vec<String>> {
        read_demonstrations(&self.file.path)?;
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let file = open_demonstrations(&self.file.path)?;
        note_unused(run.name(), &file.unused);
        let mut items = Vec::new();
        for (place, demonstration) in (0..).zip(file.records) {
            let text = transcript(&demonstration.messages);
            items.push(NewItem::of(run.id(&demonstration.id), place, text, &demonstration)?);
        }
        run.insert(&items)?;
        Ok(json!({"demonstrations": items.len()}))
    }
}
