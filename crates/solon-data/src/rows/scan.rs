//! Where JSON values begin and end, found by brackets and quotes alone.
//!
//! Contract: for valid JSON the answers are exact. For anything else they are some answer, without a panic; whether it is JSON is found
//! by parsing. Three things are needed that a parser does not give: the borders of records in a stream, the text of one field, and
//! numbers that only Python writes.

use std::ops::Range;

use crate::jsonl::field::NO_NUMBERS;

/// How deep in brackets, and whether in a string.
#[derive(Debug, Default)]
pub(super) struct Depth {
    pub open: usize,
    pub in_string: bool,
    escaped: bool,
}

impl Depth {
    /// What the next byte makes of it.
    pub fn push(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.open += 1,
            b'}' | b']' => self.open = self.open.saturating_sub(1),
            _ => {}
        }
    }

    /// After a whole text.
    pub fn of(text: &str) -> Self {
        let mut depth = Self::default();
        text.bytes().for_each(|byte| depth.push(byte));
        depth
    }
}

/// The fields of a JSON object: their names, and where their values are.
pub(super) fn fields(object: &str) -> Vec<(String, Range<usize>)> {
    let bytes = object.as_bytes();
    let past_space = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    let mut fields = Vec::new();
    let mut at = past_space(0) + 1;
    loop {
        at = past_space(at);
        if bytes.get(at) != Some(&b'"') {
            return fields;
        }
        let name = at..value_end(bytes, at);
        let colon = past_space(name.end);
        let start = past_space(colon + 1);
        if bytes.get(colon) != Some(&b':') || start >= bytes.len() {
            return fields;
        }
        let value = start..value_end(bytes, start);
        // A name may hold half a character; it is then as it stands in the file.
        let quoted = &object[name];
        let name = serde_json::from_str(quoted).unwrap_or_else(|_| quoted.trim_matches('"').to_owned());
        at = past_space(value.end);
        fields.push((name, value));
        if bytes.get(at) != Some(&b',') {
            return fields;
        }
        at += 1;
    }
}

/// The end of the value that begins at `start`.
fn value_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = Depth::default();
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        let outside = depth.open == 0 && !depth.in_string;
        if outside && (matches!(byte, b',' | b'}' | b']' | b':') || byte.is_ascii_whitespace()) {
            return at;
        }
        depth.push(*byte);
        if depth.open == 0 && !depth.in_string && matches!(byte, b'"' | b'}' | b']') {
            return at + 1;
        }
    }
    bytes.len()
}

/// The text with an empty object in place of each number that JSON does not have, if there are any; all places stay the same. No column
/// that takes a number or a text takes an object, so it cannot be read by mistake.
pub(super) fn without_no_numbers(text: &str) -> Option<String> {
    if !NO_NUMBERS.iter().any(|name| text.contains(name)) {
        return None;
    }
    let bytes = text.as_bytes();
    let mut mended = bytes.to_vec();
    let mut depth = Depth::default();
    let mut at = 0;
    while at < bytes.len() {
        let name = NO_NUMBERS.iter().find(|name| bytes[at..].starts_with(name.as_bytes()));
        if let Some(name) = name.filter(|_| !depth.in_string) {
            mended[at..at + name.len()].fill(b' ');
            mended[at] = b'{';
            mended[at + name.len() - 1] = b'}';
            at += name.len();
        } else {
            depth.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(mended).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_whatever_is_in_them() {
        let object = r#" { "a" : 1 ,"b\"}": "x,}\\", "c":[{"d":[1,2]},"]"],"\ud83d":null,"e":{} } "#;
        let found: Vec<(String, &str)> =
            fields(object).into_iter().map(|(name, value)| (name, &object[value])).collect();
        let expected = [
            ("a", "1"),
            ("b\"}", r#""x,}\\""#),
            ("c", r#"[{"d":[1,2]},"]"]"#),
            (r"\ud83d", "null"),
            ("e", "{}"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
        assert!(fields("{}").is_empty());
    }

    #[test]
    fn nothing_panics_on_what_is_no_json() {
        let text = r#"{"a":"\u12é","b":[NaN,{"c":-Infinity}],"#;
        for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            for start in (0..end).filter(|start| text.is_char_boundary(*start)) {
                fields(&text[start..end]);
                without_no_numbers(&text[start..end]);
            }
        }
    }

    #[test]
    fn python_numbers_outside_texts_become_empty_objects() {
        let text = r#"{"a":NaN,"b":[-Infinity,Infinity],"c":"NaN \" Infinity"}"#;
        let mended = without_no_numbers(text).unwrap();
        assert_eq!(mended, r#"{"a":{ },"b":[{       },{      }],"c":"NaN \" Infinity"}"#);
        assert_eq!(without_no_numbers(r#"{"a":1}"#), None);
    }
}
