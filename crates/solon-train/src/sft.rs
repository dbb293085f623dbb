//! Supervised fine-tuning: mean negative log-likelihood of the scored tokens of a batch.

use crate::learner::Learner;
use crate::losses::LossError;
use crate::losses::sft::{SftMetrics, sft_loss};
use crate::objective::{Head, Objective, Sequence};
use crate::settings::TrainSettings;
use crate::step::TrainError;
use crate::trainer::BatchTrainer;
use solon_draws::Draws;
use solon_model::Backend;

/// A tokenised conversation.
#[derive(Clone, Debug)]
pub struct SftExample {
    /// The conversation's id.
    pub id: String,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Which tokens are trained on, `[tokens]`.
    pub mask: Vec<bool>,
}

impl SftExample {
    /// The positions whose next token is trained on; no position predicts the first token.
    fn read(&self) -> impl Iterator<Item = usize> + '_ {
        (1..self.tokens.len()).filter(|at| self.mask[*at]).map(|at| at - 1)
    }
}

/// The objective: maximise the likelihood of the demonstrations.
pub struct Sft<'a> {
    examples: &'a [SftExample],
}

/// SFT over a set of examples.
pub type SftTrainer<'a, B> = BatchTrainer<'a, B, Sft<'a>>;

impl<'a, B: Backend> SftTrainer<'a, B> {
    /// Trains on `examples`.
    ///
    /// # Errors
    /// Settings out of range, an empty set, or an example without tokens to train on.
    pub fn new(
        learner: &'a mut Learner<B>,
        examples: &'a [SftExample],
        settings: TrainSettings,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        if examples.is_empty() {
            return Err(TrainError::Empty { what: "the set of demonstrations" });
        }
        for example in examples {
            let fault = if example.mask.len() != example.tokens.len() {
                "its loss mask is not as long as its tokens"
            } else if example.read().next().is_none() {
                "its loss mask is empty: no assistant turn in it"
            } else {
                continue;
            };
            return Err(TrainError::Example { id: example.id.clone(), reason: fault.to_owned() });
        }
        Self::of(learner, Sft { examples }, settings, draws)
    }
}

impl Objective for Sft<'_> {
    type Metrics = SftMetrics;

    fn count(&self) -> usize {
        self.examples.len()
    }

    fn id(&self, item: usize) -> &str {
        &self.examples[item].id
    }

    fn sequences(&self, item: usize) -> Vec<Sequence> {
        let example = &self.examples[item];
        vec![Sequence { tokens: example.tokens.clone(), read: example.read().collect() }]
    }

    fn tokens(&self, item: usize) -> usize {
        self.examples[item].tokens.len()
    }

    fn head(&self) -> Head {
        Head::LogProbs { temperature: 1.0 }
    }

    /// The number of tokens that are trained on.
    fn normaliser(&self, batch: &[usize]) -> f64 {
        batch.iter().map(|i| self.examples[*i].read().count()).sum::<usize>() as f64
    }

    fn constant_gradient(&self, normaliser: f64) -> Option<f32> {
        Some((-1.0 / normaliser) as f32)
    }

    fn loss(
        &self,
        _items: &[usize],
        logprobs: &[f32],
        normaliser: f64,
        metrics: &mut SftMetrics,
    ) -> Result<Vec<f32>, LossError> {
        let output = sft_loss(logprobs, normaliser)?;
        metrics.merge(&output.metrics);
        Ok(output.d_logprobs)
    }

    fn report(&self, metrics: &SftMetrics) -> Vec<(&'static str, f64)> {
        vec![("loss", metrics.mean_nll()), ("tokens", metrics.tokens as f64)]
    }
}
