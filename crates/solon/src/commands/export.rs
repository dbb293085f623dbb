//! `solon export`: a run's demonstrations and preference pairs as files that TRL and OpenRLHF read.
//!
//! Contract: only what the run trained on is written. Dropped items are left out, soft labels keep their probability,
//! and `id` is the item's id, so that `solon explain` finds it.

use super::explain::open_ledger;
use crate::cli::ExportArgs;
use crate::items::Labelled;
use crate::recipe::{Recipe, stage_name};
use anyhow::{Context, Result};
use solon_data::export::{write_demonstrations, write_preferences};
use solon_data::ledger::{ItemData, Ledger, TypedItem};
use solon_records::{Demonstration, Preference};
use std::path::Path;

/// Writes `demonstrations.jsonl` and `preferences.jsonl`.
pub fn run(args: &ExportArgs) -> Result<()> {
    let ledger = open_ledger(&args.run)?;
    for stage in ledger.stages()?.iter().filter(|stage| !stage.done) {
        eprintln!("note: the stage {} is not finished; only its items so far are exported", stage.name);
    }
    // The conversations that train critics and labellers are not demonstrations for a policy.
    let demonstrations: Vec<Demonstration> =
        kept(&ledger, &args.run, &["sft"])?.into_iter().map(|item| item.data).collect();
    let preferences: Vec<Preference> =
        kept::<Labelled>(&ledger, &args.run, &["label", "by-kind", "preferences"])?
            .into_iter()
            .map(|item| Preference { id: item.id, ..item.data.preference })
            .collect();
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
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
            "hint: {} of them are cut off (`cut_off`); Solon trains them without an end of turn, TRL would train the model to stop there",
            written.rows_cut_off
        );
    }
    eprintln!("{} preference pairs in {}", preferences.len(), second.display());
    Ok(())
}

/// The items that stages of these kinds made and did not drop, in the order of the stages.
fn kept<T: ItemData>(ledger: &Ledger, run: &Path, kinds: &[&str]) -> Result<Vec<TypedItem<T>>> {
    let path = run.join("recipe.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let recipe: Recipe = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let mut items = Vec::new();
    for stage in &recipe.stages {
        let kind = stage.get("kind").and_then(toml::Value::as_str);
        if let (Some(kind), Some(name)) = (kind, stage_name(stage))
            && kinds.contains(&kind)
        {
            items.extend(ledger.kept_items(name)?);
        }
    }
    Ok(items)
}
