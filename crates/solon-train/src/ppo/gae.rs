//! Generalised advantage estimation.
//!
//! Contract: within a sequence, backwards, `delta_t = r_t + gamma V_{t+1} - V_t` and `A_t = delta_t + gamma lambda
//! A_{t+1}`. After the last action the value is zero, because the episode has ended. Returns are `A + V`, from the
//! advantages before any whitening.
//! Source: 1506.02438 eq. 16; TRL `ppo_trainer.py`, step 6.

use crate::losses::sequences::split;
use crate::losses::{LossError, check_finite, check_setting};

/// What [`gae`] returns; both `[n_actions]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gae {
    /// Advantages, not whitened.
    pub advantages: Vec<f32>,
    /// Targets of the value loss.
    pub returns: Vec<f32>,
}

/// Advantages and returns of a rollout.
///
/// - `rewards`, `values`: `[n_actions]`; `values[t]` is the critic's before action t
/// - `lengths`: `[n_sequences]`, actions of each
/// - `gamma`, `lambda`: between 0 and 1
///
/// # Errors
/// Settings out of range; no sequences, an empty sequence, lengths that do not add up, or non-finite inputs.
///
/// ```
/// use solon_train::ppo::gae::gae;
/// // gamma = lambda = 1: the advantage is the sum of the rewards from here on, minus the value.
/// let out = gae(&[0.0, 0.0, 1.0], &[0.25, 0.5, 0.75], &[3], 1.0, 1.0).unwrap();
/// assert_eq!(out.advantages, [0.75, 0.5, 0.25]);
/// assert_eq!(out.returns, [1.0, 1.0, 1.0]);
/// ```
pub fn gae(
    rewards: &[f32],
    values: &[f32],
    lengths: &[usize],
    gamma: f64,
    lambda: f64,
) -> Result<Gae, LossError> {
    check_setting("gamma", gamma, (0.0..=1.0).contains(&gamma), "between 0 and 1")?;
    check_setting("lambda", lambda, (0.0..=1.0).contains(&lambda), "between 0 and 1")?;
    check_finite("rewards", rewards)?;
    check_finite("values", values)?;
    let sequences = split(rewards, lengths, "rewards")?.zip(split(values, lengths, "values")?);
    let (mut advantages, mut returns) =
        (Vec::with_capacity(rewards.len()), Vec::with_capacity(rewards.len()));
    for (rewards, values) in sequences {
        let start = advantages.len();
        let (mut advantage, mut next_value) = (0.0, 0.0);
        for (&reward, &value) in rewards.iter().zip(values).rev() {
            let value = f64::from(value);
            advantage = f64::from(reward) + gamma * next_value - value + gamma * lambda * advantage;
            next_value = value;
            advantages.push(advantage as f32);
            returns.push((advantage + value) as f32);
        }
        advantages[start..].reverse();
        returns[start..].reverse();
    }
    // Finite inputs near f32::MAX could still overflow the cast.
    check_finite("advantages", &advantages)?;
    check_finite("returns", &returns)?;
    Ok(Gae { advantages, returns })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REWARDS: [f32; 5] = [0.1, -0.2, 1.0, 0.3, -0.5];
    const VALUES: [f32; 5] = [0.4, 0.2, -0.1, 0.0, 0.6];

    #[test]
    fn equals_the_sum_it_stands_for() {
        // A_t = sum over l of (gamma lambda)^l delta_{t+l}, the definition.
        let (gamma, lambda) = (0.9, 0.8);
        let out = gae(&REWARDS, &VALUES, &[5], gamma, lambda).unwrap();
        let next = |t: usize| VALUES.get(t + 1).map_or(0.0, |&value| f64::from(value));
        let delta = |t: usize| f64::from(REWARDS[t]) + gamma * next(t) - f64::from(VALUES[t]);
        for (t, &value) in VALUES.iter().enumerate() {
            let expected: f64 = (t..5).map(|k| (gamma * lambda).powi((k - t) as i32) * delta(k)).sum();
            assert!((f64::from(out.advantages[t]) - expected).abs() < 1e-6);
            assert!((out.returns[t] - out.advantages[t] - value).abs() < 1e-6);
        }
    }

    #[test]
    fn sequences_do_not_see_each_other() {
        let whole = gae(&REWARDS, &VALUES, &[2, 3], 1.0, 0.95).unwrap();
        let left = gae(&REWARDS[..2], &VALUES[..2], &[2], 1.0, 0.95).unwrap();
        let right = gae(&REWARDS[2..], &VALUES[2..], &[3], 1.0, 0.95).unwrap();
        assert_eq!(whole.advantages, [left.advantages, right.advantages].concat());
        assert_eq!(whole.returns, [left.returns, right.returns].concat());
    }

    #[test]
    fn lambda_zero_is_the_one_step_error() {
        let out = gae(&REWARDS, &VALUES, &[5], 1.0, 0.0).unwrap();
        assert!((out.advantages[0] - (0.1 + 0.2 - 0.4)).abs() < 1e-7);
        assert!((out.advantages[4] - (-0.5 - 0.6)).abs() < 1e-6);
    }

    #[test]
    fn refuses_bad_input() {
        assert_eq!(gae(&[], &[], &[], 1.0, 1.0), Err(LossError::Empty { input: "lengths" }));
        assert!(matches!(
            gae(&REWARDS, &VALUES[..4], &[5], 1.0, 1.0),
            Err(LossError::Length { input: "values", .. })
        ));
        assert!(matches!(
            gae(&REWARDS, &VALUES, &[5], 1.5, 1.0),
            Err(LossError::Setting { setting: "gamma", .. })
        ));
        assert!(matches!(
            gae(&[f32::MAX, f32::MAX], &[0.0, 0.0], &[2], 1.0, 1.0),
            Err(LossError::NotFinite { input: "advantages", index: 0, .. })
        ));
    }
}
