//! `ppo`: PPO against a reward model, with a KL penalty to the model it starts from (Schulman et al. 2017; Ouyang et al.
//! 2022). Policy, reference, reward model and critic are adapters on one frozen model; the critic starts as a copy of the
//! reward model.

use super::settings::{Rates, positive};
use super::{Curve, Data, Input, Keys, Kind, Method, OneOrMany, Stage, Training, base};
use crate::run::{Model, SLOTS, StageRun, Start};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_draws::Draws;
use solon_infer::engine::Engine;
use solon_infer::generate::{Request, Settings};
use solon_infer::prefixes::KEPT;
use solon_model::{Device, ScalarHead};
use solon_records::SamplingSettings;
use solon_train::ppo::trainer::{PpoPrompt, PpoSettings, PpoTrainer, RewardModel};
use solon_train::ppo::{PpoOverrides, PpoPreset, PresetName};
use solon_train::reward::rewards;
use solon_train::{RewardScale, Trainer};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

pub const KIND: Kind = Kind { name: "ppo", about: "Optimises a model against a reward model.", parse };

struct Ppo {
    own: Own,
    training: Training,
    preset: PpoPreset,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// The model to start from, and to be held to.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// The reward model.
    #[serde(default, skip_serializing)]
    reward_model: OneOrMany,
    /// What is answered; of several inputs one prompt of each in turn.
    #[serde(default, skip_serializing)]
    prompts: OneOrMany,
    /// Whose defaults: `trl` or `openrlhf`.
    #[serde(default = "trl")]
    preset: PresetName,
    /// The critic's peak learning rate.
    #[serde(default = "critic_rate", deserialize_with = "positive")]
    critic_learning_rate: f64,
    /// Most new tokens of an answer.
    #[serde(default = "answer_length")]
    max_new_tokens: NonZeroUsize,
    /// Rewards are normalised to mean 0 and deviation 1 on answers to so many of the prompts.
    #[serde(default = "statistics")]
    statistics_prompts: NonZeroUsize,
}

fn trl() -> PresetName {
    PresetName::Trl
}

fn critic_rate() -> f64 {
    1e-4
}

fn answer_length() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(63)
}

fn statistics() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(63)
}

/// The preset's settings that a recipe may change. `epochs` of the stage are passes over the prompts, `ppo_epochs` passes
/// over one rollout.
const OVERRIDES: [&str; 18] = [
    "gamma",
    "lambda",
    "clip_low",
    "clip_high",
    "dual_clip",
    "value_clip",
    "kl_estimator",
    "kl_clamp",
    "kl_coefficient",
    "kl_target",
    "kl_horizon",
    "score_clip",
    "missing_eos",
    "whiten_rewards",
    "whiten_advantages",
    "ppo_epochs",
    "minibatches",
    "temperature",
];

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let training = Training::take(&mut keys, &Rates { lora: 5e-5, full: 1e-6 })?;
    if training.method == Method::Full {
        return Err("PPO trains adapters: policy, reference, reward model and critic share one frozen model; leave out \
                    method = \"full\""
            .to_owned());
    }
    let overrides: PpoOverrides = keys.take(&OVERRIDES)?;
    let own: Own = keys.rest()?;
    let preset = own.preset.preset().with(&overrides).map_err(|error| error.to_string())?;
    Ok(Box::new(Ppo { own, training, preset }))
}

