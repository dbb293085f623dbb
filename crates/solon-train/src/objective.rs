//! The [`Objective`] trait: the sequences of an item, the positions whose outputs it needs, and the loss of these
//! outputs.
//!
//! Contract: like a loss, an objective knows no model. It gives token sequences and positions, gets one number for each
//! position, and returns the gradient with respect to these numbers. Packing, forward, backward and the update are
//! written once ([`crate::pass`], [`crate::trainer`]).

use crate::losses::LossError;
use crate::scale::RewardScale;
use crate::step::TrainError;

/// A sequence as it goes through the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// The positions whose outputs the objective needs, ascending. The log-prob at a position is that of the token
    /// after it.
    pub read: Vec<usize>,
}

impl Sequence {
    /// A prompt with its answer; the positions before each token of the answer.
    pub fn of_answer(prompt: &[u32], answer: &[u32]) -> Self {
        let tokens = [prompt, answer].concat();
        let read = (prompt.len() - 1..tokens.len() - 1).collect();
        Self { tokens, read }
    }

    /// A prompt with its answer; the position of its last token.
    pub fn read_at_end(prompt: &[u32], answer: &[u32]) -> Self {
        let tokens = [prompt, answer].concat();
        let read = vec![tokens.len() - 1];
        Self { tokens, read }
    }
}

/// The output that the objective needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Head {
    /// The log-prob of the next token, nats.
    LogProbs {
        /// Softmax temperature.
        temperature: f32,
    },
    /// The output of the scalar head, on this scale.
    Scalars(RewardScale),
    /// How far the next token's distribution is from the reference's: KL(reference ‖ model), nats.
    Divergences,
}

/// A loss over items, without a model.
pub trait Objective {
    /// Metrics of a step, merged over its passes.
    type Metrics: Default;

    /// How many items there are.
    fn count(&self) -> usize;

    /// The item's id.
    fn id(&self, item: usize) -> &str;

    /// An item's sequences.
    fn sequences(&self, item: usize) -> Vec<Sequence>;

    /// Approximate number of tokens that an item takes in a pass; used to cut a batch into passes.
    fn tokens(&self, item: usize) -> usize;

    /// The output that an item needs.
    fn head(&self, item: usize) -> Head;

    /// The divisor of a whole batch's loss.
    fn normaliser(&self, batch: &[usize]) -> f64;

    /// The gradient of the numbers of some items, if it is the same whatever the numbers are. Then the expensive output
    /// head runs once and not twice.
    fn known_gradient(&self, _items: &[usize], _normaliser: f64) -> Option<Vec<f32>> {
        None
    }

    /// The loss of some items of a batch.
    ///
    /// - `items`: all with the same head
    /// - `read`: one number for each position of each sequence of each of the `items`, in order
    /// - `normaliser`: that of the whole batch
    ///
    /// Adds to `metrics` and returns d loss / d `read`, `[read.len()]`.
    ///
    /// # Errors
    /// Errors of the loss. A value that is not finite makes the trainer skip the step.
    fn loss(
        &self,
        items: &[usize],
        read: &[f32],
        normaliser: f64,
        metrics: &mut Self::Metrics,
    ) -> Result<Vec<f32>, LossError>;

    /// A step's metrics under TRL's names; all finite.
    fn report(&self, metrics: &Self::Metrics) -> Vec<(&'static str, f64)>;
}

/// Refuses a learner without the head that the objective needs.
pub(crate) fn check_head(head: Head, has_scalar_head: bool, whose: &'static str) -> Result<(), TrainError> {
    match head {
        Head::Scalars(_) if !has_scalar_head => Err(TrainError::NoScalarHead { whose }),
        Head::Scalars(scale) => Ok(scale.validate()?),
        Head::LogProbs { .. } | Head::Divergences => Ok(()),
    }
}
