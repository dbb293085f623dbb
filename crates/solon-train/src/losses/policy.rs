//! PPO's clipped surrogate.
//!
//! Contract: with `ratio = exp(logprob - old_logprob)` the loss of a token is `-min(ratio A, clip(ratio, 1 - clip_low,
//! 1 + clip_high) A)`. Its gradient with respect to the log-prob is `-ratio A` if the minimum is the unclipped term,
//! and zero if it is not.
//! Source: PPO, 1707.06347 eq. 7; TRL `ppo_trainer.py`; the log-ratio's bound of 20 and the dual clip as in OpenRLHF
//! `models/loss.py` (dual clip: 1912.09729). The caller applies the temperature: it must divide the logits of new, old
//! and reference log-probs alike.

use super::exact_sum::ExactSum;
use super::{LossError, check_finite, check_lengths, check_normaliser, check_setting, check_term};

/// The log-ratio is clamped to this: `exp(20)` is 5e8, and without the clamp one such token would overflow the step.
pub const LARGEST_LOG_RATIO: f64 = 20.0;

/// Rollout tokens; every slice is `[n_actions]`.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInputs<'a> {
    /// Log-probs under the policy being trained, nats.
    pub logprobs: &'a [f32],
    /// Log-probs recorded while sampling, nats.
    pub old_logprobs: &'a [f32],
    /// Advantages, whitened or not.
    pub advantages: &'a [f32],
}

/// Clipping settings of the surrogate.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct PolicySettings {
    /// The ratio's floor is `1 - clip_low`; above 0, at most 1.
    pub clip_low: f64,
    /// The ratio's ceiling is `1 + clip_high`; above 0.
    pub clip_high: f64,
    /// For negative advantages the loss is at most `-dual_clip A`; above 1 if given.
    pub dual_clip: Option<f64>,
}

impl PolicySettings {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), LossError> {
        let (low, high) = (self.clip_low, self.clip_high);
        check_setting("clip_low", low, low > 0.0 && low <= 1.0, "above 0 and at most 1")?;
        check_setting("clip_high", high, high > 0.0, "above 0")?;
        match self.dual_clip {
            Some(dual) => check_setting("dual_clip", dual, dual > 1.0, "above 1"),
            None => Ok(()),
        }
    }
}

/// What [`policy_loss`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyOutput {
    /// This call's share of the step's loss.
    pub loss: f64,
    /// `[n_actions]`, d loss / d logprobs.
    pub d_logprobs: Vec<f32>,
    /// Metrics; they can be merged.
    pub metrics: PolicyMetrics,
}

/// Metrics of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PolicyMetrics {
    /// Tokens so far.
    pub tokens: usize,
    /// The largest `|logprob - old_logprob|`. Zero in the first step on a rollout, since one engine samples and trains.
    pub largest_log_ratio: f64,
    loss: ExactSum,
    squared_log_ratio: ExactSum,
    ratio: ExactSum,
    squared_ratio: ExactSum,
    clipped: usize,
    dual_clipped: usize,
}

impl PolicyMetrics {
    /// Adds another micro-batch.
    pub fn merge(&mut self, other: &PolicyMetrics) {
        self.tokens += other.tokens;
        self.largest_log_ratio = self.largest_log_ratio.max(other.largest_log_ratio);
        self.loss.merge(other.loss);
        self.squared_log_ratio.merge(other.squared_log_ratio);
        self.ratio.merge(other.ratio);
        self.squared_ratio.merge(other.squared_ratio);
        self.clipped += other.clipped;
        self.dual_clipped += other.dual_clipped;
    }

    /// Mean loss per token.
    pub fn mean_loss(&self) -> f64 {
        self.loss.mean(self.tokens)
    }

    /// `policy/clipfrac`: share of tokens for which the clipped term is the smaller.
    pub fn clip_fraction(&self) -> f64 {
        self.clipped as f64 / self.tokens.max(1) as f64
    }

