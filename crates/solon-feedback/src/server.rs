//! A model on a server with OpenAI's chat completions: vLLM, llama.cpp, Ollama, `solon serve`, hosted ones.
//!
//! Contract: replies are in the order of the questions. A question that gets no usable reply is an error of its own, and the
//! others go on. What makes every question fail (no server, a wrong key, an unknown model) is one error for all.
//! What a server sends is untrusted: its size is bounded, and only the fields named here are read. The key is sent to the
//! server and shown nowhere.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use solon_draws::Draws;
use solon_records::Message;

use crate::FeedbackError;

/// Where a server is, and how it is asked.
#[derive(Clone)]
pub struct ServerSettings {
    /// The model's name on the server.
    pub model: String,
    /// The base address, such as `http://127.0.0.1:8080/v1`; without a path, `/v1` is added.
    pub url: String,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// Questions asked at the same time.
    pub concurrency: usize,
    /// How often a question is asked again where the server is busy or does not answer.
    pub retries: u32,
    /// The longest wait for a reply of one token.
    pub timeout: Duration,
    /// So much longer for each further token that may be written.
    pub timeout_per_token: Duration,
}

impl ServerSettings {
    /// A server at this address, with what suits most.
    pub fn new(model: impl Into<String>, url: impl Into<String>) -> Self {
        let (model, url) = (model.into(), url.into());
        let (timeout, timeout_per_token) = (Duration::from_secs(120), Duration::from_millis(500));
        Self { model, url, key: None, concurrency: 8, retries: 4, timeout, timeout_per_token }
    }

    /// The longest wait for a reply of so many tokens.
    fn longest_wait(&self, tokens: usize) -> Duration {
        let further = u32::try_from(tokens.saturating_sub(1)).unwrap_or(u32::MAX);
        self.timeout.saturating_add(self.timeout_per_token.saturating_mul(further))
    }
}

/// A conversation to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerQuestion {
    /// Names it in errors.
    pub id: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Words that the answer may begin with; if the server shows log-probs, theirs are the reply.
    pub options: Vec<String>,
    /// Largest number of new tokens.
    pub max_new_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Which of several samples of the same question.
    pub sample: u64,
}

/// A server's reply.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerReply {
    /// The answer.
    Said {
        /// Its text.
        text: String,
        /// Whether it was cut off at the limit.
        truncated: bool,
    },
    /// The log-prob of each option as the answer's first token, in nats, where the likeliest token is an option. One that the
    /// server does not list has [`UNLISTED`].
    Options(Vec<f64>),
}

/// The log-prob of an option that a server does not list among the likeliest: some number below all that it lists.
pub const UNLISTED: f64 = -1e9;

/// A model on a server.
pub struct Server {
    settings: ServerSettings,
    endpoint: String,
    agent: ureq::Agent,
    /// The server refused to show log-probs.
    without_log_probs: AtomicBool,
    /// It has replied to something.
    has_replied: AtomicBool,
}

/// Largest reply that is read, in bytes.
const LARGEST: u64 = 8 << 20;
/// Tokens whose log-probs are asked for at each place; more are refused by most servers.
const TOP: usize = 20;
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What the network says where there is no server.
const UNREACHABLE: [std::io::ErrorKind; 4] = [
    std::io::ErrorKind::ConnectionRefused,
    std::io::ErrorKind::HostUnreachable,
    std::io::ErrorKind::NetworkUnreachable,
    std::io::ErrorKind::NetworkDown,
];

/// Why one request failed.
enum Failure {
    /// It may go well next time; after so long.
    Passing(String, Option<Duration>),
    /// The server cannot be reached: as passing, but if it stays so, every question fails.
    Unreachable(String),
    /// It will not go well.
    Lasting(String),
    /// No question will go well.
    ForAll(String),
}

