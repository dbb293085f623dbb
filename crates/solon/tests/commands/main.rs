//! The `solon` binary's commands, in a temporary folder, on a tiny model with random weights and a real tokenizer.

mod critique;
mod export_gguf;
#[path = "../place/mod.rs"]
mod place;

use place::{Place, pairs, rows};
use serde_json::{Value, json};
use solon_draws::Draws;
use solon_infer::chat::{AnswerSettings, ChatError, ChatModel, ChatRequest, OpenSettings};
use solon_infer::score::ScoreItem;
use solon_kernels::Precision;
use solon_model::{Training, Weights};
use solon_records::{Context, Message, SamplingSettings};

fn prompts(n: usize) -> Vec<Value> {
    (0..n)
        .map(|i| json!({"prompt": format!("Tell me about the number {i}.{}", " Please!".repeat(i % 5))}))
        .collect()
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_to_do() {
    let place = Place::with_model();
    place.write("rows.jsonl", &[json!({"prompt": "Q", "answer": "A"})]);
    for (words, part) in [
        ("", "Usage"),
        ("frobnicate", "unrecognized"),
        ("generate", "--prompts"),
        ("generate --model model --prompts rows.jsonl --temperature=-1", "temperature"),
        ("generate --model model --prompts rows.jsonl --max-new-tokens 0", "--max-new-tokens"),
        ("generate --model model --prompts rows.jsonl --threads 0", "--threads"),
        ("generate --model model --prompts rows.jsonl --batch 0", "--batch"),
        ("critique --model model --input rows.jsonl --rounds 0", "--rounds"),
        ("sft --model model --data rows.jsonl --out o --learning-rate -0.01", "--learning-rate"),
        ("sft --model model --data rows.jsonl --out o --learning-rate nan", "--learning-rate"),
        ("reward --model model --data rows.jsonl --out o --epochs 0", "--epochs"),
        ("dpo --model model --data rows.jsonl --out o --beta -1", "--beta"),
        ("dpo --model model --data rows.jsonl --out o --memory-gb 0", "--memory-gb"),
        (
            "ppo --model model --data rows.jsonl --out o --reward-model r --kl-coefficient -1",
            "--kl-coefficient",
        ),
        ("bench gemm --repeats 0", "--repeats"),
        ("bench generate --model model --prompt-tokens 0", "--prompt-tokens"),
        ("pull no-such-model", "hint: `solon pull` without a name"),
    ] {
        place.run(words, "").fails(2, &[part]);
    }
}

#[test]
fn a_missing_file_is_named() {
    let place = Place::with_model();
    for words in [
        "generate --model model --prompts gone.jsonl",
        "score --model model --input gone.jsonl",
        "critique --model model --input gone.jsonl",
        "label --model model --input gone.jsonl --out labelled.jsonl",
        "label --human --input gone.jsonl --out labelled.jsonl",
        "sft --model model --data gone.jsonl --out sft",
    ] {
        place.run(words, "").fails(1, &["gone.jsonl"]);
    }
    place.write("rows.jsonl", &prompts(1));
    place.run("generate --model gone --prompts rows.jsonl", "").fails(1, &["no model at gone", "hint: "]);
    place.run("generate --model model --adapter gone --prompts rows.jsonl", "").fails(1, &["gone"]);
    place.run("explain x --run gone", "").fails(1, &["there is no folder gone", "hint: "]);
    place.run("export --run model --out exported", "").fails(1, &["no ledger.sqlite", "hint: "]);
}

#[test]
fn a_bad_row_is_named_by_file_line_and_field() {
    let place = Place::with_model();
    place.write("rows.jsonl", &[json!({"prompt": "Q", "answer": "A"}), json!({"prompt": "Q"})]);
    place.run("critique --model model --input rows.jsonl", "").fails(1, &["rows.jsonl:2", "answer"]);
}

#[test]
fn a_broken_gguf_is_refused_wherever_it_breaks_off() {
    let place = Place::new();
    place.write("rows.jsonl", &prompts(1));
    // Magic, version 3, one tensor, one key: then a key's name of 2^40 bytes.
    let mut whole = b"GGUF".to_vec();
    whole.extend(3_u32.to_le_bytes());
    whole.extend([1_u64, 1, 1 << 40].iter().flat_map(|n| n.to_le_bytes()));
    whole.extend(b"general.architecture");
    for length in [0, 3, 4, 7, 8, 15, 20, 24, 31, whole.len()] {
        std::fs::write(place.path("broken.gguf"), &whole[..length]).unwrap();
        place.run("generate --model broken.gguf --prompts rows.jsonl", "").fails(1, &["broken.gguf"]);
    }
}

#[test]
fn the_catalogue_and_completions_are_printed() {
    let place = Place::new();
    assert!(place.run("pull", "").ok().out.contains("smollm2-135m-instruct"));
    assert!(place.run("completions bash", "").ok().out.contains("_solon()"));
}

#[test]
fn threads_and_batches_do_not_change_a_byte() {
    let place = Place::with_model();
    place.write("prompts.jsonl", &prompts(9));
    let run = |flags: &str| {
        let words = format!("generate --model model --prompts prompts.jsonl --max-new-tokens 12 {flags}");
        place.run(&words, "").ok().out
    };
    let one = run("--threads 1 --batch 1");
    assert_eq!(one.lines().count(), 9);
    assert!(one != run("--seed 1"), "the answers are sampled, so a seed must change them");
    for flags in ["--threads 2 --batch 1", "--threads 1 --batch 8", "--threads 2 --batch 3"] {
        assert!(one == run(flags), "{flags} changed the output");
    }
}

#[test]
fn a_completion_is_scored_as_it_was_generated() {
    let place = Place::with_model();
    let prompts = prompts(120);
    place.write("prompts.jsonl", &prompts);
    let words =
        "generate --model model --precision f32 --prompts prompts.jsonl --max-new-tokens 2 --temperature 1";
    let generated = place.run(words, "").ok().rows();
    let input: Vec<Value> = prompts
        .iter()
        .zip(&generated)
        .map(|(prompt, row)| json!({"prompt": prompt["prompt"], "completion": row["completion"]}))
        .collect();
    place.write("rows.jsonl", &input);
    let scored = place.run("score --model model --precision f32 --input rows.jsonl", "").ok().rows();
    let mut compared = 0;
    for (generated, scored) in generated.iter().zip(&scored) {
        let list = |row: &Value, key: &str| row[key].as_array().unwrap().clone();
        let (ids, logprobs) = (list(generated, "token_ids"), list(generated, "logprobs"));
        // Random tokens seldom are what their text is tokenised to.
        if list(scored, "completion_token_ids").starts_with(&ids) {
            compared += 1;
            for (a, b) in logprobs.iter().zip(list(scored, "logprobs")) {
                assert_eq!(*a, b, "{a} generated, {b} scored");
            }
        }
    }
    assert!(compared >= 10, "only {compared} completions went through text unchanged");
}

#[test]
fn an_answer_goes_on_from_the_words_it_is_made_to_begin_with() {
    let place = Place::with_model();
    let settings = OpenSettings { precision: Precision::F32, training: Training::None(Weights::Full) };
    let model = ChatModel::open(&place.path("model"), None, settings).unwrap();
    let messages = vec![Message::user("Hi")];
    let answer = |prefill: &str| {
        let draws = Draws::new(0, "test");
        let request =
            ChatRequest { id: "a".into(), context: messages.clone().into(), prefill: prefill.into(), draws };
        let settings = AnswerSettings { sampling: SamplingSettings::greedy(6), slots: 1 };
        model.answer(&mut model.engine(None), &[request], &settings, &mut |_| {}).unwrap().remove(0)
    };
    let (free, begun) = (answer(""), answer("I can't"));
    assert_ne!(free.completion.token_ids, begun.completion.token_ids);
    assert!(begun.text.starts_with("I can't"), "{}", begun.text);
    // Scored as the rest of an answer that begins so, its tokens have the log-probs they were sampled with.
    let begin = model.text.continuation_ids("I can't").unwrap();
    let completion = [&begin[..], &begun.completion.token_ids].concat();
    let prompt = model.text.prompt_ids(&messages).unwrap();
    let item = ScoreItem { prompt, completions: vec![completion] };
    let scores = model.engine(None).score(&[item], 1.0, &mut |_| {});
    assert_eq!(scores[0][0][begin.len()..], begun.completion.logprobs);
}

#[test]
fn white_space_that_a_template_leaves_to_the_model_is_not_put_into_its_mouth() {
    let place = Place::with_model();
    let settings = OpenSettings { precision: Precision::F32, training: Training::None(Weights::Full) };
    let mut model = ChatModel::open(&place.path("model"), None, settings).unwrap();
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}\
                    {% if add_generation_prompt %}assistant:{% endif %}";
    model.text = model.text.with_template(template).unwrap();
    let messages = vec![Message::user("Hi")];
    let draws = Draws::new(0, "test");
    let request =
        ChatRequest { id: "a".into(), context: messages.clone().into(), prefill: String::new(), draws };
    let settings = AnswerSettings { sampling: SamplingSettings::greedy(6), slots: 1 };
    let answer = model.answer(&mut model.engine(None), &[request], &settings, &mut |_| {}).unwrap().remove(0);
    let prompt = model.text.prompt_ids(&messages).unwrap();
    let item = ScoreItem { prompt, completions: vec![answer.completion.token_ids] };
    let scores = model.engine(None).score(&[item], 1.0, &mut |_| {});
    assert_eq!(scores[0][0], answer.completion.logprobs);
}

