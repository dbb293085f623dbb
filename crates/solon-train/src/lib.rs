//! Losses, the optimizer, packing, checkpoints, and the trainers of SFT, reward models, DPO, PPO and RLOO.

mod best;
mod checkpoint;
mod correlation;
pub mod dpo;
pub mod learner;
pub mod losses;
pub mod objective;
mod pair;
mod pass;
pub mod ppo;
pub mod reward;
mod scale;
pub mod schedule;
mod settings;
pub mod sft;
mod skipped;
pub mod step;
#[cfg(test)]
#[path = "../tests/tiny/mod.rs"]
mod tiny;
mod trainer;

pub use best::{Best, BestReward};
pub use correlation::correlation;
pub use learner::Learner;
pub use objective::Objective;
pub use pair::TokenPair;
pub use scale::RewardScale;
pub use schedule::{Batches, Schedule};
pub use settings::{MAX_SKIPPED, Optimizer, TrainSettings};
pub use skipped::{BatchItem, Skipped};
pub use step::{StepRecord, TrainError, Trainer};
pub use trainer::BatchTrainer;
