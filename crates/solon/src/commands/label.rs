//! `solon label`: preference pairs labelled by a model or by people.
//!
//! Contract: `--out` is in the input's order and is replaced atomically at the end. By a model it has a row for every pair, those without a
//! label with their reason; by people, the pairs that have votes. Beside it is the raw material of the labels: `OUT.labels.jsonl` with the
//! evidence, or `OUT.votes.NAME.jsonl` with the votes of people.
//! A model's labels are made by a recipe of one stage. Its run is kept in `OUT.run`, so that the same command resumes it, and asks again
//! about pairs that got no reply.

mod import;
mod people;

use super::one_stage::OneStage;
use crate::assets;
use crate::cli::{LabelArgs, UsageError};
use crate::data_files::find_all;
use crate::items::Labelled;
use crate::piped;
use crate::stages::{judged, note_unused, records, replies};
use crate::votes::beside;
use anyhow::Result;
use solon_data::export::write_labels;
use solon_data::jsonl::write_jsonl;
use solon_data::ledger::TypedItem;
use solon_data::records::{LabelRow, Repeated, open_pairs, open_several};
use solon_feedback::Label;
use solon_records::{Pair, Preference};
use std::path::{Path, PathBuf};

/// Labels every pair of the input.
pub fn run(args: &LabelArgs) -> Result<()> {
    match &args.person.import {
        Some(file) => import::run(args, file),
        None if args.person.human => people::run(args, pairs(&args.input)?),
        None => by_model(args),
    }
}

/// The pairs of data that is named so.
fn pairs(names: &[PathBuf]) -> Result<Vec<Pair>> {
    let names: Vec<PathBuf> = names.iter().map(|name| piped::named(name)).collect();
    let files = open_several(&find_all(&names, &[])?, Repeated::Renamed, open_pairs)?;
    note_unused("label", files.iter().flat_map(|file| &file.unused));
    Ok(records(files).collect())
}

fn by_model(args: &LabelArgs) -> Result<()> {
    if args.person.json || args.person.annotator.is_some() {
        let said = "--json and --annotator are about the votes of people; give --human or --import with them";
        return Err(UsageError(said.to_owned()).into());
    }
    let constitution = assets::path_or_default(args.constitution.as_deref(), assets::CONSTITUTION)?;
    let stage = OneStage::new("label", &args.model)?
        .recipe(|recipe| {
            recipe.seed = args.seed;
            recipe.weights = args.weights.weights;
            recipe.constitution = Some(constitution);
        })
        .judge("labeller", &args.judge)
        .key("ask", Some(args.ask.name()))
        // Whoever labels a file wants to see the labels; the judge report is printed with them.
        .key("gate", Some(false))
        .data("pairs", &args.input)?
        .set(&args.set)?;
    let mut folder = args.out.as_os_str().to_owned();
    folder.push(".run");
    stage.run(Some(Path::new(&folder)), |run, _| {
        let read = run.reader("label")?;
        let mut items: Vec<TypedItem<Labelled>> = read.own_with_dropped()?;
        items.retain(|item| !item.data.known);
        let labels: Vec<&Label> = items.iter().filter_map(|item| item.data.label.as_ref()).collect();
        write_jsonl(&beside(&args.out, "labels"), &labels)?;
        let rows: Vec<LabelRow> = items.iter().map(|item| row(&item.data)).collect();
        write_labels(&args.out, &rows)?;
        let unlabelled = items.iter().filter(|item| item.data.unlabelled.is_some()).count();
        eprintln!("{} labelled pairs in {}", items.len() - unlabelled, args.out.display());
        let replies = replies(&read)?;
        match replies.refusal() {
            Some(what) => eprintln!("hint: {what}"),
            None if replies.may_come() > 0 => {
                eprintln!("{} pairs got no reply; the same command asks again about them alone", replies.may_come());
            }
            None => {}
        }
        if unlabelled > 0 {
            eprintln!("{unlabelled} pairs have no label; their rows say why, and are left out where the file is trained on");
        }
        eprintln!("{}", judged(&read)?.report);
        Ok(())
    })
}

/// A label as a row of the file.
fn row(labelled: &Labelled) -> LabelRow {
    let preference = labelled.preference.clone();
    let Some(missing) = &labelled.unlabelled else { return LabelRow::Labelled(preference) };
    let Preference { id, prompt, chosen: first, rejected: second, cut_off, .. } = preference;
    let pair = Pair { id, prompt, first, second, cut_off, principle_id: None };
    LabelRow::Unlabelled { pair, reason: missing.to_string() }
}
