//! One request to the Hub, and what its failure means.
//!
//! Contract: every wait has an end. Redirects are followed here and not by the client below, so that the token goes to the
//! endpoint alone and no redirect leads from https to http. What a server says stands in an error shortened, on one line, and
//! without the token.
//!
//! Source: `huggingface_hub/file_download.py` and `utils/_http.py` for the headers that the Hub explains a refusal with.

use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderMap, Response};

use crate::name::{RepositoryKind, RepositoryName};
use crate::origin::{Origin, redirected};
use crate::{HubError, HubSettings, Token};

/// Redirects after which a server is taken to send in circles.
const MOST_REDIRECTS: usize = 8;
/// The longest reply that is read into memory: a listing of about 200,000 files.
const LARGEST: u64 = 64 << 20;
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// Why one request failed.
pub(crate) enum Failure {
    /// It may go well next time. The server may say how long to wait.
    Passing { reason: String, wait: Option<Duration> },
    /// It will not.
    Lasting(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Lasting(error)
    }
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Ask {
    /// The whole, or all bytes from this one on.
    Body { from: u64 },
    /// What the endpoint says of a file, wherever its bytes lie.
    Head,
}

/// Types of what is sent and read.
pub(crate) const JSON: &str = "application/json";
pub(crate) const NDJSON: &str = "application/x-ndjson";
pub(crate) const LFS: &str = "application/vnd.git-lfs+json";

/// How something is sent.
pub(crate) struct Send<'a> {
    pub method: Method,
    pub address: &'a str,
    pub content_type: Option<&'a str>,
    pub accept: &'a str,
}

pub(crate) enum Method {
    Post,
    Put,
}

/// Who is asked about.
#[derive(Clone, Copy)]
pub(crate) struct About<'a> {
    pub kind: RepositoryKind,
    pub name: &'a RepositoryName,
}

/// Sends requests to one Hub.
pub(crate) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    origin: Option<Origin>,
    token: Option<Token>,
    retries: u32,
    wait: Duration,
}

impl Client {
    pub fn new(settings: &HubSettings) -> Self {
        let origin = Origin::of(&settings.endpoint);
        let patience = Some(settings.patience);
        let mut config = ureq::Agent::config_builder()
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .timeout_per_write(patience)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("solon/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity");
        if origin.as_ref().is_some_and(Origin::is_own) {
            // A proxy cannot reach this machine's own servers.
            config = config.proxy(None);
        }
        Self {
            agent: config.build().new_agent(),
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
            origin,
            retries: settings.retries,
            wait: settings.wait,
        }
    }

    /// The address of a path at the Hub.
    pub fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    /// Asks, and follows where the Hub sends. A reply has the status 200, 206 or 416; to [`Ask::Head`] also a redirect to
    /// another server.
    pub fn ask(&self, about: About<'_>, address: &str, ask: Ask) -> Result<Response<ureq::Body>, Failure> {
        let mut address = address.to_owned();
        for _ in 0..MOST_REDIRECTS {
            let mut request = match ask {
                Ask::Head => self.agent.head(&address),
                Ask::Body { .. } => self.agent.get(&address),
            };
            if let Ask::Body { from: from @ 1.. } = ask {
                request = request.header("range", format!("bytes={from}-"));
            }
            if let Some(token) = self.token_for(&address) {
                request = request.header("authorization", format!("Bearer {}", token.secret()));
            }
            let response = request.call().map_err(|error| self.broken(about, &error))?;
            match response.status().as_u16() {
                200 | 206 | 416 => return Ok(response),
                301 | 302 | 303 | 307 | 308 => {
                    let next = self.next(about, &address, &response)?;
                    if matches!(ask, Ask::Head) && Origin::of(&next) != self.origin {
                        return Ok(response);
                    }
                    address = next;
                }
                _ => return Err(self.refusal(about, response)),
            }
        }
        Err(self.misread(about, "it redirects in circles").into())
    }

    /// Sends a body of so many bytes; the status is 2xx or 409. Redirects are not followed.
    pub fn send(
        &self,
        about: About<'_>,
        send: &Send<'_>,
        body: ureq::SendBody<'_>,
        length: u64,
    ) -> Result<Response<ureq::Body>, Failure> {
        let mut request = match send.method {
            Method::Post => self.agent.post(send.address),
            Method::Put => self.agent.put(send.address),
        };
        request = request.header("content-length", length.to_string());
        if let Some(content_type) = send.content_type {
            request = request.header("content-type", content_type).header("accept", send.accept);
        }
        if let Some(token) = self.token_for(send.address) {
            request = request.header("authorization", format!("Bearer {}", token.secret()));
        }
        let response = request.send(body).map_err(|error| self.broken(about, &error))?;
        match response.status().as_u16() {
            200..=299 | 409 => Ok(response),
            _ => Err(self.refusal(about, response)),
        }
    }

