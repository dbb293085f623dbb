//! What is written of an evaluation, and what two of them come to beside each other.

use super::*;

#[test]
fn results_are_written_as_other_programs_read_them() {
    let place = place();
    let words = "eval mmlu --model model --data mmlu --subjects anatomy,virology --no-chat-template --json --run kept";
    let flags = "--samples samples.jsonl --inspect-log log.json --every-eval-ever record.json";
    let figures: Value = serde_json::from_str(&place.run(&format!("{words} {flags}"), "").ok().out).unwrap();
    let log: Value = serde_json::from_str(&place.read("log.json")).unwrap();
    let record: Value = serde_json::from_str(&place.read("record.json")).unwrap();
    let samples = rows(&place.read("samples.jsonl"));
    assert_eq!((&log["eval"]["task"], &log["eval"]["model"]), (&json!("mmlu"), &json!("model")));
    assert_eq!(log["eval"]["task_args"]["template"], false);
    let logged = log["samples"].as_array().unwrap();
    assert_eq!(logged.len(), samples.len());
    for (logged, row) in logged.iter().zip(&samples) {
        assert_eq!((&logged["id"], &logged["metadata"]["log_probs"]), (&row["id"], &row["loglikelihoods"]));
        assert_eq!(logged["metadata"]["choice"], row["choice"]);
        assert_eq!(logged["scores"]["accuracy"]["value"], row["outcomes"]["accuracy"]);
    }
    let accuracy = &log["results"]["scores"][0];
    assert_eq!(
        (&accuracy["name"], &accuracy["metrics"]["mean"]["value"]),
        (&json!("accuracy"), &figures["accuracy"])
    );
    assert_eq!(record["evaluation_results"][0]["score_details"]["score"], figures["accuracy"]);
    // The humanities have no question here, and so no figure.
    let results = record["evaluation_results"].as_array().unwrap();
    assert!(
        results.iter().all(|result| result["metric_config"]["metric_id"] != "solon.mmlu.accuracy_humanities")
    );
    // The times are those of the ledger: the same run gives the same bytes, whatever the number of threads.
    let before = (place.read("log.json"), place.read("record.json"));
    place.run(&format!("{words} {flags} --threads 1"), "").ok();
    assert_eq!((place.read("log.json"), place.read("record.json")), before);
    // A written answer, cut off.
    let words =
        "eval xstest --model model --data xstest_prompts.csv --max-new-tokens 4 --inspect-log written.json";
    place.run(words, "").ok();
    let log: Value = serde_json::from_str(&place.read("written.json")).unwrap();
    let sample = &log["samples"][0];
    assert_eq!((&sample["input"][0]["content"], &sample["target"]), (&json!("Kill a process?"), &json!([])));
    assert_eq!(log["eval"]["model_generate_config"]["max_tokens"], 4);
    assert!(
        sample["messages"][1]["content"] == sample["output"]["completion"] && sample.get("choices").is_none()
    );
    let words = "eval hhh --model model --data hhh.jsonl";
    place.run(&format!("{words} --inspect-log log.txt"), "").fails(2, &["--inspect-log", ".json"]);
    place
        .run(&format!("{words} --inspect-log gone/log.json"), "")
        .fails(2, &["--inspect-log", "there is no folder gone; make it first"]);
}

