//! Who is asked for feedback in a stage: a model of the run, or a judge that its recipe names.

use crate::feedback_model::LocalModel;
use crate::judge::{Judge, JudgeLimits, JudgeName};
use crate::remote_model::RemoteModel;
use crate::reward_labeller::RewardLabeller;
use crate::run::{Model, StageRun};
use crate::stages::{Data, Input, OneOrMany};
use anyhow::{Result, bail};
use serde_json::Value;
use solon_feedback::{Ask, FeedbackModel};

/// Refuses keys of a stage that do not go together: a judge beside the model that the key `key` names, limits of nobody, or a way of
/// asking that a server has not. `text`: the model continues texts. `scores`: it scores whole answers.
pub fn check(
    (key, named): (&str, &OneOrMany),
    judge: Option<&JudgeName>,
    limits: &JudgeLimits,
    (text, scores): (bool, bool),
) -> Result<(), String> {
    let Some(judge) = judge else {
        return match *limits == JudgeLimits::default() {
            true => Ok(()),
            false => Err("`judge_limits` is about a judge\nhint: give `judge`".to_owned()),
        };
    };
    if *named != OneOrMany::None {
        return Err(format!("`judge` and `{key}` both say who is asked\nhint: give one of them"));
    }
    limits.check(judge)?;
    match judge.is_server() {
        true if text && !judge.may_continue_texts() => {
            Err("Anthropic's servers chat, and continue no text\nhint: form = \"chat\"".to_owned())
        }
        true if scores => {
            Err("ask = \"contrast\" and ask = \"reward\" score whole answers, which no server does\n\
             hint: ask = \"choice\""
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// What may label: models that answer, a critic among them, and reward models.
pub const LABELLERS: [Data; 4] = [Data::Labeller, Data::Model, Data::Critic, Data::RewardModel];

/// The input `key` of a stage that asks a model of the run, or a judge in its place.
pub fn input(
    key: &'static str,
    names: &OneOrMany,
    accepts: &'static [Data],
    judge: Option<&JudgeName>,
) -> Input {
    match judge {
        Some(_) => Input::optional(key, names, accepts),
        None => Input::required(key, names, accepts),
    }
}

/// Someone who can be asked.
pub enum Adviser {
    /// A model of the run, with its adapter.
    OfRun(Box<Model>),
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
            None => Self::OfRun(Box::new(run.read().model(key)?)),
        })
    }

    /// Says what servers were asked by the stage `name`, and what it took, and adds it to what the stage tells.
    pub fn tell(&self, name: &str, told: &mut Value) {
        if let Self::Judge(Judge::Remote(remote, _)) = self {
            let usage = remote.usage().to_string();
            eprintln!("{name}: {usage}");
            told["usage"] = usage.into();
        }
    }

    /// The same as a labeller that is asked in this way.
    ///
    /// Errors where it is a reward model and asked anything else, and where it is none and should be.
    pub fn labeller(&self, ask: Ask, slots: usize, votes: u32) -> Result<Box<dyn FeedbackModel + '_>> {
        let (chat, adapter, head) = match self {
            Self::OfRun(model) => (&*model.chat, model.adapter.as_ref(), model.head.clone()),
            Self::Judge(Judge::Local(chat)) => {
                let head = chat.score.as_ref().map(|head| head.weight.to_vec());
                (&**chat, chat.adapter.as_ref(), head)
            }
            Self::Judge(Judge::Remote(..)) => return Ok(self.model(slots, votes)),
        };
        match ask {
            Ask::Reward => Ok(Box::new(RewardLabeller::new(chat, adapter, head)?)),
            _ if head.is_some() => bail!(
                "a reward model answers no question, and ask = \"{}\" asks some\nhint: ask = \"reward\"",
                ask.name()
            ),
            _ => Ok(self.model(slots, votes)),
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
