//! Writes demonstrations and preferences in TRL's conversational formats, which TRL, OpenRLHF and others read.
//!
//! Contract: [`crate::records`] and TRL's trainers can read what is written here; what a conversation gives to its chat template is in the
//! columns `tools` and `chat_template_kwargs`. Files are replaced atomically. `id`
//! is kept as an extra column, so that a row leads back to the ledger; TRL ignores it.
//!
//! Source: <https://huggingface.co/docs/trl/dataset_formats>.

use std::path::Path;

use serde::Serialize;
use solon_records::{Demonstration, Message, Preference, Prompt, TemplateInputs};

use crate::DataError;
use crate::jsonl::write_jsonl;
use crate::records::LabelRow;

/// What [`write_demonstrations`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemonstrationExport {
    /// Rows written.
    pub rows: usize,
    /// Rows whose completion also holds turns that are not the assistant's. TRL trains on those turns too, unless
    /// `assistant_only_loss=True` is set in its `SFTConfig`. The caller should tell the user.
    pub rows_needing_assistant_only_loss: usize,
    /// Rows whose answer was cut off. Solon trains them without an end of turn; TRL would train the model to stop
    /// there. The caller should tell the user.
    pub rows_cut_off: usize,
    /// Rows with an answer that is not to be learnt, written with `weight` 0. Solon reads that; TRL would train on it. The caller
    /// should tell the user.
    pub rows_not_all_learnt: usize,
}

/// Writes demonstrations in TRL's conversational prompt-completion format, one row each.
///
/// # Errors
/// [`DataError::Record`] if `prompt_len` leaves no assistant message to train on; [`DataError::Io`] if the system
/// refuses. Then `path` is unchanged.
pub fn write_demonstrations(
    path: &Path,
    demonstrations: &[Demonstration],
) -> Result<DemonstrationExport, DataError> {
    #[derive(Serialize)]
    struct Row<'a> {
        id: &'a str,
        prompt: &'a [Message],
        completion: Vec<Turn<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        cut_off: bool,
        #[serde(flatten)]
        inputs: TemplateInputs,
    }
    #[derive(Serialize)]
    struct Turn<'a> {
        #[serde(flatten)]
        message: &'a Message,
        #[serde(skip_serializing_if = "Option::is_none")]
        weight: Option<u8>,
    }
    let mut rows = Vec::with_capacity(demonstrations.len());
    let (mut rows_needing_assistant_only_loss, mut rows_cut_off, mut rows_not_all_learnt) = (0, 0, 0);
    let apart: Vec<(Vec<Message>, TemplateInputs)> =
        demonstrations.iter().map(|demonstration| inputs_apart(&demonstration.messages)).collect();
    for (Demonstration { id, prompt_len, not_learnt, cut_off, .. }, (messages, inputs)) in
        demonstrations.iter().zip(&apart)
    {
        let (prompt, completion) = messages.split_at(*prompt_len.min(&messages.len()));
        if !completion.iter().any(Message::is_assistant) || prompt.is_empty() {
            return Err(DataError::Record {
                path: path.to_path_buf(),
                id: id.clone(),
                message: format!(
                    "with prompt_len {prompt_len} of {} messages it has no prompt, or no assistant message to \
                     train on; leave it out",
                    messages.len()
                ),
            });
        }
        if !completion.iter().all(Message::is_assistant) {
            rows_needing_assistant_only_loss += 1;
        }
        rows_cut_off += usize::from(*cut_off);
        rows_not_all_learnt += usize::from(!not_learnt.is_empty());
        let turn = |(place, message)| {
            let weight = not_learnt.contains(&place).then_some(0);
            Turn { message, weight }
        };
        let completion = (*prompt_len..).zip(completion).map(turn).collect();
        rows.push(Row { id, prompt, completion, cut_off: *cut_off, inputs: inputs.clone() });
    }
    write_jsonl(path, &rows)?;
    Ok(DemonstrationExport {
        rows: rows.len(),
        rows_needing_assistant_only_loss,
        rows_cut_off,
        rows_not_all_learnt,
    })
}

