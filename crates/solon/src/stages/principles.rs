//! `principles`: the constitution's principles in the ledger, so that every trail begins there. A recipe with a
//! `constitution` has this stage by itself, in front of the others.

use super::{Data, Kind, Stage, parse};
use crate::report::{self, Report};
use crate::run::{Reader, StageRun};
use anyhow::Result;
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, NewItem};

pub const KIND: Kind = Kind {
    name: "principles",
    about: "Records the constitution's principles.",
    parse: parse::<Principles>,
    files: Vec::new,
};

/// Of what the stage told: the hash of the constitution's file.
const SHA256: &str = "sha256";

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Principles {}

impl Stage for Principles {
    fn output(&self) -> Data {
        Data::Principles
    }

    fn needs_constitution(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        Value::Null
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let constitution = run.read().constitution()?;
        let revision =
            constitution.revision.iter().map(|p| (&p.id, format!("{}\n{}", p.critique, p.revision)));
        let comparison = constitution.comparison.iter().map(|p| (&p.id, p.question.clone()));
        let items: Vec<NewItem> = (0..)
            .zip(revision.chain(comparison))
            .map(|(place, (id, text))| {
                NewItem::new(format!("principle/{id}"), ItemKind::Principle, place, text)
            })
            .collect();
        run.insert(&items)?;
        Ok(json!({"principles": items.len(), SHA256: run.read().constitution_sha256()?}))
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let constitution = read.constitution()?;
        report.constitution = report::Constitution {
            name: constitution.name.clone(),
            // As it was when the run began; the file may have changed since.
            sha256: read.detail()?[SHA256].as_str().unwrap_or_default().to_owned(),
            revision_principles: constitution.revision.len(),
            comparison_principles: constitution.comparison.len(),
            examples: constitution.example.len(),
        };
        Ok(())
    }
}