impl Server {
    /// A server at an address.
    ///
    /// Errors where the address is none, or a setting leaves nothing to ask.
    pub fn new(settings: ServerSettings) -> Result<Self, FeedbackError> {
        let wrong = |rule| FeedbackError::Setting {
            setting: "the server's address",
            value: settings.url.clone(),
            rule,
        };
        let rest = ["http://", "https://"].into_iter().find_map(|scheme| settings.url.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| wrong("it must begin with http:// or https://"))?;
        let (host, path) =
            rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path.trim_matches('/')));
        if host.is_empty() || host.contains('@') || settings.url.contains(['?', '#', ' ']) {
            return Err(wrong("it must be a host and a path alone, such as http://127.0.0.1:8080/v1"));
        }
        if settings.model.is_empty() {
            let rule = "name the model as the server knows it";
            return Err(FeedbackError::Setting { setting: "the server's model", value: String::new(), rule });
        }
        let scheme = &settings.url[..settings.url.len() - rest.len()];
        let endpoint = match path {
            "" => format!("{scheme}{host}/v1/chat/completions"),
            path => format!("{scheme}{host}/{path}/chat/completions"),
        };
        let mut config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(10).min(settings.timeout)))
            .http_status_as_error(false)
            .max_redirects(0);
        if ["127.", "localhost", "[::1]"].iter().any(|own| host.starts_with(own)) {
            // A proxy cannot reach this machine's own servers.
            config = config.proxy(None);
        } else if settings.key.is_some() && scheme == "http://" {
            return Err(wrong(
                "a key is sent to another machine over https:// alone; unset the key, or use https",
            ));
        }
        let agent = config.build().new_agent();
        let (without_log_probs, has_replied) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { settings, endpoint, agent, without_log_probs, has_replied })
    }

    /// Asks all questions, several at a time. Once `stop` says so, what is not asked yet is not asked.
    ///
    /// Errors where no question will get a reply, and where the server has never replied to one.
    pub fn ask(
        &self,
        questions: &[ServerQuestion],
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Result<ServerReply, String>>, FeedbackError> {
        let next = AtomicUsize::new(0);
        let halt = Halt { stop, reason: Mutex::new(None), told: Condvar::new() };
        let replies: Vec<Mutex<Option<Result<ServerReply, String>>>> =
            questions.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            while let Some((place, question)) = halt.next(&next, questions) {
                let reply = match self.ask_one(question, &halt) {
                    Ok(reply) => {
                        self.has_replied.store(true, Ordering::Relaxed);
                        Ok(reply)
                    }
                    Err(Failure::Lasting(reason)) => Err(reason),
                    Err(Failure::Passing(reason, _)) if self.has_replied.load(Ordering::Relaxed) => {
                        Err(reason)
                    }
                    // A server that has answered nothing yet is not one that a single question failed on.
                    Err(
                        Failure::Passing(reason, _) | Failure::Unreachable(reason) | Failure::ForAll(reason),
                    ) => return halt.for_all(reason),
                };
                if let Ok(mut slot) = replies[place].lock() {
                    *slot = Some(reply);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.settings.concurrency.clamp(1, questions.len().max(1)) {
                scope.spawn(work);
            }
        });
        if let Ok(Some(reason)) = halt.reason.into_inner()
            && !stop()
        {
            return Err(FeedbackError::Server { endpoint: self.endpoint.clone(), reason });
        }
        let taken = replies.into_iter().map(|slot| {
            let reply = slot.into_inner().ok().flatten();
            reply.unwrap_or_else(|| Err("the question was not asked".to_owned()))
        });
        let taken: Vec<Result<ServerReply, String>> = taken.collect();
        match taken.first() {
            Some(Err(reason)) if !stop() && !self.has_replied.load(Ordering::Relaxed) => {
                Err(FeedbackError::Server { endpoint: self.endpoint.clone(), reason: reason.clone() })
            }
            _ => Ok(taken),
        }
    }

    /// Asks one question, again where that may help.
    fn ask_one(&self, question: &ServerQuestion, halt: &Halt<'_>) -> Result<ServerReply, Failure> {
        let mut attempt = 0;
        loop {
            let with_log_probs =
                !question.options.is_empty() && !self.without_log_probs.load(Ordering::Relaxed);
            let failure = match self.request(question, with_log_probs) {
                Ok(reply) => return Ok(reply),
                Err(Failure::Lasting(reason)) if with_log_probs && reason.contains("logprobs") => {
                    self.without_log_probs.store(true, Ordering::Relaxed);
                    continue;
                }
                Err(failure) => failure,
            };
            let asked = match &failure {
                Failure::Passing(_, wait) => *wait,
                Failure::Unreachable(_) => None,
                Failure::Lasting(_) | Failure::ForAll(_) => return Err(failure),
            };
            // Half a second, doubled each time; drawn between half and all of it, so that many do not come back together.
            let share = 0.5 + 0.5 * Draws::new(0, "server").item(&question.id).uniform(u64::from(attempt));
            let backoff = Duration::from_secs_f64(0.5 * f64::from(1_u32 << attempt.min(6)) * share);
            let is_last = attempt == self.settings.retries;
            if is_last || halt.wait(asked.unwrap_or(backoff).min(LONGEST_WAIT)) {
                return Err(failure);
            }
            attempt += 1;
        }
    }

    fn request(&self, question: &ServerQuestion, with_log_probs: bool) -> Result<ServerReply, Failure> {
        let messages: Vec<Value> = question
            .messages
            .iter()
            .map(|message| json!({"role": message.role, "content": message.content}))
            .collect();
        let mut body = json!({
            "model": self.settings.model,
            "messages": messages,
            "max_tokens": question.max_new_tokens,
            "temperature": question.temperature,
            "stream": false,
        });
        if with_log_probs {
            body["logprobs"] = true.into();
            body["top_logprobs"] = TOP.into();
        }
        let longest = self.settings.longest_wait(question.max_new_tokens);
        let mut request = self.agent.post(&self.endpoint).config().timeout_global(Some(longest)).build();
        if let Some(key) = &self.settings.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.send_json(&body).map_err(|error| failure(&error, longest))?;
        let status = response.status().as_u16();
        let wait =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = response.body_mut().with_config().limit(LARGEST).read_to_string();
        let text = text.map_err(|error| failure(&error, longest))?;
        let says = || format!("HTTP {status}: {}", shortened(&text));
        match status {
            200 => reply(&text, question),
            401 | 403 => Err(Failure::ForAll(format!("{}\nhint: is OPENAI_API_KEY right?", says()))),
            404 => Err(Failure::ForAll(format!(
                "{}\nhint: is `{}` the name of a model there, and the address right?",
                says(),
                self.settings.model
            ))),
            300..=399 | 405 => Err(Failure::ForAll(format!("{}\nhint: is the address right?", says()))),
            402 => Err(Failure::ForAll(says())),
            408 | 409 | 425 | 429 | 500..=599 => Err(Failure::Passing(says(), wait.map(Duration::from_secs))),
            _ => Err(Failure::Lasting(says())),
        }
    }
}

