//! `solon export --gguf`: what is written is opened again and gives the same numbers.

use super::place::Place;
use serde_json::{Value, json};

fn place() -> Place {
    let place = Place::with_model();
    let row = |i: usize| json!({"prompt": format!("What is {i}?"), "completion": format!("It's {i}, naïve friend!\n")});
    place.write("rows.jsonl", &(0..3).map(row).collect::<Vec<_>>());
    place
}

fn score(place: &Place, model: &str) -> String {
    place.run(&format!("score --model {model} --input rows.jsonl --precision f32"), "").ok().out
}

fn log_probs(scores: &str) -> Vec<f64> {
    let rows = scores.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.flat_map(|row| serde_json::from_value::<Vec<f64>>(row["logprobs"].clone()).unwrap()).collect()
}

#[test]
fn an_exported_model_scores_as_the_one_it_came_from() {
    let place = place();
    let whole = score(&place, "model");
    let ran = place.run("export --model model --gguf f32 --out out/tiny.gguf --ollama", "").ok();
    assert!(ran.err.contains("out/tiny.gguf (f32") && ran.err.contains("out/Modelfile"), "{}", ran.err);
    assert_eq!(score(&place, "out/tiny.gguf"), whole, "F32 is exact, and so is the tokenizer");
    let modelfile = place.read("out/Modelfile");
    assert!(
        modelfile.starts_with("# Written by `solon export`.\nFROM ./tiny.gguf\nTEMPLATE \"\"\""),
        "{modelfile}"
    );
    assert!(modelfile.contains("{{ .Content }}<|im_end|>\n"), "{modelfile}");
    assert!(modelfile.contains("\nPARAMETER stop \"<|im_end|>\"\n"), "{modelfile}");

    // A GGUF file is exported like a folder, and comes out the same.
    place.run("export --model out/tiny.gguf --gguf f32 --out tiny.gguf", "").ok();
    assert!(
        std::fs::read(place.path("tiny.gguf")).unwrap()
            == std::fs::read(place.path("out/tiny.gguf")).unwrap()
    );
    // Mean distances in nats. Between two other models of random weights it is several.
    for (kind, most) in [("bf16", 0.05), ("q8_0", 0.1), ("q4_0", 0.8), ("q4_k_m", 0.8)] {
        place.run(&format!("export --model model --gguf {kind} --out {kind}.gguf"), "").ok();
        let (found, exact) = (log_probs(&score(&place, &format!("{kind}.gguf"))), log_probs(&whole));
        let apart: f64 = found.iter().zip(&exact).map(|(a, b)| (a - b).abs()).sum();
        let mean = apart / exact.len() as f64;
        assert!(mean > 0.0 && mean < most && found.len() == exact.len(), "{kind}: {mean}");
    }
}

#[test]
fn an_adapter_is_merged_or_written_alone() {
    let place = place();
    place
        .run("sft --model model --data rows.jsonl --out sft --rank 4 --epochs 2 --learning-rate 0.01", "")
        .ok();
    place.run("export --model model --adapter sft --gguf f32 --out merged.gguf", "").ok();
    let (merged, beside) = (score(&place, "merged.gguf"), score(&place, "model --adapter sft"));
    for (merged, beside) in log_probs(&merged).into_iter().zip(log_probs(&beside)) {
        assert!((merged - beside).abs() < 1e-3, "{merged} and {beside}");
    }
    assert!(log_probs(&merged) != log_probs(&score(&place, "model")), "the adapter changes something");
    place.run("export --model model --adapter sft --gguf f16 --adapter-only --out adapter.gguf", "").ok();
    let written = std::fs::read(place.path("adapter.gguf")).unwrap();
    let has = |text: &str| written.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(written.starts_with(b"GGUF") && has("adapter.lora.alpha") && has("blk.1.attn_q.weight.lora_b"));
}

#[test]
fn what_cannot_be_exported_is_said_with_a_hint() {
    let place = place();
    place.run("export --gguf f16 --out m.gguf", "").fails(2, &["--run"]);
    place.run("export --model model --out m.gguf", "").fails(2, &["--gguf"]);
    place.run("export --model model --gguf q3 --out m.gguf", "").fails(2, &["q4_k_m"]);
    place.run("export --run model --model model --gguf f16 --out m.gguf", "").fails(2, &["--run", "--model"]);
    place.run("export --model model --gguf f16 --out model", "").fails(1, &["is a folder", "\nhint: "]);
    std::fs::write(place.path("notes.txt"), "mine").unwrap();
    place
        .run("export --model model --gguf f16 --out notes.txt", "")
        .fails(1, &["is no GGUF file", "\nhint: "]);
    assert_eq!(place.read("notes.txt"), "mine");
    place.run("export --model model --gguf f32 --out own.gguf", "").ok();
    place.run("export --model own.gguf --gguf q4_0 --out own.gguf", "").fails(1, &["is the model itself"]);
    std::fs::write(place.path("Modelfile"), "FROM mine").unwrap();
    let ran = place.run("export --model model --gguf f32 --out own.gguf --ollama", "");
    ran.fails(1, &["Modelfile is there", "\nhint: "]);
    place.run("export --run gone --gguf f16 --out m.gguf", "").fails(1, &["gone has no model/", "\nhint: "]);
    let mut definition: Value = serde_json::from_str(&place.read("model/tokenizer.json")).unwrap();
    definition["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = json!(false);
    std::fs::write(place.path("model/tokenizer.json"), definition.to_string()).unwrap();
    place
        .run("export --model model --gguf f16 --out m.gguf", "")
        .fails(1, &["its pre-tokenizer is", "individual_digits", "\nhint: "]);
    assert!(!place.path("m.gguf").exists());
}
