use super::*;

fn read(name: &str, text: &str, ignore: &[&str]) -> Result<ForeignVotes, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let ignore: Vec<String> = ignore.iter().map(|name| name.to_string()).collect();
    read_foreign_votes(&path, &ignore)
        .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

/// Each row's answers with who prefers the first how much.
fn said(votes: &ForeignVotes) -> Vec<(usize, &str, &str, Vec<(Option<&str>, f64)>)> {
    let vote = |vote: &ForeignVote| (vote.annotator.clone(), vote.probability);
    votes
        .pairs
        .iter()
        .map(|pair| {
            let votes = pair.votes.iter().map(|one| (one.annotator.as_deref(), vote(one).1)).collect();
            (pair.row, pair.first.as_str(), pair.second.as_str(), votes)
        })
        .collect()
}

#[test]
fn tables_of_both_forms() {
    let votes = read(
        "v.csv",
        "\u{feff}id,prompt,response_a,response_b,label,annotator\n1,\"Q, or\nnot?\",x,y,A,ann\n2,Q,x,y,response_b,bob\n3,Q,x,y,tie,ann\n4,Q,x,y,,\n",
        &[],
    )
    .unwrap();
    assert_eq!(
        said(&votes),
        [
            (2, "x", "y", vec![(Some("ann"), 1.0)]),
            (4, "x", "y", vec![(Some("bob"), 0.0)]),
            (5, "x", "y", vec![(Some("ann"), 0.5)]),
            (6, "x", "y", vec![]),
        ]
    );
    assert_eq!(votes.pairs[0].prompt, [Message::user("Q, or\nnot?")]);
    assert_eq!(votes.pairs[1].id.as_deref(), Some("2"));
    let votes = read("v.csv", "prompt,chosen,rejected,when\nQ,good,bad,today\n", &["when"]).unwrap();
    assert_eq!(said(&votes), [(2, "good", "bad", vec![(None, 1.0)])]);
}

