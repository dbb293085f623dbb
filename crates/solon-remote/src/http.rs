//! One request to one server, and what its failure means.
//!
//! Contract: a reply is read up to a bound and within a time, and no redirect is followed, because a key would go with it. Text
//! of a server stands in an error shortened, on one line, and without the key.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::address::Address;
use crate::protocol;
use crate::{Interface, RemoteSettings, UnansweredKind};

/// Largest reply that is read, in bytes.
const LARGEST: u64 = 8 << 20;

/// What the network says where there is no server.
const UNREACHABLE: [std::io::ErrorKind; 4] = [
    std::io::ErrorKind::ConnectionRefused,
    std::io::ErrorKind::HostUnreachable,
    std::io::ErrorKind::NetworkUnreachable,
    std::io::ErrorKind::NetworkDown,
];

/// Why one request failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub kind: FailureKind,
    pub reason: String,
    /// The server may have worked on it, and charged for it.
    pub may_cost: bool,
}

/// What a failure means for what comes next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FailureKind {
    /// The server has too much to do. It says how long to wait, or not.
    Busy(Option<Duration>),
    /// It may go well next time.
    Passing,
    /// The server cannot be reached: as passing, but if it stays so, every question fails.
    Unreachable,
    /// This question will not go well.
    Lasting(UnansweredKind),
    /// No question will go well there.
    ForAll,
}

impl Failure {
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), may_cost: false }
    }

    /// A failure after the request had reached the server.
    pub fn late(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), may_cost: true }
    }
}

/// A server's reply of any status.
pub(crate) struct Response {
    pub status: u16,
    pub text: String,
    content_type: String,
    /// How long it asks to wait.
    wait: Option<Duration>,
}

/// Sends requests to one server.
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    headers: Vec<(&'static str, String)>,
    key: Option<String>,
    key_variable: &'static str,
    model: String,
    connect: Duration,
}

impl Client {
    pub fn new(settings: &RemoteSettings, address: &Address) -> Self {
        let connect = Duration::from_secs(10).min(settings.timeout);
        let mut config = ureq::Agent::config_builder()
            .timeout_connect(Some(connect))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(settings.concurrency)
            .max_idle_connections_per_host(settings.concurrency);
        if address.is_own {
            // A proxy cannot reach this machine's own servers.
            config = config.proxy(None);
        }
        Self {
            agent: config.build().new_agent(),
            base: address.base.clone(),
            headers: protocol::headers(settings.provider, settings.key.as_deref()),
            key: settings.key.clone(),
            key_variable: settings.provider.key_variable(),
            model: settings.model.clone(),
            connect,
        }
    }

