//! Supervised fine-tuning: the mean negative log-likelihood of the scored tokens.
//!
//! Contract: `loss = -sum(logprobs) / normaliser`, `d loss / d logprob = -1 / normaliser`. The loss mask decides which
//! tokens are scored. Source: `transformers`' `ForCausalLMLoss` with `num_items_in_batch`.

use super::exact_sum::ExactSum;
use super::{LossError, check_finite, check_lengths, check_normaliser, check_term};

/// What [`sft_loss`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct SftOutput {
    /// This call's share of the step's loss, nats per token.
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
}

impl SftMetrics {
    /// Adds another micro-batch.
    pub fn merge(&mut self, other: &SftMetrics) {
        self.tokens += other.tokens;
        self.nll.merge(other.nll);
    }

    /// Mean negative log-likelihood over all merged tokens, nats.
    pub fn mean_nll(&self) -> f64 {
        self.nll.mean(self.tokens)
    }
}

/// Mean negative log-likelihood.
///
/// - `logprobs`: `[n_scored]`, nats, of the target tokens
/// - `normaliser`: scored tokens of the whole optimizer step
///
/// # Errors
/// Empty or non-finite input, or a normaliser below 1.
///
/// ```
/// let output = solon_train::losses::sft::sft_loss(&[-1.0, -2.0], 4.0).unwrap();
/// assert_eq!((output.loss, output.d_logprobs[0], output.metrics.mean_nll()), (0.75, -0.25, 1.5));
/// ```
pub fn sft_loss(logprobs: &[f32], normaliser: f64) -> Result<SftOutput, LossError> {
    check_lengths(&[("logprobs", logprobs.len())])?;
    check_finite("logprobs", logprobs)?;
    check_normaliser(normaliser)?;
    let mut metrics = SftMetrics { tokens: logprobs.len(), ..SftMetrics::default() };
    for (index, &logprob) in logprobs.iter().enumerate() {
        metrics.nll.add(check_term("logprobs", index, -f64::from(logprob))?);
    }
    Ok(SftOutput {
        loss: metrics.nll.total() / normaliser,
        d_logprobs: vec![(-1.0 / normaliser) as f32; logprobs.len()],
        metrics,
    })
}

#[cfg(test)]
mod tests {
    use super::super::finite_difference::check_gradient;
    use super::*;

    const LOGPROBS: [f32; 5] = [-0.5, -3.25, -0.125, -7.0, -1.75];

    #[test]
    fn gradient_matches_finite_differences() {
        let output = sft_loss(&LOGPROBS, 9.0).unwrap();
        check_gradient(&LOGPROBS, &output.d_logprobs, |x| sft_loss(x, 9.0).unwrap().loss);
    }

    #[test]
    fn accumulation_changes_nothing() {
        let whole = sft_loss(&LOGPROBS, 5.0).unwrap();
        let (left, right) = (sft_loss(&LOGPROBS[..1], 5.0).unwrap(), sft_loss(&LOGPROBS[1..], 5.0).unwrap());
        assert!((left.loss + right.loss - whole.loss).abs() < 1e-15);
        assert_eq!([left.d_logprobs, right.d_logprobs].concat(), whole.d_logprobs);
        let mut merged = left.metrics;
        merged.merge(&right.metrics);
        assert_eq!(merged, whole.metrics);
        assert_eq!(merged.mean_nll(), whole.loss);
    }

    #[test]
    fn refuses_bad_input() {
        assert_eq!(sft_loss(&[], 1.0), Err(LossError::Empty { input: "logprobs" }));
        assert!(matches!(sft_loss(&[-1.0, f32::NAN], 2.0), Err(LossError::NotFinite { index: 1, .. })));
        assert!(matches!(sft_loss(&[-1.0], 0.0), Err(LossError::Setting { setting: "normaliser", .. })));
    }
}
