//! `sft`: supervised fine-tuning on demonstrations, on answers and revisions of earlier stages, or on both.

use super::settings::{LOSS, Rates};
use super::{Curve, Data, Input, Keys, Kind, Method, OneOrMany, Stage, Training, base};
use crate::run::{Sourced, StageRun};
use crate::tokenise;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_records::{Demonstration, transcript};
use solon_train::Trainer;
use solon_train::sft::SftTrainer;
use std::collections::BTreeSet;
use std::time::Instant;

pub const KIND: Kind =
    Kind { name: "sft", about: "Fine-tunes a model on demonstrations, answers and revisions.", parse };

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
    /// Every fourth of the first so many answers of each input is not learnt, so that a labeller can be measured on it.
    #[serde(default)]
    hold_out: u64,
}

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let training = Training::take(&mut keys, &Rates { lora: 3e-4, full: 2e-5 })?;
    Ok(Box::new(Sft { training, own: keys.rest()? }))
}

impl Stage for Sft {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.own.from.clone()], &[Data::Model]),
            Input::required("data", &self.own.data, &[Data::Demonstrations, Data::Answers]),
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

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let mut sourced = run.read().demonstrations("data")?;
        // Only answers to prompts are held out; what people wrote as demonstrations is learnt as it is.
        let held_out = |item: &Sourced| {
            item.prompt_id.is_some()
                && item.ordinal < self.own.hold_out
                && item.ordinal % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        };
        sourced.retain(|item| !held_out(item));
        imitate(run, "from", sourced, &self.training)
    }

    fn curves(&self) -> Vec<Curve> {
        vec![LOSS]
    }
}

/// Records what is learnt as items of the stage, with what it was made from, and fine-tunes on it.
pub fn imitate(
    run: &mut StageRun<'_>,
    from: &str,
    learnt: Vec<Sourced>,
    training: &Training,
) -> Result<Value> {
    if learnt.is_empty() {
        bail!("there is nothing to learn from: the inputs hold no items that were kept");
    }
    let started = Instant::now();
    let start = run.start(from, training.method)?;
    let mut items = Vec::new();
    let mut demonstrations = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, Sourced { demonstration, parents, prompt_id, .. }) in (0..).zip(learnt) {
        // Two inputs may use the same ids: the later item is then named after the item it was made from.
        let own = run.id(&demonstration.id);
        let id = match (seen.insert(own.clone()), parents.last()) {
            (false, Some(source)) => run.id(source),
            _ => own,
        };
        let demonstration = Demonstration { id, ..demonstration };
        let text = transcript(&demonstration.messages);
        let mut item = NewItem::of(demonstration.id.clone(), place, text, &demonstration)?;
        item.prompt_id = prompt_id;
        for parent in parents {
            item = item.parent(parent, "made of");
        }
        items.push(item);
        demonstrations.push(demonstration);
    }
    let examples = tokenise::examples(start.chat(), &demonstrations)?;
    run.insert(&items)?;
    let settings = run.train_settings(training, &start)?;
    let mut student = run.student(start, None)?;
    let mut trainer = SftTrainer::new(&mut student.learner, &examples, settings, run.draws().item("order"))?;
    let mut told = run.train(&mut trainer, started)?;
    let steps = trainer.total_steps();
    run.save(&student, steps)?;
    told["examples"] = json!(examples.len());
    Ok(told)
}
