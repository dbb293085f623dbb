//! PPO and RLOO in their order: roll out, score, penalise, estimate advantages, update the policy, and the critic where
//! there is one.
//!
//! The two differ in the [`Estimator`] of the advantages alone. Rollouts, KL and the clipped objective are the same.
//!
//! Policy, reference, reward models and critic are adapters on one frozen decoder, so four models need little more
//! memory than one. One engine samples and trains: the log-probs recorded during sampling have the same bits as those
//! of the first training pass. A step that finds a difference stops with [`TrainError::OneEngine`].
//!
//! The score of an answer is the mean of what the reward models say, each on its own scale ([`RewardModel::scale`]). The
//! critic's raw output is normalised like the first reward model's, so a critic that starts as a copy of it starts on the
//! scale of its targets.
//!
//! If a value is not finite, the iteration ends and is recorded as skipped. Neither the current update nor a later one
//! of the iteration is applied. The updates of earlier minibatches were finite and are kept.
//! Source: Schulman et al. 2017; Ouyang et al. 2022 App. C; "The N Implementation Details of RLHF with PPO"; Ahmadian et
//! al. 2024 for RLOO.

use super::beside::Beside;
use super::critic::{ValueObjective, values};
use super::gae::gae;
use super::inputs::check;
use super::kl::{KlController, kl_per_token, mean_sequence_kl};
use super::leave_one_out::{leave_one_out, sequence_rewards};
use super::policy::PolicyObjective;
use super::rewards::{RewardInputs, TokenRewards, token_rewards};
use super::rollout::Rollout;
use super::whiten::whiten;
use crate::checkpoint;
use crate::correlation::correlation;
use crate::learner::Learner;
use crate::losses::policy::PolicyMetrics;
use crate::losses::sequences::spread_over_tokens;
use crate::losses::value::ValueMetrics;
use crate::objective::Objective;
use crate::pass::{Failure, add_gradient};
use crate::reward::rewards;
use crate::scale::RewardScale;
use crate::schedule::Batches;
use crate::sft::{LessonMetrics, Lessons};
use crate::skipped::{Skipped, Skips};
use crate::step::{StepRecord, TrainError, Trainer};
use solon_draws::Draws;
use solon_infer::engine::Engine;
use solon_infer::generate::{Finish, Request, Settings};
use solon_infer::prefixes::{IN_USE, KEPT};
use solon_infer::score::ScoreItem;
use solon_model::{Adapter, Backend};
use solon_records::SamplingSettings;

pub use super::inputs::{Estimator, PpoPrompt, PpoSettings, PromptGroup, RewardModel};

/// The training targets of a rollout.
struct Estimates {
    /// `[n_actions]`.
    advantages: Vec<f32>,
    /// The critic's targets, where there is a critic.
    critic: Option<CriticTargets>,
}

/// The critic's targets; both `[n_actions]`.
struct CriticTargets {
    /// Its values before each action, as they were.
    values: Vec<f32>,
    returns: Vec<f32>,
}

/// PPO or RLOO over a set of prompts.
pub struct PpoTrainer<'a, B: Backend> {
    policy: &'a mut Learner<B>,
    estimator: Estimator<'a, B>,
    reference: Option<&'a Adapter<B>>,
    rewards: Vec<RewardModel<'a, B>>,
    lessons: Option<Beside<'a, B>>,
    prompts: &'a [PpoPrompt],
    settings: PpoSettings,
    controller: KlController,
    stop_ids: &'a [u32],
    batches: Batches,
    skips: Skips,
    draws: Draws,
}

