//! What a chat template gets beside the messages: tools, and values of its own variables.
//!
//! Source: the arguments of transformers' `apply_chat_template(messages, tools=…, **chat_template_kwargs)`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Message;
use crate::beside::is_filled;

/// What a chat template gets beside the messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TemplateInputs {
    /// Descriptions of the tools that the assistant may call, mostly JSON schemas. A template gets an empty list as none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Values of the template's own variables, such as `enable_thinking`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
}

/// Names that are no variables of a template, but arguments of `apply_chat_template` or given by Solon itself.
const TAKEN: [&str; 16] = [
    "messages",
    "conversation",
    "tools",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "tokenize",
    "padding",
    "truncation",
    "max_length",
    "return_tensors",
    "return_dict",
    "return_assistant_tokens_mask",
    "tokenizer_kwargs",
    "sanitize_control_tokens",
    "chat_template_kwargs",
];

impl TemplateInputs {
    /// What the messages of a conversation hold; none if nothing.
    pub fn of(messages: &[Message]) -> Option<&Self> {
        messages.iter().map(|message| &message.beside.inputs).find(|inputs| !inputs.is_empty())
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.chat_template_kwargs.is_empty()
    }

    /// Puts it on the first message of a conversation.
    pub fn put_on(self, messages: &mut [Message]) {
        if let Some(first) = messages.first_mut().filter(|_| !self.is_empty()) {
            first.beside.inputs = self;
        }
    }

    /// Takes it off the messages of a conversation.
    pub fn take_off(messages: &mut [Message]) -> Self {
        let holder = messages.iter_mut().find(|message| !message.beside.inputs.is_empty());
        holder.map(|message| std::mem::take(&mut message.beside.inputs)).unwrap_or_default()
    }

    /// Reads a list of tools, or a text that holds such a list as JSON. Nothing that is filled in it is no list.
    ///
    /// # Errors
    /// If it is something else.
    pub fn read_tools(value: Value) -> Result<Vec<Value>, String> {
        if !is_filled(&value) {
            return Ok(Vec::new());
        }
        let value = match &value {
            Value::String(text) => serde_json::from_str(text)
                .map_err(|error| format!("is a text that holds no JSON: {error}; write a list of tools"))?,
            _ => value,
        };
        match value {
            Value::Array(tools) if tools.iter().all(Value::is_object) => Ok(tools),
            _ => Err("must be a list of objects, each of which describes a tool".to_owned()),
        }
    }

    /// Reads values of a template's variables.
    ///
    /// # Errors
    /// If it is no object, or names something that is not the template's.
    pub fn read_kwargs(value: Value) -> Result<Map<String, Value>, String> {
        if !is_filled(&value) {
            return Ok(Map::new());
        }
        let Value::Object(kwargs) = value else {
            return Err("must be an object, such as {\"enable_thinking\": false}".to_owned());
        };
        match kwargs.keys().find(|name| TAKEN.contains(&name.as_str())) {
            Some(name) => Err(format!("`{name}` is no variable of a chat template; take it out")),
            None => Ok(kwargs),
        }
    }
}

/// A description of a function as a tool: OpenAI's and LLaMA-Factory's files have it without the object around it.
pub fn as_tool(function: Value) -> Value {
    match function.get("type").and_then(Value::as_str) {
        Some("function") => function,
        _ => json!({"type": "function", "function": function}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_a_list_or_a_text_that_holds_one() {
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        for given in [tools.clone(), Value::String(tools.to_string())] {
            assert_eq!(Value::Array(TemplateInputs::read_tools(given).unwrap()), tools);
        }
        for none in [json!([]), json!(""), json!("[]"), json!(null)] {
            assert!(TemplateInputs::read_tools(none).unwrap().is_empty());
        }
        for (wrong, expected) in [
            (json!({"name": "f"}), "must be a list of objects"),
            (json!(["f"]), "must be a list"),
            (json!("f"), "is a text that holds no JSON"),
        ] {
            let error = TemplateInputs::read_tools(wrong).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn variables_may_not_be_what_solon_gives() {
        let kwargs = TemplateInputs::read_kwargs(json!({"enable_thinking": false, "documents": []})).unwrap();
        assert_eq!(kwargs["enable_thinking"], false);
        assert!(TemplateInputs::read_kwargs(json!({"enable_thinking": null})).unwrap().is_empty());
        assert!(
            TemplateInputs::read_kwargs(json!({"messages": [1]}))
                .unwrap_err()
                .starts_with("`messages` is no variable")
        );
        assert!(TemplateInputs::read_kwargs(json!([1])).is_err());
    }

    #[test]
    fn it_travels_on_the_first_message() {
        let inputs = TemplateInputs { tools: vec![json!({"name": "f"})], ..TemplateInputs::default() };
        let mut messages = [Message::user("a"), Message::assistant("b")];
        inputs.clone().put_on(&mut messages);
        assert_eq!(TemplateInputs::of(&messages), Some(&inputs));
        let json = serde_json::to_string(&messages).unwrap();
        let mut back: [Message; 2] = serde_json::from_str(&json).unwrap();
        assert_eq!(back, messages);
        assert_eq!(TemplateInputs::take_off(&mut back), inputs);
        assert_eq!(back, [Message::user("a"), Message::assistant("b")]);
    }
}
