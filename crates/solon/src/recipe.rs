//! Recipes: a TOML file says what to do; every key is typed, unknown ones are refused, `--set a.b=c` overrides any.

use crate::assets;
use crate::cli::{PrecisionFlag, UsageError};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use solon_feedback::Ask;
use solon_records::SamplingSettings;
use std::path::{Path, PathBuf};

/// A recipe as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The run's name; its folder is `runs/NAME` unless `--out` says otherwise.
    pub name: String,
    /// Seed of every draw.
    pub seed: u64,
    /// Catalogue name, Hugging Face folder or GGUF file.
    pub model: String,
    /// The constitution's file.
    pub constitution: PathBuf,
    /// What products' inputs are rounded to: auto, bf16 or f32.
    #[serde(default = "auto")]
    pub precision: String,
    /// Memory that training may take, in GB: a pass is as large as fits, and activations are computed again where they do
    /// not. As much as a pass of 1,024 tokens needs when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_gb: Option<f64>,
    /// Worked examples used for warm-up, evenly spaced over the constitution's; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worked_examples: Option<usize>,
    /// Prompts to learn from and to be judged by.
    pub prompts: Prompts,
    /// Low-rank adapters, one for each trained role.
    pub lora: Lora,
    /// The critic adapter, warmed up on the constitution's worked examples.
    pub critic: Training,
    /// The model's first answers to red-team prompts, which are criticised and revised.
    pub respond: SamplingSettings,
    /// The model's answers to helpful prompts, which are learnt as they are, so that what it could do stays. The choice
    /// between answering and refusing falls in the first words: a beginning is enough.
    pub rehearse: SamplingSettings,
    /// Critique and revision.
    pub revise: Revise,
    /// Fine-tuning on revisions and helpful answers.
    pub sft: Training,
    /// Phase 2; left out, the run ends after SFT.
    pub preferences: Option<Preferences>,
    /// DPO on the labels; left out, it is not run.
    pub dpo: Option<Dpo>,
    /// The reward model PPO needs.
    pub reward: Option<Training>,
    /// PPO against the reward model; left out, it is not run.
    pub ppo: Option<Ppo>,
    /// The safety evaluation.
    pub evaluate: Evaluate,
    /// What is saved as `model/`: sft, dpo or ppo.
    pub deliver: String,
}

fn auto() -> String {
    "auto".to_owned()
}

/// Prompt files, and how many of each are taken from the start.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// Red-team prompts.
    pub red_team: PathBuf,
    /// Helpful prompts.
    pub helpful: PathBuf,
    /// Held-out prompts with kinds.
    pub evaluation: PathBuf,
    /// Red-team prompts used.
    pub red_team_count: usize,
    /// Helpful prompts used.
    pub helpful_count: usize,
}

/// Shape of every adapter.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Inner width.
    pub rank: usize,
    /// The update is scaled by alpha / rank.
    pub alpha: f32,
}

/// A pass over data.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Passes over the data.
    pub epochs: usize,
    /// Examples or pairs in a step.
    pub batch_size: usize,
}

/// Critique and revision.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Revise {
    /// Rounds of critique and revision.
    pub rounds: u32,
    /// How critiques are sampled.
    pub critique: SamplingSettings,
    /// How revisions are sampled.
    pub revision: SamplingSettings,
}

/// Sampling and labelling pairs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// Warm-up of the labeller on the constitution's worked examples and on contrasts.
    pub labeller: Training,
    /// How the labeller is asked: compare (two answers side by side, in both orders) or rate (each by itself, which a small
    /// model learns sooner).
    #[serde(default)]
    pub ask: Ask,
    /// Prompts of each file whose answers are contrasted with each other, so that the labeller learns when to refuse: a
    /// revision with what it revised, an answer with a needless refusal. 0 leaves it the worked examples alone.
    #[serde(default)]
    pub contrasts: usize,
    /// How the two answers of a pair are sampled.
    pub sample: SamplingSettings,
    /// Prompts from each of the two files, after those used before, as far as there are any.
    pub prompts_each: usize,
}

