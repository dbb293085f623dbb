//! Compares the losses and PPO's arithmetic with PyTorch and TRL, number by number, to a relative 1e-5.
//!
//! `goldens/losses.json` is made by `goldens/make_loss_goldens.py`, which says which cases run TRL's own code.

use serde_json::Value;
use solon_train::losses::dpo::{DpoLoss, DpoPairs, DpoSettings, dpo_loss};
use solon_train::losses::policy::{PolicyInputs, PolicySettings, policy_loss};
use solon_train::losses::reward::{RewardPairs, reward_loss};
use solon_train::losses::sft::sft_loss;
use solon_train::losses::value::{ValueInputs, value_loss};
use solon_train::ppo::gae::gae;
use solon_train::ppo::kl::{KlController, KlEstimator, kl_per_token, mean_sequence_kl};
use solon_train::ppo::rewards::{MissingEos, RewardInputs, RewardSettings, token_rewards};
use solon_train::ppo::whiten::{OPENRLHF_ADVANTAGES, TRL_ADVANTAGES, TRL_REWARDS, whiten};

/// One case of the file.
struct Case(Value);

impl Case {
    fn name(&self) -> String {
        format!("{} {} {}", self.0["kind"], self.0["source"], self.0["settings"])
    }

    fn setting(&self, key: &str) -> f64 {
        self.0["settings"][key].as_f64().unwrap_or_else(|| panic!("{}: {key}", self.name()))
    }

    fn input<T>(&self, key: &str, convert: impl Fn(f64) -> T) -> Vec<T> {
        numbers(&self.0["inputs"][key]).into_iter().map(convert).collect()
    }

    fn floats(&self, key: &str) -> Vec<f32> {
        self.input(key, |x| x as f32)
    }

    fn doubles(&self, key: &str) -> Vec<f64> {
        self.input(key, |x| x)
    }

    fn counts(&self, key: &str) -> Vec<usize> {
        self.input(key, |x| x as usize)
    }

    fn estimator(&self) -> KlEstimator {
        match self.0["settings"]["kl_estimator"].as_str() {
            Some("k1") => KlEstimator::K1,
            Some("k2") => KlEstimator::K2,
            Some("k3") => KlEstimator::K3,
            other => panic!("{}: estimator {other:?}", self.name()),
        }
    }

    /// Compares a slice with the expected one.
    fn check(&self, key: &str, actual: &[f32]) {
        let expected = numbers(&self.0["expected"][key]);
        assert_eq!(actual.len(), expected.len(), "{} {key}", self.name());
        for (index, (&actual, expected)) in actual.iter().zip(expected).enumerate() {
            self.close(&format!("{key}[{index}]"), f64::from(actual), expected);
        }
    }

    /// Compares one number with the expected one.
    fn check_scalar(&self, key: &str, actual: f64) {
        let expected = self.0["expected"][key].as_f64();
        self.close(key, actual, expected.unwrap_or_else(|| panic!("{}: no {key}", self.name())));
    }

    /// Compares the metrics, if this case has them; every expected metric must be given.
    fn check_metrics(&self, actual: &[(&str, f64)]) {
        let Some(expected) = self.0["expected"].get("metrics") else {
            return;
        };
        for (key, expected) in expected.as_object().expect("metrics") {
            let (_, actual) = actual.iter().find(|(name, _)| name == key).expect(key);
            self.close(key, *actual, expected.as_f64().expect("a number"));
        }
    }

