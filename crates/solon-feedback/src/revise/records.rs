//! Data of the rounds of critique and revision: items, records, drop reasons, counts.
//!
//! Contract: a record is written once and never changed. An item is the result of its records, see
//! [`super::apply_round`]. All types but the settings are serialised, so that a caller can store them after every
//! batch.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::constitution::About;
use crate::label::prompt_text;
use crate::model::{NoAnswer, NoAnswerKind};
use crate::paper::{Form, Link};
use solon_draws::Draws;
use solon_records::{Message, SamplingSettings};

/// An answer that goes through the rounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviseItem {
    /// Unique among the items; all draws are keyed by it.
    pub id: String,
    /// The prompt it answers.
    pub prompt_id: String,
    /// The prompt.
    pub prompt: Vec<Message>,
    /// The prompt's kind, such as `harmful`, where it is known.
    #[serde(default)]
    pub kind: Option<String>,
    /// The prompt's category, such as `fraud`, where it is known.
    #[serde(default)]
    pub category: Option<String>,
    /// The policy's own answer.
    pub initial: String,
    /// The last good revision.
    pub revised: Option<String>,
    /// Rounds that ended in a good revision.
    pub rounds: u32,
    /// These rounds, which a later one sees in the paper's form.
    pub chain: Vec<Link>,
    /// Why the item stopped.
    pub stopped: Option<Dropped>,
}

/// The state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// No round has been applied yet.
    Untouched,
    /// There is a good revision.
    Revised(&'a str),
    /// It failed before it had one.
    Dropped(&'a Dropped),
}

impl ReviseItem {
    /// An item before its first round, of a prompt of which nothing is known.
    pub fn new(
        id: impl Into<String>,
        prompt_id: impl Into<String>,
        prompt: Vec<Message>,
        initial: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            prompt_id: prompt_id.into(),
            prompt,
            kind: None,
            category: None,
            initial: initial.into(),
            revised: None,
            rounds: 0,
            chain: Vec::new(),
            stopped: None,
        }
    }

    /// The same item of a prompt of this kind and category.
    #[must_use]
    pub fn of(mut self, kind: Option<String>, category: Option<String>) -> Self {
        (self.kind, self.category) = (kind, category);
        self
    }

    /// What is known of the prompt.
    pub fn about(&self) -> About<'_> {
        About::new(self.kind.as_deref(), self.category.as_deref())
    }

    /// The prompt's text.
    pub fn request(&self) -> String {
        prompt_text(&self.prompt)
    }

    /// The text that the next round criticises.
    pub fn answer(&self) -> &str {
        self.revised.as_deref().unwrap_or(&self.initial)
    }

    /// The state of the item.
    pub fn outcome(&self) -> Outcome<'_> {
        match (&self.revised, &self.stopped) {
            (Some(text), _) => Outcome::Revised(text),
            (None, Some(dropped)) => Outcome::Dropped(dropped),
            (None, None) => Outcome::Untouched,
        }
    }
}

/// Which of the two texts failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The critique.
    Critique,
    /// The revision.
    Revision,
}

/// Why a text cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// There is no text.
    Empty,
    /// It was cut off at the token limit.
    Truncated,
    /// The caller's `fault` found it degenerate, such as endless repetition.
    Degenerate,
    /// It repeats the instructions it was given.
    RepeatsInstructions,
    /// The revision is the critique, or mostly made of it.
    CopiesCritique,
    /// The revision is the unrevised answer, or nearly.
    Unchanged,
    /// The request is harmful, and the revision does not decline.
    Complies,
    /// The request is not harmful, and the revision declines.
    Refuses,
    /// No principle is about the prompt, so there is no critique.
    NoPrinciple,
    /// The model gave no reply that can be used.
    UnusableReply,
    /// No reply came, which may change when it is asked again.
    NoReply,
    /// The server will not reply to the request.
    RefusedByServer,
}

/// A text that was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Which text.
    pub step: Step,
    /// Why.
    pub reason: DropReason,
    /// The measure or phrase behind the reason.
    pub detail: String,
}

