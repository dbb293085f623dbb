//! `solon label`: the flags of labels by people.

use clap::Args;
use std::path::PathBuf;

/// Labels by people.
#[derive(Args)]
pub struct PersonArgs {
    /// Ask a person at the terminal and not the model. Several people may label the same pairs: each has a file OUT.votes.NAME.jsonl,
    /// and the labels are made from all of them
    #[arg(long, conflicts_with = "judge")]
    pub human: bool,
    /// Who labels [default: $USER, else "annotator"]. With --import: who voted where the file does not say [default: imported]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["judge", "set", "ask"])]
    pub annotator: Option<String>,
    /// Show this share of your pairs again later, in the other order and untold, to measure whether you say the same
    #[arg(long, value_name = "SHARE", requires = "human", allow_negative_numbers = true)]
    pub repeats: Option<f64>,
    /// Decide the pairs on which votes differ or tie. You vote first, then see what the others said; your verdict is the label
    #[arg(long, requires = "human", conflicts_with = "repeats")]
    pub adjudicate: bool,
    /// Take votes made elsewhere and ask nobody: a .csv table (prompt, and chosen and rejected, or response_a, response_b and label: a, b
    /// or tie; annotator and id if you like) or a .json or .jsonl export of Argilla
    #[arg(long, value_name = "FILE", conflicts_with_all = ["human", "model", "adapter", "judge"])]
    pub import: Option<PathBuf>,
    /// A column, field or question of the imported file that does not matter; may be repeated
    #[arg(long = "ignore-column", value_name = "NAME", requires = "import")]
    pub ignore_columns: Vec<String>,
    /// Print how far the votes agree as JSON on stdout; with --human the pairs are then shown on stderr
    #[arg(long, conflicts_with_all = ["judge", "set", "ask"])]
    pub json: bool,
}
