//! Builds a tokenizer from the vocabulary in a GGUF file's metadata.
//!
//! Contract: the same ids as the model's own `tokenizer.json`. A GGUF file has the tokens and merges, but only the name
//! of the pre-tokenizer. The definitions are repeated here, and the result is a `tokenizer.json` like the one the model
//! was published with. So loading and exporting work the same way for both.
//! Sources: the models' published `tokenizer.json` files; llama.cpp, `src/llama-vocab.cpp` (which name means which
//! expression) and `gguf-py/gguf/constants.py` (token types); transformers, `convert_slow_tokenizer.py`
//! (SentencePiece).

mod pre_tokenizer;
mod written;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use self::pre_tokenizer::PreTokenizer;
use crate::folder::build;
use crate::tokenizer::{Parts, SpecialTokens};
use crate::{ChatTokenizer, TextError};

/// GGUF token types, `gguf-py/gguf/constants.py::TokenType`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// Tokens that end a generation by their text, whatever the file says of them. Source: llama.cpp, `special_eog_ids`.
const ENDS: [&str; 18] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
];

/// Bytes of the longest piece that merges may lead to: each of its cuts is looked up, and no tokenizer has longer ones.
const LONGEST_PIECE: usize = 1024;
/// Bytes of all merges of a `llama` vocabulary. Published ones have a few million.
const LONGEST_MERGES: usize = 1 << 26;

/// Further tokens that are control tokens by their text. Source: llama.cpp, "control-looking token".
const CONTROL_LOOKING: [&str; 19] = [
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<reponame>",
    "<|file_sep|>",
];

/// A tokenizer as GGUF metadata describes it: plain data, parsed by the reader of the file. The metadata key is named
/// at each field.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: String,
    /// `tokenizer.ggml.pre`: the pre-tokenizer's name; empty means `default`.
    pub pre: String,
    /// `tokenizer.ggml.tokens`: the token of each id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`: the kind of each id; empty means all normal.
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`: `left right`, best first; empty for `llama`.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad: Option<u32>,
    /// `tokenizer.ggml.eot_token_id` and `tokenizer.ggml.eom_token_id`: further ids at which generation stops.
    pub ends: Vec<u32>,
    /// `tokenizer.ggml.add_bos_token`: kept for exports; [`ChatTokenizer::encode`] adds nothing. Where the file does not say,
    /// `llama` and some pre-tokenizers add one.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`, of `llama` only; true where the file does not say.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}

impl ChatTokenizer {
    /// Builds the tokenizer of a GGUF file.
    ///
    /// A `llama` vocabulary is read as BPE whose merges are ranked by token id. SentencePiece writes its pieces in that
    /// order, but a vocabulary extended by hand may have another order.
    ///
    /// # Errors
    /// [`TextError::GgufUnsupported`] lists what is supported; [`TextError::GgufField`] names a field that contradicts
    /// the others.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, TextError> {
        vocabulary.check()?;
        let definition = match vocabulary.model.as_str() {
            "gpt2" => byte_level_definition(&vocabulary)?,
            "llama" => sentencepiece_definition(&vocabulary)?,
            other => {
                return Err(TextError::GgufUnsupported {
                    field: "tokenizer.ggml.model",
                    found: other.to_owned(),
                    supported: "gpt2, llama".to_owned(),
                });
            }
        };
        let definition = format!("{definition:#}");
        let tokenizer = build(&definition, "the GGUF metadata")?;
        let special = SpecialTokens {
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            unk: vocabulary.unk,
            pad: vocabulary.pad,
            extra_stops: vocabulary.ends(),
        };
        let template = vocabulary.chat_template;
        Self::from_parts(tokenizer, Parts { definition, configuration: Map::new(), template, special })
    }
}

