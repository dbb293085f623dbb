//! Names of models on servers, as people give them: `openai:NAME@URL`, `openai:NAME@URL,URL`, `anthropic:NAME`,
//! `anthropic:NAME@URL`.
//!
//! Contract: a name holds no key; that is read from the environment.

use crate::{Provider, RemoteError, RemoteSettings};

/// What may be given.
const FORMS: &str = "openai:NAME@URL, openai:NAME@URL1,URL2 or anthropic:NAME";

/// Where Anthropic's own models are.
const ANTHROPIC: &str = "https://api.anthropic.com";

impl RemoteSettings {
    /// What a name says, with the key of the environment (`OPENAI_API_KEY`, `ANTHROPIC_API_KEY`) and with what suits most.
    ///
    /// Errors where it is no such name. Whether its addresses are some is checked by [`crate::Remote::new`], and whether a key
    /// is missing only before something is sent: who reads what was asked earlier needs none.
    pub fn named(name: &str) -> Result<Self, RemoteError> {
        let mut settings = parse(name)?;
        settings.key = std::env::var(settings.provider.key_variable()).ok().filter(|key| !key.is_empty());
        Ok(settings)
    }
}

/// Refuses to send something to a server that is known to want a key, without one.
pub(crate) fn check_key(settings: &RemoteSettings) -> Result<(), RemoteError> {
    if settings.key.is_some() || !settings.urls.iter().any(|url| url.starts_with(ANTHROPIC)) {
        return Ok(());
    }
    let rule = format!("{ANTHROPIC} needs one in {}", settings.provider.key_variable());
    Err(RemoteError::Setting { setting: "the key", value: "unset".to_owned(), rule })
}

/// A name without the key. A model's name may hold an @; an address does not.
fn parse(name: &str) -> Result<RemoteSettings, RemoteError> {
    let none = || RemoteError::Name { name: name.to_owned(), forms: FORMS };
    let given = |urls: &str| urls.split(',').map(str::to_owned).collect();
    if let Some(rest) = name.strip_prefix("openai:") {
        let (model, urls) = rest.rsplit_once('@').ok_or_else(none)?;
        return Ok(RemoteSettings::new(Provider::OpenAi, model, given(urls)));
    }
    let rest = name.strip_prefix("anthropic:").ok_or_else(none)?;
    let (model, urls) = match rest.rsplit_once('@') {
        Some((model, urls)) if urls.contains("://") => (model, given(urls)),
        _ => (rest, vec![ANTHROPIC.to_owned()]),
    };
    Ok(RemoteSettings::new(Provider::Anthropic, model, urls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_provider_model_and_addresses() {
        let read = |name: &str| {
            parse(name)
                .map(|settings| (settings.provider, settings.model, settings.urls))
                .map_err(|e| e.to_string())
        };
        let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        let (openai, anthropic) = (Provider::OpenAi, Provider::Anthropic);
        assert_eq!(
            read("openai:org/m@v2@http://a:1/v1,https://b"),
            Ok((openai, "org/m@v2".to_owned(), urls(&["http://a:1/v1", "https://b"])))
        );
        assert_eq!(read("anthropic:claude"), Ok((anthropic, "claude".to_owned(), urls(&[ANTHROPIC]))));
        assert_eq!(read("anthropic:claude@2"), Ok((anthropic, "claude@2".to_owned(), urls(&[ANTHROPIC]))));
        assert_eq!(
            read("anthropic:claude@http://127.0.0.1:9"),
            Ok((anthropic, "claude".to_owned(), urls(&["http://127.0.0.1:9"])))
        );
        for bad in ["openai:judge", "judge", "gemini:judge@http://host", ""] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(&format!("`{bad}`")) && error.contains("openai:NAME@URL"), "{error}");
        }
    }
}
