//! Whether a chat template writes what a conversation holds beside the texts of its messages.
//!
//! Contract: tools, calls of tools, their results and the reasoning of an answer that is learnt leave a trace in the rendered text, or the
//! conversation is refused by the name of what is lost; transformers drops it in silence. Something leaves a trace if the text differs
//! without it, or if the template refuses the conversation without it. Reasoning of other answers may be dropped: many templates do so on
//! purpose. A variable that a row sets must be one that the template names.

use serde_json::{Value, json};
use solon_records::{Message, TemplateInputs};

use crate::{ChatTokenizer, TextError};

impl ChatTokenizer {
    /// Checks what `messages` hold against `rendered`, their rendering. `learnt`: the places of the answers that are learnt.
    ///
    /// # Errors
    /// [`TextError::Lost`].
    pub(crate) fn check_traces(
        &self,
        messages: &[Message],
        rendered: &str,
        generation_prompt: bool,
        learnt: &[usize],
    ) -> Result<(), TextError> {
        if messages.iter().all(|message| message.beside.is_empty() && message.role != "tool") {
            return Ok(());
        }
        let changed = |change: &dyn Fn(&mut [Message])| {
            let mut other = messages.to_vec();
            change(&mut other);
            self.render(&other, generation_prompt).map_or(true, |other| other != rendered)
        };
        let must = |left: bool, what: String| if left { Ok(()) } else { Err(TextError::Lost { what }) };
        if let Some(inputs) = TemplateInputs::of(messages) {
            let unread = inputs.chat_template_kwargs.keys().find(|name| !self.template_names(name));
            must(
                unread.is_none(),
                format!("`{}` of chat_template_kwargs", unread.map_or("", String::as_str)),
            )?;
            if !inputs.tools.is_empty() {
                let without = |messages: &mut [Message]| {
                    let TemplateInputs { chat_template_kwargs, .. } = TemplateInputs::take_off(messages);
                    TemplateInputs { tools: Vec::new(), chat_template_kwargs }.put_on(messages);
                };
                must(changed(&without), "the tools".to_owned())?;
            }
        }
        for (index, message) in messages.iter().enumerate() {
            let number = index + 1;
            for call in 0..message.beside.tool_calls().len() {
                let without = |messages: &mut [Message]| remove_call(&mut messages[index], call);
                must(changed(&without), format!("call {} of a tool in message {number}", call + 1))?;
                let arguments = |messages: &mut [Message]| set_arguments(&mut messages[index], call);
                must(changed(&arguments), format!("the arguments of call {} in message {number}", call + 1))?;
            }
            if message.beside.fields.contains_key("tools") {
                let without =
                    |messages: &mut [Message]| drop(messages[index].beside.fields.shift_remove("tools"));
                must(changed(&without), format!("the `tools` of message {number}"))?;
            }
            if learnt.contains(&index) && message.beside.reasoning().is_some() {
                let without = |messages: &mut [Message]| {
                    messages[index].beside = message.beside.without_reasoning();
                };
                must(changed(&without), format!("the reasoning of message {number}"))?;
            }
            if message.role == "tool" && !message.content.trim().is_empty() {
                let other = |messages: &mut [Message]| messages[index].content = "0".to_owned();
                let again = |messages: &mut [Message]| messages[index].content = "1".to_owned();
                must(changed(&other) || changed(&again), format!("the tool's result in message {number}"))?;
            }
        }
        Ok(())
    }
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
    let calls = message.beside.fields.get_mut("tool_calls").and_then(Value::as_array_mut);
    let Some(call) = calls.and_then(|calls| calls.get_mut(call)) else { return };
    let function = match call.get("function").is_some_and(Value::is_object) {
        true => &mut call["function"],
        false => call,
    };
    let other = json!({"\u{1}": "\u{1}"});
    function["arguments"] = if function["arguments"].is_string() { other.to_string().into() } else { other };
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
        check(&with(TOOLS, "", &first), &messages, &[1], Some("call 1 of a tool in message 2"));
        let silent = with(TOOLS, reasoning, CALLS)
            .template()
            .expect("a template")
            .replace("{{ m.content }}", "{{ m.content if m.role != 'tool' }}");
        let silent = byte_tokenizer().with_template(&silent).expect("a template");
        check(&silent, &messages, &[4], Some("the tool's result in message 3"));
        assert!(matches!(with("", "", "").prompt_ids(&messages[..1]), Err(TextError::Lost { .. })));
        assert!(with(TOOLS, "", "").prompt_ids(&messages[..1]).is_ok());
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
