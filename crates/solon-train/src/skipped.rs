//! Steps that were not applied because a value in them was not finite, and how many of them a run may have.

use crate::objective::Objective;
use crate::step::TrainError;

/// A step that left parameters, moments and the count of updates as they were.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// What was not finite.
    pub reason: String,
    /// The step's items with all their tokens, so that the step can be looked into.
    pub batch: Vec<BatchItem>,
}

/// An item of a skipped step.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BatchItem {
    /// Where it came from.
    pub id: String,
    /// Token ids of its sequences as they went through the model: a conversation; chosen and rejected after their prompt;
    /// a prompt with the answer that was sampled.
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
    /// How many there may be.
    pub allowed: usize,
    /// How many there were.
    pub count: usize,
}

impl Skips {
    /// Counts one more. One too many is an error.
    pub(crate) fn add(&mut self, step: usize, skipped: Skipped) -> Result<Skipped, TrainError> {
        self.count += 1;
        if self.count > self.allowed {
            return Err(TrainError::NotFinite { step, count: self.count, skipped: Box::new(skipped) });
        }
        Ok(skipped)
    }

    /// Puts the count of a checkpoint back.
    pub(crate) fn restore(&mut self, count: u64) {
        self.count = count as usize;
    }
}
