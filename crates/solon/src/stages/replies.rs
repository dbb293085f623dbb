//! The replies that a stage lacks: which of them the same command asks for again, and what the report says of them.
//!
//! Contract: a reply that did not come may come. A refusal lasts, except where a server refused all that it did not leave without a reply:
//! then it is hardly the items, but a name or a parameter that somebody will mend. A stage that was broken off asks again about all of them.

use crate::run::{NO_REPLY, Reader, StageRun};
use anyhow::Result;
use serde_json::{Value, json};
use solon_data::ledger::ItemKind;
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

    /// Tells how many items lack a reply that may come.
    pub fn tell(&self, told: &mut Value) {
        if self.may_come() > 0 {
            told[NO_REPLY] = json!(self.may_come());
        }
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

    /// The ids of the stage's items of this kind that stay as they are.
    pub fn settled(self, run: &StageRun<'_>, kind: ItemKind) -> Result<HashSet<String>> {
        let mut settled = run.read().own_ids(kind)?;
        let again = self.again(run)?;
        settled.retain(|id| !again.contains(id));
        Ok(settled)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_may_change_where_nothing_was_answered() {
        use NoAnswerKind::{Declines, NoReply, Refused, TooLong};
        let found = |reasons: &[Option<NoAnswerKind>]| {
            let items = reasons.iter().enumerate().map(|(at, reason)| (at.to_string(), *reason));
            let replies = Replies::of(items);
            (replies.refusal().is_some(), replies.may_come())
        };
        assert_eq!(found(&[Some(Refused), Some(Refused)]), (true, 2));
        // Who was not asked, or got no reply, does not speak for the server.
        assert_eq!(found(&[Some(Refused), Some(NoReply), Some(TooLong)]), (true, 2));
        assert_eq!(found(&[Some(Refused), None, Some(NoReply)]), (false, 1));
        assert_eq!(found(&[Some(Refused), Some(Declines)]), (false, 0));
        assert_eq!(found(&[Some(NoReply)]), (false, 1));
        assert_eq!(found(&[]), (false, 0));
    }
}
