//! Who is asked for feedback in a stage: a model of the run, or a judge that its recipe names.

use crate::feedback_model::LocalModel;
use crate::judge::{Judge, JudgeName};
use crate::remote_model::RemoteModel;
use crate::run::{Model, StageRun};
use anyhow::Result;
use solon_feedback::FeedbackModel;

/// Someone who can be asked.
pub enum Adviser {
    /// A model of the run, with its adapter.
    OfRun(Model),
    /// Another model, on this machine or on a server.
    Judge(Judge),
}

impl Adviser {
    /// Opens the judge, or the model that the stage's input `key` names.
    pub fn open(run: &StageRun<'_>, key: &str, judge: Option<&JudgeName>) -> Result<Self> {
        Ok(match judge {
            Some(judge) => Self::Judge(judge.open(run.precision())?),
            None => Self::OfRun(run.read().model(key)?),
        })
    }

    /// The same as a feedback model. `slots`: answers sampled at the same time on this machine. `votes`: samples where a server
    /// shows no log-probs.
    pub fn model(&self, slots: usize, votes: u32) -> Box<dyn FeedbackModel + '_> {
        match self {
            Self::OfRun(model) => Box::new(LocalModel::new(&model.chat, model.adapter.as_ref(), slots)),
            Self::Judge(Judge::Local(chat)) => Box::new(LocalModel::new(chat, None, slots)),
            Self::Judge(Judge::Server(server)) => Box::new(RemoteModel::new(server, votes)),
        }
    }
}
