//! Prompts to answer.

use crate::Message;
use serde::{Deserialize, Serialize};

/// A conversation for the model to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Unique in its file; `line-N` or `row-N` where the file gives none.
    pub id: String,
    /// The conversation; never empty, and its last message is not the assistant's.
    pub messages: Vec<Message>,
    /// What the prompt is for, such as `red_team` or `helpful`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A finer label, for reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The id of its twin in a minimal pair: two prompts that differ in as few words as possible, of which one is harmful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
}

impl Prompt {
    /// The text of the last message: the question itself where the prompt is one turn.
    pub fn text(&self) -> &str {
        self.messages.last().map(|message| message.content.as_str()).unwrap_or_default()
    }
}
