//! `label`: a model says which answer of each pair keeps the constitution better (Bai et al. 2022 §4; Lee et al. 2023). The
//! pairs whose better answer is known are labelled first, and say how far the labels can be believed: those of a labeller
//! that is not better than chance are dropped.

use super::asked::{Asked, asked, shown};
use super::gate::not_passed;
use super::label_report::{
    AGREES, agreement, agreement_told, ask_of, judged, of_examples, rate_shown, section, unlabelled,
};
use super::replies::Replies;
use super::settings::is_chat;
use super::{BASE, Data, Input, Keys, Kind, OneOrMany, Preflight, Stage};
use crate::adviser::{self, Adviser, LABELLERS};
use crate::cli::UsageError;
use crate::items::Labelled;
use crate::judge::{JudgeLimits, JudgeName};
use crate::report::Report;
use crate::run::{Reader, StageRun, safe_point};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_data::ledger::{NewItem, TypedItem};
use solon_eval::Rate;
use solon_feedback::{Ask, Form, LabelSettings, Verdict, label_pairs};
use solon_records::{Pair, SamplingSettings};
use std::collections::HashSet;
use std::num::{NonZeroU32, NonZeroUsize};

pub const KIND: Kind = Kind {
    name: "label",
    about: "A model says which answer of each pair is better.",
    parse,
    files: Vec::new,
};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LabelStage {
    /// The model that labels.
    #[serde(default, skip_serializing)]
    labeller: OneOrMany,
    /// Another model that labels in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    judge: Option<JudgeName>,
    /// How it is asked where it is on a server, and what that may cost.
    #[serde(default, skip_serializing)]
    judge_limits: JudgeLimits,
    /// What is labelled.
    #[serde(default, skip_serializing)]
    pairs: OneOrMany,
    /// How it is asked; as the labeller was trained where it is left out.
    ask: Option<Ask>,
    /// Bounds of the probability, such as [0.4, 0.6]; those of labels after reasoning, [0, 1] of others, where it is left out.
    #[serde(default, deserialize_with = "clamp")]
    clamp: Option<(f64, f64)>,
    /// How many principles a pair is judged by; two with `ask = "apart"`, else one, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principles: Option<NonZeroUsize>,
    /// Only principles that are about this kind or category are drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    /// In which form it is asked.
    #[serde(default, skip_serializing_if = "is_chat")]
    form: Form,
    /// Whether the constitution's few-shots are put in front; where it is left out, with `form = "paper"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    few_shots: Option<bool>,
    /// Whether two answers shown together are shown in both orders; where it is left out, except in the paper's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    both_orders: Option<bool>,
    /// The log-odds of the label are divided by it.
    #[serde(default = "one", skip_serializing_if = "is_one", deserialize_with = "temperature")]
    temperature: f64,
    /// How reasoning is sampled, with `ask = "choice-cot"`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::settings::some_sampling"
    )]
    reasoning: Option<SamplingSettings>,
    /// Votes on a question where a server shows no log-probs.
    #[serde(default = "five", skip_serializing_if = "is_five")]
    votes: NonZeroU32,
    /// Whether all labels are dropped where the labeller is not better than chance.
    #[serde(default = "yes")]
    gate: bool,
}

/// Why few-shots do not go with a way of asking in a chat.
const FEW_SHOTS: &str = "few_shots = true shows comparisons with a letter as the answer\nhint: ask = \"choice\", or form = \"paper\" \
                         with \"choice-cot\"";

/// Why labels are dropped.
const CHANCE: &str = "the labeller is not better than chance";
const NOT_PASSED: &str = "the reward model that labels did not pass on the pairs kept back";

