//! `solon score`: log-probs of given completions, one JSON row for each.

use super::open;
use crate::cli::ScoreArgs;
use crate::out::Out;
use crate::piped;
use crate::progress::Progress;
use crate::tokenise::cut;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use solon_data::records::{DataFile, open_demonstrations};
use solon_records::Demonstration;
use std::io::Write;

#[derive(Serialize)]
struct Row {
    completion_token_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// Scores every row of the file.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let path = piped::named(&args.input);
    let DataFile { records, places, .. } = open_demonstrations(&path)?;
    let mut items = Vec::with_capacity(records.len());
    let mut cut_off = Vec::with_capacity(records.len());
    for (row, place) in records.into_iter().zip(places) {
        let Demonstration { mut messages, prompt_len, cut_off: cut, .. } = row;
        // The messages between prompt and answer would be context in one reading and answers in another.
        let Some(answer) =
            messages.pop().filter(|answer| messages.len() == prompt_len && answer.is_assistant())
        else {
            bail!(
                "{}, {place}: has more than one answer, or one that is not at its end, and one is scored\nhint: give `prompt`, with all that \
                 stands before the answer, and `completion`",
                args.input.display()
            );
        };
        items.push((place.to_string(), messages, answer));
        cut_off.push(cut);
    }
    let model = open(&args.model, args.weights.weights.into())?;
    let mut progress = Progress::new("scoring", items.len(), "rows");
    let scored = model
        .score(&mut model.engine(model.adapter.as_ref()), &items, &mut |n| progress.add(n))
        .with_context(|| args.input.display().to_string())?;
    progress.finish();
    let mut out = std::io::BufWriter::new(Out);
    for ((mut completion_token_ids, mut logprobs), cut_off) in scored.into_iter().zip(cut_off) {
        cut(&mut completion_token_ids, cut_off);
        logprobs.truncate(completion_token_ids.len());
        serde_json::to_writer(&mut out, &Row { completion_token_ids, logprobs })?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
