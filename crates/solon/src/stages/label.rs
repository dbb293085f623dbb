//! `label`: a model says which answer of each pair keeps the constitution better (Bai et al. 2022 §4; Lee et al. 2023). The
//! pairs whose better answer is known are labelled first, and say how far the labels can be believed: those of a labeller
//! that is not better than chance are dropped.

use super::by_kind::Better;
use super::settings::{few_shots, is_chat};
use super::{Data, Input, Keys, Kind, OneOrMany, Preflight, Stage};
use crate::adviser::{self, Adviser};
use crate::cli::UsageError;
use crate::items::{Known, Labelled, preference_text};
use crate::judge::{JudgeLimits, JudgeName};
use crate::report::{self, Report};
use crate::run::{Reader, StageRun, safe_point};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_data::ledger::{ItemKind, NewItem, TypedItem};
use solon_eval::{Rate, declines};
use solon_feedback::{
    Ask, Constitution, Form, HELD_OUT, JudgeReport, KnownLabel, KnownPair, Label, LabelSettings, NoAnswer,
    Verdict, join_known, known_examples, label_pairs, whole_sentences,
};
use solon_records::{Pair, Preference, SamplingSettings};
use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU32, NonZeroUsize};

pub const KIND: Kind =
    Kind { name: "label", about: "A model says which answer of each pair is better.", parse };

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
    /// Whether the constitution's few-shots are put in front, with `form = "paper"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    few_shots: Option<bool>,
    /// Whether two answers shown together are shown in both orders; where it is left out, except in the paper's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    both_orders: Option<bool>,
    /// The log-odds of the label are divided by it.
    #[serde(default = "one", skip_serializing_if = "is_one", deserialize_with = "temperature")]
    temperature: f64,
    /// How reasoning is sampled, with `ask = "choice-cot"`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "reasoning")]
    reasoning: Option<SamplingSettings>,
    /// Votes on a question where a server shows no log-probs.
    #[serde(default = "five", skip_serializing_if = "is_five")]
    votes: NonZeroU32,
    /// Whether all labels are dropped where the labeller is not better than chance.
    #[serde(default = "yes")]
    gate: bool,
}

/// Why labels are dropped.
const CHANCE: &str = "the labeller is not better than chance";

