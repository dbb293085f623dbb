//! Anthropic's messages.
//!
//! Source: <https://docs.anthropic.com/en/api/messages>. The protocol shows no log-probs, so a question with options is
//! answered in words.

use serde::Deserialize;
use serde_json::{Value, json};
use solon_records::Message;

use super::{Form, Misread, written};
use crate::account::Tokens;
use crate::answer::{Answer, End};
use crate::{Question, Unanswered, UnansweredKind};

/// The body that asks a question. What the system says at the start stands apart from the turns.
pub(crate) fn body(
    model: &str,
    messages: &[Message],
    question: &Question,
    form: Form,
) -> Result<Value, Unanswered> {
    let is_system = |role: &str| matches!(role, "system" | "developer");
    let turns = messages.iter().position(|message| !is_system(&message.role));
    let (system, turns) = messages.split_at(turns.unwrap_or(messages.len()));
    if let Some(other) = turns.iter().find(|message| !matches!(&*message.role, "user" | "assistant")) {
        let what = format!("Anthropic's messages have no place for a later message of role `{}`", other.role);
        return Err(Unanswered::new(UnansweredKind::Refused, what));
    }
    let messages: Vec<Value> =
        turns.iter().map(|message| json!({"role": message.role, "content": message.content})).collect();
    let mut body = json!({"model": model, "max_tokens": question.max_new_tokens});
    if !system.is_empty() {
        let system: Vec<&str> = system.iter().map(|message| &*message.content).collect();
        body["system"] = system.join("\n\n").into();
    }
    body["messages"] = messages.into();
    if form.temperature {
        body["temperature"] = written(question.temperature).into();
    }
    Ok(body)
}

/// What is read of a reply.
#[derive(Deserialize)]
struct Written {
    content: Vec<Block>,
    stop_reason: Option<String>,
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Block {
    r#type: String,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    // Input that went through a cache is counted beside the rest.
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
}

/// The answer in a server's text: its blocks of text, one after the other.
pub(crate) fn read(text: &str) -> Result<Answer, Misread> {
    let written: Written = serde_json::from_str(text).map_err(|error| Misread::of("message", &error))?;
    let mut said = String::new();
    for block in written.content.iter().filter(|block| block.r#type == "text") {
        said += block.text.as_deref().unwrap_or_default();
    }
    let end = match written.stop_reason.as_deref() {
        Some("max_tokens" | "model_context_window_exceeded") => End::Cut,
        Some("refusal") => End::Declined,
        _ => End::Whole,
    };
    let tokens = written.usage.map(|usage| {
        let cached = [usage.cache_creation_input_tokens, usage.cache_read_input_tokens];
        let input = cached.into_iter().flatten().fold(usage.input_tokens, u64::saturating_add);
        Tokens { input, output: usage.output_tokens }
    });
    Ok(Answer { text: said, end, first: Vec::new(), tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(messages: &[Message]) -> Result<Value, Unanswered> {
        let question = Question {
            id: "1".to_owned(),
            context: messages.to_vec().into(),
            options: vec!["yes".to_owned()],
            max_new_tokens: 4,
            temperature: 0.7,
            stop: Vec::new(),
            sample: 0,
        };
        body("m", messages, &question, Form::default())
    }

    #[test]
    fn the_system_stands_apart_from_the_turns() {
        let conversation = [
            Message::system("Judge."),
            Message::new("developer", "Be brief."),
            Message::user("Is it?"),
            Message::assistant("It"),
        ];
        let expected = json!({
            "model": "m", "max_tokens": 4, "system": "Judge.\n\nBe brief.",
            "messages": [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "It"}],
            "temperature": 0.7,
        });
        assert_eq!(asked(&conversation).unwrap(), expected);
        for role in ["system", "tool"] {
            let error = asked(&[Message::user("a"), Message::new(role, "b")]).unwrap_err();
            assert!(error.kind == UnansweredKind::Refused && error.reason.contains(role), "{error:?}");
        }
    }

    #[test]
    fn a_reply_is_its_blocks_of_text() {
        let read = |value: Value| read(&value.to_string());
        let answer = read(json!({
            "type": "message", "stop_reason": "max_tokens",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "usage": {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": null, "output_tokens": 2},
        }))
        .unwrap();
        let tokens = Some(Tokens { input: 8, output: 2 });
        assert_eq!(answer, Answer { text: "ab".to_owned(), end: End::Cut, first: Vec::new(), tokens });
        let declined = read(json!({"content": [], "stop_reason": "refusal"})).unwrap();
        assert_eq!((declined.text.as_str(), declined.end), ("", End::Declined));
        assert!(matches!(read(json!({"choices": []})), Err(Misread::Malformed(_))));
    }
}
