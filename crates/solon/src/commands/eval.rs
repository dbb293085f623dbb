//! `solon eval`: a recipe of one evaluation of one model.

use super::compare;
use super::one_stage::OneStage;
use super::two_judges;
use crate::assets;
use crate::cli::{EvalArgs, EvalCommand, UsageError};
use crate::out::{out, outln};
use crate::run::{Evaluated, Run};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use solon_data::files::write_bytes_atomically;
use solon_eval::Summary;
use solon_eval::agreement::measure_on_xstest;
use solon_eval::benchmarks::{self, Open};
use solon_eval::formats::{Provenance, every_eval_ever, inspect_log};
use solon_eval::judge::labels::sets;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Runs the benchmark that was asked for, or compares results.
pub fn run(args: &EvalArgs) -> Result<()> {
    if let Some(EvalCommand::Compare(args)) = &args.command {
        return compare::run(args);
    }
    let args = &named(args.clone())?;
    // The parser has made sure that one of the two is there.
    let name = args.benchmark.as_deref().unwrap_or_default();
    let over_prompts = matches!(benchmarks::find(name)?.open, Open::Prompts(_));
    if args.judge.len() > 1 && (args.inspect_log.is_some() || args.every_eval_ever.is_some()) {
        let what = "--inspect-log and --every-eval-ever hold the figures of one judge\nhint: give one --judge at a time";
        return Err(UsageError(what.to_owned()).into());
    }
    if args.xstest.is_some() && name != "safety" {
        return Err(UsageError("--xstest measures the refusal rule of `safety`".to_owned()).into());
    }
    let agreement = args.xstest.as_deref().map(measure_on_xstest).transpose()?;
    stage(args, over_prompts)?.run(args.stage.run.as_deref(), |run, _| {
        let columns: Vec<Summary> =
            run.columns("evaluate")?.into_iter().map(|column| column.summary).collect();
        let (summary, second) = match &columns[..] {
            [summary] => (summary, None),
            [summary, second] => (summary, Some(second)),
            _ => bail!("one model was evaluated, and there are {} columns", columns.len()),
        };
        let agreements = run.reader("evaluate")?.agreements()?;
        if let Some(file) = &args.samples {
            let rows = match second {
                None => samples(summary)?,
                Some(second) => two_judges::samples(summary, second)?,
            };
            write_bytes_atomically(file, rows.as_bytes()).with_context(|| file.display().to_string())?;
        }
        formats(args, run)?;
        if args.json {
            let mut value = match second {
                Some(second) => two_judges::fractions(summary, second, &agreements)?,
                None if over_prompts => serde_json::to_value(summary)?,
                None => fractions(summary),
            };
            if let (Some(object), Some(agreement)) = (value.as_object_mut(), &agreement) {
                object.insert("rule_agreement".to_owned(), serde_json::to_value(agreement)?);
            }
            outln!("{}", serde_json::to_string_pretty(&value)?);
        } else if let Some(second) = second {
            outln!("{}\n", ran(run)?);
            out!("{}", two_judges::shown(summary, second, &agreements)?);
        } else {
            outln!("{}\n\n{summary}", ran(run)?);
            if let Some(agreement) = &agreement {
                outln!("\n{agreement}");
            }
        }
        Ok(())
    })
}

/// What was run, in a line: without it nobody gets the same table again.
fn ran(run: &Run) -> Result<String> {
    let Evaluated { provenance, .. } = one_of(run)?;
    let settings = provenance.settings.iter().filter(|(_, value)| !value.is_null());
    let settings: Vec<String> = settings.map(|(key, value)| format!("{key} {value}")).collect();
    Ok(format!("{}, {}, {}: {}", provenance.model, provenance.precision, provenance.isa, settings.join(", ")))
}

/// The evaluation of the one model, of two judges the first's.
fn one_of(run: &Run) -> Result<Evaluated> {
    run.evaluated()?.into_iter().next().context("one model was evaluated")
}

/// `eval own.toml` is `eval toml --data own.toml`.
fn named(mut args: EvalArgs) -> Result<EvalArgs> {
    if let Some(file) = args.benchmark.clone().filter(|name| name.ends_with(".toml")) {
        if args.data.is_some() {
            let what = format!("{file} is the benchmark's file\nhint: leave --data out");
            return Err(UsageError(what).into());
        }
        args.data = Some(PathBuf::from(file));
        args.benchmark = Some("toml".to_owned());
    }
    Ok(args)
}

/// The stage, with the keys that flags were given for.
fn stage(args: &EvalArgs, over_prompts: bool) -> Result<OneStage> {
    let judge = match &args.judge[..] {
        [] => None,
        [judge] => Some(toml::Value::from(judge.as_str())),
        judges => Some(judges.to_vec().into()),
    };
    let number = |n: Option<usize>| n.map(i64::try_from).transpose();
    let stage = OneStage::new("evaluate", &args.model)?
        .recipe(|recipe| recipe.weights = args.weights.weights)
        .batch(Some(args.batch))
        .key("benchmark", args.benchmark.clone())
        .key("models", Some("base"))
        .key("max_new_tokens", number(args.max_new_tokens.map(NonZeroUsize::get))?)
        .key("template", args.no_chat_template.then_some(false))
        .key("subjects", args.subjects.clone())
        .key("shots", number(args.shots)?)
        .key("format", args.format.clone())
        .key("references", args.references.clone())
        .key("corrected_references", args.corrected_references.then_some(true))
        .key("judge", judge)
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
    args.judge.first()?;
    let data = std::path::absolute(args.data.as_ref()?).ok()?;
    // Of a file, the folder that its folder lies in.
    data.ancestors().skip(1).take(2).find(|folder| !sets(folder).is_empty()).map(Path::to_owned)
}

/// Writes the results in the forms of other programs.
fn formats(args: &EvalArgs, run: &Run) -> Result<()> {
    if args.inspect_log.is_none() && args.every_eval_ever.is_none() {
        return Ok(());
    }
    let Evaluated { summary, provenance, .. } = one_of(run)?;
    for (file, form) in [
        (&args.inspect_log, inspect_log as fn(&Summary, &Provenance) -> Value),
        (&args.every_eval_ever, every_eval_ever),
    ] {
        if let Some(file) = file {
            write_json(file, &form(&summary, &provenance))?;
        }
    }
    Ok(())
}

/// Writes a file that appears whole or not at all.
pub fn write_json(file: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    write_bytes_atomically(file, text.as_bytes()).with_context(|| file.display().to_string())
}

/// A row for each item. Of items with options it is what other harnesses log, the choice and the log-probs, and what makes
/// two files comparable: which option is right, and what was found.
fn samples(summary: &Summary) -> Result<String> {
    let mut rows = String::new();
    for judged in &summary.items {
        let log_probs = &judged.answer.log_probs;
        let row = match log_probs.is_empty() {
            true => serde_json::to_value(judged)?,
            false => {
                json!({
                    "id": judged.item.id,
                    "choice": judged.answer.choice(),
                    "loglikelihoods": log_probs,
                    "right": judged.item.right,
                    "outcomes": judged.judgement.outcomes,
                })
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
