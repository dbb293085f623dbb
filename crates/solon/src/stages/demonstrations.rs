//! `demonstrations`: loads conversations to imitate from files (TRL's conversational and prompt-completion formats).

use super::settings::{note, read_sources, sources};
use super::{Data, Kind, Preflight, Source, Stage, parse, records};
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_data::records::{DataFile, Repeated, open_demonstrations};
use solon_records::{Demonstration, transcript};

pub const KIND: Kind = Kind {
    name: "demonstrations",
    about: "Loads demonstrations from files.",
    parse: parse::<Demonstrations>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Demonstrations {
    /// Several are read one after another.
    #[serde(deserialize_with = "sources")]
    file: Vec<Source>,
}

impl Demonstrations {
    fn read(&self) -> Result<Vec<DataFile<Demonstration>>> {
        Ok(read_sources(&self.file, Repeated::Renamed, open_demonstrations)?)
    }
}

impl Stage for Demonstrations {
    fn output(&self) -> Data {
        Data::Demonstrations
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, _: &Preflight<'_>) -> Result<Vec<String>> {
        self.read()?;
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let files = self.read()?;
        note(run.name(), &self.file, &files);
        let mut items = Vec::new();
        for (place, demonstration) in (0..).zip(records(files)) {
            let text = transcript(&demonstration.messages);
            items.push(NewItem::of(run.id(&demonstration.id), place, text, &demonstration)?);
        }
        run.insert(&items)?;
        Ok(json!({"demonstrations": items.len()}))
    }
}
