//! Which of two answers a principle prefers, as a model says.
//!
//! Contract: a principle votes where the model prefers the same answer by it in both orders, and its probability is away from ½ by the
//! margin. Otherwise the principle is not relevant to the pair: a letter that is preferred whatever stands there is no vote.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use solon_draws::Draws;
use solon_records::Pair;

use super::Principle;
use super::principle::inferred_constitution;
use crate::error::FeedbackError;
use crate::label::{Ask, Label, LabelSettings, label_pairs};
use crate::model::{FeedbackModel, NoAnswer};

/// What a principle says of a pair whose better answer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stance {
    /// It prefers the better answer.
    For,
    /// It prefers the other one.
    Against,
    /// It prefers neither.
    NotRelevant,
}

impl Stance {
    /// Reads a label of a pair whose `first` answer is the better one.
    pub fn of(label: &Label, margin: f64) -> Self {
        let is_clear = (label.probability - 0.5).abs() >= margin;
        match label.letters() {
            Some([Some('A'), Some('B')]) if is_clear => Stance::For,
            Some([Some('B'), Some('A')]) if is_clear => Stance::Against,
            _ => Stance::NotRelevant,
        }
    }

    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Stance::For => "for",
            Stance::Against => "against",
            Stance::NotRelevant => "not relevant",
        }
    }
}

/// Asks a model by each principle which answer of its pair is better, in both orders. A label is under the pair's id after the
/// principle's: `PRINCIPLE/PAIR`.
pub fn cast_votes(
    model: &dyn FeedbackModel,
    asked: &[(&Principle, &Pair)],
    draws: Draws,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Result<Label, NoAnswer>>, FeedbackError> {
    let mut principles: Vec<Principle> = Vec::new();
    for (principle, _) in asked {
        if !principles.contains(principle) {
            principles.push((*principle).clone());
        }
    }
    let constitution = inferred_constitution("candidates", &principles);
    let pairs: Vec<Pair> = asked
        .iter()
        .map(|(principle, pair)| Pair {
            id: format!("{}/{}", principle.id, pair.id),
            principle_id: Some(principle.id.clone()),
            ..(*pair).clone()
        })
        .collect();
    let settings = LabelSettings { principles: NonZeroUsize::MIN, ..LabelSettings::of(Ask::Choice, draws) };
    label_pairs(model, &constitution, &pairs, &settings, progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::Evidence;

    #[test]
    fn a_vote_needs_both_orders_and_a_margin() {
        let label = |ab: [f64; 2], ba: [f64; 2], probability: f64| Label {
            pair_id: "p".into(),
            principle_id: Some("kind".into()),
            ask: Ask::Choice,
            evidence: [("ab", ab), ("ba", ba)]
                .map(|(question, log_probs)| Evidence {
                    question: question.into(),
                    principle_id: None,
                    log_probs: log_probs.into(),
                    votes: Vec::new(),
                    reasoning: None,
                })
                .into(),
            probability,
            characters: [1, 1],
        };
        for (label, verdict) in [
            (label([-1.0, -2.0], [-2.0, -1.0], 0.7), Stance::For),
            (label([-2.0, -1.0], [-1.0, -2.0], 0.3), Stance::Against),
            (label([-1.0, -2.0], [-2.0, -1.0], 0.54), Stance::NotRelevant),
            // The letter A, whatever stands there.
            (label([-0.1, -9.0], [-1.0, -1.5], 0.8), Stance::NotRelevant),
            (label([-1.0, -1.0], [-2.0, -1.0], 0.7), Stance::NotRelevant),
        ] {
            assert_eq!(Stance::of(&label, 0.05), verdict, "{label:?}");
        }
    }
}
