//! A model on a server with OpenAI's chat completions: vLLM, llama.cpp, Ollama, `solon serve`, hosted ones.
//!
//! Contract: replies are in the order of the questions. A question that gets no usable reply is an error of its own, and the
//! others go on. What makes every question fail (no server, a wrong key, an unknown model) is one error for all.
//! What a server sends is untrusted: its size is bounded, and only the fields named here are read. The key is sent to the
//! server and shown nowhere.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

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
    /// The longest wait for one reply.
    pub timeout: Duration,
}

impl ServerSettings {
    /// A server at this address, with what suits most.
    pub fn new(model: impl Into<String>, url: impl Into<String>) -> Self {
        let (model, url) = (model.into(), url.into());
        Self { model, url, key: None, concurrency: 8, retries: 4, timeout: Duration::from_secs(300) }
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
            .timeout_global(Some(settings.timeout))
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
        let stopped: Mutex<Option<String>> = Mutex::new(None);
        let replies: Vec<Mutex<Option<Result<ServerReply, String>>>> =
            questions.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let is_stopped = stop() || stopped.lock().is_ok_and(|stopped| stopped.is_some());
                let (Some(question), false) = (questions.get(place), is_stopped) else { return };
                let reply = match self.ask_one(question) {
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
                    ) => {
                        if let Ok(mut stopped) = stopped.lock() {
                            stopped.get_or_insert(reason);
                        }
                        return;
                    }
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
        if let Ok(Some(reason)) = stopped.into_inner() {
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
    fn ask_one(&self, question: &ServerQuestion) -> Result<ServerReply, Failure> {
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
            if attempt == self.settings.retries {
                return Err(failure);
            }
            // Half a second, doubled each time; drawn between half and all of it, so that many do not come back together.
            let share = 0.5 + 0.5 * Draws::new(0, "server").item(&question.id).uniform(u64::from(attempt));
            let backoff = Duration::from_secs_f64(0.5 * f64::from(1_u32 << attempt.min(6)) * share);
            std::thread::sleep(asked.unwrap_or(backoff).min(LONGEST_WAIT));
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
        let mut request = self.agent.post(&self.endpoint);
        if let Some(key) = &self.settings.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.send_json(&body).map_err(|error| self.failure(&error))?;
        let status = response.status().as_u16();
        let wait =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = response.body_mut().with_config().limit(LARGEST).read_to_string();
        let text = text.map_err(|error| self.failure(&error))?;
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

    fn failure(&self, error: &ureq::Error) -> Failure {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Failure::Unreachable(format!("{error}\nhint: is the server running?"))
            }
            ureq::Error::Timeout(_) => {
                let seconds = self.settings.timeout.as_secs_f64();
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
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;

    /// A server that gives these replies one after the other, over and over from the last: each a status line's end with
    /// headers, and a body. Returns its address and what it was asked.
    fn server(replies: &[(&str, String)]) -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (replies, log) = (
            replies.iter().map(|(head, body)| ((*head).to_owned(), body.clone())).collect::<Vec<_>>(),
            asked.clone(),
        );
        std::thread::spawn(move || {
            for (place, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                log.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap_or(Value::Null)));
                let (status, text) = &replies[place.min(replies.len() - 1)];
                if status.is_empty() {
                    continue; // the connection breaks off
                }
                let sent = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                    text.len()
                );
                let _ = stream.write_all(sent.as_bytes());
            }
        });
        (address, asked)
    }

    fn said(text: &str) -> String {
        json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
            .to_string()
    }

    fn question(id: &str, options: &[&str]) -> ServerQuestion {
        ServerQuestion {
            id: id.to_owned(),
            messages: vec![Message::system("Judge."), Message::user("Is it?")],
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            max_new_tokens: 4,
            temperature: 0.0,
        }
    }

    fn asked(url: &str, questions: &[ServerQuestion]) -> Result<Vec<Result<ServerReply, String>>, String> {
        let settings = ServerSettings {
            key: Some("secret".to_owned()),
            concurrency: 1,
            retries: 2,
            timeout: Duration::from_secs(2),
            ..ServerSettings::new("judge", url)
        };
        Server::new(settings).unwrap().ask(questions, &|| false).map_err(|error| error.to_string())
    }

