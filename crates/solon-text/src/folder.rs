//! Loads a tokenizer from a Hugging Face model folder.
//!
//! Reads `tokenizer.json` and, if they exist, `tokenizer_config.json`, `chat_template.jinja`, `special_tokens_map.json`,
//! `added_tokens.json`, `generation_config.json` and `config.json`. Precedence is transformers': `tokenizer_config.json` before
//! `special_tokens_map.json`, the template's own file before the field in the configuration, and `generation_config.json` before
//! `config.json`.
//! Source: transformers 5, `tokenization_utils_base.py::_from_pretrained`, `generation/configuration_utils.py`.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use solon_records::{GIT_LFS_POINTER, without_panic};
use tokenizers::{AddedToken, Tokenizer};

use crate::tokenizer::{Parts, SpecialTokens};
use crate::{ChatTokenizer, TextError, definition};

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
        let fallback = read_object(&folder.join("special_tokens_map.json"))?;
        let mut added = add_missing_tokens(&mut tokenizer, &configuration, &configuration_path)?;
        added |= add_legacy_tokens(&mut tokenizer, &folder.join("added_tokens.json"))?;
        added |= add_special_tokens(&mut tokenizer, &[&configuration, &fallback], &origin)?;
        let definition =
            if added { with_added_tokens(&definition, &tokenizer, &origin)? } else { definition };

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
            extra_stops: stops(folder)?,
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
    let failed = |reason: String| TextError::Tokenizer { origin: origin.to_owned(), reason };
    definition::check(definition).map_err(failed)?;
    guarded(|| {
        let mut tokenizer: Tokenizer = definition.parse()?;
        tokenizer.with_truncation(None)?;
        tokenizer.with_padding(None);
        Ok(tokenizer)
    })
    .map_err(failed)
}

/// What the library gives. It panics at some definitions that contradict themselves (tokenizers 0.22).
pub(crate) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match without_panic(work) {
        Some(result) => result.map_err(|error| error.to_string()),
        None => Err("the definition is damaged, or contradicts itself".to_owned()),
    }
}

/// The definition with the tokenizer's added tokens in place of its own; every other field keeps its text. The library's own way of writing
/// a tokenizer prints to the standard output where the vocabulary leaves ids out, and counts up to the greatest of them.
fn with_added_tokens(definition: &str, tokenizer: &Tokenizer, origin: &str) -> Result<String, TextError> {
    let mut tokens: Vec<_> = tokenizer
        .get_added_tokens_decoder()
        .into_iter()
        .map(|(id, token)| AddedTokenWithId { id, token })
        .collect();
    tokens.sort_by_key(|token| token.id);
    let write = || {
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(definition)?;
        fields.insert("added_tokens".to_owned(), to_raw_value(&tokens)?);
        serde_json::to_string(&fields)
    };
    write().map_err(|error| TextError::Tokenizer { origin: origin.to_owned(), reason: error.to_string() })
}

/// An entry of `added_tokens` in a `tokenizer.json`.
#[derive(Serialize)]
struct AddedTokenWithId {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
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
            let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
            missing.push((id, added_token(content, token, special)));
        }
    }
    add_at(tokenizer, missing, "added_tokens_decoder", path)
}

/// An added token with the flags that are written beside its text, if it is written as an object.
fn added_token(content: &str, written: &Value, special: bool) -> AddedToken {
    let flag = |name: &str| written.get(name).and_then(Value::as_bool);
    AddedToken::from(content, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false))
        .normalized(flag("normalized").unwrap_or(!special))
}

/// The oldest folders list them in a file of their own, as `{token: id}`.
fn add_legacy_tokens(tokenizer: &mut Tokenizer, path: &Path) -> Result<bool, TextError> {
    let mut missing = Vec::new();
    for (content, id) in read_object(path)? {
        let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
            let reason = format!("`{content}` has {id}, which is not a token id");
            return Err(TextError::Malformed { path: path.to_owned(), reason });
        };
        if tokenizer.token_to_id(&content).is_none() {
            missing.push((id, AddedToken::from(content, false)));
        }
    }
    add_at(tokenizer, missing, "it", path)
}

/// Adds tokens, which must get the ids that `list` gives them.
fn add_at(
    tokenizer: &mut Tokenizer,
    mut missing: Vec<(u32, AddedToken)>,
    list: &str,
    path: &Path,
) -> Result<bool, TextError> {
    missing.sort_by_key(|(id, _)| *id);
    let malformed = |reason: String| TextError::Malformed { path: path.to_owned(), reason };
    let added: Vec<AddedToken> = missing.iter().map(|(_, added)| added.clone()).collect();
    added.iter().try_for_each(|added| definition::check_added(&added.content)).map_err(malformed)?;
    guarded(|| Ok(tokenizer.add_tokens(&added))).map_err(malformed)?;
    for (id, added) in &missing {
        let given = tokenizer.token_to_id(&added.content);
        if given != Some(*id) {
            let reason = format!(
                "{list} gives `{}` the id {id}, but tokenizer.json leaves {given:?} for it; the two files do not belong together",
                added.content
            );
            return Err(malformed(reason));
        }
    }
    Ok(!missing.is_empty())
}

