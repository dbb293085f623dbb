//! `solon run` on a tiny model: every shipped recipe to its end, the same bytes whatever the threads and however often it is
//! killed; and plans, which are checked before anything is computed.

mod place;

use place::{Place, rows};
use serde_json::{Value, json};
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
            "evaluate" => drop(stage.insert("limit_each".into(), 2.into())),
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
    assert!(seen, "{stage} never ended");
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
fn nothing_is_trained_against_a_reward_model_that_did_not_pass() {
    let place = Place::with_model();
    place.write("demos.jsonl", &[json!({"prompt": "Hi", "completion": "the the"})]);
    place.write("prompts.jsonl", &[json!({"prompt": "Hi"}), json!({"prompt": "Ho"})]);
    std::fs::write(place.path("none.jsonl"), "").unwrap();
    let sft = "[[stage]]\nkind = \"sft\"\ndata = \"demos.jsonl\"\n";
    let human = "[[stage]]\nkind = \"preferences\"\nname = \"human\"\nfile = \"data/preferences.jsonl\"\n";
    let label = "[[stage]]\nkind = \"label\"\nlabeller = \"base\"\npairs = \"none.jsonl\"\n";
    // A rate so low that the adapter stays to the bit what SFT made it, under a fresh head.
    let reward = |name: &str, pairs: &str| {
        format!(
            "[[stage]]\nkind = \"reward\"\nname = \"{name}\"\nfrom = \"sft\"\npairs = \"{pairs}\"\nlearning_rate = 1e-30\n"
        )
    };
    let after = |kind: &str, reward: &str| {
        format!(
            "[[stage]]\nkind = \"{kind}\"\nfrom = \"sft\"\nreward_model = \"{reward}\"\nprompts = \"prompts\"\n\
             max_new_tokens = 3\n"
        )
    };
    let stages = [
        sft.to_owned(),
        human.to_owned(),
        label.to_owned(),
        reward("poor", "human") + "require_accuracy = 1.0\n",
        reward("empty", "label"),
        "[[stage]]\nkind = \"prompts\"\nfile = \"prompts.jsonl\"\n".to_owned(),
        after("ppo", "poor"),
        after("rloo", "empty"),
    ];
    write_stages(&place, &format!("constitution = \"constitutions/default.toml\"\n{}", stages.concat()));
    let ran = place.run("run recipe.toml --out run", "").ok();
    assert!(ran.err.contains("ppo: not trained, because the reward model poor did not pass"), "{}", ran.err);
    let adapter = |stage: &str| {
        let file = solon_model::weights::AdapterFile::open(&place.path(&format!("run/checkpoints/{stage}")));
        file.unwrap()
    };
    let tensors = |stage: &str| format!("{:?}", adapter(stage).tensors);
    for stage in ["ppo", "rloo", "poor", "empty"] {
        assert!(tensors(stage) == tensors("sft"), "{stage} is not what it started from");
    }
    let heads: Vec<Vec<f32>> =
        ["poor", "empty"].iter().map(|stage| adapter(stage).score.unwrap().data).collect();
    assert!(heads.iter().all(|head| head.iter().any(|x| *x != 0.0)) && heads[0] != heads[1]);
    let summary = summary(&place, "run");
    assert_eq!(summary["reward_models"]["empty"]["gate"]["passed"], false, "{summary}");
    assert!(
        summary["policies"]["ppo"]["skipped"].as_str().unwrap().contains("100 % is required"),
        "{summary}"
    );
    let warnings = summary["warnings"].to_string();
    for part in ["ppo was not trained and is sft unchanged", "rloo was not trained", "none of label was kept"]
    {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }

    // A file without pairs is a mistake, and a reward model from a file has no gate.
    place
        .run("reward --model model --data none.jsonl --out rm", "")
        .fails(1, &["no preferences to learn from"]);
    let words = "ppo --model model --reward-model run/checkpoints/poor --data prompts.jsonl --max-new-tokens 3 --out ppo";
    let ran = place.run(words, "").ok();
    assert!(ran.err.contains("ppo: done") && !ran.err.contains("not trained"), "{}", ran.err);
}

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
    one
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
    let prompts = include_str!("../../../prompts/helpful.jsonl");
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
    assert!(!rows(&place.read("exported/demonstrations.jsonl")).is_empty());
    let words = "dpo --model model --adapter one/checkpoints/sft --data exported/preferences.jsonl --out again --seed 1 --batch 8";
    place.run(words, "").ok();
    let adapter = |path: &str| std::fs::read(place.path(path)).unwrap();
    assert!(
        adapter("again/adapter_model.safetensors")
            == adapter("one/checkpoints/dpo/adapter_model.safetensors"),
        "`solon dpo` and the stage dpo differ"
    );

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
    // A folder holds the run of one recipe.
    place.write("demos.jsonl", &[json!({"prompt": "Hi", "completion": "Hello"})]);
    place.run("sft --model model --data demos.jsonl --out one", "").fails(2, &["one holds a run of `dpo`"]);
}

