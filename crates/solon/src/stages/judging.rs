//! Who judges a benchmark's answers, and how far that can be believed: each judge is first asked about answers whose labels are
//! known, then about each model's.
//!
//! Contract: what a judge replied is an item of its own, so nothing is asked twice and no answer is lost with it. Two judges
//! are asked the same, each by itself; their figures stand side by side and are never made one.

use super::asking;
use super::{Keys, Source};
use crate::cli::UsageError;
use crate::items::{About, Opinion};
use crate::judge::{Judge, JudgeName};
use crate::run::{Reader, StageRun};
use anyhow::Result;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use solon_data::ledger::{ItemKind, NewItem, TypedItem};
use solon_eval::judge::both::JudgeAgreement;
use solon_eval::judge::labels::{JudgeFigures, Labelled, labelled};
use solon_eval::{Answer, Benchmark, Item, Reply};
use std::collections::BTreeMap;

/// Who judges, where the benchmark has a judge, and on what they are measured.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Judging {
    #[serde(
        default,
        rename = "judge",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "one_or_two",
        serialize_with = "as_given"
    )]
    judges: Vec<JudgeName>,
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

/// Reads one judge, or a list of two.
fn one_or_two<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<JudgeName>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a judge or a list of two")]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    let names = match Names::deserialize(deserializer)? {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    };
    match &names[..] {
        [_] => {}
        [first, second] if first != second => {}
        [first, _] => {
            return Err(D::Error::custom(format!("the judge `{first}` is named twice\nhint: name it once")));
        }
        names => {
            let what = format!("{} judges are named\nhint: give one, or two beside each other", names.len());
            return Err(D::Error::custom(what));
        }
    }
    names.into_iter().map(|name| JudgeName::read(name).map_err(D::Error::custom)).collect()
}

/// One judge as itself, so that settings and hashes of one are what they are without a second.
fn as_given<S: Serializer>(judges: &[JudgeName], serializer: S) -> Result<S::Ok, S::Error> {
    match judges {
        [judge] => judge.serialize(serializer),
        judges => judges.serialize(serializer),
    }
}

/// `judge` in the ids of what the judge in this place replied.
fn word(place: usize) -> String {
    if place == 0 { "judge".to_owned() } else { format!("judge-{}", place + 1) }
}

impl Judging {
    /// Takes its keys out of a stage's table.
    pub fn take(keys: &mut Keys) -> Result<Self, String> {
        let judging: Self = keys.take(&["judge", "judge_labels", "judge_rows"])?;
        if judging.judges.is_empty() && (judging.labels.is_some() || judging.rows.is_some()) {
            return Err("`judge_labels` and `judge_rows` are about a judge\nhint: give `judge`".to_owned());
        }
        Ok(judging)
    }

    /// The judges' names.
    pub fn names(&self) -> Vec<&str> {
        self.judges.iter().map(JudgeName::name).collect()
    }

    /// The folder of labelled answers.
    pub fn labels(&self) -> Option<&Source> {
        self.labels.as_ref()
    }

    /// Opens the judges, and measures each.
    pub fn open(&self, run: &mut StageRun<'_>) -> Result<Vec<Judge>> {
        let precision = run.precision();
        let judges: Vec<Judge> =
            self.judges.iter().map(|name| name.open(precision)).collect::<Result<_>>()?;
        for (place, judge) in judges.iter().enumerate() {
            self.measure(run, place, judge)?;
        }
        Ok(judges)
    }

    /// Refuses a judge that is not asked, and a benchmark that measures nothing without one.
    pub fn check(&self, benchmark: &dyn Benchmark) -> Result<()> {
        let name = benchmark.name();
        let first = benchmark.items().first();
        let asks = first.is_none_or(|item| !benchmark.questions(&[], item, &Answer::default()).is_empty());
        match &self.judges[..] {
            [_, ..] if !asks => {
                let what =
                    format!("{name} is judged by a rule\nhint: leave `judge` (--judge of `solon eval`) out");
                Err(UsageError(what).into())
            }
            [] if benchmark.needs_judge() => {
                let what = format!(
                    "{name} needs a judge\nhint: give `judge` (--judge of `solon eval`): local:MODEL, openai:NAME@URL or anthropic:NAME"
                );
                Err(UsageError(what).into())
            }
            _ => Ok(()),
        }
    }

