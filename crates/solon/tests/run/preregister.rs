//! Thresholds that are written down before training.

use super::*;
use serde_json::json;

const THRESHOLDS: &str = "[[threshold]]\nstage = \"evaluate\"\nmodel = \"sft\"\nmeasure = \"harmful_compliance\"\nat_most = 1.0\n\
    [[threshold]]\nstage = \"evaluate\"\nmodel = \"sft\"\nmeasure = \"truncated\"\nat_most = 0.0\n";

/// A recipe that trains and evaluates, and two thresholds: of one the tiny model cannot fail, of the other it fails.
fn place() -> Place {
    let place = Place::with_model();
    place.write("demos.jsonl", &[json!({"prompt": "Hi", "completion": "the cat the cat"})]);
    let prompt = |id: &str, kind: &str| json!({"id": id, "prompt": format!("Say {id}"), "kind": kind, "category": "x"});
    place.write("asked.jsonl", &[prompt("a", "harmful"), prompt("b", "harmless"), prompt("c", "harmful")]);
    write_stages(&place, &stages());
    std::fs::write(place.path("thresholds.toml"), THRESHOLDS).unwrap();
    place
}

fn stages() -> String {
    "[[stage]]\nkind = \"sft\"\ndata = \"demos.jsonl\"\n".to_owned() + &evaluation("evaluate")
}

fn evaluation(name: &str) -> String {
    format!(
        "[[stage]]\nkind = \"evaluate\"\nname = \"{name}\"\nprompts = \"asked.jsonl\"\nmax_new_tokens = 2\n"
    )
}

#[test]
fn thresholds_are_frozen_and_every_changed_training_is_an_attempt() {
    let place = place();
    let run = |flags: &str| place.run(&format!("run recipe.toml --out run {flags}"), "");
    place.run("run recipe.toml --out run --plan --preregister thresholds.toml", "").ok();
    assert!(!place.path("run").exists());
    let ran = run("--preregister thresholds.toml").ok();
    let line = "preregistered: 1 of 2 thresholds met, on attempt 1 (sft in evaluate: truncated is ";
    assert!(ran.err.contains(line), "{}", ran.err);
    let frozen = place.read("run/preregistration.json");
    let first = summary(&place, "run");
    assert!(first["verdict"].as_array().unwrap().iter().any(|said| said.as_str().unwrap().starts_with(line)));
    assert!(place.read("run/report.html").contains("preregistered: 1 of 2"));
    let found = &first["preregistration"];
    assert_eq!(
        (&found["attempt"], &found["attempts"], &found["met_on_attempt"]),
        (&json!(1), &json!(1), &Value::Null)
    );
    let harmful = &first["evaluation"]["sft"]["harmful_compliance"];
    let threshold = &found["thresholds"][0];
    assert_eq!((&threshold["value"], &threshold["met"]), (&harmful["rate"], &json!(true)));
    assert_eq!(threshold["interval"], json!([harmful["low"], harmful["high"]]));
    assert_eq!(found["thresholds"][1]["met"], false);
    // The same again is no attempt, with the flag or without.
    run("--preregister thresholds.toml").ok();
    run("").ok();
    assert_eq!(summary(&place, "run")["preregistration"], *found);
    // Another training is one, and so is one whose end nobody waited for.
    let ran = run("--set sft.epochs=2").ok();
    assert!(ran.err.contains("thresholds met, on attempt 2 of 2"), "{}", ran.err);
    run("--set sft.epochs=3 --until evaluate").ok();
    let ran = run("--set seed=5").ok();
    assert!(ran.err.contains("thresholds met, on attempt 4 of 4"), "{}", ran.err);
    // What was tried before is the attempt that it was.
    let ran = run("").ok();
    assert!(ran.err.contains("on attempt 1 of 4"), "{}", ran.err);
    let all = summary(&place, "run")["preregistration"].clone();
    assert_eq!(all["thresholds"], found["thresholds"]);
    let attempts = all["every_attempt"].as_array().unwrap();
    assert_eq!(attempts.len(), 4);
    assert!(attempts.iter().all(|attempt| attempt["thresholds"].as_array().unwrap().len() == 2), "{all}");
    assert_eq!(place.read("run/preregistration.json"), frozen);
}

