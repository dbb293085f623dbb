//! `evaluate`: models answer a benchmark's items, and the answers are judged. Each answer is an item of the ledger.

use super::asking::{self, Asking};
use super::evaluation_report::Shown;
use super::judging::Judging;
use super::{BASE, Column, Data, Input, Keys, Kind, Missing, OneOrMany, Preflight, Source, Stage};
use crate::feedback_model::LocalModel;
use crate::items::{About, Evaluated, Moved, Opinion};
use crate::report::{self, Report};
use crate::run::{Model, Reader, StageRun};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_data::ledger::{ItemKind, TypedItem};
use solon_eval::benchmarks;
use solon_eval::judge::both::{JudgeAgreement, agreement};
use solon_eval::{
    Answer, Benchmark, Comparison, Item, Judged, Mean, Measure, Reply, Summary, compare, summarise,
};
use solon_infer::chat::ChatModel;
use solon_infer::divergence::{Policy, answer_divergences};
use solon_infer::score::ScoreItem;
use std::collections::BTreeMap;

pub const KIND: Kind = Kind {
    name: "evaluate",
    about: "Models are put to a benchmark, and their answers are judged.",
    parse: Evaluate::parse,
    files: || {
        ["data", "judge_labels"]
            .into_iter()
            .chain(benchmarks::ALL.iter().flat_map(|known| known.files).copied())
            .collect()
    },
};

#[derive(Serialize)]
struct Evaluate {
    /// The models that answer: a column each. Left out: the base model and every model trained so far.
    #[serde(skip)]
    models: OneOrMany,
    /// The benchmark's prompts, where it asks prompts.
    #[serde(skip)]
    prompts: OneOrMany,
    /// Which benchmark, and how.
    #[serde(flatten)]
    asking: Asking,
    #[serde(flatten)]
    judging: Judging,
}

/// The keys of every benchmark; the others are the benchmark's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shared {
    #[serde(default = "asking::safety")]
    benchmark: String,
    #[serde(default)]
    models: OneOrMany,
    #[serde(default)]
    prompts: OneOrMany,
    #[serde(default, deserialize_with = "super::settings::data")]
    data: Option<Source>,
}

impl Evaluate {
    fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
        let Shared { benchmark, models, prompts, data } =
            keys.take(&["benchmark", "models", "prompts", "data"])?;
        let judging = Judging::take(&mut keys)?;
        let asking = Asking::new(&benchmark, data, !prompts.is_empty(), keys.rest()?)?;
        Ok(Box::new(Self { models, prompts, asking, judging }))
    }
}

impl Stage for Evaluate {
    fn inputs(&self) -> Vec<Input> {
        let models = (&self.models).into();
        vec![
            Input { key: "models", names: models, accepts: &[Data::Model], missing: Missing::Everything },
            match self.asking.over_prompts() {
                true => Input::required("prompts", &self.prompts, &[Data::Prompts]),
                false => Input::optional("prompts", &self.prompts, &[Data::Prompts]),
            },
        ]
    }

    fn output(&self) -> Data {
        Data::Evaluation
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn measures(&self) -> Result<&'static [Measure]> {
        // What is measured depends on the settings, and on no prompt.
        Ok(self.asking.open(Vec::new())?.measures())
    }

    fn measured(&self, prompts: &[&dyn Stage]) -> Result<Vec<String>> {
        self.asking.texts(prompts)
    }

