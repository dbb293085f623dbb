//! Labels by models on servers: how they are asked, and what each failing comes to.

use super::*;
use crate::place::server::{Server, said};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// Only what is the same for every question, a wrong key or address or name, is an error.
#[test]
fn a_server_that_refuses_every_question_leaves_rows_with_their_reasons() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(20));
    let words = |server: &Server, out: &str| {
        format!(
            "label --judge openai:big@{} --input pairs.jsonl --out {out} --constitution c.toml --retries 0",
            server.url
        )
    };
    for status in [400, 422] {
        let mended = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&mended);
        let server = Server::new(move |_, body| match now.load(Ordering::SeqCst) && which(body).0 != 2 {
            true => (200, prefers_right(body)),
            false => (status, "{\"error\": \"not about this\"}".to_owned()),
        });
        let out = format!("{status}.jsonl");
        let ran = place.run(&words(&server, &out), "").ok();
        assert!(ran.err.contains("20 pairs have no label"), "{}", ran.err);
        for row in rows(&place.read(&out)) {
            let reason = row["unlabelled"].as_str().unwrap();
            assert!(reason.starts_with("refused by the server: HTTP"), "{reason}");
            assert!(reason.contains("not about this"), "{reason}");
        }
        // Everything was refused: the same command asks again, as the hint and the report's warning say.
        let hint = "hint: nothing was answered, and the server refused it: it may not know the model, or a parameter; once that is \
                    mended, the same command asks again";
        assert!(ran.err.contains(hint), "{}", ran.err);
        let report = place.run(&format!("report --run {out}.run"), "").ok().err;
        assert!(report.contains("label: nothing was answered, and the server refused it"), "{report}");
        assert!(report.contains("the same command asks again"), "{report}");
        mended.store(true, Ordering::SeqCst);
        let ran = place.run(&words(&server, &out), "").ok();
        assert_eq!(server.asked(), 80);
        assert!(ran.err.contains("19 labelled pairs") && !ran.err.contains("asks again"), "{}", ran.err);
        // One refusal among answers lasts.
        place.run(&words(&server, &out), "").ok();
        assert_eq!(server.asked(), 80);
    }
    for (status, part) in
        [(401, "OPENAI_API_KEY"), (403, "OPENAI_API_KEY"), (404, "the name of a model there")]
    {
        let server = Server::new(move |_, _| (status, "{}".to_owned()));
        place.run(&words(&server, "none.jsonl"), "").fails(1, &[part, "hint: "]);
        assert!(server.asked() <= 8 && !place.path("none.jsonl").exists());
    }
}

/// What kind of evidence the questions of a label have.
fn kinds(label: &Value) -> Vec<&str> {
    let evidence = label["evidence"].as_array().unwrap();
    evidence.iter().map(|evidence| if evidence["votes"].is_null() { "shown" } else { "voted" }).collect()
}

#[test]
fn the_evidence_of_a_pair_is_of_one_kind() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(8));
    let words = |urls: &str, out: &str| {
        format!(
            "label --judge openai:big@{urls} --input pairs.jsonl --out {out} --constitution c.toml --set votes=2"
        )
    };
    // Two servers, of which one shows no log-probs: all vote, whoever gets the question.
    let shows = Server::new(|_, body| match body["max_tokens"] == 1 {
        true => (200, prefers_right(body)),
        false => (200, weighed(&[("A", -0.1), ("B", -2.0)])),
    });
    let silent = Server::new(|_, _| (200, said("A")));
    let ran = place.run(&words(&format!("{},{}", shows.url, silent.url), "two.jsonl"), "").ok();
    let note = "one server shows no log-probs, so all are asked for votes";
    assert_eq!(ran.err.matches(note).count(), 1, "{}", ran.err);
    let labels = rows(&place.read("two.jsonl.labels.jsonl"));
    assert_eq!(labels.len(), 8);
    for label in labels {
        assert_eq!(kinds(&label), ["voted", "voted"], "{label}");
    }
    // One server whose likeliest first word is no letter in one order of one pair.
    let server = Server::new(|_, body| match asked(body) {
        text if body["max_tokens"] != 1 => (200, said(if text.contains("A: left") { "B" } else { "A" })),
        text if text.contains("ask 3") && text.contains("A: left") => {
            (200, weighed(&[("I", -0.1), ("A", -3.0)]))
        }
        _ => (200, prefers_right(body)),
    });
    place.run(&words(&server.url, "one.jsonl"), "").ok();
    for (number, label) in rows(&place.read("one.jsonl.labels.jsonl")).iter().enumerate() {
        assert_eq!(kinds(label), [if number == 3 { "voted" } else { "shown" }; 2], "{label}");
    }
    assert_eq!(server.count(), 16 + 4);
}

