//! Conversations to imitate.

use crate::Message;
use serde::{Deserialize, Serialize};

/// A conversation whose answers are to be imitated.
///
/// Trained on: the assistant's messages at index `prompt_len` and after. What stands before is context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// Unique in its file; `line-N` where the file gives none.
    pub id: String,
    /// Prompt, then completion. The completion holds at least one message of the assistant.
    pub messages: Vec<Message>,
    /// How many of `messages` are the prompt. For the `messages` format: those before the assistant's first.
    pub prompt_len: usize,
    /// The last answer was cut off: its words are to be imitated, but not that it ends there.
    #[serde(default)]
    pub cut_off: bool,
}
