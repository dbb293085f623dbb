//! What is refused before anything is computed.

use super::*;
use serde_json::json;

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

/// Every fourth worked example tests who labels, and three of three right are no better than chance: the interval begins at 44 %.
#[test]
fn a_gate_that_can_only_close_is_refused_before_anything_is_asked() {
    let place = Place::with_model();
    place.write("pairs.jsonl", &[json!({"prompt": "Hi", "chosen": "a", "rejected": "b"})]);
    let label = "constitution = \"constitutions/default.toml\"\n[[stage]]\nkind = \"pairs\"\nfile = \"pairs.jsonl\"\n\
                 [[stage]]\nkind = \"label\"\nlabeller = \"base\"\npairs = \"pairs\"\n";
    write_stages(&place, label);
    let plan = "run recipe.toml --plan --set worked_examples=15";
    place
        .run(plan, "")
        .fails(2, &["stage `label`", "3 pairs would test the labeller", "hint: ", "judge report"]);
    place.run(&format!("{plan} --set label.gate=false"), "").ok();
    place.run("run recipe.toml --plan --set worked_examples=16", "").ok();
    // A run that is only read is not refused, whatever its recipe says.
    place.run("run recipe.toml --out run --set worked_examples=15 --set label.gate=false", "").ok();
    let frozen = place.read("run/recipe.toml");
    assert!(frozen.contains("gate = false"), "{frozen}");
    std::fs::write(place.path("run/recipe.toml"), frozen.replace("gate = false", "gate = true")).unwrap();
    place.run("report --run run", "").ok();
}

#[test]
fn a_pair_that_never_was_is_still_an_error() {
    let place = Place::with_model();
    place.write("pairs.jsonl", &[]);
    place.run("dpo --model model --data pairs.jsonl --out run", "").fails(1, &["pairs.jsonl has no rows"]);
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
