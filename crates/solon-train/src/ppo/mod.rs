//! The arithmetic of PPO and RLOO between the rollout and the losses, in the order the algorithms apply it:
//! [`kl`] per token → [`rewards`] (KL penalty, score at the end) → [`whiten`] (optional) → [`gae`] → [`whiten`].
//! RLOO has no critic: [`leave_one_out`] is in the place of the rewards per token and of [`gae`].
//!
//! Contract: pure functions over a flat token axis and `lengths`, the action tokens of each sequence; no padding, no
//! model. [`trainer`] alone runs models. What the peers do differently under the same names is in [`PpoPreset`].
//! Source: PPO (1707.06347), "The N Implementation Details of RLHF with PPO", TRL and OpenRLHF.

mod beside;
pub mod critic;
pub mod gae;
mod inputs;
pub mod kl;
pub mod leave_one_out;
mod policy;
mod preset;
pub mod rewards;
mod rollout;
pub mod trainer;
pub mod whiten;

pub use preset::{KL_HORIZON, OPENRLHF, Off, OrOff, PpoOverrides, PpoPreset, PresetName, TRL};
