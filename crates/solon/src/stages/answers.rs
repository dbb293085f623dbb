//! `answers`: loads answers from files, to criticise and revise: `prompt` and `answer`, with an optional `id`, and the prompt's `kind` and
//! `category` where they are known.

use super::settings::{read_sources, sources};
use super::{Data, Kind, Preflight, Source, Stage, note_unused, parse, records};
use crate::items::Answer;
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_data::records::{Answered, DataFile, Repeated, open_answered};

pub const KIND: Kind =
    Kind { name: "answers", about: "Loads answers from files.", parse: parse::<Answers>, files: Vec::new };

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    /// Several are read one after another.
    #[serde(deserialize_with = "sources")]
    file: Vec<Source>,
}

impl Answers {
    fn read(&self) -> Result<Vec<DataFile<Answered>>> {
        Ok(read_sources(&self.file, Repeated::Renamed, open_answered)?)
    }
}

impl Stage for Answers {
    fn output(&self) -> Data {
        Data::Answers
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, _: &Preflight<'_>) -> Result<Vec<String>> {
        Ok(records(self.read()?).map(|row| row.id).collect())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let files = self.read()?;
        note_unused(run.name(), files.iter().flat_map(|file| &file.unused));
        let mut items = Vec::new();
        for (place, row) in (0..).zip(records(files)) {
            let id = run.id(&row.id);
            let answer = Answer {
                prompt_id: row.id,
                prompt: row.prompt,
                cut_off: false,
                kind: row.kind,
                category: row.category,
            };
            items.push(NewItem::of(id, place, row.answer, &answer)?);
        }
        run.insert(&items)?;
        Ok(json!({"answers": items.len()}))
    }
}
