//! Which principles are kept, and how far what is kept explains preferences.
//!
//! Contract: a principle is kept only where it is right more often than chance on the training pairs that it votes on (the lower end of
//! Wilson's interval is above ½), votes on enough of them, and explains some that no principle kept before it explains. Of many
//! candidates some pass by luck. So the figures to believe are those of pairs that chose nothing.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use solon_stats::Rate;

use super::Stance;

/// How principles are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelectSettings {
    /// The most that are kept.
    pub most: usize,
    /// The share of training pairs that a principle must vote on, 0 to 1.
    pub relevance: f64,
}

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is kept.
    Kept,
    /// It votes on too few pairs.
    RarelyRelevant,
    /// It is not better than chance where it votes.
    NoBetterThanChance,
    /// The kept ones explain all that it explains.
    NothingNew,
    /// As many as are wanted are kept already.
    Enough,
}

impl Fate {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Kept => "kept",
            Fate::RarelyRelevant => "votes on too few pairs",
            Fate::NoBetterThanChance => "no better than chance",
            Fate::NothingNew => "explains nothing new",
            Fate::Enough => "enough are kept",
        }
    }
}

/// Votes on pairs, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Pairs of which the better answer is preferred.
    #[serde(rename = "for")]
    pub for_it: usize,
    /// Pairs of which the other answer is preferred.
    pub against: usize,
    /// Pairs on which there is no vote.
    pub not_relevant: usize,
    /// Pairs without a usable reply.
    pub missing: usize,
}

impl Tally {
    /// Counts votes; `None` stands for no usable reply.
    pub fn of(votes: impl IntoIterator<Item = Option<Stance>>) -> Self {
        let mut tally = Self::default();
        for vote in votes {
            *match vote {
                Some(Stance::For) => &mut tally.for_it,
                Some(Stance::Against) => &mut tally.against,
                Some(Stance::NotRelevant) => &mut tally.not_relevant,
                None => &mut tally.missing,
            } += 1;
        }
        tally
    }

    /// All pairs.
    pub fn pairs(&self) -> usize {
        self.for_it + self.against + self.not_relevant + self.missing
    }

    /// How often it is right where it votes. Guessing is right on half.
    pub fn accuracy(&self) -> Rate {
        Rate::new(self.for_it, self.for_it + self.against)
    }

    /// The share of all pairs that it explains: it prefers their better answer.
    pub fn explained(&self) -> Rate {
        Rate::new(self.for_it, self.pairs())
    }

    /// Whether it is right more often than chance, with 95 % confidence.
    pub fn beats_chance(&self) -> bool {
        self.accuracy().low > 0.5
    }
}

/// What becomes of each candidate. `votes`: of each candidate on the training pairs, in the order of the pairs. Candidates are taken by
/// the lower end of the interval of their accuracy; of equal ones the earlier first.
pub fn select(votes: &[Vec<Option<Stance>>], settings: &SelectSettings) -> Vec<Fate> {
    let tallies: Vec<Tally> = votes.iter().map(|votes| Tally::of(votes.iter().copied())).collect();
    let mut order: Vec<usize> = (0..votes.len()).collect();
    order.sort_by(|one, other| tallies[*other].accuracy().low.total_cmp(&tallies[*one].accuracy().low));
    let mut fates = vec![Fate::NoBetterThanChance; votes.len()];
    let (mut explained, mut kept) = (HashSet::new(), 0);
    for candidate in order {
        let tally = &tallies[candidate];
        let mut own = (0..votes[candidate].len()).filter(|pair| votes[candidate][*pair] == Some(Stance::For));
        let voted = (tally.for_it + tally.against) as f64;
        fates[candidate] = if voted == 0.0 || voted < settings.relevance * tally.pairs() as f64 {
            Fate::RarelyRelevant
        } else if !tally.beats_chance() {
            Fate::NoBetterThanChance
        } else if own.clone().all(|pair| explained.contains(&pair)) {
            Fate::NothingNew
        } else if kept >= settings.most {
            Fate::Enough
        } else {
            kept += 1;
            explained.extend(own.by_ref());
            Fate::Kept
        };
    }
    fates
}

/// The votes of several principles together: on each pair what most of those that vote say. A tie is no vote.
pub fn together(votes: &[Vec<Option<Stance>>]) -> Vec<Option<Stance>> {
    let pairs = votes.iter().map(Vec::len).max().unwrap_or(0);
    let of_pair = |pair: usize| {
        let cast: Vec<Stance> = votes.iter().filter_map(|votes| votes.get(pair).copied().flatten()).collect();
        let count = |verdict: Stance| cast.iter().filter(|cast| **cast == verdict).count();
        (!cast.is_empty()).then(|| match count(Stance::For).cmp(&count(Stance::Against)) {
            std::cmp::Ordering::Greater => Stance::For,
            std::cmp::Ordering::Less => Stance::Against,
            std::cmp::Ordering::Equal => Stance::NotRelevant,
        })
    };
    (0..pairs).map(of_pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` for, `-` against, `.` not relevant, `?` missing.
    fn votes(text: &str) -> Vec<Option<Stance>> {
        let read = |c: char| match c {
            '+' => Some(Stance::For),
            '-' => Some(Stance::Against),
            '.' => Some(Stance::NotRelevant),
            _ => None,
        };
        text.chars().map(read).collect()
    }

    #[test]
    fn a_candidate_must_be_relevant_right_and_new() {
        let candidates = [
            votes("++++++++++++........"),
            votes("++++++++++++++------"),
            // What the first explains, and no more.
            votes("++++++++............"),
            votes("+++................."),
            votes("........++++++++++++"),
            votes("--------------------"),
            votes("????????????????????"),
        ];
        let fates = |most, relevance| select(&candidates, &SelectSettings { most, relevance });
        use Fate::{Enough, Kept, NoBetterThanChance, NothingNew, RarelyRelevant};
        let chance = NoBetterThanChance;
        assert_eq!(fates(5, 0.2), [Kept, chance, NothingNew, RarelyRelevant, Kept, chance, RarelyRelevant]);
        // 14 of 20 are not above chance; 3 of 3 are neither, whatever the threshold.
        assert_eq!(fates(1, 0.0)[..5], [Kept, chance, NothingNew, chance, Enough]);
        assert_eq!(fates(5, 0.7)[0], RarelyRelevant);
    }

    #[test]
    fn shares_are_of_all_pairs_and_accuracy_of_votes() {
        let tally = Tally::of(votes("+++-..?+"));
        assert_eq!(tally, Tally { for_it: 4, against: 1, not_relevant: 2, missing: 1 });
        assert_eq!((tally.accuracy().rate, tally.explained().rate), (0.8, 0.5));
        assert!(!tally.beats_chance() && Tally::of(votes("++++++++")).beats_chance());
        assert!(!Tally::of(votes("????")).beats_chance());
    }

    #[test]
    fn the_majority_of_those_that_vote_decides() {
        let all = [votes("++-.?"), votes("+.-.?"), votes("--+.?")];
        assert_eq!(together(&all), votes("+.-.?"));
        assert_eq!(together(&[]), []);
    }
}
