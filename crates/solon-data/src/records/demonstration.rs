//! Demonstrations for supervised fine-tuning: TRL's conversational language-modelling and prompt-completion formats, and LLaMA-Factory's
//! alpaca and sharegpt.

use std::path::Path;

use solon_records::{Demonstration, Message};

use super::columns::{refuse, refuse_system, restates, with_inputs};
use super::forms::{Form, only_one};
use super::prompt::prompt_turns;
use super::turn::Turn;
use super::turns::{Turns, messages};
use super::unpaired::is_unpaired;
use super::{DataFile, Ids, alpaca, read, read_with, sharegpt};
use crate::DataError;
use crate::rows::{Fault, Row, Shape};

/// Reads demonstrations: `{"messages": […]}`, or `{"prompt": …, "completion": …}` with a string or a list of messages for either, or
/// LLaMA-Factory's alpaca or sharegpt, with optional `id` and `cut_off`. A message of the assistant with `weight` 0 or `train` false is
/// context that is not learnt.
///
/// # Errors
/// [`DataError::Io`] and [`DataError::Format`] for a file that cannot be read; [`DataError::Line`] or [`DataError::Row`] for a row with
/// nothing to train on or in another format.
pub fn read_demonstrations(path: &Path) -> Result<Vec<Demonstration>, DataError> {
    Ok(open_demonstrations(path)?.records)
}

/// Reads demonstrations, with what the file is and which of its columns are not used.
///
/// # Errors
/// Those of [`read_demonstrations`].
pub fn open_demonstrations(path: &Path) -> Result<DataFile<Demonstration>, DataError> {
    read(path, demonstration)
}

/// The same for rows whose ids do not matter: they may repeat, and every row is called by its place.
///
/// # Errors
/// Those of [`read_demonstrations`], but for ids.
pub fn open_unnamed_demonstrations(path: &Path) -> Result<DataFile<Demonstration>, DataError> {
    read_with(path, Ids::OfPlaces, demonstration)
}

pub(super) fn demonstration(row: &mut Row, id: String) -> Result<(Demonstration, Form), Fault> {
    refuse(row)?;
    // The file says that some completions are bad; training on them would be wrong.
    if let Some(label) = ["label", "kto_tag"].into_iter().find(|label| row.has(label) && is_unpaired(row)) {
        return Err(format!(
            "has a `{label}`: this is TRL's unpaired-preference format (LLaMA-Factory's KTO), which is not trained on; to imitate the good \
             answers, keep the rows labelled true and remove the field"
        )
        .into());
    }
    let found = conversation(row)?;
    learnt(row, id, found)
}

/// A conversation with what of it is learnt, and all that stands beside it in its row. Columns that would be lost are refused before
/// ([`refuse`]).
pub(super) fn learnt(
    row: &mut Row,
    id: String,
    (column, turns, prompt_len, form): Conversation,
) -> Result<(Demonstration, Form), Fault> {
    let cut_off = row.get("cut_off")?.unwrap_or(false);
    let learns = |turn: &Turn| turn.message.is_assistant() && turn.learnt != Some(false);
    let from = prompt_len.unwrap_or(0);
    let Some(first) = (from..turns.len()).find(|place| learns(&turns[*place])) else {
        return Err(format!("field `{column}`: has no message of the assistant to train on").into());
    };
    // Where the row does not say where the prompt ends, everything before the first message that is learnt is the prompt.
    let prompt_len = prompt_len.unwrap_or(first);
    if let Some(place) =
        turns.iter().position(|turn| !turn.message.is_assistant() && turn.learnt == Some(true))
    {
        let role = &turns[place].message.role;
        return Err(format!(
            "field `{column}`: message {} says that a message of the {role} is to be learnt (`weight` 1 or `train` true), but only those \
             of the assistant are; take the field out",
            place + 1
        )
        .into());
    }
    let not_learnt = (prompt_len..turns.len())
        .filter(|place| turns[*place].message.is_assistant() && turns[*place].learnt == Some(false))
        .collect();
    let mut messages: Vec<Message> = turns.into_iter().map(|turn| turn.message).collect();
    if !matches!(form, Form::Alpaca | Form::Sharegpt) {
        refuse_system(row, &messages)?;
    }
    with_inputs(row, matches!(form, Form::Alpaca | Form::Sharegpt), &mut messages)?;
    Ok((Demonstration { id, messages, prompt_len, not_learnt, cut_off }, form))
}

