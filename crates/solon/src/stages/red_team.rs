//! `red-team`: a model writes new prompts after a few seeds, and those are kept that say something new and with which the current
//! policy complies (Perez et al. 2022; Bai et al. 2022 §3.2). After training the same stage measures how many of them succeed.
//!
//! Contract: each prompt is an item of the ledger, with the seeds that were shown as its parents and the policies' answers as its
//! children; one that is dropped has its reason. No kept prompt is near another one, a seed, what the recipe's stages measure models on,
//! the shipped prompts for evaluation, or what a target has learnt from. A round asks for what is missing, one after the other; what a round asks is a function of what
//! the earlier ones left in the ledger, so neither chunks nor kills change it. What the items add up to is in [`super::red_teaming`].

use super::asking::Asking;
use super::kept_out::KeptOut;
use super::new_prompts::{Candidate, Known, prompt_id, written};
use super::red_teaming::{answered, complied, measuring};
use super::settings::{sampling, sources};
use super::{Data, Input, Keys, Kind, OneOrMany, Preflight, Source, Stage, base};
use crate::adviser::{self, Adviser};
use crate::cli::UsageError;
use crate::feedback_model::LocalModel;
use crate::items::Evaluated;
use crate::judge::{JudgeLimits, JudgeName};
use crate::report::Report;
use crate::run::{Model, Reader, StageRun, safe_point};
use anyhow::{Context, Result, bail};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use solon_data::ledger::{ItemKind, NewItem};
use solon_eval::{Answer, Item, Judged};
use solon_feedback::{
    AskedPrompt, Balance, FeedbackModel, GenerateRequest, PromptForm, Rounds, SeedGroup, Wanted,
    WriteSettings, seed_groups, write_prompts,
};
use solon_records::{Prompt, SamplingSettings};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

pub const KIND: Kind = Kind {
    name: "red-team",
    about: "A model writes new prompts; kept are those with which the policy complies.",
    parse,
    files: || vec!["avoid"],
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RedTeam {
    /// The model that writes.
    #[serde(default, skip_serializing)]
    from: OneOrMany,
    /// Another model that writes in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    judge: Option<JudgeName>,
    /// How it is asked where it is on a server, and what that may cost.
    #[serde(default, skip_serializing)]
    judge_limits: JudgeLimits,
    /// What it is shown.
    #[serde(default, skip_serializing)]
    seeds: OneOrMany,
    /// The models that answer what it writes; the first one decides what is kept.
    #[serde(default, skip_serializing)]
    target: OneOrMany,
    /// Prompts that are wanted.
    pub count: NonZeroUsize,
    /// The most that are asked for; four times `count` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidates: Option<NonZeroUsize>,
    /// Seeds that are shown at a time.
    #[serde(default = "five")]
    shots: NonZeroUsize,
    /// How the writer is asked.
    #[serde(default)]
    form: Option<PromptForm>,
    /// How its replies are sampled.
    #[serde(deserialize_with = "sampling")]
    sampling: SamplingSettings,
    /// How the answers of the targets are sampled; greedily and up to 128 tokens where it is left out.
    #[serde(
        default,
        deserialize_with = "super::settings::some_sampling",
        skip_serializing_if = "Option::is_none"
    )]
    answers: Option<SamplingSettings>,
    /// Which prompts are kept of those that the targets answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// The likeness from which two prompts are taken for one.
    #[serde(default = "seven_tenths", deserialize_with = "likeness")]
    similarity: f64,
    /// Whether every category gets the same share.
    #[serde(default = "yes")]
    balance: bool,
    /// Files of prompts that no kept prompt may be near.
    #[serde(default, deserialize_with = "sources", skip_serializing_if = "Vec::is_empty")]
    avoid: Vec<Source>,
}

/// Which prompts are kept of those that the targets answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those with which the first target complies.
    Complied,
    /// All.
    All,
}

fn five() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(4)
}

fn seven_tenths() -> f64 {
    0.7
}

fn yes() -> bool {
    true
}

fn likeness<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let likeness = f64::deserialize(deserializer)?;
    match likeness > 0.0 && likeness <= 1.0 {
        true => Ok(likeness),
        false => {
            Err(D::Error::custom(format!("{likeness} was given; give a number above 0 that is at most 1")))
        }
    }
}

fn parse(keys: Keys) -> Result<Box<dyn Stage>, String> {
    let mut stage: RedTeam = keys.rest()?;
    let on_server = stage.judge.as_ref().is_some_and(JudgeName::is_server);
    let form = *stage.form.get_or_insert(if on_server { PromptForm::Chat } else { PromptForm::List });
    let asks = (form == PromptForm::List, false);
    adviser::check(("from", &stage.from), stage.judge.as_ref(), &stage.judge_limits, asks)?;
    if stage.judge.is_none() && stage.from.is_empty() {
        stage.from = OneOrMany::One(base());
    }
    if stage.most() < stage.count.get() {
        return Err(format!("candidates is {}, which is less than count = {}", stage.most(), stage.count));
    }
    if stage.target.is_empty() {
        for (key, given) in [("keep", stage.keep.is_some()), ("answers", stage.answers.is_some())] {
            if given {
                return Err(format!(
                    "`{key}` is about the answers of a `target`\nhint: give one, or leave it out"
                ));
            }
        }
    }
    Ok(Box::new(stage))
}