/// A text is continued as it stands, from its own tokens and not from those of a conversation, up to a stop string.
#[test]
fn a_text_is_continued_without_the_chat_template() {
    let place = Place::with_model();
    let settings = OpenSettings { precision: Precision::F32, training: Training::None(Weights::Full) };
    let model = ChatModel::open(&place.path("model"), None, settings).unwrap();
    let text = "\n\nHuman: Hi\n\nAssistant:";
    let answer = |context: Context, stop: &[&str]| {
        let draws = Draws::new(0, "test");
        let request = ChatRequest { id: "a".into(), context, prefill: String::new(), draws };
        let stop = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let sampling = SamplingSettings { stop, ..SamplingSettings::of_length(8) };
        let settings = AnswerSettings { sampling, slots: 1 };
        model.answer(&mut model.engine(None), &[request], &settings, &mut |_| {}).unwrap().remove(0)
    };
    let whole = answer(Context::Text(text.into()), &[]);
    let prompt = model.text.encode(text).unwrap();
    let item = ScoreItem { prompt, completions: vec![whole.completion.token_ids.clone()] };
    let scores = model.engine(None).score(&[item], 1.0, &mut |_| {});
    assert_eq!(scores[0][0], whole.completion.logprobs);
    let chat = answer(vec![Message::user(text)].into(), &[]);
    assert_ne!(chat.completion.logprobs, whole.completion.logprobs);
    let at = whole.text.char_indices().nth(2).unwrap().0;
    let stopped = answer(Context::Text(text.into()), &[&whole.text[at..]]);
    assert_eq!((stopped.text.as_str(), stopped.truncated()), (&whole.text[..at], false));
    let long = Context::Text("word ".repeat(5000));
    assert!(matches!(model.context_ids("long", &long, 1), Err(ChatError::TooLong { .. })));
}

