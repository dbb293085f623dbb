//! How a run stands beside its plan: what `solon run --plan` prints. Nothing is computed and nothing is written.

use super::folder::model_hash;
use super::inputs::input_hashes;
use super::{artefact, base_hash, constitution_hash, lacks_replies};
use crate::catalogue;
use crate::out::Out;
use crate::plan::Plan;
use crate::progress::duration;
use anyhow::Result;
use solon_data::ledger::{Ledger, Stage};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// One line of a printed plan.
#[derive(serde::Serialize)]
struct PlanRow {
    name: String,
    kind: &'static str,
    /// `done`, `resumed`, `changed`, `gone` or `new`.
    status: &'static str,
    /// How long it took, where it was done before.
    seconds: Option<f64>,
    /// Names of stages by key.
    inputs: BTreeMap<&'static str, Vec<String>>,
}

/// Prints the plan: each stage, where its inputs come from, and whether there is work to do. Computes nothing.
pub fn print_plan(plan: &Plan, out: &Path, as_json: bool) -> Result<()> {
    let rows = plan_rows(plan, out)?;
    let text = if as_json { serde_json::to_string_pretty(&rows)? + "\n" } else { plan_table(&rows) };
    Out.write_all(text.as_bytes())?;
    Ok(())
}

fn plan_rows(plan: &Plan, out: &Path) -> Result<Vec<PlanRow>> {
    let standing = Standing::read(out)?;
    // A model that is not there yet is not fetched to print a plan: then nothing can have been done with it.
    let sha256 = match catalogue::cached(&plan.recipe.model) {
        _ if !plan.needs_model() => Some(String::new()),
        Some(path) => Some(model_hash(&path)?),
        None => None,
    };
    let hashes = match sha256 {
        Some(sha256) => {
            let base = base_hash(plan, &sha256)?;
            input_hashes(plan, &base, &constitution_hash(plan)?, &standing.stages)?
        }
        None => BTreeMap::new(),
    };
    let mut rows = Vec::new();
    for planned in &plan.stages {
        let mut status = standing.status(&planned.name, hashes.get(&planned.name));
        if status.word == "done" && artefact(out, planned).is_some_and(|artefact| !artefact.exists()) {
            status.word = "gone";
        }
        rows.push(PlanRow {
            name: planned.name.clone(),
            kind: planned.kind.name,
            status: status.word,
            seconds: status.seconds,
            inputs: planned.inputs.iter().filter(|(_, names)| !names.is_empty()).cloned().collect(),
        });
    }
    Ok(rows)
}

/// The plan in columns.
fn plan_table(rows: &[PlanRow]) -> String {
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let time = row.seconds.map(|seconds| format!("took {}", duration(seconds))).unwrap_or_default();
            let inputs = row.inputs.iter().map(|(key, names)| format!("{key} = {}", names.join(", ")));
            let inputs = inputs.collect::<Vec<_>>().join("; ");
            [row.name.clone(), row.kind.to_owned(), row.status.to_owned(), time, inputs]
        })
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3), 0];
    let mut text = String::new();
    for row in &cells {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// How a run stands, read without opening it for writing.
struct Standing {
    stages: Vec<Stage>,
}

/// How one stage stands.
struct Status {
    /// `done`, `resumed` (it was interrupted, or some replies did not come, and it will resume), `new`, `changed` (it was done with other inputs or settings),
    /// or `gone` (it was done, and what it made was deleted).
    word: &'static str,
    /// How long it took, now or with other inputs.
    seconds: Option<f64>,
}

impl Standing {
    /// Reads the ledger of a folder; a folder that is not there has no stages.
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("ledger.sqlite");
        let stages = if path.is_file() { Ledger::open_read_only(&path)?.stages()? } else { Vec::new() };
        Ok(Self { stages })
    }

    /// How a stage stands whose inputs and settings hash to this; `None` where an input is not made yet.
    fn status(&self, name: &str, input_hash: Option<&String>) -> Status {
        let known = self.stages.iter().find(|stage| stage.name == name);
        let same = known.filter(|stage| Some(&stage.input_hash) == input_hash);
        let word = match (known, same) {
            (_, Some(stage)) if stage.done && !lacks_replies(stage) => "done",
            (_, Some(_)) => "resumed",
            (Some(_), None) => "changed",
            (None, None) => "new",
        };
        Status { word, seconds: known.filter(|stage| stage.done).and_then(|stage| stage.seconds) }
    }
}
