//! `labeller`: an adapter warmed up to label pairs, on the constitution's worked examples and on pairs whose better answer
//! is known. What measures it is kept back: every fourth worked example, and the pairs whose prompts the model it starts
//! from has not learnt (every fourth, where it has learnt none of them).
//!
//! With `ask = "apart"` it also learns from every prompt whose kind is known. Then the pairs that are kept back are those
//! whose prompts neither it nor the model it starts from has learnt in any form: all of them, but no more than 200 or a
//! quarter, whichever is more, because a small sample says little about a labeller that is near chance.

use super::critic::warm_up;
use super::lessons::imitate;
use super::settings::{LOSS, Rates};
use super::sft::HELD_OUT_EVERY;
use super::{Curve, Data, Input, Keys, Kind, Method, OneOrMany, Stage, Training, base};
use crate::items::{Known, Labelled, pair_text};
use crate::run::{Reader, StageRun};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_eval::declines;
use solon_feedback::{
    Ask, KnownContrast, LabellerTraining, Material, labeller_training, prompt_text, whole_sentences,
};
use solon_records::Preference;
use std::collections::HashSet;

pub const KIND: Kind = Kind {
    name: "labeller",
    about: "Warms an adapter up to judge answers by a principle.",
    parse,
    files: Vec::new,
};

/// So many pairs are kept back to measure a labeller that is asked apart, if there are as many.
const MEASURED: usize = 200;

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
    /// Prompts of known kinds to learn from, with `ask = "apart"`.
    #[serde(default, skip_serializing)]
    prompts: OneOrMany,
    /// How it will be asked.
    #[serde(default)]
    ask: Ask,
}

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let training = Training::take(&mut keys, &Rates { lora: 1e-3, full: 2e-5 })?;
    let own: Own = keys.rest()?;
    if own.prompts != OneOrMany::None && own.ask != Ask::Apart {
        return Err("`prompts` teaches a labeller that is asked apart; write `ask = \"apart\"`, or leave `prompts` out".into());
    }
    Ok(Box::new(Labeller { training, own }))
}

impl Stage for Labeller {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.own.from.clone()], &[Data::Model]),
            Input::optional("pairs", &self.own.pairs, &[Data::Preferences]),
            Input::optional("prompts", &self.own.prompts, &[Data::Prompts]),
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
        let contrasts = contrasts(&run.read(), self.own.ask)?;
        let prompts = run.read().prompts("prompts")?;
        let material =
            Material { contrasts: &contrasts, prompts: &prompts, declines: &declines, draws: run.draws() };
        let made = labeller_training(run.read().constitution()?, &material, self.own.ask)?;
        let LabellerTraining { training, held_out, requests } = made;
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
        // Worked examples are no items.
        let items: HashSet<&str> = (contrasts.iter().map(|contrast| contrast.preference.id.as_str()))
            .chain(prompts.iter().map(|prompt| prompt.id.as_str()))
            .collect();
        let sourced = training.into_iter().map(|conversation| {
            let source = conversation.source.clone();
            let of_the_run = items.contains(source.as_str());
            warm_up(conversation, of_the_run.then_some(source))
        });
        let mut told = imitate(run, "from", sourced.collect::<Vec<_>>(), &self.training)?;
        told["held_out"] = json!(known.len());
        if let Some(requests) = requests {
            told["requests"] = json!(requests);
        }
        Ok(told)
    }

    fn curves(&self) -> Vec<Curve> {
        vec![LOSS]
    }
}

