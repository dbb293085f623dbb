//! Preference labels: the labeller's probability that the first of two answers is the better one.
//!
//! Source: Bai et al. 2022, §4.1 (a principle drawn per comparison, log-probs of the options normalised, used as soft
//! targets; §4.3 the clamp, which the paper applies to chain-of-thought labels only); Lee et al. 2023 (2309.00267),
//! which asks in both orders and averages, as is done here always, for a small labeller leans to one letter.
//!
//! Contract: a label keeps both orders' raw log-probs; its principle depends on (seed, stage, pair id) alone. No
//! temperature and no calibration is applied.

mod training;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::constitution::{ComparisonPrinciple, Constitution};
use crate::draw::Draws;
use crate::error::FeedbackError;
use crate::model::{ChatMessage, ChoiceRequest, FeedbackModel, choose};
use crate::quote::for_model;

pub use training::{LabellerTraining, labeller_training, split_examples};

const OPENING: &str = "Read the request and the two answers.";
const TASK: &str = "Reply with A or B.";

/// Two answers to one prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Unique among the pairs; keys the draws.
    pub id: String,
    /// The prompt's text.
    pub prompt: String,
    /// One answer.
    pub first: String,
    /// The other.
    pub second: String,
    /// The comparison principle to judge by; drawn where it is `None`.
    pub principle_id: Option<String>,
}

/// A labelled pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The pair.
    pub pair_id: String,
    /// The comparison principle it was judged by.
    pub principle_id: String,
    /// Nats, of "A" and "B" with the first answer as A.
    pub log_probs_ab: [f64; 2],
    /// Nats, of "A" and "B" with the second answer as A.
    pub log_probs_ba: [f64; 2],
    /// P(first is better): the mean of the two orders' normalised probabilities, clamped where the settings say so.
    pub probability: f64,
    /// Both orders prefer the same answer.
    pub consistent: bool,
    /// Characters of the first and the second answer, by which a labeller that only likes length is found out.
    pub characters: [usize; 2],
}

/// How pairs are labelled.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelSettings {
    /// Keys the draw of principles.
    pub seed: u64,
    /// Keys the draw of principles.
    pub stage: String,
    /// Bounds of the probability, such as (0.4, 0.6) for chain-of-thought labels in the paper.
    pub clamp: Option<(f64, f64)>,
}

/// A pair whose better answer is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPair {
    /// The pair, with its principle.
    pub pair: Pair,
    /// The truth.
    pub first_is_better: bool,
}

/// The label of a pair whose better answer is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownLabel {
    /// What the labeller said.
    pub label: Label,
    /// The truth.
    pub first_is_better: bool,
}

/// Asks which of two answers is better; the options are the assistant's possible answers.
pub fn comparison_request(
    principle: &ComparisonPrinciple,
    prompt: &str,
    first: &str,
    second: &str,
) -> (Vec<ChatMessage>, Vec<String>) {
    let (prompt, first, second) = (for_model(prompt), for_model(first), for_model(second));
    let question = principle.question.trim();
    let content = format!(
        "{OPENING}\n\nRequest: {prompt}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\n{question} {TASK}"
    );
    (vec![ChatMessage::user(content)], vec!["A".into(), "B".into()])
}

