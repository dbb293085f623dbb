//! A tokenizer as GGUF metadata describes it: the inverse of reading one.
//!
//! Contract: [`ChatTokenizer::from_gguf`] of what [`ChatTokenizer::to_gguf`] gives has the same vocabulary, and gives the
//! same ids for a set of texts that is tried each time. A tokenizer that a GGUF file cannot describe is refused by the
//! part that has no name there: it would load, and give other ids.
//!
//! In a `llama` vocabulary llama.cpp puts a space before the first word after each special token. A tokenizer that puts
//! one only before a text's first word (Metaspace with the scheme `first`) is written the same way, as llama.cpp's
//! converter does.
//!
//! Source: llama.cpp, `convert_hf_to_gguf.py` (`get_vocab_base`) and `src/llama-vocab.cpp`.

use serde_json::Value;

use super::pre_tokenizer::PreTokenizer;
use super::{CONTROL, ENDS, GgufVocabulary, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, pre_tokenizer};
use crate::{ChatTokenizer, TextError};

/// A byte of a SentencePiece vocabulary.
const BYTE: i32 = 6;

/// Texts in which pre-tokenizers and normalizers show. None holds a special token.
const TRIED: [&str; 8] = [
    "It's what I'd said: THEY'LL  go, o'clock\n\n  and   back.\t\tOk?\r\n",
    "1234567890 3.14 a1b22c333 x² + ½ = ١٢٣",
    "Où est la bibliothèque ? Cafe\u{301} Caf\u{e9} Fluß STRASSE",
    "你好，世界。日本語のテキスト 한국어 नमस्ते दुनिया ไทย",
    "😀👍🏽🇫🇷 a\u{a0}b\u{3000}c\u{200b}d\u{feff}",
    "def f(x):\n    return x  # done\n\n\n\tif y:\r\n\t\tpass\nfoo/bar//baz\n/ \\\\ ....!!!???---___***",
    " leading and trailing   ",
    "CamelCaseWord HTTPServer iOS McDonald's ÉCOLE",
];

impl ChatTokenizer {
    /// The tokenizer and the template as GGUF metadata has them. `rows`: those of the model's embedding; ids without a
    /// token become unused ones.
    ///
    /// # Errors
    /// [`TextError::GgufUnwritable`] names the part that has no form in GGUF.
    pub fn to_gguf(&self, rows: usize) -> Result<GgufVocabulary, TextError> {
        if self.vocab_size() > rows {
            let found = format!("{} tokens for an embedding of {rows} rows", self.vocab_size());
            return Err(unwritable("vocabulary", found));
        }
        let definition: Value = serde_json::from_str(&self.definition)
            .map_err(|error| unwritable("definition", format!("not JSON ({error})")))?;
        let model = &definition["model"];
        check_model(model)?;
        let byte_fallback = model["byte_fallback"] == true;
        let (pre, add_space_prefix) = match byte_fallback {
            false => (name_of(&definition)?, None),
            true => ("default", Some(has_space_prefix(&definition)?)),
        };
        let (tokens, token_types) = self.tokens(rows, byte_fallback);
        let merges = merges(model)?;
        if byte_fallback {
            check_order(self, &merges)?;
        }
        let eos = self.eos().unwrap_or(self.end_of_turn());
        let written = GgufVocabulary {
            model: if byte_fallback { "llama" } else { "gpt2" }.to_owned(),
            pre: pre.to_owned(),
            merges: match byte_fallback {
                true => Vec::new(),
                false => merges.iter().map(|[left, right]| format!("{left} {right}")).collect(),
            },
            bos: self.bos(),
            eos: Some(eos),
            unk: self.special.unk,
            pad: self.pad(),
            ends: self.ends_beside(eos, &tokens),
            add_bos: Some(self.adds_bos()?),
            add_space_prefix,
            chat_template: self.template().map(str::to_owned),
            tokens,
            token_types,
        };
        self.check_added_tokens()?;
        if let Some(lost) = written.ends.get(2) {
            let found = format!("the id {lost}; the file has room for two beside the end of sequence");
            return Err(unwritable("ids that end an answer", found));
        }
        let read = Self::from_gguf(written.clone())?;
        for text in TRIED {
            if read.encode(text)? != self.encode(text)? {
                return Err(unwritable("result", format!("other ids for {text:?} once it is read back")));
            }
        }
        Ok(written)
    }

