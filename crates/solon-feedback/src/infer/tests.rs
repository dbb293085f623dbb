//! A rule that was planted in the preferences is found again.

use super::*;
use crate::model::scripted::{Scripted, finished, sampling};
use crate::model::{ChoiceRequest, GenerateRequest};
use solon_draws::Draws;
use solon_records::{Message, Pair};

/// The better answer, which is `first`, is always the polite one. Which one is longer is left to chance.
fn polite_pairs(count: usize) -> Vec<Pair> {
    let draws = Draws::new(7, "pairs");
    (0..count as u64)
        .map(|number| {
            let words = |polite: bool| {
                let more = draws.item(if polite { "polite" } else { "rude" }).below(number, 9);
                let manner = if polite { "With pleasure" } else { "Find out yourself" };
                format!("{manner}.{}", " More.".repeat(more))
            };
            Pair {
                id: format!("p{number}"),
                prompt: vec![Message::user(format!("What is number {number}?"))],
                first: words(true),
                second: words(false),
                cut_off: [false; 2],
                principle_id: None,
            }
        })
        .collect()
}

/// Proposes politeness in several words, and noise. Votes as each rule says.
fn model() -> Scripted {
    let answer = |request: &GenerateRequest| {
        let number: usize = request.id.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
        let polite = ["is more polite", "is polite", "is the more polite one"][number % 3];
        let noise = ["is longer", "mentions a colour", "uses fewer commas", "is Answer A"][number % 4];
        let rules = if request.id.starts_with("chosen") { [polite, noise] } else { ["is rude", noise] };
        finished(&format!(
            "Here they are:\n1. Prefer the answer that {}.\n2. Prefer the answer that {}.\n",
            rules[0], rules[1]
        ))
    };
    let score = |request: &ChoiceRequest| {
        let text = &request.context.messages().unwrap()[0].content;
        let (_, answers) = text.split_once("Answer A: ").unwrap();
        let (a, rest) = answers.split_once("\n\nAnswer B: ").unwrap();
        let (b, question) = rest.split_once("\n\n").unwrap();
        let polite = |answer: &str| f64::from(answer.starts_with("With pleasure"));
        let odds = match question {
            _ if question.contains("polite") => polite(a) - polite(b),
            _ if question.contains("rude") => polite(b) - polite(a),
            _ if question.contains("longer") => (a.len() as f64 - b.len() as f64) / 20.0,
            // One letter, whatever stands there.
            _ if question.contains("colour") => 3.0,
            _ => 0.0,
        };
        vec![odds, -odds]
    };
    Scripted { answer: Box::new(answer), score: Box::new(score) }
}

#[test]
fn a_planted_rule_is_found_again_and_explains_the_pairs_kept_back() {
    let (pairs, model, draws) = (polite_pairs(40), model(), Draws::new(1, "infer"));
    let parts = split(&pairs, 4);
    let training: Vec<&Pair> = parts.training.iter().map(|place| &pairs[*place]).collect();
    let asked: Vec<(&Pair, Side)> =
        training.iter().flat_map(|pair| Side::ALL.map(|side| (*pair, side))).collect();
    let settings = ProposeSettings { draws, rules: 3, is_begun: false, sampling: sampling() };
    let proposed = propose(&model, &asked, &settings, &mut |_| {}).unwrap();
    let mut proposals = Vec::new();
    let mut refused = 0;
    for ((pair, _), proposed) in asked.iter().zip(&proposed) {
        let proposed = proposed.as_ref().unwrap();
        refused += proposed.refused.len();
        proposals.extend(proposed.rules.iter().map(|rule| (rule.as_str(), pair.id.as_str())));
    }
    assert!(refused > 0, "rules about Answer A are refused");

    let clusters = cluster(&proposals, 0.5);
    let rules: Vec<&str> = clusters.iter().map(|cluster| cluster.rule.as_str()).collect();
    assert_eq!(rules.len(), 5, "politeness in three wordings is one cluster: {rules:?}");
    let polite = rules.iter().position(|rule| rule.contains("polite")).unwrap();
    assert_eq!(clusters[polite].pairs, training.len());

    let principles = principles_of(rules.iter().copied());
    let cast = |principle: &Principle, pairs: &[&Pair]| -> Vec<Option<Stance>> {
        let asked: Vec<(&Principle, &Pair)> = pairs.iter().map(|pair| (principle, *pair)).collect();
        let labels = cast_votes(&model, &asked, draws, &mut |_| {}).unwrap();
        labels.into_iter().map(|label| Some(Stance::of(&label.unwrap(), 0.05))).collect()
    };
    let votes: Vec<Vec<Option<Stance>>> =
        principles.iter().map(|principle| cast(principle, &training)).collect();
    let fates = select(&votes, &SelectSettings { most: 3, relevance: 0.1 });
    for (principle, fate) in principles.iter().zip(&fates) {
        let expected = match principle.rule.as_str() {
            rule if rule.contains("polite") => Fate::Kept,
            "is rude" | "is longer" => Fate::NoBetterThanChance,
            _ => Fate::RarelyRelevant,
        };
        assert_eq!(*fate, expected, "{}", principle.rule);
    }

    let held_out: Vec<&Pair> = parts.held_out.iter().map(|place| &pairs[*place]).collect();
    let kept = &principles[polite];
    let tally = Tally::of(together(&[cast(kept, &held_out)]));
    assert_eq!((tally.for_it, tally.pairs()), (10, 10));
    assert!(tally.beats_chance());
    let written = inferred_constitution("of a test", std::slice::from_ref(kept)).to_toml().unwrap();
    assert!(written.contains(&kept.question()) && kept.rule.contains("polite"), "{written}");
}

#[test]
fn a_model_that_proposes_nothing_leaves_nothing_to_keep() {
    let pairs = polite_pairs(3);
    let asked: Vec<(&Pair, Side)> = pairs.iter().map(|pair| (pair, Side::Chosen)).collect();
    let settings =
        ProposeSettings { draws: Draws::new(1, "infer"), rules: 2, is_begun: false, sampling: sampling() };
    let model = Scripted::answering(|_| finished("The first answer is better because it is better."));
    let proposed = propose(&model, &asked, &settings, &mut |_| {}).unwrap();
    assert!(proposed.iter().all(|proposed| proposed.as_ref().unwrap().refused == [RuleFault::NoRule]));
    assert_eq!(cluster(&[], 0.5), []);
    assert_eq!(select(&[], &SelectSettings { most: 3, relevance: 0.1 }), []);
}
