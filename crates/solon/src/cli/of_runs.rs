//! Commands that read the folder of a run.

use clap::{Args, ValueEnum};
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
    #[arg(long, required_unless_present = "model")]
    pub run: Option<PathBuf>,
    /// Folder for demonstrations.jsonl, preferences.jsonl, annotated-pairs.json (for Feedback Forensics), prompts.jsonl where a
    /// `red-team` stage wrote some, the data card README.md and, of a finished run, evaluations/: for each model that a stage evaluated a log of Inspect AI and a record of Every Eval
    /// Ever. With --gguf: the file
    #[arg(long)]
    pub out: PathBuf,
    /// A file of people's votes on pairs of the run, beside the output of `solon label --human`; its voters become annotators in
    /// annotated-pairs.json. It may be given several times
    #[arg(long, conflicts_with = "gguf")]
    pub votes: Vec<PathBuf>,
    /// Write a model as one GGUF file, for llama.cpp and Ollama, instead of data: the model that the run delivered, or that of
    /// --model. The value is the type of its matrices
    #[arg(long, value_name = "TYPE")]
    pub gguf: Option<GgufFlag>,
    /// With --gguf: write this model instead of a run's: a Hugging Face folder, a GGUF file or a catalogue name
    #[arg(long, conflicts_with = "run", requires = "gguf")]
    pub model: Option<String>,
    /// With --model: merge this PEFT adapter into it
    #[arg(long, value_name = "FOLDER", requires = "model")]
    pub adapter: Option<PathBuf>,
    /// With --adapter: write the adapter alone, unmerged, for llama.cpp's --lora; Ollama takes no adapters
    #[arg(long, requires = "adapter", conflicts_with = "ollama")]
    pub adapter_only: bool,
    /// With --gguf: write a Modelfile beside it, for `ollama create NAME -f Modelfile`
    #[arg(long, requires = "gguf")]
    pub ollama: bool,
}

/// The types of GGUF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GgufFlag {
    /// Exact; four bytes a weight
    F32,
    /// Rounded to IEEE's 16 bits
    F16,
    /// Rounded to bf16
    Bf16,
    /// 8.5 bits a weight
    #[value(name = "q8_0")]
    Q8_0,
    /// 4.5 bits a weight
    #[value(name = "q4_0")]
    Q4_0,
    /// About 4.8 bits a weight: more where they matter more
    #[value(name = "q4_k_m")]
    Q4KM,
}
