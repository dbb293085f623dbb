//! One message of a conversation, in the shape chat templates and TRL's datasets use: `{"role": …, "content": …}`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Content;

/// The roles chat templates know.
pub const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// One message: who speaks, and the text.
///
/// Reading refuses roles outside [`ROLES`], tool calls and content other than text, because a chat template would drop
/// them silently.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "RawMessage")]
pub struct Message {
    /// One of [`ROLES`].
    pub role: String,
    /// The text, unchanged.
    pub content: String,
}

impl Message {
    /// A message with any role. Nothing is checked: a chat template may know more roles than [`ROLES`].
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// A message of the system.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// A message of the assistant.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// Whether the model wrote it.
    pub fn is_assistant(&self) -> bool {
        self.role == "assistant"
    }
}

/// A conversation as plain text, one `role: content` a message.
pub fn transcript(messages: &[Message]) -> String {
    messages.iter().map(|m| format!("{}: {}", m.role, m.content)).collect::<Vec<_>>().join("\n")
}

#[derive(Deserialize)]
struct RawMessage {
    #[serde(deserialize_with = "role")]
    role: String,
    content: Content,
    #[serde(default, rename = "tool_calls", deserialize_with = "no_tool_calls")]
    _tool_calls: (),
}

impl From<RawMessage> for Message {
    fn from(raw: RawMessage) -> Self {
        Self { role: raw.role, content: raw.content.0 }
    }
}

fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let role = String::deserialize(deserializer)?;
    check_role(&role).map_err(D::Error::custom)?;
    Ok(role)
}

/// Whether a role is one of [`ROLES`].
///
/// # Errors
/// Which roles there are, and which one another name may stand for.
pub fn check_role(role: &str) -> Result<(), String> {
    if ROLES.contains(&role) {
        return Ok(());
    }
    let hint = match role {
        "human" | "Human" | "User" => "; write `user`",
        "gpt" | "bot" | "model" | "Assistant" => "; write `assistant`",
        _ => "",
    };
    Err(format!("unknown role `{role}`, expected one of {}{hint}", ROLES.join(", ")))
}

fn no_tool_calls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match Option::<Vec<serde::de::IgnoredAny>>::deserialize(deserializer)? {
        Some(calls) if !calls.is_empty() => {
            Err(D::Error::custom("tool calls are not supported; leave this row out"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Result<Message, &str>) {
        let read = serde_json::from_str::<Message>(json).map_err(|error| error.to_string());
        match (read, expected) {
            (Ok(read), Ok(expected)) => assert_eq!(read, expected),
            (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{error}"),
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn messages_are_read_or_refused_by_name() {
        check(r#"{"role":"user","content":" a "}"#, Ok(Message::user(" a ")));
        check(r#"{"role":"user","content":"a","tool_calls":null,"weight":0}"#, Ok(Message::user("a")));
        check(
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#,
            Ok(Message::user("ab")),
        );
        check(r#"{"role":"user","content":[{"type":"image"}]}"#, Err("a part of type `image` is not text"));
        check(
            r#"{"role":"gpt","content":"a"}"#,
            Err(
                "unknown role `gpt`, expected one of system, developer, user, assistant, tool; write `assistant`",
            ),
        );
        check(
            r#"{"role":"assistant","content":null}"#,
            Err("invalid type: null, expected a string or a list of text parts"),
        );
        check(r#"{"role":"assistant","content":"","tool_calls":[{}]}"#, Err("tool calls are not supported"));
        check(r#"{"content":"a"}"#, Err("missing field `role`"));
    }
}