    /// The labelled answers that a judge is measured on, where there are some.
    pub fn labelled(&self) -> Result<Vec<Labelled>> {
        let Some(labels) = &self.labels else { return Ok(Vec::new()) };
        let rows = self.rows.unwrap_or(JUDGE_ROWS);
        Ok(labelled(&labels.path, rows)?.unwrap_or_default())
    }

    /// Asks a judge about answers whose labels are known.
    fn measure(&self, run: &mut StageRun<'_>, judge: usize, asked: &Judge) -> Result<()> {
        let (name, slots, draws) = (run.name().to_owned(), run.slots(), run.draws());
        let word = word(judge);
        let id = |row: &Labelled| format!("{name}/{word}/{}", row.id);
        run.in_chunks("labelled answers", &self.labelled()?, ItemKind::Label, id, |_, todo| {
            let questions: Vec<_> =
                todo.iter().map(|(_, row)| (row.id.clone(), row.question.clone())).collect();
            let replies = asked.ask(&questions, slots, draws)?;
            let items = todo.iter().zip(replies).map(|((place, row), reply)| {
                let about = About::Labelled { set: row.set.to_owned(), yes: row.yes };
                let data = Opinion { judge, about, reply };
                Ok(NewItem::of(id(row), *place, if row.yes { "yes" } else { "no" }, &data)?)
            });
            items.collect()
        })
    }

    /// Each judge, and how far it can be believed.
    pub fn figures(&self, read: &Reader<'_>) -> Result<Vec<JudgeFigures>> {
        let opinions: Vec<TypedItem<Opinion>> = read.own()?;
        let judges = self.judges.iter().enumerate().map(|(place, judge)| {
            let own = opinions.iter().filter(|opinion| opinion.data.judge == place);
            let replies = own.filter_map(|opinion| match &opinion.data.about {
                About::Labelled { set, yes } => Some((set.as_str(), *yes, &opinion.data.reply)),
                About::Answer { .. } => None,
            });
            JudgeFigures::new(judge.name(), replies)
        });
        Ok(judges.collect())
    }

    /// How far two judges agree on the labelled answers; `None` where there are not two, or no such answers.
    pub fn agreement(&self, read: &Reader<'_>) -> Result<Option<JudgeAgreement>> {
        let opinions: Vec<TypedItem<Opinion>> = read.own()?;
        let mut verdicts: BTreeMap<String, [Option<usize>; 2]> = BTreeMap::new();
        for TypedItem { id, data, .. } in opinions {
            let answer = id.strip_prefix(&format!("{}/{}/", read.name(), word(data.judge)));
            if let (About::Labelled { .. }, Some(answer), 0..2) = (&data.about, answer, data.judge) {
                verdicts.entry(answer.to_owned()).or_default()[data.judge] =
                    data.reply.choice(&["yes", "no"]);
            }
        }
        let both = self.judges.len() == 2 && !verdicts.is_empty();
        Ok(both.then(|| JudgeAgreement::of(verdicts.into_values().map(|[first, second]| (first, second)))))
    }

    /// Asks a judge about a column's answers, which are in the ledger.
    pub fn ask(
        &self,
        run: &mut StageRun<'_>,
        judge: usize,
        asked: &Judge,
        benchmark: &dyn Benchmark,
        column: &str,
        first: u64,
    ) -> Result<()> {
        let (name, slots, draws) = (run.name().to_owned(), run.slots(), run.draws());
        let answers = asking::earlier(&run.read(), column)?;
        let word = word(judge);
        let id = |item: &Item| format!("{name}/{column}/{}/{word}", item.id);
        run.in_chunks("verdicts", benchmark.items(), ItemKind::Label, id, |_, todo| {
            let replies = asking::judged(benchmark, asked, todo, &answers, slots, draws)?;
            let items =
                todo.iter().zip(replies).filter_map(|((place, item), reply)| Some((place, item, reply?)));
            let items = items.map(|(place, item, reply)| {
                let about = About::Answer { model: column.to_owned(), item: item.id.clone() };
                let text = match &reply {
                    Reply::Said(text) => text.clone(),
                    other => serde_json::to_string(other)?,
                };
                let made = NewItem::of(id(item), first + place, text, &Opinion { judge, about, reply })?;
                Ok(made.parent(format!("{name}/{column}/{}", item.id), "answer"))
            });
            items.collect()
        })
    }
}