    /// Share of tokens limited by the dual clip.
    pub fn dual_clip_fraction(&self) -> f64 {
        self.dual_clipped as f64 / self.tokens.max(1) as f64
    }

    /// `policy/approxkl`: mean of `(logprob - old_logprob)^2 / 2`, nats.
    pub fn approximate_kl(&self) -> f64 {
        0.5 * self.squared_log_ratio.mean(self.tokens)
    }

    /// `val/ratio`: mean ratio; near 1 in a healthy run.
    pub fn ratio_mean(&self) -> f64 {
        self.ratio.mean(self.tokens)
    }

    /// Variance of the ratio over tokens, biased. TRL's `val/ratio_var` is the variance of micro-batch means, which
    /// gets smaller for larger micro-batches.
    pub fn ratio_variance(&self) -> f64 {
        (self.squared_ratio.mean(self.tokens) - self.ratio_mean() * self.ratio_mean()).max(0.0)
    }
}

/// The clipped surrogate of a batch of tokens.
///
/// - `normaliser`: action tokens of the whole optimizer step
///
/// # Errors
/// Settings out of range; empty, unequal or non-finite inputs.
///
/// ```
/// use solon_train::losses::policy::*;
/// let settings = PolicySettings { clip_low: 0.2, clip_high: 0.2, dual_clip: None };
/// let inputs = PolicyInputs { logprobs: &[-1.0, -1.0], old_logprobs: &[-1.0, -3.0], advantages: &[0.5, 0.5] };
/// let output = policy_loss(&inputs, &settings, 2.0).unwrap();
/// assert_eq!(output.d_logprobs, [-0.25, 0.0]); // the second ratio, exp(2), is clipped to 1.2
/// assert!((output.loss + 0.55).abs() < 1e-9); // -(0.5 + 1.2 * 0.5) / 2
/// ```
pub fn policy_loss(
    inputs: &PolicyInputs<'_>,
    settings: &PolicySettings,
    normaliser: f64,
) -> Result<PolicyOutput, LossError> {
    settings.validate()?;
    check_normaliser(normaliser)?;
    let n = inputs.logprobs.len();
    check_lengths(&[
        ("logprobs", n),
        ("old_logprobs", inputs.old_logprobs.len()),
        ("advantages", inputs.advantages.len()),
    ])?;
    check_finite("logprobs", inputs.logprobs)?;
    check_finite("old_logprobs", inputs.old_logprobs)?;
    check_finite("advantages", inputs.advantages)?;

    let mut metrics = PolicyMetrics { tokens: n, ..PolicyMetrics::default() };
    let mut d_logprobs = Vec::with_capacity(n);
    for token in 0..n {
        let log_ratio = f64::from(inputs.logprobs[token]) - f64::from(inputs.old_logprobs[token]);
        let advantage = f64::from(inputs.advantages[token]);
        let held = log_ratio.abs() > LARGEST_LOG_RATIO;
        let ratio = log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp();
        let unclipped = ratio * advantage;
        let clipped = ratio.clamp(1.0 - settings.clip_low, 1.0 + settings.clip_high) * advantage;
        let is_clipped = clipped < unclipped;
        let surrogate = unclipped.min(clipped);
        let floor = settings.dual_clip.filter(|_| advantage < 0.0).map(|dual| dual * advantage);
        let is_dual_clipped = floor.is_some_and(|floor| surrogate < floor);
        let objective = floor.map_or(surrogate, |floor| surrogate.max(floor));
        let flows = !(held || is_clipped || is_dual_clipped);
        d_logprobs.push(if flows { (-unclipped / normaliser) as f32 } else { 0.0 });

        metrics.loss.add(check_term("loss", token, -objective)?);
        metrics.squared_log_ratio.add(check_term("log_ratio", token, log_ratio * log_ratio)?);
        metrics.ratio.add(ratio);
        metrics.squared_ratio.add(ratio * ratio);
        metrics.largest_log_ratio = metrics.largest_log_ratio.max(log_ratio.abs());
        metrics.clipped += usize::from(is_clipped);
        metrics.dual_clipped += usize::from(is_dual_clipped);
    }
    Ok(PolicyOutput { loss: metrics.loss.total() / normaliser, d_logprobs, metrics })
}

