//! Fields that every row may have: the id, and turns in TRL's two forms (plain text or a list of messages).

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use solon_records::Message;

/// Turns in TRL's standard (a string) or conversational form (a list of messages).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Turns {
    Text(String),
    Messages(Vec<Message>),
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
        }
        deserializer.deserialize_any(StringOrList)
    }
}

/// A row's `id`: a string that is not empty, or a whole number.
pub(super) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Id;
    impl Visitor<'_> for Id {
        type Value = Option<String>;
        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("a string that is not empty, or a whole number")
        }
        fn visit_str<E: Error>(self, id: &str) -> Result<Self::Value, E> {
            if id.trim().is_empty() {
                Err(E::invalid_value(serde::de::Unexpected::Str(id), &self))
            } else {
                Ok(Some(id.to_owned()))
            }
        }
        fn visit_u64<E: Error>(self, id: u64) -> Result<Self::Value, E> {
            Ok(Some(id.to_string()))
        }
        fn visit_i64<E: Error>(self, id: i64) -> Result<Self::Value, E> {
            Ok(Some(id.to_string()))
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(Id)
}