/// The fields that name special tokens, one or a list.
const SPECIAL: [&str; 9] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "pad_token",
    "cls_token",
    "sep_token",
    "mask_token",
    "additional_special_tokens",
    "extra_special_tokens",
];

/// A token of the vocabulary that is named as special stays whole in a text, even where tokenizer.json does not list it among the
/// added tokens. One that is not in the vocabulary has no weights and is left out.
fn add_special_tokens(
    tokenizer: &mut Tokenizer,
    objects: &[&Map<String, Value>],
    origin: &str,
) -> Result<bool, TextError> {
    let mut missing = Vec::new();
    {
        let listed = tokenizer.get_added_tokens_decoder();
        let known: HashSet<&str> = listed.values().map(|token| token.content.as_str()).collect();
        for named in SPECIAL.iter().flat_map(|field| objects.iter().filter_map(|object| object.get(*field))) {
            for (content, written) in tokens(named) {
                if tokenizer.token_to_id(content).is_some() && !known.contains(content) {
                    missing.push(added_token(content, written, true));
                }
            }
        }
    }
    let failed = |reason: String| TextError::Tokenizer { origin: origin.to_owned(), reason };
    missing.iter().try_for_each(|added| definition::check_added(&added.content)).map_err(failed)?;
    guarded(|| Ok(tokenizer.add_special_tokens(&missing))).map_err(failed)?;
    Ok(!missing.is_empty())
}

/// Tokens, each with how it is written: one, a list of them, or an object of named ones.
fn tokens(value: &Value) -> Vec<(&str, &Value)> {
    match value {
        Value::String(text) => vec![(text, value)],
        Value::Array(list) => list.iter().flat_map(tokens).collect(),
        Value::Object(token) => match token.get("content").and_then(Value::as_str) {
            Some(text) => vec![(text, value)],
            None => token.values().flat_map(tokens).collect(),
        },
        _ => Vec::new(),
    }
}

/// A special token, written as text or as an `AddedToken` object.
fn token_text(object: &Map<String, Value>, field: &str) -> Option<String> {
    let value = object.get(field)?;
    value.as_str().or_else(|| value.get("content").and_then(Value::as_str)).map(str::to_owned)
}

/// `chat_template`: text, or several named ones, as a list or an object; `default` is the one for chat.
fn template_field(configuration: &Map<String, Value>, path: &Path) -> Result<Option<String>, TextError> {
    let malformed = |reason: &str| TextError::Malformed { path: path.to_owned(), reason: reason.to_owned() };
    let text = |entry: &Value| entry.as_str().map(str::to_owned);
    let (only, default) = match configuration.get("chat_template") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(template)) => return Ok(Some(template.clone())),
        Some(Value::Array(named)) => {
            let template = |entry: &Value| entry.get("template").and_then(text);
            let default =
                named.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
            (named.first().filter(|_| named.len() == 1).and_then(template), default.and_then(template))
        }
        Some(Value::Object(named)) => (
            named.values().next().filter(|_| named.len() == 1).and_then(text),
            named.get("default").and_then(text),
        ),
        Some(_) => return Err(malformed("chat_template is neither text nor a list of named templates")),
    };
    match default.or(only) {
        Some(template) => Ok(Some(template)),
        None => Err(malformed("chat_template has several templates and none is named `default`")),
    }
}

/// The ids at which generation stops: `eos_token_id` of `generation_config.json`, or else of `config.json`.
fn stops(folder: &Path) -> Result<Vec<u32>, TextError> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        let ids = match read_object(&path)?.remove("eos_token_id") {
            None | Some(Value::Null) => continue,
            Some(Value::Array(ids)) => ids,
            Some(value) => vec![value],
        };
        return ids.iter().map(|id| token_id(id, &path)).collect();
    }
    Ok(Vec::new())
}

