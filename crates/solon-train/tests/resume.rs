//! Every trainer that is interrupted at a checkpoint and resumed in a fresh learner ends with the same bytes.

use solon_kernels::Precision;
use solon_model::{Cpu, Training};
use solon_train::dpo::{DpoTrainer, reference_sums};
use solon_train::losses::dpo::{DpoLoss, DpoSettings};
use solon_train::ppo::kl::KlControl;
use solon_train::ppo::trainer::{Estimator, PpoSettings, PpoTrainer, RewardModel};
use solon_train::ppo::{PpoPreset, TRL};
use solon_train::reward::RewardTrainer;
use solon_train::sft::{Lessons, SftTrainer, Weighting};
use solon_train::*;

mod tiny;
use tiny::*;

/// Runs all steps at once, and again with an interruption after two. `with` makes the trainer on fresh learners and
/// passes it on.
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

#[test]
fn sft_with_adapters() {
    let examples = examples();
    check(|each| {
        let mut learner = learner(false);
        each(&mut SftTrainer::new(&mut learner, &examples, settings(), seed()).unwrap());
    });
}

#[test]
fn sft_of_every_weight() {
    let examples = examples();
    check(|each| {
        let mut learner = Learner::new(decoder(Training::Full, Precision::auto()), None, None);
        each(&mut SftTrainer::new(&mut learner, &examples, settings(), seed()).unwrap());
    });
}

#[test]
fn reward_model() {
    let pairs = pairs();
    check(|each| {
        let mut learner = learner(true);
        each(&mut RewardTrainer::new(&mut learner, &pairs, settings(), 0.01, seed()).unwrap());
    });
}

/// The best parameters so far are part of the state. Turned round, the pairs kept back like the first step best.
#[test]
fn reward_model_that_keeps_its_best() {
    let pairs = pairs();
    for turned in [false, true] {
        let mut held_out = pairs.clone();
        if turned {
            held_out.iter_mut().for_each(|pair| std::mem::swap(&mut pair.chosen, &mut pair.rejected));
        }
        let saved = |interrupted: bool| {
            let mut first = learner(true);
            let mut bytes = Vec::new();
            if interrupted {
                let trainer = RewardTrainer::new(&mut first, &pairs, settings(), 0.01, seed()).unwrap();
                let mut trainer = BestReward::new(trainer, &held_out, 6).unwrap();
                (0..3).for_each(|step| drop(trainer.step(step).unwrap()));
                bytes = trainer.checkpoint(3).unwrap();
            }
            let mut learner = learner(true);
            let trainer = RewardTrainer::new(&mut learner, &pairs, settings(), 0.01, seed()).unwrap();
            let mut trainer = BestReward::new(trainer, &held_out, 6).unwrap();
            let next = if interrupted { trainer.restore(&bytes).unwrap() } else { 0 };
            (next..trainer.total_steps()).for_each(|step| drop(trainer.step(step).unwrap()));
            let best = trainer.finish();
            let parameters: Vec<Vec<f32>> = learner.named().iter().map(|(_, p)| p.to_vec()).collect();
            (best, parameters)
        };
        assert!(saved(true) == saved(false), "turned {turned}: the resumed training saved something else");
    }
    check(|each| {
        let mut learner = learner(true);
        let trainer = RewardTrainer::new(&mut learner, &pairs, settings(), 0.01, seed()).unwrap();
        each(&mut BestReward::new(trainer, &pairs, 2).unwrap());
    });
}

#[test]
fn dpo() {
    let pairs = pairs();
    check(|each| {
        let mut learner = learner(false);
        let references = reference_sums(&learner.decoder, learner.adapter.as_ref(), &pairs, &mut |_| {});
        let loss = DpoSettings { loss: DpoLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 };
        each(
            &mut DpoTrainer::new(&mut learner, &pairs, references, settings(), loss, Lessons::NONE, seed())
                .unwrap(),
        );
    });
}

/// Runs [`check`] on a trainer over rollouts, with an adaptive coefficient, the mean of two reward models and lessons. Also the
/// run-time check that one engine samples and trains: a first ratio other than 1 would be an error.
fn check_rollouts(
    answers_each: usize,
    estimator: impl for<'a> Fn(&'a mut Learner<Cpu>) -> Estimator<'a, Cpu>,
) {
    let (prompts, examples) = (prompts(), examples());
    check(|each| {
        let (mut policy, mut critic) = (learner(false), learner(true));
        let reference = adapter(&policy.decoder);
        let reward = learner(true);
        let head = reward.scalar.as_ref().unwrap();
        let first = RewardModel {
            adapter: reward.adapter.as_ref(),
            head,
            closed: &<[u32]>::to_vec,
            scale: RewardScale::RAW,
        };
        let second = RewardModel {
            adapter: None,
            head,
            closed: &<[u32]>::to_vec,
            scale: RewardScale { mean: 0.5, deviation: 2.0 },
        };
        let settings = PpoSettings {
            policy: settings(),
            answers_each,
            max_new_tokens: 6,
            slots: 2,
            preset: PpoPreset {
                minibatches: 2,
                kl_control: KlControl::Adaptive { target: 0.5, horizon: 20.0 },
                ..TRL
            },
        };
        let trainer = PpoTrainer::new(
            &mut policy,
            estimator(&mut critic),
            Some(&reference),
            vec![first, second],
            &prompts,
            &[0, 1],
            settings,
            seed(),
        );
        let (imitated, held) = examples.split_at(3);
        let lessons = Lessons { imitated, held, reference: None, weighting: Weighting::EVEN };
        each(&mut trainer.unwrap().with_lessons(lessons, 2).unwrap());
    });
}

#[test]
fn ppo_with_an_adaptive_coefficient() {
    for answers_each in [1, 2] {
        check_rollouts(answers_each, |critic| Estimator::Gae { critic, learning_rate: 1e-2 });
    }
}

#[test]
fn rloo_with_an_adaptive_coefficient() {
    check_rollouts(3, |_| Estimator::LeaveOneOut);
}
