//! Conversations to imitate.

use crate::Message;
use serde::{Deserialize, Serialize};

/// A conversation whose answers are to be imitated.
///
/// Training uses the assistant's messages from index `prompt_len` on, but for those in `not_learnt`. All others are context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demonstration {
    /// Unique in its file; `line-N` or `row-N` where the file gives none.
    pub id: String,
    /// Prompt, then completion. The completion holds at least one message of the assistant.
    pub messages: Vec<Message>,
    /// How many of `messages` are the prompt. In the `messages` format: those before the assistant's first message
    /// that is learnt.
    pub prompt_len: usize,
    /// Which of the assistant's messages from `prompt_len` on are not learnt either: their places in `messages`, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_learnt: Vec<usize>,
    /// The last answer was cut off: training uses its tokens, but no end of turn after them.
    #[serde(default)]
    pub cut_off: bool,
}

impl Demonstration {
    /// Whether the message at `index` is learnt.
    ///
    /// ```
    /// use solon_records::{Demonstration, Message};
    /// let turns = ["q", "a", "r", "b", "s", "c"];
    /// let message = |(place, text): (usize, &&str)| match place % 2 {
    ///     0 => Message::user(*text),
    ///     _ => Message::assistant(*text),
    /// };
    /// let demonstration = Demonstration {
    ///     id: "d".into(),
    ///     messages: turns.iter().enumerate().map(message).collect(),
    ///     prompt_len: 1,
    ///     not_learnt: vec![3],
    ///     cut_off: false,
    /// };
    /// let learnt: Vec<usize> = (0..6).filter(|index| demonstration.learns(*index)).collect();
    /// assert_eq!(learnt, [1, 5]);
    /// ```
    pub fn learns(&self, index: usize) -> bool {
        index >= self.prompt_len
            && !self.not_learnt.contains(&index)
            && self.messages.get(index).is_some_and(Message::is_assistant)
    }
}