/// The pairs to learn from, with those that are kept back.
fn contrasts(read: &Reader<'_>, ask: Ask) -> Result<Vec<KnownContrast>> {
    let learnt = read.learnt_prompts(&read.input_shown("from"))?;
    let mut contrasts = Vec::new();
    for item in read.items::<Labelled>("pairs")? {
        let prompt = item.data.prompt_id.as_deref().map(|id| read.prompt(id)).transpose()?.flatten();
        let kind = prompt.and_then(|prompt| prompt.kind);
        if !item.data.preference.is_plain() {
            bail!(
                "the pair {} has an answer with calls of tools or reasoning beside its text; a labeller learns from texts",
                item.id
            );
        }
        let preference = shown(Preference { id: item.id, ..item.data.preference });
        let held_out = !learnt.contains(&Reader::learnt_key(&preference.prompt)?);
        contrasts.push(KnownContrast { preference, held_out, kind });
    }
    if ask == Ask::Apart {
        keep_back(&mut contrasts);
    } else if contrasts.iter().all(|contrast| contrast.held_out) {
        for (place, contrast) in (0..).zip(&mut contrasts) {
            contrast.held_out = place % HELD_OUT_EVERY == HELD_OUT_EVERY - 1;
        }
    }
    Ok(contrasts)
}

/// A contrast as a labeller learns and is measured on it: answers that were cut off up to their last whole sentence, as the
/// pairs are that it will label. Else it could tell the answers apart by which was cut off.
fn shown(contrast: Preference) -> Preference {
    let shown = |text: String, cut_off: bool| if cut_off { whole_sentences(&text).to_owned() } else { text };
    let [chosen, rejected] = contrast.cut_off;
    Preference {
        chosen: shown(contrast.chosen, chosen),
        rejected: shown(contrast.rejected, rejected),
        cut_off: [false; 2],
        ..contrast
    }
}

/// Of the contrasts that could be held out, keeps back [`MEASURED`] or a quarter, whichever is more, evenly spaced; all
/// where there are no more. Two contrasts of one prompt are kept back together or not at all.
fn keep_back(contrasts: &mut [KnownContrast]) {
    let fresh: Vec<usize> = (0..contrasts.len()).filter(|at| contrasts[*at].held_out).collect();
    let wanted = MEASURED.max(fresh.len() / 4).min(fresh.len());
    let kept: HashSet<usize> = (0..wanted).map(|i| fresh[i * fresh.len() / wanted]).collect();
    let prompts: HashSet<String> =
        kept.iter().map(|at| prompt_text(&contrasts[*at].preference.prompt)).collect();
    for contrast in contrasts {
        contrast.held_out &= prompts.contains(&prompt_text(&contrast.preference.prompt));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_records::{Message, Pair};

    fn contrast(prompt: usize, held_out: bool) -> KnownContrast {
        let pair = Pair {
            id: format!("c{prompt}"),
            prompt: vec![Message::user(format!("ask {prompt}"))],
            first: "a".into(),
            second: "b".into(),
            cut_off: [false; 2],
            principle_id: None,
        };
        KnownContrast { preference: pair.labelled(1.0, "test"), held_out, kind: None }
    }

    #[test]
    fn two_hundred_pairs_are_kept_back_if_there_are_as_many() {
        for (fresh, learnt, kept) in
            [(0, 9, 0), (3, 2, 3), (200, 50, 200), (201, 0, 200), (700, 10, 200), (1000, 0, 250)]
        {
            let mut contrasts: Vec<KnownContrast> =
                (0..fresh + learnt).map(|i| contrast(i, i < fresh)).collect();
            keep_back(&mut contrasts);
            let held: Vec<usize> = (0..contrasts.len()).filter(|i| contrasts[*i].held_out).collect();
            assert_eq!(held.len(), kept, "{fresh} fresh");
            assert!(held.iter().all(|i| *i < fresh), "one that the model has learnt measures nothing");
        }
        let mut twice: Vec<KnownContrast> = (0..600).map(|i| contrast(i / 2, true)).collect();
        keep_back(&mut twice);
        assert!(twice.as_chunks::<2>().0.iter().all(|[one, other]| one.held_out == other.held_out));
    }

    #[test]
    fn prompts_teach_only_a_labeller_that_is_asked_apart() {
        let parse = |text: &str| parse(Keys::new(text.parse().unwrap())).map(drop);
        let error = parse("prompts = \"p\"\nask = \"rate\"").unwrap_err();
        assert!(error.contains("`prompts`") && error.contains("ask = \"apart\""), "{error}");
        parse("prompts = \"p\"\nask = \"apart\"").unwrap();
    }
}
