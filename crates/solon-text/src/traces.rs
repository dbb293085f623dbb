//! Whether a chat template writes what a conversation holds beside the texts of its messages.
//!
//! Contract: tools, calls of tools, their results and the reasoning of an answer that is learnt leave a trace in the rendered text, or the
//! conversation is refused by the name of what is lost; transformers drops it in silence. Something leaves a trace if the text differs
//! without it, or if the template refuses the conversation without it. Reasoning of other answers may be dropped: many templates do so on
//! purpose. A variable that a row sets must be one that the template names.
//!
//! One rendering, with another word in the place of each part, mostly shows all of them. Only those that it does not show are left out one
//! by one: a rendering for every part would take quadratic time.

use std::collections::HashSet;

use serde_json::{Value, json};
use solon_records::{Message, TemplateInputs};

use crate::{ChatTokenizer, TextError};

/// What must leave a trace: a part of the message with this index.
#[derive(Clone, Copy)]
enum Part {
    Call { index: usize, call: usize },
    Tools { index: usize },
    Reasoning { index: usize },
    ToolResult { index: usize },
}

impl ChatTokenizer {
    /// Checks what `messages` hold against `rendered`, their rendering. `learnt`: the places of the answers that are learnt.
    ///
    /// # Errors
    /// [`TextError::Lost`]; [`TextError::TemplateTooExpensive`] and [`TextError::TemplateThread`] if it cannot be found out.
    pub(crate) fn check_traces(
        &self,
        messages: &[Message],
        rendered: &str,
        generation_prompt: bool,
        learnt: &[usize],
    ) -> Result<(), TextError> {
        let changed = |change: &dyn Fn(&mut [Message])| {
            let mut other = messages.to_vec();
            change(&mut other);
            Ok(self.probe(&other, generation_prompt)?.is_none_or(|other| other != rendered))
        };
        self.check_inputs(messages, changed)?;
        let parts = parts(messages, learnt);
        if parts.is_empty() {
            return Ok(());
        }
        let shown = self.shown(&parts, messages, rendered, generation_prompt)?;
        let mut not_shown = parts.iter().enumerate().filter(|(number, _)| !shown.contains(number));
        not_shown.try_for_each(|(_, part)| part.check(changed))
    }

    /// Checks what belongs to the whole conversation.
    fn check_inputs(
        &self,
        messages: &[Message],
        changed: impl Fn(&dyn Fn(&mut [Message])) -> Result<bool, TextError>,
    ) -> Result<(), TextError> {
        let Some(inputs) = TemplateInputs::of(messages) else { return Ok(()) };
        if let Some(unread) = inputs.chat_template_kwargs.keys().find(|name| !self.template_names(name)) {
            return Err(TextError::Lost { what: format!("`{unread}` of chat_template_kwargs") });
        }
        let without = |messages: &mut [Message]| {
            let TemplateInputs { chat_template_kwargs, .. } = TemplateInputs::take_off(messages);
            TemplateInputs { tools: Vec::new(), chat_template_kwargs }.put_on(messages);
        };
        must(inputs.tools.is_empty() || changed(&without)?, || "the tools".to_owned())
    }

    /// The numbers of the parts that are in the text when each is replaced by a word of its own.
    fn shown(
        &self,
        parts: &[Part],
        messages: &[Message],
        rendered: &str,
        generation_prompt: bool,
    ) -> Result<HashSet<usize>, TextError> {
        let mut word = "trace".to_owned();
        while rendered.contains(&word) {
            word.push('e');
        }
        let mut marked = messages.to_vec();
        for (number, part) in parts.iter().enumerate() {
            // The point ends the number: no word is the start of another.
            part.mark(&mut marked, &format!("{word}{number}."));
        }
        let text = self.probe(&marked, generation_prompt)?.unwrap_or_default();
        let numbers = text.split(&word).skip(1).filter_map(|rest| rest.split_once('.')?.0.parse().ok());
        Ok(numbers.collect())
    }