impl GgufVocabulary {
    fn check(&self) -> Result<(), TextError> {
        let (tokens, types) = (self.tokens.len(), self.token_types.len());
        if types != 0 && types != tokens {
            let reason = format!("{types} types for {tokens} tokens; the file is damaged");
            return Err(TextError::GgufField { field: "tokenizer.ggml.token_type", reason });
        }
        let mut seen = HashMap::new();
        for (id, token) in self.kept() {
            if let Some(first) = seen.insert(token, id) {
                let reason = format!("ids {first} and {id} are both `{token}`; the file is damaged");
                return Err(TextError::GgufField { field: "tokenizer.ggml.tokens", reason });
            }
        }
        for (field, id) in [
            ("tokenizer.ggml.bos_token_id", self.bos),
            ("tokenizer.ggml.eos_token_id", self.eos),
            ("tokenizer.ggml.unknown_token_id", self.unk),
            ("tokenizer.ggml.padding_token_id", self.pad),
            ("tokenizer.ggml.eot_token_id", self.ends.iter().copied().max()),
        ] {
            if let Some(id) = id.filter(|id| *id as usize >= tokens) {
                let reason = format!("id {id}, but there are {tokens} tokens; the file is damaged");
                return Err(TextError::GgufField { field, reason });
            }
        }
        Ok(())
    }

    /// The kind of a token. A token that ends a turn is a control token even where the file calls it normal: else its text
    /// would be split, and no turn would end.
    fn token_type(&self, id: usize) -> i32 {
        match self.token_types.get(id).copied().unwrap_or(NORMAL) {
            NORMAL if self.looks_like_control(id) => CONTROL,
            kind => kind,
        }
    }

    fn looks_like_control(&self, id: usize) -> bool {
        let token = self.tokens[id].as_str();
        ENDS.contains(&token) || CONTROL_LOOKING.contains(&token)
    }

    /// The ids at which generation stops, beside the end of sequence: those that the file names, then those that are known
    /// by their text.
    fn ends(&self) -> Vec<u32> {
        let by_text = self.kept().filter(|(_, token)| ENDS.contains(token)).map(|(id, _)| id as u32);
        self.ends.iter().copied().chain(by_text).collect()
    }

    /// Tokens by id, without those that only pad the embedding.
    fn kept(&self) -> impl Iterator<Item = (usize, &str)> {
        self.tokens.iter().map(String::as_str).enumerate().filter(|(id, _)| self.token_type(*id) != UNUSED)
    }

    fn vocab(&self) -> Value {
        Value::Object(self.kept().map(|(id, token)| (token.to_owned(), json!(id))).collect())
    }

    fn added_tokens(&self) -> Value {
        let added =
            self.kept().filter(|(id, _)| [UNKNOWN, CONTROL, USER_DEFINED].contains(&self.token_type(*id)));
        added
            .map(|(id, token)| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": self.token_type(id) != USER_DEFINED,
                })
            })
            .collect()
    }

    /// `adds_bos`: where the file does not say.
    fn post_processor(&self, adds_bos: bool) -> Value {
        let Some(bos) = self.bos.filter(|_| self.add_bos.unwrap_or(adds_bos)) else {
            return Value::Null;
        };
        let token = &self.tokens[bos as usize];
        let opening = json!({"SpecialToken": {"id": token, "type_id": 0}});
        let text = |name: &str, kind: u8| json!({"Sequence": {"id": name, "type_id": kind}});
        json!({
            "type": "TemplateProcessing",
            "single": [opening, text("A", 0)],
            "pair": [opening, text("A", 0), opening, text("B", 1)],
            "special_tokens": {token: {"id": token, "ids": [bos], "tokens": [token]}},
        })
    }

    fn definition(
        &self,
        normalizer: Value,
        pre_tokenizer: Value,
        decoder: Value,
        model: Value,
        adds_bos: bool,
    ) -> Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": self.post_processor(adds_bos),
            "decoder": decoder,
            "model": model,
        })
    }
}

