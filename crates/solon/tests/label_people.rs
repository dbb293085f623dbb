//! `solon label`: by people, alone and together, and with votes made elsewhere.

mod place;

use place::{Place, pairs, rows};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

const BY: &str = "label --human --input pairs.jsonl --out out.jsonl --annotator";

/// A folder with so many pairs.
fn with_pairs(n: usize) -> Place {
    let place = Place::new();
    place.write("pairs.jsonl", &pairs(n));
    place
}

/// Which side a person called `name` must press at each pair to prefer the answers on the left: the shown order is in the votes, so a
/// first session votes A throughout, and is thrown away.
fn keys_for_left(place: &Place, name: &str, more: &str, n: usize) -> Vec<&'static str> {
    let words = format!("{BY} {name} {more}").replace("out.jsonl", "probe.jsonl");
    place.run(&words, &"a\n".repeat(2 * n)).ok();
    let votes = rows(&place.read(&format!("probe.jsonl.votes.{name}.jsonl")));
    votes.iter().map(|vote| if vote["order"] == "ab" { "a\n" } else { "b\n" }).collect()
}

fn turned(key: &str) -> &'static str {
    if key == "a\n" { "b\n" } else { "a\n" }
}

#[test]
fn a_person_labels_undoes_quits_and_goes_on() {
    let place = with_pairs(4);
    let words = format!("{BY} ann");
    let first = place.run(&words, "a\nu\nb\nq\n").ok();
    assert!(first.err.contains("3 pairs left") && first.err.contains("hint: "), "{}", first.err);
    let votes = rows(&place.read("out.jsonl.votes.ann.jsonl"));
    assert_eq!(votes.len(), 1, "the vote that was taken back is gone");
    assert_eq!(
        (&votes[0]["pair_id"], &votes[0]["choice"], &votes[0]["annotator"]),
        (&json!("p0"), &json!("b"), &json!("ann"))
    );
    assert!(votes[0]["time"].as_str().unwrap().starts_with("20"));
    let second = place.run(&words, "t\ns\na\n\n").ok();
    assert!(!second.out.contains("ask 0") && second.out.contains("ask 1"), "{}", second.out);
    let labelled = rows(&place.read("out.jsonl"));
    assert_eq!(
        labelled.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["p0", "p1", "p3"]
    );
    assert_eq!(labelled[1]["probability"], 0.5);
    // What was shown as B won: the second answer, unless the two were shown the other way round.
    let won = if votes[0]["order"] == "ab" { "right 0" } else { "left 0" };
    assert_eq!(labelled[0]["chosen"][0]["content"], won);
    assert_eq!(
        (&labelled[0]["probability"], &labelled[0]["source"]),
        (&json!(1.0), &json!("human (1 vote)"))
    );
    // The terminal closes in the middle of a vote: the vote is none.
    let third = place.run(&words, "a").ok();
    assert!(third.err.contains("1 pairs left") && third.out.contains("ask 2"), "{}", third.err);
    // A pair is taken out of the input: its vote is kept, and said to be.
    place.write("pairs.jsonl", &pairs(4)[1..]);
    let fourth = place.run(&words, "").ok();
    assert!(fourth.err.contains("1 votes are on pairs that the input no longer has"), "{}", fourth.err);
    assert_eq!(rows(&place.read("out.jsonl")).len(), 2);
    assert_eq!(rows(&place.read("out.jsonl.votes.ann.jsonl")).len(), 3);
    // The same ids over other texts: the votes must not be counted for them.
    place.write("pairs.jsonl", &[json!({"id": "p0", "prompt": "other", "chosen": "a", "rejected": "b"})]);
    place.run(&words, "").fails(1, &["out.jsonl.votes.ann.jsonl:1", "other texts", "hint: "]);
}

