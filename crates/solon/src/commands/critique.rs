//! `solon critique`: answers criticised and revised by a constitution, one JSON row out for each in.
//!
//! Contract: a row's principles and texts depend on its id, the seed and the model alone, not on the other rows. An
//! answer whose critique or revision is of no use goes no further and keeps its last good revision, if it has one.

use super::{open, sampling};
use crate::assets;
use crate::cli::{CritiqueArgs, UsageError};
use crate::feedback_model::LocalModel;
use crate::progress;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use solon_data::jsonl::read_jsonl_numbered;
use solon_draws::Draws;
use solon_feedback::{
    Constitution, Dropped, ReviseItem, ReviseSettings, apply_round, critique_round, revision_round,
};
use std::collections::HashMap;
use std::io::Write;

#[derive(Deserialize)]
struct Input {
    id: Option<String>,
    prompt: String,
    answer: String,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    prompt: &'a str,
    answer: &'a str,
    rounds: &'a [Round],
    /// The last good revision.
    revision: Option<&'a str>,
}

/// One round of one answer.
#[derive(Serialize)]
struct Round {
    principle: String,
    critique: String,
    /// None where the critique was of no use.
    revision: Option<String>,
    /// Why the round came to nothing, if it did.
    dropped: Option<Dropped>,
}

/// Critiques and revises every row of the file.
pub fn run(args: &CritiqueArgs) -> Result<()> {
    if args.rounds == 0 {
        return Err(UsageError("--rounds is 0; give at least 1".to_owned()).into());
    }
    let sampling = sampling(&args.sampling)?;
    let draws = Draws::new(args.sampling.seed, "critique");
    let settings = ReviseSettings { draws, critique: sampling.clone(), revision: sampling };
    let mut items: Vec<ReviseItem> = read_jsonl_numbered::<Input>(&args.input)?
        .into_iter()
        .map(|row| {
            let id = row.value.id.unwrap_or_else(|| format!("line-{}", row.line));
            ReviseItem::new(id.clone(), id, row.value.prompt, row.value.answer)
        })
        .collect();
    let constitution =
        Constitution::open(&assets::path_or_default(args.constitution.as_deref(), assets::CONSTITUTION)?)?;
    let model = open(&args.model, args.weights.weights.into())?;
    let model = LocalModel::new(&model, model.adapter.as_ref(), args.sampling.batch);
    let fault = |text: &str| solon_eval::fault(text).map(|fault| format!("{fault:?}"));
    let mut rounds: HashMap<String, Vec<Round>> = HashMap::new();
    for round in 1..=args.rounds as u32 {
        let running = items.iter().filter(|item| item.stopped.is_none()).count();
        let bar = progress::bar(&format!("critiques, round {round}"), running, "texts");
        let critiques = critique_round(&model, &constitution, &items, round, &settings, &fault, &mut |n| {
            bar.inc(n as u64);
        })?;
        bar.finish_and_clear();
        let good = critiques.iter().filter(|critique| critique.dropped.is_none()).count();
        let bar = progress::bar(&format!("revisions, round {round}"), good, "texts");
        let revisions =
            revision_round(&model, &constitution, &items, &critiques, round, &settings, &fault, &mut |n| {
                bar.inc(n as u64);
            })?;
        bar.finish_and_clear();
        let counts = apply_round(&mut items, round, &critiques, &revisions)?;
        eprintln!("round {round}: {counts}");
        let mut revised: HashMap<&str, _> = revisions.iter().map(|r| (r.item_id.as_str(), r)).collect();
        for critique in critiques {
            let revision = revised.remove(critique.item_id.as_str());
            rounds.entry(critique.item_id).or_default().push(Round {
                principle: critique.principle_id,
                critique: critique.critique,
                revision: revision.map(|r| r.revision.clone()),
                dropped: critique.dropped.or_else(|| revision.and_then(|r| r.dropped.clone())),
            });
        }
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for item in &items {
        let row = Row {
            id: &item.id,
            prompt: &item.request,
            answer: &item.initial,
            rounds: rounds.get(&item.id).map_or(&[], Vec::as_slice),
            revision: item.revised.as_deref(),
        };
        serde_json::to_writer(&mut out, &row)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}
