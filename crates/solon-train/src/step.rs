//! What every trainer reports of a step, and how it can fail.

use crate::losses::LossError;
use crate::skipped::Skipped;
use std::collections::BTreeMap;

/// One optimizer step, or one PPO iteration.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct StepRecord {
    /// From 0.
    pub step: usize,
    /// Metrics by TRL's names; all finite. A skipped step has only those that could be computed.
    pub metrics: BTreeMap<&'static str, f64>,
    /// The items this step learnt from.
    pub items: Vec<String>,
    /// Tokens that went through the model, prompts included.
    pub tokens: usize,
    /// Why the step was not applied, if it was not: a value in it was not finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
}

/// Why training stopped.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A loss refused its inputs.
    #[error("step {step}: {source}")]
    Loss {
        /// Which step.
        step: usize,
        /// What the loss said.
        source: LossError,
    },
    /// A setting no run can mean, or inputs of an evaluation that a loss refuses.
    #[error(transparent)]
    Refused(#[from] LossError),
    /// Too many steps were skipped because their loss or gradient was not finite.
    #[error(
        "step {step}: {}; {count} steps of this run were skipped for such values, this one's items are {}\n\
         hint: lower the learning rate; if it worked until now, look into these items",
        skipped.reason,
        skipped.batch.iter().map(|item| item.id.as_str()).collect::<Vec<_>>().join(", ")
    )]
    NotFinite {
        /// The last of them.
        step: usize,
        /// How many there were.
        count: usize,
        /// What was not finite in the last, and its items.
        skipped: Box<Skipped>,
    },
    /// A learner without the head that what it is trained for reads.
    #[error("{whose} has no scalar head\nhint: reward models and critics need one")]
    NoScalarHead {
        /// Which learner.
        whose: &'static str,
    },
    /// Nothing to train on.
    #[error("there is nothing to train on: {what} is empty")]
    Empty {
        /// Which input.
        what: &'static str,
    },
    /// An example that cannot be used.
    #[error("{id}: {reason}")]
    Example {
        /// Which one.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Sampling and training disagree, which the engine promises never happens.
    #[error(
        "step {step}: the sampled log-probs differ from the trainer's by up to {difference} nats; \
         they are computed by the same kernels and must be equal: please report this"
    )]
    OneEngine {
        /// Which step.
        step: usize,
        /// Largest difference.
        difference: f64,
    },
    /// A checkpoint that does not fit what is being trained.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
}

/// Training as a sequence of steps that can be broken off after any of them and gone on with.
pub trait Trainer {
    /// Steps in all.
    fn total_steps(&self) -> usize;

    /// Does step `step`, counted from 0. Steps must be done in order.
    ///
    /// A step whose loss or gradient is not finite is not applied, and its record says so
    /// ([`StepRecord::skipped`]).
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] at one skipped step too many, and whatever else ends the training.
    fn step(&mut self, step: usize) -> Result<StepRecord, TrainError>;

    /// Everything the steps from `next_step` on depend on.
    fn checkpoint(&self, next_step: usize) -> Result<Vec<u8>, TrainError>;

    /// Puts a checkpoint back and returns the step to do next.
    fn restore(&mut self, bytes: &[u8]) -> Result<usize, TrainError>;
}
