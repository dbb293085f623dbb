//! `solon eval`: evaluations of one model.

use super::open;
use crate::assets;
use crate::cli::{EvalCommand, SafetyArgs};
use crate::progress;
use anyhow::Result;
use solon_data::records::{PromptRecord, read_prompts};
use solon_draws::Draws;
use solon_eval::agreement::measure_on_xstest;
use solon_eval::{Answer, Ask, Benchmark, Judged, benchmarks, summarise};
use solon_infer::chat::{AnswerSettings, ChatModel, ChatRequest};
use solon_infer::sampling::Sampling;
use solon_model::{Adapter, Cpu};
use solon_records::{Prompt, SamplingSettings};
use solon_text::Message;

/// Runs the evaluation that was asked for.
pub fn run(command: &EvalCommand) -> Result<()> {
    match command {
        EvalCommand::Safety(args) => safety(args),
    }
}

fn safety(args: &SafetyArgs) -> Result<()> {
    let path = assets::path_or_default(args.prompts.as_deref(), assets::EVALUATION_PROMPTS)?;
    let settings = benchmarks::Settings { max_new_tokens: args.max_new_tokens, limit_each: 0 };
    let benchmark = benchmarks::open("safety", to_prompts(read_prompts(&path)?), &settings)?;
    let model = open(&args.model, args.weights.weights.into())?;
    let judged = ask(benchmark.as_ref(), &model, model.adapter.as_ref(), args.batch)?;
    let summary = summarise(benchmark.as_ref(), judged)?;
    let agreement = args.xstest.as_deref().map(measure_on_xstest).transpose()?;
    if args.json {
        let mut value = serde_json::to_value(&summary)?;
        if let (Some(object), Some(agreement)) = (value.as_object_mut(), &agreement) {
            object.insert("rule_agreement".to_owned(), serde_json::to_value(agreement)?);
        }
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        println!("{summary}");
        if let Some(agreement) = agreement {
            println!("\n{agreement}");
        }
    }
    Ok(())
}

/// Prompts as benchmarks take them.
pub fn to_prompts(prompts: Vec<PromptRecord>) -> Vec<Prompt> {
    let message = |m: solon_data::records::ChatMessage| solon_records::Message::new(m.role, m.content);
    prompts
        .into_iter()
        .map(|prompt| Prompt {
            id: prompt.id,
            messages: prompt.messages.into_iter().map(message).collect(),
            kind: prompt.kind,
            category: prompt.category,
        })
        .collect()
}

/// The model's answers to a benchmark, judged.
pub fn ask(
    benchmark: &dyn Benchmark,
    model: &ChatModel,
    adapter: Option<&Adapter<Cpu>>,
    slots: usize,
) -> Result<Vec<Judged>> {
    let requests: Vec<ChatRequest> = benchmark
        .items()
        .iter()
        .map(|item| ChatRequest {
            id: item.id.clone(),
            messages: item.messages.iter().map(|m| Message::new(&m.role, &m.content)).collect(),
            begin: String::new(),
            draws: Draws::new(0, "evaluate").item(&item.id),
        })
        .collect();
    let Ask::Generate(SamplingSettings { max_new_tokens, temperature, top_p, top_k, min_p, stop }) =
        benchmark.ask();
    let sampling = Sampling { temperature, top_k, top_p, min_p };
    let settings = AnswerSettings { sampling, max_new_tokens, stop, slots };
    let bar = progress::bar("evaluating", requests.len(), "answers");
    let mut engine = model.engine(adapter);
    let answers = model.answer(&mut engine, &requests, &settings, &mut |n| bar.inc(n as u64))?;
    bar.finish_and_clear();
    let judged = benchmark.items().iter().zip(answers).map(|(item, answer)| {
        let answer = Answer { truncated: answer.truncated(), text: answer.text };
        Judged::new(benchmark, item, answer)
    });
    Ok(judged.collect())
}
