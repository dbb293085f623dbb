//! The model card: `README.md` of the delivered folder, with the Hugging Face Hub's front matter.
//!
//! Contract: it says only what the run knows. A licence and a base model are named where the catalogue knows them. Figures
//! stand in the front matter as `model-index` (huggingface/hub-docs, `modelcard.md`). The Hub's newer `.eval_results` files are not
//! written: they name a task of a benchmark's own `eval.yaml`, and no benchmark of ours is known to have one.

use super::data::{Better, Evaluation, Measure, Report};
use super::evaluation::{shown, title};
use super::figures::count;
use super::headline::headline;
use super::judge;
use super::markdown::{Markdown, methods, repeat};
use super::tables;
use super::yaml::yaml;
use serde_json::{Map, Value, json};

/// Benchmarks with their names, and the data sets on the Hub that hold their items. Those of our own have none there.
const DATA_SETS: [(&str, &str, &str); 8] = [
    ("safety", "Solon safety prompts", "solon-safety"),
    ("honesty", "Solon honesty prompts", "solon-honesty"),
    ("mmlu", "MMLU", "cais/mmlu"),
    ("truthfulqa", "TruthfulQA", "truthfulqa/truthful_qa"),
    ("harmbench", "HarmBench", "walledai/HarmBench"),
    ("xstest", "XSTest", "walledai/XSTest"),
    ("hhh", "HHH alignment", "HuggingFaceH4/hhh_alignment"),
    ("mt-bench", "MT-Bench", "HuggingFaceH4/mt_bench_prompts"),
];

/// Kinds of stages that train a policy, which are tags of the Hub by these names.
const METHODS: [&str; 4] = ["sft", "dpo", "ppo", "rloo"];

/// An evaluation of the delivered model, and its column in it.
type Evaluated<'a> = (&'a Evaluation, usize);

/// The card of the delivered model.
pub fn card(report: &Report) -> String {
    let delivered = report.delivered.as_ref().map(|delivered| delivered.name.as_str()).unwrap_or_default();
    // With two judges a model has a column by each.
    let is_of = |column: &str| {
        column.strip_prefix(delivered).is_some_and(|rest| rest.is_empty() || rest.starts_with(" by "))
    };
    let columns = |one: &'_ Evaluation| -> Vec<usize> {
        (0..one.columns.len()).filter(|place| is_of(&one.columns[*place])).collect()
    };
    let evaluated: Vec<Evaluated> = report
        .evaluations
        .iter()
        .flat_map(|one| columns(one).into_iter().map(move |place| (one, place)))
        .collect();
    let mut out = Markdown::default();
    let what = if is_trained(report) { "aligned with Solon" } else { "not changed by Solon" };
    out.heading(1, &format!("{}, {what} ({})", report.model.name, report.setting.name));
    if let Some(sentence) = headline(report) {
        out.paragraph(&sentence);
    }
    intended_use(&mut out);
    training(&mut out, report);
    figures(&mut out, &evaluated);
    out.heading(2, "Limits");
    out.list(limits(report, &evaluated).iter().map(String::as_str));
    out.heading(2, "How to repeat it");
    repeat(&mut out, report);
    let source = concat!("Solon is at ", env!("CARGO_PKG_REPOSITORY"), ".");
    out.paragraph(source);
    format!("---\n{}---\n\n{}", yaml(&front_matter(report, &evaluated)), out.finish())
}

/// Whether a stage trained the delivered model; else it is the base model, because nothing was better.
fn is_trained(report: &Report) -> bool {
    report.delivered.as_ref().is_some_and(|delivered| !delivered.lineage.is_empty())
}

fn intended_use(out: &mut Markdown) {
    out.heading(2, "Intended use");
    out.paragraph(
        "Research on alignment, and trying out a written constitution. The model answers chat messages in the format of its \
         chat template. Before anybody relies on it, measure it on requests like those that it is to get: the figures \
         below are of the prompts of this evaluation alone.",
    );
    out.code(
        "python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n\
         path = \"path/of/this/folder\"\n\
         tokenizer = AutoTokenizer.from_pretrained(path)\n\
         model = AutoModelForCausalLM.from_pretrained(path)\n\
         chat = [{\"role\": \"user\", \"content\": \"How do bees make honey?\"}]\n\
         ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors=\"pt\", return_dict=True)\n\
         print(tokenizer.decode(model.generate(**ids, max_new_tokens=128)[0]))\n",
    );
}

/// What it was trained from and on what.
fn training(out: &mut Markdown, report: &Report) {
    out.heading(2, "How it was made");
    let constitution = match report.constitution.name.as_str() {
        "" => String::new(),
        name => format!(" by the constitution “{name}”"),
    };
    let base = report.model.hub.as_deref().unwrap_or(&report.model.name);
    if !is_trained(report) {
        return out.paragraph(&format!(
            "It is {base}, unchanged: none of the trained models was better by the rule that the recipe gives."
        ));
    }
    out.paragraph(&format!(
        "It is {base}, trained further{constitution}. Adapters are merged into the weights. The stages that trained it, in order:"
    ));
    let lineage = report.delivered.iter().flat_map(|delivered| &delivered.lineage);
    let stages = lineage.filter_map(|name| report.stages.iter().find(|stage| stage.name == *name));
    let sentences: Vec<String> = stages.map(|stage| format!("{}: {}", stage.name, stage.what)).collect();
    out.list(sentences.iter().map(String::as_str));
    let made: Vec<String> = (report.stages.iter())
        .filter(|stage| stage.kind != "evaluate" && stage.items > 0)
        .map(|stage| match stage.dropped.iter().map(|(_, n)| n).sum() {
            0 => format!("{} {}", stage.name, count(stage.items)),
            dropped => format!("{} {} ({} dropped)", stage.name, count(stage.items), count(dropped)),
        })
        .collect();
    if !made.is_empty() {
        out.paragraph(&format!("Items that the stages read or made: {}.", made.join(", ")));
    }
}

