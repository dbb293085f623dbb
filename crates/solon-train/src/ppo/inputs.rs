//! What a training on rollouts is given: prompts, reward models, the estimator of the advantages, and settings.

use super::PpoPreset;
use crate::learner::Learner;
use crate::losses::check_setting;
use crate::objective::{Head, check_head};
use crate::scale::RewardScale;
use crate::settings::TrainSettings;
use crate::step::TrainError;
use solon_model::{Adapter, Backend, ScalarHead};

/// A prompt to roll out.
#[derive(Clone, Debug)]
pub struct PpoPrompt {
    /// The prompt's id.
    pub id: String,
    /// Token ids, generation prompt included.
    pub tokens: Vec<u32>,
    /// Where its scores are also told apart.
    pub group: Option<PromptGroup>,
}

/// Prompts whose scores are told apart: a policy may earn its reward on one group at the cost of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptGroup {
    /// Prompts that ask for harm.
    Harmful,
    /// All others.
    Others,
}

impl PromptGroup {
    /// Every group with the metric of its mean score.
    pub(super) const METRICS: [(PromptGroup, &'static str); 2] = [
        (PromptGroup::Harmful, "objective/scores_harmful"),
        (PromptGroup::Others, "objective/scores_others"),
    ];
}

/// A reward model on the policy's decoder.
pub struct RewardModel<'a, B: Backend> {
    /// Its adapter.
    pub adapter: Option<&'a Adapter<B>>,
    /// Its head.
    pub head: &'a ScalarHead<B>,
    /// An answer as it reads it: the score is that at the last token.
    pub closed: &'a dyn Fn(&[u32]) -> Vec<u32>,
    /// Its scale on reference answers; it normalises scores, and that of the first model the critic's values.
    pub scale: RewardScale,
}

/// How the advantages of a rollout are estimated.
pub enum Estimator<'a, B: Backend> {
    /// PPO: generalised advantage estimation with a critic, which learns beside the policy.
    Gae {
        /// The critic; it must have a scalar head.
        critic: &'a mut Learner<B>,
        /// Its peak learning rate; positive. It has the same schedule as the policy's.
        learning_rate: f64,
    },
    /// RLOO: each answer against the other answers to its prompt. The preset's `gamma`, `lambda`, `value_clip` and
    /// `whiten_rewards` have no meaning for it.
    LeaveOneOut,
}

/// Settings of PPO and RLOO.
#[derive(Clone, Copy, Debug)]
pub struct PpoSettings {
    /// Prompts in an iteration, passes over the prompts, AdamW's settings for both learners, and the policy's learning
    /// rate.
    pub policy: TrainSettings,
    /// Answers to each prompt in an iteration; at least 1, and 2 for [`Estimator::LeaveOneOut`].
    pub answers_each: usize,
    /// Largest number of new tokens in an answer.
    pub max_new_tokens: usize,
    /// Number of answers sampled at the same time.
    pub slots: usize,
    /// The settings in which TRL and OpenRLHF differ.
    pub preset: PpoPreset,
}

/// Refuses settings out of range, no prompts, an empty prompt, no reward model, and a critic without a scalar head.
pub(super) fn check<B: Backend>(
    settings: &PpoSettings,
    estimator: &Estimator<'_, B>,
    rewards: &[RewardModel<'_, B>],
    prompts: &[PpoPrompt],
) -> Result<(), TrainError> {
    settings.policy.validate()?;
    settings.preset.validate()?;
    for (name, count) in [
        ("max_new_tokens", settings.max_new_tokens),
        ("slots", settings.slots),
        ("answers_each", settings.answers_each),
    ] {
        check_setting(name, count as f64, count > 0, "at least 1")?;
    }
    for reward in rewards {
        reward.scale.validate()?;
    }
    let Some(first) = rewards.first() else {
        return Err(TrainError::Empty { what: "the list of reward models" });
    };
    match estimator {
        Estimator::Gae { critic, learning_rate } => {
            check_setting("critic_learning_rate", *learning_rate, *learning_rate > 0.0, "positive")?;
            check_head(Head::Scalars(first.scale), critic.scalar.is_some(), "the critic")?;
        }
        Estimator::LeaveOneOut => {
            let each = settings.answers_each;
            check_setting("answers_each", each as f64, each >= 2, "at least 2 without a critic")?;
        }
    }
    if prompts.is_empty() {
        return Err(TrainError::Empty { what: "the set of prompts" });
    }
    if let Some(prompt) = prompts.iter().find(|prompt| prompt.tokens.is_empty()) {
        let reason = "the prompt has no tokens".to_owned();
        return Err(TrainError::Example { id: prompt.id.clone(), reason });
    }
    Ok(())
}
