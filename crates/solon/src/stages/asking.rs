//! What stages that put a benchmark to models share: opening it, checking it before anything runs, asking its items, and
//! recording an answer.

use super::{Preflight, Source, Stage};
use crate::cli::UsageError;
use crate::feedback_model::LocalModel;
use crate::items::Evaluated;
use crate::judge::Judge;
use crate::run::{Reader, data_hash};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use solon_data::ledger::{NewItem, TypedItem};
use solon_draws::Draws;
use solon_eval::benchmarks::{self, Known, Open, Settings};
use solon_eval::{Answer, Ask, Benchmark, Item, Question, Reply};
use solon_feedback::GenerateRequest;
use solon_infer::chat::OptionsRequest;
use solon_records::{Message, Prompt, SamplingSettings};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A benchmark as a recipe describes it.
#[derive(Serialize)]
pub struct Asking {
    #[serde(rename = "benchmark", serialize_with = "name")]
    known: &'static Known,
    /// Its files, where it does not ask prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Source>,
    /// Its own settings.
    #[serde(skip)]
    settings: Settings,
    /// The same, with the hash of the content where a setting names a file: its path enters no hash.
    #[serde(flatten)]
    hashed: Settings,
}

/// The benchmark where none is named.
pub fn safety() -> String {
    "safety".to_owned()
}

fn name<S: serde::Serializer>(known: &&'static Known, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(known.name)
}

impl Asking {
    /// Checks what can be checked before the files are read: the name, where the items come from, and, of a benchmark over
    /// prompts, its settings.
    pub fn new(
        benchmark: &str,
        data: Option<Source>,
        prompts: bool,
        settings: Settings,
    ) -> Result<Self, String> {
        let known = benchmarks::find(benchmark).map_err(|error| error.to_string())?;
        match known.open {
            Open::Prompts(open) => {
                if data.is_some() {
                    return Err(format!("{benchmark} asks prompts\nhint: give `prompts`, and no `data`"));
                }
                open(Vec::new(), settings.clone()).map_err(|error| error.to_string())?;
            }
            Open::Files(_) if prompts => {
                return Err(format!(
                    "{benchmark} asks what is in its files\nhint: give `data`, and no `prompts`"
                ));
            }
            Open::Files(_) if data.is_none() => {
                return Err(format!(
                    "{benchmark} needs its files\nhint: give `data` (--data of `solon eval`): {}",
                    known.data
                ));
            }
            Open::Files(_) => {}
        }
        let mut hashed = settings.clone();
        for key in known.files {
            let Some(path) = settings.get(*key).and_then(Value::as_str) else { continue };
            let hash = data_hash(Path::new(path)).map_err(|error| format!("{key}: {error:#}"))?;
            hashed.insert((*key).to_owned(), hash.into());
        }
        Ok(Self { known, data, settings, hashed })
    }

    /// Its files, where it does not ask prompts.
    pub fn data(&self) -> Option<&Source> {
        self.data.as_ref()
    }

    /// Whether it asks prompts.
    pub fn over_prompts(&self) -> bool {
        matches!(self.known.open, Open::Prompts(_))
    }

    /// The benchmark over these prompts, or on its files.
    pub fn open(&self, prompts: Vec<Prompt>) -> Result<Box<dyn Benchmark>> {
        self.open_with(prompts, self.settings.clone())
    }

    fn open_with(&self, prompts: Vec<Prompt>, settings: Settings) -> Result<Box<dyn Benchmark>> {
        match (&self.known.open, &self.data) {
            (Open::Files(open), Some(data)) => Ok(open(&data.path, settings)?),
            (Open::Files(_), None) => bail!("{} needs its files", self.known.name),
            (Open::Prompts(open), _) => Ok(open(prompts, settings)?),
        }
    }

    /// All that it could ask, whatever part of it is asked: the prompts of these stages, or what stands in its files.
    pub fn texts(&self, prompts: &[&dyn Stage]) -> Result<Vec<String>> {
        if self.over_prompts() {
            let mut texts = Vec::new();
            for known in prompts.iter().filter_map(|stage| stage.prompts()) {
                texts.extend(known?.iter().map(|prompt| prompt.text().to_owned()));
            }
            return Ok(texts);
        }
        let mut settings = self.settings.clone();
        settings.retain(|key, _| !["limit", "limit_each"].contains(&key.as_str()));
        let whole = self.open_with(Vec::new(), settings)?;
        let messages = whole.items().iter().flat_map(|item| &item.messages);
        Ok(messages.map(|message| message.content.clone()).collect())
    }

