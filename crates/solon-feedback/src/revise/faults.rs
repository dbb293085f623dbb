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
