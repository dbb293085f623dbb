//! Every shipped recipe to its end: the same bytes whatever the threads and however often it is killed.

use super::place::rows;
use super::*;
use serde_json::json;

/// Runs a shipped recipe with one thread, with two, and with a SIGKILL after each of these stages; returns the summary.
#[track_caller]
fn threads_and_kills_change_no_byte(
    place: &Place,
    name: &str,
    killed_after: &[&str],
    columns: &[&str],
) -> Value {
    write_recipe(place, name);
    place.run("run recipe.toml --out one --threads 1", "").ok();
    place.run("run recipe.toml --out two --threads 2", "").ok();
    for stage in killed_after {
        kill_after(place, "killed", stage);
    }
    place.run("run recipe.toml --out killed", "").ok();
    let one = summary(place, "one");
    let hash = one["weights_sha256"].as_str().unwrap();
    assert_eq!(hash.len(), 64);
    for run in ["two", "killed"] {
        let other = summary(place, run);
        for key in ["weights_sha256", "evaluation", "comparison", "delivered", "verdict"] {
            assert_eq!(other[key], one[key], "{run}: {key}");
        }
        for stage in columns.iter().filter(|column| **column != "base") {
            let adapter = |run: &str| {
                std::fs::read(place.path(&format!("{run}/checkpoints/{stage}/adapter_model.safetensors")))
                    .unwrap()
            };
            assert!(adapter(run) == adapter("one"), "{run}: {stage}");
        }
    }
    for column in columns {
        for measure in ["harmful_compliance", "harmless_answered", "over_refusal"] {
            let rate = &one["evaluation"][column][measure];
            assert!(rate["total"].as_u64() > Some(0) && rate["rate"].is_f64(), "{column}: {one}");
        }
    }
    assert!(place.read("one/report.html").contains("</html>"));
    assert!(place.path("one/model/config.json").exists());
    reports_are_written(place, &one);
    one
}

/// What a run writes for readers: the page, the same as Markdown, and the card of the delivered model. All of it can be
/// written again, to the same bytes.
fn reports_are_written(place: &Place, summary: &Value) {
    let files = ["one/report.html", "one/report.md", "one/model/README.md"];
    let written = files.map(|file| place.read(file));
    let (hash, delivered) = (summary["weights_sha256"].as_str().unwrap(), &summary["delivered"]);
    for text in &written {
        assert!(text.contains(hash) && text.contains("solon run recipe.toml"), "{text}");
    }
    assert!(written[1].contains(&format!("The delivered model is {}.", delivered.as_str().unwrap())));
    let front = written[2].split("---\n").nth(1).unwrap();
    assert!(front.contains("pipeline_tag: \"text-generation\"") && front.contains("over_refusal"), "{front}");
    // The tiny model is no model of the Hub, and has no known licence.
    assert!(!front.contains("base_model") && !front.contains("license"), "{front}");
    for file in files {
        std::fs::remove_file(place.path(file)).unwrap();
    }
    place.run("report --run one", "").ok();
    assert!(files.map(|file| place.read(file)) == written, "the report written again differs");
}