/// What a failure of the network means, where a reply was waited for so long.
fn failure(error: &ureq::Error, longest: Duration) -> Failure {
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            Failure::Unreachable(format!("{error}\nhint: is the server running?"))
        }
        ureq::Error::Timeout(_) => {
            let seconds = longest.as_secs_f64();
            Failure::Passing(format!("there was no reply within {seconds} seconds"), None)
        }
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
            Failure::Unreachable(format!("{error}\nhint: is the server running?"))
        }
        ureq::Error::Io(io) if UNREACHABLE.contains(&io.kind()) => {
            Failure::Unreachable(format!("{io}\nhint: is the server running?"))
        }
        ureq::Error::Tls(_)
        | ureq::Error::Rustls(_)
        | ureq::Error::BadUri(_)
        | ureq::Error::Http(_)
        | ureq::Error::InvalidProxyUrl
        | ureq::Error::ConnectProxyFailed(_) => Failure::ForAll(error.to_string()),
        ureq::Error::BodyExceedsLimit(_) => {
            Failure::Lasting(format!("the reply is larger than {} MiB", LARGEST >> 20))
        }
        _ => Failure::Passing(error.to_string(), None),
    }
}

/// What ends the asking of all questions: the caller's wish, or a failure of which every question would die.
struct Halt<'a> {
    stop: &'a (dyn Fn() -> bool + Sync),
    reason: Mutex<Option<String>>,
    told: Condvar,
}

