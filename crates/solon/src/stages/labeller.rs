//! `labeller`: an adapter warmed up to label pairs, on the constitution's worked examples and on pairs whose better answer
//! is known. What measures it is kept back: every fourth worked example, and the pairs whose prompts the model it starts
//! from has not learnt (every fourth, where it has learnt none of them).

use super::critic::warm_up;
use super::settings::{LOSS, Rates};
use super::sft::{HELD_OUT_EVERY, imitate};
use super::{Curve, Data, Input, Keys, Kind, Method, OneOrMany, Stage, Training, base};
use crate::items::{Known, Labelled, pair_text};
use crate::run::{Reader, StageRun};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_feedback::{Ask, KnownContrast, LabellerTraining, labeller_training};
use solon_records::Preference;

pub const KIND: Kind =
    Kind { name: "labeller", about: "Warms an adapter up to judge answers by a principle.", parse };

struct Labeller {
    own: Own,
    training: Training,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Own {
    /// The model to start from: the SFT model already tells what to refuse from what to answer.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// Pairs whose better answer is known, to learn from beside the worked examples.
    #[serde(default, skip_serializing)]
    pairs: OneOrMany,
    /// How it will be asked.
    #[serde(default)]
    ask: Ask,
}

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let training = Training::take(&mut keys, &Rates { lora: 1e-3, full: 2e-5 })?;
    Ok(Box::new(Labeller { training, own: keys.rest()? }))
}

impl Stage for Labeller {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.own.from.clone()], &[Data::Model]),
            Input::optional("pairs", &self.own.pairs, &[Data::Preferences]),
        ]
    }

    fn output(&self) -> Data {
        Data::Labeller
    }

    fn needs_constitution(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        json!([self.own, self.training])
    }

    fn trains(&self) -> Option<Method> {
        Some(self.training.method)
    }

    fn ask(&self) -> Option<Ask> {
        Some(self.own.ask)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let contrasts = contrasts(&run.read())?;
        let made = labeller_training(run.read().constitution()?, &contrasts, self.own.ask)?;
        let LabellerTraining { training, held_out } = made;
        // Worked examples that the model it starts from has learnt measure nothing.
        let learnt = run.read().learnt_prompts(&run.read().input_shown("from"))?;
        let mut fresh = Vec::new();
        for known in held_out {
            if !learnt.contains(&Reader::learnt_key(&known.pair.prompt)?) {
                fresh.push(known);
            }
        }
        let held_out = fresh;
        let mut known = Vec::new();
        for (place, held_out) in (0..).zip(held_out) {
            let source = held_out.pair.id.strip_suffix(solon_feedback::HELD_OUT).unwrap_or_default();
            let contrast = contrasts.iter().any(|contrast| contrast.preference.id == source);
            let (source, id) = (source.to_owned(), run.id(&held_out.pair.id));
            let text = pair_text(&held_out.pair);
            let mut item = NewItem::of(id, place, text, &Known { known: held_out, contrast })?;
            if contrast {
                item = item.parent(source, "pair");
            }
            known.push(item);
        }
        run.insert(&known)?;
        let sourced = training.into_iter().map(|conversation| {
            let source = conversation.source.clone();
            let contrast = contrasts.iter().any(|contrast| contrast.preference.id == source);
            warm_up(conversation, contrast.then_some(source))
        });
        let mut told = imitate(run, "from", sourced.collect::<Vec<_>>(), &self.training)?;
        told["held_out"] = json!(known.len());
        Ok(told)
    }

    fn curves(&self) -> Vec<Curve> {
        vec![LOSS]
    }
}

/// The pairs to learn from, with those that are kept back.
fn contrasts(read: &Reader<'_>) -> Result<Vec<KnownContrast>> {
    let learnt = read.learnt_prompts(&read.input_shown("from"))?;
    let mut contrasts = Vec::new();
    for item in read.items::<Labelled>("pairs")? {
        let preference = Preference { id: item.id, ..item.data.preference };
        let held_out = !learnt.contains(&Reader::learnt_key(&preference.prompt)?);
        contrasts.push(KnownContrast { preference, held_out });
    }
    if contrasts.iter().all(|contrast| contrast.held_out) {
        for (place, contrast) in (0..).zip(&mut contrasts) {
            contrast.held_out = place % HELD_OUT_EVERY == HELD_OUT_EVERY - 1;
        }
    }
    Ok(contrasts)
}