    fn measures_on(&self) -> Vec<&Source> {
        self.asking.data().into_iter().chain(self.judging.labels()).collect()
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        for model in (preflight.names)("models") {
            asking::check_unseen(preflight, &model)?;
        }
        if let Some(benchmark) = self.asking.open_before(preflight)? {
            self.judging.check(&*benchmark)?;
        }
        self.judging.labelled()?;
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let benchmark = self.asking.open(run.read().prompts("prompts")?)?;
        self.judging.check(&*benchmark)?;
        let judges = self.judging.open(run)?;
        let (name, draws) = (run.name().to_owned(), run.draws());
        let columns = run.read().input("models").to_vec();
        // The base model answers first: the others are compared with it.
        let mut order: Vec<(usize, &String)> = columns.iter().enumerate().collect();
        order.sort_by_key(|(_, name)| *name != BASE);
        for (column, column_name) in order {
            let policy = run.read().model_named(column_name)?;
            let compared = self.compared(run, &*benchmark, column_name)?;
            let model = LocalModel::new(&policy.chat, policy.adapter.as_ref(), run.slots());
            let id = |item: &Item| format!("{name}/{column_name}/{}", item.id);
            let first = (column * benchmark.items().len()) as u64;
            let mut earlier = asking::earlier(&run.read(), column_name)?;
            run.in_chunks("answers", benchmark.items(), ItemKind::Response, id, |_, todo| {
                let answers = asking::answers(&*benchmark, &model, todo, &mut earlier, draws)?;
                let asked: Vec<(&Item, &Answer)> = todo.iter().map(|(_, item)| *item).zip(&answers).collect();
                let mut moved = match &compared {
                    Some(compared) => compared.moved(&policy, &asked)?,
                    None => BTreeMap::new(),
                };
                let items = todo.iter().zip(answers).map(|((place, item), answer)| {
                    let judged = Judged::new(&*benchmark, item, answer);
                    let moved = moved.remove(&item.id);
                    let data = Evaluated { model: column_name.clone(), judged, moved };
                    self.asking.recorded(id(item), first + place, item, &data)
                });
                items.collect()
            })?;
            // All answers are there before a judge is asked: nothing that it does can lose one.
            for (place, judge) in judges.iter().enumerate() {
                self.judging.ask(run, place, judge, &*benchmark, column_name, first)?;
            }
        }
        Ok(json!({"models": columns.len(), "answers": columns.len() * benchmark.items().len()}))
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let benchmark = self.asking.open(read.prompts("prompts")?)?;
        let columns = self.columns(read)?;
        let (comparison, agreements) = (comparison(read, &columns)?, self.agreements(read)?);
        let costs = self.costs(read)?;
        let shown = Shown { read, benchmark: &*benchmark, columns: &columns, agreements: &agreements };
        report.verdict.extend(shown.verdict());
        report.evaluations.push(report::Evaluation {
            costs: columns.iter().map(|column| costs.get(&column.model).map(Cost::shown)).collect(),
            ..shown.table(&comparison)
        });
        shown.samples(&mut report.samples);
        Ok(())
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        let columns = self.columns(read)?;
        let costs = self.costs(read)?;
        let evaluation = summary.entry("evaluation").or_insert_with(|| json!({}));
        for Column { name, model, summary, .. } in &columns {
            // Another benchmark's figures stand beside the first's; of the same figure the first stage's stands.
            let mut all = json!(summary.figures).as_object().cloned().unwrap_or_default();
            if let Some(cost) = costs.get(model) {
                all.insert("cost".to_owned(), json!(cost));
            }
            all.extend(evaluation[name.as_str()].as_object().cloned().unwrap_or_default());
            evaluation[name.as_str()] = Value::Object(all);
        }
        let evaluations = summary.entry("evaluations").or_insert_with(|| json!({}));
        let figures = columns.iter().map(|column| (column.name.clone(), json!(column.summary.figures)));
        evaluations[read.name()] = Value::Object(figures.collect());
        let of_judges = match &self.judging.figures(read)?[..] {
            [] => None,
            [judge] => Some(json!(judge)),
            judges => Some(json!(judges)),
        };
        if let Some(of_judges) = of_judges {
            let judges = summary.entry("judges").or_insert_with(|| json!({}));
            judges[read.name()] = of_judges;
        }
        let agreements: Map<String, Value> =
            self.agreements(read)?.into_iter().map(|(about, agreement)| (about, json!(agreement))).collect();
        if !agreements.is_empty() {
            let all = summary.entry("judge_agreement").or_insert_with(|| json!({}));
            all[read.name()] = Value::Object(agreements);
        }
        let comparisons = summary.entry("comparison").or_insert_with(|| json!({}));
        comparisons[read.name()] = json!(comparison(read, &columns)?);
        Ok(())
    }

    fn judges(&self) -> Vec<&str> {
        self.judging.names()
    }

