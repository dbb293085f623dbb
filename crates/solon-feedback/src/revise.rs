//! Critique and revision, one step at a time.
//!
//! Source: Bai et al. 2022, §3.1: for each item and round a principle is drawn, the answer is criticised by it, then
//! rewritten by it. The next round continues from the revision; in the paper's form it sees all rounds before. Only principles that are about the prompt's kind or
//! category are drawn: a critique by another says nothing.
//!
//! A small critic often leaves an answer as it is, or turns a helpful answer into a refusal. [`Checks::declines`] drops
//! such revisions before they are learnt.
//!
//! Contract: [`critique_round`] and [`revision_round`] are pure functions of their items, the model and the settings.
//! The record of an item does not depend on the other items of the slice. So a caller may cut a round into batches,
//! store each batch's records, and after an interruption ask only for the items that have none. [`apply_round`] then
//! applies the records to the items. An item that fails stops there: it keeps its last good revision, or, if it has
//! none, it is dropped with the reason.

mod asking;
mod faults;
mod records;

use std::collections::{HashMap, HashSet};

use crate::constitution::{About, Constitution, RevisionPrinciple, draw};
use crate::error::FeedbackError;
use crate::model::{FeedbackModel, GenerateRequest, Generated, generate};
use crate::paper::Link;
use solon_draws::Draws;

use asking::Asking;
pub use records::{
    Checks, CritiqueRecord, DropReason, Dropped, Outcome, ReviseItem, ReviseSettings, RevisionRecord,
    RoundCounts, Step,
};

/// The principle of an item's round, drawn by (key, item, round) and the weights among those about its prompt, whatever
/// other items the run has; `None` where no principle is about it. `draws` is the key in [`ReviseSettings`].
pub fn revision_principle_for<'a>(
    constitution: &'a Constitution,
    draws: Draws,
    item_id: &str,
    round: u32,
    about: About<'_>,
) -> Result<Option<&'a RevisionPrinciple>, FeedbackError> {
    if constitution.revision.is_empty() {
        return Err(FeedbackError::NothingToDraw {
            constitution: constitution.name.clone(),
            table: "revision",
            purpose: "criticise and revise answers",
        });
    }
    let fitting: Vec<&RevisionPrinciple> =
        constitution.revision.iter().filter(|principle| about.fits(&principle.applies)).collect();
    let weights: Vec<f64> = fitting.iter().map(|principle| principle.weight).collect();
    let draws = draws.item("principle").item(item_id).index(u64::from(round));
    Ok(draw(draws, 0, 0, &weights).map(|place| fitting[place]))
}