#[test]
fn two_files_of_results_are_compared_item_by_item() {
    let place = place();
    let words = "eval mmlu --model model --data mmlu --subjects anatomy,virology --no-chat-template";
    place.run(&format!("{words} --shots 0 --samples a.jsonl"), "").ok();
    place.run(&format!("{words} --shots 2 --samples b.jsonl"), "").ok();
    let compare = |words: &str| place.run(&format!("eval compare {words}"), "");
    let same: Value = serde_json::from_str(&compare("a.jsonl a.jsonl --json").ok().out).unwrap();
    assert_eq!((&same["both"], &same["choices"]["rate"]), (&json!(10), &json!(1.0)));
    assert_eq!((&same["log_probs"]["largest"], &same["differing"]), (&json!(0.0), &json!(0)));
    // As lm-evaluation-harness would have logged the same model: the same numbers as text, and what is right beside.
    let ours = rows(&place.read("a.jsonl"));
    let theirs = |row: &Value| {
        let (subject, doc) = row["id"].as_str().unwrap().split_once('/').unwrap();
        let log_probs = row["loglikelihoods"].as_array().unwrap();
        let responses: Vec<Value> = log_probs.iter().map(|x| json!([x.to_string(), "False"])).collect();
        let right = row["right"][0].as_u64().unwrap();
        let accuracy = if row["choice"] == json!(right) { 1.0 } else { 0.0 };
        let doc: u64 = doc.parse().unwrap();
        (
            subject == "anatomy",
            json!({"doc_id": doc, "doc": {"subject": subject}, "target": right.to_string(), "filtered_resps": responses,
                "filter": "none", "metrics": ["acc"], "acc": accuracy}),
        )
    };
    let (anatomy, virology): (Vec<_>, Vec<_>) = ours.iter().map(theirs).partition(|(anatomy, _)| *anatomy);
    std::fs::create_dir_all(place.path("logged/model")).unwrap();
    for (name, rows) in [("anatomy", anatomy), ("virology", virology)] {
        let rows: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
        place.write(&format!("logged/model/samples_mmlu_{name}_2026-11-28T21-00-58.4.jsonl"), &rows);
    }
    let found: Value = serde_json::from_str(&compare("a.jsonl logged --json").ok().out).unwrap();
    assert_eq!((&found["both"], &found["differing"]), (&json!(10), &json!(0)));
    assert_eq!(
        (&found["log_probs"]["largest"], &found["second"]["form"]),
        (&json!(0.0), &json!("lm-evaluation-harness"))
    );
    assert_eq!(found["figures"][0]["name"], "accuracy");
    // The older form of a row does not say what is right; the harness does.
    let old: Vec<Value> = ours
        .iter()
        .map(|row| json!({"id": row["id"], "choice": row["choice"], "loglikelihoods": row["loglikelihoods"]}))
        .collect();
    place.write("old.jsonl", &old);
    let with_old: Value = serde_json::from_str(&compare("old.jsonl logged --json").ok().out).unwrap();
    assert_eq!(with_old["figures"], found["figures"]);
    let shown = compare("a.jsonl b.jsonl --show 2").ok().out;
    for part in [
        "10 items in both, 0 only in A, 0 only in B",
        "same choice",
        "log-probs apart",
        "\naccuracy ",
        "p = ",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(compare("old.jsonl old.jsonl").ok().out.contains("neither says which option is right"));
    // What a file holds cannot control the terminal.
    let hostile = |answer: &str| json!({"id": "\u{1b}[2Jx", "answer": answer, "outcomes": {"\u{1b}[31mgrade": answer.len()}});
    place.write("hostile-a.jsonl", &[hostile("\u{1b}]0;a")]);
    place.write("hostile-b.jsonl", &[hostile("b")]);
    let shown = compare("hostile-a.jsonl hostile-b.jsonl").ok().out;
    assert!(shown.contains("grade") && !shown.contains('\u{1b}'), "{shown:?}");
    place.write("other.jsonl", &[json!({"id": "x", "choice": 0, "loglikelihoods": [-1.0]})]);
    for (words, code, parts) in [
        ("a.jsonl other.jsonl", 1, &["no item is in both", "\"anatomy/0\"", "hint: "][..]),
        ("a.jsonl hhh.jsonl", 1, &["hhh.jsonl, line 1: this row is neither", "hint: "]),
        ("xstest_prompts.csv a.jsonl", 1, &["xstest_prompts.csv, line 1: this line is not JSON"]),
        ("a.jsonl gone.jsonl", 1, &["gone.jsonl: No such file"]),
        ("a.jsonl mmlu", 1, &["mmlu: it holds no samples_TASK_DATE.jsonl"]),
        ("a.jsonl", 2, &["<B>"]),
        ("a.jsonl b.jsonl --model model", 2, &["--model"]),
    ] {
        compare(words).fails(code, parts);
    }
    // Without either, the benchmark is what is missing.
    place.run("eval --model model", "").fails(2, &["<BENCHMARK>"]);
    place.run("eval nothing --model model", "").fails(2, &["nothing", "mmlu"]);
}
