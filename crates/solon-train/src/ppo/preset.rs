//! PPO's settings: the defaults of TRL and OpenRLHF, and what a recipe overrides.
//!
//! Contract: a [`PpoPreset`] is complete; [`PpoOverrides`] names the settings that differ from it. Every option of the
//! losses, the rewards and the controller can be set through the overrides.

use super::kl::{KlControl, KlEstimator};
use super::rewards::{MissingEos, RewardSettings};
use super::whiten::{self, Whitening, WhiteningAs};
use crate::losses::policy::PolicySettings;
use crate::losses::{LossError, check_setting};
use serde::{Deserialize, Serialize};

/// One library's defaults. The libraries use the same names with different arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PpoPreset {
    /// Discount.
    pub gamma: f64,
    /// GAE's lambda.
    pub lambda: f64,
    /// Policy clip.
    pub policy: PolicySettings,
    /// Value clip.
    pub value_clip: Option<f64>,
    /// Estimator of the per-token KL.
    pub kl_estimator: KlEstimator,
    /// Bound on the estimate, in both directions.
    pub kl_clamp: Option<f64>,
    /// How the KL coefficient moves; it starts at the coefficient in `reward`.
    pub kl_control: KlControl,
    /// KL coefficient, score clip, and the rule for answers without an end.
    pub reward: RewardSettings,
    /// Whitening of rewards before GAE, if any.
    pub whiten_rewards: Option<Whitening>,
    /// Whitening of advantages after GAE, if any.
    pub whiten_advantages: Option<Whitening>,
    /// Passes over one rollout.
    pub epochs: usize,
    /// Number of minibatches in each pass over a rollout; each gives one update.
    pub minibatches: usize,
    /// Sampling temperature; old, new and reference log-probs are computed at it.
    pub temperature: f64,
}

/// TRL, `trl/experimental/ppo/ppo_config.py` and `ppo_trainer.py` (0.26). TRL whitens each rollout batch of a rank.
pub const TRL: PpoPreset = PpoPreset {
    gamma: 1.0,
    lambda: 0.95,
    policy: PolicySettings { clip_low: 0.2, clip_high: 0.2, dual_clip: None },
    value_clip: Some(0.2),
    kl_estimator: KlEstimator::K1,
    kl_clamp: None,
    kl_control: KlControl::Fixed,
    reward: RewardSettings { kl_coefficient: 0.05, score_clip: None, missing_eos: MissingEos::Ignore },
    whiten_rewards: None,
    whiten_advantages: Some(whiten::TRL_ADVANTAGES),
    epochs: 4,
    minibatches: 1,
    temperature: 0.7,
};

/// OpenRLHF, `openrlhf/cli/train_ppo_ray.py`, `models/loss.py`, `trainer/ppo_utils/experience_maker.py`. It whitens the
/// whole rollout, and cuts 1024 rollouts into batches of 128.
pub const OPENRLHF: PpoPreset = PpoPreset {
    gamma: 1.0,
    lambda: 1.0,
    policy: PolicySettings { clip_low: 0.2, clip_high: 0.2, dual_clip: None },
    value_clip: Some(0.5),
    kl_estimator: KlEstimator::K1,
    kl_clamp: Some(10.0),
    kl_control: KlControl::Fixed,
    reward: RewardSettings {
        kl_coefficient: 0.01,
        score_clip: Some((-10.0, 10.0)),
        missing_eos: MissingEos::Ignore,
    },
    whiten_rewards: None,
    whiten_advantages: Some(whiten::OPENRLHF_ADVANTAGES),
    epochs: 1,
    minibatches: 8,
    temperature: 1.0,
};

/// A preset by its name in a recipe: `trl` or `openrlhf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresetName {
    /// [`TRL`].
    Trl,
    /// [`OPENRLHF`].
    Openrlhf,
}

impl PresetName {
    /// The settings of that name.
    pub fn preset(self) -> PpoPreset {
        match self {
            PresetName::Trl => TRL,
            PresetName::Openrlhf => OPENRLHF,
        }
    }
}

/// A setting that can be turned off: `"off"` in a recipe, or its value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a value of the setting's kind, or \"off\"")]
pub enum OrOff<T> {
    /// `"off"`.
    Off(Off),
    /// A value.
    Value(T),
}

/// The word `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Off {
    /// `"off"`.
    #[serde(rename = "off")]
    Off,
}

impl<T> OrOff<T> {
    /// The value; `None` is off.
    pub fn value(self) -> Option<T> {
        match self {
            OrOff::Off(Off::Off) => None,
            OrOff::Value(value) => Some(value),
        }
    }
}

/// The horizon if a recipe gives only a KL target: TRL's classic one, in sequences.
pub const KL_HORIZON: f64 = 10_000.0;