    /// A judged answer as the ledger holds it. Prompts are items of the ledger; the questions of a benchmark's files are
    /// not.
    pub fn recorded(&self, id: String, place: u64, item: &Item, data: &Evaluated) -> Result<NewItem> {
        let mut made = NewItem::of(id, place, &data.judged.answer.text, data)?;
        if self.over_prompts() {
            made = made.parent(item.id.clone(), "prompt");
            made.prompt_id = Some(item.id.clone());
        }
        Ok(made)
    }

    /// Opens the benchmark over the prompts of the input, where these are known before the run.
    pub fn open_before(&self, preflight: &Preflight<'_>) -> Result<Option<Box<dyn Benchmark>>> {
        let mut prompts = Vec::new();
        for stage in (preflight.inputs)("prompts") {
            match stage.prompts() {
                Some(known) => prompts.extend(known?),
                // Known only when it has run: then it is looked at.
                None => return Ok(None),
            }
        }
        self.open(prompts).map(Some)
    }
}

/// Refuses a model that was made from the prompts of the input, or from a stage of prompts that holds some of them under
/// whatever ids. Prompts of other files, such as demonstrations, are not compared.
pub fn check_unseen(preflight: &Preflight<'_>, model: &str) -> Result<()> {
    let own = (preflight.names)("prompts");
    let mut asked: BTreeSet<String> = own.iter().flat_map(|name| (preflight.ancestors)(name)).collect();
    asked.extend(own.iter().cloned());
    let wanted = texts(own.iter().filter_map(|name| (preflight.stage)(name)))?;
    for before in (preflight.ancestors)(model) {
        let what = if asked.contains(&before) {
            format!("`{model}` was made from the prompts of `{before}`, so it cannot be measured on them")
        } else {
            match wanted.intersection(&texts((preflight.stage)(&before).into_iter())?).count() {
                0 => continue,
                shared => format!(
                    "`{model}` was made from `{before}`, which holds {shared} of the prompts it is to be measured on"
                ),
            }
        };
        let hint = "hint: measure on prompts that no training sees";
        return Err(UsageError(format!("{what}\n{hint}")).into());
    }
    Ok(())
}

/// What is asked in stages of prompts. A stage whose prompts are known only when it has run gives none.
fn texts<'a>(stages: impl Iterator<Item = &'a dyn Stage>) -> Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    for prompts in stages.filter_map(Stage::prompts) {
        for prompt in prompts? {
            texts.insert(Reader::learnt_key(&prompt.messages)?);
        }
    }
    Ok(texts)
}

/// What was answered so far, by item: later turns of a conversation go on from it.
pub type Earlier = BTreeMap<String, Answer>;

/// What a column's model has answered, from the ledger.
pub fn earlier(read: &Reader<'_>, column: &str) -> Result<Earlier> {
    let own: Vec<TypedItem<Evaluated>> = read.own()?;
    let of_column = own.into_iter().filter(|item| item.data.model == column);
    Ok(of_column.map(|item| (item.data.judged.id, item.data.judged.answer)).collect())
}

/// A model's answers to some items of a benchmark, which are added to `earlier`.
pub fn answers(
    benchmark: &dyn Benchmark,
    model: &LocalModel<'_>,
    todo: &[(u64, &Item)],
    earlier: &mut Earlier,
    draws: Draws,
) -> Result<Vec<Answer>> {
    let items: Vec<&Item> = todo.iter().map(|(_, item)| *item).collect();
    match benchmark.ask() {
        Ask::Generate(sampling) => written(benchmark, model, &items, &sampling, earlier, draws),
        Ask::Choose { template } => {
            let requests: Vec<OptionsRequest> = items
                .iter()
                .map(|item| OptionsRequest {
                    id: item.id.clone(),
                    context: match template {
                        true => item.messages.clone().into(),
                        // The texts one after the other.
                        false => item.messages.iter().map(|m| m.content.as_str()).collect::<String>().into(),
                    },
                    options: item.options.clone(),
                })
                .collect();
            let found = items.iter().zip(model.options(&requests)?);
            Ok(found
                .map(|(item, options)| Answer::chosen(item, options.log_probs, options.truncated))
                .collect())
        }
    }
}

