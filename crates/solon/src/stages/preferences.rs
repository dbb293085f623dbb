//! `preferences`: loads labelled pairs from files (TRL's preference formats, HH-RLHF's transcripts), such as labels of
//! people. A pair whose `probability` is below ½ is turned round, so that `chosen` is the likelier answer.

use super::settings::{note, read_sources, sources};
use super::{Data, Kind, Preflight, Source, Stage, parse, records};
use crate::items::{Labelled, preference_text};
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_data::records::{DataFile, LabelRow, Repeated, open_labels};

pub const KIND: Kind = Kind {
    name: "preferences",
    about: "Loads preference pairs from files.",
    parse: parse::<Preferences>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Preferences {
    /// Several are read one after another.
    #[serde(deserialize_with = "sources")]
    file: Vec<Source>,
}

impl Preferences {
    fn read(&self) -> Result<Vec<DataFile<LabelRow>>> {
        Ok(read_sources(&self.file, Repeated::Renamed, open_labels)?)
    }
}

impl Stage for Preferences {
    fn output(&self) -> Data {
        Data::Preferences
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
        let labelled = records(files).filter_map(LabelRow::labelled);
        let mut items = Vec::new();
        for (place, preference) in (0..).zip(labelled) {
            let preference = preference.oriented();
            let (id, text) = (run.id(&preference.id), preference_text(&preference));
            let labelled = Labelled::given(None, preference);
            items.push(NewItem::of(id, place, text, &labelled)?);
        }
        run.insert(&items)?;
        Ok(json!({"pairs": items.len()}))
    }
}
