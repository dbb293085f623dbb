//! A judge: a model on this machine or on a server that is asked about another model's answers.
//!
//! A question that gets no reply is a reply of its own ([`Reply::Failed`]): the benchmark counts it. What makes every question
//! fail is an error.

use crate::catalogue;
use crate::feedback_model::LocalModel;
use crate::run::{model_hash, safe_point, stop_asked, waiting};
use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize};
use solon_data::files::sha256_bytes;
use solon_draws::Draws;
use solon_eval::{Question, Reply};
use solon_feedback::{GenerateRequest, without_control};
use solon_infer::chat::{ChatError, ChatModel, OpenSettings};
use solon_kernels::Precision;
use solon_model::{Training, Weights};
use solon_records::{Message, SamplingSettings};
use solon_remote::{Budget, Remote, RemoteError, RemoteSettings};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A judge as it is named: `local:MODEL`, `openai:NAME@URL` or `anthropic:NAME`. What it says depends on
/// the name of a server's model, and on a local model's weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeName {
    /// Provider and name of a model on a server: its address changes nothing that it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// Of a local model.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip)]
    name: String,
}

impl<'de> Deserialize<'de> for JudgeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JudgeName {
    /// Reads a name. A local model must be there, and is hashed.
    pub fn read(name: String) -> Result<Self, String> {
        if let Some(model) = name.strip_prefix("local:") {
            let path = catalogue::resolve(model).map_err(|error| format!("{error:#}"))?;
            let sha256 = model_hash(&path).map_err(|error| format!("{error:#}"))?;
            return Ok(Self { server: None, sha256: Some(sha256), name });
        }
        let limits = JudgeLimits::default();
        Remote::new(settings(&name, &limits, None)?).map_err(|error| error.to_string())?;
        Ok(Self { server: Some(without_address(&name).to_owned()), sha256: None, name })
    }
}

/// How servers are asked, and what that may cost. Nothing of it changes what they reply.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeLimits {
    /// Questions asked at the same time.
    concurrency: Option<usize>,
    /// How often a question is asked again where servers are busy or do not answer.
    retries: Option<u32>,
    /// The longest wait for a reply of one token, in seconds.
    timeout: Option<f64>,
    /// Requests in any minute.
    requests_per_minute: Option<u32>,
    /// Tokens in any minute.
    tokens_per_minute: Option<u64>,
    /// The most tokens, in and out, over all runs into the same folder.
    budget_tokens: Option<u64>,
    /// The most money, in the currency of the prices.
    budget_cost: Option<f64>,
    /// The price of a million input tokens.
    price_in: Option<f64>,
    /// The price of a million output tokens.
    price_out: Option<f64>,
}

