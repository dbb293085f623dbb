//! What of a `tokenizer.json` is checked before the `tokenizers` library reads it.
//!
//! Contract: what passes is JSON, asks for no memory by a number alone, makes a text at most [`MOST_GROWTH`] times as long before it is
//! split, and behind it when it is decoded, and has no tokens of thousands of bytes. The library itself bounds none of it.
//!
//! Source: tokenizers 0.22, `normalizers/`, `decoders/`; spm_precompiled 0.1, `lib.rs` (the form of a `precompiled_charsmap`).

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The most that published tokenizers may do is about 70: one of T5's characters becomes 34 bytes, and runs of spaces are replaced.
const MOST_GROWTH: u64 = 1000;

/// Bytes of an added token. The library looks for all of them at once, in a time that is quadratic in the length of one that repeats itself.
const LONGEST_ADDED: usize = 1 << 10;
/// Bytes of a piece of Unigram. The library has a tree of them, which it takes down by recursion.
const LONGEST_PIECE: usize = 1 << 12;
/// Bytes that a normalizer or a decoder may put before a text.
const LONGEST_PREFIX: usize = 1 << 10;

/// The parts that change texts, and the tokens.
#[derive(serde::Deserialize)]
struct Definition {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    model: Option<Model>,
}

#[derive(serde::Deserialize)]
struct Added {
    #[serde(default)]
    content: String,
}

#[derive(serde::Deserialize)]
struct Model {
    #[serde(default)]
    vocab: Longest,
}

/// The length in bytes of the longest text in a vocabulary that is a list of pairs, as Unigram's is.
#[derive(Default)]
struct Longest(usize);

impl<'de> Deserialize<'de> for Longest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self::default())
    }
}

impl<'de> Visitor<'de> for Longest {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a vocabulary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some((piece, _)) = list.next_element::<(String, IgnoredAny)>()? {
            self.0 = self.0.max(piece.len());
        }
        Ok(self)
    }
}

/// Refuses an added token that is too long.
pub(crate) fn check_added(content: &str) -> Result<(), String> {
    match content.len() {
        0..=LONGEST_ADDED => Ok(()),
        bytes => Err(format!("an added token of {bytes} bytes, more than {LONGEST_ADDED}")),
    }
}

/// Refuses what the library should not see.
pub(crate) fn check(definition: &str) -> Result<(), String> {
    let definition: Definition = serde_json::from_str(definition).map_err(|error| error.to_string())?;
    definition.added_tokens.iter().try_for_each(|added| check_added(&added.content))?;
    if let Some(Model { vocab: Longest(bytes) }) = definition.model
        && bytes > LONGEST_PIECE
    {
        return Err(format!("model.vocab: a piece of {bytes} bytes, more than {LONGEST_PIECE}"));
    }
    for (field, part) in [("normalizer", &definition.normalizer), ("decoder", &definition.decoder)] {
        let growth = growth(part).map_err(|reason| format!("{field}: {reason}"))?;
        if growth > MOST_GROWTH {
            return Err(format!(
                "{field}: it can make a text {growth} times as long; no tokenizer needs more than {MOST_GROWTH}"
            ));
        }
    }
    Ok(())
}

/// How many times as long the part can make a text.
fn growth(part: &Value) -> Result<u64, String> {
    let each = ["normalizers", "decoders"].iter().filter_map(|list| part.get(list)?.as_array()).flatten();
    let mut all =
        each.map(growth).try_fold(1u64, |product, one| Ok::<_, String>(product.saturating_mul(one?)))?;
    if let Some(prefix) = part.get("prepend").and_then(Value::as_str)
        && prefix.len() > LONGEST_PREFIX
    {
        return Err(format!("it puts {} bytes before a text, more than {LONGEST_PREFIX}", prefix.len()));
    }
    if let Some(charsmap) = part.get("precompiled_charsmap").and_then(Value::as_str) {
        all = all.saturating_mul(longest_entry(charsmap)?);
    }
    if let (Some(pattern), Some(content)) = (part.get("pattern"), part.get("content").and_then(Value::as_str))
    {
        let content = content.len() as u64;
        all = all.saturating_mul(match pattern.get("String").and_then(Value::as_str).map(str::len) {
            Some(length) if length > 0 => content.div_ceil(length as u64).max(1),
            // It may be found between all characters.
            _ => content + 1,
        });
    }
    Ok(all)
}

/// Bytes of the longest text that a character is replaced with. The map is a length in bytes, as much of a trie, and texts that end in
/// zeros.
fn longest_entry(charsmap: &str) -> Result<u64, String> {
    let damaged = || "its precompiled_charsmap is damaged".to_owned();
    let bytes = BASE64_STANDARD.decode(charsmap).map_err(|_| damaged())?;
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let texts = rest.get(u32::from_le_bytes(*length) as usize..).ok_or_else(damaged)?;
    Ok(texts.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(0).max(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(normalizer: Value) -> Result<(), String> {
        check(&json!({"normalizer": normalizer, "model": {"vocab": {"a": 0}}}).to_string())
    }

    #[test]
    fn what_published_tokenizers_do_passes() {
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        assert_eq!(checked(json!(null)), Ok(()));
        assert_eq!(check("{}"), Ok(()));
        assert_eq!(
            checked(json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]})),
            Ok(())
        );
        // A trie of two numbers, and two texts.
        let charsmap =
            BASE64_STANDARD.encode([&[8, 0, 0, 0][..], &[0; 8], b"ffi\0", "صلى\0".as_bytes()].concat());
        let spaces = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "});
        let sequence = json!([{"type": "Precompiled", "precompiled_charsmap": charsmap}, spaces]);
        assert_eq!(checked(json!({"type": "Sequence", "normalizers": sequence})), Ok(()));
    }

    #[test]
    fn what_asks_for_memory_is_refused() {
        let refused = |normalizer: Value, expected: &str| {
            let error = checked(normalizer).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        let ten = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaaaa"});
        refused(json!({"type": "Sequence", "normalizers": [ten, ten, ten, ten]}), "10000 times as long");
        let between = json!({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "x"});
        let inner = json!({"type": "Sequence", "normalizers": vec![between; 70]});
        refused(
            json!({"type": "Sequence", "normalizers": [inner]}),
            "normalizer: it can make a text 18446744073709551615 times",
        );
        // The length of the trie alone.
        for map in [&[0xff; 4][..], &[4, 0, 0, 0, 1], &[0]] {
            let normalizer =
                json!({"type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(map)});
            refused(normalizer, "precompiled_charsmap is damaged");
        }
        let prefix = json!({"type": "Prepend", "prepend": "a".repeat(2000)});
        refused(prefix, "normalizer: it puts 2000 bytes before a text");
        let decoder =
            json!({"decoder": {"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(2000)}});
        assert!(check(&decoder.to_string()).unwrap_err().starts_with("decoder: "));
    }

    #[test]
    fn tokens_of_thousands_of_bytes_are_refused() {
        let with = |added: usize, piece: usize| {
            let model =
                json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a".repeat(piece), -1.5]]});
            check(
                &json!({"added_tokens": [{"id": 5, "content": "x".repeat(added)}], "model": model})
                    .to_string(),
            )
        };
        assert_eq!(with(1024, 4096), Ok(()));
        assert!(with(1025, 1).unwrap_err().contains("an added token of 1025 bytes"));
        assert!(with(1, 4097).unwrap_err().contains("model.vocab: a piece of 4097 bytes"));
    }
}
