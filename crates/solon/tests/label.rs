//! `solon label`: by a model on this machine, and by one on a server that fails in every way.

mod place;

use place::server::{Server, said, weighed};
use place::{Place, pairs, rows};
use serde_json::{Value, json};
use solon_infer::chat::{ChatModel, OpenSettings, OptionsRequest};
use solon_kernels::Precision;
use solon_model::{Training, Weights};
use solon_records::Context;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Prefers the answers called right, 3:1, whatever their place.
fn prefers_right(body: &Value) -> String {
    let (a, b) = if asked(body).contains("Answer B: right") { (0.25_f64, 0.75_f64) } else { (0.75, 0.25) };
    let mut options = [("A", a.ln()), ("B", b.ln())];
    options.sort_by(|one, other| other.1.total_cmp(&one.1));
    weighed(&options)
}

#[test]
fn a_server_labels_by_its_log_probs_and_no_model_is_needed_here() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(5));
    let server = Server::new(|_, body| (200, prefers_right(body)));
    let words = format!(
        "label --judge openai:big@{} --input pairs.jsonl --out out.jsonl --constitution c.toml",
        server.url
    );
    place.run(&words, "").ok();
    let (labelled, labels) = (rows(&place.read("out.jsonl")), rows(&place.read("out.jsonl.labels.jsonl")));
    assert_eq!(server.count(), 10);
    for (number, (row, label)) in labelled.iter().zip(&labels).enumerate() {
        assert_eq!(row["id"], format!("p{number}"));
        assert_eq!(row["chosen"][0]["content"], format!("right {number}"));
        assert!((row["probability"].as_f64().unwrap() - 0.75).abs() < 1e-9, "{row}");
        assert_eq!(row["source"], "openai:big");
        assert_eq!(label["evidence"][0]["principle_id"], "kinder");
    }
    // What is done is not asked again; a pair that is new is.
    place.run(&words, "").ok();
    assert_eq!(server.count(), 10);
    let body = server.answered.lock().unwrap()[0].clone();
    assert_eq!(
        (&body["model"], &body["logprobs"], &body["temperature"]),
        (&json!("big"), &json!(true), &json!(0.0))
    );
    place.write("more.jsonl", &pairs(6));
    place.run(&words.replace("pairs.jsonl", "more.jsonl"), "").ok();
    assert_eq!(server.count(), 12, "only the new pair is asked about");
}

#[test]
fn a_server_without_log_probs_votes() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(1));
    // Three of four votes for the right answer in one order, all in the other. The first question asks for one token.
    let right_is_b = AtomicUsize::new(0);
    let server = Server::new(move |_, body| {
        let vote = body["max_tokens"] != 1 && asked(body).contains("Answer B: right");
        let text = match (
            asked(body).contains("Answer B: right"),
            vote.then(|| right_is_b.fetch_add(1, Ordering::SeqCst)),
        ) {
            (true, Some(2)) => "A",
            (true, _) => "Answer: B",
            (false, _) => "A.",
        };
        (200, said(text))
    });
    let words = format!(
        "label --judge openai:big@{} --input pairs.jsonl --out out.jsonl --constitution c.toml --set votes=4",
        server.url
    );
    place.run(&words, "").ok();
    let label = &rows(&place.read("out.jsonl.labels.jsonl"))[0];
    let votes: Vec<Vec<u64>> = label["evidence"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["votes"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect())
        .collect();
    // The pair's first answer is "left": as A it gets 1 of 4 votes, as B none.
    assert_eq!(votes, [[1, 3], [4, 0]], "{label}");
    let middle = |votes: f64| (votes + 1.920_729_410) / (4.0 + 3.841_458_821);
    let p = label["probability"].as_f64().unwrap();
    assert!((p - (middle(1.0) + middle(0.0)) / 2.0).abs() < 1e-6, "{label}");
}

