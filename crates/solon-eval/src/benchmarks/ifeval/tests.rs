//! Answers judged as the harness judges them, and files that do not fit.

use super::*;
use crate::benchmarks::tests::describes_itself_consistently;
use crate::{Judged, summarise};
use serde_json::json;

fn opened(rows: &[Value], keys: Value) -> Result<Box<dyn Benchmark>, EvalError> {
    let folder = tempfile::tempdir().unwrap();
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(folder.path().join("input_data.jsonl"), text).unwrap();
    open(folder.path(), keys.as_object().unwrap().clone())
}

/// What the harness finds of the same answers; `goldens/make_ifeval_golden.py` made it.
#[test]
fn answers_are_judged_as_in_the_harness() {
    #[derive(Deserialize)]
    struct Golden {
        row: Value,
        answers: Vec<Found>,
    }
    #[derive(Deserialize)]
    struct Found {
        answer: String,
        strict: Vec<bool>,
        loose: Vec<bool>,
    }
    let golden: Vec<Golden> = serde_json::from_str(include_str!("../../../goldens/ifeval.json")).unwrap();
    let rows: Vec<Value> = golden.iter().map(|golden| golden.row.clone()).collect();
    let benchmark = opened(&rows, json!({})).unwrap();
    describes_itself_consistently(&KNOWN, &*benchmark);
    let mut seen = HashSet::new();
    let mut wrong = Vec::new();
    for (item, golden) in benchmark.items().iter().zip(&golden) {
        let names = golden.row["instruction_id_list"].as_array().unwrap();
        seen.extend(names.iter().map(Value::to_string));
        for Found { answer, strict, loose } in &golden.answers {
            let outcomes = benchmark.judge(item, &Answer::written(answer.clone(), false)).outcomes;
            let all = |followed: &[bool]| Outcome::Holds(followed.iter().all(|follows| *follows));
            if (outcomes["prompt_strict"], outcomes["prompt_loose"]) != (all(strict), all(loose)) {
                wrong.push(format!("{names:?} {answer:?}: strict {strict:?}, loose {loose:?}"));
            }
        }
    }
    assert_eq!(seen.len(), 25);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn instructions_are_counted_over_all_prompts() {
    let rows = [
        json!({"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma", "startend:quotation", "detectable_format:title"], "kwargs": [{}, {}, {}]}),
        json!({"key": 2, "prompt": "q", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}),
    ];
    let benchmark = opened(&rows, json!({})).unwrap();
    let judged = benchmark
        .items()
        .iter()
        .zip(["Here:\n\"plain\"", "**no comma**"])
        .map(|(item, text)| Judged::new(&*benchmark, item, Answer::written(text.to_owned(), false)));
    let judged: Vec<Judged> = judged.collect();
    assert_eq!(judged[0].judgement.verdict, "not startend:quotation, detectable_format:title");
    let summary = summarise(&*benchmark, judged).unwrap();
    let value = |key: &str| summary.figure(key).unwrap().value();
    // Of four instructions two are followed, and a third without the first line.
    assert_eq!((value("instruction_strict"), value("instruction_loose")), (0.5, 0.75));
    assert_eq!((value("prompt_strict"), value("prompt_loose")), (0.5, 0.5));
    assert_eq!(benchmark.items()[0].category.as_deref(), Some("3 instructions"));
}

#[test]
fn an_empty_answer_follows_nothing() {
    let rows =
        [json!({"key": 1, "prompt": "p", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})];
    let benchmark = opened(&rows, json!({})).unwrap();
    for text in ["", " \n", "***"] {
        let outcomes =
            benchmark.judge(&benchmark.items()[0], &Answer::written(text.to_owned(), false)).outcomes;
        assert_eq!(outcomes["prompt_strict"], (text == "***").into(), "{text:?}");
    }
}

#[test]
fn sentences_end_by_a_rule() {
    for (text, expected) in [
        ("One. Two! Three?", 3),
        ("No end", 1),
        ("Dr. Smith met J. Doe at 3 p.m. in the U.S. capital. He left.", 2),
        ("He said \"Stop.\" Then he left.", 2),
        ("Wait... what? Yes... It works.", 3),
        ("1. Wash it.\n2. Dry it.", 4),
        ("Version 1.5 is out. See example.com for more", 2),
    ] {
        assert_eq!(text::sentences(text), expected, "{text}");
    }
}

#[test]
fn rows_that_do_not_fit_are_named() {
    let row = |names: Value, kwargs: Value| json!({"key": 7, "prompt": "p", "instruction_id_list": names, "kwargs": kwargs});
    let comma = row(json!(["punctuation:no_comma"]), json!([{}]));
    for (rows, part) in [
        (vec![], "the file has no prompts"),
        (vec![json!({"key": 1})], "line 1: missing field `prompt`"),
        (vec![comma.clone(), comma.clone()], "the id \"7\" appears more than once"),
        (vec![row(json!([]), json!([]))], "prompt 7: 0 instructions"),
        (vec![row(json!(["punctuation:no_comma"]), json!([]))], "1 instructions and 0 `kwargs`"),
        (vec![row(json!(["punctuation:no_coma"]), json!([{}]))], "no instruction `punctuation:no_coma`"),
        (
            vec![row(
                json!(["length_constraints:number_words"]),
                json!([{"num_words": 3, "relation": "more"}]),
            )],
            "`relation` is \"more\"",
        ),
        (
            vec![row(
                json!(["length_constraints:number_words"]),
                json!([{"num_words": null, "relation": "at least"}]),
            )],
            "length_constraints:number_words needs `num_words`",
        ),
        (vec![row(json!(["keywords:existence"]), json!([{"keywords": []}]))], "needs `keywords`"),
    ] {
        let error = opened(&rows, json!({})).err().unwrap().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(opened(&[comma], json!({"limit": 1})).unwrap().items().len(), 1);
}
