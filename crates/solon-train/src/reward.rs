//! Reward models from pairs with soft labels: a scalar head read at the last token of each answer.
//!
//! Source: Bai et al. 2022 §4.1 (soft targets); Stiennon et al. 2020 for the pairwise loss. The two answers share their
//! prompt's computation.

use crate::learner::Learner;
use crate::losses::reward::{RewardMetrics, RewardPairs, reward_loss};
use crate::losses::{LossError, check_setting};
use crate::objective::{Head, Objective, Sequence};
use crate::pair::TokenPair;
use crate::pass::pack;
use crate::scale::RewardScale;
use crate::schedule::passes;
use crate::settings::TrainSettings;
use crate::step::TrainError;
use crate::trainer::BatchTrainer;
use solon_draws::Draws;
use solon_model::{Adapter, Backend, Decoder, ScalarHead};

/// The objective: chosen answers get higher rewards than rejected ones.
pub struct Reward<'a> {
    pairs: &'a [TokenPair],
    centering: f64,
}

/// Reward-model training over a set of pairs.
pub type RewardTrainer<'a, B> = BatchTrainer<'a, B, Reward<'a>>;

impl<'a, B: Backend> RewardTrainer<'a, B> {
    /// `centering` is the weight of `(r_chosen + r_rejected)²`; 0 is off.
    ///
    /// # Errors
    /// Settings out of range, a learner without a scalar head, an empty set, or a pair that is not oriented.
    pub fn new(
        learner: &'a mut Learner<B>,
        pairs: &'a [TokenPair],
        settings: TrainSettings,
        centering: f64,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        TokenPair::check_all(pairs)?;
        check_setting("centering", centering, centering >= 0.0, "at least 0")?;
        Self::of(learner, Reward { pairs, centering }, settings, draws)
    }
}

impl Objective for Reward<'_> {
    type Metrics = RewardMetrics;

    fn count(&self) -> usize {
        self.pairs.len()
    }

    fn id(&self, item: usize) -> &str {
        &self.pairs[item].id
    }

    fn sequences(&self, item: usize) -> Vec<Sequence> {
        self.pairs[item].sequences(Sequence::read_at_end)
    }

    fn tokens(&self, item: usize) -> usize {
        self.pairs[item].tokens()
    }

    fn head(&self, _: usize) -> Head {
        Head::Scalars(RewardScale::RAW)
    }

    /// Pairs.
    fn normaliser(&self, batch: &[usize]) -> f64 {
        batch.len() as f64
    }

    fn loss(
        &self,
        items: &[usize],
        rewards: &[f32],
        normaliser: f64,
        metrics: &mut RewardMetrics,
    ) -> Result<Vec<f32>, LossError> {
        let pairs: Vec<&TokenPair> = items.iter().map(|i| &self.pairs[*i]).collect();
        let (chosen, rejected) = sides(rewards);
        let probability: Vec<f32> = pairs.iter().map(|pair| pair.probability).collect();
        let margin: Vec<f32> = pairs.iter().map(|pair| pair.margin.unwrap_or(0.0)).collect();
        let inputs = RewardPairs {
            chosen: &chosen,
            rejected: &rejected,
            probability: &probability,
            margin: Some(&margin),
        };
        let output = reward_loss(&inputs, self.centering, normaliser)?;
        metrics.merge(&output.metrics);
        Ok(output.d_chosen.iter().zip(&output.d_rejected).flat_map(|(c, r)| [*c, *r]).collect())
    }

    fn report(&self, metrics: &RewardMetrics) -> Vec<(&'static str, f64)> {
        let mut report = vec![
            ("loss", metrics.mean_loss()),
            ("margin", metrics.margin()),
            ("mean_reward", metrics.mean_reward()),
            ("min_reward", metrics.min_reward.into()),
            ("max_reward", metrics.max_reward.into()),
        ];
        report.extend(metrics.accuracy().map(|accuracy| ("accuracy", accuracy)));
        report
    }
}

/// Splits rewards into those of chosen and of rejected answers.
fn sides(rewards: &[f32]) -> (Vec<f32>, Vec<f32>) {
    rewards.as_chunks::<2>().0.iter().map(|[chosen, rejected]| (*chosen, *rejected)).unzip()
}

