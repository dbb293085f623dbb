//! `solon export`: a run's demonstrations and preference pairs as files that TRL and OpenRLHF read.
//!
//! Contract: what is written is what the run trained on: items that were dropped are left out, soft labels keep their
//! probability, and `id` is the item's, so that `solon explain` finds it.

use super::explain::open_ledger;
use crate::cli::ExportArgs;
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use solon_data::export::{write_demonstrations, write_preferences};
use solon_data::ledger::{Item, ItemKind, Ledger};
use solon_feedback::Label;
use solon_records::{Pair, Preference};

/// Writes `demonstrations.jsonl` and `preferences.jsonl`.
pub fn run(args: &ExportArgs) -> Result<()> {
    let ledger = open_ledger(&args.run)?;
    for stage in ledger.stages()?.iter().filter(|stage| !stage.done) {
        eprintln!("note: the stage {} is not finished; exporting what is there", stage.name);
    }
    let demonstrations =
        kept(&ledger, ItemKind::Demonstration)?.into_iter().map(typed).collect::<Result<Vec<_>>>()?;
    let labels = kept(&ledger, ItemKind::Label)?;
    let preferences =
        labels.into_iter().map(|label| preference(&ledger, label)).collect::<Result<Vec<_>>>()?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let (first, second) = (args.out.join("demonstrations.jsonl"), args.out.join("preferences.jsonl"));
    let written = write_demonstrations(&first, &demonstrations)?;
    write_preferences(&second, &preferences)?;
    eprintln!("{} demonstrations in {}", written.rows, first.display());
    if written.rows_needing_assistant_only_loss > 0 {
        eprintln!(
            "hint: {} of them have turns of the user after the first answer; train with assistant_only_loss=True",
            written.rows_needing_assistant_only_loss
        );
    }
    if written.rows_cut_off > 0 {
        eprintln!(
            "hint: {} of them are cut off (`cut_off`); Solon learns them without an end, TRL would learn to stop there",
            written.rows_cut_off
        );
    }
    eprintln!("{} preference pairs in {}", preferences.len(), second.display());
    Ok(())
}

/// The items of a kind that were not dropped, stage by stage. Items without data are what a training command read from
/// a file: the user has them already.
fn kept(ledger: &Ledger, kind: ItemKind) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    // The adapters' own warm-up conversations are no demonstrations for a policy.
    for stage in ledger.stages()?.iter().filter(|s| !["critic", "labeller"].contains(&s.name.as_str())) {
        let (mut made, given): (Vec<Item>, Vec<Item>) =
            ledger.kept_raw_items(&stage.name, kind)?.into_iter().partition(|item| !item.data.is_null());
        if !given.is_empty() {
            eprintln!("note: left out {} of {}, which were read from a file", given.len(), stage.name);
        }
        items.append(&mut made);
    }
    Ok(items)
}

fn typed<T: DeserializeOwned>(item: Item) -> Result<T> {
    serde_json::from_value(item.data).with_context(|| format!("the {} {} in the ledger", item.kind, item.id))
}

/// The pair a label was made from, with the label.
fn preference(ledger: &Ledger, item: Item) -> Result<Preference> {
    let id = item.id.clone();
    let parents = ledger.parents(&id)?;
    let pair = parents.iter().find(|parent| parent.role == "pair");
    let pair = pair.with_context(|| format!("the label {id} in the ledger names no pair"))?;
    let (pair, label): (Pair, Label) = (typed(ledger.item(&pair.id)?)?, typed(item)?);
    Ok(Preference { id, ..pair.labelled(label.probability, "ai") })
}