#[cfg(test)]
mod tests {
    use super::super::finite_difference::check_gradient;
    use super::*;

    // Inside the range, above and below it, with advantages of both signs, beyond the dual clip, and clamped.
    const INPUTS: PolicyInputs<'static> = PolicyInputs {
        logprobs: &[-1.0, -0.5, -0.5, -2.0, -2.0, -0.25, -1.5, -0.5, -30.0],
        old_logprobs: &[-1.125, -1.0, -1.0, -1.0, -1.0, -3.25, -1.5, -25.0, -1.0],
        advantages: &[0.75, 1.5, -1.5, 0.5, -0.5, -2.0, -1.0, 0.001, 0.5],
    };

    #[test]
    fn gradients_match_finite_differences() {
        for dual_clip in [None, Some(3.0)] {
            let settings = PolicySettings { clip_low: 0.2, clip_high: 0.3, dual_clip };
            let output = policy_loss(&INPUTS, &settings, 11.0).unwrap();
            check_gradient(INPUTS.logprobs, &output.d_logprobs, |x| {
                policy_loss(&PolicyInputs { logprobs: x, ..INPUTS }, &settings, 11.0).unwrap().loss
            });
            let flows: Vec<bool> = output.d_logprobs.iter().map(|&gradient| gradient != 0.0).collect();
            let dual_flows = dual_clip.is_none();
            assert_eq!(flows, [true, false, true, true, false, dual_flows, true, false, false]);
            let held_up = if dual_clip.is_some() { 1.0 / 9.0 } else { 0.0 };
            assert_eq!(output.metrics.dual_clip_fraction(), held_up);
        }
    }

    #[test]
    fn the_first_step_has_ratio_one() {
        let settings = PolicySettings { clip_low: 0.2, clip_high: 0.2, dual_clip: None };
        let inputs = PolicyInputs { old_logprobs: INPUTS.logprobs, ..INPUTS };
        let metrics = policy_loss(&inputs, &settings, 9.0).unwrap().metrics;
        assert_eq!(
            (metrics.largest_log_ratio, metrics.ratio_mean(), metrics.ratio_variance()),
            (0.0, 1.0, 0.0)
        );
        assert_eq!((metrics.clip_fraction(), metrics.approximate_kl()), (0.0, 0.0));
    }

    #[test]
    fn refuses_bad_input() {
        let settings = PolicySettings { clip_low: 0.2, clip_high: 0.2, dual_clip: None };
        let error = |inputs: PolicyInputs<'_>| policy_loss(&inputs, &settings, 9.0).unwrap_err();
        assert_eq!(error(PolicyInputs { logprobs: &[], ..INPUTS }), LossError::Empty { input: "logprobs" });
        assert!(matches!(error(PolicyInputs { advantages: &[1.0], ..INPUTS }), LossError::Length { .. }));
        assert!(matches!(
            error(PolicyInputs { logprobs: &[f32::NAN; 9], ..INPUTS }),
            LossError::NotFinite { input: "logprobs", index: 0, .. }
        ));
        assert!(matches!(
            error(PolicyInputs { advantages: &[f32::MAX; 9], ..INPUTS }),
            LossError::NotFinite { input: "loss", .. }
        ));
        for broken in [
            PolicySettings { clip_low: 0.0, ..settings },
            PolicySettings { clip_high: f64::INFINITY, ..settings },
            PolicySettings { dual_clip: Some(1.0), ..settings },
        ] {
            assert!(matches!(policy_loss(&INPUTS, &broken, 9.0), Err(LossError::Setting { .. })));
        }
    }
}
