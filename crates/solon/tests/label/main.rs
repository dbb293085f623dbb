//! `solon label` by a model: on this machine here, on servers in the files below, which have one subject each.

mod again;
mod exported;
#[path = "../place/mod.rs"]
mod place;
mod servers;

use place::server::weighed;
use place::{Place, pairs, rows};
use serde_json::{Value, json};
use solon_infer::chat::{ChatModel, OpenSettings, OptionsRequest};
use solon_kernels::Precision;
use solon_model::{Training, Weights};
use solon_records::Context;

#[test]
fn a_model_labels_in_both_orders_and_is_measured() {
    let place = Place::with_model();
    place.write("pairs.jsonl", &pairs(3));
    let ran = place.run("label --model model --input pairs.jsonl --out out.jsonl", "").ok();
    assert!(ran.err.contains("judge: ") && ran.err.contains("known: accuracy"), "{}", ran.err);
    assert!(ran.out.is_empty());
    let (labelled, labels) = (rows(&place.read("out.jsonl")), rows(&place.read("out.jsonl.labels.jsonl")));
    assert_eq!((labelled.len(), labels.len()), (3, 3));
    for (row, label) in labelled.iter().zip(&labels) {
        let p = label["probability"].as_f64().unwrap();
        assert_eq!(row["probability"].as_f64().unwrap(), p.max(1.0 - p));
        assert_eq!(row["source"], "model");
        let questions: Vec<&str> =
            label["evidence"].as_array().unwrap().iter().map(|e| e["question"].as_str().unwrap()).collect();
        assert_eq!(questions, ["ab", "ba"]);
        assert!(
            label["evidence"][0]["log_probs"][0].is_f64() && label["evidence"][1]["log_probs"][1].is_f64()
        );
        assert!(label["principle_id"].is_string());
    }
    for (ask, options) in [("rate", 2), ("score", 10), ("contrast", 1), ("choice-cot", 2)] {
        let words = format!("label --model model --ask {ask} --input pairs.jsonl --out {ask}.jsonl");
        let ran = place.run(&words, "").ok();
        assert!(ran.err.contains("known: accuracy"), "{}", ran.err);
        assert_eq!(ran.err.contains("in both orders"), ask == "choice-cot", "{}", ran.err);
        for label in rows(&place.read(&format!("{ask}.jsonl.labels.jsonl"))) {
            let p = label["probability"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&p) && (ask != "choice-cot" || (0.4..=0.6).contains(&p)), "{label}");
            for evidence in label["evidence"].as_array().unwrap() {
                assert_eq!(evidence["log_probs"].as_array().unwrap().len(), options, "{label}");
                assert_eq!(evidence["reasoning"].is_string(), ask == "choice-cot", "{label}");
            }
        }
    }
}

/// The numbers are those of the text that the paper writes, followed by " (A)" and " (B)".
#[test]
fn a_model_labels_in_the_papers_form() {
    let place = Place::with_model();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(2));
    let words = "label --model model --constitution c.toml --input pairs.jsonl --set form=paper";
    place.run(&format!("{words} --out out.jsonl"), "").ok();
    let settings = OpenSettings { precision: Precision::auto(), training: Training::None(Weights::Full) };
    let model = ChatModel::open(&place.path("model"), None, settings).unwrap();
    for (n, label) in rows(&place.read("out.jsonl.labels.jsonl")).iter().enumerate() {
        let [evidence] = &label["evidence"].as_array().unwrap()[..] else { panic!("{label}") };
        let (left, right) = (format!("left {n}"), format!("right {n}"));
        let in_order = evidence["question"] == "ab";
        let (a, b) = if in_order { (&left, &right) } else { (&right, &left) };
        let request = OptionsRequest {
            id: "o".into(),
            context: Context::Text(format!(
                "\n\nConsider the following conversation between a human and an assistant:\n\nHuman: ask {n}\n\n\nWhich is \
                 kinder? Options:\n (A) [[[{a}]]]\n (B) [[[{b}]]]\n\nThe answer is:"
            )),
            options: vec![" (A)".into(), " (B)".into()],
        };
        let expected = model.options(&mut model.engine(None), &[request]).unwrap().remove(0).log_probs;
        let shown: Vec<f64> =
            evidence["log_probs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        assert_eq!(shown, expected);
        let p = 1.0 / (1.0 + (expected[1] - expected[0]).exp());
        let first = if in_order { p } else { 1.0 - p };
        assert!((label["probability"].as_f64().unwrap() - first).abs() < 1e-9, "{label}");
    }
    place.run(&format!("{words} --set ask=choice-cot --out cot.jsonl"), "").ok();
    for label in rows(&place.read("cot.jsonl.labels.jsonl")) {
        let p = label["probability"].as_f64().unwrap();
        assert!((0.4..=0.6).contains(&p) && label["evidence"][0]["reasoning"].is_string(), "{label}");
    }
    place
        .run(&format!("{words} --set ask=rate --out r.jsonl"), "")
        .fails(2, &["form of the paper", "hint: "]);
}

