//! Recipes: a TOML file with what all stages share, and `[[stage]]` tables in the order they run.
//!
//! Contract: this file reads and overrides; what a stage's table may hold is said by its kind (`stages/`), and whether
//! the stages fit together by the plan (`plan.rs`). Unknown keys are refused everywhere.

use crate::assets;
use crate::cli::{PrecisionFlag, UsageError, WeightsFlag};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use solon_feedback::Constitution;
use solon_hub::name_in_cache;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// A recipe as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The run's name; its folder is `runs/NAME` unless `--out` says otherwise.
    pub name: String,
    /// Seed of every draw.
    #[serde(default)]
    pub seed: u64,
    /// The base model: a catalogue name, a Hugging Face folder or a GGUF file.
    pub model: String,
    /// A PEFT adapter on the base model; both together are what stages call `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// A chat template in place of the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<PathBuf>,
    /// The constitution's file, where a stage needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constitution: Option<PathBuf>,
    /// Worked examples of the constitution that are used, evenly spaced; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked_examples: Option<NonZeroUsize>,
    /// What products' inputs are rounded to.
    #[serde(default)]
    pub precision: PrecisionFlag,
    /// How weights are held; `int8` only where no stage trains.
    #[serde(default)]
    pub weights: WeightsFlag,
    /// Memory that training may take, in GB: a pass is as large as fits. As much as a pass of 1,024 tokens needs when
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_gb: Option<f64>,
    /// The shape of every low-rank adapter.
    #[serde(default)]
    pub lora: Lora,
    /// Answers sampled at a time; the result does not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<NonZeroUsize>,
    /// The stages, in the order they run.
    #[serde(rename = "stage", default)]
    pub stages: Vec<toml::Table>,
}

/// Shape of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(from = "LoraKeys")]
pub struct Lora {
    /// Inner width.
    pub rank: NonZeroUsize,
    /// The update is scaled by alpha / rank.
    pub alpha: f32,
}

/// The keys as a recipe may give them: alpha is twice the rank where it is left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoraKeys {
    rank: Option<NonZeroUsize>,
    alpha: Option<f32>,
}

impl From<LoraKeys> for Lora {
    fn from(keys: LoraKeys) -> Self {
        let shape = keys.rank.map_or_else(Lora::default, Lora::of_rank);
        Lora { alpha: keys.alpha.unwrap_or(shape.alpha), ..shape }
    }
}

impl Default for Lora {
    fn default() -> Self {
        Self::of_rank(NonZeroUsize::MIN.saturating_add(15))
    }
}

impl Lora {
    /// An adapter of this rank, with alpha twice the rank.
    pub fn of_rank(rank: NonZeroUsize) -> Self {
        Self { rank, alpha: 2.0 * rank.get() as f32 }
    }
}

/// Where to look when a recipe is wrong.
pub const SHIPPED: &str =
    "hint: recipes/quickstart.toml, which comes with Solon's source, is a whole recipe to compare with";

impl Recipe {
    /// The constitution, if there is one, with as many of its worked examples as are to be used.
    pub fn open_constitution(&self) -> Result<Option<Constitution>> {
        let Some(file) = &self.constitution else { return Ok(None) };
        let mut constitution = Constitution::open(file)?;
        let total = constitution.example.len();
        let count = self.worked_examples.map_or(total, |count| count.get().min(total));
        let chosen: BTreeSet<usize> = (0..count).map(|n| n * total / count).collect();
        let mut at = 0..total;
        constitution.example.retain(|_| at.next().is_some_and(|place| chosen.contains(&place)));
        Ok(Some(constitution))
    }

    /// Reads a recipe and applies `key=value` overrides; see [`apply_override`] for what a key may be.
    pub fn open(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the recipe {}\n{SHIPPED}", path.display()))?;
        let mut table: toml::Table =
            text.parse().map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        refuse_old_form(&table).map_err(|what| UsageError(format!("{}: {what}", path.display())))?;
        for item in overrides {
            apply_override(&mut table, item)?;
        }
        let recipe: Recipe = table.try_into().map_err(|error: toml::de::Error| {
            UsageError(format!("{}: {}\n{SHIPPED}", path.display(), error.to_string().trim_end()))
        })?;
        recipe.check().map_err(|what| UsageError(format!("{}: {what}", path.display())))?;
        Ok(recipe)
    }

    /// The same recipe as others can use it: files that the program carries are named as in the shipped recipes, and not
    /// by their place on this machine.
    pub fn portable(&self) -> Self {
        let mut recipe = self.clone();
        if let Some(constitution) = &mut recipe.constitution
            && let Some(name) = assets::shipped_name(constitution)
        {
            *constitution = name.into();
        }
        recipe
            .stages
            .iter_mut()
            .flat_map(|table| table.iter_mut())
            .for_each(|(_, value)| portable_names(value));
        recipe
    }

    /// What types alone do not say.
    pub fn check(&self) -> Result<(), String> {
        if !(self.lora.alpha.is_finite() && self.lora.alpha > 0.0) {
            return Err(format!("lora.alpha is {}; give a number above 0", self.lora.alpha));
        }
        if let Some(budget) = self.memory_gb.filter(|budget| !(budget.is_finite() && *budget > 0.0)) {
            return Err(format!("memory_gb is {budget}; give a number above 0"));
        }
        Ok(())
    }
}

