use super::*;
use std::collections::HashMap;

/// The constitution this project ships.
pub fn default_constitution() -> Constitution {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../constitutions/default.toml");
    Constitution::open(&path).unwrap()
}

const GOOD: &str = r#"
name = "t"
version = 1
description = "d"
[[revision]]
id = "kind"
critique = "Is it kind?"
revision = "Make it kind."
[[comparison]]
id = "kinder"
applies = ["harmful", "fraud"]
request = "Is it unkind?"
question = "Which is kinder?"
[[example]]
id = "e"
kind = "harmful"
category = "c"
principle = "kind"
request = "q"
flawed = "f"
critique = "c"
revision = "r"
"#;

#[track_caller]
fn refused(from: &str, to: &str, said: &[&str]) {
    assert!(GOOD.contains(from), "the test's own text lacks {from:?}");
    let error = Constitution::parse_toml(&GOOD.replacen(from, to, 1), Path::new("my.toml")).unwrap_err();
    let error = error.to_string();
    for part in said.iter().chain(&["my.toml"]) {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn the_shipped_constitution_is_valid() {
    let constitution = default_constitution();
    assert!(constitution.revision.len() >= 16 && constitution.comparison.len() >= 16);
    assert!(constitution.example.len() >= 100);
}

#[test]
fn a_principle_is_about_what_it_lists() {
    let read = Constitution::parse_toml(GOOD, Path::new("my.toml")).unwrap();
    let (everything, kinder) = (&read.revision[0].applies, &read.comparison[0].applies);
    let fits = |kind, category, applies: &[String]| About::new(kind, category).fits(applies);
    assert!(fits(Some("harmless"), Some("travel"), everything) && fits(None, None, kinder));
    assert!(fits(Some("harmful"), Some("theft"), kinder) && fits(None, Some("fraud"), kinder));
    assert!(!fits(Some("harmless"), Some("travel"), kinder) && !fits(None, Some("theft"), kinder));
    assert_eq!(read.request_questions(), [(&read.comparison[0], "Is it unkind?")]);
    let json = serde_json::to_value(&read).unwrap();
    assert!(json["revision"][0].get("applies").is_none(), "{json}");
    assert_eq!(json["comparison"][0]["applies"][1], "fraud");
}

/// Kinds and categories of this project's own training prompts.
const CATEGORIES: [(&str, &[&str]); 4] = [
    (
        "harmful",
        &[
            "legal-evasion",
            "harassment",
            "child-safety",
            "animal-cruelty",
            "academic-dishonesty",
            "property-damage",
            "self-harm",
            "cybercrime",
            "violence",
            "misinformation",
            "hate",
            "sexual-misconduct",
            "extremism",
            "theft",
            "weapons",
            "fraud",
            "drugs",
            "illegal-trade",
            "privacy",
            "dangerous-chemistry",
        ],
    ),
    ("sounds-harmful", &["homonym"]),
    ("harmless", &["cooking"]),
    ("unanswerable", &["invented-thing"]),
];

#[test]
fn the_shipped_principles_cover_the_shipped_prompts() {
    let constitution = default_constitution();
    let (harmful, others) = CATEGORIES.split_first().unwrap();
    for category in harmful.1 {
        // A category needs a principle of its own, not only one about everything harmful.
        let about = About::new(None, Some(category));
        assert!(constitution.revision.iter().any(|p| about.fits(&p.applies)), "{category}");
        assert!(constitution.request_questions().iter().any(|(p, _)| about.fits(&p.applies)), "{category}");
    }
    for (kind, categories) in others {
        let about = About::new(Some(kind), Some(categories[0]));
        assert!(constitution.revision.iter().any(|p| about.fits(&p.applies)), "{kind}");
        assert!(constitution.comparison.iter().any(|p| about.fits(&p.applies)), "{kind}");
        // Yes to a request question means that the assistant should decline.
        assert!(!constitution.request_questions().iter().any(|(p, _)| about.fits(&p.applies)), "{kind}");
    }
    let kinds: HashMap<&str, usize> = constitution.example.iter().fold(HashMap::new(), |mut all, e| {
        *all.entry(e.kind.as_str()).or_default() += 1;
        all
    });
    assert!(CATEGORIES.iter().all(|(kind, _)| kinds.contains_key(kind)) && kinds.len() == 4, "{kinds:?}");
    assert!(kinds["unanswerable"] >= 12);
    let known: Vec<&str> =
        CATEGORIES.iter().flat_map(|(kind, names)| [kind].into_iter().chain(*names)).copied().collect();
    let named = (constitution.revision.iter().flat_map(|p| &p.applies))
        .chain(constitution.comparison.iter().flat_map(|p| &p.applies));
    for name in named {
        assert!(known.contains(&name.as_str()), "no prompt has the kind or category {name}");
    }
}

#[test]
fn errors_name_file_entry_and_field() {
    Constitution::parse_toml(GOOD, Path::new("my.toml")).unwrap();
    refused("question = ", "qestion = ", &["[[comparison]] \"kinder\"", "`qestion`", "question"]);
    refused("flawed = \"f\"", "flawed = \" \"", &["[[example]] \"e\"", "`flawed`", "empty"]);
    refused("flawed = \"f\"\n", "", &["[[example]] \"e\"", "`flawed`", "missing"]);
    refused("flawed = \"f\"", "flawed = 3", &["[[example]] \"e\"", "`flawed`", "integer"]);
    refused("principle = \"kind\"", "principle = \"cold\"", &["\"e\"", "`principle`", "\"cold\""]);
    refused("id = \"kinder\"", "id = \"kind\"", &["[[comparison]] \"kind\"", "`id`", "[[revision]]"]);
    refused("id = \"e\"", "id = \"a b\"", &["[[example]] \"a b\"", "`id`"]);
    refused("id = \"e\"\n", "", &["[[example]] number 1", "`id`", "missing"]);
    refused("revision = \"r\"", "revision = \"f\"", &["\"e\"", "`revision`", "`flawed`"]);
    refused("\"harmful\", ", "\"harm ful\", ", &["\"kinder\"", "`applies`", "harm ful"]);
    refused("[\"harmful\", \"fraud\"]", "[]", &["\"kinder\"", "`applies`", "leave it out"]);
    refused("[\"harmful\", \"fraud\"]", "\"fraud\"", &["\"kinder\"", "`applies`", "string", "list"]);
    refused("\"harmful\", \"fraud\"", "\"fraud\", 3", &["\"kinder\"", "`applies`", "integer"]);
    refused("request = \"Is it unkind?\"", "request = \" \"", &["\"kinder\"", "`request`", "empty"]);
    refused("request = \"Is it unkind?\"", "request = 1", &["\"kinder\"", "`request`", "integer"]);
    refused("[[comparison]]", "[comparison]", &["`comparison`", "[[comparison]]"]);
    refused("version = 1", "version = 0", &["`version`"]);
    refused("name = \"t\"", "name = ", &["line 2"]);
}

/// A constitution with every field that a file may have.
pub const FULL: &str = r#"
name = "full"
version = 3
description = "d"
[[revision]]
id = "kind"
weight = 2
critique = "Is it kind?"
revision = "Make it kind."
[[revision]]
id = "brief"
applies = ["harmless"]
critique = "Is it brief?"
revision = "Make it brief."
[[comparison]]
id = "kinder"
weight = 0.25
request = "Is it unkind?"
question = "Which is kinder?"
[[comparison]]
id = "briefer"
question = "Which is briefer?"
[[example]]
id = "e"
kind = "harmful"
category = "c"
principle = "kind"
request = "q"
flawed = "f"
critique = "c"
revision = "r"
[[few_shot]]
id = "shot"
for = "critique"
text = "\n\nHuman: q\n\nRevision: r\n"
[[few_shot]]
id = "chat"
for = "critique-chat"
messages = [{ role = "user", content = "q" }, { role = "assistant", content = "a" }]
[[few_shot]]
id = "pair"
for = "comparison"
prompt = "\n\nHuman: q\n\nAssistant:"
chosen = ["good"]
rejected = ["bad", "worse"]
[[few_shot]]
id = "chain"
for = "comparison-cot"
text = "{}\nSo the answer is: (B)"
[[prompt]]
id = "p"
principle = "kinder"
text = "Insult me."
"#;

pub fn full() -> Constitution {
    Constitution::parse_toml(FULL, Path::new("full.toml")).unwrap()
}

#[track_caller]
fn full_refused(from: &str, to: &str, said: &[&str]) {
    assert!(FULL.contains(from), "the test's own text lacks {from:?}");
    let error = Constitution::parse_toml(&FULL.replacen(from, to, 1), Path::new("my.toml")).unwrap_err();
    for part in said.iter().chain(&["my.toml"]) {
        assert!(error.to_string().contains(part), "{error} lacks {part:?}");
    }
}

#[test]
fn weights_few_shots_and_prompts_are_read() {
    let read = full();
    assert_eq!([read.revision[0].weight, read.revision[1].weight], [2.0, 1.0]);
    assert_eq!([read.comparison[0].weight, read.comparison[1].weight], [0.25, 1.0]);
    let uses: Vec<_> = read.few_shot.iter().map(|few_shot| few_shot.shot.used_for()).collect();
    assert_eq!(uses, Shot::USES);
    let Shot::Critique { text } = &read.few_shot[0].shot else { panic!("{:?}", read.few_shot[0]) };
    assert_eq!(text, "\n\nHuman: q\n\nRevision: r\n");
    assert_eq!((read.prompt[0].principle.as_str(), read.prompt[0].text.as_str()), ("kinder", "Insult me."));
}

#[test]
fn what_is_written_as_json_is_read_as_the_same() {
    for constitution in [full(), default_constitution()] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("constitution.json");
        std::fs::write(&path, serde_json::to_string_pretty(&constitution).unwrap()).unwrap();
        assert_eq!(Constitution::open(&path).unwrap(), constitution);
    }
}

#[test]
fn the_hash_is_of_the_content_and_not_of_its_form() {
    let hash = |text: &str| Constitution::parse_toml(text, Path::new("a.toml")).unwrap().sha256().unwrap();
    let whole = hash(FULL);
    assert_eq!(whole.len(), 64);
    for (from, to) in [
        ("weight = 2\n", "weight = 2.0 # twice as often\n"),
        ("id = \"briefer\"\n", "weight = 1\nid = 'briefer'\n"),
        ("version = 3", "version = 4"),
        ("name = \"full\"", "name = \"other\""),
    ] {
        assert!(FULL.contains(from));
        assert_eq!(hash(&FULL.replacen(from, to, 1)), whole, "{from:?} became {to:?}");
    }
    for (from, to) in [
        ("weight = 2\n", "weight = 3\n"),
        ("Which is briefer?", "Which is brief?"),
        ("id = \"briefer\"", "id = \"shorter\""),
        ("applies = [\"harmless\"]\n", ""),
        ("Human: q\\n\\nRevision: r", "Human: q\\n\\nRevision: r\\n"),
        ("\"bad\", \"worse\"", "\"bad\""),
        ("Insult me.", "Insult her."),
    ] {
        assert!(FULL.contains(from));
        assert_ne!(hash(&FULL.replacen(from, to, 1)), whole, "{from:?} became {to:?}");
    }
}

#[test]
fn what_is_written_as_toml_is_read_as_the_same() {
    for read in [full(), Constitution::parse_toml(GOOD, Path::new("my.toml")).unwrap()] {
        let text = read.to_toml().unwrap();
        assert_eq!(Constitution::parse_toml(&text, Path::new("written.toml")).unwrap(), read, "{text}");
    }
}

/// A run's hash of a constitution without the newer fields must stay what it was.
#[test]
fn newer_fields_are_not_written_where_they_are_not_used() {
    let read = Constitution::parse_toml(GOOD, Path::new("my.toml")).unwrap();
    let json = serde_json::to_string(&read).unwrap();
    for field in ["weight", "few_shot", "prompt"] {
        assert!(!json.contains(field), "{json}");
    }
    assert!(serde_json::to_string(&full()).unwrap().contains("\"weight\":2.0"));
}

#[test]
fn newer_fields_are_checked() {
    for weight in ["0", "-1", "nan", "inf", "-inf"] {
        full_refused("weight = 2", &format!("weight = {weight}"), &["\"kind\"", "`weight`", "positive"]);
    }
    full_refused("weight = 0.25", "weight = \"2\"", &["\"kinder\"", "`weight`", "string"]);
    full_refused("for = \"critique\"", "for = \"praise\"", &["\"shot\"", "`for`", "comparison-cot"]);
    full_refused(
        "for = \"critique\"",
        "for = \"critique\"\nchosen = [\"a\"]",
        &["\"shot\"", "`chosen`", "no such"],
    );
    full_refused("chosen = [\"good\"]", "chosen = []", &["\"pair\"", "`chosen`", "empty"]);
    full_refused("chosen = [\"good\"]", "chosen = [\"good\", 3]", &["\"pair\"", "`chosen`", "number 2"]);
    full_refused("chosen = [\"good\"]\n", "", &["\"pair\"", "`chosen`", "missing"]);
    full_refused("rejected = [\"bad\"", "rejected = [\" \"", &["\"pair\"", "`rejected`", "empty"]);
    full_refused("{}\\nSo", "So", &["\"chain\"", "`{}` 0 times"]);
    full_refused("role = \"user\"", "role = \"human\"", &["\"chat\", message 1", "`role`", "human"]);
    full_refused("role = \"user\"", "role = \"assistant\"", &["\"chat\"", "`messages`", "begin"]);
    full_refused("principle = \"kinder\"", "principle = \"cold\"", &["\"p\"", "`principle`", "\"cold\""]);
    full_refused("text = \"Insult me.\"", "text = \"\"", &["\"p\"", "`text`", "empty"]);
    full_refused("id = \"p\"", "id = \"shot\"", &["[[prompt]] \"shot\"", "`id`", "[[few_shot]]"]);
    full_refused("Is it kind?", "Is it \\u001b[2Jkind?", &["\"kind\"", "`critique`", "\\u{1b}"]);
    full_refused("name = \"full\"", "name = \"f\\u0007\"", &["`name`", "\\u{7}"]);
}

#[test]
fn hostile_files_are_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let mut large = b"# ".to_vec();
    large.resize(LARGEST_FILE as usize + 1, b'x');
    for (name, bytes, said) in [
        ("large.toml", large, "larger than 16 MiB"),
        ("latin.toml", b"name = \"caf\xe9\"".to_vec(), "byte 12 is not UTF-8"),
        ("nul.json", b"\0".to_vec(), "JSON"),
        ("empty.json", Vec::new(), "JSON"),
        ("deep.json", vec![b'['; 1 << 20], "recursion"),
        ("other.yaml", b"name: x".to_vec(), "must end in .toml"),
    ] {
        std::fs::write(folder.join(name), bytes).unwrap();
        let error = Constitution::open(&folder.join(name)).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains(name), "{error}");
    }
    std::fs::write(folder.join("marked.toml"), format!("\u{feff}{GOOD}")).unwrap();
    assert_eq!(Constitution::open(&folder.join("marked.toml")).unwrap().name, "t");
    let bare = Constitution::open(folder).unwrap_err().to_string();
    assert!(bare.contains("RLMadisonPrecogFewShotPrompts.json"), "{bare}");
}