/// DPO.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Dpo {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Passes over the pairs.
    pub epochs: usize,
    /// Pairs in a step.
    pub batch_size: usize,
    /// Strength of the pull towards the SFT model.
    pub beta: f64,
}

/// PPO.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ppo {
    /// The policy's peak learning rate.
    pub learning_rate: f64,
    /// The critic's.
    pub critic_learning_rate: f64,
    /// Rollouts in an iteration.
    pub rollouts: usize,
    /// Passes over the prompts.
    pub epochs: usize,
    /// Prompts from each of the two files.
    pub prompts_each: usize,
    /// Most new tokens of an answer.
    pub max_new_tokens: usize,
    /// Rollouts are sampled at this temperature, and log-probs are taken at it.
    pub temperature: f64,
    /// Weight of the per-token KL to the SFT model.
    pub kl_coefficient: f64,
}

/// The safety evaluation.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluate {
    /// Most new tokens of an answer.
    pub max_new_tokens: usize,
    /// Held-out prompts of each kind, from the start; 0 takes all.
    #[serde(default)]
    pub limit_each: usize,
}

/// Where to look when a recipe is wrong.
const SHIPPED: &str =
    "recipes/quickstart.toml, which comes with Solon's source, is a whole recipe to compare with";

impl Recipe {
    /// Reads a recipe, applies `key=value` overrides and finds its files.
    pub fn open(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the recipe {}\nhint: {SHIPPED}", path.display()))?;
        let mut table: toml::Table =
            text.parse().map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        for item in overrides {
            apply_override(&mut table, item)?;
        }
        let mut recipe: Recipe = table.try_into().map_err(|error| {
            let error = error.to_string();
            UsageError(format!("{}: {}\nhint: {SHIPPED}", path.display(), error.trim_end()))
        })?;
        let here = path.canonicalize().with_context(|| format!("{}", path.display()))?;
        let folder = here.parent().unwrap_or(Path::new("."));
        let files = [
            &mut recipe.constitution,
            &mut recipe.prompts.red_team,
            &mut recipe.prompts.helpful,
            &mut recipe.prompts.evaluation,
        ];
        for file in files {
            *file = assets::find(file, &[folder])?;
        }
        recipe.check().map_err(|what| UsageError(format!("{}: {what}", path.display())))?;
        Ok(recipe)
    }

