//! A reward model labels pairs.

use super::*;
use serde_json::json;
use solon_data::ledger::{ItemKind, Ledger};

/// A reward model that learns which of two answers is better, and labels pairs it has not seen.
const STAGES: &str = "
        constitution = 'constitutions/default.toml'
        worked_examples = 16
        [[stage]]
        kind = 'reward'
        pairs = 'learnt.jsonl'
        epochs = 30
        learning_rate = 3e-3
        batch_size = 4
        hold_out_every = 0
        [[stage]]
        kind = 'label'
        labeller = 'reward'
        pairs = 'asked.jsonl'
        gate = false
        ";

const NO: &str = "I can't help with that.";
const YES: &str = "Sure. Start here.";

fn place(stages: &str) -> Place {
    let place = Place::with_model();
    let learnt = |at: usize| json!({"id": format!("l{at}"), "prompt": format!("Say {at}."), "chosen": NO, "rejected": YES});
    place.write("learnt.jsonl", &(0..6).map(learnt).collect::<Vec<_>>());
    let asked = |at: usize| {
        let [first, second] = if at.is_multiple_of(2) { [NO, YES] } else { [YES, NO] };
        json!({"id": format!("a{at}"), "prompt": format!("Tell {at}."), "chosen": first, "rejected": second})
    };
    place.write("asked.jsonl", &(0..6).map(asked).collect::<Vec<_>>());
    write_stages(&place, stages);
    place
}

#[test]
fn a_label_is_the_sigmoid_of_the_difference_of_rewards() {
    let place = place(STAGES);
    place.run("run recipe.toml --out one --threads 1", "").ok();
    place.run("run recipe.toml --out two --threads 2 --set batch=1", "").ok();
    let ledger = |run: &str| Ledger::open_read_only(&place.path(&format!("{run}/ledger.sqlite"))).unwrap();
    assert_eq!(ledger("one").items_hash("label").unwrap(), ledger("two").items_hash("label").unwrap());
    let items = ledger("one").raw_items("label", ItemKind::Label).unwrap();
    let asked: Vec<_> = items.iter().filter(|item| item.data["known"].is_null()).collect();
    assert_eq!(asked.len(), 6);
    for item in asked {
        let label = &item.data["label"];
        assert_eq!((&label["ask"], &label["principle_id"]), (&json!("reward"), &Value::Null), "{label}");
        let evidence = &label["evidence"][0];
        let [first, second] = [0, 1].map(|at| evidence["log_probs"][at].as_f64().unwrap());
        let probability = label["probability"].as_f64().unwrap();
        assert!((probability - 1.0 / (1.0 + (second - first).exp())).abs() < 1e-12, "{label}");
        // What it learnt of other prompts holds here, on either side.
        let preference = &item.data["preference"];
        assert_eq!((&preference["chosen"], &preference["rejected"]), (&json!(NO), &json!(YES)), "{label}");
        assert!((probability - 0.5).abs() > 0.1, "{label}");
    }
    let trail = place.run("explain label/a1 --run one", "").ok().out;
    assert!(trail.contains("label/a1") && !trail.contains("principle/"), "{trail}");

    // The folder of a reward model labels by itself.
    let words = "label --model model --adapter one/checkpoints/reward --ask reward --input asked.jsonl --out labels.jsonl";
    place.run(words, "").ok();
    let rows = std::fs::read_to_string(place.path("labels.jsonl")).unwrap();
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let of_run = |id: &str| {
        let id = format!("label/{id}");
        let item = items.iter().find(|item| item.id == id).unwrap();
        item.data["label"]["probability"].as_f64().unwrap()
    };
    for row in &rows {
        let probability = of_run(row["id"].as_str().unwrap());
        let likelier = probability.max(1.0 - probability);
        assert!((row["probability"].as_f64().unwrap() - likelier).abs() < 1e-12, "{row}");
    }
    assert_eq!(rows.len(), 6);

    // The rewards are those that `score` prints.
    let answers = [NO, YES].map(|answer| json!({"prompt": "Tell 0.", "completion": answer}));
    place.write("s.jsonl", &answers);
    let scored =
        place.run("score --model model --adapter one/checkpoints/reward --input s.jsonl", "").ok().rows();
    let evidence = &items.iter().find(|item| item.id == "label/a0").unwrap().data["label"]["evidence"][0];
    for (at, row) in scored.iter().enumerate() {
        let (printed, labelled) =
            (row["reward"].as_f64().unwrap(), evidence["log_probs"][at].as_f64().unwrap());
        assert!((printed - labelled).abs() < 1e-3, "{printed} and {labelled}");
    }
}