impl<'a, B: Backend> PpoTrainer<'a, B> {
    /// `reference` is the adapter of the reference model (the SFT model), to which the KL is computed. An answer's score
    /// is the mean over `rewards`.
    ///
    /// # Errors
    /// Settings out of range, no prompts, an empty prompt, no reward model, or a critic without a scalar head.
    pub fn new(
        policy: &'a mut Learner<B>,
        estimator: Estimator<'a, B>,
        reference: Option<&'a Adapter<B>>,
        rewards: Vec<RewardModel<'a, B>>,
        prompts: &'a [PpoPrompt],
        stop_ids: &'a [u32],
        settings: PpoSettings,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        check(&settings, &estimator, &rewards, prompts)?;
        let controller = settings.preset.kl_control.controller(settings.preset.reward.kl_coefficient)?;
        let batches = settings.policy.batches(prompts.len(), draws.item("order"));
        let skips = Skips { allowed: settings.policy.max_skipped, count: 0 };
        Ok(Self {
            policy,
            estimator,
            reference,
            rewards,
            lessons: None,
            prompts,
            settings,
            controller,
            stop_ids,
            batches,
            skips,
            draws,
        })
    }

    /// In every update the policy also learns from `each` of these lessons: their mean loss is added to the surrogate's.
    ///
    /// # Errors
    /// No lesson in an update, no lessons, one without tokens to train on, weights out of range, or a decoder that is trained
    /// itself.
    pub fn with_lessons(mut self, lessons: Lessons<'a, B>, each: usize) -> Result<Self, TrainError> {
        self.lessons = Some(Beside::of(self.policy, lessons, each, self.draws.item("lessons"))?);
        Ok(self)
    }

