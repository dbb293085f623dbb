//! The [`Benchmark`] trait: its items, how to ask them, how to judge one answer, and what is measured.
//!
//! Contract: a benchmark knows no model. It provides [`Item`]s and says how to [`Ask`] them. The caller has the model,
//! asks, and gives each [`Answer`] to [`Benchmark::judge`]. A judgement is a function of the item and the answer alone.
//! [`Judged`] is one answer with its judgement: the record that is stored. [`crate::summarise`] turns the stored
//! records into rates, [`crate::compare()`] compares models, [`crate::choose`] picks the model to deliver. These three
//! work for every benchmark.
//!
//! Items are asked in one of two ways. Either the model writes an answer, or the log-probs of given options are measured
//! and nothing is sampled ([`Ask`]). An outcome is a yes or no, or a number ([`Outcome`]).
//!
//! Where a model judges, the benchmark says what it is asked about an answer ([`Benchmark::question`]). What it replied is a
//! part of the [`Answer`], so [`Benchmark::judge`] stays a pure function, and a stored record can be judged again.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use solon_records::{Message, SamplingSettings};

use crate::benchmarks::Known;
use crate::degenerate::Fault;

/// One question of a benchmark.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Item {
    /// Unique in its benchmark. The answers of two models are paired by it.
    pub id: String,
    /// The conversation to answer; of items with options one message, which is what stands before the option.
    pub messages: Vec<Message>,
    /// What may follow, exactly as it is scored, white space included; empty where the model writes an answer.
    pub options: Vec<String>,
    /// The places of the options that are right.
    pub right: Vec<usize>,
    /// The id of the item that is this one's earlier turn: its conversation, and the model's answer to it, stand before
    /// `messages`. It comes earlier among the items.
    pub after: Option<String>,
    /// What it has in common with other items, such as the behaviour that several jailbreaks ask for: what is found of them is
    /// not independent. The turns of a conversation are together without it.
    pub cluster: Option<String>,
    /// The temperature it is answered at, where that is not the benchmark's.
    pub temperature: Option<f64>,
    /// The name of one of [`Benchmark::groups`].
    pub group: &'static str,
    /// A finer label inside the group, such as `fraud`.
    pub category: Option<String>,
}

/// The cluster that each item belongs to, in their order: the place of the first item of its conversation, or of those with
/// the same [`Item::cluster`]. Intervals and tests take clusters as independent, not items.
pub(crate) fn clusters<'a>(items: impl Iterator<Item = &'a Item>) -> Vec<usize> {
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut places = Vec::new();
    for (place, item) in items.enumerate() {
        let earlier = item.after.as_ref().and_then(|after| by_id.get(after.as_str())).copied();
        let named = || item.cluster.as_ref().map(|name| *by_name.entry(name.as_str()).or_insert(place));
        let cluster = earlier.or_else(named).unwrap_or(place);
        by_id.insert(&item.id, cluster);
        places.push(cluster);
    }
    places
}

/// How to ask the model.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// It answers each item's conversation.
    Generate(SamplingSettings),
    /// The log-prob of each of an item's options is measured.
    Choose {
        /// Whether the item's message is a user's turn in the model's chat template, and the option begins the answer. Else
        /// both are plain text.
        template: bool,
    },
}

/// What the model answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The text; of items with options the likeliest one.
    #[serde(rename = "answer")]
    pub text: String,
    /// Whether the answer was cut off at the token limit; of items with options, whether the start of the question was,
    /// because the model's context is shorter.
    pub truncated: bool,
    /// The log-prob of each option in nats, summed over its tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_probs: Vec<f64>,
    /// What the judge replied about it, where a judge was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Reply>,
}

impl Answer {
    /// An answer in words.
    pub fn written(text: String, truncated: bool) -> Self {
        Self { text, truncated, ..Self::default() }
    }
}

/// What a judge is asked about an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The conversation that it answers.
    pub messages: Vec<Message>,
    /// The words that its answer may begin with, such as "yes" and "no": their log-probs count where the judge has them. Empty
    /// where it answers freely.
    pub options: Vec<String>,
    /// Largest number of new tokens in its answer.
    pub max_new_tokens: usize,
}

