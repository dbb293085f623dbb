//! Two files of results side by side, item by item.
//!
//! Contract: figures are of the items that `pairing.rs` pairs, and of those of which both files tell. Differences are second − first. Tests are those of [`crate::compare()`]: exact McNemar of shares, sign test
//! of numbers. Every row counts as one item, the turns of a conversation and the jailbreaks of a behaviour too.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;
use solon_stats::{Mean, Rate, mcnemar_exact};

use super::pairing::{Pair, Pairs, pair};
use super::{Form, Sample, Samples};
use crate::benchmark::Outcome;
use crate::compare::split;
use crate::error::EvalError;
use crate::summary::Figure;

/// One of the two files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// The file or folder.
    pub path: PathBuf,
    /// Which program wrote it.
    pub form: Form,
    /// Its items.
    pub items: usize,
    /// Those that the other file does not have.
    pub only_here: usize,
}

/// How often both chose the same option.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choices {
    /// Items with the same choice, of those on which both chose among the same number of options.
    #[serde(flatten)]
    pub same: Rate,
    /// Items with other numbers of options in the two files; they are in no figure of options.
    pub other_options: usize,
}

/// How far log-probs are apart, option by option.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogProbs {
    /// Options of which both files have a log-prob; those of which neither has a number are left out.
    pub options: usize,
    /// Options where one of the two is no finite number and the other differs; they are in neither of the next two.
    pub not_finite: usize,
    /// The largest difference, nats.
    pub largest: f64,
    /// The id of the item that has it.
    pub largest_at: String,
    /// The median of the differences, nats.
    pub median: f64,
}

/// A figure that both files have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FigureRow {
    /// Its name.
    pub name: String,
    /// Items of which both files tell it.
    pub items: usize,
    /// What it comes to in the first file.
    pub first: Figure,
    /// In the second.
    pub second: Figure,
    /// Items where it holds, or is higher, in the first alone.
    pub first_only: usize,
    /// In the second alone.
    pub second_only: usize,
    /// The mean of second − first, with its interval.
    pub difference: Option<Mean>,
    /// McNemar's exact two-sided p-value; of numbers that of the sign test.
    pub p_value: f64,
}

/// An item on which the files differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Differing {
    /// Its id in the first file.
    pub id: String,
    /// What each file chose, where both chose.
    pub choices: Option<[usize; 2]>,
    /// The log-probs of both, where both have some.
    pub log_probs: Option<[Vec<f64>; 2]>,
    /// The answers of both, where both were written and they are not the same.
    pub answers: Option<[String; 2]>,
    /// The figures that differ, by name.
    pub figures: Vec<(String, [Outcome; 2])>,
}

/// What two files have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleComparison {
    /// The first file.
    pub first: Side,
    /// The second.
    pub second: Side,
    /// Items that both have.
    pub both: usize,
    /// Those of them that were paired by their question, because their ids differ.
    pub by_question: usize,
    /// Ids that both have for questions that differ; these items are not paired.
    pub other_question: usize,
    /// Items that chose among options in both.
    pub choices: Option<Choices>,
    /// Their log-probs.
    pub log_probs: Option<LogProbs>,
    /// Items whose written answer is the same to the letter, of those that were answered in both.
    pub same_answers: Option<Rate>,
    /// By name.
    pub figures: Vec<FigureRow>,
    /// Items that differ in the choice, the answer or a figure.
    pub differing: usize,
    /// The first of them, in the order of the first file; those with another choice come first.
    pub shown: Vec<Differing>,
}

/// Compares two files; `show` items that differ are told.
///
/// Errors where they have no item in common.
pub fn compare_samples(
    first: &Samples,
    second: &Samples,
    show: usize,
) -> Result<SampleComparison, EvalError> {
    let Pairs { pairs, by_question, other_question } = pair(&first.rows, &second.rows);
    if pairs.is_empty() {
        return Err(nothing_in_common(first, second, other_question));
    }
    let mut differing: Vec<Differing> = pairs.iter().filter_map(|pair| differs(*pair)).collect();
    let count = differing.len();
    differing.sort_by_key(|item| item.choices.is_none_or(|[a, b]| a == b));
    differing.truncate(show);
    let side = |samples: &Samples| Side {
        path: samples.path.clone(),
        form: samples.form,
        items: samples.rows.len(),
        only_here: samples.rows.len() - pairs.len(),
    };
    Ok(SampleComparison {
        first: side(first),
        second: side(second),
        both: pairs.len(),
        by_question,
        other_question,
        choices: choices(&pairs),
        log_probs: log_probs(&pairs),
        same_answers: same_answers(&pairs),
        figures: figures(&pairs),
        differing: count,
        shown: differing,
    })
}