    /// The rendering of a conversation that differs from the given one; none if the template refuses it.
    fn probe(&self, messages: &[Message], generation_prompt: bool) -> Result<Option<String>, TextError> {
        match self.render(messages, generation_prompt) {
            Ok(text) => Ok(Some(text)),
            Err(error @ (TextError::TemplateTooExpensive | TextError::TemplateThread { .. })) => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// All parts of a conversation that must leave a trace.
fn parts(messages: &[Message], learnt: &[usize]) -> Vec<Part> {
    let learnt: HashSet<&usize> = learnt.iter().collect();
    let mut parts = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        parts.extend((0..message.beside.tool_calls().len()).map(|call| Part::Call { index, call }));
        if message.beside.fields.contains_key("tools") {
            parts.push(Part::Tools { index });
        }
        if learnt.contains(&index) && message.beside.reasoning().is_some() {
            parts.push(Part::Reasoning { index });
        }
        if message.role == "tool" && !message.content.trim().is_empty() {
            parts.push(Part::ToolResult { index });
        }
    }
    parts
}

impl Part {
    /// Puts a word in its place, in the same form.
    fn mark(self, messages: &mut [Message], word: &str) {
        match self {
            Self::Call { index, call } => change_arguments(&mut messages[index], call, |arguments| {
                replace_texts(arguments, word);
                arguments.as_object_mut().map(|arguments| arguments.insert(word.to_owned(), word.into()));
            }),
            Self::Tools { index } => {
                messages[index]
                    .beside
                    .fields
                    .get_mut("tools")
                    .into_iter()
                    .for_each(|it| replace_texts(it, word));
            }
            Self::Reasoning { index } => messages[index].beside.replace_reasoning(word),
            Self::ToolResult { index } => messages[index].content = word.to_owned(),
        }
    }

    /// Checks that the text changes without it. `changed`: whether it does after a change of the messages.
    fn check(
        self,
        changed: impl Fn(&dyn Fn(&mut [Message])) -> Result<bool, TextError>,
    ) -> Result<(), TextError> {
        match self {
            Self::Call { index, call } => {
                let (number, nth) = (index + 1, call + 1);
                let left = changed(&|messages| remove_call(&mut messages[index], call))?;
                must(left, || format!("call {nth} of a tool in message {number}"))?;
                let left = changed(&|messages| set_arguments(&mut messages[index], call))?;
                must(left, || format!("the arguments of call {nth} in message {number}"))
            }
            Self::Tools { index } => {
                let left = changed(&|messages| drop(messages[index].beside.fields.shift_remove("tools")))?;
                must(left, || format!("the `tools` of message {}", index + 1))
            }
            Self::Reasoning { index } => {
                let left = changed(&|messages| {
                    messages[index].beside = messages[index].beside.without_reasoning();
                })?;
                must(left, || format!("the reasoning of message {}", index + 1))
            }
            Self::ToolResult { index } => {
                let with = |text: &'static str| {
                    changed(&move |messages: &mut [Message]| messages[index].content = text.to_owned())
                };
                must(with("0")? || with("1")?, || format!("the tool's result in message {}", index + 1))
            }
        }
    }
}

fn must(left: bool, what: impl FnOnce() -> String) -> Result<(), TextError> {
    if left { Ok(()) } else { Err(TextError::Lost { what: what() }) }
}

/// Leaves a call out. A message that is left with none has an empty content, because most templates cannot write one without any.
fn remove_call(message: &mut Message, call: usize) {
    let Some(Value::Array(calls)) = message.beside.fields.get_mut("tool_calls") else { return };
    calls.remove(call);
    if calls.is_empty() {
        message.beside.fields.shift_remove("tool_calls");
        message.beside.without_content = false;
    }
}

/// Gives a call other arguments of the same form. They end otherwise than any that a template could write for JSON without a line feed.
pub(crate) fn set_arguments(message: &mut Message, call: usize) {
    change_arguments(message, call, |arguments| *arguments = json!({"\u{1}": "\u{1}"}));
}

/// Changes the arguments of a call, an object, and leaves them a text where they are one.
fn change_arguments(message: &mut Message, call: usize, change: impl FnOnce(&mut Value)) {
    let calls = message.beside.fields.get_mut("tool_calls").and_then(Value::as_array_mut);
    let Some(call) = calls.and_then(|calls| calls.get_mut(call)) else { return };
    let function = match call.get("function").is_some_and(Value::is_object) {
        true => &mut call["function"],
        false => call,
    };
    let arguments = &mut function["arguments"];
    match arguments.as_str().map(serde_json::from_str) {
        None => change(arguments),
        Some(read) => {
            let mut read = read.ok().filter(Value::is_object).unwrap_or_else(|| json!({}));
            change(&mut read);
            *arguments = read.to_string().into();
        }
    }
}

/// Replaces every text in a value, but no key.
fn replace_texts(value: &mut Value, by: &str) {
    match value {
        Value::String(text) => by.clone_into(text),
        Value::Array(list) => list.iter_mut().for_each(|value| replace_texts(value, by)),
        Value::Object(map) => map.values_mut().for_each(|value| replace_texts(value, by)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::tests::byte_tokenizer;

    const TOOLS: &str = "{% if tools %}{{ tools | tojson }}|{% endif %}";
    const CALLS: &str =
        "{% for c in m.tool_calls %}<{{ c.function.name }} {{ c.function.arguments | tojson }}>{% endfor %}";

    /// A template that writes these parts: before the conversation, and before and after each content.
    fn with(first: &str, before: &str, after: &str) -> ChatTokenizer {
        let template = format!(
            "{first}{{% for m in messages %}}{{{{ m.role }}}}:{before}{{{{ m.content }}}}{after}<|im_end|>{{% endfor %}}\
             {{% if add_generation_prompt %}}assistant:{{% endif %}}"
        );
        byte_tokenizer().with_template(&template).expect("a template")
    }

    fn conversation() -> Vec<Message> {
        serde_json::from_str(
            r#"[{"role":"user","content":"q","template_inputs":{"tools":[{"type":"function","function":{"name":"f"}}],"chat_template_kwargs":{}}},
            {"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"x":1}}},{"function":{"name":"f","arguments":{"x":1}}}]},
            {"role":"tool","content":"2"},{"role":"tool","content":"2"},{"role":"assistant","content":"yes","reasoning_content":"why"}]"#,
        )
        .expect("messages")
    }

    fn check(tokenizer: &ChatTokenizer, messages: &[Message], learnt: &[usize], expected: Option<&str>) {
        let encoded = tokenizer.encode_conversation(messages, |index| learnt.contains(&index));
        match (encoded, expected) {
            (Ok(_), None) => {}
            (Err(TextError::Lost { what }), Some(expected)) => assert_eq!(what, expected),
            (other, _) => panic!("{other:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_a_template_does_not_write_is_refused_by_name() {
        let messages = conversation();
        let reasoning = "{{ m.reasoning_content }}";
        check(&with(TOOLS, reasoning, CALLS), &messages, &[4], None);
        check(&with("", reasoning, CALLS), &messages, &[4], Some("the tools"));
        check(&with(TOOLS, reasoning, ""), &messages, &[4], Some("call 1 of a tool in message 2"));
        check(&with(TOOLS, "", CALLS), &messages, &[4], Some("the reasoning of message 5"));
        // The reasoning of an answer that is context may be dropped.
        check(&with(TOOLS, "", CALLS), &messages, &[1], None);
        let names = "{% for c in m.tool_calls %}<{{ c.function.name }}>{% endfor %}";
        check(&with(TOOLS, "", names), &messages, &[1], Some("the arguments of call 1 in message 2"));
        // Two equal calls, of which one is written.
        let first = CALLS.replace("m.tool_calls", "m.tool_calls[:1]");
        check(&with(TOOLS, "", &first), &messages, &[1], Some("call 2 of a tool in message 2"));
        let silent = with(TOOLS, reasoning, CALLS)
            .template()
            .expect("a template")
            .replace("{{ m.content }}", "{{ m.content if m.role != 'tool' }}");
        let silent = byte_tokenizer().with_template(&silent).expect("a template");
        check(&silent, &messages, &[4], Some("the tool's result in message 3"));
        assert!(matches!(with("", "", "").prompt_ids(&messages[..1]), Err(TextError::Lost { .. })));
        assert!(with(TOOLS, "", "").prompt_ids(&messages[..1]).is_ok());
    }

    /// What is not shown by the one rendering costs renderings of its own.
    #[test]
    fn one_rendering_shows_every_part_that_is_written() {
        let mut messages = conversation();
        messages[1].beside.fields["tool_calls"][1]["function"]["arguments"] = "{\"x\": \"1\"}".into();
        let parts = parts(&messages, &[4]);
        let shown = |before: &str, after: &str| {
            let tokenizer = with(TOOLS, before, after);
            let rendered = tokenizer.render(&messages, false).expect("renders");
            let shown = tokenizer.shown(&parts, &messages, &rendered, false).expect("renders");
            let mut shown: Vec<usize> = shown.into_iter().collect();
            shown.sort_unstable();
            shown
        };
        assert_eq!(shown("trace1.{{ m.reasoning_content }}", CALLS), [0, 1, 2, 3, 4]);
        assert_eq!(shown("", CALLS), [0, 1, 2, 3]);
        assert_eq!(shown("", ""), [2, 3]);
        // Known arguments by their names: those that are texts.
        messages[1].beside.fields["tool_calls"][1]["function"]["arguments"] = json!({"x": "1"});
        let named = "{% for c in m.tool_calls %}{{ c.function.arguments.x ~ '' }}{% endfor %}";
        let tokenizer = with(TOOLS, "", named);
        let shown = tokenizer.shown(&parts, &messages, "", false).expect("renders");
        assert!(shown.contains(&1) && !shown.contains(&0), "{shown:?}");
        check(&tokenizer, &messages, &[1], None);
    }

    #[test]
    fn a_rendering_that_is_given_up_is_no_trace() {
        let endless = "{% if m.role == 'tool' and m.content != '2' %}{% for a in range(9999) %}{% for b in range(9999) %}\
            {% endfor %}{% endfor %}{% endif %}";
        let result = with(TOOLS, endless, CALLS).encode_conversation(&conversation(), |index| index == 4);
        assert!(matches!(result, Err(TextError::TemplateTooExpensive)), "{result:?}");
    }

    #[test]
    fn a_variable_must_be_one_of_the_template() {
        let mut messages = vec![Message::user("q"), Message::assistant("a")];
        let kwargs = json!({"deep": true});
        TemplateInputs {
            tools: Vec::new(),
            chat_template_kwargs: kwargs.as_object().expect("an object").clone(),
        }
        .put_on(&mut messages);
        check(&with("{% if deep is defined and deep is false %}!{% endif %}", "", ""), &messages, &[1], None);
        check(&with("{{ deeper }}", "", ""), &messages, &[1], Some("`deep` of chat_template_kwargs"));
    }
}
