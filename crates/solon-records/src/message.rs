//! One message of a conversation, in the shape chat templates and TRL's datasets use: `{"role": …, "content": …}`, and what templates read
//! beside these two.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::beside::TEMPLATE_FIELDS;
use crate::{Beside, Content, TemplateInputs};

/// The roles chat templates know.
pub const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// One message: who speaks, the text, and what a chat template reads beside them.
///
/// Reading refuses roles outside [`ROLES`] and content other than text, because a chat template would drop them silently.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Message {
    /// One of [`ROLES`].
    pub role: String,
    /// The text, unchanged; empty where there is none.
    pub content: String,
    /// Reasoning, calls of tools and the like.
    pub beside: Beside,
}

impl Message {
    /// A message with any role. Nothing is checked: a chat template may know more roles than [`ROLES`].
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), beside: Beside::default() }
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

/// A conversation as plain text, one `role: content` a message, and on lines of their own what messages hold beside their texts, as JSON.
pub fn transcript(messages: &[Message]) -> String {
    let mut lines = Vec::with_capacity(messages.len());
    if let Some(inputs) = TemplateInputs::of(messages).filter(|inputs| !inputs.tools.is_empty()) {
        lines.push(format!("tools: {}", Value::Array(inputs.tools.clone())));
    }
    for message in messages {
        lines.push(format!("{}: {}", message.role, message.content));
        lines.extend(message.beside.fields.iter().map(|(name, value)| match value {
            Value::String(text) => format!("{name}: {text}"),
            other => format!("{name}: {other}"),
        }));
    }
    lines.join("\n")
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { role, content, beside: Beside { fields, without_content, inputs } } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", role)?;
        match without_content {
            false => map.serialize_entry("content", content)?,
            true => map.serialize_entry("content", &())?,
        }
        for (name, value) in fields {
            map.serialize_entry(name, value)?;
        }
        if !inputs.is_empty() {
            map.serialize_entry("template_inputs", inputs)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Message;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a message with `role` and `content`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
                let (mut role, mut content, mut beside) = (None, None::<Option<Content>>, Beside::default());
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "role" if role.is_none() => role = Some(map.next_value::<Role>()?.0),
                        "content" if content.is_none() => content = Some(map.next_value()?),
                        "role" | "content" => return Err(A::Error::custom(format!("has `{key}` twice"))),
                        "template_inputs" => {
                            beside.inputs = map.next_value::<Option<_>>()?.unwrap_or_default()
                        }
                        name if name == "function_call" || TEMPLATE_FIELDS.contains(&name) => {
                            beside.take(name, map.next_value()?).map_err(A::Error::custom)?;
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let role = role.ok_or_else(|| A::Error::missing_field("role"))?;
                Message::read(role, content.map(|content| content.map(|content| content.0)), beside)
                    .map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Message {
    /// A message as it was read; a content that is there and null is `Some(None)`.
    ///
    /// # Errors
    /// If it lacks a content and calls no tool, or holds what only the assistant's may.
    pub fn read(role: String, content: Option<Option<String>>, mut beside: Beside) -> Result<Self, String> {
        beside.check(&role)?;
        let content = match content {
            Some(Some(content)) => content,
            _ if !beside.tool_calls().is_empty() => {
                beside.without_content = true;
                String::new()
            }
            Some(None) => return Err("`content` is null; give the text of the message".to_owned()),
            None => return Err("missing field `content`".to_owned()),
        };
        Ok(Self { role, content, beside })
    }
}

/// A role that is one of [`ROLES`].
struct Role(String);

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let role = String::deserialize(deserializer)?;
        check_role(&role).map_err(D::Error::custom)?;
        Ok(Self(role))
    }
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
        "function" => "; write `tool`",
        _ => "",
    };
    Err(format!("unknown role `{role}`, expected one of {}{hint}", ROLES.join(", ")))
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
            Err("`content` is null; give the text of the message"),
        );
        check(r#"{"role":"assistant"}"#, Err("missing field `content`"));
        check(
            r#"{"role":"user","content":"a","reasoning":"b"}"#,
            Err("`reasoning` is there, but the message is the user's"),
        );
        check(
            r#"{"role":"assistant","tool_calls":[{"id":"a"}]}"#,
            Err("`tool_calls`: call 1: has no `name`"),
        );
        check(r#"{"content":"a"}"#, Err("missing field `role`"));
        check(r#"{"role":"user","content":"a","content":"b"}"#, Err("has `content` twice"));
    }

    #[test]
    fn what_stands_beside_the_text_comes_back_in_its_order() {
        for json in [
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"x","function":{"name":"f","arguments":{"b":1.0,"a":null}}}]}"#,
            r#"{"role":"assistant","content":"","tool_calls":[{"name":"f","arguments":"{}"}],"reasoning_content":"r"}"#,
            r#"{"role":"tool","content":"1","name":"f","tool_call_id":"x"}"#,
            r#"{"role":"user","content":"a","template_inputs":{"tools":[{"b":1,"a":2}],"chat_template_kwargs":{"x":false}}}"#,
        ] {
            let message: Message = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&message).unwrap(), json);
        }
    }

    #[test]
    fn a_transcript_shows_calls_and_tools() {
        let mut messages: [Message; 2] = serde_json::from_str(
            r#"[{"role":"user","content":"q"},{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"name":"f","arguments":{}}]}]"#,
        )
        .unwrap();
        let calls =
            "user: q\nassistant: \nreasoning_content: r\ntool_calls: [{\"name\":\"f\",\"arguments\":{}}]";
        assert_eq!(transcript(&messages), calls);
        TemplateInputs { tools: vec![serde_json::json!({"name": "f"})], ..TemplateInputs::default() }
            .put_on(&mut messages);
        assert_eq!(transcript(&messages), format!("tools: [{{\"name\":\"f\"}}]\n{calls}"));
    }
}
