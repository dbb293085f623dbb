//! ROUGE F-measures of one text against one reference, from 0 to 100, as rouge-score 0.1.2 computes them without a stemmer.
//! lm-evaluation-harness calls it so for TruthfulQA.
//!
//! Contract: a pure function of two texts. Tokens are runs of `a` to `z` and digits, in lower case; other scripts have none.
//! Source: Lin 2004; rouge-score, `rouge_scorer.py`; the harness's `tasks/truthfulqa/utils.py` for the newlines.

use std::collections::{BTreeSet, HashMap};

/// The three measures that the harness reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rouge {
    /// Of single words.
    pub(crate) one: f64,
    /// Of pairs of words.
    pub(crate) two: f64,
    /// Of the longest common subsequence, sentence by sentence.
    pub(crate) longest: f64,
}

fn tokens(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let tokens = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    tokens.filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

fn f_measure(hits: usize, of_text: usize, of_reference: usize) -> f64 {
    if hits == 0 {
        return 0.0;
    }
    let (precision, recall) = (hits as f64 / of_text as f64, hits as f64 / of_reference as f64);
    100.0 * 2.0 * precision * recall / (precision + recall)
}

fn of_ngrams(text: &[String], reference: &[String], n: usize) -> f64 {
    let counts = |tokens: &[String]| {
        let mut counts = HashMap::<Vec<String>, usize>::new();
        for gram in tokens.windows(n) {
            *counts.entry(gram.to_vec()).or_default() += 1;
        }
        counts
    };
    let (found, wanted) = (counts(text), counts(reference));
    let hits = wanted.iter().map(|(gram, count)| found.get(gram).map_or(0, |found| *found.min(count))).sum();
    f_measure(hits, found.values().sum(), wanted.values().sum())
}

/// The places of a sentence's tokens that are in its longest common subsequence with another.
fn common(sentence: &[String], other: &[String]) -> Vec<usize> {
    let (rows, columns) = (sentence.len(), other.len());
    let mut table = vec![vec![0_usize; columns + 1]; rows + 1];
    for i in 1..=rows {
        for j in 1..=columns {
            table[i][j] = if sentence[i - 1] == other[j - 1] {
                table[i - 1][j - 1] + 1
            } else {
                table[i - 1][j].max(table[i][j - 1])
            };
        }
    }
    let (mut i, mut j, mut places) = (rows, columns, Vec::new());
    while i > 0 && j > 0 {
        if sentence[i - 1] == other[j - 1] {
            (i, j) = (i - 1, j - 1);
            places.push(i);
        } else if table[i][j - 1] > table[i - 1][j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    places
}

/// ROUGE-L of two sentences given as words.
pub(crate) fn longest(sentence: &[String], other: &[String]) -> f64 {
    f_measure(common(sentence, other).len(), sentence.len(), other.len())
}

fn of_longest(text: &str, reference: &str) -> f64 {
    let sentences = |text: &str| -> Vec<Vec<String>> {
        text.split('\n').filter(|line| !line.is_empty()).map(tokens).collect()
    };
    let (text, reference) = (sentences(text), sentences(reference));
    let counts = |sentences: &[Vec<String>]| {
        let mut counts = HashMap::<String, usize>::new();
        for token in sentences.iter().flatten() {
            *counts.entry(token.clone()).or_default() += 1;
        }
        counts
    };
    let (mut left, mut left_wanted) = (counts(&text), counts(&reference));
    let mut hits = 0;
    for sentence in &reference {
        let union: BTreeSet<usize> = text.iter().flat_map(|other| common(sentence, other)).collect();
        for place in union {
            let token = &sentence[place];
            if let (Some(one @ 1..), Some(other @ 1..)) = (left.get_mut(token), left_wanted.get_mut(token)) {
                (*one, *other) = (*one - 1, *other - 1);
                hits += 1;
            }
        }
    }
    let total = |sentences: &[Vec<String>]| sentences.iter().map(Vec::len).sum();
    f_measure(hits, total(&text), total(&reference))
}

/// ROUGE of a text against a reference.
pub(crate) fn rouge(text: &str, reference: &str) -> Rouge {
    let (text, reference) = (text.replace(" . ", ".\n"), reference.replace(" . ", ".\n"));
    let (of_text, of_reference) = (tokens(&text), tokens(&reference));
    Rouge {
        one: of_ngrams(&of_text, &of_reference, 1),
        two: of_ngrams(&of_text, &of_reference, 2),
        longest: of_longest(&text, &reference),
    }
}