/// The column that holds the answers, the whole conversation, where its prompt ends if the row says so, and the row's form.
pub(super) type Conversation = (&'static str, Vec<Turn>, Option<usize>, Form);

/// The conversation of a row.
pub(super) fn conversation(row: &mut Row) -> Result<Conversation, Fault> {
    match only_one(row, &["messages", sharegpt::COLUMN, "instruction", "completion"])? {
        Some("messages") => {
            let turns = messages(row, "messages")?.unwrap_or_default();
            if row.shape("prompt") == Shape::Text {
                let prompt: String = row.required("prompt")?;
                if !turns.iter().any(|turn| restates(&prompt, std::slice::from_ref(&turn.message))) {
                    return Err("has both `messages` and a `prompt` that is not in them; keep one of them".into());
                }
            } else if row.has("prompt") {
                return Err("has both `messages` and `prompt`; keep one of them".into());
            }
            Ok(("messages", turns, None, Form::Messages))
        }
        Some(sharegpt::COLUMN) => {
            if row.shape("chosen") != Shape::Absent {
                return Err(PREFERENCE.into());
            }
            Ok((sharegpt::COLUMN, sharegpt::conversation(row)?, None, Form::Sharegpt))
        }
        Some("instruction") if row.has("output") => {
            let mut turns = alpaca::question(row)?;
            turns.push(Turn::of(Message::assistant(row.required::<String>("output")?)));
            Ok(("output", turns, None, Form::Alpaca))
        }
        Some("completion") if row.has("prompt") => {
            // A prompt to answer must not end with the assistant's message, but this one may end with the first
            // words of the assistant's answer.
            let mut turns = match Turns::of(row, "prompt")? {
                Some(Turns::Messages(messages)) if !messages.is_empty() => messages,
                other => prompt_turns("prompt", other.unwrap_or(Turns::Messages(Vec::new())))?,
            };
            let prompt_len = turns.len();
            match Turns::of(row, "completion")?.unwrap_or(Turns::Messages(Vec::new())) {
                Turns::Text(text) => turns.push(Turn::of(Message::assistant(text))),
                Turns::Messages(completion) => turns.extend(completion),
                Turns::One(completion) => turns.push(*completion),
            }
            Ok(("completion", turns, Some(prompt_len), Form::PromptCompletion))
        }
        _ if row.has("chosen") || row.has("chosen_messages") => Err(PREFERENCE.into()),
        Some("instruction") => Err("has an `instruction` and no `output`; add the answer".into()),
        _ if row.has("text") => {
            Err("has a `text` without roles (TRL's language modelling), which is not trained on; write it as `prompt` and `completion`"
                .into())
        }
        _ => Err("has neither `messages` nor `prompt` and `completion`; add them (or `instruction` and `output`, or `conversations`)".into()),
    }
}

const PREFERENCE: &str = "is a preference pair; train on it with `solon reward` or `solon dpo`, or rename `chosen` to `completion`";

#[cfg(test)]
mod tests {
    use super::super::tests::from_text;
    use super::*;
    use solon_records::TemplateInputs;

    #[test]
    fn prompt_and_completion_in_either_form() {
        for row in [
            r#"{"prompt":"Q","completion":" A"}"#,
            r#"{"prompt":[{"role":"user","content":"Q"}],"completion":[{"role":"assistant","content":" A"}]}"#,
            r#"{"prompt":"Q","completion":[{"role":"assistant","content":" A"}]}"#,
            r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":" A"}]}"#,
            r#"{"prompt":"Q","messages":[{"role":"user","content":"Q"},{"role":"assistant","content":" A"}]}"#,
            r#"{"conversations":[{"from":"human","value":"Q"},{"from":"gpt","value":" A"}],"tools":"[]","system":""}"#,
            r#"{"conversations":[{"role":"user","content":"Q"},{"role":"assistant","content":" A"}]}"#,
            r#"{"instruction":"Q","input":"","output":" A","system":null,"history":[]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"text","value":"Q"}],"loss_weight":0.0},
                {"role":"assistant","content":[{"type":"text","value":" A"}],"loss_weight":1.0}]}"#,
        ] {
            let row = row.replace('\n', " ");
            let row = row.as_str();
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
    fn alpaca_has_a_system_message_a_history_and_an_input() {
        let row = r#"{"instruction":"I","input":"N","output":"O","system":"S","history":[["a","b"]],"text":"unused"}"#;
        let record = from_text(read_demonstrations, row).unwrap().remove(0);
        let expected = [
            Message::system("S"),
            Message::user("a"),
            Message::assistant("b"),
            Message::user("I\nN"),
            Message::assistant("O"),
        ];
        // The answers of the history are learnt too, as LLaMA-Factory does.
        assert_eq!((record.messages, record.prompt_len, record.not_learnt), (expected.to_vec(), 2, vec![]));
    }

    #[test]
    fn a_turn_may_be_left_out_of_training() {
        let row = |first: &str, last: &str| {
            format!(
                r#"{{"messages":[{{"role":"system","content":"S","weight":0}},{{"role":"user","content":"Q"}},
                {{"role":"assistant","content":"A"{first}}},{{"role":"user","content":"R","train":false}},
                {{"role":"assistant","content":"B"{last}}}]}}"#
            )
            .replace('\n', " ")
        };
        for (first, last, prompt_len, not_learnt) in [
            ("", "", 2, vec![]),
            (r#","weight":1"#, r#","train":true"#, 2, vec![]),
            // What stands before the first answer that is learnt is the prompt.
            (r#","weight":0"#, r#","weight":1"#, 4, vec![]),
            (r#","train":false"#, "", 4, vec![]),
            ("", r#","weight":0.0"#, 2, vec![4]),
        ] {
            let record = from_text(read_demonstrations, &row(first, last)).unwrap().remove(0);
            assert_eq!((record.prompt_len, record.not_learnt), (prompt_len, not_learnt), "{first} {last}");
        }
        let error = from_text(read_demonstrations, &row(r#","weight":0"#, r#","weight":0"#)).unwrap_err();
        assert!(error.contains("has no message of the assistant to train on"), "{error}");
        let error = from_text(read_demonstrations, &row(r#","weight":0.5"#, "")).unwrap_err();
        assert!(error.starts_with("f.jsonl:1: field `messages[2].weight`: the weight 0.5"), "{error}");
        let learnt_user =
            r#"{"messages":[{"role":"user","content":"Q","train":true},{"role":"assistant","content":"A"}]}"#;
        let error = from_text(read_demonstrations, learnt_user).unwrap_err();
        assert!(
            error.contains("field `messages`: message 1 says that a message of the user is to be learnt"),
            "{error}"
        );
        let explicit = r#"{"prompt":"Q","completion":[{"role":"assistant","content":"A","weight":0},{"role":"user","content":"R"},{"role":"assistant","content":"B"}]}"#;
        let record = from_text(read_demonstrations, explicit).unwrap().remove(0);
        assert_eq!((record.prompt_len, record.not_learnt), (1, vec![1]));
    }

    #[test]
    fn what_would_be_lost_is_refused_by_name() {
        let with = |extra: &str| format!(r#"{{"prompt":"Q","completion":"A",{extra}}}"#);
        for (extra, expected) in [
            (r#""tools":["f"]"#, "field `tools`: must be a list of objects"),
            (r#""functions":"f""#, "field `functions`: is a text that holds no JSON"),
            (r#""tools":[{"name":"f"}],"functions":[{"name":"f"}]"#, "has both `tools` and `functions`"),
            (
                r#""chat_template_kwargs":{"messages":false}"#,
                "field `chat_template_kwargs`: `messages` is no variable",
            ),
            (r#""images":["a.png"]"#, "field `images`: only text"),
            (r#""weight":0.5"#, "field `weight`: rows have no weights"),
            (r#""system":"Be brief.""#, "field `system`: is not part of this format"),
            (r#""kto_tag":true"#, "has a `kto_tag`"),
        ] {
            let error = from_text(read_demonstrations, &with(extra)).unwrap_err();
            assert!(error.starts_with(&format!("f.jsonl:1: {expected}")), "{error}");
        }
        let empty = r#""tools":[],"functions":null,"chat_template_kwargs":{},"images":NaN,"weight":1,"system":"","label":null"#;
        assert_eq!(from_text(read_demonstrations, &with(empty)).unwrap().len(), 1);
        let calls = r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":null,"tool_calls":[{"type":"function"}]}]}"#;
        let error = from_text(read_demonstrations, calls).unwrap_err();
        assert!(
            error.starts_with(
                "f.jsonl:1: field `messages[1].tool_calls`: `tool_calls`: call 1: has no `name`"
            ),
            "{error}"
        );
    }

    #[test]
    fn tools_are_read_in_every_form_with_what_goes_to_the_template() {
        let tool = serde_json::json!({"type": "function", "function": {"name": "f", "parameters": {}}});
        for row in [
            r#"{"prompt":"Q","completion":"A","tools":[TOOL],"chat_template_kwargs":{"x":1}}"#,
            r#"{"prompt":"Q","completion":"A","tools":"[TEXT]","chat_template_kwargs":{"x":1}}"#,
            r#"{"prompt":"Q","completion":"A","functions":[{"name":"f","parameters":{}}],"chat_template_kwargs":{"x":1}}"#,
            r#"{"conversations":[{"from":"human","value":"Q"},{"from":"gpt","value":"A"}],"tools":"[{\"name\":\"f\",\"parameters\":{}}]","chat_template_kwargs":{"x":1}}"#,
        ] {
            let row = row
                .replace("TOOL", &tool.to_string())
                .replace("TEXT", &tool.to_string().replace('"', "\\\""));
            let record = from_text(read_demonstrations, &row).unwrap().remove(0);
            let inputs = TemplateInputs::of(&record.messages).unwrap();
            assert_eq!(inputs.tools, std::slice::from_ref(&tool), "{row}");
            assert_eq!(inputs.chat_template_kwargs["x"], 1);
        }
    }

    #[test]
    fn sharegpts_calls_are_learnt_and_their_results_are_not() {
        let row = r#"{"conversations":[{"from":"human","value":"Q"},{"from":"function_call","value":"{\"name\":\"f\",\"arguments\":{}}"},
            {"from":"observation","value":"1"},{"from":"gpt","value":"A"}],"tools":"[]"}"#;
        let record = from_text(read_demonstrations, &row.replace('\n', " ")).unwrap().remove(0);
        let learnt: Vec<usize> = (0..4).filter(|place| record.learns(*place)).collect();
        assert_eq!((record.prompt_len, learnt), (1, vec![1, 3]));
        assert_eq!(record.messages[2], Message::new("tool", "1"));
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
        check(r#"{"text":"The sky is blue."}"#, "has a `text` without roles");
        check(r#"{"prompt":"Q","chosen":"A","rejected":"B"}"#, "is a preference pair");
        check(r#"{"instruction":"Q","input":"R"}"#, "has an `instruction` and no `output`");
        check(r#"{"instruction":" ","output":"A"}"#, "field `instruction`: is empty");
        check(r#"{"messages":[],"prompt":"Q"}"#, "has both");
        check(r#"{"messages":[{"role":"user","content":"Q"}],"instruction":"Q"}"#, "has both");
        check(
            r#"{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}],"label":true}"#,
            "has a `label`",
        );
        check(
            r#"{"conversations":[{"from":"system","value":"S"},{"from":"gpt","value":"A"}],"system":"T"}"#,
            "field `system`: differs",
        );
        check(
            r#"{"conversations":[{"from":"human","value":"Q"}],"chosen":{"from":"gpt","value":"A"}}"#,
            "is a preference pair",
        );
        check(r#"{"prompt":"Q","completion":null}"#, "has neither");
    }
}
