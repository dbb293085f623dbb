//! Demonstrations and pairs in TRL's conversational formats, for TRL, OpenRLHF and whoever reads them.
//!
//! Contract: what is written here is read back by [`crate::records`] and by TRL's trainers. Files are replaced
//! atomically. `id` is kept as an extra column, so that a row leads back to the ledger; TRL ignores it.
//!
//! Source: <https://huggingface.co/docs/trl/dataset_formats>.

use std::path::Path;

use serde::Serialize;

use crate::DataError;
use crate::jsonl::write_jsonl;
use crate::records::{ChatMessage, Demonstration, PreferencePair, ends};

/// What a demonstration file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemonstrationExport {
    /// Rows written.
    pub rows: usize,
    /// Rows whose completion holds other turns than the assistant's. TRL trains on those turns too, unless
    /// `assistant_only_loss=True` is set in its `SFTConfig`; tell the user.
    pub rows_needing_assistant_only_loss: usize,
    /// Rows whose answer was cut off, which Solon learns without their end. TRL would learn to stop there; tell the user.
    pub rows_cut_off: usize,
}

/// Writes demonstrations in TRL's conversational prompt-completion format, one row each.
///
/// # Errors
/// [`DataError::Record`] when `prompt_len` leaves no message of the assistant; [`DataError::Io`] when the system
/// refuses. Then `path` is unchanged.
pub fn write_demonstrations(
    path: &Path,
    demonstrations: &[Demonstration],
) -> Result<DemonstrationExport, DataError> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        prompt: &'a [ChatMessage],
        completion: &'a [ChatMessage],
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        cut_off: bool,
    }
    let mut rows = Vec::with_capacity(demonstrations.len());
    let (mut rows_needing_assistant_only_loss, mut rows_cut_off) = (0, 0);
    for Demonstration { id, messages, prompt_len, cut_off } in demonstrations {
        let (prompt, completion) = messages.split_at(*prompt_len.min(&messages.len()));
        if !completion.iter().any(ChatMessage::is_assistant) || prompt.is_empty() {
            return Err(DataError::Record {
                path: path.to_path_buf(),
                id: id.clone(),
                message: format!(
                    "with prompt_len {prompt_len} of {} messages it has no prompt or no message of the assistant to \
                     train on; leave it out",
                    messages.len()
                ),
            });
        }
        if !completion.iter().all(ChatMessage::is_assistant) {
            rows_needing_assistant_only_loss += 1;
        }
        rows_cut_off += usize::from(*cut_off);
        rows.push(Row { id, prompt, completion, cut_off: *cut_off });
    }
    write_jsonl(path, &rows)?;
    Ok(DemonstrationExport { rows: rows.len(), rows_needing_assistant_only_loss, rows_cut_off })
}

/// Writes pairs in TRL's conversational preference format with the extra columns `probability` and `source`.
///
/// TRL knows no `probability` and takes `chosen` for the better answer, so a pair below one half is written with its
/// answers exchanged and `1 - probability`.
///
/// # Errors
/// [`DataError::Record`] for a probability outside [0, 1]; [`DataError::Io`] when the system refuses. Then `path` is
/// unchanged.
pub fn write_pairs(path: &Path, pairs: &[PreferencePair]) -> Result<(), DataError> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        prompt: &'a [ChatMessage],
        chosen: [ChatMessage; 1],
        rejected: [ChatMessage; 1],
        probability: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<&'a str>,
        #[serde(skip_serializing_if = "ends")]
        cut_off: [bool; 2],
    }
    let mut rows = Vec::with_capacity(pairs.len());
    for PreferencePair { id, prompt, chosen, rejected, probability, source, cut_off } in pairs {
        let [first, second] = *cut_off;
        let (better, worse, probability, cut_off) = match *probability {
            p if (0.5..=1.0).contains(&p) => (chosen, rejected, p, [first, second]),
            p if (0.0..0.5).contains(&p) => (rejected, chosen, 1.0 - p, [second, first]),
            p => {
                return Err(DataError::Record {
                    path: path.to_path_buf(),
                    id: id.clone(),
                    message: format!(
                        "its probability is {p}, which is not between 0 and 1; label it again or leave it out"
                    ),
                });
            }
        };
        rows.push(Row {
            id,
            prompt,
            chosen: [ChatMessage::assistant(better)],
            rejected: [ChatMessage::assistant(worse)],
            probability,
            source: source.as_deref(),
            cut_off,
        });
    }
    write_jsonl(path, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{read_demonstrations, read_pairs};
    use std::fs;

    fn pair(id: &str, probability: f64) -> PreferencePair {
        PreferencePair {
            id: id.into(),
            prompt: vec![ChatMessage::user("Q\u{2028}\n")],
            chosen: "A".into(),
            rejected: "".into(),
            probability,
            source: (id == "a").then(|| "judge".into()),
            cut_off: [id == "cut", false],
        }
    }

    #[test]
    fn pairs_are_read_back_and_the_likelier_answer_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        write_pairs(&path, &[pair("a", 0.1 + 0.5), pair("cut", 0.25), pair("c", 0.5)]).unwrap();
        let back = read_pairs(&path).unwrap();
        assert_eq!(back[0], pair("a", 0.1 + 0.5));
        assert_eq!(
            (back[1].chosen.as_str(), back[1].rejected.as_str(), back[1].probability, back[1].cut_off),
            ("", "A", 0.75, [false, true])
        );
        assert_eq!(back[2], pair("c", 0.5));
    }

    #[test]
    fn a_pair_is_written_as_trl_documents_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        write_pairs(&path, &[pair("b", 1.0)]).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"id\":\"b\",\"prompt\":[{\"role\":\"user\",\"content\":\"Q\u{2028}\\n\"}],\
             \"chosen\":[{\"role\":\"assistant\",\"content\":\"A\"}],\
             \"rejected\":[{\"role\":\"assistant\",\"content\":\"\"}],\"probability\":1.0}\n"
        );
    }

    #[test]
    fn a_bad_pair_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        write_pairs(&path, &[pair("a", 1.0)]).unwrap();
        for probability in [f64::NAN, 1.5, -0.1] {
            let error = write_pairs(&path, &[pair("b", 1.0), pair("c", probability)]).unwrap_err();
            assert!(error.to_string().starts_with("record `c` cannot be written"), "{error}");
        }
        assert_eq!(read_pairs(&path).unwrap(), [pair("a", 1.0)]);
    }

    #[test]
    fn demonstrations_are_read_back_and_turns_needing_a_mask_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demonstrations.jsonl");
        let turns = ["Q", "A", "R", "B"].iter().enumerate().map(|(index, text)| {
            if index % 2 == 0 { ChatMessage::user(*text) } else { ChatMessage::assistant(*text) }
        });
        let messages: Vec<_> = turns.collect();
        let demonstration = |id: &str, prompt_len| Demonstration {
            id: id.into(),
            messages: messages.clone(),
            prompt_len,
            cut_off: id == "b",
        };
        let all = [demonstration("a", 1), demonstration("b", 3)];
        let summary = write_demonstrations(&path, &all).unwrap();
        assert_eq!(
            summary,
            DemonstrationExport { rows: 2, rows_needing_assistant_only_loss: 1, rows_cut_off: 1 }
        );
        assert_eq!(read_demonstrations(&path).unwrap(), all);
        for prompt_len in [0, 4, 99] {
            let error = write_demonstrations(&path, &[demonstration("c", prompt_len)]).unwrap_err();
            assert!(error.to_string().starts_with("record `c`"), "{error}");
        }
        assert_eq!(read_demonstrations(&path).unwrap(), all);
    }
}
