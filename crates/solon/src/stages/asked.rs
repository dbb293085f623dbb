//! The pairs that a `label` stage asks about, known ones and those of its input, and how the ledger holds what came of each.

use super::label_report::known_pairs;
use crate::items::{Labelled, preference_text};
use crate::run::Reader;
use anyhow::Result;
use solon_data::ledger::NewItem;
use solon_feedback::{Ask, Constitution, HELD_OUT, Label, NoAnswer, whole_sentences};
use solon_records::Pair;
use std::collections::BTreeSet;

/// A pair to be labelled.
pub(super) struct Asked {
    pub pair: Pair,
    /// Its place among the stage's items.
    place: u64,
    /// Its id in the ledger; a worked example is no item.
    source: Option<String>,
    prompt_id: Option<String>,
    known: bool,
}

impl Asked {
    /// Its label's id in the ledger. A known pair may have the id of a pair of the input.
    pub fn id(&self, stage: &str) -> String {
        let known = if self.known { "#known" } else { "" };
        format!("{stage}{known}/{}", self.pair.id)
    }

    /// Its label as the ledger holds it: the preference with the likelier answer as `chosen`, and the raw label. A pair without a label is
    /// dropped, with the reason.
    pub fn item(
        &self,
        stage: &str,
        answer: Result<Label, NoAnswer>,
        source: &str,
        dropped: Option<&str>,
    ) -> Result<NewItem> {
        let (label, unlabelled) = match answer {
            Ok(label) => (Some(label), None),
            Err(missing) => (None, Some(missing)),
        };
        let missing = unlabelled.as_ref().map(|missing| format!("unlabelled: {}", missing.kind.name()));
        let principle = label.as_ref().and_then(|label| label.principle_id.clone());
        let evidence = label.iter().flat_map(|label| &label.evidence);
        let others: BTreeSet<String> =
            evidence.filter_map(|evidence| evidence.principle_id.clone()).collect();
        let probability = label.as_ref().map_or(0.5, |label| label.probability);
        let preference = self.pair.clone().labelled(probability, source);
        let text = preference_text(&preference);
        let (prompt_id, known) = (self.prompt_id.clone(), self.known);
        let labelled = Labelled { prompt_id, preference, label, unlabelled, known };
        let mut item = NewItem::of(self.id(stage), self.place, text, &labelled)?;
        let others = others.into_iter().filter(|other| principle.as_ref() != Some(other));
        for each in principle.clone().into_iter().chain(others) {
            item = item.parent(format!("principle/{each}"), "principle");
        }
        if let Some(source) = &self.source {
            item = item.parent(source.clone(), "pair");
        }
        item.prompt_id.clone_from(&self.prompt_id);
        item.principle_id = principle;
        item.dropped_reason = missing.or(dropped.map(str::to_owned));
        Ok(item)
    }
}

/// The pairs whose better answer is known, and those of the input, which come first among the items.
pub(super) fn asked(
    read: &Reader<'_>,
    constitution: &Constitution,
    ask: Ask,
) -> Result<(Vec<Asked>, Vec<Asked>)> {
    // Two stages may have sampled answers to the same prompts: then the pairs are told apart by their items' ids.
    let several = read.input("pairs").len() > 1;
    let pairs = (0..).zip(read.pairs("pairs")?).map(|(place, item)| Asked {
        place,
        pair: if several { Pair { id: item.id.clone(), ..item.data } } else { item.data },
        source: Some(item.id),
        prompt_id: item.prompt_id,
        known: false,
    });
    let pairs: Vec<Asked> = pairs.collect();
    let known = (pairs.len() as u64..).zip(known_pairs(read, constitution, ask)?).map(|(place, known)| {
        let source = known.contrast.then(|| known.known.pair.id.strip_suffix(HELD_OUT).map(str::to_owned));
        Asked { place, pair: known.known.pair, source: source.flatten(), prompt_id: None, known: true }
    });
    Ok((known.collect(), pairs))
}

/// A pair as it is shown: answers that were cut off up to their last whole sentence, as a labeller saw them while it learnt.
pub(super) fn shown(pair: &Pair) -> Pair {
    let shown = |text: &str, cut_off: bool| match cut_off {
        true => whole_sentences(text).to_owned(),
        false => text.to_owned(),
    };
    Pair {
        first: shown(&pair.first, pair.cut_off[0]),
        second: shown(&pair.second, pair.cut_off[1]),
        ..pair.clone()
    }
}