    /// Sends a body and waits for the reply, at most so long.
    pub fn post(&self, path: &str, body: &Value, longest: Duration) -> Result<Response, Failure> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let mut request = request.config().timeout_global(Some(longest)).build();
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        self.taken(request.send_json(body), longest)
    }

    /// Asks for what a path holds.
    pub fn get(&self, path: &str, longest: Duration) -> Result<Response, Failure> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let mut request = request.config().timeout_global(Some(longest)).build();
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        self.taken(request.call(), longest)
    }

    fn taken(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        longest: Duration,
    ) -> Result<Response, Failure> {
        let mut response = response.map_err(|error| self.failure(&error, longest))?;
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let wait = wait(header("retry-after-ms"), header("retry-after"), SystemTime::now());
        let content_type = header("content-type").unwrap_or("none").to_owned();
        let status = response.status().as_u16();
        let bytes = response.body_mut().with_config().limit(LARGEST).read_to_vec();
        let bytes = bytes.map_err(|error| {
            let failure = self.failure(&error, longest);
            // An error of the server costs nothing, even where its text is lost.
            Failure { may_cost: failure.may_cost && status == 200, ..failure }
        })?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| {
            let what =
                format!("the reply (HTTP {status}, content type {}) is not UTF-8", self.shown(&content_type));
            Failure::late(FailureKind::Lasting(UnansweredKind::Malformed), what)
        })?;
        Ok(Response { status, text, content_type, wait })
    }

    /// What a status other than 200 means.
    pub fn refusal(&self, response: &Response, interface: Interface) -> Failure {
        let Response { status, text, wait, .. } = response;
        let says = format!("HTTP {status}: {}", self.shown(&complaint(text)));
        let (kind, hint) = match status {
            401 | 403 => (FailureKind::ForAll, format!("\nhint: is {} right?", self.key_variable)),
            404 | 405 | 501 if interface == Interface::Completions => {
                let hint = format!(
                    "\nhint: does the server continue texts? Many only chat. Else, is `{}` the name of a model there?",
                    self.model
                );
                (FailureKind::ForAll, hint)
            }
            404 => {
                let hint =
                    format!("\nhint: is `{}` the name of a model there, and the address right?", self.model);
                (FailureKind::ForAll, hint)
            }
            100..=399 | 405 => (FailureKind::ForAll, "\nhint: is the address right?".to_owned()),
            402 => (FailureKind::ForAll, String::new()),
            // The account is empty: waiting does not fill it.
            429 if text.contains("insufficient_quota") => (FailureKind::ForAll, String::new()),
            429 | 503 | 529 => (FailureKind::Busy(*wait), String::new()),
            408 | 409 | 425 | 500..=599 => match wait {
                Some(_) => (FailureKind::Busy(*wait), String::new()),
                None => (FailureKind::Passing, String::new()),
            },
            _ => (FailureKind::Lasting(UnansweredKind::Refused), String::new()),
        };
        Failure::new(kind, says + &hint)
    }

    /// A reply with status 200 that is not what it should be.
    pub fn misread(&self, response: &Response, kind: FailureKind, reason: &str) -> Failure {
        let content_type = self.shown(&response.content_type);
        let what = format!("{reason}; content type {content_type}: {}", self.shown(&response.text));
        Failure::late(kind, what)
    }

    /// What a failure of the network means, where a reply was waited for so long.
    fn failure(&self, error: &ureq::Error, longest: Duration) -> Failure {
        let running = "\nhint: is the server running?";
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                let seconds = self.connect.as_secs_f64();
                let what = format!("there was no connection within {seconds} seconds{running}");
                Failure::new(FailureKind::Unreachable, what)
            }
            ureq::Error::Timeout(_) => {
                let what = format!("there was no reply within {} seconds", longest.as_secs_f64());
                Failure::late(FailureKind::Passing, what)
            }
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                Failure::new(FailureKind::Unreachable, format!("{error}{running}"))
            }
            ureq::Error::Io(io) if UNREACHABLE.contains(&io.kind()) => {
                Failure::new(FailureKind::Unreachable, format!("{io}{running}"))
            }
            // What rustls says of a certificate, or of a server that does not speak TLS.
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => Failure::new(
                FailureKind::ForAll,
                format!("no secure connection: {io}\nhint: is the certificate valid, and the address right?"),
            ),
            ureq::Error::Tls(_)
            | ureq::Error::Rustls(_)
            | ureq::Error::BadUri(_)
            | ureq::Error::Http(_)
            | ureq::Error::InvalidProxyUrl
            | ureq::Error::ConnectProxyFailed(_) => Failure::new(FailureKind::ForAll, error.to_string()),
            ureq::Error::BodyExceedsLimit(_) => {
                let what = format!("the reply is larger than {} MiB", LARGEST >> 20);
                Failure::late(FailureKind::Lasting(UnansweredKind::TooLarge), what)
            }
            _ => Failure::late(FailureKind::Passing, error.to_string()),
        }
    }

    /// The start of what a server said, for an error: on one line, without control characters and without the key, which a
    /// server may repeat.
    fn shown(&self, text: &str) -> String {
        let hidden = self.key.as_ref().map(|key| text.replace(key, "(the key)"));
        let text = hidden.as_deref().unwrap_or(text);
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// What an error says, in OpenAI's, Anthropic's and FastAPI's form; else the whole text. What else is there, such as a request's number,
/// differs from one time to the next.
fn complaint(text: &str) -> String {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let says = [&body["error"]["message"], &body["error"], &body["message"], &body["detail"]];
    says.into_iter().find_map(Value::as_str).unwrap_or(text).to_owned()
}

/// How long a server asks to wait: milliseconds, or seconds, or a date.
fn wait(milliseconds: Option<&str>, after: Option<&str>, now: SystemTime) -> Option<Duration> {
    let number = |text: &str, unit: f64| {
        let number = text.parse::<f64>().ok()? * unit;
        Duration::try_from_secs_f64(number).ok()
    };
    milliseconds.and_then(|text| number(text, 0.001)).or_else(|| {
        let text = after?;
        number(text, 1.0).or_else(|| {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(now).unwrap_or(Duration::ZERO))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let after = |text: &str| wait(None, Some(text), now);
        assert_eq!(after("0"), Some(Duration::ZERO));
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("1.5"), Some(Duration::from_millis(1500)));
        // Seven seconds later, and long ago.
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(after("Fri, 06 Nov 1992 08:49:37 GMT"), Some(Duration::ZERO));
        for wrong in ["-1", "NaN", "soon", "", "1e300"] {
            assert_eq!(after(wrong), None, "{wrong}");
        }
        assert_eq!(wait(Some("250"), Some("1"), now), Some(Duration::from_millis(250)));
        assert_eq!(wait(Some("?"), Some("1"), now), Some(Duration::from_secs(1)));
    }
}
