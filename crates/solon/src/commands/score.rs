//! `solon score`: of given completions their log-probs, or by a reward model their reward; one JSON row for each.

use super::open_any;
use crate::cli::ScoreArgs;
use crate::memory::TOKENS_PER_PASS;
use crate::out::Out;
use crate::piped;
use crate::progress::Progress;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use solon_data::jsonl::read_jsonl;
use solon_infer::chat::ChatModel;
use solon_model::{Device, ScalarHead};
use solon_records::Message;
use solon_train::reward::rewards;
use std::io::Write;

#[derive(Deserialize)]
struct Input {
    prompt: String,
    completion: String,
}

/// A row of a model that writes.
#[derive(Serialize)]
struct LogProbs {
    completion_token_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// A row of a reward model.
#[derive(Serialize)]
struct Reward {
    completion_token_ids: Vec<u32>,
    reward: f32,
}

/// A row's name in messages, its prompt and its completion.
type Item = (String, Vec<Message>, String);

/// Scores every row of the file.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let rows: Vec<Input> = read_jsonl(&piped::named(&args.input))?;
    let model = open_any(&args.model, args.weights.weights.into())?;
    let items: Vec<Item> = rows
        .into_iter()
        .enumerate()
        .map(|(i, row)| (format!("line {}", i + 1), vec![Message::user(row.prompt)], row.completion))
        .collect();
    match &model.score {
        Some(head) => write(&scored_by_head(&model, head, &items, args)?),
        None => write(&scored_by_tokens(&model, &items, args)?),
    }
}

fn scored_by_tokens(model: &ChatModel, items: &[Item], args: &ScoreArgs) -> Result<Vec<LogProbs>> {
    let mut progress = Progress::new("scoring", items.len(), "rows");
    let scored = model
        .score(&mut model.engine(model.adapter.as_ref()), items, &mut |n| progress.add(n))
        .with_context(|| args.input.display().to_string())?;
    progress.finish();
    let row = |(completion_token_ids, logprobs)| LogProbs { completion_token_ids, logprobs };
    Ok(scored.into_iter().map(row).collect())
}

/// Rewards as a reward model learns them: read at the end of each completion's turn.
fn scored_by_head(
    model: &ChatModel,
    head: &ScalarHead<Device>,
    items: &[Item],
    args: &ScoreArgs,
) -> Result<Vec<Reward>> {
    let turn = |(id, messages, completion): &Item| {
        let (prompt, answers) = model.turns(id, messages, &[completion])?;
        Ok((prompt, answers.concat()))
    };
    let tokens: Vec<(Vec<u32>, Vec<u32>)> =
        items.iter().map(turn).collect::<Result<_>>().with_context(|| args.input.display().to_string())?;
    let pieces: Vec<(&[u32], &[u32])> =
        tokens.iter().map(|(prompt, answer)| (&prompt[..], &answer[..])).collect();
    let mut progress = Progress::new("scoring", items.len(), "rows");
    let scores = rewards(&model.decoder, model.adapter.as_ref(), head, &pieces, TOKENS_PER_PASS);
    progress.add(items.len());
    progress.finish();
    let row = |((_, completion_token_ids), reward)| Reward { completion_token_ids, reward };
    Ok(tokens.into_iter().zip(scores).map(row).collect())
}

fn write<T: Serialize>(rows: &[T]) -> Result<()> {
    let mut out = std::io::BufWriter::new(Out);
    for row in rows {
        serde_json::to_writer(&mut out, row)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
