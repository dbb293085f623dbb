//! `solon critique`: by a model here, and by a judge on a server.

use super::place::Place;
use super::place::server::{Server, said};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

#[test]
fn a_judge_on_a_server_criticises_and_revises_and_no_model_is_needed_here() {
    let place = Place::new();
    let constitution = "name = \"t\"\nversion = 1\ndescription = \"d\"\n[[revision]]\nid = \"kind\"\n\
                        critique = \"Say whether it is kind.\"\nrevision = \"Make it warm.\"\n";
    std::fs::write(place.path("c.toml"), constitution).unwrap();
    let row = |id: &str, answer: &str| json!({"id": id, "prompt": format!("ask {id}"), "answer": answer});
    place.write("answers.jsonl", &[row("a", "Go away."), row("b", "No.")]);
    let server = Server::new(|_, body| {
        let text = body["messages"].to_string();
        match (text.contains("ask b"), text.contains("Make it warm.")) {
            (true, _) => (400, "{\"error\": {\"message\": \"no\"}}".to_owned()),
            (false, true) => {
                (200, said("Please come in, and let us see what can be done about your question."))
            }
            (false, false) => (200, said("It turns the person away without a reason.")),
        }
    });
    let words = format!(
        "critique --judge openai:m@{} --input answers.jsonl --constitution c.toml --run kept --retries 0",
        server.url
    );
    let ran = place.run(&words, "").ok();
    let rows = ran.rows();
    assert_eq!(rows[0]["rounds"][0]["critique"], "It turns the person away without a reason.");
    assert!(rows[0]["revision"].as_str().unwrap().starts_with("Please come in"), "{}", rows[0]);
    assert_eq!(
        (&rows[1]["revision"], &rows[1]["rounds"][0]["dropped"]["reason"]),
        (&Value::Null, &json!("refused_by_server"))
    );
    assert!(ran.err.contains("3 requests"), "{}", ran.err);
    place.run(&format!("{words} --model x"), "").fails(2, &["--judge", "--model"]);
    let error = "the constitution `t` has no few-shots of critiques";
    place.run(&words.replace("--run kept", "--set few_shots=true"), "").fails(1, &[error, "hint: "]);
    // A few-shot stands in front in the form of the question.
    let shot = "[[few_shot]]\nid = \"shot\"\nfor = \"critique\"\ntext = \"\\n\\nHuman: Hi\\n\\nAssistant: Go.\\n\\nCritiqueRequest: \
                Is it?\\n\\nCritique: No.\\n\\nRevisionRequest: Mend it.\\n\\nRevision: Come in.\"\n";
    std::fs::write(place.path("c.toml"), format!("{constitution}{shot}")).unwrap();
    let before = server.asked();
    place.run(&words.replace("--run kept", "--set few_shots=true"), "").ok();
    let received = server.received.lock().unwrap();
    let asked = received[before]["messages"].as_array().unwrap();
    let turn = |place: usize| asked[place]["content"].as_str().unwrap();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(turn(0).contains("Request: Hi\n\nAnswer: Go.") && turn(0).ends_with("Write a critique. Is it?"));
    assert_eq!([turn(1), turn(2), turn(3)], ["No.", "Write the revised answer. Mend it.", "Come in."]);
    assert!(
        turn(4).contains("Request: ask ") && turn(4).ends_with("Write a critique. Say whether it is kind.")
    );
}

/// Of a round that got no reply the same command asks again, and of what was answered it does not.
#[test]
fn an_answer_that_got_no_reply_is_criticised_again() {
    let place = Place::new();
    let constitution = "name = \"t\"\nversion = 1\ndescription = \"d\"\n[[revision]]\nid = \"kind\"\n\
                        critique = \"Say whether it is kind.\"\nrevision = \"Make it warm.\"\n";
    std::fs::write(place.path("c.toml"), constitution).unwrap();
    let row = |id: &str| json!({"id": id, "prompt": format!("ask {id}"), "answer": "No."});
    place.write("answers.jsonl", &[row("a"), row("b"), row("c")]);
    let fails = Arc::new(AtomicBool::new(true));
    let failing = fails.clone();
    let server = Server::new(move |_, body| {
        let text = body["messages"].to_string();
        let revises = text.contains("Make it warm.");
        match (text.contains("ask b"), text.contains("ask c")) {
            (true, _) if revises && failing.load(SeqCst) => (500, "{}".to_owned()),
            (_, true) => (400, "{}".to_owned()),
            _ if revises => {
                (200, said("Please come in, and let us see what can be done about your question."))
            }
            _ => (200, said("It turns the person away without a reason.")),
        }
    });
    let words = |run: &str| {
        format!(
            "critique --judge openai:m@{} --input answers.jsonl --constitution c.toml --run {run} --retries 0",
            server.url
        )
    };
    let dropped = place.run(&words("kept"), "").ok().rows()[1]["rounds"][0]["dropped"].clone();
    assert_eq!(dropped["reason"], "no_reply", "{dropped}");
    fails.store(false, SeqCst);
    let before = server.asked();
    let again = place.run(&words("kept"), "").ok().rows();
    assert!(again[1]["revision"].as_str().unwrap().starts_with("Please come in"), "{}", again[1]);
    // The revision alone; its critique is in the record.
    assert_eq!(server.asked() - before, 1);
    assert_eq!(again, place.run(&words("steady"), "").ok().rows());
    let before = server.asked();
    assert_eq!(again, place.run(&words("kept"), "").ok().rows());
    assert_eq!(server.asked(), before);
}

#[test]
fn answers_are_critiqued_in_rounds() {
    let place = Place::with_model();
    let mut input = vec![
        json!({"prompt": "Why?", "answer": "So."}),
        json!({"id": "x", "prompt": "How?", "answer": "Thus."}),
    ];
    input.extend((0..30).map(|i| json!({"prompt": format!("What of {i}?"), "answer": "So."})));
    place.write("rows.jsonl", &input);
    // A random model seldom ends its answer, so most are dropped as cut off; the stop strings end some of them.
    let words = "critique --model model --input rows.jsonl --rounds 2 --max-new-tokens 40 --stop e --stop a";
    let ran = place.run(words, "").ok();
    let out = ran.rows();
    assert_eq!((&out[0]["id"], &out[1]["id"], out.len()), (&json!("line-1"), &json!("x"), 32));
    assert!(ran.err.contains("revise: done (answers 32, rounds 2)"), "{}", ran.err);
    let (mut revised, mut twice, mut dropped) = (0, 0, 0);
    for row in &out {
        let rounds = row["rounds"].as_array().unwrap();
        assert!((1..=2).contains(&rounds.len()));
        assert!(rounds[0]["principle"].is_string() && rounds[0]["critique"].is_string());
        match rounds.iter().rfind(|round| round["dropped"].is_null()) {
            Some(good) => {
                assert!(row["revision"].is_string(), "{row}");
                assert_eq!(row["revision"], good["revision"]);
                revised += 1;
                twice += usize::from(rounds.len() == 2);
            }
            None => {
                assert!(row["revision"].is_null(), "{row}");
                assert!(rounds.last().unwrap()["dropped"].is_object(), "{row}");
                dropped += 1;
            }
        }
    }
    assert!(revised > 0 && twice > 0 && dropped > 0, "{revised} revised, {twice} twice, {dropped} dropped");
}
