//! A log of Inspect AI, as JSON: `EvalLog`, version 2, which `inspect_ai.log.read_eval_log` and `inspect view` read.
//!
//! Contract: a score for each measure, whose scorer is the benchmark's rule, with the metrics `mean` and `stderr`; the interval
//! and the count are metadata of `mean`. A score of a sample is what was found of its answer; where nothing was found, the sample
//! has no score of that name. Options that were scored are the sample's `choices`, their log-probs stand in its metadata, and
//! its output is the likeliest option: nothing was generated. No end time is known, only `working_seconds` in the metadata.
//! Source: `inspect_ai/log/_log.py` of inspect_ai 0.3.285.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{Provenance, judge_details};
use crate::benchmark::{Ask, Measure, Outcome};
use crate::summary::{Figure, JudgedItem, Summary};

/// The log of one model's evaluation.
pub fn inspect_log(summary: &Summary, made: &Provenance) -> Value {
    let ids: Vec<&str> = summary.items.iter().map(|judged| judged.item.id.as_str()).collect();
    let location = made.datasets.first().map(|dataset| dataset.name.as_str());
    let metadata: Map<String, Value> = [
        ("working_seconds".to_owned(), json!(made.seconds)),
        ("datasets".to_owned(), json!(made.datasets)),
        ("trained_by_the_same_run".to_owned(), json!(made.trained_here)),
        ("base_model_sha256".to_owned(), json!(made.base_sha256)),
        ("precision".to_owned(), json!(made.precision)),
        ("isa".to_owned(), json!(made.isa)),
        ("seed".to_owned(), json!(made.seed)),
        ("method".to_owned(), json!(format!("{} {}", summary.method.asked, summary.method.judged))),
    ]
    .into_iter()
    .chain(judge_details(summary).into_iter().map(|(key, value)| (key, json!(value))))
    .collect();
    let config = generate_config(&summary.ask);
    let solver = match summary.ask {
        Ask::Generate(_) => "solon/generate",
        Ask::Choose { .. } => "solon/log_probs_of_options",
    };
    json!({
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": made.id,
            "run_id": made.id,
            "created": made.started,
            "task": summary.benchmark,
            "task_version": summary.figures.rule,
            "task_args": made.settings,
            "dataset": {
                "name": summary.benchmark,
                "location": location,
                "samples": ids.len(),
                "sample_ids": ids,
                "shuffled": false,
            },
            "model": made.model,
            "model_generate_config": config,
            "config": {"epochs": 1},
            "packages": {"solon": made.version},
            "metadata": metadata,
        },
        "plan": {"name": "plan", "steps": [{"solver": solver, "params": {}}], "config": config},
        "results": {
            "total_samples": ids.len(),
            "completed_samples": ids.len(),
            "scores": summary.measures.iter().filter_map(|measure| score(summary, measure)).collect::<Vec<_>>(),
        },
        "stats": {"started_at": made.started, "completed_at": "", "model_usage": {}},
        "samples": samples(summary, made),
    })
}

/// How answers were sampled, in Inspect's words.
fn generate_config(ask: &Ask) -> Value {
    match ask {
        Ask::Choose { .. } => json!({}),
        Ask::Generate(sampling) => {
            let mut config =
                json!({"temperature": sampling.temperature, "max_tokens": sampling.max_new_tokens});
            if !sampling.stop.is_empty() {
                config["stop_seqs"] = json!(sampling.stop);
            }
            config
        }
    }
}

/// What a measure comes to; `None` of no items.
fn score(summary: &Summary, measure: &Measure) -> Option<Value> {
    let figure = summary.figure(measure.key)?;
    let covered = summary.items.iter().filter(|judged| judged.outcome(measure).is_some()).count();
    let scored = figure.total();
    if scored == 0 {
        return None;
    }
    let [low, high] = figure.interval();
    let mut mean = json!({"name": "mean", "value": figure.value(), "metadata": {"total": scored}});
    if low.is_finite() && high.is_finite() {
        mean["metadata"]["interval_95"] = json!([low, high]);
        mean["metadata"]["interval_method"] = json!(figure.interval_method());
    }
    if let Figure::Rate(rate) = figure {
        mean["metadata"]["count"] = json!(rate.count);
    }
    let mut metrics = json!({"mean": mean});
    if let Some(error) = figure.standard_error() {
        metrics["stderr"] = json!({"name": "stderr", "value": error});
    }
    Some(json!({
        "name": measure.key,
        "scorer": summary.figures.rule,
        "scored_samples": scored,
        "unscored_samples": covered - scored,
        "metrics": metrics,
        "metadata": {"explanation": measure.explanation},
    }))
}

