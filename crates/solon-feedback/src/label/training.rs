//! Trains a labeller on the worked examples, and holds some of them out to measure it.
//!
//! The constitution has few worked examples, and their flawed answers are not what a model writes. Contrasts are pairs
//! of the policy's own answers whose better answer is known from how they were made (as in RLCD, Yang et al. 2023,
//! 2307.12950): a revision and the answer it revised, or an answer to a harmless prompt and a refusal of it.
//!
//! Every fourth example is held out, and so are the contrasts marked so: accuracy is valid only on pairs that the
//! labeller, and the models it starts from, were not trained on. In the shipped constitution every revision is longer
//! than its flawed answer. A labeller trained on that alone would learn to choose the longer answer and still score 100
//! %. So every second revision is cut to its first sentences, until it is the shorter answer.

use std::collections::{BTreeSet, HashMap};

use super::{Ask, KnownPair, RequestCounts, apart, prompt_text};
use crate::constitution::{About, ComparisonPrinciple, Constitution, InTurn, WorkedExample};
use crate::critique::{TrainingConversation, by_kind, spread_kinds};
use crate::error::FeedbackError;
use solon_draws::Draws;
use solon_records::{Message, Pair, Preference, Prompt};

/// One example in this many is held out.
const HELD_OUT_EVERY: usize = 4;

/// The end of a held-out pair's id, after the id of its worked example or contrast.
pub const HELD_OUT: &str = "/held-out";

/// Two answers of which `chosen` is known to be better.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownContrast {
    /// The two answers. The id is unique among the contrasts. The probability is 1 and is not used.
    pub preference: Preference,
    /// Whether it is held out to measure the labeller.
    pub held_out: bool,
    /// The kind of the prompt, such as `harmful`, where it is known.
    pub kind: Option<String>,
}

/// What a labeller learns from beside the worked examples.
#[derive(Clone, Copy)]
pub struct Material<'a> {
    /// Pairs whose better answer is known.
    pub contrasts: &'a [KnownContrast],
    /// Prompts, of which those whose kind is known are learnt; read by [`Ask::Apart`].
    pub prompts: &'a [Prompt],
    /// Whether an answer declines to do what was asked; read by [`Ask::Apart`] where a prompt's kind does not tell.
    pub declines: &'a dyn Fn(&str) -> bool,
    /// Key of the draw of questions about requests.
    pub draws: Draws,
}

/// Training conversations for a labeller, and pairs to measure it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabellerTraining {
    /// Two conversations for each pair, one for each question; half are answered A (or Yes), half B (or No). Before them,
    /// if the labeller is asked apart, those about requests.
    pub training: Vec<TrainingConversation>,
    /// Pairs that are not in `training`. The better answer is first in two pairs, then second in two.
    pub held_out: Vec<KnownPair>,
    /// The requests it learns from, if it is asked apart.
    pub requests: Option<RequestCounts>,
}

/// The worked examples as (for training, held out). Within each kind every fourth is held out.
pub fn split_examples(constitution: &Constitution) -> (Vec<&WorkedExample>, Vec<&WorkedExample>) {
    let all: Vec<&WorkedExample> = constitution.example.iter().collect();
    let (mut training, mut held_out) = (Vec::new(), Vec::new());
    for (place, example) in by_kind(&all).into_iter().flatten().enumerate() {
        let held = place % HELD_OUT_EVERY == HELD_OUT_EVERY - 1;
        (if held { &mut held_out } else { &mut training }).push(example);
    }
    (training, held_out)
}

/// The held-out worked examples as pairs whose better answer is known, for a labeller that is asked in the way `ask`.
/// `declines` says whether an answer declines to do what was asked.
pub fn known_examples(
    constitution: &Constitution,
    ask: Ask,
    declines: &dyn Fn(&str) -> bool,
) -> Vec<KnownPair> {
    let (_, held_out) = split_examples(constitution);
    if ask == Ask::Apart {
        return apart::known_examples(&held_out, declines);
    }
    let (better, fitting) = (better_answers(&held_out), Questions::new(constitution));
    let known = held_out.iter().enumerate().map(|(place, example)| {
        let prompt = vec![Message::user(&example.request)];
        let answers = [better[example.id.as_str()], example.flawed.as_str()];
        known_pair(place, &example.id, Some(fitting.closest(example)), prompt, answers)
    });
    known.collect()
}

