//! Demonstrations for supervised fine-tuning: TRL's conversational language-modelling and prompt-completion formats.

use std::path::Path;

use serde::Deserialize;
use solon_records::{Demonstration, Message};

use super::prompt::prompt_messages;
use super::turns::{Turns, id};
use super::{Raw, read_records};
use crate::DataError;

/// Reads demonstrations: `{"messages": […]}`, or `{"prompt": …, "completion": …}` with a string or a list of messages
/// for either, with optional `id` and `cut_off`.
///
/// # Errors
/// Those of [`crate::jsonl::read_jsonl`]; [`DataError::Line`] for a row with nothing to train on or in another format.
pub fn read_demonstrations(path: &Path) -> Result<Vec<Demonstration>, DataError> {
    read_records::<RawDemonstration>(path)
}

#[derive(Deserialize)]
struct RawDemonstration {
    #[serde(default, deserialize_with = "id")]
    id: Option<String>,
    messages: Option<Vec<Message>>,
    prompt: Option<Turns>,
    completion: Option<Turns>,
    #[serde(default)]
    cut_off: bool,
    label: Option<serde::de::IgnoredAny>,
    text: Option<serde::de::IgnoredAny>,
    chosen: Option<serde::de::IgnoredAny>,
}

impl Raw for RawDemonstration {
    type Record = Demonstration;

    fn id(&mut self) -> Option<String> {
        self.id.take()
    }

    fn normalise(self, id: String) -> Result<Demonstration, String> {
        let cut_off = self.cut_off;
        match (self.messages, self.prompt, self.completion) {
            // The file says that some completions are bad; training on them would be wrong.
            (None, Some(_), Some(_)) if self.label.is_some() => {
                Err("has a `label`: this is TRL's unpaired-preference format; keep the rows labelled true and remove the field".into())
            }
            (Some(messages), None, None) => {
                let Some(prompt_len) = messages.iter().position(Message::is_assistant) else {
                    return Err("field `messages`: has no message of the assistant to train on".into());
                };
                Ok(Demonstration { id, messages, prompt_len, cut_off })
            }
            (None, Some(prompt), Some(completion)) => {
                // A prompt to answer must not end with the assistant's message, but this one may end with the first
                // words of the assistant's answer.
                let mut messages = match prompt {
                    Turns::Messages(messages) if !messages.is_empty() => messages,
                    other => prompt_messages("prompt", other)?,
                };
                let prompt_len = messages.len();
                match completion {
                    Turns::Text(text) => messages.push(Message::assistant(text)),
                    Turns::Messages(completion) => messages.extend(completion),
                }
                if !messages[prompt_len..].iter().any(Message::is_assistant) {
                    return Err("field `completion`: has no message of the assistant to train on".into());
                }
                Ok(Demonstration { id, messages, prompt_len, cut_off })
            }
            (Some(_), ..) => Err("has both `messages` and `prompt` or `completion`; keep one form".into()),
            _ if self.text.is_some() => {
                Err("has only a `text`, without roles; write it as `prompt` and `completion`".into())
            }
            _ if self.chosen.is_some() => {
                Err("is a preference pair; train on it with `solon reward` or `solon dpo`, or rename `chosen` to `completion`".into())
            }
            _ => Err("has neither `messages` nor `prompt` and `completion`; add them".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::from_text;
    use super::*;

    #[test]
    fn prompt_and_completion_in_either_form() {
        for row in [
            r#"{"prompt":"Q","completion":" A"}"#,
            r#"{"prompt":[{"role":"user","content":"Q"}],"completion":[{"role":"assistant","content":" A"}]}"#,
            r#"{"prompt":"Q","completion":[{"role":"assistant","content":" A"}]}"#,
            r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":" A"}]}"#,
        ] {
            let records = from_text(read_demonstrations, row).unwrap();
            assert_eq!(records[0].messages, [Message::user("Q"), Message::assistant(" A")], "{row}");
            assert_eq!(records[0].prompt_len, 1, "{row}");
        }
    }

    #[test]
    fn every_turn_of_a_conversation_is_completion_after_the_first_answer() {
        let row = r#"{"messages":[{"role":"system","content":"S"},{"role":"user","content":"Q"},
            {"role":"assistant","content":"A"},{"role":"user","content":"R"},{"role":"assistant","content":"B"}]}"#;
        let record = from_text(read_demonstrations, &row.replace('\n', " ")).unwrap().remove(0);
        assert_eq!((record.messages.len(), record.prompt_len), (5, 2));
    }

    #[test]
    fn what_would_train_on_something_else_is_refused() {
        let check = |row: &str, expected: &str| {
            let error = from_text(read_demonstrations, row).unwrap_err();
            assert!(error.starts_with(&format!("f.jsonl:1: {expected}")), "{error}");
        };
        check(
            r#"{"prompt":"Q","completion":"A","label":false}"#,
            "has a `label`: this is TRL's unpaired-preference",
        );
        check(
            r#"{"messages":[{"role":"user","content":"Q"}]}"#,
            "field `messages`: has no message of the assistant",
        );
        check(
            r#"{"prompt":"Q","completion":[{"role":"user","content":"A"}]}"#,
            "field `completion`: has no message",
        );
        check(r#"{"prompt":"Q","completion":[]}"#, "field `completion`: has no message");
        check(r#"{"prompt":[],"completion":"A"}"#, "field `prompt`: has no messages");
        check(r#"{"text":"The sky is blue."}"#, "has only a `text`");
        check(r#"{"prompt":"Q","chosen":"A","rejected":"B"}"#, "is a preference pair");
        check(r#"{"instruction":"Q","output":"A"}"#, "has neither `messages` nor");
        check(r#"{"messages":[],"prompt":"Q"}"#, "has both");
        check(r#"{"prompt":"Q","completion":null}"#, "has neither");
    }
}
