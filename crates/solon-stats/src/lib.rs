//! Statistics of yes/no outcomes: the interval of a rate, whether two models differ, how much two judges agree.
//!
//! Contract: counts in, numbers out. Every test is exact, so it also holds for small samples. This crate knows no models
//! and no files, and uses no random numbers.

mod kappa;
mod mean;
mod paired;
mod rate;

pub use kappa::{cohens_kappa, cohens_kappa_of};
pub use mean::Mean;
pub use paired::{Stratum, mcnemar_exact, weighted_sign_test};
pub use rate::Rate;
