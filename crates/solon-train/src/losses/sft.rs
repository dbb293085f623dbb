//! Supervised fine-tuning: the mean negative log-likelihood of the scored tokens.
//!
//! Contract: `loss = -sum(weights · logprobs) / normaliser`, `d loss / d logprob = -weight / normaliser`. The loss mask
//! decides which tokens are scored; with weights of 1 and the number of scored tokens as normaliser the loss is that of
//! `transformers`' `ForCausalLMLoss` with `num_items_in_batch`. Weights that sum to 1 over each sequence, with the number
//! of sequences as normaliser, give every sequence the same say, however long it is.

use super::exact_sum::ExactSum;
use super::{LossError, check_finite, check_lengths, check_normaliser, check_term};

/// What [`sft_loss`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct SftOutput {
    /// This call's share of the step's loss, nats.
    pub loss: f64,
    /// `[n_scored]`, d loss / d log-prob.
    pub d_logprobs: Vec<f32>,
    /// Metrics; they can be merged.
    pub metrics: SftMetrics,
}

/// Metrics of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SftMetrics {
    /// Scored tokens so far.
    pub tokens: usize,
    nll: ExactSum,
    weighted: ExactSum,
}

impl SftMetrics {
    /// Adds another micro-batch.
    pub fn merge(&mut self, other: &SftMetrics) {
        self.tokens += other.tokens;
        self.nll.merge(other.nll);
        self.weighted.merge(other.weighted);
    }

    /// The sum of the loss before its division by the normaliser, nats.
    pub fn weighted_sum(&self) -> f64 {
        self.weighted.total()
    }

    /// Mean negative log-likelihood over all merged tokens, nats.
    pub fn mean_nll(&self) -> f64 {
        self.nll.mean(self.tokens)
    }
}

/// Mean negative log-likelihood.
///
/// - `logprobs`: `[n_scored]`, nats, of the target tokens
/// - `weights`: `[n_scored]`
/// - `normaliser`: the sum of the weights over the whole optimizer step
///
/// # Errors
/// Empty or non-finite input, inputs of different lengths, or a normaliser below 1.
///
/// ```
/// let output = solon_train::losses::sft::sft_loss(&[-1.0, -2.0], &[1.0, 1.0], 4.0).unwrap();
/// assert_eq!((output.loss, output.d_logprobs[0], output.metrics.mean_nll()), (0.75, -0.25, 1.5));
/// ```
pub fn sft_loss(logprobs: &[f32], weights: &[f32], normaliser: f64) -> Result<SftOutput, LossError> {
    check_lengths(&[("logprobs", logprobs.len()), ("weights", weights.len())])?;
    check_finite("logprobs", logprobs)?;
    check_finite("weights", weights)?;
    check_normaliser(normaliser)?;
    let mut metrics = SftMetrics { tokens: logprobs.len(), ..SftMetrics::default() };
    for (index, (logprob, weight)) in logprobs.iter().zip(weights).enumerate() {
        let nll = check_term("logprobs", index, -f64::from(*logprob))?;
        metrics.nll.add(nll);
        metrics.weighted.add(f64::from(*weight) * nll);
    }
    Ok(SftOutput {
        loss: metrics.weighted.total() / normaliser,
        d_logprobs: gradient(weights, normaliser),
        metrics,
    })
}

/// The gradient of [`sft_loss`], which does not depend on the log-probs: `-weight / normaliser`.
pub fn gradient(weights: &[f32], normaliser: f64) -> Vec<f32> {
    weights.iter().map(|weight| (-f64::from(*weight) / normaliser) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finite_difference::check_gradient;
    use super::*;

    const LOGPROBS: [f32; 5] = [-0.5, -3.25, -0.125, -7.0, -1.75];
    const EQUAL: [f32; 5] = [1.0; 5];
    const WEIGHTS: [f32; 5] = [4.0, 4.0, 1.0, 1.0, 0.5];

    #[test]
    fn gradient_matches_finite_differences() {
        for weights in [EQUAL, WEIGHTS] {
            let output = sft_loss(&LOGPROBS, &weights, 9.0).unwrap();
            check_gradient(&LOGPROBS, &output.d_logprobs, |x| sft_loss(x, &weights, 9.0).unwrap().loss);
        }
    }

    #[test]
    fn accumulation_changes_nothing() {
        let whole = sft_loss(&LOGPROBS, &EQUAL, 5.0).unwrap();
        let part =
            |range: std::ops::Range<usize>| sft_loss(&LOGPROBS[range.clone()], &EQUAL[range], 5.0).unwrap();
        let (left, right) = (part(0..1), part(1..5));
        assert!((left.loss + right.loss - whole.loss).abs() < 1e-15);
        assert_eq!([left.d_logprobs, right.d_logprobs].concat(), whole.d_logprobs);
        let mut merged = left.metrics;
        merged.merge(&right.metrics);
        assert_eq!(merged, whole.metrics);
        assert_eq!(merged.mean_nll(), whole.loss);
    }

    #[test]
    fn a_heavier_token_counts_more_in_the_loss_and_not_in_the_metrics() {
        let output = sft_loss(&LOGPROBS, &WEIGHTS, 10.5).unwrap();
        let by_hand = (4.0 * 0.5 + 4.0 * 3.25 + 0.125 + 7.0 + 0.5 * 1.75) / 10.5;
        assert!((output.loss - by_hand).abs() < 1e-15);
        assert_eq!(output.metrics.mean_nll(), sft_loss(&LOGPROBS, &EQUAL, 5.0).unwrap().metrics.mean_nll());
    }

    #[test]
    fn refuses_bad_input() {
        assert_eq!(sft_loss(&[], &[], 1.0), Err(LossError::Empty { input: "logprobs" }));
        assert!(matches!(
            sft_loss(&[-1.0, f32::NAN], &[1.0; 2], 2.0),
            Err(LossError::NotFinite { index: 1, .. })
        ));
        assert!(matches!(sft_loss(&[-1.0], &[1.0; 2], 2.0), Err(LossError::Length { input: "weights", .. })));
        assert!(matches!(
            sft_loss(&[-1.0], &[1.0], 0.0),
            Err(LossError::Setting { setting: "normaliser", .. })
        ));
    }
}
