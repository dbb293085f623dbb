//! What servers can do, found out by asking them once.

use std::fmt;
use std::sync::PoisonError;
use std::time::Instant;

use serde::Deserialize;
use solon_records::Message;

use crate::halt::Halt;
use crate::http::FailureKind;
use crate::name;
use crate::remote::{End, Remote};
use crate::{Interface, Question, RemoteError};

/// Most models of a server's list that are kept, and most characters of a name.
const MOST_MODELS: usize = 1000;
const LONGEST_NAME: usize = 200;

/// What the servers of one model can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// By which interface they were asked.
    pub interface: Interface,
    /// Each server, in the order of the addresses.
    pub endpoints: Vec<EndpointCapabilities>,
}

/// What one server can do.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointCapabilities {
    /// Its base address.
    pub url: String,
    /// Whether it answers, or why not.
    pub answers: Result<(), String>,
    /// So many log-probs of an answer's first token are shown; 0 is none.
    pub log_probs: usize,
    /// How requests differ from the usual form, because the server takes no other.
    pub differences: Vec<String>,
    /// The models that it offers, where it lists them.
    pub models: Option<Vec<String>>,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = match self.interface {
            Interface::Chat => "chat",
            Interface::Completions => "continues texts",
        };
        for (place, endpoint) in self.endpoints.iter().enumerate() {
            let EndpointCapabilities { url, answers, log_probs, differences, models } = endpoint;
            if place > 0 {
                writeln!(formatter)?;
            }
            match answers {
                Err(reason) => write!(formatter, "{url}: {reason}")?,
                Ok(()) if *log_probs > 0 => {
                    write!(formatter, "{url}: {does}, log-probs of {log_probs} tokens")?
                }
                Ok(()) => write!(formatter, "{url}: {does}, without log-probs")?,
            }
            for difference in differences.iter().filter(|_| answers.is_ok()) {
                write!(formatter, "; {difference}")?;
            }
            if let Some(models) = models {
                write!(formatter, "; models: {}", models.join(", "))?;
            }
        }
        Ok(())
    }
}

impl Remote {
    /// What the servers can do by an interface. They are asked the first time; later calls return what was found then. One short question is
    /// sent to each server and counts in [`Remote::usage`]; its answer is not recorded.
    ///
    /// Errors where no server answers, and where the budget does not allow the question.
    pub fn probe(&self, interface: Interface) -> Result<Capabilities, RemoteError> {
        let mut known = self.capabilities[interface as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(capabilities) = &*known {
            return Ok(capabilities.clone());
        }
        name::check_key(&self.settings)?;
        let endpoints: Vec<EndpointCapabilities> =
            (0..self.clients.len()).map(|at| self.probe_one(at, interface)).collect::<Result<_, _>>()?;
        if let Some(EndpointCapabilities { url, answers: Err(reason), .. }) = endpoints.first()
            && endpoints.iter().all(|endpoint| endpoint.answers.is_err())
        {
            return Err(RemoteError::Server { endpoint: url.clone(), reason: reason.clone() });
        }
        let capabilities = Capabilities { interface, endpoints };
        *known = Some(capabilities.clone());
        Ok(capabilities)
    }

    fn probe_one(&self, at: usize, interface: Interface) -> Result<EndpointCapabilities, RemoteError> {
        let asked = "Is water wet? Answer with yes or no.";
        let (context, options) = match interface {
            Interface::Chat => (vec![Message::user(asked)].into(), ["yes", "no"]),
            Interface::Completions => (format!("{asked}\nAnswer:").into(), [" yes", " no"]),
        };
        let question = Question {
            id: "probe".to_owned(),
            context,
            options: options.map(str::to_owned).to_vec(),
            max_new_tokens: 16,
            temperature: 0.0,
            stop: Vec::new(),
            sample: 0,
        };
        let halt = Halt::new(&|| false);
        let hold = match self.hold(&question, &halt) {
            Ok(hold) => hold,
            Err(End::ForAll(error)) => return Err(error),
            // A request under way elsewhere holds the budget, and nobody stops this one.
            Err(End::Alone(_) | End::Stopped) => {
                let (endpoint, reason) = (self.endpoints.url(at), "it was not asked".to_owned());
                return Err(RemoteError::Server { endpoint, reason });
            }
        };
        // It counts in the limits per minute, and nothing but its turn can end the wait.
        let _ = self.admit(&question, &halt);
        self.endpoints.take(at);
        let form = self.endpoints.form(at, interface);
        let exchanged = self.exchange(at, form, &question, true, &halt);
        let form = exchanged.as_ref().map_or(form, |(_, form)| *form);
        let answer = self.settle(at, &question, &hold, exchanged);
        if let Err(failure) = &answer {
            let is_unreachable = failure.kind == FailureKind::Unreachable;
            self.endpoints.failed(at, Instant::now(), is_unreachable, &failure.reason);
        }
        Ok(EndpointCapabilities {
            url: self.endpoints.url(at),
            log_probs: answer.as_ref().map_or(0, |answer| answer.first.len()),
            answers: answer.map(|_| ()).map_err(|failure| failure.reason),
            differences: form.differences(),
            models: self.models(at),
        })
    }

    /// The models that a server lists.
    fn models(&self, at: usize) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
        }
        let response = self.clients[at].get("/models", self.settings.timeout).ok()?;
        if response.status != 200 {
            return None;
        }
        let list: List = serde_json::from_str(&response.text).ok()?;
        let name = |model: Model| model.id.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
        Some(list.data.into_iter().take(MOST_MODELS).map(name).collect())
    }
}