/// Votes on one question are of no use where another about the same pair is refused.
#[test]
fn a_pair_that_cannot_get_a_label_is_not_voted_on() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(3));
    let server =
        Server::new(|_, body| match (asked(body).contains("ask 1"), asked(body).contains("A: left")) {
            (true, true) => (400, "{\"error\": \"no\"}".to_owned()),
            (true, false) => (200, weighed(&[("I", -0.1)])),
            _ => (200, prefers_right(body)),
        });
    let words = "--input pairs.jsonl --out out.jsonl --constitution c.toml";
    place.run(&format!("label --judge openai:big@{} {words}", server.url), "").ok();
    let rows = rows(&place.read("out.jsonl"));
    let reason = |row: &Value| row["unlabelled"].as_str().unwrap_or_default().to_owned();
    assert!(reason(&rows[1]).starts_with("refused by the server: ") && reason(&rows[0]).is_empty());
    assert_eq!(server.asked(), 6);
}

/// A server that ignores the wish for log-probs is told it once, and no further question is asked in vain.
#[test]
fn a_server_that_ignores_the_wish_for_log_probs_is_told_it_once() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(4));
    let server = Server::new(|_, _| (200, said("A")));
    let words = "--input pairs.jsonl --out out.jsonl --constitution c.toml --set votes=2";
    let ran = place.run(&format!("label --judge openai:big@{} {words}", server.url), "").ok();
    assert!(ran.err.contains("asked with no log-probs"), "{}", ran.err);
    let received = server.received.lock().unwrap();
    assert_eq!(received.iter().filter(|body| body["logprobs"] == true).count(), 1);
    assert_eq!(received.len(), 1 + 4 * 2 * 2);
}

/// A text completion whose first token has these log-probs.
fn continued(options: &[(&str, f64)]) -> String {
    let map: serde_json::Map<String, Value> =
        options.iter().map(|(token, logprob)| ((*token).to_owned(), json!(logprob))).collect();
    let choice =
        json!({"text": options[0].0, "finish_reason": "length", "logprobs": {"top_logprobs": [map]}});
    json!({"choices": [choice]}).to_string()
}

#[test]
fn a_server_that_continues_texts_labels_in_the_papers_form() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(3));
    let words = |server: &Server, out: &str| {
        format!(
            "label --judge openai:base@{} --input pairs.jsonl --out {out} --constitution c.toml --set form=paper",
            server.url
        )
    };
    let server = Server::new(|_, body| {
        let text = body["prompt"].as_str().unwrap();
        let (a, b) = if text.contains("(B) [[[right") { (-2.0_f64, -0.5_f64) } else { (-0.5, -2.0) };
        let mut letters = [("A", a), ("B", b)];
        letters.sort_by(|one, other| other.1.total_cmp(&one.1));
        match text.ends_with("nswer is: (") {
            true => (200, continued(&letters)),
            false => (200, continued(&[(" It is kinder.\n\nHuman: So", -0.1)])),
        }
    });
    place.run(&words(&server, "out.jsonl"), "").ok();
    for label in rows(&place.read("out.jsonl.labels.jsonl")) {
        let [evidence] = &label["evidence"].as_array().unwrap()[..] else { panic!("{label}") };
        let shown = evidence["log_probs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap());
        // The right answer stands second in the pair.
        let expected = if evidence["question"] == "ab" { [-2.0, -0.5] } else { [-0.5, -2.0] };
        assert_eq!(shown.collect::<Vec<_>>(), expected, "{label}");
    }
    for body in server.received.lock().unwrap().iter() {
        let text = body["prompt"].as_str().unwrap();
        assert!(text.starts_with("\n\nConsider the following conversation"), "{text}");
        assert!(text.ends_with("]]]\n\nThe answer is: ("), "{text}");
    }
    // Reasoning ends where the next part of the text begins.
    place.run(&words(&server, "cot.jsonl --set ask=choice-cot"), "").ok();
    for label in rows(&place.read("cot.jsonl.labels.jsonl")) {
        assert_eq!(label["evidence"][0]["reasoning"], "It is kinder.", "{label}");
    }
    // Without log-probs, votes.
    let server = Server::new(|_, body| {
        let right_is_b = body["prompt"].as_str().unwrap().contains("(B) [[[right");
        let text = if right_is_b { " (B)\n\nHuman:" } else { " (A)\n\nHuman:" };
        (200, json!({"choices": [{"text": text, "finish_reason": "length"}]}).to_string())
    });
    place.run(&words(&server, "voted.jsonl"), "").ok();
    for row in rows(&place.read("voted.jsonl")) {
        assert!(row["chosen"][0]["content"].as_str().unwrap().starts_with("right"), "{row}");
    }
    // Who only chats says so.
    let chats = Server::new(|_, body| match body["prompt"].is_string() {
        true => (404, "{}".to_owned()),
        false => (200, prefers_right(body)),
    });
    place
        .run(&words(&chats, "none.jsonl"), "")
        .fails(1, &["HTTP 404", "does the server continue texts? Many only chat."]);
    place
        .run(&words(&chats, "none.jsonl").replace(&format!("openai:base@{}", chats.url), "anthropic:c"), "")
        .fails(2, &["Anthropic's servers chat", "hint: form = \"chat\""]);
}

