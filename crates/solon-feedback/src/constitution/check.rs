//! What a valid constitution holds, counted, and what in it is probably a mistake.
//!
//! Contract: a constitution that opens is valid; a warning never makes it invalid. Counts are of what was read, so a part
//! of a file that is not counted here was refused.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::content::Entry;
use super::{About, Constitution};
use crate::FeedbackError;
use crate::quote::without_control;

/// Ids that are named in one warning.
const NAMED: usize = 5;

/// The parts of a constitution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// What it is for.
    pub description: String,
    /// SHA-256 of the content ([`Constitution::sha256`]).
    pub sha256: String,
    /// How many principles are for critique and revision.
    pub revision_principles: usize,
    /// How many are for comparison.
    pub comparison_principles: usize,
    /// How many of the latter ask about the request alone.
    pub request_questions: usize,
    /// Worked examples by their kind.
    pub examples: BTreeMap<String, usize>,
    /// Few-shots by what they are for.
    pub few_shots: BTreeMap<&'static str, usize>,
    /// Requests about principles.
    pub prompts: usize,
    /// How many principles are about every prompt: revision, comparison.
    pub about_all: [usize; 2],
    /// How many principles list each kind or category: revision, comparison.
    pub about: BTreeMap<String, [usize; 2]>,
    /// The principles of a table whose weights are not all equal.
    pub weights: Vec<Weighted>,
    /// What is probably a mistake, a sentence each.
    pub warnings: Vec<String>,
}

/// How often a principle is drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Weighted {
    /// The principle.
    pub id: String,
    /// Its weight.
    pub weight: f64,
    /// The share of draws among all principles of its table, 0 to 1. A prompt that other principles are not about draws it
    /// more often.
    pub share: f64,
}

impl Constitution {
    /// Counts its parts and looks for mistakes.
    pub fn check(&self) -> Result<Checked, FeedbackError> {
        let mut examples = BTreeMap::new();
        for example in &self.example {
            *examples.entry(example.kind.clone()).or_default() += 1;
        }
        let mut few_shots = BTreeMap::new();
        for few_shot in &self.few_shot {
            *few_shots.entry(few_shot.shot.used_for()).or_default() += 1;
        }
        let (mut about_all, mut about) = ([0; 2], BTreeMap::<String, [usize; 2]>::new());
        let of_revision = self.revision.iter().map(|p| (0, &p.applies));
        let of_comparison = self.comparison.iter().map(|p| (1, &p.applies));
        for (table, applies) in of_revision.chain(of_comparison) {
            about_all[table] += usize::from(applies.is_empty());
            for name in applies {
                about.entry(name.clone()).or_default()[table] += 1;
            }
        }
        let mut weights = shares(self.revision.iter().map(|p| (p.id.as_str(), p.weight)));
        weights.extend(shares(self.comparison.iter().map(|p| (p.id.as_str(), p.weight))));
        Ok(Checked {
            name: self.name.clone(),
            version: self.version,
            description: self.description.clone(),
            sha256: self.sha256()?,
            revision_principles: self.revision.len(),
            comparison_principles: self.comparison.len(),
            request_questions: self.request_questions().len(),
            examples,
            few_shots,
            prompts: self.prompt.len(),
            about_all,
            about,
            weights,
            warnings: self.warnings()?,
        })
    }

    fn warnings(&self) -> Result<Vec<String>, FeedbackError> {
        let mut warnings = Vec::new();
        same_text(
            &mut warnings,
            "revision",
            self.revision.iter().map(|p| (&p.id, format!("{}\n{}", p.critique, p.revision))),
        );
        same_text(&mut warnings, "comparison", self.comparison.iter().map(|p| (&p.id, p.question.clone())));
        self.examples_without_principle(&mut warnings);
        let entries = self.entries()?;
        let posing: Vec<&str> = (entries.iter())
            .filter(|entry| entry.texts().iter().any(|(_, text)| without_control(text) != **text))
            .map(Entry::id)
            .collect();
        if !posing.is_empty() {
            warnings.push(format!(
                "control tokens of a chat template, such as <|im_end|>, are shown to models with a space inserted; they are in {}",
                named(&posing)
            ));
        }
        Ok(warnings)
    }

    fn examples_without_principle(&self, warnings: &mut Vec<String>) {
        let mut bare: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        let mut misplaced = Vec::new();
        for example in &self.example {
            let about = About::new(Some(&example.kind), Some(&example.category));
            if !self.revision.iter().any(|p| about.fits(&p.applies)) {
                let ids = bare.entry((&example.kind, &example.category)).or_default();
                ids.push(&example.id);
            } else if self.revision_principle(&example.principle).is_some_and(|p| !about.fits(&p.applies)) {
                misplaced.push(example.id.as_str());
            }
        }
        for ((kind, category), ids) in bare {
            warnings.push(format!(
                "no [[revision]] principle is about prompts of kind {kind:?} and category {category:?}, of which there are \
                 examples: {}",
                named(&ids)
            ));
        }
        if !misplaced.is_empty() {
            warnings.push(format!(
                "the principle of an example is not about the example's kind or category: {}",
                named(&misplaced)
            ));
        }
    }
}

/// Of principles with unequal weights, the share of each.
fn shares<'a>(principles: impl Iterator<Item = (&'a str, f64)>) -> Vec<Weighted> {
    let principles: Vec<(&str, f64)> = principles.collect();
    let largest = principles.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
    if principles.iter().all(|(_, weight)| *weight == largest) {
        return Vec::new();
    }
    let total: f64 = principles.iter().map(|(_, weight)| weight / largest).sum();
    let share =
        |(id, weight): (&str, f64)| Weighted { id: id.to_owned(), weight, share: weight / largest / total };
    principles.into_iter().map(share).collect()
}

/// Warns of principles with the same words, whatever their spaces and capitals.
fn same_text<'a>(
    warnings: &mut Vec<String>,
    table: &str,
    principles: impl Iterator<Item = (&'a String, String)>,
) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for (id, text) in principles {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        match seen.get(&words) {
            Some(earlier) => warnings.push(format!(
                "the [[{table}]] principles {earlier:?} and {id:?} have the same text; write it once, with a `weight` if it is \
                 to be drawn more often"
            )),
            None => {
                seen.insert(words, id);
            }
        }
    }
}

/// The first of these ids, and how many more there are.
fn named(ids: &[&str]) -> String {
    let mut named: Vec<String> = ids.iter().take(NAMED).map(|id| format!("{id:?}")).collect();
    if ids.len() > NAMED {
        named.push(format!("and {} more", ids.len() - NAMED));
    }
    named.join(", ")
}
