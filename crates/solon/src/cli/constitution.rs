//! `solon constitution`: what can be done with a constitution without a model.

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