    /// Refuses added tokens that take white space around them, or whole words only: GGUF has no place to say so.
    fn check_added_tokens(&self) -> Result<(), TextError> {
        let added = self.tokenizer.get_added_tokens_decoder();
        match added.values().find(|token| token.lstrip || token.rstrip || token.single_word) {
            None => Ok(()),
            Some(token) => {
                let found =
                    format!("`{}` takes the white space around it, or whole words only", token.content);
                Err(unwritable("added tokens", found))
            }
        }
    }

    /// Text and kind of each id.
    fn tokens(&self, rows: usize, sentencepiece: bool) -> (Vec<String>, Vec<i32>) {
        let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
        let mut types = vec![UNUSED; rows];
        for (token, id) in self.tokenizer.get_vocab(true) {
            let id = id as usize;
            types[id] = match sentencepiece && is_byte(&token) {
                true => BYTE,
                false => NORMAL,
            };
            tokens[id] = token;
        }
        for (id, token) in self.tokenizer.get_added_tokens_decoder() {
            types[id as usize] = match token.special {
                _ if sentencepiece && self.special.unk == Some(id) => UNKNOWN,
                true => CONTROL,
                false => USER_DEFINED,
            };
        }
        (tokens, types)
    }

    /// The ids at which generation stops beside the end of sequence, without those that llama.cpp knows by their text.
    fn ends_beside(&self, eos: u32, tokens: &[String]) -> Vec<u32> {
        let known = |id: u32| tokens.get(id as usize).is_some_and(|token| ENDS.contains(&token.as_str()));
        let is_written = |id: &u32| *id != eos && (*id == self.end_of_turn() || !known(*id));
        self.stop_ids().iter().copied().filter(is_written).collect()
    }

    /// Whether the tokenizer opens a text with the beginning of sequence.
    pub(crate) fn adds_bos(&self) -> Result<bool, TextError> {
        let (opened, plain) = (self.encode_with("a", true)?, self.encode("a")?);
        Ok(self.bos().is_some() && opened.first() == self.bos().as_ref() && opened.first() != plain.first())
    }
}

impl GgufVocabulary {
    /// `tokenizer.ggml.scores` of a `llama` vocabulary, by which llama.cpp ranks merges: the lower the id, the earlier.
    pub fn scores(&self) -> Option<Vec<f32>> {
        (self.model == "llama").then(|| (0..self.tokens.len()).map(|id| -(id as f32)).collect())
    }
}

fn unwritable(part: &'static str, found: impl Into<String>) -> TextError {
    TextError::GgufUnwritable { part, found: found.into() }
}

/// `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Refuses what is not BPE as llama.cpp runs it.
fn check_model(model: &Value) -> Result<(), TextError> {
    // A definition without a type is BPE if it has merges.
    let kind = model["type"].as_str().unwrap_or(if model["merges"].is_array() { "BPE" } else { "absent" });
    if kind != "BPE" {
        return Err(unwritable("model", kind));
    }
    for part in ["continuing_subword_prefix", "end_of_word_suffix", "dropout"] {
        let at_rest = match &model[part] {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            other => other.as_f64() == Some(0.0),
        };
        if !at_rest {
            return Err(unwritable(part, model[part].to_string()));
        }
    }
    Ok(())
}

/// The merges, best first.
fn merges(model: &Value) -> Result<Vec<[String; 2]>, TextError> {
    let pair = |merge: &Value| -> Option<[String; 2]> {
        let [left, right] = match merge {
            Value::String(text) => text.split_once(' ').map(|(left, right)| [left, right])?,
            Value::Array(pair) => [pair.first()?.as_str()?, pair.get(1)?.as_str()?],
            _ => return None,
        };
        (!left.contains(' ') && !right.contains(' ')).then(|| [left.to_owned(), right.to_owned()])
    };
    let merges = model["merges"].as_array().into_iter().flatten();
    merges.map(|merge| pair(merge).ok_or_else(|| unwritable("merge", merge.to_string()))).collect()
}

