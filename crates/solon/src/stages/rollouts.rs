//! What `ppo` and `rloo` share: a policy samples answers, reward models score them, and the policy learns from the scores
//! while it is held to the model it starts from.
//!
//! Policy, reference, reward models and critic are adapters on one frozen model. Nothing is trained against a reward model
//! that did not pass: the stage then saves the model it starts from, and says why.

use super::beside::Beside;
use super::gate::not_passed;
use super::settings::Rates;
use super::{Curve, Data, Input, Keys, OneOrMany, Training, base};
use crate::report::Report;
use crate::run::{Model, Reader, SLOTS, StageRun, Start};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_draws::Draws;
use solon_infer::engine::Engine;
use solon_infer::generate::{Request, Settings};
use solon_infer::prefixes::KEPT;
use solon_model::{Device, ScalarHead};
use solon_records::{Prompt, SamplingSettings};
use solon_train::ppo::kl::KlControl;
use solon_train::ppo::trainer::{Estimator, PpoPrompt, PpoSettings, PpoTrainer, PromptGroup, RewardModel};
use solon_train::ppo::{PpoOverrides, PpoPreset, PresetName};
use solon_train::reward::rewards;
use solon_train::{RewardScale, Trainer};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

/// A training on rollouts, as a recipe describes it.
pub struct Rollouts {
    own: Own,
    beside: Beside,
    training: Training,
    preset: PpoPreset,
}

#[derive(Deserialize, Serialize)]
struct Own {
    /// The model to start from, and to be held to.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// The reward models; of several the score is the mean, each normalised on its own.
    #[serde(default, skip_serializing)]
    reward_model: OneOrMany,
    /// What is answered; of several inputs one prompt of each in turn.
    #[serde(default, skip_serializing)]
    prompts: OneOrMany,
    /// How many of the answers to imitate and to hold an update sees; [`LESSONS_EACH`] where it is not given.
    lessons_each: Option<NonZeroUsize>,
    /// Whose defaults: `trl` or `openrlhf`.
    #[serde(default = "trl")]
    preset: PresetName,
    /// Answers to each prompt in an iteration, whose `batch_size` counts prompts.
    answers_each: Option<NonZeroUsize>,
    /// Most new tokens of an answer.
    #[serde(default = "sixty_four")]
    max_new_tokens: NonZeroUsize,
    /// Rewards are normalised to mean 0 and deviation 1 on answers to so many of the prompts.
    #[serde(default = "sixty_four")]
    statistics_prompts: NonZeroUsize,
}

const OWN_KEYS: [&str; 8] = [
    "from",
    "reward_model",
    "prompts",
    "lessons_each",
    "preset",
    "answers_each",
    "max_new_tokens",
    "statistics_prompts",
];

/// The preset's settings that a recipe may change, whatever estimates the advantages. `epochs` of the stage are passes over
/// the prompts, `ppo_epochs` passes over one rollout.
const OVERRIDES: [&str; 14] = [
    "clip_low",
    "clip_high",
    "dual_clip",
    "kl_estimator",
    "kl_clamp",
    "kl_coefficient",
    "kl_target",
    "kl_horizon",
    "score_clip",
    "missing_eos",
    "whiten_advantages",
    "ppo_epochs",
    "minibatches",
    "temperature",
];

/// How many lessons an update sees where the recipe does not say.
const LESSONS_EACH: usize = 8;

/// The report warns where the scores' correlation with the answers' length is above this, in either direction.
const LENGTH_BIAS: f64 = 0.5;

/// The report warns where the KL is above so many times its target.
const KL_EXCESS: f64 = 3.0;

fn trl() -> PresetName {
    PresetName::Trl
}

fn sixty_four() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(63)
}

/// What `ppo` and `rloo` differ in where a recipe is read.
pub struct Differences {
    /// The method's name, for errors.
    pub method: &'static str,
    /// `answers_each` where the recipe does not say.
    pub answers_each: NonZeroUsize,
    /// Settings of the preset that a recipe may change beside those of both.
    pub overrides: &'static [&'static str],
    /// What is different from the preset where the recipe does not say.
    pub preset: fn(PpoPreset) -> PpoPreset,
}