impl Stage for RedTeam {
    fn inputs(&self) -> Vec<Input> {
        vec![
            adviser::input("from", &self.from, &[Data::Model], self.judge.as_ref()),
            Input::required("seeds", &self.seeds, &[Data::Prompts]),
            Input::optional("target", &self.target, &[Data::Model]),
        ]
    }

    fn output(&self) -> Data {
        Data::Prompts
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn keeps_apart(&self) -> bool {
        true
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        let from = (preflight.names)("from");
        if from.len() > 1 {
            return Err(UsageError(format!("from names {} models; name one", from.len())).into());
        }
        let kept_out = KeptOut::of((preflight.measured)()?, &self.avoid)?;
        for seeds in (preflight.inputs)("seeds").into_iter().filter_map(Stage::prompts) {
            self.check_seeds(&kept_out, &seeds?)?;
        }
        Ok(Vec::new())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let seeds = run.read().prompts("seeds")?;
        let mut kept_out = KeptOut::of(run.read().measured()?, &self.avoid)?;
        self.check_seeds(&kept_out, &seeds)?;
        for target in run.read().input("target") {
            kept_out = kept_out.beside_learnt(target, &run.read().learnt_texts(target)?);
        }
        let mut known = Known::new(kept_out, &seeds, self.similarity);
        let groups = seed_groups(&seeds);
        let adviser = Adviser::open(run, "from", self.judge.as_ref(), &self.judge_limits)?;
        let writer = adviser.model(run.slots(), 1);
        let targets = run.read().input("target").to_vec();
        let policies: Vec<Model> =
            targets.iter().map(|name| run.read().model_named(name)).collect::<Result<_>>()?;
        let models: Vec<LocalModel> = policies
            .iter()
            .map(|policy| LocalModel::new(&policy.chat, policy.adapter.as_ref(), run.slots()))
            .collect();
        let rounds = self.rounds(&groups, run);
        let (mut asked, mut kept) = (0, vec![0; groups.len()]);
        loop {
            let round = rounds.next(asked, &kept);
            if round.is_empty() {
                break;
            }
            self.write(run, &*writer, &round, &seeds, &groups)?;
            let mut candidates = known.candidates(run, &round)?;
            let new: Vec<(u64, Prompt)> = candidates.iter().filter_map(Candidate::new_prompt).collect();
            for (place, (name, model)) in targets.iter().zip(&models).enumerate() {
                self.attack(run, place, name, model, &new)?;
            }
            if let Some(first) = targets.first() {
                self.decide(&run.read(), first, &mut candidates)?;
            }
            let items: Vec<NewItem> =
                candidates.iter().map(|candidate| candidate.item(&seeds)).collect::<Result<_>>()?;
            run.insert(&items)?;
            for (candidate, wanted) in candidates.iter().zip(&round) {
                kept[wanted.group] += usize::from(candidate.dropped.is_none());
            }
            asked += round.len();
        }
        let mut told =
            json!({"prompts": kept.iter().sum::<usize>(), "asked": asked, "dropped": run.drops()?});
        adviser.tell(run.name(), &mut told);
        Ok(told)
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        super::red_teaming::report(self, read, report)
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        super::red_teaming::summary(read, summary)
    }
}

impl RedTeam {
    /// The most prompts that are asked for.
    fn most(&self) -> usize {
        self.candidates.map_or(self.count.get().saturating_mul(4), NonZeroUsize::get)
    }

    /// Which prompts are kept of those that the targets answered.
    pub fn keep(&self) -> Keep {
        self.keep.unwrap_or(Keep::Complied)
    }

    /// How targets answer.
    pub fn answers(&self) -> SamplingSettings {
        self.answers.clone().unwrap_or_else(|| SamplingSettings::greedy(128))
    }

    fn rounds<'a>(&self, groups: &'a [SeedGroup], run: &StageRun<'_>) -> Rounds<'a> {
        let balance = if self.balance { Balance::Equal } else { Balance::AsSeeds };
        Rounds::new(groups, self.count.get(), self.most(), self.shots.get(), balance, run.draws())
    }

