//! `measure`: how far a labeller agrees with people, on sets of pairs that people have judged. Each way of asking is measured by itself,
//! and the ways against each other.

use super::replies::Replies;
use super::settings::is_chat;
use super::{Data, Input, Keys, Kind, OneOrMany, Preflight, Source, Stage};
use crate::adviser::{self, Adviser, LABELLERS};
use crate::cli::UsageError;
use crate::items::{Measured, Outcome};
use crate::judge::{JudgeLimits, JudgeName};
use crate::report::Report;
use crate::run::{Reader, StageRun, safe_point};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_data::ledger::{ItemKind, NewItem, TypedItem};
use solon_eval::Rate;
use solon_feedback::{
    Ask, ChoiceRequest, Form, JudgeReport, KnownItem, KnownLabel, KnownPair, KnownQuestion, KnownSet,
    LabelSettings, label_pairs, read_known_set,
};
use solon_records::Pair;
use solon_stats::cohens_kappa_of;
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Instant;

pub const KIND: Kind = Kind {
    name: "measure",
    about: "How far a labeller agrees with people, on pairs that people have judged.",
    parse,
    files: || vec!["data"],
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Measure {
    /// The model that labels.
    #[serde(default, skip_serializing)]
    labeller: OneOrMany,
    /// Another model that labels in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    judge: Option<JudgeName>,
    /// How it is asked where it is on a server, and what that may cost.
    #[serde(default, skip_serializing)]
    judge_limits: JudgeLimits,
    /// The files of pairs that people have judged.
    data: Vec<Source>,
    /// How it is asked, one after the other.
    #[serde(default = "choice")]
    ask: Vec<Ask>,
    /// In which form it is asked about pairs, and with few-shots in the paper's.
    #[serde(default, skip_serializing_if = "is_chat")]
    form: Form,
    /// So many items of each file, evenly spaced; 0 takes all.
    #[serde(default = "hundred")]
    rows: usize,
    /// How many principles a pair is judged by, where the way of asking does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principles: Option<NonZeroUsize>,
    /// Votes on a question where a server shows no log-probs.
    #[serde(default = "five")]
    votes: NonZeroU32,
}

fn choice() -> Vec<Ask> {
    vec![Ask::Choice]
}

fn hundred() -> usize {
    100
}

fn five() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(4)
}

fn parse(keys: Keys) -> Result<Box<dyn Stage>, String> {
    let stage: Measure = keys.rest()?;
    if stage.data.is_empty() || stage.ask.is_empty() {
        return Err("`data` names no file, or `ask` no way of asking\nhint: give one at least".to_owned());
    }
    let ways: BTreeSet<&str> = stage.ask.iter().map(|ask| ask.name()).collect();
    if ways.len() < stage.ask.len() {
        return Err("`ask` names a way of asking twice\nhint: name it once".to_owned());
    }
    let asks = (stage.form == Form::Paper, stage.ask.iter().any(|ask| ask.scores_answers()));
    adviser::check(("labeller", &stage.labeller), stage.judge.as_ref(), &stage.judge_limits, asks)?;
    if let Some(ask) = stage.ask.iter().find(|ask| !ask.has(stage.form)) {
        return Err(format!(
            "ask = \"{}\" has no form of the paper, in which two answers are compared\nhint: leave it out",
            ask.name()
        ));
    }
    Ok(Box::new(stage))
}

impl Stage for Measure {
    fn inputs(&self) -> Vec<Input> {
        vec![adviser::input("labeller", &self.labeller, &LABELLERS, self.judge.as_ref())]
    }

    fn output(&self) -> Data {
        Data::Measured
    }

