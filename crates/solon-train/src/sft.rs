//! Supervised fine-tuning: mean negative log-likelihood of the scored tokens of a batch.

use crate::checkpoint;
use crate::learner::Learner;
use crate::losses::sft::{SftMetrics, sft_loss};
use crate::schedule::{Batches, Loop, passes};
use crate::step::{AtStep, StepRecord, TrainError, Trainer};
use solon_draws::Draws;
use solon_model::{Backend, PackedBatch, Scored};

/// A tokenised conversation.
#[derive(Clone, Debug)]
pub struct SftExample {
    /// Where it came from.
    pub id: String,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Which tokens are learnt, `[tokens]`.
    pub mask: Vec<bool>,
}

/// SFT over a set of examples.
pub struct SftTrainer<'a, B: Backend> {
    learner: &'a mut Learner<B>,
    examples: &'a [SftExample],
    settings: Loop,
    batches: Batches,
}

impl<'a, B: Backend> SftTrainer<'a, B> {
    /// Refuses an empty set and examples in which nothing is learnt.
    pub fn new(
        learner: &'a mut Learner<B>,
        examples: &'a [SftExample],
        settings: Loop,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        if examples.is_empty() {
            return Err(TrainError::Empty { what: "the set of demonstrations" });
        }
        for example in examples {
            if !example.mask.iter().skip(1).any(|learnt| *learnt) {
                return Err(TrainError::Example {
                    id: example.id.clone(),
                    reason: "its loss mask is empty: no assistant turn in it".to_owned(),
                });
            }
        }
        let batches = settings.batches(examples.len(), draws);
        Ok(Self { learner, examples, settings, batches })
    }
}

impl<B: Backend> Trainer for SftTrainer<'_, B> {
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
        let normaliser: usize =
            batch.iter().map(|i| self.examples[*i].mask.iter().skip(1).filter(|m| **m).count()).sum();
        let mut metrics = SftMetrics::default();
        let mut tokens = 0;
        for pass in passes(&batch, self.settings.tokens_per_pass, |i| self.examples[i].tokens.len()) {
            let sequences: Vec<&[u32]> = pass.iter().map(|i| &self.examples[*i].tokens[..]).collect();
            let (pack, rows) = PackedBatch::of(&sequences);
            let mut scored = Scored::default();
            for (item, rows) in pass.iter().zip(&rows) {
                let SftExample { tokens, mask, .. } = &self.examples[*item];
                for at in (1..tokens.len()).filter(|at| mask[*at]) {
                    scored.push(tokens, rows, at);
                }
            }
            tokens += pack.len();
            let Learner { decoder, adapter, gradients, .. } = &mut *self.learner;
            let forward = decoder.forward(adapter.as_ref(), &pack, self.settings.keep);
            let mut dhidden = decoder.backend().zeros(decoder.backend().len(&forward.hidden));
            // Every token's gradient is -1/normaliser whatever its log-prob, so the head runs once for both.
            let known = vec![-1.0 / normaliser as f32; scored.len()];
            let log_probs =
                decoder.log_probs_grad(&forward.hidden, &scored, 1.0, &known, &mut dhidden, gradients);
            let output = sft_loss(&log_probs, normaliser as f64).at_step(step)?;
            metrics.merge(&output.metrics);
            decoder.backward(adapter.as_ref(), &pack, forward, &dhidden, gradients);
        }
        let rate = self.settings.rate(step, self.total_steps());
        let norm = self.learner.update(rate);
        Ok(StepRecord {
            step,
            metrics: [
                ("loss", metrics.mean_nll()),
                ("grad_norm", norm),
                ("lr", rate),
                ("tokens", metrics.tokens as f64),
            ]
            .into(),
            items: batch.iter().map(|i| self.examples[*i].id.clone()).collect(),
            tokens,
        })
    }
}