/// The name of the pre-tokenizer of a byte-level BPE.
fn name_of(definition: &Value) -> Result<&'static str, TextError> {
    let ignores_merges = definition["model"]["ignore_merges"] == true;
    let (normalizer, splits) = (&definition["normalizer"], &definition["pre_tokenizer"]);
    PreTokenizer::name_of(normalizer, splits, ignores_merges).ok_or_else(|| {
        let found = format!("{splits}, with the normalizer {normalizer} and ignore_merges {ignores_merges}");
        unwritable("pre-tokenizer", found)
    })
}

/// Whether a SentencePiece BPE puts a space before a text.
fn has_space_prefix(definition: &Value) -> Result<bool, TextError> {
    let (normalizer, splits) = (&definition["normalizer"], &definition["pre_tokenizer"]);
    let steps = pre_tokenizer::steps(normalizer);
    let is_space = |step: &Value| {
        step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == "▁"
    };
    let is_prefix = |step: &Value| step["type"] == "Prepend" && step["prepend"] == "▁";
    let found = match (&steps[..], splits) {
        ([space], Value::Null) if is_space(space) => Some(false),
        ([prefix, space], Value::Null) if is_prefix(prefix) && is_space(space) => Some(true),
        ([], splits)
            if splits["type"] == "Metaspace" && splits["replacement"] == "▁" && splits["split"] == false =>
        {
            match splits["prepend_scheme"].as_str() {
                Some("always" | "first") => Some(true),
                Some("never") => Some(false),
                _ => None,
            }
        }
        _ => None,
    };
    found.ok_or_else(|| unwritable("pre-tokenizer", format!("{splits}, with the normalizer {normalizer}")))
}

