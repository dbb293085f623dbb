//! Rounds against a scripted critic.

use std::collections::BTreeMap;

use super::*;
use crate::constitution::tests::default_constitution;
use crate::model::scripted::{Scripted, finished, sampling};
use crate::paper::Form;
use solon_records::Message;

/// Texts that say "la la la la" are degenerate; revisions are not checked.
const FAULT: Checks<'static> = Checks {
    fault: &|text| if text.contains("la la la la") { Some(String::from("repeats `la`")) } else { None },
    declines: None,
};

fn settings(seed: u64) -> ReviseSettings {
    ReviseSettings {
        draws: Draws::new(seed, "revise"),
        critique: Some(sampling()),
        revision: sampling(),
        form: Form::Chat,
        few_shots: false,
    }
}

fn items(ids: &[&str]) -> Vec<ReviseItem> {
    ids.iter()
        .map(|id| {
            ReviseItem::new(*id, format!("p-{id}"), vec![Message::user(format!("ask {id}"))], "bad answer")
        })
        .collect()
}

/// One whole round.
fn step(model: &Scripted, items: &mut [ReviseItem], round: u32) -> (RoundCounts, Vec<RevisionRecord>) {
    let constitution = default_constitution();
    let settings = settings(5);
    let critiques =
        critique_round(model, &constitution, items, round, &settings, FAULT, &mut |_| {}).unwrap();
    let revisions =
        revision_round(model, &constitution, items, &critiques, round, &settings, FAULT, &mut |_| {})
            .unwrap();
    (apply_round(items, round, &critiques, &revisions).unwrap(), revisions)
}

#[test]
fn a_failed_item_keeps_its_last_good_revision_or_is_dropped() {
    let model = Scripted::answering(|request| match request.id.as_str() {
        "lost/round-1/critique" => finished("  "),
        "kept/round-2/revision" => finished("la la la la la"),
        id if id.ends_with("critique") => finished("It is unkind."),
        id => finished(&format!("A kinder answer, {}", &id[..12])),
    });
    let mut items = items(&["good", "lost", "kept"]);
    let (first, _) = step(&model, &mut items, 1);
    assert_eq!((first.entered, first.revised, first.lost, first.kept_earlier), (3, 2, 1, 0));
    assert_eq!(first.reasons, BTreeMap::from([("critique/empty".to_string(), 1)]));
    let (second, records) = step(&model, &mut items, 2);
    assert_eq!((second.entered, second.revised, second.lost, second.kept_earlier), (2, 1, 0, 1));
    assert_eq!(second.reasons, BTreeMap::from([("revision/degenerate".to_string(), 1)]));
    assert_eq!(records[0].id, "good/round-2/revision");
    assert_eq!(items[0].outcome(), Outcome::Revised("A kinder answer, good/round-2"[..29].trim()));
    assert!(matches!(items[1].outcome(), Outcome::Dropped(d) if d.key() == "critique/empty"));
    assert_eq!(items[2].outcome(), Outcome::Revised("A kinder answer, kept/round-1"[..29].trim()));
    assert_eq!((items[0].rounds, items[2].rounds), (2, 1));
    // A third round continues with the one item that is still active.
    assert_eq!(step(&model, &mut items, 3).0.entered, 1);
}

#[test]
fn every_reason_is_found() {
    let constitution = default_constitution();
    let long = "It tells the person to mix things that give off a deadly gas indoors.";
    for (critique, revision, key) in [
        ("bad", "", "revision/empty"),
        (long, long, "revision/copies_critique"),
        ("bad", "Write the revised answer. Hm.", "revision/repeats_instructions"),
        ("Write a critique. Say", "x", "critique/repeats_instructions"),
        ("CUT", "x", "critique/truncated"),
        ("bad", "CUT", "revision/truncated"),
        ("la la la la", "x", "critique/degenerate"),
    ] {
        let model = Scripted::answering(move |request| {
            let text = if request.id.ends_with("critique") { critique } else { revision };
            Generated { truncated: text == "CUT", ..finished(text) }
        });
        let mut one = items(&["a"]);
        assert_eq!(step(&model, &mut one, 1).0.reasons, BTreeMap::from([(key.to_string(), 1)]), "{key}");
    }
    let principle =
        revision_principle_for(&constitution, settings(5).draws, "a", 1, About::default()).unwrap().unwrap();
    let principle = principle.revision.clone();
    let model = Scripted::answering(move |_| finished(&principle));
    assert!(step(&model, &mut items(&["a"]), 1).0.reasons.contains_key("critique/repeats_instructions"));
}