    fn columns(&self, read: &Reader<'_>) -> Result<Vec<Column>> {
        let benchmark = self.asking.open(read.prompts("prompts")?)?;
        let judges = self.judging.figures(read)?;
        let opinions: Vec<TypedItem<Opinion>> = read.own()?;
        let mut replies: BTreeMap<(usize, About), Reply> = opinions
            .into_iter()
            .map(|opinion| ((opinion.data.judge, opinion.data.about), opinion.data.reply))
            .collect();
        let asked: BTreeMap<&str, &Item> =
            benchmark.items().iter().map(|item| (item.id.as_str(), item)).collect();
        let mut answers: BTreeMap<String, Vec<Judged>> = BTreeMap::new();
        let items: Vec<TypedItem<Evaluated>> = read.own()?;
        for Evaluated { model, judged, .. } in items.into_iter().map(|item| item.data) {
            answers.entry(model).or_default().push(judged);
        }
        let mut columns = Vec::new();
        for model in read.input("models") {
            let answers = answers.remove(model).unwrap_or_default();
            for place in 0..judges.len().max(1) {
                let mut judged_by = answers.clone();
                for judged in &mut judged_by {
                    let about = About::Answer { model: model.clone(), item: judged.id.clone() };
                    let reply = replies.remove(&(place, about));
                    if let (Some(reply), Some(item)) = (reply, asked.get(judged.id.as_str())) {
                        let answer = Answer { judge: Some(reply), ..judged.answer.clone() };
                        *judged = Judged::new(&*benchmark, item, answer);
                    }
                }
                let mut summary =
                    summarise(&*benchmark, judged_by).with_context(|| format!("the answers of {model}"))?;
                if let Some(judge) = judges.get(place) {
                    summary.method.believed = Some(judge.sentence());
                    summary.judge = Some(judge.clone());
                }
                let name = match &judges[..] {
                    [_, _, ..] => format!("{model} by {}", judges[place].name),
                    _ => model.clone(),
                };
                columns.push(Column { name, model: model.clone(), judge: place, summary });
            }
        }
        Ok(columns)
    }

    fn agreements(&self, read: &Reader<'_>) -> Result<Vec<(String, JudgeAgreement)>> {
        let labelled =
            self.judging.agreement(read)?.map(|agreement| ("labelled answers".to_owned(), agreement));
        let mut agreements: Vec<(String, JudgeAgreement)> = labelled.into_iter().collect();
        if self.judging.names().len() == 2 {
            for pair in self.columns(read)?.chunks_exact(2) {
                let about = format!("answers of {}", pair[0].model);
                agreements.push((about, agreement(&pair[0].summary, &pair[1].summary)));
            }
        }
        Ok(agreements)
    }
}

/// The base model and its answers to a benchmark's ordinary requests.
struct Compared {
    base: Model,
    group: &'static str,
    answers: BTreeMap<String, Answer>,
}

