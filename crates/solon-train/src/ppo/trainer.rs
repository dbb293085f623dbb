//! PPO in its order: roll out, score, penalise, estimate advantages, update policy and critic.
//!
//! Policy, reference, reward model and critic are adapters on one frozen decoder, so four models need little more
//! memory than one. One engine samples and trains: the log-probs recorded during sampling have the same bits as those
//! of the first training pass. A step that finds a difference stops with [`TrainError::OneEngine`].
//!
//! Scores and values are on one scale ([`RewardModel::scale`]). The critic's raw output is normalised like the reward
//! model's, so a critic that starts as a copy of the reward model starts on the scale of its targets.
//!
//! If a value is not finite, the iteration ends and is recorded as skipped. Neither the current update nor a later one
//! of the iteration is applied. The updates of earlier minibatches were finite and are kept.
//! Source: Schulman et al. 2017; Ouyang et al. 2022 App. C; "The N Implementation Details of RLHF with PPO".

use super::PpoPreset;
use super::critic::{ValueObjective, values};
use super::gae::gae;
use super::kl::{KlController, kl_per_token, mean_sequence_kl};
use super::policy::PolicyObjective;
use super::rewards::{RewardInputs, token_rewards};
use super::rollout::Rollout;
use super::whiten::whiten;
use crate::checkpoint;
use crate::learner::Learner;
use crate::losses::check_setting;
use crate::losses::policy::PolicyMetrics;
use crate::losses::value::ValueMetrics;
use crate::objective::{Head, Objective, check_head};
use crate::pass::{Failure, add_gradient};
use crate::reward::rewards;
use crate::scale::RewardScale;
use crate::schedule::Batches;
use crate::settings::TrainSettings;
use crate::skipped::{Skipped, Skips};
use crate::step::{StepRecord, TrainError, Trainer};
use solon_draws::Draws;
use solon_infer::engine::Engine;
use solon_infer::generate::{Finish, Request, Settings};
use solon_infer::prefixes::{IN_USE, KEPT};
use solon_infer::score::ScoreItem;
use solon_model::{Adapter, Backend, ScalarHead};
use solon_records::SamplingSettings;

/// A prompt to roll out.
#[derive(Clone, Debug)]
pub struct PpoPrompt {
    /// The prompt's id.
    pub id: String,
    /// Token ids, generation prompt included.
    pub tokens: Vec<u32>,
}

/// A reward model on the policy's decoder.
pub struct RewardModel<'a, B: Backend> {
    /// Its adapter.
    pub adapter: Option<&'a Adapter<B>>,
    /// Its head.
    pub head: &'a ScalarHead<B>,
    /// Its scale on reference answers; it normalises scores and the critic's values.
    pub scale: RewardScale,
}

/// Settings of PPO.
#[derive(Clone, Copy, Debug)]
pub struct PpoSettings {
    /// Rollouts in an iteration, passes over the prompts, AdamW's settings for both learners, and the policy's learning
    /// rate.
    pub policy: TrainSettings,
    /// The critic's peak learning rate; positive. It has the same schedule as the policy's.
    pub critic_learning_rate: f64,
    /// Largest number of new tokens in an answer.
    pub max_new_tokens: usize,
    /// Number of answers sampled at the same time.
    pub slots: usize,
    /// The settings in which TRL and OpenRLHF differ.
    pub preset: PpoPreset,
}

/// The training targets of a rollout; every list is `[n_actions]`.
struct Estimates {
    /// The critic's values, before each action.
    values: Vec<f32>,
    advantages: Vec<f32>,
    returns: Vec<f32>,
}

/// PPO over a set of prompts.
pub struct PpoTrainer<'a, B: Backend> {
    policy: &'a mut Learner<B>,
    critic: &'a mut Learner<B>,
    reference: Option<&'a Adapter<B>>,
    reward: RewardModel<'a, B>,
    prompts: &'a [PpoPrompt],
    settings: PpoSettings,
    controller: KlController,
    stop_ids: &'a [u32],
    batches: Batches,
    skips: Skips,
    draws: Draws,
}