#[test]
fn several_people_agree_or_not_and_an_adjudicator_decides() {
    let place = with_pairs(6);
    let ann = keys_for_left(&place, "ann", "", 6);
    let bob = keys_for_left(&place, "bob", "", 6);
    place.run(&format!("{BY} ann"), &ann.concat()).ok();
    // Bob prefers the right answer of the last two pairs, and sees a tie in the third.
    let theirs = [bob[0], bob[1], "t\n", bob[3], turned(bob[4]), turned(bob[5])].concat();
    let ran = place.run(&format!("{BY} bob --json"), &theirs).ok();
    let agreement: Value = serde_json::from_str(&ran.out).unwrap();
    assert!(ran.err.contains("ask 0"), "the pairs are on stderr: {}", ran.err);
    assert_eq!((&agreement["pairs"], &agreement["contested"]), (&json!(6), &json!(3)));
    let two = &agreement["between"][0];
    assert_eq!((&two["annotators"], &two["same"]["count"]), (&json!(["ann", "bob"]), &json!(3)));
    // Ann always said the same: agreement is no better than chance.
    assert_eq!((two["kappa"].as_f64(), agreement["annotators"][1]["ties"].as_u64()), (Some(0.0), Some(1)));
    assert!(agreement["alpha"].as_f64().unwrap() < 0.0, "{agreement}");
    let labels = |place: &Place| -> Vec<(f64, String)> {
        let rows = rows(&place.read("out.jsonl"));
        rows.iter()
            .map(|row| (row["probability"].as_f64().unwrap(), row["source"].as_str().unwrap().into()))
            .collect()
    };
    let two_votes = |p: f64| (p, "human (2 votes)".to_owned());
    let expected = [1.0, 1.0, 0.75, 1.0, 0.5, 0.5].map(two_votes);
    assert_eq!(labels(&place), expected);
    let ran = place.run(&format!("{BY} eve --adjudicate"), "t\na\ns\n\n").ok();
    assert!(
        ran.out.contains("Pair 1 of 3, on which votes differ") && ran.out.contains("The votes were: ann "),
        "{}",
        ran.out
    );
    assert!(
        ran.err.contains("1 pairs left to adjudicate") && ran.err.contains("2 adjudicated"),
        "{}",
        ran.err
    );
    let decided = labels(&place);
    assert_eq!((decided[2].clone(), decided[4].0), ((0.5, "human (adjudicated, 2 votes)".into()), 1.0));
    assert_eq!(decided[5], two_votes(0.5));
    let chosen = rows(&place.read("out.jsonl"))[4]["chosen"][0]["content"].clone();
    let verdict = rows(&place.read("out.jsonl.votes.eve.jsonl"))[1].clone();
    assert_eq!(chosen, if verdict["order"] == "ab" { "left 4" } else { "right 4" });
    assert_eq!(verdict["pass"], "adjudication");
    let again = place.run(&format!("{BY} eve --adjudicate"), "q\n").ok();
    assert!(again.out.contains("Pair 1 of 1") && again.out.contains("ask 5"), "{}", again.out);
}

#[test]
fn repeats_are_shown_untold_and_reported() {
    let place = with_pairs(30);
    let keys = keys_for_left(&place, "ann", "--repeats 0.3 --seed 3", 30);
    let repeats = keys.len() - 30;
    assert!((2..=18).contains(&repeats), "{repeats}");
    let ran = place.run(&format!("{BY} ann --repeats 0.3 --seed 3"), &keys.concat()).ok();
    assert!(ran.err.contains(&format!("30 votes and {repeats} on pairs shown again")), "{}", ran.err);
    assert!(
        ran.err.contains("said the same again 100.0%") && ran.err.contains(&format!("{repeats}/{repeats}")),
        "{}",
        ran.err
    );
    assert_eq!(ran.out.matches(&format!(" of {}\n", keys.len())).count(), keys.len());
    assert_eq!(rows(&place.read("out.jsonl"))[0]["source"], "human (1 vote)", "a repeat is no second vote");
    place.run(&format!("{BY} ann --repeats 2"), "").fails(2, &["--repeats is 2"]);
    place.run(&format!("{BY} ann --repeats nan"), "").fails(2, &["--repeats is NaN"]);
}

