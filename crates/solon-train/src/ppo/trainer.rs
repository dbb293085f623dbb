//! PPO in its order: roll out, score, penalise, estimate advantages, update policy and critic.
//!
//! Policy, reference, reward model and critic are adapters on one frozen decoder, so four models cost little more than
//! one. Sampling and training are one engine: the log-probs recorded while sampling are those of the first pass over
//! them to the bit, and a step that finds otherwise stops ([`TrainError::OneEngine`]).
//! Source: Schulman et al. 2017; Ouyang et al. 2022 App. C; "The N Implementation Details of RLHF with PPO".

use super::PpoPreset;
use super::gae::gae;
use super::kl::{KlController, kl_per_token, mean_sequence_kl};
use super::rewards::{RewardInputs, token_rewards};
use super::whiten::whiten;
use crate::checkpoint;
use crate::learner::Learner;
use crate::losses::LossError;
use crate::losses::policy::{PolicyInputs, PolicyMetrics, policy_loss};
use crate::losses::value::{ValueInputs, ValueMetrics, value_loss};
use crate::reward::rewards;
use crate::schedule::{Batches, Loop, passes};
use crate::step::{AtStep, StepRecord, TrainError, Trainer};
use solon_draws::Draws;
use solon_infer::engine::Engine;
use solon_infer::generate::{Completion, Finish, Request, Settings};
use solon_infer::prefixes::{IN_USE, KEPT};
use solon_infer::score::ScoreItem;
use solon_model::{Adapter, AnswerPack, Backend, PackedBatch, ScalarHead, Scored};
use solon_records::SamplingSettings;

/// A prompt to roll out.
#[derive(Clone, Debug)]
pub struct PpoPrompt {
    /// Where it came from.
    pub id: String,
    /// Token ids, generation prompt included.
    pub tokens: Vec<u32>,
}

/// A reward model on the policy's decoder, normalised on reference answers.
pub struct RewardModel<'a, B: Backend> {
    /// Its adapter.
    pub adapter: Option<&'a Adapter<B>>,
    /// Its head.
    pub head: &'a ScalarHead<B>,
    /// Mean reward of the reference answers, taken away.
    pub mean: f32,
    /// Standard deviation of the same, divided by.
    pub deviation: f32,
}

/// What PPO needs beside the losses' settings.
#[derive(Clone, Copy, Debug)]
pub struct PpoSettings {
    /// Rollouts an iteration, passes over the prompts, and the policy's learning rate.
    pub policy: Loop,
    /// The critic's learning rate.
    pub critic_learning_rate: f64,
    /// Minibatches each epoch cuts a rollout into.
    pub minibatches: usize,
    /// Most new tokens of an answer.
    pub max_new_tokens: usize,
    /// Answers sampled at a time.
    pub slots: usize,
    /// How the KL coefficient moves; it starts at the preset's.
    pub kl: KlControl,
    /// Everything the peers differ in.
    pub preset: PpoPreset,
}

/// How the KL coefficient moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KlControl {
    /// It stays.
    Fixed,
    /// It follows a target for the per-sequence KL (Ziegler et al. 2019 §2.2).
    Adaptive {
        /// KL per sequence, nats.
        target: f64,
        /// Sequences over which it reacts.
        horizon: f64,
    },
}

impl KlControl {
    fn controller(self, coefficient: f64) -> Result<KlController, LossError> {
        match self {
            KlControl::Fixed => KlController::fixed(coefficient),
            KlControl::Adaptive { target, horizon } => KlController::adaptive(coefficient, target, horizon),
        }
    }
}

/// One rollout: prompts, answers and all that is known of them.
struct Rollout {
    prompts: Vec<usize>,
    completions: Vec<Completion>,
    lengths: Vec<usize>,
    /// `[n_actions]`, as sampled.
    logprobs: Vec<f32>,
    /// `[n_actions]`, the critic's before each action.
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
    draws: Draws,
}