/// Answers in words, turn after turn: an item is asked once the one that it comes after is answered.
fn written(
    benchmark: &dyn Benchmark,
    model: &LocalModel<'_>,
    items: &[&Item],
    sampling: &SamplingSettings,
    earlier: &mut Earlier,
    draws: Draws,
) -> Result<Vec<Answer>> {
    let mut waiting: Vec<&Item> = items.to_vec();
    while !waiting.is_empty() {
        let ready = |item: &&Item| item.after.as_ref().is_none_or(|after| earlier.contains_key(after));
        let (now, later): (Vec<&Item>, Vec<&Item>) = waiting.into_iter().partition(ready);
        let first = now.first().context("an item comes after one that was not asked")?;
        // One call for each temperature.
        let (now, other): (Vec<&Item>, Vec<&Item>) =
            now.iter().copied().partition(|item| item.temperature == first.temperature);
        waiting = other.into_iter().chain(later).collect();
        let temperature = first.temperature.map_or(sampling.temperature, |temperature| temperature as f32);
        let sampling = SamplingSettings { temperature, ..sampling.clone() };
        let requests = now.iter().map(|item| GenerateRequest {
            id: item.id.clone(),
            context: conversation(benchmark, item, earlier).into(),
            prefill: String::new(),
        });
        // A later turn may have outgrown the model's context: then there is no answer, and it counts as empty.
        let outgrown = |(item, request): &(&&Item, GenerateRequest)| {
            item.after.is_some() && !model.fits(&request.context, sampling.max_new_tokens)
        };
        let (outgrown, fitting): (Vec<_>, Vec<_>) = now.iter().zip(requests).partition(outgrown);
        for (item, _) in outgrown {
            earlier.insert(item.id.clone(), Answer::written(String::new(), true));
        }
        let requests: Vec<GenerateRequest> = fitting.into_iter().map(|(_, request)| request).collect();
        let answers = model.generate(&requests, &sampling, draws, &mut |_| {})?;
        for (request, answer) in requests.into_iter().zip(answers) {
            earlier.insert(request.id, Answer::written(answer.text, answer.truncated));
        }
    }
    Ok(items.iter().filter_map(|item| earlier.get(&item.id).cloned()).collect())
}

/// The turns before an item, the first one first.
fn turns_before<'a>(
    benchmark: &'a dyn Benchmark,
    item: &Item,
    earlier: &'a Earlier,
) -> Vec<(&'a Item, &'a Answer)> {
    let mut turns = Vec::new();
    let mut after = item.after.as_ref();
    while let Some(id) = after {
        let found = benchmark.items().iter().find(|known| known.id == *id).zip(earlier.get(id));
        let Some((item, answer)) = found else { break };
        turns.push((item, answer));
        after = item.after.as_ref();
    }
    turns.reverse();
    turns
}

/// The conversation that an item asks to go on.
fn conversation(benchmark: &dyn Benchmark, item: &Item, earlier: &Earlier) -> Vec<Message> {
    let mut messages = Vec::new();
    for (item, answer) in turns_before(benchmark, item, earlier) {
        messages.extend(item.messages.clone());
        messages.push(Message::assistant(&answer.text));
    }
    messages.extend(item.messages.clone());
    messages
}

/// What a judge replies about answers; `None` where the benchmark has no question.
pub fn judged(
    benchmark: &dyn Benchmark,
    judge: &Judge,
    todo: &[(u64, &Item)],
    answers: &Earlier,
    slots: usize,
    draws: Draws,
) -> Result<Vec<Option<Reply>>> {
    let questions = todo.iter().map(|(_, item)| {
        let answer = answers.get(&item.id).with_context(|| format!("{} has no answer", item.id))?;
        Ok(benchmark.questions(&turns_before(benchmark, item, answers), item, answer))
    });
    let questions: Vec<Vec<Question>> = questions.collect::<Result<_>>()?;
    let asked = todo.iter().zip(&questions).flat_map(|((_, item), questions)| {
        questions.iter().enumerate().map(|(place, question)| {
            let id = if place == 0 { item.id.clone() } else { format!("{}#{place}", item.id) };
            (id, question.clone())
        })
    });
    let mut replies = judge.ask(&asked.collect::<Vec<_>>(), slots, draws)?.into_iter();
    let found = questions.iter().map(|questions| match questions.len() {
        0 | 1 => questions.first().and_then(|_| replies.next()),
        several => Some(Reply::Several(replies.by_ref().take(several).collect())),
    });
    Ok(found.collect())
}