#[test]
fn a_table_that_cannot_be_honoured_is_refused_by_row_and_column() {
    let compared = "prompt,response_a,response_b,label";
    for (text, parts) in [
        (
            "prompt,chosen,rejected,strength\nQ,a,b,3\n".to_owned(),
            &["v.csv:1: column `strength`", "hint: "][..],
        ),
        ("prompt,chosen\nQ,a\n".into(), &["v.csv:1: the columns must be"]),
        ("chosen,rejected\na,b\n".into(), &["v.csv:1: the columns must be"]),
        ("prompt,chosen,rejected,label\nQ,a,b,a\n".into(), &["v.csv:1: column `label` is of the other form"]),
        ("prompt,chosen,rejected,response_a,response_b,label\n".into(), &["v.csv:1: "]),
        ("prompt,prompt,chosen,rejected\n".into(), &["column `prompt` is there twice"]),
        (format!("{compared}\nQ,x,y,a\nQ,x,y,2\n"), &["v.csv:3: column `label`: is \"2\"", "a, b, tie"]),
        (format!("{compared}\n,x,y,a\n"), &["v.csv:2: field `prompt`: is empty"]),
        (format!("{compared}\nQ,x,y\n"), &["v.csv:2: is not CSV"]),
        (format!("{compared},annotator\nQ,x,y,a,\n"), &["v.csv:2: column `annotator`"]),
    ] {
        let error = read("v.csv", &text, &[]).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let error = read("v.csv", "prompt,chosen,rejected\n", &["typo"]).unwrap_err();
    assert!(error.contains("no column `typo`"), "{error}");
    assert!(read("v.txt", "", &[]).unwrap_err().contains("no known form"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.csv");
    std::fs::write(&path, b"prompt\n\xff").unwrap();
    assert!(read_foreign_votes(&path, &[]).unwrap_err().to_string().contains("not UTF-8 at byte 8"));
}

const NESTED: &str = r#"[{"id":"r1","fields":{"prompt":"Q","response1":"x","response2":"y"},"metadata":{"m":1},
 "suggestions":{"preference":{"value":["response2","response1"],"score":null,"agent":"m"}},
 "responses":{"preference":[{"value":["response1","response2"],"user_id":"u1"},{"value":["response2","response1"],"user_id":"u2"}]},
 "vectors":{},"_server_id":"s"},
 {"id":"r2","fields":{"prompt":[{"role":"user","content":"Q2"}],"response1":"x","response2":"y"},"metadata":{},
 "suggestions":{},"responses":{},"vectors":{},"_server_id":"s2"}]"#;

#[test]
fn the_records_of_argilla_2() {
    let votes = read("r.json", NESTED, &[]).unwrap();
    assert_eq!(
        said(&votes),
        [(1, "x", "y", vec![(Some("u1"), 1.0), (Some("u2"), 0.0)]), (2, "x", "y", vec![])]
    );
    assert_eq!(votes.pairs[1].prompt, [Message::user("Q2")]);
    assert_eq!(votes.pairs[0].id.as_deref(), Some("r1"));
}

#[test]
fn the_rows_of_argilla_2_for_datasets() {
    let row = r#"{"id":"a","status":null,"_server_id":"s","instruction":"Q","response_1":"x","response_2":"y","better.responses":["2","tie","1"],"better.responses.users":["u1","u2","u3"],"better.responses.status":["submitted","submitted","draft"],"better.suggestion":"1","better.suggestion.score":0.5,"better.suggestion.agent":"m","why.responses":["text"],"why.responses.users":["u1"],"why.responses.status":["submitted"]}"#;
    let votes = read("r.jsonl", row, &["why"]).unwrap();
    assert_eq!(said(&votes), [(1, "x", "y", vec![(Some("u1"), 0.0), (Some("u2"), 0.5)])]);
    assert_eq!(votes.not_submitted, 1);
    let error = read("r.jsonl", row, &[]).unwrap_err();
    assert!(error.contains("r.jsonl:1: several questions have responses: `better`, `why`"), "{error}");
}

#[test]
fn the_rows_of_argilla_1() {
    let of = |preference: &str| {
        format!(
            r#"{{"prompt":"Q","response1":"x","response2":"y","preference":{preference},"preference-suggestion":{{"rank":[1,2],"value":["response2","response1"]}},"preference-suggestion-metadata":{{"type":null,"score":null,"agent":null}},"external_id":"e","metadata":"{{}}"}}"#
        )
    };
    for (preference, expected) in [
        (
            r#"[{"user_id":"u","value":{"rank":[2,1],"value":["response1","response2"]},"status":"submitted"}]"#,
            0.0,
        ),
        (
            r#"[{"user_id":"u","value":[{"rank":1,"value":"response2"},{"rank":1,"value":"response1"}],"status":"submitted"}]"#,
            0.5,
        ),
        (
            r#"{"user_id":["u"],"value":[{"rank":[1,2],"value":["response1","response2"]}],"status":["submitted"]}"#,
            1.0,
        ),
    ] {
        let votes = read("r.jsonl", &of(preference), &[]).unwrap();
        assert_eq!(said(&votes), [(1, "x", "y", vec![(Some("u"), expected)])], "{preference}");
        assert_eq!(votes.pairs[0].id.as_deref(), Some("e"));
    }
    assert_eq!(said(&read("r.jsonl", &of("[]"), &[]).unwrap()), [(1, "x", "y", vec![])]);
}

#[test]
fn an_export_that_cannot_be_honoured_is_refused_by_record_and_name() {
    let fields = r#""prompt":"Q","r1":"x","r2":"y""#;
    for (record, parts) in [
        (
            r#"{"text":"Q","r1":"x","r2":"y"}"#.to_owned(),
            &["r.jsonl:2: one field must be the prompt", "`text`"][..],
        ),
        (format!(r#"{{{fields},"r3":"z"}}"#), &["r.jsonl:2: two fields beside `prompt`", "`r3`", "hint: "]),
        (format!(r#"{{{fields},"context":"c"}}"#), &["`context`"]),
        (
            format!(r#"{{{fields},"q":[{{"user_id":"u","value":4,"status":"submitted"}}]}}"#),
            &["question `q`", "neither"],
        ),
        (
            format!(r#"{{{fields},"q":[{{"user_id":"u","value":"r3","status":"submitted"}}]}}"#),
            &["\"r3\" is neither `r1` nor `r2`"],
        ),
        (
            format!(r#"{{{fields},"q":[{{"user_id":"u","value":["r1"],"status":"submitted"}}]}}"#),
            &["does not rank"],
        ),
        (
            format!(r#"{{{fields},"q":[{{"user_id":"u","value":["r1","r1"],"status":"submitted"}}]}}"#),
            &["does not rank"],
        ),
        (format!(r#"{{{fields},"q":[{{"user_id":"u","value":"r1","status":"odd"}}]}}"#), &["status \"odd\""]),
        (format!(r#"{{{fields},"q":[{{"user_id":7,"value":"r1"}}]}}"#), &["user 7"]),
        (
            format!(r#"{{{fields},"q.responses":["r1"],"q.responses.users":["u","v"]}}"#),
            &["different lengths"],
        ),
        (r#"{"prompt":"Q","r1":"x","r2":{"a":1}}"#.into(), &["field `r2`: is no text"]),
        (r#"{"fields":{},"responses":[]}"#.into(), &["must both be objects"]),
        ("[1]".into(), &["r.jsonl:2: is no record"]),
    ] {
        let error = read("r.jsonl", &format!("{{{fields}}}\n{record}"), &[]).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
    let error = read("r.json", &NESTED.replace("\"prompt\":[", "\"pompt\":["), &[]).unwrap_err();
    assert!(error.starts_with("r.json record 2: one field must be the prompt"), "{error}");
    assert!(read("r.json", "[{]", &[]).unwrap_err().starts_with("r.json:1: is no list of records"));
    assert!(read("r.json", NESTED, &["typo"]).unwrap_err().contains("no column `typo`"));
    let deep = format!("{{\"a\":{}", "[".repeat(1 << 16));
    assert!(read("r.jsonl", &deep, &[]).unwrap_err().contains("recursion limit"));
}
