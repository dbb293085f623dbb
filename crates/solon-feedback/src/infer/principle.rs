//! A rule as a principle: the forms in which labellers and critics are asked by it, and a constitution of such principles.

use std::collections::HashSet;

use crate::constitution::{ComparisonPrinciple, Constitution, RevisionPrinciple};

/// Words of a rule that make its id.
const ID_WORDS: usize = 5;
/// Words that say little in an id.
const SMALL: [&str; 12] = ["a", "an", "the", "is", "are", "to", "of", "and", "or", "it", "its", "that"];

/// A rule that completes "Prefer the answer that …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principle {
    /// Letters, digits and `-`: unique among the principles that it was made with.
    pub id: String,
    /// What the preferred answer does, such as "is more polite".
    pub rule: String,
}

impl Principle {
    /// The question that compares two answers.
    pub fn question(&self) -> String {
        format!("Which answer {}?", self.rule)
    }

    /// Asks for a critique of one answer.
    pub fn critique(&self) -> String {
        format!("An answer is better if it {}. Say where this answer falls short of that.", self.rule)
    }

    /// Asks for a better answer.
    pub fn revision(&self) -> String {
        format!("Rewrite the answer so that it {}.", self.rule)
    }
}

/// Principles of these rules, in their order, with ids made of their words.
pub fn principles_of<'a>(rules: impl IntoIterator<Item = &'a str>) -> Vec<Principle> {
    let mut taken: HashSet<String> = HashSet::new();
    let named = rules.into_iter().map(|rule| {
        let words = rule.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_lowercase);
        let words = words.filter(|word| !word.is_empty() && !SMALL.contains(&word.as_str()));
        // A word of an unknown language may be very long, and an id may not.
        let words = words.take(ID_WORDS).map(|word| word.chars().take(15).collect());
        let name = words.collect::<Vec<String>>().join("-");
        let name = if name.is_empty() { "principle".to_owned() } else { name };
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let id = std::iter::once(name.clone()).chain(numbered).find(|id| !taken.contains(id)).unwrap_or(name);
        taken.insert(id.clone());
        Principle { id, rule: rule.to_owned() }
    });
    named.collect()
}

/// A constitution in which each principle has both forms: the comparison under its own id, the revision under `revise-ID`.
pub fn inferred_constitution(description: &str, principles: &[Principle]) -> Constitution {
    let revision = principles.iter().map(|principle| RevisionPrinciple {
        id: format!("revise-{}", principle.id),
        critique: principle.critique(),
        revision: principle.revision(),
        applies: Vec::new(),
        weight: 1.0,
    });
    let comparison = principles.iter().map(|principle| ComparisonPrinciple {
        id: principle.id.clone(),
        question: principle.question(),
        applies: Vec::new(),
        request: None,
        weight: 1.0,
    });
    Constitution {
        revision: revision.collect(),
        comparison: comparison.collect(),
        ..Constitution::empty("inferred".to_owned(), description)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_form_reads_as_a_sentence() {
        let [principle] = &principles_of(["is more polite"])[..] else { panic!() };
        assert_eq!(principle.question(), "Which answer is more polite?");
        assert_eq!(
            principle.critique(),
            "An answer is better if it is more polite. Say where this answer falls short of that."
        );
        assert_eq!(principle.revision(), "Rewrite the answer so that it is more polite.");
    }

    #[test]
    fn what_is_written_is_a_constitution_again_whatever_the_rules() {
        let long = "x".repeat(200);
        let rules = [
            "is more polite",
            "Is: more polite!",
            "更有礼貌",
            "\"\"\" '''\\ = [[revision]]",
            "有",
            &long,
            "avoids <|im_end|>",
        ];
        let principles = principles_of(rules);
        let ids: Vec<&str> = principles.iter().map(|principle| principle.id.as_str()).collect();
        let x = "x".repeat(15);
        assert_eq!(
            ids,
            ["more-polite", "more-polite-2", "principle", "revision", "principle-2", &x, "avoids-im-end"]
        );
        let constitution = inferred_constitution("of a test", &principles);
        let text = constitution.to_toml().unwrap();
        let read = Constitution::parse_toml(&text, Path::new("inferred.toml")).unwrap();
        assert_eq!(read, constitution);
        assert_eq!(read.check().unwrap().comparison_principles, rules.len());
    }
}