/// What a judge replied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Its answer.
    Said(String),
    /// The log-prob of each option, in nats.
    Options(Vec<f64>),
    /// There is no answer, for this reason.
    Failed(String),
    /// Its replies to several questions about one answer, in their order.
    Several(Vec<Reply>),
}

impl Reply {
    /// The place of the option that it chose: the likeliest, or the one that its answer begins with, whatever the case.
    /// `None` where it chose none.
    pub fn choice(&self, options: &[&str]) -> Option<usize> {
        match self {
            Self::Options(log_probs) => crate::options::argmax(log_probs.iter().copied()),
            Self::Said(text) => {
                let said = text.trim_start_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
                let begins = |option: &str| {
                    said.strip_prefix(&option.to_lowercase())
                        .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
                };
                options.iter().position(|option| begins(option))
            }
            Self::Failed(_) | Self::Several(_) => None,
        }
    }

    /// Its text, where it answered one question in words.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Said(text) => Some(text),
            Self::Options(_) | Self::Failed(_) | Self::Several(_) => None,
        }
    }

    /// The reply to each question.
    pub fn parts(&self) -> &[Reply] {
        match self {
            Self::Several(replies) => replies,
            one => std::slice::from_ref(one),
        }
    }
}

/// What was found of an answer: whether a measure holds, or its number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Of a measure in [`Unit::Share`].
    Holds(bool),
    /// Of a measure in [`Unit::Number`]; finite.
    Number(f64),
    /// Of either, where the judge gave no verdict: the answer is left out of the figure, and is counted as unjudged.
    Unknown,
}

impl From<bool> for Outcome {
    fn from(holds: bool) -> Self {
        Self::Holds(holds)
    }
}

/// The benchmark's judgement of one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// One word on what the answer did, such as `refusal`.
    pub verdict: String,
    /// The fault of the answer as text, if it has one.
    pub fault: Option<Fault>,
    /// By [`Measure::key`]: exactly the measures of the item's group.
    pub outcomes: BTreeMap<String, Outcome>,
}

impl Judgement {
    /// The word that a report shows beside the answer: the fault if there is one, else the verdict.
    pub fn shown(&self) -> &str {
        self.fault.map_or(&self.verdict, |fault| fault.name())
    }
}

/// An answer and its judgement: the record that is stored for each item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The item's id.
    pub id: String,
    /// What the model answered.
    #[serde(flatten)]
    pub answer: Answer,
    /// What the benchmark says of it.
    #[serde(flatten)]
    pub judgement: Judgement,
}

impl Judged {
    /// Judges the answer to an item.
    pub fn new(benchmark: &dyn Benchmark, item: &Item, answer: Answer) -> Self {
        Self { id: item.id.clone(), judgement: benchmark.judge(item, &answer), answer }
    }
}

/// The direction that is an improvement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// A lower rate is better.
    Lower,
    /// A higher rate is better.
    Higher,
    /// Neither direction is better.
    Neither,
}

/// What an outcome of a measure is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// A yes or no; the share of answers for which it holds is reported.
    Share,
    /// A number from `least` to `most`; its mean is reported.
    Number {
        /// The lowest possible; −∞ where there is none.
        least: f64,
        /// The highest possible; ∞ where there is none.
        most: f64,
    },
}

impl Unit {
    /// The lowest and the highest possible figure, as of a [`Unit::Number`].
    pub const fn range(self) -> [f64; 2] {
        match self {
            Self::Share => [0.0, 1.0],
            Self::Number { least, most } => [least, most],
        }
    }
}

/// A property of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// The name in files, such as `harmful_compliance`.
    pub key: &'static str,
    /// The name in tables, such as `harmful compliance`.
    pub title: &'static str,
    /// One plain sentence for the report.
    pub explanation: &'static str,
    /// What its outcomes are.
    pub unit: Unit,
    /// The direction that is an improvement.
    pub better: Better,
    /// The groups whose items it covers; empty for all groups.
    pub groups: &'static [&'static str],
    /// Whether it is part of the benchmark's score, which decides the model to deliver ([`crate::choose`]). Scored
    /// measures are shares and have a better direction, and no two of them cover the same group, because the test treats them as
    /// independent.
    pub scored: bool,
}