/// Rewards of answers after their prompts: `[items]`.
pub fn rewards<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    head: &ScalarHead<B>,
    items: &[(&[u32], &[u32])],
    tokens_per_pass: usize,
) -> Vec<f32> {
    let sequences = items.iter().map(|(prompt, answer)| Sequence::read_at_end(prompt, answer)).collect();
    scalars(decoder, adapter, head, sequences, tokens_per_pass)
}

/// The scalar head's outputs at all requested positions, in order.
pub(crate) fn scalars<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    head: &ScalarHead<B>,
    sequences: Vec<Sequence>,
    tokens_per_pass: usize,
) -> Vec<f32> {
    let all: Vec<usize> = (0..sequences.len()).collect();
    let mut out = Vec::new();
    for pass in passes(&all, tokens_per_pass, |i| sequences[i].tokens.len()) {
        let (pack, scored) = pack(&sequences[pass[0]..pass[0] + pass.len()]);
        out.extend(decoder.scalars(&decoder.hidden_states(adapter, &pack), &scored.rows, head));
    }
    out
}

/// How well a reward model orders pairs. Use pairs that it was not trained on.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct RewardEvaluation {
    /// All pairs.
    pub pairs: usize,
    /// Pairs that are not ties: their probability is not 0.5.
    pub decided: usize,
    /// Pairs among them whose chosen answer has strictly the greater reward.
    pub correct: usize,
    /// `correct / decided`; `None` if all are ties.
    pub accuracy: Option<f64>,
    /// Mean of chosen minus rejected reward over all pairs.
    pub margin: f64,
    /// Mean soft cross-entropy over all pairs, nats, without centering and graded margins.
    pub loss: f64,
    /// The loss of a model that gives every answer the same reward: ln 2. A higher loss is worse than that.
    pub constant_loss: f64,
    /// Mean entropy of the labels, nats: the lowest possible loss.
    pub label_entropy: f64,
    /// Mean reward over chosen and rejected answers.
    pub mean_reward: f64,
}

/// The rewards of each pair's chosen and rejected answer: `[n_pairs]`.
pub fn pair_rewards<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    head: &ScalarHead<B>,
    pairs: &[TokenPair],
    tokens_per_pass: usize,
) -> Vec<[f32; 2]> {
    let sequences = pairs.iter().flat_map(|pair| pair.sequences(Sequence::read_at_end)).collect();
    let rewards = scalars(decoder, adapter, head, sequences, tokens_per_pass);
    rewards.as_chunks::<2>().0.to_vec()
}

/// Measures a reward model on oriented pairs. Use pairs held out from its training.
///
/// # Errors
/// An empty set, a pair that is not oriented, or rewards that are not finite.
pub fn evaluate<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    head: &ScalarHead<B>,
    pairs: &[TokenPair],
    tokens_per_pass: usize,
) -> Result<RewardEvaluation, TrainError> {
    RewardEvaluation::of(pairs, &pair_rewards(decoder, adapter, head, pairs, tokens_per_pass))
}

impl RewardEvaluation {
    /// What these rewards, `[n_pairs]`, chosen first, say of the model that gave them.
    ///
    /// # Errors
    /// As [`evaluate`].
    pub fn of(pairs: &[TokenPair], rewards: &[[f32; 2]]) -> Result<Self, TrainError> {
        TokenPair::check_all(pairs)?;
        let (chosen, rejected) = sides(rewards.as_flattened());
        let probability: Vec<f32> = pairs.iter().map(|pair| pair.probability).collect();
        let inputs =
            RewardPairs { chosen: &chosen, rejected: &rejected, probability: &probability, margin: None };
        let metrics = reward_loss(&inputs, 0.0, pairs.len() as f64)?.metrics;
        let entropy: f64 = probability.iter().map(|p| entropy(f64::from(*p))).sum();
        Ok(RewardEvaluation {
            pairs: metrics.pairs,
            decided: metrics.decided,
            correct: metrics.correct,
            accuracy: metrics.accuracy(),
            margin: metrics.margin(),
            loss: metrics.mean_loss(),
            constant_loss: std::f64::consts::LN_2,
            label_entropy: entropy / pairs.len() as f64,
            mean_reward: metrics.mean_reward(),
        })
    }
}

