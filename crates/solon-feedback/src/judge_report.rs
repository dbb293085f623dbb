//! The judge report: a labeller is measured before its labels are used.
//!
//! Measures: swap consistency and position bias over all labels (Lee et al. 2023, §2.4: the same position picked after
//! a swap); accuracy with Wilson's 95 % interval, Cohen's kappa with the known answers and expected calibration error (Guo et al. 2017,
//! 10 bins) over pairs whose better answer is known, and the same without the bias of few pairs in a bin (Kumar et al. 2019, 1909.10155,
//! §4: a root mean square); and whether the labeller simply prefers longer answers.
//!
//! Contract: the verdict is never `Trustworthy` without known pairs. The thresholds are the constants below.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use solon_stats::{Rate, cohens_kappa_of};

use crate::label::{KnownLabel, Label};

/// For `Trustworthy`: the lower end of the accuracy's interval is at least this.
const TRUSTED_ACCURACY: f64 = 0.70;
/// For `Trustworthy`: both orders agree on at least this share of pairs.
const TRUSTED_AGREEMENT: f64 = 0.80;
/// For `Trustworthy`: it labels at least this share of the known pairs.
const TRUSTED_COVERAGE: f64 = 0.95;
/// For `Trustworthy`: its confidence is above its accuracy by at most this. Votes and clamped labels are less sure than they could be, which
/// harms nobody.
const TRUSTED_CALIBRATION: f64 = 0.15;
/// If both orders agree on a smaller share of pairs, the labeller is near chance. One that answers at random agrees
/// with itself on half.
const WEAK_AGREEMENT: f64 = 0.60;
/// A labeller that chooses the longer of two unlabelled answers this often may be judging length.
const LENGTH_SUSPECT: f64 = 0.80;
/// Bins of the calibration curve over [0, 1].
const BINS: usize = 10;

/// How far the labels can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Accuracy's lower end ≥ 0.70, agreement (if answers are compared) ≥ 0.80, overconfidence ≤ 0.15, labels
    /// on 95 % of the known pairs, and length does not explain the accuracy.
    Trustworthy,
    /// Better than chance, but not trustworthy.
    Weak,
    /// Accuracy's lower end ≤ 0.50, or agreement < 0.60, or nothing was measured.
    NearChance,
}

/// Agreement between the two orders of a comparison by the first of a pair's principles; shares of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Swap {
    /// Both orders prefer the same answer.
    pub consistency: f64,
    /// A is chosen in both orders.
    pub always_a: f64,
    /// B is chosen in both orders.
    pub always_b: f64,
}

/// What can be measured on labels without known answers; shares of pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LabelMeasures {
    /// Pairs measured; not 0.
    pub pairs: usize,
    /// `None` if no two answers were shown in both orders.
    pub swap: Option<Swap>,
    /// Mean of max(p, 1 − p).
    pub mean_confidence: f64,
    /// How often the longer answer is preferred, among pairs with a longer answer and a preference; `None` if there are
    /// none.
    pub prefers_longer: Option<f64>,
}

/// A bin of the calibration curve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// Pairs whose probability falls in the bin.
    pub pairs: usize,
    /// Their mean P(first is better).
    pub mean_probability: f64,
    /// How often the first answer is the better one.
    pub first_is_better: f64,
}

/// What can be measured if the better answer is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownMeasures {
    /// Pairs measured; not 0.
    pub pairs: usize,
    /// Labels on the correct side of ½; exactly ½ counts as wrong.
    pub correct: usize,
    /// `correct / pairs`.
    pub accuracy: f64,
    /// Wilson's 95 % interval of the accuracy.
    pub accuracy_interval: [f64; 2],
    /// Mean over pairs of |bin's mean probability − bin's frequency|.
    pub expected_calibration_error: f64,
    /// Root mean square of the same differences over bins of two pairs or more, less what chance adds to them: 0 where chance explains
    /// all, `None` where there is no such bin.
    pub debiased_calibration_error: Option<f64>,
    /// Mean of max(p, 1 − p), less the accuracy: above 0 where it is surer than it is right.
    pub overconfidence: f64,
    /// Known pairs that it gave no label.
    pub missing: usize,
    /// Agreement with the known answers beyond chance; `None` where both always say the same one thing.
    pub kappa: Option<f64>,
    /// Accuracy by the principle that pairs were judged by, the first of several.
    pub by_principle: BTreeMap<String, Rate>,
    /// `[10]`, of equal width over P(first is better) in [0, 1].
    pub bins: Vec<Bin>,
    /// The accuracy that always choosing the longer answer would have on the same pairs.
    pub longer_answer_accuracy: f64,
}

