//! `solon run` on a tiny model: every stage to the end, the same bytes whatever the threads and however often it is killed.

mod place;

use place::Place;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// The shipped CI recipe on the tiny model, with answers of a few tokens.
fn write_recipe(place: &Place) {
    let shipped = include_str!("../../../recipes/ci.toml");
    let recipe = shipped
        .replace("smollm2-135m-instruct", &place.path("model").display().to_string())
        .replace("worked_examples = 24", "worked_examples = 8");
    assert_ne!(recipe, shipped);
    std::fs::write(place.path("recipe.toml"), recipe).unwrap();
}

fn summary(place: &Place, run: &str) -> Value {
    serde_json::from_str(&place.read(&format!("{run}/summary.json"))).unwrap()
}

/// Runs the recipe into `run` and kills the process when it says that `stage` is done.
fn kill_after(place: &Place, run: &str, stage: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_solon"))
        .args(["run", "recipe.toml", "--out", run])
        .current_dir(place.0.path())
        .env("SOLON_CACHE", place.path("cache"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let wanted = format!("{stage}: done");
    let seen = lines.map_while(Result::ok).any(|line| line.starts_with(&wanted));
    // SIGKILL: nothing is flushed, no handler runs.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(seen, "{stage} never ended");
}

#[test]
fn threads_and_kills_change_no_byte() {
    let place = Place::with_model();
    write_recipe(&place);
    place.run("run recipe.toml --out one --threads 1", "").ok();
    place.run("run recipe.toml --out two --threads 2", "").ok();
    for stage in ["critic", "respond", "sft", "evaluate-sft", "contrast", "label", "reward"] {
        kill_after(&place, "killed", stage);
    }
    place.run("run recipe.toml --out killed", "").ok();

    let one = summary(&place, "one");
    let hash = one["weights_sha256"].as_str().unwrap();
    assert_eq!(hash.len(), 64);
    for run in ["two", "killed"] {
        assert_eq!(summary(&place, run)["weights_sha256"], hash, "{run}");
        assert_eq!(summary(&place, run)["evaluation"], one["evaluation"], "{run}");
    }
    for column in ["base", "sft", "dpo", "ppo"] {
        assert!(one["evaluation"][column]["harmful_compliance"]["total"].as_u64() > Some(0), "{column}");
    }
    assert!(place.read("one/report.html").contains("</html>"));
    assert!(place.path("one/model/config.json").exists());

    // The trail of a contrast: an answer to a harmless prompt, and a refusal that was put into the model's mouth.
    let prompts = include_str!("../../../prompts/helpful.jsonl").lines();
    let ids: Vec<String> = prompts
        .take(4)
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
        .collect();
    let trail = place.run(&format!("explain contrast/{} --run one", ids[0]), "").ok();
    assert!(trail.out.contains("(worse) I can't"), "{}", trail.out);
    // The fourth is kept back from SFT, to measure the labeller on.
    place.run(&format!("explain sft/{} --run one", ids[0]), "").ok();
    let kept_back = place.run(&format!("explain respond/{} --run one", ids[3]), "").ok();
    assert!(!kept_back.out.contains("dropped"), "{}", kept_back.out);
    place.run(&format!("explain sft/{} --run one", ids[3]), "").fails(1, &[&ids[3]]);

    // A finished run is not run again, another seed is.
    let again = place.run("run recipe.toml --out one", "").ok();
    assert!(!again.err.contains("sft: done"), "{}", again.err);
    // What only the helpful answers depend on reaches the weights, though all revisions stay as they were.
    place.run("run recipe.toml --out one --set rehearse.max_new_tokens=3", "").ok();
    assert_ne!(summary(&place, "one")["weights_sha256"], hash);
    place.run("run recipe.toml --out seeded --set seed=2", "").ok();
    assert_ne!(summary(&place, "seeded")["weights_sha256"], hash);
}

#[test]
fn a_bad_recipe_is_refused_before_anything_runs() {
    let place = Place::with_model();
    write_recipe(&place);
    place.run("run recipe.toml --out run --set sft.epoch=2", "").fails(2, &["recipe.toml", "epoch"]);
    place.run("run recipe.toml --out run --set model=nowhere", "").fails(1, &["nowhere", "hint:"]);
    let turns = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "And?"}]);
    place.write("turns.jsonl", &[json!({"id": "a", "prompt": turns})]);
    place.write("one.jsonl", &[json!({"id": "a", "prompt": "Hi"})]);
    let run = "run recipe.toml --out run --set prompts.red_team=";
    place.run(&format!("{run}turns.jsonl"), "").fails(1, &["turns.jsonl", "`a`", "3 messages", "hint:"]);
    place
        .run(&format!("{run}one.jsonl --set prompts.helpful=one.jsonl"), "")
        .fails(1, &["`a`", "one.jsonl", "hint:"]);
    assert!(!place.path("run").exists());
}
