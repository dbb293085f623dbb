//! Lessons beside the rollouts: in every update the policy also imitates some answers and is held on others. A reward says
//! nothing of what follows the sampled tokens and of prompts that are not sampled; there a policy may fall apart.
//!
//! Contract: the lessons' mean loss is added to the surrogate's. Which lessons an update sees is a function of the draws and
//! the update's number: in a pass each at most once, in a new order each pass. (A short last rollout has fewer minibatches, whose
//! lessons are then passed over.)
//! Source: PPO-ptx, Ouyang et al. 2022 §3.5, eq. 2, with lessons in the place of pretraining text.

use crate::learner::Learner;
use crate::losses::check_setting;
use crate::objective::Objective;
use crate::schedule::Batches;
use crate::sft::{Lessons, Sft, check_held};
use crate::step::TrainError;
use solon_draws::Draws;
use solon_model::{Adapter, Backend};

/// The lessons of a training on rollouts.
pub(super) struct Beside<'a, B: Backend> {
    pub objective: Sft<'a>,
    /// The adapter of the model that the policy is held to.
    pub reference: Option<Adapter<B>>,
    batches: Batches,
}

impl<'a, B: Backend> Beside<'a, B> {
    /// `each` lessons in every update.
    ///
    /// # Errors
    /// No lesson in an update, no lessons, one without tokens to train on, weights out of range, or a decoder that is trained
    /// itself.
    pub fn of(
        policy: &Learner<B>,
        lessons: Lessons<'a, B>,
        each: usize,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        let Lessons { imitated, held, reference, weighting } = lessons;
        check_setting("lessons_each", each as f64, each > 0, "at least 1")?;
        check_held(policy, held)?;
        let objective = Sft::of(imitated, held, &weighting)?;
        if objective.count() == 0 {
            return Err(TrainError::Empty { what: "the set of lessons" });
        }
        let batches = Batches { items: objective.count(), size: each, epochs: 1, draws };
        Ok(Self { objective, reference, batches })
    }

    /// The lessons of an update.
    pub fn batch(&self, update: usize) -> Vec<usize> {
        self.batches.batch(update)
    }
}
