//! Preferences: TRL's preference formats with explicit or implicit prompt, HH-RLHF's transcripts, a soft label, a margin.

use std::path::Path;

use serde::{Deserialize, Deserializer};
use solon_records::{Message, Pair, Preference};

use super::prompt::prompt_messages;
use super::turns::{Turns, id};
use super::{Raw, hh, read_records};
use crate::DataError;

/// Reads preferences as they stand in the file (not oriented), one per line, in any of these forms, with optional `id`,
/// `probability`, `margin`, `source` and `cut_off`:
/// - `prompt` (string or messages), `chosen` and `rejected` (strings, or lists of one message of the assistant);
/// - `chosen` and `rejected` as lists of messages that share all but the last;
/// - `chosen` and `rejected` as HH-RLHF transcripts.
///
/// # Errors
/// Those of [`crate::jsonl::read_jsonl`]; [`DataError::Line`] for a row in none of these forms, or with a `probability`
/// that is null, not a number, or outside [0, 1], or a `margin` that is null, not a number, or infinite as an `f32`.
pub fn read_preferences(path: &Path) -> Result<Vec<Preference>, DataError> {
    let rows = read_labels(path)?;
    let labelled = rows.into_iter().filter_map(|row| match row {
        LabelRow::Labelled(preference) => Some(preference),
        LabelRow::Unlabelled { .. } => None,
    });
    Ok(labelled.collect())
}

/// Reads the same files for their pairs, whatever their labels: the first answer is the one in `chosen`, and a row without a label
/// is a pair like the others.
///
/// # Errors
/// Those of [`read_preferences`].
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>, DataError> {
    let pair = |row| match row {
        LabelRow::Labelled(row) => Pair {
            id: row.id,
            prompt: row.prompt,
            first: row.chosen,
            second: row.rejected,
            cut_off: row.cut_off,
            principle_id: None,
        },
        LabelRow::Unlabelled { pair, .. } => pair,
    };
    Ok(read_labels(path)?.into_iter().map(pair).collect())
}

/// Reads preferences, and rows of `id`, `prompt`, `first`, `second` and `unlabelled`: pairs that were to be labelled, with the reason
/// why they have no label.
///
/// # Errors
/// Those of [`read_preferences`].
pub fn read_labels(path: &Path) -> Result<Vec<LabelRow>, DataError> {
    read_records::<RawPreference>(path)
}

/// Reads one row, which is a JSON value.
///
/// # Errors
/// What is wrong with it.
pub fn parse_preference(row: serde_json::Value, id: String) -> Result<Preference, String> {
    let raw: RawPreference = serde_json::from_value(row).map_err(|error| error.to_string())?;
    match raw.normalise(id)? {
        LabelRow::Labelled(preference) => Ok(preference),
        LabelRow::Unlabelled { .. } => Err("is a pair without a label".to_owned()),
    }
}

/// A pair that was to be labelled.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelRow {
    /// It has a label.
    Labelled(Preference),
    /// It has none.
    Unlabelled {
        /// The pair.
        pair: Pair,
        /// Why it has no label.
        reason: String,
    },
}

#[derive(Deserialize)]
struct RawPreference {
    #[serde(default, deserialize_with = "id")]
    id: Option<String>,
    prompt: Option<Turns>,
    chosen: Option<Turns>,
    rejected: Option<Turns>,
    first: Option<String>,
    second: Option<String>,
    unlabelled: Option<String>,
    #[serde(default = "certain", deserialize_with = "probability")]
    probability: f64,
    #[serde(default, deserialize_with = "margin")]
    margin: Option<f64>,
    source: Option<String>,
    #[serde(default)]
    cut_off: [bool; 2],
}

fn certain() -> f64 {
    1.0
}

/// Null is refused and not read as 1, because pandas writes a missing or failed label as null.
fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let probability = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&probability) {
        return Ok(probability);
    }
    Err(serde::de::Error::custom(format!("{probability} is not a probability; give a number from 0 to 1")))
}

/// Null is refused as for `probability`. A row without a margin must leave the field out.
fn margin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let margin = f64::deserialize(deserializer)?;
    // Losses compute in f32, in which a larger number would be infinite.
    if (margin as f32).is_finite() {
        return Ok(Some(margin));
    }
    Err(serde::de::Error::custom(format!("{margin} is too large for a margin; its loss would be infinite")))
}

impl Raw for RawPreference {
    type Record = LabelRow;

    fn id(&mut self) -> Option<String> {
        self.id.take()
    }

