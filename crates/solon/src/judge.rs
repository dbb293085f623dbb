//! A judge: a model on this machine or on a server that is asked about another model's answers.
//!
//! A question that gets no reply is a reply of its own ([`Reply::Failed`]): the benchmark counts it. What makes every question
//! fail is an error.

use crate::catalogue;
use crate::feedback_model::LocalModel;
use crate::run::{model_hash, safe_point, stop_asked};
use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize};
use solon_draws::Draws;
use solon_eval::{Question, Reply};
use solon_feedback::{GenerateRequest, Server, ServerQuestion, ServerReply, ServerSettings, without_control};
use solon_infer::chat::{ChatError, ChatModel, OpenSettings};
use solon_kernels::Precision;
use solon_model::{Training, Weights};
use solon_records::{Message, SamplingSettings};
use std::collections::BTreeMap;

/// The variable that holds the key of a server.
const KEY: &str = "OPENAI_API_KEY";

/// A judge as it is named: `local:MODEL` or `openai:NAME@URL`. What it says depends on the name of a server's model, and on a
/// local model's weights.
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
        let settings = server_settings(&name)?;
        Server::new(settings).map_err(|error| error.to_string())?;
        Ok(Self { server: Some(name.clone()), sha256: None, name })
    }
}

/// The settings in `openai:NAME@URL`. A model's name may hold an @; an address does not.
fn server_settings(name: &str) -> Result<ServerSettings, String> {
    let parts = name.strip_prefix("openai:").and_then(|rest| rest.rsplit_once('@'));
    let (model, url) = parts
        .ok_or_else(|| format!("there is no judge `{name}`\nhint: give local:MODEL or openai:NAME@URL"))?;
    let key = std::env::var(KEY).ok().filter(|key| !key.is_empty());
    Ok(ServerSettings { key, ..ServerSettings::new(model, url) })
}

/// A judge that can be asked.
pub enum Judge {
    /// A model on this machine.
    Local(Box<ChatModel>),
    /// A model on a server.
    Server(Server),
}

impl JudgeName {
    /// As it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is on a server.
    pub fn is_server(&self) -> bool {
        self.server.is_some()
    }

    /// Opens it.
    pub fn open(&self, precision: Precision) -> Result<Judge> {
        let Some(model) = self.name.strip_prefix("local:") else {
            let settings = server_settings(&self.name).map_err(anyhow::Error::msg)?;
            return Ok(Judge::Server(Server::new(settings)?));
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
                        context: quoted(question).into(),
                        prefill: String::new(),
                    };
                    (request, question.max_new_tokens)
                });
                local(chat, asked.collect(), slots, draws)
            }
            Self::Server(server) => {
                let questions: Vec<ServerQuestion> = asked
                    .iter()
                    .map(|(id, question)| ServerQuestion {
                        id: id.clone(),
                        messages: quoted(question),
                        options: question.options.clone(),
                        max_new_tokens: question.max_new_tokens,
                        temperature: 0.0,
                        sample: 0,
                    })
                    .collect();
                let replies = server.ask(&questions, &stop_asked)?.into_iter().map(|reply| match reply {
                    Ok(ServerReply::Said { text, .. }) => Reply::Said(text),
                    Ok(ServerReply::Options(log_probs)) => Reply::Options(log_probs),
                    Err(reason) => Reply::Failed(reason),
                });
                let replies = replies.collect();
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
