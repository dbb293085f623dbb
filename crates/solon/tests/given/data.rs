//! `solon data`: files of training data, looked over before anything is trained.

use crate::place::Place;
use serde_json::{Value, json};

#[test]
fn a_clean_file_is_described_and_a_wrong_one_refused_with_its_rows() {
    let place = Place::with_model();
    let row = |prompt: &str, answer: &str| json!({"prompt": prompt, "completion": answer, "score": 1});
    place.write("good.jsonl", &[row("Why?", "Because."), row("How?", "So.")]);
    let ran = place.run("data check good.jsonl --model model", "").ok();
    for part in [
        "good.jsonl: JSON Lines; 2 demonstrations: TRL's prompt-completion",
        "  tokens   ",
        "the context is 4096",
        "  note     columns that are not used: score (2 rows)",
    ] {
        assert!(ran.out.contains(part), "{:?} lacks {part:?}", ran.out);
    }
    place.write("bad.jsonl", &[row("Why?", "Because."), row("Why?", "Because."), row("Who?", " ")]);
    place.write("test.jsonl", &[json!({"prompt": "why?"})]);
    let ran = place.run("data check good.jsonl bad.jsonl --against test.jsonl", "");
    for part in [
        "  warning  the same as an earlier row: line 2 (there line 1)",
        "  warning  the same as a row of an earlier file: line 1 (good.jsonl, line 1), line 2 (good.jsonl, line 1)",
        "  refused  an answer to learn from is empty: line 3",
        "  refused  the question is also in the data to measure on: line 1 (test.jsonl, line 1), line 2 (test.jsonl, line 1)",
    ] {
        assert!(ran.out.contains(part), "{:?} lacks {part:?}", ran.out);
    }
    ran.fails(1, &["good.jsonl, bad.jsonl would train something else than"]);
    // Duplicates only warn.
    place.write("twice.jsonl", &[row("Why?", "Because."), row("Why?", "Because.")]);
    place.run("data check twice.jsonl", "").ok();
    place.run("data check gone.jsonl", "").fails(1, &["gone.jsonl"]);
    place.write("empty.jsonl", &[]);
    place.run("data check empty.jsonl", "").fails(1, &["empty.jsonl would train"]);

    let told: Value =
        serde_json::from_str(&place.run("data check good.jsonl --model model --json", "").ok().out).unwrap();
    assert_eq!(told[0]["rows"], 2);
    assert_eq!(told[0]["unused_columns"], json!([{"name": "score", "rows": 2}]));
    assert!(told[0]["tokens"]["learnt"].as_u64().unwrap() > 0 && told[0]["refused"] == json!([]), "{told}");
}

#[test]
fn answers_with_a_label_each_are_described_and_not_trained_on() {
    let place = Place::with_model();
    let row = |label| json!({"prompt": "Why?", "completion": "Because.", "label": label});
    place.write("kto.jsonl", &[row(true), row(false), row(true)]);
    let ran = place.run("data check kto.jsonl --model model", "");
    for part in [
        "3 unpaired preferences: TRL's unpaired preference (KTO)",
        "2 rows are true, 1 are false",
        "keep the rows labelled true",
    ] {
        assert!(ran.out.contains(part), "{:?} lacks {part:?}", ran.out);
    }
    ran.fails(1, &["kto.jsonl would train"]);
    place
        .run("sft --model model --data kto.jsonl --out o", "")
        .fails(1, &["kto.jsonl:1: has a `label`", "(LLaMA-Factory's KTO), which is not trained on"]);
}

#[test]
fn what_does_not_fit_the_model_is_refused_by_row() {
    let place = Place::with_model();
    let long = json!({"prompt": "Why?", "chosen": "word ".repeat(5000), "rejected": "No"});
    place.write("long.jsonl", &[json!({"prompt": "Why?", "chosen": "So", "rejected": "No"}), long]);
    let ran = place.run("data check long.jsonl --model model", "");
    assert!(ran.out.contains("  refused  longer than the model's context: line 2"), "{}", ran.out);
    ran.fails(1, &[]);
    let template = "{% for m in messages %}{{ m.content | upper }}<|im_end|>{% endfor %}";
    std::fs::write(place.path("model/chat_template.jinja"), template).unwrap();
    let ran = place.run("data check long.jsonl --model model", "");
    assert!(
        ran.out.contains("  refused  the chat template refuses it: line 1: the chat template rewrites"),
        "{}",
        ran.out
    );
    ran.fails(1, &[]);
}

#[test]
fn a_pair_that_only_a_reward_model_has_no_room_for_is_a_warning() {
    let place = Place::with_model();
    place.write("pair.jsonl", &[json!({"prompt": "Why?", "chosen": "So it is", "rejected": "No"})]);
    let told = place.run("data check pair.jsonl --model model --json", "").ok().out;
    let longest = serde_json::from_str::<Value>(&told).unwrap()[0]["tokens"]["max"].as_u64().unwrap();
    let config = place.path("model/config.json");
    let with_context = |context: u64| {
        let mut fields: Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
        fields["max_position_embeddings"] = json!(context);
        std::fs::write(&config, fields.to_string()).unwrap();
    };
    let warning = "  warning  too long for a reward model";
    // The template ends a turn with a line end, which is one token.
    with_context(longest + 1);
    let ran = place.run("data check pair.jsonl --model model", "").ok();
    assert!(!ran.out.contains(warning), "{}", ran.out);
    with_context(longest);
    let ran = place.run("data check pair.jsonl --model model", "").ok();
    assert!(ran.out.contains(warning) && ran.out.contains("after the answer: line 1\n"), "{}", ran.out);
    place.run("reward --model model --data pair.jsonl --out o", "").fails(1, &["pair", "context"]);
    with_context(longest - 1);
    place.run("data check pair.jsonl --model model", "").fails(1, &["pair.jsonl would train"]);
}

#[test]
fn tokens_are_shown_with_what_is_learnt() {
    let place = Place::with_model();
    place.write(
        "d.jsonl",
        &[json!({"prompt": "Why?", "completion": "So\nit is"}), json!({"prompt": "a", "completion": "b"})],
    );
    let ran = place.run("data show d.jsonl --model model --rows 1", "").ok();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].starts_with("line 1: ") && lines[0].ends_with("learnt"), "{}", ran.out);
    assert!(lines[1].starts_with("  context  ") && lines[2].starts_with("  learnt   "), "{}", ran.out);
    assert_eq!(lines[2].replace("  learnt   ", "").replace('│', ""), "So\\nit is<|im_end|>");
    assert_eq!(lines.len(), 3);
    place.write("c.jsonl", &[json!({"prompt": "Why?", "completion": "So", "cut_off": true})]);
    let ran = place.run("data show c.jsonl --model model", "").ok();
    assert!(ran.out.contains("  learnt   So\n"), "an answer that was cut off has no end: {}", ran.out);
    place.write("t.jsonl", &[json!({"prompt": "Why?", "completion": "So", "train": false})]);
    place.run("data check t.jsonl", "").fails(1, &["t.jsonl:1: field `train`"]);
    let rows = place.run("data show d.jsonl --model model --json", "").ok().rows();
    assert_eq!((rows.len(), rows[0]["row"].as_str()), (2, Some("line 1")));
    place.write("p.jsonl", &[json!({"prompt": "Why?", "chosen": "So", "rejected": "No"})]);
    let ran = place.run("data show p.jsonl --model model", "").ok();
    assert!(ran.out.contains("line 1 chosen: ") && ran.out.contains("line 1 rejected: "), "{}", ran.out);
}
