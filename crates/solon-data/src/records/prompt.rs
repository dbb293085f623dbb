//! Prompts to answer: TRL's prompt-only format, as text or as a conversation, and the questions of LLaMA-Factory's formats.

use std::path::Path;

use solon_records::{Message, Prompt};

use super::columns::{refuse, refuse_system, with_inputs};
use super::forms::{Form, only_one};
use super::turn::Turn;
use super::turns::{Id, Turns, messages, plain};
use super::{DataFile, alpaca, hh, read, sharegpt};
use crate::DataError;
use crate::rows::{Fault, Row};

/// Reads prompts: one of `{"prompt": "…"}`, `{"prompt": [messages]}` or `{"messages": [messages]}` in a row, or the question of
/// LLaMA-Factory's alpaca or sharegpt, with optional `id`, `kind`, `category` and `pair`.
///
/// # Errors
/// [`DataError::Io`] and [`DataError::Format`] for a file that cannot be read; [`DataError::Line`] or [`DataError::Row`] for a row without
/// a prompt or with an id already used.
pub fn read_prompts(path: &Path) -> Result<Vec<Prompt>, DataError> {
    Ok(open_prompts(path)?.records)
}

/// Reads prompts, with what the file is and which of its columns are not used.
///
/// # Errors
/// Those of [`read_prompts`].
pub fn open_prompts(path: &Path) -> Result<DataFile<Prompt>, DataError> {
    read(path, prompt)
}

pub(super) fn prompt(row: &mut Row, id: String) -> Result<(Prompt, Form), Fault> {
    refuse(row)?;
    let (column, turns, form) = match only_one(row, &["prompt", "messages", sharegpt::COLUMN, "instruction"])?
    {
        Some("prompt") => {
            let turns = Turns::of(row, "prompt")?.unwrap_or(Turns::Messages(Vec::new()));
            ("prompt", turns, Form::PromptOnly)
        }
        Some("messages") => {
            let turns = messages(row, "messages")?.unwrap_or_default();
            ("messages", Turns::Messages(turns), Form::Messages)
        }
        Some(sharegpt::COLUMN) => {
            (sharegpt::COLUMN, Turns::Messages(sharegpt::conversation(row)?), Form::Sharegpt)
        }
        Some("instruction") => ("instruction", Turns::Messages(alpaca::question(row)?), Form::Alpaca),
        _ => return Err("has neither `prompt` nor `messages`; add one of them".into()),
    };
    let mut messages = prompt_messages(column, turns)?;
    if matches!(form, Form::PromptOnly | Form::Messages) {
        refuse_system(row, &messages)?;
    }
    with_inputs(row, matches!(form, Form::Alpaca | Form::Sharegpt), &mut messages)?;
    let pair = row.get::<Id>("pair")?.map(|id| id.0);
    Ok((Prompt { id, messages, kind: row.get("kind")?, category: row.get("category")?, pair }, form))
}

/// A prompt as messages: text becomes one message of the user, or the turns of an HH-RLHF transcript.
pub(super) fn prompt_messages(field: &str, turns: Turns) -> Result<Vec<Message>, String> {
    let messages = plain(field, prompt_turns(field, turns)?)?;
    match messages.last() {
        None => Err(format!("field `{field}`: has no messages")),
        Some(last) if last.is_assistant() => Err(format!(
            "field `{field}`: ends with the assistant's message, so there is nothing to answer; end it with the user's"
        )),
        Some(_) => Ok(messages),
    }
}

/// A prompt as turns; it may end with the first words of an answer.
pub(super) fn prompt_turns(field: &str, turns: Turns) -> Result<Vec<Turn>, String> {
    let turns = match turns {
        Turns::Text(text) if text.trim().is_empty() => return Err(format!("field `{field}`: is empty")),
        Turns::Text(text) => match hh::prompt_turns(&text) {
            Some(turns) => {
                let turns = turns.map_err(|message| format!("field `{field}`: {message}"))?;
                turns.into_iter().map(Turn::of).collect()
            }
            None => vec![Turn::of(Message::user(text))],
        },
        Turns::Messages(turns) => turns,
        Turns::One(turn) => vec![*turn],
    };
    match turns.is_empty() {
        true => Err(format!("field `{field}`: has no messages")),
        false => Ok(turns),
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
            r#"{"instruction":"Hi","input":"","output":"unused"}"#,
            r#"{"conversations":[{"from":"human","value":"Hi"}]}"#,
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
        check("\"just text\"", "`\"just text\"` is no row");
        check(r#"{"instruction":"a","prompt":"b"}"#, "has both `prompt` and `instruction`");
        check(
            r#"{"prompt":[{"role":"assistant","content":"a","weight":0},{"role":"user","content":"b"}]}"#,
            "field `prompt[0]`: says that this answer is not to be learnt",
        );
        check(
            r#"{"prompt":"a \ud83d"}"#,
            "field `prompt`: the text holds half a character (`\\ud83d` stands alone)",
        );
    }
}