    /// Samples answers with the current policy. The draws of an answer are keyed by its prompt and its number among the
    /// answers to it.
    fn roll_out(&self, step: usize, prompts: &[usize]) -> Rollout {
        let temperature = self.settings.preset.temperature as f32;
        let each = self.settings.answers_each;
        let key = self.draws.item("rollout").index(step as u64);
        let prompts: Vec<&PpoPrompt> = prompts.iter().map(|i| &self.prompts[*i]).collect();
        let request = |prompt: &PpoPrompt, answer: usize| Request {
            prompt: prompt.tokens.clone(),
            draws: key.item(&prompt.id).index(answer as u64),
        };
        let requests: Vec<Request> =
            prompts.iter().flat_map(|prompt| (0..each).map(move |answer| request(prompt, answer))).collect();
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
            ids: prompts.iter().map(|prompt| prompt.id.clone()).collect(),
            prompts: prompts.iter().map(|prompt| prompt.tokens.clone()).collect(),
            groups: prompts.iter().map(|prompt| prompt.group).collect(),
            each,
            ended: completions.iter().map(|c| c.finish == Finish::Stop).collect(),
            lengths: completions.iter().map(|c| c.token_ids.len()).collect(),
            logprobs: completions.iter().flat_map(|c| c.logprobs.iter().copied()).collect(),
            answers: completions.into_iter().map(|c| c.token_ids).collect(),
        }
    }

    /// What each reward model says of the answers, not normalised: `[n_models][n_sequences]`.
    fn raw_scores(&self, rollout: &Rollout) -> Vec<Vec<f32>> {
        let (decoder, budget) = (&self.policy.decoder, self.settings.policy.tokens_per_pass);
        let raw = |model: &RewardModel<'_, B>| {
            let closed: Vec<Vec<u32>> = rollout.answers.iter().map(|answer| (model.closed)(answer)).collect();
            let prompts = rollout.pairs().into_iter().map(|(prompt, _)| prompt);
            let read: Vec<_> = prompts.zip(closed.iter().map(Vec::as_slice)).collect();
            rewards(decoder, model.adapter, model.head, &read, budget)
        };
        self.rewards.iter().map(raw).collect()
    }

    /// The answers' scores, `[n_sequences]`: the mean of the normalised raw scores.
    fn mixed(&self, raw: &[Vec<f32>]) -> Vec<f32> {
        let normalised = |sequence: usize| {
            self.rewards.iter().zip(raw).map(move |(model, raw)| model.scale.normalise(raw[sequence]))
        };
        (0..raw[0].len()).map(|i| normalised(i).sum::<f32>() / self.rewards.len() as f32).collect()
    }

    /// Log-probs of the actions under the reference, `[n_actions]`, nats.
    fn reference_logprobs(&self, rollout: &Rollout) -> Vec<f32> {
        let items: Vec<ScoreItem> = rollout
            .prompts
            .iter()
            .enumerate()
            .map(|(i, prompt)| ScoreItem {
                prompt: prompt.clone(),
                completions: rollout.answers[rollout.answers_to(i)].to_vec(),
            })
            .collect();
        let temperature = self.settings.preset.temperature as f32;
        let mut engine = Engine::new(&self.policy.decoder, self.reference, IN_USE);
        engine.score(&items, temperature, &mut |_| {}).into_iter().flatten().flatten().collect()
    }

    /// Scores, penalises and estimates advantages; then updates the KL coefficient.
    fn estimate(&mut self, rollout: &Rollout, record: &mut StepRecord) -> Result<Estimates, Failure> {
        let preset = self.settings.preset;
        let Rollout { lengths, logprobs, ended, .. } = rollout;
        let raw = self.raw_scores(rollout);
        let scores = self.mixed(&raw);
        let reference = self.reference_logprobs(rollout);

        let kl = kl_per_token(preset.kl_estimator, logprobs, &reference, preset.kl_clamp)?;
        let mut reward_settings = preset.reward;
        reward_settings.kl_coefficient = self.controller.coefficient();
        let inputs = RewardInputs { scores: &scores, ended, kl: &kl, lengths };
        let shaped = token_rewards(&inputs, &reward_settings)?;
        let (advantages, critic) = match &self.estimator {
            Estimator::Gae { critic, .. } => {
                let (advantages, targets) = self.with_critic(critic, rollout, &shaped)?;
                (advantages, Some(targets))
            }
            Estimator::LeaveOneOut => {
                let rewards = sequence_rewards(&shaped.scores, &kl, lengths, reward_settings.kl_coefficient)?;
                let advantages = leave_one_out(&rewards, rollout.each)?;
                (spread_over_tokens(&advantages, lengths)?, None)
            }
        };
        let advantages = match &preset.whiten_advantages {
            Some(whitening) => whiten(&advantages, whitening)?,
            None => advantages,
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
            ("objective/raw_scores", mean(raw.iter().flatten()).unwrap_or_default()),
            ("objective/non_score_reward", shaped.mean_non_score_reward),
            ("objective/rlhf_reward", shaped.mean_rlhf_reward()),
            ("val/num_eos_tokens", sequences - shaped.missing_eos as f64),
            ("completions/clipped_ratio", shaped.missing_eos as f64 / sequences),
            ("val/length", logprobs.len() as f64 / sequences),
        ]);
        record.metrics.extend(Self::score_metrics(rollout, &scores));
        Ok(Estimates { advantages, critic })
    }

    /// Advantages by GAE, `[n_actions]`, not whitened, and what the critic is to learn.
    fn with_critic(
        &self,
        critic: &Learner<B>,
        rollout: &Rollout,
        shaped: &TokenRewards,
    ) -> Result<(Vec<f32>, CriticTargets), Failure> {
        let preset = self.settings.preset;
        let head = critic.scalar.as_ref().ok_or(TrainError::NoScalarHead { whose: "the critic" })?;
        let (decoder, adapter) = (&critic.decoder, critic.adapter.as_ref());
        let budget = self.settings.policy.tokens_per_pass;
        let values = values(decoder, adapter, head, self.critic_scale(), &rollout.pairs(), budget);
        let token_level = match &preset.whiten_rewards {
            Some(whitening) => whiten(&shaped.rewards, whitening)?,
            None => shaped.rewards.clone(),
        };
        let estimated = gae(&token_level, &values, &rollout.lengths, preset.gamma, preset.lambda)?;
        Ok((estimated.advantages, CriticTargets { values, returns: estimated.returns }))
    }

    /// The scale of the critic's values: that of the reward model it starts from.
    fn critic_scale(&self) -> RewardScale {
        self.rewards[0].scale
    }

    /// How the scores, before clip and penalty, are spread: by group of prompts, and with the answers' length.
    fn score_metrics(rollout: &Rollout, scores: &[f32]) -> Vec<(&'static str, f64)> {
        let mean_of = |wanted: PromptGroup| {
            let of_group = |item: &usize| rollout.groups[item / rollout.each] == Some(wanted);
            mean((0..scores.len()).filter(of_group).map(|item| &scores[item]))
        };
        let mut metrics: Vec<(&'static str, f64)> = PromptGroup::METRICS
            .into_iter()
            .filter_map(|(group, name)| Some((name, mean_of(group)?)))
            .collect();
        let lengths: Vec<f64> = rollout.lengths.iter().map(|length| *length as f64).collect();
        let scores: Vec<f64> = scores.iter().map(|score| f64::from(*score)).collect();
        metrics.extend(correlation(&scores, &lengths).map(|r| ("objective/score_length_correlation", r)));
        metrics
    }

    /// Updates policy and critic over the rollout's minibatches. For each minibatch, both are updated or neither.
    fn update(
        &mut self,
        rollout: &Rollout,
        estimates: &Estimates,
        rate: f64,
        record: &mut StepRecord,
    ) -> Result<(), Failure> {
        let scale = self.critic_scale();
        let Self { policy, estimator, lessons, settings, .. } = self;
        let PpoSettings { preset, policy: train, .. } = &*settings;
        let surrogate = PolicyObjective {
            rollout,
            advantages: &estimates.advantages,
            settings: preset.policy,
            temperature: preset.temperature as f32,
        };
        let mut critic = match (estimator, &estimates.critic) {
            (Estimator::Gae { critic, learning_rate }, Some(targets)) => {
                let CriticTargets { values: old_values, returns } = targets;
                let regression =
                    ValueObjective { rollout, old_values, returns, clip: preset.value_clip, scale };
                Some((critic, regression, rate / train.learning_rate * *learning_rate))
            }
            _ => None,
        };
        let (mut policy_metrics, mut value_metrics) = (PolicyMetrics::default(), ValueMetrics::default());
        let mut lesson_metrics = LessonMetrics::default();
        let (mut policy_norm, mut critic_norm) = (0.0, 0.0);
        let count = rollout.prompts.len();
        for epoch in 0..preset.epochs {
            let draws = self.draws.item("minibatch").index(record.step as u64).index(epoch as u64);
            // Whole prompts: their answers share the prompt's computation only within a pass.
            let order = draws.permutation(count);
            for (number, prompts) in order.chunks(count.div_ceil(preset.minibatches)).enumerate() {
                let minibatch: Vec<usize> = prompts.iter().flat_map(|i| rollout.answers_to(*i)).collect();
                // These tokens are already counted in the rollout.
                let tokens = &mut 0;
                let policy_loss = add_gradient(policy, None, &surrogate, &minibatch, train, tokens)?;
                let difference = policy_loss.metrics.largest_log_ratio;
                if epoch == 0 && number == 0 && difference != 0.0 {
                    return Err(TrainError::OneEngine { step: record.step, difference }.into());
                }
                policy_norm = policy_loss.norm;
                if let Some(beside) = lessons {
                    let batch =
                        beside.batch((record.step * preset.epochs + epoch) * preset.minibatches + number);
                    let (reference, objective) = (beside.reference.as_ref(), &beside.objective);
                    let loss = add_gradient(policy, reference, objective, &batch, train, &mut record.tokens)?;
                    lesson_metrics.merge(&loss.metrics);
                    policy_norm = loss.norm;
                }
                if let Some((critic, regression, critic_rate)) = &mut critic {
                    let value_loss = add_gradient(critic, None, regression, &minibatch, train, tokens)?;
                    critic.update(*critic_rate, value_loss.norm, &train.optimizer);
                    value_metrics.merge(&value_loss.metrics);
                    critic_norm = value_loss.norm;
                }
                policy.update(rate, policy_norm, &train.optimizer);
                policy_metrics.merge(&policy_loss.metrics);
            }
        }
        record.metrics.insert("grad_norm", policy_norm);
        record.metrics.extend(surrogate.report(&policy_metrics));
        record.metrics.extend(lesson_metrics.report());
        if let Some((_, regression, _)) = critic {
            record.metrics.insert("critic_grad_norm", critic_norm);
            record.metrics.extend(regression.report(&value_metrics));
        }
        Ok(())
    }
}

