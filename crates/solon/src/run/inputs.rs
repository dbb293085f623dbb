//! `inputs.json`: the input hash that each stage has in the run as its folder was last opened for work.
//!
//! Contract: a stage in the ledger is of the run's recipe only if its input hash is the one that stands here. After a run of
//! another recipe that was stopped early, later stages are still done in the ledger, with the figures of the old recipe. Only
//! a run can tell them apart: the hashes are of the model, of data files and of the program too, and who only reads the folder
//! may have none of these. So a run writes the hashes down, and a reader compares.

use super::folder::hash_with_build;
use super::{Run, input_hash};
use crate::plan::Plan;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use solon_data::files::write_bytes_atomically;
use solon_data::ledger::Stage;
use std::collections::BTreeMap;
use std::path::Path;

/// The file.
const INPUTS: &str = "inputs.json";

/// The input hash of each stage of a plan, as the ledger keeps it. A stage has none while something that it is made from is
/// not done with its own input hash.
pub(super) fn input_hashes(
    plan: &Plan,
    base: &str,
    constitution: &str,
    known: &[Stage],
) -> Result<BTreeMap<String, String>> {
    let (mut hashes, mut made) = (BTreeMap::new(), BTreeMap::new());
    for planned in &plan.stages {
        let Some(hash) = input_hash(plan, planned, base, constitution, &made)? else { continue };
        let hash = hash_with_build(&hash)?;
        let done = known.iter().find(|s| s.name == planned.name && s.done && s.input_hash == hash);
        if let Some(output) = done.and_then(|stage| stage.output_hash.clone()) {
            made.insert(planned.name.clone(), output);
        }
        hashes.insert(planned.name.clone(), hash);
    }
    Ok(hashes)
}

/// The file's content.
#[derive(Deserialize, Serialize)]
pub struct Inputs {
    /// Hash of the training that preregistered thresholds are about; `None` where there are no thresholds.
    pub(super) training: Option<String>,
    stages: BTreeMap<String, String>,
}

impl Inputs {
    /// Those of a run's folder; `None` where an earlier version of Solon made it, which did not write the file.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(INPUTS);
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            text => {
                let text = text.with_context(|| path.display().to_string())?;
                Ok(Some(serde_json::from_str(&text).with_context(|| path.display().to_string())?))
            }
        }
    }

    /// Whether a stage of the ledger was begun with the recipe and the inputs that the run has now.
    pub fn fit(&self, stage: &Stage) -> bool {
        self.stages.get(&stage.name) == Some(&stage.input_hash)
    }
}

impl Run {
    /// Writes down what each stage's inputs are now. To be called before anything of a new recipe is written and whenever a
    /// stage made something: then a kill at any time leaves too few stages that fit, and never one too many.
    pub(super) fn write_inputs(&self) -> Result<()> {
        let known = self.folder.ledger.stages()?;
        let stages = input_hashes(&self.plan, &self.base_hash, &self.constitution_hash, &known)?;
        let text = serde_json::to_string_pretty(&Inputs { training: self.training.clone(), stages })? + "\n";
        Ok(write_bytes_atomically(&self.folder.path.join(INPUTS), text.as_bytes())?)
    }
}
