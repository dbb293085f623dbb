//! `solon data`.

use super::ranges::count;
use clap::{Args, Subcommand, ValueEnum};
use solon_data::records::Purpose;
use std::path::PathBuf;

/// What to do with files of training data.
#[derive(Subcommand)]
pub enum DataCommand {
    /// Say what a file holds, and what in it is probably a mistake; trains nothing
    ///
    /// The exit code is 1 where a file, or a row of it, would train something else than it says.
    #[command(
        after_help = "Examples:\n  solon data check pairs.jsonl\n  solon data check train.parquet --model runs/first/model --against test.jsonl\n  solon data check 'shards/*.parquet' org/demonstrations:train"
    )]
    Check(CheckDataArgs),
    /// Print the tokens that training on a file would see, and mark those that are learnt
    #[command(after_help = "Example:\n  solon data show demos.jsonl --rows 3")]
    Show(ShowDataArgs),
}

/// `solon data check`.
#[derive(Args)]
pub struct CheckDataArgs {
    /// The data: files of JSON Lines, JSON, CSV, Parquet or Arrow, compressed or not, named as training data is. Each file is looked
    /// over by itself, and rows that an earlier one has too are named
    #[arg(required = true, value_name = "DATA")]
    pub files: Vec<PathBuf>,
    /// What the files are for [default: what their first row says]
    #[arg(long = "as", value_enum, value_name = "PURPOSE")]
    pub purpose: Option<PurposeFlag>,
    /// Count the tokens of this model: a catalogue name, a Hugging Face folder or a GGUF file
    #[arg(long)]
    pub model: Option<String>,
    /// A chat template (Jinja) in place of the model's own
    #[arg(long, value_name = "FILE", requires = "model")]
    pub chat_template: Option<PathBuf>,
    /// Data to measure on, none of whose prompts is to be in the others; may be repeated
    #[arg(long, value_name = "DATA")]
    pub against: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `solon data show`.
#[derive(Args)]
pub struct ShowDataArgs {
    /// The data, named as training data is
    #[arg(value_name = "DATA")]
    pub file: PathBuf,
    /// What the file is for [default: what its first row says]
    #[arg(long = "as", value_enum, value_name = "PURPOSE")]
    pub purpose: Option<PurposeFlag>,
    /// Whose tokens: a catalogue name, a Hugging Face folder or a GGUF file
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub model: String,
    /// A chat template (Jinja) in place of the model's own
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// Number of rows, from the first
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count)]
    pub rows: usize,
    /// Print the ids and the mask as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PurposeFlag {
    /// Conversations to imitate, for `sft`
    Demonstrations,
    /// Pairs of answers, for `reward`, `dpo` and `label`
    Preferences,
    /// Conversations to answer, for `ppo` and `generate`
    Prompts,
}

impl From<PurposeFlag> for Purpose {
    fn from(flag: PurposeFlag) -> Self {
        match flag {
            PurposeFlag::Demonstrations => Self::Demonstrations,
            PurposeFlag::Preferences => Self::Preferences,
            PurposeFlag::Prompts => Self::Prompts,
        }
    }
}
