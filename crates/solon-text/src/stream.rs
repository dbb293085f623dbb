//! Decodes ids as they arrive, for stop strings and live output.
//!
//! Contract: the text only grows, contains no incomplete character, and after [`StreamDecoder::finish`] equals
//! [`ChatTokenizer::decode`] of all the ids. There is one exception, SentencePiece's byte tokens: after an invalid
//! byte, `decode` also drops the valid characters before it in the same run of bytes, but text already returned stays.
//! Source: the prefix and read offsets of text-generation-inference's `decode_token`. Here the complete part of the
//! text inside the window is also returned.

use crate::ChatTokenizer;

/// The character that decoders write for bytes that are not, or not yet, a character.
const WAITING: char = '\u{FFFD}';
/// Only a stream of invalid bytes gets this long without a complete character at its end.
const MAX_WINDOW: usize = 256;

/// Turns ids into text one at a time.
pub struct StreamDecoder<'a> {
    tokenizer: &'a ChatTokenizer,
    text: String,
    /// Ids whose text was returned, kept as the left context of the next ones, because decoders treat a first token
    /// differently.
    context: Vec<u32>,
    /// Ids after `context`.
    pending: Vec<u32>,
    /// How many bytes of the text of `pending` were returned.
    given: usize,
}

impl<'a> StreamDecoder<'a> {
    pub(crate) fn new(tokenizer: &'a ChatTokenizer) -> Self {
        Self { tokenizer, text: String::new(), context: Vec::new(), pending: Vec::new(), given: 0 }
    }

    /// Takes the next id and returns the text it completes, which may be empty.
    pub fn push(&mut self, id: u32) -> &str {
        self.pending.push(id);
        self.advance(self.pending.len() >= MAX_WINDOW)
    }

    /// The text so far, without characters whose bytes have not all arrived.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Ends the stream: bytes still waiting become U+FFFD. Returns the last piece of text.
    pub fn finish(&mut self) -> &str {
        self.advance(true)
    }

    fn advance(&mut self, all: bool) -> &str {
        let start = self.text.len();
        let before = self.tokenizer.decode(&self.context);
        let window = self.tokenizer.decode(&[self.context.as_slice(), &self.pending].concat());
        let fresh = match window.strip_prefix(before.as_str()) {
            Some(fresh) => fresh.to_owned(),
            // The exception above.
            None => self.tokenizer.decode(&self.pending),
        };
        let stable = if all { fresh.as_str() } else { fresh.trim_end_matches(WAITING) };
        self.text.push_str(stable.get(self.given..).unwrap_or_default());
        self.given = self.given.max(stable.len());
        if all || (!fresh.is_empty() && stable.len() == fresh.len()) {
            self.context = std::mem::take(&mut self.pending);
            self.given = 0;
        }
        &self.text[start..]
    }
}

#[cfg(test)]
mod tests {
    use crate::gguf::tests::byte_tokenizer;

    fn check(bytes: &[u8], pieces: &[&str]) {
        let tokenizer = byte_tokenizer();
        let ids: Vec<u32> = bytes.iter().map(|byte| u32::from(*byte)).collect();
        let mut decoder = tokenizer.stream_decoder();
        let mut found: Vec<String> = ids.iter().map(|id| decoder.push(*id).to_owned()).collect();
        found.push(decoder.finish().to_owned());
        assert_eq!(decoder.text(), tokenizer.decode(&ids), "{bytes:?}");
        assert_eq!(found.concat(), decoder.text());
        found.retain(|piece| !piece.is_empty());
        assert_eq!(found, pieces, "{bytes:?}");
    }

    #[test]
    fn gives_out_whole_characters_only() {
        check("aé€😀b".as_bytes(), &["a", "é", "€", "😀", "b"]);
        check(" a  b".as_bytes(), &[" ", "a", " ", " ", "b"]);
    }

    #[test]
    fn bytes_that_never_become_a_character_are_shown_once() {
        check(b"a\xE4\xBD", &["a", "\u{FFFD}"]);
        check(b"\xE4\xBDz", &["\u{FFFD}z"]);
        check(b"\xFF\xFF\xFF\xFF\xF0\x9F\x98\x80", &["\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}😀"]);
        check("\u{FFFD}\u{FFFD}x".as_bytes(), &["\u{FFFD}\u{FFFD}x"]);
    }

    #[test]
    fn special_tokens_are_silent() {
        let tokenizer = byte_tokenizer();
        let end = tokenizer.end_of_turn();
        let mut decoder = tokenizer.stream_decoder();
        assert_eq!(decoder.push(0xC3), "");
        assert_eq!(decoder.push(0xA9), "é");
        assert_eq!(decoder.push(end), "");
        assert_eq!(decoder.push(b'x'.into()), "x");
    }
}
