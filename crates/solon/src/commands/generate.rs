//! `solon generate`: answers prompts, and writes one JSON row for each.

use super::{open, sampling};
use crate::cli::GenerateArgs;
use crate::out::Out;
use crate::piped;
use crate::progress::Progress;
use anyhow::{Context, Result};
use serde::Serialize;
use solon_data::records::read_prompts;
use solon_draws::Draws;
use solon_infer::chat::{AnswerSettings, ChatRequest};
use solon_infer::generate::Finish;
use std::io::Write;

#[derive(Serialize)]
struct Row {
    completion: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish_reason: Finish,
}

/// Answers every prompt of the file.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let sampling = sampling(&args.sampling)?;
    let prompts = read_prompts(&piped::named(&args.prompts))?;
    let model = open(&args.model, args.weights.weights.into())?;
    let draws = Draws::new(args.sampling.seed, "generate");
    // Draws are keyed by the row's position, so that two rows with the same prompt are two samples.
    let requests: Vec<ChatRequest> = prompts
        .iter()
        .enumerate()
        .map(|(place, prompt)| ChatRequest {
            id: prompt.id.clone(),
            context: prompt.messages.clone().into(),
            prefill: String::new(),
            draws: draws.index(place as u64),
        })
        .collect();
    let settings = AnswerSettings { sampling, slots: args.sampling.batch };
    let mut progress = Progress::new("generating", requests.len(), "answers");
    let answers = model
        .answer(&mut model.engine(model.adapter.as_ref()), &requests, &settings, &mut |n| progress.add(n))
        .with_context(|| args.prompts.display().to_string())?;
    progress.finish();
    let mut out = std::io::BufWriter::new(Out);
    for answer in answers {
        let row = Row {
            completion: answer.text,
            token_ids: answer.completion.token_ids,
            logprobs: answer.completion.logprobs,
            finish_reason: answer.completion.finish,
        };
        serde_json::to_writer(&mut out, &row)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