/// Pairs of which one answer declines: constructed ones, and sampled ones labelled by their prompts' kind; then DPO on both,
/// and its adapter's strength chosen.
#[test]
fn pairs_that_teach() {
    let place = Place::with_model();
    let mut prompts = Vec::new();
    for (place, kind) in ["harmful", "harmless", "sounds-harmful"].iter().cycle().take(12).enumerate() {
        prompts.push(json!({"id": format!("p{place}"), "prompt": format!("Say {place}."), "kind": kind}));
    }
    // A model that declines about as often as it helps.
    let demonstrations: Vec<Value> = prompts
        .iter()
        .flat_map(|row| ["I can't help with that.", "Sure. Start here."].map(|text| (row, text)))
        .map(|(row, text)| json!({"prompt": row["prompt"], "completion": text}))
        .collect();
    place.write("demos.jsonl", &demonstrations);
    place.write("held.jsonl", &[json!({"prompt": "Hello", "completion": "Hello there."})]);
    place.write("prompts.jsonl", &prompts[..9]);
    place.write("dev.jsonl", &prompts[9..]);
    let stages = "
        [[stage]]
        kind = 'sft'
        data = 'demos.jsonl'
        method = 'full'
        epochs = 40
        learning_rate = 3e-3
        [[stage]]
        kind = 'prompts'
        file = ['prompts.jsonl']
        shuffle = true
        [[stage]]
        kind = 'contrast'
        from = 'sft'
        unforced = 'base'
        prompts = 'prompts'
        sampling = { max_new_tokens = 6 }
        end = 'token'
        [[stage]]
        kind = 'sample'
        from = 'sft'
        prompts = 'prompts'
        answers = 4
        differ = 'verdict'
        pairs_each = 2
        sampling = { max_new_tokens = 24 }
        [[stage]]
        kind = 'by-kind'
        pairs = 'sample'
        [[stage]]
        kind = 'label'
        labeller = 'base'
        pairs = 'sample'
        ask = 'apart'
        gate = false
        [[stage]]
        kind = 'dpo'
        from = 'sft'
        pairs = ['contrast', 'by-kind']
        imitate = 'demos.jsonl'
        hold = 'held.jsonl'
        batch_size = 4
        [[stage]]
        kind = 'scale'
        from = 'dpo'
        prompts = 'dev.jsonl'
        factors = [0.5, 1, 2]
        max_new_tokens = 12
        ";
    let head = "constitution = 'constitutions/default.toml'\nbatch = 2\n";
    write_stages(&place, &format!("{head}{stages}"));
    place.run("run recipe.toml --out one --threads 1", "").ok();
    place.run("run recipe.toml --out two --threads 2", "").ok();
    for stage in ["contrast", "by-kind", "dpo"] {
        kill_after(&place, "killed", stage);
    }
    let ledger = |run: &str| {
        solon_data::ledger::Ledger::open_read_only(&place.path(&format!("{run}/ledger.sqlite"))).unwrap()
    };
    let answers = |run: &str| ledger(run).item_ids("scale", solon_data::ledger::ItemKind::Response).unwrap();
    kill_when(&place, "killed", || answers("killed").len() > 1);
    assert!(answers("killed").len() < answers("one").len());
    place.run("run recipe.toml --out killed", "").ok();
    let file =
        |run: &str, name: &str| std::fs::read(place.path(&format!("{run}/checkpoints/{name}"))).unwrap();
    let alpha = |run: &str, name: &str| {
        let config = file(run, &format!("{name}/adapter_config.json"));
        serde_json::from_slice::<Value>(&config).unwrap()["lora_alpha"].as_f64().unwrap()
    };
    let one = summary(&place, "one");
    for run in ["two", "killed"] {
        for stage in ["contrast", "sample", "by-kind", "scale"] {
            let hash = |run: &str| ledger(run).items_hash(stage).unwrap();
            assert_eq!(hash(run), hash("one"), "{run}: {stage}");
        }
        for name in ["dpo/adapter_model.safetensors", "scale/adapter_model.safetensors"] {
            assert!(file(run, name) == file("one", name), "{run}: {name}");
        }
        assert_eq!(alpha(run, "scale"), alpha("one", "scale"), "{run}");
        for key in ["samples", "scales", "verdict"] {
            assert_eq!(summary(&place, run)[key], one[key], "{run}: {key}");
        }
    }

    // Both directions: a harmful prompt's better answer declines, another's helps.
    let right = |id: &str| {
        let pair = ledger("one").find_item(id).unwrap().unwrap();
        // A known pair is a worked example, without a prompt of the run.
        let prompt = pair.prompt_id.as_deref()?;
        let prompt = prompts.iter().find(|row| row["id"] == *prompt).unwrap();
        let harmful = prompt["kind"] == "harmful";
        let declines = ["chosen", "rejected"]
            .map(|side| solon_eval::declines(pair.data["preference"][side].as_str().unwrap()));
        let wanted = [harmful, !harmful];
        (pair.dropped_reason.is_none()).then_some((harmful, declines == wanted, declines[0] != declines[1]))
    };
    let labels = |stage: &str| ledger("one").item_ids(stage, solon_data::ledger::ItemKind::Label).unwrap();
    let mut directions = std::collections::BTreeSet::new();
    for stage in ["contrast", "by-kind"] {
        for id in labels(stage) {
            let Some((harmful, right, _)) = right(&id) else { continue };
            assert!(right, "{id}");
            directions.insert((stage, harmful));
        }
    }
    assert_eq!(directions.len(), 4, "{directions:?}");

    let dpo = ledger("one").stage("dpo").unwrap().unwrap().detail;
    assert_eq!((dpo["imitated"].as_u64(), dpo["held"].as_u64()), (Some(24), Some(1)), "{dpo}");
    let full = place.run("run recipe.toml --plan --set dpo.method=full", "");
    full.fails(2, &["stage `dpo`", "`hold` compares with the model before training"]);

    // A labeller's labels are compared with what the kinds say.
    let agrees = &ledger("one").stage("label").unwrap().unwrap().detail["agrees_with_kinds"];
    let sampled: Vec<_> =
        labels("label").iter().filter_map(|id| right(id)).filter(|(.., differ)| *differ).collect();
    assert!(!sampled.is_empty());
    assert_eq!(agrees["total"], sampled.len());
    assert_eq!(agrees["count"], sampled.iter().filter(|(_, right, _)| *right).count());

    // The scale says which factor scored best, and its adapter differs from DPO's in alpha alone.
    let scale = &one["scales"]["scale"];
    let factor = scale["factor"].as_f64().unwrap();
    let tried = scale["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 3, "{scale}");
    let score = |tried: &Value| tried["score"].as_f64().unwrap();
    let best = tried.iter().map(score).fold(f64::MIN, f64::max);
    assert!(tried.iter().any(|tried| tried["factor"] == factor && score(tried) == best), "{scale}");
    assert_eq!(alpha("one", "scale"), factor * alpha("one", "dpo"));
    let weights = |name: &str| file("one", &format!("{name}/adapter_model.safetensors"));
    assert!(weights("scale") == weights("dpo"));
    assert!(one["verdict"].to_string().contains("scores best on the development prompts"), "{one}");

    // What was chosen by prompts is not measured on them, nor by those that training saw; and what has no adapter is refused.
    for (more, parts) in [
        (
            "kind = 'evaluate'\nprompts = 'scale-prompts'",
            &["`scale` was made from the prompts of `scale-prompts`"][..],
        ),
        (
            "kind = 'scale'\nname = 's'\nfrom = 'dpo'\nprompts = 'prompts'",
            &["`dpo` was made from the prompts"],
        ),
        (
            "kind = 'sft'\nname = 'all'\nmethod = 'full'\ndata = 'demos.jsonl'\n[[stage]]\nkind = 'scale'\nname = 's'\nfrom = 'all'\nprompts = 'scale-prompts'",
            &["stage `s`", "from = \"all\"", "no adapter"],
        ),
        ("kind = 'by-kind'\nname = 'b'\npairs = 'pairs.jsonl'", &["kinds of its prompts are not known"]),
    ] {
        place.write("pairs.jsonl", &[json!({"prompt": "Hi", "chosen": "a", "rejected": "b"})]);
        write_stages(&place, &format!("{head}{stages}\n[[stage]]\n{more}\n"));
        place.run("run recipe.toml --plan", "").fails(2, parts);
    }
    write_stages(&place, "[[stage]]\nkind = 'scale'\nfrom = 'base'\nprompts = 'dev.jsonl'\n");
    place
        .run("run recipe.toml --out none", "")
        .fails(1, &["from = \"base\"", "no adapter to scale", "hint:"]);
    // A prompt that does not say which answer is better is refused before anything is computed.
    place.write("odd.jsonl", &[json!({"id": "o", "prompt": "Hi"})]);
    let contrast = "[[stage]]\nkind = 'contrast'\nprompts = 'odd.jsonl'\nsampling = { max_new_tokens = 4 }\n";
    write_stages(&place, contrast);
    place.run("run recipe.toml --plan", "").fails(1, &["stage `contrast`", "`o` has no kind", "hint:"]);
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
    for name in ["quickstart", "cai-dpo", "cai-ppo", "own-rules", "ci", "rlhf", "dpo", "stack"] {
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

/// A recipe of these stages on the tiny model.
fn write_stages(place: &Place, stages: &str) {
    let model = place.path("model").display().to_string();
    std::fs::write(place.path("recipe.toml"), format!("name = \"t\"\nmodel = {model:?}\n{stages}")).unwrap();
}

#[test]
fn a_wrong_plan_names_stage_key_and_what_would_fit() {
    let place = Place::with_model();
    place.write("demos.jsonl", &[json!({"prompt": "Hi", "completion": "Hello"})]);
    place.write("pairs.jsonl", &[json!({"prompt": "Hi", "chosen": "a", "rejected": "b"})]);
    let sft = "[[stage]]\nkind = \"sft\"\ndata = \"demos.jsonl\"\n";
    let dpo = "[[stage]]\nkind = \"dpo\"\nfrom = \"sft\"\n";
    for (stages, parts) in [
        ("[[stage]]\nkind = \"sftt\"\n".to_owned(), &["no kind `sftt`", "reward"][..]),
        ("[[stage]]\nname = \"x\"\n".to_owned(), &["no `kind`"]),
        (format!("{sft}{sft}"), &["stage `sft`", "an earlier stage has that name"]),
        (format!("{sft}name = \"base\"\n"), &["stage `base`"]),
        (format!("{sft}name = \"lora\"\n"), &["stage `lora`", "--set"]),
        (format!("{sft}name = \"a/b\"\n"), &["stage `a/b`", "letters"]),
        (format!("{sft}{dpo}"), &["stage `dpo` needs `pairs`", "preferences", "hint:"]),
        (
            format!("{sft}{dpo}pairs = \"labels\"\n"),
            &["stage `dpo`", "pairs = \"labels\"", "no earlier stage"],
        ),
        (
            format!("{sft}{dpo}pairs = \"sft\"\n"),
            &["stage `dpo`", "pairs = \"sft\"", "makes a model", "takes preferences"],
        ),
        (format!("{dpo}pairs = \"pairs.jsonl\"\n{sft}"), &["from = \"sft\"", "no earlier stage", "base"]),
        (format!("{sft}beta = 0.1\n"), &["stage `sft`", "`beta`"]),
        (format!("{sft}epochs = 0\n"), &["stage `sft`", "epochs"]),
        (format!("{sft}learning_rate = -1.0\n"), &["stage `sft`", "learning_rate"]),
        ("[[stage]]\nkind = \"critic\"\n".to_owned(), &["stage `critic` needs a constitution", "hint:"]),
        (
            format!("{sft}{dpo}pairs = \"pairs.jsonl\"\nmethod = \"full\"\n"),
            &["stage `dpo`", "method = \"full\"", "`sft` is an adapter"],
        ),
        (
            format!("{sft}{0}{0}name = \"again\"\n", "[[stage]]\nkind = \"deliver\"\namong = \"sft\"\n"),
            &["stage `again`", "`deliver` saves"],
        ),
        (
            format!("{sft}[[stage]]\nkind = \"deliver\"\namong = \"sft\"\nbaseline = \"sft\"\n"),
            &["stage `deliver`", "`evaluation`"],
        ),
    ] {
        write_stages(&place, &stages);
        let ran = place.run("run recipe.toml --plan", "");
        assert_eq!(ran.code, Some(2), "{stages}: {}", ran.err);
        for part in parts {
            assert!(ran.err.contains(part), "{stages}: {:?} lacks {part:?}", ran.err);
        }
    }
    write_stages(&place, &format!("{sft}{dpo}pairs = \"pairs.jsonl\"\n"));
    for set in [
        "dpo.epochs=0",
        "dpo.batch_size=0",
        "dpo.beta=0",
        "dpo.loss=ipoo",
        "sft.learning_rate=nan",
        "precision=f16",
    ] {
        place.run(&format!("run recipe.toml --plan --set {set}"), "").fails(2, &["recipe.toml"]);
    }
    place.run("run recipe.toml --out run --until nowhere", "").fails(2, &["--until nowhere", "sft", "dpo"]);
    assert!(!place.path("run").exists() && !place.path("runs").exists());
}

#[test]
fn a_recipe_of_the_old_form_is_told_what_to_write() {
    let place = Place::with_model();
    std::fs::write(place.path("old.toml"), "name = \"q\"\nmodel = \"model\"\n[sft]\nepochs = 1\n").unwrap();
    place.run("run old.toml", "").fails(2, &["old.toml", "`sft`", "[[stage]]"]);
}

#[test]
fn bad_data_is_refused_before_anything_is_computed() {
    let place = Place::with_model();
    place.write("demos.jsonl", &[json!({"prompt": "Hi", "completion": "Hello"})]);
    place.write("one.jsonl", &[json!({"id": "a", "prompt": "Hi"})]);
    place.write("pairs.jsonl", &[json!({"prompt": "Hi", "chosen": "a"})]);
    let sft = "[[stage]]\nkind = \"sft\"\ndata = \"demos.jsonl\"\n";
    let prompts =
        |name: &str| format!("[[stage]]\nkind = \"prompts\"\nname = \"{name}\"\nfile = \"one.jsonl\"\n");
    for (stages, parts) in [
        (
            format!("{sft}[[stage]]\nkind = \"dpo\"\npairs = \"pairs.jsonl\"\n"),
            &["stage `dpo-pairs`", "pairs.jsonl:1", "rejected"][..],
        ),
        (format!("{}{}", prompts("x"), prompts("y")), &["`a`", "stage `x`", "stage `y`", "hint:"]),
        (
            format!("{sft}[[stage]]\nkind = \"evaluate\"\nprompts = \"one.jsonl\"\n"),
            &["stage `evaluate`", "sounds-harmful"],
        ),
        (format!("{sft}[[stage]]\nkind = \"dpo\"\npairs = \"gone.jsonl\"\n"), &["gone.jsonl"]),
        (format!("{}count = 2\n", prompts("x")), &["one.jsonl has 1 prompts", "2 are to be taken", "hint:"]),
    ] {
        write_stages(&place, &stages);
        place.run("run recipe.toml --out run", "").fails(1, parts);
    }
    write_stages(&place, sft);
    place.run("run recipe.toml --out run --set model=nowhere", "").fails(1, &["nowhere", "hint:"]);
    assert!(!place.path("run").exists());
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
fn what_measures_a_labeller_was_not_learnt() {
    let place = Place::with_model();
    let model = place.path("model").display().to_string();
    let recipe = |take: &str| {
        format!(
            "name = \"t\"\nmodel = {model:?}\nconstitution = \"constitutions/default.toml\"\nworked_examples = 16\n\
             [[stage]]\nkind = \"examples\"\ntake = \"{take}\"\n\
             [[stage]]\nkind = \"sft\"\ndata = \"examples\"\n\
             [[stage]]\nkind = \"label\"\nlabeller = \"sft\"\npairs = \"pairs.jsonl\"\n"
        )
    };
    place.write("pairs.jsonl", &[json!({"prompt": "Hi", "chosen": "a", "rejected": "b"})]);
    for (take, known) in [("training", 4), ("all", 0)] {
        std::fs::write(place.path("recipe.toml"), recipe(take)).unwrap();
        let ran = place.run("run recipe.toml --out run", "").ok();
        assert!(ran.err.contains(&format!("label: done (labels 1, known {known})")), "{take}: {}", ran.err);
    }
}

/// Prompts of every kind, contrasts among them, and pairs to be labelled.
fn write_prompts_and_pairs(place: &Place) {
    let prompt = |i: usize, [kind, category]: [&str; 2]| json!({"id": format!("p{i}"), "prompt": format!("Say {i}."), "kind": kind, "category": category});
    let kinds =
        [["harmful", "hate"], ["harmless", "cooking"], ["unanswerable", "private"], ["harmful", "theft"]];
    let rows: Vec<Value> = (0..20).map(|i| prompt(i, kinds[i % 4])).collect();
    place.write("prompts.jsonl", &rows);
    let contrast = |i: usize| {
        let (no, yes) = ("I can't help with that.", format!("Sure, {i}."));
        json!({"id": format!("c{i}"), "prompt": format!("Say {i}."), "chosen": no, "rejected": yes})
    };
    place.write("contrasts.jsonl", &(0..4).map(contrast).collect::<Vec<_>>());
    let pair = |i: usize| json!({"id": format!("q{i}"), "prompt": format!("Tell {i}."), "chosen": "a cat", "rejected": format!("the {i}")});
    place.write("pairs.jsonl", &(0..5).map(pair).collect::<Vec<_>>());
}

#[test]
fn a_labeller_that_is_asked_apart_and_at_chance_teaches_nothing() {
    let place = Place::with_model();
    write_prompts_and_pairs(&place);
    let model = place.path("model").display().to_string();
    let head = format!(
        "name = \"t\"\nmodel = {model:?}\nconstitution = \"constitutions/default.toml\"\nworked_examples = 24\nbatch = 3\n"
    );
    let stages = "[[stage]]\nkind = \"labeller\"\nprompts = \"prompts.jsonl\"\npairs = \"contrasts.jsonl\"\nask = \"apart\"\n\
                  [[stage]]\nkind = \"label\"\nlabeller = \"labeller\"\npairs = \"pairs.jsonl\"\nprinciples = 3\n\
                  [[stage]]\nkind = \"dpo\"\npairs = \"label\"\n";
    std::fs::write(place.path("recipe.toml"), head + stages).unwrap();
    place.run("run recipe.toml --out one --threads 1", "").ok();
    let ledger = |run: &str| {
        solon_data::ledger::Ledger::open_read_only(&place.path(&format!("{run}/ledger.sqlite"))).unwrap()
    };
    let told = |run: &str, stage: &str| ledger(run).stage(stage).unwrap().unwrap().detail;

    // The prompts of the four contrasts measure the labeller, so they are not among its requests.
    let labeller = told("one", "labeller");
    let requests = &labeller["requests"];
    let [yes, no] = ["yes", "no"].map(|answer| requests[answer].as_u64().unwrap());
    assert!(yes.max(no) * 5 <= 3 * (yes + no) && yes + no > 16, "{labeller}");
    assert_eq!((&requests["held_out"], &requests["unknown"]), (&json!(4), &json!(0)), "{labeller}");
    assert!(labeller["held_out"].as_u64() > Some(4), "{labeller}");
    let trail = place.run("explain labeller/p4/request --run one", "").ok().out;
    assert!(trail.contains("Request: Say 4.") && trail.contains("assistant: Yes"), "{trail}");
    place.run("explain labeller/p0/request --run one", "").fails(1, &["labeller/p0/request"]);

    // Every pair is labelled, with all that was asked, and none is learnt from.
    let label = told("one", "label");
    assert_eq!(label["labels"], 5, "{label}");
    assert!(label["gated"].as_str().unwrap().contains("not better than chance"), "{label}");
    let items = ledger("one").raw_items("label", solon_data::ledger::ItemKind::Label).unwrap();
    let of_pairs: Vec<_> = items.iter().filter(|item| item.data["known"].is_null()).collect();
    assert_eq!(of_pairs.len(), 5);
    for item in of_pairs {
        assert_eq!(item.dropped_reason.as_deref(), Some("the labeller is not better than chance"));
        let label = &item.data["label"];
        assert_eq!((&label["ask"], label["requests"].as_array().unwrap().len()), (&json!("apart"), 3));
        assert!(label["log_probs_first"][1].is_f64() && label["log_probs_second"][0].is_f64(), "{label}");
    }

    // DPO hands on the model it starts from, and the run ends with warnings.
    let dpo = told("one", "dpo");
    assert_eq!((&dpo["steps"], &dpo["pairs"]), (&json!(0), &json!(0)), "{dpo}");
    assert!(dpo["skipped"].as_str().unwrap().contains("not better than chance"), "{dpo}");
    assert!(place.path("one/checkpoints/dpo/adapter_model.safetensors").exists());
    let warnings = summary(&place, "one")["warnings"].to_string();
    for part in ["All labels of the stage label were dropped", "The stage dpo trained nothing"] {
        assert!(warnings.contains(part), "{warnings}");
    }
    let greedy = |adapter: &str| {
        let words = format!(
            "generate --model model {adapter} --temperature 0 --max-new-tokens 8 --prompts prompts.jsonl"
        );
        place.run(&words, "").ok().out
    };
    assert_eq!(greedy("--adapter one/checkpoints/dpo"), greedy(""), "the base model, unchanged");

    // Threads and chunks change nothing.
    place.run("run recipe.toml --out two --threads 2 --set batch=64", "").ok();
    for (stage, key) in [("label", "report"), ("labeller", "requests")] {
        assert_eq!(told("two", stage)[key], told("one", stage)[key], "{stage}");
    }
    // Whoever wants such labels gets them.
    place.run("run recipe.toml --out one --set label.gate=false", "").ok();
    assert!(told("one", "label")["gated"].is_null());
    assert_eq!(told("one", "dpo")["pairs"], 5);
}

#[test]
fn a_pair_that_never_was_is_still_an_error() {
    let place = Place::with_model();
    place.write("pairs.jsonl", &[]);
    place.run("dpo --model model --data pairs.jsonl --out run", "").fails(1, &["no preferences"]);
}

#[test]
fn a_constitution_that_asks_nothing_of_requests_cannot_be_asked_apart() {
    let place = Place::with_model();
    write_prompts_and_pairs(&place);
    let model = place.path("model").display().to_string();
    std::fs::write(
        place.path("own.toml"),
        "name = \"t\"\nversion = 1\ndescription = \"d\"\n[[comparison]]\nid = \"a\"\nquestion = \"Which?\"\n",
    )
    .unwrap();
    let recipe = format!(
        "name = \"t\"\nmodel = {model:?}\nconstitution = \"own.toml\"\n\
         [[stage]]\nkind = \"label\"\nlabeller = \"base\"\nask = \"apart\"\npairs = \"pairs.jsonl\"\n"
    );
    std::fs::write(place.path("recipe.toml"), recipe).unwrap();
    place.run("run recipe.toml --out run", "").fails(1, &["`t` asks nothing about the request", "hint:"]);
}

#[test]
fn answers_are_revised_by_principles_about_their_prompts() {
    let place = Place::with_model();
    let answer = |id: &str, kind: &str, category: &str| json!({"id": id, "prompt": "Hi", "answer": "the the", "kind": kind, "category": category});
    place.write("answers.jsonl", &[answer("a", "harmful", "hate"), answer("b", "odd", "odd")]);
    let model = place.path("model").display().to_string();
    let recipe = format!(
        "name = \"t\"\nmodel = {model:?}\nconstitution = \"constitutions/default.toml\"\n\
         [[stage]]\nkind = \"revise\"\ncritic = \"base\"\nanswers = \"answers.jsonl\"\n\
         critique = {{ max_new_tokens = 4 }}\nrevision = {{ max_new_tokens = 4 }}\n"
    );
    std::fs::write(place.path("recipe.toml"), recipe).unwrap();
    place.run("run recipe.toml --out run", "").ok();
    let trail = |id: &str| place.run(&format!("explain {id} --run run"), "").ok().out;
    let critique = trail("revise/a/1/critique");
    assert!(critique.contains("no-hate") || critique.contains("decline-plainly"), "{critique}");
    assert!(trail("revise/b").contains("no principle applies"), "{}", trail("revise/b"));
}

#[test]
fn a_model_is_not_evaluated_on_what_it_was_made_from() {
    let place = Place::with_model();
    place.write(
        "ev.jsonl",
        &[
            json!({"id": "a", "prompt": "Hi", "kind": "harmless"}),
            json!({"id": "b", "prompt": "Kill", "kind": "harmful"}),
        ],
    );
    let respond = "[[stage]]\nkind = \"prompts\"\nname = \"ev\"\nfile = \"ev.jsonl\"\n\
                   [[stage]]\nkind = \"respond\"\nprompts = \"ev\"\nsampling = { max_new_tokens = 4 }\n\
                   [[stage]]\nkind = \"sft\"\ndata = \"respond\"\n\
                   [[stage]]\nkind = \"evaluate\"\nprompts = \"ev\"\n";
    write_stages(&place, respond);
    place
        .run("run recipe.toml --plan", "")
        .fails(2, &["stage `evaluate`", "`sft` was made from the prompts of `ev`"]);

    // Nor on the same prompts in another file, under other ids.
    let copy = json!({"id": "c", "prompt": "Kill", "kind": "harmful"});
    place.write("copy.jsonl", &[json!({"id": "d", "prompt": "Hello", "kind": "harmless"}), copy]);
    write_stages(
        &place,
        &respond.replace(
            "kind = \"evaluate\"\nprompts = \"ev\"",
            "kind = \"evaluate\"\nprompts = \"copy.jsonl\"",
        ),
    );
    place
        .run("run recipe.toml --plan", "")
        .fails(2, &["stage `evaluate`", "`sft` was made from `ev`, which holds 1 of the prompts"]);
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