/// Critiques of the items that are still active, in their order. An item that no principle is about gets a dropped one. Where none
/// is asked for, the records only name the principles.
pub fn critique_round(
    model: &dyn FeedbackModel,
    constitution: &Constitution,
    items: &[ReviseItem],
    round: u32,
    settings: &ReviseSettings,
    checks: Checks<'_>,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<CritiqueRecord>, FeedbackError> {
    let asking = Asking::new(constitution, settings)?;
    let (mut requests, mut records, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    let mut asked = Vec::new();
    for item in items {
        if !seen.insert(&item.id) {
            return Err(FeedbackError::DuplicateId { id: item.id.clone(), what: "items" });
        }
        if item.stopped.is_some() {
            continue;
        }
        let principle = revision_principle_for(constitution, settings.draws, &item.id, round, item.about())?;
        let mut record = CritiqueRecord {
            id: format!("{}/round-{round}/critique", item.id),
            item_id: item.id.clone(),
            prompt_id: item.prompt_id.clone(),
            round,
            principle_id: String::new(),
            critique: String::new(),
            dropped: None,
        };
        match principle {
            Some(principle) => {
                if settings.critique.is_some() {
                    let context = asking.critique(principle, item)?;
                    requests.push(GenerateRequest { id: record.id.clone(), context, prefill: String::new() });
                    asked.push((records.len(), principle));
                }
                record.principle_id.clone_from(&principle.id);
            }
            None => {
                let detail = "no [[revision]] principle is about the prompt's kind or category".to_owned();
                record.dropped =
                    Some(Dropped { step: Step::Critique, reason: DropReason::NoPrinciple, detail });
            }
        }
        records.push(record);
    }
    let Some(sampling) = &settings.critique else { return Ok(records) };
    let sampling = asking.sampling(sampling);
    let answers = generate(model, &requests, &sampling, settings.draws.item("critique"), progress)?;
    for ((place, principle), answer) in asked.into_iter().zip(answers) {
        let record: &mut CritiqueRecord = &mut records[place];
        match answer.map(Generated::to_last_sentence) {
            Ok(answer) => {
                record.dropped = check(Step::Critique, &answer, principle, None, checks.fault);
                record.critique = answer.text.trim().to_string();
            }
            Err(missing) => record.dropped = Some(Dropped::unanswered(Step::Critique, missing)),
        }
    }
    Ok(records)
}

/// Revisions of the items whose critique of this round is good, in the items' order.
pub fn revision_round(
    model: &dyn FeedbackModel,
    constitution: &Constitution,
    items: &[ReviseItem],
    critiques: &[CritiqueRecord],
    round: u32,
    settings: &ReviseSettings,
    checks: Checks<'_>,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<RevisionRecord>, FeedbackError> {
    let asking = Asking::new(constitution, settings)?;
    let critiques = critiques_of(critiques, round);
    let (mut requests, mut records, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for item in items.iter().filter(|item| item.stopped.is_none()) {
        let critique = critique_of(&critiques, item, round)?;
        if critique.dropped.is_some() {
            continue;
        }
        let principle = constitution.revision_principle(&critique.principle_id).ok_or_else(|| {
            FeedbackError::UnknownPrinciple {
                item: critique.id.clone(),
                principle: critique.principle_id.clone(),
                constitution: constitution.name.clone(),
            }
        })?;
        let id = format!("{}/round-{round}/revision", item.id);
        let said = settings.critique.is_some().then_some(critique.critique.as_str());
        let context = asking.revision(principle, item, said)?;
        requests.push(GenerateRequest { id: id.clone(), context, prefill: String::new() });
        asked.push((item, principle));
        records.push(RevisionRecord {
            id,
            item_id: item.id.clone(),
            prompt_id: item.prompt_id.clone(),
            round,
            principle_id: principle.id.clone(),
            critique: critique.critique.clone(),
            revision: String::new(),
            dropped: None,
        });
    }
    let sampling = asking.sampling(&settings.revision);
    let answers = generate(model, &requests, &sampling, settings.draws.item("revision"), progress)?;
    for ((record, answer), (item, principle)) in records.iter_mut().zip(answers).zip(asked) {
        match answer.map(Generated::to_last_sentence) {
            Ok(answer) => {
                let text = answer.text.trim();
                record.dropped =
                    check(Step::Revision, &answer, principle, Some(&record.critique), checks.fault)
                        .or_else(|| misses(item, text, checks.declines?));
                record.revision = text.to_string();
            }
            Err(missing) => record.dropped = Some(Dropped::unanswered(Step::Revision, missing)),
        }
    }
    Ok(records)
}

/// Applies one round's records, new or read from the ledger, to the items. On an error nothing is changed.
pub fn apply_round(
    items: &mut [ReviseItem],
    round: u32,
    critiques: &[CritiqueRecord],
    revisions: &[RevisionRecord],
) -> Result<RoundCounts, FeedbackError> {
    let critiques = critiques_of(critiques, round);
    let revisions: HashMap<&str, &RevisionRecord> = (revisions.iter().filter(|record| record.round == round))
        .map(|record| (record.item_id.as_str(), record))
        .collect();
    let mut steps: Vec<(usize, Result<Link, Dropped>)> = Vec::new();
    for (place, item) in items.iter().enumerate().filter(|(_, item)| item.stopped.is_none()) {
        let result = match &critique_of(&critiques, item, round)?.dropped {
            Some(dropped) => Err(dropped.clone()),
            None => {
                let record = revisions.get(item.id.as_str()).ok_or_else(|| FeedbackError::MissingRecord {
                    id: item.id.clone(),
                    what: format!("revision of round {round}"),
                })?;
                let critique = (!record.critique.is_empty()).then(|| record.critique.clone());
                let (principle_id, revision) = (record.principle_id.clone(), record.revision.clone());
                record.dropped.clone().map_or_else(|| Ok(Link { principle_id, critique, revision }), Err)
            }
        };
        steps.push((place, result));
    }
    let mut counts = RoundCounts { entered: steps.len(), ..RoundCounts::default() };
    for (place, result) in steps {
        let item = &mut items[place];
        match result {
            Ok(link) => {
                counts.revised += 1;
                counts.unchanged += usize::from(item.answer().trim() == link.revision);
                item.revised = Some(link.revision.clone());
                item.rounds += 1;
                item.chain.push(link);
            }
            Err(dropped) => {
                *counts.reasons.entry(dropped.key()).or_default() += 1;
                *(if item.revised.is_some() { &mut counts.kept_earlier } else { &mut counts.lost }) += 1;
                item.stopped = Some(dropped);
            }
        }
    }
    Ok(counts)
}

fn critiques_of(records: &[CritiqueRecord], round: u32) -> HashMap<&str, &CritiqueRecord> {
    let of_round = records.iter().filter(|record| record.round == round);
    of_round.map(|record| (record.item_id.as_str(), record)).collect()
}

fn critique_of<'a>(
    critiques: &HashMap<&str, &'a CritiqueRecord>,
    item: &ReviseItem,
    round: u32,
) -> Result<&'a CritiqueRecord, FeedbackError> {
    critiques.get(item.id.as_str()).copied().ok_or_else(|| FeedbackError::MissingRecord {
        id: item.id.clone(),
        what: format!("critique of round {round}"),
    })
}