    /// Posts a text and reads JSON, again where a failure may pass. The status comes with it.
    pub fn post(
        &self,
        about: About<'_>,
        address: &str,
        content_type: &str,
        text: &str,
    ) -> Result<(u16, Value), Failure> {
        let accept = if content_type == NDJSON { JSON } else { content_type };
        let send = Send { method: Method::Post, address, content_type: Some(content_type), accept };
        self.patiently(self.retries, || {
            let mut bytes = text.as_bytes();
            let body = ureq::SendBody::from_reader(&mut bytes);
            let mut response = self.send(about, &send, body, text.len() as u64)?;
            let status = response.status().as_u16();
            let read = response.body_mut().with_config().limit(LARGEST).read_to_vec();
            let bytes = read.map_err(|error| self.broken(about, &error))?;
            // Not every reply has a body.
            Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
        })
    }

    /// Whether a token would be sent to the Hub.
    pub fn is_logged_in(&self) -> bool {
        self.token_for(&self.endpoint).is_some()
    }

    /// The error that a failure is, where nothing is tried again.
    pub fn failed(&self, about: About<'_>, failure: Failure) -> HubError {
        match failure {
            Failure::Lasting(error) => error,
            Failure::Passing { reason, .. } => self.unreachable(about, reason),
        }
    }

    /// Asks for a text, again where a failure may pass.
    pub fn text(&self, about: About<'_>, address: &str) -> Result<String, Failure> {
        // Whoever has no network is to be told soon.
        self.patiently(2, || {
            let mut response = self.ask(about, address, Ask::Body { from: 0 })?;
            let bytes = response.body_mut().with_config().limit(LARGEST).read_to_vec();
            let bytes = bytes.map_err(|error| self.broken(about, &error))?;
            String::from_utf8(bytes).map_err(|_| self.misread(about, "the reply is not UTF-8").into())
        })
    }

    /// What the endpoint says of a file, asked again where a failure may pass.
    pub fn head(&self, about: About<'_>, address: &str) -> Result<HeaderMap, Failure> {
        self.patiently(self.retries, || {
            self.ask(about, address, Ask::Head).map(|response| response.headers().clone())
        })
    }

    /// Does it again after failures that may pass.
    pub fn patiently<T>(
        &self,
        most: u32,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut failed = 0;
        loop {
            match attempt() {
                Err(Failure::Passing { wait, .. }) if failed < most.min(self.retries) => {
                    self.pause(failed, wait);
                    failed += 1;
                }
                done => return done,
            }
        }
    }

    /// Waits before another attempt: as long as the server asks, or longer each time.
    pub fn pause(&self, failed: u32, asked: Option<Duration>) {
        let own = self.wait * 2_u32.pow(failed.min(4));
        std::thread::sleep(asked.unwrap_or(own).min(LONGEST_WAIT));
    }

    /// How often a request that brings nothing new is sent again.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// The token, if it may go to this address.
    fn token_for(&self, address: &str) -> Option<&Token> {
        let origin = self.origin.as_ref().filter(|origin| origin.is_private())?;
        self.token.as_ref().filter(|_| Origin::of(address).as_ref() == Some(origin))
    }

    /// Where a redirect leads.
    fn next(
        &self,
        about: About<'_>,
        address: &str,
        response: &Response<ureq::Body>,
    ) -> Result<String, Failure> {
        let location = header(response.headers(), "location").unwrap_or_default();
        let next = redirected(address, location);
        let next = next.ok_or_else(|| self.misread(about, "it redirects to an address that is none"))?;
        let is_private = |address: &str| Origin::of(address).is_some_and(|origin| origin.is_private());
        if is_private(address) && !is_private(&next) {
            return Err(self.misread(about, "it redirects from https to http").into());
        }
        Ok(next)
    }

    /// A reply that is not what it should be.
    pub fn misread(&self, about: About<'_>, reason: &str) -> HubError {
        HubError::Reply { repository: about.name.to_string(), reason: format!("{}: {reason}", self.endpoint) }
    }

