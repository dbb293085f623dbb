//! The critic: its values before each action, and its objective, the clipped value loss.
//!
//! Contract: values are on the scale of normalised scores. The head's raw output goes through the reward model's
//! [`RewardScale`], so a critic that starts as a copy of the reward model starts on the scale of its targets.

use super::rollout::Rollout;
use crate::losses::LossError;
use crate::losses::value::{ValueInputs, ValueMetrics, value_loss};
use crate::objective::{Head, Objective, Sequence};
use crate::reward::scalars;
use crate::scale::RewardScale;
use solon_model::{Adapter, Backend, Decoder, ScalarHead};

/// The critic's value before each token of each answer, `[n_actions]`, on the scale of normalised scores.
///
/// - `answers`: each a prompt, not empty, and the answer after it
pub fn values<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    head: &ScalarHead<B>,
    scale: RewardScale,
    answers: &[(&[u32], &[u32])],
    tokens_per_pass: usize,
) -> Vec<f32> {
    let sequences = answers.iter().map(|(prompt, answer)| Sequence::of_answer(prompt, answer)).collect();
    let raw = scalars(decoder, adapter, head, sequences, tokens_per_pass);
    raw.into_iter().map(|raw| scale.normalise(raw)).collect()
}

/// A rollout's sequences as items.
pub(super) struct ValueObjective<'a> {
    pub rollout: &'a Rollout,
    /// `[n_actions]`, recorded with the rollout.
    pub old_values: &'a [f32],
    /// `[n_actions]`, the targets.
    pub returns: &'a [f32],
    pub clip: Option<f64>,
    pub scale: RewardScale,
}

impl Objective for ValueObjective<'_> {
    type Metrics = ValueMetrics;

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
        Head::Scalars(self.scale)
    }

    /// Actions.
    fn normaliser(&self, batch: &[usize]) -> f64 {
        self.rollout.count_actions(batch) as f64
    }

    fn loss(
        &self,
        items: &[usize],
        values: &[f32],
        normaliser: f64,
        metrics: &mut ValueMetrics,
    ) -> Result<Vec<f32>, LossError> {
        let inputs = ValueInputs {
            values,
            old_values: &self.rollout.of_items(items, self.old_values),
            returns: &self.rollout.of_items(items, self.returns),
        };
        let output = value_loss(&inputs, self.clip, normaliser)?;
        metrics.merge(&output.metrics);
        Ok(output.d_values)
    }

    fn report(&self, metrics: &ValueMetrics) -> Vec<(&'static str, f64)> {
        vec![
            ("loss/value_avg", metrics.mean_loss()),
            ("val/value_avg", metrics.mean_value()),
            ("val/clipfrac_avg", metrics.clip_fraction()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::add_gradient;
    use crate::reward::rewards;
    use crate::tiny;
    use solon_kernels::Precision;

    const SCALE: RewardScale = RewardScale { mean: -0.75, deviation: 1.25 };

    #[test]
    fn a_critic_that_is_the_reward_model_gives_the_normalised_score() {
        let learner = tiny::learner(true);
        let (adapter, head) = (learner.adapter.as_ref(), learner.scalar.as_ref().unwrap());
        let (prompt, answer) = (tiny::tokens(1, 5), tiny::tokens(2, 4));
        let score = rewards(&learner.decoder, adapter, head, &[(&prompt, &answer)], 64)[0];
        // The value at the answer's last token is the value before the token that would follow.
        let longer = [&answer[..], &[7]].concat();
        let values = values(&learner.decoder, adapter, head, SCALE, &[(&prompt, &longer)], 64);
        assert_eq!(values.len(), 5);
        assert_eq!(values[4], SCALE.normalise(score));
        assert_ne!(values[4], score);
    }

    #[test]
    fn gradients_through_the_scale_match_finite_differences() {
        let rollout = Rollout {
            ids: vec!["0".into(), "1".into()],
            prompts: vec![tiny::tokens(1, 5), tiny::tokens(2, 3)],
            groups: vec![None; 2],
            each: 1,
            answers: vec![tiny::tokens(3, 2), tiny::tokens(4, 3)],
            ended: vec![true, false],
            lengths: vec![2, 3],
            logprobs: vec![0.0; 5],
        };
        let objective = ValueObjective {
            rollout: &rollout,
            old_values: &[0.0; 5],
            returns: &[1.0, -0.5, 2.0, 0.25, -1.0],
            clip: None,
            scale: SCALE,
        };
        let mut learner = tiny::learner_in(Precision::F32, true);
        let settings = tiny::settings();
        add_gradient(&mut learner, None, &objective, &[0, 1], &settings, &mut 0).unwrap();
        let backend = *learner.decoder.backend();
        let gradient = learner.gradients.scalar.as_ref().map(|g| backend.download(g).into_owned()).unwrap();

        let weight = backend.download(&learner.scalar.as_ref().unwrap().weight).into_owned();
        let loss = |weight: Vec<f32>| {
            let head = ScalarHead::new(&backend, weight);
            let pairs = rollout.pairs();
            let values = values(&learner.decoder, learner.adapter.as_ref(), &head, SCALE, &pairs, 64);
            let inputs = ValueInputs { values: &values, old_values: &[0.0; 5], returns: objective.returns };
            value_loss(&inputs, None, 5.0).unwrap().loss
        };
        // The loss is quadratic in the head's weight, so a wide step has no truncation error.
        for i in 0..weight.len() {
            let moved = |by: f32| {
                let mut weight = weight.clone();
                weight[i] += by;
                loss(weight)
            };
            let numeric = moved(0.25) - moved(-0.25);
            let error = (numeric / 0.5 - f64::from(gradient[i])).abs();
            assert!(error < 1e-4 * gradient[i].abs().max(1.0) as f64, "[{i}]: {} {numeric}", gradient[i]);
        }
    }
}
