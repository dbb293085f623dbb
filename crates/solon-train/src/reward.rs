//! Reward models from pairs with soft labels: a scalar head read at the answer's last token.
//!
//! Source: Bai et al. 2022 §4.1 (soft targets); Stiennon et al. 2020 for the pairwise loss. The two answers share their
//! prompt's computation.

use crate::checkpoint;
use crate::learner::Learner;
use crate::losses::reward::{RewardMetrics, RewardPairs, reward_loss};
use crate::schedule::{Batches, Loop, passes};
use crate::step::{AtStep, StepRecord, TrainError, Trainer};
use solon_draws::Draws;
use solon_model::{Adapter, AnswerPack, Backend, Decoder, ScalarHead};

/// A tokenised preference.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Where it came from.
    pub id: String,
    /// Prompt ids, generation prompt included.
    pub prompt: Vec<u32>,
    /// The preferred answer's ids, end of turn included.
    pub chosen: Vec<u32>,
    /// The other answer's ids, end of turn included.
    pub rejected: Vec<u32>,
    /// Probability that `chosen` is the better one.
    pub probability: f32,
}

impl Pair {
    pub(crate) fn tokens(&self) -> usize {
        self.prompt.len() + self.chosen.len() + self.rejected.len()
    }

    pub(crate) fn check_all(pairs: &[Pair]) -> Result<(), TrainError> {
        if pairs.is_empty() {
            return Err(TrainError::Empty { what: "the set of preference pairs" });
        }
        for pair in pairs {
            if pair.prompt.is_empty() || pair.chosen.is_empty() || pair.rejected.is_empty() {
                return Err(TrainError::Example {
                    id: pair.id.clone(),
                    reason: "its prompt or an answer has no tokens".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// Reward-model training over a set of pairs.
pub struct RewardTrainer<'a, B: Backend> {
    learner: &'a mut Learner<B>,
    pairs: &'a [Pair],
    settings: Loop,
    centering: f64,
    batches: Batches,
}

impl<'a, B: Backend> RewardTrainer<'a, B> {
    /// The learner must have a scalar head. `centering` is the weight of `(r_chosen + r_rejected)²`.
    pub fn new(
        learner: &'a mut Learner<B>,
        pairs: &'a [Pair],
        settings: Loop,
        centering: f64,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        Pair::check_all(pairs)?;
        if learner.scalar.is_none() {
            return Err(TrainError::Empty { what: "the reward model's scalar head" });
        }
        let batches = settings.batches(pairs.len(), draws);
        Ok(Self { learner, pairs, settings, centering, batches })
    }
}

impl<B: Backend> Trainer for RewardTrainer<'_, B> {
    fn checkpoint(&self, next_step: usize) -> Result<Vec<u8>, TrainError> {
        checkpoint::to_bytes(&[("learner", self.learner)], &[next_step as u64])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<usize, TrainError> {
        Ok(checkpoint::from_bytes(&mut [("learner", self.learner)], 1, bytes)?[0] as usize)
    }

    fn total_steps(&self) -> usize {
        self.batches.total()
    }

    fn step(&mut self, step: usize) -> Result<StepRecord, TrainError> {
        let batch = self.batches.batch(step);
        let mut metrics: Option<RewardMetrics> = None;
        let mut tokens = 0;
        for pass in passes(&batch, self.settings.tokens_per_pass, |i| self.pairs[i].tokens()) {
            let sides = pass.iter().flat_map(|i| {
                let pair = &self.pairs[*i];
                [(&pair.prompt[..], &pair.chosen[..]), (&pair.prompt[..], &pair.rejected[..])]
            });
            let AnswerPack { pack, last: rows, .. } = AnswerPack::of(sides);
            tokens += pack.len();
            let Learner { decoder, adapter, scalar, gradients, .. } = &mut *self.learner;
            let Some(head) = scalar else { break };
            let forward = decoder.forward(adapter.as_ref(), &pack, self.settings.keep);
            let rewards = decoder.scalars(&forward.hidden, &rows, head);
            let (chosen, rejected): (Vec<f32>, Vec<f32>) =
                rewards.as_chunks::<2>().0.iter().map(|[c, r]| (*c, *r)).unzip();
            let probability: Vec<f32> = pass.iter().map(|i| self.pairs[*i].probability).collect();
            let pairs =
                RewardPairs { chosen: &chosen, rejected: &rejected, probability: &probability, margin: None };
            let output = reward_loss(&pairs, self.centering, batch.len() as f64).at_step(step)?;
            let drewards: Vec<f32> =
                output.d_chosen.iter().zip(&output.d_rejected).flat_map(|(c, r)| [*c, *r]).collect();
            match &mut metrics {
                Some(metrics) => metrics.merge(&output.metrics),
                None => metrics = Some(output.metrics),
            }
            let mut dhidden = decoder.backend().zeros(decoder.backend().len(&forward.hidden));
            decoder.scalars_grad(&forward.hidden, &rows, head, &drewards, &mut dhidden, gradients);
            decoder.backward(adapter.as_ref(), &pack, forward, &dhidden, gradients);
        }
        let rate = self.settings.rate(step, self.total_steps());
        let norm = self.learner.update(rate);
        let mut record = StepRecord {
            step,
            metrics: [("grad_norm", norm), ("lr", rate)].into(),
            items: batch.iter().map(|i| self.pairs[*i].id.clone()).collect(),
            tokens,
        };
        if let Some(metrics) = metrics {
            record.metrics.extend([
                ("loss", metrics.mean_loss()),
                ("accuracy", metrics.accuracy()),
                ("margin", metrics.margin()),
                ("mean_reward", metrics.mean_reward()),
            ]);
        }
        Ok(record)
    }
}

/// Rewards of answers after prompts, in packs: `[items]`.
pub fn rewards<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    head: &ScalarHead<B>,
    items: &[(&[u32], &[u32])],
    tokens_per_pass: usize,
) -> Vec<f32> {
    let all: Vec<usize> = (0..items.len()).collect();
    let mut out = Vec::with_capacity(items.len());
    for pass in passes(&all, tokens_per_pass, |i| items[i].0.len() + items[i].1.len()) {
        let AnswerPack { pack, last: rows, .. } = AnswerPack::of(pass.iter().map(|i| items[*i]));
        out.extend(decoder.scalars(&decoder.hidden_states(adapter, &pack), &rows, head));
    }
    out
}