    /// The Hub cannot be reached.
    pub fn unreachable(&self, about: About<'_>, reason: String) -> HubError {
        HubError::Unreachable { repository: about.name.to_string(), endpoint: self.endpoint.clone(), reason }
    }

    /// What a failure of the network means.
    pub fn broken(&self, about: About<'_>, error: &ureq::Error) -> Failure {
        let lasting = |reason: String| Failure::Lasting(self.misread(about, &reason));
        match error {
            // What rustls says of a certificate, or of a server that does not speak TLS.
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
                lasting(format!("there is no secure connection: {io}"))
            }
            ureq::Error::Tls(_)
            | ureq::Error::Rustls(_)
            | ureq::Error::BadUri(_)
            | ureq::Error::InvalidProxyUrl
            | ureq::Error::ConnectProxyFailed(_) => lasting(error.to_string()),
            ureq::Error::BodyExceedsLimit(_) => {
                lasting(format!("the reply is larger than {} MiB", LARGEST >> 20))
            }
            _ => Failure::Passing { reason: error.to_string(), wait: None },
        }
    }

    /// What a status means that is none of a reply.
    fn refusal(&self, about: About<'_>, mut response: Response<ureq::Body>) -> Failure {
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(64 << 10).read_to_string().unwrap_or_default();
        let headers = response.headers();
        let code = header(headers, "x-error-code").unwrap_or_default();
        let said = header(headers, "x-error-message").map(str::to_owned).unwrap_or_else(|| complaint(&body));
        let said = self.shown(&said);
        let says = if said.is_empty() { said } else { format!(": {said}") };
        let repository = about.name.to_string();
        let page = format!("{}/{}{}", self.endpoint, about.kind.page_prefix(), about.name.id);
        let login = "set HF_TOKEN to a token of https://huggingface.co/settings/tokens, or log in with `hf auth login`";
        let is_withheld = self.token.is_some() && self.token_for(&self.endpoint).is_none();
        Failure::Lasting(match status {
            401 | 403 => {
                let hint = match (code, &self.token) {
                    _ if is_withheld => {
                        format!("the token was not sent, because {} is not https", self.endpoint)
                    }
                    ("GatedRepo", None) => format!("accept its conditions at {page}, then {login}"),
                    ("GatedRepo", Some(_)) => {
                        format!("accept its conditions at {page} with the account that the token is of")
                    }
                    (_, None) => format!("is the name right? If the repository is private, {login}"),
                    (_, Some(_)) if status == 401 => {
                        format!("is the name right, and the token still valid? If not, {login}")
                    }
                    (_, Some(_)) => "the token's account, or the token itself, lacks the right; \
                                     a fine-grained token names the repositories that it may read and write"
                        .to_owned(),
                };
                HubError::Access { repository, status, says, hint }
            }
            404 if code == "RevisionNotFound" => HubError::NotFound {
                repository,
                what: format!("there is no revision `{}`", about.name.revision),
                says,
                hint: format!("the revisions are listed at {page}/tree/main"),
            },
            404 if code == "EntryNotFound" => {
                let hint = format!("the files are listed at {page}/tree/main");
                HubError::NotFound { repository, what: "there is no such file".to_owned(), says, hint }
            }
            404 => {
                let what = format!("there is no such repository at {}", self.endpoint);
                let hint = match self.token {
                    Some(_) => "is the name right, and may the token's account see it?".to_owned(),
                    None => format!("is the name right? If it is private, {login}"),
                };
                HubError::NotFound { repository, what, says, hint }
            }
            408 | 425 | 429 | 500..=599 => {
                let seconds = header(headers, "retry-after").and_then(|text| text.parse().ok());
                let wait = seconds.map(Duration::from_secs);
                return Failure::Passing { reason: format!("HTTP {status}{says}"), wait };
            }
            _ => self.misread(about, &format!("HTTP {status}{says}")),
        })
    }

    /// The start of what a server said, for an error.
    fn shown(&self, text: &str) -> String {
        let hidden = self.token.as_ref().map(|token| text.replace(token.secret(), "(the token)"));
        let text = hidden.as_deref().unwrap_or(text);
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// A header's text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
}

/// What an error says in the Hub's form; a page of HTML says nothing.
fn complaint(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    value["error"].as_str().or_else(|| value["message"].as_str()).unwrap_or_default().to_owned()
}
