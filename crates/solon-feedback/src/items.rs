//! Labels, critiques and revisions as items of the ledger.

use solon_data::ledger::{ItemData, ItemKind};

use crate::{CritiqueRecord, Label, RevisionRecord};

impl ItemData for Label {
    const KIND: ItemKind = ItemKind::Label;
}

impl ItemData for CritiqueRecord {
    const KIND: ItemKind = ItemKind::Critique;
}

impl ItemData for RevisionRecord {
    const KIND: ItemKind = ItemKind::Revision;
}