/// What a recipe overrides in a preset. A setting that is not given keeps the preset's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PpoOverrides {
    /// Discount, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gamma: Option<f64>,
    /// GAE's lambda, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<f64>,
    /// The ratio's floor is `1 - clip_low`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_low: Option<f64>,
    /// The ratio's ceiling is `1 + clip_high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_high: Option<f64>,
    /// Above 1, or `"off"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dual_clip: Option<OrOff<f64>>,
    /// How far a value may move from its old one, or `"off"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_clip: Option<OrOff<f64>>,
    /// `"k1"`, `"k2"` or `"k3"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_estimator: Option<KlEstimator>,
    /// Bound on the per-token KL, nats, or `"off"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_clamp: Option<OrOff<f64>>,
    /// The KL coefficient, or its start value if it is adaptive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_coefficient: Option<f64>,
    /// Target of the KL per sequence, nats. If given, the coefficient is adaptive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_target: Option<f64>,
    /// Time constant of the adaptation, in sequences; [`KL_HORIZON`] if only the target is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_horizon: Option<f64>,
    /// `[lowest, highest]` score, or `"off"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_clip: Option<OrOff<(f64, f64)>>,
    /// `"ignore"`, `{ subtract = 1.0 }` or `{ replace = -1.0 }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing_eos: Option<MissingEos>,
    /// `"trl"`, `"openrlhf"` or `"off"`; rewards keep their mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whiten_rewards: Option<OrOff<WhiteningAs>>,
    /// `"trl"`, `"openrlhf"` or `"off"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whiten_advantages: Option<OrOff<WhiteningAs>>,
    /// Passes over one rollout; `ppo_epochs` in a recipe, whose `epochs` are passes over the prompts.
    #[serde(rename = "ppo_epochs", skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Number of minibatches in each pass over a rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minibatches: Option<usize>,
    /// Sampling temperature; positive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
}