/// Labels every pair in both orders; labels come in the order of the pairs. `progress` hears requests, two a pair.
pub fn label_pairs(
    model: &dyn FeedbackModel,
    constitution: &Constitution,
    pairs: &[Pair],
    settings: &LabelSettings,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Label>, FeedbackError> {
    if let Some((low, high)) = settings.clamp
        && !((0.0..=0.5).contains(&low) && (0.5..=1.0).contains(&high))
    {
        return Err(FeedbackError::Setting {
            setting: "clamp",
            value: format!("({low}, {high})"),
            rule: "give a lower bound in 0..=0.5 and an upper bound in 0.5..=1",
        });
    }
    let mut seen = HashSet::new();
    let (mut requests, mut principles) =
        (Vec::with_capacity(2 * pairs.len()), Vec::with_capacity(pairs.len()));
    for pair in pairs {
        if !seen.insert(&pair.id) {
            return Err(FeedbackError::DuplicateId { id: pair.id.clone(), what: "pairs" });
        }
        let principle = principle_for(constitution, pair, settings)?;
        for (order, first, second) in [("ab", &pair.first, &pair.second), ("ba", &pair.second, &pair.first)] {
            let (messages, options) = comparison_request(principle, &pair.prompt, first, second);
            requests.push(ChoiceRequest { id: format!("{}/{order}", pair.id), messages, options });
        }
        principles.push(principle);
    }
    let rows = choose(model, &requests, progress)?;
    let mut labels = Vec::with_capacity(pairs.len());
    for ((pair, principle), row) in pairs.iter().zip(principles).zip(rows.chunks_exact(2)) {
        let (ab, ba) = ([row[0][0], row[0][1]], [row[1][0], row[1][1]]);
        labels.push(Label::new(pair, &principle.id, ab, ba, settings.clamp));
    }
    Ok(labels)
}

fn principle_for<'a>(
    constitution: &'a Constitution,
    pair: &Pair,
    settings: &LabelSettings,
) -> Result<&'a ComparisonPrinciple, FeedbackError> {
    if let Some(id) = &pair.principle_id {
        return constitution.comparison_principle(id).ok_or_else(|| FeedbackError::UnknownPrinciple {
            item: pair.id.clone(),
            principle: id.clone(),
            constitution: constitution.name.clone(),
        });
    }
    let drawn = Draws::new(settings.seed, &settings.stage).item("principle").item(&pair.id);
    constitution.comparison.get(drawn.below(constitution.comparison.len())).ok_or_else(|| {
        FeedbackError::NothingToDraw {
            constitution: constitution.name.clone(),
            table: "comparison",
            purpose: "compare answers",
        }
    })
}

/// e^a / (e^a + e^b), without overflow.
fn normalised(a: f64, b: f64) -> f64 {
    if a >= b {
        1.0 / (1.0 + (b - a).exp())
    } else {
        let ratio = (a - b).exp();
        ratio / (1.0 + ratio)
    }
}

impl Label {
    /// The label of a pair from the raw log-probs of "A" and "B" in both orders.
    pub fn new(
        pair: &Pair,
        principle_id: &str,
        log_probs_ab: [f64; 2],
        log_probs_ba: [f64; 2],
        clamp: Option<(f64, f64)>,
    ) -> Self {
        let first_as_a = normalised(log_probs_ab[0], log_probs_ab[1]);
        let first_as_b = normalised(log_probs_ba[1], log_probs_ba[0]);
        let mean = (first_as_a + first_as_b) / 2.0;
        let [ab, ba] = [log_probs_ab, log_probs_ba].map(|[a, b]| a.partial_cmp(&b));
        use std::cmp::Ordering::{Greater, Less};
        Label {
            pair_id: pair.id.clone(),
            principle_id: principle_id.into(),
            log_probs_ab,
            log_probs_ba,
            probability: clamp.map_or(mean, |(low, high)| mean.max(low).min(high)),
            consistent: matches!((ab, ba), (Some(Greater), Some(Less)) | (Some(Less), Some(Greater))),
            characters: [pair.first.chars().count(), pair.second.chars().count()],
        }
    }

    /// The letter preferred in both orders, if it is one and the same: position decided, not content.
    pub fn same_letter_twice(&self) -> Option<char> {
        let letter = |[a, b]: [f64; 2]| if a > b { Some('A') } else { (a < b).then_some('B') };
        letter(self.log_probs_ab).filter(|_| letter(self.log_probs_ab) == letter(self.log_probs_ba))
    }
}