fn nothing_in_common(first: &Samples, second: &Samples, other_question: usize) -> EvalError {
    let example = |samples: &Samples| {
        let id = samples.rows.first().map(|row| row.id.as_str()).unwrap_or_default();
        format!("{} has {} items such as {id:?}", samples.path.display(), samples.rows.len())
    };
    let why = match other_question {
        0 => String::new(),
        count => format!("; {count} ids are in both, for questions that differ"),
    };
    let reason = format!(
        "no item is in both: {}, {}{why}\nhint: give results of one benchmark",
        example(first),
        example(second)
    );
    EvalError::NothingInCommon { reason }
}

/// The pairs whose options are the same in number, and how many have other numbers.
fn over_options<'a>(pairs: &[Pair<'a>]) -> (Vec<Pair<'a>>, usize) {
    let scored = pairs.iter().filter(|(a, b)| !a.log_probs.is_empty() && !b.log_probs.is_empty());
    let (same, other): (Vec<Pair<'a>>, Vec<Pair<'a>>) =
        scored.partition(|(a, b)| a.log_probs.len() == b.log_probs.len());
    (same, other.len())
}

fn choices(pairs: &[Pair<'_>]) -> Option<Choices> {
    let (pairs, other_options) = over_options(pairs);
    let chosen = pairs.iter().filter_map(|(a, b)| a.choice.zip(b.choice));
    let same = Rate::of(chosen.map(|(a, b)| a == b));
    (same.total > 0 || other_options > 0).then_some(Choices { same, other_options })
}

fn log_probs(pairs: &[Pair<'_>]) -> Option<LogProbs> {
    let mut apart: Vec<(f64, &str)> = Vec::new();
    let mut not_finite = 0;
    for (first, second) in over_options(pairs).0 {
        for (a, b) in first.log_probs.iter().zip(&second.log_probs) {
            match (a - b).abs() {
                _ if a.is_nan() && b.is_nan() => {}
                // Equal infinities have no difference.
                _ if a == b => apart.push((0.0, &first.id)),
                difference if difference.is_finite() => apart.push((difference, &first.id)),
                _ => not_finite += 1,
            }
        }
    }
    if apart.is_empty() && not_finite == 0 {
        return None;
    }
    apart.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (middle, options) = (apart.len() / 2, apart.len() + not_finite);
    let at = |place: usize| apart.get(place).map_or(f64::NAN, |(difference, _)| *difference);
    let median =
        if apart.len() % 2 == 1 { at(middle) } else { (at(middle.saturating_sub(1)) + at(middle)) / 2.0 };
    let (largest, largest_at) = apart.last().copied().unwrap_or((f64::NAN, ""));
    Some(LogProbs { options, not_finite, largest, largest_at: largest_at.to_owned(), median })
}

fn same_answers(pairs: &[Pair<'_>]) -> Option<Rate> {
    let answers = pairs.iter().filter_map(|(a, b)| Some((a.answer.as_ref()?, b.answer.as_ref()?)));
    let same = Rate::of(answers.map(|(a, b)| a == b));
    (same.total > 0).then_some(same)
}

/// What is known of a figure of an item; of options also from what the other file says is right.
fn outcome(sample: &Sample, other: &Sample, name: &str) -> Option<Outcome> {
    if let Some(outcome) = sample.figures.get(name) {
        return Some(*outcome).filter(|outcome| *outcome != Outcome::Unknown);
    }
    let told = other.figures.contains_key(name) && (name == "accuracy" || name == "mc1");
    if !told || sample.log_probs.len() != other.log_probs.len() {
        return None;
    }
    Some(Outcome::Holds(sample.choice? == other.right?))
}

fn number(outcome: Outcome) -> Option<f64> {
    match outcome {
        Outcome::Holds(holds) => Some(f64::from(u8::from(holds))),
        Outcome::Number(number) => Some(number).filter(|number| number.is_finite()),
        Outcome::Unknown => None,
    }
}

fn figures(pairs: &[Pair<'_>]) -> Vec<FigureRow> {
    let names: BTreeSet<&String> =
        pairs.iter().flat_map(|(a, b)| a.figures.keys().chain(b.figures.keys())).collect();
    let rows = names.into_iter().filter_map(|name| {
        let known = pairs.iter().filter_map(|(a, b)| {
            let first = number(outcome(a, b, name)?)?;
            Some((first, number(outcome(b, a, name)?)?))
        });
        let (first, second): (Vec<f64>, Vec<f64>) = known.unzip();
        if first.is_empty() {
            return None;
        }
        // The harness writes a yes as 1.0.
        let share = first.iter().chain(&second).all(|number| [0.0, 1.0].contains(number));
        let figure = |numbers: &[f64]| match share {
            true => Figure::Rate(Rate::of(numbers.iter().map(|number| *number == 1.0))),
            false => Figure::Mean(Mean::of(numbers)),
        };
        let differences: Vec<f64> = first.iter().zip(&second).map(|(a, b)| b - a).collect();
        let [first_only, second_only] = split(&differences);
        Some(FigureRow {
            name: name.clone(),
            items: first.len(),
            first: figure(&first),
            second: figure(&second),
            first_only,
            second_only,
            difference: Mean::of(&differences),
            p_value: mcnemar_exact(first_only, second_only),
        })
    });
    rows.collect()
}

/// How far two numbers may be apart that two programs computed: what differs by less is not told as a difference.
const TOLERANCE: f64 = 1e-3;

fn differs((first, second): Pair<'_>) -> Option<Differing> {
    let choices = first.choice.zip(second.choice).map(|(a, b)| [a, b]);
    let both = !first.log_probs.is_empty() && !second.log_probs.is_empty();
    let answers = match (&first.answer, &second.answer) {
        (Some(a), Some(b)) if a != b => Some([a.clone(), b.clone()]),
        _ => None,
    };
    let names: BTreeSet<&String> = first.figures.keys().chain(second.figures.keys()).collect();
    let figures: Vec<(String, [Outcome; 2])> = names
        .into_iter()
        .filter_map(|name| {
            let found = [outcome(first, second, name)?, outcome(second, first, name)?];
            let [a, b] = [number(found[0])?, number(found[1])?];
            ((a - b).abs() > TOLERANCE).then(|| (name.clone(), found))
        })
        .collect();
    let other_choice = choices.is_some_and(|[a, b]| a != b);
    let differ = other_choice || answers.is_some() || !figures.is_empty();
    differ.then(|| Differing {
        id: first.id.clone(),
        choices,
        log_probs: both.then(|| [first.log_probs.clone(), second.log_probs.clone()]),
        answers,
        figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rows: Vec<Sample>) -> Samples {
        Samples { path: "results.jsonl".into(), form: Form::Solon, rows }
    }

    fn scored(id: &str, log_probs: &[f64], accuracy: Option<bool>) -> Sample {
        let figures = accuracy.map(|right| ("accuracy".to_owned(), Outcome::Holds(right)));
        Sample {
            id: id.to_owned(),
            choice: super::super::likeliest(log_probs),
            log_probs: log_probs.to_vec(),
            figures: figures.into_iter().collect(),
            ..Sample::default()
        }
    }

    fn asked(id: &str, questions: &[&str]) -> Sample {
        let questions = questions.iter().map(|question| (*question).to_owned()).collect();
        Sample { id: id.to_owned(), questions, ..Sample::default() }
    }

    #[test]
    fn options_are_compared_one_by_one() {
        let first = samples(vec![
            scored("a/0", &[-1.0, -2.0], Some(true)),
            scored("a/1", &[-1.0, -2.0], Some(true)),
            scored("a/2", &[-1.0, f64::NEG_INFINITY], Some(false)),
            scored("a/3", &[-1.0, f64::NAN], None),
            scored("a/4", &[-1.0], None),
        ]);
        let second = samples(vec![
            scored("a/1", &[-1.5, -1.0], Some(false)),
            scored("a/2", &[-1.25, f64::NEG_INFINITY], Some(false)),
            scored("a/0", &[-1.0, -2.0], Some(true)),
            scored("a/3", &[-1.0, -7.0], None),
            scored("a/4", &[-1.0, -2.0], None),
            scored("b/0", &[-1.0, -2.0], None),
        ]);
        let found = compare_samples(&first, &second, 5).unwrap();
        assert_eq!((found.both, found.first.only_here, found.second.only_here), (5, 0, 1));
        let choices = found.choices.unwrap();
        assert_eq!((choices.same, choices.other_options), (Rate::new(3, 4), 1));
        let log_probs = found.log_probs.unwrap();
        assert_eq!((log_probs.options, log_probs.not_finite), (8, 1));
        assert_eq!((log_probs.largest, log_probs.largest_at.as_str(), log_probs.median), (1.0, "a/1", 0.0));
        let [accuracy] = &found.figures[..] else { panic!("{:?}", found.figures) };
        assert_eq!((accuracy.items, accuracy.first_only, accuracy.second_only), (3, 1, 0));
        assert_eq!(accuracy.first, Figure::Rate(Rate::new(2, 3)));
        assert_eq!(accuracy.second, Figure::Rate(Rate::new(1, 3)));
        assert_eq!(accuracy.difference, Mean::of(&[0.0, -1.0, 0.0]));
        assert_eq!(accuracy.p_value, 1.0);
        assert_eq!((found.differing, found.shown[0].id.as_str()), (1, "a/1"));
        assert_eq!(found.shown[0].choices, Some([0, 1]));
    }

    #[test]
    fn what_neither_file_tells_is_no_agreement() {
        let unknown = [f64::NAN, f64::NAN];
        let first = samples(vec![scored("a/0", &unknown, None), scored("a/1", &[-1.0, f64::NAN], None)]);
        let found = compare_samples(&first, &first, 0).unwrap();
        assert_eq!(found.choices.unwrap().same, Rate::new(1, 1));
        let log_probs = found.log_probs.unwrap();
        assert_eq!((log_probs.options, log_probs.not_finite, log_probs.largest), (1, 0, 0.0));
        let nothing = samples(vec![scored("a/0", &unknown, None)]);
        let found = compare_samples(&nothing, &nothing, 0).unwrap();
        assert!(found.choices.is_none() && found.log_probs.is_none());
    }

    #[test]
    fn what_is_right_may_stand_in_the_other_file() {
        let short = samples(vec![scored("a/0", &[-1.0, -2.0], None), scored("a/1", &[-1.0, -2.0], None)]);
        let told = |id: &str, right: usize| {
            let number = Outcome::Number(f64::from(u8::from(right == 0)));
            let figures = [("accuracy".to_owned(), number)].into();
            Sample { right: Some(right), figures, ..scored(id, &[-1.0, -2.0], None) }
        };
        let theirs = samples(vec![told("a/0", 0), told("a/1", 1)]);
        for (first, second) in [(&short, &theirs), (&theirs, &short)] {
            let found = compare_samples(first, second, 0).unwrap();
            assert_eq!(found.figures[0].first, Figure::Rate(Rate::new(1, 2)));
            assert_eq!(found.figures[0].second, Figure::Rate(Rate::new(1, 2)));
        }
        assert!(compare_samples(&short, &short, 0).unwrap().figures.is_empty());
    }

    #[test]
    fn numbers_have_means_and_unknown_outcomes_are_left_out() {
        let grade = |id: &str, outcome: Outcome| {
            let figures = [("grade".to_owned(), outcome)].into();
            Sample { id: id.to_owned(), answer: Some(id.to_owned()), figures, ..Sample::default() }
        };
        let first = samples(vec![
            grade("1", Outcome::Number(3.0)),
            grade("2", Outcome::Number(5.0)),
            grade("3", Outcome::Unknown),
        ]);
        let mut second = first.clone();
        second.rows[0].figures.insert("grade".to_owned(), Outcome::Number(7.0));
        second.rows[0].answer = Some("other".to_owned());
        let found = compare_samples(&first, &second, 5).unwrap();
        let grade = &found.figures[0];
        assert_eq!((grade.items, grade.second), (2, Figure::Mean(Mean::of(&[7.0, 5.0]))));
        assert_eq!((grade.second_only, grade.p_value), (1, 1.0));
        assert_eq!(found.same_answers, Some(Rate::new(2, 3)));
        assert_eq!(found.shown[0].answers, Some(["1".to_owned(), "other".to_owned()]));
        assert!(found.choices.is_none() && found.log_probs.is_none());
    }

    #[test]
    fn files_with_nothing_in_common_are_refused() {
        let error = |a: Vec<Sample>, b: Vec<Sample>| {
            compare_samples(&samples(a), &samples(b), 5).unwrap_err().to_string()
        };
        let found = error(vec![asked("anatomy/0", &[])], vec![asked("virology/0", &[])]);
        assert!(
            found.starts_with("no item is in both: results.jsonl has 1 items such as \"anatomy/0\""),
            "{found}"
        );
        assert!(found.contains("\nhint: give results of one benchmark"), "{found}");
        let found = error(vec![asked("1", &["Why?"])], vec![asked("1", &["Who?"])]);
        assert!(found.contains("1 ids are in both, for questions that differ"), "{found}");
    }
}
