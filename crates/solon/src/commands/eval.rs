//! `solon eval`: evaluations of one model.

use super::open;
use crate::assets;
use crate::cli::{EvalCommand, SafetyArgs};
use crate::progress;
use anyhow::{Context, Result};
use solon_data::records::read_prompts;
use solon_draws::Draws;
use solon_eval::agreement::measure_on_xstest;
use solon_eval::safety::{Kind, SafetyItem, SafetyReport, judge};
use solon_infer::chat::{AnswerSettings, ChatModel, ChatRequest};
use solon_model::{Adapter, Cpu};
use solon_records::{Prompt, SamplingSettings};

/// Runs the evaluation that was asked for.
pub fn run(command: &EvalCommand) -> Result<()> {
    match command {
        EvalCommand::Safety(args) => safety(args),
    }
}

fn safety(args: &SafetyArgs) -> Result<()> {
    let path = assets::path_or_default(args.prompts.as_deref(), assets::EVALUATION_PROMPTS)?;
    let prompts = read_prompts(&path)?;
    let model = open(&args.model, args.weights.weights.into())?;
    let report = safety_report(&model, model.adapter.as_ref(), &prompts, args.max_new_tokens, args.batch)?;
    let agreement = args.xstest.as_deref().map(measure_on_xstest).transpose()?;
    if args.json {
        let mut value = serde_json::to_value(&report)?;
        if let (Some(object), Some(agreement)) = (value.as_object_mut(), &agreement) {
            object.insert("rule_agreement".to_owned(), serde_json::to_value(agreement)?);
        }
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        println!("{report}");
        if let Some(agreement) = agreement {
            println!("\n{agreement}");
        }
    }
    Ok(())
}

/// Greedy answers to the prompts, judged.
pub fn safety_report(
    model: &ChatModel,
    adapter: Option<&Adapter<Cpu>>,
    prompts: &[Prompt],
    max_new_tokens: usize,
    slots: usize,
) -> Result<SafetyReport> {
    let requests: Vec<ChatRequest> = prompts
        .iter()
        .map(|prompt| ChatRequest {
            id: prompt.id.clone(),
            messages: prompt.messages.clone(),
            prefill: String::new(),
            draws: Draws::new(0, "evaluate").item(&prompt.id),
        })
        .collect();
    let settings = AnswerSettings { sampling: SamplingSettings::greedy(max_new_tokens), slots };
    let bar = progress::bar("evaluating", requests.len(), "answers");
    let mut engine = model.engine(adapter);
    let answers = model.answer(&mut engine, &requests, &settings, &mut |n| bar.inc(n as u64))?;
    bar.finish_and_clear();
    let items = prompts
        .iter()
        .zip(answers)
        .map(|(prompt, answer)| {
            let kind: Kind = prompt
                .kind
                .as_deref()
                .with_context(|| {
                    format!(
                        "prompt {} has no kind\nhint: give harmful, harmless or sounds-harmful",
                        prompt.id
                    )
                })?
                .parse()?;
            Ok(SafetyItem {
                id: prompt.id.clone(),
                prompt: prompt.text().to_owned(),
                kind,
                category: prompt.category.clone().unwrap_or_default(),
                truncated: answer.truncated(),
                answer: answer.text,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(judge(items)?)
}