impl<'a, B: Backend> PpoTrainer<'a, B> {
    /// `reference` is the adapter of the reference model (the SFT model), to which the KL is computed. The critic must
    /// have a scalar head.
    ///
    /// # Errors
    /// Settings out of range, no prompts, an empty prompt, or a critic without a scalar head.
    pub fn new(
        policy: &'a mut Learner<B>,
        critic: &'a mut Learner<B>,
        reference: Option<&'a Adapter<B>>,
        reward: RewardModel<'a, B>,
        prompts: &'a [PpoPrompt],
        stop_ids: &'a [u32],
        settings: PpoSettings,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        settings.policy.validate()?;
        settings.preset.validate()?;
        let critic_rate = settings.critic_learning_rate;
        check_setting("critic_learning_rate", critic_rate, critic_rate > 0.0, "positive")?;
        for (name, count) in [("max_new_tokens", settings.max_new_tokens), ("slots", settings.slots)] {
            check_setting(name, count as f64, count > 0, "at least 1")?;
        }
        check_head(Head::Scalars(reward.scale), critic.scalar.is_some(), "the critic")?;
        if prompts.is_empty() {
            return Err(TrainError::Empty { what: "the set of PPO prompts" });
        }
        if let Some(prompt) = prompts.iter().find(|prompt| prompt.tokens.is_empty()) {
            let reason = "the prompt has no tokens".to_owned();
            return Err(TrainError::Example { id: prompt.id.clone(), reason });
        }
        let controller = settings.preset.kl_control.controller(settings.preset.reward.kl_coefficient)?;
        let batches = settings.policy.batches(prompts.len(), draws.item("order"));
        let skips = Skips { allowed: settings.policy.max_skipped, count: 0 };
        Ok(Self {
            policy,
            critic,
            reference,
            reward,
            prompts,
            settings,
            controller,
            stop_ids,
            batches,
            skips,
            draws,
        })
    }

    /// Samples answers with the current policy.
    fn roll_out(&self, step: usize, prompts: &[usize]) -> Rollout {
        let temperature = self.settings.preset.temperature as f32;
        let requests: Vec<Request> = prompts
            .iter()
            .map(|i| Request {
                prompt: self.prompts[*i].tokens.clone(),
                draws: self.draws.item("rollout").index(step as u64).item(&self.prompts[*i].id),
            })
            .collect();
        let settings = Settings {
            sampling: SamplingSettings {
                temperature,
                ..SamplingSettings::of_length(self.settings.max_new_tokens)
            },
            stop_ids: self.stop_ids,
            stop_text: None,
            slots: self.settings.slots,
            logprob_temperature: temperature,
        };
        let completions = Engine::new(&self.policy.decoder, self.policy.adapter.as_ref(), KEPT).generate(
            &requests,
            &settings,
            &mut |_| {},
        );
        Rollout {
            ids: prompts.iter().map(|i| self.prompts[*i].id.clone()).collect(),
            prompts: requests.into_iter().map(|request| request.prompt).collect(),
            ended: completions.iter().map(|c| c.finish == Finish::Stop).collect(),
            lengths: completions.iter().map(|c| c.token_ids.len()).collect(),
            logprobs: completions.iter().flat_map(|c| c.logprobs.iter().copied()).collect(),
            answers: completions.into_iter().map(|c| c.token_ids).collect(),
        }
    }

    /// The reward model's raw scores of the answers, `[n_sequences]`.
    fn score(&self, rollout: &Rollout) -> Vec<f32> {
        let RewardModel { adapter, head, .. } = self.reward;
        rewards(&self.policy.decoder, adapter, head, &rollout.pairs(), self.settings.policy.tokens_per_pass)
    }

    /// Log-probs of the actions under the reference, `[n_actions]`, nats.
    fn reference_logprobs(&self, rollout: &Rollout) -> Vec<f32> {
        let items: Vec<ScoreItem> = rollout
            .pairs()
            .into_iter()
            .map(|(prompt, answer)| ScoreItem { prompt: prompt.to_vec(), completions: vec![answer.to_vec()] })
            .collect();
        let temperature = self.settings.preset.temperature as f32;
        let mut engine = Engine::new(&self.policy.decoder, self.reference, IN_USE);
        engine.score(&items, temperature, &mut |_| {}).into_iter().flatten().flatten().collect()
    }

