//! PPO's arithmetic between the rollout and the losses, in the order the algorithm applies it:
//! [`kl`] per token → [`rewards`] (KL penalty, score at the end) → [`whiten`] (optional) → [`gae`] → [`whiten`].
//!
//! Contract: pure functions over a flat token axis and `lengths`, the action tokens of each sequence; no padding, no
//! model. What the peers do differently under the same names is in [`PpoPreset`].
//! Source: PPO (1707.06347), "The N Implementation Details of RLHF with PPO", TRL and OpenRLHF.

pub mod gae;
pub mod kl;
pub mod rewards;
pub mod trainer;
pub mod whiten;

use crate::losses::policy::PolicySettings;
use kl::KlEstimator;
use rewards::{MissingEos, RewardSettings};
use whiten::Whitening;

/// A peer's defaults: the same words with different arithmetic behind them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PpoPreset {
    /// Whose they are.
    pub name: &'static str,
    /// Discount.
    pub gamma: f64,
    /// GAE's lambda.
    pub lambda: f64,
    /// Policy clip.
    pub policy: PolicySettings,
    /// Value clip.
    pub value_clip: Option<f64>,
    /// Weight of the value loss where policy and critic share an optimizer; `None` where each has its own.
    pub value_coefficient: Option<f64>,
    /// Estimator of the per-token KL.
    pub kl_estimator: KlEstimator,
    /// Bound on the estimate, either way.
    pub kl_clamp: Option<f64>,
    /// KL coefficient, score clip and the missing end.
    pub reward: RewardSettings,
    /// What happens to rewards before GAE.
    pub whiten_rewards: Option<Whitening>,
    /// What happens to advantages after it.
    pub whiten_advantages: Option<Whitening>,
    /// Passes over one rollout.
    pub epochs: usize,
    /// Sampling temperature; old, new and reference log-probs are taken at it.
    pub temperature: f64,
}

/// TRL, `trl/experimental/ppo/ppo_config.py` and `ppo_trainer.py` (0.26). TRL whitens each rollout batch of a rank.
pub const TRL: PpoPreset = PpoPreset {
    name: "trl",
    gamma: 1.0,
    lambda: 0.95,
    policy: PolicySettings { clip_low: 0.2, clip_high: 0.2, dual_clip: None },
    value_clip: Some(0.2),
    value_coefficient: Some(0.1),
    kl_estimator: KlEstimator::K1,
    kl_clamp: None,
    reward: RewardSettings { kl_coefficient: 0.05, score_clip: None, missing_eos: MissingEos::Ignore },
    whiten_rewards: None,
    whiten_advantages: Some(whiten::TRL_ADVANTAGES),
    epochs: 4,
    temperature: 0.7,
};

/// OpenRLHF, `openrlhf/cli/train_ppo_ray.py`, `models/loss.py`, `trainer/ppo_utils/experience_maker.py`. It whitens the
/// whole rollout.
pub const OPENRLHF: PpoPreset = PpoPreset {
    name: "openrlhf",
    gamma: 1.0,
    lambda: 1.0,
    policy: PolicySettings { clip_low: 0.2, clip_high: 0.2, dual_clip: None },
    value_clip: Some(0.5),
    value_coefficient: None,
    kl_estimator: KlEstimator::K1,
    kl_clamp: Some(10.0),
    reward: RewardSettings {
        kl_coefficient: 0.01,
        score_clip: Some((-10.0, 10.0)),
        missing_eos: MissingEos::Ignore,
    },
    whiten_rewards: None,
    whiten_advantages: Some(whiten::OPENRLHF_ADVANTAGES),
    epochs: 1,
    temperature: 1.0,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid() {
        for preset in [TRL, OPENRLHF] {
            preset.policy.validate().unwrap();
            preset.reward.validate().unwrap();
        }
    }
}
