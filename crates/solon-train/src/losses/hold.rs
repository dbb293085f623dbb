//! Holding a model to its reference: the mean divergence of its next-token distributions from the reference's.
//!
//! Contract: `loss = sum(weights · divergences) / normaliser`, `d loss / d divergence = weight / normaliser`. A divergence
//! is KL(reference ‖ model) over the whole vocabulary, so it needs no sampled token and has none of a sample's noise: its
//! expected gradient is that of imitating samples of the reference. Source: knowledge distillation (Hinton et al. 2015)
//! with the model before training as the teacher.

use super::exact_sum::ExactSum;
use super::{LossError, check_finite, check_lengths, check_normaliser, check_term};

/// What [`hold_loss`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldOutput {
    /// This call's share of the step's loss, nats.
    pub loss: f64,
    /// `[n_positions]`, d loss / d divergence.
    pub d_divergences: Vec<f32>,
    /// Metrics; they can be merged.
    pub metrics: HoldMetrics,
}

/// Metrics of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldMetrics {
    /// Positions so far.
    pub positions: usize,
    divergence: ExactSum,
    weighted: ExactSum,
}

impl HoldMetrics {
    /// Adds another micro-batch.
    pub fn merge(&mut self, other: &HoldMetrics) {
        self.positions += other.positions;
        self.divergence.merge(other.divergence);
        self.weighted.merge(other.weighted);
    }

    /// The sum of the loss before its division by the normaliser, nats.
    pub fn weighted_sum(&self) -> f64 {
        self.weighted.total()
    }

    /// Mean divergence over all merged positions, nats; `None` if there were none.
    pub fn mean(&self) -> Option<f64> {
        (self.positions > 0).then(|| self.divergence.mean(self.positions))
    }
}

/// Weighted mean divergence.
///
/// - `divergences`: `[n_positions]`, nats
/// - `weights`: `[n_positions]`
/// - `normaliser`: the sum of the weights over the whole optimizer step
///
/// # Errors
/// Empty or non-finite input, inputs of different lengths, or a normaliser below 1.
///
/// ```
/// let output = solon_train::losses::hold::hold_loss(&[0.5, 0.25], &[1.0, 2.0], 4.0).unwrap();
/// assert_eq!((output.loss, output.d_divergences[1], output.metrics.mean()), (0.25, 0.5, Some(0.375)));
/// ```
pub fn hold_loss(divergences: &[f32], weights: &[f32], normaliser: f64) -> Result<HoldOutput, LossError> {
    check_lengths(&[("divergences", divergences.len()), ("weights", weights.len())])?;
    check_finite("divergences", divergences)?;
    check_finite("weights", weights)?;
    check_normaliser(normaliser)?;
    let mut metrics = HoldMetrics { positions: divergences.len(), ..HoldMetrics::default() };
    for (index, (divergence, weight)) in divergences.iter().zip(weights).enumerate() {
        let divergence = check_term("divergences", index, f64::from(*divergence))?;
        metrics.divergence.add(divergence);
        metrics.weighted.add(f64::from(*weight) * divergence);
    }
    Ok(HoldOutput {
        loss: metrics.weighted.total() / normaliser,
        d_divergences: gradient(weights, normaliser),
        metrics,
    })
}

/// The gradient of [`hold_loss`], which does not depend on the divergences: `weight / normaliser`.
pub fn gradient(weights: &[f32], normaliser: f64) -> Vec<f32> {
    weights.iter().map(|weight| (f64::from(*weight) / normaliser) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finite_difference::check_gradient;
    use super::*;

    const DIVERGENCES: [f32; 4] = [0.5, 0.0, 3.25, 0.125];
    const WEIGHTS: [f32; 4] = [1.0, 0.25, 2.0, 0.5];

    #[test]
    fn gradient_matches_finite_differences() {
        let output = hold_loss(&DIVERGENCES, &WEIGHTS, 3.0).unwrap();
        check_gradient(&DIVERGENCES, &output.d_divergences, |x| hold_loss(x, &WEIGHTS, 3.0).unwrap().loss);
    }

    #[test]
    fn accumulation_changes_nothing() {
        let whole = hold_loss(&DIVERGENCES, &WEIGHTS, 3.0).unwrap();
        let left = hold_loss(&DIVERGENCES[..1], &WEIGHTS[..1], 3.0).unwrap();
        let right = hold_loss(&DIVERGENCES[1..], &WEIGHTS[1..], 3.0).unwrap();
        assert!((left.loss + right.loss - whole.loss).abs() < 1e-15);
        let mut merged = left.metrics;
        merged.merge(&right.metrics);
        assert_eq!(merged, whole.metrics);
        assert_eq!(HoldMetrics::default().mean(), None);
    }

    #[test]
    fn refuses_bad_input() {
        assert_eq!(hold_loss(&[], &[], 1.0), Err(LossError::Empty { input: "divergences" }));
        let nan = hold_loss(&[0.5, f32::NAN], &[1.0; 2], 2.0);
        assert!(matches!(nan, Err(LossError::NotFinite { input: "divergences", index: 1, .. })));
        assert!(matches!(hold_loss(&[0.5], &[1.0; 2], 2.0), Err(LossError::Length { .. })));
    }
}