#[test]
fn who_labels_has_a_plain_name() {
    let place = with_pairs(1);
    let run = |annotator: Option<&str>, user: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_solon"));
        command
            .args(["label", "--human", "--input", "pairs.jsonl", "--out", "out.jsonl"])
            .current_dir(place.0.path());
        command.env_remove("USER").stdin(Stdio::null());
        command.args(annotator.iter().flat_map(|name| ["--annotator", name]));
        command.envs(user.map(|user| ("USER", user)));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for name in ["", "a/b", "../x", "a\u{1b}[2J"] {
        let (code, error) = run(Some(name), None);
        assert!(
            code == Some(2)
                && error.contains("--annotator: the annotator's name is")
                && error.contains("hint: "),
            "{error}"
        );
        assert!(!error.contains('\u{1b}'));
    }
    assert!(run(None, Some("a:b")).1.contains("the environment variable USER"));
    for (user, file) in [(Some("zoe"), "zoe"), (None, "annotator"), (Some(""), "annotator")] {
        assert_eq!(run(None, user).0, Some(0));
        assert!(place.path(&format!("out.jsonl.votes.{file}.jsonl")).exists(), "{user:?}");
    }
}

#[test]
fn flags_of_people_and_of_models_do_not_mix() {
    let place = with_pairs(1);
    let words = "label --input pairs.jsonl --out out.jsonl";
    for more in [
        "--repeats 0.1",
        "--adjudicate",
        "--human --adjudicate --repeats 0.1",
        "--human --import x.csv",
        "--ignore-column x",
        "--human --constitution c.toml",
        "--human --ask rate",
        "--import x.csv --set votes=1",
        "--json",
        "--annotator ann",
    ] {
        place.run(&format!("{words} {more}"), "").fails(2, &["--"]);
    }
    place.run("label --human --out out.jsonl", "").fails(2, &["--input"]);
}

#[test]
fn a_table_of_votes_is_imported_and_gone_on_with() {
    let place = Place::new();
    // Three people; the second pair in both orders; the third has no vote.
    let table = "prompt,response_a,response_b,label,annotator,note\n\
        ask,left,right,a,ann,\n\
        ask,right,left,a,bob,x\n\
        ask,left,right,tie,cy,\n\
        two,left,right,b,ann,\n\
        three,left,right,,,\n";
    std::fs::write(place.path("v.csv"), table).unwrap();
    place.run("label --import v.csv --out out.jsonl", "").fails(1, &["v.csv:1", "`note`", "hint: "]);
    assert!(!place.path("out.jsonl").exists());
    let words = "label --import v.csv --out out.jsonl --ignore-column note";
    let ran = place.run(words, "").ok();
    for part in [
        "4 votes of 3 annotators",
        "3 pairs in out.jsonl.pairs.jsonl",
        "1 rows have no vote",
        "2 labelled pairs",
    ] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    let labelled = rows(&place.read("out.jsonl"));
    assert_eq!(
        (&labelled[0]["probability"], &labelled[0]["source"]),
        (&json!(0.5), &json!("human (3 votes)"))
    );
    assert_eq!(
        (&labelled[1]["chosen"][0]["content"], &labelled[1]["id"]),
        (&json!("right"), &json!("line-5"))
    );
    let before = place.read("out.jsonl");
    place.run(words, "").ok();
    assert_eq!(place.read("out.jsonl"), before, "the same file again changes nothing");
    // People go on with the pairs, and an adjudicator with what the others left open.
    let people = "label --human --input out.jsonl.pairs.jsonl --out out.jsonl --annotator";
    assert!(
        place.run(&format!("{people} ann"), "t\n\n").ok().out.contains("Pair 1 of 1\n\nRequest\n  | three")
    );
    place.run(&format!("{people} dee --adjudicate"), "a\n").ok();
    let rows = rows(&place.read("out.jsonl"));
    assert_eq!((rows.len(), &rows[0]["source"]), (3, &json!("human (adjudicated, 3 votes)")));
    // Other votes do not replace them.
    std::fs::write(place.path("v.csv"), table.replace("ask,left,right,a,ann", "ask,left,right,b,ann"))
        .unwrap();
    place.run(words, "").fails(1, &["holds other votes", "hint: "]);
}

