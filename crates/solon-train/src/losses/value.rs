//! PPO's clipped value loss.
//!
//! Contract: `0.5 * max((value - return)^2, (clip(value, old - c, old + c) - return)^2)` per position. The gradient is
//! `value - return` if the first term is the larger, else zero. The caller weights it against the policy loss
//! (`vf_coef`). Source: Schulman's `baselines/ppo2`; TRL `ppo_trainer.py`, which the goldens run.

use super::exact_sum::ExactSum;
use super::{LossError, check_finite, check_lengths, check_normaliser, check_setting, check_term};

/// Rollout positions; every slice is `[n_actions]`.
#[derive(Clone, Copy, Debug)]
pub struct ValueInputs<'a> {
    /// Values of the critic being trained.
    pub values: &'a [f32],
    /// Values recorded with the rollout.
    pub old_values: &'a [f32],
    /// Targets: advantages before whitening, plus `old_values`.
    pub returns: &'a [f32],
}

/// What [`value_loss`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueOutput {
    /// This call's share of the step's loss.
    pub loss: f64,
    /// `[n_actions]`, d loss / d values.
    pub d_values: Vec<f32>,
    /// Metrics; they can be merged.
    pub metrics: ValueMetrics,
}

/// Metrics of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ValueMetrics {
    /// Positions so far.
    pub tokens: usize,
    loss: ExactSum,
    value: ExactSum,
    clipped: usize,
}

impl ValueMetrics {
    /// Adds another micro-batch.
    pub fn merge(&mut self, other: &ValueMetrics) {
        self.tokens += other.tokens;
        self.loss.merge(other.loss);
        self.value.merge(other.value);
        self.clipped += other.clipped;
    }

    /// Mean loss per position.
    pub fn mean_loss(&self) -> f64 {
        self.loss.mean(self.tokens)
    }

    /// Mean value.
    pub fn mean_value(&self) -> f64 {
        self.value.mean(self.tokens)
    }

    /// `val/clipfrac`: share of positions for which the clipped term is the larger.
    pub fn clip_fraction(&self) -> f64 {
        self.clipped as f64 / self.tokens.max(1) as f64
    }
}

/// The clipped value loss of a batch of positions.
///
/// - `clip`: how far a value may move from its old one; `None` does not clip
/// - `normaliser`: action tokens of the whole optimizer step
///
/// # Errors
/// A clip that is not positive; empty, unequal or non-finite inputs.
///
/// ```
/// use solon_train::losses::value::*;
/// let inputs = ValueInputs { values: &[1.0], old_values: &[0.0], returns: &[2.0] };
/// assert_eq!(value_loss(&inputs, None, 1.0).unwrap().loss, 0.5);
/// let clipped = value_loss(&inputs, Some(0.5), 1.0).unwrap(); // 0.5 * (0.5 - 2)^2 is the larger
/// assert_eq!((clipped.loss, clipped.d_values[0]), (1.125, 0.0));
/// ```
pub fn value_loss(
    inputs: &ValueInputs<'_>,
    clip: Option<f64>,
    normaliser: f64,
) -> Result<ValueOutput, LossError> {
    if let Some(clip) = clip {
        check_setting("value clip", clip, clip > 0.0, "positive")?;
    }
    check_normaliser(normaliser)?;
    let n = inputs.values.len();
    check_lengths(&[
        ("values", n),
        ("old_values", inputs.old_values.len()),
        ("returns", inputs.returns.len()),
    ])?;
    check_finite("values", inputs.values)?;
    check_finite("old_values", inputs.old_values)?;
    check_finite("returns", inputs.returns)?;

    let mut metrics = ValueMetrics { tokens: n, ..ValueMetrics::default() };
    let mut d_values = Vec::with_capacity(n);
    for token in 0..n {
        let (value, old) = (f64::from(inputs.values[token]), f64::from(inputs.old_values[token]));
        let target = f64::from(inputs.returns[token]);
        let near = clip.map_or(value, |clip| value.clamp(old - clip, old + clip));
        let (free, held) = ((value - target).powi(2), (near - target).powi(2));
        let is_clipped = held > free;
        d_values.push(if is_clipped { 0.0 } else { ((value - target) / normaliser) as f32 });
        metrics.loss.add(check_term("loss", token, 0.5 * free.max(held))?);
        metrics.value.add(check_term("values", token, value)?);
        metrics.clipped += usize::from(is_clipped);
    }
    Ok(ValueOutput { loss: metrics.loss.total() / normaliser, d_values, metrics })
}

#[cfg(test)]
mod tests {
    use super::super::finite_difference::check_gradient;
    use super::*;

    // Within the clip; beyond it away from the target (not clipped), towards it (clipped), and past the target (clipped
    // or not).
    const INPUTS: ValueInputs<'static> = ValueInputs {
        values: &[0.125, 1.0, 1.0, 3.0, -0.75],
        old_values: &[0.0, 0.0, 0.0, 0.0, 0.5],
        returns: &[1.0, -1.0, 2.0, 1.0, 0.25],
    };

    #[test]
    fn gradients_match_finite_differences() {
        for clip in [None, Some(0.25)] {
            let output = value_loss(&INPUTS, clip, 7.0).unwrap();
            check_gradient(INPUTS.values, &output.d_values, |x| {
                value_loss(&ValueInputs { values: x, ..INPUTS }, clip, 7.0).unwrap().loss
            });
        }
        let clipped = value_loss(&INPUTS, Some(0.25), 5.0).unwrap();
        assert_eq!(clipped.metrics.clip_fraction(), 0.2);
        assert_eq!(clipped.metrics.mean_loss(), clipped.loss);
    }

    #[test]
    fn refuses_bad_input() {
        let empty = ValueInputs { values: &[], old_values: &[], returns: &[] };
        assert_eq!(value_loss(&empty, None, 1.0), Err(LossError::Empty { input: "values" }));
        let nan = ValueInputs { returns: &[0.0, f32::NAN, 0.0, 0.0, 0.0], ..INPUTS };
        assert!(matches!(
            value_loss(&nan, None, 5.0),
            Err(LossError::NotFinite { input: "returns", index: 1, .. })
        ));
        assert!(matches!(value_loss(&INPUTS, Some(0.0), 5.0), Err(LossError::Setting { .. })));
    }
}
