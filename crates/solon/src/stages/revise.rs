//! `revise`: answers are criticised by a principle and rewritten, in rounds (Bai et al. 2022 §3). What comes out is each
//! answer's last good revision. The principle is drawn among those that are about the prompt's kind or category.

use super::replies::Replies;
use super::respond::fault;
use super::settings::{few_shots, is_chat};
use super::{Data, Input, Keys, Kind, OneOrMany, Stage};
use crate::adviser::{self, Adviser};
use crate::items::Answer;
use crate::judge::{JudgeLimits, JudgeName};
use crate::report::{self, Report};
use crate::run::{Reader, StageRun, safe_point};
use anyhow::Result;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, NewItem, TypedItem};
use solon_eval::{classify, declines};
use solon_feedback::{
    Checks, CritiqueRecord, DropReason, Form, NoAnswerKind, Outcome, ReviseItem, ReviseSettings,
    RevisionRecord, apply_round, critique_round, prompt_text, revision_round,
};
use solon_records::SamplingSettings;
use std::collections::BTreeMap;
use std::num::NonZeroU32;

pub const KIND: Kind = Kind {
    name: "revise",
    about: "Answers are criticised by a principle and revised.",
    parse,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Revise {
    /// The model that criticises and revises.
    #[serde(default, skip_serializing)]
    critic: OneOrMany,
    /// Another model that criticises and revises in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    judge: Option<JudgeName>,
    /// How it is asked where it is on a server, and what that may cost.
    #[serde(default, skip_serializing)]
    judge_limits: JudgeLimits,
    /// What is revised.
    #[serde(default, skip_serializing)]
    answers: OneOrMany,
    /// Rounds of critique and revision.
    #[serde(default = "one_round")]
    rounds: NonZeroU32,
    /// In which form the critic is asked.
    #[serde(default, skip_serializing_if = "is_chat")]
    form: Form,
    /// Whether the constitution's few-shots are put in front; where it is left out, with `form = "paper"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    few_shots: Option<bool>,
    /// How critiques are sampled; without them revisions are asked for directly.
    #[serde(deserialize_with = "critique")]
    critique: Option<SamplingSettings>,
    /// How revisions are sampled.
    #[serde(deserialize_with = "super::settings::sampling")]
    revision: SamplingSettings,
    /// Whether revisions are dropped that leave the answer as it was, comply with a harmful request or decline another.
    #[serde(default = "yes")]
    check: bool,
}

fn parse(keys: Keys) -> Result<Box<dyn Stage>, String> {
    let stage: Revise = keys.rest()?;
    let asks = (stage.form == Form::Paper, false);
    adviser::check(("critic", &stage.critic), stage.judge.as_ref(), &stage.judge_limits, asks)?;
    Ok(Box::new(stage))
}

/// Reads a table of sampling settings, or "none".
fn critique<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SamplingSettings>, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(none) if none == "none" => Ok(None),
        toml::Value::String(other) => {
            Err(D::Error::custom(format!("critique is {other:?}; give a sampling table or \"none\"")))
        }
        table => super::settings::sampling(table).map(Some).map_err(D::Error::custom),
    }
}

fn yes() -> bool {
    true
}

fn one_round() -> NonZeroU32 {
    NonZeroU32::MIN
}

impl Stage for Revise {
    fn inputs(&self) -> Vec<Input> {
        vec![
            adviser::input("critic", &self.critic, &[Data::Critic, Data::Model], self.judge.as_ref()),
            Input::required("answers", &self.answers, &[Data::Answers]),
        ]
    }

    fn output(&self) -> Data {
        Data::Answers
    }

    fn revises(&self) -> bool {
        true
    }

