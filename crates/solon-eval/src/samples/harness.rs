//! Sample logs of lm-evaluation-harness, `samples_TASK_DATE.jsonl` as 0.4.13 writes them with `--log_samples`.
//!
//! Contract: the task's name is that of the file, because rows do not hold it. Items get the ids that Solon gives them: of
//! `mmlu_anatomy` the document 3 is `anatomy/3`, of `truthfulqa_mc1` it is `3/mc1`; of other tasks it is `TASK/3`. Where a
//! task has several filters, the filter's name ends the id. Log-probs stand in the file as text, with whether the option is
//! the greedy answer beside each.
//! Source: `lm_eval/evaluator.py` (`example`) and `lm_eval/loggers/evaluation_tracker.py` (`save_results_samples`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{HINT, Sample, likeliest};
use crate::benchmark::Outcome;
use crate::error::EvalError;

/// One line; it has other keys, among them one for each of `metrics`.
#[derive(Deserialize)]
pub(super) struct Row {
    doc_id: u64,
    #[serde(default)]
    doc: Value,
    #[serde(default)]
    target: Value,
    #[serde(default)]
    arguments: Value,
    #[serde(default)]
    filtered_resps: Vec<Value>,
    #[serde(default)]
    filter: Option<String>,
    #[serde(default)]
    metrics: Vec<String>,
    #[serde(default)]
    doc_hash: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// The keys of a document that hold its question.
const QUESTION: [&str; 5] = ["question", "query", "prompt", "problem", "input"];

impl Row {
    pub(super) fn sample(self, task: Option<&str>) -> Result<Sample, String> {
        let subject = self.doc.get("subject").and_then(Value::as_str);
        let known = match (task, subject) {
            (Some(task), _) => Some(task.to_owned()),
            // A file that was renamed; MMLU's documents say of what subject they are.
            (None, Some(subject)) => Some(format!("mmlu_{subject}")),
            (None, None) => None,
        };
        let mut id = id(known.as_deref(), self.doc_id);
        if let Some(filter) = self.filter.as_deref().filter(|filter| *filter != "none") {
            id = format!("{id}/{filter}");
        }
        let log_probs = log_probs(&self.filtered_resps)?;
        let answer = match &self.filtered_resps[..] {
            [Value::String(text)] => Some(text.clone()),
            _ => None,
        };
        let context = self.arguments.pointer("/gen_args_0/arg_0").and_then(Value::as_str);
        let question = QUESTION.iter().find_map(|key| self.doc.get(key)?.as_str());
        let questions = question.into_iter().chain(context).map(str::to_owned).chain(self.doc_hash);
        let name = |metric: &str| figure(known.as_deref(), metric);
        let figures = self.metrics.iter().filter_map(|metric| {
            let outcome = match self.others.get(metric)? {
                Value::Bool(holds) => Outcome::Holds(*holds),
                number => Outcome::Number(number.as_f64()?),
            };
            Some((name(metric), outcome))
        });
        Ok(Sample {
            id,
            questions: questions.collect(),
            choice: likeliest(&log_probs),
            right: place(&self.target).filter(|place| *place < log_probs.len()),
            figures: figures.collect(),
            log_probs,
            answer,
        })
    }
}

/// The id that Solon gives a task's document.
fn id(task: Option<&str>, doc: u64) -> String {
    match task {
        Some("truthfulqa_mc1") => format!("{doc}/mc1"),
        Some("truthfulqa_mc2") => format!("{doc}/mc2"),
        Some(task) => match task.strip_prefix("mmlu_") {
            Some(subject) => format!("{}/{doc}", subject.strip_suffix("_continuation").unwrap_or(subject)),
            None => format!("{task}/{doc}"),
        },
        None => doc.to_string(),
    }
}

/// Solon's name of a metric.
fn figure(task: Option<&str>, metric: &str) -> String {
    match (metric, task) {
        ("acc", Some("truthfulqa_mc1")) => "mc1",
        ("acc", Some("truthfulqa_mc2")) => "mc2",
        ("acc", _) => "accuracy",
        ("acc_norm", Some(task)) if task.starts_with("mmlu_") => "accuracy_by_length",
        _ => metric,
    }
    .to_owned()
}

/// The log-probs of a row whose responses are of options, `["-1.77", "False"]` each; none of a row with an answer.
fn log_probs(responses: &[Value]) -> Result<Vec<f64>, String> {
    let pairs = responses.iter().map_while(|response| match response.as_array().map(Vec::as_slice) {
        Some([log_prob, _]) => Some(log_prob),
        _ => None,
    });
    let number = |log_prob: &Value| match log_prob {
        Value::String(text) => {
            text.trim().parse::<f64>().map_err(|_| format!("{text:?} is no log-prob\n{HINT}"))
        }
        other => other.as_f64().ok_or_else(|| format!("{other} is no log-prob\n{HINT}")),
    };
    let found: Vec<f64> = pairs.map(number).collect::<Result<_, _>>()?;
    // Rows of perplexity tasks mix numbers and pairs.
    Ok(if found.len() == responses.len() { found } else { Vec::new() })
}

/// The place that a target names: the harness writes it as text.
fn place(target: &Value) -> Option<usize> {
    match target {
        Value::String(text) => text.trim().parse().ok(),
        other => usize::try_from(other.as_u64()?).ok(),
    }
}

/// The task of a file called `samples_TASK_DATE.jsonl`.
pub(super) fn task(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let (task, date) = name.strip_prefix("samples_")?.strip_suffix(".jsonl")?.rsplit_once('_')?;
    date.starts_with(|c: char| c.is_ascii_digit()).then(|| task.to_owned())
}

/// The harness's files in a folder, or in the one folder inside it that holds some: `--output_path` makes a folder for each
/// model.
///
/// Errors where there is none, where several folders hold some, and where two are of one task.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, EvalError> {
    let wrong = |reason: String| EvalError::File { path: folder.to_owned(), reason };
    let listed = |folder: &Path| -> Result<Vec<PathBuf>, EvalError> {
        let entries = std::fs::read_dir(folder).map_err(|error| wrong(error.to_string()))?;
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(|error| wrong(error.to_string())))
            .collect::<Result<_, _>>()?;
        paths.sort();
        Ok(paths)
    };
    let here = listed(folder)?;
    let logs = |paths: &[PathBuf]| -> Vec<PathBuf> {
        paths.iter().filter(|path| path.is_file() && task(path).is_some()).cloned().collect()
    };
    let mut found = logs(&here);
    if found.is_empty() {
        let inside: Vec<Vec<PathBuf>> = here
            .iter()
            .filter(|path| path.is_dir())
            .map(|path| Ok(logs(&listed(path)?)))
            .collect::<Result<_, EvalError>>()?;
        let mut inside = inside.into_iter().filter(|logs| !logs.is_empty());
        match (inside.next(), inside.next()) {
            (Some(only), None) => found = only,
            (Some(_), Some(_)) => {
                let what = "several folders in it hold samples_TASK_DATE.jsonl\nhint: give one of them";
                return Err(wrong(what.to_owned()));
            }
            (None, _) => return Err(wrong(format!("it holds no samples_TASK_DATE.jsonl\n{HINT}"))),
        }
    }
    let mut tasks = BTreeSet::new();
    if let Some(twice) = found.iter().filter_map(|file| task(file)).find(|task| !tasks.insert(task.clone())) {
        let what =
            format!("it holds the task {twice} of several dates\nhint: give one file, or remove the others");
        return Err(wrong(what));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::file;
    use crate::samples::{Form, read};

    /// As the harness wrote it, with the texts cut.
    const MULTIPLE_CHOICE: &str = r#"{"doc_id": 3, "doc": {"question": "How many?", "subject": "anatomy", "choices": ["1", "2"], "answer": 1}, "target": "1", "arguments": {"gen_args_0": {"arg_0": "The following.\n\nHow many?\nAnswer:", "arg_1": " A"}, "gen_args_1": {"arg_0": "The following.\n\nHow many?\nAnswer:", "arg_1": " B"}}, "resps": [[["-1.5", "True"]], [["-2.5", "False"]]], "filtered_resps": [["-1.5", "True"], ["-2.5", "False"]], "filter": "none", "metrics": ["acc"], "doc_hash": "db3e", "prompt_hash": "ff61", "target_hash": "5fec", "acc": 0.0}"#;
    const GENERATED: &str = r#"{"doc_id": 0, "doc": {"problem": "Add."}, "target": "four", "arguments": {"gen_args_0": {"arg_0": "Add.\nAnswer:", "arg_1": {"until": ["\n"]}}}, "resps": [[" A"]], "filtered_resps": [" A"], "filter": "strict-match", "metrics": ["exact_match"], "doc_hash": "ab", "exact_match": 0.0}"#;

    #[test]
    fn rows_get_the_ids_and_names_of_solon() {
        for (name, id, figure) in [
            ("samples_mmlu_anatomy_2026-11-28T21-00-58.461010.jsonl", "anatomy/3", "accuracy"),
            ("samples_mmlu_anatomy_continuation_2026-11-28T21-00-58.461010.jsonl", "anatomy/3", "accuracy"),
            ("samples_truthfulqa_mc1_2026-11-28T21-00-58.461010.jsonl", "3/mc1", "mc1"),
            ("samples_truthfulqa_mc2_2026-11-28T21-00-58.461010.jsonl", "3/mc2", "mc2"),
            ("samples_hellaswag_2026-11-28T21-00-58.461010.jsonl", "hellaswag/3", "accuracy"),
            ("renamed.jsonl", "anatomy/3", "accuracy"),
        ] {
            let (_folder, path) = file(name, MULTIPLE_CHOICE);
            let samples = read(&path).unwrap();
            assert_eq!(samples.form, Form::LmEvaluationHarness);
            let row = &samples.rows[0];
            assert_eq!(
                (row.id.as_str(), row.figures.keys().next().unwrap().as_str()),
                (id, figure),
                "{name}"
            );
            assert_eq!((&row.log_probs[..], row.choice, row.right), (&[-1.5, -2.5][..], Some(0), Some(1)));
            assert_eq!(row.questions, ["How many?", "The following.\n\nHow many?\nAnswer:", "db3e"]);
        }
        let (_folder, path) = file("samples_gsm_2026.jsonl", GENERATED);
        let row = &read(&path).unwrap().rows[0];
        assert_eq!((row.id.as_str(), row.answer.as_deref()), ("gsm/0/strict-match", Some(" A")));
        assert_eq!((row.log_probs.len(), row.choice, row.right), (0, None, None));
        assert_eq!(row.figures["exact_match"], Outcome::Number(0.0));
    }

    #[test]
    fn a_folder_is_read_task_by_task() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, MULTIPLE_CHOICE).unwrap();
        };
        let error = || read(folder.path()).unwrap_err().to_string();
        write("results_2026.json");
        assert!(error().contains("it holds no samples_TASK_DATE.jsonl"), "{}", error());
        write("model/samples_truthfulqa_mc1_2026-11.jsonl");
        write("model/samples_mmlu_anatomy_2026-11.jsonl");
        let ids: Vec<String> = read(folder.path()).unwrap().rows.into_iter().map(|row| row.id).collect();
        assert_eq!(ids, ["anatomy/3", "3/mc1"]);
        write("other/samples_mmlu_anatomy_2026-11.jsonl");
        assert!(error().contains("several folders in it"), "{}", error());
        write("samples_mmlu_anatomy_2026-11.jsonl");
        assert_eq!(read(folder.path()).unwrap().rows.len(), 1);
        write("samples_mmlu_anatomy_2026-12.jsonl");
        assert!(error().contains("the task mmlu_anatomy of several dates"), "{}", error());
    }
}