#[test]
fn an_answer_that_was_cut_off_is_scored_as_it_was_learnt() {
    let place = place(STAGES);
    // The same answers: whole, and cut off. Those that labellers are shown end with their last whole sentence; these do not.
    let row =
        |id: &str| json!({"id": id, "prompt": "Tell 1.", "chosen": NO, "rejected": "Sure. Start here."});
    let mut cut_off = row("cut");
    cut_off["cut_off"] = json!([false, true]);
    place.write("asked.jsonl", &[row("whole"), cut_off]);
    place.run("run recipe.toml --out run", "").ok();
    let ledger = Ledger::open_read_only(&place.path("run/ledger.sqlite")).unwrap();
    let rewards = |id: &str| {
        let label = ledger.find_item(&format!("label/{id}")).unwrap().unwrap().data["label"].clone();
        [0, 1].map(|at| label["evidence"][0]["log_probs"][at].as_f64().unwrap())
    };
    let [whole, cut] = ["whole", "cut"].map(rewards);
    assert_eq!(whole[0], cut[0], "the answer that is whole in both");
    assert_ne!(whole[1], cut[1], "one ends with the end of its turn, the other does not");
}

#[test]
fn what_a_reward_model_that_did_not_pass_says_is_not_learnt() {
    let place = place(STAGES);
    // Two pairs kept back: no accuracy on them is above chance.
    let words = "run recipe.toml --out run --set reward.hold_out_every=3 --set reward.require_accuracy=0.5";
    let dropped = || {
        let ledger = Ledger::open_read_only(&place.path("run/ledger.sqlite")).unwrap();
        let items = ledger.raw_items("label", ItemKind::Label).unwrap().into_iter();
        let asked = items.filter(|item| item.data["known"].is_null());
        asked.map(|item| item.dropped_reason).collect::<Vec<_>>()
    };
    place.run(&format!("{words} --set label.gate=true"), "").ok();
    let reason = "the reward model that labels did not pass on the pairs kept back";
    assert_eq!(dropped(), vec![Some(reason.to_owned()); 6]);
    assert!(summary(&place, "run")["warnings"].to_string().contains(reason));
    place.run(words, "").ok();
    assert_eq!(dropped(), vec![None; 6]);
}

#[test]
fn a_reward_model_is_asked_for_rewards_alone() {
    let place = place(STAGES);
    for (set, said) in [
        ("label.ask=choice", "ask = \"choice\", but the labeller is trained to \"reward\""),
        ("label.principles=2", "a reward model is asked none"),
        ("label.form=paper", "form = \"paper\""),
        ("label.few_shots=true", "few_shots = true"),
    ] {
        place.run(&format!("run recipe.toml --out run --set {set}"), "").fails(2, &[said, "hint:"]);
    }
    let other = "constitution = 'constitutions/default.toml'\n[[stage]]\nkind = 'critic'\n[[stage]]\nkind = 'label'\n\
        labeller = 'critic'\nask = 'reward'\npairs = 'asked.jsonl'\n";
    write_stages(&place, other);
    place.run("run recipe.toml --out run", "").fails(2, &["critic is none", "hint:"]);
    let words = "label --model model --ask reward --input asked.jsonl --out labels.jsonl";
    place.run(words, "").fails(1, &["has no scalar head", "hint:"]);
}
