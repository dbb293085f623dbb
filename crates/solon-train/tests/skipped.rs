//! A step whose loss or gradient is not finite is not applied and is recorded; too many of them end the run.

use solon_model::Cpu;
use solon_train::dpo::{DpoTrainer, reference_sums};
use solon_train::losses::dpo::{DpoLoss, DpoSettings};
use solon_train::ppo::TRL;
use solon_train::ppo::trainer::{Estimator, PpoSettings, PpoTrainer, RewardModel};
use solon_train::reward::RewardTrainer;
use solon_train::sft::{Lessons, SftTrainer};
use solon_train::*;

mod tiny;
use tiny::*;

const DPO: DpoSettings = DpoSettings { loss: DpoLoss::Sigmoid, beta: 0.1, label_smoothing: 0.0 };

/// Parameters and moments by name, and how many updates made them.
fn state(trainer: &dyn Trainer, learners: usize) -> (Vec<(String, Vec<u8>)>, Vec<u64>) {
    let bytes = trainer.checkpoint(0).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| name != "numbers")
        .map(|(name, tensor)| (name, tensor.data().to_vec()))
        .collect();
    tensors.sort();
    let numbers = file.tensor("numbers").unwrap();
    let numbers: Vec<u64> =
        numbers.data().as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    (tensors, numbers[numbers.len() - learners..].to_vec())
}

/// Puts a value into the first element of the first tensor whose name starts with `name`.
fn plant(trainer: &mut dyn Trainer, next_step: usize, begins: &str, value: f32) {
    let mut bytes = trainer.checkpoint(next_step).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<&str> = file.names().into_iter().filter(|name| name.starts_with(begins)).collect();
    names.sort_unstable();
    let at = file.tensor(names[0]).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize;
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    trainer.restore(&bytes).unwrap();
}

/// After a good step, all named tensors are made infinite. Then steps are skipped and change nothing, and the fourth is
/// an error. Without the infinity the next step is a good one.
fn check(trainer: &mut dyn Trainer, learners: usize, planted: &str, sequences: usize) {
    assert_eq!(trainer.step(0).unwrap().skipped, None);
    let good = trainer.checkpoint(1).unwrap();

    plant(trainer, 1, planted, f32::INFINITY);
    let before = state(trainer, learners);
    assert!(before.1.iter().all(|updates| *updates > 0));
    for _ in 0..3 {
        let record = trainer.step(1).unwrap();
        let skipped = record.skipped.clone().unwrap_or_else(|| panic!("{planted}: not skipped: {record:?}"));
        assert!(["NaN", "inf"].iter().any(|what| skipped.reason.contains(what)), "{}", skipped.reason);
        let ids: Vec<&str> = skipped.batch.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, record.items);
        assert!(skipped.batch.iter().all(|item| item.sequences.len() == sequences));
        assert!(record.metrics.values().all(|value| value.is_finite()), "{record:?}");
        assert!(record.metrics.contains_key("lr") && !record.metrics.contains_key("grad_norm"));
        assert!(state(trainer, learners) == before, "{planted}: a skipped step changed something");
    }
    // The count is part of the state: a resumed run stops where an uninterrupted one does.
    let third = trainer.checkpoint(1).unwrap();
    trainer.restore(&good).unwrap();
    plant(trainer, 1, planted, f32::INFINITY);
    assert!(trainer.step(1).unwrap().skipped.is_some(), "the count of the good checkpoint is 0");
    trainer.restore(&third).unwrap();
    match trainer.step(1).unwrap_err() {
        TrainError::NotFinite { step: 1, count: 4, skipped } => assert!(!skipped.batch.is_empty()),
        other => panic!("{other}"),
    }

    trainer.restore(&good).unwrap();
    let record = trainer.step(1).unwrap();
    assert!(record.skipped.is_none() && record.metrics["grad_norm"].is_finite());
}

#[test]
fn sft() {
    let (examples, mut learner) = (examples(), learner(false));
    let mut trainer = SftTrainer::new(&mut learner, &examples, settings(), seed()).unwrap();
    check(&mut trainer, 1, "learner.value.", 1);
}

#[test]
fn reward_model() {
    let (pairs, mut learner) = (pairs(), learner(true));
    let mut trainer = RewardTrainer::new(&mut learner, &pairs, settings(), 0.01, seed()).unwrap();
    check(&mut trainer, 1, "learner.value.score", 2);
}

#[test]
fn dpo() {
    let (pairs, mut learner) = (pairs(), learner(false));
    let references = reference_sums(&learner.decoder, learner.adapter.as_ref(), &pairs, &mut |_| {});
    let mut trainer =
        DpoTrainer::new(&mut learner, &pairs, references, settings(), DPO, Lessons::NONE, seed()).unwrap();
    check(&mut trainer, 1, "learner.value.", 2);
}

fn with_ppo(critic: &mut Learner<Cpu>, use_it: impl FnOnce(&mut dyn Trainer)) {
    with_rollouts(Estimator::Gae { critic, learning_rate: 1e-2 }, 1, use_it);
}

