//! Commands that are recipes of one stage: the same code, the same defaults, resumed the same way.

use crate::cli::{JudgeFlags, ModelArgs, UsageError, WeightsFlag};
use crate::data_files::{absolute_pattern, is_pattern};
use crate::hub;
use crate::piped;
use crate::plan::Plan;
use crate::recipe::{Lora, Recipe, set, toml_value};
use crate::run::{Done, Run, remove_at_stop, run_plan};
use crate::stages::BASE;
use anyhow::{Context, Result};
use solon_records::SamplingSettings;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// A recipe of one stage in the making.
pub struct OneStage {
    recipe: Recipe,
    table: toml::Table,
    threads: Option<usize>,
}

impl OneStage {
    /// A stage of this kind, under the kind's name, on the command's model.
    pub fn new(kind: &str, model: &ModelArgs) -> Result<Self> {
        let recipe = Recipe {
            name: kind.to_owned(),
            seed: 0,
            model: model.model.clone(),
            adapter: model.adapter.clone(),
            chat_template: model.chat_template.clone(),
            constitution: None,
            worked_examples: None,
            precision: model.precision,
            weights: WeightsFlag::Full,
            memory_gb: None,
            lora: Lora::default(),
            batch: None,
            stages: Vec::new(),
        };
        let table = toml::Table::from_iter([("kind".to_owned(), kind.into())]);
        Ok(Self { recipe, table, threads: model.threads })
    }

    /// Sets what all stages share.
    pub fn recipe(mut self, set: impl FnOnce(&mut Recipe)) -> Self {
        set(&mut self.recipe);
        self
    }

    /// Answers sampled at a time.
    pub fn batch(mut self, batch: Option<NonZeroUsize>) -> Self {
        self.recipe.batch = batch;
        self
    }

    /// Sets a key of the stage, where there is a value.
    pub fn key(mut self, key: &str, value: Option<impl Into<toml::Value>>) -> Self {
        if let Some(value) = value {
            self.table.insert(key.to_owned(), value.into());
        }
        self
    }

    /// Sets who is asked: the model, under the key `key`, or the judge in its place, and how.
    pub fn judge(self, key: &str, flags: &JudgeFlags) -> Self {
        let table = flags.limits();
        let limits = (!table.is_empty()).then_some(table);
        let own = flags.judge.is_none().then_some(BASE);
        self.key(key, own).key("judge", flags.judge.clone()).key("judge_limits", limits)
    }

    /// Sets an input to a file, whose path is taken from the working folder, or to a repository of the Hub, whose name is kept.
    pub fn file(self, key: &str, path: &Path) -> Result<Self> {
        let name = typed(path)?;
        Ok(self.key(key, Some(name)))
    }

    /// Sets an input to data: files, patterns, folders, pipes, or repositories of the Hub.
    pub fn data(self, key: &str, names: &[PathBuf]) -> Result<Self> {
        let names = names.iter().map(|name| typed(name)).collect::<Result<Vec<_>>>()?;
        Ok(self.key(key, Some(names)))
    }

    /// Sets keys as they are typed after `--set`.
    pub fn set(mut self, items: &[String]) -> Result<Self> {
        for item in items {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| UsageError(format!("--set {item} has no =\nhint: --set schedule=linear")))?;
            if ["kind", "name"].contains(&key) {
                return Err(UsageError(format!("--set {key}: the command gives the stage's {key}")).into());
            }
            set(&mut self.table, key, key, toml_value(value))?;
        }
        Ok(self)
    }

    /// Runs the stage in a folder, or in one that is removed afterwards; `then` sees the run.
    pub fn run<T>(self, out: Option<&Path>, then: impl FnOnce(&mut Run, &Done) -> Result<T>) -> Result<T> {
        let Self { mut recipe, table, threads } = self;
        recipe.stages.push(table);
        recipe.check().map_err(UsageError)?;
        let plan = Plan::to_run(recipe, Path::new("."))?;
        let scratch;
        let out: PathBuf = match out {
            Some(out) => out.to_owned(),
            None => {
                scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
                remove_at_stop(scratch.path());
                scratch.path().to_owned()
            }
        };
        run_plan(plan, &out, threads, None, None, then)
    }
}

/// What is named on the command line as a recipe in any folder would name it.
fn typed(path: &Path) -> Result<String> {
    if let Some(text) = path.to_str() {
        if hub::named(text).is_some() {
            return Ok(text.to_owned());
        }
        if is_pattern(text) && !path.exists() {
            return absolute_pattern(text);
        }
    }
    let path = std::path::absolute(piped::named(path)).with_context(|| path.display().to_string())?;
    Ok(path.display().to_string())
}

/// TOML's whole numbers are signed; one too large for that is as wrong as the largest.
pub fn as_toml(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Sampling settings as a recipe writes them.
pub fn sampling_table(sampling: &SamplingSettings) -> Result<toml::Value> {
    Ok(toml::Value::try_from(sampling)?)
}