    fn needs_constitution(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        let labeller = (preflight.inputs)("labeller").first().and_then(|stage| stage.ask());
        if labeller == Some(Ask::Reward) && self.ask != [Ask::Reward] {
            let what = "the labeller is a reward model, which answers no question\nhint: ask = [\"reward\"]";
            return Err(UsageError(what.to_owned()).into());
        }
        if self.principles.is_some() && self.ask == [Ask::Reward] {
            let what =
                "`principles` is about questions, and a reward model is asked none\nhint: leave it out";
            return Err(UsageError(what.to_owned()).into());
        }
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let sets = self.sets()?;
        let adviser = Adviser::open(run, "labeller", self.judge.as_ref(), &self.judge_limits)?;
        let constitution = run.read().constitution()?.clone();
        let (name, draws) = (run.name().to_owned(), run.draws());
        let there = replies(&run.read())?.settled(run, ItemKind::Label)?;
        let mut seconds: BTreeMap<String, f64> = BTreeMap::new();
        for set in &sets {
            let pairs: Vec<&KnownPair> = set.items.iter().filter_map(pair).collect();
            for &ask in if pairs.is_empty() { &[][..] } else { &self.ask } {
                let mut settings = LabelSettings::of(ask, draws);
                if self.form == Form::Paper {
                    settings = settings.as_in_the_paper();
                }
                settings.principles = self.principles.unwrap_or(settings.principles);
                let model = adviser.labeller(ask, run.slots(), self.votes.get())?;
                let started = Instant::now();
                let id = |known: &&KnownPair| format!("{name}/{}/{}/{}", set.name, ask.name(), known.pair.id);
                run.in_chunks_beside("pairs", &pairs, &there, id, |_, todo| {
                    let shown: Vec<Pair> = todo.iter().map(|(_, known)| known.pair.clone()).collect();
                    let labels = label_pairs(&*model, &constitution, &shown, &settings, &mut |_| {})?;
                    safe_point()?;
                    let items = todo.iter().zip(labels).map(|((place, known), label)| {
                        let outcome = match label {
                            Ok(label) => Outcome::Label { label, first_is_better: known.first_is_better },
                            Err(missing) => Outcome::Missing(missing),
                        };
                        item(id(known), *place, &set.name, Some(ask), outcome)
                    });
                    items.collect()
                })?;
                seconds.insert(format!("{}/{}", set.name, ask.name()), started.elapsed().as_secs_f64());
            }
            let questions: Vec<&KnownQuestion> = set.items.iter().filter_map(question).collect();
            let model = adviser.model(run.slots(), self.votes.get());
            let id = |question: &&KnownQuestion| format!("{name}/{}/{}", set.name, question.id);
            run.in_chunks_beside("questions", &questions, &there, id, |_, todo| {
                let requests = todo.iter().map(|(_, question)| ChoiceRequest {
                    id: question.id.clone(),
                    about: question.id.clone(),
                    context: question.messages.clone().into(),
                    options: question.options.clone(),
                    whole: false,
                    cut_off: Vec::new(),
                });
                let scores = model.choose(&requests.collect::<Vec<_>>(), &mut |_| {})?;
                safe_point()?;
                let items = todo.iter().zip(scores).map(|((place, question), scores)| {
                    let outcome = match scores {
                        Ok(scores) => Outcome::Question {
                            log_probs: scores.log_probs,
                            votes: scores.votes,
                            right: question.right,
                        },
                        Err(missing) => Outcome::Missing(missing),
                    };
                    item(id(question), *place, &set.name, None, outcome)
                });
                items.collect()
            })?;
        }
        let mut told = json!({"sets": self.figures(&run.read())?, "seconds_of_this_attempt": seconds});
        replies(&run.read())?.tell(&mut told);
        adviser.tell(&name, &mut told);
        Ok(told)
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        report.warnings.extend(replies(read)?.warning(read));
        Ok(())
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        let measured = summary.entry("measured").or_insert_with(|| json!({}));
        measured[read.name()] = json!(self.figures(read)?);
        Ok(())
    }
}

fn replies(read: &Reader<'_>) -> Result<Replies> {
    let items = read.own::<Measured>()?.into_iter();
    Ok(Replies::of(items.map(|item| match item.data.outcome {
        Outcome::Missing(missing) => (item.id, Some(missing.kind)),
        Outcome::Label { .. } | Outcome::Question { .. } => (item.id, None),
    })))
}

fn pair(item: &KnownItem) -> Option<&KnownPair> {
    match item {
        KnownItem::Pair(known) => Some(known),
        KnownItem::Question(_) => None,
    }
}

fn question(item: &KnownItem) -> Option<&KnownQuestion> {
    match item {
        KnownItem::Pair(_) => None,
        KnownItem::Question(question) => Some(question),
    }
}

/// What was found, as the ledger holds it.
fn item(id: String, place: u64, set: &str, ask: Option<Ask>, outcome: Outcome) -> Result<NewItem> {
    let text = match &outcome {
        Outcome::Label { label, first_is_better } => {
            format!(
                "P(first is better) = {:.3}; the first is {}",
                label.probability,
                if *first_is_better { "better" } else { "worse" }
            )
        }
        Outcome::Question { log_probs, right, .. } => format!("log-probs {log_probs:.3?}; right is {right}"),
        Outcome::Missing(missing) => missing.to_string(),
    };
    let principle = match &outcome {
        Outcome::Label { label, .. } => label.principle_id.clone(),
        Outcome::Question { .. } | Outcome::Missing(_) => None,
    };
    let mut item = NewItem::of(id, place, text, &Measured { set: set.to_owned(), ask, outcome })?;
    if let Some(principle) = principle {
        item = item.parent(format!("principle/{principle}"), "principle");
        item.principle_id = Some(principle);
    }
    Ok(item)
}