    #[test]
    fn a_conversation_is_sent_as_the_protocol_says() {
        let (url, log) = server(&[("200 OK", said("yes"))]);
        let replies = asked(&url, &[question("1", &[])]).unwrap();
        assert_eq!(replies, [Ok(ServerReply::Said { text: "yes".to_owned(), truncated: false })]);
        let (head, body) = log.lock().unwrap()[0].clone();
        assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
        assert!(head.to_lowercase().contains("authorization: bearer secret"), "{head}");
        let expected = json!({
            "model": "judge",
            "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Is it?"}],
            "max_tokens": 4, "temperature": 0.0, "stream": false,
        });
        assert_eq!(body, expected);
        let (url, log) = server(&[("200 OK", said("yes"))]);
        asked(&format!("{url}/api/v3/"), &[question("1", &[])]).unwrap();
        assert!(log.lock().unwrap()[0].0.starts_with("POST /api/v3/chat/completions "));
    }

    #[test]
    fn options_are_read_from_log_probs_or_from_the_text() {
        let listed = |tokens: Value| {
            json!({"choices": [{"message": {"content": "yes"}, "finish_reason": "length",
                "logprobs": {"content": [{"token": "yes", "logprob": -0.1, "top_logprobs": tokens}]}}]})
            .to_string()
        };
        let tokens = json!([{"token": "yes", "logprob": -1.0}, {"token": " Yes", "logprob": -1.0}, {"token": "x", "logprob": -4.0}]);
        let (url, log) = server(&[("200 OK", listed(tokens))]);
        let replies = asked(&url, &[question("1", &["yes", "no"])]).unwrap();
        let Ok(ServerReply::Options(log_probs)) = &replies[0] else { panic!("{replies:?}") };
        assert!(
            (log_probs[0] - (2.0 * (-1.0_f64).exp()).ln()).abs() < 1e-12 && log_probs[1] == UNLISTED,
            "{log_probs:?}"
        );
        assert_eq!(log.lock().unwrap()[0].1["top_logprobs"], 20);
        // One token is listed, and it is the less liked of the two options.
        let (url, _) = server(&[("200 OK", listed(json!([{"token": "no", "logprob": -0.01}])))]);
        let replies = asked(&url, &[question("1", &["yes", "no"])]).unwrap();
        assert_eq!(replies[0], Ok(ServerReply::Options(vec![UNLISTED, (-0.01_f64).exp().ln()])));
        for tokens in [
            json!([]),
            json!([{"token": "maybe", "logprob": -0.1}]),
            json!([{"token": "I", "logprob": -0.001}, {"token": "no", "logprob": -9.0}]),
            json!([{"token": "yes", "logprob": 1e308}]),
            json!([{"token": "yes", "logprob": null}]),
        ] {
            let (url, _) = server(&[("200 OK", listed(tokens))]);
            match asked(&url, &[question("1", &["yes", "no"])]) {
                Ok(replies) => {
                    let said = ServerReply::Said { text: "yes".to_owned(), truncated: true };
                    assert_eq!(replies, [Ok(said)]);
                }
                Err(reason) => assert!(reason.contains("no chat completion"), "{reason}"),
            }
        }
        // A server that shows no log-probs is asked without them, once and for all.
        let (url, log) = server(&[
            ("400 Bad Request", json!({"error": "logprobs are not supported"}).to_string()),
            ("200 OK", said("no")),
        ]);
        let replies = asked(&url, &[question("1", &["yes", "no"]), question("2", &["yes", "no"])]).unwrap();
        assert!(
            replies.iter().all(|reply| matches!(reply, Ok(ServerReply::Said { text, .. }) if text == "no"))
        );
        let log = log.lock().unwrap();
        assert_eq!(
            log.iter().map(|(_, body)| body.get("logprobs").is_some()).collect::<Vec<_>>(),
            [true, false, false]
        );
    }

    #[test]
    fn what_passes_is_asked_again_and_what_lasts_fails_alone() {
        let busy = ("429 Too Many Requests\r\nRetry-After: 0", "{}".to_owned());
        let (url, log) = server(&[busy.clone(), ("503 Busy", String::new()), ("200 OK", said("yes"))]);
        assert!(asked(&url, &[question("1", &[])]).unwrap()[0].is_ok());
        assert_eq!(log.lock().unwrap().len(), 3);
        let (url, _) = server(&[("", String::new()), ("200 OK", said("yes"))]);
        assert!(asked(&url, &[question("1", &[])]).unwrap()[0].is_ok());
        for (reply, part) in [
            (busy, "HTTP 429"),
            (
                ("400 Bad Request", "{\"error\": \"too\nlong\"}".to_owned()),
                "HTTP 400: {\"error\": \"too long\"}",
            ),
            (("200 OK", "<html>".to_owned()), "no chat completion"),
            (("200 OK", "{\"choices\": []}".to_owned()), "no choices"),
            (("200 OK", "{\"choices\": [{\"message\": {}}]}".to_owned()), "no content"),
        ] {
            let yes = ("200 OK", said("yes"));
            let mut script = vec![yes];
            script.resize(4, reply.clone());
            let (url, _) = server(&script);
            let replies = asked(&url, &[question("1", &[]), question("2", &[])]).unwrap();
            assert!(replies[0].is_ok());
            let reason = replies[1].as_ref().unwrap_err();
            assert!(reason.contains(part) && !reason.contains("secret"), "{part}: {reason}");
            // Of a server that never replied, the same is an error for all.
            let (url, _) = server(&[reply]);
            let error = asked(&url, &[question("1", &[]), question("2", &[])]).unwrap_err();
            assert!(error.contains(part) && error.contains(&url), "{error}");
        }
    }

    #[test]
    fn nothing_is_asked_after_a_stop() {
        let (url, log) = server(&[("200 OK", said("yes"))]);
        let server = Server::new(ServerSettings::new("judge", url)).unwrap();
        let replies = server.ask(&[question("1", &[])], &|| true).unwrap();
        assert!(replies[0].is_err() && log.lock().unwrap().is_empty());
    }

    #[test]
    fn what_fails_for_all_is_one_error() {
        for (reply, part) in [
            ("401 Unauthorized", "OPENAI_API_KEY"),
            ("404 Not Found", "`judge`"),
            ("308 Permanent Redirect\r\nLocation: https://elsewhere/", "is the address right?"),
        ] {
            let (url, log) = server(&[(reply, "{}".to_owned())]);
            let error = asked(&url, &[question("1", &[]), question("2", &[])]).unwrap_err();
            assert!(error.contains(part) && error.contains(&url) && !error.contains("secret"), "{error}");
            assert_eq!(log.lock().unwrap().len(), 1);
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = asked(&format!("http://{free}"), &[question("1", &[])]).unwrap_err();
        assert!(error.contains("hint: is the server running?"), "{error}");
        for bad in ["127.0.0.1:80", "ftp://host", "http://", "http://key@host", "http://host/v1?x=1"] {
            assert!(Server::new(ServerSettings::new("judge", bad)).is_err(), "{bad}");
        }
        assert!(Server::new(ServerSettings::new("", "http://host")).is_err());
        let with_key = |url: &str| ServerSettings {
            key: Some("secret".to_owned()),
            ..ServerSettings::new("judge", url)
        };
        assert!(
            Server::new(with_key("http://host/v1")).is_err()
                && Server::new(with_key("https://host/v1")).is_ok()
        );
    }

    #[test]
    fn a_server_that_does_not_answer_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let settings = ServerSettings {
            retries: 0,
            timeout: Duration::from_millis(200),
            ..ServerSettings::new("judge", url)
        };
        let error = Server::new(settings).unwrap().ask(&[question("1", &[])], &|| false).unwrap_err();
        assert!(error.to_string().contains("0.2 seconds"), "{error}");
    }
}
