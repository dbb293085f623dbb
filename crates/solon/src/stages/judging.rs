//! Who judges a benchmark's answers, and how far that can be believed: the judge is first asked about answers whose labels are
//! known, then about each model's.
//!
//! Contract: what a judge replied is an item of its own, so nothing is asked twice and no answer is lost with it.

use super::asking;
use super::{Keys, Source};
use crate::cli::UsageError;
use crate::items::{About, Opinion};
use crate::judge::{Judge, JudgeName};
use crate::run::{Reader, StageRun};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use solon_data::ledger::{ItemKind, NewItem, TypedItem};
use solon_eval::judge::labels::{JudgeFigures, Labelled, labelled};
use solon_eval::{Answer, Benchmark, Item, Reply};

/// Who judges, where the benchmark has a judge, and on what that one is measured.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Judging {
    #[serde(skip_serializing_if = "Option::is_none")]
    judge: Option<JudgeName>,
    /// The folder that holds the labelled answers.
    #[serde(
        default,
        rename = "judge_labels",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::settings::labels"
    )]
    labels: Option<Source>,
    /// So many labelled answers of each set; 0 takes all.
    #[serde(rename = "judge_rows", skip_serializing_if = "Option::is_none")]
    rows: Option<usize>,
}

/// Labelled answers of each set that a judge is measured on, where nothing else is said.
const JUDGE_ROWS: usize = 100;

impl Judging {
    /// Takes its keys out of a stage's table.
    pub fn take(keys: &mut Keys) -> Result<Self, String> {
        let judging: Self = keys.take(&["judge", "judge_labels", "judge_rows"])?;
        if judging.judge.is_none() && (judging.labels.is_some() || judging.rows.is_some()) {
            return Err("`judge_labels` and `judge_rows` are about a judge\nhint: give `judge`".to_owned());
        }
        Ok(judging)
    }

    /// Opens the judge, where there is one, and measures it.
    pub fn open(&self, run: &mut StageRun<'_>) -> Result<Option<Judge>> {
        let Some(name) = &self.judge else { return Ok(None) };
        let judge = name.open(run.precision())?;
        self.measure(run, &judge)?;
        Ok(Some(judge))
    }

    /// Refuses a judge that is not asked, and a benchmark that measures nothing without one.
    pub fn check(&self, benchmark: &dyn Benchmark) -> Result<()> {
        let name = benchmark.name();
        let first = benchmark.items().first();
        let asks = first.is_none_or(|item| !benchmark.questions(&[], item, &Answer::default()).is_empty());
        match &self.judge {
            Some(_) if !asks => {
                let what = format!("{name} is judged by a rule\nhint: leave `judge` out");
                Err(UsageError(what).into())
            }
            None if benchmark.needs_judge() => {
                let what = format!(
                    "{name} needs a judge\nhint: give judge = \"local:MODEL\" or \"openai:NAME@URL\""
                );
                Err(UsageError(what).into())
            }
            _ => Ok(()),
        }
    }

    /// The labelled answers that the judge is measured on, where there are some.
    pub fn labelled(&self) -> Result<Vec<Labelled>> {
        let Some(labels) = &self.labels else { return Ok(Vec::new()) };
        let rows = self.rows.unwrap_or(JUDGE_ROWS);
        Ok(labelled(&labels.path, rows)?.unwrap_or_default())
    }

    /// Asks the judge about answers whose labels are known.
    fn measure(&self, run: &mut StageRun<'_>, judge: &Judge) -> Result<()> {
        let (name, slots, draws) = (run.name().to_owned(), run.slots(), run.draws());
        let id = |row: &Labelled| format!("{name}/judge/{}", row.id);
        run.in_chunks("labelled answers", &self.labelled()?, ItemKind::Label, id, |_, todo| {
            let asked: Vec<_> = todo.iter().map(|(_, row)| (row.id.clone(), row.question.clone())).collect();
            let replies = judge.ask(&asked, slots, draws)?;
            let items = todo.iter().zip(replies).map(|((place, row), reply)| {
                let about = About::Labelled { set: row.set.to_owned(), yes: row.yes };
                let data = Opinion { about, reply };
                Ok(NewItem::of(id(row), *place, if row.yes { "yes" } else { "no" }, &data)?)
            });
            items.collect()
        })
    }

    /// The judge, and how far it can be believed.
    pub fn figures(&self, read: &Reader<'_>) -> Result<Option<JudgeFigures>> {
        let Some(judge) = &self.judge else { return Ok(None) };
        let opinions: Vec<TypedItem<Opinion>> = read.own()?;
        let replies = opinions.iter().filter_map(|opinion| match &opinion.data.about {
            About::Labelled { set, yes } => Some((set.as_str(), *yes, &opinion.data.reply)),
            About::Answer { .. } => None,
        });
        Ok(Some(JudgeFigures::new(judge.name(), replies)))
    }

    /// Asks the judge about a column's answers, which are in the ledger.
    pub fn ask(
        &self,
        run: &mut StageRun<'_>,
        judge: &Judge,
        benchmark: &dyn Benchmark,
        column: &str,
        first: u64,
    ) -> Result<()> {
        let (name, slots, draws) = (run.name().to_owned(), run.slots(), run.draws());
        let answers = asking::earlier(&run.read(), column)?;
        let id = |item: &Item| format!("{name}/{column}/{}/judge", item.id);
        run.in_chunks("verdicts", benchmark.items(), ItemKind::Label, id, |_, todo| {
            let replies = asking::judged(benchmark, judge, todo, &answers, slots, draws)?;
            let items =
                todo.iter().zip(replies).filter_map(|((place, item), reply)| Some((place, item, reply?)));
            let items = items.map(|(place, item, reply)| {
                let about = About::Answer { model: column.to_owned(), item: item.id.clone() };
                let text = match &reply {
                    Reply::Said(text) => text.clone(),
                    other => serde_json::to_string(other)?,
                };
                let made = NewItem::of(id(item), first + place, text, &Opinion { about, reply })?;
                Ok(made.parent(format!("{name}/{column}/{}", item.id), "answer"))
            });
            items.collect()
        })
    }
}