#[test]
fn principles_depend_on_seed_item_and_round_but_not_on_the_batch() {
    let constitution = default_constitution();
    let model =
        Scripted::answering(|request| finished(&request.context.messages().unwrap()[0].content[..20]));
    let all = items(&["a", "b", "c", "d"]);
    let run = |items: &[ReviseItem], round, seed| {
        critique_round(&model, &constitution, items, round, &settings(seed), FAULT, &mut |_| {}).unwrap()
    };
    let whole = run(&all, 1, 5);
    let split = [run(&all[..1], 1, 5), run(&all[1..], 1, 5)].concat();
    assert_eq!(whole, split);
    let drawn = |round, seed| {
        (0..60)
            .map(|i| {
                revision_principle_for(
                    &constitution,
                    settings(seed).draws,
                    &format!("i{i}"),
                    round,
                    About::default(),
                )
                .unwrap()
                .unwrap()
                .id
                .clone()
            })
            .collect::<Vec<_>>()
    };
    assert_ne!(drawn(1, 5), drawn(2, 5));
    assert_ne!(drawn(1, 5), drawn(1, 6));
    let distinct: HashSet<_> = drawn(1, 5).into_iter().collect();
    assert!(distinct.len() > constitution.revision.len() / 2, "{distinct:?}");
}

#[test]
fn weights_decide_how_often_a_principle_is_drawn() {
    let mut constitution = default_constitution();
    let about = About::new(Some("harmful"), Some("fraud"));
    let drawn = |constitution: &Constitution| -> Vec<String> {
        let draws = settings(5).draws;
        let draw = |i| revision_principle_for(constitution, draws, &format!("i{i}"), 2, about);
        (0..400).map(|i| draw(i).unwrap().unwrap().id.clone()).collect()
    };
    // What was drawn before there were weights: a plain draw among those about the prompt.
    let fitting: Vec<_> = constitution.revision.iter().filter(|p| about.fits(&p.applies)).collect();
    let count = fitting.len();
    let plain: Vec<String> = (0..400)
        .map(|i| {
            let draws = settings(5).draws.item("principle").item(&format!("i{i}")).index(2);
            fitting[draws.below(0, count)].id.clone()
        })
        .collect();
    assert!(count > 1 && drawn(&constitution) == plain);
    constitution.revision.iter_mut().for_each(|principle| principle.weight = 0.1);
    assert_eq!(drawn(&constitution), plain);
    // Three in four of the draws among those about the prompt; what is not about it has no part in that.
    for principle in &mut constitution.revision {
        principle.weight = match (principle.id == plain[0], about.fits(&principle.applies)) {
            (true, _) => 3.0 * (count - 1) as f64,
            (false, true) => 1.0,
            (false, false) => 1e9,
        };
    }
    let times = drawn(&constitution).iter().filter(|id| **id == plain[0]).count();
    assert!((260..=340).contains(&times), "{times} of 400");
}

#[test]
fn a_later_round_works_on_the_revision() {
    let model = Scripted::answering(|request| {
        let shown =
            request.context.messages().unwrap()[0].content.split("Answer: ").nth(1).unwrap_or_default();
        finished(shown.split("\n\n").next().unwrap_or_default().strip_suffix('!').unwrap_or("bad answer!!"))
    });
    let mut one = items(&["a"]);
    one[0].revised = Some("second text!!".into());
    let constitution = default_constitution();
    let records = critique_round(&model, &constitution, &one, 2, &settings(1), FAULT, &mut |_| {}).unwrap();
    assert_eq!(records[0].critique, "second text!");
}

#[test]
fn without_critiques_a_revision_is_asked_for_directly() {
    let model = Scripted::answering(|request| {
        assert!(request.id.ends_with("revision"), "{request:?}");
        let text = &request.context.messages().unwrap()[0].content;
        assert!(text.starts_with("Read the request and the answer.\n\nRequest: ask a\n\nAnswer: "), "{text}");
        assert!(text.contains("\n\nWrite the revised answer. ") && !text.contains("critique"), "{text}");
        finished(if text.contains("bad answer") { "A better one." } else { "The best one." })
    });
    let (constitution, mut one) = (default_constitution(), items(&["a"]));
    let settings = ReviseSettings { critique: None, ..settings(5) };
    for round in 1..=2 {
        let critiques =
            critique_round(&model, &constitution, &one, round, &settings, FAULT, &mut |_| {}).unwrap();
        assert!(critiques[0].critique.is_empty() && !critiques[0].principle_id.is_empty());
        let revisions =
            revision_round(&model, &constitution, &one, &critiques, round, &settings, FAULT, &mut |_| {})
                .unwrap();
        assert_eq!(revisions[0].principle_id, critiques[0].principle_id);
        apply_round(&mut one, round, &critiques, &revisions).unwrap();
    }
    assert_eq!(one[0].outcome(), Outcome::Revised("The best one."));
}

