//! The reward model's pairwise loss, with soft labels, margins and centering.
//!
//! Contract: for each pair, with `d = chosen - rejected - margin`,
//! `-p log sigmoid(d) - (1 - p) log sigmoid(-d) + centering (chosen + rejected)^2`.
//! With `p = 1` it is TRL's `RewardTrainer`; `p` from log-probs of "(A)" and "(B)" is the preference-model target of
//! Constitutional AI (2212.08073, section 4.1). Centering: 2312.09244; TRL suggests 0.01.

use super::exact_sum::ExactSum;
use super::{
    LossError, check_finite, check_lengths, check_normaliser, check_probability, check_setting, check_term,
    log_sigmoid, sigmoid,
};

/// A batch of preference pairs; every slice is `[n_pairs]`.
#[derive(Clone, Copy, Debug)]
pub struct RewardPairs<'a> {
    /// Scalar reward of the chosen answer.
    pub chosen: &'a [f32],
    /// Scalar reward of the rejected answer.
    pub rejected: &'a [f32],
    /// Probability that "chosen" is the better one; 1 is a hard label.
    pub probability: &'a [f32],
    /// How much larger the chosen reward should be, if annotators graded it (Llama 2, 2307.09288, eq. 2).
    pub margin: Option<&'a [f32]>,
}

/// What [`reward_loss`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardOutput {
    /// This call's share of the step's loss.
    pub loss: f64,
    /// `[n_pairs]`, d loss / d chosen.
    pub d_chosen: Vec<f32>,
    /// `[n_pairs]`, d loss / d rejected.
    pub d_rejected: Vec<f32>,
    /// Metrics; they can be merged.
    pub metrics: RewardMetrics,
}

/// Metrics of a step, under TRL's names and definitions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RewardMetrics {
    /// Pairs so far.
    pub pairs: usize,
    /// `min_reward`: the smallest reward of either kind; infinite before the first pair.
    pub min_reward: f32,
    /// `max_reward`.
    pub max_reward: f32,
    /// Pairs that are not ties.
    pub decided: usize,
    /// Pairs among them whose chosen reward is strictly greater.
    pub correct: usize,
    loss: ExactSum,
    margin: ExactSum,
    reward: ExactSum,
}

impl Default for RewardMetrics {
    fn default() -> Self {
        let sum = ExactSum::default();
        let (min_reward, max_reward) = (f32::INFINITY, f32::NEG_INFINITY);
        RewardMetrics {
            pairs: 0,
            min_reward,
            max_reward,
            decided: 0,
            correct: 0,
            loss: sum,
            margin: sum,
            reward: sum,
        }
    }
}

impl RewardMetrics {
    /// Adds another micro-batch.
    pub fn merge(&mut self, other: &RewardMetrics) {
        self.pairs += other.pairs;
        self.min_reward = self.min_reward.min(other.min_reward);
        self.max_reward = self.max_reward.max(other.max_reward);
        self.loss.merge(other.loss);
        self.margin.merge(other.margin);
        self.reward.merge(other.reward);
        self.decided += other.decided;
        self.correct += other.correct;
    }

    /// Mean loss per pair.
    pub fn mean_loss(&self) -> f64 {
        self.loss.mean(self.pairs)
    }

    /// Share of pairs whose chosen reward is strictly greater. Ties (a probability of 0.5) are left out; `None` if all
    /// are ties.
    pub fn accuracy(&self) -> Option<f64> {
        (self.decided > 0).then(|| self.correct as f64 / self.decided as f64)
    }

    /// Mean of chosen minus rejected.
    pub fn margin(&self) -> f64 {
        self.margin.mean(self.pairs)
    }

    /// Mean over chosen and rejected rewards.
    pub fn mean_reward(&self) -> f64 {
        self.reward.mean(2 * self.pairs)
    }
}

