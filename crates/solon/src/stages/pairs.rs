//! `pairs`: loads pairs of answers to be labelled, from files in one of the preference formats. Which of the two the file
//! calls chosen does not matter: the first is only a place, and a label in the file is not read.

use super::settings::{read_sources, sources};
use super::{Data, Kind, Preflight, Source, Stage, note_unused, parse, records};
use crate::items::pair_text;
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_data::records::{DataFile, Repeated, open_pairs};
use solon_records::Pair;

pub const KIND: Kind = Kind {
    name: "pairs",
    about: "Loads pairs of answers to be labelled from files.",
    parse: parse::<Pairs>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Pairs {
    /// Several are read one after another.
    #[serde(deserialize_with = "sources")]
    file: Vec<Source>,
}

impl Pairs {
    fn read(&self) -> Result<Vec<DataFile<Pair>>> {
        Ok(read_sources(&self.file, Repeated::Renamed, open_pairs)?)
    }
}

impl Stage for Pairs {
    fn output(&self) -> Data {
        Data::Pairs
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
        note_unused(run.name(), files.iter().flat_map(|file| &file.unused));
        let mut items = Vec::new();
        for (place, pair) in (0..).zip(records(files)) {
            items.push(NewItem::of(run.id(&pair.id), place, pair_text(&pair), &pair)?);
        }
        run.insert(&items)?;
        Ok(json!({"pairs": items.len()}))
    }
}
