//! `solon export`: a run's demonstrations and preference pairs as files that TRL, OpenRLHF and Feedback Forensics read, with a data
//! card, and its evaluations as files that Inspect AI and Every Eval Ever read; or a model as a GGUF file (`export/gguf.rs`).
//!
//! Contract: only what the run trained on is written. Dropped items are left out, and so is what another recipe left in the
//! folder. Soft labels keep their probability, and `id` is the item's id, so that `solon explain` finds it.

mod annotated;
mod gguf;
mod modelfile;

use super::eval::write_json;
use super::explain::open_ledger;
use crate::cli::ExportArgs;
use crate::items::{Labelled, WrittenPrompt};
use crate::recipe::{Recipe, stage_name};
use crate::report::{DataFile, LabelledBy, how_labelled};
use crate::run::{Evaluated, Inputs, Run, iso};
use crate::stages::FIRST_HELD;
use annotated::Pairs;
use anyhow::{Context, Result, bail};
use solon_data::annotated_pairs::AnnotatedPairs;
use solon_data::export::{write_demonstrations, write_preferences};
use solon_data::files::write_bytes_atomically;
use solon_data::ledger::{ItemData, Ledger, TypedItem};
use solon_eval::formats::{every_eval_ever, inspect_log};
use solon_records::{Demonstration, Preference, Prompt};
use std::collections::BTreeSet;
use std::path::Path;

/// The files of data.
const DEMONSTRATIONS: &str = "demonstrations.jsonl";
const PREFERENCES: &str = "preferences.jsonl";
const ANNOTATED_PAIRS: &str = "annotated-pairs.json";
const PROMPTS: &str = "prompts.jsonl";

/// Writes `demonstrations.jsonl`, `preferences.jsonl`, `annotated-pairs.json`, the data card, `prompts.jsonl` where a stage wrote some, and
/// `evaluations/`; or a GGUF file, where one is asked for.
pub fn run(args: &ExportArgs) -> Result<()> {
    if let Some(file_type) = args.gguf {
        return gguf::run(args, file_type);
    }
    let Some(run) = &args.run else { bail!("--run names the run whose data is exported") };
    let ledger = open_ledger(run)?;
    let recipe = recipe(run)?;
    let of_now = of_now(&ledger, &recipe, run)?;
    // The conversations that train critics and labellers are not demonstrations for a policy.
    // What a model is held on is not imitated.
    let demonstrations: Vec<Demonstration> =
        kept(&ledger, &recipe, |kind, name| kind == "sft" && of_now.contains(name))?
            .into_iter()
            .flat_map(|(_, items)| items)
            .filter(|item| item.ordinal < FIRST_HELD)
            .map(|item| item.data)
            .collect();
    // Contrasts may also be for a labeller alone, and are then no preferences to train a policy on.
    let trained_on = trained_on(&recipe);
    let labelled = kept::<Labelled>(&ledger, &recipe, |kind, name| match kind {
        _ if !of_now.contains(name) => false,
        "contrast" => trained_on.contains(name),
        kind => ["label", "by-kind", "preferences"].contains(&kind),
    })?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let written = write_tables(args, &demonstrations, &labelled)?;
    let (pairs, labellings) = annotated_pairs(args, &ledger, &recipe, &of_now, &labelled)?;
    let prompts = write_prompts(
        args,
        &kept(&ledger, &recipe, |kind, name| kind == "red-team" && of_now.contains(name))?,
    )?;
    // A ledger that is open here could not be opened to be read by a run.
    drop(ledger);
    if let Err(error) = write_card(run, &args.out, &written, pairs, prompts, &labellings) {
        let text = format!("{error:#}").replace('\n', "\nnote: ");
        eprintln!("note: there is no data card: {text}");
    }
    let evaluates = |stage: &toml::Table| stage.get("kind").and_then(toml::Value::as_str) == Some("evaluate");
    if !recipe.stages.iter().any(evaluates) {
        return Ok(());
    }
    if let Err(error) = evaluations(run, &args.out) {
        // What TRL reads is there, and needs neither the run's data nor its end.
        let text = format!("{error:#}").replace('\n', "\nnote: ");
        eprintln!("note: the evaluations are not exported: {text}");
    }
    Ok(())
}

