//! `infer`: principles that explain given preferences (Findeis et al. 2406.06560). A model proposes rules for pairs, says by each rule
//! which answer of each pair is better, and the rules that predict the preferences are kept. Pairs that nothing has seen before measure
//! them. What they add up to is in [`super::inference`].
//!
//! Contract: replies, principles and votes are items of the ledger, each with what it was made from. The rest is a function of them. Where
//! nothing predicts better than chance there is no constitution, and that is a result, not an error.

use super::asked::shown;
use super::inference::{INFERENCE, Inference, Parts};
use super::{Data, Input, Keys, Kind, OneOrMany, Stage};
use crate::adviser::{self, Adviser};
use crate::items::{CandidatePrinciple, PrincipleVote, Proposal};
use crate::judge::{JudgeLimits, JudgeName};
use crate::report::Report;
use crate::run::{Reader, StageRun, safe_point};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_data::files::write_bytes_atomically;
use solon_data::ledger::{ItemKind, NewItem, TypedItem};
use solon_feedback::{
    FeedbackModel, Label, NoAnswer, Principle, ProposalSide, ProposeSettings, Proposed, Stance, cast_votes,
    cluster, principles_of, propose,
};
use solon_records::{Pair, SamplingSettings};
use std::num::{NonZeroU32, NonZeroUsize};

pub const KIND: Kind =
    Kind { name: "infer", about: "Finds principles that explain given preferences.", parse, files: Vec::new };

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Infer {
    /// The model that proposes and votes.
    #[serde(default, skip_serializing)]
    labeller: OneOrMany,
    /// Another model in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    judge: Option<JudgeName>,
    /// How it is asked where it is on a server, and what that may cost.
    #[serde(default, skip_serializing)]
    judge_limits: JudgeLimits,
    /// What is to be explained.
    #[serde(default, skip_serializing)]
    pairs: OneOrMany,
    /// The most principles that are kept.
    #[serde(default = "number::<5>")]
    pub principles: NonZeroUsize,
    /// Rules that are asked for at a time.
    #[serde(default = "number::<3>")]
    proposals: NonZeroUsize,
    /// The most principles that are voted on: those proposed for the most pairs.
    #[serde(default = "number::<20>")]
    candidates: NonZeroUsize,
    /// So many pairs, evenly spaced; 0 takes all.
    #[serde(default = "hundred")]
    pub rows: usize,
    /// Every so many-th conversation is kept back to measure.
    #[serde(default = "number::<4>")]
    pub hold_out_every: NonZeroUsize,
    /// The likeness from which two rules are taken for one.
    #[serde(default = "half", deserialize_with = "share")]
    alike: f64,
    /// The share of training pairs that a kept principle votes on.
    #[serde(default = "tenth", deserialize_with = "share")]
    pub relevance: f64,
    /// How far from ½ a label is that counts as a vote.
    #[serde(default = "twentieth", deserialize_with = "margin")]
    pub margin: f64,
    /// How proposals are sampled; greedily, with 50 tokens for each rule, where it is left out.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::settings::some_sampling"
    )]
    sampling: Option<SamplingSettings>,
    /// Votes on a question where a server shows no log-probs.
    #[serde(default = "five")]
    votes: NonZeroU32,
}

fn number<const N: usize>() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(N - 1)
}

fn five() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(4)
}

fn hundred() -> usize {
    100
}

fn half() -> f64 {
    0.5
}

fn tenth() -> f64 {
    0.1
}

fn twentieth() -> f64 {
    0.05
}

fn share<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(super::settings::some_share(deserializer)?.unwrap_or_default())
}

fn margin<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let margin = share(deserializer)?;
    match margin < 0.5 {
        true => Ok(margin),
        false => {
            Err(serde::de::Error::custom(format!("margin is {margin}; give a number from 0 to below 0.5")))
        }
    }
}

fn parse(keys: Keys) -> Result<Box<dyn Stage>, String> {
    let stage: Infer = keys.rest()?;
    let (named, judge) = (("labeller", &stage.labeller), stage.judge.as_ref());
    adviser::check(named, judge, &stage.judge_limits, (false, false))?;
    if stage.hold_out_every.get() == 1 {
        return Err("hold_out_every is 1, which would keep every pair back; give 2 or more".to_owned());
    }
    Ok(Box::new(stage))
}

impl Stage for Infer {
    fn inputs(&self) -> Vec<Input> {
        vec![
            adviser::input("labeller", &self.labeller, &[Data::Labeller, Data::Model], self.judge.as_ref()),
            Input::required("pairs", &self.pairs, &[Data::Preferences]),
        ]
    }

