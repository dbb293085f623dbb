//! The pre-tokenizers that GGUF files name: how a text is split before pairs of bytes are merged.
//!
//! A name stands for what the models' own `tokenizer.json` says, or, where models of many kinds share it, for what
//! llama.cpp does at that name. Source: llama.cpp, `src/llama-vocab.cpp` (`llm_tokenizer_bpe`, `impl::load`).

use serde_json::{Value, json};

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Where a file names none: four splits, one after another.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

/// Names and what they stand for.
const NAMES: [(Family, &[&str]); 11] = [
    (
        Family::Digits,
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
    ),
    (
        Family::Llama3,
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
    ),
    (Family::Dbrx, &["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"]),
    (Family::Qwen2Nfc, &["qwen2"]),
    (Family::Qwen2, &["deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"]),
    (Family::Qwen35, &["qwen35"]),
    (
        Family::Gpt2,
        &[
            "gpt-2",
            "phi-2",
            "olmo",
            "mpt",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "mellum",
        ],
    ),
    (Family::Default, &["default", ""]),
    (Family::Tekken, &["tekken"]),
    (Family::Gpt4o, &["gpt-4o", "llama4", "kanana2"]),
    (Family::SeedCoder, &["seed-coder"]),
];

#[derive(Clone, Copy)]
enum Family {
    Digits,
    Llama3,
    Dbrx,
    Qwen2Nfc,
    Qwen2,
    Qwen35,
    Gpt2,
    Default,
    Tekken,
    Gpt4o,
    SeedCoder,
}

/// How a text is split, as parts of a `tokenizer.json`.
pub(super) struct PreTokenizer {
    /// What is done to the text before.
    pub normalizer: Value,
    /// The splits, one after another.
    pub splits: Vec<Value>,
    /// Whether a piece that is a token stays one, even where no merges lead to it.
    pub ignore_merges: bool,
    /// Whether a beginning of sequence opens a text, where the file does not say.
    pub adds_bos: bool,
}

impl PreTokenizer {
    /// That of a value of `tokenizer.ggml.pre`.
    pub fn named(name: &str) -> Option<Self> {
        let (family, _) = NAMES.iter().find(|(_, names)| names.contains(&name))?;
        let one = |expression: &str| vec![split(expression), byte_level(false)];
        let splits = match family {
            Family::Digits => {
                vec![json!({"type": "Digits", "individual_digits": true}), byte_level(true)]
            }
            Family::Gpt2 => vec![byte_level(true)],
            Family::Llama3 | Family::Dbrx => one(LLAMA3),
            Family::Qwen2Nfc | Family::Qwen2 => one(QWEN2),
            Family::Qwen35 => one(QWEN35),
            Family::Tekken => one(TEKKEN),
            Family::Gpt4o => one(GPT4O),
            Family::SeedCoder => one(SEED_CODER),
            Family::Default => DEFAULT.map(split).into_iter().chain([byte_level(false)]).collect(),
        };
        let normalizer = match family {
            Family::Qwen2Nfc | Family::Qwen35 => json!({"type": "NFC"}),
            _ => Value::Null,
        };
        let whole = matches!(family, Family::Llama3 | Family::Tekken);
        Some(Self { normalizer, splits, ignore_merges: whole, adds_bos: whole })
    }
}

impl PreTokenizer {
    /// The name that stands for what a `tokenizer.json` says; the inverse of [`PreTokenizer::named`], but for names with
    /// the same meaning.
    pub fn name_of(normalizer: &Value, pre_tokenizer: &Value, ignores_merges: bool) -> Option<&'static str> {
        let (normalizer, splits) = (steps(normalizer), steps(pre_tokenizer));
        canonical().find(|name| {
            Self::named(name).is_some_and(|named| {
                let same_splits = named.splits.iter().flat_map(steps).eq(splits.iter().cloned());
                same_splits && steps(&named.normalizer) == normalizer && named.ignore_merges == ignores_merges
            })
        })
    }
}

/// The steps of a normalizer or a pre-tokenizer, one after another, in one spelling: without what does not change the
/// pieces, and with what a file may leave out.
pub(super) fn steps(of: &Value) -> Vec<Value> {
    match of["type"].as_str() {
        _ if of.is_null() => Vec::new(),
        Some("Sequence") => {
            let parts = of["pretokenizers"].as_array().or(of["normalizers"].as_array());
            parts.into_iter().flatten().flat_map(steps).collect()
        }
        Some("ByteLevel") => {
            let mut step = of.clone();
            step["trim_offsets"] = true.into();
            if step["use_regex"].is_null() {
                step["use_regex"] = true.into();
            }
            vec![step]
        }
        _ => vec![of.clone()],
    }
}

/// One name of each meaning.
pub(super) fn canonical() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(_, names)| names[0])
}

/// The names that are known.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().flat_map(|(_, names)| names.iter().copied()).filter(|name| !name.is_empty())
}

/// The step that turns characters into bytes, and, with `use_regex`, splits as GPT-2 does.
pub(super) fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

fn split(expression: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::build;

    /// The pieces of a text: a model of whole words makes each piece one token, whatever it is.
    fn pieces(name: &str, text: &str) -> Vec<String> {
        let PreTokenizer { normalizer, splits, .. } = PreTokenizer::named(name).expect("a known name");
        let definition = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": normalizer, "pre_tokenizer": {"type": "Sequence", "pretokenizers": splits},
            "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
        });
        let tokenizer = build(&definition.to_string(), "a test").expect("builds");
        let encoding = tokenizer.encode(text, false).expect("encodes");
        encoding.get_offsets().iter().map(|(start, end)| text[*start..*end].to_owned()).collect()
    }

    #[test]
    fn every_name_splits_a_text_into_all_of_it() {
        let text = "It's 12345 (3.5+2) naïve\n\n  Don'T  你好, ok?\t\r\n";
        for name in names().chain([""]) {
            assert_eq!(pieces(name, text).concat(), text, "{name}");
        }
    }

    #[test]
    fn the_default_splits_signs_and_digits_apart() {
        assert_eq!(pieces("", "a+b 12345"), ["a", "+", "b", " ", "123", "45"]);
        assert_eq!(pieces("gpt-2", "a+b 12345"), ["a", "+", "b", " 12345"]);
        assert_eq!(pieces("smollm", " 123"), [" ", "1", "2", "3"]);
        assert_eq!(pieces("dbrx", "12345"), ["123", "45"]);
    }
}