impl Stage for Ppo {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.own.from.clone()], &[Data::Model]),
            Input::required("reward_model", &self.own.reward_model, &[Data::RewardModel]),
            Input::required("prompts", &self.own.prompts, &[Data::Prompts]),
        ]
    }

    fn output(&self) -> Data {
        Data::Model
    }

    fn settings(&self) -> Value {
        json!([self.own, self.training, self.preset])
    }

    fn trains(&self) -> Option<Method> {
        Some(self.training.method)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let started = Instant::now();
        let start = run.start("from", Method::Lora)?;
        let reward = run.read().model("reward_model")?;
        if !Arc::ptr_eq(&start.shared()?.chat, &reward.chat) {
            bail!("the reward model and the policy are adapters on different models; PPO needs them on one");
        }
        let chat = Arc::clone(&reward.chat);
        let mut prompts = Vec::new();
        for prompt in run.read().prompts("prompts")? {
            let tokens = chat.prompt_ids(&prompt.id, &prompt.messages, self.own.max_new_tokens.get())?;
            prompts.push(PpoPrompt { id: prompt.id, tokens });
        }
        let stop_ids = chat.text.stop_ids().to_vec();
        let backend = chat.decoder.backend();
        let reference = start.adapter().map(|adapter| adapter.duplicate(backend));
        let weight = reward.head.clone().context("the reward model has no scalar head")?;
        let head = ScalarHead::new(backend, weight.clone());
        let policy = start.shared()?;
        let scale =
            self.scale(policy, &reward, &head, &prompts, &stop_ids, run.draws().item("statistics"))?;
        let settings = PpoSettings {
            policy: run.train_settings(&self.training, &start)?,
            critic_learning_rate: self.own.critic_learning_rate,
            max_new_tokens: self.own.max_new_tokens.get(),
            slots: SLOTS,
            preset: self.preset,
        };
        let critic = Model {
            chat: Arc::clone(&chat),
            adapter: reward.adapter.as_ref().map(|adapter| adapter.duplicate(backend)),
            head: None,
        };
        let mut critic = run.student(Start::Shared(Box::new(critic)), Some(weight))?;
        let mut student = run.student(start, None)?;
        let model = RewardModel { adapter: reward.adapter.as_ref(), head: &head, scale };
        let draws = run.draws().item("rollouts");
        let mut trainer = PpoTrainer::new(
            &mut student.learner,
            &mut critic.learner,
            reference.as_ref(),
            model,
            &prompts,
            &stop_ids,
            settings,
            draws,
        )?;
        let mut told = run.train(&mut trainer, started)?;
        let steps = trainer.total_steps();
        run.save(&student, steps)?;
        told["prompts"] = json!(prompts.len());
        told["reward_mean"] = json!(scale.mean);
        told["reward_deviation"] = json!(scale.deviation);
        Ok(told)
    }

    fn curves(&self) -> Vec<Curve> {
        vec![
            Curve {
                title: "reward",
                y_label: "score",
                series: &[("objective/scores", "score"), ("objective/rlhf_reward", "score less KL penalty")],
            },
            Curve {
                title: "KL to the model it started from",
                y_label: "nats per answer",
                series: &[("objective/kl", "nats per answer")],
            },
        ]
    }
}

impl Ppo {
    /// The reward model's scale on one sampled answer to each of the first prompts ("N details", 9).
    fn scale(
        &self,
        policy: &Model,
        reward: &Model,
        head: &ScalarHead<Device>,
        prompts: &[PpoPrompt],
        stop_ids: &[u32],
        draws: Draws,
    ) -> Result<RewardScale> {
        let prompts = &prompts[..prompts.len().min(self.own.statistics_prompts.get())];
        let requests: Vec<Request> =
            prompts.iter().map(|p| Request { prompt: p.tokens.clone(), draws: draws.item(&p.id) }).collect();
        let sampling = SamplingSettings {
            temperature: self.preset.temperature as f32,
            ..SamplingSettings::of_length(self.own.max_new_tokens.get())
        };
        let settings =
            Settings { sampling, stop_ids, stop_text: None, slots: SLOTS, logprob_temperature: 1.0 };
        let decoder = &policy.chat.decoder;
        let completions =
            Engine::new(decoder, policy.adapter.as_ref(), KEPT).generate(&requests, &settings, &mut |_| {});
        let answers: Vec<(&[u32], &[u32])> =
            requests.iter().zip(&completions).map(|(r, c)| (&r.prompt[..], &c.token_ids[..])).collect();
        let tokens = crate::memory::TOKENS_PER_PASS;
        let scores = rewards(decoder, reward.adapter.as_ref(), head, &answers, tokens);
        // One answer has no deviation, and equal rewards have none: divided by it, every reward would be enormous.
        if scores.iter().all(|score| *score == scores[0]) {
            bail!(
                "the reward model says {} of all {} answers that its scale is measured on, so it tells no answers apart\n\
                 hint: give more prompts, raise `statistics_prompts`, or train another reward model",
                scores.first().copied().unwrap_or_default(),
                scores.len()
            );
        }
        Ok(RewardScale::of(&scores)?)
    }
}