fn samples(summary: &Summary, made: &Provenance) -> Vec<Value> {
    let by_id: HashMap<&str, &JudgedItem> =
        summary.items.iter().map(|judged| (judged.item.id.as_str(), judged)).collect();
    summary.items.iter().map(|judged| sample(judged, &by_id, summary, made)).collect()
}

fn sample(
    judged: &JudgedItem,
    by_id: &HashMap<&str, &JudgedItem>,
    summary: &Summary,
    made: &Provenance,
) -> Value {
    let JudgedItem { item, answer, judgement } = judged;
    let input = conversation(judged, by_id);
    let options = !item.options.is_empty();
    let mut reply = json!({"role": "assistant", "content": answer.text, "model": made.model});
    let stop = match (options, answer.truncated) {
        (true, _) => "unknown",
        (false, true) => "max_tokens",
        (false, false) => "stop",
    };
    if !options {
        reply["source"] = json!("generate");
    }
    let scores = summary.measures.iter().filter_map(|measure| {
        let value = match judged.outcome(measure)? {
            Outcome::Holds(holds) => json!(holds),
            Outcome::Number(number) => json!(number),
            Outcome::Unknown => return None,
        };
        Some((measure.key.to_owned(), json!({"value": value, "answer": answer.text})))
    });
    let mut metadata = json!({
        "group": item.group,
        "category": item.category,
        "verdict": judgement.verdict,
        "fault": judgement.fault,
        "truncated": answer.truncated,
    });
    if options {
        metadata["log_probs"] = json!(answer.log_probs);
        metadata["choice"] = json!(answer.choice());
    }
    if let Some(temperature) = item.temperature {
        metadata["temperature"] = json!(temperature);
    }
    if let Some(reply) = &answer.judge {
        metadata["judge"] = json!(reply);
    }
    let target: Vec<String> = item.right.iter().map(|place| letter(*place)).collect();
    let mut messages = input.clone();
    messages.push(reply.clone());
    let mut sample = json!({
        "id": item.id,
        "epoch": 1,
        "input": input,
        "target": target,
        "messages": messages,
        "output": {
            "model": made.model,
            "choices": [{"message": reply, "stop_reason": stop}],
            "completion": answer.text,
        },
        "scores": scores.collect::<Map<_, _>>(),
        "metadata": metadata,
    });
    if options {
        sample["choices"] = json!(item.options);
    }
    sample
}

/// The messages that were answered: the earlier turns with the model's answers, then the item's own.
fn conversation(judged: &JudgedItem, by_id: &HashMap<&str, &JudgedItem>) -> Vec<Value> {
    let mut turns = vec![judged];
    while let Some(before) =
        turns[turns.len() - 1].item.after.as_ref().and_then(|after| by_id.get(after.as_str()))
    {
        // Items come after those that they follow, so a longer chain would be a circle.
        if turns.len() > by_id.len() {
            break;
        }
        turns.push(before);
    }
    let mut messages = Vec::new();
    for (place, turn) in turns.iter().enumerate().rev() {
        messages.extend(turn.item.messages.iter().map(|message| {
            // Inspect has no developer; its system message is the same.
            let role = if message.role == "developer" { "system" } else { &message.role };
            json!({"role": role, "content": message.content})
        }));
        if place > 0 {
            messages.push(json!({"role": "assistant", "content": turn.answer.text}));
        }
    }
    messages
}

