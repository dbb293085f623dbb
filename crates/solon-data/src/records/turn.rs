//! One message of a file of training data: who speaks, the text, and whether it is to be learnt.
//!
//! Contract: `role` and `content` as chat templates and TRL have them, or `from` and `value` as sharegpt has them, with what templates read
//! beside these ([`solon_records::TEMPLATE_FIELDS`]). Sharegpt's `function_call` and OpenAI's are calls of tools, and OpenAI's role
//! `function` is `tool`. Sound is refused by name, whatever else is wrong with the message. Other fields are named in [`Turn::unused`].
//!
//! Source: <https://huggingface.co/docs/trl/dataset_formats>; for `weight` and `function_call` OpenAI's and Axolotl's formats; for `from`,
//! `value` and `loss_weight` LLaMA-Factory's `data/README.md`, `converter.py` and `formatter.py::FunctionFormatter`.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use solon_records::{Beside, Content, Message, TEMPLATE_FIELDS, calls_of, check_role, is_filled};

/// A message with what a file says about its training.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    pub message: Message,
    /// Whether it is to be learnt, where the file says so: `weight`, `loss_weight` or `train`.
    pub learnt: Option<bool>,
    /// Fields that are not used and hold something.
    pub unused: Vec<String>,
}

impl Turn {
    /// A message of which nothing more is said.
    pub fn of(message: Message) -> Self {
        Self { message, learnt: None, unused: Vec::new() }
    }
}

/// Fields that would be lost, each with what to do.
const NOT_PASSED_ON: [(&str, &str); 2] = [
    ("audio", "messages other than text are not supported; leave this row out"),
    ("template_inputs", "write `tools` and `chat_template_kwargs` as fields of the row"),
];

impl<'de> Deserialize<'de> for Turn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Turn;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a message with `role` and `content`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Turn, A::Error> {
        let (mut role, mut from) = (None::<String>, None::<Speaker>);
        // A content that is there and null is `Some(None)`.
        let mut content: Option<Option<Content>> = None;
        let (mut learnt, mut unused, mut beside) = (None, Vec::new(), Beside::default());
        while let Some(key) = map.next_key::<String>()? {
            if let Some((name, hint)) = NOT_PASSED_ON.iter().find(|(name, _)| *name == key) {
                if map.next_value::<Filled>()?.0 {
                    return Err(A::Error::custom(format!("`{name}` holds something: {hint}")));
                }
                continue;
            }
            match key.as_str() {
                "role" if role.is_none() => {
                    let Role(read) = map.next_value()?;
                    role = Some(read);
                }
                "from" if from.is_none() => {
                    from = Some(map.next_value()?);
                }
                "content" | "value" if content.is_none() => content = Some(map.next_value()?),
                "role" | "from" | "content" | "value" => {
                    return Err(A::Error::custom(format!("`{key}` repeats what another field says")));
                }
                name if name == "function_call" || TEMPLATE_FIELDS.contains(&name) => {
                    beside.take(name, map.next_value::<Value>()?).map_err(A::Error::custom)?;
                }
                "weight" | "loss_weight" | "train" => {
                    let said = match key.as_str() {
                        "train" => map.next_value::<Option<bool>>()?,
                        _ => map.next_value::<Option<Weight>>()?.map(|weight| weight.0),
                    };
                    if said.is_some() && learnt.is_some() && said != learnt {
                        return Err(A::Error::custom(format!(
                            "`{key}` contradicts another field of the message"
                        )));
                    }
                    learnt = learnt.or(said);
                }
                _ => {
                    if map.next_value::<Filled>()?.0 {
                        unused.push(key);
                    }
                }
            }
        }
        let mut content = content.map(|content| content.map(|content| content.0));
        let role = match (role, from) {
            (Some(role), None) | (None, Some(Speaker::Role(role))) => role,
            (None, Some(Speaker::Calls)) => {
                let calls = content.take().flatten().unwrap_or_default();
                beside
                    .take("tool_calls", written_calls(&calls).map_err(A::Error::custom)?)
                    .map_err(A::Error::custom)?;
                "assistant".to_owned()
            }
            (Some(_), Some(_)) => {
                return Err(A::Error::custom("has both `role` and `from`; keep one of them"));
            }
            (None, None) => return Err(A::Error::missing_field("role")),
        };
        let message = Message::read(role, content, beside).map_err(A::Error::custom)?;
        Ok(Turn { message, learnt, unused })
    }
}

/// Calls of tools as the text of a sharegpt turn.
fn written_calls(text: &str) -> Result<Value, String> {
    let fault = |reason: String| {
        format!(
            "a turn `from` function_call must hold `{{\"name\": …, \"arguments\": …}}` as JSON, or a list of such, and nothing else: {reason}"
        )
    };
    let calls: Value = serde_json::from_str(text).map_err(|error| fault(error.to_string()))?;
    match calls_of(calls) {
        Ok(Value::Array(calls)) if calls.is_empty() => Err(fault("the list is empty".to_owned())),
        Ok(calls) => Ok(calls),
        Err(reason) => Err(fault(reason)),
    }
}

/// A `role`.
struct Role(String);

impl<'de> Deserialize<'de> for Role {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let role = String::deserialize(deserializer)?;
        if role == "function" {
            return Ok(Self("tool".to_owned()));
        }
        check_role(&role).map_err(D::Error::custom)?;
        Ok(Self(role))
    }
}

/// Who speaks, by a `from`.
enum Speaker {
    Role(String),
    /// The assistant, with calls of tools and nothing else.
    Calls,
}

