//! From the votes on a pair to its label.
//!
//! Contract: each annotator counts once for a pair, with the vote of the first time; repeats measure and do not label. The label is
//! the share of votes for the first answer, in which a tie is half a vote. An adjudication replaces the votes; of several it is the mean.

use std::collections::{BTreeMap, HashSet};

use super::{Pass, Preferred, Vote};

/// What the votes on a pair say.
#[derive(Debug, Clone, PartialEq)]
pub struct HumanLabel {
    /// P(first is better).
    pub probability: f64,
    /// Votes of annotators, one for each.
    pub votes: usize,
    /// Whether it was adjudicated.
    pub adjudicated: bool,
}

impl HumanLabel {
    /// Where the label came from, as files say it: `human (3 votes)`.
    pub fn source(&self) -> String {
        let votes = if self.votes == 1 { "1 vote".to_owned() } else { format!("{} votes", self.votes) };
        if self.adjudicated { format!("human (adjudicated, {votes})") } else { format!("human ({votes})") }
    }
}

/// The label of every pair that has a vote.
pub fn human_labels(votes: &[Vote]) -> BTreeMap<&str, HumanLabel> {
    let mut sums: BTreeMap<&str, [(f64, usize); 2]> = BTreeMap::new();
    for vote in votes {
        let slot = match vote.pass {
            Pass::Label => 0,
            Pass::Adjudication => 1,
            Pass::Repeat => continue,
        };
        let (sum, count) = &mut sums.entry(&vote.pair_id).or_default()[slot];
        *sum += vote.preferred().probability();
        *count += 1;
    }
    let label = |[(votes, count), (adjudged, judges)]: [(f64, usize); 2]| {
        let (sum, of) = if judges > 0 { (adjudged, judges) } else { (votes, count) };
        HumanLabel { probability: sum / of as f64, votes: count, adjudicated: judges > 0 }
    };
    sums.into_iter().map(|(pair, counts)| (pair, label(counts))).collect()
}

/// Pairs whose annotators' votes are not all for the same answer: they disagree, or a vote is a tie.
pub fn contested(votes: &[Vote]) -> HashSet<&str> {
    let mut said: BTreeMap<&str, Preferred> = BTreeMap::new();
    let mut contested = HashSet::new();
    for vote in votes.iter().filter(|vote| vote.pass == Pass::Label) {
        let preferred = vote.preferred();
        let before = *said.entry(&vote.pair_id).or_insert(preferred);
        if preferred == Preferred::Tie || preferred != before {
            contested.insert(vote.pair_id.as_str());
        }
    }
    contested
}

#[cfg(test)]
mod tests {
    use super::super::{Annotator, Choice, Order};
    use super::*;

    fn vote(pair: &str, who: &str, pass: Pass, choice: Choice) -> Vote {
        Vote::new(pair, Annotator::new(who).unwrap(), pass, Some(Order::Ab), choice)
    }

    #[test]
    fn a_label_is_the_share_of_votes_until_it_is_adjudicated() {
        let mut votes = vec![
            vote("p", "ann", Pass::Label, Choice::A),
            vote("p", "bob", Pass::Label, Choice::A),
            vote("p", "cy", Pass::Label, Choice::B),
            vote("p", "dee", Pass::Label, Choice::Tie),
            vote("p", "ann", Pass::Repeat, Choice::B),
            vote("q", "ann", Pass::Label, Choice::B),
            vote("r", "ann", Pass::Label, Choice::Tie),
        ];
        let labels = human_labels(&votes);
        assert_eq!((labels["p"].probability, labels["p"].source().as_str()), (0.625, "human (4 votes)"));
        assert_eq!((labels["q"].probability, labels["q"].source().as_str()), (0.0, "human (1 vote)"));
        assert_eq!(contested(&votes), HashSet::from(["p", "r"]));
        votes.push(vote("p", "eve", Pass::Adjudication, Choice::B));
        let labels = human_labels(&votes);
        assert_eq!(
            (labels["p"].probability, labels["p"].source().as_str()),
            (0.0, "human (adjudicated, 4 votes)")
        );
        votes.push(vote("p", "fay", Pass::Adjudication, Choice::A));
        assert_eq!(human_labels(&votes)["p"].probability, 0.5);
        assert_eq!(human_labels(&[]).len(), 0);
    }
}