/// Training conversations for a labeller that is asked in the way `ask`, and the held-out pairs.
///
/// One that is asked which answer is better learns this: a worked example is judged by the question closest to its principle. Contrasts take the questions in turn, each as often as its weight says, as
/// pairs to be labelled take questions at random. Their better answer is better by the constitution as a whole, and the
/// labeller must learn that even from a question that does not fit the prompt. What one that is asked apart learns is said
/// in `apart.rs`.
pub fn labeller_training(
    constitution: &Constitution,
    material: &Material<'_>,
    ask: Ask,
) -> Result<LabellerTraining, FeedbackError> {
    if ask == Ask::Apart {
        return apart::training(constitution, material);
    }
    let questions = ask.pair_questions().ok_or(FeedbackError::NotTaught { ask: ask.name() })?;
    let contrasts = material.contrasts;
    let nothing = |table| FeedbackError::NothingToDraw {
        constitution: constitution.name.clone(),
        table,
        purpose: "train a labeller",
    };
    if constitution.comparison.is_empty() {
        return Err(nothing("comparison"));
    }
    if constitution.example.is_empty() {
        return Err(nothing("example"));
    }
    let fitting = Questions::new(constitution);
    let (training_examples, _) = split_examples(constitution);
    let better = better_answers(&training_examples);
    let mut training = Vec::with_capacity(2 * (training_examples.len() + contrasts.len()));
    let mut learn = |source: &str, by: &ComparisonPrinciple, request: &str, better: &str, worse: &str| {
        let asked = questions(by, request, better, worse);
        for ((mut messages, _, answer), which) in asked.into_iter().zip(["better", "worse"]) {
            messages.push(Message::assistant(answer));
            training.push(TrainingConversation {
                id: format!("{source}/label-{which}"),
                source: source.to_owned(),
                principle_id: Some(by.id.clone()),
                messages,
            });
        }
    };
    for example in spread_kinds(&training_examples) {
        let better = better[example.id.as_str()];
        learn(&example.id, fitting.closest(example), &example.request, better, &example.flawed);
    }
    let mut held_out = known_examples(constitution, ask, material.declines);
    let weights: Vec<f64> = constitution.comparison.iter().map(|principle| principle.weight).collect();
    let mut in_turn = [InTurn::new(&weights), InTurn::new(&weights)];
    let mut places = [0, 0];
    for KnownContrast { preference, held_out: kept, .. } in contrasts {
        let Preference { id, prompt, chosen, rejected, .. } = preference;
        let place = &mut places[usize::from(*kept)];
        let Some(question) = in_turn[usize::from(*kept)].next() else { break };
        let question = &constitution.comparison[question];
        match kept {
            true => {
                held_out.push(known_pair(*place, id, Some(question), prompt.clone(), [chosen, rejected]));
            }
            false => learn(id, question, &prompt_text(prompt), chosen, rejected),
        }
        *place += 1;
    }
    Ok(LabellerTraining { training, held_out, requests: None })
}

/// The `place`-th held-out pair. The better answer comes first for two pairs, then second for two, because every other
/// revision of the worked examples is the shortened one.
pub(super) fn known_pair(
    place: usize,
    id: &str,
    question: Option<&ComparisonPrinciple>,
    prompt: Vec<Message>,
    [better, worse]: [&str; 2],
) -> KnownPair {
    let first_is_better = (place / 2).is_multiple_of(2);
    let (first, second) = if first_is_better { (better, worse) } else { (worse, better) };
    let pair = Pair {
        id: format!("{id}{HELD_OUT}"),
        prompt,
        first: first.to_owned(),
        second: second.to_owned(),
        cut_off: [false; 2],
        principle_id: question.map(|question| question.id.clone()),
    };
    KnownPair { pair, first_is_better }
}

/// Each example's revision by example id. Every second one is cut to as many of its first sentences as are shorter than
/// the flawed answer, at least one.
pub(super) fn better_answers<'a>(examples: &[&'a WorkedExample]) -> HashMap<&'a str, &'a str> {
    let mut answers = HashMap::with_capacity(examples.len());
    for (place, example) in examples.iter().enumerate() {
        let revision = example.revision.trim();
        let mut ends = revision.match_indices(". ").map(|(at, _)| at + 1);
        let shortest = ends.next().unwrap_or(revision.len());
        let end = ends.take_while(|end| *end < example.flawed.trim().len()).last().unwrap_or(shortest);
        let end = if place % 2 == 1 { end } else { revision.len() };
        answers.insert(example.id.as_str(), &revision[..end]);
    }
    answers
}

/// Finds the comparison question that fits a worked example, because the file does not name one.
///
/// A question that does not fit would teach a wrong label: a good refusal is not "more on point". The chosen question
/// shares the most words with the example's revision principle. Each word has the weight ln(entries / entries that have
/// it), and the sum is divided by the root of the question's own weight. Ties go to the earlier question. Questions that
/// are not about the example's kind or category are left aside, unless none is.
struct Questions<'a> {
    constitution: &'a Constitution,
    words: Vec<BTreeSet<String>>,
    weights: HashMap<String, f64>,
}