/// Measures of a labeller and the verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JudgeReport {
    /// Measured on the pairs to be labelled.
    pub unlabelled: Option<LabelMeasures>,
    /// Measured on the known pairs.
    pub known_labels: Option<LabelMeasures>,
    /// Measured on the known pairs, with their known answers.
    pub known: Option<KnownMeasures>,
    /// How far the labels can be trusted.
    pub verdict: Verdict,
    /// The verdict and its reasons as sentences.
    pub warning: String,
}

impl LabelMeasures {
    /// Measures the labels; `None` if there are none.
    pub fn new<'a>(labels: impl Iterator<Item = &'a Label>) -> Option<Self> {
        let (mut pairs, mut compared, mut consistent, mut a, mut b) = (0, 0, 0, 0, 0);
        let mut confidence = 0.0;
        let (mut decided, mut longer) = (0_usize, 0_usize);
        for label in labels {
            pairs += 1;
            if let Some(letters) = label.letters() {
                compared += 1;
                consistent += usize::from(matches!(letters, [Some(one), Some(two)] if one != two));
                a += usize::from(letters == [Some('A'); 2]);
                b += usize::from(letters == [Some('B'); 2]);
            }
            confidence += label.probability.max(1.0 - label.probability);
            let [first, second] = label.characters;
            if first != second && label.probability != 0.5 {
                decided += 1;
                longer += usize::from((first > second) == (label.probability > 0.5));
            }
        }
        let share = |count: usize| count as f64 / compared as f64;
        let swap = || Swap { consistency: share(consistent), always_a: share(a), always_b: share(b) };
        (pairs > 0).then(|| Self {
            pairs,
            swap: (compared > 0).then(swap),
            mean_confidence: confidence / pairs as f64,
            prefers_longer: (decided > 0).then(|| longer as f64 / decided as f64),
        })
    }
}