impl Rollouts {
    /// Reads the keys that both have.
    pub fn take(keys: &mut Keys, differences: &Differences) -> Result<Self, String> {
        let training = Training::take(keys, &Rates { lora: 5e-5, full: 1e-6 })?;
        let method = differences.method;
        if training.method == super::Method::Full {
            return Err(format!(
                "{method} trains adapters: policy, reference and reward models share one frozen model; leave out method = \"full\""
            ));
        }
        let mut own: Own = keys.take(&OWN_KEYS)?;
        let beside = Beside::take(keys, training.method)?;
        if own.lessons_each.is_some() && beside.is_empty() {
            return Err("`lessons_each` is about the answers of `imitate` and `hold`; give one of them too"
                .to_owned());
        }
        let known: Vec<&'static str> = OVERRIDES.iter().chain(differences.overrides).copied().collect();
        let overrides: PpoOverrides = keys.take(&known)?;
        own.answers_each.get_or_insert(differences.answers_each);
        let preset = (differences.preset)(own.preset.preset());
        let preset = preset.with(&overrides).map_err(|error| error.to_string())?;
        Ok(Self { own, beside, training, preset })
    }

    /// Answers to each prompt in an iteration.
    pub fn answers_each(&self) -> usize {
        self.own.answers_each.map_or(1, NonZeroUsize::get)
    }

    /// What both read.
    pub fn inputs(&self) -> Vec<Input> {
        let mut inputs = vec![
            Input::required("from", [self.own.from.clone()], &[Data::Model]),
            Input::required("reward_model", &self.own.reward_model, &[Data::RewardModel]),
            Input::required("prompts", &self.own.prompts, &[Data::Prompts]),
        ];
        inputs.extend(self.beside.inputs());
        inputs
    }

    /// What both depend on.
    pub fn settings(&self) -> Value {
        json!([self.own, self.beside, self.training, self.preset])
    }

    /// How the weights are trained.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// Trains; with a critic where its peak learning rate is given.
    pub fn run(&self, run: &mut StageRun<'_>, critic_learning_rate: Option<f64>) -> Result<Value> {
        let started = Instant::now();
        let start = run.start("from", self.training.method)?;
        if let Some(reason) = not_passed(&run.read(), "reward_model")? {
            eprintln!("{}: not trained, because {reason}", run.name());
            let student = run.student(start, None)?;
            run.save(&student, 0)?;
            let seconds = started.elapsed().as_secs_f64();
            return Ok(json!({"steps": 0, "tokens": 0, "seconds": seconds, "skipped": reason}));
        }
        let chat = Arc::clone(&start.shared()?.chat);
        let backend = chat.decoder.backend();
        let names = run.read().input("reward_model").to_vec();
        let mut scorers: Vec<(Model, ScalarHead<Device>)> = Vec::new();
        for name in &names {
            let model = run.read().model_named(name)?;
            if !Arc::ptr_eq(&chat, &model.chat) {
                bail!(
                    "the reward model {name} and the policy are adapters on different models; they must lie on one"
                );
            }
            let weight =
                model.head.clone().with_context(|| format!("the reward model {name} has no scalar head"))?;
            scorers.push((model, ScalarHead::new(backend, weight)));
        }
        let closing = chat.closing();
        let mut prompts = Vec::new();
        for prompt in run.read().prompts("prompts")? {
            let tokens = chat.prompt_ids(
                &prompt.id,
                &prompt.messages,
                self.own.max_new_tokens.get() + closing.room(),
            )?;
            let group = group(&prompt);
            prompts.push(PpoPrompt { id: prompt.id, tokens, group });
        }
        let beside = self.beside.tokenise(run, &chat)?;
        let stop_ids = chat.text.stop_ids().to_vec();
        let reference = start.adapter().map(|adapter| adapter.duplicate(backend));
        let draws = run.draws().item("statistics");
        let scales = self.scales(start.shared()?, &names, &scorers, &prompts, &stop_ids, draws)?;
        let settings = PpoSettings {
            policy: run.train_settings(&self.training, &start)?,
            answers_each: self.answers_each(),
            max_new_tokens: self.own.max_new_tokens.get(),
            slots: SLOTS,
            preset: self.preset,
        };
        let mut critic = match (critic_learning_rate, scorers.first()) {
            (Some(rate), Some((first, _))) => {
                let adapter = first.adapter.as_ref().map(|adapter| adapter.duplicate(backend));
                let model = Model { chat: Arc::clone(&chat), adapter, head: None };
                Some((run.student(Start::Shared(Box::new(model)), first.head.clone())?, rate))
            }
            _ => None,
        };
        let estimator = match &mut critic {
            Some((critic, learning_rate)) => {
                Estimator::Gae { critic: &mut critic.learner, learning_rate: *learning_rate }
            }
            None => Estimator::LeaveOneOut,
        };
        let mut student = run.student(start, None)?;
        let closed = |answer: &[u32]| closing.close_sampled(answer);
        let models = scorers.iter().zip(&scales);
        let models = models
            .map(|((model, head), scale)| RewardModel {
                adapter: model.adapter.as_ref(),
                head,
                closed: &closed,
                scale: *scale,
            })
            .collect();
        let draws = run.draws().item("rollouts");
        let mut trainer = PpoTrainer::new(
            &mut student.learner,
            estimator,
            reference.as_ref(),
            models,
            &prompts,
            &stop_ids,
            settings,
            draws,
        )?;
        if !beside.is_empty() {
            let each = self.own.lessons_each.map_or(LESSONS_EACH, NonZeroUsize::get);
            trainer = trainer.with_lessons(beside.lessons(), each)?;
        }
        let mut told = run.train(&mut trainer, started)?;
        let steps = trainer.total_steps();
        run.save(&student, steps)?;
        told["prompts"] = json!(prompts.len());
        beside.tell(&mut told);
        told["reward_scales"] = names.iter().cloned().zip(scales.iter().map(|scale| json!(scale))).collect();
        Ok(told)
    }

