//! Command line: commands and flags, their help, and how errors are printed.

mod bench;
mod constitution;
mod data;
mod eval;
mod judge;
mod label;
mod of_runs;
mod person;
mod places;
mod ranges;
mod serve;

pub use bench::{AdapterFlag, BenchCommand, BenchGenerateArgs, BenchModelArgs, BenchTrainArgs};
pub use constitution::{CheckArgs, ConstitutionCommand, DiffArgs, InferArgs, ShowArgs};
pub use data::{CheckDataArgs, DataCommand, ShowDataArgs};
pub use eval::{CompareArgs, EvalArgs, EvalCommand};
pub use judge::{JudgeArgs, JudgeCommand, JudgeFlags, ProbeArgs};
pub use label::{AskFlag, LabelArgs};
pub use of_runs::{ExplainArgs, ExportArgs, GgufFlag, PushArgs, ReportArgs};
pub use person::PersonArgs;
pub use serve::ServeArgs;

use self::places::run_folder;
use self::ranges::{above_zero, at_least_zero, count, threads};
use anyhow::Error;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use solon_model::{Training, Weights};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// From a constitution to an aligned, evaluated model in one command.
#[derive(Parser)]
#[command(name = "solon", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// Every subcommand.
#[derive(Subcommand)]
pub enum Command {
    /// Run a recipe: takes a constitution and a model, gives an aligned model, its evaluation and a report
    #[command(
        after_help = "Examples:\n  solon run recipes/quickstart.toml --plan\n  solon run recipes/quickstart.toml --out runs/first --set seed=7 --set sft.epochs=2\n  solon run recipes/quickstart.toml --preregister thresholds.toml\n\nA file of thresholds:\n  [[threshold]]\n  stage = \"evaluate\"\n  model = \"dpo\"\n  measure = \"harmful_compliance\"\n  at_most = 0.1"
    )]
    Run(RunArgs),
    /// Download a model of the catalogue or of the Hugging Face Hub into the cache and print its path
    #[command(
        after_help = "Examples:\n  solon pull smollm2-135m-instruct\n  solon pull HuggingFaceTB/SmolLM2-360M-Instruct\n\nThe Hub's cache, token and address are those of its official client: HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE."
    )]
    Pull {
        /// A catalogue name, or ORG/NAME[@REVISION][:FILE.gguf]; without it, the catalogue is listed
        name: Option<String>,
    },
    /// Answer prompts: reads rows of `prompt` or `messages`, writes one JSON row for each
    #[command(
        after_help = "Example:\n  solon generate --model smollm2-135m-instruct --prompts prompts.jsonl --max-new-tokens 64 --temperature 0"
    )]
    Generate(GenerateArgs),
    /// Log-probs of given completions, or their rewards by a reward model: reads rows of `prompt` and `completion`, writes one JSON
    /// row for each
    #[command(
        after_help = "Example:\n  solon score --model smollm2-135m-instruct --input rows.jsonl --precision f32"
    )]
    Score(ScoreArgs),
    /// Talk to a model in the terminal
    #[command(after_help = "Example:\n  solon chat --model runs/first/model")]
    Chat(ChatArgs),
    /// Serve a model over HTTP with OpenAI's API: chat completions, completions with log-probs, streaming
    ///
    /// If the environment variable SOLON_API_KEY is set, clients must send it as their key.
    #[command(
        after_help = "Example:\n  solon serve --model runs/first/model --port 8080\n  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'"
    )]
    Serve(ServeArgs),
    /// Evaluate a model on a benchmark, or compare two files of results
    #[command(
        after_help = "Examples:\n  solon eval safety --model runs/first/model --json\n  solon eval mmlu --data mmlu --subjects anatomy,astronomy --shots 5 --no-chat-template\n  solon eval truthfulqa --data v0/mc_task.json --limit 100 --samples samples.jsonl\n  solon eval xstest --data xstest_prompts.csv --inspect-log log.json --every-eval-ever record.json\n  solon eval harmbench --data harmbench --judge local:judge-a --judge openai:judge-b@http://localhost:8000/v1\n  solon eval compare before.jsonl after.jsonl"
    )]
    Eval(Box<EvalArgs>),
    /// Check, show and compare constitutions, without a model; infer one from preferences, with a model
    #[command(
        subcommand,
        after_help = "Examples:\n  solon constitution check constitutions/tutor.toml\n  solon constitution show\n  solon constitution diff constitutions/tutor.toml mine.toml\n  solon constitution infer --pairs labels.jsonl --out mine.toml"
    )]
    Constitution(ConstitutionCommand),
    /// Critique and revise answers by a constitution: reads rows with `prompt` and `answer`, writes critiques and
    /// revisions
    #[command(
        after_help = "Example:\n  solon critique --model smollm2-135m-instruct --adapter runs/first/checkpoints/critic --input answers.jsonl"
    )]
    Critique(CritiqueArgs),
    /// Label preference pairs, by a model or by people, or take votes made elsewhere
    #[command(
        after_help = "Examples:\n  solon label --input pairs.jsonl --out labelled.jsonl --model smollm2-135m-instruct\n  solon label --judge openai:NAME@http://127.0.0.1:8080/v1 --input pairs.jsonl --out labelled.jsonl\n  solon label --human --annotator ann --repeats 0.1 --input pairs.jsonl --out labelled.jsonl\n  solon label --human --adjudicate --annotator eve --input pairs.jsonl --out labelled.jsonl\n  solon label --import votes.csv --out labelled.jsonl"
    )]
    Label(LabelArgs),
    /// Measure how far a judge agrees with people, before its labels are used
    #[command(subcommand)]
    Judge(JudgeCommand),
    /// Look over training data without training: what a file holds, its mistakes, its tokens and what of them is learnt
    #[command(subcommand)]
    Data(DataCommand),
    /// Supervised fine-tuning on demonstrations (TRL's formats)
    #[command(
        after_help = "Example:\n  solon sft --model smollm2-135m-instruct --data demos.jsonl --out sft\n  solon sft --model Qwen/Qwen2.5-0.5B-Instruct --data org/name:train --out sft"
    )]
    Sft(TrainArgs),
    /// Train a reward model on preference pairs (TRL's formats, soft labels in `probability`)
    #[command(
        after_help = "Example:\n  solon reward --model smollm2-135m-instruct --data pairs.jsonl --out reward"
    )]
    Reward(TrainArgs),
    /// Direct preference optimisation on preference pairs
    #[command(
        after_help = "Example:\n  solon dpo --model smollm2-135m-instruct --data pairs.jsonl --out dpo"
    )]
    Dpo(DpoArgs),
    /// PPO against a reward model, with a KL penalty to the starting model
    #[command(
        after_help = "Example:\n  solon ppo --model smollm2-135m-instruct --reward-model reward --data prompts.jsonl --out ppo"
    )]
    Ppo(PpoArgs),
    /// Show the trail of an item: what it was made from, and what was made from it
    #[command(after_help = "Example:\n  solon explain revise/rt-001/2 --run runs/first")]
    Explain(ExplainArgs),
    /// Write the report of a run again, and the model card; nothing is computed
    #[command(after_help = "Example:\n  solon report --run runs/first")]
    Report(ReportArgs),
    /// Write a run's demonstrations and preference pairs in TRL's formats, and its evaluations for Inspect AI and Every Eval Ever;
    /// or a model as a GGUF file for llama.cpp and Ollama
    #[command(after_help = "Examples:\n  solon export --run runs/first --out exported\n  \
                      solon export --run runs/first --gguf q4_k_m --ollama --out exported/first.gguf\n  \
                      solon export --model smollm2-135m-instruct --adapter dpo --gguf f16 --out dpo.gguf")]
    Export(ExportArgs),
    /// Push a run's delivered model, or a folder, to the Hugging Face Hub, with its model card
    #[command(
        after_help = "Examples:\n  solon push --run runs/first --to org/name\n  solon push --model dpo --to org/name --public\n\nIt needs a token that may write, in HF_TOKEN or from `hf auth login`."
    )]
    Push(PushArgs),
    /// Measure the speed of this machine: tokens per second, and what limits them
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Show what this machine supports, and check that everything Solon uses is installed
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  solon completions bash > /etc/bash_completion.d/solon")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Number format of the inputs of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionFlag {
    /// bf16 where the processor multiplies it faster than f32, else f32
    #[default]
    Auto,
    /// Always bf16
    Bf16,
    /// Always f32
    F32,
}