    fn normalise(self, id: String) -> Result<LabelRow, String> {
        if let Some(reason) = self.unlabelled {
            let (Some(prompt), Some(first), Some(second), None, None) =
                (self.prompt, self.first, self.second, &self.chosen, &self.rejected)
            else {
                return Err(
                    "is `unlabelled`; then it needs `prompt`, `first` and `second`, and nothing is `chosen`"
                        .into(),
                );
            };
            let prompt = prompt_messages("prompt", prompt)?;
            let pair = Pair { id, prompt, first, second, cut_off: self.cut_off, principle_id: None };
            return Ok(LabelRow::Unlabelled { pair, reason });
        }
        let chosen = self.chosen.ok_or("missing field `chosen`")?;
        let rejected = self.rejected.ok_or("missing field `rejected`")?;
        let (prompt, chosen, rejected) = match (self.prompt, chosen, rejected) {
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
            // TRL takes the longest shared prefix of plain texts as the prompt. We do not, because two good answers
            // often begin with the same words.
            (None, ..) => {
                return Err(
                    "has no `prompt`, and none can be read from `chosen` and `rejected`; add a `prompt` field".into()
                );
            }
        };
        Ok(LabelRow::Labelled(Preference {
            id,
            prompt,
            chosen,
            rejected,
            probability: self.probability,
            margin: self.margin,
            source: self.source,
            cut_off: self.cut_off,
        }))
    }
}

fn answer(field: &str, turns: Turns) -> Result<String, String> {
    match turns {
        Turns::Text(text) => Ok(text),
        Turns::Messages(messages) => match <[Message; 1]>::try_from(messages) {
            Ok([message]) if message.is_assistant() => Ok(message.content),
            _ => Err(format!(
                "field `{field}`: must be exactly one message of the assistant; move the rest to `prompt`"
            )),
        },
    }
}

/// The implicit prompt: the messages that the two conversations share before their last one.
fn split_messages(
    mut chosen: Vec<Message>,
    mut rejected: Vec<Message>,
) -> Result<(Vec<Message>, String, String), String> {
    let last = |field: &str, messages: &mut Vec<Message>| match messages.pop() {
        Some(message) if message.is_assistant() => Ok(message.content),
        _ => Err(format!("field `{field}`: does not end with a message of the assistant")),
    };
    let chosen_answer = last("chosen", &mut chosen)?;
    let rejected_answer = last("rejected", &mut rejected)?;
    if chosen != rejected {
        return Err(
            "`chosen` and `rejected` differ before their last message; they must have the same prompt".into(),
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
            let pair = from_text(read_preferences, row).unwrap().remove(0);
            assert_eq!(pair.prompt, [Message::user("Q")], "{row}");
            assert_eq!(
                (pair.chosen.as_str(), pair.rejected.as_str(), pair.probability),
                ("A", "B", 1.0),
                "{row}"
            );
        }
    }

    #[test]
    fn a_soft_label_its_margin_and_its_source_are_kept_to_the_bit() {
        let pair = Preference {
            id: "p".into(),
            prompt: vec![Message::user("Q")],
            chosen: "A".into(),
            rejected: "B".into(),
            probability: 0.1 + 0.2,
            margin: Some(-1.0 / 3.0),
            source: Some("judge".into()),
            cut_off: [true, false],
        };
        let back = from_text(read_preferences, &serde_json::to_string(&pair).unwrap()).unwrap();
        assert_eq!(back, [pair]);
    }

    #[test]
    fn probabilities_that_are_none_are_refused() {
        for value in ["1.0001", "-1e-9", "null", "\"0.5\"", "NaN", "Infinity", "1e999", "[]"] {
            let row = format!(r#"{{"prompt":"Q","chosen":"A","rejected":"B","probability":{value}}}"#);
            let error = from_text(read_preferences, &row).unwrap_err();
            assert!(error.starts_with("f.jsonl:1: field `probability`: "), "{value}: {error}");
        }
        for (value, expected) in [("0", 0.0), ("1", 1.0), ("-0.0", 0.0), ("5e-1", 0.5)] {
            let row = format!(r#"{{"prompt":"Q","chosen":"A","rejected":"B","probability":{value}}}"#);
            assert_eq!(from_text(read_preferences, &row).unwrap()[0].probability, expected);
        }
    }

    #[test]
    fn margins_that_are_none_are_refused() {
        for value in ["1e39", "-1e39", "null", "\"1\"", "NaN", "[]"] {
            let row = format!(r#"{{"prompt":"Q","chosen":"A","rejected":"B","margin":{value}}}"#);
            let error = from_text(read_preferences, &row).unwrap_err();
            assert!(error.starts_with("f.jsonl:1: field `margin`: "), "{value}: {error}");
        }
        let row = r#"{"prompt":"Q","chosen":"A","rejected":"B","margin":-2}"#;
        assert_eq!(from_text(read_preferences, row).unwrap()[0].margin, Some(-2.0));
        let row = r#"{"prompt":"Q","chosen":"A","rejected":"B"}"#;
        assert_eq!(from_text(read_preferences, row).unwrap()[0].margin, None);
    }

    #[test]
    fn rows_that_are_no_pair_are_refused() {
        let check = |row: &str, expected: &str| {
            let error = from_text(read_preferences, row).unwrap_err();
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