#[test]
fn missing_records_and_shared_ids_are_errors() {
    let constitution = default_constitution();
    let model = Scripted::answering(|_| finished("fine words"));
    let mut twins = items(&["a", "a"]);
    let error =
        critique_round(&model, &constitution, &twins, 1, &settings(1), FAULT, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("`a` occurs twice"), "{error}");
    twins[1].id = "b".into();
    let critiques =
        critique_round(&model, &constitution, &twins[..1], 1, &settings(1), FAULT, &mut |_| {}).unwrap();
    let before = twins.clone();
    let error = apply_round(&mut twins, 1, &critiques, &[]).unwrap_err();
    assert!(error.to_string().contains("revision of round 1"), "{error}");
    assert_eq!(twins, before);
    let error =
        revision_round(&model, &constitution, &twins, &critiques, 1, &settings(1), FAULT, &mut |_| {})
            .unwrap_err();
    assert!(error.to_string().contains("critique of round 1 for `b`"), "{error}");
    let empty = Constitution { revision: Vec::new(), ..constitution };
    let error = critique_round(&model, &empty, &twins, 1, &settings(1), FAULT, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("[[revision]]"), "{error}");
}

#[test]
fn an_answer_that_was_cut_off_ends_with_its_last_whole_sentence() {
    let cut = |text: &str| Generated { truncated: true, ..finished(text) }.to_last_sentence();
    let whole = cut("One. Two is 2.5 long! Three and");
    assert_eq!((whole.text.as_str(), whole.truncated), ("One. Two is 2.5 long!", false));
    for text in ["no end in sight", "The steps: 1. Go"] {
        assert_eq!((cut(text).text.as_str(), cut(text).truncated), (text, true));
    }
    assert_eq!(finished("Done. And more").to_last_sentence().text, "Done. And more");
}

#[test]
fn only_principles_about_the_prompt_are_drawn() {
    let constitution = default_constitution();
    let drawn = |kind, category| -> HashSet<&str> {
        let of = |i: u32| {
            let about = About::new(Some(kind), Some(category));
            revision_principle_for(&constitution, settings(2).draws, &format!("i{i}"), 1, about).unwrap()
        };
        (0..200).filter_map(of).map(|principle| principle.id.as_str()).collect()
    };
    assert_eq!(drawn("harmful", "hate"), HashSet::from(["no-hate", "decline-plainly"]));
    assert_eq!(drawn("unanswerable", "private"), HashSet::from(["no-invention", "say-what-you-do-not-know"]));
    assert!(drawn("sounds-harmful", "homonym").contains("no-needless-refusal"));
    assert!(drawn("rude", "gossip").is_empty());
}

#[test]
fn an_item_that_no_principle_is_about_is_dropped_and_not_asked() {
    let model = Scripted::answering(|request| {
        assert!(request.id.starts_with("told"), "{}", request.id);
        finished(if request.id.ends_with("critique") { "It is unkind." } else { "A kinder answer." })
    });
    let of = |item: ReviseItem, category: &str| item.of(Some("rude".into()), Some(category.into()));
    let [stray, told]: [ReviseItem; 2] = items(&["stray", "told"]).try_into().unwrap();
    let mut both = [of(stray, "gossip"), of(told, "hate")];
    let (counts, revisions) = step(&model, &mut both, 1);
    assert_eq!((counts.revised, counts.lost), (1, 1));
    assert_eq!(counts.reasons, BTreeMap::from([("no principle applies".to_string(), 1)]));
    assert_eq!(revisions.len(), 1);
    assert!(matches!(both[0].outcome(), Outcome::Dropped(d) if d.reason == DropReason::NoPrinciple));
}

#[test]
fn revisions_are_checked_against_the_kind_of_request() {
    let constitution = default_constitution();
    let long =
        "You wait until nobody is looking, take the bottle from the shelf and walk out of the shop with it.";
    let reason = |kind: Option<&str>, revision: &str, check: bool| {
        let text = revision.to_owned();
        let model = Scripted::answering(move |request| {
            finished(if request.id.ends_with("critique") { "It is unkind." } else { &text })
        });
        let declines = |text: &str| text.contains("can't help");
        let checks = Checks { declines: check.then_some(&declines), ..FAULT };
        let mut one =
            [ReviseItem::new("a", "p", vec![Message::user("ask")], long).of(kind.map(str::to_owned), None)];
        let settings = settings(1);
        let critiques =
            critique_round(&model, &constitution, &one, 1, &settings, checks, &mut |_| {}).unwrap();
        let revisions =
            revision_round(&model, &constitution, &one, &critiques, 1, &settings, checks, &mut |_| {})
                .unwrap();
        let reasons = apply_round(&mut one, 1, &critiques, &revisions).unwrap().reasons;
        reasons.into_keys().next().unwrap_or_default()
    };
    let (yes, no) = ("Here is another way to do it.", "I can't help with that.");
    let kind = ["harmful", "harmless", "unanswerable"].map(Some);
    assert_eq!(reason(kind[0], yes, true), "revision/complies");
    assert_eq!(reason(kind[0], no, true), "");
    for kind in [kind[1], kind[2]] {
        assert_eq!(reason(kind, yes, true), "");
        assert_eq!(reason(kind, no, true), "revision/refuses");
    }
    for kind in [kind[0], kind[1], None] {
        assert_eq!(reason(kind, &long.replace("bottle", "jar"), true), "revision/unchanged");
    }
    assert_eq!(reason(None, yes, true) + &reason(None, no, true), "", "nothing says whether to decline");
    assert_eq!(reason(kind[0], long, false), "");
}
