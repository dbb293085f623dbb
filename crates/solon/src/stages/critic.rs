//! `critic`: an adapter warmed up on the constitution's worked examples, to criticise and revise. Unaided critiques of a
//! small model are noise; the examples make it a usable critic.

use super::lessons::imitate;
use super::settings::{LOSS, Rates};
use super::{Curve, Data, Input, Keys, Kind, Method, Stage, Training, base};
use crate::run::{Sourced, StageRun};
use anyhow::Result;
use serde::Deserialize;
use serde_json::{Value, json};
use solon_feedback::{TrainingConversation, training_conversations};
use solon_records::Demonstration;

pub const KIND: Kind = Kind {
    name: "critic",
    about: "Warms an adapter up on the worked examples, to criticise and revise.",
    parse,
    files: Vec::new,
};

struct Critic {
    own: Own,
    training: Training,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// The model the adapter is trained on.
    #[serde(default = "base")]
    from: String,
}

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let training = Training::take(&mut keys, &Rates { lora: 1e-3, full: 2e-5 })?;
    Ok(Box::new(Critic { training, own: keys.rest()? }))
}

impl Stage for Critic {
    fn inputs(&self) -> Vec<Input> {
        vec![Input::required("from", [self.own.from.clone()], &[Data::Model])]
    }

    fn output(&self) -> Data {
        Data::Critic
    }

    fn needs_constitution(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        json!(self.training)
    }

    fn trains(&self) -> Option<Method> {
        Some(self.training.method)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let conversations = training_conversations(run.read().constitution()?);
        let sourced: Vec<Sourced> = conversations.into_iter().map(|c| warm_up(c, None)).collect();
        imitate(run, "from", sourced, &self.training)
    }

    fn curves(&self) -> Vec<Curve> {
        vec![LOSS]
    }
}

/// A conversation that teaches a critic or a labeller. Its principle is in the ledger, and so is what it was made of where
/// that is a pair of the run.
pub fn warm_up(conversation: TrainingConversation, made_of: Option<String>) -> Sourced {
    let TrainingConversation { id, principle_id, messages, .. } = conversation;
    Sourced {
        prompt_id: None,
        ordinal: 0,
        parents: [principle_id.map(|id| format!("principle/{id}")), made_of].into_iter().flatten().collect(),
        demonstration: Demonstration { id, messages, prompt_len: 1, not_learnt: Vec::new(), cut_off: false },
    }
}
