//! Preferences: TRL's preference formats with explicit or implicit prompt, HH-RLHF's transcripts, LLaMA-Factory's formats; a soft label, a
//! margin.

use std::path::Path;

use serde::{Deserialize, Deserializer};
use solon_records::{Message, Pair, Preference};

use super::columns::{refuse, refuse_system, restates, with_inputs};
use super::forms::{Form, only_one};
use super::prompt::prompt_messages;
use super::turn::Turn;
use super::turns::{Turns, messages, plain};
use super::{DataFile, alpaca, hh, read, sharegpt};
use crate::DataError;
use crate::rows::{Fault, Place, Row, Shape};

impl LabelRow {
    /// The preference, if the row has a label.
    pub fn labelled(self) -> Option<Preference> {
        match self {
            Self::Labelled(preference) => Some(preference),
            Self::Unlabelled { .. } => None,
        }
    }
}

/// Reads preferences as they stand in the file (not oriented), one in a row, in any of these forms, with optional `id`,
/// `probability`, `margin`, `source` and `cut_off`:
/// - `prompt` (string or messages), `chosen` and `rejected` (strings, or lists of one message of the assistant);
/// - `chosen` and `rejected` as lists of messages that share all but the last, and perhaps a text `prompt` that is one of those;
/// - `chosen` and `rejected` as HH-RLHF transcripts;
/// - LLaMA-Factory's: `instruction` and `input`, or `conversations`, before `chosen` and `rejected`; or `chosen_messages` and
///   `rejected_messages`.
///
/// # Errors
/// [`DataError::Io`] and [`DataError::Format`] for a file that cannot be read; [`DataError::Line`] or [`DataError::Row`] for a row in none
/// of these forms, or with a `probability` that is null, not a number, or outside [0, 1], or a `margin` that is not a number, or infinite as an
/// `f32`.
pub fn read_preferences(path: &Path) -> Result<Vec<Preference>, DataError> {
    Ok(read_labels(path)?.into_iter().filter_map(LabelRow::labelled).collect())
}

/// Reads the same files for their pairs, whatever their labels: the first answer is the one in `chosen`, and a row without a label
/// is a pair like the others.
///
/// # Errors
/// Those of [`read_preferences`].
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>, DataError> {
    Ok(open_pairs(path)?.records)
}

/// The same, with what else is to be known of the file.
///
/// # Errors
/// Those of [`read_pairs`].
pub fn open_pairs(path: &Path) -> Result<DataFile<Pair>, DataError> {
    let DataFile { format, packing, forms, unused, records, places, derived_ids } = open_labels(path)?;
    let pair = |(row, place): (LabelRow, &Place)| match row {
        LabelRow::Labelled(row) if !row.is_plain() => Err(place.fault(path, NOT_PLAIN)),
        LabelRow::Labelled(row) => Ok(Pair {
            id: row.id,
            prompt: row.prompt,
            first: row.chosen,
            second: row.rejected,
            cut_off: row.cut_off,
            principle_id: None,
        }),
        LabelRow::Unlabelled { pair, .. } => Ok(pair),
    };
    let records = records.into_iter().zip(&places).map(pair).collect::<Result<_, _>>()?;
    Ok(DataFile { format, packing, forms, unused, records, places, derived_ids })
}

const NOT_PLAIN: &str = "has an answer with calls of tools or reasoning beside its text, and pairs are labelled by their texts; leave the row out, \
    or train on it with `solon reward` or `solon dpo`";

/// Reads preferences, and rows of `id`, `prompt`, `first`, `second` and `unlabelled`: pairs that were to be labelled, with the reason
/// why they have no label.
///
/// # Errors
/// Those of [`read_preferences`].
pub fn read_labels(path: &Path) -> Result<Vec<LabelRow>, DataError> {
    Ok(open_labels(path)?.records)
}

/// Reads preferences and pairs without a label, with what the file is and which of its columns are not used.
///
/// # Errors
/// Those of [`read_preferences`].
pub fn open_labels(path: &Path) -> Result<DataFile<LabelRow>, DataError> {
    read(path, label_row)
}

/// Reads one row, which is a JSON value.
///
/// # Errors
/// What is wrong with it.
pub fn parse_preference(row: serde_json::Value, id: String) -> Result<Preference, String> {
    let serde_json::Value::Object(values) = row else {
        return Err("is no object".to_owned());
    };
    let row = Row::from_values(Place::Row(1), values).and_then(|mut row| label_row(&mut row, id));
    match row.map_err(|fault| fault.message)?.0 {
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

/// P(chosen is better). Null is refused and not read as 1, because pandas writes a missing or failed label as null.
struct Probability(f64);

impl<'de> Deserialize<'de> for Probability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let probability = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&probability) {
            return Ok(Self(probability));
        }
        Err(serde::de::Error::custom(format!(
            "{probability} is not a probability; give a number from 0 to 1"
        )))
    }
}

/// Null is no margin: tables have the column in every row.
struct Margin(f64);

