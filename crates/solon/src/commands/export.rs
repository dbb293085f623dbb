//! `solon export`: a run's demonstrations and preference pairs as files that TRL and OpenRLHF read, and its evaluations as files
//! that Inspect AI and Every Eval Ever read.
//!
//! Contract: only what the run trained on is written. Dropped items are left out, and so is what another recipe left in the
//! folder. Soft labels keep their probability, and `id` is the item's id, so that `solon explain` finds it.

use super::eval::write_json;
use super::explain::open_ledger;
use crate::cli::ExportArgs;
use crate::items::Labelled;
use crate::recipe::{Recipe, stage_name};
use crate::run::{Evaluated, Inputs, Run};
use crate::stages::FIRST_HELD;
use anyhow::{Context, Result, bail};
use solon_data::export::{write_demonstrations, write_preferences};
use solon_data::ledger::{ItemData, Ledger, TypedItem};
use solon_eval::formats::{every_eval_ever, inspect_log};
use solon_records::{Demonstration, Preference};
use std::collections::BTreeSet;
use std::path::Path;

/// Writes `demonstrations.jsonl`, `preferences.jsonl` and `evaluations/`.
pub fn run(args: &ExportArgs) -> Result<()> {
    let ledger = open_ledger(&args.run)?;
    let recipe = recipe(&args.run)?;
    let of_now = of_now(&ledger, &recipe, &args.run)?;
    // The conversations that train critics and labellers are not demonstrations for a policy.
    // What a model is held on is not imitated.
    let demonstrations: Vec<Demonstration> =
        kept(&ledger, &recipe, |kind, name| kind == "sft" && of_now.contains(name))?
            .into_iter()
            .filter(|item| item.ordinal < FIRST_HELD)
            .map(|item| item.data)
            .collect();
    // Contrasts may also be for a labeller alone, and are then no preferences to train a policy on.
    let trained_on = trained_on(&recipe);
    let preferences: Vec<Preference> = kept::<Labelled>(&ledger, &recipe, |kind, name| match kind {
        _ if !of_now.contains(name) => false,
        "contrast" => trained_on.contains(name),
        kind => ["label", "by-kind", "preferences"].contains(&kind),
    })?
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
    // A ledger that is open here could not be opened to be read by a run.
    drop(ledger);
    let evaluates = |stage: &toml::Table| stage.get("kind").and_then(toml::Value::as_str) == Some("evaluate");
    if !recipe.stages.iter().any(evaluates) {
        return Ok(());
    }
    if let Err(error) = evaluations(&args.run, &args.out) {
        // What TRL reads is there, and needs neither the run's data nor its end.
        let text = format!("{error:#}").replace('\n', "\nnote: ");
        eprintln!("note: the evaluations are not exported: {text}");
    }
    Ok(())
}

/// Writes `evaluations/`: of each model that a stage evaluated an Inspect log, named by the time as Inspect names its logs, and
/// a record of Every Eval Ever.
fn evaluations(run: &Path, out: &Path) -> Result<()> {
    // How it was carried out stands there.
    if !run.join("summary.json").is_file() {
        bail!("{} has no summary.json\nhint: the same `solon run` finishes the run", run.display());
    }
    let evaluated = Run::reopen(run)?.evaluated()?;
    if evaluated.is_empty() {
        return Ok(());
    }
    let folder = out.join("evaluations");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for Evaluated { stage, model, judge, summary, provenance } in &evaluated {
        let model = judge.map_or_else(|| model.clone(), |judge| format!("{model}.judge-{judge}"));
        let time = provenance.started.replace(':', "-");
        write_json(&folder.join(format!("{time}_{stage}_{model}.json")), &inspect_log(summary, provenance))?;
        let record = folder.join(format!("{stage}.{model}.every-eval-ever.json"));
        write_json(&record, &every_eval_ever(summary, provenance))?;
    }
    eprintln!("{} evaluations in {}", evaluated.len(), folder.display());
    Ok(())
}

/// The names of the stages in the ledger that were begun with the recipe and the inputs that the run has now. Says which of the
/// recipe's were not, and which are not finished.
fn of_now(ledger: &Ledger, recipe: &Recipe, run: &Path) -> Result<BTreeSet<String>> {
    let inputs = Inputs::read(run)?;
    let mut of_now = BTreeSet::new();
    for stage in ledger.stages()? {
        if inputs.as_ref().is_none_or(|inputs| inputs.fit(&stage)) {
            if !stage.done {
                eprintln!(
                    "note: the stage {} is not finished; only its items so far are exported",
                    stage.name
                );
            }
            of_now.insert(stage.name);
        } else if recipe.stages.iter().any(|table| stage_name(table) == Some(stage.name.as_str())) {
            eprintln!(
                "note: what the stage {} made is not exported: the recipe or its inputs changed since\n\
                 hint: the same `solon run` without --until makes it again",
                stage.name
            );
        }
    }
    Ok(of_now)
}

/// The run's recipe.
fn recipe(run: &Path) -> Result<Recipe> {
    let path = run.join("recipe.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// The names of the stages whose pairs a policy or a reward model was trained on.
fn trained_on(recipe: &Recipe) -> BTreeSet<String> {
    let trains = |stage: &&toml::Table| {
        ["dpo", "reward"].contains(&stage.get("kind").and_then(toml::Value::as_str).unwrap_or_default())
    };
    let names = recipe.stages.iter().filter(trains).filter_map(|stage| stage.get("pairs"));
    let each = |pairs: &toml::Value| match pairs {
        toml::Value::Array(names) => names.clone(),
        name => vec![name.clone()],
    };
    names.flat_map(each).filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// The items that some stages, told by their kind and name, made and did not drop, in the order of the stages.
fn kept<T: ItemData>(
    ledger: &Ledger,
    recipe: &Recipe,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<Vec<TypedItem<T>>> {
    let mut items = Vec::new();
    for stage in &recipe.stages {
        let kind = stage.get("kind").and_then(toml::Value::as_str);
        if let (Some(kind), Some(name)) = (kind, stage_name(stage))
            && wanted(kind, name)
        {
            items.extend(ledger.kept_items(name)?);
        }
    }
    Ok(items)
}
