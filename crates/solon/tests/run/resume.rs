//! Runs that go on: kills inside stages, renamed stages, moved prompts, and what is gone.

use super::place::rows;
use super::*;
use serde_json::json;

#[test]
fn kills_inside_stages_change_no_byte() {
    let place = Place::with_model();
    write_recipe(&place, "dpo");
    // Many steps and chunks of one answer, so that there is an inside to be killed in.
    let text = place.read("recipe.toml");
    let mut recipe: toml::Table = text.parse().unwrap();
    recipe.insert("batch".into(), 1.into());
    for stage in recipe["stage"].as_array_mut().unwrap() {
        match stage["kind"].as_str().unwrap() {
            "sft" | "dpo" => stage["epochs"] = 12.into(),
            "evaluate" => stage["limit_each"] = 20.into(),
            _ => {}
        }
    }
    std::fs::write(place.path("recipe.toml"), toml::to_string(&recipe).unwrap()).unwrap();
    place.run("run recipe.toml --out one", "").ok();
    for stage in ["sft", "dpo"] {
        let state = place.path(&format!("killed/checkpoints/{stage}.state"));
        kill_when(&place, "killed", || state.exists());
        let plan = place.run("run recipe.toml --out killed --plan", "").ok().out;
        let line = plan.lines().find(|line| line.starts_with(&format!("{stage} "))).unwrap();
        assert!(line.contains(" resumed"), "{line}");
    }
    let answers = |run: &str| {
        let ledger = solon_data::ledger::Ledger::open_read_only(&place.path(&format!("{run}/ledger.sqlite")));
        ledger
            .and_then(|ledger| ledger.item_ids("evaluate", solon_data::ledger::ItemKind::Response))
            .unwrap_or_default()
    };
    kill_when(&place, "killed", || answers("killed").len() > 1);
    assert!(answers("killed").len() < answers("one").len());
    let ran = place.run("run recipe.toml --out killed", "").ok();
    assert!(ran.err.contains("evaluate: resumed"), "{}", ran.err);
    for key in ["weights_sha256", "evaluation", "comparison", "delivered"] {
        assert_eq!(summary(&place, "killed")[key], summary(&place, "one")[key], "{key}");
    }
    let adapter = |run: &str, stage: &str| {
        std::fs::read(place.path(&format!("{run}/checkpoints/{stage}/adapter_model.safetensors"))).unwrap()
    };
    let metrics = |run: &str| place.read(&format!("{run}/metrics.jsonl"));
    assert!(
        adapter("one", "sft") == adapter("killed", "sft")
            && adapter("one", "dpo") == adapter("killed", "dpo")
    );
    assert_eq!(metrics("one"), metrics("killed"), "the log reads as if the run had never been killed");
}

