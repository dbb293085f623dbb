//! Several files read as one: named one after another, by a pattern, as a folder, or as the shards of a split of the Hub.

use crate::place::Place;
use crate::place::hub::FakeHub;
use serde_json::{Value, json};

const TRAIN: &str = "sft --model model --rank 2 --batch 2 --precision f32 --threads 1";

fn row(n: usize) -> Value {
    json!({"prompt": format!("{n}?"), "completion": format!("Yes, {n}.")})
}

fn shard(n: usize) -> String {
    format!("shards/train-{n:05}-of-00003.jsonl")
}

/// A place with a model and six rows: in one file, and in three shards of two rows.
fn with_shards() -> Place {
    let place = Place::with_model();
    std::fs::create_dir(place.path("shards")).unwrap();
    place.write("all.jsonl", &(0..6).map(row).collect::<Vec<_>>());
    for n in 0..3 {
        place.write(&shard(n), &[row(2 * n), row(2 * n + 1)]);
    }
    place
}

#[test]
fn a_training_on_several_files_is_the_one_on_all_their_rows() {
    let place = with_shards();
    let weights = |out: &str| std::fs::read(place.path(out).join("adapter_model.safetensors")).unwrap();
    place.run(&format!("{TRAIN} --data all.jsonl --out all"), "").ok();
    let [first, second, third] = [0, 1, 2].map(shard);
    for (out, data) in [
        ("named", format!("{first} --data {second} --data {third}")),
        ("unquoted", format!("{first} {second} {third}")),
        ("pattern", "shards/*.jsonl".to_owned()),
        ("folder", "shards".to_owned()),
    ] {
        place.run(&format!("{TRAIN} --data {data} --out {out}"), "").ok();
        assert_eq!(weights(out), weights("all"), "{out}");
    }
    let recipe = place.read("pattern/recipe.toml");
    assert!(recipe.contains("train-00002-of-00003.jsonl\"") && !recipe.contains('*'), "{recipe}");
    let again = place.run(&format!("{TRAIN} --data shards/*.jsonl --out pattern"), "").ok();
    assert!(again.err.contains("already done"), "{}", again.err);
    // A shard more is other data.
    place.write("shards/zzz.jsonl", &[row(9)]);
    let more = place.run(&format!("{TRAIN} --data shards/*.jsonl --out pattern"), "").ok();
    assert!(!more.err.contains("already done"), "{}", more.err);
    place
        .run(&format!("{TRAIN} --data shards --out folder"), "")
        .fails(1, &["several files of data", "train (3 files)", "zzz.jsonl", "hint: "]);
}

#[test]
fn faults_name_the_file_and_what_is_not_there_its_pattern() {
    let place = with_shards();
    let train = |data: &str| place.run(&format!("{TRAIN} --out o --data {data}"), "");
    train("shards/*.csv").fails(1, &["no file matches", "shards/*.csv", "hint: "]);
    train("all.jsonl all.jsonl").fails(2, &["is named twice"]);
    train("shards/*.jsonl shards/train-00001-of-00003.jsonl")
        .fails(1, &["train-00001-of-00003.jsonl is named twice"]);
    place.write(&shard(1), &[row(0), json!({"prompt": "Why?"})]);
    train("shards/*.jsonl").fails(1, &["train-00001-of-00003.jsonl:2: "]);
    place.write("empty.jsonl", &[]);
    train("empty.jsonl").fails(1, &["empty.jsonl has no rows"]);
    std::fs::remove_file(place.path(&shard(1))).unwrap();
    train("shards").fails(1, &["of the 3 files of `train` number 00001 is not there"]);
}