    /// The critic's values before the actions, `[n_actions]`.
    fn values(&self, rollout: &Rollout) -> Result<Vec<f32>, TrainError> {
        let Learner { decoder, adapter, scalar, .. } = &*self.critic;
        let head = scalar.as_ref().ok_or(TrainError::NoScalarHead { whose: "the critic" })?;
        let budget = self.settings.policy.tokens_per_pass;
        Ok(values(decoder, adapter.as_ref(), head, self.reward.scale, &rollout.pairs(), budget))
    }

    /// Scores, penalises and estimates advantages; then updates the KL coefficient.
    fn estimate(&mut self, rollout: &Rollout, record: &mut StepRecord) -> Result<Estimates, Failure> {
        let preset = self.settings.preset;
        let Rollout { lengths, logprobs, ended, .. } = rollout;
        let raw = self.score(rollout);
        let scores: Vec<f32> = raw.iter().map(|raw| self.reward.scale.normalise(*raw)).collect();
        let reference = self.reference_logprobs(rollout);
        let values = self.values(rollout)?;

        let kl = kl_per_token(preset.kl_estimator, logprobs, &reference, preset.kl_clamp)?;
        let mut reward_settings = preset.reward;
        reward_settings.kl_coefficient = self.controller.coefficient();
        let inputs = RewardInputs { scores: &scores, ended, kl: &kl, lengths };
        let shaped = token_rewards(&inputs, &reward_settings)?;
        let token_level = match &preset.whiten_rewards {
            Some(whitening) => whiten(&shaped.rewards, whitening)?,
            None => shaped.rewards.clone(),
        };
        let estimated = gae(&token_level, &values, lengths, preset.gamma, preset.lambda)?;
        let advantages = match &preset.whiten_advantages {
            Some(whitening) => whiten(&estimated.advantages, whitening)?,
            None => estimated.advantages,
        };
        let sequence_kl = mean_sequence_kl(&kl, lengths)?;
        let coefficient = self.controller.coefficient();
        self.controller.update(sequence_kl, lengths.len())?;

        let sequences = lengths.len() as f64;
        record.metrics.extend([
            ("objective/kl", sequence_kl),
            ("objective/kl_coefficient", coefficient),
            ("objective/entropy", -logprobs.iter().map(|l| f64::from(*l)).sum::<f64>() / sequences),
            ("objective/scores", shaped.mean_score),
            ("objective/raw_scores", raw.iter().map(|r| f64::from(*r)).sum::<f64>() / sequences),
            ("objective/non_score_reward", shaped.mean_non_score_reward),
            ("objective/rlhf_reward", shaped.mean_rlhf_reward()),
            ("val/num_eos_tokens", sequences - shaped.missing_eos as f64),
            ("val/length", logprobs.len() as f64 / sequences),
        ]);
        Ok(Estimates { values, advantages, returns: estimated.returns })
    }

    /// Updates policy and critic over the rollout's minibatches. For each minibatch, both are updated or neither.
    fn update(
        &mut self,
        rollout: &Rollout,
        estimates: &Estimates,
        rate: f64,
        record: &mut StepRecord,
    ) -> Result<(), Failure> {
        let Self { policy, critic, settings, .. } = self;
        let PpoSettings { preset, policy: train, .. } = &*settings;
        let critic_rate = rate / train.learning_rate * settings.critic_learning_rate;
        let surrogate = PolicyObjective {
            rollout,
            advantages: &estimates.advantages,
            settings: preset.policy,
            temperature: preset.temperature as f32,
        };
        let regression = ValueObjective {
            rollout,
            old_values: &estimates.values,
            returns: &estimates.returns,
            clip: preset.value_clip,
            scale: self.reward.scale,
        };
        let (mut policy_metrics, mut value_metrics) = (PolicyMetrics::default(), ValueMetrics::default());
        let (mut policy_norm, mut critic_norm) = (0.0, 0.0);
        let count = rollout.answers.len();
        for epoch in 0..preset.epochs {
            let draws = self.draws.item("minibatch").index(record.step as u64).index(epoch as u64);
            let order = draws.permutation(count);
            for (number, minibatch) in order.chunks(count.div_ceil(preset.minibatches)).enumerate() {
                // These tokens are already counted in the rollout.
                let tokens = &mut 0;
                let policy_loss = add_gradient(policy, None, &surrogate, minibatch, train, tokens)?;
                let difference = policy_loss.metrics.largest_log_ratio;
                if epoch == 0 && number == 0 && difference != 0.0 {
                    return Err(TrainError::OneEngine { step: record.step, difference }.into());
                }
                let value_loss = add_gradient(critic, None, &regression, minibatch, train, tokens)?;
                policy.update(rate, policy_loss.norm, &train.optimizer);
                critic.update(critic_rate, value_loss.norm, &train.optimizer);
                policy_metrics.merge(&policy_loss.metrics);
                value_metrics.merge(&value_loss.metrics);
                (policy_norm, critic_norm) = (policy_loss.norm, value_loss.norm);
            }
        }
        record.metrics.extend([("grad_norm", policy_norm), ("critic_grad_norm", critic_norm)]);
        record.metrics.extend(surrogate.report(&policy_metrics));
        record.metrics.extend(regression.report(&value_metrics));
        Ok(())
    }
}

