//! The record of a training step, the errors of training, and the [`Trainer`] trait.

use crate::losses::LossError;
use crate::skipped::Skipped;
use std::collections::BTreeMap;

/// One optimizer step, or one PPO iteration.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct StepRecord {
    /// Number of the step, from 0.
    pub step: usize,
    /// Metrics under TRL's names; all finite. A skipped step has only those that could be computed.
    pub metrics: BTreeMap<&'static str, f64>,
    /// The ids of the step's items.
    pub items: Vec<String>,
    /// Tokens that went through the model, prompts included.
    pub tokens: usize,
    /// Why the step was skipped, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<Skipped>,
}

/// An error of training.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A loss refused its inputs.
    #[error("step {step}: {source}")]
    Loss {
        /// Number of the step.
        step: usize,
        /// The loss's error.
        source: LossError,
    },
    /// A setting is out of range, or a loss refused the inputs of an evaluation.
    #[error(transparent)]
    Refused(#[from] LossError),
    /// Too many steps were skipped because their loss or gradient was not finite.
    #[error(
        "step {step}: {}; {count} steps of this run were skipped because a value was not finite; the items of this step are {}\n\
         hint: lower the learning rate; if training was stable so far, check these items",
        skipped.reason,
        skipped.batch.iter().map(|item| item.id.as_str()).collect::<Vec<_>>().join(", ")
    )]
    NotFinite {
        /// The last of these steps.
        step: usize,
        /// The number of these steps.
        count: usize,
        /// The last of them: what was not finite, and its items.
        skipped: Box<Skipped>,
    },
    /// The learner has no scalar head, but its objective needs one.
    #[error("{whose} has no scalar head\nhint: reward models and critics need one")]
    NoScalarHead {
        /// Name of the learner.
        whose: &'static str,
    },
    /// There is nothing to train on.
    #[error("there is nothing to train on: {what} is empty")]
    Empty {
        /// Name of the input.
        what: &'static str,
    },
    /// An example cannot be used.
    #[error("{id}: {reason}")]
    Example {
        /// The example's id.
        id: String,
        /// The reason.
        reason: String,
    },
    /// Sampling and training give different log-probs; the engine promises that this never happens.
    #[error(
        "step {step}: the sampled log-probs differ from the trainer's by up to {difference} nats; \
         they come from the same kernels and must be equal\nhint: this is a bug in Solon; please report it"
    )]
    OneEngine {
        /// Number of the step.
        step: usize,
        /// The largest difference, nats.
        difference: f64,
    },
    /// A checkpoint does not fit what is being trained.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
}

/// Training as a sequence of steps. It can be interrupted after any step and resumed.
pub trait Trainer {
    /// Total number of steps.
    fn total_steps(&self) -> usize;

    /// Runs step `step`, counted from 0. Steps must be run in order.
    ///
    /// A step whose loss or gradient is not finite is not applied, and its record says so ([`StepRecord::skipped`]).
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] if too many steps were skipped, and every other error that ends the training.
    fn step(&mut self, step: usize) -> Result<StepRecord, TrainError>;

    /// The state that all steps from `next_step` on depend on, as bytes.
    fn checkpoint(&self, next_step: usize) -> Result<Vec<u8>, TrainError>;

    /// Restores a checkpoint and returns the next step to run.
    fn restore(&mut self, bytes: &[u8]) -> Result<usize, TrainError>;
}