fn parse(keys: Keys) -> Result<Box<dyn Stage>, String> {
    let stage: LabelStage = keys.rest()?;
    let asks = (stage.form == Form::Paper, stage.ask.is_some_and(Ask::scores_answers));
    adviser::check(("labeller", &stage.labeller), stage.judge.as_ref(), &stage.judge_limits, asks)?;
    few_shots(stage.form, stage.few_shots)?;
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

fn reasoning<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SamplingSettings>, D::Error> {
    super::settings::sampling(deserializer).map(Some)
}

/// A pair to be labelled.
struct Asked {
    pair: Pair,
    /// Its place among the stage's items.
    place: u64,
    /// Its id in the ledger; a worked example is no item.
    source: Option<String>,
    prompt_id: Option<String>,
    known: bool,
}

impl Stage for LabelStage {
    fn inputs(&self) -> Vec<Input> {
        vec![
            adviser::input("labeller", &self.labeller, &[Data::Labeller, Data::Model], self.judge.as_ref()),
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
        match (self.ask, trained) {
            (_, Some(_)) if self.form == Form::Paper => {
                let what = "form = \"paper\", but the labeller is trained to be asked in conversations\nhint: leave `form` out here, \
                            or name a model";
                Err(UsageError(what.to_owned()).into())
            }
            (Some(mine), Some(its)) if mine != its => {
                let what = format!(
                    "ask = {mine:?}, but the labeller is trained to {its:?}\nhint: leave `ask` out here"
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
        let model = adviser.model(run.slots(), self.votes.get());
        let source = match &self.judge {
            Some(judge) => judge.name().to_owned(),
            None => run.read().labeller_shown(),
        };
        let name = run.name().to_owned();
        let id = |asked: &Asked| format!("{name}/{}", asked.pair.id);
        let label = |todo: &[(u64, &Asked)], dropped: Option<&str>| -> Result<Vec<NewItem>> {
            let shown: Vec<Pair> = todo.iter().map(|(_, asked)| shown(&asked.pair)).collect();
            let labels = label_pairs(&*model, &constitution, &shown, &settings, &mut |_| {})?;
            let items = todo.iter().zip(labels).map(|((_, asked), label)| {
                item(format!("{name}/{}", asked.pair.id), asked, label, &source, dropped)
            });
            let items = items.collect();
            // What a stop left unasked is not recorded as unlabelled.
            safe_point()?;
            items
        };
        let reason = Some("a known pair: it measures the labeller");
        run.in_chunks("known pairs", &known, ItemKind::Label, id, |_, todo| label(todo, reason))?;
        let by_chance = self.gate && !judged(&run.read())?.beats_chance();
        let reason = by_chance.then_some(CHANCE);
        run.in_chunks("labels", &pairs, ItemKind::Label, id, |_, todo| label(todo, reason))?;
        let report = judged(&run.read())?.report;
        let mut told = json!({
            "labels": pairs.len(), "known": known.len(), "report": report,
            AGREES: agreement(&run.read())?,
        });
        if self.form == Form::Paper {
            let used_for = if ask == Ask::ChoiceCot { "comparison-cot" } else { "comparison" };
            let shots = settings.few_shots.then(|| constitution.few_shots_for(used_for));
            told["few_shots"] = json!(shots.unwrap_or_default());
        }
        let unlabelled = unlabelled(&run.read())?;
        if !unlabelled.is_empty() {
            told[UNLABELLED] = json!(unlabelled);
        }
        adviser.tell(&name, &mut told);
        if by_chance {
            told[GATED] = json!(format!("all labels were dropped: {CHANCE}"));
        }
        Ok(told)
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        let judged = judged(read)?;
        if judged.report.verdict != Verdict::Trustworthy {
            report.warnings.push(judged.report.warning.clone());
        }
        if read.detail()?[GATED].is_string() {
            report.warnings.push(format!(
                "All labels of the stage {} were dropped, because {CHANCE}. `gate = false` keeps them.",
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

/// Pairs without a label, by the kind of reason.
fn unlabelled(read: &Reader<'_>) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for item in read.own_with_dropped::<Labelled>()? {
        if let Some(missing) = item.data.unlabelled {
            *counts.entry(missing.kind.name().to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

/// Of what a label stage told: how many pairs have no label, by the kind of reason.
const UNLABELLED: &str = "unlabelled";

/// Of what a label stage told: that its labels were dropped, and why.
const GATED: &str = "gated";

/// Of what a label stage told: [`agreement`], or null.
const AGREES: &str = "agrees_with_kinds";

/// How often a label says what the kind of its prompt says, where that is known and exactly one of the answers declines.
/// The pairs that measure the labeller are mostly easier than those it labels, and this is of those it labels.
fn agreement(read: &Reader<'_>) -> Result<Option<Rate>> {
    let mut outcomes = Vec::new();
    for item in read.own_with_dropped::<Labelled>()? {
        let Labelled { prompt_id: Some(prompt), preference, unlabelled: None, known: false, .. } = &item.data
        else {
            continue;
        };
        let declining = [&preference.chosen, &preference.rejected].map(|answer| declines(answer));
        if let (Some(better), [chosen, rejected]) = (Better::of_id(read, prompt)?, declining)
            && chosen != rejected
        {
            outcomes.push(chosen == (better == Better::Declines));
        }
    }
    Ok((!outcomes.is_empty()).then(|| Rate::of(outcomes)))
}

/// [`agreement`] as the finished stage told it.
fn agreement_told(read: &Reader<'_>) -> Result<Option<Rate>> {
    let told = &read.detail()?[AGREES];
    let number = |key: &str| told[key].as_u64().and_then(|number| usize::try_from(number).ok());
    Ok(number("count").zip(number("total")).map(|(count, total)| Rate::new(count, total)))
}

fn percent(x: f64) -> String {
    format!("{:.1} %", 100.0 * x)
}

fn rate_shown(rate: &Rate) -> String {
    let &Rate { count, total, rate, low, high, .. } = rate;
    let [rate, low, high] = [rate, low, high].map(percent);
    format!("{count} of {total} ({rate}; 95 % interval {low} to {high})")
}

/// The pairs whose better answer is known, and those of the input, which come first among the items.
fn asked(read: &Reader<'_>, constitution: &Constitution, ask: Ask) -> Result<(Vec<Asked>, Vec<Asked>)> {
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

/// How a label stage asks: as its recipe says, else as its labeller was trained, else by comparing.
fn ask_of(read: &Reader<'_>) -> Ask {
    let own = read.stage_named(read.name()).and_then(|stage| stage.ask());
    let trained = read.input("labeller").first().and_then(|name| read.stage_named(name)?.ask());
    own.or(trained).unwrap_or_default()
}

/// The pairs whose better answer is known: those the labeller was not trained on, or, of a model that was not trained to
/// label, every fourth worked example. None where the constitution has no examples.
fn known_pairs(read: &Reader<'_>, constitution: &Constitution, ask: Ask) -> Result<Vec<Known>> {
    let items: Vec<TypedItem<Known>> = read.items("labeller")?;
    if !items.is_empty() {
        return Ok(items.into_iter().map(|item| item.data).collect());
    }
    if constitution.example.is_empty() || constitution.comparison.is_empty() {
        return Ok(Vec::new());
    }
    let learnt = read.learnt_prompts(&read.input_shown("labeller"))?;
    let mut fresh = Vec::new();
    for known in known_examples(constitution, ask, &declines) {
        if !learnt.contains(&Reader::learnt_key(&known.pair.prompt)?) {
            fresh.push(Known { known, contrast: false });
        }
    }
    Ok(fresh)
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

/// A label as the ledger holds it: the preference with the likelier answer as `chosen`, and the raw label. A pair without a label is
/// dropped, with the reason.
fn item(
    id: String,
    asked: &Asked,
    label: Result<Label, NoAnswer>,
    source: &str,
    dropped: Option<&str>,
) -> Result<NewItem> {
    let label = match label {
        Ok(label) => label,
        Err(missing) => {
            let dropped = format!("unlabelled: {}", missing.kind.name());
            let preference = asked.pair.clone().labelled(0.5, source);
            let text = preference_text(&preference);
            let labelled = Labelled {
                prompt_id: asked.prompt_id.clone(),
                preference,
                label: None,
                unlabelled: Some(missing),
                known: asked.known,
            };
            let mut item = NewItem::of(id, asked.place, text, &labelled)?;
            if let Some(source) = &asked.source {
                item = item.parent(source.clone(), "pair");
            }
            (item.prompt_id, item.dropped_reason) = (asked.prompt_id.clone(), Some(dropped));
            return Ok(item);
        }
    };
    let preference = asked.pair.clone().labelled(label.probability, source);
    let text = preference_text(&preference);
    let principle = label.principle_id.clone();
    let others: BTreeSet<String> = label.evidence.iter().filter_map(|e| e.principle_id.clone()).collect();
    let labelled = Labelled {
        prompt_id: asked.prompt_id.clone(),
        preference,
        label: Some(label),
        unlabelled: None,
        known: asked.known,
    };
    let mut item =
        NewItem::of(id, asked.place, text, &labelled)?.parent(format!("principle/{principle}"), "principle");
    for other in others.into_iter().filter(|other| *other != principle) {
        item = item.parent(format!("principle/{other}"), "principle");
    }
    if let Some(source) = &asked.source {
        item = item.parent(source.clone(), "pair");
    }
    item.prompt_id = asked.prompt_id.clone();
    item.principle_id = Some(principle);
    item.dropped_reason = dropped.map(str::to_owned);
    Ok(item)
}

/// What the recorded labels say of their maker.
pub struct Judged {
    /// The judge report.
    pub report: JudgeReport,
    /// Accuracy on the known pairs whose better answer helps, and on those where it declines.
    sides: [Rate; 2],
    /// The labels of the pairs whose better answer is known, and whether each is of a contrast.
    known: Vec<(KnownLabel, bool)>,
    /// The labels that are trained on.
    preferences: Vec<Preference>,
}

impl Judged {
    /// Whether the labeller is better than chance, and better than one that always prefers declining or always helping.
    fn beats_chance(&self) -> bool {
        self.report.beats_chance() && Rate::balanced_low(self.sides).is_none_or(|low| low > 0.5)
    }
}

/// Reads the judge report off a label stage's items.
pub fn judged(read: &Reader<'_>) -> Result<Judged> {
    let pairs = known_pairs(read, read.constitution()?, ask_of(read))?;
    let all: Vec<TypedItem<Labelled>> = read.own_with_dropped()?;
    let (known, labelled): (Vec<_>, Vec<_>) = all.into_iter().partition(|item| item.data.known);
    let raw = |items: &[TypedItem<Labelled>]| -> Result<Vec<Label>> {
        let labels = items.iter().filter(|item| item.data.unlabelled.is_none()).map(|item| {
            let label = item.data.label.clone();
            label.with_context(|| format!("the label {} holds no raw label", item.id))
        });
        labels.collect()
    };
    let held_out: Vec<KnownPair> = pairs.iter().map(|pair| pair.known.clone()).collect();
    let joined = join_known(&held_out, &raw(&known)?)?;
    let known: Vec<(KnownLabel, bool)> = joined
        .into_iter()
        .map(|label| {
            let pair = pairs.iter().find(|pair| pair.known.pair.id == label.label.pair_id);
            let contrast = pair.is_some_and(|pair| pair.contrast);
            (label, contrast)
        })
        .collect();
    // Contrasts are like the pairs at hand; worked examples, which are easier, speak for it only where there are none.
    let contrasts: Vec<KnownLabel> =
        known.iter().filter(|(_, c)| *c).map(|(label, _)| label.clone()).collect();
    let measured = match contrasts.is_empty() {
        true => known.iter().map(|(label, _)| label.clone()).collect(),
        false => contrasts,
    };
    let mut outcomes = [Vec::new(), Vec::new()];
    for label in &measured {
        let Some(known) = held_out.iter().find(|known| known.pair.id == label.label.pair_id) else {
            continue;
        };
        let better = if known.first_is_better { &known.pair.first } else { &known.pair.second };
        outcomes[usize::from(declines(better))].push(label.is_right());
    }
    let report = JudgeReport::new(&measured, &raw(&labelled)?);
    let labelled = labelled.into_iter().filter(|item| item.data.unlabelled.is_none());
    let preferences = labelled.map(|item| item.data.preference).collect();
    Ok(Judged { report, sides: outcomes.map(Rate::of), known, preferences })
}

/// The labeller's part of the report.
fn section(judged: &Judged) -> report::Labeller {
    let report = &judged.report;
    let mut rows = Vec::new();
    let examples: Vec<&KnownLabel> =
        judged.known.iter().filter(|(_, c)| !c).map(|(label, _)| label).collect();
    let has_contrasts = examples.len() < judged.known.len();
    if let Some(known) = &report.known {
        let of = if has_contrasts {
            "contrasts of the policy's own answers"
        } else {
            "examples of the constitution"
        };
        rows.push((format!("accuracy on held-out {of}"), rate_shown(&Rate::new(known.correct, known.pairs))));
        if !examples.is_empty() && has_contrasts {
            let right = examples.iter().filter(|known| known.is_right()).count();
            rows.push((
                "accuracy on the constitution's own examples, held out".to_owned(),
                format!("{right} of {}", examples.len()),
            ));
        }
        let longer = percent(known.longer_answer_accuracy);
        rows.push(("accuracy of always choosing the longer answer".to_owned(), longer));
        let error = format!("{:.3}", known.expected_calibration_error);
        rows.push(("expected calibration error".to_owned(), error));
    }
    let differ = judged.preferences.iter().filter(|p| declines(&p.chosen) != declines(&p.rejected)).count();
    rows.push((
        "pairs of which one answer refuses and the other does not".to_owned(),
        format!("{differ} of {}", judged.preferences.len()),
    ));
    for (name, measures) in [("labelled pairs", &report.unlabelled), ("held-out pairs", &report.known_labels)]
    {
        let Some(measures) = measures else { continue };
        if let Some(swap) = &measures.swap {
            rows.push((format!("same answer preferred in both orders, {name}"), percent(swap.consistency)));
            rows.push((format!("A chosen in both orders, {name}"), percent(swap.always_a)));
            rows.push((format!("B chosen in both orders, {name}"), percent(swap.always_b)));
        } else {
            let once = "no two answers were shown in both orders";
            rows.push((format!("same answer preferred in both orders, {name}"), once.to_owned()));
        }
        rows.push((format!("mean confidence, {name}"), percent(measures.mean_confidence)));
    }
    report::Labeller {
        verdict: match report.verdict {
            Verdict::Trustworthy => "Its labels can be trusted: it passed every test.",
            Verdict::Weak => "Its labels are weak: it is better than chance, but failed a test.",
            Verdict::NearChance => "Its labels are worth little: it is near chance, or was not measured.",
        }
        .to_owned(),
        warning: (report.verdict != Verdict::Trustworthy).then(|| report.warning.clone()),
        rows,
        calibration: report
            .known
            .iter()
            .flat_map(|known| &known.bins)
            .filter(|bin| bin.pairs > 0)
            .map(|bin| report::CalibrationBin {
                mean_confidence: bin.mean_probability,
                accuracy: bin.first_is_better,
                count: bin.pairs,
            })
            .collect(),
    }
}
