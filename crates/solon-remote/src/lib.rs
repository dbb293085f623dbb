//! Models on servers, that chat or continue texts: vLLM, SGLang, llama.cpp, Ollama, `solon serve`, and hosted ones.
//!
//! Contract: [`Remote::ask`] gives one reply for each question, in their order. A question that gets no usable reply is an
//! [`Unanswered`] of its own, and the others go on; what makes every question fail is one [`RemoteError`]. A reply is on disk
//! before it counts as had, and a question whose reply is on disk is never sent again. What a server sends is untrusted: its
//! size is bounded, and only the fields that are named here are read. A key is sent to the server and shown nowhere.
//!
//! ```no_run
//! use solon_records::Message;
//! use solon_remote::{Interface, Question, Remote, RemoteSettings, Reply};
//!
//! let settings = RemoteSettings::named("openai:judge@http://127.0.0.1:8000/v1,http://127.0.0.1:8001/v1")?;
//! let remote = Remote::new(RemoteSettings { answers: Some("answers.jsonl".into()), ..settings })?;
//! println!("{}", remote.probe(Interface::Chat)?);
//! let question = Question {
//!     id: "sky".to_owned(),
//!     context: vec![Message::user("Is the sky blue? Answer with yes or no.")].into(),
//!     options: vec!["yes".to_owned(), "no".to_owned()],
//!     max_new_tokens: 4,
//!     temperature: 0.0,
//!     stop: Vec::new(),
//!     sample: 0,
//! };
//! for reply in remote.ask(&[question], &|| false, &|_| {})? {
//!     match reply {
//!         Ok(Reply::Options(log_probs)) => println!("yes: {}", log_probs[0]),
//!         Ok(Reply::Said { text, .. }) => println!("in words: {text}"),
//!         Err(unanswered) => println!("{:?}: {unanswered}", unanswered.kind),
//!     }
//! }
//! println!("{}", remote.usage());
//! # Ok::<(), solon_remote::RemoteError>(())
//! ```

mod account;
mod address;
mod answer;
mod endpoints;
mod error;
mod halt;
mod http;
mod limits;
mod name;
mod probe;
mod protocol;
mod question;
mod record;
mod remote;
mod settings;

pub use account::{Tokens, Usage};
pub use endpoints::EndpointUsage;
pub use error::RemoteError;
pub use probe::{Capabilities, EndpointCapabilities};
pub use question::{Interface, Question, Reply, Unanswered, UnansweredKind};
pub use remote::Remote;
pub use settings::{Budget, Provider, RemoteSettings};

#[cfg(test)]
mod tests;