impl PpoPreset {
    /// The preset with a recipe's changes.
    ///
    /// # Errors
    /// A value out of range, or a KL horizon without a target; names the setting.
    ///
    /// ```
    /// use solon_train::ppo::{OrOff, PpoOverrides, TRL};
    /// let changes = PpoOverrides { epochs: Some(2), value_clip: Some(OrOff::Value(0.5)), ..PpoOverrides::default() };
    /// let preset = TRL.with(&changes).unwrap();
    /// assert_eq!((preset.epochs, preset.value_clip, preset.lambda), (2, Some(0.5), 0.95));
    /// ```
    pub fn with(&self, changes: &PpoOverrides) -> Result<PpoPreset, LossError> {
        let mut preset = *self;
        set(&mut preset.gamma, changes.gamma);
        set(&mut preset.lambda, changes.lambda);
        set(&mut preset.policy.clip_low, changes.clip_low);
        set(&mut preset.policy.clip_high, changes.clip_high);
        set(&mut preset.policy.dual_clip, changes.dual_clip.map(OrOff::value));
        set(&mut preset.value_clip, changes.value_clip.map(OrOff::value));
        set(&mut preset.kl_estimator, changes.kl_estimator);
        set(&mut preset.kl_clamp, changes.kl_clamp.map(OrOff::value));
        set(&mut preset.kl_control, kl_control(self.kl_control, changes)?);
        set(&mut preset.reward.kl_coefficient, changes.kl_coefficient);
        set(&mut preset.reward.score_clip, changes.score_clip.map(OrOff::value));
        set(&mut preset.reward.missing_eos, changes.missing_eos);
        let rewards = changes.whiten_rewards.map(|choice| choice.value().map(WhiteningAs::rewards));
        set(&mut preset.whiten_rewards, rewards);
        let advantages = changes.whiten_advantages.map(|choice| choice.value().map(WhiteningAs::advantages));
        set(&mut preset.whiten_advantages, advantages);
        set(&mut preset.epochs, changes.epochs);
        set(&mut preset.minibatches, changes.minibatches);
        set(&mut preset.temperature, changes.temperature);
        preset.validate()?;
        Ok(preset)
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<(), LossError> {
        check_setting("gamma", self.gamma, (0.0..=1.0).contains(&self.gamma), "between 0 and 1")?;
        check_setting("lambda", self.lambda, (0.0..=1.0).contains(&self.lambda), "between 0 and 1")?;
        self.policy.validate()?;
        for (name, bound) in [("value_clip", self.value_clip), ("kl_clamp", self.kl_clamp)] {
            bound.map_or(Ok(()), |bound| check_setting(name, bound, bound > 0.0, "positive, or off"))?;
        }
        self.reward.validate()?;
        self.kl_control.controller(self.reward.kl_coefficient)?;
        for (name, count) in [("epochs", self.epochs), ("minibatches", self.minibatches)] {
            check_setting(name, count as f64, count > 0, "at least 1")?;
        }
        check_setting("temperature", self.temperature, self.temperature > 0.0, "positive")
    }
}

fn set<T>(setting: &mut T, change: Option<T>) {
    if let Some(change) = change {
        *setting = change;
    }
}

/// The KL control with a recipe's target and horizon, if they change it.
fn kl_control(control: KlControl, changes: &PpoOverrides) -> Result<Option<KlControl>, LossError> {
    let (old_target, old_horizon) = match control {
        KlControl::Fixed => (None, KL_HORIZON),
        KlControl::Adaptive { target, horizon } => (Some(target), horizon),
    };
    match (changes.kl_target.or(old_target), changes.kl_horizon) {
        (Some(target), horizon) => {
            Ok(Some(KlControl::Adaptive { target, horizon: horizon.unwrap_or(old_horizon) }))
        }
        (None, None) => Ok(None),
        (None, Some(value)) => {
            Err(LossError::Setting { setting: "kl_horizon", value, expected: "given with a kl_target" })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> PpoOverrides {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn presets_are_valid() {
        for name in [PresetName::Trl, PresetName::Openrlhf] {
            name.preset().validate().unwrap();
            assert_eq!(name.preset().with(&PpoOverrides::default()), Ok(name.preset()));
        }
    }

    #[test]
    fn every_setting_is_reached() {
        let changes = read(
            r#"{"gamma": 0.5, "lambda": 0.25, "clip_low": 0.1, "clip_high": 0.3, "dual_clip": 3.0, "value_clip": 0.4,
                "kl_estimator": "k3", "kl_clamp": 5.0, "kl_coefficient": 0.2, "kl_target": 6.0, "kl_horizon": 500.0,
                "score_clip": [-2.0, 3.0], "missing_eos": {"subtract": 1.0}, "whiten_rewards": "trl",
                "whiten_advantages": "openrlhf", "ppo_epochs": 3, "minibatches": 5, "temperature": 0.9}"#,
        );
        let wanted = PpoPreset {
            gamma: 0.5,
            lambda: 0.25,
            policy: PolicySettings { clip_low: 0.1, clip_high: 0.3, dual_clip: Some(3.0) },
            value_clip: Some(0.4),
            kl_estimator: KlEstimator::K3,
            kl_clamp: Some(5.0),
            kl_control: KlControl::Adaptive { target: 6.0, horizon: 500.0 },
            reward: RewardSettings {
                kl_coefficient: 0.2,
                score_clip: Some((-2.0, 3.0)),
                missing_eos: MissingEos::Subtract(1.0),
            },
            whiten_rewards: Some(whiten::TRL_REWARDS),
            whiten_advantages: Some(whiten::OPENRLHF_ADVANTAGES),
            epochs: 3,
            minibatches: 5,
            temperature: 0.9,
        };
        assert_eq!(TRL.with(&changes), Ok(wanted));
        assert_eq!(OPENRLHF.with(&changes), Ok(wanted));
        let again: PpoOverrides = serde_json::from_str(&serde_json::to_string(&changes).unwrap()).unwrap();
        assert_eq!(again, changes);
    }

    #[test]
    fn what_a_preset_has_can_be_turned_off() {
        let changes = read(
            r#"{"value_clip": "off", "kl_clamp": "off", "score_clip": "off", "whiten_advantages": "off"}"#,
        );
        let preset = OPENRLHF.with(&changes).unwrap();
        assert_eq!((preset.value_clip, preset.kl_clamp, preset.reward.score_clip), (None, None, None));
        assert_eq!(preset.whiten_advantages, None);
        let error =
            serde_json::from_str::<PpoOverrides>(r#"{"value_clip": "none"}"#).unwrap_err().to_string();
        assert!(error.contains(r#"or "off""#), "{error}");
    }

    #[test]
    fn a_target_alone_makes_the_coefficient_adaptive() {
        let preset = TRL.with(&read(r#"{"kl_target": 6.0}"#)).unwrap();
        assert_eq!(preset.kl_control, KlControl::Adaptive { target: 6.0, horizon: KL_HORIZON });
        let faster = preset.with(&read(r#"{"kl_horizon": 100.0}"#)).unwrap();
        assert_eq!(faster.kl_control, KlControl::Adaptive { target: 6.0, horizon: 100.0 });
    }

    #[test]
    fn refuses_what_no_run_can_mean() {
        for (json, named) in [
            (r#"{"gamma": 1.5}"#, "gamma"),
            (r#"{"lambda": -0.5}"#, "lambda"),
            (r#"{"clip_low": 0.0}"#, "clip_low"),
            (r#"{"dual_clip": 0.5}"#, "dual_clip"),
            (r#"{"value_clip": 0.0}"#, "value_clip"),
            (r#"{"kl_clamp": -1.0}"#, "kl_clamp"),
            (r#"{"kl_coefficient": -1.0}"#, "kl coefficient"),
            (r#"{"kl_horizon": 10.0}"#, "kl_horizon"),
            (r#"{"kl_target": 0.0}"#, "kl target"),
            (r#"{"score_clip": [1.0, -1.0]}"#, "score_clip low"),
            (r#"{"missing_eos": {"subtract": -1.0}}"#, "missing_eos penalty"),
            (r#"{"ppo_epochs": 0}"#, "epochs"),
            (r#"{"minibatches": 0}"#, "minibatches"),
            (r#"{"temperature": 0.0}"#, "temperature"),
        ] {
            match TRL.with(&read(json)) {
                Err(LossError::Setting { setting, .. }) => assert_eq!(setting, named),
                other => panic!("{json}: {other:?}"),
            }
        }
        assert!(serde_json::from_str::<PpoOverrides>(r#"{"value_coefficient": 0.1}"#).is_err());
    }
}
