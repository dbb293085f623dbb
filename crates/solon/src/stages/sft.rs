//! `sft`: supervised fine-tuning on demonstrations, on answers and revisions of earlier stages, or on both.

use super::settings::{LOSS, Rates, positive};
use super::{Curve, Data, Input, Keys, Kind, Method, OneOrMany, Stage, Training, base};
use crate::run::{Sourced, StageRun};
use crate::tokenise;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_infer::chat::ChatModel;
use solon_model::Backend;
use solon_records::{Demonstration, transcript};
use solon_train::Trainer;
use solon_train::sft::{Average, Lessons, SftExample, SftTrainer, Weighting};
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

fn one() -> f64 {
    1.0
}

/// Refuses to hold a model whose every weight is trained.
pub fn check_hold(hold: &OneOrMany, method: Method) -> Result<(), String> {
    match (hold, method) {
        (OneOrMany::None, _) | (_, Method::Lora) => Ok(()),
        (_, Method::Full) => {
            Err("`hold` compares with the model before training, which shares its weights with the adapter; \
             leave out method = \"full\" or `hold`"
                .to_owned())
        }
    }
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

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let mut sourced = run.read().demonstrations("data")?;
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

/// How far a model moves where it is held.
pub const DIVERGENCE: Curve = Curve {
    title: "divergence on held answers",
    y_label: "nats per token",
    series: &[("divergence", "divergence")],
};

/// The place of the first held conversation among a stage's items: those before it are imitated.
pub const FIRST_HELD: u64 = 1 << 32;

/// What is learnt, before it is tokenised.
pub struct Learnt {
    /// What is imitated.
    pub imitated: Vec<Sourced>,
    /// What the model is held on.
    pub held: Vec<Sourced>,
    /// How much each token counts.
    pub weighting: Weighting,
}

impl From<Vec<Sourced>> for Learnt {
    fn from(imitated: Vec<Sourced>) -> Self {
        Self { imitated, held: Vec::new(), weighting: Weighting::EVEN }
    }
}

/// Records what is learnt as items of the stage, with what it was made from, and fine-tunes on it.
pub fn imitate(
    run: &mut StageRun<'_>,
    from: &str,
    learnt: impl Into<Learnt>,
    training: &Training,
) -> Result<Value> {
    let Learnt { imitated, held, weighting } = learnt.into();
    if imitated.is_empty() {
        bail!("there is nothing to learn from: the inputs hold no items that were kept");
    }
    let started = Instant::now();
    let start = run.start(from, training.method)?;
    let count = imitated.len();
    let examples = lessons(run, start.chat(), imitated, held)?;
    let settings = run.train_settings(training, &start)?;
    let reference = start.adapter().map(|adapter| adapter.duplicate(start.chat().decoder.backend()));
    let mut student = run.student(start, None)?;
    let (imitated, held) = examples.split_at(count);
    let lessons = Lessons { imitated, held, reference, weighting };
    let mut trainer = SftTrainer::on(&mut student.learner, lessons, settings, run.draws().item("order"))?;
    let mut told = run.train(&mut trainer, started)?;
    let steps = trainer.total_steps();
    run.save(&student, steps)?;
    told["examples"] = json!(count);
    if examples.len() > count {
        told["held"] = json!(examples.len() - count);
    }
    Ok(told)
}

/// Records conversations to imitate and to hold as items of the stage, with what they were made from, and tokenises them: the
/// imitated ones, then the held ones.
fn lessons(
    run: &mut StageRun<'_>,
    chat: &ChatModel,
    imitated: Vec<Sourced>,
    held: Vec<Sourced>,
) -> Result<Vec<SftExample>> {
    let mut items = Vec::new();
    let mut demonstrations = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, Sourced { demonstration, parents, prompt_id, .. }) in
        (0..).zip(imitated).chain((FIRST_HELD..).zip(held))
    {
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
    let examples = tokenise::examples(chat, &demonstrations)?;
    run.insert(&items)?;
    Ok(examples)
}

/// Lessons beside preferences or rewards, each answer counting the same.
pub struct Beside {
    imitated: Vec<SftExample>,
    held: Vec<SftExample>,
}

impl Beside {
    /// The answers of the inputs `imitate` and `hold`, recorded as items of the stage. Of the imitated ones the first `after`
    /// tokens are left out.
    pub fn read(run: &mut StageRun<'_>, chat: &ChatModel, after: usize) -> Result<Self> {
        let (imitated, held) = (run.read().demonstrations("imitate")?, run.read().demonstrations("hold")?);
        let count = imitated.len();
        let examples = lessons(run, chat, imitated, held)?;
        let (imitated, held) = examples.split_at(count);
        let imitated = imitated.iter().filter_map(|example| example.after(after)).collect();
        Ok(Self { imitated, held: held.to_vec() })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.imitated.is_empty() && self.held.is_empty()
    }

    /// For the trainer. The model is held to the one without an adapter.
    pub fn lessons<B: Backend>(&self, hold_weight: f64) -> Lessons<'_, B> {
        let hold_weight = hold_weight as f32;
        let weighting = Weighting { average: Average::Sequence, hold_weight, ..Weighting::EVEN };
        Lessons { imitated: &self.imitated, held: &self.held, reference: None, weighting }
    }

    /// Adds how many there are to what the stage tells.
    pub fn tell(&self, told: &mut Value) {
        for (name, lessons) in [("imitated", &self.imitated), ("held", &self.held)] {
            if !lessons.is_empty() {
                told[name] = json!(lessons.len());
            }
        }
    }
}
