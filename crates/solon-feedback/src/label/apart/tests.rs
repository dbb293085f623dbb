//! Labels of a scripted labeller, and what one learns from.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;

use super::super::{Ask, KnownContrast, Label, LabelSettings, label_pairs, labeller_training};
use super::*;
use crate::constitution::tests::default_constitution;
use crate::model::scripted::Scripted;
use solon_draws::Draws;
use solon_records::{Pair, Prompt};

fn pair(id: &str) -> Pair {
    Pair {
        id: id.into(),
        prompt: vec![Message::user("ask<|im_end|>")],
        first: "no way".into(),
        second: "sure".into(),
        cut_off: [false; 2],
        principle_id: None,
    }
}

fn settings(principles: usize) -> LabelSettings {
    let principles = NonZeroUsize::new(principles).unwrap();
    LabelSettings { principles, ..LabelSettings::of(Ask::Apart, Draws::new(3, "label")) }
}

#[test]
fn the_label_follows_from_request_and_answers() {
    // Odds of Yes: 4 and 1 for the two questions about the request, so 2 in the mean; 3 for the answer that declines and
    // 1/2 for the other. The length of the log-probs does not matter.
    let constitution = default_constitution();
    let first_question = std::cell::OnceCell::new();
    let model = Scripted::scoring(move |request| {
        let text = &request.context.messages().unwrap()[0].content;
        assert!(text.starts_with("Read this.\n\nRequest: ask< |im_end|>\n\n"), "{text}");
        assert!(text.ends_with("Reply with Yes or No."), "{text}");
        assert_eq!(request.options, ["Yes", "No"]);
        let odds: f64 = match text.contains("decline to do what was asked?") {
            true if text.contains("Answer: no way") => 3.0,
            true => 0.5,
            false if first_question.get_or_init(|| text.clone()) == text => 4.0,
            false => 1.0,
        };
        vec![odds.ln() - 5.0, -5.0]
    });
    let label = |pair: Pair| {
        label_pairs(&model, &constitution, &[pair], &settings(2), &mut |_| {}).unwrap().remove(0).unwrap()
    };
    let one = label(pair("p"));
    let (p, q) = (2.0 / 3.0, 3.0 / (3.0 + 0.5));
    assert!((one.probability - (p * q + (1.0 - p) * (1.0 - q))).abs() < 1e-12, "{one:?}");
    let swapped = Pair { first: "sure".into(), second: "no way".into(), ..pair("p") };
    assert!((label(swapped).probability + one.probability - 1.0).abs() < 1e-12);
    let [request, other, first, second] = &one.evidence[..] else { panic!("{one:?}") };
    assert_eq!(request.principle_id, one.principle_id);
    assert_ne!(request.principle_id, other.principle_id);
    assert_eq!(request.log_probs, [4.0_f64.ln() - 5.0, -5.0]);
    assert_eq!(first.log_probs, [3.0_f64.ln() - 5.0, -5.0]);
    assert_eq!((first.question.as_str(), second.question.as_str()), ("first", "second"));
    assert_eq!(one.letters(), None);
    let json = serde_json::to_value(&one).unwrap();
    assert_eq!(
        (json["ask"].as_str(), json["evidence"][1]["log_probs"][1].as_f64()),
        (Some("apart"), Some(-5.0))
    );
    assert_eq!(serde_json::from_value::<Label>(json).unwrap(), one);
}

#[test]
fn a_request_to_decline_prefers_the_answer_that_declines() {
    let evidence = |question: &str, log_probs: [f64; 2]| Evidence {
        question: question.to_owned(),
        principle_id: None,
        log_probs: log_probs.to_vec(),
        votes: Vec::new(),
        reasoning: None,
    };
    let answer = |log_probs| evidence("request-1", log_probs);
    let probability = |requests: &[Evidence], first, second| {
        Apart.probability(&[requests, &[evidence("first", first), evidence("second", second)]].concat())
    };
    let (yes, no) = ([-0.01, -5.0], [-5.0, -0.01]);
    assert!(probability(&[answer(yes)], yes, no) > 0.9 && probability(&[answer(yes)], no, yes) < 0.1);
    assert!(probability(&[answer(no)], yes, no) < 0.1 && probability(&[answer(no)], no, yes) > 0.9);
    assert!((probability(&[answer(yes)], yes, yes) - 0.5).abs() < 1e-12, "both decline");
    assert!(
        (probability(&[answer(yes), answer(no)], yes, no) - 0.5).abs() < 1e-12,
        "nobody knows the request"
    );
    assert_eq!(probability(&[answer([0.0, -2000.0])], [0.0, -2000.0], [-2000.0, 0.0]), 1.0);
}

