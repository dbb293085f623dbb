//! What every trainer reports of a step, and how it can fail.

use crate::losses::LossError;
use std::collections::BTreeMap;

/// One optimizer step, or one PPO iteration.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct StepRecord {
    /// From 0.
    pub step: usize,
    /// Metrics by TRL's names.
    pub metrics: BTreeMap<&'static str, f64>,
    /// The items this step learnt from.
    pub items: Vec<String>,
    /// Tokens that went through the model, prompts included.
    pub tokens: usize,
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

/// Attaches the step to a loss's error.
pub(crate) trait AtStep<T> {
    fn at_step(self, step: usize) -> Result<T, TrainError>;
}

impl<T> AtStep<T> for Result<T, LossError> {
    fn at_step(self, step: usize) -> Result<T, TrainError> {
        self.map_err(|source| TrainError::Loss { step, source })
    }
}

/// Training as a sequence of steps that can be broken off after any of them and gone on with.
pub trait Trainer {
    /// Steps in all.
    fn total_steps(&self) -> usize;

    /// Does step `step`, counted from 0. Steps must be done in order.
    fn step(&mut self, step: usize) -> Result<StepRecord, TrainError>;

    /// Everything the steps from `next_step` on depend on.
    fn checkpoint(&self, next_step: usize) -> Result<Vec<u8>, TrainError>;

    /// Puts a checkpoint back and returns the step to do next.
    fn restore(&mut self, bytes: &[u8]) -> Result<usize, TrainError>;
}