fn byte_level_definition(vocabulary: &GgufVocabulary) -> Result<Value, TextError> {
    let PreTokenizer { normalizer, splits, ignore_merges, adds_bos } =
        PreTokenizer::named(&vocabulary.pre).ok_or_else(|| TextError::GgufUnsupported {
            field: "tokenizer.ggml.pre",
            found: vocabulary.pre.clone(),
            supported: pre_tokenizer::names().collect::<Vec<_>>().join(", "),
        })?;
    let merges: Result<Vec<Value>, TextError> = vocabulary
        .merges
        .iter()
        .enumerate()
        .map(|(rank, merge)| match merge.split_once(' ') {
            Some((left, right)) => Ok(json!([left, right])),
            None => {
                let reason = format!("entry {rank} is `{merge}`, not two tokens with a space between");
                Err(TextError::GgufField { field: "tokenizer.ggml.merges", reason })
            }
        })
        .collect();
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges,
        "vocab": vocabulary.vocab(), "merges": merges?,
    });
    let pre_tokenizer = json!({"type": "Sequence", "pretokenizers": splits});
    Ok(vocabulary.definition(normalizer, pre_tokenizer, pre_tokenizer::byte_level(true), model, adds_bos))
}

fn sentencepiece_definition(vocabulary: &GgufVocabulary) -> Result<Value, TextError> {
    let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let mut normalizers = vec![space];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if vocabulary.add_space_prefix.unwrap_or(true) {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": vocabulary.unk.map(|id| &vocabulary.tokens[id as usize]),
        "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
        "ignore_merges": false, "vocab": vocabulary.vocab(), "merges": merges_by_id(vocabulary)?,
    });
    let normalizer = json!({"type": "Sequence", "normalizers": normalizers});
    let decoder = json!({"type": "Sequence", "decoders": decoders});
    Ok(vocabulary.definition(normalizer, Value::Null, decoder, model, true))
}

