//! Conversations to imitate.

use crate::Message;
use serde::{Deserialize, Serialize};

/// A conversation whose answers are to be imitated.
///
/// Training uses the assistant's messages from index `prompt_len` on. The messages before it are context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// Unique in its file; `line-N` where the file gives none.
    pub id: String,
    /// Prompt, then completion. The completion holds at least one message of the assistant.
    pub messages: Vec<Message>,
    /// How many of `messages` are the prompt. In the `messages` format: those before the assistant's first message.
    pub prompt_len: usize,
    /// The last answer was cut off: training uses its tokens, but no end of turn after them.
    #[serde(default)]
    pub cut_off: bool,
}
