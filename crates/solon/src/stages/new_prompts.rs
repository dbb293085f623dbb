//! Prompts that a model was asked for: what a reply gives, what a prompt says again, and how the ledger holds it.
//!
//! Contract: what becomes of a prompt is a function of its own item and of those before it, so that a round that was broken off goes on
//! as if it had not been.

use super::kept_out::KeptOut;
use super::respond::fault;
use crate::items::{NearTo, WrittenPrompt};
use crate::run::StageRun;
use anyhow::Result;
use solon_data::ledger::{NewItem, TypedItem};
use solon_eval::{Texts, declines};
use solon_feedback::{Checks, Generated, NoAnswer, PromptForm, SeedGroup, Wanted, read_prompt};
use solon_records::{Message, Prompt};
use std::collections::BTreeMap;

/// Why a prompt is dropped that says what was there before.
const NEAR_SEED: &str = "near-duplicate of a seed";
const NEAR_WRITTEN: &str = "near-duplicate of a written prompt";

/// The id of a prompt; people count from 1.
pub fn prompt_id(stage: &str, wanted: &Wanted) -> String {
    format!("{stage}/{}", wanted.number + 1)
}

/// What a reply gives: a prompt, or the reason why there is none.
pub fn written(
    id: String,
    group: &SeedGroup,
    form: PromptForm,
    reply: Result<Generated, NoAnswer>,
) -> WrittenPrompt {
    // Who continues a list declines nothing, and "I can't get into my flat. How do I …" is a request.
    let checks = Checks { fault: &fault, declines: (form == PromptForm::Chat).then_some(&declines) };
    let (reply, prompt) = match reply {
        Ok(reply) => {
            let read = read_prompt(&reply, checks).map_err(|fault| fault.name().to_owned());
            (reply.text, read)
        }
        Err(missing) => (String::new(), Err(format!("no reply: {}", missing.kind.name()))),
    };
    let (text, fault) = match prompt {
        Ok(prompt) => (prompt, None),
        Err(fault) => (reply.clone(), Some(fault)),
    };
    let prompt = Prompt {
        id,
        messages: vec![Message::user(text)],
        kind: group.kind.clone(),
        category: group.category.clone(),
        pair: None,
    };
    WrittenPrompt { prompt, reply, fault, near: None }
}

/// A prompt that was asked for, and what became of it so far.
pub struct Candidate<'a> {
    /// Its place among the stage's prompts.
    pub ordinal: u64,
    /// The prompt, and what is known of it.
    pub data: WrittenPrompt,
    /// The places of the seeds that were shown.
    pub seeds: &'a [usize],
    /// The item that it says the same as, where it is of the ledger.
    pub near: Option<String>,
    /// Why it is not kept.
    pub dropped: Option<String>,
}

impl Candidate<'_> {
    /// The prompt with its place, where it is not dropped.
    pub fn new_prompt(&self) -> Option<(u64, Prompt)> {
        self.dropped.is_none().then(|| (self.ordinal, self.data.prompt.clone()))
    }

    /// As the ledger holds it.
    pub fn item(&self, seeds: &[Prompt]) -> Result<NewItem> {
        let Prompt { id, .. } = &self.data.prompt;
        let mut item = NewItem::of(id.clone(), self.ordinal, self.data.prompt.text(), &self.data)?;
        for place in self.seeds {
            item = item.parent(seeds[*place].id.clone(), "seed");
        }
        if let Some(near) = &self.near {
            item = item.parent(near.clone(), "near-duplicate");
        }
        item.prompt_id = Some(id.clone());
        item.dropped_reason.clone_from(&self.dropped);
        Ok(item)
    }
}

/// What a prompt must not say again.
pub struct Known {
    kept_out: KeptOut,
    seeds: (Vec<String>, Texts),
    /// New prompts, whether the policy complied with them or not.
    written: (Vec<String>, Texts),
    similarity: f64,
}

impl Known {
    /// `similarity`: the likeness from which a prompt says the same as another.
    pub fn new(kept_out: KeptOut, seeds: &[Prompt], similarity: f64) -> Self {
        let ids = seeds.iter().map(|seed| seed.id.clone()).collect();
        let texts = seeds.iter().map(Prompt::text).collect();
        Self { kept_out, seeds: (ids, texts), written: Default::default(), similarity }
    }

    /// The prompts of a round from the ledger, in order, with what each says again.
    pub fn candidates<'a>(&mut self, run: &StageRun<'_>, round: &'a [Wanted]) -> Result<Vec<Candidate<'a>>> {
        let (name, read) = (run.name(), run.read());
        let wanted: BTreeMap<String, &Wanted> =
            round.iter().map(|wanted| (prompt_id(name, wanted), wanted)).collect();
        let own: Vec<TypedItem<WrittenPrompt>> = read.own_with_dropped()?;
        let of_round = own.into_iter().filter_map(|item| Some((*wanted.get(&item.id)?, item)));
        Ok(of_round.map(|(wanted, item)| self.candidate(wanted, item)).collect())
    }

    fn candidate<'a>(&mut self, wanted: &'a Wanted, item: TypedItem<WrittenPrompt>) -> Candidate<'a> {
        let TypedItem { ordinal, mut data, .. } = item;
        data.near = None;
        let mut candidate =
            Candidate { ordinal, dropped: data.fault.clone(), data, seeds: &wanted.seeds, near: None };
        if candidate.dropped.is_some() {
            return candidate;
        }
        let text = candidate.data.prompt.text().to_owned();
        let found = self.kept_out.near(&text, self.similarity).map(|(reason, near)| (reason, near, None));
        let found = found.or_else(|| {
            [(NEAR_SEED, &self.seeds), (NEAR_WRITTEN, &self.written)].into_iter().find_map(
                |(reason, (ids, texts))| {
                    let near = texts.nearest(&text, self.similarity)?;
                    let of = ids[near.place].clone();
                    Some((reason, NearTo { of: of.clone(), similarity: near.similarity }, Some(of)))
                },
            )
        });
        match found {
            Some((reason, near, item)) => {
                candidate.dropped = Some(reason.to_owned());
                candidate.data.near = Some(near);
                candidate.near = item;
            }
            None => {
                self.written.0.push(candidate.data.prompt.id.clone());
                self.written.1.add(&text);
            }
        }
        candidate
    }
}
