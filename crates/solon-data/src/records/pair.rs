//! Preference pairs: TRL's preference formats with explicit or implicit prompt, HH-RLHF's transcripts, and a soft label.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use super::message::{ChatMessage, Turns, id};
use super::prompt::prompt_messages;
use super::{Raw, hh, read_records};
use crate::DataError;

/// Two answers to one prompt, and how sure it is that the first is the better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreferencePair {
    /// Unique in its file; `line-N` where the file gives none.
    pub id: String,
    /// The conversation both answer; its last message is not the assistant's.
    pub prompt: Vec<ChatMessage>,
    /// The answer preferred with `probability`.
    pub chosen: String,
    /// The other answer.
    pub rejected: String,
    /// P(`chosen` is better), in [0, 1]; 1 where the file gives none.
    pub probability: f64,
    /// Where the label came from, such as a judge's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether `chosen` and `rejected` were cut off: neither is then followed by an end of turn.
    #[serde(default, skip_serializing_if = "ends")]
    pub cut_off: [bool; 2],
}

pub(crate) fn ends(cut_off: &[bool; 2]) -> bool {
    *cut_off == [false; 2]
}

/// Reads preference pairs, one per line, in any of these forms, with optional `id`, `probability`, `source` and `cut_off`:
/// - `prompt` (string or messages), `chosen` and `rejected` (strings, or lists of one message of the assistant);
/// - `chosen` and `rejected` as lists of messages that share all but the last;
/// - `chosen` and `rejected` as HH-RLHF transcripts.
///
/// # Errors
/// Those of [`crate::jsonl::read_jsonl`]; [`DataError::Line`] for a row in none of these forms, or with a `probability`
/// that is null, not a number, or outside [0, 1].
pub fn read_pairs(path: &Path) -> Result<Vec<PreferencePair>, DataError> {
    read_records::<RawPair>(path)
}

#[derive(Deserialize)]
struct RawPair {
    #[serde(default, deserialize_with = "id")]
    id: Option<String>,
    prompt: Option<Turns>,
    chosen: Turns,
    rejected: Turns,
    #[serde(default = "certain", deserialize_with = "probability")]
    probability: f64,
    source: Option<String>,
    #[serde(default)]
    cut_off: [bool; 2],
}

fn certain() -> f64 {
    1.0
}

/// Null is refused and not read as 1: pandas writes a missing or failed label so.
fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let probability = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&probability) {
        return Ok(probability);
    }
    Err(serde::de::Error::custom(format!("{probability} is no probability; give a number from 0 to 1")))
}

impl Raw for RawPair {
    type Record = PreferencePair;

    fn id(&mut self) -> Option<String> {
        self.id.take()
    }

    fn normalise(self, id: String) -> Result<PreferencePair, String> {
        let (prompt, chosen, rejected) = match (self.prompt, self.chosen, self.rejected) {
            (Some(prompt), chosen, rejected) => {
                (prompt_messages("prompt", prompt)?, answer("chosen", chosen)?, answer("rejected", rejected)?)
            }
            (None, Turns::Messages(chosen), Turns::Messages(rejected)) => split_messages(chosen, rejected)?,
            (None, Turns::Text(chosen), Turns::Text(rejected))
                if hh::is_transcript(&chosen) && hh::is_transcript(&rejected) =>
            {
                let (prompt, chosen, rejected) = hh::split_pair(&chosen, &rejected)?;
                (prompt_messages("chosen", Turns::Messages(prompt))?, chosen, rejected)
            }
            // TRL cuts plain texts at their longest common beginning; two good answers often begin alike, so we do not.
            (None, ..) => {
                return Err(
                    "has no `prompt`, and `chosen` and `rejected` show none; add a `prompt` field".into()
                );
            }
        };
        Ok(PreferencePair {
            id,
            prompt,
            chosen,
            rejected,
            probability: self.probability,
            source: self.source,
            cut_off: self.cut_off,
        })
    }
}

fn answer(field: &str, turns: Turns) -> Result<String, String> {
    match turns {
        Turns::Text(text) => Ok(text),
        Turns::Messages(messages) => match <[ChatMessage; 1]>::try_from(messages) {
            Ok([message]) if message.is_assistant() => Ok(message.content),
            _ => Err(format!(
                "field `{field}`: must be exactly one message of the assistant; move the rest to `prompt`"
            )),
        },
    }
}