    /// Each reward model's scale on one sampled answer to each of the first prompts ("N details", 9).
    fn scales(
        &self,
        policy: &Model,
        names: &[String],
        scorers: &[(Model, ScalarHead<Device>)],
        prompts: &[PpoPrompt],
        stop_ids: &[u32],
        draws: Draws,
    ) -> Result<Vec<RewardScale>> {
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
        let closing = policy.chat.closing();
        let closed: Vec<Vec<u32>> = completions.iter().map(|c| closing.close_sampled(&c.token_ids)).collect();
        let answers: Vec<(&[u32], &[u32])> =
            requests.iter().zip(&closed).map(|(r, closed)| (&r.prompt[..], &closed[..])).collect();
        let tokens = crate::memory::TOKENS_PER_PASS;
        let mut scales = Vec::new();
        for (name, (model, head)) in names.iter().zip(scorers) {
            let scores = rewards(decoder, model.adapter.as_ref(), head, &answers, tokens);
            // One answer has no deviation, and equal rewards have none: divided by it, every reward would be enormous.
            if scores.iter().all(|score| *score == scores[0]) {
                bail!(
                    "the reward model {name} says {} of all {} answers that its scale is measured on, so it tells no answers apart\n\
                     hint: give more prompts, raise `statistics_prompts`, or train another reward model",
                    scores.first().copied().unwrap_or_default(),
                    scores.len()
                );
            }
            scales.push(RewardScale::of(&scores)?);
        }
        Ok(scales)
    }

    /// What the report draws.
    pub fn curves(&self) -> Vec<Curve> {
        let mut curves = vec![
            Curve {
                title: "proxy reward",
                y_label: "score",
                series: &[
                    ("objective/scores", "score"),
                    ("objective/scores_harmful", "on harmful prompts"),
                    ("objective/scores_others", "on other prompts"),
                    ("objective/rlhf_reward", "score less KL penalty"),
                ],
            },
            Curve {
                title: "KL to the model it started from",
                y_label: "nats per answer",
                series: &[("objective/kl", "nats per answer")],
            },
            Curve {
                title: "length of answers",
                y_label: "tokens",
                series: &[("val/length", "tokens per answer")],
            },
            Curve {
                title: "signs of a reward that is gamed",
                y_label: "correlation, share",
                series: &[
                    ("objective/score_length_correlation", "correlation of score with length"),
                    ("completions/clipped_ratio", "answers without an end"),
                ],
            },
        ];
        curves.extend(self.beside.curves());
        curves
    }

