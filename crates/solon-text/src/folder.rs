//! Loads a tokenizer from a Hugging Face model folder.
//!
//! Reads `tokenizer.json` and, if they exist, `tokenizer_config.json`, `chat_template.jinja`, `special_tokens_map.json`
//! and `generation_config.json`. Precedence is transformers': `tokenizer_config.json` before `special_tokens_map.json`,
//! and the template's own file before the field in the configuration.
//! Source: transformers 5, `tokenization_utils_base.py::_from_pretrained`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Map, Value};
use solon_records::GIT_LFS_POINTER;
use tokenizers::{AddedToken, Tokenizer};

use crate::tokenizer::{Parts, SpecialTokens};
use crate::{ChatTokenizer, TextError};

const CONFIGURATION: &str = "tokenizer_config.json";

impl ChatTokenizer {
    /// Loads the tokenizer of a Hugging Face model folder. A folder without a chat template loads; rendering then gives
    /// an error.
    pub fn from_folder(folder: &Path) -> Result<Self, TextError> {
        let path = folder.join("tokenizer.json");
        let definition =
            read(&path)?.ok_or_else(|| TextError::NoTokenizerFile { folder: folder.to_owned() })?;
        let origin = path.display().to_string();
        let mut tokenizer = build(&definition, &origin)?;

        let configuration_path = folder.join(CONFIGURATION);
        let configuration = read_object(&configuration_path)?;
        let added = add_missing_tokens(&mut tokenizer, &configuration, &configuration_path)?;
        let definition = if added { serialize(&tokenizer, &origin)? } else { definition };

        let fallback = read_object(&folder.join("special_tokens_map.json"))?;
        let token = |field: &str| token_text(&configuration, field).or_else(|| token_text(&fallback, field));
        let required = |field: &'static str| match token(field) {
            None => Ok(None),
            Some(token) => match tokenizer.token_to_id(&token) {
                Some(id) => Ok(Some(id)),
                None => Err(TextError::UnknownSpecialToken { field, token }),
            },
        };
        // Nothing here needs unk and pad, so a folder loads even if they name tokens that it does not have.
        let optional = |field: &str| token(field).and_then(|token| tokenizer.token_to_id(&token));
        let special = SpecialTokens {
            bos: required("bos_token")?,
            eos: required("eos_token")?,
            unk: optional("unk_token"),
            pad: optional("pad_token"),
            extra_stops: generation_stops(&folder.join("generation_config.json"))?,
        };
        let template = match read(&folder.join("chat_template.jinja"))? {
            Some(template) => Some(template),
            None => template_field(&configuration, &configuration_path)?,
        };
        Self::from_parts(tokenizer, Parts { definition, configuration, template, special })
    }
}

/// Builds a tokenizer from the text of a `tokenizer.json`. Settings that would change ids by length or by chance
/// (truncation, padding) are switched off, as transformers does by default.
pub(crate) fn build(definition: &str, origin: &str) -> Result<Tokenizer, TextError> {
    let failed = |error: tokenizers::Error| TextError::Tokenizer {
        origin: origin.to_owned(),
        reason: error.to_string(),
    };
    let mut tokenizer: Tokenizer = definition.parse().map_err(failed)?;
    tokenizer.with_truncation(None).map_err(failed)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn serialize(tokenizer: &Tokenizer, origin: &str) -> Result<String, TextError> {
    tokenizer
        .to_string(true)
        .map_err(|error| TextError::Tokenizer { origin: origin.to_owned(), reason: error.to_string() })
}

/// Older folders list tokens in `added_tokens_decoder` that are missing from their `tokenizer.json`; transformers adds
/// them.
fn add_missing_tokens(
    tokenizer: &mut Tokenizer,
    configuration: &Map<String, Value>,
    path: &Path,
) -> Result<bool, TextError> {
    let Some(Value::Object(listed)) = configuration.get("added_tokens_decoder") else {
        return Ok(false);
    };
    let malformed = |reason: String| TextError::Malformed { path: path.to_owned(), reason };
    let mut missing = Vec::new();
    for (id, token) in listed {
        let id: u32 =
            id.parse().map_err(|_| malformed(format!("added_tokens_decoder: `{id}` is not a token id")))?;
        let Some(content) = token.get("content").and_then(Value::as_str) else {
            return Err(malformed(format!("added_tokens_decoder.{id} has no text field `content`")));
        };
        if tokenizer.token_to_id(content).is_none() {
            let flag = |name: &str| token.get(name).and_then(Value::as_bool);
            let special = flag("special").unwrap_or(false);
            let added = AddedToken::from(content, special)
                .single_word(flag("single_word").unwrap_or(false))
                .lstrip(flag("lstrip").unwrap_or(false))
                .rstrip(flag("rstrip").unwrap_or(false))
                .normalized(flag("normalized").unwrap_or(!special));
            missing.push((id, added));
        }
    }
    missing.sort_by_key(|(id, _)| *id);
    for (id, added) in &missing {
        tokenizer.add_tokens(std::slice::from_ref(added));
        let given = tokenizer.token_to_id(&added.content);
        if given != Some(*id) {
            let reason = format!(
                "added_tokens_decoder gives `{}` the id {id}, but tokenizer.json leaves {given:?} for it; the two files do not belong together",
                added.content
            );
            return Err(malformed(reason));
        }
    }
    Ok(!missing.is_empty())
}

/// A special token, written as text or as an `AddedToken` object.
fn token_text(object: &Map<String, Value>, field: &str) -> Option<String> {
    let value = object.get(field)?;
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str)).map(str::to_owned)
}