/// The implicit prompt: what the two conversations share before their last message.
fn split_messages(
    mut chosen: Vec<ChatMessage>,
    mut rejected: Vec<ChatMessage>,
) -> Result<(Vec<ChatMessage>, String, String), String> {
    let last = |field: &str, messages: &mut Vec<ChatMessage>| match messages.pop() {
        Some(message) if message.is_assistant() => Ok(message.content),
        _ => Err(format!("field `{field}`: does not end with a message of the assistant")),
    };
    let chosen_answer = last("chosen", &mut chosen)?;
    let rejected_answer = last("rejected", &mut rejected)?;
    if chosen != rejected {
        return Err(
            "`chosen` and `rejected` differ before their last message; a pair must share its prompt".into()
        );
    }
    Ok((prompt_messages("chosen", Turns::Messages(chosen))?, chosen_answer, rejected_answer))
}

#[cfg(test)]
mod tests {
    use super::super::tests::from_text;
    use super::*;

    #[test]
    fn every_form_gives_the_same_pair() {
        for row in [
            r#"{"prompt":"Q","chosen":"A","rejected":"B"}"#,
            r#"{"prompt":[{"role":"user","content":"Q"}],"chosen":[{"role":"assistant","content":"A"}],"rejected":"B"}"#,
            r#"{"chosen":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}],"rejected":[{"role":"user","content":"Q"},{"role":"assistant","content":"B"}]}"#,
            r#"{"chosen":"\n\nHuman: Q\n\nAssistant: A","rejected":"\n\nHuman: Q\n\nAssistant: B"}"#,
            r#"{"prompt":"\n\nHuman: Q\n\nAssistant:","chosen":"A","rejected":"B"}"#,
        ] {
            let pair = from_text(read_pairs, row).unwrap().remove(0);
            assert_eq!(pair.prompt, [ChatMessage::user("Q")], "{row}");
            assert_eq!(
                (pair.chosen.as_str(), pair.rejected.as_str(), pair.probability),
                ("A", "B", 1.0),
                "{row}"
            );
        }
    }

    #[test]
    fn a_soft_label_and_its_source_are_kept_to_the_bit() {
        let pair = PreferencePair {
            id: "p".into(),
            prompt: vec![ChatMessage::user("Q")],
            chosen: "A".into(),
            rejected: "B".into(),
            probability: 0.1 + 0.2,
            source: Some("judge".into()),
            cut_off: [true, false],
        };
        let back = from_text(read_pairs, &serde_json::to_string(&pair).unwrap()).unwrap();
        assert_eq!(back, [pair]);
    }

    #[test]
    fn probabilities_that_are_none_are_refused() {
        for value in ["1.0001", "-1e-9", "null", "\"0.5\"", "NaN", "Infinity", "1e999", "[]"] {
            let row = format!(r#"{{"prompt":"Q","chosen":"A","rejected":"B","probability":{value}}}"#);
            let error = from_text(read_pairs, &row).unwrap_err();
            assert!(error.starts_with("f.jsonl:1: field `probability`: "), "{value}: {error}");
        }
        for (value, expected) in [("0", 0.0), ("1", 1.0), ("-0.0", 0.0), ("5e-1", 0.5)] {
            let row = format!(r#"{{"prompt":"Q","chosen":"A","rejected":"B","probability":{value}}}"#);
            assert_eq!(from_text(read_pairs, &row).unwrap()[0].probability, expected);
        }
    }

    #[test]
    fn rows_that_are_no_pair_are_refused() {
        let check = |row: &str, expected: &str| {
            let error = from_text(read_pairs, row).unwrap_err();
            assert!(error.starts_with(&format!("f.jsonl:1: {expected}")), "{error}");
        };
        let (u, a) = (r#"{"role":"user","content":"Q"}"#, r#"{"role":"assistant","content":"A"}"#);
        check(r#"{"prompt":"Q","chosen":"A"}"#, "missing field `rejected`");
        check(r#"{"chosen":"The sky is blue.","rejected":"The sky is green."}"#, "has no `prompt`");
        check(
            &format!(r#"{{"chosen":[{u},{a}],"rejected":[{a}]}}"#),
            "`chosen` and `rejected` differ before",
        );
        check(&format!(r#"{{"chosen":[{u},{a}],"rejected":[{u}]}}"#), "field `rejected`: does not end");
        check(r#"{"chosen":[],"rejected":[]}"#, "field `chosen`: does not end");
        check(&format!(r#"{{"chosen":[{a}],"rejected":[{a}]}}"#), "field `chosen`: has no messages");
        check(
            &format!(r#"{{"prompt":"Q","chosen":[{u},{a}],"rejected":"B"}}"#),
            "field `chosen`: must be exactly one",
        );
        check(
            &format!(r#"{{"prompt":[{u},{a}],"chosen":"A","rejected":"B"}}"#),
            "field `prompt`: ends with the assistant",
        );
        check(&format!(r#"{{"chosen":[{u},{a}],"rejected":"B"}}"#), "has no `prompt`");
    }
}
