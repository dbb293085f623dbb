//! Where a model is, how it is asked, and what that may cost.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::RemoteError;

/// Whose protocol a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// OpenAI's chat completions and its completions of texts, which most servers offer.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
}

impl Provider {
    /// Its name, as in `openai:NAME@URL`.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// The environment variable that holds the key.
    pub fn key_variable(self) -> &'static str {
        match self {
            Self::OpenAi => "OPENAI_API_KEY",
            Self::Anthropic => "ANTHROPIC_API_KEY",
        }
    }
}

/// The most that may be spent on one model, counted over all replies of its record, those of earlier runs included. A reply that
/// was lost, or that does not say how many tokens it took, counts with all that it may have taken; a lost one in its own run
/// alone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Budget {
    /// Input and output tokens together.
    pub max_tokens: Option<u64>,
    /// Money, in the currency of the prices.
    pub max_cost: Option<f64>,
    /// The price of a million input tokens.
    pub price_in: f64,
    /// The price of a million output tokens.
    pub price_out: f64,
}

/// Where a model is, and how it is asked.
#[derive(Clone)]
pub struct RemoteSettings {
    /// Whose protocol.
    pub provider: Provider,
    /// The model's name on the server.
    pub model: String,
    /// Base addresses of servers with the same model, such as `http://127.0.0.1:8080/v1`. To one without a path, `/v1` is added.
    pub urls: Vec<String>,
    /// Sent to each of them. It is never shown, not even by `Debug`.
    pub key: Option<String>,
    /// Questions asked at the same time.
    pub concurrency: usize,
    /// How often a question is asked again where servers are busy or do not answer.
    pub retries: u32,
    /// The longest wait for a reply of one token.
    pub timeout: Duration,
    /// So much longer for each further token that may be written.
    pub timeout_per_token: Duration,
    /// Requests in any minute, over all servers.
    pub requests_per_minute: Option<u32>,
    /// Tokens in any minute, over all servers: those sent and those that may be written.
    pub tokens_per_minute: Option<u64>,
    /// What may be spent. It needs `answers`, or what was paid for would be lost when it is used up.
    pub budget: Option<Budget>,
    /// Where replies are recorded. One process at a time may use the file.
    pub answers: Option<PathBuf>,
}

impl RemoteSettings {
    /// A model at these addresses, with what suits most.
    pub fn new(provider: Provider, model: impl Into<String>, urls: Vec<String>) -> Self {
        Self {
            provider,
            model: model.into(),
            urls,
            key: None,
            concurrency: 8,
            retries: 4,
            timeout: Duration::from_secs(120),
            timeout_per_token: Duration::from_millis(500),
            requests_per_minute: None,
            tokens_per_minute: None,
            budget: None,
            answers: None,
        }
    }

    /// The longest wait for a reply of so many tokens.
    pub(crate) fn longest_wait(&self, tokens: usize) -> Duration {
        let further = u32::try_from(tokens.saturating_sub(1)).unwrap_or(u32::MAX);
        self.timeout.saturating_add(self.timeout_per_token.saturating_mul(further))
    }

    /// Refuses settings that leave nothing to ask. Addresses are checked where they are read.
    pub(crate) fn check(&self) -> Result<(), RemoteError> {
        let wrong = |setting, value: &dyn fmt::Display, rule: &str| {
            Err(RemoteError::Setting { setting, value: value.to_string(), rule: rule.to_owned() })
        };
        if self.model.is_empty() {
            return wrong("the server's model", &"", "name the model as the server knows it");
        }
        if self.urls.is_empty() {
            return wrong("the server's address", &"", "give at least one");
        }
        if let Some(url) =
            self.urls.iter().enumerate().find_map(|(at, url)| self.urls[..at].contains(url).then_some(url))
        {
            return wrong("the server's address", url, "it is given twice; give it once");
        }
        // What a header cannot carry. The key itself stays out of the message.
        if self.key.as_ref().is_some_and(|key| key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic())) {
            let rule = "a key is visible ASCII characters without spaces";
            return wrong("the key", &format_args!("in {}", self.provider.key_variable()), rule);
        }
        if self.concurrency == 0 || self.concurrency > 1024 {
            return wrong("concurrency", &self.concurrency, "it must be from 1 to 1024");
        }
        if self.timeout.is_zero() {
            return wrong("timeout", &"0", "it must be longer");
        }
        if self.requests_per_minute == Some(0) {
            return wrong("requests per minute", &0, "it must be at least 1");
        }
        if self.tokens_per_minute == Some(0) {
            return wrong("tokens per minute", &0, "it must be at least 1");
        }
        let Some(budget) = &self.budget else { return Ok(()) };
        for (setting, price) in
            [("the price of input tokens", budget.price_in), ("the price of output tokens", budget.price_out)]
        {
            if !price.is_finite() || price < 0.0 {
                return wrong(setting, &price, "it must be a number from 0 upwards");
            }
        }
        match budget {
            Budget { max_tokens: None, max_cost: None, .. } => {
                wrong("the budget", &"none", "give the most tokens or the most cost")
            }
            Budget { max_cost: Some(cost), .. } if !cost.is_finite() || *cost < 0.0 => {
                wrong("the most cost", cost, "it must be a number from 0 upwards")
            }
            Budget { max_cost: Some(cost), price_in, price_out, .. } if price_in + price_out == 0.0 => {
                wrong("the most cost", cost, "it needs the prices of tokens")
            }
            _ if self.answers.is_none() => {
                wrong("answers", &"unset", "a budget needs a record, or what was paid for would be lost")
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for RemoteSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            provider,
            model,
            urls,
            key,
            concurrency,
            retries,
            timeout,
            timeout_per_token,
            requests_per_minute,
            tokens_per_minute,
            budget,
            answers,
        } = self;
        formatter
            .debug_struct("RemoteSettings")
            .field("provider", provider)
            .field("model", model)
            .field("urls", urls)
            .field("key", if key.is_some() { &"set" } else { &"unset" })
            .field("concurrency", concurrency)
            .field("retries", retries)
            .field("timeout", timeout)
            .field("timeout_per_token", timeout_per_token)
            .field("requests_per_minute", requests_per_minute)
            .field("tokens_per_minute", tokens_per_minute)
            .field("budget", budget)
            .field("answers", answers)
            .finish()
    }
}