impl<'a, B: Backend> PpoTrainer<'a, B> {
    /// `reference` is the adapter of the model the policy is held to (the SFT model); the critic must have a scalar head.
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
        let controller = settings.kl.controller(settings.preset.reward.kl_coefficient).at_step(0)?;
        if prompts.is_empty() {
            return Err(TrainError::Empty { what: "the set of PPO prompts" });
        }
        if critic.scalar.is_none() {
            return Err(TrainError::Empty { what: "the critic's scalar head" });
        }
        let batches = settings.policy.batches(prompts.len(), draws.item("order"));
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
            draws,
        })
    }

    /// Samples answers with the policy as it is, and works out their advantages.
    fn roll_out(&mut self, step: usize) -> Result<(Rollout, StepRecord), TrainError> {
        let preset = &self.settings.preset;
        let prompts = self.batches.batch(step);
        let temperature = preset.temperature as f32;
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
        let decoder = &self.policy.decoder;
        let completions = Engine::new(decoder, self.policy.adapter.as_ref(), KEPT).generate(
            &requests,
            &settings,
            &mut |_| {},
        );
        let lengths: Vec<usize> = completions.iter().map(|c| c.token_ids.len()).collect();
        let logprobs: Vec<f32> = completions.iter().flat_map(|c| c.logprobs.iter().copied()).collect();
        let ended: Vec<bool> = completions.iter().map(|c| c.finish == Finish::Stop).collect();

        let answers: Vec<(&[u32], &[u32])> =
            requests.iter().zip(&completions).map(|(r, c)| (&r.prompt[..], &c.token_ids[..])).collect();
        let budget = self.settings.policy.tokens_per_pass;
        let raw = rewards(decoder, self.reward.adapter, self.reward.head, &answers, budget);
        let scores: Vec<f32> = raw.iter().map(|r| (r - self.reward.mean) / self.reward.deviation).collect();

        let items: Vec<ScoreItem> = answers
            .iter()
            .map(|(prompt, answer)| ScoreItem { prompt: prompt.to_vec(), completions: vec![answer.to_vec()] })
            .collect();
        let reference: Vec<f32> = Engine::new(decoder, self.reference, IN_USE)
            .score(&items, temperature, &mut |_| {})
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let values = self.values(&answers);

        let kl = kl_per_token(preset.kl_estimator, &logprobs, &reference, preset.kl_clamp).at_step(step)?;
        let mut reward_settings = preset.reward;
        reward_settings.kl_coefficient = self.controller.coefficient();
        let inputs = RewardInputs { scores: &scores, ended: &ended, kl: &kl, lengths: &lengths };
        let shaped = token_rewards(&inputs, &reward_settings).at_step(step)?;
        let token_level = match &preset.whiten_rewards {
            Some(whitening) => whiten(&shaped.rewards, whitening).at_step(step)?,
            None => shaped.rewards.clone(),
        };
        let estimated = gae(&token_level, &values, &lengths, preset.gamma, preset.lambda).at_step(step)?;
        let advantages = match &preset.whiten_advantages {
            Some(whitening) => whiten(&estimated.advantages, whitening).at_step(step)?,
            None => estimated.advantages,
        };
        let sequence_kl = mean_sequence_kl(&kl, &lengths).at_step(step)?;
        let coefficient = self.controller.coefficient();
        self.controller.update(sequence_kl, lengths.len()).at_step(step)?;
        let mean_raw = raw.iter().map(|r| f64::from(*r)).sum::<f64>() / raw.len() as f64;
        let record = StepRecord {
            step,
            metrics: [
                ("objective/kl", sequence_kl),
                ("objective/kl_coefficient", coefficient),
                (
                    "objective/entropy",
                    -logprobs.iter().map(|l| f64::from(*l)).sum::<f64>() / lengths.len() as f64,
                ),
                ("objective/scores", shaped.mean_score),
                ("objective/raw_scores", mean_raw),
                ("objective/non_score_reward", shaped.mean_non_score_reward),
                ("objective/rlhf_reward", shaped.mean_rlhf_reward()),
                ("val/num_eos_tokens", (lengths.len() - shaped.missing_eos) as f64),
                ("val/length", logprobs.len() as f64 / lengths.len() as f64),
            ]
            .into(),
            items: prompts.iter().map(|i| self.prompts[*i].id.clone()).collect(),
            tokens: answers.iter().map(|(p, a)| p.len() + a.len()).sum(),
        };
        let returns = estimated.returns;
        Ok((Rollout { prompts, completions, lengths, logprobs, values, advantages, returns }, record))
    }

    /// Packs some of a rollout's sequences; returns the pack, its scored actions and their places on the action axis.
    fn pack(&self, rollout: &Rollout, sequences: &[usize]) -> (PackedBatch, Scored, Vec<usize>) {
        let starts: Vec<usize> = rollout
            .lengths
            .iter()
            .scan(0, |at, len| {
                *at += len;
                Some(*at - len)
            })
            .collect();
        let answers = sequences.iter().map(|s| {
            let prompt = &self.prompts[rollout.prompts[*s]].tokens;
            (&prompt[..], &rollout.completions[*s].token_ids[..])
        });
        let AnswerPack { pack, scored, .. } = AnswerPack::of(answers);
        let places = sequences.iter().flat_map(|s| starts[*s]..starts[*s] + rollout.lengths[*s]).collect();
        (pack, scored, places)
    }

    fn sequence_passes(&self, rollout: &Rollout, sequences: &[usize]) -> Vec<Vec<usize>> {
        passes(sequences, self.settings.policy.tokens_per_pass, |s| {
            self.prompts[rollout.prompts[s]].tokens.len() + rollout.lengths[s]
        })
    }

    fn update_policy(
        &mut self,
        step: usize,
        rollout: &Rollout,
        minibatch: &[usize],
        rate: f64,
        norm: &mut f64,
    ) -> Result<PolicyMetrics, TrainError> {
        let preset = self.settings.preset;
        let actions: usize = minibatch.iter().map(|s| rollout.lengths[*s]).sum();
        let mut metrics = PolicyMetrics::default();
        for pass in self.sequence_passes(rollout, minibatch) {
            let (pack, scored, places) = self.pack(rollout, &pass);
            let at = |values: &[f32]| places.iter().map(|p| values[*p]).collect::<Vec<f32>>();
            let temperature = preset.temperature as f32;
            let Learner { decoder, adapter, gradients, .. } = &mut *self.policy;
            let forward = decoder.forward(adapter.as_ref(), &pack, self.settings.policy.keep);
            let logprobs = decoder.log_probs(&forward.hidden, &scored, temperature);
            let inputs = PolicyInputs {
                logprobs: &logprobs,
                old_logprobs: &at(&rollout.logprobs),
                advantages: &at(&rollout.advantages),
            };
            let output = policy_loss(&inputs, &preset.policy, actions as f64).at_step(step)?;
            metrics.merge(&output.metrics);
            let mut dhidden = decoder.backend().zeros(decoder.backend().len(&forward.hidden));
            decoder.log_probs_grad(
                &forward.hidden,
                &scored,
                temperature,
                &output.d_logprobs,
                &mut dhidden,
                gradients,
            );
            decoder.backward(adapter.as_ref(), &pack, forward, &dhidden, gradients);
        }
        *norm = self.policy.update(rate);
        Ok(metrics)
    }

    fn update_critic(
        &mut self,
        step: usize,
        rollout: &Rollout,
        minibatch: &[usize],
        rate: f64,
        norm: &mut f64,
    ) -> Result<ValueMetrics, TrainError> {
        let actions: usize = minibatch.iter().map(|s| rollout.lengths[*s]).sum();
        let mut metrics = ValueMetrics::default();
        for pass in self.sequence_passes(rollout, minibatch) {
            let (pack, scored, places) = self.pack(rollout, &pass);
            let at = |values: &[f32]| places.iter().map(|p| values[*p]).collect::<Vec<f32>>();
            let Learner { decoder, adapter, scalar, gradients, .. } = &mut *self.critic;
            let Some(head) = scalar else { break };
            let forward = decoder.forward(adapter.as_ref(), &pack, self.settings.policy.keep);
            let values = decoder.scalars(&forward.hidden, &scored.rows, head);
            let inputs = ValueInputs {
                values: &values,
                old_values: &at(&rollout.values),
                returns: &at(&rollout.returns),
            };
            let output =
                value_loss(&inputs, self.settings.preset.value_clip, actions as f64).at_step(step)?;
            metrics.merge(&output.metrics);
            let mut dhidden = decoder.backend().zeros(decoder.backend().len(&forward.hidden));
            decoder.scalars_grad(
                &forward.hidden,
                &scored.rows,
                head,
                &output.d_values,
                &mut dhidden,
                gradients,
            );
            decoder.backward(adapter.as_ref(), &pack, forward, &dhidden, gradients);
        }
        *norm = self.critic.update(rate);
        Ok(metrics)
    }

    /// The critic's value before each action, on the action axis.
    fn values(&self, answers: &[(&[u32], &[u32])]) -> Vec<f32> {
        let Some(head) = &self.critic.scalar else { return Vec::new() };
        let all: Vec<usize> = (0..answers.len()).collect();
        let budget = self.settings.policy.tokens_per_pass;
        let mut out = Vec::new();
        for pass in passes(&all, budget, |i| answers[i].0.len() + answers[i].1.len()) {
            let AnswerPack { pack, scored, .. } = AnswerPack::of(pass.iter().map(|i| answers[*i]));
            let hidden = self.critic.decoder.hidden_states(self.critic.adapter.as_ref(), &pack);
            out.extend(self.critic.decoder.scalars(&hidden, &scored.rows, head));
        }
        out
    }
}

