//! RLOO's advantages: an answer's reward less the mean reward of the other answers to its prompt.
//!
//! Contract: with k answers to a prompt, `A_i = R_i - (sum of all R - R_i) / (k - 1)`; the advantages of a prompt add up to
//! zero. `R` is a whole answer's reward: its score less the penalty for the summed KL. The advantage of an answer is that
//! of each of its tokens, so credit reaches the first token without a critic.
//! Source: Ahmadian et al. 2024 (2402.14740) §2.2, eq. 8; TRL's `RLOOTrainer` computes the same baseline,
//! `(rlhf_reward.sum(0) - rlhf_reward) / (rloo_k - 1)`.

use crate::losses::sequences::split;
use crate::losses::{LossError, check_finite, check_lengths, check_setting};

/// Every answer's reward: `score - kl_coefficient * sum of kl`.
///
/// - `scores`: `[n_sequences]`
/// - `kl`: `[n_actions]`, nats
/// - `lengths`: `[n_sequences]`, actions of each
///
/// # Errors
/// No sequences, an empty one, lengths that do not add up, or non-finite inputs.
pub fn sequence_rewards(
    scores: &[f32],
    kl: &[f32],
    lengths: &[usize],
    kl_coefficient: f64,
) -> Result<Vec<f64>, LossError> {
    check_setting("kl coefficient", kl_coefficient, kl_coefficient >= 0.0, "at least 0")?;
    check_lengths(&[("scores", scores.len()), ("lengths", lengths.len())])?;
    check_finite("scores", scores)?;
    check_finite("kl", kl)?;
    let penalties = split(kl, lengths, "kl")?;
    let sum = |kl: &[f32]| kl.iter().map(|kl| f64::from(*kl)).sum::<f64>();
    Ok(scores.iter().zip(penalties).map(|(score, kl)| f64::from(*score) - kl_coefficient * sum(kl)).collect())
}

/// The advantage of each answer.
///
/// - `rewards`: `[n_prompts * each]`, the answers to a prompt side by side
/// - `each`: answers to a prompt; at least 2
///
/// # Errors
/// Fewer than two answers to a prompt, a number of rewards that is no multiple of `each`, or non-finite inputs.
///
/// ```
/// use solon_train::ppo::leave_one_out::leave_one_out;
/// assert_eq!(leave_one_out(&[1.0, 2.0, 6.0], 3).unwrap(), [-3.0, -1.5, 4.5]);
/// ```
pub fn leave_one_out(rewards: &[f64], each: usize) -> Result<Vec<f32>, LossError> {
    check_setting(
        "answers_each",
        each as f64,
        each >= 2,
        "at least 2: each answer is compared with the others",
    )?;
    check_lengths(&[("rewards", rewards.len())])?;
    if !rewards.len().is_multiple_of(each) {
        let expected = rewards.len().next_multiple_of(each);
        return Err(LossError::Length { input: "rewards", actual: rewards.len(), expected });
    }
    check_finite("rewards", rewards)?;
    let advantages: Vec<f32> = rewards
        .chunks(each)
        .flat_map(|rewards| {
            let sum: f64 = rewards.iter().sum();
            rewards.iter().map(move |reward| (reward - (sum - reward) / (each - 1) as f64) as f32)
        })
        .collect();
    check_finite("advantages", &advantages)?;
    Ok(advantages)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: rewards 1 - 0.5·2 = 0, 3 - 0.5·(-1) = 3.5; 2 - 0, -1 - 0.5·4 = -3.
    #[test]
    fn matches_a_computation_by_hand() {
        let (scores, kl, lengths) = ([1.0, 3.0, 2.0, -1.0], [0.5, 1.5, -1.0, 0.0, 3.0, 1.0], [2, 1, 1, 2]);
        let rewards = sequence_rewards(&scores, &kl, &lengths, 0.5).unwrap();
        assert_eq!(rewards, [0.0, 3.5, 2.0, -3.0]);
        assert_eq!(leave_one_out(&rewards, 2).unwrap(), [-3.5, 3.5, 5.0, -5.0]);
        // Four answers to one prompt: the sum is 2.5.
        let by_hand = [0.0 - 2.5 / 3.0, 3.5 + 1.0 / 3.0, 2.0 - 0.5 / 3.0, -3.0 - 5.5 / 3.0];
        for (found, wanted) in leave_one_out(&rewards, 4).unwrap().into_iter().zip(by_hand) {
            assert!((f64::from(found) - wanted).abs() < 1e-6, "{found} {wanted}");
        }
    }

    /// TRL holds the rewards as `[k, n_prompts]`, and takes the baseline of all at once.
    #[test]
    fn matches_the_formula_of_trl() {
        let (k, prompts) = (3, 4);
        let rewards: Vec<f64> = (0..12).map(|i| f64::from((i * 7) % 11) / 4.0 - 1.0).collect();
        let found = leave_one_out(&rewards, k).unwrap();
        let row = |j: usize| (0..prompts).map(|p| rewards[p * k + j]).collect::<Vec<f64>>();
        let sum: Vec<f64> = (0..prompts).map(|p| (0..k).map(|j| row(j)[p]).sum()).collect();
        for j in 0..k {
            for (p, sum) in sum.iter().enumerate() {
                let baseline = (sum - row(j)[p]) / (k - 1) as f64;
                assert_eq!(found[p * k + j], (row(j)[p] - baseline) as f32);
            }
        }
    }

    #[test]
    fn a_shift_of_a_prompts_rewards_changes_no_advantage() {
        let shifted = leave_one_out(&[1.0, 2.5, 101.0, 102.5], 2).unwrap();
        assert_eq!(shifted, [-1.5, 1.5, -1.5, 1.5]);
        assert_eq!(leave_one_out(&[2.0, 2.0, 2.0], 3).unwrap(), [0.0; 3]);
    }

    #[test]
    fn refuses_bad_input() {
        assert!(matches!(leave_one_out(&[1.0], 1), Err(LossError::Setting { setting: "answers_each", .. })));
        assert!(matches!(leave_one_out(&[1.0; 5], 2), Err(LossError::Length { actual: 5, expected: 6, .. })));
        assert!(matches!(leave_one_out(&[], 2), Err(LossError::Empty { .. })));
        assert!(matches!(leave_one_out(&[0.0, f64::NAN], 2), Err(LossError::NotFinite { index: 1, .. })));
        assert!(sequence_rewards(&[1.0], &[0.0], &[1], -0.1).is_err());
        assert!(sequence_rewards(&[1.0, 2.0], &[0.0], &[1], 0.1).is_err());
        assert!(sequence_rewards(&[1.0, 2.0], &[0.0], &[1, 0], 0.1).is_err());
    }
}