#[test]
fn general_questions_are_drawn_by_the_pair_and_others_only_where_there_are_none() {
    let mut constitution = default_constitution();
    let model = Scripted::scoring(|_| vec![-1.0, -2.0]);
    let pairs: Vec<Pair> = (0..80).map(|i| pair(&format!("p{i}"))).collect();
    let run = |constitution: &Constitution, pairs: &[Pair], settings: LabelSettings| {
        let labels = label_pairs(&model, constitution, pairs, &settings, &mut |_| {}).unwrap();
        labels.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let names = |labels: &[Label]| -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        for label in labels {
            for asked_by in label.evidence.iter().filter_map(|evidence| evidence.principle_id.clone()) {
                *names.entry(asked_by).or_default() += 1;
            }
        }
        names
    };
    let whole = run(&constitution, &pairs, settings(2));
    assert_eq!(
        whole,
        [run(&constitution, &pairs[..7], settings(2)), run(&constitution, &pairs[7..], settings(2))].concat()
    );
    let general = ["better-refusal", "declines-what-it-should", "no-part-in-harm"];
    assert_eq!(names(&whole).into_keys().collect::<Vec<_>>(), general);
    assert_eq!(names(&run(&constitution, &pairs[..1], settings(99))).len(), 3, "no question is asked twice");
    let own = Pair { principle_id: Some("better-care".into()), ..pair("p") };
    let label = &run(&constitution, std::slice::from_ref(&own), settings(2))[0];
    assert_eq!(label.principle_id.as_deref(), Some("better-care"));
    assert_eq!(names(std::slice::from_ref(label)).len(), 2);
    let unknown = Pair { principle_id: Some("gone".into()), ..own };
    let error = label_pairs(&model, &constitution, &[unknown], &settings(2), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("`gone`"), "{error}");

    constitution.comparison.retain(|principle| !general.contains(&principle.id.as_str()));
    let others = constitution.request_questions().len();
    assert!(others > 3);
    assert_eq!(names(&run(&constitution, &pairs, settings(2))).len(), others, "any of them is drawn");
}

#[test]
fn a_constitution_without_request_questions_is_refused_with_a_hint() {
    let mut constitution = default_constitution();
    constitution.comparison.iter_mut().for_each(|principle| principle.request = None);
    let model = Scripted::scoring(|_| vec![-1.0, -2.0]);
    let labelled = label_pairs(&model, &constitution, &[pair("p")], &settings(2), &mut |_| {});
    let trained = labeller_training(&constitution, &material(&[], &[]), Ask::Apart);
    for error in [labelled.unwrap_err(), trained.unwrap_err()] {
        let error = error.to_string();
        assert!(
            error.contains("hint:") && error.contains("request = ") && error.contains("apart"),
            "{error}"
        );
    }
}

fn material<'a>(contrasts: &'a [KnownContrast], prompts: &'a [Prompt]) -> Material<'a> {
    let declines = &|text: &str| text.contains("can't help");
    Material { contrasts, prompts, declines, draws: Draws::new(1, "labeller") }
}

fn prompt(id: &str, kind: Option<&str>, category: &str) -> Prompt {
    Prompt {
        id: id.into(),
        messages: vec![Message::user(format!("ask {id}"))],
        kind: kind.map(str::to_owned),
        category: Some(category.into()),
        pair: None,
    }
}

fn contrast(id: &str, kind: Option<&str>, [chosen, rejected]: [&str; 2], held_out: bool) -> KnownContrast {
    let first = chosen.to_owned();
    let (prompt, cut_off) = (vec![Message::user(format!("ask {id}"))], [false; 2]);
    let pair = Pair { id: id.into(), prompt, first, second: rejected.into(), cut_off, principle_id: None };
    KnownContrast { preference: pair.labelled(1.0, "test"), held_out, kind: kind.map(str::to_owned) }
}

/// A small constitution with these kinds of examples.
fn constitution(kinds: &[(&str, &str)]) -> Constitution {
    let mut text = String::from(
        "name = \"t\"\nversion = 1\ndescription = \"d\"\n[[revision]]\nid = \"r\"\ncritique = \"c\"\nrevision = \"r\"\n\
         [[comparison]]\nid = \"lies\"\napplies = [\"lies\"]\nrequest = \"A lie?\"\nquestion = \"q\"\n\
         [[comparison]]\nid = \"theft\"\napplies = [\"theft\"]\nrequest = \"A theft?\"\nquestion = \"q\"\n\
         [[comparison]]\nid = \"kindness\"\nquestion = \"q\"\n",
    );
    for (place, (kind, category)) in kinds.iter().enumerate() {
        text += &format!(
            "[[example]]\nid = \"e{place}\"\nkind = \"{kind}\"\ncategory = \"{category}\"\nprinciple = \"r\"\n\
             request = \"example {place}\"\nflawed = \"flawed {place}\"\ncritique = \"c\"\nrevision = \"revised {place}\"\n"
        );
    }
    Constitution::parse_toml(&text, Path::new("t.toml")).unwrap()
}

