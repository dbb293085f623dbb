//! Answers that somebody gave to prompts, to be criticised and revised: `prompt` with `answer` or `completion`.

use std::path::Path;

use solon_records::Message;

use super::columns::{refuse, refuse_system, with_inputs};
use super::forms::{Form, only_one};
use super::preference::answer;
use super::prompt::prompt_messages;
use super::turns::Turns;
use super::{DataFile, Identified, read};
use crate::DataError;
use crate::rows::{Fault, Row};

/// A prompt with an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Its id.
    pub id: String,
    /// What is answered; it ends with the user's message.
    pub prompt: Vec<Message>,
    /// The answer.
    pub answer: String,
    /// What kind of prompt it is.
    pub kind: Option<String>,
    /// What it is about.
    pub category: Option<String>,
}

impl Identified for Answered {
    fn id_mut(&mut self) -> &mut String {
        &mut self.id
    }
}

/// Reads answers: `{"prompt": …, "answer": …}` with `completion` as another name of the answer, a text or a list of messages for the
/// prompt, a text or one message of the assistant for the answer, and optional `kind` and `category`.
///
/// # Errors
/// [`DataError::Io`] and [`DataError::Format`] for a file that cannot be read; [`DataError::Line`] or [`DataError::Row`] for a row without
/// a prompt or an answer, or with calls of tools or reasoning beside the answer's text.
pub fn open_answered(path: &Path) -> Result<DataFile<Answered>, DataError> {
    read(path, answered)
}

fn answered(row: &mut Row, id: String) -> Result<(Answered, Form), Fault> {
    refuse(row)?;
    let Some(column) = only_one(row, &["answer", "completion"])? else {
        return Err("has neither `answer` nor `completion`; add one of them".into());
    };
    let answer = answer(column, Turns::of(row, column)?.unwrap_or(Turns::Messages(Vec::new())))?;
    let prompt = Turns::of(row, "prompt")?.ok_or("missing field `prompt`")?;
    if !answer.beside.is_empty() {
        let what = "holds calls of tools or reasoning beside its text, and a critic reads the text alone; leave the row out";
        return Err(format!("field `{column}`: {what}").into());
    }
    let answer = answer.content;
    let mut prompt = prompt_messages("prompt", prompt)?;
    refuse_system(row, &prompt)?;
    with_inputs(row, false, &mut prompt)?;
    let answered = Answered { id, prompt, answer, kind: row.get("kind")?, category: row.get("category")? };
    Ok((answered, Form::PromptCompletion))
}

#[cfg(test)]
mod tests {
    use super::super::tests::from_text;
    use super::*;

    fn read(text: &str) -> Result<Vec<Answered>, String> {
        from_text(|path| Ok(open_answered(path)?.records), text)
    }

    #[test]
    fn prompts_and_answers_are_read_in_either_form() {
        for row in [
            r#"{"prompt":"Q","answer":" A"}"#,
            r#"{"prompt":"Q","completion":" A","answer":null}"#,
            r#"{"prompt":[{"role":"user","content":"Q"}],"completion":[{"role":"assistant","content":" A"}]}"#,
        ] {
            let read = read(row).unwrap().remove(0);
            assert_eq!((read.prompt, read.answer.as_str()), (vec![Message::user("Q")], " A"), "{row}");
        }
        let row = r#"{"id":7,"prompt":"Q","answer":"","kind":"k","category":"c"}"#;
        let read = read(row).unwrap().remove(0);
        let (kind, category) = (Some("k".to_owned()), Some("c".to_owned()));
        let expected = Answered {
            id: "7".into(),
            prompt: vec![Message::user("Q")],
            answer: String::new(),
            kind,
            category,
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn rows_that_hold_no_answer_are_refused() {
        let check = |row: &str, expected: &str| {
            let error = read(row).unwrap_err();
            assert!(error.starts_with(&format!("f.jsonl:1: {expected}")), "{error}");
        };
        check(r#"{"prompt":"Q"}"#, "has neither `answer` nor `completion`");
        check(r#"{"answer":"A"}"#, "missing field `prompt`");
        check(r#"{"prompt":"Q","answer":"A","completion":"A"}"#, "has both `answer` and `completion`");
        check(r#"{"prompt":"Q","answer":3}"#, "field `answer`: invalid type: integer `3`");
        check(r#"{"prompt":"Q","answer":"A","tools":[1]}"#, "field `tools`: ");
        let two = r#"[{"role":"assistant","content":"A"},{"role":"user","content":"R"}]"#;
        check(&format!(r#"{{"prompt":"Q","answer":{two}}}"#), "field `answer`: must be exactly one");
        let thought = r#"{"role":"assistant","content":"A","reasoning_content":"r"}"#;
        check(
            &format!(r#"{{"prompt":"Q","answer":{thought}}}"#),
            "field `answer`: holds calls of tools or reasoning",
        );
    }
}
