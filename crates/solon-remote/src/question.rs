//! A question to a model on a server, and what comes back.

use crate::RemoteError;
use solon_records::Message;

/// A conversation to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Names it in errors. It is no part of the key under which the reply is recorded.
    pub id: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Words that the answer may begin with. Where the server shows log-probs, theirs are the reply.
    pub options: Vec<String>,
    /// Largest number of new tokens.
    pub max_new_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Which of several samples of the same question this is. Where the temperature is 0 it says nothing.
    pub sample: u64,
}

impl Question {
    /// Refuses what no server can answer.
    pub(crate) fn check(&self) -> Result<(), RemoteError> {
        let wrong = |reason| Err(RemoteError::Question { id: self.id.clone(), reason });
        match self {
            Self { messages, .. } if messages.is_empty() => wrong("it has no messages"),
            Self { max_new_tokens: 0, .. } => wrong("it allows no new tokens"),
            Self { temperature, .. } if !temperature.is_finite() || *temperature < 0.0 => {
                wrong("its temperature is no number from 0 upwards")
            }
            _ => Ok(()),
        }
    }

    /// Bytes of the conversation.
    fn bytes(&self) -> u64 {
        self.messages.iter().map(|message| (message.role.len() + message.content.len()) as u64).sum()
    }

    /// Input tokens that it has at most. A token is at least a byte, and a chat template adds a few to each message.
    pub(crate) fn most_input_tokens(&self) -> u64 {
        self.bytes() + 16 * self.messages.len() as u64
    }

    /// About how many tokens it takes, for a limit per minute.
    pub(crate) fn about_tokens(&self) -> u64 {
        self.bytes() / 3 + self.max_new_tokens as u64
    }
}

/// A server's reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// The answer.
    Said {
        /// Its text; never blank.
        text: String,
        /// Whether it was cut off at the limit.
        truncated: bool,
    },
    /// The log-prob of each option as the answer's first token, in nats, where the likeliest token is an option. One that the
    /// server does not list has the highest that it can have: that of the least one listed, or what all of them leave.
    Options(Vec<f64>),
}

/// Why one question has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// What kind of reason.
    pub kind: UnansweredKind,
    /// The reason in words.
    pub reason: String,
}

impl Unanswered {
    pub(crate) fn new(kind: UnansweredKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.reason)
    }
}

/// The kinds of reasons why a question has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnansweredKind {
    /// The server was busy, failed or said nothing, however often it was asked.
    NoReply,
    /// The server does not take the question: it is too long for the model, for example.
    Refused,
    /// The reply is not what the protocol says.
    Malformed,
    /// The reply has no text.
    Empty,
    /// The server withheld the answer or broke it off by its own rules.
    Declined,
    /// The reply is larger than what is read of one.
    TooLarge,
    /// It was not asked, because the caller wished to stop.
    NotAsked,
}