/// How often a wait looks whether the caller wishes to stop.
const GLANCE: Duration = Duration::from_millis(100);

impl Halt<'_> {
    /// The next question and its place, unless the asking has ended.
    fn next<'q>(
        &self,
        next: &AtomicUsize,
        questions: &'q [ServerQuestion],
    ) -> Option<(usize, &'q ServerQuestion)> {
        if self.is_over() {
            return None;
        }
        let place = next.fetch_add(1, Ordering::Relaxed);
        Some((place, questions.get(place)?))
    }

    fn is_over(&self) -> bool {
        (self.stop)() || self.reason.lock().is_ok_and(|reason| reason.is_some())
    }

    /// Ends it for this reason, if it has not ended for another.
    fn for_all(&self, reason: String) {
        if let Ok(mut known) = self.reason.lock() {
            known.get_or_insert(reason);
        }
        self.told.notify_all();
    }

    /// Waits, but not beyond the end of the asking; returns whether that has come.
    fn wait(&self, longest: Duration) -> bool {
        let end = Instant::now() + longest;
        while !self.is_over() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // A lock that a panic poisoned is no reason to wait.
            let Ok(reason) = self.reason.lock() else { return true };
            if self.told.wait_timeout_while(reason, left.min(GLANCE), |reason| reason.is_none()).is_err() {
                return true;
            }
        }
        true
    }
}

/// What is read of a reply.
#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    finish_reason: Option<String>,
    logprobs: Option<Listed>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    content: Option<Vec<Place>>,
}

#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    top_logprobs: Vec<Likely>,
}

#[derive(Deserialize)]
struct Likely {
    token: String,
    logprob: f64,
}

/// The reply in a server's text.
fn reply(text: &str, question: &ServerQuestion) -> Result<ServerReply, Failure> {
    let completion: Completion = serde_json::from_str(text).map_err(|error| {
        Failure::Lasting(format!("the reply is no chat completion ({error}): {}", shortened(text)))
    })?;
    let choice = completion.choices.into_iter().next();
    let choice = choice.ok_or_else(|| Failure::Lasting("the reply has no choices".to_owned()))?;
    let first = choice.logprobs.and_then(|listed| listed.content?.into_iter().next());
    if let Some(log_probs) = first.and_then(|place| options(&place.top_logprobs, &question.options)) {
        return Ok(ServerReply::Options(log_probs));
    }
    let text = choice.message.content;
    let text = text.ok_or_else(|| Failure::Lasting("the reply has no content".to_owned()))?;
    Ok(ServerReply::Said { text, truncated: choice.finish_reason.as_deref() == Some("length") })
}

/// The log-prob of each option among the listed tokens; those that differ in case or in white space count together. `None`
/// where the likeliest token is no option: then the answer begins otherwise, and the options' small rest says nothing.
fn options(listed: &[Likely], options: &[String]) -> Option<Vec<f64>> {
    let is = |likely: &Likely, option: &String| likely.token.trim().eq_ignore_ascii_case(option.trim());
    // A log-prob is at most 0; what a server says beyond is no log-prob.
    let known = || listed.iter().filter(|likely| (UNLISTED..=0.0).contains(&likely.logprob));
    let likeliest = known().max_by(|a, b| a.logprob.total_cmp(&b.logprob))?;
    if !options.iter().any(|option| is(likeliest, option)) {
        return None;
    }
    let of = |option: &String| {
        let probability: f64 =
            known().filter(|likely| is(likely, option)).map(|likely| likely.logprob.exp()).sum();
        if probability > 0.0 { probability.ln() } else { UNLISTED }
    };
    Some(options.iter().map(of).collect())
}

/// The start of what a server said, for an error: on one line, without control characters.
fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