impl Compared {
    /// How far a model is from the base model, by item, where the items are ordinary requests.
    fn moved(&self, policy: &Model, asked: &[(&Item, &Answer)]) -> Result<BTreeMap<String, Moved>> {
        let (mut ids, mut prompts, mut own, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (item, answer) in asked.iter().filter(|(item, _)| item.group == self.group) {
            let Some(base) = self.answers.get(&item.id) else { continue };
            ids.push(item.id.clone());
            own.push(answer_ids(&policy.chat, answer)?);
            theirs.push(answer_ids(&self.base.chat, base)?);
            let longest = own[own.len() - 1].len().max(theirs[theirs.len() - 1].len());
            prompts.push(policy.chat.prompt_ids(&item.id, &item.messages, longest)?);
        }
        let side = |model| {
            let Model { chat, adapter, .. }: &Model = model;
            Policy { decoder: &*chat.decoder, adapter: adapter.as_ref() }
        };
        let written: Vec<(&[u32], &[u32])> =
            prompts.iter().zip(&own).map(|(prompt, answer)| (&prompt[..], &answer[..])).collect();
        let divergences = answer_divergences(&side(policy), &side(&self.base), &written);
        let scored: Vec<ScoreItem> = prompts
            .into_iter()
            .zip(&theirs)
            .map(|(prompt, answer)| ScoreItem { prompt, completions: vec![answer.clone()] })
            .collect();
        let log_probs = policy.chat.engine(policy.adapter.as_ref()).score(&scored, 1.0, &mut |_| {});
        let mut moved = BTreeMap::new();
        for (((id, divergence), log_probs), own) in ids.into_iter().zip(divergences).zip(log_probs).zip(&own)
        {
            let log_probs = &log_probs[0];
            let base_nll = -log_probs.iter().map(|x| f64::from(*x)).sum::<f64>();
            moved.insert(
                id,
                Moved { divergence, own_tokens: own.len(), base_nll, base_tokens: log_probs.len() },
            );
        }
        Ok(moved)
    }
}

/// An answer's tokens as the model would have written them; one that was cut off has no end.
fn answer_ids(chat: &ChatModel, answer: &Answer) -> Result<Vec<u32>> {
    let mut ids = chat.text.continuation_ids(&answer.text)?;
    if !answer.truncated || ids.is_empty() {
        ids.push(chat.text.end_of_turn());
    }
    Ok(ids)
}

/// What training cost on a benchmark's ordinary requests.
#[derive(Serialize)]
struct Cost {
    /// KL(model ‖ base) of an answer, nats.
    divergence: Option<Mean>,
    /// The same of a token: of two models the one with the shorter answers has the lower KL of an answer.
    divergence_per_token: f64,
    /// Of the base model's answers under the model.
    perplexity: f64,
}

impl Cost {
    fn shown(&self) -> report::Cost {
        let [divergence, low, high] =
            self.divergence.map_or([f64::NAN; 3], |mean| [mean.mean, mean.low, mean.high]);
        let &Self { divergence_per_token, perplexity, .. } = self;
        report::Cost { divergence, low, high, divergence_per_token, perplexity }
    }
}

impl Evaluate {
    /// What a model is compared with, if that is not itself.
    fn compared(
        &self,
        run: &StageRun<'_>,
        benchmark: &dyn Benchmark,
        column: &str,
    ) -> Result<Option<Compared>> {
        let read = run.read();
        let (Some(group), true) =
            (benchmark.ordinary(), read.input("models").iter().any(|name| name == BASE))
        else {
            return Ok(None);
        };
        if column == BASE {
            return Ok(None);
        }
        let own: Vec<TypedItem<Evaluated>> = read.own()?;
        let of_base = own.into_iter().filter(|item| item.data.model == BASE);
        let answers = of_base.map(|item| (item.data.judged.id.clone(), item.data.judged.answer)).collect();
        Ok(Some(Compared { base: read.model_named(BASE)?, group, answers }))
    }

    /// What training cost each model on ordinary requests, by column, where it was measured.
    fn costs(&self, read: &Reader<'_>) -> Result<BTreeMap<String, Cost>> {
        let mut by_column: BTreeMap<String, Vec<Moved>> = BTreeMap::new();
        let own: Vec<TypedItem<Evaluated>> = read.own()?;
        for Evaluated { model, moved, .. } in own.into_iter().map(|item| item.data) {
            if let Some(moved) = moved {
                by_column.entry(model).or_default().push(moved);
            }
        }
        let cost = |moved: Vec<Moved>| {
            let divergences: Vec<f64> = moved.iter().map(|moved| moved.divergence).collect();
            let nll: f64 = moved.iter().map(|moved| moved.base_nll).sum();
            let tokens: usize = moved.iter().map(|moved| moved.base_tokens).sum();
            let own_tokens: usize = moved.iter().map(|moved| moved.own_tokens).sum();
            Cost {
                divergence: Mean::of(&divergences),
                divergence_per_token: divergences.iter().sum::<f64>() / own_tokens as f64,
                perplexity: (nll / tokens as f64).exp(),
            }
        };
        Ok(by_column.into_iter().map(|(column, moved)| (column, cost(moved))).collect())
    }
}

/// The place of a model's column by one judge.
pub(super) fn place(columns: &[Column], model: &str, judge: usize) -> Option<usize> {
    columns.iter().position(|column| column.model == model && column.judge == judge)
}

/// The columns side by side. Each is tested against the first, and against the model its training started from.
pub(super) fn comparison(read: &Reader<'_>, columns: &[Column]) -> Result<Comparison> {
    let mut against = Vec::new();
    for (column, Column { model, judge, .. }) in columns.iter().enumerate() {
        let origin = read.source_of(model, "from").and_then(|origin| place(columns, origin, *judge));
        // The first columns are those of the first model, one for each judge.
        for reference in [*judge].into_iter().chain(origin) {
            if reference != column && !against.contains(&(column, reference)) {
                against.push((column, reference));
            }
        }
    }
    let summaries: Vec<(&str, &Summary)> =
        columns.iter().map(|column| (column.name.as_str(), &column.summary)).collect();
    Ok(compare(&summaries, &against)?)
}
