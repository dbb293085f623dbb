//! Which pairs are kept back to measure what was inferred.
//!
//! Contract: what falls where depends on the conversations alone, not on their order in the file. Conversations that begin alike fall on
//! the same side, because a rule that was made for one of them may have learnt its subject.

use std::collections::{BTreeMap, BTreeSet};

use solon_data::files::sha256_parts;
use solon_records::Pair;

/// The places of two parts of a list of pairs, each in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Pairs that rules are proposed for and chosen on.
    pub training: Vec<usize>,
    /// Pairs that nothing but the last measurement sees.
    pub held_out: Vec<usize>,
}

/// Keeps back every `every`-th conversation, in the order of the hashes of their first turns.
pub fn split(pairs: &[Pair], every: usize) -> Split {
    let mut by_hash: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (place, pair) in pairs.iter().enumerate() {
        // All prompts of a file may share a system message.
        let first = pair.prompt.iter().find(|message| message.role != "system");
        let text = first.map_or("", |message| message.content.trim());
        by_hash.entry(sha256_parts(["infer", text])).or_default().insert(place);
    }
    let mut split = Split::default();
    for (number, places) in by_hash.into_values().enumerate() {
        let part = if (number + 1) % every.max(1) == 0 { &mut split.held_out } else { &mut split.training };
        part.extend(places);
    }
    split.training.sort_unstable();
    split.held_out.sort_unstable();
    split
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_records::Message;

    #[test]
    fn conversations_that_begin_alike_stay_together_whatever_the_order() {
        let pair = |turns: &[&str]| Pair {
            id: turns.join("/"),
            prompt: [Message::system("Be kind.")]
                .into_iter()
                .chain(turns.iter().map(|text| Message::user(*text)))
                .collect(),
            first: "a".into(),
            second: "b".into(),
            cut_off: [false; 2],
            principle_id: None,
        };
        let pairs: Vec<Pair> = (0..40)
            .map(|number| match number % 2 {
                0 => pair(&[&format!("ask {number}")]),
                _ => pair(&[&format!("ask {}", number - 1), "go on"]),
            })
            .collect();
        let found = split(&pairs, 4);
        assert_eq!((found.training.len(), found.held_out.len()), (30, 10));
        assert!(found.held_out.chunks(2).all(|two| two[0] + 1 == two[1] && two[0] % 2 == 0), "{found:?}");
        let backwards: Vec<Pair> = pairs.iter().rev().cloned().collect();
        let ids = |pairs: &[Pair], places: &[usize]| -> BTreeSet<String> {
            places.iter().map(|place| pairs[*place].id.clone()).collect()
        };
        assert_eq!(ids(&pairs, &found.held_out), ids(&backwards, &split(&backwards, 4).held_out));
    }
}
