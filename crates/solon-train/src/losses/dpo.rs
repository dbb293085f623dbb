//! Direct preference optimisation and its family, with soft labels.
//!
//! Contract: takes sequence log-probs of policy and reference, returns the gradient with respect to the policy's.
//! [`spread_over_tokens`](super::sequences::spread_over_tokens) turns it into a gradient for each token.
//!
//! With `h = (policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)` every member of the family is
//! a penalty `l(h)`. A label that says "chosen is better with probability p" gives its expectation `p l(h) + (1 - p)
//! l(-h)`:
//!
//! | loss | `l(h)` | source |
//! |---|---|---|
//! | sigmoid | `-log sigmoid(beta h)` | DPO, 2305.18290 eq. 7 |
//! | ipo | `(h - 1 / (2 beta))^2`, `h` of per-token means | IPO, 2310.12036 eq. 17; the mean as in TRL |
//! | hinge | `max(0, 1 - beta h)` | SLiC, 2305.10425, in RSO's form, 2309.06657 |
//! | robust | `[(1-e) l_sigmoid(h) - e l_sigmoid(-h)] / (1 - 2e)` | 2403.00409 |
//!
//! `label_smoothing` e: cDPO replaces p by `p (1-e) + (1-p) e`, here for sigmoid, ipo and hinge. For robust it is the
//! flip rate of the labels. A soft label is the same as cDPO with the per-example `e = 1 - p`. TRL's `sigmoid` silently
//! ignores `label_smoothing`, so the same recipe with 0.1 trains plain DPO there and cDPO here.

mod metrics;

use super::sequences::check_sequences;
use super::{
    LossError, check_finite, check_lengths, check_normaliser, check_probability, check_setting, check_term,
    log_sigmoid, sigmoid,
};
pub use metrics::DpoMetrics;
use metrics::Pair;

/// Which member of the family; `sigmoid`, `ipo`, `hinge` or `robust` in a recipe. cDPO is `sigmoid` with
/// `label_smoothing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DpoLoss {
    /// The original, and cDPO with `label_smoothing`.
    Sigmoid,
    /// Squared distance of the per-token margin from `1 / (2 beta)`.
    Ipo,
    /// Hinge on the scaled margin.
    Hinge,
    /// Unbiased under labels flipped at rate `label_smoothing`.
    Robust,
}

/// Settings of the preference loss.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DpoSettings {
    /// Which member of the family.
    pub loss: DpoLoss,
    /// How strongly the policy is kept near the reference; positive. The paper and TRL use 0.1.
    pub beta: f64,
    /// At least 0 and below 0.5.
    pub label_smoothing: f64,
}

impl DpoSettings {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), LossError> {
        let smoothing = self.label_smoothing;
        check_setting("beta", self.beta, self.beta > 0.0, "positive")?;
        check_setting(
            "label_smoothing",
            smoothing,
            (0.0..0.5).contains(&smoothing),
            "at least 0 and below 0.5",
        )
    }

    /// `l(h)` and its derivative.
    fn penalty(&self, h: f64) -> (f64, f64) {
        let beta = self.beta;
        let logistic = |h: f64| (-log_sigmoid(beta * h), -beta * sigmoid(-beta * h));
        match self.loss {
            DpoLoss::Sigmoid => logistic(h),
            DpoLoss::Ipo => {
                let distance = h - 0.5 / beta;
                (distance * distance, 2.0 * distance)
            }
            DpoLoss::Hinge if beta * h < 1.0 => (1.0 - beta * h, -beta),
            DpoLoss::Hinge => (0.0, 0.0),
            DpoLoss::Robust => {
                let (flip, (right, d_right), (wrong, d_wrong)) =
                    (self.label_smoothing, logistic(h), logistic(-h));
                let scale = 1.0 / (1.0 - 2.0 * flip);
                // l(-h) has derivative -l'(-h), hence the plus.
                (
                    scale * ((1.0 - flip) * right - flip * wrong),
                    scale * ((1.0 - flip) * d_right + flip * d_wrong),
                )
            }
        }
    }

    /// The label's probability after cDPO's smoothing.
    fn smoothed(&self, probability: f64) -> f64 {
        match self.loss {
            // The robust penalty already corrects for flipped labels, so the label is not smoothed as well.
            DpoLoss::Robust => probability,
            _ => probability * (1.0 - self.label_smoothing) + (1.0 - probability) * self.label_smoothing,
        }
    }
}