/// The pairwise loss of a batch.
///
/// - `centering`: weight of `(chosen + rejected)^2`; 0 is off
/// - `normaliser`: pairs of the whole optimizer step
///
/// # Errors
/// Empty, unequal or non-finite inputs; a probability outside 0 to 1; a negative centering.
///
/// ```
/// use solon_train::losses::reward::*;
/// let pairs = RewardPairs { chosen: &[1.0], rejected: &[1.0], probability: &[0.75], margin: None };
/// let output = reward_loss(&pairs, 0.0, 1.0).unwrap();
/// assert_eq!((output.d_chosen[0], output.d_rejected[0]), (-0.25, 0.25)); // sigmoid(0) - 0.75
/// ```
pub fn reward_loss(
    pairs: &RewardPairs<'_>,
    centering: f64,
    normaliser: f64,
) -> Result<RewardOutput, LossError> {
    let n = pairs.chosen.len();
    check_lengths(&[
        ("chosen", n),
        ("rejected", pairs.rejected.len()),
        ("probability", pairs.probability.len()),
        ("margin", pairs.margin.map_or(n, <[f32]>::len)),
    ])?;
    check_finite("chosen", pairs.chosen)?;
    check_finite("rejected", pairs.rejected)?;
    check_finite("margin", pairs.margin.unwrap_or_default())?;
    check_probability(pairs.probability)?;
    check_setting("centering", centering, centering >= 0.0, "at least 0")?;
    check_normaliser(normaliser)?;

    let mut metrics = RewardMetrics { pairs: n, ..RewardMetrics::default() };
    let (mut d_chosen, mut d_rejected) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for pair in 0..n {
        let (chosen, rejected) = (f64::from(pairs.chosen[pair]), f64::from(pairs.rejected[pair]));
        let p = f64::from(pairs.probability[pair]);
        let margin = pairs.margin.map_or(0.0, |margins| f64::from(margins[pair]));
        let (d, sum) = (chosen - rejected - margin, chosen + rejected);
        let loss = -p * log_sigmoid(d) - (1.0 - p) * log_sigmoid(-d) + centering * sum * sum;
        // d/dd [-p log s(d) - (1-p) log s(-d)] = s(d) - p, written so that the small tail of a hard label is not lost.
        let d_difference = (1.0 - p) * sigmoid(d) - p * sigmoid(-d);
        let d_sum = 2.0 * centering * sum;
        d_chosen.push(((d_sum + d_difference) / normaliser) as f32);
        d_rejected.push(((d_sum - d_difference) / normaliser) as f32);

        metrics.loss.add(check_term("loss", pair, loss)?);
        metrics.margin.add(check_term("margin", pair, chosen - rejected)?);
        metrics.reward.add(check_term("reward", pair, sum)?);
        metrics.min_reward = metrics.min_reward.min(pairs.chosen[pair]).min(pairs.rejected[pair]);
        metrics.max_reward = metrics.max_reward.max(pairs.chosen[pair]).max(pairs.rejected[pair]);
        let is_tie = p == 0.5;
        metrics.decided += usize::from(!is_tie);
        metrics.correct += usize::from(!is_tie && chosen > rejected);
    }
    Ok(RewardOutput { loss: metrics.loss.total() / normaliser, d_chosen, d_rejected, metrics })
}

#[cfg(test)]
mod tests {
    use super::super::finite_difference::check_gradient;
    use super::*;

    const PAIRS: RewardPairs<'static> = RewardPairs {
        chosen: &[0.5, -1.25, 2.0, 0.0],
        rejected: &[0.25, 1.0, -3.0, 0.0],
        probability: &[1.0, 0.875, 0.375, 0.5],
        margin: Some(&[0.0, 0.5, 1.0, -0.25]),
    };

    #[test]
    fn gradients_match_finite_differences() {
        for margin in [None, PAIRS.margin] {
            let pairs = RewardPairs { margin, ..PAIRS };
            let output = reward_loss(&pairs, 0.01, 5.0).unwrap();
            check_gradient(pairs.chosen, &output.d_chosen, |x| {
                reward_loss(&RewardPairs { chosen: x, ..pairs }, 0.01, 5.0).unwrap().loss
            });
            check_gradient(pairs.rejected, &output.d_rejected, |x| {
                reward_loss(&RewardPairs { rejected: x, ..pairs }, 0.01, 5.0).unwrap().loss
            });
        }
    }

    #[test]
    fn metrics_merge_to_the_whole() {
        let half = |range: std::ops::Range<usize>| {
            let pairs = RewardPairs {
                chosen: &PAIRS.chosen[range.clone()],
                rejected: &PAIRS.rejected[range.clone()],
                probability: &PAIRS.probability[range],
                margin: None,
            };
            reward_loss(&pairs, 0.0, 4.0).unwrap().metrics
        };
        let mut merged = RewardMetrics::default();
        merged.merge(&half(0..3));
        merged.merge(&half(3..4));
        assert_eq!(merged, half(0..4));
        assert_eq!((merged.min_reward, merged.max_reward), (-3.0, 2.0));
        assert_eq!((merged.decided, merged.accuracy()), (3, Some(2.0 / 3.0)), "the last pair is a tie");
        assert_eq!(half(3..4).accuracy(), None);
    }

    #[test]
    fn a_hopeless_pair_has_a_finite_loss_and_a_confident_one_a_gradient() {
        let pairs = |chosen: &'static [f32]| RewardPairs {
            chosen,
            rejected: &[0.0],
            probability: &[1.0],
            margin: None,
        };
        let hopeless = reward_loss(&pairs(&[-2000.0]), 0.0, 1.0).unwrap();
        assert_eq!((hopeless.loss, hopeless.d_chosen[0]), (2000.0, -1.0));
        let confident = reward_loss(&pairs(&[40.0]), 0.0, 1.0).unwrap();
        assert!(confident.d_chosen[0] < 0.0, "sigmoid(40) - 1 is 0 in f64, its gradient is not");
    }

    #[test]
    fn refuses_bad_input() {
        let error = |pairs: RewardPairs<'_>| reward_loss(&pairs, 0.0, 4.0).unwrap_err();
        assert_eq!(error(RewardPairs { chosen: &[], ..PAIRS }), LossError::Empty { input: "chosen" });
        assert!(matches!(error(RewardPairs { margin: Some(&[0.0]), ..PAIRS }), LossError::Length { .. }));
        assert!(matches!(
            error(RewardPairs { rejected: &[0.0, f32::INFINITY, 0.0, 0.0], ..PAIRS }),
            LossError::NotFinite { input: "rejected", index: 1, .. }
        ));
        assert!(reward_loss(&PAIRS, -1.0, 4.0).is_err());
    }
}
