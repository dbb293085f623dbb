//! Per-token rewards: a KL penalty everywhere, the score at the end.
//!
//! Contract: `reward_t = -kl_coefficient * kl_t`, plus the sequence's score at its **last action token**, which is the
//! end-of-text token if it was produced. The score is first clipped and then penalised for a missing end, so that the
//! clip cannot hide the penalty. Neither affects the KL term.
//! Source: InstructGPT (2203.02155) eq. 2; OpenRLHF `compute_reward` (placement, clip before KL); TRL (penalty). TRL
//! places the score one position later, on the first padding token, if there is one, and so bootstraps from a value
//! past the end. Without padding there is no such position. The two agree on answers that fill their row.

use crate::losses::sequences::split;
use crate::losses::{LossError, check_finite, check_lengths, check_setting};

/// The score of an answer that reached the length limit. In a recipe `"ignore"`, `{ subtract = 1.0 }` or `{ replace =
/// -1.0 }`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingEos {
    /// It is not changed.
    Ignore,
    /// It is lowered by this much (TRL's `missing_eos_penalty`); at least 0.
    Subtract(f64),
    /// It is replaced by this (detail 13 of the N+ reproduction, -1).
    Replace(f64),
}

/// How scores and KL become rewards.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct RewardSettings {
    /// Weight of the per-token KL; at least 0. With a controller, its current coefficient.
    pub kl_coefficient: f64,
    /// Lowest and highest score.
    pub score_clip: Option<(f64, f64)>,
    /// The rule for an answer without an end.
    pub missing_eos: MissingEos,
}

impl RewardSettings {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), LossError> {
        check_setting("kl coefficient", self.kl_coefficient, self.kl_coefficient >= 0.0, "at least 0")?;
        if let Some((low, high)) = self.score_clip {
            check_setting("score_clip low", low, low < high, "below its high end")?;
            check_setting("score_clip high", high, low < high, "above its low end")?;
        }
        match self.missing_eos {
            MissingEos::Ignore => Ok(()),
            MissingEos::Subtract(penalty) => {
                check_setting("missing_eos penalty", penalty, penalty >= 0.0, "at least 0")
            }
            MissingEos::Replace(score) => check_setting("missing_eos score", score, true, "finite"),
        }
    }
}

/// A rollout's scores and divergences.
#[derive(Clone, Copy, Debug)]
pub struct RewardInputs<'a> {
    /// `[n_sequences]`, the reward model's score of each answer.
    pub scores: &'a [f32],
    /// `[n_sequences]`, whether the answer ended by itself.
    pub ended: &'a [bool],
    /// `[n_actions]`, nats, from [`kl_per_token`](super::kl::kl_per_token).
    pub kl: &'a [f32],
    /// `[n_sequences]`, action tokens of each answer.
    pub lengths: &'a [usize],
}

/// What [`token_rewards`] returns.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRewards {
    /// `[n_actions]`.
    pub rewards: Vec<f32>,
    /// `[n_sequences]`, scores after clip and penalty.
    pub scores: Vec<f32>,
    /// `objective/scores`: mean score after clip and penalty.
    pub mean_score: f64,
    /// `objective/non_score_reward`: mean over sequences of the summed KL penalty.
    pub mean_non_score_reward: f64,
    /// Number of answers without an end.
    pub missing_eos: usize,
}

impl TokenRewards {
    /// `objective/rlhf_reward`: what PPO maximises, per sequence.
    pub fn mean_rlhf_reward(&self) -> f64 {
        self.mean_score + self.mean_non_score_reward
    }
}

/// Per-token rewards of a rollout.
///
/// # Errors
/// Settings out of range; no sequences, an empty sequence, lengths that do not add up, or non-finite inputs.
///
/// ```
/// use solon_train::ppo::rewards::*;
/// let settings = RewardSettings { kl_coefficient: 0.5, score_clip: None, missing_eos: MissingEos::Subtract(1.0) };
/// let inputs = RewardInputs { scores: &[2.0, 2.0], ended: &[true, false], kl: &[0.5, 1.0, 0.25], lengths: &[2, 1] };
/// assert_eq!(token_rewards(&inputs, &settings).unwrap().rewards, [-0.25, 1.5, 0.875]);
/// ```
pub fn token_rewards(
    inputs: &RewardInputs<'_>,
    settings: &RewardSettings,
) -> Result<TokenRewards, LossError> {
    settings.validate()?;
    check_lengths(&[
        ("scores", inputs.scores.len()),
        ("ended", inputs.ended.len()),
        ("lengths", inputs.lengths.len()),
    ])?;
    check_finite("scores", inputs.scores)?;
    check_finite("kl", inputs.kl)?;
    let sequences = split(inputs.kl, inputs.lengths, "kl")?;
    let mut out = TokenRewards {
        rewards: Vec::with_capacity(inputs.kl.len()),
        scores: Vec::with_capacity(inputs.scores.len()),
        mean_score: 0.0,
        mean_non_score_reward: 0.0,
        missing_eos: inputs.ended.iter().filter(|&&ended| !ended).count(),
    };
    for ((kl, &score), &ended) in sequences.zip(inputs.scores).zip(inputs.ended) {
        let score = shaped_score(f64::from(score), ended, settings);
        let last = kl.len() - 1;
        for (token, &kl) in kl.iter().enumerate() {
            let penalty = -settings.kl_coefficient * f64::from(kl);
            out.mean_non_score_reward += penalty;
            out.rewards.push((penalty + if token == last { score } else { 0.0 }) as f32);
        }
        out.mean_score += score;
        out.scores.push(score as f32);
    }
    out.mean_score /= inputs.scores.len() as f64;
    out.mean_non_score_reward /= inputs.scores.len() as f64;
    check_finite("rewards", &out.rewards)?;
    Ok(out)
}