/// `chat_template`: text, or a list of named templates; `default` is the one for chat.
fn template_field(configuration: &Map<String, Value>, path: &Path) -> Result<Option<String>, TextError> {
    let malformed = |reason: &str| TextError::Malformed { path: path.to_owned(), reason: reason.to_owned() };
    match configuration.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(named)) => {
            let text = |entry: &Value| entry.get("template").and_then(Value::as_str).map(str::to_owned);
            let default =
                named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            let chosen = default.or(if named.len() == 1 { named.first() } else { None });
            match chosen.and_then(text) {
                Some(template) => Ok(Some(template)),
                None => Err(malformed("chat_template is a list without a template named `default`")),
            }
        }
        Some(_) => Err(malformed("chat_template is neither text nor a list of named templates")),
    }
}

/// `eos_token_id` of `generation_config.json`: one id or a list.
fn generation_stops(path: &Path) -> Result<Vec<u32>, TextError> {
    let id = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| TextError::Malformed {
            path: path.to_owned(),
            reason: format!("eos_token_id holds {value}, which is not a token id"),
        })
    };
    match read_object(path)?.get("eos_token_id") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}

/// The file's text, or `None` if the file does not exist.
fn read(path: &Path) -> Result<Option<String>, TextError> {
    match fs::read_to_string(path) {
        Ok(text) if text.starts_with(GIT_LFS_POINTER) => Err(TextError::Pointer { path: path.to_owned() }),
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Read { path: path.to_owned(), source }),
    }
}

/// The file's JSON object; empty if the file does not exist.
fn read_object(path: &Path) -> Result<Map<String, Value>, TextError> {
    let Some(text) = read(path)? else {
        return Ok(Map::new());
    };
    serde_json::from_str(&text)
        .map_err(|error| TextError::Malformed { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::tests::byte_tokenizer;
    use solon_records::Message;

    /// Loads a folder with the byte tokenizer's `tokenizer.json` and the given files.
    fn load(files: &[(&str, &str)]) -> Result<ChatTokenizer, TextError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("tokenizer.json"), &byte_tokenizer().definition).expect("a file");
        for (name, content) in files {
            fs::write(folder.path().join(name), content).expect("a file");
        }
        ChatTokenizer::from_folder(folder.path())
    }

    fn check_refused(files: &[(&str, &str)], expected: &str) {
        let error = load(files).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn the_templates_own_file_wins() {
        let configuration = r#"{"eos_token": {"content": "<|im_end|>"}, "chat_template": "field"}"#;
        let files = [("tokenizer_config.json", configuration), ("chat_template.jinja", "file")];
        assert_eq!(load(&files).expect("loads").template(), Some("file"));
        assert_eq!(load(&files[..1]).expect("loads").template(), Some("field"));
    }

    #[test]
    fn special_tokens_fall_back_to_their_map_and_stops_to_the_generation_settings() {
        let map = r#"{"eos_token": "<|im_end|>", "pad_token": "[NOT-THERE]"}"#;
        let tokenizer = load(&[("special_tokens_map.json", map)]).expect("loads");
        assert_eq!((tokenizer.eos(), tokenizer.pad()), (Some(256), None));
        let tokenizer =
            load(&[("generation_config.json", r#"{"eos_token_id": [257, 256]}"#)]).expect("loads");
        assert_eq!((tokenizer.eos(), tokenizer.end_of_turn()), (None, 257));
        assert_eq!(tokenizer.stop_ids(), [257, 256]);
    }

    #[test]
    fn tokens_only_the_configuration_lists_are_added() {
        let configuration = |id: u32| {
            format!(
                r#"{{"eos_token": "<|end|>", "added_tokens_decoder": {{"{id}": {{"content": "<|end|>", "special": true}}}}}}"#
            )
        };
        let tokenizer = load(&[("tokenizer_config.json", &configuration(259))]).expect("loads");
        assert_eq!((tokenizer.eos(), tokenizer.encode("<|end|>").expect("text")), (Some(259), vec![259]));
        check_refused(&[("tokenizer_config.json", &configuration(300))], "do not belong together");
    }

    #[test]
    fn a_folder_without_a_template_loads_and_says_so_when_asked_to_render() {
        let tokenizer = load(&[("tokenizer_config.json", r#"{"eos_token": "<|im_end|>"}"#)]).expect("loads");
        let result = tokenizer.render(&[Message::user("q")], true);
        assert!(matches!(result, Err(TextError::NoTemplate)), "{result:?}");
        let tokenizer = tokenizer.with_template(crate::CHATML_TEMPLATE).expect("ChatML");
        assert_eq!(
            tokenizer.render(&[Message::user("q")], true).expect("renders"),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn a_wrong_folder_is_refused_with_file_and_field() {
        let empty = tempfile::tempdir().expect("a temporary folder");
        assert!(matches!(ChatTokenizer::from_folder(empty.path()), Err(TextError::NoTokenizerFile { .. })));
        check_refused(&[("tokenizer.json", "{}")], "cannot be built");
        check_refused(&[("tokenizer_config.json", "{")], "tokenizer_config.json: EOF");
        check_refused(&[("tokenizer_config.json", r#"{"eos_token": "<eos>"}"#)], "eos_token is `<eos>`");
        check_refused(&[("tokenizer_config.json", r#"{"chat_template": 7}"#)], "neither text nor a list");
        check_refused(&[("generation_config.json", r#"{"eos_token_id": -1}"#)], "eos_token_id holds -1");
        check_refused(&[], "it is unknown how an assistant's turn ends");
    }
}
