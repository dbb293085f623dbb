//! The kinds of stages, one file each, and what they have in common.
//!
//! A stage's file holds its settings (typed and checked when the recipe is read), its inputs and its output, its work, its
//! curves and its part of the report. To add a kind: write its file and its line in [`KINDS`].
//!
//! Contract of [`Stage::run`]: what it makes is a function of its settings, its inputs, the run's seed and its own name.
//! It leaves items in the ledger, or an adapter or model in its folder under `checkpoints/`, and nothing else. It may be
//! killed anywhere: items that are there are not made again, and training goes on from its last checkpoint.

mod adapter;
mod answers;
mod asked;
mod asking;
mod beside;
mod by_kind;
mod contrast;
mod critic;
mod deliver;
mod demonstrations;
mod dpo;
mod evaluate;
mod evaluation_report;
mod examples;
mod gate;
mod infer;
mod inference;
mod judging;
mod kept_out;
mod label;
mod label_report;
mod labeller;
mod lessons;
mod measure;
mod new_prompts;
mod pairs;
mod ppo;
mod preferences;
mod principles;
mod prompts;
mod red_team;
mod red_teaming;
mod replies;
mod respond;
mod revise;
mod reward;
mod reward_model;
mod rloo;
mod rollouts;
mod sample;
mod scale;
mod settings;
mod sft;

use crate::hub;
use crate::report::Report;
use crate::run::{Reader, StageRun};
use anyhow::Result;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use solon_eval::judge::both::JudgeAgreement;
use solon_eval::{Measure, Summary};
use solon_feedback::{Ask, Constitution};
use solon_records::Prompt;
use std::collections::BTreeSet;

pub use inference::{Figures, Inference};
pub use label::replies;
pub use label_report::judged;
pub use lessons::FIRST_HELD;
pub use revise::replies as revise_replies;
pub use settings::{Curve, Keys, Method, OneOrMany, Source, Training, note_unused, records};

/// A kind of stage: its name in recipes and how its table is read.
pub struct Kind {
    /// What `kind = "…"` says.
    pub name: &'static str,
    /// One sentence for lists and errors.
    pub about: &'static str,
    /// The keys, beside `file`, whose values are files that the stage reads itself.
    pub files: fn() -> Vec<&'static str>,
    /// Reads the table of a stage, or says what is wrong with it.
    pub parse: fn(Keys) -> Result<Box<dyn Stage>, String>,
}

/// Every kind, in the order in which a recipe would use them.
pub const KINDS: &[Kind] = &[
    principles::KIND,
    prompts::KIND,
    answers::KIND,
    demonstrations::KIND,
    pairs::KIND,
    preferences::KIND,
    adapter::KIND,
    reward_model::KIND,
    critic::KIND,
    respond::KIND,
    revise::KIND,
    examples::KIND,
    sft::KIND,
    contrast::KIND,
    red_team::KIND,
    labeller::KIND,
    sample::KIND,
    by_kind::KIND,
    measure::KIND,
    infer::KIND,
    label::KIND,
    reward::KIND,
    dpo::KIND,
    ppo::KIND,
    rloo::KIND,
    scale::KIND,
    evaluate::KIND,
    deliver::KIND,
];

/// Reads a stage whose table is its own settings.
fn parse<T: Stage + DeserializeOwned + 'static>(keys: Keys) -> Result<Box<dyn Stage>, String> {
    Ok(Box::new(keys.rest::<T>()?))
}

/// One stage of a recipe, its settings read and checked.
pub trait Stage {
    /// What it reads, key by key.
    fn inputs(&self) -> Vec<Input> {
        Vec::new()
    }

    /// What it makes.
    fn output(&self) -> Data;

    /// Whether it reads the constitution.
    fn needs_constitution(&self) -> bool {
        false
    }

    /// What its result depends on beside its inputs: hashed, so that a changed setting makes the stage run again.
    fn settings(&self) -> Value;

    /// Which weights it trains.
    fn trains(&self) -> Option<Method> {
        None
    }