/// The score after the clip, then the penalty.
fn shaped_score(score: f64, ended: bool, settings: &RewardSettings) -> f64 {
    let clipped = settings.score_clip.map_or(score, |(low, high)| score.clamp(low, high));
    match settings.missing_eos {
        MissingEos::Subtract(penalty) if !ended => clipped - penalty,
        MissingEos::Replace(fixed) if !ended => fixed,
        _ => clipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUTS: RewardInputs<'static> = RewardInputs {
        scores: &[20.0, -0.5, 3.0],
        ended: &[true, false, false],
        kl: &[0.5, 1.0, 0.25, -0.5, 2.0],
        lengths: &[2, 1, 2],
    };
    const PLAIN: RewardSettings =
        RewardSettings { kl_coefficient: 0.0, score_clip: None, missing_eos: MissingEos::Ignore };

    #[test]
    fn the_score_sits_on_the_last_token() {
        let out = token_rewards(&INPUTS, &PLAIN).unwrap();
        assert_eq!(out.rewards, [0.0, 20.0, -0.5, 0.0, 3.0]);
        assert_eq!(out.missing_eos, 2);
    }

    #[test]
    fn the_clip_comes_before_the_penalty() {
        let settings =
            RewardSettings { score_clip: Some((-1.0, 1.0)), missing_eos: MissingEos::Subtract(2.0), ..PLAIN };
        assert_eq!(token_rewards(&INPUTS, &settings).unwrap().scores, [1.0, -2.5, -1.0]);
        let settings = RewardSettings { missing_eos: MissingEos::Replace(-1.0), ..PLAIN };
        assert_eq!(token_rewards(&INPUTS, &settings).unwrap().scores, [20.0, -1.0, -1.0]);
    }

    #[test]
    fn objectives_are_means_of_sequence_sums() {
        let settings = RewardSettings { kl_coefficient: 0.5, ..PLAIN };
        let out = token_rewards(&INPUTS, &settings).unwrap();
        assert!((out.mean_score - 7.5).abs() < 1e-12);
        assert!((out.mean_non_score_reward + 0.5 * 3.25 / 3.0).abs() < 1e-12);
        let total: f64 = out.rewards.iter().map(|&reward| f64::from(reward)).sum();
        assert!((out.mean_rlhf_reward() - total / 3.0).abs() < 1e-6);
    }

    #[test]
    fn refuses_bad_input() {
        let error = |inputs: RewardInputs<'_>| token_rewards(&inputs, &PLAIN).unwrap_err();
        assert_eq!(error(RewardInputs { scores: &[], ..INPUTS }), LossError::Empty { input: "scores" });
        assert_eq!(
            error(RewardInputs { lengths: &[2, 0, 3], ..INPUTS }),
            LossError::EmptySequence { index: 1 }
        );
        assert!(matches!(
            error(RewardInputs { kl: &[0.0], ..INPUTS }),
            LossError::Length { input: "kl", .. }
        ));
        assert!(matches!(
            error(RewardInputs { scores: &[0.0, f32::NAN, 0.0], ..INPUTS }),
            LossError::NotFinite { input: "scores", index: 1, .. }
        ));
        for broken in [
            RewardSettings { kl_coefficient: -0.1, ..PLAIN },
            RewardSettings { score_clip: Some((1.0, -1.0)), ..PLAIN },
            RewardSettings { missing_eos: MissingEos::Subtract(-1.0), ..PLAIN },
            RewardSettings { missing_eos: MissingEos::Replace(f64::NAN), ..PLAIN },
        ] {
            assert!(matches!(token_rewards(&INPUTS, &broken), Err(LossError::Setting { .. })));
        }
    }
}
