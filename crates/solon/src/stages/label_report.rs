//! What the labels of a `label` stage say of their maker: the judge report on the pairs whose better answer is known, how often labels
//! agree with the kinds of their prompts, and the labeller's part of the report.

use super::by_kind::Better;
use crate::items::{Known, Labelled};
use crate::report;
use crate::run::Reader;
use anyhow::{Context, Result};
use solon_data::ledger::TypedItem;
use solon_eval::{Rate, declines};
use solon_feedback::{
    Ask, Constitution, JudgeReport, KnownLabel, KnownPair, Label, Verdict, join_known, known_examples,
};
use solon_records::Preference;
use std::collections::BTreeMap;

/// Of what a label stage told: [`agreement`], or null.
pub(super) const AGREES: &str = "agrees_with_kinds";

/// How a label stage asks: as its recipe says, else as its labeller was trained, else by comparing.
pub(super) fn ask_of(read: &Reader<'_>) -> Ask {
    let own = read.stage_named(read.name()).and_then(|stage| stage.ask());
    let trained = read.input("labeller").first().and_then(|name| read.stage_named(name)?.ask());
    own.or(trained).unwrap_or_default()
}

/// The pairs whose better answer is known: those the labeller was not trained on, or, of a model that was not trained to
/// label, every fourth worked example. None where the constitution has no examples.
pub(super) fn known_pairs(read: &Reader<'_>, constitution: &Constitution, ask: Ask) -> Result<Vec<Known>> {
    let items: Vec<TypedItem<Known>> = read.items("labeller")?;
    if !items.is_empty() {
        return Ok(items.into_iter().map(|item| item.data).collect());
    }
    let learnt = read.learnt_prompts(&read.input_shown("labeller"))?;
    let mut fresh = Vec::new();
    for known in of_examples(constitution, ask) {
        if !learnt.contains(&Reader::learnt_key(&known.pair.prompt)?) {
            fresh.push(Known { known, contrast: false });
        }
    }
    Ok(fresh)
}

/// Every fourth worked example, as a pair that tests a labeller. None where the constitution has no form to ask about them in.
pub(super) fn of_examples(constitution: &Constitution, ask: Ask) -> Vec<KnownPair> {
    match constitution.comparison.is_empty() {
        true => Vec::new(),
        false => known_examples(constitution, ask, &declines),
    }
}

/// Pairs without a label, by the kind of reason; the known ones not among them.
pub(super) fn unlabelled(read: &Reader<'_>) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for item in read.own_with_dropped::<Labelled>()? {
        if let Some(missing) = item.data.unlabelled.filter(|_| !item.data.known) {
            *counts.entry(missing.kind.name().to_owned()).or_default() += 1;
        }
    }
    Ok(counts)
}

/// How often a label says what the kind of its prompt says, where that is known and exactly one of the answers declines.
/// The pairs that measure the labeller are mostly easier than those it labels, and this is of those it labels.
pub(super) fn agreement(read: &Reader<'_>) -> Result<Option<Rate>> {
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
pub(super) fn agreement_told(read: &Reader<'_>) -> Result<Option<Rate>> {
    let told = &read.detail()?[AGREES];
    let number = |key: &str| told[key].as_u64().and_then(|number| usize::try_from(number).ok());
    Ok(number("count").zip(number("total")).map(|(count, total)| Rate::new(count, total)))
}

fn percent(x: f64) -> String {
    format!("{:.1} %", 100.0 * x)
}

pub(super) fn rate_shown(rate: &Rate) -> String {
    let &Rate { count, total, rate, low, high, .. } = rate;
    let [rate, low, high] = [rate, low, high].map(percent);
    format!("{count} of {total} ({rate}; 95 % interval {low} to {high})")
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
    pub(super) fn beats_chance(&self) -> bool {
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
    let measured_contrasts = !contrasts.is_empty();
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
    let missing = match measured_contrasts {
        true => pairs.iter().filter(|pair| pair.contrast).count(),
        false => pairs.len(),
    } - measured.len();
    let report = JudgeReport::new(&measured, missing, &raw(&labelled)?);
    let labelled = labelled.into_iter().filter(|item| item.data.unlabelled.is_none());
    let preferences = labelled.map(|item| item.data.preference).collect();
    Ok(Judged { report, sides: outcomes.map(Rate::of), known, preferences })
}

/// The labeller's part of the report.
pub(super) fn section(judged: &Judged) -> report::Labeller {
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
