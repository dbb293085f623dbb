//! Losses, optimizer, packing, checkpoints; SFT, reward model, DPO and PPO trainers

mod checkpoint;
pub mod dpo;
pub mod learner;
pub mod losses;
pub mod ppo;
pub mod reward;
pub mod schedule;
pub mod sft;
pub mod step;

pub use learner::Learner;
pub use schedule::{Batches, Loop, Schedule};
pub use step::{StepRecord, TrainError, Trainer};