/// Writes preferences in TRL's conversational preference format with its `margin` and the extra columns `probability`,
/// `source` and `cut_off`.
///
/// TRL ignores `probability` and takes `chosen` as the better answer, so the preferences are oriented first
/// ([`Preference::oriented`]).
///
/// # Errors
/// [`DataError::Record`] for a probability outside [0, 1] or a margin that is not finite; [`DataError::Io`] if the
/// system refuses. Then `path` is unchanged.
pub fn write_preferences(path: &Path, preferences: &[Preference]) -> Result<(), DataError> {
    let rows: Vec<PreferenceRow> =
        preferences.iter().map(|preference| PreferenceRow::of(path, preference)).collect::<Result<_, _>>()?;
    write_jsonl(path, &rows)
}

/// Writes labelled pairs as [`write_preferences`] does, and those without a label with `first`, `second` and the reason in
/// `unlabelled`: nobody can train on such a row by mistake.
///
/// # Errors
/// Those of [`write_preferences`].
pub fn write_labels(path: &Path, rows: &[LabelRow]) -> Result<(), DataError> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Row<'a> {
        Labelled(Box<PreferenceRow>),
        Unlabelled {
            id: &'a str,
            prompt: Vec<Message>,
            first: &'a str,
            second: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            cut_off: Option<[bool; 2]>,
            unlabelled: &'a str,
            #[serde(flatten)]
            inputs: TemplateInputs,
        },
    }
    let rows = rows.iter().map(|row| match row {
        LabelRow::Labelled(preference) => {
            PreferenceRow::of(path, preference).map(|row| Row::Labelled(Box::new(row)))
        }
        LabelRow::Unlabelled { pair, reason } => {
            let (prompt, inputs) = inputs_apart(&pair.prompt);
            Ok(Row::Unlabelled {
                id: &pair.id,
                prompt,
                first: &pair.first,
                second: &pair.second,
                cut_off: Some(pair.cut_off).filter(|cut_off| *cut_off != [false; 2]),
                unlabelled: reason,
                inputs,
            })
        }
    });
    let rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
    write_jsonl(path, &rows)
}

/// Writes prompts in TRL's conversational prompt-only format, with the extra columns `kind`, `category` and `pair`.
///
/// # Errors
/// [`DataError::Io`] if the system refuses. Then `path` is unchanged.
pub fn write_prompts(path: &Path, prompts: &[&Prompt]) -> Result<(), DataError> {
    #[derive(Serialize)]
    struct Row {
        #[serde(flatten)]
        prompt: Prompt,
        #[serde(flatten)]
        inputs: TemplateInputs,
    }
    let row = |prompt: &&Prompt| {
        let (messages, inputs) = inputs_apart(&prompt.messages);
        Row { prompt: Prompt { messages, ..(*prompt).clone() }, inputs }
    };
    let rows: Vec<Row> = prompts.iter().map(row).collect();
    write_jsonl(path, &rows)
}

/// The messages, and apart from them what they hold for the chat template.
fn inputs_apart(messages: &[Message]) -> (Vec<Message>, TemplateInputs) {
    let mut messages = messages.to_vec();
    let inputs = TemplateInputs::take_off(&mut messages);
    (messages, inputs)
}

#[derive(Serialize)]
struct PreferenceRow {
    id: String,
    prompt: Vec<Message>,
    chosen: [Message; 1],
    rejected: [Message; 1],
    probability: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_off: Option<[bool; 2]>,
    #[serde(flatten)]
    inputs: TemplateInputs,
}