/// Ids of prompts stand in the ledger as they are, and rows without one are named by their line.
#[test]
fn prompts_of_several_files_are_told_apart() {
    let place = Place::with_model();
    place.write("a.jsonl", &[json!({"prompt": "Why?"})]);
    place.write("b.jsonl", &[json!({"prompt": "How?"}), json!({"id": "x", "prompt": "Who?"})]);
    let generate = "generate --model model --max-new-tokens 2 --temperature 0 --prompts";
    assert_eq!(place.run(&format!("{generate} a.jsonl b.jsonl"), "").ok().rows().len(), 3);
    let recipe = "name = \"r\"\nmodel = \"model\"\n[[stage]]\nkind = \"respond\"\nprompts = [\"a.jsonl\", \"b.jsonl\"]\nsampling = {max_new_tokens = 2}\n";
    std::fs::write(place.path("r.toml"), recipe).unwrap();
    place.run("run r.toml --out o --threads 1", "").ok();
    let found = place.run("explain --run o 2:line-1", "").ok().out;
    assert!(found.contains("How?"), "{found}");
    place.write("a.jsonl", &[json!({"id": "x", "prompt": "Why?"})]);
    place
        .run("run r.toml --out o --threads 1", "")
        .fails(1, &["b.jsonl:2: field `id`: `x` is already the id of line 1 of"]);
}

#[test]
fn a_split_of_the_hub_is_read_wherever_data_is() {
    let place = with_shards();
    let hub = FakeHub::new(&[("datasets/org/demos", &place.path("shards"))]);
    let run = |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut command = place.command(&words);
        let child = command.env("HF_ENDPOINT", &hub.url).env_remove("HF_HUB_OFFLINE").spawn().unwrap();
        Place::finish(child, "")
    };
    let weights = |out: &str| std::fs::read(place.path(out).join("adapter_model.safetensors")).unwrap();
    place.run(&format!("{TRAIN} --data all.jsonl --out all"), "").ok();
    run(&format!("{TRAIN} --data org/demos:train --out fetched")).ok();
    assert_eq!(weights("fetched"), weights("all"));
    // The rows of one shard are found again in it.
    let checked = run("data check org/demos --against org/demos:train-00001-of-00003.jsonl --json");
    let told: Value = serde_json::from_str(&checked.out).unwrap();
    let refused: Vec<usize> = (0..3).map(|n| told[n]["refused"].as_array().unwrap().len()).collect();
    assert_eq!(refused, [0, 1, 0], "{told}");
    checked.fails(1, &["train-00001-of-00003.jsonl would train"]);
    let shown = run("data show org/demos --model model --rows 3 --json").ok().rows();
    assert!(
        shown.len() == 3 && shown[2]["row"].as_str().unwrap().ends_with("train-00001-of-00003.jsonl, line 1")
    );
    let made =
        run("generate --model model --max-new-tokens 1 --temperature 0 --prompts org/demos:train").ok();
    assert_eq!(made.rows().len(), 6);
    assert_eq!(run("score --model model --input org/demos").ok().rows().len(), 6);
}

#[test]
fn rows_to_score_and_to_criticise_come_from_any_format() {
    let place = Place::with_model();
    let score =
        |name: &str| place.run(&format!("score --model model --precision f32 --input {name}"), "").ok().out;
    place.write(
        "a.jsonl",
        &[json!({"prompt": "Why?", "completion": "So."}), json!({"prompt": "How?", "completion": "No."})],
    );
    std::fs::write(
        place.path("a.json"),
        "[{\"prompt\":\"Why?\",\"completion\":\"So.\"},\n {\"prompt\":\"How?\",\"completion\":\"No.\"}]",
    )
    .unwrap();
    std::fs::write(place.path("a.csv"), "prompt,completion\nWhy?,So.\nHow?,No.\n").unwrap();
    let expected = score("a.jsonl");
    assert_eq!((score("a.json"), score("a.csv")), (expected.clone(), expected.clone()));
    assert_eq!(expected.lines().count(), 2);
    std::fs::write(place.path("b.csv"), "prompt,completion\nWhy?\n").unwrap();
    place.run("score --model model --input b.csv", "").fails(1, &["b.csv:2: has 1 cells"]);
    let critique = |name: &str| {
        place
            .run(
                &format!(
                    "critique --model model --max-new-tokens 4 --temperature 0 --precision f32 --input {name}"
                ),
                "",
            )
            .ok()
            .rows()
    };
    place.write("c.jsonl", &[json!({"id": "r", "prompt": "Why?", "answer": "So."})]);
    std::fs::write(place.path("c.csv"), "id,prompt,answer\nr,Why?,So.\n").unwrap();
    assert_eq!(critique("c.csv"), critique("c.jsonl"));
}
