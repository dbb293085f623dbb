//! Data from pipes, which can be read only once.

use crate::place::Place;
use serde_json::json;
use std::process::Command;

const TRAIN: &str = "sft --model model --out o --precision f32 --threads 1 --data";

fn adapter(place: &Place) -> Vec<u8> {
    std::fs::read(place.path("o/adapter_model.safetensors")).unwrap()
}

#[test]
fn standard_input_is_read_once_and_told_apart_by_its_content() {
    let place = Place::with_model();
    let row = |answer: &str| format!("{}\n", json!({"prompt": "Why?", "completion": answer}));
    place.run(&format!("{TRAIN} -"), &row("Because.")).ok();
    let first = adapter(&place);
    let again = place.run(&format!("{TRAIN} -"), &row("Because.")).ok();
    assert!(again.err.contains("already done"), "{}", again.err);
    place.run(&format!("{TRAIN} -"), &row("Nobody knows.")).ok();
    assert_ne!(adapter(&place), first);
    // From a file it is the same training.
    std::fs::write(place.path("d.jsonl"), row("Because.")).unwrap();
    place.run(&format!("{TRAIN} d.jsonl"), "").ok();
    assert_eq!(adapter(&place), first);
}

/// `< file` is that file: whoever reads the run later finds it.
#[test]
fn a_file_given_as_standard_input_keeps_its_name() {
    let place = Place::with_model();
    place.write("d.jsonl", &[json!({"prompt": "Why?", "completion": "Because."})]);
    let status = Command::new(env!("CARGO_BIN_EXE_solon"))
        .args(TRAIN.split_whitespace().chain(["-"]))
        .current_dir(place.0.path())
        .stdin(std::fs::File::open(place.path("d.jsonl")).unwrap())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let recipe = place.read("o/recipe.toml");
    assert!(recipe.contains("/d.jsonl\"") && !recipe.contains("/dev/"), "{recipe}");
}

#[test]
fn a_named_pipe_is_read_once() {
    let place = Place::with_model();
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    let pipe = place.path("pipe");
    let writer = std::thread::spawn(move || {
        std::fs::write(pipe, format!("{}\n", json!({"prompt": "Why?", "completion": "Because."}))).unwrap();
    });
    place.run(&format!("{TRAIN} pipe"), "").ok();
    writer.join().unwrap();
    assert!(!adapter(&place).is_empty());
}

#[test]
fn prompts_and_rows_to_score_may_come_from_standard_input() {
    let place = Place::with_model();
    let prompt = json!({"prompt": "Why?"}).to_string();
    let made = place.run("generate --model model --max-new-tokens 3 --prompts -", &prompt).ok();
    assert_eq!(made.rows().len(), 1);
    let row = json!({"prompt": "Why?", "completion": "Because."}).to_string();
    let scored = place.run("score --model model --input -", &row).ok().out;
    assert_eq!(scored.lines().count(), 1);
    // A table without a name is told from JSON by what it holds.
    let table = "prompt,completion\nWhy?,Because.\n";
    assert_eq!(place.run("score --model model --input -", table).ok().out, scored);
    let checked = place.run("data check -", table).ok().out;
    assert!(checked.starts_with("-: CSV; 1 demonstrations"), "{checked}");
}
