//! `solon critique`: a recipe of one stage that criticises and revises the answers of a file, one JSON row out for each in.
//!
//! Contract: a row's principles and texts depend on its id, the seed and the model alone, not on the other rows. An
//! answer whose critique or revision is of no use goes no further and keeps its last good revision, if it has one.

use super::one_stage::{OneStage, as_toml, sampling_table};
use super::sampling;
use crate::assets;
use crate::cli::CritiqueArgs;
use crate::items::Answer;
use crate::out::Out;
use crate::stages::revise_replies;
use anyhow::Result;
use serde::Serialize;
use solon_data::ledger::TypedItem;
use solon_feedback::{CritiqueRecord, Dropped, RevisionRecord, prompt_text};
use std::collections::HashMap;
use std::io::Write;
use std::num::NonZeroUsize;

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    prompt: String,
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
    let sampling = sampling_table(&sampling(&args.sampling)?)?;
    let constitution = assets::path_or_default(args.constitution.as_deref(), assets::CONSTITUTION)?;
    let stage = OneStage::new("revise", &args.model)?
        .recipe(|recipe| {
            recipe.seed = args.sampling.seed;
            recipe.weights = args.weights.weights;
            recipe.constitution = Some(constitution);
        })
        .batch(NonZeroUsize::new(args.sampling.batch))
        .judge("critic", &args.judge)
        .key("rounds", Some(as_toml(args.rounds)))
        .key("critique", Some(sampling.clone()))
        .key("revision", Some(sampling))
        .data("answers", &args.input)?
        .set(&args.stage.set)?;
    stage.run(args.stage.run.as_deref(), |run, _| {
        let answers: Vec<TypedItem<Answer>> = run.items("revise-answers")?;
        let mut revised: HashMap<(String, u32), TypedItem<RevisionRecord>> = HashMap::new();
        for revision in run.items::<RevisionRecord>("revise")? {
            revised.insert((revision.data.item_id.clone(), revision.data.round), revision);
        }
        let mut rounds: HashMap<String, Vec<Round>> = HashMap::new();
        let mut critiques: Vec<TypedItem<CritiqueRecord>> = run.items("revise")?;
        critiques.sort_by_key(|critique| critique.data.round);
        for critique in critiques {
            let critique = critique.data;
            let revision = revised.remove(&(critique.item_id.clone(), critique.round));
            let revision = revision.map(|item| item.data);
            rounds.entry(critique.item_id).or_default().push(Round {
                principle: critique.principle_id,
                critique: critique.critique,
                dropped: critique.dropped.or_else(|| revision.as_ref().and_then(|r| r.dropped.clone())),
                revision: revision.map(|r| r.revision),
            });
        }
        let mut out = std::io::BufWriter::new(Out);
        for answer in &answers {
            let rounds = rounds.get(&answer.data.prompt_id).map_or(&[][..], Vec::as_slice);
            let good = rounds.iter().rfind(|round| round.dropped.is_none());
            let row = Row {
                id: &answer.data.prompt_id,
                prompt: prompt_text(&answer.data.prompt),
                answer: &answer.text,
                rounds,
                revision: good.and_then(|round| round.revision.as_deref()),
            };
            serde_json::to_writer(&mut out, &row)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        if let Some(what) = revise_replies(&run.reader("revise")?)?.refusal() {
            eprintln!("hint: {what}");
        }
        Ok(())
    })
}
