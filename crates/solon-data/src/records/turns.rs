//! Fields that every row may have: the id, and turns as plain text or as a list of messages.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use solon_records::Message;

use super::turn::Turn;
use crate::rows::{Fault, Row};

/// Turns in TRL's standard (a string) or conversational form (a list of messages), or a single message as LLaMA-Factory writes an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Turns {
    Text(String),
    Messages(Vec<Turn>),
    One(Box<Turn>),
}

impl<'de> Deserialize<'de> for Turns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Written by hand, because serde's untagged enums lose the position of the error in the line.
        struct StringOrList;
        impl<'de> Visitor<'de> for StringOrList {
            type Value = Turns;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a string or a list of messages")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Turns, E> {
                Ok(Turns::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Turns, A::Error> {
                let mut messages = Vec::new();
                while let Some(message) = list.next_element()? {
                    messages.push(message);
                }
                Ok(Turns::Messages(messages))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Turns, A::Error> {
                Box::deserialize(MapAccessDeserializer::new(map)).map(Turns::One)
            }
        }
        deserializer.deserialize_any(StringOrList)
    }
}

impl Turns {
    /// Takes a column that holds turns.
    pub fn of(row: &mut Row, column: &str) -> Result<Option<Self>, Fault> {
        let turns: Option<Self> = row.text_or(column)?;
        let (all, place): (&[Turn], _) = match &turns {
            None | Some(Self::Text(_)) => return Ok(turns),
            Some(Self::Messages(messages)) => (messages, format!("{column}[]")),
            Some(Self::One(message)) => (std::slice::from_ref(message), column.to_owned()),
        };
        for field in all.iter().flat_map(|turn| &turn.unused) {
            row.not_used_inside(format!("{place}.{field}"));
        }
        Ok(turns)
    }
}

/// Takes a column that must be a list of messages.
pub(super) fn messages(row: &mut Row, column: &str) -> Result<Option<Vec<Turn>>, Fault> {
    match Turns::of(row, column)? {
        None => Ok(None),
        Some(Turns::Messages(messages)) => Ok(Some(messages)),
        Some(_) => Err(format!("field `{column}`: must be a list of messages").into()),
    }
}

/// The messages without what is said of their training: that one is not to be learnt has a meaning in demonstrations alone.
pub(super) fn plain(column: &str, turns: Vec<Turn>) -> Result<Vec<Message>, String> {
    let refused = turns.iter().position(|turn| turn.message.is_assistant() && turn.learnt == Some(false));
    match refused {
        Some(place) => Err(format!(
            "field `{column}[{place}]`: says that this answer is not to be learnt (`weight` 0 or `train` false), which only \
             demonstrations can; take the field out"
        )),
        None => Ok(turns.into_iter().map(|turn| turn.message).collect()),
    }
}

/// A row's `id`: a string that is not empty, or a whole number.
pub(super) struct Id(pub String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;
        impl Visitor<'_> for TextOrNumber {
            type Value = Id;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a string that is not empty, or a whole number")
            }
            fn visit_str<E: Error>(self, id: &str) -> Result<Id, E> {
                if id.trim().is_empty() {
                    Err(E::invalid_value(serde::de::Unexpected::Str(id), &self))
                } else {
                    Ok(Id(id.to_owned()))
                }
            }
            fn visit_u64<E: Error>(self, id: u64) -> Result<Id, E> {
                Ok(Id(id.to_string()))
            }
            fn visit_i64<E: Error>(self, id: i64) -> Result<Id, E> {
                Ok(Id(id.to_string()))
            }
        }
        deserializer.deserialize_any(TextOrNumber)
    }
}