    /// Reads what it is given from outside, before anything is computed, and refuses what it could not use. Returns the ids that it will put into the ledger as they are.
    fn preflight(&self, _: &Preflight<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The prompts it will make, where that is known before it runs.
    fn prompts(&self) -> Option<Result<Vec<Prompt>>> {
        None
    }

    /// What it measures, of a stage that evaluates.
    fn measures(&self) -> Result<&'static [Measure]> {
        Ok(&[])
    }

    /// The judges that it asks, by name. With two there are two figures of everything that they judge.
    fn judges(&self) -> Vec<&str> {
        Vec::new()
    }

    /// The texts that it puts to models to measure them or to choose among them: all that it could ask, whatever part of it is
    /// asked. `prompts`: the stages that its input of this name names; of one whose prompts are known only when it has run, none.
    fn measured(&self, _prompts: &[&dyn Stage]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Whether what it makes depends on what the run's stages measure models on, because it is kept apart from that.
    fn keeps_apart(&self) -> bool {
        false
    }

    /// The files and folders that it reads itself and that measure a model.
    fn measures_on(&self) -> Vec<&Source> {
        Vec::new()
    }

    /// Whether it makes revisions, round by round.
    fn revises(&self) -> bool {
        false
    }

    /// How it asks which answer is better, or is trained to be asked.
    fn ask(&self) -> Option<Ask> {
        None
    }

    /// What each evaluated model's answers add up to, of a stage that evaluates: a column for each judge, where there are two.
    fn columns(&self, _: &Reader<'_>) -> Result<Vec<Column>> {
        Ok(Vec::new())
    }

    /// How far two judges agree, and about what.
    fn agreements(&self, _: &Reader<'_>) -> Result<Vec<(String, JudgeAgreement)>> {
        Ok(Vec::new())
    }

    /// Does the work; returns what is to be told of it, mostly counts.
    fn run(&self, run: &mut StageRun<'_>) -> Result<Value>;

    /// What of its metrics the report draws.
    fn curves(&self) -> Vec<Curve> {
        Vec::new()
    }

    /// Adds its part to the report.
    fn report(&self, _: &Reader<'_>, _: &mut Report) -> Result<()> {
        Ok(())
    }

    /// Adds its part to `summary.json`.
    fn summary(&self, _: &Reader<'_>, _: &mut Map<String, Value>) -> Result<()> {
        Ok(())
    }
}

/// What a model's answers add up to.
pub struct Column {
    /// The model's name; where there are two judges, with the name of the one that judged.
    pub name: String,
    /// The model, by its stage's name.
    pub model: String,
    /// The place of the judge; 0 where there is none.
    pub judge: usize,
    /// The figures and the answers.
    pub summary: Summary,
}

/// What a stage sees before anything runs.
pub struct Preflight<'a> {
    /// The stages that an input names, by key.
    pub inputs: &'a dyn Fn(&str) -> Vec<&'a dyn Stage>,
    /// The names an input was connected to, `base` included, by key.
    pub names: &'a dyn Fn(&str) -> Vec<String>,
    /// The same of another stage, by its name and key.
    pub names_of: &'a dyn Fn(&str, &str) -> Vec<String>,
    /// The stages that an input of another stage names, by its name and key.
    pub inputs_of: &'a dyn Fn(&str, &str) -> Vec<&'a dyn Stage>,
    /// Every stage that the inputs of the stage of this name come from, directly or not.
    pub ancestors: &'a dyn Fn(&str) -> BTreeSet<String>,
    /// The stage of this name; none for `base`.
    pub stage: &'a dyn Fn(&str) -> Option<&'a dyn Stage>,
    /// What the stages of the plan measure models on.
    pub measured: &'a dyn Fn() -> Result<&'a [Measured]>,
    /// The rules, where the recipe names some.
    pub constitution: Option<&'a Constitution>,
}

/// What a stage measures models on, or chooses among them by.
pub struct Measured {
    /// The stage.
    pub stage: String,
    /// The texts.
    pub texts: Vec<String>,
}

/// What stages pass to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Prompts to answer.
    Prompts,
    /// Answers to prompts.
    Answers,
    /// Conversations to imitate.
    Demonstrations,
    /// Two answers to a prompt, without a label.
    Pairs,
    /// Two answers to a prompt, and which is the better.
    Preferences,
    /// A policy.
    Model,
    /// A model that criticises and revises.
    Critic,
    /// A model that labels pairs.
    Labeller,
    /// A model with a scalar head.
    RewardModel,
    /// Answers to a benchmark, judged.
    Evaluation,
    /// How far a labeller agrees with people.
    Measured,
    /// Principles in the ledger.
    Principles,
    /// Principles that explain preferences.
    Inferred,
    /// A model folder.
    Saved,
}