impl<B: Backend> Trainer for PpoTrainer<'_, B> {
    fn total_steps(&self) -> usize {
        self.batches.total()
    }

    fn checkpoint(&self, next_step: usize) -> Result<Vec<u8>, TrainError> {
        let numbers = [next_step as u64, self.controller.coefficient().to_bits()];
        checkpoint::to_bytes(&[("policy", self.policy), ("critic", self.critic)], &numbers)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<usize, TrainError> {
        let learners = &mut [("policy", &mut *self.policy), ("critic", &mut *self.critic)];
        let numbers = checkpoint::from_bytes(learners, 2, bytes)?;
        self.controller = self.settings.kl.controller(f64::from_bits(numbers[1])).at_step(0)?;
        Ok(numbers[0] as usize)
    }

    /// One iteration: a rollout and its updates.
    fn step(&mut self, step: usize) -> Result<StepRecord, TrainError> {
        let (rollout, mut record) = self.roll_out(step)?;
        let rate = self.settings.policy.rate(step, self.total_steps());
        let critic_rate = rate / self.settings.policy.learning_rate * self.settings.critic_learning_rate;
        let (mut policy_metrics, mut value_metrics) = (PolicyMetrics::default(), ValueMetrics::default());
        let (mut policy_norm, mut critic_norm) = (0.0, 0.0);
        let count = rollout.completions.len();
        for epoch in 0..self.settings.preset.epochs {
            let order =
                self.draws.item("minibatch").index(step as u64).index(epoch as u64).permutation(count);
            for (number, minibatch) in
                order.chunks(count.div_ceil(self.settings.minibatches.max(1))).enumerate()
            {
                let metrics = self.update_policy(step, &rollout, minibatch, rate, &mut policy_norm)?;
                if epoch == 0 && number == 0 && metrics.largest_log_ratio != 0.0 {
                    return Err(TrainError::OneEngine { step, difference: metrics.largest_log_ratio });
                }
                policy_metrics.merge(&metrics);
                value_metrics.merge(&self.update_critic(
                    step,
                    &rollout,
                    minibatch,
                    critic_rate,
                    &mut critic_norm,
                )?);
            }
        }
        record.metrics.extend([
            ("lr", rate),
            ("grad_norm", policy_norm),
            ("critic_grad_norm", critic_norm),
            ("loss/policy_avg", policy_metrics.mean_loss()),
            ("loss/value_avg", value_metrics.mean_loss()),
            ("policy/approxkl_avg", policy_metrics.approximate_kl()),
            ("policy/clipfrac_avg", policy_metrics.clip_fraction()),
            ("policy/dual_clipfrac_avg", policy_metrics.dual_clip_fraction()),
            ("val/ratio", policy_metrics.ratio_mean()),
            ("val/ratio_var", policy_metrics.ratio_variance()),
            ("val/clipfrac_avg", value_metrics.clip_fraction()),
        ]);
        Ok(record)
    }
}
