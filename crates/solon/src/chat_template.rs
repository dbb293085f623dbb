//! A chat template from a file, in place of the model's own.
//!
//! Contract: a file that is no template, or one that writes nothing of a conversation, is refused by name before anything is computed with it.

use anyhow::{Context, Result, bail};
use solon_records::Message;
use solon_text::{ChatTokenizer, LONGEST_TEMPLATE, TextError};
use std::path::Path;

/// Its file in a folder of a model or an adapter.
pub const FILE: &str = "chat_template.jinja";

/// The tokenizer with the template of `file`, where there is one.
pub fn replaced(text: ChatTokenizer, file: Option<&Path>) -> Result<ChatTokenizer> {
    let Some(file) = file else { return Ok(text) };
    let name = || format!("the chat template {}", file.display());
    let text = text.with_template(&source(file)?).with_context(name)?;
    check(&text).with_context(name)?;
    Ok(text)
}

/// A file's text.
pub fn source(file: &Path) -> Result<String> {
    let name = || format!("the chat template {}", file.display());
    let bytes = std::fs::metadata(file).with_context(name)?.len();
    if bytes > LONGEST_TEMPLATE as u64 {
        bail!("{} has {bytes} bytes, which is no chat template", name());
    }
    let source = std::fs::read(file).with_context(name)?;
    String::from_utf8(source).map_err(|_| anyhow::anyhow!("{} is not UTF-8 text", name()))
}

/// Says that an adapter has a template of its own, where another is used.
pub fn note_unused(text: &ChatTokenizer, adapter: Option<&Path>, given: Option<&Path>) {
    let Some(file) = adapter.filter(|_| given.is_none()).map(|folder| folder.join(FILE)) else { return };
    if let Ok(own) = source(&file)
        && text.template() != Some(own.as_str())
    {
        let file = file.display();
        eprintln!("note: the model's chat template is used; the adapter has another: --chat-template {file}");
    }
}

/// Tries the template. One that refuses this conversation, as some that need a system message do, is none the worse.
fn check(text: &ChatTokenizer) -> Result<()> {
    const QUESTION: &str = "PROBE-QUESTION";
    match text.render(&[Message::user(QUESTION)], true) {
        Ok(rendered) if !rendered.contains(QUESTION) => {
            bail!(
                "it writes nothing of what the user says\nhint: give a Jinja template, such as a model's chat_template.jinja"
            )
        }
        Ok(_) | Err(TextError::TemplateRaised { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_template_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.jinja");
        let tokenizer = || {
            let tokenizer = serde_json::json!({
                "version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0, "</s>": 1}, "unk_token": "a"},
            });
            std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
            std::fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "</s>"}"#).unwrap();
            ChatTokenizer::from_folder(folder.path()).unwrap()
        };
        let with = |source: &[u8]| {
            std::fs::write(&path, source).unwrap();
            replaced(tokenizer(), Some(&path)).map_err(|error| format!("{error:#}"))
        };
        let good = "{% for m in messages %}{{ m.content }}{% endfor %}";
        assert_eq!(with(good.as_bytes()).unwrap().template(), Some(good));
        for (source, expected) in [
            (&b"{% for m in messages %}\n{% if %}"[..], "line 2"),
            (b"{\"chat_template\": \"x\"}", "writes nothing of what the user says"),
            (b"{{ messages[5].content.strip() }}", "the chat template failed, line 1"),
            (b"\xff\xfe", "is not UTF-8"),
        ] {
            let error = with(source).unwrap_err();
            assert!(error.contains("t.jinja") && error.contains(expected), "{error}");
        }
        assert!(with(b"{{ raise_exception('a system message first') }}").is_ok());
        let error = format!("{:#}", replaced(tokenizer(), Some(&folder.path().join("none"))).unwrap_err());
        assert!(error.contains("none"), "{error}");
    }
}