#[test]
fn a_check_counts_and_warns() {
    let checked = full().check().unwrap();
    assert_eq!(
        [checked.revision_principles, checked.comparison_principles, checked.request_questions],
        [2, 2, 1]
    );
    assert_eq!((checked.examples["harmful"], checked.few_shots.len(), checked.prompts), (1, 4, 1));
    assert_eq!((checked.about_all, checked.about["harmless"]), ([1, 2], [1, 0]));
    let shares: Vec<_> = checked.weights.iter().map(|w| (w.id.as_str(), w.share)).collect();
    assert_eq!(shares, [("kind", 2.0 / 3.0), ("brief", 1.0 / 3.0), ("kinder", 0.2), ("briefer", 0.8)]);
    assert_eq!(checked.warnings, Vec::<String>::new());

    let warned = |from: &str, to: &str| {
        assert!(FULL.contains(from));
        let read = Constitution::parse_toml(&FULL.replacen(from, to, 1), Path::new("a.toml")).unwrap();
        read.check().unwrap().warnings
    };
    let same = warned("Which is briefer?", " which  is\\nKINDER?");
    assert!(same.len() == 1 && same[0].contains("\"kinder\" and \"briefer\""), "{same:?}");
    let bare = warned("id = \"kind\"", "id = \"kind\"\napplies = [\"fraud\"]");
    assert!(bare.len() == 1 && bare[0].contains("category \"c\"") && bare[0].contains("\"e\""), "{bare:?}");
    let misplaced = warned("principle = \"kind\"", "principle = \"brief\"");
    assert!(misplaced.len() == 1 && misplaced[0].ends_with("kind or category: \"e\""), "{misplaced:?}");
    let posing = warned("Is it kind?", "Is it <|im_end|> kind?");
    assert!(posing.len() == 1 && posing[0].contains("\"kind\""), "{posing:?}");
}

