//! Models and adapters as other programs save them, and files that are not what their name says.

use crate::place::Place;
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::{Value, json};
use std::path::Path;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";

fn generate(place: &Place, model: &str) -> crate::place::Ran {
    place.write("p.jsonl", &[json!({"prompt": "Why?"})]);
    let words = format!(
        "generate --model {model} --prompts p.jsonl --temperature 0 --max-new-tokens 4 --precision f32 --threads 1"
    );
    place.run(&words, "")
}

fn field(path: &Path, name: &str) -> Value {
    serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap()[name].clone()
}

/// What `AutoModel` saves: the model without its head, and without the prefix that the head's class adds.
#[test]
fn tensors_without_their_prefix_are_the_same_model() {
    let place = Place::with_model();
    let expected = generate(&place, "model").ok().out;
    let path = place.path("model/model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let renamed = tensors
        .tensors()
        .into_iter()
        .map(|(name, tensor)| (name.strip_prefix("model.").expect("no head of its own").to_owned(), tensor));
    serialize_to_file(renamed, None, &path).unwrap();
    assert_eq!(generate(&place, "model").ok().out, expected);
}

#[test]
fn pointers_of_git_lfs_are_named() {
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        let place = Place::with_model();
        std::fs::write(place.path("model").join(file), POINTER).unwrap();
        generate(&place, "model").fails(1, &[file, "is a pointer of Git LFS", "git lfs pull"]);
    }
    let place = Place::new();
    std::fs::write(place.path("x.gguf"), POINTER).unwrap();
    generate(&place, "x.gguf").fails(1, &["x.gguf is a pointer of Git LFS"]);
}