    fn output(&self) -> Data {
        Data::Inferred
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let parts = Parts::of(self, &run.read())?;
        parts.check(run.read().input_shown("pairs"))?;
        let adviser = Adviser::open(run, "labeller", self.judge.as_ref(), &self.judge_limits)?;
        let model = adviser.model(run.slots(), self.votes.get());
        self.propose(run, &*model, &parts.training)?;
        self.cluster(run)?;
        let candidates = candidates(&run.read())?;
        vote(run, &*model, &candidates, &parts.training, false)?;
        let kept = Inference::of(self, &run.read())?.kept(&candidates);
        vote(run, &*model, &kept, &parts.held_out, true)?;
        let inference = Inference::of(self, &run.read())?;
        if let Some(text) = inference.constitution()? {
            let folder = run.folder();
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            write_bytes_atomically(&folder.join("constitution.toml"), text.as_bytes())?;
        }
        eprintln!("{}: {}", run.name(), inference.conclusion());
        let mut told = json!({"principles": kept.len(), INFERENCE: inference});
        adviser.tell(run.name(), &mut told);
        Ok(told)
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let inference = Inference::told(read)?;
        report.notes.push(format!("{}: {}", read.name(), inference.conclusion()));
        report.inferred.push(inference.section(read.name()));
        if let Some(kept) = inference.kept(&candidates(read)?).first() {
            report.trail.push(read.trail(&kept.item)?);
        }
        Ok(())
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        let inferred = summary.entry("inferred").or_insert_with(|| json!({}));
        inferred[read.name()] = json!(Inference::told(read)?);
        Ok(())
    }
}

/// A principle that is voted on.
#[derive(Clone)]
pub struct Candidate {
    /// The id of its item.
    pub item: String,
    /// The principle.
    pub principle: Principle,
}

/// The principles that are voted on, from the ledger.
fn candidates(read: &Reader<'_>) -> Result<Vec<Candidate>> {
    let items: Vec<TypedItem<CandidatePrinciple>> = read.own()?;
    let candidate = |item: TypedItem<CandidatePrinciple>| Candidate {
        item: item.id,
        principle: Principle { id: item.data.id, rule: item.data.rule },
    };
    Ok(items.into_iter().map(candidate).collect())
}

/// Tokens of a reply for each rule that is asked for.
const TOKENS: usize = 50;

impl Infer {
    /// Asks for rules about every training pair.
    fn propose(&self, run: &mut StageRun<'_>, model: &dyn FeedbackModel, pairs: &[Pair]) -> Result<()> {
        let settings = ProposeSettings {
            draws: run.draws(),
            rules: self.proposals.get(),
            is_begun: !self.judge.as_ref().is_some_and(JudgeName::is_server),
            sampling: self
                .sampling
                .clone()
                .unwrap_or_else(|| SamplingSettings::greedy(TOKENS * self.proposals.get())),
        };
        let asked: Vec<(&Pair, ProposalSide)> =
            pairs.iter().flat_map(|pair| ProposalSide::ALL.map(|side| (pair, side))).collect();
        let name = run.name().to_owned();
        let id = |(pair, side): &(&Pair, ProposalSide)| format!("{name}/rules/{}/{}", side.name(), pair.id);
        run.in_chunks("proposals", &asked, ItemKind::Response, id, |_, todo| {
            let shown: Vec<(Pair, ProposalSide)> =
                todo.iter().map(|(_, (pair, side))| (shown(pair), *side)).collect();
            let questions: Vec<(&Pair, ProposalSide)> =
                shown.iter().map(|(pair, side)| (pair, *side)).collect();
            let replies = propose(model, &questions, &settings, &mut |_| {})?;
            // What a stop left unasked is not recorded as missing.
            safe_point()?;
            let items = todo.iter().zip(replies);
            items.map(|((place, asked), reply)| proposal(id(asked), *place, asked, reply)).collect()
        })
    }

