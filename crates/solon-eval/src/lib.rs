//! Evaluations: safety with over-refusal beside harm
