//! How a critique and a revision are asked for, in either form.

use super::{ReviseItem, ReviseSettings};
use crate::chat_shots::critique_turns;
use crate::constitution::{Constitution, RevisionPrinciple};
use crate::critique::{critique_request, direct_revision_request, revision_request};
use crate::error::FeedbackError;
use crate::paper::{Chain, Form, critique_few_shots, ending};
use solon_records::{Context, Message, SamplingSettings};
use std::borrow::Cow;

/// A form with what all its prompts share.
pub(super) struct Asking<'a> {
    constitution: &'a Constitution,
    form: Form,
    /// In the paper's form.
    few_shots: Vec<String>,
    /// In a chat.
    shown: Vec<Message>,
}

impl<'a> Asking<'a> {
    /// Errors where the constitution's few-shots are wanted and cannot be shown in this form.
    pub fn new(constitution: &'a Constitution, settings: &ReviseSettings) -> Result<Self, FeedbackError> {
        let critiques = settings.critique.is_some();
        let (mut few_shots, mut shown) = (Vec::new(), Vec::new());
        match (settings.form, settings.few_shots) {
            (_, false) => {}
            (Form::Paper, true) => few_shots = critique_few_shots(constitution, critiques),
            (Form::Chat, true) => shown = critique_turns(constitution, critiques)?,
        }
        Ok(Self { constitution, form: settings.form, few_shots, shown })
    }

    /// A question in a chat, after the few-shots.
    fn chat(&self, question: Vec<Message>) -> Context {
        self.shown.iter().cloned().chain(question).collect::<Vec<_>>().into()
    }

    /// The sampling of a reply in this form.
    pub fn sampling<'s>(&self, sampling: &'s SamplingSettings) -> Cow<'s, SamplingSettings> {
        match self.form {
            Form::Chat => Cow::Borrowed(sampling),
            Form::Paper => Cow::Owned(ending(sampling)),
        }
    }

    /// Asks for a critique of an item's answer.
    pub fn critique(
        &self,
        principle: &RevisionPrinciple,
        item: &ReviseItem,
    ) -> Result<Context, FeedbackError> {
        Ok(match self.form {
            Form::Chat => self.chat(critique_request(principle, &item.request(), item.answer())),
            Form::Paper => self.chain(item)?.asked_critique(principle).text().into(),
        })
    }

    /// Asks for a revision of an item's answer, after its critique or directly.
    pub fn revision(
        &self,
        principle: &RevisionPrinciple,
        item: &ReviseItem,
        critique: Option<&str>,
    ) -> Result<Context, FeedbackError> {
        let (request, answer) = (item.request(), item.answer());
        Ok(match (self.form, critique) {
            (Form::Chat, Some(critique)) => {
                self.chat(revision_request(principle, &request, answer, critique))
            }
            (Form::Chat, None) => self.chat(direct_revision_request(principle, &request, answer)),
            (Form::Paper, Some(critique)) => {
                let chain = self.chain(item)?.asked_critique(principle).said(critique);
                chain.asked_revision(principle).text().into()
            }
            (Form::Paper, None) => self.chain(item)?.asked_revision(principle).text().into(),
        })
    }

    /// An item's prompt, its first answer and the rounds that are over.
    fn chain(&self, item: &ReviseItem) -> Result<Chain, FeedbackError> {
        Chain::open(&item.id, &self.few_shots, &item.prompt, &item.initial)?.after(
            &item.id,
            self.constitution,
            &item.chain,
        )
    }
}
