//! A question to a model on a server, and what comes back.

use crate::RemoteError;
use solon_records::{Beside, Context, Message};

/// A conversation to answer, or a text to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Names it in errors. It is no part of the key under which the reply is recorded.
    pub id: String,
    /// What stands before the answer.
    pub context: Context,
    /// What the answer may begin with: words in a conversation, and after a text exactly what follows it, white space included.
    /// Where the server shows log-probs, theirs are the reply.
    pub options: Vec<String>,
    /// Largest number of new tokens.
    pub max_new_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// The answer ends before the first of these; a server is told some, and what it does not end is cut here.
    pub stop: Vec<String>,
    /// Which of several samples of the same question this is. Where the temperature is 0 it says nothing.
    pub sample: u64,
}

/// Which of a server's interfaces is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// It answers in conversations.
    Chat,
    /// It continues texts.
    Completions,
}

impl Question {
    /// The interface that it is asked by.
    pub fn interface(&self) -> Interface {
        match self.context {
            Context::Chat(_) => Interface::Chat,
            Context::Text(_) => Interface::Completions,
        }
    }

    /// What all options begin with, where that is more than white space: after a text it is no part of the choice, so it is
    /// written before the question is asked (" (" of " (A)" and " (B)"). It ends before a word or a number.
    pub(crate) fn lead(&self) -> &str {
        let (Context::Text(_), [first, others @ ..]) = (&self.context, &*self.options) else { return "" };
        let common = |other: &String| {
            let differs = first.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
            differs.map_or(first.len().min(other.len()), |((at, _), _)| at)
        };
        let lead = &first[..others.iter().map(common).min().unwrap_or(0)];
        let lead = lead.trim_end_matches(char::is_alphanumeric);
        if lead.trim().is_empty() { "" } else { lead }
    }

    /// Refuses what no server can answer.
    pub(crate) fn check(&self) -> Result<(), RemoteError> {
        let wrong =
            |reason: &str| Err(RemoteError::Question { id: self.id.clone(), reason: reason.to_owned() });
        let beside = self.context.messages().and_then(|messages| messages.iter().find_map(beside));
        match self {
            Self { context: Context::Chat(messages), .. } if messages.is_empty() => {
                wrong("it has no messages")
            }
            _ if beside.is_some() => wrong(&format!(
                "it has `{}`, and servers are asked with roles and texts alone\n\
                 hint: take it out of the row, or ask a model that runs here",
                beside.unwrap_or_default()
            )),
            Self { context: Context::Text(text), .. } if text.is_empty() => wrong("it has no text"),
            Self { max_new_tokens: 0, .. } => wrong("it allows no new tokens"),
            Self { temperature, .. } if !temperature.is_finite() || *temperature < 0.0 => {
                wrong("its temperature is no number from 0 upwards")
            }
            _ => Ok(()),
        }
    }

    /// Bytes of what stands before the answer.
    fn bytes(&self) -> u64 {
        match &self.context {
            Context::Chat(messages) => {
                messages.iter().map(|message| (message.role.len() + message.content.len()) as u64).sum()
            }
            Context::Text(text) => (text.len() + self.lead().len()) as u64,
        }
    }

    /// Input tokens that it has at most. A token is at least a byte, and a chat template adds a few to each message.
    pub(crate) fn most_input_tokens(&self) -> u64 {
        let parts = self.context.messages().map_or(1, <[_]>::len);
        self.bytes() + 16 * parts as u64
    }

    /// About how many tokens it takes, for a limit per minute.
    pub(crate) fn about_tokens(&self) -> u64 {
        self.bytes() / 3 + self.max_new_tokens as u64
    }
}

/// The field of a row or of its message that holds something beside the message's text.
fn beside(message: &Message) -> Option<&str> {
    let Beside { fields, without_content, inputs } = &message.beside;
    let first = fields.keys().next().map(String::as_str);
    let given = [
        (!inputs.tools.is_empty(), "tools"),
        (!inputs.chat_template_kwargs.is_empty(), "chat_template_kwargs"),
        (*without_content, "tool_calls"),
    ];
    first.or_else(|| given.into_iter().find_map(|(there, name)| there.then_some(name)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_is_not_asked_with_is_named_by_its_field() {
        for (message, field) in [
            (
                r#"{"role":"user","content":"q","template_inputs":{"chat_template_kwargs":{"deep":true}}}"#,
                "chat_template_kwargs",
            ),
            (r#"{"role":"user","content":"q","template_inputs":{"tools":[{"name":"f"}]}}"#, "tools"),
            (r#"{"role":"user","content":"q","name":"Ann"}"#, "name"),
            (
                r#"{"role":"assistant","content":null,"tool_calls":[{"name":"f","arguments":{}}]}"#,
                "tool_calls",
            ),
        ] {
            let message: Message = serde_json::from_str(message).unwrap();
            assert_eq!(beside(&message), Some(field));
        }
        assert_eq!(beside(&Message::user("q")), None);
    }
}
