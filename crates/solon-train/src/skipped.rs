//! Steps that were skipped because a value in them was not finite, and the limit on their number in a run.

use crate::objective::Objective;
use crate::step::TrainError;

/// A skipped step: parameters, moments and the count of updates did not change.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// What was not finite.
    pub reason: String,
    /// The step's items with all their tokens, for inspection.
    pub batch: Vec<BatchItem>,
}

/// An item of a skipped step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BatchItem {
    /// The item's id.
    pub id: String,
    /// Token ids of its sequences as they went through the model: a conversation; chosen and rejected answers after
    /// their prompt; or a prompt with its sampled answer.
    pub sequences: Vec<Vec<u32>>,
}

impl BatchItem {
    /// The items of a batch.
    pub(crate) fn of_batch<O: Objective>(objective: &O, batch: &[usize]) -> Vec<Self> {
        let tokens = |item: usize| objective.sequences(item).into_iter().map(|s| s.tokens).collect();
        batch.iter().map(|i| Self { id: objective.id(*i).to_owned(), sequences: tokens(*i) }).collect()
    }
}

/// Counts a run's skipped steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skips {
    /// How many steps may be skipped.
    pub allowed: usize,
    /// How many steps were skipped.
    pub count: usize,
}

impl Skips {
    /// Counts one more; an error if the limit is exceeded.
    pub(crate) fn add(&mut self, step: usize, skipped: Skipped) -> Result<Skipped, TrainError> {
        self.count += 1;
        if self.count > self.allowed {
            return Err(TrainError::NotFinite { step, count: self.count, skipped: Box::new(skipped) });
        }
        Ok(skipped)
    }

    /// Restores the count from a checkpoint.
    pub(crate) fn restore(&mut self, count: u64) {
        self.count = count as usize;
    }
}
