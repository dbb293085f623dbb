//! Pairs whose better answer is known, and their labels: what measures a labeller.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use solon_records::Pair;

use super::Label;
use crate::error::FeedbackError;

/// A pair whose better answer is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPair {
    /// The pair, with its principle.
    pub pair: Pair,
    /// Whether the first answer is the better one.
    pub first_is_better: bool,
}

/// The label of a pair whose better answer is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownLabel {
    /// The labeller's label.
    pub label: Label,
    /// Whether the first answer is the better one.
    pub first_is_better: bool,
}

impl KnownLabel {
    /// Whether the probability is on the correct side of ½; exactly ½ is wrong.
    pub fn is_right(&self) -> bool {
        let p = self.label.probability;
        if self.first_is_better { p > 0.5 } else { p < 0.5 }
    }
}

/// Joins labels with the known answers, in the order of the pairs. A pair without a label is left out.
pub fn join_known(pairs: &[KnownPair], labels: &[Label]) -> Result<Vec<KnownLabel>, FeedbackError> {
    let mut by_pair: HashMap<&str, &Label> = HashMap::with_capacity(labels.len());
    for label in labels {
        if by_pair.insert(&label.pair_id, label).is_some() {
            return Err(FeedbackError::DuplicateId { id: label.pair_id.clone(), what: "labels" });
        }
    }
    let joined = pairs.iter().filter_map(|known| {
        let label = by_pair.get(known.pair.id.as_str())?;
        Some(KnownLabel { label: (*label).clone(), first_is_better: known.first_is_better })
    });
    Ok(joined.collect())
}
