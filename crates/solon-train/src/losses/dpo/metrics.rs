//! Metrics of a DPO step.
//!
//! Contract: names and definitions are TRL's (`trl/trainer/dpo_trainer.py`). Sums are exact, so merging micro-batches
//! gives the same bits however the batch was split.

use crate::losses::exact_sum::ExactSum;

/// One pair's values, each checked.
pub(super) struct Pair {
    pub(super) is_tie: bool,
    pub(super) loss: f64,
    pub(super) chosen_reward: f64,
    pub(super) rejected_reward: f64,
    pub(super) chosen_logprob: f64,
    pub(super) rejected_logprob: f64,
}

/// Metrics of a step, under TRL's names and definitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DpoMetrics {
    /// Pairs so far.
    pub pairs: usize,
    /// Pairs that are not ties.
    pub decided: usize,
    loss: ExactSum,
    reward_chosen: ExactSum,
    reward_rejected: ExactSum,
    logprob_chosen: ExactSum,
    logprob_rejected: ExactSum,
    correct: usize,
}

impl DpoMetrics {
    /// Adds one pair.
    pub(super) fn record(&mut self, pair: &Pair) {
        self.pairs += 1;
        self.loss.add(pair.loss);
        self.reward_chosen.add(pair.chosen_reward);
        self.reward_rejected.add(pair.rejected_reward);
        self.logprob_chosen.add(pair.chosen_logprob);
        self.logprob_rejected.add(pair.rejected_logprob);
        self.decided += usize::from(!pair.is_tie);
        self.correct += usize::from(!pair.is_tie && pair.chosen_reward > pair.rejected_reward);
    }

    /// Adds another micro-batch.
    pub fn merge(&mut self, other: &DpoMetrics) {
        self.pairs += other.pairs;
        self.loss.merge(other.loss);
        self.reward_chosen.merge(other.reward_chosen);
        self.reward_rejected.merge(other.reward_rejected);
        self.logprob_chosen.merge(other.logprob_chosen);
        self.logprob_rejected.merge(other.logprob_rejected);
        self.decided += other.decided;
        self.correct += other.correct;
    }

    /// The sum of the pairs' losses.
    pub(super) fn total_loss(&self) -> f64 {
        self.loss.total()
    }

    /// Mean loss per pair.
    pub fn mean_loss(&self) -> f64 {
        self.loss.mean(self.pairs)
    }

    /// `rewards/chosen`: mean of `beta * (policy - reference)`.
    pub fn rewards_chosen(&self) -> f64 {
        self.reward_chosen.mean(self.pairs)
    }

    /// `rewards/rejected`.
    pub fn rewards_rejected(&self) -> f64 {
        self.reward_rejected.mean(self.pairs)
    }

    /// `rewards/margins`: mean of chosen minus rejected.
    pub fn rewards_margins(&self) -> f64 {
        self.rewards_chosen() - self.rewards_rejected()
    }

    /// `rewards/accuracies`: share of pairs whose chosen reward is strictly greater, so 0 while policy = reference.
    /// Ties (a probability of 0.5) are left out; `None` if all are ties.
    pub fn rewards_accuracies(&self) -> Option<f64> {
        (self.decided > 0).then(|| self.correct as f64 / self.decided as f64)
    }

    /// `logps/chosen`: mean policy log-prob of a chosen answer, nats.
    pub fn logps_chosen(&self) -> f64 {
        self.logprob_chosen.mean(self.pairs)
    }

    /// `logps/rejected`.
    pub fn logps_rejected(&self) -> f64 {
        self.logprob_rejected.mean(self.pairs)
    }
}
