//! `solon eval`: the flags of all benchmarks. Each is a key of the benchmark's; one that it does not have is refused. And
//! `solon eval compare`.

use super::places::file;
use super::{ModelArgs, StageArgs, WeightsArgs};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use solon_eval::benchmarks;
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// `solon eval`.
#[derive(Args, Clone)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct EvalArgs {
    /// What is done with results; without it a benchmark is run.
    #[command(subcommand)]
    pub command: Option<EvalCommand>,
    /// The benchmark, or a file that ends with .toml: a benchmark of your own
    #[arg(value_parser = BenchmarkParser, required = true)]
    pub benchmark: Option<String>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub weights: WeightsArgs,
    /// safety, honesty: a JSONL file of prompts, {"id", "prompt", "kind", "category"} [default: the project's development
    /// prompts]
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// All other benchmarks: the published data file, or its folder
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Largest number of new tokens in an answer [default: 128; truthfulqa-gen 256, harmbench and strong-reject 512, mt-bench 1024, ifeval 1280]
    #[arg(long, value_name = "N")]
    pub max_new_tokens: Option<NonZeroUsize>,
    /// Where options are scored: put the questions as plain text, without the model's chat template
    #[arg(long)]
    pub no_chat_template: bool,
    /// mmlu: subjects, separated by commas [default: all 57, or all in a folder of your own subjects]
    #[arg(long, value_delimiter = ',')]
    pub subjects: Option<Vec<String>>,
    /// mmlu: questions with their answers before each question [default: 0]; toml: so many of its examples [default: all]
    #[arg(long, value_name = "N")]
    pub shots: Option<usize>,
    /// mmlu: `letters` scores A to D, `continuation` the text of each choice, `cloze` the same for each of its characters;
    /// `generative` lets the model write the letter [default: letters]
    #[arg(long)]
    pub format: Option<String>,
    /// harmbench, strong-reject, mt-bench, toml: who judges: local:MODEL, openai:NAME@URL (several servers of one model:
    /// URL1,URL2; a key is read from OPENAI_API_KEY) or anthropic:NAME (the key from ANTHROPIC_API_KEY). Given twice, two judge
    /// beside each other, with their agreement
    #[arg(long, value_name = "JUDGE")]
    pub judge: Vec<String>,
    /// With a judge: a folder with `jailbreakbench`, `xstest` or both: the judge is first measured on these labelled
    /// answers [default: the first of the two folders above --data that holds one; else it is not measured]
    #[arg(long, value_name = "FOLDER")]
    pub judge_labels: Option<PathBuf>,
    /// With a judge: labelled answers of each set that the judge is measured on; 0 takes all [default: 100]
    #[arg(long, value_name = "N")]
    pub judge_rows: Option<usize>,
    /// mt-bench: the file of reference answers, without its ending [default: gpt-4]
    #[arg(long, value_name = "NAME")]
    pub references: Option<String>,
    /// harmbench: a JSON list of jailbreaks, in which each behaviour is asked for, in place of asking directly
    #[arg(long, value_name = "FILE")]
    pub templates: Option<PathBuf>,
    /// mt-bench: compare with these answers of another model, in FastChat's format, in place of grading
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// mt-bench: where a reference is known to be wrong, ask the judge with a corrected one too, and show both scores
    #[arg(long)]
    pub corrected_references: bool,
    /// Ask only the first so many items of the whole benchmark [default: all]
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,
    /// Number of items asked at the same time. The result does not depend on it
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(63))]
    pub batch: NonZeroUsize,
    /// safety: measures the refusal rule on XSTest's human-labelled completions in this folder; not the benchmark `xstest`
    #[arg(long, value_name = "FOLDER")]
    pub xstest: Option<PathBuf>,
    /// Write a JSONL row for each item to this file
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub samples: Option<PathBuf>,
    /// Write a log of Inspect AI to this file (JSON, version 2); its name is to end with .json
    #[arg(long, value_name = "FILE", value_parser = json_file)]
    pub inspect_log: Option<PathBuf>,
    /// Write a record of Every Eval Ever to this file (JSON, schema 0.3.0)
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub every_eval_ever: Option<PathBuf>,
    #[command(flatten)]
    pub stage: StageArgs,
    /// Print JSON. For safety and honesty it includes every answer
    #[arg(long)]
    pub json: bool,
}

/// What is done with results that are there.
#[derive(Subcommand, Clone)]
pub enum EvalCommand {
    /// Compare two files of results item by item; no model is run
    #[command(
        after_help = "Examples:\n  solon eval compare before.jsonl after.jsonl\n  solon eval compare samples.jsonl lm_eval_output/MODEL --json"
    )]
    Compare(CompareArgs),
}

/// `solon eval compare`.
#[derive(Args, Clone)]
pub struct CompareArgs {
    /// What `solon eval --samples` wrote, or lm-evaluation-harness's samples_TASK_DATE.jsonl (`--log_samples`), or the folder
    /// that holds several of them
    #[arg(value_name = "A")]
    pub first: PathBuf,
    /// The same; differences are B - A
    #[arg(value_name = "B")]
    pub second: PathBuf,
    /// Show so many of the items that differ
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub show: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Inspect tells its formats apart by the ending.
fn json_file(path: &str) -> Result<PathBuf, String> {
    match path.ends_with(".json") {
        true => file(path),
        false => Err("its name is to end with .json, or Inspect does not read it".to_owned()),
    }
}

/// A name in the list of all, or a file.
#[derive(Clone)]
struct BenchmarkParser;

impl TypedValueParser for BenchmarkParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        match value.to_str() {
            Some(file) if file.ends_with(".toml") => Ok(file.to_owned()),
            _ => PossibleValuesParser::from(names()).parse_ref(command, arg, value),
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(names().into_iter()))
    }
}

fn names() -> Vec<PossibleValue> {
    let shown = |known: &benchmarks::Known| {
        let about = match known.data {
            "" => format!("{} (--prompts)", known.about),
            data => format!("{} (--data: {data})", known.about),
        };
        PossibleValue::new(known.name).help(about)
    };
    benchmarks::ALL.iter().map(shown).collect()
}