/// A constitution of one comparison principle and no examples, so that only the pairs are asked about.
fn plain_constitution(place: &Place) {
    let text = "name = \"t\"\nversion = 1\ndescription = \"d\"\n[[comparison]]\nid = \"kinder\"\nquestion = \"Which is kinder?\"\n";
    std::fs::write(place.path("c.toml"), text).unwrap();
}

/// The text of the question.
fn asked(body: &Value) -> &str {
    body["messages"][0]["content"].as_str().unwrap()
}

/// The number of the pair that is asked about, and its order.
fn which(body: &Value) -> (usize, bool) {
    let text = asked(body);
    let number = text.split("Request: ask ").nth(1).unwrap().split_whitespace().next().unwrap();
    (number.parse().unwrap(), text.contains("Answer A: left"))
}

/// Prefers the answers called right, 3:1, whatever their place.
fn prefers_right(body: &Value) -> String {
    let (a, b) = if asked(body).contains("Answer B: right") { (0.25_f64, 0.75_f64) } else { (0.75, 0.25) };
    let mut options = [("A", a.ln()), ("B", b.ln())];
    options.sort_by(|one, other| other.1.total_cmp(&one.1));
    weighed(&options)
}

#[test]
fn a_model_on_this_machine_is_a_judge_too_and_its_ids_meet_no_others() {
    let place = Place::with_model();
    // The ids of the constitution's own known pairs.
    let row = |id: &str| json!({"id": id, "prompt": "ask", "chosen": "left", "rejected": "right"});
    let labelled = rows(&{
        place.write("pairs.jsonl", &pairs(2));
        place.run("label --judge local:model --input pairs.jsonl --out first.jsonl", "").ok();
        place.read("first.jsonl")
    });
    assert_eq!(labelled.len(), 2);
    assert!(labelled[0]["source"].as_str().unwrap().starts_with("local:"), "{}", labelled[0]);
    let constitution = std::fs::read_to_string("../../constitutions/default.toml").unwrap();
    let examples =
        constitution.split("[[example]]\nid = \"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let taken: Vec<Value> = examples.map(|id| row(&format!("{id}/held-out"))).collect();
    assert!(taken.len() > 100);
    place.write("pairs.jsonl", &taken);
    place.run("label --judge local:model --input pairs.jsonl --out out.jsonl", "").ok();
    assert_eq!(rows(&place.read("out.jsonl")).len(), taken.len());
    place.write("labels.jsonl", &pairs(4));
    let report = place.run("judge report --judge local:model --data labels.jsonl --json", "").ok();
    assert_eq!(serde_json::from_str::<Value>(&report.out).unwrap()["sets"][0]["items"], 4);
}

#[test]
fn judges_that_cannot_work_are_refused_before_anything_is_asked() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(1));
    let words = |judge: &str, more: &str| {
        format!("label --judge {judge} --input pairs.jsonl --out out.jsonl --constitution c.toml {more}")
    };
    place
        .run(&words("openai:m@http://127.0.0.1:9/v1", "--ask contrast"), "")
        .fails(2, &["whole answers", "hint: "]);
    place.run(&words("nobody", ""), "").fails(2, &["no judge `nobody`", "hint: "]);
    place.run(&words("openai:m@http://127.0.0.1:9/v1", "--model x"), "").fails(2, &["--judge", "--model"]);
    place.run(&words("openai:m@http://127.0.0.1:9/v1", "--set votes=0"), "").fails(2, &["votes"]);
    place.run(&words("openai:m@http://127.0.0.1:9/v1", "--set temperature=0"), "").fails(2, &["temperature"]);
    place
        .run(&words("openai:m@http://127.0.0.1:9/v1", "--set about=nothing --ask apart"), "")
        .fails(2, &["about"]);
}