    fn needs_constitution(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let answers = run.read().answers("answers")?;
        let adviser = Adviser::open(run, "critic", self.judge.as_ref(), &self.judge_limits)?;
        let model = adviser.model(run.slots(), 1);
        let constitution = run.read().constitution()?.clone();
        let settings = ReviseSettings {
            draws: run.draws(),
            critique: self.critique.clone(),
            revision: self.revision.clone(),
            form: self.form,
            few_shots: few_shots(self.form, self.few_shots),
        };
        let checks = Checks { fault: &fault, declines: self.check.then_some(&declines) };
        let name = run.name().to_owned();
        // A chunk goes through all its rounds; what is recorded of it says that all are done.
        let id = |answer: &TypedItem<Answer>| format!("{name}/{}", answer.data.prompt_id);
        let there = replies(&run.read())?.settled(run, ItemKind::Response)?;
        run.in_chunks_beside("answers", &answers, &there, id, |_, todo| {
            let mut revised: Vec<ReviseItem> = todo
                .iter()
                .map(|(_, answer)| {
                    let Answer { prompt_id, prompt, kind, category, .. } = &answer.data;
                    ReviseItem::new(prompt_id.clone(), prompt_id.clone(), prompt.clone(), answer.text.clone())
                        .of(kind.clone(), category.clone())
                })
                .collect();
            let mut items = Vec::new();
            for round in 1..=self.rounds.get() {
                let critiques =
                    critique_round(&*model, &constitution, &revised, round, &settings, checks, &mut |_| {})?;
                let revisions = revision_round(
                    &*model,
                    &constitution,
                    &revised,
                    &critiques,
                    round,
                    &settings,
                    checks,
                    &mut |_| {},
                )?;
                let trail = Trail { stage: &name, todo, round };
                items.extend(critiques.iter().map(|c| trail.critique(c)).collect::<Result<Vec<_>>>()?);
                items.extend(revisions.iter().map(|r| trail.revision(r)).collect::<Result<Vec<_>>>()?);
                apply_round(&mut revised, round, &critiques, &revisions)?;
            }
            // What a stop left unasked is not recorded as dropped.
            safe_point()?;
            for ((place, answer), revised) in todo.iter().zip(&revised) {
                items.push(last_revision(&name, *place, answer, revised)?);
            }
            Ok(items)
        })?;
        let mut told = json!({"answers": answers.len(), "rounds": self.rounds, "dropped": run.drops()?});
        if self.form == Form::Paper || settings.few_shots {
            // Those that are messages are for chats alone.
            let in_chats =
                if self.form == Form::Chat { constitution.few_shots_for("critique-chat") } else { 0 };
            let shots = settings.few_shots.then(|| constitution.few_shots_for("critique") + in_chats);
            told["few_shots"] = json!(shots.unwrap_or_default());
        }
        replies(&run.read())?.tell(&mut told);
        adviser.tell(&name, &mut told);
        Ok(told)
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let first = read.own::<RevisionRecord>()?.into_iter().next();
        if let Some(revision) = first {
            report.trail.push(read.trail(&revision.id)?);
        }
        report.samples.extend(samples(read)?);
        report.warnings.extend(replies(read)?.warning(read));
        Ok(())
    }
}

/// What became of each answer that was asked about: where a round got no reply, that; else whether any was answered.
pub fn replies(read: &Reader<'_>) -> Result<Replies> {
    let critiques = read.own_with_dropped::<CritiqueRecord>()?.into_iter();
    let revisions = read.own_with_dropped::<RevisionRecord>()?.into_iter();
    // Where no critique is asked for, its record only names the principle.
    let critiques = critiques.filter(|item| item.data.dropped.is_some() || !item.data.critique.is_empty());
    let ended = critiques
        .map(|item| (item.data.item_id, item.data.dropped))
        .chain(revisions.map(|item| (item.data.item_id, item.data.dropped)));
    let mut answers: BTreeMap<String, Vec<Option<DropReason>>> = BTreeMap::new();
    for (answer, dropped) in ended {
        let reason = dropped.map(|dropped| dropped.reason);
        if reason != Some(DropReason::NoPrinciple) {
            answers.entry(format!("{}/{answer}", read.name())).or_default().push(reason);
        }
    }
    Ok(Replies::of(answers.into_iter().map(|(answer, rounds)| {
        let reason = match &rounds[..] {
            rounds if rounds.contains(&Some(DropReason::NoReply)) => Some(NoAnswerKind::NoReply),
            rounds if rounds.iter().all(|reason| *reason == Some(DropReason::RefusedByServer)) => {
                Some(NoAnswerKind::Refused)
            }
            _ => None,
        };
        (answer, reason)
    })))
}

/// Revised answers that the report shows, evenly spaced.
const SHOWN: usize = 24;

/// Some answers with what became of them: each round's principle, critique and revision.
fn samples(read: &Reader<'_>) -> Result<Vec<report::Sample>> {
    let answers = read.answers("answers")?;
    let mut revised: BTreeMap<String, TypedItem<Answer>> = BTreeMap::new();
    for item in read.own_with_dropped::<Answer>()? {
        revised.insert(item.data.prompt_id.clone(), item);
    }
    let mut revisions: BTreeMap<(String, u32), TypedItem<RevisionRecord>> = BTreeMap::new();
    for item in read.own_with_dropped::<RevisionRecord>()? {
        revisions.insert((item.data.item_id.clone(), item.data.round), item);
    }
    // A critique that was dropped has no revision.
    let mut rounds: BTreeMap<String, Vec<report::Round>> = BTreeMap::new();
    for item in read.own_with_dropped::<CritiqueRecord>()? {
        let CritiqueRecord { item_id, round, principle_id, critique, .. } = item.data;
        let asks = read.find(&format!("principle/{principle_id}"))?.map(|principle| principle.text);
        let revision = revisions.remove(&(item_id.clone(), round));
        let (revision, dropped) =
            revision.map(|item| (item.data.revision, item.dropped_reason)).unwrap_or_default();
        rounds.entry(item_id).or_default().push(report::Round {
            principle: principle_id,
            asks: asks.unwrap_or_default(),
            critique,
            revision,
            dropped: item.dropped_reason.or(dropped),
        });
    }
    let shown = SHOWN.min(answers.len());
    let chosen = (0..shown).map(|n| &answers[n * answers.len() / shown]);
    let samples = chosen.filter_map(|before| {
        let Answer { prompt_id, prompt, category, .. } = &before.data;
        let after = revised.get(prompt_id)?;
        let answer = |column: &str, text: &str| report::Answer {
            column: column.to_owned(),
            text: text.to_owned(),
            verdict: classify(text).name().to_owned(),
        };
        let mut answers = vec![answer("first answer", &before.text)];
        // Where no revision was good enough, the item still holds the first answer.
        if after.dropped_reason.is_none() {
            answers.push(answer("after revision", &after.text));
        }
        Some(report::Sample {
            id: after.id.clone(),
            kind: "Critiques and revisions".to_owned(),
            category: category.clone().unwrap_or_default(),
            prompt: prompt_text(prompt),
            answers,
            rounds: rounds.remove(prompt_id).unwrap_or_default(),
        })
    });
    Ok(samples.collect())
}

