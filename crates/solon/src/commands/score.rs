//! `solon score`: of given completions their log-probs, or by a reward model their reward; one JSON row for each.

use super::open_any;
use crate::cli::ScoreArgs;
use crate::data_files::find_all;
use crate::memory::TOKENS_PER_PASS;
use crate::out::Out;
use crate::piped;
use crate::progress::Progress;
use crate::stages::note_unused;
use crate::tokenise::{answers, cut};
use anyhow::{Result, bail};
use serde::Serialize;
use solon_data::records::{Repeated, open_several, open_unnamed_demonstrations};
use solon_infer::chat::ChatModel;
use solon_model::{Device, ScalarHead};
use solon_records::{Demonstration, Message};
use solon_train::reward::rewards;
use std::io::Write;
use std::path::PathBuf;

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

/// What is scored.
struct Items {
    /// Each row's name in messages, its prompt and its answer.
    turns: Vec<(String, Vec<Message>, Message)>,
    /// Whether the answer was cut off, so that it has no end.
    cut_off: Vec<bool>,
}

/// Scores every row.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let items = read(args)?;
    let model = open_any(&args.model, args.weights.weights.into())?;
    match &model.score {
        Some(head) => write(&scored_by_head(&model, head, &items)?),
        None => write(&scored_by_tokens(&model, &items)?),
    }
}

fn read(args: &ScoreArgs) -> Result<Items> {
    let names: Vec<PathBuf> = args.input.iter().map(|name| piped::named(name)).collect();
    let paths = find_all(&names, &[])?;
    // What a row is called does not matter to what is scored, so ids may repeat.
    let files = open_several(&paths, Repeated::Renamed, open_unnamed_demonstrations)?;
    note_unused("score", files.iter().flat_map(|file| &file.unused));
    let mut items = Items { turns: Vec::new(), cut_off: Vec::new() };
    for (path, file) in paths.iter().zip(files) {
        for (row, place) in file.records.into_iter().zip(file.places) {
            let name = format!("{}, {place}", path.display());
            let Demonstration { mut messages, prompt_len, cut_off, .. } = row;
            // The messages between prompt and answer would be context in one reading and answers in another.
            let answer =
                messages.pop().filter(|answer| messages.len() == prompt_len && answer.is_assistant());
            let Some(answer) = answer else {
                bail!(
                    "{name}: has more than one answer, or one that is not at its end, and one is scored\nhint: give `prompt`, with all that \
                     stands before the answer, and `completion`"
                );
            };
            items.turns.push((name, messages, answer));
            items.cut_off.push(cut_off);
        }
    }
    Ok(items)
}

fn scored_by_tokens(model: &ChatModel, items: &Items) -> Result<Vec<LogProbs>> {
    let mut progress = Progress::new("scoring", items.turns.len(), "rows");
    let mut engine = model.engine(model.adapter.as_ref());
    let scored = model.score(&mut engine, &items.turns, &mut |n| progress.add(n))?;
    progress.finish();
    let row = |((mut completion_token_ids, mut logprobs), cut_off): ((Vec<u32>, Vec<f32>), &bool)| {
        cut(&mut completion_token_ids, *cut_off);
        logprobs.truncate(completion_token_ids.len());
        LogProbs { completion_token_ids, logprobs }
    };
    Ok(scored.into_iter().zip(&items.cut_off).map(row).collect())
}

/// Rewards as a reward model learns them: read at the end of each conversation.
fn scored_by_head(model: &ChatModel, head: &ScalarHead<Device>, items: &Items) -> Result<Vec<Reward>> {
    let closing = model.closing();
    let mut tokens: Vec<(Vec<u32>, Vec<u32>)> = Vec::with_capacity(items.turns.len());
    for ((name, messages, answer), cut_off) in items.turns.iter().zip(&items.cut_off) {
        let given = [(answer.clone(), *cut_off)];
        let (prompt, mut read) = answers(model, name, messages, &given, Some(&closing))?;
        tokens.push((prompt, read.remove(0)));
    }
    let pieces: Vec<(&[u32], &[u32])> =
        tokens.iter().map(|(prompt, answer)| (&prompt[..], &answer[..])).collect();
    let mut progress = Progress::new("scoring", pieces.len(), "rows");
    let scores = rewards(&model.decoder, model.adapter.as_ref(), head, &pieces, TOKENS_PER_PASS);
    progress.add(pieces.len());
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
