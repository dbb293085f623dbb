//! The one training loop: a batch, its gradient, an update, a record.
//!
//! Contract: a step is a function of the learner, the objective, the settings and its number. If its loss or gradient
//! is not finite, parameters, moments and the count of updates do not change, and its record says so.

use crate::checkpoint;
use crate::learner::Learner;
use crate::objective::{Objective, check_head};
use crate::pass::add_gradient;
use crate::schedule::Batches;
use crate::settings::TrainSettings;
use crate::skipped::{BatchItem, Skipped, Skips};
use crate::step::{StepRecord, TrainError, Trainer};
use solon_draws::Draws;
use solon_model::{Adapter, Backend};

/// Trains a learner on batches of an objective's items.
pub struct BatchTrainer<'a, B: Backend, O> {
    pub(crate) learner: &'a mut Learner<B>,
    /// The adapter of the model that the learner is held to, where the objective holds it.
    reference: Option<Adapter<B>>,
    objective: O,
    pub(crate) settings: TrainSettings,
    batches: Batches,
    pub(crate) skips: Skips,
}

impl<'a, B: Backend, O: Objective> BatchTrainer<'a, B, O> {
    /// `draws` is the key of the order of the items.
    ///
    /// # Errors
    /// Settings out of range, no items, or a learner without the scalar head that the objective needs.
    pub fn of(
        learner: &'a mut Learner<B>,
        objective: O,
        settings: TrainSettings,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        settings.validate()?;
        if objective.count() == 0 {
            return Err(TrainError::Empty { what: "the training set" });
        }
        for item in 0..objective.count() {
            check_head(objective.head(item), learner.scalar.is_some(), "the learner")?;
        }
        let batches = settings.batches(objective.count(), draws);
        let skips = Skips { allowed: settings.max_skipped, count: 0 };
        Ok(Self { learner, reference: None, objective, settings, batches, skips })
    }

    /// Holds the learner to the model with this adapter, for an objective that reads divergences from it.
    pub(crate) fn held_to(mut self, reference: Option<Adapter<B>>) -> Self {
        self.reference = reference;
        self
    }
}

impl<B: Backend, O: Objective> Trainer for BatchTrainer<'_, B, O> {
    fn total_steps(&self) -> usize {
        self.batches.total()
    }

    fn step(&mut self, step: usize) -> Result<StepRecord, TrainError> {
        let Self { learner, reference, objective, settings, batches, skips } = self;
        let batch = batches.batch(step);
        let rate = settings.rate(step, batches.total());
        let items = batch.iter().map(|i| objective.id(*i).to_owned()).collect();
        let mut record = StepRecord { step, items, metrics: [("lr", rate)].into(), ..StepRecord::default() };
        match add_gradient(learner, reference.as_ref(), objective, &batch, settings, &mut record.tokens) {
            Ok(loss) => {
                learner.update(rate, loss.norm, &settings.optimizer);
                record.metrics.insert("grad_norm", loss.norm);
                record.metrics.extend(objective.report(&loss.metrics));
            }
            Err(failure) => {
                let reason = failure.not_finite(step)?;
                learner.discard_gradients();
                let batch = BatchItem::of_batch(objective, &batch);
                record.skipped = Some(skips.add(step, Skipped { reason, batch })?);
            }
        }
        Ok(record)
    }

    fn checkpoint(&self, next_step: usize) -> Result<Vec<u8>, TrainError> {
        checkpoint::to_bytes(&[("learner", self.learner)], &[next_step as u64, self.skips.count as u64])
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<usize, TrainError> {
        let numbers = checkpoint::from_bytes(&mut [("learner", self.learner)], 2, bytes)?;
        self.skips.restore(numbers[1]);
        Ok(numbers[0] as usize)
    }
}
