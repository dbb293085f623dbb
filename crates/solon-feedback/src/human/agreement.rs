//! How far the votes of people agree, with themselves and with each other.
//!
//! Contract: a function of the votes alone. Between annotators the votes of the first time count, never repeats or adjudications, in
//! three kinds: first, tie, second. The draws of the bootstrap have a fixed key, so the same votes give the same interval.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use solon_draws::Draws;
use solon_stats::{Rate, Verdicts, cohens_kappa_of};

use super::{Annotator, Choice, Pass, Preferred, Vote, contested};

/// Pairs of annotators that are printed; JSON has all.
const PRINTED: usize = 10;

/// How far votes agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// Pairs with a vote.
    pub pairs: usize,
    /// Pairs whose votes are not all for the same answer.
    pub contested: usize,
    /// Pairs that were adjudicated.
    pub adjudicated: usize,
    /// Each annotator, by name.
    pub annotators: Vec<AnnotatorMeasures>,
    /// Each two annotators with pairs in common, those with most of them first.
    pub between: Vec<TwoAnnotators>,
    /// Pairs with votes of two annotators or more.
    pub common: usize,
    /// Krippendorff's alpha over all annotators; `None` if nothing can be said.
    pub alpha: Option<f64>,
    /// Its 95 % interval, a bootstrap over pairs.
    pub alpha_interval: Option<[f64; 2]>,
}

/// One annotator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnnotatorMeasures {
    /// The name.
    pub annotator: Annotator,
    /// Votes of the first time.
    pub votes: usize,
    /// Of these, ties.
    pub ties: usize,
    /// How often the answer shown as A was chosen, where an order is known and an answer was chosen. Half of them without a bias.
    pub chose_a: Rate,
    /// How often the same was said of a pair shown again in the other order.
    pub repeats: Rate,
}

/// Two annotators.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TwoAnnotators {
    /// Their names.
    pub annotators: [Annotator; 2],
    /// How often they said the same of pairs that both voted on.
    pub same: Rate,
    /// Cohen's kappa; `None` if both always said the same one thing.
    pub kappa: Option<f64>,
}

impl Agreement {
    /// The agreement of votes, of which each annotator has at most one on a pair and pass.
    pub fn of(votes: &[Vote]) -> Self {
        let mut by_pair: BTreeMap<&str, BTreeMap<&Annotator, Preferred>> = BTreeMap::new();
        let mut by_annotator: BTreeMap<&Annotator, Vec<&Vote>> = BTreeMap::new();
        let mut adjudicated: Vec<&str> = Vec::new();
        for vote in votes {
            match vote.pass {
                Pass::Adjudication => adjudicated.push(&vote.pair_id),
                Pass::Repeat => by_annotator.entry(&vote.annotator).or_default().push(vote),
                Pass::Label => {
                    by_annotator.entry(&vote.annotator).or_default().push(vote);
                    by_pair.entry(&vote.pair_id).or_default().insert(&vote.annotator, vote.preferred());
                }
            }
        }
        adjudicated.sort_unstable();
        adjudicated.dedup();
        let verdicts = Verdicts::of(by_pair.values().map(|said| said.values().copied().collect()));
        let draws = Draws::new(0, "human/alpha");
        let alpha_interval = verdicts.alpha_interval(|replicate, place| {
            draws.index(replicate as u64).below(place as u64, verdicts.units())
        });
        Self {
            pairs: by_pair.len(),
            contested: contested(votes).len(),
            adjudicated: adjudicated.len(),
            annotators: by_annotator.iter().map(|(name, votes)| AnnotatorMeasures::of(name, votes)).collect(),
            between: between(by_pair.values()),
            common: verdicts.units(),
            alpha: verdicts.alpha(),
            alpha_interval,
        }
    }
}

impl AnnotatorMeasures {
    fn of(annotator: &Annotator, votes: &[&Vote]) -> Self {
        let labels = || votes.iter().filter(|vote| vote.pass == Pass::Label);
        let first: BTreeMap<&str, Preferred> =
            labels().map(|vote| (vote.pair_id.as_str(), vote.preferred())).collect();
        let chosen = labels().filter(|vote| vote.order.is_some() && vote.choice != Choice::Tie);
        let again = votes.iter().filter(|vote| vote.pass == Pass::Repeat);
        let same = again.filter_map(|vote| Some(*first.get(vote.pair_id.as_str())? == vote.preferred()));
        Self {
            annotator: annotator.clone(),
            votes: labels().count(),
            ties: labels().filter(|vote| vote.choice == Choice::Tie).count(),
            chose_a: Rate::of(chosen.map(|vote| vote.choice == Choice::A)),
            repeats: Rate::of(same),
        }
    }
}

/// Each two annotators who voted on the same pairs.
fn between<'a>(pairs: impl Iterator<Item = &'a BTreeMap<&'a Annotator, Preferred>>) -> Vec<TwoAnnotators> {
    let mut said: BTreeMap<[&Annotator; 2], Vec<(Preferred, Preferred)>> = BTreeMap::new();
    for verdicts in pairs {
        let verdicts: Vec<_> = verdicts.iter().collect();
        for (place, (one, first)) in verdicts.iter().enumerate() {
            for (other, second) in &verdicts[place + 1..] {
                said.entry([*one, *other]).or_default().push((**first, **second));
            }
        }
    }
    let two = |(annotators, said): ([&Annotator; 2], Vec<(Preferred, Preferred)>)| TwoAnnotators {
        annotators: annotators.map(Clone::clone),
        same: Rate::of(said.iter().map(|(one, other)| one == other)),
        kappa: cohens_kappa_of(&said),
    };
    let mut between: Vec<TwoAnnotators> = said.into_iter().map(two).collect();
    between.sort_by_key(|two| std::cmp::Reverse(two.same.total));
    between
}

