//! What benchmarks whose options are scored have in common: which option is the likeliest, and what is recorded.
//!
//! Contract: functions of an item and its answer. Of options with the same log-prob the first counts, as in
//! lm-evaluation-harness (`numpy.argmax`).

use std::collections::BTreeMap;

use crate::benchmark::{Answer, Better, Item, Measure, Outcome, Unit};

/// Of every benchmark with options.
pub(crate) const TRUNCATED: Measure = Measure {
    key: "truncated",
    title: "truncated",
    explanation: "Share of questions whose start was left out, because the model's context is shorter.",
    unit: Unit::Share,
    better: Better::Neither,
    groups: &[],
    scored: false,
};

/// The place of the likeliest option; none where no log-prob is a number.
pub(crate) fn best(answer: &Answer) -> Option<usize> {
    argmax(answer.log_probs.iter().copied())
}

/// The place of the option with the highest log-prob for each of its characters, without a first space.
pub(crate) fn best_by_length(item: &Item, answer: &Answer) -> Option<usize> {
    let characters = |option: &String| option.strip_prefix(' ').unwrap_or(option).chars().count();
    argmax(item.options.iter().zip(&answer.log_probs).map(|(option, log_prob)| {
        // An empty option would have an infinite score.
        log_prob / characters(option).max(1) as f64
    }))
}

/// The place of the largest number, of equals the first.
pub(crate) fn argmax(numbers: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (place, number) in numbers.enumerate() {
        if !number.is_nan() && best.is_none_or(|(_, most)| number > most) {
            best = Some((place, number));
        }
    }
    best.map(|(place, _)| place)
}

/// The outcomes of these measures, all yes or no.
pub(crate) fn outcomes<'a>(
    measures: impl Iterator<Item = &'a Measure>,
    holds: impl Fn(&str) -> bool,
) -> BTreeMap<String, Outcome> {
    measures.map(|measure| (measure.key.to_owned(), holds(measure.key).into())).collect()
}

impl Answer {
    /// The place of the likeliest option; of an answer in words none.
    pub fn choice(&self) -> Option<usize> {
        best(self)
    }

    /// What options came to: the text is the likeliest.
    pub fn chosen(item: &Item, log_probs: Vec<f64>, truncated: bool) -> Self {
        let mut answer = Self { truncated, log_probs, ..Self::default() };
        answer.text = best(&answer).and_then(|place| item.options.get(place)).cloned().unwrap_or_default();
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equals_the_first_is_chosen() {
        let item = Item { options: vec![" a".into(), " bb".into(), " cc".into()], ..Item::default() };
        for (log_probs, expected, by_length) in [
            (&[-1.0, -1.0, -2.0][..], Some(0), Some(1)),
            (&[-3.0, -2.0, -2.0], Some(1), Some(1)),
            (&[f64::NAN, f64::NEG_INFINITY, -9.0], Some(2), Some(2)),
            (&[f64::NAN], None, None),
            (&[], None, None),
        ] {
            let answer = Answer::chosen(&item, log_probs.to_vec(), false);
            assert_eq!(
                (best(&answer), best_by_length(&item, &answer)),
                (expected, by_length),
                "{log_probs:?}"
            );
            assert_eq!(answer.text, expected.map_or("", |place| &item.options[place]));
        }
    }
}