/// Refuses merges that are not in the order of the ids they lead to, by which a `llama` vocabulary ranks them.
fn check_order(tokenizer: &ChatTokenizer, merges: &[[String; 2]]) -> Result<(), TextError> {
    let id = |merge: &[String; 2]| tokenizer.token_to_id(&merge.concat());
    match merges.is_sorted_by_key(id) {
        true => Ok(()),
        false => Err(unwritable("order of merges", "not that of the token ids")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::byte_vocabulary;
    use super::*;

    fn there_and_back(vocabulary: &GgufVocabulary) -> Result<GgufVocabulary, TextError> {
        ChatTokenizer::from_gguf(vocabulary.clone())
            .expect("a valid vocabulary")
            .to_gguf(vocabulary.tokens.len())
    }

    #[test]
    fn a_byte_level_vocabulary_comes_back() {
        for pre in pre_tokenizer::canonical() {
            for add_bos in [false, true] {
                let mut vocabulary = byte_vocabulary();
                vocabulary.pre = pre.to_owned();
                vocabulary.add_bos = Some(add_bos);
                vocabulary.merges = vec!["h e".to_owned(), "a n".to_owned()];
                vocabulary.tokens.splice(254..256, ["he".to_owned(), "an".to_owned()]);
                assert_eq!(there_and_back(&vocabulary).expect(pre), vocabulary);
                assert_eq!(vocabulary.scores(), None);
            }
        }
    }

    #[test]
    fn an_end_of_turn_that_is_no_end_of_sequence_is_named() {
        let mut vocabulary = byte_vocabulary();
        vocabulary.tokens.push("<|endoftext|>".to_owned());
        vocabulary.token_types.push(CONTROL);
        vocabulary.eos = Some(260);
        let written = there_and_back(&vocabulary).expect("written");
        assert_eq!((written.eos, &written.ends[..]), (Some(260), &[256][..]));
        vocabulary.eos = Some(256);
        let written = there_and_back(&vocabulary).expect("written");
        assert!(written.ends.is_empty(), "<|endoftext|> is known by its text");
    }

    fn sentencepiece() -> GgufVocabulary {
        let mut tokens = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
        let mut token_types = vec![UNKNOWN, CONTROL, CONTROL];
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
        token_types.extend([BYTE; 256]);
        for piece in ["▁a", "an", "▁an", "▁▁", "a", "n", "▁", "b"] {
            tokens.push(piece.to_owned());
            token_types.push(NORMAL);
        }
        GgufVocabulary {
            model: "llama".to_owned(),
            pre: "default".to_owned(),
            tokens,
            token_types,
            bos: Some(1),
            eos: Some(2),
            unk: Some(0),
            add_bos: Some(true),
            add_space_prefix: Some(true),
            ..GgufVocabulary::default()
        }
    }

    #[test]
    fn a_sentencepiece_vocabulary_comes_back() {
        for prefix in [false, true] {
            let vocabulary = GgufVocabulary { add_space_prefix: Some(prefix), ..sentencepiece() };
            assert_eq!(there_and_back(&vocabulary).expect("written"), vocabulary);
        }
        let scores = sentencepiece().scores().expect("scores");
        assert!(scores.is_sorted_by(|earlier, later| earlier > later));
    }

    /// The forms that published files have for the same computation.
    #[test]
    fn metaspace_is_a_space_prefix() {
        for (scheme, prefix) in [("always", true), ("first", true), ("never", false)] {
            let definition = serde_json::json!({
                "normalizer": null,
                "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false},
            });
            assert_eq!(has_space_prefix(&definition).expect(scheme), prefix);
        }
    }

    fn refuses(change: impl FnOnce(&mut Value), part: &str) {
        let mut tokenizer = ChatTokenizer::from_gguf(byte_vocabulary()).expect("a valid vocabulary");
        let mut definition: Value = serde_json::from_str(&tokenizer.definition).expect("JSON");
        change(&mut definition);
        tokenizer.definition = definition.to_string();
        let error = tokenizer.to_gguf(260).expect_err(part).to_string();
        assert!(error.contains(part) && error.contains("\nhint: "), "{error}");
    }

    #[test]
    fn what_gguf_has_no_name_for_is_refused() {
        refuses(|it| it["model"]["type"] = "Unigram".into(), "its model is Unigram");
        refuses(|it| it["model"]["dropout"] = 0.1.into(), "its dropout is 0.1");
        refuses(
            |it| it["pre_tokenizer"]["pretokenizers"][0]["add_prefix_space"] = true.into(),
            "its pre-tokenizer is",
        );
        refuses(|it| it["normalizer"] = serde_json::json!({"type": "Lowercase"}), "its pre-tokenizer is");
        refuses(|it| it["model"]["byte_fallback"] = true.into(), "its pre-tokenizer is");
        refuses(
            |it| it["model"]["merges"] = serde_json::json!([["a b", "c"]]),
            "its merge is [\"a b\",\"c\"]",
        );
        let tokenizer = ChatTokenizer::from_gguf(byte_vocabulary()).expect("a valid vocabulary");
        let error = tokenizer.to_gguf(100).expect_err("too small").to_string();
        assert!(error.contains("259 tokens for an embedding of 100 rows"), "{error}");
    }

    #[test]
    fn what_would_give_other_ids_is_refused() {
        let mut vocabulary = byte_vocabulary();
        vocabulary.merges = vec!["1 2".to_owned()];
        vocabulary.tokens[255] = "12".to_owned();
        let mut tokenizer = ChatTokenizer::from_gguf(vocabulary.clone()).expect("a valid vocabulary");
        // The definition splits digits, the tokenizer itself does not.
        let apart = GgufVocabulary { pre: "smollm".to_owned(), ..vocabulary };
        tokenizer.definition = ChatTokenizer::from_gguf(apart).expect("a valid vocabulary").definition;
        let error = tokenizer.to_gguf(260).expect_err("other ids").to_string();
        assert!(error.contains("its result is other ids for \"1234567890"), "{error}");
    }
}
