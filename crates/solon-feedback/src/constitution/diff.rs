//! What changed from one constitution to another.
//!
//! Contract: entries are matched by table and id; those that are left are matched by their text, so that a new id alone is a
//! change and not a removal with an addition. Where nothing is listed, both have the same content and the same hash.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

use super::Constitution;
use super::content::Entry;
use crate::FeedbackError;

/// The tables, in the order of a file.
const TABLES: [&str; 5] = ["revision", "comparison", "example", "few_shot", "prompt"];

/// The differences between two constitutions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConstitutionDiff {
    /// The first one.
    pub first: Side,
    /// The second one.
    pub second: Side,
    /// Whether all entries are equal and in the same order.
    pub same_content: bool,
    /// Tables whose entries differ.
    pub tables: Vec<TableDiff>,
}

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// What it is for.
    pub description: String,
    /// SHA-256 of its content.
    pub sha256: String,
}

/// What changed in a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableDiff {
    /// `revision`, `comparison`, `example`, `few_shot` or `prompt`.
    pub table: &'static str,
    /// Entries of the second one only.
    pub added: Vec<Entry>,
    /// Entries of the first one only.
    pub removed: Vec<Entry>,
    /// Entries of both that differ.
    pub changed: Vec<Changed>,
    /// Whether entries of both stand in another order. What is drawn depends on it.
    pub reordered: bool,
}

/// An entry that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// Its id in the first one.
    pub id: String,
    /// Its fields that differ. `id` is among them if it was matched by its text.
    pub fields: Vec<FieldChange>,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldChange {
    /// Its name.
    pub field: String,
    /// Its value in the first one; null where it is left out.
    pub before: Value,
    /// Its value in the second one; null where it is left out.
    pub after: Value,
}

impl ConstitutionDiff {
    /// Compares `second` with `first`.
    pub fn of(first: &Constitution, second: &Constitution) -> Result<Self, FeedbackError> {
        let side = |constitution: &Constitution| {
            Ok::<_, FeedbackError>(Side {
                name: constitution.name.clone(),
                version: constitution.version,
                description: constitution.description.clone(),
                sha256: constitution.sha256()?,
            })
        };
        let (before, after) = (first.entries()?, second.entries()?);
        let tables = TABLES.into_iter().map(|table| {
            let of = |entries: &[Entry]| -> Vec<Entry> {
                entries.iter().filter(|entry| entry.table == table).cloned().collect()
            };
            table_diff(table, &of(&before), &of(&after))
        });
        Ok(Self {
            first: side(first)?,
            second: side(second)?,
            same_content: before == after,
            tables: tables.flatten().collect(),
        })
    }
}

/// The differences of one table; `None` where there are none.
fn table_diff(table: &'static str, before: &[Entry], after: &[Entry]) -> Option<TableDiff> {
    let partners = partners(before, after);
    let taken: HashMap<usize, usize> =
        partners.iter().enumerate().filter_map(|(place, partner)| Some(((*partner)?, place))).collect();
    let changed: Vec<Changed> = (before.iter().zip(&partners))
        .filter_map(|(entry, partner)| {
            let fields = field_changes(entry, &after[(*partner)?]);
            (!fields.is_empty()).then(|| Changed { id: entry.id().to_owned(), fields })
        })
        .collect();
    let removed: Vec<Entry> = (before.iter().zip(&partners))
        .filter(|(_, partner)| partner.is_none())
        .map(|(entry, _)| entry.clone())
        .collect();
    let added: Vec<Entry> = (after.iter().enumerate())
        .filter(|(place, _)| !taken.contains_key(place))
        .map(|(_, entry)| entry.clone())
        .collect();
    let reordered = !partners.iter().flatten().is_sorted();
    let differs = reordered || !(changed.is_empty() && removed.is_empty() && added.is_empty());
    differs.then_some(TableDiff { table, added, removed, changed, reordered })
}

/// For each entry of `before`, the place of its partner in `after`: the one with its id, else the one with its text that
/// no id has claimed.
fn partners(before: &[Entry], after: &[Entry]) -> Vec<Option<usize>> {
    let by_id: HashMap<&str, usize> =
        after.iter().enumerate().map(|(place, entry)| (entry.id(), place)).collect();
    let mut partners: Vec<Option<usize>> =
        before.iter().map(|entry| by_id.get(entry.id()).copied()).collect();
    let mut by_text: HashMap<String, Vec<usize>> = HashMap::new();
    // In reverse, so that the earliest of several is taken first.
    for place in (0..after.len()).rev().filter(|place| !partners.contains(&Some(*place))) {
        by_text.entry(said(&after[place])).or_default().push(place);
    }
    for (entry, partner) in before.iter().zip(&mut partners).filter(|(_, partner)| partner.is_none()) {
        *partner = by_text.get_mut(&said(entry)).and_then(Vec::pop);
    }
    partners
}

/// What an entry says: all but its id, what it is about, its weight, and the ids that it names.
fn said(entry: &Entry) -> String {
    let texts =
        entry.texts().into_iter().filter(|(field, _)| !matches!(*field, "id" | "applies" | "principle"));
    texts.map(|(field, text)| format!("{field}: {}\n", text.trim())).collect()
}

fn field_changes(before: &Entry, after: &Entry) -> Vec<FieldChange> {
    let new = after.fields.keys().filter(|field| !before.fields.contains_key(*field));
    let value = |entry: &Entry, field: &str| entry.fields.get(field).cloned().unwrap_or_default();
    (before.fields.keys().chain(new))
        .map(|field| FieldChange {
            field: field.clone(),
            before: value(before, field),
            after: value(after, field),
        })
        .filter(|change| change.before != change.after)
        .collect()
}