/// A batch of preference pairs; every slice is `[n_pairs]`.
#[derive(Clone, Copy, Debug)]
pub struct DpoPairs<'a> {
    /// Policy log-prob of the chosen answer, summed over its tokens, nats.
    pub policy_chosen: &'a [f64],
    /// Policy log-prob of the rejected answer, nats.
    pub policy_rejected: &'a [f64],
    /// Reference log-prob of the chosen answer, nats.
    pub reference_chosen: &'a [f64],
    /// Reference log-prob of the rejected answer, nats.
    pub reference_rejected: &'a [f64],
    /// Scored tokens of the chosen answer; only `Ipo` divides by them.
    pub chosen_tokens: &'a [usize],
    /// Scored tokens of the rejected answer.
    pub rejected_tokens: &'a [usize],
    /// Probability that "chosen" is the better one; 1 is a hard label.
    pub probability: &'a [f32],
}

/// What [`dpo_loss`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct DpoOutput {
    /// This call's share of the step's loss.
    pub loss: f64,
    /// `[n_pairs]`, d loss / d policy_chosen.
    pub d_chosen: Vec<f32>,
    /// `[n_pairs]`, d loss / d policy_rejected.
    pub d_rejected: Vec<f32>,
    /// Metrics; they can be merged.
    pub metrics: DpoMetrics,
}

/// The preference loss of a batch of pairs.
///
/// - `normaliser`: pairs of the whole optimizer step
///
/// # Errors
/// Settings out of range; empty, unequal or non-finite inputs; an answer without tokens; a probability outside 0 to 1.
///
/// ```
/// use solon_train::losses::dpo::*;
/// let settings = DpoSettings { loss: DpoLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 };
/// let pairs = DpoPairs {
///     policy_chosen: &[-10.0], policy_rejected: &[-12.0], reference_chosen: &[-10.0], reference_rejected: &[-12.0],
///     chosen_tokens: &[5], rejected_tokens: &[6], probability: &[1.0],
/// };
/// let output = dpo_loss(&pairs, &settings, 1.0).unwrap();
/// assert!((output.loss - 2f64.ln()).abs() < 1e-9); // policy = reference
/// assert_eq!((output.d_chosen[0], output.d_rejected[0]), (-0.05, 0.05));
/// ```
pub fn dpo_loss(
    pairs: &DpoPairs<'_>,
    settings: &DpoSettings,
    normaliser: f64,
) -> Result<DpoOutput, LossError> {
    settings.validate()?;
    check_normaliser(normaliser)?;
    check_pairs(pairs)?;
    let n = pairs.policy_chosen.len();
    let mut metrics = DpoMetrics::default();
    let (mut d_chosen, mut d_rejected) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for pair in 0..n {
        let chosen_ratio = pairs.policy_chosen[pair] - pairs.reference_chosen[pair];
        let rejected_ratio = pairs.policy_rejected[pair] - pairs.reference_rejected[pair];
        let (chosen_scale, rejected_scale) = match settings.loss {
            DpoLoss::Ipo => {
                (1.0 / pairs.chosen_tokens[pair] as f64, 1.0 / pairs.rejected_tokens[pair] as f64)
            }
            DpoLoss::Sigmoid | DpoLoss::Hinge | DpoLoss::Robust => (1.0, 1.0),
        };
        let h = chosen_ratio * chosen_scale - rejected_ratio * rejected_scale;
        let p = settings.smoothed(f64::from(pairs.probability[pair]));
        let ((right, d_right), (wrong, d_wrong)) = (settings.penalty(h), settings.penalty(-h));
        let d_h = (p * d_right - (1.0 - p) * d_wrong) / normaliser;
        d_chosen.push((d_h * chosen_scale) as f32);
        d_rejected.push((-d_h * rejected_scale) as f32);

        metrics.record(&Pair {
            is_tie: pairs.probability[pair] == 0.5,
            loss: check_term("loss", pair, p * right + (1.0 - p) * wrong)?,
            chosen_reward: check_term("chosen_reward", pair, settings.beta * chosen_ratio)?,
            rejected_reward: check_term("rejected_reward", pair, settings.beta * rejected_ratio)?,
            chosen_logprob: check_term("policy_chosen", pair, pairs.policy_chosen[pair])?,
            rejected_logprob: check_term("policy_rejected", pair, pairs.policy_rejected[pair])?,
        });
    }
    Ok(DpoOutput { loss: metrics.total_loss() / normaliser, d_chosen, d_rejected, metrics })
}

