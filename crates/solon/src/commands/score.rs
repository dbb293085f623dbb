//! `solon score`: log-probs of given completions, one JSON row for each.

use super::open;
use crate::cli::ScoreArgs;
use crate::out::Out;
use crate::piped;
use crate::progress::Progress;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use solon_data::jsonl::read_jsonl;
use solon_records::Message;
use std::io::Write;

#[derive(Deserialize)]
struct Input {
    prompt: String,
    completion: String,
}

#[derive(Serialize)]
struct Row {
    completion_token_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// Scores every row of the file.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let rows: Vec<Input> = read_jsonl(&piped::named(&args.input))?;
    let model = open(&args.model, args.weights.weights.into())?;
    let items: Vec<_> = rows
        .into_iter()
        .enumerate()
        .map(|(i, row)| (format!("line {}", i + 1), vec![Message::user(row.prompt)], row.completion))
        .collect();
    let mut progress = Progress::new("scoring", items.len(), "rows");
    let scored = model
        .score(&mut model.engine(model.adapter.as_ref()), &items, &mut |n| progress.add(n))
        .with_context(|| args.input.display().to_string())?;
    progress.finish();
    let mut out = std::io::BufWriter::new(Out);
    for (completion_token_ids, logprobs) in scored {
        serde_json::to_writer(&mut out, &Row { completion_token_ids, logprobs })?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