#[test]
fn a_conversation_goes_on_until_it_is_too_long() {
    let place = Place::with_model();
    let words = "chat --model model --max-new-tokens 4 --temperature 0";
    let once = place.run(words, "Hello\n").ok().out;
    assert!(!once.trim().is_empty());
    let typed = "\n/nonsense\nHello\n/reset\nHello\n/quit\nHello\n";
    let twice = place.run(words, typed).ok();
    assert_eq!(
        twice.out,
        once.repeat(2),
        "after /reset the model has forgotten, after /quit it is not asked"
    );
    assert!(twice.err.contains("unknown command /nonsense"), "{}", twice.err);
    assert_ne!(place.run(words, "Hello\nHello\n").ok().out, once.repeat(2));
    assert_ne!(place.run(words, "/system Shout.\nHello\n").ok().out, once);
    place.run("chat --model model --max-new-tokens 4095", "Hello\n").fails(1, &["4096", "hint: ", "/reset"]);
}

#[test]
fn a_trained_adapter_is_loaded_and_changes_the_answer() {
    let place = Place::with_model();
    let demonstrations: Vec<Value> = (0..4)
        .map(|i| json!({"messages": [{"role": "user", "content": format!("Say {i}.")}, {"role": "assistant", "content": "the the the"}]}))
        .collect();
    place.write("demos.jsonl", &demonstrations);
    let words =
        "sft --model model --data demos.jsonl --out sft --rank 4 --batch 2 --epochs 4 --learning-rate 0.01";
    place.run(words, "").ok();
    place.write("prompts.jsonl", &prompts(2));
    let generate = |flags: &str| {
        let words = format!(
            "generate --model model --prompts prompts.jsonl --max-new-tokens 6 --temperature 0 {flags}"
        );
        place.run(&words, "").ok().out
    };
    assert_ne!(generate("--adapter sft"), generate(""));
    let again = place.run(words, "").ok();
    assert!(again.err.contains("already done"), "{}", again.err);
    let explained = place.run("explain sft/line-1 --run sft", "").ok().out;
    assert!(explained.contains("demonstration sft/line-1"), "{explained}");
}

