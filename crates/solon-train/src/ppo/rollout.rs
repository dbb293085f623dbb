//! One rollout: prompts, the answers sampled for them, and the sampled tokens ("actions") on one flat axis.

use crate::objective::Sequence;
use crate::skipped::BatchItem;

/// What was sampled.
pub(super) struct Rollout {
    /// Ids of the prompts.
    pub ids: Vec<String>,
    /// Their token ids.
    pub prompts: Vec<Vec<u32>>,
    /// The answers' token ids.
    pub answers: Vec<Vec<u32>>,
    /// Whether an answer ended by itself.
    pub ended: Vec<bool>,
    /// Actions of each answer.
    pub lengths: Vec<usize>,
    /// `[n_actions]`, as sampled, nats.
    pub logprobs: Vec<f32>,
}

impl Rollout {
    /// Every prompt with its answer.
    pub fn pairs(&self) -> Vec<(&[u32], &[u32])> {
        self.prompts.iter().zip(&self.answers).map(|(prompt, answer)| (&prompt[..], &answer[..])).collect()
    }

    /// Every sequence as an item of a skipped step.
    pub fn batch_items(&self) -> Vec<BatchItem> {
        let tokens = |item: usize| vec![self.sequence(item).tokens];
        self.ids
            .iter()
            .enumerate()
            .map(|(i, id)| BatchItem { id: id.clone(), sequences: tokens(i) })
            .collect()
    }

    /// One answer after its prompt, read before each of its actions.
    pub fn sequence(&self, item: usize) -> Sequence {
        Sequence::of_answer(&self.prompts[item], &self.answers[item])
    }

    /// Tokens of one sequence.
    pub fn tokens(&self, item: usize) -> usize {
        self.prompts[item].len() + self.lengths[item]
    }

    /// How many actions some sequences have.
    pub fn count_actions(&self, items: &[usize]) -> usize {
        items.iter().map(|item| self.lengths[*item]).sum()
    }

    /// The part of `values`, `[n_actions]`, that belongs to some sequences, in their order.
    pub fn of_items(&self, items: &[usize], values: &[f32]) -> Vec<f32> {
        let start = |item: usize| self.lengths[..item].iter().sum::<usize>();
        items.iter().flat_map(|i| &values[start(*i)..start(*i) + self.lengths[*i]]).copied().collect()
    }
}
