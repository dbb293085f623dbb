//! `solon generate`: answers prompts, and writes one JSON row for each.

use super::{open, sampling};
use crate::cli::GenerateArgs;
use crate::data_files::find_all;
use crate::out::Out;
use crate::piped;
use crate::progress::Progress;
use crate::stages::{note_unused, records};
use anyhow::{Context, Result};
use serde::Serialize;
use solon_data::records::{Repeated, open_prompts, open_several};
use solon_draws::Draws;
use solon_infer::chat::{AnswerSettings, ChatRequest};
use solon_infer::generate::Finish;
use solon_records::Prompt;
use std::io::Write;
use std::path::PathBuf;

#[derive(Serialize)]
struct Row {
    completion: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish_reason: Finish,
}

/// Answers every prompt.
pub fn run(args: &GenerateArgs) -> Result<()> {
    let sampling = sampling(&args.sampling)?;
    let names: Vec<PathBuf> = args.prompts.iter().map(|name| piped::named(name)).collect();
    let files = open_several(&find_all(&names, &[])?, Repeated::Renamed, open_prompts)?;
    note_unused("generate", files.iter().flat_map(|file| &file.unused));
    let prompts: Vec<Prompt> = records(files).collect();
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
        .context("--prompts")?;
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
