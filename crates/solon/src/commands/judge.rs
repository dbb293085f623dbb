//! `solon judge`: how far a judge can be believed, before its labels are used.

use super::one_stage::OneStage;
use crate::assets;
use crate::cli::{JudgeArgs, JudgeCommand, ProbeArgs, UsageError};
use crate::out::{out, outln};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use solon_remote::{Interface, Remote, RemoteSettings};

/// Measures a judge.
pub fn run(command: &JudgeCommand) -> Result<()> {
    match command {
        JudgeCommand::Report(args) => report(args),
        JudgeCommand::Probe(args) => probe(args),
    }
}

/// Says what servers can do.
fn probe(args: &ProbeArgs) -> Result<()> {
    let settings = RemoteSettings::named(&args.judge).map_err(|error| UsageError(error.to_string()))?;
    let remote = Remote::new(settings).map_err(|error| UsageError(error.to_string()))?;
    let found = remote.probe(Interface::Chat)?;
    // A server that only chats is a whole answer too.
    let texts = match args.judge.starts_with("openai:") {
        true => remote.probe(Interface::Completions).ok(),
        false => None,
    };
    if !args.json {
        outln!("{found}");
        if let Some(texts) = &texts {
            outln!("{texts}");
        }
        return Ok(());
    }
    let endpoints = found.endpoints.iter().enumerate().map(|(at, endpoint)| {
        let texts = texts.as_ref().map(|texts| &texts.endpoints[at]);
        json!({
            "url": endpoint.url,
            "chat": endpoint.answers.is_ok(),
            "error": endpoint.answers.as_ref().err(),
            "log_probs": endpoint.log_probs,
            "continues_texts": texts.is_some_and(|texts| texts.answers.is_ok()),
            "log_probs_after_texts": texts.map_or(0, |texts| texts.log_probs),
            "differences": endpoint.differences,
            "models": endpoint.models,
        })
    });
    outln!("{}", serde_json::to_string_pretty(&endpoints.collect::<Vec<_>>())?);
    Ok(())
}

fn report(args: &JudgeArgs) -> Result<()> {
    let constitution = assets::path_or_default(args.constitution.as_deref(), assets::CONSTITUTION)?;
    let mut files = Vec::with_capacity(args.data.len());
    for file in &args.data {
        let path = std::path::absolute(file).with_context(|| file.display().to_string())?;
        files.push(path.display().to_string());
    }
    let stage = OneStage::new("measure", &args.model)?
        .recipe(|recipe| {
            recipe.seed = args.seed;
            recipe.weights = args.weights.weights;
            recipe.constitution = Some(constitution);
        })
        .judge("labeller", &args.judge)
        .key("data", Some(files))
        .key("ask", Some(args.ask.iter().map(|ask| ask.name()).collect::<Vec<_>>()))
        .key("rows", Some(i64::try_from(args.rows)?))
        .set(&args.stage.set)?;
    stage.run(args.stage.run.as_deref(), |run, _| {
        let detail = run.reader("measure")?.detail()?;
        match args.json {
            true => outln!("{}", serde_json::to_string_pretty(&detail)?),
            false => out!("{}", table(&detail)),
        }
        Ok(())
    })
}

/// The figures as a table, and what the report says of each.
fn table(detail: &Value) -> String {
    let percent = |value: &Value| value.as_f64().map_or("-".to_owned(), |x| format!("{:.1}", 100.0 * x));
    let number = |value: &Value| value.as_f64().map_or("-".to_owned(), |x| format!("{x:.2}"));
    let mut text = format!(
        "{:<28} {:<10} {:>6} {:>8} {:>15} {:>7} {:>6} {:>8} {:>8} {:>10}\n",
        "set",
        "ask",
        "items",
        "right %",
        "95 % interval",
        "chance",
        "kappa",
        "calibr.",
        "swap %",
        "unlabelled"
    );
    let mut said = String::new();
    for set in detail["sets"].as_array().into_iter().flatten() {
        let name = set["set"].as_str().unwrap_or_default();
        for way in set["ways"].as_array().into_iter().flatten() {
            let (accuracy, report) = (&way["accuracy"], &way["report"]);
            let ask = way["ask"].as_str().unwrap_or_default();
            let interval = format!("{} to {}", percent(&accuracy["low"]), percent(&accuracy["high"]));
            let unlabelled: u64 =
                way["unlabelled"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
            text += &format!(
                "{name:<28} {ask:<10} {:>6} {:>8} {interval:>15} {:>7} {:>6} {:>8} {:>8} {unlabelled:>10}\n",
                accuracy["total"],
                percent(&accuracy["rate"]),
                percent(&set["chance"]),
                number(&report["known"]["kappa"]),
                number(&report["known"]["debiased_calibration_error"]),
                percent(&report["known_labels"]["swap"]["consistency"]),
            );
            if let Some(warning) = report["warning"].as_str() {
                said += &format!("{name}, {ask}: {warning}\n");
            }
        }
    }
    format!(
        "{text}\nright: of the items with a label. kappa: agreement with people beyond chance. calibr.: how far its confidence is off, 0 at \
         best.\nswap: keeps its choice where the two answers change places; a guesser does on half.\n\n{said}"
    )
}
