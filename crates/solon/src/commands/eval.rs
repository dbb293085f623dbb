//! `solon eval`: a recipe of one evaluation of one model.

use super::one_stage::OneStage;
use crate::assets;
use crate::cli::{EvalArgs, UsageError};
use anyhow::{Context, Result};
use solon_eval::agreement::measure_on_xstest;

/// Runs the benchmark that was asked for.
pub fn run(args: &EvalArgs) -> Result<()> {
    let prompts = assets::path_or_default(args.prompts.as_deref(), assets::EVALUATION_PROMPTS)?;
    let max_new_tokens = i64::try_from(args.max_new_tokens).map_err(|error| UsageError(error.to_string()))?;
    let stage = OneStage::new("evaluate", &args.model)?
        .recipe(|recipe| recipe.weights = args.weights.weights)
        .batch(Some(args.batch))
        .key("benchmark", Some(args.benchmark.as_str()))
        .key("models", Some("base"))
        .key("max_new_tokens", Some(max_new_tokens))
        .file("prompts", &prompts)?
        .set(&args.stage.set)?;
    let agreement = args.xstest.as_deref().map(measure_on_xstest).transpose()?;
    stage.run(args.stage.run.as_deref(), |run, _| {
        let (_, summary) =
            run.summaries("evaluate")?.into_iter().next().context("one model was evaluated")?;
        if args.json {
            let mut value = serde_json::to_value(&summary)?;
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