/// Items of each stage that made some, with the stage's name and kind.
type OfStages<T> = Vec<((String, String), Vec<TypedItem<T>>)>;

/// Writes the files that trainers read. Returns how many demonstrations and preferences there are.
fn write_tables(
    args: &ExportArgs,
    demonstrations: &[Demonstration],
    labelled: &OfStages<Labelled>,
) -> Result<[usize; 2]> {
    let items = labelled.iter().flat_map(|(_, items)| items);
    let preferences: Vec<Preference> =
        items.map(|item| Preference { id: item.id.clone(), ..item.data.preference.clone() }).collect();
    let (first, second) = (args.out.join(DEMONSTRATIONS), args.out.join(PREFERENCES));
    let written = write_demonstrations(&first, demonstrations)?;
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
    if written.rows_not_all_learnt > 0 {
        eprintln!(
            "hint: {} of them have answers that are not to be learnt (`weight` 0); Solon leaves those out, TRL would train on them",
            written.rows_not_all_learnt
        );
    }
    eprintln!("{} preference pairs in {}", preferences.len(), second.display());
    Ok([written.rows, preferences.len()])
}

/// Writes the prompts that a model wrote, as `prompts` stages read them, where there are some. Returns how many.
fn write_prompts(args: &ExportArgs, written: &OfStages<WrittenPrompt>) -> Result<usize> {
    let prompts: Vec<&Prompt> =
        written.iter().flat_map(|(_, items)| items).map(|item| &item.data.prompt).collect();
    if !prompts.is_empty() {
        let path = args.out.join(PROMPTS);
        solon_data::export::write_prompts(&path, &prompts)?;
        eprintln!("{} prompts that a model wrote in {}", prompts.len(), path.display());
    }
    Ok(prompts.len())
}

/// Writes what everybody says of the pairs. Returns how many pairs there are, and how each stage labelled.
fn annotated_pairs(
    args: &ExportArgs,
    ledger: &Ledger,
    recipe: &Recipe,
    of_now: &BTreeSet<String>,
    labelled: &OfStages<Labelled>,
) -> Result<(usize, Vec<LabelledBy>)> {
    let mut pairs = Pairs::new(ledger, labelled.len() > 1);
    for ((stage, kind), items) in labelled {
        pairs.add((stage, kind), items)?;
    }
    for (name, kind) in stages(recipe).filter(|(name, _)| of_now.contains(*name)) {
        if kind == "infer" {
            pairs.add_votes_by_principle(name)?;
        }
    }
    for file in &args.votes {
        let on_others = pairs.add_people(file)?;
        if on_others > 0 {
            eprintln!("note: {on_others} votes of {} are on pairs that the run has not", file.display());
        }
    }
    let form = |stage: &str| {
        let table = recipe.stages.iter().find(|table| stage_name(table) == Some(stage));
        let form = table.and_then(|table| table.get("form")).and_then(toml::Value::as_str);
        form.filter(|form| *form == "paper").map(|_| "the Constitutional AI paper")
    };
    let how = pairs.labellings.iter().map(|(stage, labelling)| {
        let sources: Vec<&str> = labelling.sources.iter().map(String::as_str).collect();
        let asks: Vec<&str> = labelling.asks.iter().copied().collect();
        let counts = (labelling.labels, labelling.voted);
        LabelledBy {
            stage: stage.clone(),
            how: how_labelled(&sources.join(" and "), &asks, counts, labelling.both_orders, form(stage)),
        }
    });
    let how = how.collect();
    // The time is that of the run: exported again, the file is the same.
    let started = ledger.stages()?.iter().map(|stage| stage.started_at).min().unwrap_or(0);
    let description =
        format!("Preference pairs of the run {}, by Solon {}", recipe.name, env!("CARGO_PKG_VERSION"));
    let made = AnnotatedPairs::new(
        recipe.name.clone(),
        description,
        iso(started),
        pairs.annotators,
        pairs.comparisons,
    );
    let path = args.out.join(ANNOTATED_PAIRS);
    made.write(&path)?;
    let (pairs, annotators) = made.counts();
    eprintln!("{pairs} pairs with {annotators} annotators in {}", path.display());
    Ok((pairs, how))
}