/// Flags of all commands that run a model.
#[derive(Args, Clone)]
pub struct ModelArgs {
    /// Catalogue name, Hugging Face folder, GGUF file, or ORG/NAME[@REVISION][:FILE.gguf] of the Hugging Face Hub
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub model: String,
    /// A PEFT adapter for the model: a folder, or ORG/NAME[@REVISION] of the Hub
    #[arg(long)]
    pub adapter: Option<PathBuf>,
    /// A chat template (Jinja) in place of the model's own; it is saved with what is trained
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// Number format to which inputs of matrix products are rounded
    #[arg(long, value_enum, default_value_t)]
    pub precision: PrecisionFlag,
    /// Number of threads [default: all cores]. The result does not depend on it
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
}

/// Weight format of a model that is not trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightsFlag {
    /// The same format as --precision
    #[default]
    Full,
    /// int8, with one scale for each output channel; log-probs differ a little
    Int8,
}

impl WeightsFlag {
    /// The name as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            WeightsFlag::Full => "full",
            WeightsFlag::Int8 => "int8",
        }
    }
}

impl From<WeightsFlag> for Training {
    fn from(flag: WeightsFlag) -> Self {
        match flag {
            WeightsFlag::Full => Self::None(Weights::Full),
            WeightsFlag::Int8 => Self::None(Weights::Int8),
        }
    }
}

