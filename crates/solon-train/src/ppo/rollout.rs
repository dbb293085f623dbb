//! One rollout: prompts, the answers sampled for each, and the sampled tokens ("actions") on one flat axis.
//!
//! Contract: each prompt has the same number of answers, and they lie side by side. So they share their prompt's
//! computation wherever they go through a model together.

use super::inputs::PromptGroup;
use crate::objective::Sequence;
use crate::skipped::BatchItem;

/// What was sampled.
pub(super) struct Rollout {
    /// Ids of the prompts.
    pub ids: Vec<String>,
    /// Their token ids.
    pub prompts: Vec<Vec<u32>>,
    /// The groups they belong to.
    pub groups: Vec<Option<PromptGroup>>,
    /// Answers to each prompt; at least 1.
    pub each: usize,
    /// The answers' token ids, prompt by prompt.
    pub answers: Vec<Vec<u32>>,
    /// Whether an answer ended by itself.
    pub ended: Vec<bool>,
    /// Actions of each answer.
    pub lengths: Vec<usize>,
    /// `[n_actions]`, as sampled, nats.
    pub logprobs: Vec<f32>,
}

impl Rollout {
    /// The prompt of an answer.
    pub fn prompt(&self, item: usize) -> &[u32] {
        &self.prompts[item / self.each]
    }

    /// The id of an answer's prompt.
    pub fn id(&self, item: usize) -> &str {
        &self.ids[item / self.each]
    }

    /// Every answer after its prompt.
    pub fn pairs(&self) -> Vec<(&[u32], &[u32])> {
        self.answers.iter().enumerate().map(|(i, answer)| (self.prompt(i), &answer[..])).collect()
    }

    /// Every prompt with its answers as an item of a skipped step.
    pub fn batch_items(&self) -> Vec<BatchItem> {
        let tokens = |prompt: usize| self.answers_to(prompt).map(|item| self.sequence(item).tokens).collect();
        let items = self.ids.iter().enumerate();
        items.map(|(prompt, id)| BatchItem { id: id.clone(), sequences: tokens(prompt) }).collect()
    }

    /// The answers to a prompt.
    pub fn answers_to(&self, prompt: usize) -> std::ops::Range<usize> {
        prompt * self.each..(prompt + 1) * self.each
    }

    /// One answer after its prompt, read before each of its actions.
    pub fn sequence(&self, item: usize) -> Sequence {
        Sequence::of_answer(self.prompt(item), &self.answers[item])
    }

    /// Tokens of one sequence.
    pub fn tokens(&self, item: usize) -> usize {
        self.prompt(item).len() + self.lengths[item]
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