fn figures(out: &mut Markdown, evaluated: &[Evaluated]) {
    if evaluated.is_empty() {
        return;
    }
    out.heading(2, "Figures before and after");
    out.paragraph(
        "The first column is the model that the others are compared with; `base` is the model before training. In brackets: the \
         95 % interval, and how many items it is of.",
    );
    for (evaluation, column) in evaluated {
        out.heading(3, &title(evaluation));
        let columns = if *column == 0 { vec![0] } else { vec![0, *column] };
        out.table(&tables::figures(evaluation, &columns));
        methods(out, evaluation, &[]);
    }
}

/// What the figures do not allow, and what the model still does wrong.
fn limits(report: &Report, evaluated: &[Evaluated]) -> Vec<String> {
    let mut limits = Vec::new();
    for (evaluation, column) in evaluated {
        for measure in evaluation.rows.iter().filter(|measure| measure.scored) {
            let figure = |column: usize| {
                let rate = measure.cells.get(column)?.as_ref().filter(|rate| rate.rate.is_finite())?;
                Some(shown(rate, measure.most).0)
            };
            let Some(now) = figure(*column).filter(|_| measure.better == Better::Lower) else { continue };
            let before = figure(0)
                .filter(|_| *column > 0)
                .map(|before| format!("; {} {before}", evaluation.columns[0]));
            limits.push(format!(
                "{} is {now}{}. {}",
                measure.name,
                before.unwrap_or_default(),
                measure.explanation
            ));
        }
        if !evaluation.judges.is_empty() {
            let names: Vec<&str> = evaluation.judges.iter().map(|judge| judge.name.as_str()).collect();
            limits.push(format!(
                "Answers of {} were judged by {}: {}.",
                title(evaluation),
                names.join(" and by "),
                judge::beside(&evaluation.judges).join("; ")
            ));
        }
    }
    if let Some(warning) = report.labeller.as_ref().and_then(|labeller| labeller.warning.as_ref()) {
        limits.push(format!("The model that labelled preferences: {warning}"));
    }
    for warning in &report.warnings {
        if !limits.iter().any(|limit| limit.ends_with(warning.as_str())) {
            limits.push(warning.clone());
        }
    }
    limits.extend(super::evaluation::decided(report));
    limits.push(super::evaluation::one_seed(report.setting.seed));
    limits
}

fn front_matter(report: &Report, evaluated: &[Evaluated]) -> Value {
    let mut front = Map::new();
    let mut put = |key: &str, value: Value| drop(front.insert(key.to_owned(), value));
    let model = &report.model;
    if let Some(license) = &model.license {
        put("license", json!(license));
    }
    if let Some(hub) = &model.hub {
        put("base_model", json!([hub]));
        if is_trained(report) {
            put("base_model_relation", json!("finetune"));
        }
    }
    put("pipeline_tag", json!("text-generation"));
    put("library_name", json!("transformers"));
    let lineage: Vec<&str> = report.delivered.iter().flat_map(|d| &d.lineage).map(String::as_str).collect();
    let mut tags = vec!["solon", "alignment", "conversational"];
    for stage in &report.stages {
        let tag = match stage.kind.as_str() {
            "revise" => "constitutional-ai",
            kind if METHODS.contains(&kind) && lineage.contains(&stage.name.as_str()) => kind,
            _ => continue,
        };
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    put("tags", json!(tags));
    let results: Vec<Value> = evaluated.iter().filter_map(|one| result(*one)).collect();
    if !results.is_empty() {
        put("model-index", json!([{"name": report.setting.name, "results": results}]));
    }
    Value::Object(front)
}

/// An evaluation as a result of `model-index`: the measures of its score, or of a benchmark without one its first.
fn result((evaluation, column): Evaluated) -> Option<Value> {
    let scored: Vec<&Measure> = evaluation.rows.iter().filter(|measure| measure.scored).collect();
    let told = if scored.is_empty() { evaluation.rows.iter().take(1).collect() } else { scored };
    let metric = |measure: &Measure| {
        let rate = measure.cells.get(column)?.as_ref().filter(|rate| rate.rate.is_finite())?;
        let (_, interval) = shown(rate, measure.most);
        let items = count(rate.total);
        let value = (1e4 * rate.rate * measure.most).round() / 1e4;
        let name = format!("{} (95 % interval {interval}; {items} items)", measure.name);
        Some(json!({"type": measure.key, "value": value, "name": name}))
    };
    let metrics: Vec<Value> = told.into_iter().filter_map(metric).collect();
    let known = DATA_SETS.iter().find(|(name, ..)| *name == evaluation.benchmark);
    let (name, id) = known
        .map_or((evaluation.benchmark.as_str(), evaluation.benchmark.as_str()), |(_, name, id)| (name, id));
    let name = format!("{name}, stage {}", evaluation.name);
    (!metrics.is_empty()).then(|| {
        json!({
            "task": {"type": "text-generation"},
            "dataset": {"type": id, "name": name},
            "metrics": metrics,
        })
    })
}