/// Checks all inputs.
fn check_pairs(pairs: &DpoPairs<'_>) -> Result<(), LossError> {
    check_lengths(&[
        ("policy_chosen", pairs.policy_chosen.len()),
        ("policy_rejected", pairs.policy_rejected.len()),
        ("reference_chosen", pairs.reference_chosen.len()),
        ("reference_rejected", pairs.reference_rejected.len()),
        ("chosen_tokens", pairs.chosen_tokens.len()),
        ("rejected_tokens", pairs.rejected_tokens.len()),
        ("probability", pairs.probability.len()),
    ])?;
    check_finite("policy_chosen", pairs.policy_chosen)?;
    check_finite("policy_rejected", pairs.policy_rejected)?;
    check_finite("reference_chosen", pairs.reference_chosen)?;
    check_finite("reference_rejected", pairs.reference_rejected)?;
    check_sequences(pairs.chosen_tokens)?;
    check_sequences(pairs.rejected_tokens)?;
    check_probability(pairs.probability)
}

#[cfg(test)]
mod tests {
    use super::super::finite_difference::check_gradient;
    use super::*;

    const PAIRS: DpoPairs<'static> = DpoPairs {
        policy_chosen: &[-10.5, -20.25, -3.0, -41.0],
        policy_rejected: &[-12.0, -18.5, -9.5, -40.0],
        reference_chosen: &[-11.0, -20.0, -4.5, -43.0],
        reference_rejected: &[-11.5, -19.0, -3.25, -40.5],
        chosen_tokens: &[5, 9, 2, 17],
        rejected_tokens: &[6, 7, 4, 11],
        probability: &[1.0, 0.75, 0.5, 0.125],
    };
    const LOSSES: [DpoLoss; 4] = [DpoLoss::Sigmoid, DpoLoss::Ipo, DpoLoss::Hinge, DpoLoss::Robust];

    #[test]
    fn gradients_match_finite_differences() {
        for loss in LOSSES {
            for label_smoothing in [0.0, 0.1] {
                let settings = DpoSettings { loss, beta: 0.3, label_smoothing };
                let output = dpo_loss(&PAIRS, &settings, 6.0).unwrap();
                check_gradient(PAIRS.policy_chosen, &output.d_chosen, |x| {
                    dpo_loss(&DpoPairs { policy_chosen: x, ..PAIRS }, &settings, 6.0).unwrap().loss
                });
                check_gradient(PAIRS.policy_rejected, &output.d_rejected, |x| {
                    dpo_loss(&DpoPairs { policy_rejected: x, ..PAIRS }, &settings, 6.0).unwrap().loss
                });
            }
        }
    }

    #[test]
    fn a_soft_label_is_cdpo_with_its_own_epsilon() {
        let soft = DpoSettings { loss: DpoLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 };
        let smooth = DpoSettings { label_smoothing: 0.25, ..soft };
        let from_label = dpo_loss(&DpoPairs { probability: &[0.75; 4], ..PAIRS }, &soft, 4.0).unwrap();
        let from_setting = dpo_loss(&DpoPairs { probability: &[1.0; 4], ..PAIRS }, &smooth, 4.0).unwrap();
        assert_eq!(from_label, from_setting);
    }

    #[test]
    fn ties_are_left_out_of_accuracy() {
        let settings = DpoSettings { loss: DpoLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 };
        let metrics = dpo_loss(&PAIRS, &settings, 4.0).unwrap().metrics;
        // Ratios 0.5 > -0.5, -0.25 < 0.5, (tie), 2 > 0.5.
        assert_eq!((metrics.decided, metrics.rewards_accuracies()), (3, Some(2.0 / 3.0)));
        let ties = dpo_loss(&DpoPairs { probability: &[0.5; 4], ..PAIRS }, &settings, 4.0).unwrap().metrics;
        assert_eq!(ties.rewards_accuracies(), None);
    }

    #[test]
    fn settings_read_as_in_a_recipe() {
        let read = |json: &str| serde_json::from_str::<DpoSettings>(json);
        let settings = read(r#"{"loss": "robust", "beta": 0.1, "label_smoothing": 0.05}"#).unwrap();
        assert_eq!((settings.loss, settings.label_smoothing), (DpoLoss::Robust, 0.05));
        assert!(read(r#"{"loss": "kto", "beta": 0.1, "label_smoothing": 0.0}"#).is_err());
    }

    #[test]
    fn swapping_the_answers_and_the_label_changes_nothing() {
        for loss in LOSSES {
            let settings = DpoSettings { loss, beta: 0.2, label_smoothing: 0.05 };
            let flipped = DpoPairs {
                policy_chosen: PAIRS.policy_rejected,
                policy_rejected: PAIRS.policy_chosen,
                reference_chosen: PAIRS.reference_rejected,
                reference_rejected: PAIRS.reference_chosen,
                chosen_tokens: PAIRS.rejected_tokens,
                rejected_tokens: PAIRS.chosen_tokens,
                probability: &[0.0, 0.25, 0.5, 0.875],
            };
            let (output, mirror) =
                (dpo_loss(&PAIRS, &settings, 4.0).unwrap(), dpo_loss(&flipped, &settings, 4.0).unwrap());
            assert!((output.loss - mirror.loss).abs() < 1e-12);
            for (left, right) in output.d_chosen.iter().zip(&mirror.d_rejected) {
                assert!((left - right).abs() < 1e-7);
            }
        }
    }

    #[test]
    fn refuses_bad_input() {
        let settings = DpoSettings { loss: DpoLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 };
        let error = |pairs: DpoPairs<'_>| dpo_loss(&pairs, &settings, 4.0).unwrap_err();
        assert_eq!(
            error(DpoPairs { policy_chosen: &[], ..PAIRS }),
            LossError::Empty { input: "policy_chosen" }
        );
        assert_eq!(
            error(DpoPairs { probability: &[1.0, 1.0, 1.5, 1.0], ..PAIRS }),
            LossError::Probability { index: 2, value: 1.5 }
        );
        assert_eq!(
            error(DpoPairs { chosen_tokens: &[1, 0, 1, 1], ..PAIRS }),
            LossError::EmptySequence { index: 1 }
        );
        assert!(matches!(
            error(DpoPairs { reference_rejected: &[0.0, 0.0, 0.0, f64::NAN], ..PAIRS }),
            LossError::NotFinite { input: "reference_rejected", index: 3, .. }
        ));
        for (beta, label_smoothing) in [(0.0, 0.0), (f64::NAN, 0.0), (0.1, 0.5), (0.1, -0.1)] {
            let settings = DpoSettings { beta, label_smoothing, ..settings };
            assert!(matches!(dpo_loss(&PAIRS, &settings, 4.0), Err(LossError::Setting { .. })));
        }
    }
}