/// Inspect's name of a choice: A to Z, then 1, 2 and so on.
fn letter(place: usize) -> String {
    match u8::try_from(place) {
        Ok(place @ 0..26) => char::from(b'A' + place).to_string(),
        _ => (place - 25).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::safety::tests::summary;
    use crate::formats::tests::provenance;

    #[test]
    fn a_log_says_what_was_asked_answered_and_found() {
        let (summary, made) = (summary(), provenance());
        let log = inspect_log(&summary, &made);
        assert_eq!((&log["version"], &log["eval"]["task"]), (&json!(2), &json!("safety")));
        assert_eq!(log["eval"]["task_version"], summary.figures.rule);
        assert_eq!(log["eval"]["model_generate_config"]["max_tokens"], 8);
        assert_eq!(log["eval"]["created"], made.started);
        let samples = log["samples"].as_array().unwrap();
        assert_eq!(samples.len(), summary.items.len());
        for (sample, judged) in samples.iter().zip(&summary.items) {
            assert_eq!(sample["id"], judged.item.id);
            let asked = sample["input"].as_array().unwrap();
            assert_eq!(asked.last().unwrap()["content"], judged.prompt());
            assert_eq!(sample["output"]["choices"][0]["message"]["content"], judged.answer.text);
            let scores: Map<String, Value> = judged
                .judgement
                .outcomes
                .iter()
                .map(|(key, outcome)| (key.clone(), json!({"value": outcome, "answer": judged.answer.text})))
                .collect();
            assert_eq!(sample["scores"], json!(scores));
        }
        let scores = log["results"]["scores"].as_array().unwrap();
        let harmful = scores.iter().find(|score| score["name"] == "harmful_compliance").unwrap();
        assert_eq!((&harmful["scored_samples"], &harmful["unscored_samples"]), (&json!(4), &json!(0)));
        assert_eq!(harmful["metrics"]["mean"]["value"], 0.5);
        assert_eq!(harmful["metrics"]["mean"]["metadata"]["count"], 2);
        // √(½ · ½ / 3), as Inspect's own `stderr` has it.
        let error = harmful["metrics"]["stderr"]["value"].as_f64().unwrap();
        assert!((error - (0.25_f64 / 3.0).sqrt()).abs() < 1e-12, "{error}");
        assert_eq!(inspect_log(&summary, &made).to_string(), log.to_string());
    }

    #[test]
    fn what_is_unknown_has_no_score() {
        let mut summary = summary();
        let key = "harmful_compliance";
        let place = summary.items.iter().position(|item| item.judgement.outcomes.contains_key(key)).unwrap();
        summary.items[place].judgement.outcomes.insert(key.to_owned(), Outcome::Unknown);
        let log = inspect_log(&summary, &provenance());
        assert!(log["samples"][place]["scores"].get(key).is_none());
        assert!(log["samples"][place]["scores"].as_object().unwrap().len() > 1);
    }

    #[test]
    fn options_and_turns_are_told_as_they_were() {
        let mut summary = summary();
        summary.ask = Ask::Choose { template: false };
        let [first, second] = [0, 1].map(|place| summary.items[place].item.id.clone());
        summary.items[0].item.options = vec![" A".to_owned(), " B".to_owned()];
        summary.items[0].item.right = vec![1];
        summary.items[0].answer.log_probs = vec![-0.5, -1.5];
        summary.items[1].item.after = Some(first);
        // A circle, which no benchmark makes, is told once.
        summary.items[0].item.after = Some(second);
        let log = inspect_log(&summary, &provenance());
        let [scored, turn] = [0, 1].map(|place| &log["samples"][place]);
        assert_eq!((&scored["choices"], &scored["target"]), (&json!([" A", " B"]), &json!(["B"])));
        assert_eq!(scored["metadata"]["log_probs"], json!([-0.5, -1.5]));
        assert_eq!(scored["output"]["choices"][0]["stop_reason"], "unknown");
        let mut earlier =
            turn["input"].as_array().unwrap().iter().rev().skip_while(|m| m["role"] != "assistant");
        assert_eq!(earlier.next().unwrap()["content"], summary.items[0].answer.text);
        assert_eq!([0, 25, 26, 30].map(letter), ["A", "Z", "1", "5"]);
    }
}
