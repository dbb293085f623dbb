//! Direct preference optimisation (Rafailov et al. 2023) with soft labels, LoRA or full.
//!
//! The reference's log-probs are computed once, before the first step ([`reference_sums`]); no second model is kept.

use crate::learner::Learner;
use crate::losses::dpo::{DpoMetrics, DpoPairs, DpoSettings, dpo_loss};
use crate::losses::sequences::{spread_over_tokens, sum_by_sequence};
use crate::losses::{LossError, check_lengths};
use crate::objective::{Head, Objective, Sequence};
use crate::pair::TokenPair;
use crate::settings::TrainSettings;
use crate::step::TrainError;
use crate::trainer::BatchTrainer;
use solon_draws::Draws;
use solon_infer::engine::Engine;
use solon_infer::prefixes::IN_USE;
use solon_infer::score::ScoreItem;
use solon_model::{Adapter, Backend, Decoder};

/// Summed log-probs of each pair's chosen and rejected answer under a model, nats.
pub fn reference_sums<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    pairs: &[TokenPair],
    progress: &mut dyn FnMut(usize),
) -> Vec<[f64; 2]> {
    let items: Vec<ScoreItem> = pairs
        .iter()
        .map(|pair| ScoreItem {
            prompt: pair.prompt.clone(),
            completions: vec![pair.chosen.clone(), pair.rejected.clone()],
        })
        .collect();
    let sum = |logprobs: &[f32]| logprobs.iter().map(|x| f64::from(*x)).sum::<f64>();
    let scores = Engine::new(decoder, adapter, IN_USE).score(&items, 1.0, progress);
    scores.iter().map(|both| [sum(&both[0]), sum(&both[1])]).collect()
}

/// The objective: make chosen answers more likely than under the reference, and rejected ones less likely.
pub struct Dpo<'a> {
    pairs: &'a [TokenPair],
    references: Vec<[f64; 2]>,
    loss: DpoSettings,
}

/// DPO over a set of pairs.
pub type DpoTrainer<'a, B> = BatchTrainer<'a, B, Dpo<'a>>;

impl<'a, B: Backend> DpoTrainer<'a, B> {
    /// `references[i]` are pair i's sums from [`reference_sums`].
    ///
    /// # Errors
    /// Settings out of range, an empty set, a pair that is not oriented, or a number of references other than the
    /// number of pairs.
    pub fn new(
        learner: &'a mut Learner<B>,
        pairs: &'a [TokenPair],
        references: Vec<[f64; 2]>,
        settings: TrainSettings,
        loss: DpoSettings,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        TokenPair::check_all(pairs)?;
        loss.validate()?;
        check_lengths(&[("pairs", pairs.len()), ("references", references.len())])?;
        Self::of(learner, Dpo { pairs, references, loss }, settings, draws)
    }
}

impl Objective for Dpo<'_> {
    type Metrics = DpoMetrics;

    fn count(&self) -> usize {
        self.pairs.len()
    }

    fn id(&self, item: usize) -> &str {
        &self.pairs[item].id
    }

    fn sequences(&self, item: usize) -> Vec<Sequence> {
        self.pairs[item].sequences(Sequence::of_answer)
    }

    fn tokens(&self, item: usize) -> usize {
        self.pairs[item].tokens()
    }

    fn head(&self, _: usize) -> Head {
        Head::LogProbs { temperature: 1.0 }
    }

    /// Pairs.
    fn normaliser(&self, batch: &[usize]) -> f64 {
        batch.len() as f64
    }

    fn loss(
        &self,
        items: &[usize],
        logprobs: &[f32],
        normaliser: f64,
        metrics: &mut DpoMetrics,
    ) -> Result<Vec<f32>, LossError> {
        let pairs: Vec<&TokenPair> = items.iter().map(|i| &self.pairs[*i]).collect();
        let chosen_tokens: Vec<usize> = pairs.iter().map(|pair| pair.chosen.len()).collect();
        let rejected_tokens: Vec<usize> = pairs.iter().map(|pair| pair.rejected.len()).collect();
        let lengths: Vec<usize> =
            pairs.iter().flat_map(|pair| [pair.chosen.len(), pair.rejected.len()]).collect();
        let probability: Vec<f32> = pairs.iter().map(|pair| pair.probability).collect();
        let references: Vec<[f64; 2]> = items.iter().map(|i| self.references[*i]).collect();
        let (reference_chosen, reference_rejected) = sides(&references);
        let sums = sum_by_sequence(logprobs, &lengths)?;
        let (policy_chosen, policy_rejected) = sides(sums.as_chunks::<2>().0);
        let inputs = DpoPairs {
            policy_chosen: &policy_chosen,
            policy_rejected: &policy_rejected,
            reference_chosen: &reference_chosen,
            reference_rejected: &reference_rejected,
            chosen_tokens: &chosen_tokens,
            rejected_tokens: &rejected_tokens,
            probability: &probability,
        };
        let output = dpo_loss(&inputs, &self.loss, normaliser)?;
        metrics.merge(&output.metrics);
        let d_sums: Vec<f32> =
            output.d_chosen.iter().zip(&output.d_rejected).flat_map(|(c, r)| [*c, *r]).collect();
        spread_over_tokens(&d_sums, &lengths)
    }

    fn report(&self, metrics: &DpoMetrics) -> Vec<(&'static str, f64)> {
        let mut report = vec![
            ("loss", metrics.mean_loss()),
            ("rewards/chosen", metrics.rewards_chosen()),
            ("rewards/rejected", metrics.rewards_rejected()),
            ("rewards/margins", metrics.rewards_margins()),
            ("logps/chosen", metrics.logps_chosen()),
            ("logps/rejected", metrics.logps_rejected()),
        ];
        report.extend(metrics.rewards_accuracies().map(|accuracy| ("rewards/accuracies", accuracy)));
        report
    }
}

/// Splits sums into those of chosen and of rejected answers.
fn sides(sums: &[[f64; 2]]) -> (Vec<f64>, Vec<f64>) {
    sums.iter().map(|[chosen, rejected]| (*chosen, *rejected)).unzip()
}
