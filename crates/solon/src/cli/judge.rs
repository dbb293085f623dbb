//! `solon judge`, and the flags of every command that may ask a judge.

use super::ranges::{above_zero, at_least_zero};
use super::{AskFlag, ModelArgs, StageArgs, WeightsArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `solon judge`.
#[derive(Subcommand)]
pub enum JudgeCommand {
    /// Label pairs that people have judged: accuracy beside chance, calibration, swap consistency, agreement between ways of
    /// asking
    #[command(
        after_help = "Examples:\n  solon judge report --data 438HHHEvaluations.jsonl --ask choice,rate,score\n  solon judge report --judge openai:qwen@http://127.0.0.1:8080/v1 --data my-labels.jsonl --data test.jsonl.gz --rows 200 --json"
    )]
    Report(Box<JudgeArgs>),
    /// Ask servers what they can do: whether they answer, how many log-probs they show, which models they list
    #[command(after_help = "Example:\n  solon judge probe --judge openai:qwen@http://127.0.0.1:8080/v1")]
    Probe(ProbeArgs),
}

/// Who is asked in place of the model; how, if it is on a server, and what that may cost.
#[derive(Args, Clone)]
#[command(next_help_heading = "A judge in place of --model")]
pub struct JudgeFlags {
    /// Ask this model in place of --model: local:MODEL, openai:NAME@URL or anthropic:NAME (keys are read from OPENAI_API_KEY and
    /// ANTHROPIC_API_KEY). The flags below are about one on a server
    #[arg(long, value_name = "JUDGE", conflicts_with_all = ["model", "adapter"])]
    pub judge: Option<String>,
    /// Questions asked at the same time [default: 8]
    #[arg(long, value_name = "N", requires = "judge")]
    pub concurrency: Option<u32>,
    /// How often a question is asked again where the server is busy or does not answer [default: 4]
    #[arg(long, value_name = "N", requires = "judge")]
    pub retries: Option<u32>,
    /// The longest wait for a reply of one token, in seconds; half a second more for each further token [default: 120]
    #[arg(long, value_name = "SECONDS", requires = "judge", allow_negative_numbers = true, value_parser = above_zero)]
    pub timeout: Option<f64>,
    /// The most requests in any minute
    #[arg(long, value_name = "N", requires = "judge")]
    pub requests_per_minute: Option<u32>,
    /// The most tokens in any minute, in and out
    #[arg(long, value_name = "N", requires = "judge")]
    pub tokens_per_minute: Option<u32>,
    /// Stop before so many tokens are used, in and out, earlier runs into the same place included
    #[arg(long, value_name = "N", requires = "judge")]
    pub budget_tokens: Option<u32>,
    /// Stop before it costs so much, earlier runs into the same place included
    #[arg(long, value_name = "MONEY", requires = "judge", allow_negative_numbers = true, value_parser = at_least_zero)]
    pub budget_cost: Option<f64>,
    /// The price of a million input tokens
    #[arg(long, value_name = "MONEY", requires = "budget_cost", allow_negative_numbers = true, value_parser = at_least_zero)]
    pub price_in: Option<f64>,
    /// The price of a million output tokens
    #[arg(long, value_name = "MONEY", requires = "budget_cost", allow_negative_numbers = true, value_parser = at_least_zero)]
    pub price_out: Option<f64>,
}

impl JudgeFlags {
    /// The limits as a recipe writes them.
    pub fn limits(&self) -> toml::Table {
        let numbers = [
            ("concurrency", self.concurrency),
            ("retries", self.retries),
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("budget_tokens", self.budget_tokens),
        ];
        let numbers = numbers.into_iter().filter_map(|(key, n)| Some((key, toml::Value::from(n?))));
        let others = [
            ("timeout", self.timeout),
            ("budget_cost", self.budget_cost),
            ("price_in", self.price_in),
            ("price_out", self.price_out),
        ];
        let others = others.into_iter().filter_map(|(key, x)| Some((key, toml::Value::from(x?))));
        numbers.chain(others).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// `solon judge probe`.
#[derive(Args)]
pub struct ProbeArgs {
    /// openai:NAME@URL (several servers: URL1,URL2) or anthropic:NAME; keys are read from OPENAI_API_KEY and ANTHROPIC_API_KEY
    #[arg(long, value_name = "JUDGE")]
    pub judge: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `solon judge report`.
#[derive(Args)]
pub struct JudgeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// A file of pairs that people have judged: preferences in any form that `reward` reads, hh-rlhf, PandaLM's test set, or the
    /// Constitutional AI paper's evals/*.jsonl; may be repeated
    #[arg(long, required = true, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// How it is asked, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [AskFlag::Choice])]
    pub ask: Vec<AskFlag>,
    /// Items of each file, evenly spaced; 0 takes all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub rows: usize,
    /// The constitution [default: the project's own]
    #[arg(long)]
    pub constitution: Option<PathBuf>,
    /// Seed of the principles drawn
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub stage: StageArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    // Last, because the flags after a heading stand under it.
    #[command(flatten)]
    pub judge: JudgeFlags,
}