/// What was measured on a set.
#[derive(Serialize)]
pub struct SetFigures {
    /// Its name.
    pub set: String,
    /// Its items that were asked about.
    pub items: usize,
    /// Rows of the file that are left out, by the reason.
    pub left_out: BTreeMap<&'static str, usize>,
    /// The share that guessing gets right.
    pub chance: f64,
    /// By each way of asking; questions with options have one, `options`.
    pub ways: Vec<WayFigures>,
    /// Agreement of two ways of asking beyond chance, by their names.
    pub kappa_between: BTreeMap<String, Option<f64>>,
}

/// What was measured of one way of asking.
#[derive(Serialize)]
pub struct WayFigures {
    /// The way.
    pub ask: String,
    /// How often it is right. What has no label counts as neither.
    pub accuracy: Rate,
    /// Items without a label, by the kind of reason.
    pub unlabelled: BTreeMap<String, usize>,
    /// The judge report; of pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<JudgeReport>,
}

impl Measure {
    fn sets(&self) -> Result<Vec<KnownSet>> {
        let mut sets: Vec<KnownSet> = Vec::new();
        for source in &self.data {
            let set = read_known_set(&source.path)?.spread(self.rows);
            if self.form == Form::Paper && set.items.iter().any(|item| question(item).is_some()) {
                bail!("{}: its questions have no form of the paper\nhint: leave `form` out", set.name);
            }
            if self.ask.contains(&Ask::Reward) && set.items.iter().any(|item| question(item).is_some()) {
                bail!("{}: a reward model answers no questions\nhint: leave the file out", set.name);
            }
            if sets.iter().any(|other| other.name == set.name) {
                bail!("two files are called {}\nhint: rename one of them", set.name);
            }
            sets.push(set);
        }
        Ok(sets)
    }

    fn figures(&self, read: &Reader<'_>) -> Result<Vec<SetFigures>> {
        let items: Vec<TypedItem<Measured>> = read.own()?;
        let figures = self.sets()?.into_iter().map(|set| {
            let of_set: Vec<&Measured> =
                items.iter().map(|item| &item.data).filter(|item| item.set == set.name).collect();
            let mut ways: Vec<WayFigures> = Vec::new();
            let mut said: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
            for ask in self.ask.iter().copied().map(Some).chain([None]) {
                let of_way: Vec<&Outcome> =
                    of_set.iter().filter(|item| item.ask == ask).map(|item| &item.outcome).collect();
                if of_way.is_empty() {
                    continue;
                }
                if let Some(ask) = ask {
                    let labels = of_way.iter().filter_map(|outcome| match outcome {
                        Outcome::Label { label, .. } => {
                            Some((label.pair_id.as_str(), label.probability > 0.5))
                        }
                        _ => None,
                    });
                    said.insert(ask.name(), labels.collect());
                }
                ways.push(way(ask, &of_way));
            }
            let mut kappa_between = BTreeMap::new();
            for (place, (one, of_one)) in said.iter().enumerate() {
                for (other, of_other) in said.iter().skip(place + 1) {
                    let both: Vec<(bool, bool)> =
                        of_one.iter().filter_map(|(id, first)| Some((*first, *of_other.get(id)?))).collect();
                    kappa_between.insert(format!("{one}, {other}"), cohens_kappa_of(&both));
                }
            }
            let (items, chance) = (set.items.len(), set.chance());
            SetFigures { set: set.name, items, left_out: set.left_out, chance, ways, kappa_between }
        });
        Ok(figures.collect())
    }
}

/// What the outcomes of one way of asking add up to.
fn way(ask: Option<Ask>, outcomes: &[&Outcome]) -> WayFigures {
    let (mut known, mut right, mut unlabelled) = (Vec::new(), Vec::new(), BTreeMap::new());
    for outcome in outcomes {
        match outcome {
            Outcome::Label { label, first_is_better } => {
                let label = KnownLabel { label: label.clone(), first_is_better: *first_is_better };
                right.push(label.is_right());
                known.push(label);
            }
            Outcome::Question { log_probs, right: place, .. } => {
                let best = log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                // A tie is no choice.
                let chosen: Vec<usize> = (0..log_probs.len()).filter(|at| log_probs[*at] == best).collect();
                right.push(chosen == [*place]);
            }
            Outcome::Missing(missing) => {
                *unlabelled.entry(missing.kind.name().to_owned()).or_default() += 1;
            }
        }
    }
    let report = ask.map(|_| JudgeReport::new(&known, unlabelled.values().sum(), &[]));
    let ask = ask.map_or("options", Ask::name).to_owned();
    WayFigures { ask, accuracy: Rate::of(right), unlabelled, report }
}
