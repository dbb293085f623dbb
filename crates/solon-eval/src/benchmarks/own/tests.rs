//! Files of both forms, and those that do not fit.

use super::*;
use crate::benchmarks::tests::describes_itself_consistently;
use crate::{Judged, summarise};
use serde_json::json;

const CHOICE_FILE: &str = r#"
name = "Kitchen"
source = "Written for this test."

[[example]]
question = "What is hot?"
options = ["Ice", "Fire"]
answer = "B"

[[item]]
id = "salt"
question = "What is {salty}?"
options = ["Sugar", "Salt", "Flour"]
answer = "Salt"
category = "taste"

[[item]]
question = "What is sweet?"
options = ["Sugar", "Salt"]
answer = "A"
"#;

const OPEN_FILE: &str = r#"
name = "Capitals"
[judge]
prompt = "{question} -> {answer}. Right is {reference}."
verdict = "yes-no"
[[item]]
question = "Capital of {answer}?"
reference = "Lima"
"#;

fn opened(text: &str, keys: serde_json::Value) -> Result<Box<dyn Benchmark>, EvalError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("rows.csv", "no,q,one,two,right,topic\na,Which?,\"x, y\",z,1,maths\nb,What?,p,q,0,art\n"),
        (
            "rows.jsonl",
            "{\"question\": \"Which?\", \"choices\": [\"x\", \"y\"], \"answer\": \"B\", \"more\": 1}\n",
        ),
        ("own.toml", text),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    open(&folder.path().join("own.toml"), keys.as_object().unwrap().clone())
}

fn consistent(benchmark: &dyn Benchmark) {
    describes_itself_consistently(&Known { groups: benchmark.groups(), ..KNOWN }, benchmark);
}

#[test]
fn options_are_scored_by_letter_or_text() {
    let benchmark = opened(CHOICE_FILE, json!({})).unwrap();
    consistent(&*benchmark);
    let [salt, sweet] = benchmark.items() else { panic!("two items") };
    let turns = [
        Message::user("What is hot?\nA. Ice\nB. Fire\nAnswer:"),
        Message::assistant("B"),
        Message::user("What is {salty}?\nA. Sugar\nB. Salt\nC. Flour\nAnswer:"),
    ];
    assert_eq!(salt.messages, turns);
    assert_eq!((&salt.options[..], &salt.right[..]), (&["A", "B", "C"].map(str::to_owned)[..], &[1][..]));
    assert_eq!(
        (salt.id.as_str(), salt.category.as_deref(), sweet.id.as_str()),
        ("Kitchen/salt", Some("taste"), "Kitchen/2")
    );
    let method = benchmark.method().asked;
    assert_eq!(
        method,
        "Kitchen: 2 questions, each after 1 examples, in the model's chat template. Source: Written for this test."
    );
    let text = format!("scored = \"continuation\"\nsystem = \"Be brief.\"{CHOICE_FILE}");
    let benchmark = opened(&text, json!({"template": false, "limit": 1})).unwrap();
    consistent(&*benchmark);
    let [salt] = benchmark.items() else { panic!("one item") };
    assert_eq!(
        salt.messages,
        [Message::user(
            "Be brief.\n\nQuestion: What is hot?\nAnswer: Fire\n\nQuestion: What is {salty}?\nAnswer:"
        )]
    );
    assert_eq!(salt.options, [" Sugar", " Salt", " Flour"]);
    // "Sugar" is the likeliest for its length, "Salt" in sum.
    let answer = Answer::chosen(salt, vec![-2.1, -2.0, -9.0], false);
    let outcomes = benchmark.judge(salt, &answer).outcomes;
    assert_eq!((outcomes["accuracy"], outcomes["accuracy_by_length"]), (true.into(), false.into()));
}

