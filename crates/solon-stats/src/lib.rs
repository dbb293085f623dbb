//! Statistics of yes/no outcomes: the interval of a rate, whether two models differ, how much judges agree.
//!
//! Contract: counts in, numbers out. Every test is exact, so it also holds for small samples. This crate knows no models
//! and no files, and draws no random numbers: a bootstrap is given its draws.

mod kappa;
mod krippendorff;
mod mean;
mod paired;
mod rate;

pub use kappa::{cohens_kappa, cohens_kappa_of};
pub use krippendorff::{REPLICATES, Verdicts};
pub use mean::Mean;
pub use paired::{Stratum, mcnemar_exact, weighted_sign_test};
pub use rate::Rate;
