//! `solon run`: the stages of Constitutional AI (Bai et al. 2022), each a function of its inputs' hashes and its settings.
//!
//! ```text
//! critic ─▶ respond ─▶ revise ─▶ sft ─▶ contrast ─▶ labeller
//!                                  └──▶ sample ─▶ label ─▶ reward ─▶ ppo
//!                                                   └────▶ dpo
//!                        evaluate after each ─▶ report.html, summary.json, model/
//! ```
//!
//! Every trained role (critic, labeller, policy, reward model) is a LoRA adapter on one frozen decoder.

mod labeller;
mod phase1;
mod phase2;
mod report_data;
mod results;
mod stages;

use crate::catalogue;
use crate::cli::RunArgs;
use crate::commands::{precision, with_threads};
use crate::memory::Pass;
use crate::recipe::Recipe;
use crate::run_folder::{RunFolder, model_hash, settings_hash, stop_on_interrupt};
use anyhow::{Context, Result, bail};
use solon_data::files::{sha256_parts, write_bytes_atomically};
use solon_data::records::read_prompts;
use solon_draws::Draws;
use solon_feedback::Constitution;
use solon_infer::chat::{ChatModel, OpenSettings};
use solon_kernels::isa::isa;
use solon_model::{Adapter, Cpu, Training};
use solon_records::Prompt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything the stages share.
pub struct Pipeline {
    recipe: Recipe,
    constitution: Constitution,
    /// Shared, so that a stage may hold an engine on it while it writes to the run.
    model: Arc<ChatModel>,
    run: RunFolder,
    red_team: Vec<Prompt>,
    helpful: Vec<Prompt>,
    evaluation: Vec<Prompt>,
    /// Hash of what every stage depends on: weights, instruction set, precision, seed, adapter shape.
    base_hash: String,
    model_sha256: String,
}

/// An adapter a stage trained, with the hash of its file.
pub struct Trained {
    adapter: Adapter<Cpu>,
    score: Option<Vec<f32>>,
    hash: String,
}

/// Runs a recipe to its end.
pub fn run(args: &RunArgs) -> Result<()> {
    let recipe = Recipe::open(&args.recipe, &args.set)?;
    stop_on_interrupt()?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    with_threads(args.threads, || {
        let mut pipeline = Pipeline::open(recipe, &out)?;
        let summary = pipeline.run_stages()?;
        if args.json {
            println!("{}", serde_json::to_string_pretty(&summary)?);
        }
        Ok(())
    })
}

impl Pipeline {
    fn open(recipe: Recipe, out: &Path) -> Result<Self> {
        let mut constitution = Constitution::open(&recipe.constitution)?;
        if let Some(count) = recipe.worked_examples {
            constitution.example = evenly_spaced(constitution.example, count);
        }
        let red_team = read_single_turns(&recipe.prompts.red_team)?;
        let helpful = read_single_turns(&recipe.prompts.helpful)?;
        let ids: std::collections::HashSet<&str> = red_team.iter().map(|p| p.id.as_str()).collect();
        if let Some(prompt) = helpful.iter().find(|p| ids.contains(p.id.as_str())) {
            bail!(
                "the id `{}` stands in {} and in {}\nhint: give every prompt an `id` of its own",
                prompt.id,
                recipe.prompts.red_team.display(),
                recipe.prompts.helpful.display()
            );
        }
        let evaluation = limit_each(read_prompts(&recipe.prompts.evaluation)?, recipe.evaluate.limit_each);
        let path = catalogue::resolve(&recipe.model)?;
        let settings = OpenSettings {
            precision: precision(recipe.precision().map_err(anyhow::Error::msg)?),
            training: Training::Frozen,
        };
        let model = Arc::new(ChatModel::open(&path, None, settings)?);
        let model_sha256 = model_hash(&path)?;
        let run = RunFolder::open(out)?;
        let frozen = toml::to_string_pretty(&recipe).context("the recipe cannot be written as TOML")?;
        write_bytes_atomically(&out.join("recipe.toml"), frozen.as_bytes())?;
        let precision = settings.precision.name();
        // Refused before anything is computed.
        Pass::within(
            recipe.memory_gb,
            model.config(),
            Some(recipe.lora.rank),
            model.decoder.backend().precision(),
        )?;
        let base_hash = sha256_parts([
            isa().name(),
            precision,
            &model_sha256,
            &recipe.seed.to_string(),
            &settings_hash(&(&recipe.lora, recipe.memory_gb))?,
        ]);
        Ok(Self { recipe, constitution, model, run, red_team, helpful, evaluation, base_hash, model_sha256 })
    }

    /// The key of a stage's draws.
    fn draws(&self, stage: &str) -> Draws {
        Draws::new(self.recipe.seed, stage)
    }
}

/// `count` of the items, evenly spaced; all where there are no more.
fn evenly_spaced<T>(items: Vec<T>, count: usize) -> Vec<T> {
    let total = items.len();
    let chosen: std::collections::BTreeSet<usize> =
        (0..count.min(total)).map(|i| i * total / count.min(total)).collect();
    items.into_iter().enumerate().filter(|(i, _)| chosen.contains(i)).map(|(_, item)| item).collect()
}

/// The first `limit` prompts of each kind; 0 takes all.
fn limit_each(prompts: Vec<Prompt>, limit: usize) -> Vec<Prompt> {
    let mut counts = std::collections::BTreeMap::new();
    prompts
        .into_iter()
        .filter(|prompt| {
            let count = counts.entry(prompt.kind.clone()).or_insert(0);
            *count += 1;
            limit == 0 || *count <= limit
        })
        .collect()
}

/// The prompts of a training file, each one turn: the stages ask nothing else.
fn read_single_turns(path: &Path) -> Result<Vec<Prompt>> {
    let prompts = read_prompts(path)?;
    if let Some(prompt) = prompts.iter().find(|prompt| prompt.messages.len() != 1) {
        bail!(
            "{}: prompt `{}` has {} messages; a recipe's prompts are single turns of the user\nhint: keep the rows \
             with one message",
            path.display(),
            prompt.id,
            prompt.messages.len()
        );
    }
    Ok(prompts)
}