#[test]
fn what_gets_no_reply_that_can_be_used_is_written_with_its_reason() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(6));
    let server = Server::new(|_, body| match asked(body) {
        text if text.contains("ask 0") => (200, said("")),
        text if text.contains("ask 1") => (200, said("I'm sorry, but I can't help with that.")),
        text if text.contains("ask 2") => (200, said("Both A and B are good.")),
        text if text.contains("ask 3") => (200, said("Hm.")),
        text if text.contains("ask 4") => (400, "{\"error\": {\"message\": \"content policy\"}}".to_owned()),
        _ => (200, prefers_right(body)),
    });
    let words = format!(
        "label --judge openai:big@{} --input pairs.jsonl --out out.jsonl --constitution c.toml",
        server.url
    );
    let ran = place.run(&words, "").ok();
    assert!(ran.err.contains("1 labelled pairs") && ran.err.contains("5 pairs have no label"), "{}", ran.err);
    let written = rows(&place.read("out.jsonl"));
    let reasons: Vec<&str> =
        written.iter().map(|row| row["unlabelled"].as_str().unwrap_or_default()).collect();
    for (reason, part) in reasons.iter().zip([
        "empty",
        "declines",
        "names several options",
        "names no option",
        "content policy",
        "",
    ]) {
        assert!(reason.contains(part) && reason.is_empty() == part.is_empty(), "{part}: {reasons:?}");
    }
    assert_eq!(
        (&written[0]["id"], &written[0]["first"], &written[0]["chosen"]),
        (&json!("p0"), &json!("left 0"), &Value::Null)
    );
    assert_eq!(rows(&place.read("out.jsonl.labels.jsonl")).len(), 1);
    // It can be trained on as it is, and labelled again.
    let again = words.replace("pairs.jsonl", "out.jsonl").replace("--out out.jsonl", "--out again.jsonl");
    place.run(&again, "").ok();
    assert_eq!(rows(&place.read("again.jsonl")).len(), 6);
}

/// It answers 6 questions, then fails for ever; then it works again.
#[test]
fn a_server_that_breaks_ends_the_run_and_what_it_said_is_kept() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(40));
    let works = Arc::new(AtomicUsize::new(6));
    let left = Arc::clone(&works);
    let server = Server::new(move |_, body| {
        match left.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => (200, prefers_right(body)),
            Err(_) => (500, "{}".to_owned()),
        }
    });
    let words = format!(
        "label --judge openai:big@{} --input pairs.jsonl --out out.jsonl --constitution c.toml --retries 0",
        server.url
    );
    place.run(&words, "").fails(1, &["HTTP 500", "questions in a row", "hint: "]);
    assert!(!place.path("out.jsonl").exists());
    assert_eq!(server.count(), 6);
    works.store(1000, Ordering::SeqCst);
    place.run(&words, "").ok();
    assert_eq!((server.count(), rows(&place.read("out.jsonl")).len()), (80, 40));
    assert!(rows(&place.read("out.jsonl")).iter().all(|row| row["unlabelled"].is_null()));
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

/// No model is here, and none is fetched.
#[test]
fn a_judge_on_a_server_is_measured_and_what_it_does_not_answer_counts() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("labels.jsonl", &pairs(40));
    let server = Server::new(|_, body| match asked(body).contains("ask 1") {
        true => (200, said("I'm sorry, but I can't help with that.")),
        // The rejected answers are called right, so this judge is always wrong.
        false => (200, prefers_right(body)),
    });
    let words = format!(
        "judge report --judge openai:big@{} --data labels.jsonl --constitution c.toml --json",
        server.url
    );
    let found: Value = serde_json::from_str(&place.run(&words, "").ok().out).unwrap();
    let way = &found["sets"][0]["ways"][0];
    assert_eq!((&way["accuracy"]["total"], &way["accuracy"]["count"]), (&json!(29), &json!(0)), "{way}");
    assert_eq!(way["unlabelled"]["declines"], 11, "{way}");
    assert!(way["report"]["warning"].as_str().unwrap().contains("no label on 11 of 40"), "{way}");
    let probe = place.run(&format!("judge probe --judge openai:big@{}", server.url), "").ok().out;
    assert!(probe.contains("chat"), "{probe}");
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

