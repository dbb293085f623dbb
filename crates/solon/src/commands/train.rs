//! `solon sft`, `reward`, `dpo` and `ppo`: recipes of one training stage, with files in and an adapter or a model out.
//!
//! `--out` is the run's folder and holds what was trained, so the same command resumes a training that was broken off.

use super::one_stage::{OneStage, as_toml};
use crate::cli::{DpoArgs, PpoArgs, TrainArgs};
use crate::out::Out;
use crate::recipe::Lora;
use crate::run::peak_memory_bytes;
use anyhow::Result;
use serde_json::json;
use std::io::Write;

/// `solon sft`.
pub fn sft(args: &TrainArgs) -> Result<()> {
    run("sft", args, stage("sft", "data", args)?)
}

/// `solon reward`.
pub fn reward(args: &TrainArgs) -> Result<()> {
    run("reward", args, stage("reward", "pairs", args)?)
}

/// `solon dpo`.
pub fn dpo(args: &DpoArgs) -> Result<()> {
    run("dpo", &args.train, stage("dpo", "pairs", &args.train)?.key("beta", args.beta))
}

/// `solon ppo`.
pub fn ppo(args: &PpoArgs) -> Result<()> {
    let stage = stage("ppo", "prompts", &args.train)?
        .file("reward_model", &args.reward_model)?
        .key("kl_coefficient", args.kl_coefficient)
        .key("temperature", args.temperature)
        .key("max_new_tokens", args.max_new_tokens.map(as_toml));
    run("ppo", &args.train, stage)
}

/// The stage that the flags of every trainer describe; `data` is the key of its data.
fn stage(kind: &str, data: &str, args: &TrainArgs) -> Result<OneStage> {
    let stage = OneStage::new(kind, &args.model)?
        .recipe(|recipe| {
            recipe.seed = args.seed;
            recipe.memory_gb = args.memory_gb;
            recipe.lora = Lora::of_rank(args.rank);
        })
        .data(data, &args.data)?
        .key("method", args.method.map(|method| method.name()))
        .key("learning_rate", args.learning_rate)
        .key("epochs", args.epochs.map(as_toml))
        .key("batch_size", args.batch.map(as_toml));
    Ok(stage)
}

/// Runs the stage and puts what it trained into `--out`.
fn run(name: &str, args: &TrainArgs, stage: OneStage) -> Result<()> {
    let stage = stage.set(&args.set)?;
    stage.run(Some(&args.out), |run, done| {
        let worked = done.worked.contains(name);
        if worked || !run.is_published(name, &args.out, args.merge)? {
            run.publish(name, &args.out, args.merge)?;
            eprintln!("saved {}", args.out.display());
        } else {
            eprintln!("{name}: already done in {}", args.out.display());
        }
        if args.json {
            let out = args.out.display().to_string();
            let told = match worked {
                false => json!({"out": out, "already_done": true}),
                true => {
                    let detail = run.detail(name)?;
                    let (seconds, tokens) = (detail["seconds"].as_f64(), detail["tokens"].as_f64());
                    json!({
                        "out": out, "already_done": false, "held_out": detail["held_out"], "seconds": seconds, "tokens": detail["tokens"],
                        "tokens_per_s": tokens.zip(seconds).map(|(tokens, seconds)| tokens / seconds),
                        "peak_rss_bytes": peak_memory_bytes(),
                    })
                }
            };
            writeln!(Out, "{told}")?;
        }
        Ok(())
    })
}
