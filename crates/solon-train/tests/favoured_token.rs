//! A policy learns to begin with the token that the reward model favours: PPO through its critic, RLOO without one.

use solon_model::{Cpu, PackedBatch, Scored};
use solon_train::ppo::trainer::{Estimator, PpoPrompt, PpoSettings, PpoTrainer, PromptGroup, RewardModel};
use solon_train::ppo::{PpoPreset, TRL};
use solon_train::reward::rewards;
use solon_train::sft::{Average, Lessons, Weighting};
use solon_train::*;

mod tiny;
use tiny::*;

/// The probability that an answer begins with this token.
fn probability(policy: &Learner<Cpu>, prompt: &[u32], token: u32) -> f64 {
    let decoder = &policy.decoder;
    let (pack, rows) = PackedBatch::of(&[prompt]);
    let scored = Scored { rows: vec![rows[0][prompt.len() - 1]], targets: vec![token] };
    let hidden = decoder.hidden_states(policy.adapter.as_ref(), &pack);
    f64::from(decoder.log_probs(&hidden, &scored, 1.0)[0]).exp()
}

/// Trains on answers of one token; returns that token's probability before and after, and the records.
fn train(
    answers_each: usize,
    preset: PpoPreset,
    estimator: impl for<'a> Fn(&'a mut Learner<Cpu>) -> Estimator<'a, Cpu>,
) -> (f64, f64, Vec<StepRecord>) {
    let (mut policy, mut critic, reward) = (learner(false), learner(true), learner(true));
    let prompts =
        vec![PpoPrompt { id: "p".to_owned(), tokens: tokens(1, 5), group: Some(PromptGroup::Harmful) }];
    let prompt = prompts[0].tokens.clone();
    let head = reward.scalar.as_ref().unwrap();
    let answers: Vec<Vec<u32>> = (0..50).map(|token| vec![token]).collect();
    let items: Vec<(&[u32], &[u32])> = answers.iter().map(|answer| (&prompt[..], &answer[..])).collect();
    let scores = rewards(&policy.decoder, reward.adapter.as_ref(), head, &items, 64);
    let favoured = (0..50).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap() as u32;
    let scale = RewardScale::of(&scores).unwrap();

    let before = probability(&policy, &prompt, favoured);
    let settings = PpoSettings {
        policy: TrainSettings { epochs: 16, warmup: 0.0, ..settings() },
        answers_each,
        max_new_tokens: 1,
        slots: 64,
        preset,
    };
    let model = RewardModel { adapter: reward.adapter.as_ref(), head, closed: &<[u32]>::to_vec, scale };
    let (estimator, draws) = (estimator(&mut critic), seed());
    let mut trainer =
        PpoTrainer::new(&mut policy, estimator, None, vec![model], &prompts, &[0], settings, draws).unwrap();
    let records = (0..trainer.total_steps()).map(|step| trainer.step(step).unwrap()).collect();
    drop(trainer);
    (before, probability(&policy, &prompt, favoured), records)
}

#[test]
fn ppo_raises_its_probability() {
    let preset = PpoPreset { temperature: 1.0, ..TRL };
    let (before, after, records) = train(32, preset, |critic| Estimator::Gae { critic, learning_rate: 1e-2 });
    assert!(after > 2.0 * before, "{before} {after}");
    assert!(records.iter().all(|record| record.metrics.contains_key("loss/value_avg")));
}

#[test]
fn rloo_raises_its_probability() {
    let preset = PpoPreset { temperature: 1.0, whiten_advantages: None, ..TRL };
    let (before, after, records) = train(32, preset, |_| Estimator::LeaveOneOut);
    assert!(after > 2.0 * before, "{before} {after}");
    // The same names as PPO's, without the critic's.
    for record in &records {
        let metrics = &record.metrics;
        for name in
            ["objective/kl", "objective/scores", "objective/rlhf_reward", "loss/policy_avg", "grad_norm"]
        {
            assert!(metrics.contains_key(name), "{name}: {metrics:?}");
        }
        assert!(!metrics.contains_key("loss/value_avg"), "{metrics:?}");
        assert_eq!(metrics["objective/scores_harmful"], metrics["objective/scores"]);
        assert!(!metrics.contains_key("objective/scores_others"), "there is no such prompt");
        // Answers of one token each: nothing varies with a length that does not vary.
        assert!(!metrics.contains_key("objective/score_length_correlation"));
        let ended = metrics["val/num_eos_tokens"] / 32.0;
        assert!((metrics["completions/clipped_ratio"] + ended - 1.0).abs() < 1e-12);
    }
}