/// The number of the pair that is asked about, and its order.
fn which(body: &Value) -> (usize, bool) {
    let text = asked(body);
    let number = text.split("Request: ask ").nth(1).unwrap().split_whitespace().next().unwrap();
    (number.parse().unwrap(), text.contains("Answer A: left"))
}

/// A reply that belongs to one question alone: its log-probs, and what stands of them in a record.
fn own_reply((number, order): (usize, bool)) -> (f64, String) {
    let log_prob = -0.1 - 0.0001 * number as f64 - if order { 0.00005 } else { 0.0 };
    (log_prob, weighed(&[("A", log_prob), ("B", -3.0)]))
}

/// 20 kills at random moments while 2,000 pairs are labelled by a server that fails now and then: the labels are those of a run that
/// nothing disturbed, and nothing is asked whose answer was recorded.
#[test]
fn kills_lose_no_answer_and_nothing_recorded_is_asked_again() {
    const PAIRS: usize = 2000;
    const KILLS: u64 = 20;
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(PAIRS));
    let steady = Server::new(|_, body| (200, own_reply(which(body)).1));
    let words = |server: &Server, out: &str| {
        format!("label --judge openai:m@{} --input pairs.jsonl --out {out} --constitution c.toml", server.url)
    };
    place.run(&words(&steady, "steady.jsonl"), "").ok();
    assert_eq!(steady.count(), 2 * PAIRS);

    let flaky = Server::new(|number, body| match number % 97 {
        13 => (500, "{}".to_owned()),
        29 => (0, String::new()),
        47 => (200, "{\"choi".to_owned()),
        61 => (429, "{}".to_owned()),
        _ => (200, own_reply(which(body)).1),
    });
    let words = words(&flaky, "out.jsonl");
    let words: Vec<&str> = words.split_whitespace().collect();
    let moments = solon_draws::Draws::new(5, "kills");
    let mut checked = 0;
    for kill in 0..=KILLS {
        let recorded = recorded(&place);
        let mut child = place.start(&words);
        match kill {
            KILLS => assert!(child.wait().unwrap().success()),
            // Few enough that some are left for the last run.
            _ => {
                flaky.wait_for(checked + 1 + moments.below(kill, 170));
                child.kill().unwrap();
                child.wait().unwrap();
            }
        }
        // A request that arrives after its process was killed is checked with the next: it has no answer that could be recorded.
        let received = flaky.received.lock().unwrap();
        let twice: Vec<(usize, bool)> = received[checked..]
            .iter()
            .map(which)
            .filter(|asked| recorded.contains(&own_reply(*asked).0.to_string()))
            .collect();
        assert!(twice.is_empty(), "asked though recorded: {twice:?}");
        checked = received.len();
    }
    assert_eq!(recorded(&place).len(), 2 * PAIRS, "the record holds every answer, and the test reads it");
    let rows = |name: &str| place.read(name).replace(&steady.url, "").replace(&flaky.url, "");
    assert!(rows("out.jsonl") == rows("steady.jsonl"), "the labels differ");
    assert!(place.read("out.jsonl.labels.jsonl") == place.read("steady.jsonl.labels.jsonl"));
}

/// The log-probs that the record of answers holds.
fn recorded(place: &Place) -> std::collections::HashSet<String> {
    let Ok(folder) = std::fs::read_dir(place.path("out.jsonl.run/answers")) else {
        return Default::default();
    };
    let text: String = folder.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let numbers = text.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    numbers.filter(|number| number.starts_with("-0.")).map(str::to_owned).collect()
}
