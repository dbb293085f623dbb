//! What a message holds beside its role and its text: reasoning, calls of tools, the name of who speaks.
//!
//! Contract: what chat templates read is kept as the file has it, key by key and in its order, because a template may write all of it as
//! JSON. It is checked when it is read. Empty values (null, a blank text, an empty list) count as absent.
//!
//! Source: transformers, `utils/chat_template_utils.py::render_jinja_template`; TRL's dataset formats; OpenAI's chat completions, the
//! older form with `function_call` included.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::TemplateInputs;

/// The fields of a message that chat templates read, beside `role` and `content`.
/// `tools` stands on a system message for the few templates that read it there, such as Phi-4-mini's.
pub const TEMPLATE_FIELDS: [&str; 7] =
    ["reasoning_content", "thinking", "reasoning", "tool_calls", "tool_call_id", "name", "tools"];

/// The names under which a message holds its reasoning, the first that is there before the others.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// What a message holds beside its role and its text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Beside {
    /// Those of [`TEMPLATE_FIELDS`] that hold something, in the file's order.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// The message has no content at all, which a template may tell from an empty one. Only a message that calls tools may have none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_content: bool,
    /// What belongs to the whole conversation. It stands on one message, mostly the first, so that whoever passes on the messages passes
    /// it on.
    #[serde(skip_serializing_if = "TemplateInputs::is_empty")]
    pub inputs: TemplateInputs,
}

impl Beside {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes one of [`TEMPLATE_FIELDS`], or OpenAI's older `function_call`, which becomes a list of one call.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn take(&mut self, name: &str, value: Value) -> Result<(), String> {
        if !is_filled(&value) {
            return Ok(());
        }
        let (name, value) = match name {
            "tool_calls" => (name, checked_calls(value).map_err(|fault| format!("`tool_calls`: {fault}"))?),
            "function_call" => {
                ("tool_calls", calls_of(value).map_err(|fault| format!("`function_call`: {fault}"))?)
            }
            "tools" => (name, value),
            _ if value.is_string() => (name, value),
            _ => return Err(format!("`{name}` must be a text")),
        };
        match self.fields.insert(name.to_owned(), value) {
            Some(_) => Err(format!("has `{name}` twice (`function_call` is the older form of `tool_calls`)")),
            None => Ok(()),
        }
    }

    /// Checks what is held against who speaks.
    ///
    /// # Errors
    /// If it is not the assistant who reasons or calls tools.
    pub fn check(&self, role: &str) -> Result<(), String> {
        let own = REASONING.iter().chain(&["tool_calls"]);
        match own.into_iter().find(|name| role != "assistant" && self.fields.contains_key(**name)) {
            Some(name) => Err(format!(
                "`{name}` is there, but the message is the {role}'s; only the assistant's have it"
            )),
            None => Ok(()),
        }
    }

    /// The calls of tools.
    pub fn tool_calls(&self) -> &[Value] {
        self.fields.get("tool_calls").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The reasoning, under whichever name.
    pub fn reasoning(&self) -> Option<&str> {
        REASONING.iter().find_map(|name| self.fields.get(*name)?.as_str())
    }

    /// Puts another text in the place of the reasoning, under each name that it has.
    pub fn replace_reasoning(&mut self, text: &str) {
        for name in REASONING {
            self.fields.get_mut(name).into_iter().for_each(|value| *value = text.into());
        }
    }

    /// The same without reasoning.
    #[must_use]
    pub fn without_reasoning(&self) -> Self {
        let mut left = self.clone();
        left.fields.retain(|name, _| !REASONING.contains(&name.as_str()));
        left
    }
}

/// Calls of tools as LLaMA-Factory and OpenAI's older form write them, a `{"name": …, "arguments": …}` or a list of such, in the form of
/// `tool_calls`. Arguments that are a text of JSON become the object that the text holds.
///
/// # Errors
/// If it is something else.
pub fn calls_of(value: Value) -> Result<Value, String> {
    let calls = match value {
        Value::Array(calls) => calls,
        one => vec![one],
    };
    let call = |mut call: Value| -> Result<Value, String> {
        let taken = |call: &mut Value, key: &str| call.get_mut(key).map(Value::take);
        let (Some(Value::String(name)), Some(arguments)) =
            (taken(&mut call, "name"), taken(&mut call, "arguments"))
        else {
            return Err("must be an object with `name` and `arguments`, or a list of such".to_owned());
        };
        let arguments = match &arguments {
            Value::String(text) => serde_json::from_str(text)
                .map_err(|error| format!("the `arguments` of `{name}` are no JSON: {error}"))?,
            _ => arguments,
        };
        if !arguments.is_object() {
            return Err(format!("the `arguments` of `{name}` must be an object"));
        }
        Ok(json!({"type": "function", "function": {"name": name, "arguments": arguments}}))
    };
    checked_calls(Value::Array(calls.into_iter().map(call).collect::<Result<_, _>>()?))
}

