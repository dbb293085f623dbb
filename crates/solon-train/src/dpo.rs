//! Direct preference optimisation (Rafailov et al. 2023) with soft labels, LoRA or full.
//!
//! The reference's log-probs are computed once, before the first step ([`reference_sums`]); no second model is kept.

use crate::checkpoint;
use crate::learner::Learner;
use crate::losses::dpo::{DpoMetrics, DpoPairs, DpoSettings, dpo_loss};
use crate::losses::sequences::{spread_over_tokens, sum_by_sequence};
use crate::reward::Pair;
use crate::schedule::{Batches, Loop, passes};
use crate::step::{AtStep, StepRecord, TrainError, Trainer};
use solon_draws::Draws;
use solon_infer::engine::Engine;
use solon_infer::prefixes::IN_USE;
use solon_infer::score::ScoreItem;
use solon_model::{Adapter, AnswerPack, Backend, Decoder};

/// Summed log-probs of each pair's chosen and rejected answer under a model, nats.
pub fn reference_sums<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    pairs: &[Pair],
    progress: &mut dyn FnMut(usize),
) -> Vec<[f64; 2]> {
    let items: Vec<ScoreItem> = pairs
        .iter()
        .map(|pair| ScoreItem {
            prompt: pair.prompt.clone(),
            completions: vec![pair.chosen.clone(), pair.rejected.clone()],
        })
        .collect();
    let sum = |logprobs: &[f32]| logprobs.iter().map(|x| f64::from(*x)).sum::<f64>();
    let scores = Engine::new(decoder, adapter, IN_USE).score(&items, 1.0, progress);
    scores.iter().map(|both| [sum(&both[0]), sum(&both[1])]).collect()
}

/// DPO over a set of pairs.
pub struct DpoTrainer<'a, B: Backend> {
    learner: &'a mut Learner<B>,
    pairs: &'a [Pair],
    references: Vec<[f64; 2]>,
    settings: Loop,
    loss: DpoSettings,
    batches: Batches,
}

impl<'a, B: Backend> DpoTrainer<'a, B> {
    /// `references[i]` are pair i's sums from [`reference_sums`].
    pub fn new(
        learner: &'a mut Learner<B>,
        pairs: &'a [Pair],
        references: Vec<[f64; 2]>,
        settings: Loop,
        loss: DpoSettings,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        Pair::check_all(pairs)?;
        loss.validate().at_step(0)?;
        let batches = settings.batches(pairs.len(), draws);
        Ok(Self { learner, pairs, references, settings, loss, batches })
    }
}

impl<B: Backend> Trainer for DpoTrainer<'_, B> {
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
        let mut metrics: Option<DpoMetrics> = None;
        let mut tokens = 0;
        for pass in passes(&batch, self.settings.tokens_per_pass, |i| self.pairs[i].tokens()) {
            let sides = pass.iter().flat_map(|i| {
                let pair = &self.pairs[*i];
                [(&pair.prompt[..], &pair.chosen[..]), (&pair.prompt[..], &pair.rejected[..])]
            });
            let AnswerPack { pack, scored, lengths, .. } = AnswerPack::of(sides);
            tokens += pack.len();
            let Learner { decoder, adapter, gradients, .. } = &mut *self.learner;
            let forward = decoder.forward(adapter.as_ref(), &pack, self.settings.keep);
            let log_probs = decoder.log_probs(&forward.hidden, &scored, 1.0);
            let sums = sum_by_sequence(&log_probs, &lengths).at_step(step)?;
            let of = |side: usize| sums.iter().skip(side).step_by(2).copied().collect::<Vec<f64>>();
            let counts = |side: usize| lengths.iter().skip(side).step_by(2).copied().collect::<Vec<usize>>();
            let reference =
                |side: usize| pass.iter().map(|i| self.references[*i][side]).collect::<Vec<f64>>();
            let probability: Vec<f32> = pass.iter().map(|i| self.pairs[*i].probability).collect();
            let output = dpo_loss(
                &DpoPairs {
                    policy_chosen: &of(0),
                    policy_rejected: &of(1),
                    reference_chosen: &reference(0),
                    reference_rejected: &reference(1),
                    chosen_tokens: &counts(0),
                    rejected_tokens: &counts(1),
                    probability: &probability,
                },
                &self.loss,
                batch.len() as f64,
            )
            .at_step(step)?;
            let dsums: Vec<f32> =
                output.d_chosen.iter().zip(&output.d_rejected).flat_map(|(c, r)| [*c, *r]).collect();
            let dlogprobs = spread_over_tokens(&dsums, &lengths).at_step(step)?;
            match &mut metrics {
                Some(metrics) => metrics.merge(&output.metrics),
                None => metrics = Some(output.metrics),
            }
            let mut dhidden = decoder.backend().zeros(decoder.backend().len(&forward.hidden));
            decoder.log_probs_grad(&forward.hidden, &scored, 1.0, &dlogprobs, &mut dhidden, gradients);
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
                ("rewards/chosen", metrics.rewards_chosen()),
                ("rewards/rejected", metrics.rewards_rejected()),
                ("rewards/accuracies", metrics.rewards_accuracies()),
                ("rewards/margins", metrics.rewards_margins()),
                ("logps/chosen", metrics.logps_chosen()),
                ("logps/rejected", metrics.logps_rejected()),
            ]);
        }
        Ok(record)
    }
}
