//! The text of a message: a string, or a list of parts as multimodal datasets and chat APIs write it.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The text of a message. Parts are joined; one that is not text is refused by its type.
///
/// A part is `{"type": "text", "text": …}`, or `{"type": "text", "value": …}` as LLaMA-Factory writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content(pub String);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;
        #[derive(Deserialize)]
        struct Part {
            r#type: String,
            #[serde(alias = "value")]
            text: Option<String>,
        }
        impl<'de> Visitor<'de> for Parts {
            type Value = Content;
            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a string or a list of text parts")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut joined = String::new();
                while let Some(part) = parts.next_element::<Part>()? {
                    match (part.r#type.as_str(), part.text) {
                        ("text", Some(text)) => joined += &text,
                        ("text", None) => return Err(A::Error::missing_field("text")),
                        (other, _) => {
                            return Err(A::Error::custom(format!("a part of type `{other}` is not text")));
                        }
                    }
                }
                Ok(Content(joined))
            }
        }
        deserializer.deserialize_any(Parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_and_what_is_no_text_is_named() {
        let read = |json: &str| serde_json::from_str::<Content>(json).map_err(|error| error.to_string());
        let parts = r#"[{"type":"text","text":"a"},{"type":"text","value":"b"}]"#;
        assert_eq!(read(parts), Ok(Content("ab".into())));
        assert_eq!(read(r#"" a ""#), Ok(Content(" a ".into())));
        let error = read(r#"[{"type":"thinking","thinking":"a"}]"#).unwrap_err();
        assert!(error.starts_with("a part of type `thinking` is not text"), "{error}");
        let error = read(r#"[{"type":"text"}]"#).unwrap_err();
        assert!(error.starts_with("missing field `text`"), "{error}");
    }
}
