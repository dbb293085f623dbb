//! The scale of a reward model's outputs, and their normalisation to mean 0 and standard deviation 1.
//!
//! Contract: `normalised = (raw - mean) / deviation`, so `d loss / d raw = d loss / d normalised / deviation`. PPO
//! normalises the scores of answers *and* the critic's values with the same scale. The critic starts as a copy of the
//! reward model. Without the common scale its first values would be on another scale than their targets, and value
//! clipping would keep it from catching up.
//! Source: "The N Implementation Details of RLHF with PPO", 9; OpenRLHF `models/model.py`, which normalises reward
//! model and critic alike.

use crate::losses::{LossError, check_finite, check_lengths, check_setting};

/// The smallest deviation used. A reward model that gives every answer the same reward has a deviation of zero.
pub const SMALLEST_DEVIATION: f64 = 1e-3;

/// Mean and standard deviation of a reward model on some reference answers.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RewardScale {
    /// The mean, which is subtracted.
    pub mean: f32,
    /// The standard deviation, which is the divisor; positive.
    pub deviation: f32,
}

impl RewardScale {
    /// Leaves every number unchanged, to the bit.
    pub const RAW: RewardScale = RewardScale { mean: 0.0, deviation: 1.0 };

    /// The scale of `rewards`, `[n]`: their mean and their biased standard deviation, at least [`SMALLEST_DEVIATION`].
    ///
    /// # Errors
    /// No rewards, or one that is not finite.
    ///
    /// ```
    /// use solon_train::RewardScale;
    /// let scale = RewardScale::of(&[1.0, 5.0]).unwrap();
    /// assert_eq!((scale.mean, scale.deviation, scale.normalise(5.0)), (3.0, 2.0, 1.0));
    /// ```
    pub fn of(rewards: &[f32]) -> Result<Self, LossError> {
        check_lengths(&[("rewards", rewards.len())])?;
        check_finite("rewards", rewards)?;
        let count = rewards.len() as f64;
        let mean = rewards.iter().map(|r| f64::from(*r)).sum::<f64>() / count;
        let variance = rewards.iter().map(|r| (f64::from(*r) - mean).powi(2)).sum::<f64>() / count;
        Ok(Self { mean: mean as f32, deviation: variance.sqrt().max(SMALLEST_DEVIATION) as f32 })
    }

    /// Refuses a scale that is not finite or has no positive deviation.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), LossError> {
        check_setting("reward mean", self.mean.into(), true, "finite")?;
        check_setting("reward deviation", self.deviation.into(), self.deviation > 0.0, "positive")
    }

    /// A raw number on this scale.
    pub fn normalise(&self, raw: f32) -> f32 {
        (raw - self.mean) / self.deviation
    }

    /// The gradient with respect to the raw number, from the gradient with respect to the normalised one.
    pub fn gradient(&self, d_normalised: f32) -> f32 {
        d_normalised / self.deviation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::finite_difference::check_gradient;

    #[test]
    fn the_gradient_matches_finite_differences() {
        let scale = RewardScale { mean: -0.75, deviation: 1.25 };
        let raw = [0.5, -2.0, 3.0];
        let gradient: Vec<f32> = raw.iter().map(|r| scale.gradient(2.0 * scale.normalise(*r))).collect();
        // In f64, as the losses after the scale are: differences of f32 quotients would show their rounding.
        let loss = |raw: &[f32]| raw.iter().map(|r| ((f64::from(*r) + 0.75) / 1.25).powi(2)).sum::<f64>();
        check_gradient(&raw, &gradient, loss);
    }

    #[test]
    fn the_raw_scale_changes_no_bit() {
        for x in [0.1f32, -3.75e-20, f32::MAX, -0.0] {
            assert_eq!(RewardScale::RAW.normalise(x).to_bits(), x.to_bits());
            assert_eq!(RewardScale::RAW.gradient(x).to_bits(), x.to_bits());
        }
    }

    #[test]
    fn refuses_what_has_no_scale() {
        assert!(RewardScale::of(&[]).is_err());
        assert!(matches!(RewardScale::of(&[0.0, f32::NAN]), Err(LossError::NotFinite { index: 1, .. })));
        assert_eq!(RewardScale::of(&[2.0, 2.0]).unwrap().deviation, 1e-3);
        assert!(RewardScale { mean: 0.0, deviation: 0.0 }.validate().is_err());
    }
}