impl JudgeLimits {
    /// Refuses what no server can be asked with.
    pub fn check(&self, name: &JudgeName) -> Result<(), String> {
        if !name.is_server() {
            if *self == Self::default() {
                return Ok(());
            }
            return Err(
                "`judge_limits` is about servers\nhint: leave it out, or give a judge on a server".to_owned()
            );
        }
        // A record is needed for a budget, and there will be one.
        let record = tempfile::tempdir().map_err(|error| error.to_string())?;
        let settings = settings(&name.name, self, Some(record.path().join("answers.jsonl")))?;
        Remote::new(settings).map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// `openai:NAME` of `openai:NAME@URL`. A model's name may hold an @; an address holds `://`.
fn without_address(name: &str) -> &str {
    match name.rsplit_once('@') {
        Some((model, url)) if url.contains("://") => model,
        _ => name,
    }
}

/// The settings of a model on a server, which records its replies in a file.
fn settings(name: &str, limits: &JudgeLimits, answers: Option<PathBuf>) -> Result<RemoteSettings, String> {
    let mut settings = RemoteSettings::named(name).map_err(|error| match error {
        RemoteError::Name { name, forms } => {
            format!("there is no judge `{name}`\nhint: give local:MODEL, {forms}")
        }
        error => error.to_string(),
    })?;
    settings.answers = answers;
    settings.concurrency = limits.concurrency.unwrap_or(settings.concurrency);
    settings.retries = limits.retries.unwrap_or(settings.retries);
    if let Some(seconds) = limits.timeout {
        settings.timeout = Duration::try_from_secs_f64(seconds)
            .map_err(|error| format!("timeout is {seconds}: {error}\nhint: give seconds"))?;
    }
    settings.requests_per_minute = limits.requests_per_minute;
    settings.tokens_per_minute = limits.tokens_per_minute;
    if limits.budget_tokens.is_some() || limits.budget_cost.is_some() {
        settings.budget = Some(Budget {
            max_tokens: limits.budget_tokens,
            max_cost: limits.budget_cost,
            price_in: limits.price_in.unwrap_or(0.0),
            price_out: limits.price_out.unwrap_or(0.0),
        });
    } else if limits.price_in.is_some() || limits.price_out.is_some() {
        return Err("prices are about a budget\nhint: give `budget_cost` too".to_owned());
    }
    Ok(settings)
}

/// A judge that can be asked.
pub enum Judge {
    /// A model on this machine.
    Local(Box<ChatModel>),
    /// A model on servers, and what was already said about them.
    Remote(Box<Remote>, Mutex<BTreeSet<String>>),
}

impl JudgeName {
    /// As it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As labels name it: without the address of a server.
    pub fn shown(&self) -> &str {
        self.server.as_deref().unwrap_or(&self.name)
    }

    /// Whether it is on a server.
    pub fn is_server(&self) -> bool {
        self.server.is_some()
    }

    /// Whether it may continue texts; a model on a server of OpenAI's protocol may, if the server has completions.
    pub fn may_continue_texts(&self) -> bool {
        !self.name.starts_with("anthropic:")
    }

    /// Opens it.
    pub fn open(&self, precision: Precision) -> Result<Judge> {
        self.open_with(precision, &JudgeLimits::default(), None)
    }

    /// Opens it. What a server replies is recorded in a file of the folder `answers`, and never asked for again.
    pub fn open_with(
        &self,
        precision: Precision,
        limits: &JudgeLimits,
        answers: Option<&Path>,
    ) -> Result<Judge> {
        let Some(model) = self.name.strip_prefix("local:") else {
            let answers = match answers {
                Some(folder) => {
                    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
                    Some(folder.join(self.record_name()))
                }
                None => None,
            };
            let settings = settings(&self.name, limits, answers).map_err(anyhow::Error::msg)?;
            return Ok(Judge::Remote(Box::new(Remote::new(settings)?), Mutex::default()));
        };
        let settings = OpenSettings { precision, training: Training::None(Weights::Full) };
        let chat = ChatModel::open(&catalogue::resolve(model)?, None, settings);
        Ok(Judge::Local(Box::new(chat.with_context(|| format!("the judge {}", self.name))?)))
    }
}

impl JudgeName {
    /// The file in which a server's replies are recorded: the model's name, wherever it is served.
    fn record_name(&self) -> String {
        let model = without_address(&self.name);
        let plain: String =
            model.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
        format!("{plain}-{}.jsonl", &sha256_bytes(model.as_bytes())[..8])
    }
}

impl Judge {
    /// The replies to questions, each under an id of its own, in their order. What is quoted in a question cannot pose as a
    /// turn of the conversation.
    pub fn ask(&self, asked: &[(String, Question)], slots: usize, draws: Draws) -> Result<Vec<Reply>> {
        let quoted = |question: &Question| -> Vec<Message> {
            let messages = question.messages.iter();
            messages.map(|message| Message::new(&*message.role, without_control(&message.content))).collect()
        };
        match self {
            Self::Local(chat) => {
                let asked = asked.iter().map(|(id, question)| {
                    let request = GenerateRequest {
                        id: id.clone(),
                        context: quoted(question).into(),
                        prefill: String::new(),
                    };
                    (request, question.max_new_tokens)
                });
                local(chat, asked.collect(), slots, draws)
            }
            Self::Remote(remote, said) => {
                let questions: Vec<solon_remote::Question> = asked
                    .iter()
                    .map(|(id, question)| solon_remote::Question {
                        id: id.clone(),
                        context: quoted(question).into(),
                        options: question.options.clone(),
                        max_new_tokens: question.max_new_tokens,
                        temperature: 0.0,
                        stop: Vec::new(),
                        sample: 0,
                    })
                    .collect();
                let replies = waiting(|| remote.ask(&questions, &stop_asked, &|_| {}))?;
                let replies = replies.into_iter().map(|reply| match reply {
                    Ok(solon_remote::Reply::Said { text, .. }) => Reply::Said(text),
                    Ok(solon_remote::Reply::Options(log_probs)) => Reply::Options(log_probs),
                    Err(unanswered) => Reply::Failed(unanswered.reason),
                });
                let replies = replies.collect();
                tell(remote, said);
                // What a stop left unasked is no reply to keep.
                safe_point()?;
                Ok(replies)
            }
        }
    }
}

/// Says what a person should know of servers, once.
pub fn tell(remote: &Remote, said: &Mutex<BTreeSet<String>>) {
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    for note in remote.usage().notes() {
        if said.insert(note.clone()) {
            eprintln!("the judge at {note}");
        }
    }
}

/// A local judge's greedy answers to requests of so many new tokens. One that does not fit the model's context gets none.
///
/// Errors where the model cannot be asked at all: it has no chat template, or one that knows no system message.
fn local(
    chat: &ChatModel,
    asked: Vec<(GenerateRequest, usize)>,
    slots: usize,
    draws: Draws,
) -> Result<Vec<Reply>> {
    let model = LocalModel::new(chat, None, slots);
    let mut replies = Vec::with_capacity(asked.len());
    let mut by_length: BTreeMap<usize, Vec<(usize, GenerateRequest)>> = BTreeMap::new();
    for (place, (request, new)) in asked.into_iter().enumerate() {
        match chat.context_ids(&request.id, &request.context, new) {
            Err(error @ ChatError::TooLong { .. }) => replies.push(Reply::Failed(error.to_string())),
            other => {
                other.context("the judge")?;
                replies.push(Reply::Said(String::new()));
                by_length.entry(new).or_default().push((place, request));
            }
        }
    }
    for (new, asked) in by_length {
        let (places, requests): (Vec<usize>, Vec<GenerateRequest>) = asked.into_iter().unzip();
        let answers = model.generate(&requests, &SamplingSettings::greedy(new), draws, &mut |_| {})?;
        for (place, answer) in places.into_iter().zip(answers) {
            replies[place] = Reply::Said(answer.text);
        }
    }
    Ok(replies)
}