impl Data {
    /// In errors and in the printed plan.
    pub fn name(self) -> &'static str {
        match self {
            Data::Prompts => "prompts",
            Data::Answers => "answers",
            Data::Demonstrations => "demonstrations",
            Data::Pairs => "pairs",
            Data::Preferences => "preferences",
            Data::Model => "model",
            Data::Critic => "critic",
            Data::Labeller => "labeller",
            Data::RewardModel => "reward model",
            Data::Evaluation => "evaluation",
            Data::Measured => "judge report",
            Data::Principles => "principles",
            Data::Inferred => "inferred principles",
            Data::Saved => "model folder",
        }
    }

    /// The kind of stage that reads it from a file or folder, where there is one.
    pub fn loader(self) -> Option<&'static str> {
        match self {
            Data::Prompts => Some("prompts"),
            Data::Answers => Some("answers"),
            Data::Demonstrations => Some("demonstrations"),
            Data::Pairs => Some("pairs"),
            Data::Preferences => Some("preferences"),
            Data::Model => Some("adapter"),
            Data::RewardModel => Some("reward-model"),
            _ => None,
        }
    }
}

impl Kind {
    /// Whether a stage of this kind reads rows of data: from several files as from one.
    pub fn loads_data(&self) -> bool {
        let plain = [Data::Prompts, Data::Answers, Data::Demonstrations, Data::Pairs, Data::Preferences];
        plain.iter().any(|data| data.loader() == Some(self.name))
    }

    /// What a repository of the Hub holds that a stage of this kind is to read.
    pub fn on_hub(&self) -> hub::Wanted {
        let loads = |data: &&Data| data.loader() == Some(self.name);
        match [Data::Model, Data::RewardModel].iter().find(loads) {
            Some(_) => hub::Wanted::Adapter,
            None => hub::Wanted::Data,
        }
    }
}

/// What a key of a stage's table refers to.
pub struct Input {
    /// The key.
    pub key: &'static str,
    /// What the recipe wrote: names of earlier stages, `base`, or files.
    pub names: Vec<String>,
    /// What it may be. A file is read as the first of these that can be read from a file.
    pub accepts: &'static [Data],
    /// What holds where the recipe wrote nothing.
    pub missing: Missing,
}

/// What an input is where the recipe leaves it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The stage cannot do without.
    Refused,
    /// The stage does without.
    Nothing,
    /// The base model and every earlier stage that fits.
    Everything,
}

impl Input {
    /// An input that must be given.
    pub fn required(key: &'static str, names: impl Into<Vec<String>>, accepts: &'static [Data]) -> Self {
        Self { key, names: names.into(), accepts, missing: Missing::Refused }
    }

    /// An input that the stage can do without.
    pub fn optional(key: &'static str, names: impl Into<Vec<String>>, accepts: &'static [Data]) -> Self {
        Self { key, names: names.into(), accepts, missing: Missing::Nothing }
    }
}

/// The name that stands for the base model.
pub const BASE: &str = "base";

/// The policy a stage starts from where the recipe does not say: the base model.
pub fn base() -> String {
    BASE.to_owned()
}