#[test]
fn few_shots_of_comparisons_stand_in_front_of_a_chat() {
    let place = Place::new();
    place.write("pairs.jsonl", &pairs(6));
    let plain = "name = \"t\"\nversion = 1\ndescription = \"d\"\n[[comparison]]\nid = \"kinder\"\nquestion = \"Which is kinder?\"\n";
    let shot = "[[few_shot]]\nid = \"shot\"\nfor = \"comparison\"\nprompt = \"Human: Hi\\n\\nAssistant:\"\nchosen = [\"Welcome.\"]\nrejected = [\"Go.\"]\n";
    std::fs::write(place.path("plain.toml"), plain).unwrap();
    std::fs::write(place.path("c.toml"), format!("{plain}{shot}")).unwrap();
    let server = Server::new(|_, body| {
        let turns = body["messages"].as_array().unwrap();
        let right_is_b = turns.last().unwrap()["content"].as_str().unwrap().contains("Answer B: right");
        (200, weighed(if right_is_b { &[("B", -0.1), ("A", -3.0)] } else { &[("A", -0.1), ("B", -3.0)] }))
    });
    let words = |constitution: &str, more: &str| {
        format!(
            "label --judge openai:m@{} --input pairs.jsonl --out {constitution}.jsonl --constitution {constitution} \
             --set few_shots=true {more}",
            server.url
        )
    };
    place.run(&words("c.toml", ""), "").ok();
    let mut letters = std::collections::BTreeSet::new();
    for body in server.received.lock().unwrap().iter() {
        let turns = body["messages"].as_array().unwrap();
        let [asked, answered, question] = &turns[..] else { panic!("{turns:?}") };
        let letter = answered["content"].as_str().unwrap();
        let asked = asked["content"].as_str().unwrap();
        assert!(
            asked.contains(&format!("Answer {letter}: Welcome.")) && asked.contains("Request: Hi\n"),
            "{asked}"
        );
        assert!(asked.ends_with("Which is kinder? Reply with A or B."), "{asked}");
        assert!(question["content"].as_str().unwrap().contains("Request: ask "), "{question}");
        letters.insert(letter.to_owned());
    }
    assert_eq!(letters.len(), 2, "no letter is always the right one");
    place.run(&words("plain.toml", ""), "").fails(1, &["no few-shots of comparisons", "hint: "]);
    place.run(&words("c.toml", "--ask rate"), "").fails(2, &["few_shots", "hint: ask = \"choice\""]);
}

#[test]
fn a_stop_does_not_wait_for_a_server_that_is_silent() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(3));
    // The second reply and those after it never come: nobody else waits there.
    let silence = std::sync::Barrier::new(usize::MAX);
    let server = Server::new(move |number, body| {
        if number > 0 {
            silence.wait();
        }
        (200, prefers_right(body))
    });
    let words = format!(
        "label --judge openai:big@{} --input pairs.jsonl --out out.jsonl --constitution c.toml --concurrency 1",
        server.url
    );
    let child = place.start(&words.split_whitespace().collect::<Vec<_>>());
    server.wait_for(2);
    let asked = std::time::Instant::now();
    let told = std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(told.success());
    let ran = Place::finish(child, "");
    assert_eq!(ran.code, Some(130), "{}", ran.err);
    assert!(ran.err.contains("no reply within 5 seconds: stopped\nhint: the same command"), "{}", ran.err);
    assert!(asked.elapsed().as_secs() < 60, "it waited for the server's timeout");
}