fn with_rollouts(estimator: Estimator<'_, Cpu>, answers_each: usize, use_it: impl FnOnce(&mut dyn Trainer)) {
    let prompts = prompts();
    let (mut policy, reward) = (learner(false), learner(true));
    let head = reward.scalar.as_ref().unwrap();
    let model = RewardModel {
        adapter: reward.adapter.as_ref(),
        head,
        closed: &<[u32]>::to_vec,
        scale: RewardScale::RAW,
    };
    let settings = PpoSettings { policy: settings(), answers_each, max_new_tokens: 6, slots: 2, preset: TRL };
    let models = vec![model];
    let trainer = PpoTrainer::new(&mut policy, estimator, None, models, &prompts, &[0, 1], settings, seed());
    use_it(&mut trainer.unwrap());
}

#[test]
fn ppo_whose_policy_diverged() {
    with_ppo(&mut learner(true), |trainer| check(trainer, 2, "policy.value.", 1));
}

#[test]
fn ppo_whose_critic_diverged() {
    with_ppo(&mut learner(true), |trainer| check(trainer, 2, "critic.value.score", 1));
}

#[test]
fn rloo() {
    with_rollouts(Estimator::LeaveOneOut, 2, |trainer| check(trainer, 1, "policy.value.", 2));
}

/// Policy and critic are updated both or neither: here only the critic's gradient is not finite.
#[test]
fn ppo_whose_critic_has_a_bad_gradient_leaves_the_policy_alone() {
    let mut good = None;
    with_ppo(&mut learner(true), |trainer| {
        trainer.step(0).unwrap();
        good = Some(state(trainer, 2));
    });
    let mut critic = learner(true);
    critic.gradients.scalar.as_mut().unwrap()[0] = f32::NAN;
    with_ppo(&mut critic, |trainer| {
        let before = state(trainer, 2);
        let skipped = trainer.step(0).unwrap().skipped.unwrap();
        assert_eq!(skipped.reason, "the gradient's norm is NaN");
        assert!(state(trainer, 2) == before, "a skipped step changed something");
        assert!(trainer.step(0).unwrap().skipped.is_none());
        assert!(Some(state(trainer, 2)) == good, "what was dropped left something behind");
    });
}

#[test]
fn a_huge_learning_rate_ends_in_the_error_and_not_in_silence() {
    let (examples, mut learner) = (examples(), learner(false));
    let settings = TrainSettings { learning_rate: 1e30, warmup: 0.0, max_skipped: 1, ..settings() };
    let mut trainer = SftTrainer::new(&mut learner, &examples, settings, seed()).unwrap();
    let records: Vec<_> = (0..trainer.total_steps()).map(|step| trainer.step(step)).collect();
    assert!(records[0].as_ref().unwrap().skipped.is_none());
    assert!(records[1].as_ref().unwrap().skipped.is_some());
    let error = records[2].as_ref().unwrap_err().to_string();
    assert!(
        error.contains("2 steps of this run") && error.contains("hint: lower the learning rate"),
        "{error}"
    );
}

#[test]
fn a_gradient_that_is_not_finite_is_dropped_though_the_loss_was() {
    let examples = examples();
    let mut untouched = learner(false);
    let mut trainer = SftTrainer::new(&mut untouched, &examples, settings(), seed()).unwrap();
    trainer.step(0).unwrap();
    let good = state(&trainer, 1);

    let mut learner = learner(false);
    learner.gradients.lora.as_mut().unwrap().all_mut()[0][0] = f32::NAN;
    let mut trainer = SftTrainer::new(&mut learner, &examples, settings(), seed()).unwrap();
    let record = trainer.step(0).unwrap();
    assert_eq!(record.skipped.unwrap().reason, "the gradient's norm is NaN");
    assert_eq!(state(&trainer, 1).1, [0], "no update was counted");
    assert!(trainer.step(0).unwrap().skipped.is_none());
    assert!(state(&trainer, 1) == good, "what was dropped left something behind");
}

/// One of seven pairs has no reference: its two steps are skipped, the others train.
#[test]
fn one_bad_item_skips_its_own_steps_only() {
    let (pairs, mut learner) = (pairs(), learner(false));
    let mut references = reference_sums(&learner.decoder, learner.adapter.as_ref(), &pairs, &mut |_| {});
    references[4][1] = f64::NAN;
    let mut trainer =
        DpoTrainer::new(&mut learner, &pairs, references, settings(), DPO, Lessons::NONE, seed()).unwrap();
    for step in 0..trainer.total_steps() {
        let record = trainer.step(step).unwrap();
        assert_eq!(record.skipped.is_some(), record.items.iter().any(|id| id == "pair 4"), "step {step}");
        assert!(!serde_json::to_string(&record).unwrap().contains("null"));
    }
}

#[test]
fn trainers_refuse_unoriented_pairs_and_learners_without_the_head_they_read() {
    let mut pairs = pairs();
    let mut headless = learner(false);
    assert!(matches!(
        RewardTrainer::new(&mut headless, &pairs, settings(), 0.0, seed()),
        Err(TrainError::NoScalarHead { .. })
    ));
    pairs[3].probability = 0.25;
    let mut scalar = learner(true);
    let reward = RewardTrainer::new(&mut scalar, &pairs, settings(), 0.0, seed());
    assert!(matches!(reward, Err(TrainError::Example { id, .. }) if id == "pair 3"));
    let dpo =
        DpoTrainer::new(&mut headless, &pairs, vec![[0.0; 2]; 7], settings(), DPO, Lessons::NONE, seed());
    assert!(matches!(dpo, Err(TrainError::Example { id, .. }) if id == "pair 3"));
}
