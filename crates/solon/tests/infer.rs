//! `solon constitution infer`: a rule that was planted in preferences is found again, a model that finds nothing says so, and kills lose
//! nothing.

mod place;

use place::Place;
use place::server::{Server, said, weighed};
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, Ledger};
use std::sync::{Arc, Condvar, Mutex};

/// Preferences of which the polite answer is always the better one.
fn preferences(count: usize) -> Vec<Value> {
    let row = |number: usize| {
        let (one, other) = (" More.".repeat(number % 5), " More.".repeat(number % 3));
        json!({"id": format!("p{number}"), "prompt": format!("What is {number}?"),
               "chosen": format!("With pleasure.{one}"), "rejected": format!("Find out.{other}")})
    };
    (0..count).map(row).collect()
}

/// Proposes politeness and noise, and votes by the rule that it is asked by.
fn reply(body: &Value) -> String {
    let text = body["messages"][0]["content"].as_str().unwrap();
    if text.contains("Prefer the answer that") {
        let rule = if text.contains("Suppose") { "is rude" } else { "is more polite" };
        return said(&format!(
            "1. Prefer the answer that {rule}.\n2. Prefer the answer that mentions a colour.\n3. Be nice.\n"
        ));
    }
    let a_is_polite = text.contains("Answer A: With pleasure");
    let p: f64 = match text {
        _ if text.contains("Which answer is more polite?") => {
            if a_is_polite {
                0.9
            } else {
                0.1
            }
        }
        _ if text.contains("Which answer is rude?") => {
            if a_is_polite {
                0.1
            } else {
                0.9
            }
        }
        // The letter A, whatever stands there.
        _ => 0.8,
    };
    let mut options = [("A", p.ln()), ("B", (1.0 - p).ln())];
    options.sort_by(|one, other| other.1.total_cmp(&one.1));
    weighed(&options)
}

fn command(server: &Server, out: &str) -> String {
    format!("constitution infer --pairs pairs.jsonl --out {out} --judge openai:m@{} --json", server.url)
}

#[test]
fn a_planted_rule_becomes_a_constitution() {
    let place = Place::new();
    place.write("pairs.jsonl", &preferences(40));
    let server = Server::new(|_, body| (200, reply(body)));
    let ran = place.run(&command(&server, "mine.toml"), "").ok();
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    for (key, expected) in [
        ("outcome", json!("found")),
        ("training_pairs", json!(30)),
        ("held_out_pairs", json!(10)),
        ("questions", json!(60)),
        ("different_rules", json!(3)),
        ("constitution", json!("mine.toml")),
    ] {
        assert_eq!(found[key], expected, "{key}");
    }
    let fates: Vec<(&str, &str)> = (found["principles"].as_array().unwrap().iter())
        .map(|voted| (voted["rule"].as_str().unwrap(), voted["fate"].as_str().unwrap()))
        .collect();
    assert_eq!(fates[0], ("is more polite", "kept"));
    assert!(fates.contains(&("is rude", "no-better-than-chance")), "{fates:?}");
    assert!(fates.contains(&("mentions a colour", "rarely-relevant")), "{fates:?}");
    let held_out = &found["principles"][0]["held_out"];
    assert_eq!((&held_out["for"], &held_out["accuracy"]["rate"]), (&json!(10), &json!(1.0)));
    assert_eq!(found["together"]["explained"]["rate"], 1.0);
    assert!(found["longer"]["accuracy"]["rate"].as_f64().unwrap() < 1.0);
    // Three rules on 30 pairs and one on 10, in both orders.
    assert_eq!(server.count(), 60 + 2 * (3 * 30 + 10));

    let checked: Value =
        serde_json::from_str(&place.run("constitution check mine.toml --json", "").ok().out).unwrap();
    assert_eq!((&checked["revision_principles"], &checked["comparison_principles"]), (&json!(1), &json!(1)));
    assert_eq!(checked["warnings"], json!([]));
    let text = place.read("mine.toml");
    assert!(text.contains("#   more-polite: votes on 10 of 10, right on 100.0 %"), "{text}");
    assert!(text.contains("Which answer is more polite?"), "{text}");
    assert_eq!(text, place.read("mine.toml.run/checkpoints/infer/constitution.toml"));

    // What is done is not asked again, and the trail leads from a vote over the principle and the proposals to the pairs.
    let table = place.run(&command(&server, "mine.toml").replace(" --json", ""), "").ok().out;
    assert!(table.contains("is more polite") && table.contains("(always the longer answer)"), "{table}");
    assert_eq!(server.count(), 260);
    let trail = place.run("explain infer/principle/more-polite --run mine.toml.run", "").ok().out;
    assert!(
        trail.contains("infer/rules/chosen/infer-pairs/p") && trail.contains("infer/vote/more-polite/"),
        "{trail}"
    );
    place.run("report --run mine.toml.run", "").ok();
    for file in ["report.html", "report.md"] {
        let report = place.read(&format!("mine.toml.run/{file}"));
        assert!(
            report.contains("Inferred principles")
                && report.contains("Prefer the answer that is more polite"),
            "{file}"
        );
    }
}