/// Flag of the commands that run a model and do not train it.
#[derive(Args, Clone, Copy)]
pub struct WeightsArgs {
    /// Format of the model's weights; an adapter's weights are always full
    #[arg(long, value_enum, default_value_t)]
    pub weights: WeightsFlag,
}

/// `solon run`.
#[derive(Args)]
pub struct RunArgs {
    /// The recipe, a TOML file
    pub recipe: PathBuf,
    /// The run's folder. If it holds an interrupted run, the run is resumed
    #[arg(long, value_parser = run_folder)]
    pub out: Option<PathBuf>,
    /// Override a setting: NAME.KEY=VALUE for the stage called NAME, KEY=VALUE for the recipe; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Hold the run to the thresholds in this TOML file. They and the hashes of what the evaluations read are frozen in the
    /// run's folder before anything is trained; every later change of the training counts as another attempt
    #[arg(long, value_name = "FILE")]
    pub preregister: Option<PathBuf>,
    /// Print the stages and whether each is done, resumed or new; compute nothing
    #[arg(long)]
    pub plan: bool,
    /// Stop after this stage
    #[arg(long, value_name = "NAME")]
    pub until: Option<String>,
    /// Number of threads [default: all cores]. The result does not depend on it
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    /// Print the summary, or with --plan the plan, as JSON
    #[arg(long)]
    pub json: bool,
}

/// How tokens are sampled.
#[derive(Args, Clone)]
pub struct SamplingArgs {
    /// Largest number of new tokens in an answer
    #[arg(long, default_value_t = 128, value_parser = count)]
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 is greedy
    #[arg(long, default_value_t = 0.7, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all
    #[arg(long, default_value_t = 0)]
    pub top_k: usize,
    /// Keep the most likely tokens whose probabilities add up to this
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f32,
    /// Keep tokens that are at least this fraction as likely as the most likely one
    #[arg(long, default_value_t = 0.0)]
    pub min_p: f32,
    /// Seed of all random draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// End an answer at this string; may be repeated
    #[arg(long)]
    pub stop: Vec<String>,
    /// Number of answers sampled at the same time. The result does not depend on it
    #[arg(long, default_value_t = 32, value_parser = count)]
    pub batch: usize,
}

/// `solon generate`.
#[derive(Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// The prompts: JSON Lines, JSON, CSV, Parquet or Arrow, named as training data is
    #[arg(long, required = true, num_args = 1.., value_name = "DATA")]
    pub prompts: Vec<PathBuf>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// `solon score`.
#[derive(Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Rows of `prompt` and `completion`, or other demonstrations with one answer: JSON Lines, JSON, CSV, Parquet or Arrow, named as
    /// training data is
    #[arg(long, required = true, num_args = 1.., value_name = "DATA")]
    pub input: Vec<PathBuf>,
}

/// `solon chat`.
#[derive(Args)]
pub struct ChatArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// Flags of all commands that run a recipe of one stage.
#[derive(Args, Clone)]
pub struct StageArgs {
    /// Set a key of the stage, as in a recipe; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Keep the run in this folder; then the same command resumes it. Without it nothing is kept, replies of servers included
    #[arg(long = "run", value_name = "FOLDER", value_parser = run_folder)]
    pub run: Option<PathBuf>,
}

/// `solon critique`.
#[derive(Args)]
pub struct CritiqueArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// The constitution [default: the project's own]
    #[arg(long)]
    pub constitution: Option<PathBuf>,
    /// Rows of `prompt` and `answer`: JSON Lines, JSON, CSV, Parquet or Arrow, named as training data is
    #[arg(long, required = true, num_args = 1.., value_name = "DATA")]
    pub input: Vec<PathBuf>,
    /// Rounds of critique and revision
    #[arg(long, default_value_t = 1, value_parser = count)]
    pub rounds: usize,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    #[command(flatten)]
    pub stage: StageArgs,
    // Last, because the flags after a heading stand under it.
    #[command(flatten)]
    pub judge: JudgeFlags,
}

