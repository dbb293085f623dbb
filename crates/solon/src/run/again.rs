//! A run that is only read, by its folder alone: to write its report again, and to export its evaluations.

use super::folder::RunFolder;
use super::{Inputs, Preregistration, Run};
use crate::catalogue;
use crate::plan::Plan;
use crate::recipe::Recipe;
use anyhow::{Context, Result, bail};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl Run {
    /// Opens the run in `folder` by the recipe that is frozen in it. No stage can be carried out with it, and the model is
    /// neither opened nor fetched. Stages that another recipe made there, or that were made of other inputs, count as not
    /// finished.
    pub fn reopen(folder: &Path) -> Result<Self> {
        let file = folder.join("recipe.toml");
        if !file.is_file() {
            bail!(
                "{} has no recipe.toml, so it cannot be read as a run\n\
                 hint: give the folder that was --out of `solon run`",
                folder.display()
            );
        }
        let recipe = Recipe::open(&file, &[])?;
        let plan = Plan::of(recipe, folder).with_context(|| file.display().to_string())?;
        let model_path =
            catalogue::cached(&plan.recipe.model).unwrap_or_else(|| PathBuf::from(&plan.recipe.model));
        let opened = RunFolder::open(folder)?;
        let inputs = Inputs::read(folder)?;
        let mut made = BTreeMap::new();
        for stage in opened.ledger.stages()? {
            let fits = inputs.as_ref().is_none_or(|inputs| inputs.fit(&stage));
            if let (true, true, Some(output)) = (fits, stage.done, stage.output_hash) {
                made.insert(stage.name, output);
            }
        }
        Ok(Self {
            folder: opened,
            model_path,
            model_sha256: String::new(),
            base_hash: String::new(),
            constitution_hash: String::new(),
            base: OnceCell::new(),
            full: Default::default(),
            preregistration: Preregistration::frozen(folder)?,
            training: inputs.and_then(|inputs| inputs.training),
            made,
            plan,
        })
    }
}
