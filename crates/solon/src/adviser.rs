//! Who is asked for feedback in a stage: a model of the run, or a judge that its recipe names.

use crate::feedback_model::LocalModel;
use crate::judge::{Judge, JudgeLimits, JudgeName};
use crate::remote_model::RemoteModel;
use crate::run::{Model, StageRun};
use anyhow::Result;
use solon_feedback::FeedbackModel;
use solon_remote::Usage;

/// Someone who can be asked.
pub enum Adviser {
    /// A model of the run, with its adapter.
    OfRun(Model),
    /// Another model, on this machine or on a server.
    Judge(Judge),
}

impl Adviser {
    /// Opens the judge, whose replies are recorded in the run's folder, or the model that the stage's input `key` names.
    pub fn open(
        run: &StageRun<'_>,
        key: &str,
        judge: Option<&JudgeName>,
        limits: &JudgeLimits,
    ) -> Result<Self> {
        let answers = run.beside("answers");
        Ok(match judge {
            Some(judge) => Self::Judge(judge.open_with(run.precision(), limits, Some(&answers))?),
            None => Self::OfRun(run.read().model(key)?),
        })
    }

    /// What servers were asked, and what it took; nothing of a model on this machine.
    pub fn usage(&self) -> Option<Usage> {
        match self {
            Self::Judge(Judge::Remote(remote, _)) => Some(remote.usage()),
            Self::Judge(Judge::Local(_)) | Self::OfRun(_) => None,
        }
    }

    /// The same as a feedback model. `slots`: answers sampled at the same time on this machine. `votes`: samples where a server
    /// shows no log-probs.
    pub fn model(&self, slots: usize, votes: u32) -> Box<dyn FeedbackModel + '_> {
        match self {
            Self::OfRun(model) => Box::new(LocalModel::new(&model.chat, model.adapter.as_ref(), slots)),
            Self::Judge(Judge::Local(chat)) => Box::new(LocalModel::new(chat, None, slots)),
            Self::Judge(Judge::Remote(remote, said)) => Box::new(RemoteModel::new(remote, said, votes)),
        }
    }
}