impl<'a> Questions<'a> {
    fn new(constitution: &'a Constitution) -> Self {
        let words: Vec<_> = constitution.comparison.iter().map(|p| stems(&[&p.id, &p.question])).collect();
        let mut counts: HashMap<String, usize> = HashMap::new();
        let principles = constitution.revision.iter().map(|p| stems(&[&p.id, &p.critique, &p.revision]));
        for stem in words.iter().cloned().chain(principles).flatten() {
            *counts.entry(stem).or_default() += 1;
        }
        let entries = (constitution.comparison.len() + constitution.revision.len()) as f64;
        let weights = counts.into_iter().map(|(stem, n)| (stem, (entries / n as f64).ln())).collect();
        Self { constitution, words, weights }
    }

    fn closest(&self, example: &WorkedExample) -> &'a ComparisonPrinciple {
        let own = match self.constitution.revision_principle(&example.principle) {
            Some(p) => stems(&[&p.id, &p.critique, &p.revision]),
            None => BTreeSet::new(),
        };
        // Ordered sets, so that the sums have the same bits in every run.
        let weight = |stem: &String| self.weights.get(stem).copied().unwrap_or(0.0);
        let about = About::new(Some(&example.kind), Some(&example.category));
        let applies = |place: usize| about.fits(&self.constitution.comparison[place].applies);
        let any_applies = (0..self.words.len()).any(applies);
        let (mut best, mut best_score) = (0, f64::NEG_INFINITY);
        for (place, words) in self.words.iter().enumerate() {
            if any_applies && !applies(place) {
                continue;
            }
            let whole: f64 = words.iter().map(weight).sum();
            let shared: f64 = words.intersection(&own).map(weight).sum();
            let score = if whole > 0.0 { shared / whole.sqrt() } else { 0.0 };
            if score > best_score {
                (best, best_score) = (place, score);
            }
        }
        &self.constitution.comparison[best]
    }
}

