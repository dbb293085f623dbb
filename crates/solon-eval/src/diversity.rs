//! How varied a model's answers are: distinct-n, and how much of an answer repeats itself.
//!
//! Contract: a pure function of all answers of a model to one benchmark. Distinct-n is the number of different n-grams of words
//! over that of all n-grams, of all answers together (Li et al., NAACL 2016). It falls with the number and the length of the
//! answers, so it compares models on the same items only. Repeated 4-grams are those that stand earlier in the same answer
//! (Welleck et al., ICLR 2020: seq-rep-4). Words are in lower case and without the punctuation around them.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

/// The figures of a model's answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Diversity {
    /// Answers with at least one word.
    pub answers: usize,
    /// Words of such an answer, on average.
    pub words: f64,
    /// Share of different words.
    pub distinct_1: f64,
    /// Share of different pairs of words; `None` of none.
    pub distinct_2: Option<f64>,
    /// Share of 4-grams that stand earlier in the same answer; `None` of none.
    pub repeated_4: Option<f64>,
}

fn words(text: &str) -> Vec<String> {
    let words = text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

impl Diversity {
    /// Of some answers; `None` where none has a word.
    pub fn of<'a>(answers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let answers: Vec<Vec<String>> = answers.map(words).filter(|words| !words.is_empty()).collect();
        let total: usize = answers.iter().map(Vec::len).sum();
        let distinct = |n: usize| {
            let grams = || answers.iter().flat_map(|answer| answer.windows(n));
            share(grams().collect::<HashSet<_>>().len(), grams().count())
        };
        let repeated = answers.iter().map(|answer| {
            let grams = answer.windows(4);
            (grams.len() - grams.clone().collect::<HashSet<_>>().len(), grams.len())
        });
        let (repeated, grams) = repeated.fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        Some(Self {
            answers: answers.len(),
            words: share(total, answers.len())?,
            distinct_1: distinct(1)?,
            distinct_2: distinct(2),
            repeated_4: share(repeated, grams),
        })
    }
}

fn share(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

impl fmt::Display for Diversity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answers, words, distinct_1, distinct_2, repeated_4 } = self;
        let shown = |share: &Option<f64>| share.map_or("-".to_owned(), |share| format!("{share:.2}"));
        write!(
            formatter,
            "{answers} answers of {words:.1} words on average; distinct-1 {distinct_1:.2}, distinct-2 {}, repeated 4-grams {}.",
            shown(distinct_2),
            shown(repeated_4)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_ngrams_are_counted_over_all_answers_and_repeated_ones_within_each() {
        let found = Diversity::of(["A b a b.", "", "a, b c", "... !"].into_iter()).unwrap();
        // Words a b a b a b c, pairs ab ba ab | ab bc, one 4-gram.
        assert_eq!((found.answers, found.words), (2, 3.5));
        assert_eq!((found.distinct_1, found.distinct_2), (3.0 / 7.0, Some(3.0 / 5.0)));
        assert_eq!(found.repeated_4, Some(0.0));
        let looping = Diversity::of(["a b c d a b c d a b c d"].into_iter()).unwrap();
        assert_eq!(looping.repeated_4, Some(5.0 / 9.0));
        assert_eq!(
            looping.to_string(),
            "1 answers of 12.0 words on average; distinct-1 0.33, distinct-2 0.36, repeated 4-grams 0.56."
        );
        // The same answer twice is half as varied, and repeats nothing within itself.
        let twice = Diversity::of(["one two three four", "one two three four"].into_iter()).unwrap();
        assert_eq!((twice.distinct_1, twice.repeated_4), (0.5, Some(0.0)));
        let short = Diversity::of(["yes"].into_iter()).unwrap();
        assert_eq!((short.distinct_2, short.repeated_4), (None, None));
        assert_eq!(Diversity::of(["", "?"].into_iter()), None);
    }
}