#[test]
fn rows_lie_in_a_file_beside_under_names_of_their_own() {
    let text = "name = \"Beside\"\nitems = \"rows.csv\"\nnumbers_from = 0\n[columns]\nid = \"no\"\nquestion = \"q\"\n\
        options = [\"one\", \"two\"]\nanswer = \"right\"\ncategory = \"topic\"\n";
    let benchmark = opened(text, json!({})).unwrap();
    let [a, b] = benchmark.items() else { panic!("two items") };
    assert_eq!((a.id.as_str(), &a.right[..], a.category.as_deref()), ("Beside/a", &[1][..], Some("maths")));
    assert_eq!((b.messages[0].content.as_str(), &b.right[..]), ("What?\nA. p\nB. q\nAnswer:", &[0][..]));
    let text = "name = \"Beside\"\nitems = \"rows.jsonl\"\ncolumns.options = \"choices\"\n";
    assert_eq!(opened(text, json!({})).unwrap().items()[0].right, [1]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.toml");
    std::fs::write(&path, text).unwrap();
    assert_eq!(beside(&path), Some(folder.path().join("rows.jsonl")));
    // A description of another ending is opened too.
    let other = folder.path().join("own.benchmark");
    std::fs::copy(&path, &other).unwrap();
    assert_eq!(beside(&other), Some(folder.path().join("rows.jsonl")));
    std::fs::write(&path, CHOICE_FILE).unwrap();
    assert_eq!((beside(&path), beside(Path::new("rows.csv"))), (None, None));
}

#[test]
fn a_judge_says_yes_or_no() {
    let benchmark = opened(OPEN_FILE, json!({"max_new_tokens": 9})).unwrap();
    consistent(&*benchmark);
    assert_eq!(benchmark.ask(), Ask::Generate(SamplingSettings::greedy(9)));
    assert!(benchmark.needs_judge());
    let item = &benchmark.items()[0];
    let answer = |reply: &str| Answer {
        judge: Some(Reply::Said(reply.to_owned())),
        ..Answer::written("Lima, {reference}".to_owned(), false)
    };
    let question = benchmark.question(&[], item, &answer("")).unwrap();
    assert_eq!(
        question.messages,
        [Message::user("Capital of {answer}? -> Lima, {reference}. Right is Lima.")]
    );
    assert_eq!(question.options, ["yes", "no"]);
    for (reply, right, refused) in [
        ("Yes.", true.into(), false),
        ("no", false.into(), false),
        ("Perhaps.", Outcome::Unknown, false),
        ("I'm sorry, but I can't help with that.", Outcome::Unknown, true),
    ] {
        let outcomes = benchmark.judge(item, &answer(reply)).outcomes;
        assert_eq!((outcomes["right"], outcomes["judge_refused"]), (right, refused.into()), "{reply}");
        assert_eq!(outcomes["unjudged"], (right == Outcome::Unknown).into());
    }
}

#[test]
fn a_judge_gives_a_score_in_a_range() {
    let verdict = "verdict = { score = 'Score: ([0-9.]+)', from = 1, to = 5 }";
    let text = OPEN_FILE.replace("verdict = \"yes-no\"", verdict);
    let benchmark = opened(&text, json!({})).unwrap();
    consistent(&*benchmark);
    let item = &benchmark.items()[0];
    assert_eq!(benchmark.question(&[], item, &Answer::default()).unwrap().max_new_tokens, 512);
    let verdict = |reply: &str| {
        let answer = Answer { judge: Some(Reply::Said(reply.to_owned())), ..Answer::default() };
        benchmark.judge(item, &answer).outcomes["score"]
    };
    for (reply, expected) in [
        ("Fine. Score: 4.5", Outcome::Number(4.5)),
        ("Score: 6", Outcome::Unknown),
        ("Score: 0.5", Outcome::Unknown),
        ("Score: .", Outcome::Unknown),
        ("4", Outcome::Unknown),
        ("Score: 2 or Score: 3", Outcome::Number(2.0)),
    ] {
        assert_eq!(verdict(reply), expected, "{reply}");
    }
    let measure = benchmark.measures()[0];
    assert_eq!((measure.key, measure.unit), ("score", Unit::Number { least: 1.0, most: 5.0 }));
    let answer = Answer { judge: Some(Reply::Said("Score: 3".to_owned())), ..Answer::default() };
    let summary = summarise(&*benchmark, [Judged::new(&*benchmark, item, answer)]).unwrap();
    assert_eq!(summary.figure("score").unwrap().value(), 3.0);
    // Another range has measures of its own; the same one has the same.
    assert_eq!(of_score(0.0, 5.0)[0].unit, Unit::Number { least: 0.0, most: 5.0 });
    assert!(std::ptr::eq(of_score(1.0, 5.0), benchmark.measures()));
}

#[test]
fn what_does_not_fit_is_named_with_its_line() {
    let choice = |old: &str, new: &str| CHOICE_FILE.replacen(old, new, 1);
    let judge = |old: &str, new: &str| OPEN_FILE.replacen(old, new, 1);
    for (text, parts) in [
        ("name = 1".to_owned(), &["own.toml, line 1", "invalid type"][..]),
        (choice("source", "sauce"), &["line 3", "unknown field `sauce`"]),
        (choice("category", "kategory"), &["line 10", "no field `kategory`", "hint: the fields are"]),
        (choice("answer = \"A\"", "answer = \"C\""), &["line 17", "`answer` is \"C\"", "A to B"]),
        (choice("answer = \"A\"", "answer = 1"), &["line 17", "numbers_from"]),
        (choice("answer = \"A\"", ""), &["line 17", "there is no `answer`"]),
        (choice("[\"Sugar\", \"Salt\"]", "[\"Sugar\"]"), &["1 options; give from 2"]),
        (choice("[\"Sugar\", \"Salt\"]", "[\"Sugar\", \"Sugar\"]"), &["\"Sugar\" stands twice"]),
        (choice("[\"Sugar\", \"Salt\"]", "\"Sugar\""), &["`options` is no list", "hint: "]),
        (choice("question = \"What is sweet?\"", "question = \" \""), &["line 17", "`question` is empty"]),
        (choice("id = \"salt\"", "id = \"2\""), &["line 17", "the id \"2\" appears more than once"]),
        ("name = \"None\"".to_owned(), &["it has no items", "hint: write [[item]]"]),
        (format!("items = \"rows.csv\"{CHOICE_FILE}"), &["[[item]] too"]),
        ("name = \"x\"\nitems = \"rows.csv\"".to_owned(), &["rows.csv, line 2: there is no `question`", "`q`", "[columns]"]),
        ("name = \"x\"\nitems = \"rows.txt\"".to_owned(), &["rows.txt: `items` is a file that ends with"]),
        ("name = \"x\"\nitems = \"gone.csv\"".to_owned(), &["gone.csv"]),
        (
            "name = \"x\"\nitems = \"rows.csv\"\nnumbers_from = 1\n[columns]\nquestion = \"q\"\noptions = [\"one\", \"two\"]\nanswer = \"right\"".to_owned(),
            &["rows.csv, line 3: `answer` is \"0\"", "give 1 to 2"],
        ),
        (format!("numbers_from = 2{CHOICE_FILE}"), &["line 1", "numbers_from = 2; give 0 or 1"]),
        (format!("numbers_from = {}{CHOICE_FILE}", i64::MIN), &["line 1", "give 0 or 1"]),
        (choice("answer = \"Salt\"", "answer = -9223372036854775808").replacen("name", "numbers_from = 1\nname", 1).replacen("answer = \"B\"", "answer = 2", 1), &["give 1 to 3"]),
        (format!("prompt = \"Q\"{CHOICE_FILE}"), &["`prompt` has no {question}"]),
        (format!("prompt = \"{{question}} {{options}} {{answer}}\"{CHOICE_FILE}"), &["{answer}, which stands for nothing"]),
        (format!("max_new_tokens = 3{CHOICE_FILE}"), &["no [judge]"]),
        (judge("{answer}. Right", "Right"), &["[judge] `prompt` has no {answer}"]),
        (judge("\"yes-no\"", "\"maybe\""), &["yes-no"]),
        (judge("\"yes-no\"", "{ score = 'x', from = 1, to = 5 }"), &["has no group", "hint: "]),
        (judge("\"yes-no\"", "{ score = '(x', from = 1, to = 5 }"), &["[judge] `score`: "]),
        (judge("\"yes-no\"", "{ score = '(x)', from = 5, to = 5 }"), &["a score from 5 to 5"]),
        (judge("reference = \"Lima\"", ""), &["there is no `reference`"]),
        (judge("reference = \"Lima\"", "reference = \"Lima\"\noptions = [\"a\"]"), &["that a judge grades"]),
        (format!("scored = \"letters\"{OPEN_FILE}"), &["give one of them"]),
    ] {
        let error = opened(&text, json!({})).err().expect(&text).to_string();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    for (text, keys, part) in [
        (CHOICE_FILE, json!({"max_new_tokens": 3}), "leave `max_new_tokens` out"),
        (CHOICE_FILE, json!({"shots": 2}), "the file has 1 examples"),
        (OPEN_FILE, json!({"template": true}), "leave `template` out"),
        (OPEN_FILE, json!({"tempalte": true}), "unknown field `tempalte`"),
    ] {
        let error = opened(text, keys).err().unwrap().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}
