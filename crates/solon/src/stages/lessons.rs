//! Lessons: conversations that a stage imitates or holds its model on.

use super::{Curve, Method, OneOrMany, Training};
use crate::run::{Sourced, StageRun};
use crate::tokenise;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_infer::chat::ChatModel;
use solon_records::{Demonstration, transcript};
use solon_train::Trainer;
use solon_train::sft::{Lessons, SftExample, SftTrainer, Weighting};
use std::collections::BTreeSet;
use std::time::Instant;

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
pub fn lessons(
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