#[test]
fn out_holds_what_was_asked_for_last() {
    let place = Place::with_model();
    place.write("demos.jsonl", &[json!({"prompt": "Hi", "completion": "the the"})]);
    let sft = "sft --model model --data demos.jsonl --out sft";
    let holds = |adapter: bool| {
        assert_eq!(place.path("sft/adapter_config.json").exists(), adapter);
        for file in ["config.json", "model.safetensors"] {
            assert_eq!(place.path(&format!("sft/{file}")).exists(), !adapter, "{file}");
        }
    };
    place.run(sft, "").ok();
    holds(true);
    // Nothing is trained again, and the other form takes the place of the first.
    let merged = place.run(&format!("{sft} --merge"), "").ok();
    assert!(!merged.err.contains("sft: done") && merged.err.contains("saved sft"), "{}", merged.err);
    holds(false);
    place.run(sft, "").ok();
    holds(true);
    // A kill before the last file leaves no mark: the same command publishes again.
    std::fs::remove_file(place.path("sft/published")).unwrap();
    std::fs::write(place.path("sft/adapter_model.safetensors"), "torn").unwrap();
    place.run(sft, "").ok();
    let adapter = |path: &str| std::fs::read(place.path(path)).unwrap();
    assert!(
        adapter("sft/adapter_model.safetensors") == adapter("sft/checkpoints/sft/adapter_model.safetensors")
    );
    assert!(place.run(sft, "").ok().err.contains("already done"));
}

#[test]
fn a_reward_model_goes_on_with_its_own_head() {
    let place = Place::with_model();
    place.write("pairs.jsonl", &pairs(4));
    let reward = "reward --data pairs.jsonl --epochs 2 --learning-rate 0.01";
    let loss = |out: &str, words: &str| -> f64 {
        place.run(&format!("{words} --out {out}"), "").ok();
        rows(&place.read(&format!("{out}/metrics.jsonl")))[0]["loss"].as_f64().unwrap()
    };
    let first = loss("rm", &format!("{reward} --model model"));
    // Trained on, it starts better than a fresh head does.
    assert!(loss("rm2", &format!("{reward} --model model --adapter rm")) < first);
    let first = loss("full", &format!("{reward} --model model --method full"));
    assert!(loss("full2", &format!("{reward} --model full --method full")) < first);
}

