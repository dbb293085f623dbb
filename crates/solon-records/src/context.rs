//! What a model continues: a conversation, or a plain text.

use crate::Message;

/// What stands before the words that a model is to write or to score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// A conversation that ends with a user's turn: the model writes the assistant's next turn, in its chat template.
    Chat(Vec<Message>),
    /// A text that the model continues as it stands, without a chat template.
    Text(String),
}

impl Context {
    /// The conversation; none of a text.
    pub fn messages(&self) -> Option<&[Message]> {
        match self {
            Self::Chat(messages) => Some(messages),
            Self::Text(_) => None,
        }
    }
}

impl From<String> for Context {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<Message>> for Context {
    fn from(messages: Vec<Message>) -> Self {
        Self::Chat(messages)
    }
}