impl PreferenceRow {
    /// The row of a preference, oriented.
    fn of(path: &Path, preference: &Preference) -> Result<Self, DataError> {
        let refuse = |message: String| DataError::Record {
            path: path.to_path_buf(),
            id: preference.id.clone(),
            message,
        };
        let probability = preference.probability;
        if !(0.0..=1.0).contains(&probability) {
            let message = format!(
                "its probability is {probability}, which is not between 0 and 1; label it again or leave it out"
            );
            return Err(refuse(message));
        }
        if let Some(margin) = preference.margin.filter(|margin| !(*margin as f32).is_finite()) {
            let message =
                format!("its margin is {margin}, which is not finite; change it or leave the record out");
            return Err(refuse(message));
        }
        let mut oriented = preference.clone().oriented();
        let inputs = TemplateInputs::take_off(&mut oriented.prompt);
        let [chosen, rejected] = oriented.answers();
        Ok(Self {
            id: oriented.id,
            prompt: oriented.prompt,
            chosen: [chosen],
            rejected: [rejected],
            probability: oriented.probability,
            margin: oriented.margin,
            source: oriented.source,
            cut_off: Some(oriented.cut_off).filter(|cut_off| *cut_off != [false; 2]),
            inputs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{read_demonstrations, read_labels, read_pairs, read_preferences};
    use solon_records::Pair;
    use std::fs;

    fn pair(id: &str, probability: f64) -> Preference {
        Preference {
            id: id.into(),
            prompt: vec![Message::user("Q\u{2028}\n")],
            chosen: "A".into(),
            rejected: "".into(),
            probability,
            margin: (id == "cut").then_some(-1.5),
            source: (id == "a").then(|| "judge".into()),
            cut_off: [id == "cut", false],
            beside: Default::default(),
        }
    }

    #[test]
    fn a_pair_without_a_label_is_written_and_not_trained_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.jsonl");
        let without = Pair {
            id: "b".into(),
            prompt: vec![Message::user("Q")],
            first: "A".into(),
            second: "B".into(),
            cut_off: [true, false],
            principle_id: None,
        };
        let rows = [
            LabelRow::Labelled(pair("a", 0.75)),
            LabelRow::Unlabelled { pair: without.clone(), reason: "empty: no text".into() },
        ];
        write_labels(&path, &rows).unwrap();
        assert_eq!(read_labels(&path).unwrap(), rows);
        assert_eq!(read_preferences(&path).unwrap(), [pair("a", 0.75)]);
        let pairs = read_pairs(&path).unwrap();
        assert_eq!((pairs[0].first.as_str(), &pairs[1]), ("A", &without));
        fs::write(&path, r#"{"prompt":"Q","chosen":"A","rejected":"B","unlabelled":"x"}"#).unwrap();
        let error = read_preferences(&path).unwrap_err().to_string();
        assert!(error.contains("nothing is `chosen`"), "{error}");
    }

    #[test]
    fn pairs_are_read_back_and_the_likelier_answer_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        write_preferences(&path, &[pair("a", 0.1 + 0.5), pair("cut", 0.25), pair("c", 0.5)]).unwrap();
        let back = read_preferences(&path).unwrap();
        assert_eq!(back[0], pair("a", 0.1 + 0.5));
        assert_eq!(
            (back[1].chosen.as_str(), back[1].rejected.as_str(), back[1].probability, back[1].cut_off),
            ("", "A", 0.75, [false, true])
        );
        assert_eq!(back[1].margin, Some(1.5));
        assert_eq!(back[2], pair("c", 0.5));
    }

    #[test]
    fn a_pair_is_written_as_trl_documents_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        write_preferences(&path, &[pair("b", 1.0)]).unwrap();
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
        write_preferences(&path, &[pair("a", 1.0)]).unwrap();
        let with_margin = |margin| Preference { margin: Some(margin), ..pair("c", 1.0) };
        let mut bad = [f64::NAN, 1.5, -0.1].map(|probability| pair("c", probability)).to_vec();
        bad.extend([f64::NAN, f64::NEG_INFINITY, 1e39].map(with_margin));
        for bad in bad {
            let error = write_preferences(&path, &[pair("b", 1.0), bad]).unwrap_err();
            assert!(error.to_string().starts_with("record `c` cannot be written"), "{error}");
        }
        assert_eq!(read_preferences(&path).unwrap(), [pair("a", 1.0)]);
    }

    #[test]
    fn demonstrations_are_read_back_and_turns_needing_a_mask_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demonstrations.jsonl");
        let turns = ["Q", "A", "R", "B"].iter().enumerate().map(|(index, text)| {
            if index % 2 == 0 { Message::user(*text) } else { Message::assistant(*text) }
        });
        let messages: Vec<_> = turns.collect();
        let demonstration = |id: &str, prompt_len| Demonstration {
            id: id.into(),
            messages: messages.clone(),
            prompt_len,
            not_learnt: Vec::new(),
            cut_off: id == "b",
        };
        let partly = Demonstration { not_learnt: vec![3], ..demonstration("d", 1) };
        let all = [demonstration("a", 1), demonstration("b", 3), partly];
        let summary = write_demonstrations(&path, &all).unwrap();
        assert_eq!(
            summary,
            DemonstrationExport {
                rows: 3,
                rows_needing_assistant_only_loss: 2,
                rows_cut_off: 1,
                rows_not_all_learnt: 1
            }
        );
        assert_eq!(read_demonstrations(&path).unwrap(), all);
        for prompt_len in [0, 4, 99] {
            let error = write_demonstrations(&path, &[demonstration("c", prompt_len)]).unwrap_err();
            assert!(error.to_string().starts_with("record `c`"), "{error}");
        }
        assert_eq!(read_demonstrations(&path).unwrap(), all);
    }

