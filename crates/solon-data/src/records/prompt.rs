//! Prompts to answer: TRL's prompt-only format, as text or as a conversation.

use std::path::Path;

use serde::Deserialize;
use solon_records::{Message, Prompt};

use super::turns::{Turns, id};
use super::{Raw, hh, read_records};
use crate::DataError;

/// Reads prompts: one of `{"prompt": "…"}`, `{"prompt": [messages]}` or `{"messages": [messages]}` per line, with
/// optional `id`, `kind`, `category` and `pair`.
///
/// # Errors
/// Those of [`crate::jsonl::read_jsonl`]; [`DataError::Line`] for a row without a prompt or with an id already used.
pub fn read_prompts(path: &Path) -> Result<Vec<Prompt>, DataError> {
    read_records::<RawPrompt>(path)
}

#[derive(Deserialize)]
struct RawPrompt {
    #[serde(default, deserialize_with = "id")]
    id: Option<String>,
    prompt: Option<Turns>,
    messages: Option<Vec<Message>>,
    kind: Option<String>,
    category: Option<String>,
    #[serde(default, deserialize_with = "id")]
    pair: Option<String>,
}

impl Raw for RawPrompt {
    type Record = Prompt;

    fn id(&mut self) -> Option<String> {
        self.id.take()
    }

    fn normalise(self, id: String) -> Result<Prompt, String> {
        let (field, turns) = match (self.prompt, self.messages) {
            (Some(turns), None) => ("prompt", turns),
            (None, Some(messages)) => ("messages", Turns::Messages(messages)),
            (Some(_), Some(_)) => {
                return Err("has both `prompt` and `messages`; keep one of them".into());
            }
            (None, None) => {
                return Err("has neither `prompt` nor `messages`; add one of them".into());
            }
        };
        let messages = prompt_messages(field, turns)?;
        Ok(Prompt { id, messages, kind: self.kind, category: self.category, pair: self.pair })
    }
}

/// A prompt as messages: text becomes one message of the user, or the turns of an HH-RLHF transcript.
pub(super) fn prompt_messages(field: &str, turns: Turns) -> Result<Vec<Message>, String> {
    let messages = match turns {
        Turns::Text(text) if text.trim().is_empty() => {
            return Err(format!("field `{field}`: is empty"));
        }
        Turns::Text(text) => match hh::prompt_turns(&text) {
            Some(turns) => turns.map_err(|message| format!("field `{field}`: {message}"))?,
            None => vec![Message::user(text)],
        },
        Turns::Messages(messages) => messages,
    };
    match messages.last() {
        None => Err(format!("field `{field}`: has no messages")),
        Some(last) if last.is_assistant() => Err(format!(
            "field `{field}`: ends with the assistant's message, so there is nothing to answer; end it with the user's"
        )),
        Some(_) => Ok(messages),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::from_text;
    use super::*;

    #[test]
    fn all_three_forms_mean_the_same() {
        for form in [
            r#"{"prompt":"Hi"}"#,
            r#"{"prompt":[{"role":"user","content":"Hi"}],"messages":null}"#,
            r#"{"messages":[{"role":"user","content":"Hi"}],"other":1}"#,
            r#"{"prompt":"\n\nHuman: Hi\n\nAssistant:"}"#,
        ] {
            let records = from_text(read_prompts, form).unwrap();
            assert_eq!(records[0].messages, [Message::user("Hi")], "{form}");
        }
        let record =
            &from_text(read_prompts, r#"{"prompt":" Hi\n","kind":"red_team","category":"x"}"#).unwrap()[0];
        assert_eq!(record.messages[0].content, " Hi\n");
        assert_eq!((record.kind.as_deref(), record.category.as_deref()), (Some("red_team"), Some("x")));
    }

    #[test]
    fn a_record_written_as_json_is_read_back() {
        let record = from_text(read_prompts, r#"{"id":"a","prompt":"Hi","kind":"helpful","pair":"b"}"#)
            .unwrap()
            .remove(0);
        assert_eq!(record.pair.as_deref(), Some("b"));
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(from_text(read_prompts, &json).unwrap(), [record]);
    }

    #[test]
    fn rows_without_a_prompt_are_refused() {
        let check = |row: &str, expected: &str| {
            let error = from_text(read_prompts, row).unwrap_err();
            assert!(error.starts_with(&format!("f.jsonl:1: {expected}")), "{error}");
        };
        check("{}", "has neither `prompt` nor `messages`");
        check(r#"{"prompt":"a","messages":[]}"#, "has both `prompt` and `messages`");
        check(r#"{"prompt":" \n"}"#, "field `prompt`: is empty");
        check(r#"{"messages":[]}"#, "field `messages`: has no messages");
        check(
            r#"{"prompt":[{"role":"assistant","content":"a"}]}"#,
            "field `prompt`: ends with the assistant's message",
        );
        check(
            r#"{"prompt":3}"#,
            "field `prompt`: invalid type: integer `3`, expected a string or a list of messages",
        );
        check(
            r#"{"messages":[{"role":"user","content":"a"},{"role":"usr","content":"a"}]}"#,
            "field `messages[1].role`: unknown role `usr`",
        );
        check(r#"{"messages":[{"role":"user"}]}"#, "field `messages[0]`: missing field `content`");
        check("\"just text\"", "invalid type: string \"just text\"");
    }
}