/// Writes the data card.
fn write_card(
    run: &Path,
    out: &Path,
    &[demonstrations, preferences]: &[usize; 2],
    pairs: usize,
    prompts: usize,
    labelled: &[LabelledBy],
) -> Result<()> {
    let id = ("id", "the item in the run's ledger, for `solon explain`");
    let cut_off = "whether an answer ran into the limit of new tokens; left out where none did";
    let mut files = vec![
        DataFile {
            name: DEMONSTRATIONS,
            rows: demonstrations,
            about: "a conversation to imitate, in TRL's prompt-completion form",
            columns: vec![
                id,
                ("prompt", "the messages before the answer"),
                ("completion", "the answer, and turns after it if there are some"),
                ("cut_off", cut_off),
            ],
            is_table: true,
        },
        DataFile {
            name: PREFERENCES,
            rows: preferences,
            about: "a pair of answers, in TRL's preference form; the likelier better answer is `chosen`",
            columns: vec![
                id,
                ("prompt", "the messages before the answers"),
                ("chosen", "the answer that is more likely the better one"),
                ("rejected", "the other answer"),
                ("probability", "the probability that `chosen` is the better one, from 0.5 to 1"),
                ("margin", "how much better, where the source of the pair says so"),
                ("source", "who labelled"),
                ("cut_off", cut_off),
            ],
            is_table: true,
        },
        DataFile {
            name: ANNOTATED_PAIRS,
            rows: pairs,
            about: "the same pairs with what each labeller, each principle and people say of them, for Feedback Forensics",
            columns: vec![
                ("metadata", "the data set"),
                ("annotators", "who says something, by id"),
                (
                    "comparisons",
                    "the pairs, with a preference for `a` or `b` by each annotator and its probability",
                ),
            ],
            is_table: false,
        },
    ];
    if prompts > 0 {
        files.push(DataFile {
            name: PROMPTS,
            rows: prompts,
            about: "a prompt that a model wrote",
            columns: vec![
                id,
                ("messages", "the prompt"),
                ("kind", "the kind of the prompts it was written after, which nothing has checked"),
                ("category", "their category"),
            ],
            is_table: true,
        });
    }
    let card = Run::reopen(run)?.data_card(&files, labelled)?;
    // What somebody wrote or edited there stays.
    let readme = out.join("README.md");
    let is_free = match std::fs::read(&readme) {
        Ok(there) => there == card.as_bytes(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    let path = if is_free { readme } else { out.join("DATA_CARD.md") };
    write_bytes_atomically(&path, card.as_bytes())?;
    eprintln!("the data card is {}", path.display());
    if !is_free {
        eprintln!("note: there is another README.md, which is left as it is");
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

/// The stages' names and kinds, in their order.
fn stages(recipe: &Recipe) -> impl Iterator<Item = (&str, &str)> {
    recipe.stages.iter().filter_map(|stage| Some((stage_name(stage)?, stage.get("kind")?.as_str()?)))
}

/// The items that some stages, told by their kind and name, made and did not drop, in the order of the stages.
fn kept<T: ItemData>(
    ledger: &Ledger,
    recipe: &Recipe,
    wanted: impl Fn(&str, &str) -> bool,
) -> Result<OfStages<T>> {
    let of_stages = stages(recipe)
        .filter(|(name, kind)| wanted(kind, name))
        .map(|(name, kind)| Ok(((name.to_owned(), kind.to_owned()), ledger.kept_items(name)?)));
    of_stages.collect()
}
