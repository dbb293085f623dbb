//! `preferences`: loads labelled pairs from a file (TRL's preference formats, HH-RLHF's transcripts), such as labels of
//! people. A pair whose `probability` is below ½ is turned round, so that `chosen` is the likelier answer.

use super::{Data, Kind, Preflight, Source, Stage, note_unused, parse};
use crate::items::{Labelled, preference_text};
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_data::records::{LabelRow, open_labels, read_preferences};

pub const KIND: Kind = Kind {
    name: "preferences",
    about: "Loads preference pairs from a file.",
    parse: parse::<Preferences>,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Preferences {
    file: Source,
}

impl Stage for Preferences {
    fn output(&self) -> Data {
        Data::Preferences
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, _: &Preflight<'_>) -> Result<Vec<String>> {
        read_preferences(&self.file.path)?;
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let file = open_labels(&self.file.path)?;
        note_unused(run.name(), &file.unused);
        let labelled = file.records.into_iter().filter_map(LabelRow::labelled);
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