#[test]
fn a_difference_names_what_changed() {
    let before = full();
    let same = ConstitutionDiff::of(&before, &before).unwrap();
    assert!(same.same_content && same.tables.is_empty() && same.first == same.second);

    let mut after = before.clone();
    after.version = 4;
    after.revision[0].critique = "Is it kinder?".into();
    after.revision[0].weight = 1.0;
    after.revision.remove(1);
    after.comparison[1].id = "shorter".into();
    after.comparison.push(ComparisonPrinciple { id: "warmer".into(), ..after.comparison[0].clone() });
    after.comparison[2].question = "Which is warmer?".into();
    after.few_shot.swap(0, 1);
    let found = ConstitutionDiff::of(&before, &after).unwrap();
    assert!(!found.same_content && found.first.sha256 != found.second.sha256);
    assert_eq!((found.first.version, found.second.version), (3, 4));
    let [revision, comparison, few_shot] = &found.tables[..] else { panic!("{found:?}") };
    let ids = |entries: &[Entry]| entries.iter().map(|entry| entry.id().to_owned()).collect::<Vec<_>>();
    assert_eq!((ids(&revision.removed), revision.added.len()), (vec!["brief".to_owned()], 0));
    let fields: Vec<_> = revision.changed[0].fields.iter().map(|change| change.field.as_str()).collect();
    assert_eq!((revision.changed[0].id.as_str(), fields), ("kind", vec!["critique", "weight"]));
    assert_eq!(revision.changed[0].fields[1].after, serde_json::Value::Null);
    assert_eq!((ids(&comparison.added), comparison.removed.len()), (vec!["warmer".to_owned()], 0));
    let change = &comparison.changed[0].fields[..];
    assert_eq!((comparison.changed[0].id.as_str(), change.len()), ("briefer", 1));
    assert_eq!((change[0].field.as_str(), change[0].after.as_str()), ("id", Some("shorter")));
    assert!(few_shot.reordered && few_shot.changed.is_empty() && !revision.reordered);
}

/// The examples of `constitutions/README.md`, one after the other, are a constitution without mistakes.
#[test]
fn the_documented_format_is_the_one_that_is_read() {
    let page = include_str!("../../../../constitutions/README.md");
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let text: String = blocks.collect::<Vec<_>>().concat();
    let read = Constitution::parse_toml(&text, Path::new("README.md")).unwrap();
    let counts = [read.revision.len(), read.comparison.len(), read.example.len(), read.few_shot.len()];
    assert_eq!((counts, read.prompt.len()), ([1; 4], 1));
    assert_eq!(read.check().unwrap().warnings, Vec::<String>::new());
    for used_for in Shot::USES {
        assert!(page.contains(&format!("| `\"{used_for}\"` |")), "{used_for} is not documented");
    }
    for key in own::REVISION.iter().chain(&own::COMPARISON).chain(&own::EXAMPLE).chain(&own::FEW_SHOT) {
        assert!(page.contains(&format!("`{key}`")), "{key} is not documented");
    }
}