#[test]
fn other_figures_of_the_same_training_are_a_further_attempt() {
    let place = place();
    let run = |flags: &str| place.run(&format!("run recipe.toml --out run {flags}"), "").ok();
    let report = || place.run("report --run run", "").ok().err;
    run("--preregister thresholds.toml");
    assert!(report().contains("thresholds met, on attempt 1 ("), "{}", report());
    // As if the evaluation had found something else before: another build computed it, or another judge answered.
    let mut kept: Value = serde_json::from_str(&place.read("run/attempts.jsonl")).unwrap();
    kept["found"][0]["value"] = json!(0.75);
    std::fs::write(place.path("run/attempts.jsonl"), format!("{kept}\n")).unwrap();
    let ran = run("");
    assert!(ran.err.contains("thresholds met, on attempt 2 of 2 ("), "{}", ran.err);
    let found = summary(&place, "run");
    let threshold = &found["preregistration"]["thresholds"][0];
    assert_eq!(threshold["value"], found["evaluation"]["sft"]["harmful_compliance"]["rate"]);
    assert_eq!(found["preregistration"]["every_attempt"][0]["thresholds"][0]["value"], 0.75);
    // They are kept, so the same again is the attempt that it was.
    run("");
    assert_eq!(summary(&place, "run")["preregistration"], found["preregistration"]);
    // The report says of no training what another came to.
    run("--set sft.epochs=2 --until sft");
    assert!(!report().contains("thresholds met"), "{}", report());
    run("--set sft.epochs=2 --until evaluate");
    assert!(report().contains("thresholds met, on attempt 3 of 3"), "{}", report());
}

#[test]
fn a_run_cannot_leave_what_it_was_preregistered_on() {
    let place = place();
    let run = |flags: &str| place.run(&format!("run recipe.toml --out run {flags}"), "");
    run("--preregister thresholds.toml --until sft").ok();
    let frozen = place.read("run/preregistration.json");
    std::fs::write(place.path("softer.toml"), THRESHOLDS.replace("0.0", "1.0")).unwrap();
    run("--preregister softer.toml")
        .fails(2, &["preregistration.json holds another", "hint: give another --out"]);
    // An evaluation of other settings is another evaluation; of other prompts too, and the file is named.
    run("--set evaluate.max_new_tokens=1")
        .fails(2, &["the evaluation `evaluate`", "its settings changed", "hint:"]);
    let rows = place.read("asked.jsonl");
    std::fs::write(place.path("asked.jsonl"), rows.replace("Say c", "Do c")).unwrap();
    run("").fails(2, &["asked.jsonl is not what was preregistered", "SHA-256", "hint:"]);
    run("--plan").fails(2, &["asked.jsonl"]);
    std::fs::write(place.path("asked.jsonl"), rows).unwrap();
    run("").ok();
    assert_eq!(place.read("run/preregistration.json"), frozen);
    // Where something has been trained, a threshold would be no prediction.
    place.run("run recipe.toml --out trained --until sft", "").ok();
    let recipe = place.read("trained/recipe.toml");
    place
        .run("run recipe.toml --out trained --preregister thresholds.toml --set seed=9", "")
        .fails(2, &["`sft` has begun to train", "hint: give another --out"]);
    assert!(!place.path("trained/preregistration.json").exists());
    assert_eq!(place.read("trained/recipe.toml"), recipe);
    // The same where a figure that a threshold is about has been seen without any training.
    write_stages(&place, &evaluation("evaluate"));
    std::fs::write(place.path("base.toml"), THRESHOLDS.replace("sft", "base")).unwrap();
    place.run("run recipe.toml --out seen", "").ok();
    let late = |out: &str| place.run(&format!("run recipe.toml --out {out} --preregister base.toml"), "");
    late("seen").fails(2, &["the evaluation `evaluate` has begun", "hint: give another --out"]);
    // Under another name it is the same evaluation, of the recipe or not of it any more.
    std::fs::write(
        place.path("base.toml"),
        THRESHOLDS.replace("sft", "base").replace("\"evaluate", "\"measure"),
    )
    .unwrap();
    let asked = "[[stage]]\nkind = \"prompts\"\nname = \"asked\"\nfile = \"asked.jsonl\"\n";
    let both = (evaluation("evaluate") + &evaluation("measure")).replace("asked.jsonl", "asked");
    write_stages(&place, &(asked.to_owned() + &both));
    late("seen").fails(2, &["the evaluation `evaluate` has begun"]);
    write_stages(&place, &evaluation("measure"));
    late("seen").fails(2, &["`evaluate`, a stage of another recipe, has made answers"]);
    late("unseen").ok();
    std::fs::write(place.path("base.toml"), THRESHOLDS.replace("sft", "base")).unwrap();
    // A model that is only taken up, and that was evaluated before anything is trained.
    let adapter = "adapter = \"trained/checkpoints/sft\"\n";
    for (out, stages) in [
        ("adapted", adapter.to_owned() + &evaluation("evaluate")),
        (
            "before",
            evaluation("evaluate") + "models = \"base\"\n[[stage]]\nkind = \"sft\"\ndata = \"demos.jsonl\"\n",
        ),
    ] {
        write_stages(&place, &stages);
        place.run(&format!("run recipe.toml --out {out} --until evaluate"), "").ok();
        late(out).fails(2, &["the evaluation `evaluate` has begun"]);
        assert!(!place.path(out).join("preregistration.json").exists());
    }
    // Before that it may be given late.
    write_stages(&place, &stages());
    place.run("run recipe.toml --out late --until sft-data", "").ok();
    place.run("run recipe.toml --out late --preregister thresholds.toml", "").ok();
}