    /// Takes one rule of each cluster. The principles are recorded all at once, so that either all are there or none.
    fn cluster(&self, run: &mut StageRun<'_>) -> Result<()> {
        if !run.read().own_ids(ItemKind::Principle)?.is_empty() {
            return Ok(());
        }
        let replies: Vec<TypedItem<Proposal>> = run.read().own_with_dropped()?;
        let mut rules: Vec<(&str, &str)> = Vec::new();
        let mut sources: Vec<&str> = Vec::new();
        for reply in &replies {
            for rule in reply.data.proposed.iter().flat_map(|proposed| &proposed.rules) {
                rules.push((rule, &reply.data.pair));
                sources.push(&reply.id);
            }
        }
        let clusters = cluster(&rules, self.alike);
        let principles = principles_of(clusters.iter().map(|cluster| cluster.rule.as_str()));
        let most = self.candidates.get();
        let mut items = Vec::with_capacity(clusters.len());
        for (place, (cluster, principle)) in clusters.iter().zip(principles).enumerate() {
            let data = CandidatePrinciple {
                id: principle.id.clone(),
                rule: principle.rule.clone(),
                proposals: cluster.proposals.len(),
                pairs: cluster.pairs,
            };
            let id = run.id(&format!("principle/{}", principle.id));
            let mut item = NewItem::of(id, place as u64, principle.question(), &data)?;
            let mut parents: Vec<&str> = cluster.proposals.iter().map(|place| sources[*place]).collect();
            parents.dedup();
            for parent in parents {
                item = item.parent(parent, "proposal");
            }
            if place >= most {
                item.dropped_reason = Some("proposed for fewer pairs than the candidates".to_owned());
            }
            items.push(item);
        }
        run.insert(&items)
    }
}

/// A reply as the ledger holds it; one without a usable rule is dropped.
fn proposal(
    id: String,
    place: u64,
    (pair, side): &(&Pair, ProposalSide),
    reply: Result<Proposed, NoAnswer>,
) -> Result<NewItem> {
    let (text, dropped) = match &reply {
        Ok(proposed) => {
            let fault = proposed.refused.first().map_or("no rule", |fault| fault.name());
            (proposed.reply.clone(), proposed.rules.is_empty().then(|| fault.to_owned()))
        }
        Err(missing) => (String::new(), Some(format!("no proposal: {}", missing.kind.name()))),
    };
    let missing = reply.as_ref().err().cloned();
    let data = Proposal { pair: pair.id.clone(), side: *side, proposed: reply.ok(), missing };
    let mut item = NewItem::of(id, place, text, &data)?.parent(pair.id.clone(), "pair");
    item.dropped_reason = dropped;
    Ok(item)
}

/// Lets every principle vote on every pair.
fn vote(
    run: &mut StageRun<'_>,
    model: &dyn FeedbackModel,
    candidates: &[Candidate],
    pairs: &[Pair],
    held_out: bool,
) -> Result<()> {
    // Pair by pair: the questions about a pair begin alike, and what they share is computed once.
    let asked: Vec<(&Candidate, &Pair)> =
        pairs.iter().flat_map(|pair| candidates.iter().map(move |candidate| (candidate, pair))).collect();
    let (name, draws) = (run.name().to_owned(), run.draws());
    let id = |(candidate, pair): &(&Candidate, &Pair)| {
        format!("{name}/vote/{}/{}", candidate.principle.id, pair.id)
    };
    let unit = if held_out { "held-out votes" } else { "votes" };
    run.in_chunks(unit, &asked, ItemKind::Label, id, |_, todo| {
        let shown: Vec<Pair> = todo.iter().map(|(_, (_, pair))| shown(pair)).collect();
        let questions: Vec<(&Principle, &Pair)> =
            todo.iter().zip(&shown).map(|((_, (candidate, _)), pair)| (&candidate.principle, pair)).collect();
        let labels = cast_votes(model, &questions, draws, &mut |_| {})?;
        safe_point()?;
        let items = todo.iter().zip(labels);
        items.map(|((place, asked), label)| ballot(id(asked), *place, asked, label, held_out)).collect()
    })
}

/// A vote as the ledger holds it.
fn ballot(
    id: String,
    place: u64,
    (candidate, pair): &(&Candidate, &Pair),
    label: Result<Label, NoAnswer>,
    held_out: bool,
) -> Result<NewItem> {
    let (text, dropped) = match &label {
        Ok(label) => {
            let stance = Stance::of(label, 0.0).name();
            (format!("P(the better answer is preferred) = {:.3}: {stance}", label.probability), None)
        }
        Err(missing) => (missing.to_string(), Some(format!("no vote: {}", missing.kind.name()))),
    };
    let principle = candidate.principle.id.clone();
    let missing = label.as_ref().err().cloned();
    let data = PrincipleVote {
        principle: principle.clone(),
        pair: pair.id.clone(),
        held_out,
        label: label.ok(),
        missing,
    };
    let mut item = NewItem::of(id, place, text, &data)?
        .parent(candidate.item.clone(), "principle")
        .parent(pair.id.clone(), "pair");
    item.principle_id = Some(principle);
    item.dropped_reason = dropped;
    Ok(item)
}
