//! Unpaired preferences: an answer with a label that says whether it is good, as KTO learns from. They are read to be described; no
//! objective here trains on them.
//!
//! Source: TRL's unpaired preference, <https://huggingface.co/docs/trl/dataset_formats#unpaired-preference>; LLaMA-Factory's `kto_tag`.

use std::path::Path;

use solon_records::Demonstration;

use super::demonstration::conversation;
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
    let mut is_good = None;
    for label in LABELS {
        is_good = is_good.or(row.get::<bool>(label)?);
    }
    let is_good =
        is_good.ok_or("missing field `label`: every row of this format says whether its answer is good")?;
    let (_, turns, prompt_len, _) = conversation(row)?;
    let messages: Vec<_> = turns.into_iter().map(|turn| turn.message).collect();
    let prompt_len = prompt_len.unwrap_or(messages.len().saturating_sub(1));
    let conversation = Demonstration { id, messages, prompt_len, not_learnt: Vec::new(), cut_off: false };
    Ok((Unpaired { conversation, is_good }, Form::Unpaired))
}

#[cfg(test)]
mod tests {
    use super::super::tests::from_text;
    use super::*;

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
}