    /// The precision it asks for.
    pub fn precision(&self) -> Result<PrecisionFlag, String> {
        match self.precision.as_str() {
            "auto" => Ok(PrecisionFlag::Auto),
            "bf16" => Ok(PrecisionFlag::Bf16),
            "f32" => Ok(PrecisionFlag::F32),
            other => Err(format!("precision is {other:?}; give auto, bf16 or f32")),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.precision()?;
        let made = match self.deliver.as_str() {
            "sft" => true,
            "dpo" => self.dpo.is_some(),
            "ppo" => self.ppo.is_some(),
            other => return Err(format!("deliver is {other:?}; give sft, dpo or ppo")),
        };
        if !made {
            return Err(format!("deliver is {:?} but there is no [{}]", self.deliver, self.deliver));
        }
        if (self.dpo.is_some() || self.reward.is_some()) && self.preferences.is_none() {
            return Err("[dpo] and [reward] need the labels that [preferences] makes; add it".to_owned());
        }
        if self.ppo.is_some() && self.reward.is_none() {
            return Err("[ppo] needs a reward model; add [reward]".to_owned());
        }
        let sizes = [
            ("lora.rank", self.lora.rank),
            ("critic.batch_size", self.critic.batch_size),
            ("sft.batch_size", self.sft.batch_size),
            ("prompts.red_team_count", self.prompts.red_team_count),
            ("revise.rounds", self.revise.rounds as usize),
            ("evaluate.max_new_tokens", self.evaluate.max_new_tokens),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0; give at least 1"));
        }
        let mut samples = vec![
            ("respond", &self.respond),
            ("rehearse", &self.rehearse),
            ("revise.critique", &self.revise.critique),
            ("revise.revision", &self.revise.revision),
        ];
        let mut rates = vec![("critic", self.critic.learning_rate), ("sft", self.sft.learning_rate)];
        if let Some(preferences) = &self.preferences {
            samples.push(("preferences.sample", &preferences.sample));
            rates.push(("preferences.labeller", preferences.labeller.learning_rate));
            if preferences.prompts_each == 0 {
                return Err("preferences.prompts_each is 0; give at least 1".to_owned());
            }
            let answered = self.prompts.red_team_count.min(self.prompts.helpful_count);
            if preferences.contrasts > answered {
                return Err(format!(
                    "preferences.contrasts is {}; give at most {answered}, the smaller of prompts.red_team_count and \
                     prompts.helpful_count",
                    preferences.contrasts
                ));
            }
        }
        for (name, sample) in samples {
            sample.validate().map_err(|what| format!("{name}.{what}"))?;
        }
        rates.extend(self.dpo.iter().map(|dpo| ("dpo", dpo.learning_rate)));
        rates.extend(self.reward.iter().map(|reward| ("reward", reward.learning_rate)));
        rates.extend(self.ppo.iter().map(|ppo| ("ppo", ppo.learning_rate)));
        if let Some((name, rate)) = rates.iter().find(|(_, rate)| !(rate.is_finite() && *rate > 0.0)) {
            return Err(format!("{name}.learning_rate is {rate}; give a number above 0"));
        }
        let above_zero = [
            ("dpo.beta", self.dpo.map(|dpo| dpo.beta)),
            ("ppo.temperature", self.ppo.map(|ppo| ppo.temperature)),
        ];
        for (name, value) in above_zero {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(format!("{name} is {value}; give a number above 0"));
            }
        }
        Ok(())
    }
}

/// Sets `a.b=c`; `c` is read as TOML where it is TOML, else as text.
fn apply_override(table: &mut toml::Table, item: &str) -> Result<()> {
    let (key, value) = item
        .split_once('=')
        .ok_or_else(|| UsageError(format!("--set {item} has no =\nhint: --set sft.epochs=2")))?;
    let value = match format!("value = {value}").parse::<toml::Table>() {
        Ok(mut parsed) => parsed.remove("value").unwrap_or(toml::Value::String(value.to_owned())),
        Err(_) => toml::Value::String(value.to_owned()),
    };
    let mut at = table;
    let parts: Vec<&str> = key.split('.').collect();
    for part in &parts[..parts.len() - 1] {
        let next = at.entry(*part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = next.as_table_mut().ok_or_else(|| UsageError(format!("--set {key}: {part} is no table")))?;
    }
    at.insert(parts[parts.len() - 1].to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quickstart() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/quickstart.toml")
    }

    #[test]
    fn shipped_recipes_are_valid() {
        for name in ["quickstart.toml", "ci.toml"] {
            Recipe::open(&quickstart().with_file_name(name), &[]).unwrap();
        }
    }

    #[test]
    fn overrides_reach_nested_keys_and_keep_types() {
        let set = ["sft.epochs=7".to_owned(), "model=some/folder".to_owned(), "seed=3".to_owned()];
        let recipe = Recipe::open(&quickstart(), &set).unwrap();
        assert_eq!((recipe.sft.epochs, recipe.model.as_str(), recipe.seed), (7, "some/folder", 3));
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        let error = |set: &str| Recipe::open(&quickstart(), &[set.to_owned()]).unwrap_err().to_string();
        assert!(error("sft.epoch=7").contains("epoch"));
        assert!(error("deliver=rloo").contains("deliver"));
        assert!(error("lora.rank=0").contains("lora.rank"));
        assert!(error("ppo.temperature=0").contains("ppo.temperature"));
        assert!(error("respond.temperature=-1").contains("respond.temperature"));
        assert!(error("dpo.learning_rate=0").contains("dpo.learning_rate"));
        assert!(error("sft.epochs").contains("="));
    }
}
