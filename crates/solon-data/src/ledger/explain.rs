//! The trail of an item: what it was made from, and what it was used for, up to the pairs, labels, training steps and
//! checkpoints.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::Value;

use super::{Checkpoint, Item, Ledger, LedgerError, Link, Step};

/// No run is this deep. A ledger from outside may be, or may contain a cycle.
const MAX_DEPTH: usize = 64;

/// An item with everything it was made from and everything it was used for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The item.
    pub item: Item,
    /// The principle it was made with, if the ledger has it.
    pub principle: Option<Item>,
    /// Training steps whose batch held it.
    pub used_by: Vec<StepUse>,
    /// The items it was made from.
    pub ancestors: Vec<Branch>,
    /// The items made from it.
    pub descendants: Vec<Branch>,
}

/// One item of a trail.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Branch {
    /// The item's id.
    pub id: String,
    /// The role of the parent for the child, such as `critique`.
    pub role: String,
    /// Why `item` or `branches` are left out, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<BranchNote>,
    /// The item.
    pub item: Option<Item>,
    /// The principle it was made with, if the ledger has it.
    pub principle: Option<Item>,
    /// Training steps whose batch held it; for descendants only.
    pub used_by: Vec<StepUse>,
    /// The rest of the trail.
    pub branches: Vec<Branch>,
}

/// Why a branch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchNote {
    /// Its stage was restarted and has not made it again.
    Missing,
    /// It is shown in full elsewhere in the same trail.
    ShownAbove,
    /// The trail is deeper than the depth shown.
    TooDeep,
}

/// A training step that used an item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepUse {
    /// The stage.
    pub stage: String,
    /// The step.
    pub step: u64,
    /// Metrics such as the loss.
    pub data: Value,
    /// Hash of the weights after the step.
    pub sha256: Option<String>,
    /// The first checkpoint that contains it.
    pub checkpoint: Option<Checkpoint>,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Ancestors,
    Descendants,
}

impl Ledger {
    /// An item's trail in both directions.
    ///
    /// # Errors
    /// [`LedgerError::UnknownItem`] with the most similar ids; [`LedgerError::Sqlite`].
    pub fn explain(&self, id: &str) -> Result<Explanation, LedgerError> {
        let item = self.item(id)?;
        let walk = |direction, links: Vec<Link>| {
            let mut seen = HashSet::from([id.to_owned()]);
            links
                .into_iter()
                .map(|link| self.branch(direction, link, 1, &mut seen))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Explanation {
            principle: self.principle_of(&item)?,
            used_by: self.uses(id)?,
            ancestors: walk(Direction::Ancestors, self.parents(id)?)?,
            descendants: walk(Direction::Descendants, self.children(id)?)?,
            item,
        })
    }

    fn branch(
        &self,
        direction: Direction,
        link: Link,
        depth: usize,
        seen: &mut HashSet<String>,
    ) -> Result<Branch, LedgerError> {
        let Link { id, role } = link;
        let mut branch = Branch {
            id,
            role,
            note: None,
            item: None,
            principle: None,
            used_by: Vec::new(),
            branches: Vec::new(),
        };
        if !seen.insert(branch.id.clone()) {
            branch.note = Some(BranchNote::ShownAbove);
            return Ok(branch);
        }
        let Some(item) = self.find_item(&branch.id)? else {
            branch.note = Some(BranchNote::Missing);
            return Ok(branch);
        };
        branch.principle = self.principle_of(&item)?;
        branch.item = Some(item);
        let links = match direction {
            Direction::Ancestors => self.parents(&branch.id)?,
            Direction::Descendants => {
                branch.used_by = self.uses(&branch.id)?;
                self.children(&branch.id)?
            }
        };
        if depth == MAX_DEPTH && !links.is_empty() {
            branch.note = Some(BranchNote::TooDeep);
            return Ok(branch);
        }
        for link in links {
            branch.branches.push(self.branch(direction, link, depth + 1, seen)?);
        }
        Ok(branch)
    }

    fn principle_of(&self, item: &Item) -> Result<Option<Item>, LedgerError> {
        match &item.principle_id {
            Some(id) => self.find_item(id),
            None => Ok(None),
        }
    }

    fn uses(&self, item: &str) -> Result<Vec<StepUse>, LedgerError> {
        let with_checkpoint = |used: Step| {
            let checkpoint = self.checkpoint_with(&used.stage, used.step)?;
            Ok(StepUse {
                stage: used.stage,
                step: used.step,
                data: used.data,
                sha256: used.sha256,
                checkpoint,
            })
        };
        self.steps_using(item)?.into_iter().map(with_checkpoint).collect()
    }
}
