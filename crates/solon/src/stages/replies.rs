//! The replies that a stage lacks: which of them the same command asks for again, and what the report says of them.
//!
//! Contract: a reply that did not come may come. A refusal lasts, except where a server refused all that it did not leave without a reply:
//! then it is hardly the items, but a name or a parameter that somebody will mend. A stage that was broken off asks again about all of them.

use crate::run::{Reader, StageRun};
use anyhow::Result;
use solon_feedback::NoAnswerKind;
use std::collections::HashSet;

/// What became of a stage's items.
#[derive(Default)]
pub struct Replies {
    answered: usize,
    missing: HashSet<String>,
    refused: HashSet<String>,
}

impl Replies {
    /// `items`: the ids of those that were asked about, with the kind of reason why one has no answer.
    pub fn of(items: impl IntoIterator<Item = (String, Option<NoAnswerKind>)>) -> Self {
        let mut replies = Self::default();
        for (id, reason) in items {
            match reason {
                Some(NoAnswerKind::NoReply) => drop(replies.missing.insert(id)),
                Some(NoAnswerKind::Refused) => drop(replies.refused.insert(id)),
                // Nobody was asked.
                Some(NoAnswerKind::TooLong) => {}
                _ => replies.answered += 1,
            }
        }
        replies
    }

    fn all_refused(&self) -> bool {
        self.answered == 0 && !self.refused.is_empty()
    }

    /// How many items a done stage asks about again.
    pub fn may_come(&self) -> usize {
        self.missing.len() + if self.all_refused() { self.refused.len() } else { 0 }
    }

    /// The ids that a stage asks about again which begins or goes on.
    pub fn again(self, run: &StageRun<'_>) -> Result<HashSet<String>> {
        let refused_too = self.all_refused() || !run.is_done()?;
        let mut again = self.missing;
        if refused_too {
            again.extend(self.refused);
        }
        Ok(again)
    }

    /// What is said where nothing was answered and something refused.
    pub fn refusal(&self) -> Option<&'static str> {
        self.all_refused().then_some(
            "nothing was answered, and the server refused it: it may not know the model, or a parameter; once that is mended, the same \
             command asks again",
        )
    }

    /// The same as a warning of the report.
    pub fn warning(&self, read: &Reader<'_>) -> Option<String> {
        self.refusal().map(|what| format!("{}: {what}.", read.name()))
    }
}
