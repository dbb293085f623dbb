//! Models, adapters and data by their names on the Hugging Face Hub: the same as from a folder, and from the cache without it.

use crate::place::hub::{COMMIT, FakeHub};
use crate::place::{Place, Ran};
use serde_json::{Value, json};

/// Runs `solon` as somebody for whom this is the Hub.
fn with_hub(place: &Place, hub: &FakeHub, words: &str) -> Ran {
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut command = place.command(&words);
    Place::finish(command.env("HF_ENDPOINT", &hub.url).env_remove("HF_HUB_OFFLINE").spawn().unwrap(), "")
}

/// A place with a model, demonstrations in two splits, and a Hub that holds both.
fn with_model_and_data() -> (Place, FakeHub) {
    let place = Place::with_model();
    std::fs::create_dir(place.path("demos")).unwrap();
    for split in ["train", "test"] {
        let row = |n| json!({"prompt": format!("{split} {n}?"), "completion": format!("Yes, {n}.")});
        place.write(&format!("demos/{split}.jsonl"), &(0..4).map(row).collect::<Vec<_>>());
    }
    let hub =
        FakeHub::new(&[("org/tiny", &place.path("model")), ("datasets/org/demos", &place.path("demos"))]);
    (place, hub)
}

const FLAGS: &str = "--rank 2 --batch 2 --epochs 1 --precision f32 --threads 1";

#[test]
fn a_training_on_a_model_and_data_of_the_hub_is_the_same_as_on_files() {
    let (place, hub) = with_model_and_data();
    place.run(&format!("sft --model model --data demos/train.jsonl --out local {FLAGS}"), "").ok();
    let words = format!("sft --model org/tiny --data org/demos:train --out out {FLAGS}");
    let said = with_hub(&place, &hub, &words).ok().err;
    assert!(said.contains("downloading org/tiny (") && said.contains("downloading org/demos ("), "{said}");
    let weights = |out: &str| std::fs::read(place.path(out).join("adapter_model.safetensors")).unwrap();
    assert_eq!(weights("out"), weights("local"));

    // The run names the commit, the adapter its base as peft knows it.
    let recipe = place.read("out/recipe.toml");
    assert!(recipe.contains(&format!("model = \"org/tiny@{COMMIT}\"")), "{recipe}");
    let adapter: Value = serde_json::from_str(&place.read("out/adapter_config.json")).unwrap();
    assert_eq!(adapter["base_model_name_or_path"], "org/tiny");

    // The same again asks what `main` is, for no file, and repeats nothing; nor does it without the Hub.
    let before = hub.asked().len();
    let again = with_hub(&place, &hub, &words).ok().err;
    assert!(again.contains("already done"), "{again}");
    assert!(hub.asked()[before..].iter().all(|path| path.contains("/revision/main")), "{:?}", hub.asked());
    let offline = place.run(&words, "").ok().err;
    assert!(offline.contains("HF_HUB_OFFLINE is set") && offline.contains("already done"), "{offline}");
}

#[test]
fn a_model_and_an_adapter_of_the_hub_answer_as_from_folders() {
    let (place, hub) = with_model_and_data();
    place.run(&format!("sft --model model --data demos/train.jsonl --out local {FLAGS}"), "").ok();
    let adapter = FakeHub::new(&[("org/tiny", &place.path("model")), ("org/lora", &place.path("local"))]);
    place.write("p.jsonl", &[json!({"prompt": "Why?"})]);
    let rest = "--prompts p.jsonl --temperature 0 --max-new-tokens 4 --precision f32 --threads 1";
    let local = place.run(&format!("generate --model model {rest}"), "").ok().out;
    assert_eq!(with_hub(&place, &hub, &format!("generate --model org/tiny {rest}")).ok().out, local);
    let local = place.run(&format!("generate --model model --adapter local {rest}"), "").ok().out;
    let words = format!("generate --model org/tiny@{COMMIT} --adapter org/lora {rest}");
    assert_eq!(with_hub(&place, &adapter, &words).ok().out, local);
    let pulled = place.run("pull org/tiny", "").ok().out;
    assert!(pulled.trim_end().ends_with(&format!("models--org--tiny/snapshots/{COMMIT}")), "{pulled}");
}

#[test]
fn what_is_on_neither_side_is_said() {
    let (place, hub) = with_model_and_data();
    place.write("p.jsonl", &[json!({"prompt": "Why?"})]);
    with_hub(&place, &hub, "generate --model org/none --prompts p.jsonl")
        .fails(1, &["no org/none here", "the Hugging Face Hub was asked", "no such repository", "hint: "]);
    let data = format!("sft --model model --data org/demos --out out {FLAGS}");
    with_hub(&place, &hub, &data)
        .fails(1, &["stage `sft", "several files of data", "test.jsonl, train.jsonl", ":test"]);
    place
        .run("generate --model org/tiny --prompts p.jsonl", "")
        .fails(1, &["HF_HUB_OFFLINE is set", "never downloaded", "unset HF_HUB_OFFLINE"]);
    // What ends like a file, or begins like a path, is one.
    for path in ["data/gone.jsonl", "./org/demos"] {
        let asked = hub.asked().len();
        with_hub(&place, &hub, &format!("sft --model model --data {path} --out out"))
            .fails(1, &["there is no file"]);
        assert_eq!(hub.asked().len(), asked);
    }
}

#[test]
fn nothing_is_pushed_without_a_token() {
    let (place, hub) = with_model_and_data();
    let push = "push --model model --to org/mine";
    with_hub(&place, &hub, push).fails(1, &["config.json, model.safetensors", "no token", "HF_TOKEN"]);
    place.run(push, "").fails(1, &["HF_HUB_OFFLINE is set"]);
    place.run("push --model model --to mine", "").fails(2, &["--to mine", "ORG/NAME"]);
    place.run("push --run model --to org/mine", "").fails(1, &["model/model", "delivered a model"]);
    place.run("push --to org/mine", "").fails(2, &["--run"]);
    assert!(hub.asked().is_empty());
}
