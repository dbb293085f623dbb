//! Settings of training: learning rate, batches, AdamW, passes.

use crate::losses::{LossError, check_setting};
use crate::schedule::{Batches, Schedule};
use solon_draws::Draws;
use solon_model::Keep;

/// AdamW's settings that do not change with the step.
///
/// In a recipe any of them may be left out: `{ beta2 = 0.95, weight_decay = 0.1 }`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Optimizer {
    /// Decay of the first moment; at least 0 and below 1.
    pub beta1: f32,
    /// Decay of the second moment; at least 0 and below 1.
    pub beta2: f32,
    /// Added to the root of the second moment; positive.
    pub eps: f32,
    /// Decoupled weight decay; at least 0.
    pub weight_decay: f32,
    /// Gradients are scaled down to this global norm; 0 does not scale, as transformers' `max_grad_norm`.
    pub max_norm: f64,
}

impl Default for Optimizer {
    /// transformers' defaults.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, max_norm: 1.0 }
    }
}

impl Optimizer {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), LossError> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            check_setting(name, beta.into(), (0.0..1.0).contains(&beta), "at least 0 and below 1")?;
        }
        check_setting("eps", self.eps.into(), self.eps > 0.0, "positive")?;
        check_setting("weight_decay", self.weight_decay.into(), self.weight_decay >= 0.0, "at least 0")?;
        check_setting(
            "max_norm",
            self.max_norm,
            self.max_norm >= 0.0,
            "at least 0; 0 leaves gradients as they are",
        )
    }

    /// The factor for gradients of this global norm.
    pub(crate) fn gradient_scale(&self, norm: f64) -> f64 {
        if self.max_norm > 0.0 && norm > self.max_norm { self.max_norm / norm } else { 1.0 }
    }
}

/// Settings of a training over batches of items.
#[derive(Clone, Copy, Debug)]
pub struct TrainSettings {
    /// Peak learning rate; positive.
    pub learning_rate: f64,
    /// Its schedule.
    pub schedule: Schedule,
    /// Share of the steps for warm-up, 0 to 1.
    pub warmup: f64,
    /// Examples, pairs or rollouts in a step; at least 1.
    pub batch_size: usize,
    /// Passes over the data; at least 1.
    pub epochs: usize,
    /// AdamW's other settings.
    pub optimizer: Optimizer,
    /// How many steps may be skipped because their loss or gradient was not finite ([`MAX_SKIPPED`]); one more is an
    /// error.
    pub max_skipped: usize,
    /// Approximate number of tokens in a forward pass; a step's batch is split into as many passes as needed.
    pub tokens_per_pass: usize,
    /// What a pass keeps for the backward pass.
    pub keep: Keep,
}

/// The default number of skipped steps: a single bad batch may cause one, a diverged run causes more.
pub const MAX_SKIPPED: usize = 3;

impl TrainSettings {
    /// Refuses settings out of range.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), LossError> {
        check_setting("learning_rate", self.learning_rate, self.learning_rate > 0.0, "positive")?;
        check_setting("warmup", self.warmup, (0.0..=1.0).contains(&self.warmup), "between 0 and 1")?;
        for (name, count) in [
            ("batch_size", self.batch_size),
            ("epochs", self.epochs),
            ("tokens_per_pass", self.tokens_per_pass),
        ] {
            check_setting(name, count as f64, count > 0, "at least 1")?;
        }
        self.optimizer.validate()
    }

    pub(crate) fn batches(&self, items: usize, draws: Draws) -> Batches {
        Batches { items, size: self.batch_size, epochs: self.epochs, draws }
    }

    pub(crate) fn rate(&self, step: usize, total: usize) -> f64 {
        let warmup = (self.warmup * total as f64).ceil() as usize;
        self.schedule.rate(self.learning_rate, step, total, warmup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: TrainSettings = TrainSettings {
        learning_rate: 1e-4,
        schedule: Schedule::Linear,
        warmup: 0.1,
        batch_size: 8,
        epochs: 1,
        optimizer: Optimizer { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, max_norm: 1.0 },
        max_skipped: MAX_SKIPPED,
        tokens_per_pass: 1024,
        keep: Keep::Activations,
    };

    #[test]
    fn what_a_recipe_leaves_out_is_the_default() {
        let read = |json: &str| serde_json::from_str::<Optimizer>(json);
        assert_eq!(read("{}").unwrap(), Optimizer::default());
        assert_eq!(read(r#"{"beta2": 0.95}"#).unwrap(), Optimizer { beta2: 0.95, ..Optimizer::default() });
        assert!(read(r#"{"beta3": 0.95}"#).is_err());
    }

    #[test]
    fn a_norm_of_zero_leaves_gradients() {
        let free = Optimizer { max_norm: 0.0, ..Optimizer::default() };
        assert_eq!((free.gradient_scale(50.0), Optimizer::default().gradient_scale(50.0)), (1.0, 0.02));
    }

    #[test]
    fn refuses_what_no_run_can_mean() {
        SETTINGS.validate().unwrap();
        let optimizer = |optimizer| TrainSettings { optimizer, ..SETTINGS };
        for broken in [
            TrainSettings { learning_rate: 0.0, ..SETTINGS },
            TrainSettings { learning_rate: f64::INFINITY, ..SETTINGS },
            TrainSettings { warmup: 1.5, ..SETTINGS },
            TrainSettings { batch_size: 0, ..SETTINGS },
            TrainSettings { epochs: 0, ..SETTINGS },
            TrainSettings { tokens_per_pass: 0, ..SETTINGS },
            optimizer(Optimizer { beta1: 1.0, ..SETTINGS.optimizer }),
            optimizer(Optimizer { beta2: f32::NAN, ..SETTINGS.optimizer }),
            optimizer(Optimizer { eps: 0.0, ..SETTINGS.optimizer }),
            optimizer(Optimizer { weight_decay: -0.1, ..SETTINGS.optimizer }),
            optimizer(Optimizer { max_norm: -1.0, ..SETTINGS.optimizer }),
        ] {
            assert!(matches!(broken.validate(), Err(LossError::Setting { .. })), "{broken:?}");
        }
    }
}
