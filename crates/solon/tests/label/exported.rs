//! What `solon export` writes of labels: pairs with everybody who says something of them, and the data card.

use super::*;
use crate::place::server::Server;

#[test]
fn pairs_are_exported_with_their_labeller_their_principles_and_people() {
    let place = Place::new();
    plain_constitution(&place);
    place.write("pairs.jsonl", &pairs(4));
    let server = Server::new(|_, body| match asked(body).contains("ask 3") {
        true => (400, "{}".to_owned()),
        false => (200, prefers_right(body)),
    });
    let judge = format!("openai:big@{}", server.url);
    let words = format!(
        "label --judge {judge} --input pairs.jsonl --out out.jsonl --constitution c.toml --set gate=false"
    );
    place.run(&words, "").ok();
    // Ann takes what is shown as A each time, which is in the order that her votes say.
    place.run("label --human --annotator ann --input pairs.jsonl --out human.jsonl", &"a\n".repeat(8)).ok();
    let votes = rows(&place.read("human.jsonl.votes.ann.jsonl"));
    let words = "export --run out.jsonl.run --out exported";
    let ran = place.run(&format!("{words} --votes human.jsonl.votes.ann.jsonl"), "").ok();
    assert!(ran.err.contains("3 pairs with 4 annotators"), "{}", ran.err);
    assert!(
        ran.err.contains("note: 1 votes of human.jsonl.votes.ann.jsonl are on pairs that the run has not"),
        "{}",
        ran.err
    );

    let made: Value = serde_json::from_str(&place.read("exported/annotated-pairs.json")).unwrap();
    assert_eq!(
        (&made["metadata"]["version"], &made["metadata"]["default_annotator"]),
        (&json!("2.0"), &json!("ba751e7b"))
    );
    let kinds = |id: &str| made["annotators"][id]["type"].as_str().unwrap_or_default();
    let all = ["ba751e7b", "labeller/openai:big", "principle/kinder", "person/ann"];
    assert_eq!(all.map(kinds), ["unknown", "ai", "principle", "human"], "{}", made["annotators"]);
    assert_eq!(made["annotators"]["principle/kinder"]["description"], "Which is kinder?");
    for (number, comparison) in made["comparisons"].as_array().unwrap().iter().enumerate() {
        assert_eq!(comparison["prompt"], format!("ask {number}"));
        assert_eq!(comparison["response_a"]["text"], format!("left {number}"));
        assert_eq!(comparison["response_b"]["text"], format!("right {number}"));
        for annotator in &all[..3] {
            let said = &comparison["annotations"][annotator];
            assert_eq!(said["pref"], "b", "{annotator}: {said}");
            assert!((said["probability"].as_f64().unwrap() - 0.25).abs() < 1e-9, "{annotator}: {said}");
        }
        let expected = if votes[number]["order"] == "ab" { "a" } else { "b" };
        assert_eq!(comparison["annotations"]["person/ann"]["pref"], expected, "{comparison}");
    }

    let card = place.read("exported/README.md");
    let front = card.split("---\n").nth(1).unwrap();
    assert!(
        front.contains("path: \"preferences.jsonl\"") && !front.contains("demonstrations.jsonl"),
        "{front}"
    );
    let sha256 = solon_data::files::sha256_file(&place.path("c.toml")).unwrap();
    for part in [
        "3 labels by openai:big. It was asked with ask = choice, in both orders of the answers.",
        "it was not tested on pairs whose better answer is known",
        "unlabelled: refused by the server",
        "with the seed 0",
        &sha256,
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    // Exported again, all of it is the same.
    place.run(&words.replace("exported", "again"), "").ok();
    assert_eq!(place.read("again/README.md"), card);
    assert_eq!(place.read("again/preferences.jsonl"), place.read("exported/preferences.jsonl"));
}