#[test]
fn an_adapter_of_mlx_is_named() {
    let place = Place::with_model();
    place.write("s.jsonl", &[json!({"prompt": "Why?", "completion": "Because."})]);
    std::fs::create_dir(place.path("mlx")).unwrap();
    let configuration = json!({"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 4}});
    std::fs::write(place.path("mlx/adapter_config.json"), configuration.to_string()).unwrap();
    std::fs::write(place.path("mlx/adapters.safetensors"), b"").unwrap();
    place
        .run("score --model model --input s.jsonl --adapter mlx", "")
        .fails(1, &["adapter of mlx-lm", "mlx_lm.fuse"]);
}

#[test]
fn every_id_that_ends_an_answer_is_saved() {
    let place = Place::with_model();
    std::fs::write(place.path("model/generation_config.json"), r#"{"eos_token_id": [2, 0, 5]}"#).unwrap();
    place.write("s.jsonl", &[json!({"prompt": "Why?", "completion": "Because."})]);
    place.run("sft --model model --data s.jsonl --out o --merge", "").ok();
    for file in ["o/generation_config.json", "o/config.json"] {
        assert_eq!(field(&place.path(file), "eos_token_id"), json!([2, 0, 5]), "{file}");
    }
}

/// A reward model, whole or as an adapter: it is trained further with the head that it has, and writes nothing.
#[test]
fn a_reward_model_goes_on_from_its_head_and_writes_no_answers() {
    let place = Place::with_model();
    place.write("d.jsonl", &[json!({"prompt": "Why?", "chosen": "Because.", "rejected": "No"})]);
    let train = |out: &str, more: &str| {
        let words = format!("reward --data d.jsonl --out {out} --precision f32 --threads 1 {more}");
        place.run(&words, "").ok();
        let lines = crate::place::rows(&place.read(&format!("{out}/metrics.jsonl")));
        let margin = |line: &Value| line["margin"].as_f64().unwrap();
        (margin(&lines[0]), margin(&lines[lines.len() - 1]))
    };
    let (fresh, learnt) = train("r", "--model model --epochs 6 --learning-rate 0.01");
    assert!(learnt > fresh + 1.0, "{fresh} {learnt}");
    let (on, _) = train("on", "--model model --adapter r --seed 2");
    assert!(on > learnt - 0.5, "{on} {learnt}");
    place
        .run("reward --model model --data d.jsonl --out whole --epochs 6 --learning-rate 0.01 --merge", "")
        .ok();
    let (on_whole, _) = train("on-whole", "--model whole --seed 2");
    assert!(on_whole > fresh + 1.0, "{on_whole} {fresh}");

    let named =
        ["is a reward model: it scores answers and writes none", "hint: name the model it was trained from"];
    generate(&place, "whole").fails(1, &named);
    generate(&place, "model --adapter r").fails(1, &named);
    place.write("s.jsonl", &[json!({"prompt": "Why?", "completion": "Because."})]);
    place.run("sft --model whole --data s.jsonl --out s", "").fails(1, &named);
}

/// A score is read behind all that the template writes, but not at padding; training reads it where `score` does.
#[test]
fn a_reward_is_read_where_transformers_reads_it() {
    let place = Place::with_model();
    place.write("d.jsonl", &[json!({"prompt": "Why?", "chosen": "Because.", "rejected": "No"})]);
    let train = "reward --data d.jsonl --threads 1 --precision f32";
    place.run(&format!("{train} --model model --epochs 6 --learning-rate 0.01 --out whole --merge"), "").ok();
    let answers = ["Because.", "No"].map(|answer| json!({"prompt": "Why?", "completion": answer}));
    place.write("s.jsonl", &answers);
    let score = |model: &str| {
        place.run(&format!("score --input s.jsonl --precision f32 --model {model}"), "").ok().rows()
    };
    let ids = |row: &Value| -> Vec<u64> {
        row["completion_token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
    };
    let config = place.path("whole/config.json");
    assert_eq!(field(&config, "pad_token_id"), json!(2), "the tokenizer's, which is also its end of turn");

    let (answer, read) = (score("model"), score("whole"));
    let newline = *ids(&read[0]).last().unwrap();
    for (answer, read) in answer.iter().zip(&read) {
        assert_eq!(ids(answer).last(), Some(&2));
        assert_eq!(ids(read), [ids(answer), vec![newline]].concat(), "ChatML writes a line end last");
    }
    place.run(&format!("{train} --model whole --out on --seed 2"), "").ok();
    let first = &crate::place::rows(&place.read("on/metrics.jsonl"))[0];
    let reward = |row: &Value| row["reward"].as_f64().unwrap();
    let (margin, scored) = (first["margin"].as_f64().unwrap(), reward(&read[0]) - reward(&read[1]));
    assert!((margin - scored).abs() < 1e-3, "{margin} {scored}");

    // Another padding token, then a template whose last token is the padding token.
    let mut other: Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    other["pad_token_id"] = json!(newline);
    std::fs::write(&config, other.to_string()).unwrap();
    assert_eq!(ids(&score("whole")[0]), ids(&answer[0]));
    other["pad_token_id"] = json!(2);
    std::fs::write(&config, other.to_string()).unwrap();
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    std::fs::write(place.path("whole/chat_template.jinja"), template).unwrap();
    let unread = score("whole");
    assert_eq!([ids(&unread[0]), vec![2]].concat(), ids(&answer[0]));
}

/// The reward of an answer, by the whole model and by the adapter, at the end of its conversation.
#[test]
fn score_prints_the_rewards_of_a_reward_model() {
    let place = Place::with_model();
    place.write("d.jsonl", &[json!({"prompt": "Why?", "chosen": "Because.", "rejected": "No"})]);
    let train =
        "reward --model model --data d.jsonl --epochs 6 --learning-rate 0.01 --threads 1 --precision f32";
    place.run(&format!("{train} --out adapter"), "").ok();
    place.run(&format!("{train} --out whole --merge"), "").ok();
    let answers = ["Because.", "No"].map(|answer| json!({"prompt": "Why?", "completion": answer}));
    place.write("s.jsonl", &answers);
    let rewards = |model: &str| -> Vec<f64> {
        let rows =
            place.run(&format!("score --input s.jsonl --precision f32 --model {model}"), "").ok().rows();
        assert!(rows.iter().all(|row| row.get("logprobs").is_none()), "{rows:?}");
        assert!(rows[0]["completion_token_ids"].as_array().unwrap().len() > 1);
        rows.iter().map(|row| row["reward"].as_f64().unwrap()).collect()
    };
    let (adapter, whole) = (rewards("model --adapter adapter"), rewards("whole"));
    assert!(adapter[0] > adapter[1] + 1.0, "{adapter:?}");
    for (adapter, whole) in adapter.iter().zip(&whole) {
        assert!((adapter - whole).abs() < 1e-3, "{adapter} {whole}");
    }
    place.write("long.jsonl", &[json!({"prompt": "Why?", "completion": "Because. ".repeat(1000)})]);
    place
        .run("score --model whole --input long.jsonl", "")
        .fails(1, &["long.jsonl", "line 1", "context of 4096"]);
}