fn parse(keys: Keys) -> Result<Box<dyn Stage>, String> {
    let stage: LabelStage = keys.rest()?;
    let asks = (stage.form == Form::Paper, stage.ask.is_some_and(Ask::scores_answers));
    adviser::check(("labeller", &stage.labeller), stage.judge.as_ref(), &stage.judge_limits, asks)?;
    if let Some(ask) = stage.ask.filter(|ask| !ask.has(stage.form)) {
        return Err(format!(
            "ask = \"{}\" has no form of the paper, in which two answers are compared\nhint: ask = \"choice\" or \
             \"choice-cot\", or form = \"chat\"",
            ask.name()
        ));
    }
    let asks_apart = stage.ask == Some(Ask::Apart);
    if stage.about.is_some() && asks_apart {
        return Err(
            "`about` chooses principles that compare answers\nhint: leave it out with ask = \"apart\""
                .to_owned(),
        );
    }
    if stage.reasoning.is_some() && stage.ask != Some(Ask::ChoiceCot) {
        return Err("`reasoning` is about ask = \"choice-cot\"\nhint: write that, or leave `reasoning` out"
            .to_owned());
    }
    Ok(Box::new(stage))
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

fn is_one(temperature: &f64) -> bool {
    *temperature == 1.0
}

fn five() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(4)
}

fn is_five(votes: &NonZeroU32) -> bool {
    *votes == five()
}

fn clamp<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<(f64, f64)>, D::Error> {
    let (low, high) = <(f64, f64)>::deserialize(deserializer)?;
    if (0.0..=0.5).contains(&low) && (0.5..=1.0).contains(&high) {
        return Ok(Some((low, high)));
    }
    Err(serde::de::Error::custom(format!(
        "clamp is [{low}, {high}]; give a lower bound from 0 to 0.5, and an upper one from 0.5 to 1"
    )))
}

fn temperature<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let temperature = f64::deserialize(deserializer)?;
    match temperature > 0.0 && temperature.is_finite() {
        true => Ok(temperature),
        false => {
            Err(serde::de::Error::custom(format!("temperature is {temperature}; give a number above 0")))
        }
    }
}

impl Stage for LabelStage {
    fn inputs(&self) -> Vec<Input> {
        vec![
            adviser::input("labeller", &self.labeller, &LABELLERS, self.judge.as_ref()),
            Input::required("pairs", &self.pairs, &[Data::Pairs]),
        ]
    }

    fn output(&self) -> Data {
        Data::Preferences
    }

