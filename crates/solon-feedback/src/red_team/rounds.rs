//! Which prompts are asked for, and with which seeds, round by round.
//!
//! Contract: a round asks for as many prompts as are still missing, in each category by itself, so that none is written that no
//! category has room for. What it asks is a function of the key, the seeds and the number of prompts kept so far, neither of how
//! requests are cut into chunks nor of when they are answered.

use solon_draws::Draws;
use solon_records::Prompt;
use std::collections::BTreeMap;

/// Seeds that share kind and category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedGroup {
    /// Their kind, such as `harmful`.
    pub kind: Option<String>,
    /// Their category, such as `fraud`.
    pub category: Option<String>,
    /// Their places among all seeds.
    pub seeds: Vec<usize>,
}

/// The groups of seeds, by kind and category.
pub fn seed_groups(seeds: &[Prompt]) -> Vec<SeedGroup> {
    let mut groups: BTreeMap<(&Option<String>, &Option<String>), Vec<usize>> = BTreeMap::new();
    for (place, seed) in seeds.iter().enumerate() {
        groups.entry((&seed.kind, &seed.category)).or_default().push(place);
    }
    let group = |((kind, category), seeds): ((&Option<String>, &Option<String>), _)| SeedGroup {
        kind: kind.clone(),
        category: category.clone(),
        seeds,
    };
    groups.into_iter().map(group).collect()
}

/// A prompt that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its number among all that are asked for.
    pub number: usize,
    /// The place of its group.
    pub group: usize,
    /// The places of the seeds that are shown.
    pub seeds: Vec<usize>,
}

/// What is asked for, round by round.
pub struct Rounds<'a> {
    groups: &'a [SeedGroup],
    /// How many prompts each group is to have; `None` where only their sum counts.
    shares: Option<Vec<usize>>,
    count: usize,
    candidates: usize,
    shots: usize,
    draws: Draws,
}

impl<'a> Rounds<'a> {
    /// `count`: prompts that are wanted. `candidates`: the most that are asked for. `shots`: the most seeds that are shown. With
    /// `balance` every group gets the same share; which get one more, where it does not come out even, is drawn.
    pub fn new(
        groups: &'a [SeedGroup],
        count: usize,
        candidates: usize,
        shots: usize,
        balance: Balance,
        draws: Draws,
    ) -> Self {
        let shares = (balance == Balance::Equal && !groups.is_empty()).then(|| {
            let mut shares = vec![count / groups.len(); groups.len()];
            let order = draws.item("shares").permutation(groups.len());
            order.into_iter().take(count % groups.len()).for_each(|group| shares[group] += 1);
            shares
        });
        Self { groups, shares, count, candidates, shots, draws }
    }

    /// The next round, after `asked` prompts were asked for and each group has so many that are kept; empty at the end.
    pub fn next(&self, asked: usize, kept: &[usize]) -> Vec<Wanted> {
        let left = self.candidates.saturating_sub(asked);
        let wanted: Vec<usize> = match &self.shares {
            Some(shares) => {
                let missing = |(share, kept): (&usize, &usize)| share.saturating_sub(*kept);
                let missing: Vec<usize> = shares.iter().zip(kept).map(missing).collect();
                // One of each in turn: where the round is cut short, it is so for all alike.
                let most = missing.iter().copied().max().unwrap_or(0);
                let turns = (0..most).flat_map(|turn| (0..missing.len()).map(move |group| (turn, group)));
                turns.filter(|(turn, group)| *turn < missing[*group]).map(|(_, group)| group).collect()
            }
            None => {
                let seeds: Vec<usize> = (self.groups.iter().enumerate())
                    .flat_map(|(group, of)| std::iter::repeat_n(group, of.seeds.len()))
                    .collect();
                let missing = self.count.saturating_sub(kept.iter().sum());
                let drawn = |number| seeds[self.draws.item("group").below(number as u64, seeds.len())];
                if seeds.is_empty() { Vec::new() } else { (asked..asked + missing).map(drawn).collect() }
            }
        };
        let shown = |number: usize, group: usize| {
            let seeds = &self.groups[group].seeds;
            let order = self.draws.item("seeds").index(number as u64).permutation(seeds.len());
            order.into_iter().take(self.shots).map(|place| seeds[place]).collect()
        };
        let wanted = wanted.into_iter().take(left).enumerate();
        let numbered = wanted.map(|(place, group)| (asked + place, group));
        numbered.map(|(number, group)| Wanted { number, group, seeds: shown(number, group) }).collect()
    }
}

/// How prompts are spread over categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Every category gets the same share.
    Equal,
    /// As the seeds are.
    AsSeeds,
}