    /// Adds what came of the training, or why there was none.
    pub fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let (name, from) = (read.name(), read.input_shown("from"));
        if let Some(reason) = read.detail()?["skipped"].as_str() {
            report
                .warnings
                .push(format!("{name} was not trained and is {from} unchanged, because {reason}."));
            return Ok(());
        }
        let end = Outcome::read(read)?;
        let accuracies: Vec<String> = read
            .input("reward_model")
            .iter()
            .map(|model| match held_out_accuracy(read, model)? {
                Some(accuracy) => Ok(format!("{model} {:.0} %", 100.0 * accuracy)),
                None => Ok(format!("{model} not measured here")),
            })
            .collect::<Result<_>>()?;
        if let [Some(first), Some(last), Some(kl)] = [end.first_score, end.last_score, end.kl] {
            report.notes.push(format!(
                "{name}: its proxy reward went from {first:.2} to {last:.2} in {} iterations; it ends {kl:.1} nats of KL per \
                 answer away from {from}. Accuracy of the reward model on pairs kept back: {}.",
                end.iterations,
                accuracies.join(", ")
            ));
        }
        report.warnings.extend(end.warnings(name, &self.preset));
        Ok(())
    }

    /// Adds the figures of the report.
    pub fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        let policies = summary.entry("policies").or_insert_with(|| json!({}));
        policies[read.name()] = match &read.detail()?["skipped"] {
            Value::String(reason) => json!({"skipped": reason}),
            _ => json!(Outcome::read(read)?),
        };
        Ok(())
    }
}

/// How a training went, in a few figures.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Outcome {
    iterations: usize,
    /// Mean score of the first iteration and of the last.
    first_score: Option<f64>,
    last_score: Option<f64>,
    /// Nats per answer, in the last quarter of the iterations: a single one has few answers.
    kl: Option<f64>,
    /// Of the score with the answers' length, in the last quarter.
    length_correlation: Option<f64>,
}

impl Outcome {
    fn read(read: &Reader<'_>) -> Result<Self> {
        let lines = read.metrics()?;
        let values = |metric: &str| -> Vec<f64> {
            lines.iter().filter_map(|line| line.metrics.get(metric)?.as_f64()).collect()
        };
        let scores = values("objective/scores");
        Ok(Self {
            iterations: lines.len(),
            first_score: scores.first().copied(),
            last_score: scores.last().copied(),
            kl: last_quarter(&values("objective/kl")),
            length_correlation: last_quarter(&values("objective/score_length_correlation")),
        })
    }

    fn warnings(&self, name: &str, preset: &PpoPreset) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(r) = self.length_correlation
            && r.abs() > LENGTH_BIAS
        {
            warnings.push(format!(
                "The score that {name} was trained on follows the length of its answers (correlation {r:.2}): what it earned may be length."
            ));
        }
        if let (Some(kl), KlControl::Adaptive { target, .. }) = (self.kl, preset.kl_control)
            && kl > KL_EXCESS * target
        {
            warnings.push(format!(
                "{name} ended {kl:.1} nats per answer from the model it started from; its target was {target}."
            ));
        }
        warnings
    }
}

/// The mean of the last quarter of a list, of one value at least.
fn last_quarter(values: &[f64]) -> Option<f64> {
    let end = &values[values.len() - values.len().div_ceil(4)..];
    (!end.is_empty()).then(|| end.iter().sum::<f64>() / end.len() as f64)
}

/// Where a prompt's scores are told apart.
fn group(prompt: &Prompt) -> Option<PromptGroup> {
    match prompt.kind.as_deref()? {
        "harmful" => Some(PromptGroup::Harmful),
        _ => Some(PromptGroup::Others),
    }
}

fn held_out_accuracy(read: &Reader<'_>, model: &str) -> Result<Option<f64>> {
    let Some(reader) = read.reader_of(model) else { return Ok(None) };
    Ok(reader.detail()?["held_out"]["accuracy"].as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_train::ppo::TRL;

    #[test]
    fn the_report_warns_of_length_and_of_a_missed_target() {
        let preset = |target| PpoPreset { kl_control: KlControl::Adaptive { target, horizon: 100.0 }, ..TRL };
        let outcome =
            |kl: f64, r: f64| Outcome { kl: Some(kl), length_correlation: Some(r), ..Outcome::default() };
        assert_eq!(outcome(9.0, 0.5).warnings("ppo", &preset(3.0)), Vec::<String>::new());
        assert!(outcome(9.5, 0.0).warnings("ppo", &preset(3.0))[0].contains("its target was 3."));
        assert!(outcome(9.5, 0.0).warnings("ppo", &TRL).is_empty(), "there is no target");
        for r in [0.6, -0.6] {
            assert!(outcome(0.0, r).warnings("ppo", &TRL)[0].contains("length of its answers"));
        }
    }

    #[test]
    fn the_end_is_the_last_quarter() {
        assert_eq!(last_quarter(&[]), None);
        assert_eq!(last_quarter(&[3.0]), Some(3.0));
        assert_eq!(last_quarter(&[9.0, 9.0, 9.0, 1.0, 2.0]), Some(1.5));
    }
}
