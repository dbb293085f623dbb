//! How a critique and a revision are asked for, in either form.

use super::{ReviseItem, ReviseSettings};
use crate::constitution::{Constitution, RevisionPrinciple};
use crate::critique::{critique_request, direct_revision_request, revision_request};
use crate::error::FeedbackError;
use crate::paper::{Chain, Form, critique_few_shots, ending};
use solon_records::{Context, SamplingSettings};
use std::borrow::Cow;

/// A form with what all its prompts share.
pub(super) struct Asking<'a> {
    constitution: &'a Constitution,
    form: Form,
    few_shots: Vec<String>,
}

impl<'a> Asking<'a> {
    pub fn new(constitution: &'a Constitution, settings: &ReviseSettings) -> Self {
        let few_shots = match (settings.form, settings.few_shots) {
            (Form::Paper, true) => critique_few_shots(constitution, settings.critique.is_some()),
            _ => Vec::new(),
        };
        Self { constitution, form: settings.form, few_shots }
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
            Form::Chat => critique_request(principle, &item.request(), item.answer()).into(),
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
            (Form::Chat, Some(critique)) => revision_request(principle, &request, answer, critique).into(),
            (Form::Chat, None) => direct_revision_request(principle, &request, answer).into(),
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
