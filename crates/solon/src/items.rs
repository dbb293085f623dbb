//! What stages leave in the ledger beside a text, typed; see [`solon_data::ledger::ItemData`]. Prompts, demonstrations,
//! pairs, critiques and revisions are those of the crates they belong to.
//!
//! An item that lacks a field is an error that names it: nothing is filled in on reading.

use serde::{Deserialize, Serialize};
use solon_data::ledger::{ItemData, ItemKind};
use solon_eval::{Judged, Reply};
use solon_feedback::{Ask, KnownPair, Label, NoAnswer, ProposalSide, Proposed};
use solon_records::{Demonstration, Message, Pair, Preference, Prompt, transcript};

/// An answer to a prompt; the item's text is the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The prompt's own id.
    pub prompt_id: String,
    /// What was answered.
    pub prompt: Vec<Message>,
    /// Whether the answer ran into the limit of new tokens.
    pub cut_off: bool,
    /// The prompt's kind, such as `harmful`, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The prompt's category, such as `fraud`, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

impl ItemData for Answer {
    const KIND: ItemKind = ItemKind::Response;
}

impl Answer {
    /// An answer to a prompt.
    pub fn to(prompt: &Prompt, cut_off: bool) -> Self {
        Self {
            prompt_id: prompt.id.clone(),
            prompt: prompt.messages.clone(),
            cut_off,
            kind: prompt.kind.clone(),
            category: prompt.category.clone(),
        }
    }

    /// The answer as a conversation to imitate.
    pub fn demonstration(&self, id: String, text: &str) -> Demonstration {
        let mut messages = self.prompt.clone();
        messages.push(Message::assistant(text));
        Demonstration {
            id,
            prompt_len: self.prompt.len(),
            messages,
            not_learnt: Vec::new(),
            cut_off: self.cut_off,
        }
    }
}

/// A preference, and what the labeller said where a model made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    /// The prompt's own id; a pair from a file has none.
    pub prompt_id: Option<String>,
    /// Oriented: `chosen` is the likelier answer.
    pub preference: Preference,
    /// The raw label; none where a person or the way it was made decided.
    pub label: Option<Label>,
    /// Why it has no label, where a labeller was asked and gave none: then the probability says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<NoAnswer>,
    /// Whether the better answer was known beforehand: such a pair measures the labeller and is not trained on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub known: bool,
}

fn is_first(judge: &usize) -> bool {
    *judge == 0
}

fn is_false(known: &bool) -> bool {
    !*known
}

impl Labelled {
    /// A preference that no labeller made.
    pub fn given(prompt_id: Option<String>, preference: Preference) -> Self {
        Self { prompt_id, preference, label: None, unlabelled: None, known: false }
    }
}

impl ItemData for Labelled {
    const KIND: ItemKind = ItemKind::Label;
}

/// What a labeller said of something whose right answer people gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The set it is of.
    pub set: String,
    /// How the labeller was asked about a pair; none of a question with options.
    pub ask: Option<Ask>,
    /// What it said.
    pub outcome: Outcome,
}

/// What a labeller said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Of a pair.
    Label {
        /// Its label.
        label: Label,
        /// Whether people found the first answer better.
        first_is_better: bool,
    },
    /// Of a question with options.
    Question {
        /// Of the options, in nats.
        log_probs: Vec<f64>,
        /// For the options, where a server shows no log-probs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        votes: Vec<u32>,
        /// The place of the right one.
        right: usize,
    },
    /// Nothing that can be used.
    Missing(NoAnswer),
}

impl ItemData for Measured {
    const KIND: ItemKind = ItemKind::Label;
}

/// A pair whose better answer is known: it measures a labeller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// The pair and the truth.
    pub known: KnownPair,
    /// Whether it is a contrast of the policy's own answers, and not a worked example.
    pub contrast: bool,
}

impl ItemData for Known {
    const KIND: ItemKind = ItemKind::Pair;
}