#[test]
fn constitutional_ai() {
    let place = Place::with_model();
    let killed_after = ["critic", "respond", "sft", "contrast", "label", "reward", "ppo", "rloo"];
    let columns = ["base", "sft", "dpo", "ppo", "rloo"];
    let one = threads_and_kills_change_no_byte(&place, "ci", &killed_after, &columns);
    let hash = one["weights_sha256"].as_str().unwrap();
    assert!(one["labeller"]["verdict"].is_string(), "{one}");

    // The trail of a contrast: an answer to a harmless prompt, and a refusal that was put into the model's mouth.
    let prompts = include_str!("../../../../prompts/helpful.jsonl");
    let ids: Vec<String> =
        rows(prompts).iter().take(4).map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    let trail = place.run(&format!("explain contrast/{} --run one", ids[0]), "").ok();
    let openings = ["I can't", "I won't", "I'm not able to", "Sorry, but", "No, I can't", "I'm sorry, but"];
    let forced = |opening: &&str| trail.out.contains(&format!("rejected: {opening}"));
    assert!(openings.iter().any(forced), "{}", trail.out);
    // The fourth is held out from SFT, to measure the labeller on.
    place.run(&format!("explain sft/{} --run one", ids[0]), "").ok();
    let held_out = place.run(&format!("explain rehearse/{} --run one", ids[3]), "").ok();
    assert!(!held_out.out.contains("dropped"), "{}", held_out.out);
    place.run(&format!("explain sft/{} --run one", ids[3]), "").fails(1, &[&ids[3]]);

    // The export holds what was trained on, oriented, and DPO on it gives the stage's bytes.
    place.run("export --run one --out exported", "").ok();
    let preferences = rows(&place.read("exported/preferences.jsonl"));
    assert!(preferences.iter().all(|row| row["probability"].as_f64() >= Some(0.5)), "{preferences:?}");
    let demonstrations = rows(&place.read("exported/demonstrations.jsonl"));
    assert!(!demonstrations.is_empty());
    // Beside them are the same pairs with their annotators, and a card that says what was made.
    let pairs: Value = serde_json::from_str(&place.read("exported/annotated-pairs.json")).unwrap();
    let comparisons = pairs["comparisons"].as_array().unwrap();
    assert!(!comparisons.is_empty() && comparisons.len() <= preferences.len());
    let ids: std::collections::BTreeSet<&str> =
        comparisons.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), comparisons.len(), "a pair that several stages label stands once");
    let card = place.read("exported/README.md");
    for (file, rows) in [("demonstrations", demonstrations.len()), ("preferences", preferences.len())] {
        assert!(
            card.contains(&format!("path: \"{file}.jsonl\"")) && card.contains(&format!("{rows} row")),
            "{card}"
        );
    }
    let words = "dpo --model model --adapter one/checkpoints/sft --data exported/preferences.jsonl --out again --seed 1 --batch 8";
    place.run(words, "").ok();
    let adapter = |path: &str| std::fs::read(place.path(path)).unwrap();
    assert!(
        adapter("again/adapter_model.safetensors")
            == adapter("one/checkpoints/dpo/adapter_model.safetensors"),
        "`solon dpo` and the stage dpo differ"
    );

    // Of each model that was evaluated there is a log and a record, the same whenever they are written.
    let exported = |folder: &str| -> Vec<(String, String)> {
        let entries = std::fs::read_dir(place.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), place.read(&format!("{folder}/{name}")))).collect()
    };
    let evaluations = exported("exported/evaluations");
    assert_eq!(evaluations.len(), 2 * columns.len());
    let (_, record) =
        evaluations.iter().find(|(name, _)| name == "evaluate.dpo.every-eval-ever.json").unwrap();
    let record: Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["model_info"]["name"], "ci/dpo");
    assert_eq!(record["source_metadata"]["evaluator_relationship"], "first_party");
    let harmful = &record["evaluation_results"][0]["score_details"]["score"];
    assert_eq!(*harmful, one["evaluation"]["dpo"]["harmful_compliance"]["rate"]);
    let (_, log) = evaluations.iter().find(|(name, _)| name.ends_with("_evaluate_base.json")).unwrap();
    let log: Value = serde_json::from_str(log).unwrap();
    assert_eq!(
        (&log["eval"]["model"], &log["eval"]["packages"]["solon"]),
        (&json!(place.path("model")), &one["version"])
    );
    place.run("export --run one --out exported-again", "").ok();
    assert_eq!(evaluations, exported("exported-again/evaluations"));

    // A finished run is not run again.
    let again = place.run("run recipe.toml --out one", "").ok();
    assert!(!again.err.contains(": done"), "{}", again.err);
    let plan = place.run("run recipe.toml --out one --plan", "").ok().out;
    assert!(plan.lines().all(|line| line.contains(" done ")), "{plan}");
    // What only the helpful answers depend on reaches the weights, though all revisions stay as they were.
    let set = "--set rehearse.sampling.max_new_tokens=3";
    let plan = place.run(&format!("run recipe.toml --out one --plan {set}"), "").ok().out;
    let status =
        |name: &str| plan.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned();
    assert!(status("revise").contains(" done ") && status("rehearse").contains(" changed "), "{plan}");
    assert!(status("sft").contains(" changed "), "{plan}");
    place.run(&format!("run recipe.toml --out one {set}"), "").ok();
    assert_ne!(summary(&place, "one")["weights_sha256"], hash);
    place.run("run recipe.toml --out seeded --set seed=2", "").ok();
    assert_ne!(summary(&place, "seeded")["weights_sha256"], hash);
}

/// The paper's recipe runs with a constitution that has no few-shots too.
#[test]
fn constitutional_ai_as_its_paper_writes_it() {
    let place = Place::with_model();
    let killed_after = ["revise", "sft", "label"];
    let one = threads_and_kills_change_no_byte(&place, "cai-paper", &killed_after, &["base", "sft", "ppo"]);
    assert!(one["labellers"]["label"]["unlabelled"]["pairs"].as_u64() > Some(0), "{one}");
}

#[test]
fn rlhf() {
    let place = Place::with_model();
    let killed_after = ["sft", "reward", "ppo"];
    let one = threads_and_kills_change_no_byte(&place, "rlhf", &killed_after, &["base", "sft", "ppo"]);
    // The reward model was measured on oriented pairs that were kept back from it.
    let held_out = &one["reward_models"]["reward"];
    assert_eq!(held_out["pairs"], 12, "{one}");
    assert!(held_out["accuracy"].is_f64() && held_out["constant_loss"].is_f64(), "{one}");
}