impl Measure {
    /// A share over the items of some groups, or of all where none is named; not scored.
    pub const fn share(
        key: &'static str,
        title: &'static str,
        explanation: &'static str,
        better: Better,
        groups: &'static [&'static str],
    ) -> Self {
        Self { key, title, explanation, unit: Unit::Share, better, groups, scored: false }
    }

    /// The same as a part of the benchmark's score.
    pub const fn scored(mut self) -> Self {
        self.scored = true;
        self
    }

    /// The same in another unit.
    pub const fn in_unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    /// Whether it covers the items of a group.
    pub fn covers(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.contains(&group)
    }
}

/// Items of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The name in files, such as `sounds-harmful`.
    pub name: &'static str,
    /// The heading over its items in a report.
    pub heading: &'static str,
    /// The key of the measure that is reported for each category of the group.
    pub by_category: &'static str,
}

/// How a benchmark measures, in sentences for the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Where the items come from and how the model is asked.
    pub asked: String,
    /// How an answer is judged.
    pub judged: String,
    /// How reliable the judgement is, if that was measured.
    pub believed: Option<String>,
}

/// A benchmark; [`crate::benchmarks`] lists them.
pub trait Benchmark {
    /// Its entry in the list of all: the name, and the groups of items.
    fn known(&self) -> &'static Known;
    /// Its name on the command line and in recipes, such as `safety`.
    fn name(&self) -> &'static str {
        self.known().name
    }
    /// The items to ask. Their ids are unique.
    fn items(&self) -> &[Item];
    /// How to ask it.
    fn ask(&self) -> Ask;
    /// What a judge is asked about the answer to an item; `before` has the earlier turns in order. `None` where no judge is
    /// needed.
    fn question(&self, before: &[(&Item, &Answer)], item: &Item, answer: &Answer) -> Option<Question> {
        let _ = (before, item, answer);
        None
    }
    /// The same where there are several questions about one answer, such as two answers in both orders.
    fn questions(&self, before: &[(&Item, &Answer)], item: &Item, answer: &Answer) -> Vec<Question> {
        self.question(before, item, answer).into_iter().collect()
    }
    /// Whether nothing is measured without a judge.
    fn needs_judge(&self) -> bool {
        false
    }
    /// Judges one answer.
    fn judge(&self, item: &Item, answer: &Answer) -> Judgement;
    /// The measures, in the order they are printed.
    fn measures(&self) -> &'static [Measure];
    /// The groups of items, in the order they are reported.
    fn groups(&self) -> &'static [Group] {
        self.known().groups
    }
    /// The name and version of the rule or judge that decides; recorded with every result.
    fn rule(&self) -> &'static str;
    /// How it measures, for the report. How far a judge can be believed is not known to it.
    fn method(&self) -> Method;
    /// The group of ordinary requests, if it has one: on their answers it is measured how far training has moved the
    /// model where nothing was to change.
    fn ordinary(&self) -> Option<&'static str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_belong_to_their_first() {
        let item = |id: &str, after: Option<&str>| Item {
            id: id.to_owned(),
            after: after.map(str::to_owned),
            ..Item::default()
        };
        let items = [
            item("a", None),
            item("b", Some("a")),
            item("c", None),
            item("d", Some("b")),
            item("e", Some("z")),
        ];
        assert_eq!(clusters(items.iter()), [0, 0, 2, 0, 4]);
    }

    #[test]
    fn items_of_one_cluster_belong_together_wherever_they_stand() {
        let item = |id: &str, cluster: Option<&str>, after: Option<&str>| Item {
            id: id.to_owned(),
            cluster: cluster.map(str::to_owned),
            after: after.map(str::to_owned),
            ..Item::default()
        };
        let items = [
            item("a", Some("lock"), None),
            item("b", Some("well"), None),
            item("c", Some("lock"), None),
            item("d", None, None),
            item("e", None, Some("c")),
        ];
        assert_eq!(clusters(items.iter()), [0, 1, 0, 3, 0]);
    }
}