fn token_id(value: &Value, path: &Path) -> Result<u32, TextError> {
    value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| TextError::Malformed {
        path: path.to_owned(),
        reason: format!("eos_token_id holds {value}, which is not a token id"),
    })
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
    use serde_json::json;
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
        for several in [
            r#"[{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]"#,
            r#"{"tool_use": "no", "default": "yes"}"#,
            r#"{"other": "yes"}"#,
        ] {
            let configuration = format!(r#"{{"eos_token": "<|im_end|>", "chat_template": {several}}}"#);
            let tokenizer = load(&[("tokenizer_config.json", &configuration)]).expect("loads");
            assert_eq!(tokenizer.template(), Some("yes"), "{several}");
        }
    }

    #[test]
    fn special_tokens_fall_back_to_their_map_and_stops_to_the_generation_settings() {
        let map = r#"{"eos_token": "<|im_end|>", "pad_token": "[NOT-THERE]"}"#;
        let tokenizer = load(&[("special_tokens_map.json", map)]).expect("loads");
        assert_eq!((tokenizer.eos(), tokenizer.pad()), (Some(256), None));
        let of_model = ("config.json", r#"{"eos_token_id": 258}"#);
        let tokenizer =
            load(&[of_model, ("generation_config.json", r#"{"eos_token_id": [257, 256]}"#)]).expect("loads");
        assert_eq!((tokenizer.eos(), tokenizer.end_of_turn()), (None, 257));
        assert_eq!(tokenizer.stop_ids(), [257, 256]);
        assert_eq!(load(&[of_model]).expect("loads").stop_ids(), [258]);
    }

    #[test]
    fn tokens_named_as_special_stay_whole() {
        let plain = load(&[("tokenizer_config.json", r#"{"eos_token": "<|im_end|>"}"#)]).expect("loads");
        assert_eq!(plain.encode("ab").expect("text"), [u32::from(b'a'), u32::from(b'b')]);
        for named in [
            r#""cls_token": "A""#,
            r#""additional_special_tokens": ["A", "[NOT-THERE]"]"#,
            r#""extra_special_tokens": {"image": {"content": "A"}}"#,
        ] {
            let configuration = format!(r#"{{"eos_token": "<|im_end|>", {named}}}"#);
            let tokenizer = load(&[("tokenizer_config.json", &configuration)]).expect("loads");
            let ids = tokenizer.encode("aA").expect("text");
            assert_eq!(ids, [u32::from(b'a'), u32::from(b'A')]);
            assert_eq!(tokenizer.decode(&ids), "a", "a special token is silent");
        }
        let taking =
            r#"{"eos_token": "<|im_end|>", "extra_special_tokens": [{"content": "A", "rstrip": true}]}"#;
        let tokenizer = load(&[("tokenizer_config.json", taking)]).expect("loads");
        let ids = tokenizer.encode("A  b").expect("text");
        assert_eq!(ids, [u32::from(b'A'), u32::from(b'b')], "it takes the white space after it");
        let old = load(&[
            ("tokenizer_config.json", r#"{"eos_token": "<new>"}"#),
            ("added_tokens.json", r#"{"<new>": 259}"#),
        ]);
        assert_eq!(old.expect("loads").encode("<new>").expect("text"), [259]);
        check_refused(&[("added_tokens.json", r#"{"<new>": 300}"#)], "do not belong together");
    }

    #[test]
    fn what_is_added_is_written_into_the_definition() {
        let configuration =
            ("tokenizer_config.json", r#"{"eos_token": "<|im_end|>", "additional_special_tokens": ["A"]}"#);
        let whole = byte_tokenizer().definition.replace("\"a\": 97,", "\"a\": 4294967295,");
        assert!(whole.contains("4294967295"), "{whole}");
        let tokenizer = load(&[("tokenizer.json", &whole), configuration]).expect("loads");
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let (mut before, mut after) = (read(&whole), read(&tokenizer.definition));
        let added = after["added_tokens"].take();
        before["added_tokens"].take();
        assert_eq!(after, before, "a vocabulary with holes, however far apart, is left as it is");
        let of_a = added.as_array().expect("a list").iter().find(|token| token["content"] == "A");
        let expected = json!({"id": 65, "content": "A", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true});
        assert_eq!(of_a, Some(&expected));
        let again = load(&[("tokenizer.json", &tokenizer.definition), configuration]).expect("loads");
        assert_eq!(again.definition, tokenizer.definition);
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
        // The library panics at it.
        check_refused(
            &[("tokenizer.json", "{\"decoder\": {\"type\": \"Fuse\n\"}}")],
            "control character (\\u0000-\\u001F) found while parsing a string at line 2",
        );
        check_refused(&[("tokenizer_config.json", "{")], "tokenizer_config.json: EOF");
        check_refused(&[("tokenizer_config.json", r#"{"eos_token": "<eos>"}"#)], "eos_token is `<eos>`");
        check_refused(&[("tokenizer_config.json", r#"{"chat_template": 7}"#)], "neither text nor a list");
        check_refused(&[("generation_config.json", r#"{"eos_token_id": -1}"#)], "eos_token_id holds -1");
        check_refused(&[], "it is unknown how an assistant's turn ends");
    }
}