#[test]
fn kills_inside_training_on_rewards_change_no_byte() {
    let place = Place::with_model();
    let prompts = |name: &str, count: usize| {
        format!(
            "[[stage]]\nkind = \"prompts\"\nfile = \"prompts/{name}.jsonl\"\nname = \"{name}\"\ncount = {count}\n"
        )
    };
    let reward = |name: &str| {
        format!(
            "[[stage]]\nkind = \"reward\"\nname = \"{name}\"\npairs = \"human\"\nepochs = 3\nhold_out_every = 4\n\
             require_accuracy = 0.0\n"
        )
    };
    let rollouts = |kind: &str| {
        format!(
            "[[stage]]\nkind = \"{kind}\"\nprompts = [\"red-team\", \"helpful\"]\nreward_model = [\"harmless\", \"helpful-rm\"]\n\
             batch_size = 2\nepochs = 4\nppo_epochs = 2\nanswers_each = 2\nmax_new_tokens = 5\nkl_target = 0.001\nlearning_rate = 0.01\n"
        )
    };
    let human = "[[stage]]\nkind = \"preferences\"\nname = \"human\"\nfile = \"data/preferences.jsonl\"\n";
    write_stages(
        &place,
        &[
            human.to_owned(),
            reward("harmless") + "stop_early = 9\nlearning_rate = 0.01\n",
            reward("helpful-rm"),
            prompts("red-team", 4),
            prompts("helpful", 4),
            rollouts("ppo") + "lambda = 1.0\nmissing_eos = { subtract = 1.0 }\n",
            rollouts("rloo"),
        ]
        .concat(),
    );
    place.run("run recipe.toml --out one --threads 1", "").ok();
    for stage in ["harmless", "ppo", "rloo"] {
        let state = place.path(&format!("killed/checkpoints/{stage}.state"));
        kill_when(&place, "killed", || state.exists());
    }
    place.run("run recipe.toml --out killed --threads 2", "").ok();
    for stage in ["harmless", "helpful-rm", "ppo", "rloo"] {
        let adapter = |run: &str| {
            std::fs::read(place.path(&format!("{run}/checkpoints/{stage}/adapter_model.safetensors")))
                .unwrap()
        };
        assert!(adapter("one") == adapter("killed"), "{stage}");
    }
    assert_eq!(place.read("one/metrics.jsonl"), place.read("killed/metrics.jsonl"));
    let (one, killed) = (summary(&place, "one"), summary(&place, "killed"));
    for key in ["reward_models", "policies", "warnings", "verdict"] {
        assert_eq!(one[key], killed[key], "{key}");
    }

    // One half of the prompts kept back chose the parameters, the other half is reported.
    let (stopped, whole) = (&one["reward_models"]["harmless"], &one["reward_models"]["helpful-rm"]);
    let metrics = rows(&place.read("one/metrics.jsonl"));
    let measured: Vec<f64> = metrics
        .iter()
        .filter(|row| row["stage"] == "harmless")
        .filter_map(|row| row["eval_loss"].as_f64())
        .collect();
    let lowest = measured.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(stopped["best"]["loss"].as_f64(), Some(lowest), "{measured:?}");
    assert!(stopped["pairs"].as_u64() < whole["pairs"].as_u64() && whole["best"].is_null(), "{one}");
    for part in ["rate", "declines", "helps"] {
        assert!(whole[part]["total"].as_u64() > Some(0) && whole[part]["low"].is_f64(), "{part}: {whole}");
    }
    // Two models' scores were mixed, apart for harmful prompts, and the target was missed on purpose.
    let first = metrics.iter().find(|row| row["stage"] == "rloo").unwrap();
    assert!(
        first["objective/scores_harmful"].is_f64() || first["objective/scores_others"].is_f64(),
        "{first}"
    );
    assert!(one["policies"]["rloo"]["last_score"].is_f64(), "{one}");
    assert!(one["verdict"].to_string().contains("rloo: its proxy reward went from"), "{}", one["verdict"]);
    assert!(one["warnings"].to_string().contains("its target was 0.001"), "{}", one["warnings"]);
}

#[test]
fn a_run_stops_where_it_is_told_and_resumes() {
    let place = Place::with_model();
    write_recipe(&place, "dpo");
    let ran = place.run("run recipe.toml --out run --until sft", "").ok();
    assert!(ran.err.contains("sft: done") && !ran.err.contains("dpo: done"), "{}", ran.err);
    assert!(!place.path("run/summary.json").exists());
    let plan = place.run("run recipe.toml --out run --plan", "").ok().out;
    let line = |name: &str| plan.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("sft ").contains(" done ") && line("sft ").contains("took"), "{plan}");
    assert!(line("dpo ").contains(" new "), "{plan}");
    let ran = place.run("run recipe.toml --out run", "").ok();
    assert!(!ran.err.contains("sft: done") && ran.err.contains("dpo: done"), "{}", ran.err);
}