/// Why an answer cannot be used, if it cannot. The simplest reason is checked first.
fn check(
    step: Step,
    answer: &Generated,
    principle: &RevisionPrinciple,
    critique: Option<&str>,
    fault: &dyn Fn(&str) -> Option<String>,
) -> Option<Dropped> {
    let text = answer.text.trim();
    let dropped = |reason, detail| Some(Dropped { step, reason, detail });
    if text.is_empty() {
        return dropped(DropReason::Empty, "no text".into());
    }
    if answer.truncated {
        return dropped(DropReason::Truncated, "cut off at the token limit in its first sentence".into());
    }
    if let Some(detail) = fault(text) {
        return dropped(DropReason::Degenerate, detail);
    }
    if let Some(detail) = faults::repeats_instructions(text, principle) {
        return dropped(DropReason::RepeatsInstructions, detail);
    }
    if let Some(detail) = critique.and_then(|critique| faults::copies(text, critique)) {
        return dropped(DropReason::CopiesCritique, detail);
    }
    None
}

/// Why a revision must not be learnt, if it must not: it is the unrevised answer, or declines where it should not or the
/// other way round. Of a prompt whose kind is not known, nothing says whether to decline.
fn misses(item: &ReviseItem, revision: &str, declines: &dyn Fn(&str) -> bool) -> Option<Dropped> {
    let dropped =
        |reason, detail: &str| Some(Dropped { step: Step::Revision, reason, detail: detail.into() });
    if faults::nearly_equal(revision, &item.initial) {
        return dropped(DropReason::Unchanged, "nearly the same words as the unrevised answer");
    }
    match (item.kind.as_deref()?, declines(revision)) {
        ("harmful", false) => dropped(DropReason::Complies, "it does not decline a harmful request"),
        ("harmful", true) | (_, false) => None,
        (_, true) => dropped(DropReason::Refuses, "it declines a request that is not harmful"),
    }
}

#[cfg(test)]
mod tests;