    /// Refuses seeds that models are measured on, and those of which compliance is no failure.
    fn check_seeds(&self, kept_out: &KeptOut, seeds: &[Prompt]) -> Result<()> {
        if let Some(other) =
            seeds.iter().find(|seed| !self.target.is_empty() && seed.kind.as_deref() != Some("harmful"))
        {
            let kind = other.kind.as_deref().unwrap_or("none");
            let what = format!(
                "the seed `{}` is of the kind `{kind}`; a `target` is tested with `harmful` requests\n\
                 hint: give seeds of that kind (`kinds` of a `prompts` stage), or leave `target` out",
                other.id
            );
            return Err(UsageError(what).into());
        }
        kept_out.check_seeds(seeds)
    }

    /// Asks for the prompts of a round.
    fn write(
        &self,
        run: &mut StageRun<'_>,
        writer: &dyn FeedbackModel,
        round: &[Wanted],
        seeds: &[Prompt],
        groups: &[SeedGroup],
    ) -> Result<()> {
        let form = self.form.context("the form is known once the keys are read")?;
        let settings = WriteSettings { draws: run.draws(), form, sampling: self.sampling.clone() };
        let name = run.name().to_owned();
        let first = round.first().map_or(0, |wanted| wanted.number as u64);
        let id = |wanted: &Wanted| prompt_id(&name, wanted);
        run.in_chunks("prompts", round, ItemKind::Prompt, id, |_, todo| {
            let asked = todo.iter().map(|(_, wanted)| AskedPrompt {
                id: wanted.number.to_string(),
                seeds: wanted.seeds.iter().map(|place| seeds[*place].text()).collect(),
            });
            let asked: Vec<AskedPrompt> = asked.collect();
            let replies = write_prompts(writer, &asked, &settings, &mut |_| {})?;
            // What a stop left unasked is not recorded as missing.
            safe_point()?;
            // Nor is what may still come: later rounds would go by it. The replies that came are in the record.
            if let Some(missing) = replies.iter().filter_map(|reply| reply.as_ref().err()).find(|m| m.may_come()) {
                bail!("the writer did not reply: {}\nhint: the same command asks again, for what is missing alone", missing.reason);
            }
            let items = todo.iter().zip(replies).map(|((place, wanted), reply)| {
                let data = written(prompt_id(&name, wanted), &groups[wanted.group], form, reply);
                let dropped = data.fault.clone();
                Candidate { ordinal: first + place, data, seeds: &wanted.seeds, near: None, dropped }
                    .item(seeds)
            });
            items.collect()
        })
    }

    /// Lets a target answer new prompts.
    fn attack(
        &self,
        run: &mut StageRun<'_>,
        target: usize,
        name: &str,
        model: &LocalModel<'_>,
        prompts: &[(u64, Prompt)],
    ) -> Result<()> {
        let asking: Asking = measuring()?;
        let benchmark = asking.open(prompts.iter().map(|(_, prompt)| prompt.clone()).collect())?;
        let (stage, draws, sampling) = (run.name().to_owned(), run.draws(), self.answers());
        let id = |item: &Item| format!("{stage}/{name}/{}", item.id);
        let first = (target * self.most()) as u64;
        let ordinals: BTreeMap<&str, u64> =
            prompts.iter().map(|(ordinal, prompt)| (prompt.id.as_str(), first + ordinal)).collect();
        run.in_chunks("answers", benchmark.items(), ItemKind::Response, id, |_, todo| {
            let requests: Vec<GenerateRequest> = todo
                .iter()
                .map(|(_, item)| GenerateRequest {
                    id: item.id.clone(),
                    context: item.messages.clone().into(),
                    prefill: String::new(),
                })
                .collect();
            let answers = model.generate(&requests, &sampling, draws.item("answer"), &mut |_| {})?;
            let items = todo.iter().zip(answers).map(|((_, item), answer)| {
                let judged = Judged::new(&*benchmark, item, Answer::written(answer.text, answer.truncated));
                let data = Evaluated { model: name.to_owned(), judged, moved: None };
                asking.recorded(id(item), ordinals[item.id.as_str()], item, &data)
            });
            items.collect()
        })
    }

    /// Drops new prompts with which the first target did not comply.
    fn decide(&self, read: &Reader<'_>, first: &str, candidates: &mut [Candidate<'_>]) -> Result<()> {
        if self.keep() == Keep::All {
            return Ok(());
        }
        let answers: BTreeMap<String, Judged> = answered(read, first)?;
        for candidate in candidates.iter_mut().filter(|candidate| candidate.dropped.is_none()) {
            let id = &candidate.data.prompt.id;
            let judged = answers.get(id).with_context(|| format!("{first} has not answered {id}"))?;
            if !complied(judged)? {
                let empty = judged.judgement.verdict == "empty";
                candidate.dropped = Some(if empty { NO_TEXT } else { DECLINED }.to_owned());
            }
        }
        Ok(())
    }
}

/// Why a new prompt is dropped that the first target answered.
const DECLINED: &str = "the target declines";
const NO_TEXT: &str = "the target's answer has no text";
