//! `solon run` on a tiny model. Here is what the tests share; each file below has one subject.

mod feedback;
mod judges;
#[path = "../place/mod.rs"]
mod place;
mod plans;
mod preregister;
mod recipes;
mod red_team;
mod resume;
mod reward_labels;

use place::Place;
use serde_json::Value;
use solon_data::ledger::Ledger;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const RECIPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes");

/// Writes a shipped recipe on the tiny model, with answers of a few tokens and few items. Its files are those the program carries.
fn write_recipe(place: &Place, name: &str) {
    let shipped = std::fs::read_to_string(format!("{RECIPES}/{name}.toml")).unwrap();
    let mut recipe: toml::Table = shipped.parse().unwrap();
    recipe["model"] = place.path("model").display().to_string().into();
    if recipe.contains_key("worked_examples") {
        recipe["worked_examples"] = 8.into();
    }
    for stage in recipe["stage"].as_array_mut().unwrap() {
        let stage = stage.as_table_mut().unwrap();
        match stage["kind"].as_str().unwrap() {
            "prompts" => drop(stage.insert("count".into(), 4.into())),
            "evaluate" => {
                // Of a benchmark over prompts, so many of each kind.
                let key = if stage.contains_key("prompts") { "limit_each" } else { "limit" };
                stage.insert(key.into(), 2.into());
            }
            // A random model is at chance, and its labels are wanted all the same.
            "label" => drop(stage.insert("gate".into(), false.into())),
            "sft" | "dpo" => drop(stage.insert("epochs".into(), 1.into())),
            "reward" => {
                stage.insert("epochs".into(), 1.into());
                // A model of random weights is no better than chance, and is trained against all the same.
                stage.insert("require_accuracy".into(), 0.0.into());
            }
            _ => {}
        }
        if let Some(tokens) = stage.get_mut("max_new_tokens") {
            *tokens = 6.into();
        }
    }
    std::fs::write(place.path("recipe.toml"), toml::to_string(&recipe).unwrap()).unwrap();
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
    // On a busy machine the run may have been further than its lines were read, and the stage done before it was killed last.
    let ledger = Ledger::open_read_only(&place.path(&format!("{run}/ledger.sqlite"))).unwrap();
    let is_done = ledger.stage(stage).unwrap().is_some_and(|stage| stage.done);
    assert!(seen || is_done, "{stage} never ended");
}

/// Runs the recipe into `run`, saving training state after every step, and kills it as soon as `seen` holds.
fn kill_when(place: &Place, run: &str, seen: impl Fn() -> bool) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_solon"))
        .args(["run", "recipe.toml", "--out", run])
        .current_dir(place.0.path())
        .env("SOLON_CACHE", place.path("cache"))
        .env("SOLON_CHECKPOINT_SECONDS", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !seen() {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A recipe of these stages on the tiny model.
fn write_stages(place: &Place, stages: &str) {
    let model = place.path("model").display().to_string();
    std::fs::write(place.path("recipe.toml"), format!("name = \"t\"\nmodel = {model:?}\n{stages}")).unwrap();
}