/// Entropy of a label, nats.
fn entropy(p: f64) -> f64 {
    [p, 1.0 - p].into_iter().filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Trainer;
    use crate::tiny;

    #[test]
    fn an_evaluation_is_that_of_the_rewards() {
        let learner = tiny::learner(true);
        let (adapter, head) = (learner.adapter.as_ref(), learner.scalar.as_ref().unwrap());
        let mut pairs = tiny::pairs();
        pairs[1].probability = 0.5;
        let found = evaluate(&learner.decoder, adapter, head, &pairs, 24).unwrap();

        let reward = |prompt: &[u32], answer: &[u32]| {
            f64::from(rewards(&learner.decoder, adapter, head, &[(prompt, answer)], 24)[0])
        };
        let (mut correct, mut loss, mut margin) = (0, 0.0, 0.0);
        for (i, pair) in pairs.iter().enumerate() {
            let d = reward(&pair.prompt, &pair.chosen) - reward(&pair.prompt, &pair.rejected);
            let p = f64::from(pair.probability);
            loss += p * (-d).exp().ln_1p() + (1.0 - p) * d.exp().ln_1p();
            margin += d;
            correct += usize::from(i != 1 && d > 0.0);
        }
        assert_eq!((found.pairs, found.decided, found.correct), (7, 6, correct));
        assert_eq!(found.accuracy, Some(correct as f64 / 6.0));
        assert!((found.loss - loss / 7.0).abs() < 1e-9 && (found.margin - margin / 7.0).abs() < 1e-9);
        assert!(found.label_entropy < found.constant_loss && found.label_entropy <= found.loss);
        assert!(serde_json::to_string(&found).unwrap().contains("\"accuracy\":0."));
    }

    /// A reward model reads the end of the prompt where an answer is nothing but padding.
    #[test]
    fn an_answer_without_tokens_is_the_prompt_alone() {
        let mut pairs = tiny::pairs();
        pairs[0].rejected = Vec::new();
        let mut learner = tiny::learner(true);
        let (adapter, head) = (learner.adapter.as_ref(), learner.scalar.as_ref().unwrap());
        let [_, found] = pair_rewards(&learner.decoder, adapter, head, &pairs, 24)[0];
        let (last, before) = pairs[0].prompt.split_last().unwrap();
        let alone = rewards(&learner.decoder, adapter, head, &[(before, &[*last])], 24)[0];
        assert!((found - alone).abs() < 1e-6, "{found} and {alone}");
        let mut trainer =
            RewardTrainer::new(&mut learner, &pairs, tiny::settings(), 0.0, tiny::seed()).unwrap();
        assert!(trainer.step(0).unwrap().metrics["loss"].is_finite());
    }

    #[test]
    fn graded_margins_reach_the_loss() {
        let pairs = tiny::pairs();
        let graded: Vec<TokenPair> =
            pairs.iter().map(|pair| TokenPair { margin: Some(1.5), ..pair.clone() }).collect();
        let loss = |pairs: &[TokenPair]| {
            let mut metrics = RewardMetrics::default();
            let objective = Reward { pairs, centering: 0.0 };
            objective.loss(&[0, 2], &[1.0, 0.25, -0.5, 0.5], 2.0, &mut metrics).unwrap();
            metrics.mean_loss()
        };
        let by_hand =
            |d: f64, p: f32| f64::from(p) * (-d).exp().ln_1p() + (1.0 - f64::from(p)) * d.exp().ln_1p();
        let mean = |margin: f64| {
            (by_hand(0.75 - margin, pairs[0].probability) + by_hand(-1.0 - margin, pairs[2].probability))
                / 2.0
        };
        assert!((loss(&pairs) - mean(0.0)).abs() < 1e-9);
        assert!((loss(&graded) - mean(1.5)).abs() < 1e-9);
    }
}