impl<'de> Deserialize<'de> for Margin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let margin = f64::deserialize(deserializer)?;
        // Losses compute in f32, in which a larger number would be infinite.
        if (margin as f32).is_finite() {
            return Ok(Self(margin));
        }
        Err(serde::de::Error::custom(format!(
            "{margin} is too large for a margin; its loss would be infinite"
        )))
    }
}

pub(super) fn label_row(row: &mut Row, id: String) -> Result<(LabelRow, Form), Fault> {
    refuse(row)?;
    let cut_off = row.get("cut_off")?.unwrap_or_default();
    if let Some(reason) = row.get("unlabelled")? {
        let (prompt, first, second) = (Turns::of(row, "prompt")?, row.get("first")?, row.get("second")?);
        let (Some(prompt), Some(first), Some(second), false, false) =
            (prompt, first, second, row.has("chosen"), row.has("rejected"))
        else {
            return Err(
                "is `unlabelled`; then it needs `prompt`, `first` and `second`, and nothing is `chosen`"
                    .into(),
            );
        };
        let mut prompt = prompt_messages("prompt", prompt)?;
        with_inputs(row, false, &mut prompt)?;
        let pair = Pair { id, prompt, first, second, cut_off, principle_id: None };
        return Ok((LabelRow::Unlabelled { pair, reason }, Form::Unlabelled));
    }
    let (form, mut prompt, chosen, rejected) = pair(row)?;
    if !matches!(form, Form::Alpaca | Form::Sharegpt) {
        refuse_system(row, &prompt)?;
    }
    with_inputs(row, matches!(form, Form::Alpaca | Form::Sharegpt | Form::MessagePair), &mut prompt)?;
    let preference = Preference {
        id,
        prompt,
        chosen: chosen.content,
        rejected: rejected.content,
        probability: row.given::<Probability>("probability")?.map_or(1.0, |probability| probability.0),
        margin: row.get::<Margin>("margin")?.map(|margin| margin.0),
        source: row.get("source")?,
        cut_off,
        beside: Box::new([chosen.beside, rejected.beside]),
    };
    Ok((LabelRow::Labelled(preference), form))
}

/// The prompt and both answers.
fn pair(row: &mut Row) -> Result<(Form, Vec<Message>, Message, Message), Fault> {
    if let Some(chosen) = messages(row, "chosen_messages")? {
        let rejected = messages(row, "rejected_messages")?.ok_or("missing field `rejected_messages`")?;
        let (prompt, chosen, rejected) =
            split_messages(["chosen_messages", "rejected_messages"], chosen, rejected)?;
        return Ok((Form::MessagePair, prompt, chosen, rejected));
    }
    let chosen = Turns::of(row, "chosen")?.ok_or("missing field `chosen`")?;
    let rejected = Turns::of(row, "rejected")?.ok_or("missing field `rejected`")?;
    let (form, column, prompt) = match only_one(row, &["prompt", sharegpt::COLUMN, "instruction"])? {
        Some(sharegpt::COLUMN) => {
            (Form::Sharegpt, sharegpt::COLUMN, Turns::Messages(sharegpt::conversation(row)?))
        }
        Some("instruction") => (Form::Alpaca, "instruction", Turns::Messages(alpaca::question(row)?)),
        Some(_) => {
            let prompt = Turns::of(row, "prompt")?.unwrap_or(Turns::Messages(Vec::new()));
            return with_prompt(prompt, chosen, rejected);
        }
        // LLaMA-Factory's `conversations` under the name of OpenAI's.
        None if row.shape("messages") == Shape::List && matches!(chosen, Turns::One(_)) => {
            let turns = messages(row, "messages")?.unwrap_or_default();
            (Form::Sharegpt, "messages", Turns::Messages(turns))
        }
        None => return without_prompt(chosen, rejected),
    };
    let prompt = prompt_messages(column, prompt)?;
    Ok((form, prompt, answer("chosen", chosen)?, answer("rejected", rejected)?))
}

fn with_prompt(
    prompt: Turns,
    chosen: Turns,
    rejected: Turns,
) -> Result<(Form, Vec<Message>, Message, Message), Fault> {
    let (prompt, chosen, rejected) = match (prompt, chosen, rejected) {
        // As TRL reads it: the prompt is what both conversations share, and the text repeats a part of it.
        (Turns::Text(text), Turns::Messages(chosen), Turns::Messages(rejected))
            if chosen.len() != 1 || rejected.len() != 1 =>
        {
            let (prompt, chosen, rejected) = split_messages(["chosen", "rejected"], chosen, rejected)?;
            if !restates(&text, &prompt) {
                return Err("field `prompt`: is not in the messages that `chosen` and `rejected` share; take it out, or make it right".into());
            }
            return Ok((Form::ImplicitPreference, prompt, chosen, rejected));
        }
        all => all,
    };
    let prompt = prompt_messages("prompt", prompt)?;
    Ok((Form::Preference, prompt, answer("chosen", chosen)?, answer("rejected", rejected)?))
}