#[test]
fn what_an_earlier_recipe_made_is_neither_reported_nor_exported() {
    let place = Place::with_model();
    place.write("demos.jsonl", &[json!({"prompt": "Hi", "completion": "the cat the cat"})]);
    let prompt = |id: &str, kind: &str| json!({"id": id, "prompt": format!("Say {id}"), "kind": kind, "category": "x"});
    place.write("asked.jsonl", &[prompt("a", "harmful"), prompt("b", "harmless")]);
    let write = |epochs: usize| {
        write_stages(
            &place,
            &format!(
                "[[stage]]\nkind = \"sft\"\ndata = \"demos.jsonl\"\nepochs = {epochs}\n\
                 [[stage]]\nkind = \"evaluate\"\nprompts = \"asked.jsonl\"\nmax_new_tokens = 2\n"
            ),
        );
    };
    write(1);
    let run = |flags: &str| place.run(&format!("run recipe.toml --out run {flags}"), "").ok();
    let report = || {
        place.run("report --run run", "").ok();
        place.read("run/report.md")
    };
    let export = |out: &str| place.run(&format!("export --run run --out {out}"), "").ok().err;
    let is_whole = |out: &str| {
        assert!(!report().contains("This run is not finished"));
        assert!(export(out).contains("2 evaluations in"));
    };
    run("");
    is_whole("whole");
    let heading = "### evaluate";
    assert!(report().contains(heading), "{}", report());
    // The training is another, or the evaluation itself: what is there of the evaluation is of the old recipe.
    for set in ["--set sft.epochs=3", "--set evaluate.max_new_tokens=1"] {
        run(&format!("{set} --until sft"));
        let text = report();
        assert!(text.contains("1 of 4 stages have not ended (evaluate)"), "{text}");
        assert!(text.contains("changed after they had ended: evaluate."), "{text}");
        assert!(!text.contains(heading), "{text}");
        let told = export("partial");
        assert!(told.contains("note: what the stage evaluate made is not exported"), "{told}");
        assert!(!place.path("partial/evaluations").exists());
        assert!(!place.read("partial/demonstrations.jsonl").is_empty());
    }
    // The recipe that made it finds it again, and has nothing to evaluate anew.
    let ran = run("");
    assert!(!ran.err.contains("evaluate: done"), "{}", ran.err);
    is_whole("again");
    // An adapter that is gone is made again, and is what it was: what was evaluated with it stays.
    std::fs::remove_dir_all(place.path("run/checkpoints/sft")).unwrap();
    run("--until sft");
    is_whole("made-again");
    // A run that is killed before the changed stage ends is no run of the new recipe either.
    write(2000);
    kill_when(&place, "run", || place.path("run/checkpoints/sft.state").exists());
    let text = report();
    assert!(text.contains("2 of 4 stages have not ended (sft, evaluate)"), "{text}");
    // A folder that an earlier version made says nothing of this, and is read as it is.
    write(1);
    run("");
    std::fs::remove_file(place.path("run/inputs.json")).unwrap();
    is_whole("old");
}

#[test]
fn an_export_names_the_version_that_evaluated() {
    let place = Place::with_model();
    place.write("p.jsonl", &[json!({"id": "p", "prompt": "Hi", "kind": "harmless", "category": "talk"})]);
    write_stages(
        &place,
        "[[stage]]\nkind = \"evaluate\"\nmodels = \"base\"\nprompts = \"p.jsonl\"\nmax_new_tokens = 3\n",
    );
    place.run("run recipe.toml --out run", "").ok();
    let mut found = summary(&place, "run");
    found["version"] = "0.0.9".into();
    std::fs::write(place.path("run/summary.json"), found.to_string()).unwrap();
    place.run("export --run run --out exported", "").ok();
    let record: Value =
        serde_json::from_str(&place.read("exported/evaluations/evaluate.base.every-eval-ever.json")).unwrap();
    assert_eq!(record["eval_library"]["version"], "0.0.9", "{record}");
}