impl<'de> Deserialize<'de> for Speaker {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let role = match name.as_str() {
            "human" | "user" => "user",
            "gpt" | "assistant" => "assistant",
            "system" => "system",
            "observation" | "tool" => "tool",
            "function_call" => return Ok(Self::Calls),
            _ => {
                return Err(D::Error::custom(format!(
                    "unknown speaker `{name}`, expected one of human, gpt, system, function_call, observation"
                )));
            }
        };
        Ok(Self::Role(role.to_owned()))
    }
}

/// A weight of a message: 0 is not learnt, 1 is.
struct Weight(bool);

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match f64::deserialize(deserializer)? {
            0.0 => Ok(Self(false)),
            1.0 => Ok(Self(true)),
            other => Err(D::Error::custom(format!(
                "the weight {other} is not supported; give 0 (not learnt) or 1 (learnt)"
            ))),
        }
    }
}

/// Whether a value holds something, by [`is_filled`].
pub(super) struct Filled(pub bool);

impl<'de> Deserialize<'de> for Filled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self(is_filled(&value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Turn, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn both_names_of_the_fields_are_read() {
        let turn = |message, learnt| Ok(Turn { message, learnt, unused: Vec::new() });
        assert_eq!(read(r#"{"role":"user","content":" a "}"#), turn(Message::user(" a "), None));
        assert_eq!(read(r#"{"from":"human","value":"a"}"#), turn(Message::user("a"), None));
        assert_eq!(
            read(r#"{"from":"gpt","value":"a","weight":0}"#),
            turn(Message::assistant("a"), Some(false))
        );
        assert_eq!(read(r#"{"from":"observation","value":"a"}"#), turn(Message::new("tool", "a"), None));
        assert_eq!(
            read(r#"{"content":"a","role":"assistant","train":true}"#),
            turn(Message::assistant("a"), Some(true))
        );
        let v1 = r#"{"role":"assistant","content":[{"type":"text","value":"a"}],"loss_weight":1.0}"#;
        assert_eq!(read(v1), turn(Message::assistant("a"), Some(true)));
    }

    #[test]
    fn empty_fields_do_not_matter_and_others_are_named() {
        let row = r#"{"role":"assistant","content":"a","tool_calls":[],"function_call":{"name":null},"reasoning_content":"",
            "weight":null,"name":"x","tool_call_id":null,"score":[1]}"#;
        let turn = read(row).unwrap();
        assert_eq!(
            (turn.unused.as_slice(), turn.message.beside.fields.len()),
            (["score".to_owned()].as_slice(), 1)
        );
    }

    #[test]
    fn every_form_of_a_call_is_read() {
        let calls = r#"[{"type":"function","function":{"name":"f","arguments":{"a":1}}}]"#;
        for row in [
            format!(r#"{{"role":"assistant","tool_calls":{calls}}}"#),
            format!(r#"{{"role":"assistant","content":null,"tool_calls":{calls},"function_call":null}}"#),
            r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{\"a\": 1}"}}"#
                .to_owned(),
            r#"{"from":"function_call","value":"{\"name\": \"f\", \"arguments\": {\"a\": 1}}"}"#.to_owned(),
        ] {
            let message = read(&row).unwrap().message;
            assert!(message.is_assistant() && message.beside.without_content, "{row}");
            assert_eq!(Value::Array(message.beside.tool_calls().to_vec()).to_string(), calls, "{row}");
        }
        let result = read(r#"{"role":"function","name":"f","content":"1"}"#).unwrap().message;
        assert_eq!((result.role.as_str(), result.beside.fields.len()), ("tool", 1));
    }

    #[test]
    fn what_would_be_lost_is_refused_whatever_else_is_wrong() {
        let check = |json: &str, expected: &str| {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        };
        check(
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"1"}]}"#,
            "`tool_calls`: call 1: has no `name`",
        );
        check(
            r#"{"role":"assistant","function_call":{"name":"f"},"content":null}"#,
            "`function_call`: must be an object",
        );
        check(r#"{"role":"user","content":"a","reasoning_content":"b"}"#, "only the assistant's have it");
        check(r#"{"role":"assistant","content":"a","audio":{"id":"b"}}"#, "`audio` holds something");
        check(
            r#"{"role":"user","content":"a","template_inputs":{"chat_template_kwargs":{"messages":[]},"tools":[{"name":"f"}]}}"#,
            "`template_inputs` holds something: write `tools`",
        );
        check(r#"{"from":"function_call","value":"{}"}"#, "must hold `{\"name\": …");
        check(
            r#"{"from":"function_call","value":"<think>a</think>{\"name\":\"f\",\"arguments\":{}}"}"#,
            "and nothing else: expected value",
        );
        check(r#"{"from":"function_call","value":"[]"}"#, "the list is empty");
        check(r#"{"from":"bing","value":"a"}"#, "unknown speaker `bing`");
        check(r#"{"role":"gpt","content":"a"}"#, "unknown role `gpt`");
        check(r#"{"role":"assistant","content":null}"#, "`content` is null");
        check(r#"{"role":"assistant"}"#, "missing field `content`");
        check(r#"{"content":"a"}"#, "missing field `role`");
        check(r#"{"role":"user","from":"human","content":"a"}"#, "has both `role` and `from`");
        check(r#"{"role":"user","value":"b","content":"a"}"#, "repeats");
        check(r#"{"role":"assistant","content":"a","weight":0.5}"#, "the weight 0.5 is not supported");
        check(r#"{"role":"assistant","content":"a","weight":0,"train":true}"#, "contradicts");
        check(r#"{"role":"assistant","content":"a","train":"no"}"#, "invalid type");
    }
}
