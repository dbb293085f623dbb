//! Published scores and prompts made again, and files that do not fit.

use super::*;
use crate::benchmarks::tests::{describes_itself_consistently, shared_data};
use crate::{Judged, summarise};
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Graded {
    question_id: u64,
    model: String,
    judge: [String; 2],
    user_prompt: String,
    judgment: String,
    score: f64,
    turn: usize,
}

#[derive(Deserialize)]
struct Answered {
    question_id: u64,
    choices: Vec<Turns>,
}

#[test]
fn a_score_is_read_as_fastchat_reads_it() {
    for (text, expected) in [
        ("Rating: [[7]]", Some(7.0)),
        ("[3] is too low: [[6.5]], not [[9]]", Some(6.5)),
        ("Rating: [8.]", Some(8.0)),
        ("[[a]] [[ 5 ]] 5", None),
        ("Rating: [[0]]", None),
        ("Rating: [[10]]", Some(10.0)),
        ("Rating: [[100]]", None),
        ("", None),
    ] {
        assert_eq!(score_of(text), expected, "{text}");
    }
}

#[test]
fn published_scores_and_prompts_are_made_again() {
    let Some(data) = shared_data("mt-bench") else { return };
    let benchmark = open(&data, Settings::new()).unwrap();
    describes_itself_consistently(&KNOWN, &*benchmark);
    let items: HashMap<&str, &Item> = benchmark.items().iter().map(|item| (item.id.as_str(), item)).collect();
    assert_eq!(items.len(), 160);
    let graded: Vec<Graded> = jsonl(&data.join("model_judgment/gpt-4_single.jsonl")).unwrap();
    assert_eq!(graded.len(), 800);
    let mut answers: HashMap<(String, u64), [String; 2]> = HashMap::new();
    for model in ["mistral-orpo", "mistral-orpo-capybara", "mistral-orpo-mix", "mistral-orpo-trl"] {
        for Answered { question_id, choices } in
            jsonl(&data.join(format!("model_answer/{model}.jsonl"))).unwrap()
        {
            answers.insert((model.to_owned(), question_id), choices.into_iter().next().unwrap().turns);
        }
    }
    let (mut same, mut scores) = (0, HashMap::<(&str, usize), Vec<f64>>::new());
    for row in &graded {
        assert_eq!(score_of(&row.judgment).unwrap_or(-1.0), row.score, "{} {}", row.model, row.question_id);
        let [first, second] = &answers[&(row.model.clone(), row.question_id)];
        let answer = |text: &String| Answer::written(text.clone(), false);
        let (first, second) = (answer(first), answer(second));
        let (one, two) =
            (items[first_id(row.question_id).as_str()], items[format!("{}/2", row.question_id).as_str()]);
        let question = match row.turn {
            1 => benchmark.questions(&[], one, &first),
            _ => benchmark.questions(&[(one, &first)], two, &second),
        };
        let question = question.into_iter().next().unwrap();
        // One model was run twice; the answers of its first run are not published.
        if question.messages[1].content == row.user_prompt {
            same += 1;
            assert!(row.judge[1].ends_with("multi-turn") == (row.turn == 2), "{:?}", row.judge);
            let item = if row.turn == 1 { one } else { two };
            let answer = Answer { judge: Some(Reply::Said(row.judgment.clone())), ..first };
            if let Outcome::Number(score) = benchmark.judge(item, &answer).outcomes["score"] {
                scores.entry((&row.model, row.turn)).or_default().push(score);
            }
        }
    }
    assert_eq!(same, 640);
    let mean = |parts: &[(&str, usize)]| {
        let all: Vec<f64> = parts.iter().flat_map(|part| scores[part].clone()).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    for (model, expected) in [
        ("mistral-orpo-capybara", [7.1250, 6.5125, 6.8187]),
        ("mistral-orpo-trl", [7.7313, 6.6000, 7.1656]),
        ("mistral-orpo-mix", [6.4313, 5.5750, 6.0031]),
    ] {
        let found = [mean(&[(model, 1)]), mean(&[(model, 2)]), mean(&[(model, 1), (model, 2)])];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 6e-5, "{model}: {found}, not {expected}");
        }
    }
    let of = |model: &str, turn: usize| {
        let rows = graded.iter().filter(|row| row.model == model && row.turn == turn && row.score > 0.0);
        rows.map(|row| row.score).collect::<Vec<_>>()
    };
    let [one, two] = [of("mistral-orpo", 1), of("mistral-orpo", 2)];
    assert_eq!((one.len(), two.len()), (160, 159));
    let all = one.iter().chain(&two).sum::<f64>() / 319.0;
    assert!((all - 5.8589).abs() < 6e-5, "{all}");
}

