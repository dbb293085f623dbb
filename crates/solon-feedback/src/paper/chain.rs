//! Critiques and revisions: few-shots, the conversation with the answer, then critiques and revisions in turn.
//!
//! In a later round everything that was said before stays in the prompt. The paper only says that the pipeline is applied
//! repeatedly. In the published samples 17 of 198 later revisions bring back six words or more that stand in an earlier answer
//! alone, and one critique tells "the first response" from "the second": so the critic saw them all.

use super::{
    ASSISTANT, CRITIQUE, CRITIQUE_REQUEST, HUMAN, REVISION, REVISION_REQUEST, conversation, join, joined,
    quoted,
};
use crate::constitution::{Constitution, FewShot, RevisionPrinciple, Shot};
use crate::error::FeedbackError;
use serde::{Deserialize, Serialize};
use solon_records::Message;

/// A round that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The principle of the round.
    pub principle_id: String,
    /// None where the revision was asked for directly.
    pub critique: Option<String>,
    /// The revision.
    pub revision: String,
}

/// The few-shots of critiques. Without critiques, what is between the answer and the request for its revision is left out of
/// each: the paper's own few-shots for that are not published.
pub(crate) fn critique_few_shots(constitution: &Constitution, critiques: bool) -> Vec<String> {
    let text = |few_shot: &FewShot| match &few_shot.shot {
        Shot::Critique { text } if critiques => Some(text.clone()),
        Shot::Critique { text } => Some(without_critiques(text)),
        _ => None,
    };
    constitution.few_shot.iter().filter_map(text).collect()
}

/// A few-shot without its critiques.
fn without_critiques(text: &str) -> String {
    let mut parts = text.split(CRITIQUE_REQUEST);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.find(REVISION_REQUEST).map_or("", |at| &part[at..]));
    }
    out
}

/// A prompt in the making.
pub(crate) struct Chain(String);

impl Chain {
    /// Few-shots, the conversation and its answer.
    pub fn open(
        id: &str,
        few_shots: &[String],
        prompt: &[Message],
        answer: &str,
    ) -> Result<Self, FeedbackError> {
        let mut text = joined(few_shots.iter().map(String::as_str));
        join(&mut text, &conversation(id, prompt, [HUMAN, ASSISTANT], quoted)?);
        text.push_str(ASSISTANT);
        Ok(Self(text).said(answer))
    }

    /// The same with a critique or a revision as it was written.
    pub fn said(mut self, text: &str) -> Self {
        self.0.push(' ');
        self.0.push_str(quoted(text).trim());
        self
    }

    /// The same with the request for a critique.
    pub fn asked_critique(mut self, principle: &RevisionPrinciple) -> Self {
        self.0.extend([CRITIQUE_REQUEST, " ", quoted(&principle.critique).trim(), CRITIQUE]);
        self
    }

    /// The same with the request for a revision.
    pub fn asked_revision(mut self, principle: &RevisionPrinciple) -> Self {
        self.0.extend([REVISION_REQUEST, " ", quoted(&principle.revision).trim(), REVISION]);
        self
    }

    /// The same with the rounds that are over.
    pub fn after(
        mut self,
        id: &str,
        constitution: &Constitution,
        links: &[Link],
    ) -> Result<Self, FeedbackError> {
        for link in links {
            let principle = constitution.revision_principle(&link.principle_id).ok_or_else(|| {
                FeedbackError::UnknownPrinciple {
                    item: id.to_owned(),
                    principle: link.principle_id.clone(),
                    constitution: constitution.name.clone(),
                }
            })?;
            if let Some(critique) = &link.critique {
                self = self.asked_critique(principle).said(critique);
            }
            self = self.asked_revision(principle).said(&link.revision);
        }
        Ok(self)
    }

    /// The prompt.
    pub fn text(self) -> String {
        self.0
    }
}