    fn needs_constitution(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn ask(&self) -> Option<Ask> {
        self.ask
    }

    fn preflight(&self, preflight: &Preflight<'_>) -> Result<Vec<String>> {
        let trained = (preflight.inputs)("labeller").first().and_then(|stage| stage.ask());
        if self.gate {
            check_known(preflight, self.ask.or(trained).unwrap_or_default())?;
        }
        let of_questions = self.about.is_some() || self.principles.is_some() || self.both_orders.is_some();
        if of_questions && self.ask.or(trained) == Some(Ask::Reward) {
            let what = "`about`, `principles` and `both_orders` are about questions, and a reward model is asked none\n\
                        hint: leave them out";
            return Err(UsageError(what.to_owned()).into());
        }
        let labels_by_letter = matches!(self.ask.or(trained), None | Some(Ask::Choice));
        if self.form == Form::Chat && self.few_shots == Some(true) && !labels_by_letter {
            return Err(UsageError(FEW_SHOTS.to_owned()).into());
        }
        if self.ask == Some(Ask::Reward) && self.judge.is_none() && trained.is_none() {
            let names = (preflight.names)("labeller");
            if names.iter().any(|name| name != BASE) {
                let what = format!(
                    "ask = \"reward\" needs a reward model, and {} is none\nhint: name a `reward` stage, or ask in another way",
                    names.join(", ")
                );
                return Err(UsageError(what).into());
            }
        }
        match (self.ask, trained) {
            (_, Some(_)) if self.form == Form::Paper => {
                let what = "form = \"paper\", but the labeller is trained to be asked in conversations\nhint: leave `form` out here, \
                            or name a model";
                Err(UsageError(what.to_owned()).into())
            }
            (Some(mine), Some(its)) if mine != its => {
                let what = format!(
                    "ask = \"{}\", but the labeller is trained to \"{}\"\nhint: leave `ask` out here",
                    mine.name(),
                    its.name()
                );
                Err(UsageError(what).into())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let constitution = run.read().constitution()?.clone();
        let ask = ask_of(&run.read());
        let (known, pairs) = asked(&run.read(), &constitution, ask)?;
        let settings = self.labelling(ask, run);
        let adviser = Adviser::open(run, "labeller", self.judge.as_ref(), &self.judge_limits)?;
        let model = adviser.labeller(ask, run.slots(), self.votes.get())?;
        let source = match &self.judge {
            Some(judge) => judge.shown().to_owned(),
            None => run.read().labeller_shown(),
        };
        let name = run.name().to_owned();
        let id = |asked: &Asked| asked.id(&name);
        let label = |todo: &[(u64, &Asked)], dropped: Option<&str>| -> Result<Vec<NewItem>> {
            // A reward model has learnt from answers as they are.
            let shown = |pair: &Pair| if ask == Ask::Reward { pair.clone() } else { shown(pair) };
            let shown: Vec<Pair> = todo.iter().map(|(_, asked)| shown(&asked.pair)).collect();
            let labels = label_pairs(&*model, &constitution, &shown, &settings, &mut |_| {})?;
            let items = todo.iter().zip(labels);
            let items = items.map(|((_, asked), label)| asked.item(&name, label, &source, dropped)).collect();
            // What a stop left unasked is not recorded as unlabelled.
            safe_point()?;
            items
        };
        let again = replies(&run.read())?.again(run)?;
        let reason = Some("a known pair: it measures the labeller");
        let there = settled(&run.read(), &again, reason)?;
        run.in_chunks_beside("known pairs", &known, &there, id, |_, todo| label(todo, reason))?;
        let reason = self.distrust(&run.read())?;
        let there = settled(&run.read(), &again, reason)?;
        run.in_chunks_beside("labels", &pairs, &there, id, |_, todo| label(todo, reason))?;
        let report = judged(&run.read())?.report;
        let mut told = json!({
            "labels": pairs.len() - unlabelled(&run.read())?.values().sum::<usize>(), "known": known.len(), "report": report,
            AGREES: agreement(&run.read())?,
        });
        if self.form == Form::Paper || settings.few_shots {
            let used_for = if ask == Ask::ChoiceCot { "comparison-cot" } else { "comparison" };
            let shots = settings.few_shots.then(|| constitution.few_shots_for(used_for));
            told["few_shots"] = json!(shots.unwrap_or_default());
        }
        let unlabelled = unlabelled(&run.read())?;
        if !unlabelled.is_empty() {
            told[UNLABELLED] = json!(unlabelled);
        }
        replies(&run.read())?.tell(&mut told);
        adviser.tell(&name, &mut told);
        if let Some(reason) = reason {
            told[GATED] = json!(reason);
        }
        Ok(told)
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let judged = judged(read)?;
        if judged.report.verdict != Verdict::Trustworthy {
            report.warnings.push(judged.report.warning.clone());
        }
        if let Some(reason) = read.detail()?[GATED].as_str() {
            report.warnings.push(format!(
                "All labels of the stage {} were dropped, because {reason}. `gate = false` keeps them.",
                read.name()
            ));
        }
        let unlabelled = unlabelled(read)?;
        if !unlabelled.is_empty() {
            let counts: Vec<String> =
                unlabelled.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            report.warnings.push(format!(
                "{} pairs of the stage {} have no label, because the labeller gave no reply that can be used: {}.",
                unlabelled.values().sum::<usize>(),
                read.name(),
                counts.join(", ")
            ));
        }
        report.warnings.extend(replies(read)?.warning(read));
        if let Some(label) = read.own::<Labelled>()?.into_iter().next() {
            report.trail.push(read.trail(&label.id)?);
        }
        let mut section = section(&judged);
        if let Some(rate) = agreement_told(read)? {
            let name = "labels that agree with the kind of their prompt";
            section.rows.push((name.to_owned(), rate_shown(&rate)));
        }
        report.labeller = Some(section);
        Ok(())
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        // Of several label stages the first is `labeller`; each stands under its own name.
        let mut report = json!(judged(read)?.report);
        summary.entry("labeller").or_insert_with(|| report.clone());
        report[AGREES] = read.detail()?[AGREES].clone();
        let labellers = summary.entry("labellers").or_insert_with(|| json!({}));
        labellers[read.name()] = report;
        Ok(())
    }
}

impl LabelStage {
    /// Why nothing is to be learnt from the labels, where the gate closes: of a reward model by what measured it, and by what the labels say
    /// of pairs whose better answer is known.
    fn distrust(&self, read: &Reader<'_>) -> Result<Option<&'static str>> {
        Ok(match self.gate {
            false => None,
            true if not_passed(read, "labeller")?.is_some() => Some(NOT_PASSED),
            true => (!judged(read)?.beats_chance()).then_some(CHANCE),
        })
    }

    /// How pairs are labelled: as the stage says, else as the way of asking has it.
    fn labelling(&self, ask: Ask, run: &StageRun<'_>) -> LabelSettings {
        let mut settings = LabelSettings::of(ask, run.draws());
        settings.clamp = self.clamp.or(settings.clamp);
        settings.principles = self.principles.unwrap_or(settings.principles);
        settings.about.clone_from(&self.about);
        if self.form == Form::Paper {
            settings = settings.as_in_the_paper();
        }
        settings.few_shots = self.few_shots.unwrap_or(settings.few_shots);
        settings.both_orders = self.both_orders.unwrap_or(settings.both_orders);
        settings.temperature = self.temperature;
        if let Some(reasoning) = &self.reasoning {
            settings.reasoning = reasoning.clone();
        }
        settings
    }
}

/// Refuses a gate that can only close: even a labeller that is right on every known pair would be no better than chance. One that a stage
/// trains is tested with pairs that its training keeps back, which are not counted here.
fn check_known(preflight: &Preflight<'_>, ask: Ask) -> Result<()> {
    let Some(constitution) = preflight.constitution else { return Ok(()) };
    let known = of_examples(constitution, ask).len();
    let is_trained = (preflight.inputs)("labeller").iter().any(|stage| stage.output() == Data::Labeller);
    if is_trained || Rate::new(known, known).low > 0.5 {
        return Ok(());
    }
    let what = format!(
        "gate = true would drop every label: {known} pairs would test the labeller, too few to tell it from chance\n\
         hint: they are every fourth [[example]] of a constitution that has a [[comparison]] (with ask = \"apart\", those of which one \
         answer declines); give it more, or set gate = false and measure the labeller with `solon judge report`"
    );
    Err(UsageError(what).into())
}

/// The labels that stay as they are: with this reason why they are dropped, if they are, or without a label where it is not asked for
/// again. What the known pairs say now may be another reason than before.
fn settled(read: &Reader<'_>, again: &HashSet<String>, dropped: Option<&str>) -> Result<HashSet<String>> {
    let stays = |item: &TypedItem<Labelled>| {
        let as_it_is = item.data.unlabelled.is_some() || item.dropped_reason.as_deref() == dropped;
        as_it_is && !again.contains(&item.id)
    };
    Ok(read.own_with_dropped::<Labelled>()?.into_iter().filter(stays).map(|item| item.id).collect())
}

/// What became of the questions about each pair, known ones included.
pub fn replies(read: &Reader<'_>) -> Result<Replies> {
    let items: Vec<TypedItem<Labelled>> = read.own_with_dropped()?;
    Ok(Replies::of(items.into_iter().map(|item| (item.id, item.data.unlabelled.map(|missing| missing.kind)))))
}

/// Of what a label stage told: how many pairs have no label, by the kind of reason.
const UNLABELLED: &str = "unlabelled";

/// Of what a label stage told: that its labels were dropped, and why.
const GATED: &str = "gated";
