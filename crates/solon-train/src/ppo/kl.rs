//! KL divergence from the reference: per-token estimators, and the controllers of its coefficient.
//!
//! Contract: estimates are per sampled token, in nats. The controller uses the **sum over a sequence, averaged over
//! sequences** ([`mean_sequence_kl`]), which is what the published targets (6 nats) refer to. OpenRLHF's controller
//! uses a per-token mean, with which a target of 6 would never be reached.
//! Source: Schulman, "Approximating KL Divergence" (joschu.net/blog/kl-approx.html), for k1, k2, k3; Ziegler et al.
//! (1909.08593) section 2.2 and TRL 0.11 `AdaptiveKLController` for the controller.

use crate::losses::sequences::split;
use crate::losses::{LossError, check_finite, check_lengths, check_setting};

/// How the KL of a sampled token is estimated, with `r = reference / policy` at the token; `k1`, `k2` or `k3` in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlEstimator {
    /// `-log r`: unbiased, may be negative.
    K1,
    /// `(log r)^2 / 2`: biased, never negative.
    K2,
    /// `r - 1 - log r`: unbiased, never negative; its variance is unbounded.
    K3,
}

impl KlEstimator {
    /// The estimate at one token, nats.
    ///
    /// ```
    /// use solon_train::ppo::kl::KlEstimator;
    /// let (policy, reference) = (-1.0, -1.5);
    /// assert_eq!(KlEstimator::K1.estimate(policy, reference), 0.5);
    /// assert_eq!(KlEstimator::K2.estimate(policy, reference), 0.125);
    /// assert!((KlEstimator::K3.estimate(policy, reference) - ((-0.5f64).exp() - 0.5)).abs() < 1e-15);
    /// ```
    pub fn estimate(self, logprob: f32, reference_logprob: f32) -> f64 {
        let log_ratio = f64::from(reference_logprob) - f64::from(logprob);
        match self {
            KlEstimator::K1 => -log_ratio,
            KlEstimator::K2 => 0.5 * log_ratio * log_ratio,
            // With exp_m1 the estimate does not round to zero or below if the two log-probs are nearly equal.
            KlEstimator::K3 => log_ratio.exp_m1() - log_ratio,
        }
    }
}

/// The KL at every token.
///
/// - `logprobs`, `reference_logprobs`: `[n_actions]`, nats, at the sampling temperature
/// - `clamp`: bound on the estimate, either way (OpenRLHF: 10); `None` does not bound it
///
/// # Errors
/// Empty, unequal or non-finite inputs; a clamp that is not positive; an estimate too large for `f32` (k3 without
/// clamp, if a token is e^88 times more likely under the reference).
pub fn kl_per_token(
    estimator: KlEstimator,
    logprobs: &[f32],
    reference_logprobs: &[f32],
    clamp: Option<f64>,
) -> Result<Vec<f32>, LossError> {
    check_lengths(&[("logprobs", logprobs.len()), ("reference_logprobs", reference_logprobs.len())])?;
    check_finite("logprobs", logprobs)?;
    check_finite("reference_logprobs", reference_logprobs)?;
    if let Some(clamp) = clamp {
        check_setting("kl clamp", clamp, clamp > 0.0, "positive")?;
    }
    let bound = clamp.unwrap_or(f64::INFINITY);
    let pairs = logprobs.iter().zip(reference_logprobs);
    let kl: Vec<f32> = pairs.map(|(&p, &q)| estimator.estimate(p, q).clamp(-bound, bound) as f32).collect();
    check_finite("kl", &kl)?;
    Ok(kl)
}

/// The mean over sequences of each sequence's summed KL, nats: `objective/kl`, and what [`KlController::update`] takes.
///
/// - `kl`: `[n_actions]`, nats
/// - `lengths`: `[n_sequences]`
///
/// # Errors
/// No sequences, an empty one, or lengths that do not add up.
pub fn mean_sequence_kl(kl: &[f32], lengths: &[usize]) -> Result<f64, LossError> {
    check_finite("kl", kl)?;
    let sum: f64 = split(kl, lengths, "kl")?.flatten().map(|&token| f64::from(token)).sum();
    Ok(sum / lengths.len() as f64)
}

/// How the KL coefficient moves. In a recipe `"fixed"` or `{ adaptive = { target = 6.0, horizon = 10000.0 } }`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum KlControl {
    /// It stays the same.
    Fixed,
    /// It follows a target for the per-sequence KL (Ziegler et al. 2019 §2.2).
    Adaptive {
        /// KL per sequence, nats.
        target: f64,
        /// The time constant of the control, in sequences.
        horizon: f64,
    },
}

impl KlControl {
    /// A controller that starts at `coefficient`.
    ///
    /// # Errors
    /// As [`KlController::fixed`] and [`KlController::adaptive`].
    pub fn controller(self, coefficient: f64) -> Result<KlController, LossError> {
        match self {
            KlControl::Fixed => KlController::fixed(coefficient),
            KlControl::Adaptive { target, horizon } => KlController::adaptive(coefficient, target, horizon),
        }
    }
}

/// The coefficient of the KL penalty: fixed, or adapted towards a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KlController {
    coefficient: f64,
    adaptation: Option<Adaptation>,
}

/// The adaptive controller's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Adaptation {
    target: f64,
    horizon: f64,
}

impl KlController {
    /// A fixed coefficient.
    ///
    /// # Errors
    /// It must be at least 0.
    pub fn fixed(coefficient: f64) -> Result<Self, LossError> {
        check_setting("kl coefficient", coefficient, coefficient >= 0.0, "at least 0")?;
        Ok(KlController { coefficient, adaptation: None })
    }

