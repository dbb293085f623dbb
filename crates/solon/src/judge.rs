//! A judge: a model on this machine or on a server that is asked about another model's answers.
//!
//! A question that gets no reply is a reply of its own ([`Reply::Failed`]): the benchmark counts it. What makes every question
//! fail is an error.

use crate::catalogue;
use crate::feedback_model::LocalModel;
use crate::run::{model_hash, safe_point, stop_asked};
use anyhow::{Context, Result};
use serde::Serialize;
use solon_draws::Draws;
use solon_eval::{Question, Reply};
use solon_feedback::{FeedbackModel, GenerateRequest, without_control};
use solon_infer::chat::{ChatError, ChatModel, OpenSettings};
use solon_kernels::Precision;
use solon_model::{Training, Weights};
use solon_records::{Message, SamplingSettings};
use solon_remote::{Remote, RemoteError, RemoteSettings};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A judge as it is named: `local:MODEL`, `openai:NAME@URL` or `anthropic:NAME`. What it says depends on
/// the name of a server's model, and on a local model's weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeName {
    /// As it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<String>,
    /// Of a local model.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip)]
    name: String,
}

impl JudgeName {
    /// Reads a name. A local model must be there, and is hashed.
    pub fn read(name: String) -> Result<Self, String> {
        if let Some(model) = name.strip_prefix("local:") {
            let path = catalogue::resolve(model).map_err(|error| format!("{error:#}"))?;
            let sha256 = model_hash(&path).map_err(|error| format!("{error:#}"))?;
            return Ok(Self { server: None, sha256: Some(sha256), name });
        }
        Remote::new(settings(&name)?).map_err(|error| error.to_string())?;
        Ok(Self { server: Some(name.clone()), sha256: None, name })
    }
}

/// The settings of a model on a server.
fn settings(name: &str) -> Result<RemoteSettings, String> {
    RemoteSettings::named(name).map_err(|error| match error {
        RemoteError::Name { name, forms } => {
            format!("there is no judge `{name}`\nhint: give local:MODEL, {forms}")
        }
        error => error.to_string(),
    })
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

    /// Opens it.
    pub fn open(&self, precision: Precision) -> Result<Judge> {
        let Some(model) = self.name.strip_prefix("local:") else {
            let settings = settings(&self.name).map_err(anyhow::Error::msg)?;
            return Ok(Judge::Remote(Box::new(Remote::new(settings)?), Mutex::default()));
        };
        let settings = OpenSettings { precision, training: Training::None(Weights::Full) };
        let chat = ChatModel::open(&catalogue::resolve(model)?, None, settings);
        Ok(Judge::Local(Box::new(chat.with_context(|| format!("the judge {}", self.name))?)))
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
                        messages: quoted(question),
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
                        messages: quoted(question),
                        options: question.options.clone(),
                        max_new_tokens: question.max_new_tokens,
                        temperature: 0.0,
                        sample: 0,
                    })
                    .collect();
                let replies =
                    remote.ask(&questions, &stop_asked, &|_| {})?.into_iter().map(|reply| match reply {
                        Ok(solon_remote::Reply::Said { text, .. }) => Reply::Said(text),
                        Ok(solon_remote::Reply::Options(log_probs)) => Reply::Options(log_probs),
                        Err(unanswered) => Reply::Failed(unanswered.reason),
                    });
                let replies = replies.collect();
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                for note in remote.usage().notes() {
                    if said.insert(note.clone()) {
                        eprintln!("the judge at {note}");
                    }
                }
                // What a stop left unasked is no reply to keep.
                safe_point()?;
                Ok(replies)
            }
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
        match chat.prompt_ids(&request.id, &request.messages, new) {
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