/// `tool_calls` as they are, if each is a call.
fn checked_calls(value: Value) -> Result<Value, String> {
    let calls = value.as_array().ok_or("must be a list of calls")?;
    for (place, call) in calls.iter().enumerate() {
        let fault = |what: &str| format!("call {}: {what}", place + 1);
        let call = call.as_object().ok_or_else(|| fault("must be an object"))?;
        let function = match call.get("function") {
            None | Some(Value::Null) => call,
            Some(Value::Object(function)) => function,
            Some(_) => return Err(fault("`function` must be an object with `name` and `arguments`")),
        };
        if function.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
            return Err(fault("has no `name` of the function"));
        }
        if !matches!(function.get("arguments"), Some(Value::Object(_) | Value::String(_))) {
            return Err(fault("`arguments` must be an object, or a text that holds one"));
        }
    }
    Ok(value)
}

/// Whether a value holds something: it is not null, no blank text (nor one that holds an empty list, object or null), and no list or object
/// of such values alone.
pub fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        // LLaMA-Factory's files hold lists as JSON inside a text.
        Value::String(text) => !matches!(text.trim(), "" | "[]" | "{}" | "null"),
        Value::Array(list) => list.iter().any(is_filled),
        Value::Object(map) => map.values().any(is_filled),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &str, value: Value) -> Result<Beside, String> {
        let mut beside = Beside::default();
        beside.take(name, value).map(|()| beside)
    }

    #[test]
    fn calls_are_kept_as_they_are_or_refused() {
        let calls = json!([{"id": "1", "function": {"arguments": "{\"a\": 1}", "name": "f"}}, {"name": "g", "arguments": {}}]);
        let beside = taken("tool_calls", calls.clone()).unwrap();
        assert_eq!(Value::Array(beside.tool_calls().to_vec()).to_string(), calls.to_string());
        for (calls, expected) in [
            (json!({"name": "f"}), "`tool_calls`: must be a list"),
            (json!([{"function": {"name": "f"}}]), "`tool_calls`: call 1: `arguments` must be"),
            (
                json!([{"name": "f", "arguments": {}}, {"arguments": {}, "id": "x"}]),
                "`tool_calls`: call 2: has no `name`",
            ),
            (json!([{"function": "f"}]), "`tool_calls`: call 1: `function` must be an object"),
        ] {
            let error = taken("tool_calls", calls).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn the_older_form_becomes_a_call_with_its_arguments_as_an_object() {
        let beside = taken("function_call", json!({"name": "f", "arguments": "{\"a\": [1]}"})).unwrap();
        assert_eq!(
            beside.tool_calls(),
            [json!({"type": "function", "function": {"name": "f", "arguments": {"a": [1]}}})]
        );
        let error = taken("function_call", json!({"name": "f", "arguments": "{a}"})).unwrap_err();
        assert!(error.starts_with("`function_call`: the `arguments` of `f` are no JSON"), "{error}");
        let error = taken("function_call", json!("auto")).unwrap_err();
        assert!(error.contains("must be an object with `name` and `arguments`"), "{error}");
    }

    #[test]
    fn empty_values_are_absent_and_reasoning_has_three_names() {
        for value in [json!(null), json!(" "), json!([]), json!([{"function": null}]), json!("[]")] {
            assert!(taken("tool_calls", value).unwrap().is_empty());
        }
        for name in REASONING {
            let beside = taken(name, json!("because")).unwrap();
            assert_eq!(beside.reasoning(), Some("because"));
            assert!(beside.without_reasoning().is_empty());
            assert!(beside.check("user").is_err() && beside.check("assistant").is_ok());
        }
        assert!(taken("name", json!(1)).is_err());
    }
}