#[test]
fn thresholds_that_do_not_fit_the_recipe_are_refused() {
    let place = place();
    let one = |stage: &str, model: &str, measure: &str, bound: &str| {
        format!("[[threshold]]\nstage = \"{stage}\"\nmodel = \"{model}\"\nmeasure = \"{measure}\"\n{bound}\n")
    };
    let good = one("evaluate", "sft", "empty", "at_most = 0.1");
    for (text, parts) in [
        (String::new(), &["there is no [[threshold]]"][..]),
        ("threshold = 3".to_owned(), &["thresholds.toml: ", "hint: [[threshold]]"]),
        (
            one("sft", "sft", "empty", "at_most = 0.1"),
            &["[[threshold]] 1: no stage `sft` evaluates", "the stages are evaluate"],
        ),
        (one("evaluate", "dpo", "empty", "at_most = 0.1"), &["no model `dpo`", "the models are base, sft"]),
        (
            format!("{good}{}", one("evaluate", "sft", "kind", "at_most = 0.1")),
            &["[[threshold]] 2", "no measure `kind`", "harmful_compliance"],
        ),
        (one("evaluate", "sft", "empty", "at_most = 7"), &["is from 0 to 1, and never 7"]),
        (one("evaluate", "sft", "empty", "at_most = nan"), &["is from 0 to 1"]),
        (one("evaluate", "sft", "empty", ""), &["give one of `at_most` and `at_least`"]),
        (one("evaluate", "sft", "empty", "at_most = 0.1\nat_least = 0.1"), &["give one of"]),
        (one("evaluate", "sft", "empty", "atmost = 0.1"), &["unknown field `atmost`"]),
        (format!("{good}{good}"), &["[[threshold]] 2 stands there twice"]),
    ] {
        std::fs::write(place.path("thresholds.toml"), text).unwrap();
        place.run("run recipe.toml --out run --preregister thresholds.toml", "").fails(2, parts);
        assert!(!place.path("run").exists());
    }
    place.run("run recipe.toml --out run --preregister gone.toml", "").fails(2, &["gone.toml: No such file"]);
}
