//! `solon constitution check`, `show` and `diff`, run as a user runs them.

mod place;

use place::Place;
use serde_json::{Value, json};

const MINE: &str = r#"name = "mine"
version = 2
description = "A small one."
[[revision]]
id = "kind"
weight = 3
critique = "Is it kind?"
revision = "Make it kind."
[[revision]]
id = "brief"
applies = ["harmless"]
critique = "Is it brief?"
revision = "Make it brief."
[[comparison]]
id = "kinder"
request = "Is it unkind?"
question = "Which is kinder?"
[[example]]
id = "e"
kind = "harmless"
category = "c"
principle = "brief"
request = "q"
flawed = "f"
critique = "c"
revision = "r"
[[prompt]]
id = "p"
principle = "kind"
text = "Insult me."
"#;

fn place() -> Place {
    let place = Place::new();
    std::fs::write(place.path("mine.toml"), MINE).unwrap();
    place
}

fn json_of(place: &Place, words: &str) -> Value {
    serde_json::from_str(&place.run(words, "").ok().out).unwrap()
}

#[test]
fn check_counts_what_a_file_holds() {
    let place = place();
    let checked = json_of(&place, "constitution check mine.toml --json");
    for (key, expected) in [
        ("name", json!("mine")),
        ("version", json!(2)),
        ("revision_principles", json!(2)),
        ("comparison_principles", json!(1)),
        ("request_questions", json!(1)),
        ("examples", json!({"harmless": 1})),
        ("few_shots", json!({})),
        ("prompts", json!(1)),
        ("about", json!({"harmless": [1, 0]})),
        ("warnings", json!([])),
    ] {
        assert_eq!(checked[key], expected, "{key}");
    }
    assert_eq!(checked["weights"][0], json!({"id": "kind", "weight": 3.0, "share": 0.75}));
    let text = place.run("constitution check mine.toml", "").ok().out;
    for part in [
        checked["sha256"].as_str().unwrap(),
        checked["file_sha256"].as_str().unwrap(),
        "revision principles        2\n",
        "comparison principles      1, 1 of them with a question",
        "75.0 %",
    ] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    assert!(!text.contains("warning"), "{text}");

    // Another form of the same content has the same hash, and another file's hash.
    let whole = place.run("constitution show mine.toml --json", "").ok().out;
    std::fs::write(place.path("mine.json"), whole).unwrap();
    let again = json_of(&place, "constitution check mine.json --json");
    assert_eq!(again["sha256"], checked["sha256"]);
    assert_ne!(again["file_sha256"], checked["file_sha256"]);

    let own = json_of(&place, "constitution check --json");
    assert_eq!(own["name"], "default");
    assert!(own["revision_principles"].as_u64().unwrap() >= 16);
}

/// A folder has no file to hash, and no form of the paper says what a principle applies to.
#[test]
fn a_published_folder_is_used_like_a_file() {
    let place = Place::with_model();
    std::fs::create_dir(place.path("paper")).unwrap();
    let path = place.path("paper/CritiqueRevisionInstructions.json");
    let write = |revision: &str| {
        let instructions = json!({"harmful0": {"prompt": ["\n\nCritiqueRequest: Why?\n\nCritique:"],
            "edit_request": format!("\n\nRevisionRequest: {revision}\n\nRevision:")}});
        std::fs::write(&path, instructions.to_string()).unwrap();
    };
    write("Better.");
    place.write("rows.jsonl", &[json!({"prompt": "Why?", "answer": "So."})]);
    let words = "critique --model model --constitution paper --input rows.jsonl --max-new-tokens 4 --run run";
    let ran = place.run(words, "").ok();
    assert_eq!(ran.rows()[0]["rounds"][0]["principle"], "harmful0");
    assert!(!place.run(words, "").ok().err.contains("revise: done"), "what is done is not done again");
    write("Much better.");
    assert!(place.run(words, "").ok().err.contains("revise: done"), "a changed file is read again");
}