#[test]
fn dpo() {
    let place = Place::with_model();
    threads_and_kills_change_no_byte(&place, "dpo", &["sft", "dpo"], &["base", "sft", "dpo"]);
    // The frozen recipe is the run: it finds the same files, and has nothing left to do.
    let again = place.run("run one/recipe.toml --out one", "").ok();
    assert!(!again.err.contains(": done"), "{}", again.err);
    // The report of a run that is not finished says so.
    place.run("run recipe.toml --out half --until sft", "").ok();
    let told = place.run("report --run half", "").ok().err;
    assert!(told.contains("This run is not finished") && told.contains("dpo"), "{told}");
    assert!(place.read("half/report.html").contains("This run is not finished"));
    assert!(!place.path("half/summary.json").exists() && !place.path("half/model").exists());
    place.run("report --run nowhere", "").fails(1, &["there is no folder nowhere"]);
    // A folder holds the run of one recipe.
    place.write("demos.jsonl", &[json!({"prompt": "Hi", "completion": "Hello"})]);
    place.run("sft --model model --data demos.jsonl --out one", "").fails(2, &["one holds a run of `dpo`"]);
}

#[test]
fn stack() {
    let place = Place::with_model();
    let killed_after = ["sft", "reward", "dpo", "safety"];
    let columns = ["base", "sft", "dpo", "safety"];
    let one = threads_and_kills_change_no_byte(&place, "stack", &killed_after, &columns);
    // Each stage is tested against the one it came from, and against the base model.
    let tests = one["comparison"]["evaluate"]["rows"][0]["tests"].as_array().unwrap();
    let pairs: Vec<[u64; 2]> = tests
        .iter()
        .map(|test| [test["column"].as_u64().unwrap(), test["reference"].as_u64().unwrap()])
        .collect();
    assert_eq!(pairs, [[1, 0], [2, 0], [2, 1], [3, 0], [3, 2]]);
}

#[test]
fn shipped_recipes_have_plans() {
    let place = Place::with_model();
    for name in ["quickstart", "cai-dpo", "cai-ppo", "cai-paper", "own-rules", "ci", "rlhf", "dpo", "stack"] {
        let plan = place.run(&format!("run {RECIPES}/{name}.toml --plan --out none"), "").ok().out;
        assert!(plan.lines().count() > 5 && plan.lines().all(|line| line.contains(" new")), "{name}: {plan}");
    }
    let stack = place.run(&format!("run {RECIPES}/stack.toml --plan --out none"), "").ok().out;
    for name in ["reward", "dpo"] {
        let line = stack.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains("from = sft"), "{line}");
    }
    let json = place.run(&format!("run {RECIPES}/stack.toml --plan --json --out none"), "").ok().out;
    let rows: Value = serde_json::from_str(&json).unwrap();
    let dpo = rows.as_array().unwrap().iter().find(|row| row["name"] == "dpo").unwrap();
    assert_eq!((&dpo["status"], &dpo["inputs"]["pairs"]), (&json!("new"), &json!(["preferences"])));
    assert!(!place.path("none").exists(), "a plan computes nothing");
}

#[test]
fn evaluations_of_an_unfinished_run_are_not_exported() {
    let place = Place::with_model();
    place.write("p.jsonl", &[json!({"id": "p", "prompt": "Hi", "kind": "harmless", "category": "talk"})]);
    write_stages(
        &place,
        "[[stage]]\nkind = \"evaluate\"\nmodels = \"base\"\nprompts = \"p.jsonl\"\nmax_new_tokens = 3\n",
    );
    place.run("run recipe.toml --out run --until evaluate-prompts", "").ok();
    let ran = place.run("export --run run --out exported", "").ok();
    assert!(ran.err.contains("note: the evaluations are not exported"), "{}", ran.err);
    assert!(ran.err.contains("summary.json") && ran.err.contains("hint: "), "{}", ran.err);
    assert!(
        place.path("exported/preferences.jsonl").exists() && !place.path("exported/evaluations").exists()
    );
    place.run("run recipe.toml --out run", "").ok();
    let ran = place.run("export --run run --out exported", "").ok();
    assert!(ran.err.contains("1 evaluations in exported/evaluations"), "{}", ran.err);
    // What the recipe read is gone: what does not need it is exported all the same.
    std::fs::remove_file(place.path("p.jsonl")).unwrap();
    let ran = place.run("export --run run --out exported", "").ok();
    assert!(ran.err.contains("note: ") && ran.err.contains("p.jsonl"), "{}", ran.err);
}