#[test]
fn every_weight_is_trained_where_asked() {
    let place = Place::with_model();
    let answer = |text: &str| json!({"messages": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": text}]});
    place.write("demos.jsonl", &[answer("the the the"), answer("the the")]);
    let pair = |i: usize| json!({"prompt": format!("Say {i}."), "chosen": "the", "rejected": "a cat"});
    place.write("pairs.jsonl", &[pair(1), pair(2)]);
    place.write("prompts.jsonl", &prompts(2));
    let generate = |model: &str| {
        let words =
            format!("generate --model {model} --prompts prompts.jsonl --max-new-tokens 6 --temperature 0");
        place.run(&words, "").ok().out
    };
    for (command, data) in [("sft", "demos"), ("dpo", "pairs")] {
        let words = format!(
            "{command} --model model --data {data}.jsonl --out {command} --method full --epochs 6 --learning-rate 0.01"
        );
        place.run(&words, "").ok();
        assert_ne!(generate(command), generate("model"), "{command}");
    }
    place.run("reward --model model --data pairs.jsonl --out reward --method full", "").ok();
    assert!(place.path("reward/model.safetensors").exists());
}

#[test]
fn a_conversation_longer_than_the_context_is_named() {
    let place = Place::with_model();
    let words = vec!["the"; 5000].join(" ");
    let row = json!({"id": "long", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": words}]});
    place.write("demos.jsonl", &[row]);
    place.run("sft --model model --data demos.jsonl --out sft", "").fails(1, &["long", "context", "hint:"]);
}

#[test]
fn a_run_is_explained_and_exported() {
    let place = Place::with_model();
    let answer = |id: &str| json!({"id": id, "prompt": format!("ask {id}"), "completion": "the the"});
    place.write("demos.jsonl", &[answer("one"), answer("two")]);
    place.run("sft --model model --data demos.jsonl --out sft", "").ok();
    let text = place.run("explain sft-data/one --run sft", "").ok().out;
    assert!(text.contains("used in") && text.contains("sft/one"), "{text}");
    let value: Value =
        serde_json::from_str(&place.run("explain sft/one --run sft --json", "").ok().out).unwrap();
    assert_eq!(value["ancestors"][0]["id"], "sft-data/one");
    place.run("explain sft/on --run sft", "").fails(1, &["did you mean", "sft/one"]);
    let ran = place.run("export --run sft --out exported", "").ok();
    assert!(ran.err.contains("2 demonstrations in") && ran.err.contains("0 preference pairs"), "{}", ran.err);
    let ids: Vec<Value> =
        rows(&place.read("exported/demonstrations.jsonl")).iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["sft/one", "sft/two"]);

    // A labelled pair is exported with the likelier answer as `chosen`.
    place.write("pairs.jsonl", &pairs(3));
    place.run("label --model model --input pairs.jsonl --out labelled.jsonl", "").ok();
    place.run("export --run labelled.jsonl.run --out exported", "").ok();
    let (labelled, exported) =
        (rows(&place.read("labelled.jsonl")), rows(&place.read("exported/preferences.jsonl")));
    assert_eq!((labelled.len(), exported.len()), (3, 3));
    for (labelled, exported) in labelled.iter().zip(&exported) {
        assert_eq!(exported["id"], format!("label/{}", labelled["id"].as_str().unwrap()));
        assert!(exported["probability"].as_f64() >= Some(0.5));
        for key in ["prompt", "chosen", "rejected", "probability", "source"] {
            assert_eq!(labelled[key], exported[key], "{key}");
        }
    }
}

#[test]
fn an_unoriented_preference_is_turned_round_before_it_is_learnt() {
    let place = Place::with_model();
    let row = |chosen: &str, rejected: &str, probability: f64| json!({"id": "p", "prompt": "Say.", "chosen": chosen, "rejected": rejected, "probability": probability});
    // The same preference, written both ways.
    place.write("one.jsonl", &[row("the the the", "a cat", 0.9)]);
    place.write("other.jsonl", &[row("a cat", "the the the", 1.0 - 0.9)]);
    for (command, metrics) in
        [("reward", ["accuracy", "margin"]), ("dpo", ["rewards/accuracies", "rewards/margins"])]
    {
        let metrics_of = |data: &str| -> Vec<Value> {
            let out = format!("{command}-{data}");
            let words = format!(
                "{command} --model model --data {data}.jsonl --out {out} --epochs 3 --learning-rate 0.01"
            );
            place.run(&words, "").ok();
            rows(&place.read(&format!("{out}/metrics.jsonl")))
        };
        let (one, other) = (metrics_of("one"), metrics_of("other"));
        assert_eq!(one.len(), 3);
        for (a, b) in one.iter().zip(&other) {
            for metric in metrics {
                assert!(a[metric].is_f64(), "{command}: {a}");
                assert_eq!(a[metric], b[metric], "{command}: {metric}");
            }
        }
        // It learns the likelier answer, so the last margin is above 0 and the accuracy is 1.
        let last = &one[2];
        assert!(last[metrics[0]] == 1.0 && last[metrics[1]].as_f64() > Some(0.0), "{command}: {last}");
    }
}

#[test]
fn a_margin_reaches_the_loss_and_a_weight_reaches_the_mask() {
    let place = Place::with_model();
    let first_step = |command: &str, data: &str| -> Value {
        let out = format!("{command}-{data}");
        place.run(&format!("{command} --model model --data {data}.jsonl --out {out}"), "").ok();
        rows(&place.read(&format!("{out}/metrics.jsonl"))).remove(0)
    };
    place.write("plain.jsonl", &[json!({"prompt": "q", "chosen": "a", "rejected": "b"})]);
    place.write("graded.jsonl", &[json!({"prompt": "q", "chosen": "a", "rejected": "b", "margin": 20})]);
    let loss = |data: &str| first_step("reward", data)["loss"].as_f64().unwrap();
    assert!(loss("graded") > loss("plain") + 10.0);

    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let mut unlearnt = turn("assistant", "a");
    unlearnt["weight"] = json!(0);
    let messages = [turn("user", "q"), unlearnt, turn("user", "r"), turn("assistant", "b")];
    let context = [turn("user", "q"), turn("assistant", "a"), turn("user", "r")];
    place.write("weighed.jsonl", &[json!({"messages": messages})]);
    place.write("split.jsonl", &[json!({"prompt": context, "completion": "b"})]);
    assert_eq!(first_step("sft", "weighed")["loss"], first_step("sft", "split")["loss"]);
}

#[test]
fn every_setting_of_a_stage_is_reached() {
    let place = Place::with_model();
    place.write("pairs.jsonl", &pairs(4));
    place.write("prompts.jsonl", &prompts(2));
    let dpo = "dpo --model model --data pairs.jsonl --out";
    for (n, set) in [
        "loss=ipo",
        "loss=hinge",
        "loss=robust label_smoothing=0.1",
        "label_smoothing=0.1",
        "schedule=linear",
        "optimizer.beta2=0.95",
        "optimizer.weight_decay=0.1",
    ]
    .iter()
    .enumerate()
    {
        let set: Vec<String> = set.split(' ').map(|set| format!("--set {set}")).collect();
        place.run(&format!("{dpo} dpo-{n} {}", set.join(" ")), "").ok();
    }
    for bad in
        ["loss=ipoo", "label_smoothing=0.7", "schedule=linnear", "optimizer.beta3=1", "beta=-1", "epochs=0"]
    {
        place.run(&format!("{dpo} bad --set {bad}"), "").fails(2, &["stage `dpo`"]);
    }
    place.run("reward --model model --data pairs.jsonl --out reward --set centering=0.01", "").ok();
    let ppo = "ppo --model model --reward-model reward --data prompts.jsonl --max-new-tokens 4 --out";
    let settings = "preset=openrlhf kl_estimator=k3 kl_target=6.0 missing_eos={subtract=1.0} dual_clip=3.0 whiten_rewards=trl minibatches=2 ppo_epochs=2 score_clip=[-1.0,1.0] lambda=0.9 answers_each=2";
    let set: Vec<String> = settings.split(' ').map(|set| format!("--set {set}")).collect();
    place.run(&format!("{ppo} ppo {}", set.join(" ")), "").ok();
    for bad in ["kl_estimator=k4", "preset=trll", "gamma=2", "temperature=0", "minibatches=0", "kl_horizon=5"]
    {
        place.run(&format!("{ppo} bad --set {bad}"), "").fails(2, &["stage `ppo`"]);
    }
}

/// As `solon … | head` does.
#[test]
fn a_reader_that_stops_ends_the_program_quietly() {
    let place = Place::with_model();
    place.write("p.jsonl", &prompts(3));
    for words in
        ["constitution show", "completions bash", "doctor", "generate --model model --prompts p.jsonl"]
    {
        let mut child = place.start(&words.split_whitespace().collect::<Vec<_>>());
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!([Some(0), Some(141)].contains(&output.status.code()), "{words}: {err}");
        assert!(!err.contains("panicked") && !err.contains("error"), "{words}: {err}");
    }
}
