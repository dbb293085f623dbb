//! A record of Every Eval Ever, the shared schema of evaluation results (evaleval/every_eval_ever, `eval.schema.json` 0.3.0).
//!
//! Contract: a result for each measure of at least one item, with its standard error and its 95 % interval. The schema demands
//! some things that Solon does not know; what stands there then:
//! - `retrieved_timestamp`, when the record was made: when the evaluation began;
//! - `source_organization_name` and `model_availability`: `unknown`;
//! - `evaluator_relationship`: `first_party` of a model that the same run trained, `other` of any other;
//! - `max_score` and `min_score` of a measure that has none: the highest and the lowest finite number, and its details say so;
//! - `lower_is_better` of a measure without a better direction: false, and its details say that neither is better.
//!
//! Items are not in it: the schema wants them in a file of its own, at a path in its repository.

use serde_json::{Map, Value, json};

use super::{Provenance, judge_details};
use crate::benchmark::{Ask, Better, Measure, Unit};
use crate::summary::{Figure, Summary};

/// The schema's version.
const SCHEMA: &str = "0.3.0";

/// The record of one model's evaluation.
pub fn every_eval_ever(summary: &Summary, made: &Provenance) -> Value {
    let time = made.started_at.to_string();
    let id = format!("{}/{}/{time}", summary.benchmark, made.model);
    let mut model_details = strings(made.details());
    model_details.insert("deployment_type".to_owned(), "self_deployed".into());
    model_details.insert("model_availability".to_owned(), "unknown".into());
    let results = summary.measures.iter().filter_map(|measure| result(summary, measure, made, &id));
    json!({
        "schema_version": SCHEMA,
        "evaluation_id": id,
        "evaluation_timestamp": time,
        "retrieved_timestamp": time,
        "source_metadata": {
            "source_name": "Solon",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": if made.trained_here { "first_party" } else { "other" },
        },
        "eval_library": {
            "name": "solon",
            "version": made.version,
            "additional_details": strings([("rule".to_owned(), summary.figures.rule.to_owned())].into_iter().chain(judge_details(summary))),
        },
        "model_info": {
            "name": made.model,
            "id": made.model,
            "inference_engine": {"name": "solon", "version": made.version},
            "additional_details": model_details,
        },
        "evaluation_results": results.collect::<Vec<_>>(),
    })
}

/// Pairs as an object; all values of the schema's details are strings.
fn strings(pairs: impl IntoIterator<Item = (String, String)>) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key, value.into())).collect()
}

