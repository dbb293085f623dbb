//! Flags of `solon bench`.

use super::ranges::{above_zero, count, threads};
use super::{PrecisionFlag, WeightsArgs};
use clap::{Args, Subcommand, ValueEnum};

/// The benchmarks.
#[derive(Subcommand)]
pub enum BenchCommand {
    /// Time steps of supervised fine-tuning on random tokens
    #[command(
        after_help = "Example:\n  solon bench train --model smollm2-135m-instruct --adapter lora --batch 4 --length 256 --json"
    )]
    Train(BenchTrainArgs),
    /// Time generation after random prompts; the rate counts new tokens only, the time includes the prompts
    #[command(
        after_help = "Example:\n  solon bench generate --model smollm2-135m-instruct --batch 32 --prompt-tokens 64 --new-tokens 64 --json"
    )]
    Generate(BenchGenerateArgs),
    /// Time matrix products with the shapes of a small decoder
    #[command(after_help = "Example:\n  solon bench gemm --json")]
    Gemm {
        /// Number of rounds, ten products each; the median of all is printed
        #[arg(long, default_value_t = 5, value_parser = count)]
        repeats: usize,
        /// Number of threads [default: all cores]
        #[arg(long, value_parser = threads)]
        threads: Option<usize>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Flags of the benchmarks that run a model.
#[derive(Args)]
pub struct BenchModelArgs {
    /// Catalogue name, Hugging Face folder, GGUF file, or ORG/NAME[@REVISION][:FILE.gguf] of the Hugging Face Hub
    #[arg(long, default_value = "smollm2-135m-instruct")]
    pub model: String,
    /// Number format to which inputs of matrix products are rounded
    #[arg(long, value_enum, default_value_t)]
    pub precision: PrecisionFlag,
    /// Number of threads [default: all cores]
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    /// Number of timed repeats; the median is printed
    #[arg(long, default_value_t = 5, value_parser = count)]
    pub repeats: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// An adapter that is trained instead of all weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AdapterFlag {
    /// Low-rank adapters on every matrix
    Lora,
}

/// `solon bench train`.
#[derive(Args)]
pub struct BenchTrainArgs {
    #[command(flatten)]
    pub model: BenchModelArgs,
    /// Train an adapter [default: all weights]
    #[arg(long, value_enum)]
    pub adapter: Option<AdapterFlag>,
    /// LoRA rank
    #[arg(long, default_value_t = 16, value_parser = count)]
    pub rank: usize,
    /// Sequences in a step
    #[arg(long, default_value_t = 4, value_parser = count)]
    pub batch: usize,
    /// Tokens in a sequence
    #[arg(long, default_value_t = 256, value_parser = count)]
    pub length: usize,
    /// Memory budget of training, in GB; passes are made as large as fits
    #[arg(long, allow_negative_numbers = true, value_parser = above_zero)]
    pub memory_gb: Option<f64>,
}

/// `solon bench generate`.
#[derive(Args)]
pub struct BenchGenerateArgs {
    #[command(flatten)]
    pub model: BenchModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// Number of requests, all at the same time
    #[arg(long, default_value_t = 32, value_parser = count)]
    pub batch: usize,
    /// Tokens of each request's own prompt
    #[arg(long, default_value_t = 64)]
    pub prompt_tokens: usize,
    /// Tokens of a prefix that all prompts share, before their own tokens
    #[arg(long, default_value_t = 0)]
    pub shared_tokens: usize,
    /// Compute the shared prefix again for each prompt
    #[arg(long)]
    pub no_sharing: bool,
    /// Tokens generated for each request
    #[arg(long, default_value_t = 64, value_parser = count)]
    pub new_tokens: usize,
}
