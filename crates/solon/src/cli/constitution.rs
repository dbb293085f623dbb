//! `solon constitution`: what can be done with a constitution without a model, and one inferred with a model.

use super::places::file;
use super::ranges::count;
use super::{JudgeFlags, ModelArgs, StageArgs, WeightsArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `solon constitution`.
#[derive(Subcommand)]
pub enum ConstitutionCommand {
    /// Check a constitution: how many principles of which kind it has, its hash, and what is probably a mistake
    ///
    /// The exit code is 0 where the file can be used, with or without warnings, and 2 where it cannot.
    #[command(
        after_help = "Examples:\n  solon constitution check\n  solon constitution check constitutions/tutor.toml\n  solon constitution check CritiqueRevisionInstructions.json --json"
    )]
    Check(CheckArgs),
    /// Show a constitution's principles, or one of its entries in full
    #[command(
        after_help = "Examples:\n  solon constitution show\n  solon constitution show constitutions/default.toml no-crime\n  solon constitution show patience.txt --prompts > prompts.jsonl\n  solon constitution show prompts --json > constitution.json"
    )]
    Show(ShowArgs),
    /// Show which entries were added, removed or changed from A to B, by their ids, and by their texts where ids differ
    #[command(
        after_help = "Examples:\n  solon constitution diff constitutions/tutor.toml mine.toml\n  solon constitution diff mine.toml --json"
    )]
    Diff(DiffArgs),
    /// Infer principles that explain given preferences: propose, cluster, vote, keep what predicts
    ///
    /// A model proposes rules for pairs, and says by each rule which answer of each pair is better. Rules that predict the preferences
    /// are written as a constitution. Pairs that nothing has seen before measure them: the table says how often each is right
    /// there, and how much of the preferences it explains. Where nothing predicts better than chance, no constitution is
    /// written; that is a result, and the exit code is 0.
    #[command(
        after_help = "Examples:\n  solon constitution infer --pairs labels.jsonl --out mine.toml --judge openai:NAME@http://127.0.0.1:8080/v1\n  solon constitution infer --pairs labels.jsonl --out mine.toml --rows 200 --principles 3 --json"
    )]
    Infer(Box<InferArgs>),
}

/// `solon constitution infer`.
#[derive(Args)]
pub struct InferArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// The preferences, in any form that `reward` reads, named as training data is
    #[arg(long, required = true, num_args = 1.., value_name = "DATA")]
    pub pairs: Vec<PathBuf>,
    /// The constitution that is written, TOML
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub out: PathBuf,
    /// The most principles that are kept
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count)]
    pub principles: usize,
    /// Rules that are asked for at a time; each pair is asked about twice
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count)]
    pub proposals: usize,
    /// Pairs that are used, evenly spaced; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rows: usize,
    /// Every so many-th conversation is kept back to measure
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub hold_out_every: usize,
    /// Seed of the order in which answers are shown, and of what is sampled
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The run is kept in OUT.run where --run names no other folder
    #[command(flatten)]
    pub stage: StageArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    // Last, because the flags after a heading stand under it.
    #[command(flatten)]
    pub judge: JudgeFlags,
}

/// `solon constitution check`.
#[derive(Args)]
pub struct CheckArgs {
    /// The constitution: TOML, JSON, or a folder of published files; constitutions/README.md lists the forms [default: the
    /// project's own]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `solon constitution show`.
#[derive(Args)]
pub struct ShowArgs {
    /// The constitution: TOML, JSON, or a folder of published files [default: the project's own]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The id of an entry, which is shown in full
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Print its prompts as JSONL of {"id", "prompt", "category"}, for a recipe; the category is the id of the principle
    #[arg(long, conflicts_with_all = ["id", "json"])]
    pub prompts: bool,
    /// Print JSON; of a whole constitution it is a file that can be used in place of the one that was read
    #[arg(long)]
    pub json: bool,
}

/// `solon constitution diff`.
#[derive(Args)]
pub struct DiffArgs {
    /// The constitution before
    #[arg(value_name = "A")]
    pub first: PathBuf,
    /// The constitution after [default: the project's own]
    #[arg(value_name = "B")]
    pub second: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
