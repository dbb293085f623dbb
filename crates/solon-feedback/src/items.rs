//! Critiques and revisions as items of the ledger.

use solon_data::ledger::{ItemData, ItemKind};

use crate::{CritiqueRecord, RevisionRecord};

impl ItemData for CritiqueRecord {
    const KIND: ItemKind = ItemKind::Critique;
}

impl ItemData for RevisionRecord {
    const KIND: ItemKind = ItemKind::Revision;
}