/// What the records of a chunk's round were made from.
struct Trail<'a> {
    stage: &'a str,
    todo: &'a [(u64, &'a TypedItem<Answer>)],
    round: u32,
}

impl Trail<'_> {
    fn critique(&self, record: &CritiqueRecord) -> Result<NewItem> {
        let (stage, round) = (self.stage, self.round);
        let found = self.todo.iter().find(|(_, answer)| answer.data.prompt_id == record.item_id);
        let before = match round {
            1 => found.map(|(_, answer)| answer.id.clone()),
            _ => Some(format!("{stage}/{}/{}", record.item_id, round - 1)),
        };
        let place = found.map_or(0, |(place, _)| *place);
        let id = format!("{stage}/{}/{round}/critique", record.item_id);
        let mut item = NewItem::of(id, ordinal(round, place), &record.critique, record)?;
        if !record.principle_id.is_empty() {
            item = item.parent(format!("principle/{}", record.principle_id), "principle");
            item.principle_id = Some(record.principle_id.clone());
        }
        if let Some(before) = before {
            item = item.parent(before, "answer");
        }
        item.prompt_id = Some(record.prompt_id.clone());
        item.dropped_reason = record.dropped.as_ref().map(|dropped| dropped.key());
        Ok(item)
    }

    fn revision(&self, record: &RevisionRecord) -> Result<NewItem> {
        let (stage, round) = (self.stage, self.round);
        let found = self.todo.iter().find(|(_, answer)| answer.data.prompt_id == record.item_id);
        let place = found.map_or(0, |(place, _)| *place);
        let id = format!("{stage}/{}/{round}", record.item_id);
        let mut item = NewItem::of(id, ordinal(round, place), &record.revision, record)?
            .parent(format!("{stage}/{}/{round}/critique", record.item_id), "critique");
        item.prompt_id = Some(record.prompt_id.clone());
        item.principle_id = Some(record.principle_id.clone());
        item.dropped_reason = record.dropped.as_ref().map(|dropped| dropped.key());
        Ok(item)
    }
}

fn ordinal(round: u32, place: u64) -> u64 {
    u64::from(round) * 1_000_000 + place
}

/// An answer after all rounds: its last good revision, or dropped with the reason why there is none.
fn last_revision(
    stage: &str,
    place: u64,
    answer: &TypedItem<Answer>,
    revised: &ReviseItem,
) -> Result<NewItem> {
    let id = format!("{stage}/{}", revised.id);
    let data = Answer { cut_off: false, ..answer.data.clone() };
    let mut item = match revised.outcome() {
        Outcome::Revised(text) => NewItem::of(id, place, text, &data)?
            .parent(format!("{stage}/{}/{}", revised.id, revised.rounds), "revision"),
        _ => NewItem::of(id, place, &revised.initial, &data)?.parent(answer.id.clone(), "answer"),
    };
    item.prompt_id = answer.prompt_id.clone();
    item.dropped_reason = match revised.outcome() {
        Outcome::Revised(_) => None,
        Outcome::Dropped(dropped) => Some(dropped.key()),
        Outcome::Untouched => Some("not revised".to_owned()),
    };
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_feedback::Constitution;

    /// The critic learns from the worked examples: their revisions must pass the check that its own go through.
    #[test]
    fn worked_examples_pass_the_check_of_revisions() {
        let constitution = Constitution::open("../../constitutions/default.toml".as_ref()).unwrap();
        let failing: Vec<&str> = (constitution.example.iter())
            .filter(|example| declines(&example.revision) != (example.kind == "harmful"))
            .map(|example| example.id.as_str())
            .collect();
        assert_eq!(failing, [""; 0]);
    }
}
