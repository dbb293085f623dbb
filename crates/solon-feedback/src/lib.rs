//! Constitution, critique and revision, preference labels, the judge report.
//!
//! This crate turns a written constitution into training data, and preferences into a constitution ([`propose`]). It asks any
//! model that implements [`FeedbackModel`]: the policy itself, the policy with a critic adapter, another local model, or a server.
//! It promises:
//!
//! - Every choice (principle, order shown to a person) is a function of a key and the item's id, see
//!   [`solon_draws::Draws`].
//! - A critic or labeller is trained on exactly the form in which it is asked later.
//! - A label keeps the raw log-probs of the answers, and a judge is measured before its labels are used
//!   ([`JudgeReport`]).
//!
//! It writes no files: callers store the records and votes it returns. Critiques and revisions are items of the ledger
//! ([`solon_data::ledger::ItemData`]).

mod chat_shots;
mod constitution;
mod critique;
mod error;
mod human;
mod infer;
mod items;
mod judge_report;
mod known_sets;
mod label;
mod model;
mod named;
mod paper;
mod quote;
mod red_team;
mod revise;

pub use constitution::{
    About, Changed, Checked, ComparisonPrinciple, Constitution, ConstitutionDiff, ConstitutionPrompt, Entry,
    FewShot, FieldChange, RevisionPrinciple, Shot, Side, TableDiff, Weighted, WorkedExample,
};
pub use critique::{
    TrainingConversation, critique_request, revision_request, training_conversations,
    training_conversations_from,
};
pub use error::FeedbackError;
pub use human::{
    Agreement, Annotator, AnnotatorMeasures, Choice, HumanLabel, HumanSession, Order, Pass, Preferred,
    SessionEnd, SessionEvent, TwoAnnotators, Vote, contested, human_labels,
};
pub use infer::{
    Cluster, Fate, Principle, ProposeSettings, Proposed, RuleFault, SelectSettings, Side as ProposalSide,
    Split, Stance, Tally, cast_votes, cluster, inferred_constitution, principles_of, propose, select, split,
    together,
};
pub use judge_report::{Bin, JudgeReport, KnownMeasures, LabelMeasures, Swap, Verdict};
pub use known_sets::{KnownItem, KnownQuestion, KnownSet, read_known_set};
pub use label::{
    Ask, Evidence, HELD_OUT, KnownContrast, KnownLabel, KnownPair, Label, LabelSettings, LabellerTraining,
    Material, RequestCounts, comparison_request, declining_request, join_known, known_examples, label_pairs,
    labeller_training, prompt_text, rating_request, request_request, scoring_request, split_examples,
};
pub use model::{
    ChoiceRequest, FeedbackModel, GenerateRequest, Generated, NoAnswer, NoAnswerKind, OptionScores,
    whole_sentences,
};
pub use named::named_option;
pub use paper::{Form, Link};
pub use quote::{for_model, for_terminal, without_control};
pub use red_team::{
    AskedPrompt, Balance, PromptFault, PromptForm, Rounds, SeedGroup, Wanted, WriteSettings, read_prompt,
    seed_groups, write_prompts,
};
pub use revise::{
    Checks, CritiqueRecord, DropReason, Dropped, Outcome, ReviseItem, ReviseSettings, RevisionRecord,
    RoundCounts, Step, apply_round, critique_round, revision_principle_for, revision_round,
};
