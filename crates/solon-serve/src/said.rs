//! The text of a request while it is generated: stop strings, and what may be shown already.
//!
//! Contract: the pieces together are the text up to the first stop string, and each token is in one of them, except those
//! of the stop string and, where it is not wanted, the end of turn. So a streamed answer equals the one that is sent whole. A piece never ends
//! inside a character, nor inside what may become a stop string.

use solon_text::{ChatTokenizer, StreamDecoder};
use std::ops::Range;

/// What one request has said.
pub(crate) struct Said<'a> {
    decoder: StreamDecoder<'a>,
    stop: Vec<String>,
    /// How long the text was before each token.
    starts: Vec<usize>,
    /// Where the first stop string begins.
    cut: Option<usize>,
    /// How much of the text and how many of the tokens are in pieces.
    shown: usize,
    shown_tokens: usize,
}

/// New text, and the places of the tokens that it is made of.
#[derive(Debug, PartialEq)]
pub(crate) struct Piece {
    pub text: String,
    pub tokens: Range<usize>,
}

impl<'a> Said<'a> {
    pub fn new(tokenizer: &'a ChatTokenizer, stop: Vec<String>) -> Self {
        let decoder = tokenizer.stream_decoder();
        Self { decoder, stop, starts: Vec::new(), cut: None, shown: 0, shown_tokens: 0 }
    }

    /// Takes the next token. Returns whether a stop string has appeared.
    pub fn push(&mut self, id: u32) -> bool {
        let before = self.decoder.text().len();
        self.starts.push(before);
        self.decoder.push(id);
        self.look_for_stop(before);
        self.cut.is_some()
    }

    fn look_for_stop(&mut self, before: usize) {
        let text = self.decoder.text();
        let found = self.stop.iter().filter_map(|stop| {
            // One that was not there before ends in the new part.
            let mut from = before.saturating_sub(stop.len());
            while !text.is_char_boundary(from) {
                from -= 1;
            }
            text[from..].find(stop.as_str()).map(|at| from + at)
        });
        self.cut = self.cut.or(found.min());
    }

    /// What may be shown now.
    pub fn piece(&mut self) -> Piece {
        let text = self.decoder.text();
        let held = self.stop.iter().map(|stop| beginning_at_end(text, stop)).max().unwrap_or(0);
        let end = self.cut.unwrap_or(text.len() - held);
        let ready = |start: &&usize| **start < end;
        let tokens = self.starts.iter().take_while(ready).count();
        self.show(end, tokens)
    }

    /// The rest. `without_last`: the last token is an end of turn that is not to be shown.
    pub fn finish(&mut self, without_last: bool) -> Piece {
        let before = self.decoder.text().len();
        self.decoder.finish();
        self.look_for_stop(before);
        match self.cut {
            Some(_) => self.piece(),
            None => self.show(self.decoder.text().len(), self.starts.len() - usize::from(without_last)),
        }
    }

    fn show(&mut self, end: usize, tokens: usize) -> Piece {
        let text = self.decoder.text().get(self.shown..end).unwrap_or_default().to_owned();
        let tokens = self.shown_tokens..tokens.max(self.shown_tokens);
        self.shown = self.shown.max(end);
        self.shown_tokens = tokens.end;
        Piece { text, tokens }
    }
}

/// How much of the end of a text is the beginning of a stop string.
fn beginning_at_end(text: &str, stop: &str) -> usize {
    let beginnings = stop.char_indices().map(|(at, _)| at).rev();
    beginnings.filter(|at| text.ends_with(&stop[..*at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_text::GgufVocabulary;

    /// Bytes as tokens; 256 ends a turn.
    fn bytes() -> ChatTokenizer {
        let shown = |byte: u8| -> char {
            let printable = matches!(byte, 33..=126 | 161..=172 | 174..=255);
            if printable {
                return char::from(byte);
            }
            let before = (0..byte).filter(|b| !matches!(b, 33..=126 | 161..=172 | 174..=255)).count();
            char::from_u32(256 + before as u32).unwrap()
        };
        let tokens = (0..=255).map(|byte| shown(byte).to_string()).chain(["<|im_end|>".to_owned()]);
        ChatTokenizer::from_gguf(GgufVocabulary {
            model: "gpt2".to_owned(),
            pre: "smollm".to_owned(),
            tokens: tokens.collect(),
            token_types: [vec![1; 256], vec![3]].concat(),
            merges: Vec::new(),
            bos: None,
            eos: Some(256),
            unk: None,
            ..GgufVocabulary::default()
        })
        .unwrap()
    }

    fn check(said: &str, stop: &[&str], ended: bool, pieces: &[&str]) {
        let tokenizer = bytes();
        let stop: Vec<String> = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let mut whole = Said::new(&tokenizer, stop.clone());
        let mut streamed = Said::new(&tokenizer, stop.clone());
        let mut found: Vec<Piece> = Vec::new();
        let ids = said.bytes().map(u32::from).chain(ended.then_some(256));
        for id in ids {
            let stopped = streamed.push(id);
            assert_eq!(whole.push(id), stopped);
            found.push(streamed.piece());
            if stopped {
                break;
            }
        }
        found.push(streamed.finish(ended));
        let tokens: Vec<usize> = found.iter().flat_map(|piece| piece.tokens.clone()).collect();
        let text: String = found.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(whole.finish(ended), Piece { text: text.clone(), tokens: 0..tokens.len() });
        assert!(tokens.iter().copied().eq(0..text.len()), "a byte a token: {tokens:?}");
        let expected = stop.iter().filter_map(|stop| said.find(stop.as_str())).min().unwrap_or(said.len());
        assert_eq!(text, said[..expected]);
        found.retain(|piece| !piece.text.is_empty());
        assert_eq!(found.iter().map(|piece| piece.text.as_str()).collect::<Vec<_>>(), pieces);
    }

    #[test]
    fn pieces_are_whole_and_without_what_may_be_a_stop() {
        check("aé€", &[], true, &["a", "é", "€"]);
        check("ab", &["b"], false, &["a"]);
        check("xENEND!", &["END"], false, &["x", "EN"]);
        check("xEN", &["END"], true, &["x", "EN"]);
        check("éa€éab", &["€é", "ab"], true, &["é", "a"]);
        check("aaab", &["aab"], false, &["a"]);
    }

    #[test]
    fn of_two_stops_the_first_in_the_text_counts() {
        check("one two", &["two", " t"], false, &["o", "n", "e"]);
    }
}