/// What a measure comes to; `None` of no items.
fn result(summary: &Summary, measure: &Measure, made: &Provenance, id: &str) -> Option<Value> {
    let figure = summary.figure(measure.key)?;
    let total = figure.total();
    if total == 0 {
        return None;
    }
    let unit = match measure.unit {
        Unit::Share => "proportion",
        Unit::Number { .. } => "points",
    };
    let [least, most] = measure.unit.range();
    let mut config = json!({
        "evaluation_description": measure.explanation,
        "metric_id": format!("solon.{}.{}", summary.benchmark, measure.key),
        "metric_name": measure.title,
        "metric_unit": unit,
        "lower_is_better": measure.better == Better::Lower,
        "score_type": "continuous",
        "min_score": least.max(f64::MIN),
        "max_score": most.min(f64::MAX),
    });
    let known = [
        ("better", measure.better == Better::Neither, "neither direction"),
        ("min_score", least.is_infinite(), "there is none"),
        ("max_score", most.is_infinite(), "there is none"),
    ];
    let known = known.into_iter().filter(|(_, holds, _)| *holds);
    let details = strings(known.map(|(key, _, what)| (key.to_owned(), what.to_owned())));
    if !details.is_empty() {
        config["additional_details"] = details.into();
    }
    let mut uncertainty = json!({"num_samples": total});
    if let Some(error) = figure.standard_error() {
        uncertainty["standard_error"] = json!({"value": error, "method": "analytic"});
    }
    let [lower, upper] = figure.interval();
    if lower.is_finite() && upper.is_finite() {
        uncertainty["confidence_interval"] = json!({
            "lower": lower, "upper": upper, "confidence_level": 0.95, "method": figure.interval_method(),
        });
    }
    let mut details = vec![("items".to_owned(), total.to_string())];
    if let Figure::Rate(rate) = figure {
        details.push(("count".to_owned(), rate.count.to_string()));
    }
    let files =
        made.datasets.iter().map(|dataset| (dataset.name.clone(), format!("sha256:{}", dataset.sha256)));
    let generation = match &summary.ask {
        Ask::Generate(sampling) => json!({
            "generation_args": {"temperature": sampling.temperature, "max_tokens": sampling.max_new_tokens},
        }),
        Ask::Choose { template } => json!({
            "additional_details": {"scored": "log-probs of given options", "chat_template": template.to_string()},
        }),
    };
    Some(json!({
        "evaluation_result_id": format!("{id}/{}", measure.key),
        "evaluation_name": summary.benchmark,
        "source_data": {
            "dataset_name": summary.benchmark,
            "source_type": "other",
            "additional_details": strings(files),
        },
        "evaluation_timestamp": made.started_at.to_string(),
        "metric_config": config,
        "score_details": {"score": figure.value(), "details": strings(details), "uncertainty": uncertainty},
        "generation_config": generation,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::safety::tests::summary;
    use crate::formats::tests::provenance;

    #[test]
    fn every_measure_of_some_items_is_a_result() {
        let (summary, mut made) = (summary(), provenance());
        let record = every_eval_ever(&summary, &made);
        let results = record["evaluation_results"].as_array().unwrap();
        let measured =
            summary.measures.iter().filter(|measure| summary.figure(measure.key).unwrap().total() > 0);
        assert_eq!(results.len(), measured.count());
        let harmful = &results[0];
        assert_eq!(harmful["metric_config"]["metric_id"], "solon.safety.harmful_compliance");
        assert_eq!(harmful["metric_config"]["lower_is_better"], true);
        assert_eq!(harmful["score_details"]["score"], 0.5);
        assert_eq!(harmful["score_details"]["details"], json!({"items": "4", "count": "2"}));
        let interval = &harmful["score_details"]["uncertainty"]["confidence_interval"];
        let rate = summary.rate("harmful_compliance").unwrap();
        assert_eq!((&interval["lower"], &interval["upper"]), (&json!(rate.low), &json!(rate.high)));
        assert_eq!(harmful["source_data"]["additional_details"], json!({"prompts.jsonl": "sha256:cd34"}));
        assert_eq!(record["retrieved_timestamp"], "1790000000");
        assert_eq!(record["model_info"]["additional_details"]["setting_limit"], "4");
        assert_eq!(record["source_metadata"]["evaluator_relationship"], "other");
        made.trained_here = true;
        assert_eq!(
            every_eval_ever(&summary, &made)["source_metadata"]["evaluator_relationship"],
            "first_party"
        );
        let neither =
            results.iter().find(|result| result["metric_config"].get("additional_details").is_some());
        assert_eq!(neither.unwrap()["metric_config"]["lower_is_better"], false);
    }

    #[test]
    fn a_score_says_its_range_and_that_it_has_none() {
        let config = |unit: Unit| {
            let (mut summary, made) = (summary(), provenance());
            let measure = Box::leak(Box::new([summary.measures[0].in_unit(unit)]));
            summary.measures = &measure[..];
            every_eval_ever(&summary, &made)["evaluation_results"][0]["metric_config"].clone()
        };
        let bounded = config(Unit::Number { least: -100.0, most: 100.0 });
        assert_eq!((&bounded["min_score"], &bounded["max_score"]), (&json!(-100.0), &json!(100.0)));
        assert!(bounded.get("additional_details").is_none());
        // The schema demands a number of every continuous score.
        let open = config(Unit::Number { least: 0.0, most: f64::INFINITY });
        assert_eq!((&open["min_score"], &open["max_score"]), (&json!(0.0), &json!(f64::MAX)));
        assert_eq!(open["additional_details"], json!({"max_score": "there is none"}));
        assert_eq!(config(Unit::Share)["max_score"], 1.0);
    }
}
