//! The forms of rows: whose format a row is in, as reports name it.

use std::fmt;

use crate::rows::{Fault, Row};

/// Whose format a row is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// TRL's conversational language modelling: `messages`.
    Messages,
    /// TRL's prompt-completion: `prompt`, `completion`.
    PromptCompletion,
    /// TRL's prompt-only: `prompt`.
    PromptOnly,
    /// TRL's preference with an explicit prompt: `prompt`, `chosen`, `rejected`.
    Preference,
    /// TRL's preference with an implicit prompt: the conversations in `chosen` and `rejected` share it.
    ImplicitPreference,
    /// HH-RLHF's transcripts.
    Transcripts,
    /// LLaMA-Factory's alpaca: `instruction`, `input`, and `output` or `chosen` and `rejected`.
    Alpaca,
    /// LLaMA-Factory's sharegpt: `conversations`.
    Sharegpt,
    /// LLaMA-Factory's pairs, version 1: `chosen_messages`, `rejected_messages`.
    MessagePair,
    /// TRL's unpaired preference, LLaMA-Factory's KTO: one answer, and whether it is good.
    Unpaired,
    /// Solon's own: a pair that was to be labelled and has no label.
    Unlabelled,
}

impl fmt::Display for Form {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Messages => "conversations (`messages`)",
            Self::PromptCompletion => "TRL's prompt-completion",
            Self::PromptOnly => "TRL's prompt-only",
            Self::Preference => "TRL's preference",
            Self::ImplicitPreference => "TRL's preference with an implicit prompt",
            Self::Transcripts => "HH-RLHF's transcripts",
            Self::Alpaca => "LLaMA-Factory's alpaca",
            Self::Sharegpt => "LLaMA-Factory's sharegpt",
            Self::MessagePair => "LLaMA-Factory's `chosen_messages` and `rejected_messages`",
            Self::Unpaired => "TRL's unpaired preference (KTO)",
            Self::Unlabelled => "pairs without a label",
        })
    }
}

/// The one of these columns that a row has; none if it has none of them.
///
/// # Errors
/// If it has two: then it is not clear which is meant.
pub(super) fn only_one<'a>(row: &Row, columns: &[&'a str]) -> Result<Option<&'a str>, Fault> {
    let mut there = columns.iter().filter(|column| row.has(column));
    match (there.next(), there.next()) {
        (Some(one), Some(other)) => Err(format!("has both `{one}` and `{other}`; keep one of them").into()),
        (one, _) => Ok(one.copied()),
    }
}