/// A prompt that a model wrote; the item's text is the prompt, or the reply where no prompt could be read from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrittenPrompt {
    /// The prompt, with the kind and the category of the seeds that were shown.
    #[serde(flatten)]
    pub prompt: Prompt,
    /// What the writer replied.
    pub reply: String,
    /// Why there is no prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What it says almost the same as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<NearTo>,
}

/// What a written prompt says almost the same as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NearTo {
    /// A stage that measures models, a file, or the id of a seed or of a prompt that was written before.
    pub of: String,
    /// ROUGE-L, from 0 to 1.
    pub similarity: f64,
}

impl ItemData for WrittenPrompt {
    const KIND: ItemKind = ItemKind::Prompt;
}

/// What a model proposes about a pair; the item's text is its reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// The id of the pair's item.
    pub pair: String,
    /// For which of its answers.
    pub side: ProposalSide,
    /// The rules that were read; none without a usable reply.
    pub proposed: Option<Proposed>,
    /// Why there is no reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<NoAnswer>,
}

impl ItemData for Proposal {
    const KIND: ItemKind = ItemKind::Response;
}

/// A principle that may explain preferences; the item's text is its question. Dropped where nothing is asked by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidatePrinciple {
    /// Its id in the constitution that is written.
    pub id: String,
    /// What the preferred answer does.
    pub rule: String,
    /// How often it was proposed, in any wording.
    pub proposals: usize,
    /// For how many pairs.
    pub pairs: usize,
}

impl ItemData for CandidatePrinciple {
    const KIND: ItemKind = ItemKind::Principle;
}

/// What a labeller says by a principle about a pair whose first answer is the better one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrincipleVote {
    /// The principle's id.
    pub principle: String,
    /// The id of the pair's item.
    pub pair: String,
    /// Whether the pair is one of those that only measure.
    pub held_out: bool,
    /// The raw label.
    pub label: Option<Label>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<NoAnswer>,
}

impl ItemData for PrincipleVote {
    const KIND: ItemKind = ItemKind::Label;
}

/// A preference as the ledger shows it.
pub fn preference_text(preference: &Preference) -> String {
    let Preference { prompt, chosen, rejected, probability, .. } = preference;
    format!("{}\nchosen ({probability:.3}): {chosen}\nrejected: {rejected}", transcript(prompt))
}

/// A pair as the ledger shows it.
pub fn pair_text(pair: &Pair) -> String {
    format!("{}\n(1) {}\n(2) {}", transcript(&pair.prompt), pair.first, pair.second)
}

/// A model's answer to an item of a benchmark, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Which model, by its stage's name.
    pub model: String,
    /// The answer and what the benchmark says of it.
    pub judged: Judged,
    /// How far the model is from the base model; for answers to ordinary requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
}

/// What a judge replied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// Whose it is: the place of the judge; one judge has none written.
    #[serde(default, skip_serializing_if = "is_first")]
    pub judge: usize,
    /// About what.
    pub about: About,
    /// What it replied.
    pub reply: Reply,
}

/// What a judge was asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// An answer whose label is known.
    Labelled {
        /// The set it is from.
        set: String,
        /// Whether yes is right.
        yes: bool,
    },
    /// A model's answer to an item of the benchmark.
    Answer {
        /// Which model, by its stage's name.
        model: String,
        /// Which item.
        item: String,
    },
}

impl ItemData for Opinion {
    const KIND: ItemKind = ItemKind::Label;
}

/// How far a model is from the base model on one ordinary request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// KL(model ‖ base) over the model's own answer, nats.
    pub divergence: f64,
    /// Tokens of that answer.
    pub own_tokens: usize,
    /// Negative log-likelihood of the base model's answer under the model, nats.
    pub base_nll: f64,
    /// Tokens of the base model's answer.
    pub base_tokens: usize,
}

impl ItemData for Evaluated {
    const KIND: ItemKind = ItemKind::Response;
}