/// Joins the labels of known pairs with the truth, in the order of the pairs.
pub fn join_known(pairs: &[KnownPair], labels: &[Label]) -> Result<Vec<KnownLabel>, FeedbackError> {
    let by_pair: HashMap<&str, &Label> = labels.iter().map(|label| (label.pair_id.as_str(), label)).collect();
    let join = |known: &KnownPair| {
        let label = by_pair.get(known.pair.id.as_str()).ok_or_else(|| FeedbackError::MissingRecord {
            id: known.pair.id.clone(),
            what: "label".into(),
        })?;
        Ok(KnownLabel { label: (*label).clone(), first_is_better: known.first_is_better })
    };
    pairs.iter().map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constitution::tests::default_constitution;
    use crate::model::scripted::Scripted;

    fn pair(id: &str) -> Pair {
        let [prompt, first, second] = ["ask", "good words", "bad"].map(String::from);
        Pair { id: id.into(), prompt, first, second, principle_id: None }
    }

    fn settings(clamp: Option<(f64, f64)>) -> LabelSettings {
        LabelSettings { seed: 3, stage: "label".into(), clamp }
    }

    #[test]
    fn both_orders_are_asked_and_averaged() {
        // Prefers the answer "good words" with weight 4:1, and the letter A with weight 2:1 on top.
        let model = Scripted::scoring(|request| {
            let good_is_a = request.messages[0].content.contains("Answer A: good words");
            let (a, b): (f64, f64) = if good_is_a { (8.0, 1.0) } else { (2.0, 4.0) };
            vec![a.ln() - 5.0, b.ln() - 5.0]
        });
        let labels =
            label_pairs(&model, &default_constitution(), &[pair("p")], &settings(None), &mut |_| {}).unwrap();
        let expected = (8.0 / 9.0 + 4.0 / 6.0) / 2.0;
        assert!((labels[0].probability - expected).abs() < 1e-12, "{labels:?}");
        assert!(labels[0].consistent && labels[0].same_letter_twice().is_none());
        assert!((labels[0].log_probs_ba[0] - (2.0_f64.ln() - 5.0)).abs() < 1e-12);
        assert_eq!(labels[0].characters, [10, 3]);
        let clamped = settings(Some((0.4, 0.6)));
        let labels =
            label_pairs(&model, &default_constitution(), &[pair("p")], &clamped, &mut |_| {}).unwrap();
        assert_eq!(labels[0].probability, 0.6);
    }

    #[test]
    fn a_labeller_that_likes_a_letter_is_inconsistent_and_undecided() {
        for (scores, letter) in [([-0.1, -3.0], Some('A')), ([-3.0, -0.1], Some('B')), ([-1.0, -1.0], None)] {
            let label = Label::new(&pair("p"), "q", scores, scores, None);
            assert!(!label.consistent && (label.probability - 0.5).abs() < 1e-12, "{label:?}");
            assert_eq!(label.same_letter_twice(), letter);
        }
        assert!(Label::new(&pair("p"), "q", [0.0, -2000.0], [-2000.0, 0.0], None).probability == 1.0);
    }

    #[test]
    fn the_principle_is_the_pairs_own_or_drawn_by_its_id() {
        let constitution = default_constitution();
        let model = Scripted::scoring(|_| vec![-1.0, -2.0]);
        let pairs: Vec<Pair> = (0..60).map(|i| pair(&format!("p{i}"))).collect();
        let run =
            |pairs: &[Pair]| label_pairs(&model, &constitution, pairs, &settings(None), &mut |_| {}).unwrap();
        let whole = run(&pairs);
        assert_eq!(whole, [run(&pairs[..7]), run(&pairs[7..])].concat());
        let distinct: HashSet<_> = whole.iter().map(|label| &label.principle_id).collect();
        assert!(distinct.len() > constitution.comparison.len() / 2);
        let own = Pair { principle_id: Some("less-harm".into()), ..pair("p") };
        assert_eq!(run(std::slice::from_ref(&own))[0].principle_id, "less-harm");
        let unknown = Pair { principle_id: Some("gone".into()), ..own };
        let error = label_pairs(&model, &constitution, &[unknown], &settings(None), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("`gone`"), "{error}");
    }

    #[test]
    fn bad_settings_and_shared_ids_are_refused() {
        let (model, constitution) = (Scripted::scoring(|_| vec![-1.0, -2.0]), default_constitution());
        for clamp in [(0.6, 0.9), (0.4, f64::NAN), (-0.1, 0.6)] {
            let result = label_pairs(&model, &constitution, &[], &settings(Some(clamp)), &mut |_| {});
            assert!(matches!(result, Err(FeedbackError::Setting { .. })), "{clamp:?}");
        }
        let twins = [pair("p"), pair("p")];
        assert!(label_pairs(&model, &constitution, &twins, &settings(None), &mut |_| {}).is_err());
    }
}
