//! Statistics of yes/no outcomes: how sure a rate is, whether two models differ, how far two judges agree.
//!
//! Contract: counts in, numbers out. Every test is exact, so a small sample is no special case. This crate knows no
//! models and no files, and draws nothing at random.

mod kappa;
mod paired;
mod rate;

pub use kappa::cohens_kappa;
pub use paired::{Stratum, mcnemar_exact, weighted_sign_test};
pub use rate::Rate;