    fn close(&self, what: &str, actual: f64, expected: f64) {
        // The absolute part is for expected zeros and for values that cancel to nearly zero.
        let allowed = 1e-5 * expected.abs() + 1e-7;
        assert!(
            (actual - expected).abs() <= allowed,
            "{} {what}: {actual} instead of {expected}",
            self.name()
        );
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    let array = value.as_array().expect("an array");
    array.iter().map(|x| x.as_f64().expect("a number")).collect()
}

/// Runs `check` on all cases of one kind; their number is checked, so that a missing case is noticed.
fn cases(kind: &str, count: usize, check: impl Fn(&Case)) {
    let file: Value = serde_json::from_str(include_str!("goldens/losses.json")).unwrap();
    let found: Vec<Case> = file["cases"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| case["kind"] == kind)
        .map(|case| Case(case.clone()))
        .collect();
    assert_eq!(found.len(), count, "cases of {kind}");
    found.iter().for_each(check);
}

#[test]
fn sft() {
    cases("sft", 1, |case| {
        let logprobs = case.floats("logprobs");
        let output = sft_loss(&logprobs, &vec![1.0; logprobs.len()], case.setting("normaliser")).unwrap();
        case.check_scalar("loss", output.loss);
        case.check("d_logprobs", &output.d_logprobs);
    });
}

#[test]
fn dpo() {
    cases("dpo", 8, |case| {
        let settings = DpoSettings {
            loss: match case.0["settings"]["loss"].as_str() {
                Some("sigmoid") => DpoLoss::Sigmoid,
                Some("ipo") => DpoLoss::Ipo,
                Some("hinge") => DpoLoss::Hinge,
                Some("robust") => DpoLoss::Robust,
                other => panic!("loss {other:?}"),
            },
            beta: case.setting("beta"),
            label_smoothing: case.setting("label_smoothing"),
        };
        let pairs = DpoPairs {
            policy_chosen: &case.doubles("policy_chosen"),
            policy_rejected: &case.doubles("policy_rejected"),
            reference_chosen: &case.doubles("reference_chosen"),
            reference_rejected: &case.doubles("reference_rejected"),
            chosen_tokens: &case.counts("chosen_tokens"),
            rejected_tokens: &case.counts("rejected_tokens"),
            probability: &case.floats("probability"),
        };
        let output = dpo_loss(&pairs, &settings, case.setting("normaliser")).unwrap();
        case.check_scalar("loss", output.loss);
        case.check("d_chosen", &output.d_chosen);
        case.check("d_rejected", &output.d_rejected);
        let metrics = output.metrics;
        case.check_metrics(&[
            ("rewards/chosen", metrics.rewards_chosen()),
            ("rewards/rejected", metrics.rewards_rejected()),
            ("rewards/accuracies", metrics.rewards_accuracies().unwrap()),
            ("rewards/margins", metrics.rewards_margins()),
            ("logps/chosen", metrics.logps_chosen()),
            ("logps/rejected", metrics.logps_rejected()),
        ]);
    });
}

#[test]
fn reward() {
    cases("reward", 4, |case| {
        let margin = case.0["inputs"].get("margin").map(|_| case.floats("margin"));
        let pairs = RewardPairs {
            chosen: &case.floats("chosen"),
            rejected: &case.floats("rejected"),
            probability: &case.floats("probability"),
            margin: margin.as_deref(),
        };
        let output = reward_loss(&pairs, case.setting("centering"), case.setting("normaliser"));
        let output = output.unwrap();
        case.check_scalar("loss", output.loss);
        case.check("d_chosen", &output.d_chosen);
        case.check("d_rejected", &output.d_rejected);
        let metrics = output.metrics;
        case.check_metrics(&[
            ("min_reward", metrics.min_reward.into()),
            ("mean_reward", metrics.mean_reward()),
            ("max_reward", metrics.max_reward.into()),
            ("accuracy", metrics.accuracy().unwrap()),
            ("margin", metrics.margin()),
        ]);
    });
}

#[test]
fn policy() {
    cases("policy", 2, |case| {
        let settings = PolicySettings {
            clip_low: case.setting("clip_low"),
            clip_high: case.setting("clip_high"),
            dual_clip: case.0["settings"]["dual_clip"].as_f64(),
        };
        let inputs = PolicyInputs {
            logprobs: &case.floats("logprobs"),
            old_logprobs: &case.floats("old_logprobs"),
            advantages: &case.floats("advantages"),
        };
        let output = policy_loss(&inputs, &settings, case.setting("normaliser")).unwrap();
        case.check_scalar("loss", output.loss);
        case.check("d_logprobs", &output.d_logprobs);
        case.check_metrics(&[
            ("clip_fraction", output.metrics.clip_fraction()),
            ("approximate_kl", output.metrics.approximate_kl()),
            ("ratio_mean", output.metrics.ratio_mean()),
            ("ratio_variance", output.metrics.ratio_variance()),
        ]);
    });
}

#[test]
fn value() {
    cases("value", 1, |case| {
        let inputs = ValueInputs {
            values: &case.floats("values"),
            old_values: &case.floats("old_values"),
            returns: &case.floats("returns"),
        };
        let clip = Some(case.setting("clip"));
        let output = value_loss(&inputs, clip, case.setting("normaliser")).unwrap();
        case.check_scalar("loss", output.loss);
        case.check("d_values", &output.d_values);
        case.check_metrics(&[
            ("clip_fraction", output.metrics.clip_fraction()),
            ("mean_value", output.metrics.mean_value()),
        ]);
    });
}

#[test]
fn rollout_from_kl_to_whitened_advantages() {
    cases("rollout", 2, |case| {
        let (logprobs, reference) = (case.floats("logprobs"), case.floats("reference_logprobs"));
        let (scores, lengths) = (case.floats("scores"), case.counts("lengths"));
        let kl = kl_per_token(case.estimator(), &logprobs, &reference, None).unwrap();
        case.check("kl", &kl);
        case.check_scalar("mean_kl", mean_sequence_kl(&kl, &lengths).unwrap());

        let settings = RewardSettings {
            kl_coefficient: case.setting("kl_coefficient"),
            score_clip: None,
            missing_eos: MissingEos::Ignore,
        };
        let ended = vec![true; scores.len()];
        let inputs = RewardInputs { scores: &scores, ended: &ended, kl: &kl, lengths: &lengths };
        let rewards = token_rewards(&inputs, &settings).unwrap().rewards;
        case.check("rewards", &rewards);
        case.check("whitened_rewards", &whiten(&rewards, &TRL_REWARDS).unwrap());

        let (gamma, lambda) = (case.setting("gamma"), case.setting("lam"));
        let output = gae(&rewards, &case.floats("values"), &lengths, gamma, lambda).unwrap();
        case.check("advantages", &output.advantages);
        case.check("returns", &output.returns);
        let whitened = whiten(&output.advantages, &TRL_ADVANTAGES).unwrap();
        case.check("whitened_advantages", &whitened);
    });
}

#[test]
fn kl_estimators_with_clamp() {
    cases("kl", 3, |case| {
        let (logprobs, reference) = (case.floats("logprobs"), case.floats("reference_logprobs"));
        let clamp = Some(case.setting("clamp"));
        case.check("kl", &kl_per_token(case.estimator(), &logprobs, &reference, clamp).unwrap());
    });
}

#[test]
fn whitening_as_in_openrlhf() {
    cases("whiten_openrlhf", 1, |case| {
        case.check("whitened", &whiten(&case.floats("values"), &OPENRLHF_ADVANTAGES).unwrap());
    });
}

#[test]
fn adaptive_controller() {
    cases("controller", 1, |case| {
        let (start, target) = (case.setting("coefficient"), case.setting("target"));
        let mut controller = KlController::adaptive(start, target, case.setting("horizon")).unwrap();
        let expected = numbers(&case.0["expected"]["coefficients"]);
        for (kl, expected) in case.doubles("kl").into_iter().zip(expected) {
            controller.update(kl, case.setting("sequences") as usize).unwrap();
            case.close("coefficient", controller.coefficient(), expected);
        }
    });
}