impl fmt::Display for Agreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pairs, contested, adjudicated, .. } = self;
        write!(formatter, "{pairs} pairs with a vote; on {contested} the votes differ or tie")?;
        if *adjudicated > 0 {
            write!(formatter, "; {adjudicated} adjudicated")?;
        }
        for AnnotatorMeasures { annotator, votes, ties, chose_a, repeats } in &self.annotators {
            write!(formatter, "\n{annotator}: {votes} votes, {ties} ties")?;
            if chose_a.total > 0 {
                write!(formatter, "; chose A {}", spaced(chose_a))?;
            }
            if repeats.total > 0 {
                write!(formatter, "; said the same again {}", spaced(repeats))?;
            }
        }
        for two in self.between.iter().take(PRINTED) {
            let [one, other] = &two.annotators;
            write!(
                formatter,
                "\n{one} and {other}: same {}; kappa {}",
                spaced(&two.same),
                number(two.kappa)
            )?;
        }
        if let Some(left_out @ 1..) = self.between.len().checked_sub(PRINTED) {
            write!(formatter, "\n({left_out} more pairs of annotators are in --json)")?;
        }
        if self.common > 0 {
            write!(formatter, "\nKrippendorff's alpha {} of {} pairs", number(self.alpha), self.common)?;
            if let Some([low, high]) = self.alpha_interval {
                write!(formatter, " [{low:.3}, {high:.3}]")?;
            }
        }
        Ok(())
    }
}

/// A rate without the padding that tables need.
fn spaced(rate: &Rate) -> String {
    rate.to_string().split_whitespace().collect::<Vec<_>>().join(" ").replace("[ ", "[")
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.3}"))
}

#[cfg(test)]
mod tests {
    use super::super::Order;
    use super::*;

    fn votes(who: &str, pass: Pass, said: &str) -> Vec<Vote> {
        let who = Annotator::new(who).unwrap();
        let vote = |(place, letter)| {
            let choice = match letter {
                'a' => Choice::A,
                'b' => Choice::B,
                't' => Choice::Tie,
                _ => return None,
            };
            // Every second pair was shown the other way round, which must not matter.
            let order = if place % 2 == 0 { Order::Ab } else { Order::Ba };
            let choice = Preferred::of(choice, Order::Ab).as_shown(order);
            Some(Vote::new(&format!("p{place}"), who.clone(), pass, Some(order), choice))
        };
        said.chars().enumerate().filter_map(vote).collect()
    }

    #[test]
    fn people_are_compared_with_each_other_and_with_themselves() {
        let all = [
            votes("ann", Pass::Label, "aabbaatt"),
            votes("bob", Pass::Label, "aabbbbtt"),
            votes("cy", Pass::Label, "a.b....."),
            votes("ann", Pass::Repeat, "ab...b.."),
            votes("dee", Pass::Adjudication, "....a..."),
        ]
        .concat();
        let agreement = Agreement::of(&all);
        assert_eq!(
            (agreement.pairs, agreement.contested, agreement.adjudicated, agreement.common),
            (8, 4, 1, 8)
        );
        let names: Vec<&str> = agreement.annotators.iter().map(|one| one.annotator.name()).collect();
        assert_eq!(names, ["ann", "bob", "cy"], "who adjudicates is no annotator");
        let ann = &agreement.annotators[0];
        assert_eq!((ann.votes, ann.ties, ann.repeats), (8, 2, Rate::new(1, 3)));
        let two = &agreement.between[0];
        assert_eq!((two.annotators[1].name(), two.same), ("bob", Rate::new(6, 8)));
        // By chance 4/8·2/8 + 2/8·4/8 + 2/8·2/8 = 0.3125.
        assert!((two.kappa.unwrap() - (0.75 - 0.3125) / 0.6875).abs() < 1e-12);
        let [low, high] = agreement.alpha_interval.unwrap();
        let alpha = agreement.alpha.unwrap();
        assert!(low < alpha && alpha < high && high <= 1.0, "{low} {alpha} {high}");
        assert_eq!(agreement, Agreement::of(&all), "the draws are fixed");
        let text = agreement.to_string();
        for part in [
            "ann: 8 votes, 2 ties",
            "said the same again 33.3%",
            "ann and bob: same 75.0%",
            "kappa 0.636",
            "alpha 0.",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        let none = Agreement::of(&[]);
        assert_eq!((none.alpha, none.common), (None, 0));
        assert_eq!(none.to_string(), "0 pairs with a vote; on 0 the votes differ or tie");
        let alone = Agreement::of(&votes("ann", Pass::Label, "ab"));
        assert!(!alone.to_string().contains("alpha"), "{alone}");
        let always =
            Agreement::of(&[votes("ann", Pass::Label, "aa"), votes("bob", Pass::Label, "aa")].concat());
        assert_eq!((always.alpha, always.between[0].kappa), (None, None));
        assert!(always.to_string().contains("alpha - of 2 pairs"), "{always}");
    }
}