#[test]
fn argillas_export_is_imported_onto_given_pairs() {
    let place = with_pairs(2);
    // Solon's pairs, shown in Argilla with the answers the other way round.
    let record = |i: usize, value: Value| {
        json!({"id": format!("p{i}"), "fields": {"prompt": format!("ask {i}"), "response1": format!("right {i}"), "response2": format!("left {i}")},
            "metadata": {}, "suggestions": {}, "responses": {"preference": [{"value": value, "user_id": "u-1"}]}, "vectors": {}})
    };
    let records = json!([record(0, json!(["response1", "response2"])), record(1, json!("response2"))]);
    std::fs::write(place.path("r.json"), records.to_string()).unwrap();
    let ran = place.run("label --import r.json --input pairs.jsonl --out out.jsonl --json", "").ok();
    assert_eq!(serde_json::from_str::<Value>(&ran.out).unwrap()["annotators"][0]["annotator"], "u-1");
    let chosen: Vec<Value> =
        rows(&place.read("out.jsonl")).iter().map(|row| row["chosen"][0]["content"].clone()).collect();
    assert_eq!(chosen, ["right 0", "left 1"]);
    assert!(!place.path("out.jsonl.pairs.jsonl").exists());
    assert!(
        rows(&place.read("out.jsonl.votes.jsonl"))[0].get("order").is_none(),
        "the order it was shown in is not known"
    );
    std::fs::write(place.path("r.json"), records.to_string().replace("left 1", "changed")).unwrap();
    place
        .run("label --import r.json --input pairs.jsonl --out other.jsonl", "")
        .fails(1, &["r.json, row 2", "not in --input", "hint: "]);
}

#[test]
fn contradictions_in_a_table_are_refused_by_row() {
    let place = Place::new();
    let header = "id,prompt,response_a,response_b,label,annotator";
    for (rows, parts) in [
        (
            "p,Q,x,y,a,ann\np,Q,y,x,a,ann",
            &["v.csv, row 3: ann has voted on this pair before, in row 2", "hint: "][..],
        ),
        (
            "p,Q,x,y,a,ann\nq,Q,x,y,a,bob",
            &["row 3", "has the id q, and the same pair has the id p before", "hint: "],
        ),
        ("p,Q,x,y,a,ann\np,R,x,y,a,bob", &["row 3", "its id p is that of a pair with other texts"]),
        ("p,Q,x,y,a,a/b", &["row 2", "the annotator's name is \"a/b\""]),
        ("p,Q,x,y,,", &["v.csv has no votes"]),
        ("p,Q,x,y,c,ann", &["v.csv:2", "`label`"]),
    ] {
        std::fs::write(place.path("v.csv"), format!("{header}\n{rows}\n")).unwrap();
        place.run("label --import v.csv --out out.jsonl", "").fails(1, parts);
        assert!(!place.path("out.jsonl.votes.jsonl").exists());
    }
    std::fs::write(place.path("v.csv"), "prompt,chosen,rejected\nQ,x,y\nQ,y,x\n").unwrap();
    place
        .run("label --import v.csv --out out.jsonl", "")
        .fails(1, &["imported has voted", "`annotator` column"]);
}

#[test]
fn labels_of_people_are_trained_on_like_any_others() {
    let place = Place::with_model();
    let rows = "ask,left,right,a,ann\nask,left,right,a,bob\nask,left,right,b,cy\nother,up,down,b,ann\n";
    std::fs::write(place.path("v.csv"), format!("prompt,response_a,response_b,label,annotator\n{rows}"))
        .unwrap();
    place.run("label --import v.csv --out out.jsonl", "").ok();
    for command in ["reward", "dpo"] {
        place.run(&format!("{command} --model model --data out.jsonl --out {command} --epochs 2"), "").ok();
        assert!(place.path(&format!("{command}/adapter_model.safetensors")).exists());
    }
}
