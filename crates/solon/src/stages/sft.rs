//! `sft`: supervised fine-tuning on demonstrations, on answers and revisions of earlier stages, or on both.

use super::lessons::{DIVERGENCE, Learnt, check_hold, imitate};
use super::settings::{LOSS, Rates, positive};
use super::{Curve, Data, Input, Keys, Kind, Method, OneOrMany, Preflight, Stage, Training, base};
use crate::cli::UsageError;
use crate::run::{Sourced, StageRun};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_train::sft::{Average, Weighting};

pub const KIND: Kind = Kind {
    name: "sft",
    about: "Fine-tunes a model on demonstrations, answers and revisions.",
    parse,
    files: Vec::new,
};

/// One in this many of the first prompts is held out, where any are.
pub const HELD_OUT_EVERY: u64 = 4;

struct Sft {
    own: Own,
    training: Training,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// The model to start from.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// What is learnt.
    #[serde(default, skip_serializing)]
    data: OneOrMany,
    /// Which revisions of `revise` stages are learnt.
    #[serde(default, skip_serializing_if = "Revisions::is_last")]
    revisions: Revisions,
    /// Every fourth of the first so many answers of each input is not learnt, so that a labeller can be measured on it.
    #[serde(default)]
    hold_out: u64,
    /// Answers on which the model is held to what it predicted before training: the KL divergence of its whole next-token
    /// distribution, at every token.
    #[serde(default, skip_serializing)]
    hold: OneOrMany,
    /// Weight of the divergence beside the imitation.
    #[serde(default = "one", deserialize_with = "positive")]
    hold_weight: f64,
    /// `token`: the loss is the mean over a batch's tokens. `sequence`: over its conversations, each counting the same.
    #[serde(default)]
    average: Average,
    /// How many tokens at the start of each answer count `first_weight` times.
    #[serde(default)]
    first_tokens: usize,
    /// At least 1.
    #[serde(default = "one", deserialize_with = "positive")]
    first_weight: f64,
}

/// Which of an answer's revisions are learnt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Revisions {
    /// The last good one.
    #[default]
    Last,
    /// The good one of every round (Bai et al. 2022, §3.2).
    Every,
}

impl Revisions {
    fn is_last(&self) -> bool {
        *self == Self::Last
    }
}

fn one() -> f64 {
    1.0
}

impl Own {
    fn weighting(&self) -> Weighting {
        Weighting {
            average: self.average,
            first_tokens: self.first_tokens,
            first_weight: self.first_weight as f32,
            hold_weight: self.hold_weight as f32,
        }
    }
}

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let training = Training::take(&mut keys, &Rates { lora: 3e-4, full: 2e-5 })?;
    let own: Own = keys.rest()?;
    own.weighting().validate().map_err(|error| error.to_string())?;
    check_hold(&own.hold, training.method)?;
    Ok(Box::new(Sft { training, own }))
}

impl Stage for Sft {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.own.from.clone()], &[Data::Model]),
            Input::required("data", &self.own.data, &[Data::Demonstrations, Data::Answers]),
            Input::optional("hold", &self.own.hold, &[Data::Demonstrations, Data::Answers]),
        ]
    }

    fn output(&self) -> Data {
        Data::Model
    }

    fn settings(&self) -> Value {
        json!([self.own, self.training])
    }

    fn trains(&self) -> Option<Method> {
        Some(self.training.method)
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        let revised = (preflight.inputs)("data").iter().any(|stage| stage.revises());
        if self.own.revisions == Revisions::Every && !revised {
            let what =
                "revisions = \"every\", but no `revise` stage is among `data`\nhint: leave `revisions` out";
            return Err(UsageError(what.to_owned()).into());
        }
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let mut sourced = match self.own.revisions {
            Revisions::Last => run.read().demonstrations("data")?,
            Revisions::Every => run.read().demonstrations_of_every_round("data")?,
        };
        // Only answers to prompts are held out; what people wrote as demonstrations is learnt as it is.
        let held_out = |item: &Sourced| {
            item.prompt_id.is_some()
                && item.ordinal < self.own.hold_out
                && item.ordinal % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        };
        sourced.retain(|item| !held_out(item));
        let lessons = Learnt {
            imitated: sourced,
            held: run.read().demonstrations("hold")?,
            weighting: self.own.weighting(),
        };
        imitate(run, "from", lessons, &self.training)
    }

    fn curves(&self) -> Vec<Curve> {
        if self.own.hold == OneOrMany::None { vec![LOSS] } else { vec![LOSS, DIVERGENCE] }
    }
}