#[test]
fn files_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("mt_bench/reference_answer")).unwrap();
    let template = |name: &str| {
        serde_json::json!({"name": name, "system_prompt": "Judge.", "prompt_template": "{question} {answer} {ref_answer_1}"}).to_string()
    };
    let names = ["single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn"];
    let templates = names.map(template).join("\n");
    let question = r#"{"question_id": 1, "category": "math", "turns": ["2+2?", "And 3+3?"]}"#;
    let reference = r#"{"question_id": 1, "choices": [{"turns": ["4", "6"]}]}"#;
    let error = |templates: &str, questions: &str, references: &str, keys: serde_json::Value| {
        std::fs::write(path("judge_prompts.jsonl"), templates).unwrap();
        std::fs::write(path("mt_bench/question.jsonl"), questions).unwrap();
        std::fs::write(path("mt_bench/reference_answer/gpt-4.jsonl"), references).unwrap();
        open(folder.path(), keys.as_object().unwrap().clone()).err().map(|error| error.to_string())
    };
    let none = || serde_json::json!({});
    assert_eq!(error(&templates, question, reference, none()), None);
    for (templates, questions, references, keys, part) in [
        (template("single-v1").as_str(), question, reference, none(), "no template `single-math-v1`"),
        (&templates, question, "", none(), "question 1 (math) needs a reference"),
        (&templates, &question.replace("math", "maths"), reference, none(), "no category `maths`"),
        (&templates, &format!("{question}\n{question}"), reference, none(), "\"1/1\" appears more than once"),
        (&templates, "{", reference, none(), "question.jsonl, line 1"),
        (&templates, "\n", reference, none(), "no questions"),
        (&templates, question, reference, serde_json::json!({"references": "../gpt-4"}), "references"),
        (&templates, question, reference, serde_json::json!({"references": "gpt-5"}), "gpt-5.jsonl"),
    ] {
        let error = error(templates, questions, references, keys).unwrap();
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// FastChat's folder with these questions (number, category, turns, reference).
fn folder(templates: &[Value], questions: &[(u64, &str, [&str; 2], Option<[&str; 2]>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("mt_bench/reference_answer")).unwrap();
    let lines = |rows: Vec<Value>| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    std::fs::write(path("judge_prompts.jsonl"), lines(templates.to_vec())).unwrap();
    let rows = questions
        .iter()
        .map(|(id, category, turns, _)| json!({"question_id": id, "category": category, "turns": turns}));
    std::fs::write(path("mt_bench/question.jsonl"), lines(rows.collect())).unwrap();
    let rows = questions.iter().filter_map(|(id, .., reference)| {
        Some(json!({"question_id": id, "choices": [{"turns": reference.as_ref()?}]}))
    });
    std::fs::write(path("mt_bench/reference_answer/gpt-4.jsonl"), lines(rows.collect())).unwrap();
    folder
}

/// What FastChat's own code asks and finds; `goldens/make_mt_bench_pair_golden.py` made it.
#[test]
fn pairs_are_compared_as_fastchat_compares_them() {
    #[derive(Deserialize)]
    struct Golden {
        templates: Vec<Value>,
        questions: Vec<Row>,
        own: Vec<[String; 2]>,
        baseline: Vec<[String; 2]>,
        rows: Vec<Value>,
        figures: HashMap<String, f64>,
    }
    #[derive(Deserialize)]
    struct Row {
        question_id: u64,
        category: String,
        turns: [String; 2],
        reference: Option<[String; 2]>,
    }
    fn texts(pair: &[String; 2]) -> [&str; 2] {
        pair.each_ref().map(String::as_str)
    }
    let golden: Golden = serde_json::from_str(include_str!("../../../goldens/mt_bench_pair.json")).unwrap();
    let questions: Vec<_> = golden
        .questions
        .iter()
        .map(|row| (row.question_id, &*row.category, texts(&row.turns), row.reference.as_ref().map(texts)))
        .collect();
    let folder = folder(&golden.templates, &questions);
    let baseline = folder.path().join("baseline.jsonl");
    let rows = golden.questions.iter().zip(&golden.baseline);
    let rows = rows.map(|(row, turns)| {
        json!({"question_id": row.question_id, "model_id": "other", "choices": [{"turns": turns}]})
            .to_string()
    });
    std::fs::write(&baseline, rows.collect::<Vec<_>>().join("\n")).unwrap();
    let keys = json!({"against": baseline}).as_object().unwrap().clone();
    let benchmark = open(folder.path(), keys).unwrap();
    describes_itself_consistently(&Known { groups: &pair::GROUPS, ..KNOWN }, &*benchmark);
    assert!(benchmark.method().judged.contains("with that of other in both orders"));
    let mut judged = Vec::new();
    for (place, row) in golden.rows.iter().enumerate() {
        let question = place % golden.own.len();
        let [one, two] = golden.own[question].each_ref().map(|text| Answer::written(text.clone(), false));
        let [first, second] = &benchmark.items()[2 * question..2 * question + 2] else { panic!("two turns") };
        let asked = match row["turn"].as_u64() {
            Some(1) => benchmark.questions(&[], first, &one),
            _ => benchmark.questions(&[(first, &one)], second, &two),
        };
        assert_eq!(asked.len(), 2);
        for (game, question) in asked.iter().enumerate() {
            let prompt = [&row["g1_user_prompt"], &row["g2_user_prompt"]][game];
            let expected = [json!(row["system"][game]), prompt.clone()];
            let found = [0, 1].map(|place| json!(question.messages[place].content));
            assert_eq!(found, expected);
            assert_eq!(json!(question.max_new_tokens), row["max_tokens"]);
        }
        let replies =
            ["g1_judgment", "g2_judgment"].map(|key| Reply::Said(row[key].as_str().unwrap().into()));
        let (item, answer) = if row["turn"] == 1 { (first, one) } else { (second, two) };
        let answer = Answer { judge: Some(Reply::Several(replies.into())), ..answer };
        judged.push(Judged::new(&*benchmark, item, answer));
    }
    let summary = summarise(&*benchmark, judged).unwrap();
    let value = |key: &str| summary.figure(key).unwrap().value();
    assert!((value("adjusted_win_rate") - golden.figures["win_rate_adjusted"]).abs() < 1e-12);
    assert!((value("win") - golden.figures["win_rate"]).abs() < 1e-12);
    assert!((value("loss") - golden.figures["loss_rate"]).abs() < 1e-12);
    assert_eq!(summary.rate("tie").unwrap().count as f64, golden.figures["tie"]);
    assert_eq!(summary.rate("unjudged").map(|rate| (rate.count, rate.total)), Some((1, 8)));
    assert_eq!(summary.rate("order_decided").map(|rate| (rate.count, rate.total)), Some((2, 7)));
}

#[test]
fn a_baseline_that_does_not_fit_is_named() {
    let names = pair::TEMPLATES.iter().chain(&TEMPLATES);
    let templates = names.map(|name| json!({"name": name, "system_prompt": "", "prompt_template": ""}));
    let templates: Vec<Value> = templates.collect();
    let folder = folder(&templates, &[(1, "stem", ["a", "b"], None), (2, "stem", ["c", "d"], None)]);
    let row = |id: u64| json!({"question_id": id, "choices": [{"turns": ["x", "y"]}]}).to_string();
    let error = |text: String| {
        let file = folder.path().join("baseline.jsonl");
        std::fs::write(&file, text).unwrap();
        let keys = json!({"against": file}).as_object().unwrap().clone();
        open(folder.path(), keys).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(error([row(1), row(2), row(3)].join("\n")), "");
    for (text, part) in [
        (row(1), "question 2 has no answer\nhint: "),
        ([row(1), row(1)].join("\n"), "question 1 is answered twice\nhint: "),
        (row(1).replace("\"y\"", "\"y\", \"z\""), "baseline.jsonl, line 1: trailing characters"),
        (r#"{"question_id": 1, "choices": []}"#.to_owned(), "question 1 has no choices"),
    ] {
        let error = error(text);
        assert!(error.contains(part), "{part}: {error}");
    }
    let keys = json!({"against": folder.path().join("gone.jsonl")}).as_object().unwrap().clone();
    assert!(open(folder.path(), keys).err().unwrap().to_string().contains("gone.jsonl"));
    let keys = json!({"references": "other", "corrected_references": true}).as_object().unwrap().clone();
    assert!(open(folder.path(), keys).err().unwrap().to_string().contains("hint: leave it out"));
}

/// Question 114 has a wrong reference, so `score_sound` says nothing of it: it is judged all the same.
#[test]
fn two_judges_are_compared_on_every_turn_that_both_grade() {
    let templates =
        TEMPLATES.map(|name| json!({"name": name, "system_prompt": "", "prompt_template": "{answer}"}));
    let questions =
        [(114, "math", ["a", "b"], Some(["x", "y"])), (115, "math", ["c", "d"], Some(["x", "y"]))];
    let folder = folder(&templates, &questions);
    let benchmark = open(folder.path(), Settings::new()).unwrap();
    let judged = |scores: [&str; 4]| {
        let judged = benchmark.items().iter().zip(scores).map(|(item, score)| {
            let judge = Some(Reply::Said(format!("[[{score}]]")));
            Judged::new(&*benchmark, item, Answer { judge, ..Answer::written("So.".to_owned(), false) })
        });
        summarise(&*benchmark, judged.collect::<Vec<_>>()).unwrap()
    };
    let agreement = |a, b| crate::judge::both::agreement(&judged(a), &judged(b));
    let always = agreement(["5"; 4], ["5"; 4]);
    assert_eq!((always.asked, always.same.count, always.same.total, always.kappa), (4, 4, 4, None));
    let some = agreement(["5", "5", "7", "?"], ["5", "6", "7", "5"]);
    assert_eq!((some.asked, some.same.count, some.same.total), (4, 2, 3));
}

/// Question 114 has a wrong reference: it is not among the sound ones, and is asked about twice.
#[test]
fn wrong_references_are_flagged_and_corrected_beside_the_published_ones() {
    let templates = TEMPLATES.map(|name| {
        json!({"name": name, "system_prompt": "", "prompt_template": "{ref_answer_1} {ref_answer_2} {answer}{answer_2}"})
    });
    let questions =
        [(114, "math", ["a", "b"], Some(["17/18", "94 %"])), (115, "math", ["c", "d"], Some(["38", "100"]))];
    let folder = folder(&templates, &questions);
    let opened = |keys: Value| open(folder.path(), keys.as_object().unwrap().clone()).unwrap();
    let benchmark = opened(json!({"corrected_references": true}));
    describes_itself_consistently(&KNOWN, &*benchmark);
    let [wrong, wrong_2, right, right_2] = benchmark.items() else { panic!("four turns") };
    let answer = Answer::written("35/36".to_owned(), false);
    let asked = benchmark.questions(&[], wrong, &answer);
    let texts: Vec<&str> = asked.iter().map(|question| question.messages[1].content.as_str()).collect();
    assert!(texts[0].starts_with("17/18 ") && texts[1].starts_with("35/36. Of the 36"), "{texts:?}");
    let asked = benchmark.questions(&[(wrong, &answer)], wrong_2, &answer);
    assert!(asked[1].messages[1].content.contains("2 is even. {answer}35/36"), "{asked:?}");
    assert_eq!(benchmark.questions(&[], right, &answer).len(), 1);
    let said = |score: usize| Reply::Said(format!("[[{score}]]"));
    let judged = |item: &Item, judge: Reply| {
        Judged::new(&*benchmark, item, Answer { judge: Some(judge), ..answer.clone() })
    };
    let all = [
        judged(wrong, Reply::Several(vec![said(2), said(10)])),
        judged(wrong_2, Reply::Several(vec![said(4), Reply::Failed("gone".to_owned())])),
        judged(right, said(6)),
        judged(right_2, said(8)),
    ];
    let summary = summarise(&*benchmark, all).unwrap();
    let value = |key: &str| summary.figure(key).map(|figure| (figure.value(), figure.total()));
    assert_eq!(value("score"), Some((5.0, 4)));
    assert_eq!(value("score_sound"), Some((7.0, 2)));
    assert_eq!(value("score_corrected"), Some((8.0, 3)));
    let plain = opened(json!({}));
    assert_eq!(plain.questions(&[], wrong, &answer).len(), 1);
    assert_eq!(plain.measures().last().unwrap().key, "score_sound");
    assert!(plain.method().judged.contains("13 of 30 are known to be wrong"), "{}", plain.method().judged);
}