impl KnownMeasures {
    /// Measures the labels against the known answers; `None` if there are none. `missing`: known pairs without a label.
    pub fn new(known: &[KnownLabel], missing: usize) -> Option<Self> {
        if known.is_empty() {
            return None;
        }
        let n = known.len() as f64;
        let (mut correct, mut longer) = (0, 0.0);
        let mut sums = [(0_usize, 0.0, 0_usize); BINS];
        for each in known {
            let KnownLabel { label, first_is_better } = each;
            let p = label.probability;
            correct += usize::from(each.is_right());
            let [first, second] = label.characters;
            longer += if first == second { 0.5 } else { f64::from((first > second) == *first_is_better) };
            let bin = &mut sums[((p * BINS as f64) as usize).min(BINS - 1)];
            *bin = (bin.0 + 1, bin.1 + p, bin.2 + usize::from(*first_is_better));
        }
        let error = sums.iter().map(|(_, p, better)| (p - *better as f64).abs()).sum::<f64>() / n;
        let used = || sums.iter().filter(|(pairs, ..)| *pairs > 1);
        let pairs_used: usize = used().map(|(pairs, ..)| pairs).sum();
        let squares = used().map(|(pairs, p, better)| {
            let pairs = *pairs as f64;
            let (p, better) = (p / pairs, *better as f64 / pairs);
            pairs / pairs_used as f64 * ((p - better).powi(2) - better * (1.0 - better) / (pairs - 1.0))
        });
        let debiased = (pairs_used > 0).then(|| squares.sum::<f64>().max(0.0).sqrt());
        let confidence = known.iter().map(|each| each.label.probability.max(1.0 - each.label.probability));
        let overconfidence = (confidence.sum::<f64>() - correct as f64) / n;
        // A tie is a verdict of its own.
        let verdict = |p: f64| i8::from(p > 0.5) - i8::from(p < 0.5);
        let truth = |first_is_better| if first_is_better { 1 } else { -1 };
        let verdicts: Vec<(i8, i8)> =
            known.iter().map(|each| (verdict(each.label.probability), truth(each.first_is_better))).collect();
        let mut of_principle: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        for each in known {
            if let Some(principle) = &each.label.principle_id {
                of_principle.entry(principle.clone()).or_default().push(each.is_right());
            }
        }
        let bins = sums.map(|(pairs, p, better)| {
            let pairs_or_one = pairs.max(1) as f64;
            Bin { pairs, mean_probability: p / pairs_or_one, first_is_better: better as f64 / pairs_or_one }
        });
        let interval = Rate::new(correct, known.len());
        Some(Self {
            pairs: known.len(),
            correct,
            accuracy: correct as f64 / n,
            accuracy_interval: [interval.low, interval.high],
            expected_calibration_error: error,
            debiased_calibration_error: debiased,
            overconfidence,
            missing,
            kappa: cohens_kappa_of(&verdicts),
            by_principle: of_principle.into_iter().map(|(id, right)| (id, Rate::of(right))).collect(),
            bins: bins.to_vec(),
            longer_answer_accuracy: longer / n,
        })
    }
}

impl JudgeReport {
    /// Whether it was measured on known pairs, and its accuracy is higher than chance explains, where a missing label counts as wrong.
    pub fn beats_chance(&self) -> bool {
        self.known
            .as_ref()
            .is_some_and(|known| Rate::new(known.correct, known.pairs + known.missing).low > 0.5)
    }

    /// Measures a labeller on pairs with known answers, of which it gave `missing` no label, and on the pairs it is to label. Either may be
    /// empty.
    pub fn new(known: &[KnownLabel], missing: usize, unlabelled: &[Label]) -> Self {
        let unlabelled = LabelMeasures::new(unlabelled.iter());
        let known_labels = LabelMeasures::new(known.iter().map(|known| &known.label));
        let known = KnownMeasures::new(known, missing);
        let (verdict, grounds) =
            verdict_with_reasons(unlabelled.as_ref(), known_labels.as_ref(), known.as_ref());
        let opening = match verdict {
            Verdict::Trustworthy => "These labels may be used as they are",
            Verdict::Weak => {
                "Use these labels with care: a model trained on them learns the labeller's mistakes"
            }
            Verdict::NearChance => {
                "Do not rely on these labels: they are close to random, and a model trained on them \
                 learns noise or the labeller's habits"
            }
        };
        Self {
            unlabelled,
            known_labels,
            known,
            verdict,
            warning: format!("{opening}. {}.", grounds.join("; ")),
        }
    }
}

