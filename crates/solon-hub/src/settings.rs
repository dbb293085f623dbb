//! Where the Hub and its cache are, and who asks: the variables of `huggingface_hub`, read in its order.
//!
//! Contract: the environment is read once, here. The token is shown nowhere.
//!
//! Source: `huggingface_hub/constants.py`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::HubError;
use crate::origin::Origin;

/// The Hub where no other is named.
const HUGGING_FACE: &str = "https://huggingface.co";

/// How the Hub is asked.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// The Hub's address, without a slash at its end.
    pub endpoint: String,
    /// The folder of repositories, `$HF_HOME/hub` by default.
    pub cache: PathBuf,
    /// Who asks, where anybody is logged in.
    pub token: Option<Token>,
    /// The Hub is not asked; the cache alone is used.
    pub network: Network,
    /// How often a request that brings nothing new is sent again.
    pub retries: u32,
    /// The wait before the first of these; each further one is twice as long, up to sixteen times.
    pub wait: Duration,
    /// The longest wait for a connection, a reply or the next bytes of one.
    pub patience: Duration,
}

/// Whether anything is asked of the Hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// It may be asked.
    Allowed,
    /// The cache alone is used.
    Forbidden,
}

/// A secret that says who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token; none if the text cannot be one, because it is empty or would break a header.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(the token)")
    }
}

impl HubSettings {
    /// As the environment says.
    ///
    /// # Errors
    /// [`HubError::Setting`] for a value that cannot be used.
    pub fn from_environment() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// As these variables say.
    ///
    /// # Errors
    /// [`HubError::Setting`] for a value that cannot be used.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| given(name).map(PathBuf::from);
        let text = |name: &str| given(name).map(|value| value.to_string_lossy().into_owned());
        let is_on = |name: &str| {
            let on = ["1", "ON", "YES", "TRUE"];
            text(name).is_some_and(|value| on.contains(&value.to_uppercase().as_str()))
        };
        let cache = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")));
        let home = path("HF_HOME").or_else(|| cache.map(|cache| cache.join("huggingface")));
        let home = home.ok_or(HubError::Setting {
            variable: "HF_HOME",
            value: String::new(),
            rule: "without HOME it must name the folder of the Hub's cache",
        })?;
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| HUGGING_FACE.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if Origin::of(&endpoint).is_none() || endpoint.contains(['?', '#']) {
            return Err(HubError::Setting {
                variable: "HF_ENDPOINT",
                value: endpoint,
                rule: "it must be an address such as https://huggingface.co, without a user or a query",
            });
        }
        let in_file = || {
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            std::fs::read_to_string(file).ok()
        };
        let token = text("HF_TOKEN").or_else(|| match is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            true => None,
            false => in_file(),
        });
        Ok(Self {
            endpoint,
            cache: path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub")),
            token: token.as_deref().and_then(Token::new),
            network: match is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE") {
                true => Network::Forbidden,
                false => Network::Allowed,
            },
            retries: 5,
            wait: Duration::from_secs(1),
            patience: Duration::from_secs(60),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<HubSettings, HubError> {
        HubSettings::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn variables_are_read_in_the_order_of_the_official_client() {
        let plain = settings(&[("HOME", "/home/a")]).unwrap();
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert_eq!(plain.cache, PathBuf::from("/home/a/.cache/huggingface/hub"));
        assert_eq!((plain.token, plain.network), (None, Network::Allowed));
        let cache = |variables: &[(&str, &str)]| settings(variables).unwrap().cache;
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), PathBuf::from("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/h"), ("HF_HOME", "/big")]), PathBuf::from("/big/hub"));
        assert_eq!(cache(&[("HF_HOME", "/big"), ("HF_HUB_CACHE", "/c")]), PathBuf::from("/c"));
        let network = |value| settings(&[("HF_HOME", "/h"), ("HF_HUB_OFFLINE", value)]).unwrap().network;
        assert_eq!([network("1"), network("true")], [Network::Forbidden; 2]);
        assert_eq!([network("0"), network("")], [Network::Allowed; 2]);
        assert!(settings(&[]).is_err());
    }

    #[test]
    fn a_token_comes_from_the_environment_or_from_its_file_and_is_not_shown() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_of_the_file\n").unwrap();
        let home = home.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| settings(&[&[("HF_HOME", home)], more].concat()).unwrap().token;
        assert_eq!(token(&[]), Token::new("hf_of_the_file"));
        assert_eq!(token(&[("HF_TOKEN", "hf_given")]), Token::new("hf_given"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(Token::new("two\nlines"), None);
        assert!(!format!("{:?}", settings(&[("HF_HOME", home)])).contains("hf_of"));
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for wrong in
            ["huggingface.co", "ftp://host", "https://user@host", "https://", "http://a b", "https://h?x"]
        {
            let error = settings(&[("HF_HOME", "/h"), ("HF_ENDPOINT", wrong)]).unwrap_err().to_string();
            assert!(error.contains("HF_ENDPOINT") && error.contains(wrong), "{error}");
        }
        let kept = settings(&[("HF_HOME", "/h"), ("HF_ENDPOINT", "http://127.0.0.1:80/hub/")]).unwrap();
        assert_eq!(kept.endpoint, "http://127.0.0.1:80/hub");
    }
}