impl Dropped {
    /// A text that was never written.
    pub(super) fn unanswered(step: Step, missing: NoAnswer) -> Self {
        let reason = match missing.kind {
            NoAnswerKind::NoReply => DropReason::NoReply,
            NoAnswerKind::Refused => DropReason::RefusedByServer,
            _ => DropReason::UnusableReply,
        };
        Self { step, reason, detail: missing.to_string() }
    }

    /// The name it is counted under, such as `revision/copies_critique`.
    pub fn key(&self) -> String {
        let step = match self.step {
            Step::Critique => "critique",
            Step::Revision => "revision",
        };
        let reason = match self.reason {
            DropReason::Empty => "empty",
            DropReason::Truncated => "truncated",
            DropReason::Degenerate => "degenerate",
            DropReason::RepeatsInstructions => "repeats_instructions",
            DropReason::CopiesCritique => "copies_critique",
            DropReason::Unchanged => "unchanged",
            DropReason::Complies => "complies",
            DropReason::Refuses => "refuses",
            DropReason::UnusableReply => "unusable_reply",
            DropReason::NoReply => "no_reply",
            DropReason::RefusedByServer => "refused_by_server",
            DropReason::NoPrinciple => return "no principle applies".to_owned(),
        };
        format!("{step}/{reason}")
    }
}

/// A critique, good or dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CritiqueRecord {
    /// `ITEM/round-R/critique`.
    pub id: String,
    /// The item.
    pub item_id: String,
    /// The item's prompt.
    pub prompt_id: String,
    /// From 1.
    pub round: u32,
    /// The principle drawn for this item and round; empty where none applies.
    pub principle_id: String,
    /// The critique as sampled; empty where none is asked for, and the record only names the principle.
    pub critique: String,
    /// Why it cannot be used, if it cannot.
    pub dropped: Option<Dropped>,
}

/// A revision, good or dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionRecord {
    /// `ITEM/round-R/revision`.
    pub id: String,
    /// The item.
    pub item_id: String,
    /// The item's prompt.
    pub prompt_id: String,
    /// From 1.
    pub round: u32,
    /// The principle drawn for this item and round.
    pub principle_id: String,
    /// The critique that it answers; empty where it was asked for directly.
    pub critique: String,
    /// The revision as sampled.
    pub revision: String,
    /// Why it cannot be used, if it cannot.
    pub dropped: Option<Dropped>,
}

/// How critiques and revisions are sampled.
#[derive(Debug, Clone, PartialEq)]
pub struct ReviseSettings {
    /// Key of the draw of principles and of the sampling, each under its own name.
    pub draws: Draws,
    /// Sampling of critiques; without it, revisions are asked for directly.
    pub critique: Option<SamplingSettings>,
    /// Sampling of revisions.
    pub revision: SamplingSettings,
    /// In which form the model is asked.
    pub form: Form,
    /// Whether the constitution's few-shots of critiques are put in front.
    pub few_shots: bool,
}

/// How the texts of a round are checked, beside what this crate checks by itself.
#[derive(Clone, Copy)]
pub struct Checks<'a> {
    /// Returns why a text is degenerate, or `None`.
    pub fault: &'a dyn Fn(&str) -> Option<String>,
    /// Whether a text declines to do what was asked. With it, a revision is dropped where it declines and should not, does
    /// not and should, or leaves the answer as it was.
    pub declines: Option<&'a dyn Fn(&str) -> bool>,
}

/// The results of one round.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundCounts {
    /// Items that entered the round.
    pub entered: usize,
    /// Items with a good revision of this round.
    pub revised: usize,
    /// Revisions among them that equal the answer they revise: the critic changed nothing.
    pub unchanged: usize,
    /// Items that stopped in this round and keep an earlier round's revision.
    pub kept_earlier: usize,
    /// Items that stopped in this round without any revision.
    pub lost: usize,
    /// Items that stopped in this round, by [`Dropped::key`].
    pub reasons: BTreeMap<String, usize>,
}

impl fmt::Display for RoundCounts {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let Self { entered, revised, unchanged, kept_earlier, lost, reasons } = self;
        write!(out, "{entered} entered, {revised} revised ({unchanged} unchanged), ")?;
        write!(out, "{kept_earlier} kept an earlier revision, {lost} dropped")?;
        for (reason, count) in reasons {
            write!(out, "; {reason}: {count}")?;
        }
        Ok(())
    }
}
