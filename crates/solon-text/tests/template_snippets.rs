//! Compares what templates can use of Jinja and Python with transformers, snippet by snippet. The goldens come from
//! `benchmarks/parity/make_template_goldens.py`, which names the differences (`KNOWN`); no test needs Python.

use std::path::Path;

use solon_records::Message;
use solon_text::ChatTokenizer;

/// A snippet, what transformers renders (`None`: an error), and why Solon differs.
type Row = (String, Option<String>, Option<String>);

#[test]
fn snippets_render_as_in_transformers_but_for_the_differences_that_are_named() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let rows = std::fs::read_to_string(tests.join("templates/snippets.json")).expect("snippets.json");
    let rows: Vec<Row> = serde_json::from_str(&rows).expect("snippets.json is JSON");
    assert!(rows.len() > 500);
    let conversation = [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello!"),
        ("user", "2+2?"),
        ("assistant", "It's 4."),
    ]
    .map(|(role, content)| Message::new(role, content));
    let mut wrong = Vec::new();
    for (source, expected, known) in rows {
        let tokenizer = ChatTokenizer::from_folder(&tests.join("goldens/folder")).expect("the folder");
        let ours =
            tokenizer.with_template(&source).and_then(|tokenizer| tokenizer.render(&conversation, false));
        if (ours.as_ref().ok() == expected.as_ref()) == known.is_some() {
            wrong.push(format!("{source:?}\n  theirs {expected:?}\n  ours   {ours:?}\n  known  {known:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} snippets\n{}", wrong.len(), wrong.join("\n"));
}
