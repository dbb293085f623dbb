//! Early stopping of a reward model: the parameters that did best on pairs kept back are those that it ends with.
//!
//! Contract: every step is run, and the model is measured after every so many and after the last. [`BestReward::finish`]
//! puts back the parameters with the lowest loss; of equal losses the earliest. They and their loss are part of the
//! checkpoint, so a training that was killed ends with the same bytes. The pairs that choose must not be those that the
//! result is reported on: the lowest of several losses is too low.

use crate::checkpoint;
use crate::losses::LossError;
use crate::pair::TokenPair;
use crate::reward::{RewardTrainer, evaluate};
use crate::step::{StepRecord, TrainError, Trainer};
use solon_model::Backend;

/// The measurement that was best so far.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Best {
    /// Steps that had been run.
    pub step: usize,
    /// Mean loss on the pairs kept back, nats.
    pub loss: f64,
}

/// A reward-model training that ends with its best parameters.
pub struct BestReward<'a, B: Backend> {
    trainer: RewardTrainer<'a, B>,
    pairs: &'a [TokenPair],
    every: usize,
    best: Option<(Best, Vec<Vec<f32>>)>,
}

impl<'a, B: Backend> BestReward<'a, B> {
    /// Measures on `pairs` about `times` times, evenly spaced, and at the end; `times` is at least 1.
    ///
    /// # Errors
    /// No pairs, or one that is not oriented.
    pub fn new(
        trainer: RewardTrainer<'a, B>,
        pairs: &'a [TokenPair],
        times: usize,
    ) -> Result<Self, TrainError> {
        TokenPair::check_all(pairs)?;
        let every = (trainer.total_steps() / times.max(1)).max(1);
        Ok(Self { trainer, pairs, every, best: None })
    }

    /// Gives the learner its best parameters. `None` if no measurement was finite: then the last ones stay.
    pub fn finish(self) -> Option<Best> {
        let (best, values) = self.best?;
        self.trainer.learner.set_values(values);
        Some(best)
    }

    /// Measures, and keeps the parameters if they are the best so far.
    fn measure(&mut self, record: &mut StepRecord) -> Result<(), TrainError> {
        let learner = &*self.trainer.learner;
        let head = learner.scalar.as_ref().ok_or(TrainError::NoScalarHead { whose: "the learner" })?;
        let tokens = self.trainer.settings.tokens_per_pass;
        let measured = match evaluate(&learner.decoder, learner.adapter.as_ref(), head, self.pairs, tokens) {
            Ok(measured) => measured,
            // Parameters that are not finite are not the best, and the trainer says so itself at its next step.
            Err(TrainError::Refused(LossError::NotFinite { .. })) => return Ok(()),
            Err(error) => return Err(error),
        };
        record.metrics.insert("eval_loss", measured.loss);
        record.metrics.extend(measured.accuracy.map(|accuracy| ("eval_accuracy", accuracy)));
        if self.best.as_ref().is_none_or(|(best, _)| measured.loss < best.loss) {
            self.best = Some((Best { step: record.step + 1, loss: measured.loss }, learner.values()));
        }
        Ok(())
    }
}

impl<B: Backend> Trainer for BestReward<'_, B> {
    fn total_steps(&self) -> usize {
        self.trainer.total_steps()
    }

    fn step(&mut self, step: usize) -> Result<StepRecord, TrainError> {
        let mut record = self.trainer.step(step)?;
        if (step + 1).is_multiple_of(self.every) || step + 1 == self.total_steps() {
            self.measure(&mut record)?;
        }
        Ok(record)
    }

    fn checkpoint(&self, next_step: usize) -> Result<Vec<u8>, TrainError> {
        let (step, loss) = self.best.as_ref().map_or((0, 0.0), |(best, _)| (best.step, best.loss));
        let numbers = [next_step as u64, self.trainer.skips.count as u64, step as u64, f64::to_bits(loss)];
        let best = self.best.as_ref().map(|(_, values)| &values[..]);
        checkpoint::to_bytes_with_best(&[("learner", self.trainer.learner)], best, &numbers)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<usize, TrainError> {
        let learners = &mut [("learner", &mut *self.trainer.learner)];
        let (numbers, values) = checkpoint::from_bytes_with_best(learners, 4, bytes)?;
        self.trainer.skips.restore(numbers[1]);
        let best = Best { step: numbers[2] as usize, loss: f64::from_bits(numbers[3]) };
        self.best = values.map(|values| (best, values));
        Ok(numbers[0] as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::TrainSettings;
    use crate::tiny;

    /// The pairs kept back are the trained ones turned round: the better the training, the worse the measurement.
    #[test]
    fn the_best_parameters_are_put_back() {
        let pairs = tiny::pairs();
        let turned: Vec<TokenPair> = pairs
            .iter()
            .map(|pair| TokenPair {
                chosen: pair.rejected.clone(),
                rejected: pair.chosen.clone(),
                ..pair.clone()
            })
            .collect();
        let settings = TrainSettings { epochs: 3, ..tiny::settings() };
        let after = |steps: usize| {
            let mut learner = tiny::learner(true);
            let mut trainer = RewardTrainer::new(&mut learner, &pairs, settings, 0.0, tiny::seed()).unwrap();
            (0..steps).for_each(|step| drop(trainer.step(step).unwrap()));
            learner.values()
        };
        let mut learner = tiny::learner(true);
        let trainer = RewardTrainer::new(&mut learner, &pairs, settings, 0.0, tiny::seed()).unwrap();
        let mut trainer = BestReward::new(trainer, &turned, 4).unwrap();
        let total = trainer.total_steps();
        let losses: Vec<Option<f64>> =
            (0..total).map(|step| trainer.step(step).unwrap().metrics.get("eval_loss").copied()).collect();
        // Nine steps, four times: after every second, and after the last.
        let measured: Vec<usize> = (1..=total).filter(|step| losses[step - 1].is_some()).collect();
        assert_eq!(measured, [2, 4, 6, 8, 9]);
        let best = trainer.finish().unwrap();
        let lowest = losses.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        assert_eq!((losses[best.step - 1], best.loss), (Some(lowest), lowest));
        assert!(best.step < total, "the test shows nothing: {losses:?}");
        assert!(learner.values() == after(best.step), "other parameters than those of step {}", best.step);
        assert!(learner.values() != after(total));
    }
}
