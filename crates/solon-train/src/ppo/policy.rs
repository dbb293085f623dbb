//! The policy's objective: the clipped surrogate over a rollout's actions.

use super::rollout::Rollout;
use crate::losses::LossError;
use crate::losses::policy::{PolicyInputs, PolicyMetrics, PolicySettings, policy_loss};
use crate::objective::{Head, Objective, Sequence};

/// A rollout's sequences as items.
pub(super) struct PolicyObjective<'a> {
    pub rollout: &'a Rollout,
    /// `[n_actions]`.
    pub advantages: &'a [f32],
    pub settings: PolicySettings,
    /// The sampling temperature.
    pub temperature: f32,
}

impl Objective for PolicyObjective<'_> {
    type Metrics = PolicyMetrics;

    fn count(&self) -> usize {
        self.rollout.answers.len()
    }

    fn id(&self, item: usize) -> &str {
        self.rollout.id(item)
    }

    fn sequences(&self, item: usize) -> Vec<Sequence> {
        vec![self.rollout.sequence(item)]
    }

    fn tokens(&self, item: usize) -> usize {
        self.rollout.tokens(item)
    }

    fn head(&self, _: usize) -> Head {
        Head::LogProbs { temperature: self.temperature }
    }

    /// Actions.
    fn normaliser(&self, batch: &[usize]) -> f64 {
        self.rollout.count_actions(batch) as f64
    }

    fn loss(
        &self,
        items: &[usize],
        logprobs: &[f32],
        normaliser: f64,
        metrics: &mut PolicyMetrics,
    ) -> Result<Vec<f32>, LossError> {
        let inputs = PolicyInputs {
            logprobs,
            old_logprobs: &self.rollout.of_items(items, &self.rollout.logprobs),
            advantages: &self.rollout.of_items(items, self.advantages),
        };
        let output = policy_loss(&inputs, &self.settings, normaliser)?;
        metrics.merge(&output.metrics);
        Ok(output.d_logprobs)
    }

    fn report(&self, metrics: &PolicyMetrics) -> Vec<(&'static str, f64)> {
        vec![
            ("loss/policy_avg", metrics.mean_loss()),
            ("policy/approxkl_avg", metrics.approximate_kl()),
            ("policy/clipfrac_avg", metrics.clip_fraction()),
            ("policy/dual_clipfrac_avg", metrics.dual_clip_fraction()),
            ("val/ratio", metrics.ratio_mean()),
            ("val/ratio_var", metrics.ratio_variance()),
        ]
    }
}