#[test]
fn a_stage_may_be_renamed_in_the_same_folder() {
    let place = Place::with_model();
    place.write("prompts.jsonl", &[json!({"id": "a", "prompt": "Hi"})]);
    let stages = |name: &str| {
        let respond = "[[stage]]\nkind = \"respond\"\nsampling = { max_new_tokens = 2 }\n";
        let prompts = format!("[[stage]]\nkind = \"prompts\"\nname = \"{name}\"\nfile = \"prompts.jsonl\"\n");
        format!("{prompts}{respond}prompts = \"{name}\"\n")
    };
    for name in ["one", "two"] {
        write_stages(&place, &stages(name));
        let ran = place.run("run recipe.toml --out run", "").ok();
        assert!(
            ran.err.contains(&format!("{name}: done")) && ran.err.contains("respond: done"),
            "{}",
            ran.err
        );
    }
    place.run("explain respond/a --run run", "").ok();
}

#[test]
fn what_a_stage_made_is_made_again_where_it_is_gone() {
    let place = Place::with_model();
    write_recipe(&place, "dpo");
    place.run("run recipe.toml --out run", "").ok();
    let hash = summary(&place, "run")["weights_sha256"].clone();
    std::fs::remove_dir_all(place.path("run/model")).unwrap();
    std::fs::remove_dir_all(place.path("run/checkpoints/sft")).unwrap();
    let ran = place.run("run recipe.toml --out run", "").ok();
    assert!(ran.err.contains("sft: done") && ran.err.contains("deliver: done"), "{}", ran.err);
    assert!(!ran.err.contains("dpo: done"), "the same adapter came back: {}", ran.err);
    assert_eq!(summary(&place, "run")["weights_sha256"], hash);
    assert!(place.path("run/model/model.safetensors").exists());
}

#[test]
fn prompts_may_move_between_stages_in_the_same_folder() {
    let place = Place::with_model();
    let rows: Vec<Value> =
        (0..6).map(|i| json!({"id": format!("p{i}"), "prompt": format!("Say {i}.")})).collect();
    place.write("prompts.jsonl", &rows);
    let stages = |first: usize| {
        format!(
            "[[stage]]\nkind = \"prompts\"\nname = \"one\"\nfile = \"prompts.jsonl\"\ncount = {first}\n\
             [[stage]]\nkind = \"prompts\"\nname = \"two\"\nfile = \"prompts.jsonl\"\nskip = {first}\n"
        )
    };
    for first in [2, 4, 3] {
        write_stages(&place, &stages(first));
        let ran = place.run("run recipe.toml --out run", "").ok();
        assert!(ran.err.contains(&format!("one: done (prompts {first})")), "{}", ran.err);
        assert!(ran.err.contains(&format!("two: done (prompts {})", 6 - first)), "{}", ran.err);
    }
}

#[test]
fn demonstrations_of_two_files_keep_their_own_items() {
    let place = Place::with_model();
    // Neither file gives ids, so both have line-1.
    for (name, answer) in [("a", "the the"), ("b", "a cat")] {
        place.write(&format!("{name}.jsonl"), &[json!({"prompt": "Hi", "completion": answer})]);
    }
    write_stages(&place, "[[stage]]\nkind = \"sft\"\ndata = [\"a.jsonl\", \"b.jsonl\"]\n");
    place.run("run recipe.toml --out run", "").ok();
    place.run("export --run run --out exported", "").ok();
    let exported = rows(&place.read("exported/demonstrations.jsonl"));
    let texts: Vec<&Value> = exported.iter().map(|row| &row["completion"][0]["content"]).collect();
    assert_eq!(texts, ["the the", "a cat"]);
}

#[test]
fn a_step_that_is_not_finite_is_kept_and_named() {
    let place = Place::with_model();
    place.write("demos.jsonl", &[json!({"id": "d", "prompt": "Hi", "completion": "the the the"})]);
    let words =
        "sft --model model --data demos.jsonl --out run --learning-rate 1e30 --epochs 12 --set max_skipped=1";
    let ran = place.run(words, "");
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("was not applied") && ran.err.contains("skipped/sft-step-"), "{}", ran.err);
    assert!(ran.err.contains("sft/d") && ran.err.contains("hint: lower the learning rate"), "{}", ran.err);
    let kept = std::fs::read_dir(place.path("run/skipped")).unwrap().count();
    assert_eq!(kept, 2, "one that was let pass, and the one too many");
}