/// Gives shipped files, and files and folders of the Hub, their own names, wherever in a value they stand.
fn portable_names(value: &mut toml::Value) {
    match value {
        toml::Value::String(text) => {
            let path = Path::new(text);
            let shipped = assets::shipped_name(path).map(str::to_owned);
            let name = shipped.or_else(|| name_in_cache(path).map(|name| name.to_string()));
            if let Some(name) = name {
                *text = name;
            }
        }
        toml::Value::Array(values) => values.iter_mut().for_each(portable_names),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| portable_names(value)),
        _ => {}
    }
}

/// Tables of recipes as they were before they were lists of stages.
const OLD_TABLES: [&str; 12] = [
    "prompts",
    "critic",
    "respond",
    "rehearse",
    "revise",
    "sft",
    "preferences",
    "dpo",
    "reward",
    "ppo",
    "evaluate",
    "deliver",
];

/// Says what to write now where a recipe has the old form.
fn refuse_old_form(table: &toml::Table) -> Result<(), String> {
    let Some(old) = OLD_TABLES.iter().find(|name| table.contains_key(**name)) else { return Ok(()) };
    Err(format!(
        "`{old}` at the top of a recipe is the old form; a recipe is now a list of stages in the order they run\n\
         hint: write each as a table of the list, with its inputs by name, such as\n\
         hint:   [[stage]]\n\
         hint:   kind = \"sft\"\n\
         hint:   data = [\"revise\", \"rehearse\"]\n\
         {SHIPPED}"
    ))
}

/// Sets `key=value`. A key is `NAME.KEY` (`dpo.epochs`) for a key of the stage of that name, else a key of the recipe itself
/// (`seed`, `lora.rank`). The value is read as TOML where it is TOML, else as text.
pub fn apply_override(table: &mut toml::Table, item: &str) -> Result<()> {
    let (key, value) = item
        .split_once('=')
        .ok_or_else(|| UsageError(format!("--set {item} has no =\nhint: --set sft.epochs=2")))?;
    let value = toml_value(value);
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let stages = table.get_mut("stage").and_then(toml::Value::as_array_mut);
    let stage = stages.and_then(|stages| {
        let tables = stages.iter_mut().filter_map(toml::Value::as_table_mut);
        tables.into_iter().find(|table| stage_name(table) == Some(first))
    });
    match stage {
        Some(stage) if !rest.is_empty() => set(stage, key, rest, value),
        _ => set(table, key, key, value),
    }
}

/// A stage's name: `name` where it is given, else `kind`.
pub fn stage_name(table: &toml::Table) -> Option<&str> {
    table.get("name").or_else(|| table.get("kind")).and_then(toml::Value::as_str)
}

/// A value as it is typed on the command line.
pub fn toml_value(text: &str) -> toml::Value {
    match format!("value = {text}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("value").unwrap_or_else(|| toml::Value::String(text.to_owned())),
        Err(_) => toml::Value::String(text.to_owned()),
    }
}

/// Sets a dotted key of a table.
pub fn set(table: &mut toml::Table, whole: &str, dotted: &str, value: toml::Value) -> Result<()> {
    let mut at = table;
    let parts: Vec<&str> = dotted.split('.').collect();
    for part in &parts[..parts.len() - 1] {
        let next = at.entry(*part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = next.as_table_mut().ok_or_else(|| UsageError(format!("--set {whole}: {part} is no table")))?;
    }
    at.insert(parts[parts.len() - 1].to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> toml::Table {
        "name = \"r\"\nmodel = \"m\"\n[[stage]]\nkind = \"sft\"\n[[stage]]\nkind = \"sft\"\nname = \"safety\"\n"
            .parse()
            .unwrap()
    }

    fn check(item: &str, at: impl Fn(&toml::Table) -> toml::Value, expected: toml::Value) {
        let mut table = table();
        apply_override(&mut table, item).unwrap();
        assert_eq!(at(&table), expected, "{item}");
    }

    #[test]
    fn an_override_finds_its_stage_by_name_and_keeps_types() {
        check("sft.epochs=7", |t| t["stage"][0]["epochs"].clone(), 7.into());
        check("safety.epochs=7", |t| t["stage"][1]["epochs"].clone(), 7.into());
        check("safety.sampling.top_p=0.5", |t| t["stage"][1]["sampling"]["top_p"].clone(), 0.5.into());
        check("model=some/folder", |t| t["model"].clone(), "some/folder".into());
        check("lora.rank=8", |t| t["lora"]["rank"].clone(), 8.into());
        assert!(apply_override(&mut table(), "sft.epochs").unwrap_err().to_string().contains("="));
    }

    #[test]
    fn alpha_is_twice_the_rank_where_it_is_left_out() {
        let lora = |text: &str| toml::from_str::<Lora>(text).map(|lora| (lora.rank.get(), lora.alpha));
        assert_eq!(lora("rank = 8"), Ok((8, 16.0)));
        assert_eq!(lora("alpha = 8.0"), Ok((16, 8.0)));
        assert_eq!(lora(""), Ok((16, 32.0)));
        assert!(lora("rank = 0").is_err() && lora("rnk = 8").is_err());
    }

    #[test]
    fn the_old_form_is_told_what_to_write_now() {
        let old: toml::Table = "name = \"q\"\ndeliver = \"ppo\"\n[sft]\nepochs = 1\n".parse().unwrap();
        let error = refuse_old_form(&old).unwrap_err();
        assert!(error.contains("[[stage]]") && error.contains("`sft`"), "{error}");
        assert_eq!(refuse_old_form(&table()), Ok(()));
    }
}