    /// A coefficient that is adapted so that [`mean_sequence_kl`] approaches `target` nats, over about `horizon`
    /// sequences. TRL's classic settings are 0.2, 6 and 10000. To resume, start from the saved
    /// [`coefficient`](Self::coefficient).
    ///
    /// # Errors
    /// All three must be positive. A target of 0 would divide by zero (OpenRLHF #1289); for as little KL as possible,
    /// use a large fixed coefficient. A coefficient of 0 would stay 0.
    pub fn adaptive(coefficient: f64, target: f64, horizon: f64) -> Result<Self, LossError> {
        check_setting("kl coefficient", coefficient, coefficient > 0.0, "positive to be adapted")?;
        check_setting("kl target", target, target > 0.0, "positive, in nats per sequence")?;
        check_setting("kl horizon", horizon, horizon > 0.0, "positive, in sequences")?;
        Ok(KlController { coefficient, adaptation: Some(Adaptation { target, horizon }) })
    }

    /// The coefficient for the next rollout.
    pub fn coefficient(&self) -> f64 {
        self.coefficient
    }

    /// Updates after a rollout: `coefficient *= 1 + clip(kl / target - 1, -0.2, 0.2) * sequences / horizon`.
    ///
    /// - `mean_sequence_kl`: nats, summed over each sequence
    /// - `sequences`: how many the rollout had, over all ranks
    ///
    /// # Errors
    /// A KL that is not finite, or so many sequences for the horizon that the coefficient could fall to 0 or below.
    pub fn update(&mut self, mean_sequence_kl: f64, sequences: usize) -> Result<(), LossError> {
        check_finite("mean_sequence_kl", &[mean_sequence_kl])?;
        let Some(Adaptation { target, horizon }) = self.adaptation else {
            return Ok(());
        };
        let steps = sequences as f64 / horizon;
        check_setting("sequences / kl horizon", steps, steps < 5.0, "below 5: raise the horizon")?;
        let error = (mean_sequence_kl / target - 1.0).clamp(-0.2, 0.2);
        self.coefficient *= 1.0 + error * steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimators_agree_with_the_divergence_they_estimate() {
        let (policy, reference) = ([0.5f32, 0.3, 0.2], [0.25f32, 0.25, 0.5]);
        let exact: f64 =
            policy.iter().zip(&reference).map(|(&p, &q)| f64::from(p) * f64::from(p / q).ln()).sum();
        for estimator in [KlEstimator::K1, KlEstimator::K3] {
            let mean: f64 = policy
                .iter()
                .zip(&reference)
                .map(|(&p, &q)| f64::from(p) * estimator.estimate(p.ln(), q.ln()))
                .sum();
            assert!((mean - exact).abs() < 1e-6, "{estimator:?} is unbiased: {mean} {exact}");
        }
    }

    #[test]
    fn k2_and_k3_are_never_negative() {
        for difference in [-5.0f32, -1e-6, 0.0, 1e-6, 5.0] {
            assert!(KlEstimator::K2.estimate(difference, 0.0) >= 0.0);
            assert!(KlEstimator::K3.estimate(difference, 0.0) >= 0.0);
        }
    }

    #[test]
    fn the_controller_moves_towards_its_target() {
        let mut controller = KlController::adaptive(0.2, 6.0, 10000.0).unwrap();
        controller.update(60.0, 1000).unwrap();
        assert!((controller.coefficient() - 0.2 * 1.02).abs() < 1e-12, "the error is clipped at 0.2");
        controller.update(6.0, 1000).unwrap();
        assert!((controller.coefficient() - 0.2 * 1.02).abs() < 1e-12, "on target nothing moves");
        controller.update(5.4, 1000).unwrap();
        assert!((controller.coefficient() - 0.2 * 1.02 * 0.99).abs() < 1e-12);
        let mut fixed = KlController::fixed(0.05).unwrap();
        fixed.update(60.0, 1000).unwrap();
        assert_eq!(fixed.coefficient(), 0.05);
    }

    #[test]
    fn control_sees_sums_over_sequences() {
        assert_eq!(mean_sequence_kl(&[1.0, 2.0, 3.0, 6.0], &[3, 1]).unwrap(), 6.0);
    }

    #[test]
    fn refuses_bad_input() {
        for (coefficient, target, horizon) in
            [(0.2, 0.0, 1e4), (0.0, 6.0, 1e4), (0.2, 6.0, 0.0), (0.2, f64::NAN, 1.0)]
        {
            assert!(matches!(
                KlController::adaptive(coefficient, target, horizon),
                Err(LossError::Setting { .. })
            ));
        }
        assert!(KlController::fixed(-0.1).is_err());
        assert!(KlController::adaptive(0.2, 6.0, 10.0).unwrap().update(0.0, 50).is_err());
        assert!(KlController::fixed(0.1).unwrap().update(f64::NAN, 1).is_err());
        assert!(kl_per_token(KlEstimator::K1, &[], &[], None).is_err());
        assert!(matches!(
            kl_per_token(KlEstimator::K3, &[-1.0, -200.0], &[-1.0, 0.0], None),
            Err(LossError::NotFinite { input: "kl", index: 1, .. })
        ));
        assert_eq!(kl_per_token(KlEstimator::K3, &[-200.0], &[0.0], Some(10.0)), Ok(vec![10.0]));
    }
}
