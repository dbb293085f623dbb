//! Unpaired preferences: an answer with a label that says whether it is good, as KTO learns from. They are read to be described; no
//! objective here trains on them.
//!
//! Source: TRL's unpaired preference, <https://huggingface.co/docs/trl/dataset_formats#unpaired-preference>; LLaMA-Factory's `kto_tag`.

use std::path::Path;

use solon_records::Demonstration;

use super::columns::refuse;
use super::demonstration::{conversation, learnt};
use super::forms::Form;
use super::{DataFile, read, sharegpt};
use crate::DataError;
use crate::rows::{Fault, Row};

/// The columns of the label.
const LABELS: [&str; 2] = ["label", "kto_tag"];

/// An answer, and whether it is good.
#[derive(Debug, Clone, PartialEq)]
pub struct Unpaired {
    /// The prompt and the answer.
    pub conversation: Demonstration,
    /// The label.
    pub is_good: bool,
}

/// Reads unpaired preferences.
///
/// # Errors
/// [`DataError::Io`] and [`DataError::Format`] for a file that cannot be read; [`DataError::Line`] or [`DataError::Row`] for a row in
/// another format.
pub fn open_unpaired(path: &Path) -> Result<DataFile<Unpaired>, DataError> {
    read(path, unpaired)
}

/// Whether a row says of one answer how good it is.
pub(super) fn is_unpaired(row: &Row) -> bool {
    let answers = ["completion", "messages", sharegpt::COLUMN, "output"];
    LABELS.iter().any(|label| row.has(label)) && answers.iter().any(|answer| row.has(answer))
}

fn unpaired(row: &mut Row, id: String) -> Result<(Unpaired, Form), Fault> {
    refuse(row)?;
    let mut is_good = None;
    for label in LABELS {
        is_good = is_good.or(row.get::<bool>(label)?);
    }
    let is_good =
        is_good.ok_or("missing field `label`: every row of this format says whether its answer is good")?;
    let (column, turns, prompt_len, form) = conversation(row)?;
    // The label is about the last answer.
    let prompt_len = prompt_len.unwrap_or(turns.len().saturating_sub(1));
    let (conversation, _) = learnt(row, id, (column, turns, Some(prompt_len), form))?;
    Ok((Unpaired { conversation, is_good }, Form::Unpaired))
}

#[cfg(test)]
mod tests {
    use super::super::tests::from_text;
    use super::*;
    use solon_records::TemplateInputs;

    #[test]
    fn labels_are_read_in_trls_and_llama_factorys_form() {
        let rows = r#"{"prompt":"Q","completion":"A","label":true}
{"messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"B"}],"kto_tag":false}"#;
        let read = from_text(|path| Ok(open_unpaired(path)?.records), rows).unwrap();
        let found: Vec<_> =
            read.iter().map(|row| (row.conversation.messages[1].content.as_str(), row.is_good)).collect();
        assert_eq!(found, [("A", true), ("B", false)]);
        let error = from_text(|path| Ok(open_unpaired(path)?.records), r#"{"prompt":"Q","completion":"A"}"#)
            .unwrap_err();
        assert!(error.starts_with("f.jsonl:1: missing field `label`"), "{error}");
    }

    #[test]
    fn what_stands_beside_a_conversation_is_read_as_in_demonstrations() {
        let read = |row: &str| from_text(|path| Ok(open_unpaired(path)?.records), row);
        let row = |extra: &str| format!(r#"{{"prompt":"Q","completion":"A","label":true,{extra}}}"#);
        let found = read(&row(r#""tools":[{"name":"f"}],"cut_off":true"#)).unwrap().remove(0).conversation;
        let inputs = TemplateInputs::of(&found.messages).unwrap();
        assert_eq!((inputs.tools.len(), found.cut_off), (1, true));
        for (extra, expected) in [
            (r#""images":["a.png"]"#, "field `images`: only text"),
            (r#""system":"Be brief.""#, "field `system`: is not part of this format"),
        ] {
            let error = read(&row(extra)).unwrap_err();
            assert!(error.starts_with(&format!("f.jsonl:1: {expected}")), "{error}");
        }
        let turns = |weights: [u8; 2]| {
            let [first, last] = weights;
            format!(
                r#"{{"label":true,"messages":[{{"role":"user","content":"Q"}},{{"role":"assistant","content":"A","weight":{first}}},{{"role":"user","content":"R"}},{{"role":"assistant","content":"B","weight":{last}}}]}}"#
            )
        };
        assert_eq!(read(&turns([0, 1])).unwrap()[0].conversation.prompt_len, 3);
        let error = read(&turns([1, 0])).unwrap_err();
        assert!(error.contains("field `messages`: has no message of the assistant to train on"), "{error}");
    }
}
