//! What a stage reads: items that earlier stages left, typed, and the models they trained.

use super::{Model, Run, constitution_sha256};
use crate::items::{Answer, Labelled};
use crate::plan::Planned;
use crate::recipe::Recipe;
use crate::report;
use crate::stages::{BASE, Column, Data, Measured, Stage};
use anyhow::{Context, Result, bail};
use solon_data::ledger::{DropCount, Item, ItemData, ItemKind, Ledger, TypedItem};
use solon_data::metrics::MetricsLine;
use solon_eval::judge::both::JudgeAgreement;
use solon_feedback::{Constitution, RevisionRecord};
use solon_records::{Demonstration, Message, Pair, Preference, Prompt};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A stage's view of the run.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    run: &'a Run,
    planned: &'a Planned,
}

/// A conversation to imitate, and the items it was made from.
pub struct Sourced {
    /// The conversation.
    pub demonstration: Demonstration,
    /// Ids in the ledger.
    pub parents: Vec<String>,
    /// The prompt's own id, where it has one.
    pub prompt_id: Option<String>,
    /// Its place among the items of its stage.
    pub ordinal: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(run: &'a Run, planned: &'a Planned) -> Self {
        Self { run, planned }
    }

    /// The stage's name.
    pub fn name(&self) -> &'a str {
        &self.planned.name
    }

    /// What all stages share.
    pub fn recipe(&self) -> &'a Recipe {
        &self.run.plan.recipe
    }

    /// The constitution; the plan has made sure that a stage that needs one has one.
    pub fn constitution(&self) -> Result<&'a Constitution> {
        self.run.plan.constitution.as_ref().context("this stage needs a constitution")
    }

    /// SHA-256 of the constitution's file, or of its content where it is a folder; empty where there is none.
    pub fn constitution_sha256(&self) -> Result<String> {
        let path = self.recipe().constitution.as_deref();
        Ok(path.map(constitution_sha256).transpose()?.unwrap_or_default())
    }

    /// The names an input was connected to.
    pub fn input(&self, key: &str) -> &'a [String] {
        self.planned.input(key)
    }

    /// The same as it is shown: one name, or several with commas.
    pub fn input_shown(&self, key: &str) -> String {
        self.input(key).join(", ")
    }

    /// What the stage called `name` was made from: the first name of its input `key`.
    pub fn source_of(&self, name: &str, key: &str) -> Option<&'a str> {
        self.run.plan.stage(name)?.input(key).first().map(String::as_str)
    }

    /// Who labels: the stage of the labeller, or the base model by its own name.
    pub fn labeller_shown(&self) -> String {
        let recipe = self.recipe();
        match (self.input("labeller"), &recipe.adapter) {
            ([name], Some(adapter)) if name == BASE => format!("{} with {}", recipe.model, adapter.display()),
            ([name], None) if name == BASE => recipe.model.clone(),
            _ => self.input_shown("labeller"),
        }
    }

    /// The settings of the stage called `name`.
    pub fn stage_named(&self, name: &str) -> Option<&'a dyn Stage> {
        self.run.plan.stage(name).map(|planned| &*planned.stage)
    }

    /// What the run's stages measure models on, or choose among them by.
    pub fn measured(&self) -> Result<&'a [Measured]> {
        self.run.plan.measured()
    }

    /// How many stages of the run evaluate.
    pub fn evaluations(&self) -> usize {
        self.run.plan.stages.iter().filter(|planned| planned.stage.output() == Data::Evaluation).count()
    }

    /// What each evaluated model's answers add up to, where this is a stage that evaluates.
    pub fn columns(&self) -> Result<Vec<Column>> {
        self.planned.stage.columns(self)
    }

    /// How far two judges agree, and about what, where this is a stage that has two.
    pub fn agreements(&self) -> Result<Vec<(String, JudgeAgreement)>> {
        self.planned.stage.agreements(self)
    }

    /// What `solon explain` prints of an item, for the report: without the items' data, which is long and JSON.
    pub fn trail(&self, id: &str) -> Result<report::Trail> {
        let explained = self.ledger().explain(id)?.to_string();
        let shown = explained.lines().filter(|line| !line.trim_start().starts_with("data: {"));
        let lines = shown.map(str::to_owned).collect();
        Ok(report::Trail { id: id.to_owned(), lines })
    }

    /// The ledger itself.
    pub fn ledger(&self) -> &'a Ledger {
        &self.run.folder.ledger
    }

    /// The stage's own items that were not dropped.
    pub fn own<T: ItemData>(&self) -> Result<Vec<TypedItem<T>>> {
        Ok(self.ledger().kept_items(self.name())?)
    }

    /// All of the stage's own items.
    pub fn own_with_dropped<T: ItemData>(&self) -> Result<Vec<TypedItem<T>>> {
        Ok(self.ledger().items(self.name())?)
    }

    /// Ids of the stage's own items of a kind, dropped ones included.
    pub fn own_ids(&self, kind: ItemKind) -> Result<HashSet<String>> {
        Ok(self.ledger().item_ids(self.name(), kind)?)
    }

    /// What the stage dropped, by reason.
    pub fn own_drops(&self) -> Result<Vec<DropCount>> {
        Ok(self.ledger().drop_counts(self.name())?)
    }

    /// An item by its id, where it is there.
    pub fn find(&self, id: &str) -> Result<Option<Item>> {
        Ok(self.ledger().find_item(id)?)
    }

    /// The prompt of an id, where the run has one.
    pub fn prompt(&self, id: &str) -> Result<Option<Prompt>> {
        let found = self.find(id)?.filter(|item| item.kind == ItemKind::Prompt);
        Ok(found.map(|item| serde_json::from_value(item.data)).transpose()?)
    }

    /// Kept items of all stages that an input names, stage by stage.
    pub fn items<T: ItemData>(&self, key: &str) -> Result<Vec<TypedItem<T>>> {
        let mut items = Vec::new();
        for stage in self.input(key) {
            items.extend(self.ledger().kept_items(stage)?);
        }
        Ok(items)
    }

    /// The prompts of an input. Where it names several stages: one of each in turn, so that every part of the list holds
    /// some of all.
    pub fn prompts(&self, key: &str) -> Result<Vec<Prompt>> {
        let mut lists = Vec::new();
        for stage in self.input(key) {
            let items: Vec<TypedItem<Prompt>> = self.ledger().kept_items(stage)?;
            lists.push(items.into_iter().map(|item| item.data));
        }
        let mut out = Vec::new();
        loop {
            let before = out.len();
            out.extend(lists.iter_mut().filter_map(Iterator::next));
            if out.len() == before {
                return Ok(out);
            }
        }
    }

    /// The answers of an input.
    pub fn answers(&self, key: &str) -> Result<Vec<TypedItem<Answer>>> {
        self.items(key)
    }

    /// The unlabelled pairs of an input, by the id of their item.
    pub fn pairs(&self, key: &str) -> Result<Vec<TypedItem<Pair>>> {
        self.items(key)
    }

    /// The preferences of an input, under the ids of their items.
    pub fn preferences(&self, key: &str) -> Result<Vec<Preference>> {
        let items: Vec<TypedItem<Labelled>> = self.items(key)?;
        Ok(items.into_iter().map(|item| Preference { id: item.id, ..item.data.preference }).collect())
    }

    /// What an input gives to imitate: demonstrations as they are, answers as conversations.
    pub fn demonstrations(&self, key: &str) -> Result<Vec<Sourced>> {
        self.lessons(key, false)
    }

    /// The same, with every good revision of an answer that was revised in rounds in place of the last one.
    pub fn demonstrations_of_every_round(&self, key: &str) -> Result<Vec<Sourced>> {
        self.lessons(key, true)
    }

    fn lessons(&self, key: &str, every_round: bool) -> Result<Vec<Sourced>> {
        let mut out = Vec::new();
        for stage in self.input(key) {
            let own: Vec<TypedItem<Demonstration>> = self.ledger().kept_items(stage)?;
            out.extend(own.into_iter().map(|item| Sourced {
                demonstration: item.data,
                parents: vec![item.id],
                prompt_id: item.prompt_id,
                ordinal: item.ordinal,
            }));
            let answers: Vec<TypedItem<Answer>> = self.ledger().kept_items(stage)?;
            let mut rounds: HashMap<String, Vec<TypedItem<RevisionRecord>>> = HashMap::new();
            if every_round {
                for item in self.ledger().kept_items::<RevisionRecord>(stage)? {
                    rounds.entry(item.data.item_id.clone()).or_default().push(item);
                }
            }
            for item in answers {
                let prompt = self.find(&item.data.prompt_id)?.map(|prompt| prompt.id);
                // The last round's revision is the answer itself.
                let Answer { prompt_id, .. } = &item.data;
                if let Some(revisions) = rounds.remove(prompt_id) {
                    out.extend(revisions.into_iter().map(|revision| {
                        Sourced {
                            demonstration: item.data.demonstration(
                                format!("{prompt_id}/{}", revision.data.round),
                                &revision.text,
                            ),
                            parents: prompt.iter().cloned().chain([revision.id]).collect(),
                            prompt_id: Some(prompt_id.clone()),
                            ordinal: item.ordinal,
                        }
                    }));
                    continue;
                }
                out.push(Sourced {
                    demonstration: item.data.demonstration(item.data.prompt_id.clone(), &item.text),
                    parents: prompt.into_iter().chain([item.id]).collect(),
                    prompt_id: Some(item.data.prompt_id),
                    ordinal: item.ordinal,
                });
            }
        }
        Ok(out)
    }

    /// The prompts that a model and those it was trained from have learnt from, in any way, as [`Self::learnt_key`] writes
    /// them.
    pub fn learnt_prompts(&self, model: &str) -> Result<BTreeSet<String>> {
        let mut learnt = BTreeSet::new();
        let mut at = Some(model);
        while let Some(reader) = at.and_then(|name| self.reader_of(name)) {
            for item in reader.own::<Demonstration>()? {
                learnt.insert(Self::learnt_key(&item.data.messages[..item.data.prompt_len])?);
            }
            for preference in reader.preferences("pairs")? {
                learnt.insert(Self::learnt_key(&preference.prompt)?);
            }
            if reader.planned.stage.trains().is_some() {
                for prompt in reader.prompts("prompts")? {
                    learnt.insert(Self::learnt_key(&prompt.messages)?);
                }
            }
            at = reader.input("from").first().map(String::as_str);
        }
        Ok(learnt)
    }

    /// The texts of these prompts: of each, its last message.
    pub fn learnt_texts(&self, model: &str) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for key in self.learnt_prompts(model)? {
            let prompt: Vec<Message> = serde_json::from_str(&key)?;
            texts.extend(prompt.into_iter().next_back().map(|message| message.content));
        }
        Ok(texts)
    }

    /// A prompt as a key: its messages, whatever its id.
    pub fn learnt_key(prompt: &[Message]) -> Result<String> {
        Ok(serde_json::to_string(prompt)?)
    }

    /// The model an input names, `base` included.
    pub fn model(&self, key: &str) -> Result<Model> {
        match self.input(key) {
            [name] => self.run.model(name),
            names => bail!("`{key}` is to name one model, and names {}", names.len()),
        }
    }

    /// A model by its stage's name, or `base`.
    pub fn model_named(&self, name: &str) -> Result<Model> {
        self.run.model(name)
    }

    /// The metrics of the stage's own training steps.
    pub fn metrics(&self) -> Result<Vec<MetricsLine>> {
        let mut lines = self.run.folder.metrics()?;
        lines.retain(|line| line.stage == self.name());
        Ok(lines)
    }

    /// What a finished stage told.
    pub fn detail(&self) -> Result<serde_json::Value> {
        let stage = self.ledger().stage(self.name())?;
        Ok(stage.map(|stage| stage.detail).unwrap_or_default())
    }

    /// Whether the stage called `name` is of the plan, and its reader.
    pub fn reader_of(&self, name: &str) -> Option<Reader<'a>> {
        self.run.plan.stage(name).map(|planned| Reader::new(self.run, planned))
    }
}