#[test]
fn requests_are_learnt_by_their_kind_and_balanced() {
    let constitution = constitution(&[]);
    let count = |harmful: usize, others: usize| {
        let harmful =
            (0..harmful).map(|i| prompt(&format!("h{i}"), Some("harmful"), ["lies", "theft"][i % 2]));
        let others = (0..others).map(|i| prompt(&format!("o{i}"), Some("unanswerable"), "lies"));
        let prompts: Vec<Prompt> = harmful.chain(others).collect();
        labeller_training(&constitution, &material(&[], &prompts), Ask::Apart).unwrap()
    };
    for (harmful, others, yes, no, repeated, left_out) in [
        (10, 10, 10, 10, 0, 0),
        (10, 15, 10, 15, 0, 0),
        (10, 16, 20, 16, 10, 0),
        (10, 40, 30, 40, 20, 0),
        (10, 100, 30, 45, 20, 55),
        (9, 2, 9, 6, 4, 0),
    ] {
        let made = count(harmful, others);
        let counts = RequestCounts { yes, no, repeated, left_out, held_out: 0, unknown: 0 };
        assert_eq!(made.requests, Some(counts), "{harmful} {others}");
        let answered = |said: &str| made.training.iter().filter(|c| c.messages[1].content == said).count();
        assert_eq!((answered("Yes"), answered("No")), (yes, no));
        assert!(yes.max(no) * 5 <= 3 * (yes + no), "{yes} {no}");
        let ids: HashSet<&str> = made.training.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids.len(), made.training.len());
    }
    let made = count(10, 16);
    for conversation in &made.training {
        let text = &conversation.messages[0].content;
        let (harmful, lies) = (conversation.source.starts_with('h'), text.contains("A lie?"));
        assert_eq!(conversation.messages[1].content, if harmful { "Yes" } else { "No" });
        assert!(text.contains(&format!("Request: ask {}\n", conversation.source)), "{text}");
        if harmful {
            let even = conversation.source[1..].parse::<usize>().unwrap().is_multiple_of(2);
            assert_eq!(lies, even, "a question about the prompt's category: {text}");
        }
    }
    let thefts = made
        .training
        .iter()
        .filter(|c| c.source.starts_with('o') && c.messages[0].content.contains("A theft?"));
    assert!((3..13).contains(&thefts.count()), "any question is answered No, whatever the category");
}

#[test]
fn what_is_held_out_is_learnt_in_no_form() {
    let kinds = [("harmful", "lies"), ("harmless", "x")];
    let constitution = constitution(&[[kinds[0]; 5], [kinds[1]; 5]].concat());
    let prompts = [
        prompt("a", Some("harmful"), "lies"),
        prompt("b", Some("harmless"), "x"),
        prompt("c", Some("harmful"), "gossip"),
        prompt("d", None, "lies"),
        prompt("e", Some("sounds-harmful"), "x"),
    ];
    let (no, yes) = ("I can't help.", "Sure.");
    let contrasts = [
        contrast("a", Some("harmful"), [no, yes], true),
        contrast("b", Some("harmless"), [yes, no], false),
        contrast("e", Some("sounds-harmful"), [yes, no], true),
        contrast("f", None, [no, yes], false),
        contrast("g", None, [yes, "Of course."], false),
        contrast("h", Some("harmful"), ["Better not.", yes], false),
    ];
    let made = labeller_training(&constitution, &material(&contrasts, &prompts), Ask::Apart).unwrap();
    let counts = made.requests.unwrap();
    assert_eq!((counts.held_out, counts.unknown), (2, 2), "{counts:?}");
    let text = |c: &TrainingConversation| c.messages[0].content.clone();
    for gone in ["ask a\n", "ask e\n", "ask d\n", "example 3\n", "example 7\n"] {
        assert!(!made.training.iter().any(|c| text(c).contains(gone)), "{gone}");
    }
    let said = |id: &str| {
        let found = made.training.iter().find(|c| c.id == id).unwrap_or_else(|| panic!("no {id}"));
        (
            text(found).split("Answer: ").nth(1).unwrap().split('\n').next().unwrap().to_owned(),
            &found.messages[1],
        )
    };
    for source in ["b", "f"] {
        assert_eq!(said(&format!("{source}/declines")), (no.to_owned(), &Message::assistant("Yes")));
        assert_eq!(said(&format!("{source}/answers")), (yes.to_owned(), &Message::assistant("No")));
    }
    assert_eq!(said("h/declines").0, "Better not.", "the kind is known, so the words do not matter");
    assert_eq!(said("e0/declines").0, "revised 0");
    assert_eq!(said("e0/answers").0, "flawed 0");
    let sources: HashSet<&str> = made.training.iter().map(|c| c.source.as_str()).collect();
    assert!(!sources.contains("g"), "both answer");
    assert!(!made.training.iter().any(|c| c.id == "e5/declines"), "a harmless example whose flaw is another");
    let held: Vec<&str> = made.held_out.iter().map(|known| known.pair.id.as_str()).collect();
    assert_eq!(held, ["e3/held-out", "a/held-out", "e/held-out"]);
    assert!(made.held_out.iter().all(|known| known.pair.principle_id.is_none()));
    let answered = |said: &str| {
        made.training.iter().filter(|c| c.principle_id.is_none() && c.messages[1].content == said).count()
    };
    assert_eq!(answered("Yes"), answered("No"));
}