/// The mean of some numbers; `None` where there are none.
fn mean<'a>(numbers: impl Iterator<Item = &'a f32>) -> Option<f64> {
    let (sum, count) = numbers.fold((0.0, 0), |(sum, count), x| (sum + f64::from(*x), count + 1));
    (count > 0).then(|| sum / f64::from(count))
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
            if let Estimator::Gae { critic, .. } = &mut self.estimator {
                critic.discard_gradients();
            }
            let batch = rollout.batch_items();
            record.skipped = Some(self.skips.add(step, Skipped { reason, batch })?);
        }
        Ok(record)
    }

    fn checkpoint(&self, next_step: usize) -> Result<Vec<u8>, TrainError> {
        let numbers = [next_step as u64, self.controller.coefficient().to_bits(), self.skips.count as u64];
        let mut learners = vec![("policy", &*self.policy)];
        if let Estimator::Gae { critic, .. } = &self.estimator {
            learners.push(("critic", critic));
        }
        checkpoint::to_bytes(&learners, &numbers)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<usize, TrainError> {
        let mut learners = vec![("policy", &mut *self.policy)];
        if let Estimator::Gae { critic, .. } = &mut self.estimator {
            learners.push(("critic", critic));
        }
        let numbers = checkpoint::from_bytes(&mut learners, 3, bytes)?;
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
        PpoSettings { policy: tiny::settings(), answers_each: 1, max_new_tokens: 6, slots: 2, preset: TRL }
    }

    #[test]
    fn a_reward_model_scores_answers_as_it_reads_them() {
        let prompts = tiny::prompts();
        let (mut policy, reward) = (tiny::learner(false), tiny::learner(true));
        let (adapter, head) = (reward.adapter.as_ref(), reward.scalar.as_ref().unwrap());
        let closed = |answer: &[u32]| [answer, &[5, 3]].concat();
        let models: [&dyn Fn(&[u32]) -> Vec<u32>; 2] = [&<[u32]>::to_vec, &closed];
        let models = models.map(|closed| RewardModel { adapter, head, closed, scale: RewardScale::RAW });
        let (settings, draws) = (settings(), tiny::seed());
        let estimator = Estimator::LeaveOneOut;
        let settings = PpoSettings { answers_each: 2, ..settings };
        let trainer =
            PpoTrainer::new(&mut policy, estimator, None, models.into(), &prompts, &[0, 1], settings, draws)
                .unwrap();
        let rollout = trainer.roll_out(0, &[0, 1]);
        let found = trainer.raw_scores(&rollout);
        for (model, close) in found.iter().zip([false, true]) {
            for ((prompt, answer), found) in rollout.pairs().into_iter().zip(model) {
                let answer = if close { closed(answer) } else { answer.to_vec() };
                let alone = rewards(&reward.decoder, adapter, head, &[(prompt, &answer)], 64)[0];
                assert!((found - alone).abs() < 1e-5, "{found} and {alone}");
            }
        }
        assert!(
            found[0].iter().zip(&found[1]).all(|(open, closed)| (open - closed).abs() > 1e-4),
            "{found:?}"
        );
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
            let model = RewardModel {
                adapter: reward.adapter.as_ref(),
                head,
                closed: &<[u32]>::to_vec,
                scale: RewardScale::RAW,
            };
            let mut trainer = PpoTrainer::new(
                &mut policy,
                Estimator::Gae { critic: &mut critic, learning_rate: 1e-2 },
                None,
                vec![model],
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
