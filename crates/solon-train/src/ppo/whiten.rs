//! Whitening: scale to variance one, with or without moving the mean to zero.
//!
//! Contract: mean and variance are taken over the whole slice, in order, in `f64`. The caller chooses whether the slice
//! is a micro-batch, a rank's rollout or the whole rollout. TRL and OpenRLHF differ in this, and only the whole rollout
//! is independent of the batching.
//! Source: TRL `masked_whiten` (`experimental/ppo/ppo_trainer.py`), which the goldens call; OpenRLHF
//! `trainer/ppo_utils/experience_maker.py`.

use crate::losses::{LossError, check_finite, check_lengths, check_setting};
use serde::{Deserialize, Serialize};

/// Whether the mean is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum WhitenMean {
    /// The mean becomes zero (`shift_mean=True`): advantages.
    Remove,
    /// The mean stays (`shift_mean=False`): rewards, whose sign matters to the value function.
    Keep,
}

/// The divisor of the sum of squares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum WhitenVariance {
    /// `n - 1`, Bessel's correction; needs two elements.
    Bessel,
    /// `n`.
    Biased,
}

/// How division by zero is avoided for a constant slice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum WhitenEpsilon {
    /// `1 / sqrt(variance + epsilon)`.
    Add(f64),
    /// `1 / sqrt(max(variance, epsilon))`.
    Floor(f64),
}

/// How to whiten.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Whitening {
    /// Whether the mean is removed.
    pub mean: WhitenMean,
    /// The divisor of the sum of squares.
    pub variance: WhitenVariance,
    /// How division by zero is avoided for a constant slice.
    pub epsilon: WhitenEpsilon,
}

/// `masked_whiten(advantages, mask)`.
pub const TRL_ADVANTAGES: Whitening = Whitening {
    mean: WhitenMean::Remove,
    variance: WhitenVariance::Bessel,
    epsilon: WhitenEpsilon::Add(1e-8),
};

/// `masked_whiten(rewards, mask, shift_mean=False)`.
pub const TRL_REWARDS: Whitening = Whitening { mean: WhitenMean::Keep, ..TRL_ADVANTAGES };

/// Biased variance, `clamp(min=1e-8).rsqrt()`.
pub const OPENRLHF_ADVANTAGES: Whitening = Whitening {
    mean: WhitenMean::Remove,
    variance: WhitenVariance::Biased,
    epsilon: WhitenEpsilon::Floor(1e-8),
};

/// Which library's whitening, by its name in a recipe: `trl` or `openrlhf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhiteningAs {
    /// Bessel's correction, epsilon added.
    Trl,
    /// Biased variance, epsilon as its floor.
    Openrlhf,
}

impl WhiteningAs {
    /// For advantages: the mean becomes zero.
    pub fn advantages(self) -> Whitening {
        match self {
            WhiteningAs::Trl => TRL_ADVANTAGES,
            WhiteningAs::Openrlhf => OPENRLHF_ADVANTAGES,
        }
    }

    /// For rewards: the mean stays.
    pub fn rewards(self) -> Whitening {
        Whitening { mean: WhitenMean::Keep, ..self.advantages() }
    }
}

/// Whitens `values`, `[n]`.
///
/// # Errors
/// Empty or non-finite input; a single element under Bessel's correction; an epsilon that is not positive.
///
/// ```
/// use solon_train::ppo::whiten::*;
/// assert_eq!(whiten(&[1.0, 3.0], &OPENRLHF_ADVANTAGES).unwrap(), [-1.0, 1.0]);
/// ```
pub fn whiten(values: &[f32], whitening: &Whitening) -> Result<Vec<f32>, LossError> {
    check_lengths(&[("values", values.len())])?;
    check_finite("values", values)?;
    let n = values.len() as f64;
    let divisor = match whitening.variance {
        WhitenVariance::Biased => n,
        WhitenVariance::Bessel => {
            check_setting("elements to whiten", n, n > 1.0, "at least 2 under Bessel's correction")?;
            n - 1.0
        }
    };
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
    let variance = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / divisor;
    let scale = match whitening.epsilon {
        WhitenEpsilon::Add(epsilon) => {
            check_setting("epsilon", epsilon, epsilon > 0.0, "positive")?;
            1.0 / (variance + epsilon).sqrt()
        }
        WhitenEpsilon::Floor(epsilon) => {
            check_setting("epsilon", epsilon, epsilon > 0.0, "positive")?;
            1.0 / variance.max(epsilon).sqrt()
        }
    };
    let shift = match whitening.mean {
        WhitenMean::Remove => 0.0,
        WhitenMean::Keep => mean,
    };
    Ok(values.iter().map(|&value| ((f64::from(value) - mean) * scale + shift) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_as_asked() {
        let values = [0.5, -2.0, 3.25, 1.0, 0.0];
        for (whitening, divisor, expected_mean) in
            [(TRL_ADVANTAGES, 4.0, 0.0), (TRL_REWARDS, 4.0, 0.55), (OPENRLHF_ADVANTAGES, 5.0, 0.0)]
        {
            let out = whiten(&values, &whitening).unwrap();
            let mean = out.iter().sum::<f32>() / 5.0;
            let variance = out.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / divisor;
            assert!(
                (mean - expected_mean).abs() < 1e-6 && (variance - 1.0).abs() < 1e-6,
                "{mean} {variance}"
            );
        }
    }

    #[test]
    fn a_constant_slice_stays_finite() {
        for whitening in [TRL_ADVANTAGES, OPENRLHF_ADVANTAGES] {
            assert_eq!(whiten(&[0.25; 4], &whitening).unwrap(), [0.0; 4]);
        }
        assert_eq!(whiten(&[0.25; 4], &TRL_REWARDS).unwrap(), [0.25; 4]);
    }

    #[test]
    fn refuses_bad_input() {
        assert_eq!(whiten(&[], &TRL_ADVANTAGES), Err(LossError::Empty { input: "values" }));
        assert!(matches!(whiten(&[1.0], &TRL_ADVANTAGES), Err(LossError::Setting { .. })));
        assert_eq!(whiten(&[1.0], &OPENRLHF_ADVANTAGES), Ok(vec![0.0]));
        assert!(matches!(whiten(&[1.0, f32::NAN], &TRL_REWARDS), Err(LossError::NotFinite { index: 1, .. })));
        let broken = Whitening { epsilon: WhitenEpsilon::Add(0.0), ..TRL_REWARDS };
        assert!(matches!(whiten(&[1.0, 2.0], &broken), Err(LossError::Setting { .. })));
    }
}