fn without_prompt(chosen: Turns, rejected: Turns) -> Result<(Form, Vec<Message>, Message, Message), Fault> {
    match (chosen, rejected) {
        (Turns::Messages(chosen), Turns::Messages(rejected)) => {
            let (prompt, chosen, rejected) = split_messages(["chosen", "rejected"], chosen, rejected)?;
            Ok((Form::ImplicitPreference, prompt, chosen, rejected))
        }
        (Turns::Text(chosen), Turns::Text(rejected))
            if hh::is_transcript(&chosen) && hh::is_transcript(&rejected) =>
        {
            let (prompt, chosen, rejected) = hh::split_pair(&chosen, &rejected)?;
            let turns = prompt.into_iter().map(Turn::of).collect();
            let prompt = prompt_messages("chosen", Turns::Messages(turns))?;
            Ok((Form::Transcripts, prompt, Message::assistant(chosen), Message::assistant(rejected)))
        }
        // TRL takes the longest shared prefix of plain texts as the prompt. We do not, because two good answers
        // often begin with the same words.
        _ => {
            Err("has no `prompt`, and none can be read from `chosen` and `rejected`; add a `prompt` field"
                .into())
        }
    }
}

pub(super) fn answer(field: &str, turns: Turns) -> Result<Message, String> {
    let turns = match turns {
        Turns::Text(text) => return Ok(Message::assistant(text)),
        Turns::Messages(turns) => turns,
        Turns::One(turn) => vec![*turn],
    };
    match <[Message; 1]>::try_from(plain(field, turns)?) {
        Ok([message]) if message.is_assistant() => Ok(message),
        _ => Err(format!(
            "field `{field}`: must be exactly one message of the assistant; move the rest to `prompt`"
        )),
    }
}

/// The implicit prompt: the messages that the two conversations share before their last one.
fn split_messages(
    [first, second]: [&str; 2],
    chosen: Vec<Turn>,
    rejected: Vec<Turn>,
) -> Result<(Vec<Message>, Message, Message), String> {
    let (mut chosen, mut rejected) = (plain(first, chosen)?, plain(second, rejected)?);
    let last = |field: &str, messages: &mut Vec<Message>| match messages.pop() {
        Some(message) if message.is_assistant() => Ok(message),
        _ => Err(format!("field `{field}`: does not end with a message of the assistant")),
    };
    let chosen_answer = last(first, &mut chosen)?;
    let rejected_answer = last(second, &mut rejected)?;
    if chosen != rejected {
        return Err(format!(
            "`{first}` and `{second}` differ before their last message; they must have the same prompt"
        ));
    }
    let turns = chosen.into_iter().map(Turn::of).collect();
    Ok((prompt_messages(first, Turns::Messages(turns))?, chosen_answer, rejected_answer))
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
            r#"{"prompt":"Q","chosen":[{"role":"user","content":"Q"},{"role":"assistant","content":"A"}],"rejected":[{"role":"user","content":"Q"},{"role":"assistant","content":"B"}],"messages":[]}"#,
            r#"{"instruction":"Q","input":"","chosen":"A","rejected":"B"}"#,
            r#"{"conversations":[{"from":"human","value":"Q"}],"chosen":{"from":"gpt","value":"A"},"rejected":{"from":"gpt","value":"B"}}"#,
            r#"{"messages":[{"role":"user","content":"Q"}],"chosen":{"role":"assistant","content":"A"},"rejected":{"role":"assistant","content":"B"}}"#,
            r#"{"chosen_messages":[{"role":"user","content":"Q"},{"role":"assistant","content":[{"type":"text","value":"A"}],"loss_weight":1.0}],"rejected_messages":[{"role":"user","content":"Q"},{"role":"assistant","content":"B"}]}"#,
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
            beside: Default::default(),
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
        for value in ["1e39", "-1e39", "\"1\"", "NaN", "[]"] {
            let row = format!(r#"{{"prompt":"Q","chosen":"A","rejected":"B","margin":{value}}}"#);
            let error = from_text(read_preferences, &row).unwrap_err();
            assert!(error.starts_with("f.jsonl:1: field `margin`: "), "{value}: {error}");
        }
        let row = r#"{"prompt":"Q","chosen":"A","rejected":"B","margin":null}"#;
        assert_eq!(from_text(read_preferences, row).unwrap()[0].margin, None);
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
        check(
            &format!(r#"{{"prompt":"Other","chosen":[{u},{a}],"rejected":[{u},{a}]}}"#),
            "field `prompt`: is not in the messages",
        );
        check(
            r#"{"prompt":"Q","chosen":[{"role":"assistant","content":"A","weight":0}],"rejected":"B"}"#,
            "field `chosen[0]`: says that this answer is not to be learnt",
        );
        check(
            r#"{"prompt":"Q","chosen":[{"role":"assistant","content":"A","tool_calls":"f"}],"rejected":"B"}"#,
            "field `chosen[0].tool_calls`: `tool_calls`: must be a list of calls",
        );
        check(r#"{"prompt":"Q","chosen":"A","rejected":"B","tools":[1]}"#, "field `tools`: ");
        check(&format!(r#"{{"chosen_messages":[{u},{a}]}}"#), "missing field `rejected_messages`");
    }
}
