//! The tokenizer of a checkpoint: which metadata keys of a GGUF file hold which part of it, in both directions.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, "Tokenizer".

use crate::chat::ChatError;
use solon_model::weights::{GgufValue, TextSource};
use solon_text::{ChatTokenizer, GgufVocabulary, TextError};

/// The tokenizer of a checkpoint.
pub fn open_text(source: &TextSource) -> Result<ChatTokenizer, ChatError> {
    let metadata = match source {
        TextSource::Folder(folder) => return Ok(ChatTokenizer::from_folder(folder)?),
        TextSource::Gguf(metadata) => metadata,
    };
    let string = |key: &str| metadata.string(key).map(|s| s.unwrap_or_default().to_owned());
    let id = |key: &str| metadata.u64(key).map(|id| id.and_then(|id| u32::try_from(id).ok()));
    let strings = |key: &str| metadata.strings(key).map(|s| s.unwrap_or_default().to_vec());
    let vocabulary = GgufVocabulary {
        model: string("tokenizer.ggml.model")?,
        pre: string("tokenizer.ggml.pre")?,
        tokens: strings("tokenizer.ggml.tokens")?,
        token_types: metadata.i32s("tokenizer.ggml.token_type")?.unwrap_or_default().to_vec(),
        merges: strings("tokenizer.ggml.merges")?,
        bos: id("tokenizer.ggml.bos_token_id")?,
        eos: id("tokenizer.ggml.eos_token_id")?,
        unk: id("tokenizer.ggml.unknown_token_id")?,
        pad: id("tokenizer.ggml.padding_token_id")?,
        ends: [id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?]
            .into_iter()
            .flatten()
            .collect(),
        add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
        add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix")?,
        chat_template: match metadata.string("tokenizer.chat_template")? {
            Some(template) => Some(template.to_owned()),
            None => metadata.string("tokenizer.chat_template.default")?.map(str::to_owned),
        },
    };
    Ok(ChatTokenizer::from_gguf(vocabulary)?)
}

/// The metadata by which [`open_text`] builds the same tokenizer from a GGUF file. `rows`: those of the model's embedding.
pub fn gguf_keys(text: &ChatTokenizer, rows: usize) -> Result<Vec<(String, GgufValue)>, TextError> {
    let vocabulary = text.to_gguf(rows)?;
    let scores = vocabulary.scores();
    let is_bpe = scores.is_none();
    let id = |id: Option<u32>| id.map(GgufValue::U32);
    let mut ends = vocabulary.ends.iter().copied();
    let keys = [
        ("model", Some(GgufValue::Text(vocabulary.model))),
        ("pre", Some(GgufValue::Text(vocabulary.pre))),
        ("tokens", Some(GgufValue::Texts(vocabulary.tokens))),
        ("scores", scores.map(GgufValue::F32s)),
        ("token_type", Some(GgufValue::I32s(vocabulary.token_types))),
        ("merges", is_bpe.then_some(GgufValue::Texts(vocabulary.merges))),
        ("bos_token_id", id(vocabulary.bos)),
        ("eos_token_id", id(vocabulary.eos)),
        ("eot_token_id", id(ends.next())),
        ("eom_token_id", id(ends.next())),
        ("unknown_token_id", id(vocabulary.unk)),
        ("padding_token_id", id(vocabulary.pad)),
        ("add_bos_token", vocabulary.add_bos.map(GgufValue::Bool)),
        ("add_space_prefix", vocabulary.add_space_prefix.map(GgufValue::Bool)),
    ];
    let keys = keys.into_iter().filter_map(|(key, value)| Some((format!("tokenizer.ggml.{key}"), value?)));
    let template = vocabulary
        .chat_template
        .map(|template| ("tokenizer.chat_template".to_owned(), GgufValue::Text(template)));
    Ok(keys.chain(template).collect())
}