/// The merges that a SentencePiece vocabulary implies: every way to build a piece from two others, in the order of the
/// pieces' ids. Errors where they are too many. Source: transformers, `convert_slow_tokenizer.py::generate_merges`.
fn merges_by_id(vocabulary: &GgufVocabulary) -> Result<Vec<[&str; 2]>, TextError> {
    let normal = |id: &usize| vocabulary.token_type(*id) == NORMAL;
    let ids: HashMap<&str, usize> =
        vocabulary.kept().filter(|(id, _)| normal(id)).map(|(id, token)| (token, id)).collect();
    let mut merges = Vec::new();
    let mut length = 0;
    for (_, piece) in vocabulary.kept().filter(|(id, piece)| normal(id) && piece.len() <= LONGEST_PIECE) {
        let cuts = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
        let mut ways: Vec<(usize, usize, [&str; 2])> = cuts
            .filter_map(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?, [left, right])))
            .collect();
        ways.sort_unstable();
        length += piece.len() * ways.len();
        if length > LONGEST_MERGES {
            return Err(TextError::GgufField {
                field: "tokenizer.ggml.tokens",
                reason: format!(
                    "the ways to make its pieces of one another take more than {LONGEST_MERGES} bytes"
                ),
            });
        }
        merges.extend(ways.into_iter().map(|(_, _, pair)| pair));
    }
    Ok(merges)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// GPT-2's spelling of a byte. Source: openai/gpt-2, `encoder.py::bytes_to_unicode`.
    fn spell(byte: u8) -> String {
        let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = match printable(byte) {
            true => u32::from(byte),
            false => 256 + (0..byte).filter(|other| !printable(*other)).count() as u32,
        };
        char::from_u32(code).into_iter().collect()
    }

    pub(super) fn byte_vocabulary() -> GgufVocabulary {
        let mut tokens: Vec<String> = (0..=255).map(spell).collect();
        tokens.extend(["<|im_end|>", "<|im_start|>", "<tool>", "[PAD259]"].map(str::to_owned));
        let mut token_types = vec![1; 256];
        token_types.extend([CONTROL, CONTROL, USER_DEFINED, UNUSED]);
        GgufVocabulary {
            model: "gpt2".to_owned(),
            pre: "gpt-2".to_owned(),
            tokens,
            token_types,
            bos: Some(257),
            eos: Some(256),
            pad: Some(256),
            chat_template: Some(crate::CHATML_TEMPLATE.to_owned()),
            ..GgufVocabulary::default()
        }
    }

    /// A tokenizer in which byte `b` is token `b`, with ChatML; `<|im_end|>` is 256 and also the pad token.
    pub(crate) fn byte_tokenizer() -> ChatTokenizer {
        ChatTokenizer::from_gguf(byte_vocabulary()).expect("a valid vocabulary")
    }

    #[test]
    fn token_types_become_added_tokens() {
        let tokenizer = byte_tokenizer();
        assert_eq!(tokenizer.vocab_size(), 259, "an unused token only fills the embedding up");
        let ids = tokenizer.encode("é<|im_end|><tool>[").expect("text");
        assert_eq!(ids, [0xC3, 0xA9, 256, 258, u32::from(b'[')]);
        assert_eq!(
            tokenizer.decode(&ids),
            "é<tool>[",
            "control tokens are silent, user-defined ones are text"
        );
    }

    /// A token called normal by mistake would be split, and a turn would never end.
    #[test]
    fn what_ends_a_turn_is_a_control_token_whatever_its_type() {
        let vocabulary = GgufVocabulary { token_types: Vec::new(), eos: None, ..byte_vocabulary() };
        let tokenizer = ChatTokenizer::from_gguf(vocabulary).expect("a valid vocabulary");
        assert_eq!(tokenizer.encode("a<|im_end|>").expect("text"), [u32::from(b'a'), 256]);
        assert_eq!((tokenizer.end_of_turn(), tokenizer.stop_ids()), (256, &[256][..]));
        let mut vocabulary = byte_vocabulary();
        vocabulary.tokens.push("<|endoftext|>".to_owned());
        vocabulary.token_types.push(NORMAL);
        vocabulary.ends = vec![258];
        let tokenizer = ChatTokenizer::from_gguf(vocabulary).expect("a valid vocabulary");
        assert_eq!(tokenizer.stop_ids(), [256, 258, 260]);
    }

    fn check(change: impl FnOnce(&mut GgufVocabulary), expected: &str) {
        let mut vocabulary = byte_vocabulary();
        change(&mut vocabulary);
        let error = ChatTokenizer::from_gguf(vocabulary).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_damaged_or_unknown_vocabulary_is_refused_with_its_field() {
        check(|it| it.pre = "deepseek-llm".to_owned(), "supported are smollm, starcoder, refact, command-r,");
        check(
            |it| it.model = "bert".to_owned(),
            "`tokenizer.ggml.model` is `bert`; supported are gpt2, llama",
        );
        check(|it| it.token_types.truncate(9), "tokenizer.ggml.token_type");
        check(|it| it.tokens[1] = it.tokens[0].clone(), "ids 0 and 1 are both");
        check(|it| it.eos = Some(1000), "tokenizer.ggml.eos_token_id");
        check(|it| it.merges = vec!["ab".to_owned()], "entry 0 is `ab`");
        check(|it| it.merges = vec!["a bc".to_owned()], "cannot be built");
        // Each piece can be made of any two that are shorter.
        let of_one_letter = |it: &mut GgufVocabulary| {
            it.model = "llama".to_owned();
            it.tokens.extend((2..1024).map(|length| "a".repeat(length)));
            it.token_types.resize(it.tokens.len(), NORMAL);
        };
        check(of_one_letter, "the ways to make its pieces of one another");
        let nameless = |it: &mut GgufVocabulary| {
            (it.eos, it.chat_template) = (None, None);
            it.tokens[256] = "<|other|>".to_owned();
        };
        check(nameless, "it is unknown how an assistant's turn ends");
    }
}