/// The verdict and its reasons.
fn verdict_with_reasons(
    unlabelled: Option<&LabelMeasures>,
    known_labels: Option<&LabelMeasures>,
    known: Option<&KnownMeasures>,
) -> (Verdict, Vec<String>) {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let (mut chance, mut weak) = (Vec::new(), Vec::new());
    // The worse of the two sets counts: agreement on easy known pairs says little about the pairs to be labelled.
    let measured: Vec<&LabelMeasures> = [unlabelled, known_labels].into_iter().flatten().collect();
    let agreement = measured.iter().filter_map(|m| m.swap).map(|swap| swap.consistency).reduce(f64::min);
    match agreement {
        None if measured.is_empty() => chance.push("nothing was measured".to_string()),
        None => {}
        Some(share) if share < WEAK_AGREEMENT => chance.push(format!(
            "if the two answers are swapped, it keeps its choice on only {} of pairs",
            percent(share)
        )),
        Some(share) if share < TRUSTED_AGREEMENT => weak.push(format!(
            "if the two answers are swapped, it changes its choice on {} of pairs",
            percent(1.0 - share)
        )),
        Some(_) => {}
    }
    if let Some(known) = known {
        let [low, high] = known.accuracy_interval;
        let measured = format!(
            "it is right on {} of {} known pairs (95 % interval {} to {})",
            known.correct,
            known.pairs,
            percent(low),
            percent(high)
        );
        if low <= 0.5 {
            chance.push(format!("{measured}, which may be chance"));
        } else if low < TRUSTED_ACCURACY {
            weak.push(measured);
        }
        if known.overconfidence > TRUSTED_CALIBRATION {
            weak.push(format!(
                "it is surer than it is right, by {} on average",
                percent(known.overconfidence)
            ));
        }
        let asked = known.pairs + known.missing;
        if (known.pairs as f64) < TRUSTED_COVERAGE * asked as f64 {
            weak.push(format!("it gave no label on {} of {asked} known pairs", known.missing));
        }
        // If length alone does as well, only the unlabelled pairs can show that the labeller judges something else.
        let habit = unlabelled.and_then(|measures| measures.prefers_longer);
        if known.longer_answer_accuracy >= known.accuracy && habit.is_none_or(|share| share >= LENGTH_SUSPECT)
        {
            weak.push(format!(
                "always choosing the longer answer would be right on {} of the known pairs, so it may only prefer \
                 long answers",
                percent(known.longer_answer_accuracy)
            ));
        }
    } else if !measured.is_empty() {
        weak.push("it was not tested on pairs whose better answer is known".to_string());
    }
    if !chance.is_empty() {
        chance.extend(weak);
        return (Verdict::NearChance, chance);
    }
    if !weak.is_empty() {
        return (Verdict::Weak, weak);
    }
    let known = known.map_or(0.0, |known| known.accuracy);
    let mut held = format!("It is right on {} of known pairs", percent(known));
    if let Some(agreement) = agreement {
        let agreement = percent(agreement);
        held.push_str(&format!(" and keeps its choice on {agreement} of pairs if the answers are swapped"));
    }
    (Verdict::Trustworthy, vec![held])
}

impl fmt::Display for LabelMeasures {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "{} pairs: ", self.pairs)?;
        if let Some(Swap { consistency, always_a, always_b }) = self.swap {
            let [agree, a, b] = [consistency, always_a, always_b].map(|x| 100.0 * x);
            write!(out, "same answer in both orders {agree:.1} %, A in both {a:.1} %, B in both {b:.1} %, ")?;
        }
        write!(out, "mean confidence {:.1} %", 100.0 * self.mean_confidence)?;
        match self.prefers_longer {
            Some(share) => write!(out, ", longer answer preferred {:.1} %", 100.0 * share),
            None => Ok(()),
        }
    }
}

impl fmt::Display for JudgeReport {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Trustworthy => "trustworthy",
            Verdict::Weak => "weak",
            Verdict::NearChance => "near chance",
        };
        writeln!(out, "judge: {verdict}")?;
        if let Some(known) = &self.known {
            let [low, high] = known.accuracy_interval.map(|x| 100.0 * x);
            writeln!(
                out,
                "  known: accuracy {:.1} % ({} of {}; 95 % interval {low:.1} to {high:.1}), calibration error {:.3}, \
                 longer answer alone {:.1} %",
                100.0 * known.accuracy,
                known.correct,
                known.pairs,
                known.expected_calibration_error,
                100.0 * known.longer_answer_accuracy
            )?;
        }
        if let Some(measures) = &self.known_labels {
            writeln!(out, "  known: {measures}")?;
        }
        if let Some(measures) = &self.unlabelled {
            writeln!(out, "  unlabelled: {measures}")?;
        }
        write!(out, "  {}", self.warning)
    }
}

#[cfg(test)]
mod tests;
