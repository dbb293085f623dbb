//! Human preference labels: what a person's vote on a pair is.
//!
//! Contract: a vote says who gave it, in which pass, in which order the answers were shown and which was chosen. [`HumanSession`] asks
//! for votes, [`human_labels`] makes labels of them, and [`Agreement`] says how far they can be believed. Nothing here reads a file or
//! a clock: callers store the votes.

mod agreement;
mod labels;
mod session;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::FeedbackError;

pub use agreement::{Agreement, AnnotatorMeasures, TwoAnnotators};
pub use labels::{HumanLabel, contested, human_labels};
pub use session::{HumanSession, SessionEnd, SessionEvent};

/// The name of a person who labels: letters, digits, spaces inside, and `. _ - @ +`; at most 64 characters. It is a part of file names
/// and is printed on terminals, so nothing else is let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Annotator(String);

impl Annotator {
    /// The annotator of this name.
    ///
    /// # Errors
    /// [`FeedbackError::Setting`] if the name is not plain.
    pub fn new(name: &str) -> Result<Self, FeedbackError> {
        let plain = |character: char| character.is_alphanumeric() || " ._-@+".contains(character);
        let sound = !name.is_empty()
            && name.chars().count() <= 64
            && name.chars().all(plain)
            && name.trim() == name
            && !name.starts_with('.');
        if sound {
            return Ok(Self(name.to_owned()));
        }
        Err(FeedbackError::Setting {
            setting: "the annotator's name",
            value: format!("{:?}", name.chars().take(80).collect::<String>()),
            rule: "it must be 1 to 64 letters, digits, spaces inside or . _ - @ +, and not begin with a dot",
        })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Default for Annotator {
    /// `annotator`: whoever gave no name.
    fn default() -> Self {
        Self("annotator".to_owned())
    }
}

impl TryFrom<String> for Annotator {
    type Error = FeedbackError;

    fn try_from(name: String) -> Result<Self, FeedbackError> {
        Self::new(&name)
    }
}

impl From<Annotator> for String {
    fn from(annotator: Annotator) -> Self {
        annotator.0
    }
}

impl fmt::Display for Annotator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// The order in which a pair was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The first answer as A.
    Ab,
    /// The second answer as A.
    Ba,
}

impl Order {
    /// The other order.
    pub fn other(self) -> Self {
        match self {
            Order::Ab => Order::Ba,
            Order::Ba => Order::Ab,
        }
    }
}

/// The choice, as shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The answer shown as A.
    A,
    /// The answer shown as B.
    B,
    /// Neither is better.
    Tie,
}

/// Why a pair was shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// To be labelled.
    #[default]
    Label,
    /// Again, to see whether the same person says the same.
    Repeat,
    /// To decide what other votes left open.
    Adjudication,
}

impl Pass {
    fn is_label(&self) -> bool {
        *self == Pass::Label
    }
}

/// Which answer a vote prefers, whatever the order in which they were shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preferred {
    /// The first answer.
    First,
    /// Neither.
    Tie,
    /// The second answer.
    Second,
}

impl Preferred {
    /// What a choice prefers that was made in this order.
    pub fn of(choice: Choice, order: Order) -> Self {
        match (choice, order) {
            (Choice::Tie, _) => Preferred::Tie,
            (Choice::A, Order::Ab) | (Choice::B, Order::Ba) => Preferred::First,
            (Choice::B, Order::Ab) | (Choice::A, Order::Ba) => Preferred::Second,
        }
    }

    /// The choice in this order that prefers the same.
    pub fn as_shown(self, order: Order) -> Choice {
        match (self, order) {
            (Preferred::Tie, _) => Choice::Tie,
            (Preferred::First, Order::Ab) | (Preferred::Second, Order::Ba) => Choice::A,
            (Preferred::Second, Order::Ab) | (Preferred::First, Order::Ba) => Choice::B,
        }
    }

    /// P(first is better): 1, 0, or 0.5 for a tie.
    pub fn probability(self) -> f64 {
        match self {
            Preferred::First => 1.0,
            Preferred::Tie => 0.5,
            Preferred::Second => 0.0,
        }
    }
}

/// A person's vote on a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// The pair.
    pub pair_id: String,
    /// Who voted.
    #[serde(default)]
    pub annotator: Annotator,
    /// Why the pair was shown.
    #[serde(default, skip_serializing_if = "Pass::is_label")]
    pub pass: Pass,
    /// The order in which it was shown; `None` for a vote from elsewhere, whose `choice` is as if the first answer had been A.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The choice, as shown.
    pub choice: Choice,
    /// P(first is better): 1, 0, or 0.5 for a tie. It follows from `order` and `choice`, and is there for other readers.
    pub probability: f64,
}

impl Vote {
    /// A vote on a pair, made in an order.
    pub fn new(
        pair_id: &str,
        annotator: Annotator,
        pass: Pass,
        order: Option<Order>,
        choice: Choice,
    ) -> Self {
        let mut vote = Self { pair_id: pair_id.to_owned(), annotator, pass, order, choice, probability: 0.0 };
        vote.probability = vote.preferred().probability();
        vote
    }

    /// Which answer it prefers.
    pub fn preferred(&self) -> Preferred {
        Preferred::of(self.choice, self.order.unwrap_or(Order::Ab))
    }

    /// Whether its probability is that of its choice. Of a vote from a file it may not be.
    pub fn is_consistent(&self) -> bool {
        self.probability == self.preferred().probability()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_or_refused() {
        for name in ["ann", "Ann Smith", "ann.smith+2@example.org", "åsa", "9b1deb4d-3b7d"] {
            assert_eq!(Annotator::new(name).unwrap().name(), name);
        }
        let long = "a".repeat(65);
        for name in [
            "",
            " ",
            " ann",
            "ann ",
            ".",
            "..",
            "a/b",
            "a\\b",
            "a\nb",
            "\u{1b}[2J",
            "a\u{202e}b",
            "a:b",
            &long,
        ] {
            let error = Annotator::new(name).unwrap_err().to_string();
            assert!(error.starts_with("the annotator's name is \"") && !error.contains('\u{1b}'), "{error}");
        }
        assert!(serde_json::from_str::<Annotator>("\"a/b\"").is_err());
    }

    #[test]
    fn a_choice_prefers_what_was_shown_there() {
        for order in [Order::Ab, Order::Ba] {
            for choice in [Choice::A, Choice::B, Choice::Tie] {
                let preferred = Preferred::of(choice, order);
                assert_eq!(preferred.as_shown(order), choice);
                let other = preferred.as_shown(order.other());
                assert_eq!(other == choice, choice == Choice::Tie);
            }
        }
        assert_eq!(Preferred::of(Choice::A, Order::Ba).probability(), 0.0);
    }

    #[test]
    fn votes_of_the_first_form_are_read() {
        let old = r#"{"pair_id":"p","order":"ba","choice":"a","probability":0.0}"#;
        let vote: Vote = serde_json::from_str(old).unwrap();
        assert_eq!(
            (vote.annotator.name(), vote.pass, vote.is_consistent()),
            ("annotator", Pass::Label, true)
        );
        let wrong: Vote = serde_json::from_str(&old.replace("0.0", "1.0")).unwrap();
        assert!(!wrong.is_consistent());
    }
}