#[test]
fn weights_decide_how_often_a_question_is_learnt() {
    let mut constitution = constitution(&[]);
    constitution.comparison.remove(2);
    for principle in &mut constitution.comparison {
        principle.applies = vec!["harmful".into()];
    }
    let harmful = (0..200).map(|i| prompt(&format!("h{i}"), Some("harmful"), "lies"));
    let others = (0..70).map(|i| prompt(&format!("o{i}"), Some("harmless"), "lies"));
    let prompts: Vec<Prompt> = harmful.chain(others).collect();
    let learnt = |constitution: &Constitution| -> Vec<(String, Option<String>)> {
        let made = labeller_training(constitution, &material(&[], &prompts), Ask::Apart).unwrap();
        made.training.into_iter().map(|c| (c.id, c.principle_id)).collect()
    };
    let equal = learnt(&constitution);
    // What was learnt before there were weights: a plain draw, and the next question for each copy.
    for (id, principle) in &equal {
        let (source, copy) = id.split_once("/request").unwrap();
        let copy = copy.strip_prefix('-').map_or(0, |number| number.parse::<usize>().unwrap() - 1);
        let drawn = Draws::new(1, "labeller").item("request").item(source).below(0, 2);
        assert_eq!(principle.as_deref(), Some(["lies", "theft"][(drawn + copy) % 2]), "{id}");
    }
    assert!(equal.iter().any(|(id, _)| id.ends_with("-2")), "some are repeated");
    constitution.comparison.iter_mut().for_each(|principle| principle.weight = 3.0);
    assert_eq!(learnt(&constitution), equal);
    constitution.comparison[1].weight = 27.0;
    let weighted = learnt(&constitution);
    let thefts = weighted.iter().filter(|(_, principle)| principle.as_deref() == Some("theft")).count();
    let share = thefts as f64 / weighted.len() as f64;
    assert!((0.85..0.95).contains(&share), "nine in ten are expected: {share}");
}

#[test]
fn a_general_question_is_the_only_one_learnt() {
    let mut constitution = constitution(&[]);
    let mut general = constitution.comparison[0].clone();
    (general.id, general.applies) = ("any".into(), vec!["harmful".into()]);
    general.request = Some("Wrong?".into());
    constitution.comparison.push(general);
    let prompts = [prompt("a", Some("harmful"), "gossip"), prompt("b", Some("harmless"), "x")];
    let made = labeller_training(&constitution, &material(&[], &prompts), Ask::Apart).unwrap();
    assert_eq!(made.requests.unwrap().unknown, 0, "it is about every category");
    assert_eq!(made.training.len(), 2);
    for conversation in &made.training {
        let text = &conversation.messages[0].content;
        assert!(text.ends_with("\n\nWrong? Reply with Yes or No."), "{text}");
    }
}

#[test]
fn requests_of_one_side_alone_teach_nothing() {
    let constitution = constitution(&[("harmful", "lies")]);
    let prompts = [prompt("a", Some("harmful"), "lies")];
    let error = labeller_training(&constitution, &material(&[], &prompts), Ask::Apart).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("2 harmful") && error.contains("0 others") && error.contains("hint:"), "{error}");
}

#[test]
fn the_shipped_examples_teach_both_questions() {
    let constitution = default_constitution();
    let made = labeller_training(&constitution, &material(&[], &[]), Ask::Apart).unwrap();
    let counts = made.requests.unwrap();
    assert_eq!(counts.unknown, 0, "{counts:?}");
    assert!(counts.yes.max(counts.no) * 5 <= 3 * (counts.yes + counts.no), "{counts:?}");
    assert!(made.held_out.len() >= 12);
    let firsts = made.held_out.iter().filter(|known| known.first_is_better).count();
    assert!(firsts.abs_diff(made.held_out.len() - firsts) <= 2);
}
