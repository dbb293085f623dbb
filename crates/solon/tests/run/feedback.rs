//! Pairs, labels and reward models: what they are made of, what measures them, and what is not trained on.

use super::*;
use serde_json::json;

/// Stages of [`pairs_that_teach`], after the keys of the recipe.
const PAIRS: &str = "
        constitution = 'constitutions/default.toml'
        batch = 2
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
        imitate_after = 2
        hold = 'held.jsonl'
        batch_size = 4
        [[stage]]
        kind = 'scale'
        from = 'dpo'
        prompts = 'dev.jsonl'
        factors = [0.5, 1, 2]
        max_new_tokens = 12
        ";

/// Writes a recipe of [`PAIRS`] and its files; gives the prompts.
fn write_pairs(place: &Place) -> Vec<Value> {
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
    write_stages(place, PAIRS);
    prompts
}

/// Pairs of which one answer declines: constructed ones, and sampled ones labelled by their prompts' kind; then DPO on both,
/// and its adapter's strength chosen.
#[test]
fn pairs_that_teach() {
    let place = Place::with_model();
    let prompts = write_pairs(&place);
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
    let after = place.run("run recipe.toml --plan --set dpo.imitate=[] --set dpo.imitate_after=2", "");
    after.fails(2, &["stage `dpo`", "`imitate_after` is about the answers of `imitate`"]);
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
}

/// What was chosen by prompts is not measured on them, nor by those that training saw; and what has no adapter is refused.
#[test]
fn what_teaches_or_chooses_does_not_measure() {
    let place = Place::with_model();
    write_pairs(&place);
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
        write_stages(&place, &format!("{PAIRS}\n[[stage]]\n{more}\n"));
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
    let stages = "[[stage]]\nkind = \"labeller\"\nprompts = \"prompts.jsonl\"\npairs = \"contrasts.jsonl\"\nask = \"apart\"\nlearning_rate = 1e-9\n\
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
        let questions: Vec<&str> =
            label["evidence"].as_array().unwrap().iter().map(|e| e["question"].as_str().unwrap()).collect();
        assert_eq!(label["ask"], "apart");
        assert_eq!(questions, ["request-1", "request-2", "request-3", "first", "second"]);
        assert!(label["evidence"][4]["log_probs"][1].is_f64(), "{label}");
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

/// The stages of [`revisions_of_every_round_in_the_papers_form`].
const PAPER: &str = "
        constitution = 'c.toml'
        [[stage]]
        kind = 'sft'
        name = 'teach'
        data = 'demos.jsonl'
        method = 'full'
        epochs = 60
        learning_rate = 3e-3
        [[stage]]
        kind = 'revise'
        form = 'paper'
        critic = 'teach'
        answers = 'answers.jsonl'
        rounds = 2
        critique = 'none'
        revision = { max_new_tokens = 24, temperature = 0 }
        check = false
        [[stage]]
        kind = 'sft'
        data = 'revise'
        revisions = 'every'
        ";

#[test]
fn revisions_of_every_round_in_the_papers_form() {
    let place = Place::with_model();
    let constitution = "name = 't'\nversion = 1\ndescription = 'd'\n\
        [[revision]]\nid = 'kind'\ncritique = 'Is it kind?'\nrevision = 'Be kind.'\n\
        [[few_shot]]\nid = 'shot'\nfor = 'critique'\ntext = \"\\n\\nHuman: a\\n\\nAssistant: b\\n\\nCritiqueRequest: c\\n\\n\
        Critique: d\\n\\nRevisionRequest: e\\n\\nRevision: f\\n\\nHuman:\"\n";
    std::fs::write(place.path("c.toml"), constitution).unwrap();
    // A model that continues everything with these words.
    let said = |prompt: &str| json!({"prompt": prompt, "completion": "Start here. Then go."});
    let later = "Revision: Start here. Then go.\n\nRevisionRequest: Be kind.\n\nRevision:";
    place.write("demos.jsonl", &["Revision:", "\n\nHuman: a\n\nRevision:", later].map(said));
    let answer = |id: &str| json!({"id": id, "prompt": "Hi", "answer": "the the"});
    place.write("answers.jsonl", &["a", "b"].map(answer));
    write_stages(&place, PAPER);
    place.run("run recipe.toml --out run", "").ok();
    let ledger = solon_data::ledger::Ledger::open_read_only(&place.path("run/ledger.sqlite")).unwrap();
    let learnt = ledger.item_ids("sft", solon_data::ledger::ItemKind::Demonstration).unwrap();
    let mut learnt: Vec<String> = learnt.into_iter().collect();
    learnt.sort();
    assert_eq!(learnt, ["sft/a/1", "sft/a/2", "sft/b/1", "sft/b/2"]);
    let told = ledger.stage("revise").unwrap().unwrap().detail;
    assert_eq!((&told["few_shots"], &told["dropped"]), (&json!(1), &json!([])), "{told}");
    let trail = place.run("explain sft/a/2 --run run", "").ok().out;
    assert!(
        trail.contains("revise/a/2") && trail.contains("revise/a/1") && trail.contains("kind"),
        "{trail}"
    );
    // The last one alone.
    place.run("run recipe.toml --out last --set sft.revisions=last", "").ok();
    let ledger = solon_data::ledger::Ledger::open_read_only(&place.path("last/ledger.sqlite")).unwrap();
    assert_eq!(ledger.item_ids("sft", solon_data::ledger::ItemKind::Demonstration).unwrap().len(), 2);
    for (set, said) in
        [("revise.critique=no", "critique is \"no\""), ("sft.data=demos.jsonl", "no `revise` stage")]
    {
        place.run(&format!("run recipe.toml --out other --set {set}"), "").fails(2, &[said]);
    }
}

#[test]
fn nothing_is_trained_against_a_reward_model_that_did_not_pass() {
    let place = Place::with_model();
    place.write("demos.jsonl", &[json!({"prompt": "Hi", "completion": "the the"})]);
    place.write("prompts.jsonl", &[json!({"prompt": "Hi"}), json!({"prompt": "Ho"})]);
    std::fs::write(place.path("none.jsonl"), "").unwrap();
    let sft = "[[stage]]\nkind = \"sft\"\ndata = \"demos.jsonl\"\n";
    let human = "[[stage]]\nkind = \"preferences\"\nname = \"human\"\nfile = \"data/preferences.jsonl\"\n";
    // No two answers of so poor a model differ in whether they decline, so there is nothing to label.
    let label = "[[stage]]\nkind = \"prompts\"\nfile = \"prompts.jsonl\"\n\
        [[stage]]\nkind = \"sample\"\nfrom = \"base\"\nprompts = \"prompts\"\nanswers = 2\ndiffer = \"verdict\"\n\
        sampling = { max_new_tokens = 3, temperature = 1.0 }\n\
        [[stage]]\nkind = \"label\"\nlabeller = \"base\"\npairs = \"sample\"\n";
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
    place.run("reward --model model --data none.jsonl --out rm", "").fails(1, &["none.jsonl has no rows"]);
    let words = "ppo --model model --reward-model run/checkpoints/poor --data prompts.jsonl --max-new-tokens 3 --out ppo";
    let ran = place.run(words, "").ok();
    assert!(ran.err.contains("ppo: done") && !ran.err.contains("not trained"), "{}", ran.err);
}