/// Which parameters are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MethodFlag {
    /// Low-rank adapters on every matrix
    Lora,
    /// All weights
    Full,
}

impl MethodFlag {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            MethodFlag::Lora => "lora",
            MethodFlag::Full => "full",
        }
    }
}

/// Flags of all training commands. A flag that is not given takes the stage's default, as in a recipe.
#[derive(Args, Clone)]
pub struct TrainArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Training data: files, patterns such as 'shards/*.parquet', a folder with one split, or ORG/NAME[@REVISION][:SPLIT or :FILE]
    /// of the Hub. Several are read as one
    #[arg(long, required = true, num_args = 1.., value_name = "DATA")]
    pub data: Vec<PathBuf>,
    /// Folder for the result: a PEFT adapter, or a Hugging Face folder with --method full or --merge
    #[arg(long, value_parser = run_folder)]
    pub out: PathBuf,
    /// Which parameters are trained [default: lora]
    #[arg(long, value_enum)]
    pub method: Option<MethodFlag>,
    /// Save the whole model with the adapter merged in
    #[arg(long)]
    pub merge: bool,
    /// LoRA rank; alpha is twice that
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(15))]
    pub rank: NonZeroUsize,
    /// Peak learning rate [default: depends on the method]
    #[arg(long, allow_negative_numbers = true, value_parser = above_zero)]
    pub learning_rate: Option<f64>,
    /// Passes over the data [default: 1]
    #[arg(long, value_parser = count)]
    pub epochs: Option<usize>,
    /// Number of examples, pairs or prompts in a step [default: 16]
    #[arg(long, value_parser = count)]
    pub batch: Option<usize>,
    /// Seed of all random draws
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Memory budget of training, in GB; passes are made as large as fits. The last bits of the result depend on it
    #[arg(long, allow_negative_numbers = true, value_parser = above_zero)]
    pub memory_gb: Option<f64>,
    /// Set a key of the stage, as in a recipe, such as schedule=linear or optimizer.beta2=0.95; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the time and memory that training took, as JSON
    #[arg(long)]
    pub json: bool,
}

/// `solon dpo`.
#[derive(Args)]
pub struct DpoArgs {
    #[command(flatten)]
    pub train: TrainArgs,
    /// DPO's beta: how strongly the model is kept near the starting model [default: 0.1]
    #[arg(long, allow_negative_numbers = true, value_parser = above_zero)]
    pub beta: Option<f64>,
}

/// `solon ppo`.
#[derive(Args)]
pub struct PpoArgs {
    #[command(flatten)]
    pub train: TrainArgs,
    /// The reward model's adapter, made by `solon reward` on the same model
    #[arg(long)]
    pub reward_model: PathBuf,
    /// Weight of the per-token KL to the starting model [default: the preset's, 0.05]
    #[arg(long, allow_negative_numbers = true, value_parser = at_least_zero)]
    pub kl_coefficient: Option<f64>,
    /// Sampling temperature of rollouts; log-probs are computed at the same temperature [default: the preset's, 0.7]
    #[arg(long)]
    pub temperature: Option<f64>,
    /// Largest number of new tokens in an answer [default: 64]
    #[arg(long, value_parser = count)]
    pub max_new_tokens: Option<usize>,
}

/// An error in the command or its input files, found before anything runs: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Prints an error with its causes on one line, then their hints.
pub fn print_error(error: &Error) {
    let (mut said, mut hints): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for cause in error.chain() {
        let text = cause.to_string();
        let (hint, rest): (Vec<&str>, Vec<&str>) =
            text.split('\n').partition(|line| line.starts_with("hint:"));
        let rest = rest.join("\n");
        // Libraries often repeat their cause's message at the end of their own.
        if !said.last().is_some_and(|before| before.ends_with(&rest)) {
            said.push(rest);
        }
        for hint in hint {
            if !hints.iter().any(|known| known == hint) {
                hints.push(hint.to_owned());
            }
        }
    }
    let full = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull)
            || cause.downcast_ref::<solon_data::ledger::LedgerError>().is_some_and(|e| e.may_be_full())
    };
    if error.chain().any(full) {
        hints.push(
            "hint: if the disk is full or the size of files is limited, free some space; the same command resumes the run where it was"
                .into(),
        );
    }
    eprintln!("error: {}", said.join(": "));
    for hint in hints {
        eprintln!("{hint}");
    }
}

/// 2 for an error in the command, 1 for everything else.
pub fn exit_code(error: &Error) -> u8 {
    if error.chain().any(|cause| cause.is::<UsageError>()) { 2 } else { 1 }
}
