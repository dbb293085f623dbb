//! Benchmarks whose answers a rule reads, and those of one's own.

use super::*;

#[test]
fn written_answers_are_compared_with_references_and_letters() {
    let place = place();
    let truths = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n\
        x,Food,Is it so?,y,Yes; It is so,No,z\nx,Law,Is it not?,y,No,Yes,z\n";
    std::fs::write(place.path("TruthfulQA.csv"), truths).unwrap();
    let words = "eval truthfulqa-gen --model model --data TruthfulQA.csv --max-new-tokens 6 --json";
    let figures: Value = serde_json::from_str(&place.run(words, "").ok().out).unwrap();
    assert_eq!((&figures["items"], &figures["figures"]["rougeL_diff"]["count"]), (&json!(2), &json!(2)));
    let words = "eval mmlu --model model --data mmlu --subjects anatomy --format generative --shots 1 --json --samples s.jsonl";
    let figures: Value = serde_json::from_str(&place.run(words, "").ok().out).unwrap();
    assert_eq!((&figures["rule"], &figures["items"]), (&json!("mmlu_generative"), &json!(5)));
    assert!(rows(&place.read("s.jsonl"))[0]["answer"].is_string());
    let row = |key: usize, name: &str, kwargs: Value| json!({"key": key, "prompt": "Write.", "instruction_id_list": [name], "kwargs": [kwargs]});
    let few = json!({"num_words": 2, "relation": "less than"});
    let many = json!({"num_words": 900, "relation": "less than"});
    let name = "length_constraints:number_words";
    place.write("input_data.jsonl", &[row(1, name, few), row(2, name, many)]);
    let words = "eval ifeval --model model --data input_data.jsonl --max-new-tokens 8 --json";
    let figures: Value = serde_json::from_str(&place.run(words, "").ok().out).unwrap();
    assert_eq!(figures["items"], 2);
    assert!(
        figures["instruction_strict"].as_f64().unwrap() <= figures["instruction_loose"].as_f64().unwrap()
    );
}

/// Both forms, without any code: as a file of its own, and as `toml` with its items in a file beside it.
#[test]
fn a_benchmark_of_ones_own_is_a_file() {
    let place = place();
    let rows = "no,q,one,two,right\na,Which?,x,y,B\nb,What?,p,q,A\nc,Who?,r,s,A\n";
    std::fs::write(place.path("rows.csv"), rows).unwrap();
    let choice = "name = \"Letters\"\nitems = \"rows.csv\"\n[columns]\nid = \"no\"\nquestion = \"q\"\n\
        options = [\"one\", \"two\"]\nanswer = \"right\"\n";
    std::fs::write(place.path("choice.toml"), choice).unwrap();
    let run = |words: &str| -> Value { serde_json::from_str(&place.run(words, "").ok().out).unwrap() };
    let words = "eval choice.toml --model model --json --run kept --samples samples.jsonl";
    let figures = run(words);
    assert_eq!((&figures["items"], &figures["rule"]), (&json!(3), &json!("toml-letters")));
    let samples = self::rows(&place.read("samples.jsonl"));
    assert_eq!(samples[0]["loglikelihoods"].as_array().unwrap().len(), 2);
    assert_eq!(run("eval toml --data choice.toml --model model --json"), figures);
    // What lies beside is a part of the benchmark: where it changes, the stage runs again.
    std::fs::write(place.path("rows.csv"), rows.replace("What?,p,q,A", "What?,p,q,B")).unwrap();
    let changed = run(words);
    let right = |figures: &Value| figures["figures"]["accuracy"]["count"].as_u64().unwrap();
    assert_eq!(right(&changed).abs_diff(right(&figures)), 1, "{figures} {changed}");
    let open = "name = \"Open\"\nmax_new_tokens = 5\n[judge]\nprompt = \"{question} {answer} Right is {reference}.\"\n\
        verdict = { score = '([0-9]+)', from = 1, to = 10 }\nmax_new_tokens = 6\n\
        [[item]]\nquestion = \"Add 1 and 2.\"\nreference = \"3\"\n";
    std::fs::write(place.path("open.toml"), open).unwrap();
    let shown = place.run("eval open.toml --model model --judge local:model", "").ok().out;
    assert!(shown.contains("score (all answers)") && shown.contains("from 1 to 10"), "{shown}");
    std::fs::write(place.path("alone.toml"), "name = \"Alone\"\nitems = \"away.csv\"\n").unwrap();
    for (words, code, parts) in [
        ("open.toml", 2, &["toml needs a judge"][..]),
        ("alone.toml", 1, &["cannot read", "away.csv: No such file"]),
        ("choice.toml --judge local:model", 2, &["toml is judged by a rule"]),
        ("choice.toml --data mmlu", 2, &["leave --data out"]),
        ("gone.toml", 1, &["no file", "gone.toml"]),
        ("toml", 2, &["toml needs its files"]),
        ("choice", 2, &["possible values", "toml"]),
    ] {
        place.run(&format!("eval {words} --model model"), "").fails(code, parts);
    }
}