#[test]
fn every_published_form_is_checked() {
    let place = Place::new();
    std::fs::create_dir(place.path("paper")).unwrap();
    let write = |name: &str, value: &Value| std::fs::write(place.path(name), value.to_string()).unwrap();
    write(
        "paper/CritiqueRevisionInstructions.json",
        &json!({"harmful0": {"prompt": ["\n\nCritiqueRequest: Why?\n\nCritique:"],
            "edit_request": "\n\nRevisionRequest: Better.\n\nRevision:"}}),
    );
    write("paper/RLMadisonInstructions.json", &json!(["\nWhich? Options:", "\nWhich is it? Options:"]));
    write(
        "paper/CritiqueRevisionFewShotPrompts.json",
        &json!(["Human: q\n\nCritiqueRequest: a\n\nRevisionRequest: b\n\nRevision: c"]),
    );
    write(
        "paper/RLMadisonFewShotPrompts.json",
        &json!([{"prompt": "q", "corrects": ["a"], "incorrects": ["b"]}]),
    );
    write("paper/RLMadisonPrecogFewShotPrompts.json", &json!([{"prompt": "q {} a"}, {"prompt": "{}"}]));
    write(
        "recipe.json",
        &json!({"constitutions": [{"critic": "c", "revision": "r"}],
            "system_chat": [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]]}),
    );
    write("traits.txt", &json!([{"trait": "I am kind.", "questions": ["q", "r"]}]));
    for (file, revision, comparison, few_shots, prompts) in [
        ("paper", 1, 2, json!({"comparison": 1, "comparison-cot": 2, "critique": 1}), 0),
        ("recipe.json", 1, 0, json!({"critique-chat": 1}), 0),
        ("traits.txt", 1, 1, json!({}), 2),
    ] {
        let checked = json_of(&place, &format!("constitution check {file} --json"));
        assert_eq!(checked["revision_principles"], revision, "{file}");
        assert_eq!(checked["comparison_principles"], comparison, "{file}");
        assert_eq!((&checked["few_shots"], &checked["prompts"]), (&few_shots, &json!(prompts)), "{file}");
        assert_eq!(checked["file_sha256"].is_null(), file == "paper");
    }
    let prompts = place.run("constitution show traits.txt --prompts", "").ok().rows();
    assert_eq!(prompts[1], json!({"id": "trait0-question1", "prompt": "r", "category": "trait0-revision"}));
}

#[test]
fn warnings_are_shown_and_bad_files_exit_with_2() {
    let place = place();
    std::fs::write(place.path("odd.toml"), MINE.replace("Is it brief?", "Is it <|im_end|> brief?")).unwrap();
    let text = place.run("constitution check odd.toml", "").ok().out;
    assert!(text.contains("warning: control tokens of a chat template"), "{text}");

    std::fs::write(place.path("weight.toml"), MINE.replace("weight = 3", "weight = -3")).unwrap();
    std::fs::write(place.path("twice.json"), r#"{"a": {"prompt": ["x"]}, "a": {}}"#).unwrap();
    for (words, parts) in [
        ("check weight.toml", &["weight.toml", "\"kind\"", "`weight`", "positive"][..]),
        ("check twice.json", &["twice.json", "\"a\" occurs twice"]),
        ("check gone.toml", &["gone.toml"]),
        ("show gone.toml", &["gone.toml", "hint: "]),
        ("show no-crime", &["no-crime", "solon constitution show constitutions/default.toml no-crime"]),
        ("show mine.toml gone", &["mine.toml", "\"gone\"", "hint: "]),
        ("show mine.toml --prompts --json", &["--json"]),
        ("diff", &["<A>"]),
        ("diff mine.toml weight.toml", &["weight.toml"]),
    ] {
        place.run(&format!("constitution {words}"), "").fails(2, parts);
    }
}

#[test]
fn show_prints_principles_and_one_entry_in_full() {
    let place = place();
    std::fs::write(place.path("hostile.toml"), MINE.replace("Is it kind?", "Is it \u{202e}kind?")).unwrap();
    let text = place.run("constitution show hostile.toml", "").ok().out;
    assert!(text.contains("critique: Is it \\u{202e}kind?") && !text.contains('\u{202e}'), "{text}");
    for part in ["mine, version 2", "[[revision]] brief\n", "question: Which is kinder?", "prompts (1): p"] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    let entry = place.run("constitution show mine.toml brief", "").ok().out;
    assert!(entry.starts_with("[[revision]] brief\n") && entry.ends_with("named by: e\n"), "{entry}");
    assert!(!entry.contains("kind"), "{entry}");
    let entry = json_of(&place, "constitution show mine.toml e --json");
    assert_eq!((&entry["table"], &entry["fields"]["flawed"]), (&json!("example"), &json!("f")));
    assert!(place.run("constitution show", "").ok().out.contains("[[revision]] "));
}

#[test]
fn diff_names_what_changed() {
    let place = place();
    let same = place.run("constitution diff mine.toml mine.toml", "").ok().out;
    assert!(same.contains("The same principles"), "{same}");
    let after = MINE
        .replace("weight = 3\n", "")
        .replace("Is it kind?", "Is it gentle?")
        .replace("id = \"kinder\"", "id = \"gentler\"")
        .replace("id = \"p\"", "id = \"p2\"")
        .replace("Insult me.", "Insult her.");
    std::fs::write(place.path("after.toml"), after).unwrap();
    let text = place.run("constitution diff mine.toml after.toml", "").ok().out;
    for part in [
        "Both have the same name and version, and other content",
        "[[revision]]: 0 added, 0 removed, 1 changed\n~ kind\n  critique\n    A: Is it kind?\n    B: Is it gentle?",
        "  weight\n    A: 3.0\n    B: left out\n",
        "~ kinder\n  id\n    A: kinder\n    B: gentler\n",
        "- [[prompt]] p\n",
        "+ [[prompt]] p2\n",
    ] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    let found = json_of(&place, "constitution diff mine.toml after.toml --json");
    assert_eq!(
        (&found["same_content"], &found["tables"][0]["changed"][0]["id"]),
        (&json!(false), &json!("kind"))
    );
    let own = json_of(&place, "constitution diff mine.toml --json");
    assert_eq!(own["second"]["name"], "default");
}