impl<B: Backend> Trainer for PpoTrainer<'_, B> {
    fn total_steps(&self) -> usize {
        self.batches.total()
    }

    /// One iteration: a rollout and its updates.
    fn step(&mut self, step: usize) -> Result<StepRecord, TrainError> {
        let rate = self.settings.policy.rate(step, self.total_steps());
        let rollout = self.roll_out(step, &self.batches.batch(step));
        let mut record = StepRecord {
            step,
            metrics: [("lr", rate)].into(),
            items: rollout.ids.clone(),
            tokens: rollout.pairs().iter().map(|(prompt, answer)| prompt.len() + answer.len()).sum(),
            skipped: None,
        };
        let learnt = self
            .estimate(&rollout, &mut record)
            .and_then(|estimates| self.update(&rollout, &estimates, rate, &mut record));
        if let Err(failure) = learnt {
            let reason = failure.not_finite(step)?;
            self.policy.discard_gradients();
            self.critic.discard_gradients();
            let batch = rollout.batch_items();
            record.skipped = Some(self.skips.add(step, Skipped { reason, batch })?);
        }
        Ok(record)
    }

    fn checkpoint(&self, next_step: usize) -> Result<Vec<u8>, TrainError> {
        let numbers = [next_step as u64, self.controller.coefficient().to_bits(), self.skips.count as u64];
        checkpoint::to_bytes(&[("policy", self.policy), ("critic", self.critic)], &numbers)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<usize, TrainError> {
        let learners = &mut [("policy", &mut *self.policy), ("critic", &mut *self.critic)];
        let numbers = checkpoint::from_bytes(learners, 3, bytes)?;
        self.controller = self.settings.preset.kl_control.controller(f64::from_bits(numbers[1]))?;
        self.skips.restore(numbers[2]);
        Ok(numbers[0] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ppo::TRL;
    use crate::tiny;

    fn settings() -> PpoSettings {
        PpoSettings {
            policy: tiny::settings(),
            critic_learning_rate: 1e-2,
            max_new_tokens: 6,
            slots: 2,
            preset: TRL,
        }
    }

    /// The promise that one engine samples and trains is checked in each iteration. Here the policy is changed between
    /// its rollout and its update.
    #[test]
    fn a_policy_that_is_not_the_one_that_sampled_is_an_error() {
        let prompts = tiny::prompts();
        let update = |changed: bool| {
            let (mut policy, mut critic) = (tiny::learner(false), tiny::learner(true));
            let reward = tiny::learner(true);
            let head = reward.scalar.as_ref().unwrap();
            let model = RewardModel { adapter: reward.adapter.as_ref(), head, scale: RewardScale::RAW };
            let mut trainer = PpoTrainer::new(
                &mut policy,
                &mut critic,
                None,
                model,
                &prompts,
                &[0, 1],
                settings(),
                tiny::seed(),
            )
            .unwrap();
            let rollout = trainer.roll_out(0, &[0, 1, 2]);
            let mut record = StepRecord::default();
            let estimates = trainer.estimate(&rollout, &mut record).unwrap();
            if changed {
                let adapter = trainer.policy.adapter.as_mut().unwrap();
                for values in adapter.values.all_mut() {
                    values[0] += 0.125;
                }
                adapter.repack(trainer.policy.decoder.backend());
            }
            trainer.update(&rollout, &estimates, 1e-3, &mut record)
        };
        update(false).unwrap();
        match update(true) {
            Err(Failure::Train(TrainError::OneEngine { step: 0, difference })) => assert!(difference > 0.0),
            other => panic!("{other:?}"),
        }
    }
}
