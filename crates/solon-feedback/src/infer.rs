//! From preferences to principles: which short rules explain what people chose?
//!
//! Source: Findeis et al. 2025, "Inverse Constitutional AI: Compressing Preferences into Principles" (2406.06560). As there, a model
//! proposes rules for each pair ([`propose`]), alike rules make a cluster of which one is taken ([`cluster`]), the model votes by each
//! rule on each pair ([`cast_votes`]), and what predicts is kept ([`select`]). Four things are different. Clusters are made by the
//! stems of words, because no model for embeddings is at hand. A vote is the labeller's comparison in both orders, not a letter in a
//! list. A rule has to explain pairs that the rules kept before it do not. Pairs that no step has seen measure what was kept
//! ([`split`], [`Tally`]).
//!
//! Contract: a rule completes the sentence "Prefer the answer that …"; [`Principle`] makes all its forms from that. Nothing a model says
//! becomes a rule unless it has this form. Everything here is a function of its arguments; the caller records what was said.

mod cluster;
mod principle;
mod propose;
mod select;
mod split;
mod vote;

pub use cluster::{Cluster, cluster};
pub use principle::{Principle, inferred_constitution, principles_of};
pub use propose::{ProposeSettings, Proposed, RuleFault, Side, propose};
pub use select::{Fate, SelectSettings, Tally, select, together};
pub use split::{Split, split};
pub use vote::{Stance, cast_votes};

#[cfg(test)]
mod tests;
