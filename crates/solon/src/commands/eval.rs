//! `solon eval`: a recipe of one evaluation of one model.

use super::one_stage::OneStage;
use crate::assets;
use crate::cli::{EvalArgs, UsageError};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use solon_data::files::write_bytes_atomically;
use solon_eval::Summary;
use solon_eval::agreement::measure_on_xstest;
use solon_eval::benchmarks::{self, Open};
use solon_eval::judge::labels::sets;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Runs the benchmark that was asked for.
pub fn run(args: &EvalArgs) -> Result<()> {
    let args = &named(args.clone())?;
    let over_prompts = matches!(benchmarks::find(&args.benchmark)?.open, Open::Prompts(_));
    if args.xstest.is_some() && args.benchmark != "safety" {
        return Err(UsageError("--xstest measures the refusal rule of `safety`".to_owned()).into());
    }
    let agreement = args.xstest.as_deref().map(measure_on_xstest).transpose()?;
    stage(args, over_prompts)?.run(args.stage.run.as_deref(), |run, _| {
        let (_, summary) =
            run.summaries("evaluate")?.into_iter().next().context("one model was evaluated")?;
        if let Some(file) = &args.samples {
            write_bytes_atomically(file, samples(&summary)?.as_bytes())
                .with_context(|| file.display().to_string())?;
        }
        if args.json {
            let mut value = if over_prompts { serde_json::to_value(&summary)? } else { fractions(&summary) };
            if let (Some(object), Some(agreement)) = (value.as_object_mut(), &agreement) {
                object.insert("rule_agreement".to_owned(), serde_json::to_value(agreement)?);
            }
            println!("{}", serde_json::to_string_pretty(&value)?);
        } else {
            println!("{summary}");
            if let Some(agreement) = &agreement {
                println!("\n{agreement}");
            }
        }
        Ok(())
    })
}

/// `eval own.toml` is `eval toml --data own.toml`.
fn named(mut args: EvalArgs) -> Result<EvalArgs> {
    if args.benchmark.ends_with(".toml") {
        if args.data.is_some() {
            let what = format!("{} is the benchmark's file\nhint: leave --data out", args.benchmark);
            return Err(UsageError(what).into());
        }
        args.data = Some(PathBuf::from(&args.benchmark));
        args.benchmark = "toml".to_owned();
    }
    Ok(args)
}

/// The stage, with the keys that flags were given for.
fn stage(args: &EvalArgs, over_prompts: bool) -> Result<OneStage> {
    let number = |n: Option<usize>| n.map(i64::try_from).transpose();
    let stage = OneStage::new("evaluate", &args.model)?
        .recipe(|recipe| recipe.weights = args.weights.weights)
        .batch(Some(args.batch))
        .key("benchmark", Some(args.benchmark.as_str()))
        .key("models", Some("base"))
        .key("max_new_tokens", number(args.max_new_tokens.map(NonZeroUsize::get))?)
        .key("template", args.no_chat_template.then_some(false))
        .key("subjects", args.subjects.clone())
        .key("shots", number(args.shots)?)
        .key("format", args.format.clone())
        .key("references", args.references.clone())
        .key("corrected_references", args.corrected_references.then_some(true))
        .key("judge", args.judge.clone())
        .key("judge_rows", number(args.judge_rows)?)
        .key("limit", number(args.limit.map(NonZeroUsize::get))?);
    let stage = match &args.data {
        Some(data) => stage.file("data", data)?,
        None => stage,
    };
    let files = [("against", &args.against), ("templates", &args.templates)];
    let stage = files.into_iter().try_fold(stage, |stage, (key, file)| match file {
        Some(file) => stage.file(key, file),
        None => Ok(stage),
    })?;
    let labels = args.judge_labels.clone().or_else(|| labels_beside(args));
    let stage = match &labels {
        Some(labels) => stage.file("judge_labels", labels)?,
        None => stage,
    };
    let stage = match (&args.prompts, over_prompts) {
        (None, false) => stage,
        (given, _) => {
            stage.file("prompts", &assets::path_or_default(given.as_deref(), assets::EVALUATION_PROMPTS)?)?
        }
    };
    stage.set(&args.stage.set)
}

/// The folder that the data lies in, where a judge is to be measured and labelled answers are there.
fn labels_beside(args: &EvalArgs) -> Option<PathBuf> {
    args.judge.as_ref()?;
    let data = std::path::absolute(args.data.as_ref()?).ok()?;
    // Of a file, the folder that its folder lies in.
    data.ancestors().skip(1).take(2).find(|folder| !sets(folder).is_empty()).map(Path::to_owned)
}

/// A row for each item. Of items with options it is what other harnesses log: the choice and the log-probs.
fn samples(summary: &Summary) -> Result<String> {
    let mut rows = String::new();
    for judged in &summary.items {
        let log_probs = &judged.answer.log_probs;
        let row = match log_probs.is_empty() {
            true => serde_json::to_value(judged)?,
            false => {
                json!({"id": judged.item.id, "choice": judged.answer.choice(), "loglikelihoods": log_probs})
            }
        };
        rows.push_str(&serde_json::to_string(&row)?);
        rows.push('\n');
    }
    Ok(rows)
}

/// Each measure as a number, which is what programs compare; the intervals and the categories beside.
fn fractions(summary: &Summary) -> Value {
    let figures = summary.measures.iter().filter_map(|m| Some((m.key, summary.figure(m.key)?)));
    let mut all: Map<String, Value> =
        figures.clone().map(|(key, figure)| (key.to_owned(), json!(figure.value()))).collect();
    all.insert("rule".to_owned(), json!(summary.figures.rule));
    all.insert("items".to_owned(), json!(summary.items.len()));
    if let Some(diversity) = &summary.diversity {
        all.insert("diversity".to_owned(), json!(diversity));
    }
    if let Some(judge) = &summary.judge {
        all.insert("judge".to_owned(), json!(judge));
    }
    all.insert("figures".to_owned(), figures.map(|(key, figure)| (key.to_owned(), json!(figure))).collect());
    all.insert("by_category".to_owned(), json!(summary.by_category));
    Value::Object(all)
}