#[test]
fn rloo_needs_two_answers_to_a_prompt_and_a_reward_model() {
    let (mut policy, reward, prompts) = (learner(false), learner(true), prompts());
    let head = reward.scalar.as_ref().unwrap();
    let mut error = |answers_each: usize, models: usize| {
        let settings =
            PpoSettings { policy: settings(), answers_each, max_new_tokens: 2, slots: 2, preset: TRL };
        let model = || RewardModel { adapter: None, head, closed: &<[u32]>::to_vec, scale: RewardScale::RAW };
        let models = (0..models).map(|_| model()).collect();
        let (estimator, draws) = (Estimator::LeaveOneOut, seed());
        let trainer = PpoTrainer::new(&mut policy, estimator, None, models, &prompts, &[0], settings, draws);
        trainer.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(error(1, 1).contains("answers_each is 1"), "{}", error(1, 1));
    assert!(error(2, 0).contains("reward models is empty"), "{}", error(2, 0));
    assert_eq!(error(2, 1), "");
}

/// Trains PPO with lessons of this weight; gives the last iteration's metrics.
fn train_held(hold_weight: f32) -> std::collections::BTreeMap<&'static str, f64> {
    let (mut policy, mut critic, reward) = (learner(false), learner(true), learner(true));
    let (prompts, examples) = (prompts(), examples());
    let head = reward.scalar.as_ref().unwrap();
    let model = RewardModel {
        adapter: reward.adapter.as_ref(),
        head,
        closed: &<[u32]>::to_vec,
        scale: RewardScale::RAW,
    };
    let settings = PpoSettings {
        policy: TrainSettings { epochs: 12, warmup: 0.0, ..settings() },
        answers_each: 2,
        max_new_tokens: 3,
        slots: 8,
        preset: PpoPreset { temperature: 1.0, ..TRL },
    };
    let weighting = Weighting { average: Average::Sequence, hold_weight, ..Weighting::EVEN };
    let lessons = Lessons { imitated: &examples[..1], held: &examples[1..], reference: None, weighting };
    let estimator = Estimator::Gae { critic: &mut critic, learning_rate: 1e-2 };
    let trainer =
        PpoTrainer::new(&mut policy, estimator, None, vec![model], &prompts, &[0], settings, seed());
    let mut trainer = trainer.unwrap().with_lessons(lessons, 7).unwrap();
    let steps = trainer.total_steps();
    (0..steps).map(|step| trainer.step(step).unwrap().metrics).last().unwrap()
}

#[test]
fn a_held_policy_moves_less_from_the_decoder() {
    let (loose, tight) = (train_held(1e-3), train_held(10.0));
    assert!(tight["divergence"] < 0.5 * loose["divergence"], "{loose:?} {tight:?}");
    assert!(tight["imitation"] > 0.0);
}

#[test]
fn an_update_with_lessons_has_one() {
    let (mut policy, reward, prompts, examples) = (learner(false), learner(true), prompts(), examples());
    let head = reward.scalar.as_ref().unwrap();
    let mut error = |count: usize, each: usize| {
        let settings =
            PpoSettings { policy: settings(), answers_each: 2, max_new_tokens: 2, slots: 2, preset: TRL };
        let model = RewardModel { adapter: None, head, closed: &<[u32]>::to_vec, scale: RewardScale::RAW };
        let (estimator, draws) = (Estimator::LeaveOneOut, seed());
        let trainer =
            PpoTrainer::new(&mut policy, estimator, None, vec![model], &prompts, &[0], settings, draws);
        let lessons =
            Lessons { imitated: &examples[..count], held: &[], reference: None, weighting: Weighting::EVEN };
        trainer.unwrap().with_lessons(lessons, each).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(error(1, 0).contains("lessons_each is 0"), "{}", error(1, 0));
    assert!(error(0, 1).contains("the set of lessons is empty"), "{}", error(0, 1));
    assert_eq!(error(1, 1), "");
}
