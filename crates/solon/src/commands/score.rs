//! `solon score`: log-probs of given completions, one JSON row for each.

use super::open;
use crate::cli::ScoreArgs;
use crate::data_files::find_all;
use crate::out::Out;
use crate::piped;
use crate::progress::Progress;
use crate::stages::note_unused;
use anyhow::Result;
use serde::Serialize;
use solon_data::records::{Ids, Repeated, open_answered, open_several};
use std::io::Write;
use std::path::PathBuf;

#[derive(Serialize)]
struct Row {
    completion_token_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// Scores every row.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let names: Vec<PathBuf> = args.input.iter().map(|name| piped::named(name)).collect();
    let paths = find_all(&names, &[])?;
    // What a row is called does not matter to what is scored, so ids may repeat.
    let files = open_several(&paths, Repeated::Renamed, |path| open_answered(path, Ids::OfPlaces))?;
    note_unused("score", files.iter().flat_map(|file| &file.unused));
    let model = open(&args.model, args.weights.weights.into())?;
    let mut items = Vec::new();
    for (path, file) in paths.iter().zip(files) {
        for (row, place) in file.records.into_iter().zip(file.places) {
            items.push((format!("{}, {place}", path.display()), row.prompt, row.answer));
        }
    }
    let mut progress = Progress::new("scoring", items.len(), "rows");
    let scored = model.score(&mut model.engine(model.adapter.as_ref()), &items, &mut |n| progress.add(n))?;
    progress.finish();
    let mut out = std::io::BufWriter::new(Out);
    for (completion_token_ids, logprobs) in scored {
        serde_json::to_writer(&mut out, &Row { completion_token_ids, logprobs })?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