/// The first four letters of every word of at least four. "-less" reverses a word's meaning, so it makes another stem.
fn stems(texts: &[&str]) -> BTreeSet<String> {
    let mut stems = BTreeSet::new();
    for word in texts.iter().flat_map(|text| text.split(|c: char| !c.is_alphabetic())) {
        let word = word.to_lowercase();
        let mut stem: String = word.chars().take(4).collect();
        if stem.chars().count() < 4 {
            continue;
        }
        if word.len() > 4 && word.ends_with("less") {
            stem.push('-');
        }
        stems.insert(stem);
    }
    stems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constitution::tests::default_constitution;

    fn material(contrasts: &[KnownContrast]) -> Material<'_> {
        Material { contrasts, prompts: &[], declines: &|_| false, draws: Draws::new(1, "labeller") }
    }

    #[test]
    fn half_are_a_and_the_held_out_are_not_seen() {
        let constitution = default_constitution();
        let LabellerTraining { training, held_out, .. } =
            labeller_training(&constitution, &material(&[]), Ask::Choice).unwrap();
        let answered = |letter: &str| training.iter().filter(|c| c.messages[1].content == letter).count();
        assert_eq!((answered("A"), answered("B")), (training.len() / 2, training.len() / 2));
        assert_eq!(held_out.len(), constitution.example.len() / 4);
        assert_eq!(training.len() / 2 + held_out.len(), constitution.example.len());
        let (_, kept_back) = split_examples(&constitution);
        for example in kept_back {
            let seen = |c: &TrainingConversation| {
                let text = &c.messages[0].content;
                text.contains(&example.flawed)
                    || text.contains(&example.revision)
                    || text.contains(&example.request)
            };
            assert!(!training.iter().any(seen), "{} is in the training half", example.id);
        }
        let kinds: BTreeSet<_> = split_examples(&constitution).1.iter().map(|e| &e.kind).collect();
        assert_eq!(kinds.len(), 4);
        let firsts = held_out.iter().filter(|known| known.first_is_better).count();
        assert!(firsts.abs_diff(held_out.len() - firsts) <= 2);
    }

    #[test]
    fn contrasts_are_learnt_in_both_orders_or_held_out() {
        let constitution = default_constitution();
        let contrasts: Vec<KnownContrast> = (0..8)
            .map(|i| {
                let text = |what: &str| format!("{what} {i}");
                let [id, request, first, second] = ["c", "ask", "good", "bad"].map(text);
                let (prompt, cut_off) = (vec![Message::user(request)], [false; 2]);
                let pair = Pair { id, prompt, first, second, cut_off, principle_id: None };
                KnownContrast { preference: pair.labelled(1.0, "test"), held_out: i % 4 == 3, kind: None }
            })
            .collect();
        let alone = labeller_training(&constitution, &material(&[]), Ask::Choice).unwrap();
        let made = labeller_training(&constitution, &material(&contrasts), Ask::Choice).unwrap();
        let learnt = &made.training[alone.training.len()..];
        assert_eq!(learnt.len(), 2 * 6);
        let questions = |training: &[TrainingConversation]| -> Vec<String> {
            training.iter().step_by(2).filter_map(|c| c.principle_id.clone()).collect()
        };
        let in_turn: Vec<String> = constitution.comparison[..6].iter().map(|p| p.id.clone()).collect();
        assert_eq!(questions(learnt), in_turn);
        let mut weighted = constitution.clone();
        weighted.comparison[4].weight = 2.0 * (weighted.comparison.len() - 1) as f64;
        let by_weight = labeller_training(&weighted, &material(&contrasts), Ask::Choice).unwrap();
        let by_weight = questions(&by_weight.training[alone.training.len()..]);
        assert_eq!(
            by_weight.iter().filter(|id| **id == in_turn[4]).count(),
            4,
            "two in three: {by_weight:?}"
        );
        let asked = |c: &TrainingConversation| c.messages[0].content.clone();
        assert!(asked(&learnt[0]).contains("Answer A: good 0") && learnt[0].messages[1].content == "A");
        assert!(asked(&learnt[1]).contains("Answer B: good 0") && learnt[1].messages[1].content == "B");
        let rated = labeller_training(&constitution, &material(&contrasts), Ask::Rate).unwrap().training;
        let rated = &rated[alone.training.len()..];
        assert!(asked(&rated[0]).contains("Answer: good 0") && rated[0].messages[1].content == "Yes");
        assert!(asked(&rated[1]).contains("Answer: bad 0") && rated[1].messages[1].content == "No");
        let held = &made.held_out[alone.held_out.len()..];
        let firsts: Vec<&str> = held.iter().map(|known| known.pair.first.as_str()).collect();
        assert_eq!(firsts, ["good 3", "good 7"]);
        assert!(!learnt.iter().any(|c| asked(c).contains("ask 3") || asked(c).contains("ask 7")));
    }

    #[test]
    fn length_does_not_give_the_better_answer_away() {
        let constitution = default_constitution();
        let training = labeller_training(&constitution, &material(&[]), Ask::Choice).unwrap();
        let longer_first = training.held_out.iter().filter(|known| {
            (known.pair.first.chars().count() > known.pair.second.chars().count()) == known.first_is_better
        });
        let share = longer_first.count() as f64 / training.held_out.len() as f64;
        assert!((0.4..=0.6).contains(&share), "{share}");
    }

    #[test]
    fn questions_fit_the_principles_of_the_shipped_constitution() {
        let constitution = default_constitution();
        let questions = Questions::new(&constitution);
        for (principle, question) in [
            ("no-crime", "less-crime"),
            ("no-weapons", "fewer-dangerous-details"),
            ("no-hate", "fairer-to-groups"),
            ("self-harm-care", "better-care"),
            ("protect-children", "safer-for-children"),
            ("no-invention", "more-truthful"),
            ("no-needless-refusal", "less-needless-refusal"),
            ("answer-the-question", "more-on-point"),
            ("be-clear", "easier-to-read"),
            ("be-concrete", "more-concrete"),
            ("no-cruelty", "gentler-to-animals"),
            ("no-cheating", "less-cheating"),
            ("say-what-you-do-not-know", "says-what-it-does-not-know"),
        ] {
            let example = constitution.example.iter().find(|e| e.principle == principle).unwrap();
            assert_eq!(questions.closest(example).id, question, "{principle}");
        }
        for example in constitution.example.iter().filter(|e| e.kind == "harmful") {
            let question = &questions.closest(example).question;
            assert!(!question.contains("harmless"), "{}: {question}", example.id);
        }
    }

    #[test]
    fn a_constitution_without_questions_or_examples_is_told_so() {
        let whole = default_constitution();
        let without = Constitution { comparison: Vec::new(), ..whole.clone() };
        assert!(
            labeller_training(&without, &material(&[]), Ask::Choice)
                .unwrap_err()
                .to_string()
                .contains("[[comparison]]")
        );
        let without = Constitution { example: Vec::new(), ..whole };
        assert!(
            labeller_training(&without, &material(&[]), Ask::Choice)
                .unwrap_err()
                .to_string()
                .contains("[[example]]")
        );
    }
}
