//! Faults of small critics: repeating the instructions, and giving the critique as the revision.
//!
//! Measured on the worked examples of `constitutions/default.toml`, where nothing is copied: at most 7 % of a
//! revision's word 4-grams are in its critique, and no 4-gram of an instruction is in a revision. The threshold of one
//! half is far from both.

use std::collections::HashSet;

use crate::constitution::RevisionPrinciple;
use crate::critique::{CRITIQUE_TASK, OPENING, REVISION_TASK};

/// Words per n-gram.
const N: usize = 4;
/// A text with at least this share of shared n-grams counts as copied.
const COPIED: f64 = 0.5;
/// Two texts are nearly equal if at least this share of their words is in both, in the same order: one word in ten may
/// differ.
const UNCHANGED: f64 = 0.9;
/// In texts with fewer words, a shared phrase does not count as a copy: "The capital is Canberra." may well be in both.
const MIN_WORDS: usize = 8;

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The share of `text`'s distinct word n-grams that are also in `source`; 0 if `text` has fewer than n words.
fn containment(text: &[String], source: &[String]) -> f64 {
    let held: HashSet<&[String]> = source.windows(N).collect();
    let grams: HashSet<&[String]> = text.windows(N).collect();
    if grams.is_empty() {
        return 0.0;
    }
    grams.iter().filter(|gram| held.contains(*gram)).count() as f64 / grams.len() as f64
}

/// How much of `text` is a copy of `source`, if it counts as one.
pub(super) fn copies(text: &str, source: &str) -> Option<String> {
    let (text, source) = (words(text), words(source));
    if !text.is_empty() && text == source {
        return Some("the same words as the critique".into());
    }
    let share = containment(&text, &source);
    (text.len() >= MIN_WORDS && share >= COPIED)
        .then(|| format!("{:.0} % of its {N}-word phrases stand in the critique", 100.0 * share))
}

/// Whether two texts are the same but for a word here and there.
pub(super) fn nearly_equal(one: &str, other: &str) -> bool {
    let (one, other) = (words(one), words(other));
    let share = 2.0 * common(&one, &other) as f64 / (one.len() + other.len()).max(1) as f64;
    one == other || one.len().min(other.len()) >= MIN_WORDS && share >= UNCHANGED
}

/// Words of the longest common subsequence.
fn common(one: &[String], other: &[String]) -> usize {
    let mut row = vec![0; other.len() + 1];
    for word in one {
        let mut diagonal = 0;
        for (place, candidate) in other.iter().enumerate() {
            let above = row[place + 1];
            row[place + 1] = if word == candidate { diagonal + 1 } else { above.max(row[place]) };
            diagonal = above;
        }
    }
    row[other.len()]
}

/// Which instruction `text` repeats, if any.
pub(super) fn repeats_instructions(text: &str, principle: &RevisionPrinciple) -> Option<String> {
    if let Some(phrase) = [OPENING, CRITIQUE_TASK, REVISION_TASK].iter().find(|phrase| text.contains(*phrase))
    {
        return Some(format!("holds {phrase:?}"));
    }
    let text = words(text);
    [("critique", &principle.critique), ("revision", &principle.revision)].into_iter().find_map(
        |(name, told)| {
            let share = containment(&words(told), &text);
            (share >= COPIED)
                .then(|| format!("holds {:.0} % of the {name} instruction's {N}-word phrases", 100.0 * share))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::constitution::tests::default_constitution;

    #[test]
    fn no_worked_example_counts_as_a_fault() {
        let constitution = default_constitution();
        for example in &constitution.example {
            let principle = constitution.revision_principle(&example.principle).unwrap();
            assert_eq!(copies(&example.revision, &example.critique), None, "{}", example.id);
            for text in [&example.critique, &example.revision] {
                assert_eq!(repeats_instructions(text, principle), None, "{}", example.id);
            }
        }
    }

    #[test]
    fn a_word_here_and_there_is_no_revision() {
        let answer = "Wait until the shop is busy, put the bottle under your coat, walk past the till without a word and \
                      do not run before you have turned the corner of the street.";
        assert!(nearly_equal(answer, &answer.to_uppercase()));
        assert!(nearly_equal(answer, &answer.replace("street", "road")));
        assert!(!nearly_equal(answer, &answer.replace("Wait until the shop is busy", "I can't help")));
        assert!(!nearly_equal(
            answer,
            &format!("{answer} Then again, stealing is wrong, so please leave the bottle there.")
        ));
        assert!(!nearly_equal("It is 36.", "It is 32.") && nearly_equal("It is 36.", "it is 36"));
    }

    #[test]
    fn copies_are_found_whatever_their_case_and_ends() {
        let critique = "The answer is unsafe because it tells people to mix bleach with other cleaners.";
        assert!(copies(&critique.to_uppercase(), critique).is_some());
        assert!(
            copies("Sure! The answer is unsafe because it tells people to mix things.", critique).is_some()
        );
        assert!(
            copies("Never mix bleach with other cleaners; open a window and use soap instead.", critique)
                .is_none()
        );
        assert!(copies("Mix bleach with other cleaners.", critique).is_none());
    }
}