/// Votes of a model that cannot judge are no votes: nothing is written, and what lies there stays.
#[test]
fn a_model_that_predicts_nothing_writes_no_constitution() {
    let place = Place::new();
    place.write("pairs.jsonl", &preferences(24));
    std::fs::write(place.path("mine.toml"), "old").unwrap();
    let server = Server::new(|_, body| {
        let text = body["messages"][0]["content"].as_str().unwrap();
        let proposes = text.contains("Prefer the answer that");
        (200, if proposes { reply(body) } else { weighed(&[("A", -0.1), ("B", -2.4)]) })
    });
    let ran = place.run(&command(&server, "mine.toml"), "").ok();
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&found["outcome"], &found["constitution"]), (&json!("nothing-kept"), &Value::Null));
    assert!(ran.err.contains("in both orders, in 0 of 54 cases"), "{}", ran.err);
    assert!(
        ran.err.contains("no constitution was written") && ran.err.contains("mine.toml is as it was"),
        "{}",
        ran.err
    );
    assert_eq!(place.read("mine.toml"), "old");
    assert!(!place.path("mine.toml.run/checkpoints/infer").exists());
}

/// A model of random weights finds nothing, on this machine and after a kill as well.
#[test]
fn a_kill_among_proposals_changes_nothing() {
    let place = Place::with_model();
    place.write("pairs.jsonl", &preferences(12));
    let recipe = "name = \"t\"\nmodel = \"model\"\nbatch = 1\n[[stage]]\nkind = \"infer\"\nlabeller = \"base\"\npairs = \"pairs.jsonl\"\n";
    std::fs::write(place.path("recipe.toml"), recipe).unwrap();
    place.run("run recipe.toml --out one", "").ok();
    let summary =
        |run: &str| -> Value { serde_json::from_str(&place.read(&format!("{run}/summary.json"))).unwrap() };
    let found = &summary("one")["inferred"]["infer"];
    assert_ne!(found["outcome"], "found", "{found}");
    assert_eq!(found["questions"], 18);
    assert!(found["refused"].as_object().is_some_and(|refused| !refused.is_empty()), "{found}");
    killed_when(&place, "run recipe.toml --out killed", "killed", ItemKind::Response, 2);
    let ran = place.run("run recipe.toml --out killed", "").ok();
    assert!(
        ran.err.contains("infer: resumed") && ran.err.contains("no constitution was written"),
        "{}",
        ran.err
    );
    assert_eq!(items(&place, "killed"), items(&place, "one"));
    assert_eq!(&summary("killed")["inferred"]["infer"], found);
}

#[test]
fn a_kill_among_votes_changes_nothing() {
    let place = Place::new();
    place.write("pairs.jsonl", &preferences(120));
    let steady = Server::new(|_, body| (200, reply(body)));
    place.run(&command(&steady, "one.toml"), "").ok();
    // It holds its last quarter of replies back until the process that waits for them is killed.
    let held = steady.count() * 3 / 4;
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let kept = Arc::clone(&gate);
    let holding = Server::new(move |number, body| {
        if number >= held {
            let (is_open, opened) = &*kept;
            drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
        }
        (200, reply(body))
    });
    killed_when(&place, &command(&holding, "killed.toml"), "killed.toml.run", ItemKind::Label, 64);
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    place.run(&command(&holding, "killed.toml"), "").ok();
    assert_eq!(items(&place, "killed.toml.run"), items(&place, "one.toml.run"));
    assert_eq!(place.read("killed.toml"), place.read("one.toml"));
}

#[test]
fn what_cannot_be_inferred_from_is_refused() {
    let place = Place::with_model();
    let refused = |rows: &[Value], code: i32, more: &str, parts: &[&str]| {
        place.write("pairs.jsonl", rows);
        let words =
            format!("constitution infer --model model --pairs pairs.jsonl --out c.toml --run run {more}");
        place.run(&words, "").fails(code, parts);
        assert!(!place.path("c.toml").exists());
    };
    refused(&preferences(2), 1, "", &["too few pairs", "2 to learn from and 0 to measure with", "hint: "]);
    let tie = |mut row: Value| {
        row["probability"] = 0.5.into();
        row
    };
    let ties: Vec<Value> = preferences(8).into_iter().map(tie).collect();
    refused(&ties, 1, "", &["too few pairs", "0 to learn from"]);
    for (more, part) in [
        ("--hold-out-every 1", "hold_out_every is 1"),
        ("--principles 0", "principles"),
        ("--set margin=0.5", "margin is 0.5"),
        ("--set alike=2", "2 was given"),
        ("--set colour=1", "unknown field `colour`"),
    ] {
        refused(&preferences(8), 2, more, &[part]);
    }
}

/// Starts a command and kills it when the run in `run` has so many items of a kind.
fn killed_when(place: &Place, words: &str, run: &str, kind: ItemKind, count: usize) {
    let mut child = place.start(&words.split_whitespace().collect::<Vec<_>>());
    let ledger = place.path(&format!("{run}/ledger.sqlite"));
    let made = || {
        let ids = Ledger::open_read_only(&ledger).and_then(|ledger| ledger.item_ids("infer", kind));
        ids.map_or(0, |ids| ids.len())
    };
    while made() < count {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// All items of the stage, with what they were made from.
fn items(place: &Place, run: &str) -> Vec<String> {
    let ledger = Ledger::open_read_only(&place.path(&format!("{run}/ledger.sqlite"))).unwrap();
    let kinds = [ItemKind::Response, ItemKind::Principle, ItemKind::Label];
    let items = kinds.into_iter().flat_map(|kind| ledger.raw_items("infer", kind).unwrap());
    items.map(|item| format!("{item:?}")).collect()
}
