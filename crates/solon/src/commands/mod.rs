//! The subcommands, one file for each group. Data goes to stdout, everything else to stderr.

mod bench;
mod chat;
mod compare;
mod constitution;
mod critique;
mod data;
mod doctor;
mod eval;
mod explain;
mod export;
mod generate;
mod infer;
mod judge;
mod label;
mod one_stage;
mod push;
mod report;
mod run;
mod score;
mod serve;
mod train;
mod two_judges;

use crate::catalogue;
use crate::chat_template;
use crate::cli::{BenchCommand, Cli, Command, ModelArgs, PrecisionFlag, SamplingArgs, UsageError};
use crate::hub;
use crate::out::{Out, outln};
use anyhow::{Context, Result};
use clap::CommandFactory;
use solon_infer::chat::{ChatModel, OpenSettings};
use solon_kernels::Precision;
use solon_model::Training;
use solon_records::SamplingSettings;
use std::io::Write;

/// Runs the subcommand.
pub fn run(arguments: Cli) -> Result<()> {
    match arguments.command {
        Command::Generate(args) => with_threads(args.model.threads, || generate::run(&args)),
        Command::Score(args) => with_threads(args.model.threads, || score::run(&args)),
        Command::Run(args) => run::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Sft(args) => train::sft(&args),
        Command::Reward(args) => train::reward(&args),
        Command::Dpo(args) => train::dpo(&args),
        Command::Ppo(args) => train::ppo(&args),
        Command::Pull { name } => pull(name.as_deref()),
        Command::Bench(command) => {
            let threads = match &command {
                BenchCommand::Train(args) => args.model.threads,
                BenchCommand::Generate(args) => args.model.threads,
                BenchCommand::Gemm { threads, .. } => *threads,
            };
            with_threads(threads, || bench::run(&command))
        }
        Command::Doctor { json } => doctor::run(json),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "solon", &mut script);
            Ok(Out.write_all(&script)?)
        }
        Command::Chat(args) => with_threads(args.model.threads, || chat::run(&args)),
        Command::Constitution(command) => constitution::run(&command),
        Command::Critique(args) => critique::run(&args),
        Command::Label(args) => label::run(&args),
        Command::Judge(command) => judge::run(&command),
        Command::Data(command) => data::run(&command),
        Command::Explain(args) => explain::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Push(args) => push::run(&args),
    }
}

/// Runs `work` with this many threads; with all cores if `None`.
pub fn with_threads<T>(threads: Option<usize>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    match threads {
        Some(threads) => solon_kernels::threads::with_threads(threads, work),
        None => work(),
    }
}

/// The precision for a flag.
pub fn precision(flag: PrecisionFlag) -> Precision {
    match flag {
        PrecisionFlag::Auto => Precision::auto(),
        PrecisionFlag::Bf16 => Precision::Bf16,
        PrecisionFlag::F32 => Precision::F32,
    }
}

/// Opens a command's model, which is to write answers.
pub fn open(args: &ModelArgs, training: Training) -> Result<ChatModel> {
    let model = open_any(args, training)?;
    model.check_writes()?;
    Ok(model)
}

/// Opens a command's model, which may be a reward model.
pub fn open_any(args: &ModelArgs, training: Training) -> Result<ChatModel> {
    let path = catalogue::resolve(&args.model)?;
    let adapter = args.adapter.clone().map(catalogue::resolve_adapter).transpose()?;
    let settings = OpenSettings { precision: precision(args.precision), training };
    let mut model = ChatModel::open(&path, adapter.as_deref(), settings)
        .with_context(|| format!("model {}", args.model))?;
    chat_template::note_unused(&model.text, adapter.as_deref(), args.chat_template.as_deref());
    model.text = chat_template::replaced(model.text, args.chat_template.as_deref())?;
    Ok(model)
}

/// The sampling settings of a command.
pub fn sampling(args: &SamplingArgs) -> Result<SamplingSettings> {
    let sampling = SamplingSettings {
        max_new_tokens: args.max_new_tokens,
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        min_p: args.min_p,
        stop: args.stop.clone(),
    };
    // A message begins with the setting's name, which is also the flag's name but for the dashes.
    sampling.validate().map_err(|what| {
        let (name, rest) = what.split_once(' ').unwrap_or((&what, ""));
        UsageError(format!("--{} {rest}", name.replace('_', "-")))
    })?;
    Ok(sampling)
}

fn pull(name: Option<&str>) -> Result<()> {
    let Some(name) = name else {
        for entry in catalogue::CATALOGUE {
            outln!("{:<24} {}", entry.name, entry.about);
        }
        return Ok(());
    };
    if let Some(name) = hub::named(name) {
        outln!("{}", hub::get(hub::Wanted::Model, &name)?.display());
        return Ok(());
    }
    let entry = catalogue::CATALOGUE.iter().find(|entry| entry.name == name).ok_or_else(|| {
        UsageError(format!(
            "the catalogue has no model {name}\nhint: `solon pull` without a name lists the catalogue"
        ))
    })?;
    outln!("{}", catalogue::pull(entry)?.display());
    Ok(())
}
