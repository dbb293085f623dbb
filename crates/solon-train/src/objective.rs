//! What a trainer trains towards: which sequences an item is, where they are read, and how what was read becomes a loss.
//!
//! Contract: an objective knows no model, as a loss knows none. It gives token sequences and the places where they are
//! read, gets one number for each place, and returns the gradient with respect to these numbers. Packing, forward,
//! backward and the update are written once ([`crate::pass`], [`crate::trainer`]).

use crate::losses::LossError;
use crate::scale::RewardScale;
use crate::step::TrainError;

/// A sequence as it goes through the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The positions where the model is read, ascending. A position's log-prob is that of the token after it.
    pub read: Vec<usize>,
}

impl Sequence {
    /// A prompt with its answer, read before each token of the answer.
    pub fn of_answer(prompt: &[u32], answer: &[u32]) -> Self {
        let tokens = [prompt, answer].concat();
        let read = (prompt.len() - 1..tokens.len() - 1).collect();
        Self { tokens, read }
    }

    /// A prompt with its answer, read at its last token.
    pub fn read_at_end(prompt: &[u32], answer: &[u32]) -> Self {
        let tokens = [prompt, answer].concat();
        let read = vec![tokens.len() - 1];
        Self { tokens, read }
    }
}

/// What is read of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// The log-prob of the next token, nats.
    LogProbs {
        /// Softmax temperature.
        temperature: f32,
    },
    /// The scalar head's number, on this scale.
    Scalars(RewardScale),
}

/// A loss over items, without a model.
pub trait Objective {
    /// What a step reports, merged over its passes.
    type Metrics: Default;

    /// How many items there are.
    fn count(&self) -> usize;

    /// Where an item came from.
    fn id(&self, item: usize) -> &str;

    /// An item's sequences.
    fn sequences(&self, item: usize) -> Vec<Sequence>;

    /// Tokens an item takes in a pass, about; a batch is cut into passes by it.
    fn tokens(&self, item: usize) -> usize;

    /// What is read of the model.
    fn head(&self) -> Head;

    /// What the loss of a whole batch is divided by.
    fn normaliser(&self, batch: &[usize]) -> f64;

    /// The gradient of every number that is read, where it is the same whatever was read. The output head, which is dear,
    /// then runs once instead of twice.
    fn known_gradient(&self, _normaliser: f64) -> Option<f32> {
        None
    }

    /// The loss of some items of a batch.
    ///
    /// - `read`: one number for each place of each sequence of each of the `items`, in order
    /// - `normaliser`: that of the whole batch
    ///
    /// Adds to `metrics` and returns d loss / d `read`, `[read.len()]`.
    ///
    /// # Errors
    /// What the loss refuses. A value that is not finite makes the trainer skip the step.
    fn loss(
        &self,
        items: &[usize],
        read: &[f32],
        normaliser: f64,
        metrics: &mut Self::Metrics,
    ) -> Result<Vec<f32>, LossError>;

    /// A step's metrics by TRL's names; all finite.
    fn report(&self, metrics: &Self::Metrics) -> Vec<(&'static str, f64)>;
}

/// Refuses a learner that lacks what the objective reads.
pub(crate) fn check_head(head: Head, has_scalar_head: bool, whose: &'static str) -> Result<(), TrainError> {
    match head {
        Head::Scalars(_) if !has_scalar_head => Err(TrainError::NoScalarHead { whose }),
        Head::Scalars(scale) => Ok(scale.validate()?),
        Head::LogProbs { .. } => Ok(()),
    }
}
