//! Commands that read the folder of a run.

use clap::Args;
use std::path::PathBuf;

/// `solon explain`.
#[derive(Args)]
pub struct ExplainArgs {
    /// The id of an item of the ledger
    pub item: String,
    /// The run's folder
    #[arg(long)]
    pub run: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `solon report`.
#[derive(Args)]
pub struct ReportArgs {
    /// The run's folder
    #[arg(long)]
    pub run: PathBuf,
}

/// `solon push`.
#[derive(Args)]
pub struct PushArgs {
    /// The run's folder: its delivered model is pushed, with its model card
    #[arg(long, required_unless_present = "model", conflicts_with = "model")]
    pub run: Option<PathBuf>,
    /// Folder of a model or an adapter
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// The repository; it is made if it is not there
    #[arg(long, value_name = "ORG/NAME")]
    pub to: String,
    /// Let everybody read the repository
    #[arg(long)]
    pub public: bool,
    /// What the commit says
    #[arg(long, default_value = "Upload with Solon")]
    pub message: String,
}

/// `solon export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The run's folder
    #[arg(long)]
    pub run: PathBuf,
    /// Folder for demonstrations.jsonl, preferences.jsonl, annotated-pairs.json (for Feedback Forensics), prompts.jsonl where a
    /// `red-team` stage wrote some, the data card README.md and, of a finished run, evaluations/: for each model that a stage evaluated a log of Inspect AI and a record of Every Eval
    /// Ever
    #[arg(long)]
    pub out: PathBuf,
    /// A file of people's votes on pairs of the run, beside the output of `solon label --human`; its voters become annotators in
    /// annotated-pairs.json. It may be given several times
    #[arg(long)]
    pub votes: Vec<PathBuf>,
}
