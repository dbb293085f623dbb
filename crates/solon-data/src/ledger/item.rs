//! Items: their kind, content, hash and links.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::sha256_parts;

/// The kind of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// A principle of the constitution; other items name it in `principle_id`.
    Principle,
    /// A prompt.
    Prompt,
    /// An answer of the model.
    Response,
    /// A critique of a response or revision.
    Critique,
    /// A response rewritten after a critique.
    Revision,
    /// Two answers to compare.
    Pair,
    /// A label of a pair; a model's label has its raw log-probs in `data`.
    Label,
    /// A conversation to train on.
    Demonstration,
}

const KINDS: [(ItemKind, &str); 8] = [
    (ItemKind::Principle, "principle"),
    (ItemKind::Prompt, "prompt"),
    (ItemKind::Response, "response"),
    (ItemKind::Critique, "critique"),
    (ItemKind::Revision, "revision"),
    (ItemKind::Pair, "pair"),
    (ItemKind::Label, "label"),
    (ItemKind::Demonstration, "demonstration"),
];

impl ItemKind {
    /// The name in the ledger and in JSON.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for ItemKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = KINDS.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind);
        found.ok_or_else(|| {
            let known: Vec<_> = KINDS.iter().map(|(_, name)| *name).collect();
            format!("unknown kind of item `{name}`, expected one of {}", known.join(", "))
        })
    }
}

/// An item to insert. The ledger computes its hash. [`NewItem::of`] makes one whose data has a type.
#[derive(Debug, Clone, PartialEq)]
pub struct NewItem {
    /// Unique in the run, and the same if the run is repeated.
    pub id: String,
    /// Its kind.
    pub kind: ItemKind,
    /// Its position among the stage's items of that kind.
    pub ordinal: u64,
    /// The prompt it belongs to.
    pub prompt_id: Option<String>,
    /// The principle it was made with.
    pub principle_id: Option<String>,
    /// The text; empty if `data` contains everything.
    pub text: String,
    /// Other data of the item: a label's log-probs, sampling settings, messages.
    pub data: Value,
    /// Why later stages do not use it.
    pub dropped_reason: Option<String>,
    /// The items it was made from. They must be in the ledger or in the same batch.
    pub parents: Vec<Link>,
}

impl NewItem {
    /// An item with only its text; set the other fields as needed.
    pub fn new(id: impl Into<String>, kind: ItemKind, ordinal: u64, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            kind,
            ordinal,
            prompt_id: None,
            principle_id: None,
            text: text.into(),
            data: Value::Null,
            dropped_reason: None,
            parents: Vec::new(),
        }
    }

    /// Adds a parent.
    #[must_use]
    pub fn parent(mut self, id: impl Into<String>, role: impl Into<String>) -> Self {
        self.parents.push(Link { id: id.into(), role: role.into() });
        self
    }

    /// The hash of the content: kind, texts, data and parents, but not the ordinal and not the drop reason.
    pub(super) fn sha256(&self, data: &str) -> String {
        let optional =
            |text: &Option<String>| text.as_ref().map_or(String::from("-"), |text| format!("+{text}"));
        let mut parts = vec![
            self.kind.as_str().to_owned(),
            optional(&self.prompt_id),
            optional(&self.principle_id),
            self.text.clone(),
            data.to_owned(),
        ];
        for parent in &self.parents {
            parts.extend([parent.role.clone(), parent.id.clone()]);
        }
        sha256_parts(parts)
    }
}

/// A linked item and the role of the parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The parent's id, or in [`crate::ledger::Ledger::children`] the child's.
    pub id: String,
    /// The role of the parent for the child, such as `prompt`, `response`, `critique`, `chosen`, `rejected`, `pair`.
    pub role: String,
}

/// An item as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Unique in the run.
    pub id: String,
    /// The stage that made it.
    pub stage: String,
    /// Its kind.
    pub kind: ItemKind,
    /// Its position among the stage's items of that kind.
    pub ordinal: u64,
    /// The prompt it belongs to.
    pub prompt_id: Option<String>,
    /// The principle it was made with.
    pub principle_id: Option<String>,
    /// The text.
    pub text: String,
    /// Other data of the item.
    pub data: Value,
    /// Hash of the content.
    pub sha256: String,
    /// Why later stages do not use it.
    pub dropped_reason: Option<String>,
}

/// How many items of a kind were dropped for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DropCount {
    /// Their kind.
    pub kind: ItemKind,
    /// Why they were dropped.
    pub reason: String,
    /// How many.
    pub count: u64,
}