    #[test]
    fn calls_and_tools_are_written_as_columns_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let row = r#"{"id":"a","prompt":[{"role":"user","content":"Q"},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":{"x":1}}}]},
            {"role":"tool","content":"2","tool_call_id":"1","name":"f"}],ANSWERS,
            "tools":[{"type":"function","function":{"name":"f"}}],"chat_template_kwargs":{"enable_thinking":false}}"#
            .replace('\n', "");
        let kept = |written: &str| {
            let written: serde_json::Value = serde_json::from_str(written).unwrap();
            assert_eq!(written["tools"][0]["function"]["name"], "f", "{written}");
            assert_eq!(written["chat_template_kwargs"]["enable_thinking"], false);
            assert_eq!(written["prompt"][0], serde_json::json!({"role": "user", "content": "Q"}));
        };
        fs::write(
            &path,
            row.replace(
                "ANSWERS",
                r#""completion":[{"role":"assistant","content":"A","reasoning_content":"r"}]"#,
            ),
        )
        .unwrap();
        let read = read_demonstrations(&path).unwrap();
        assert_eq!(read[0].messages[3].beside.reasoning(), Some("r"));
        write_demonstrations(&path, &read).unwrap();
        kept(&fs::read_to_string(&path).unwrap());
        assert_eq!(read_demonstrations(&path).unwrap(), read);

        let calls = r#"[{"role":"assistant","tool_calls":[{"function":{"name":"g","arguments":"{}"}}]}]"#;
        fs::write(
            &path,
            row.replace("ANSWERS", &format!(r#""chosen":{calls},"rejected":"B","probability":0.25"#)),
        )
        .unwrap();
        let read: Vec<_> = read_preferences(&path).unwrap().into_iter().map(Preference::oriented).collect();
        assert_eq!((read[0].chosen.as_str(), read[0].beside[1].tool_calls().len()), ("B", 1));
        let error = read_pairs(&path).unwrap_err().to_string();
        assert!(error.contains("rows.jsonl:1: has an answer with calls of tools"), "{error}");
        write_preferences(&path, &read).unwrap();
        kept(&fs::read_to_string(&path).unwrap());
        assert_eq!(read_preferences(&path).unwrap(), read);

        fs::write(&path, row.replace(",ANSWERS", "")).unwrap();
        let read = crate::records::read_prompts(&path).unwrap();
        write_prompts(&path, &read.iter().collect::<Vec<_>>()).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        kept(&written.replace("messages", "prompt"));
        assert_eq!(crate::records::read_prompts(&path).unwrap(), read);
    }
}
