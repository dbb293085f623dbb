//! `contrast`: pairs whose better answer is known by how they were made (RLCD, Yang et al. 2023): a red-team prompt's
//! revision beside the answer it revises, and a helpful prompt's answer beside a needless refusal, which the model writes
//! when its first words are put into its mouth. Pairs that do not differ in refusing are dropped.

use super::respond::fault;
use super::{Data, Input, Kind, OneOrMany, Preflight, Stage, base, parse};
use crate::cli::UsageError;
use crate::feedback_model::LocalModel;
use crate::items::{Answer, Labelled, preference_text};
use crate::run::StageRun;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, NewItem, TypedItem};
use solon_feedback::{FeedbackModel, GenerateRequest, RevisionRecord};
use solon_records::{Message, Pair, Prompt, SamplingSettings};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

pub const KIND: Kind = Kind {
    name: "contrast",
    about: "Pairs whose better answer is known: a revision beside what it revised, an answer beside a needless refusal.",
    parse: parse::<Contrast>,
};

/// What a needless refusal is made to begin with.
const REFUSAL: &str = "I can't";

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Contrast {
    /// The model that answers and refuses.
    #[serde(default = "base", skip_serializing)]
    from: String,
    /// Harmless prompts.
    #[serde(default, skip_serializing)]
    prompts: OneOrMany,
    /// Revised answers to harmful prompts; what they revised is found in the ledger.
    #[serde(default, skip_serializing)]
    revisions: OneOrMany,
    /// Prompts of each that are used, from the start.
    count: NonZeroUsize,
    /// How answers and refusals are sampled.
    #[serde(deserialize_with = "super::settings::sampling")]
    sampling: SamplingSettings,
}

impl Stage for Contrast {
    fn inputs(&self) -> Vec<Input> {
        vec![
            Input::required("from", [self.from.clone()], &[Data::Model]),
            Input::required("prompts", &self.prompts, &[Data::Prompts]),
            Input::optional("revisions", &self.revisions, &[Data::Answers]),
        ]
    }

    fn output(&self) -> Data {
        Data::Preferences
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        for stage in (preflight.names)("revisions") {
            if (preflight.names_of)(&stage, "critic").is_empty() {
                let what =
                    format!("revisions = \"{stage}\": that stage revises nothing\nhint: name a revise stage");
                return Err(UsageError(what).into());
            }
        }
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let name = run.name().to_owned();
        let revised = self.revised(run, &name)?;
        run.insert(&revised)?;
        let prompts: Vec<Prompt> =
            run.read().prompts("prompts")?.into_iter().take(self.count.get()).collect();
        let policy = run.read().model("from")?;
        let model = LocalModel::new(&policy.chat, policy.adapter.as_ref(), run.slots());
        let draws = run.draws();
        let id = |prompt: &Prompt| format!("{name}/{}", prompt.id);
        let first = self.count.get() as u64;
        run.in_chunks("pairs", &prompts, ItemKind::Label, id, |_, todo| {
            let requests: Vec<GenerateRequest> = todo
                .iter()
                .flat_map(|(_, prompt)| [("answer", ""), ("refusal", REFUSAL)].map(|side| (prompt, side)))
                .map(|(prompt, (side, prefill))| GenerateRequest {
                    id: format!("{}/{side}", prompt.id),
                    messages: prompt.messages.clone(),
                    prefill: prefill.to_owned(),
                })
                .collect();
            let answers = model.generate(&requests, &self.sampling, draws, &mut |_| {})?;
            // A labeller must not tell the answers apart by which was cut off.
            let answers: Vec<String> =
                answers.into_iter().map(|answer| answer.to_last_sentence().text).collect();
            let items =
                todo.iter().zip(answers.as_chunks::<2>().0).map(|((place, prompt), [answer, refusal])| {
                    let item = known(&name, first + place, &prompt.id, &prompt.messages, answer, refusal)?;
                    let mut item = item.parent(prompt.id.clone(), "prompt");
                    item.dropped_reason =
                        alike(refusal, answer).or_else(|| fault(answer)).or_else(|| fault(refusal));
                    Ok(item)
                });
            items.collect()
        })?;
        Ok(json!({"pairs": revised.len() + prompts.len(), "dropped": run.drops()?}))
    }
}

impl Contrast {
    /// The revisions beside what they revised, of the first answers of the input.
    fn revised(&self, run: &StageRun<'_>, name: &str) -> Result<Vec<NewItem>> {
        let read = run.read();
        let mut pairs = Vec::new();
        for stage in read.input("revisions") {
            let Some(source) = read.reader_of(stage) else { continue };
            let before: BTreeMap<String, TypedItem<Answer>> = source
                .answers("answers")?
                .into_iter()
                .take(self.count.get())
                .map(|answer| (answer.data.prompt_id.clone(), answer))
                .collect();
            let revisions: Vec<TypedItem<RevisionRecord>> = source.own()?;
            for revised in source.own::<Answer>()? {
                let prompt_id = &revised.data.prompt_id;
                let Some(worse) = before.get(prompt_id) else { continue };
                let place = pairs.len() as u64;
                let mut item =
                    known(name, place, prompt_id, &revised.data.prompt, &revised.text, &worse.text)?
                        .parent(revised.id.clone(), "better")
                        .parent(worse.id.clone(), "worse");
                item.dropped_reason = alike(&revised.text, &worse.text);
                if !revisions.iter().any(|revision| &revision.data.item_id == prompt_id) {
                    item.dropped_reason = Some("not revised".to_owned());
                }
                pairs.push(item);
            }
        }
        Ok(pairs)
    }
}

/// A pair whose better answer is known, as the ledger holds it.
fn known(
    stage: &str,
    place: u64,
    prompt_id: &str,
    prompt: &[Message],
    better: &str,
    worse: &str,
) -> Result<NewItem> {
    let pair = Pair {
        id: prompt_id.to_owned(),
        prompt: prompt.to_vec(),
        first: better.to_owned(),
        second: worse.to_owned(),
        cut_off: [false; 2],
        principle_id: None,
    };
    let preference = pair.labelled(1.0, "contrast");
    let text = preference_text(&preference);
    let labelled = Labelled { prompt_id: Some(prompt_id.to_owned()), preference, label: None, known: false };
    let mut item = NewItem::of(format!("{stage}/{prompt_id}"), place, text, &labelled)?;
    item.prompt_id = Some(prompt_id.to_owned());
    Ok(item)
}

/// Why a refusal and an answer are no contrast, if they are not.
fn alike(refusal: &str, answer: &str) -> Option<String> {
    if solon_eval::classify(refusal) != solon_eval::Verdict::Refusal {
        return Some("what should refuse does not".to_owned());
    }
    solon_eval::evades(answer).then(|| "what should answer refuses".to_owned())
}
