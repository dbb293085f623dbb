//! `answers`: loads answers from a file, to criticise and revise: JSONL of `{"prompt", "answer"}`, with an optional `id`,
//! and the prompt's `kind` and `category` where they are known.

use super::{Data, Kind, Preflight, Source, Stage, parse};
use crate::items::Answer;
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::jsonl::read_jsonl_numbered;
use solon_data::ledger::NewItem;
use solon_records::Message;

pub const KIND: Kind =
    Kind { name: "answers", about: "Loads answers from a file.", parse: parse::<Answers>, files: Vec::new };

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Answers {
    file: Source,
}

/// A row of the file.
#[derive(Deserialize)]
struct Row {
    id: Option<String>,
    prompt: String,
    answer: String,
    kind: Option<String>,
    category: Option<String>,
}

impl Answers {
    fn read(&self) -> Result<Vec<(String, Row)>> {
        let rows = read_jsonl_numbered::<Row>(&self.file.path)?.into_iter();
        Ok(rows
            .map(|row| (row.value.id.clone().unwrap_or_else(|| format!("line-{}", row.line)), row.value))
            .collect())
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
        let ids = self.read()?.into_iter().map(|(id, _)| id);
        Ok(ids.collect())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let mut items = Vec::new();
        for (place, (id, row)) in (0..).zip(self.read()?) {
            let answer = Answer {
                prompt_id: id.clone(),
                prompt: vec![Message::user(row.prompt)],
                cut_off: false,
                kind: row.kind,
                category: row.category,
            };
            items.push(NewItem::of(run.id(&id), place, row.answer, &answer)?);
        }
        run.insert(&items)?;
        Ok(json!({"answers": items.len()}))
    }
}
