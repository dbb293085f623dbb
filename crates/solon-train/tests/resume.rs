//! Every trainer, broken off at a checkpoint and gone on with in a fresh learner, ends in the same bytes.

use solon_draws::Draws;
use solon_kernels::Precision;
use solon_model::config::{Architecture, ModelConfig, RopeScaling};
use solon_model::parameters::Projection;
use solon_model::{Adapter, Cpu, Decoder, LoraSettings, ScalarHead, Training};
use solon_train::dpo::{DpoTrainer, reference_sums};
use solon_train::learner::{Learner, Optimizer};
use solon_train::losses::dpo::{DpoLoss, DpoSettings};
use solon_train::ppo::trainer::{KlControl, PpoPrompt, PpoSettings, PpoTrainer, RewardModel};
use solon_train::reward::{Pair, RewardTrainer};
use solon_train::sft::{SftExample, SftTrainer};
use solon_train::{Loop, Schedule, Trainer, ppo};
use std::sync::Arc;

fn seed() -> Draws {
    Draws::new(11, "resume")
}

fn decoder(training: Training) -> Arc<Decoder<Cpu>> {
    let config = ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: 50,
        hidden_size: 16,
        intermediate_size: 24,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 4,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 64,
        tie_word_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
    };
    let make = |name: &str, shape: &[usize]| {
        let key = seed().item(name);
        let values = (0..shape.iter().product::<usize>() as u64).map(|i| key.normal(i) as f32 * 0.2);
        Ok::<_, std::convert::Infallible>(values.collect())
    };
    let Ok(decoder) = Decoder::build(Cpu::new(Precision::auto()), config, training, 64, make);
    Arc::new(decoder)
}

fn adapter(decoder: &Decoder<Cpu>) -> Adapter<Cpu> {
    let settings = LoraSettings { rank: 4, alpha: 8.0, targets: Projection::ALL.to_vec() };
    Adapter::fresh(decoder.backend(), decoder.config(), settings, |name, i| {
        seed().item("adapter").item(name).uniform(i as u64) as f32
    })
}

fn lora(scalar: bool) -> Learner<Cpu> {
    let decoder = decoder(Training::Frozen);
    let adapter = adapter(&decoder);
    let head = scalar.then(|| ScalarHead::new(decoder.backend(), (0..16).map(|i| i as f32 * 0.1).collect()));
    Learner::new(decoder, Some(adapter), head, Optimizer::default())
}

fn tokens(key: u64, len: usize) -> Vec<u32> {
    (0..len as u64).map(|i| seed().index(key).below(i, 50) as u32).collect()
}

fn settings() -> Loop {
    Loop {
        learning_rate: 1e-2,
        schedule: Schedule::Cosine,
        warmup: 0.1,
        batch_size: 3,
        epochs: 2,
        tokens_per_pass: 24,
        keep: solon_model::Keep::Activations,
    }
}

fn pairs() -> Vec<Pair> {
    (0..7)
        .map(|i| Pair {
            id: format!("pair {i}"),
            prompt: tokens(3 * i, 5),
            chosen: tokens(3 * i + 1, 4),
            rejected: tokens(3 * i + 2, 6),
            probability: 0.6 + 0.05 * i as f32,
        })
        .collect()
}

/// Does all steps at once, and again with a break after two; `with` makes the trainer on fresh learners and hands it on.
fn check(with: impl Fn(&mut dyn FnMut(&mut dyn Trainer))) {
    let mut whole = Vec::new();
    with(&mut |trainer| {
        let total = trainer.total_steps();
        assert!(total > 3);
        (0..total).for_each(|step| drop(trainer.step(step).unwrap()));
        whole = trainer.checkpoint(total).unwrap();
    });
    let mut broken_off = Vec::new();
    with(&mut |trainer| {
        (0..2).for_each(|step| drop(trainer.step(step).unwrap()));
        broken_off = trainer.checkpoint(2).unwrap();
    });
    assert_ne!(whole, broken_off);
    with(&mut |trainer| {
        let next = trainer.restore(&broken_off).unwrap();
        assert_eq!(next, 2);
        let total = trainer.total_steps();
        (next..total).for_each(|step| drop(trainer.step(step).unwrap()));
        assert!(trainer.checkpoint(total).unwrap() == whole, "the resumed training ended elsewhere");
        assert!(trainer.restore(&broken_off[..broken_off.len() / 2]).is_err());
    });
}

fn examples() -> Vec<SftExample> {
    (0..7).map(|i| SftExample { id: format!("{i}"), tokens: tokens(i, 9), mask: vec![true; 9] }).collect()
}

#[test]
fn sft_with_adapters() {
    let examples = examples();
    check(|each| {
        let mut learner = lora(false);
        each(&mut SftTrainer::new(&mut learner, &examples, settings(), seed()).unwrap());
    });
}

#[test]
fn sft_of_every_weight() {
    let examples = examples();
    check(|each| {
        let mut learner = Learner::new(decoder(Training::Full), None, None, Optimizer::default());
        each(&mut SftTrainer::new(&mut learner, &examples, settings(), seed()).unwrap());
    });
}

#[test]
fn reward_model() {
    let pairs = pairs();
    check(|each| {
        let mut learner = lora(true);
        each(&mut RewardTrainer::new(&mut learner, &pairs, settings(), 0.01, seed()).unwrap());
    });
}

#[test]
fn dpo() {
    let pairs = pairs();
    check(|each| {
        let mut learner = lora(false);
        let references = reference_sums(&learner.decoder, learner.adapter.as_ref(), &pairs, &mut |_| {});
        let loss = DpoSettings { loss: DpoLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 };
        each(&mut DpoTrainer::new(&mut learner, &pairs, references, settings(), loss, seed()).unwrap());
    });
}

/// Also the run-time check of promise 3: a first ratio other than 1 would be an error.
#[test]
fn ppo_with_an_adaptive_coefficient() {
    let prompts: Vec<PpoPrompt> =
        (0..7).map(|i| PpoPrompt { id: format!("{i}"), tokens: tokens(i, 5) }).collect();
    check(|each| {
        let (mut policy, mut critic) = (lora(false), lora(true));
        let reference = adapter(&policy.decoder);
        let reward = lora(true);
        let head = reward.scalar.as_ref().unwrap();
        let model = RewardModel { adapter: reward.adapter.as_ref(), head, mean: 0.0, deviation: 1.0 };
        let settings = PpoSettings {
            policy: settings(),
            critic_learning_rate: 1e-2,
            minibatches: 2,
            max_new_tokens: 6,
            slots: 2,
            kl: KlControl::Adaptive { target: 0.5, horizon: 20.0 },
            preset: ppo::TRL,
        };
        let trainer = PpoTrainer::new(
            &mut policy,
            &mut critic,
            Some(&reference),
            model,
            &prompts,
            &[0, 1],
            settings,
            seed(),
        );
        each(&mut trainer.unwrap());
    });
}
