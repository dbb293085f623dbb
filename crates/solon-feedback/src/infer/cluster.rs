//! Rules that say the same in other words, put together, so that each is voted on once.
//!
//! Rules are compared by the cosine of the weights of their words' stems: a stem weighs less the more rules have it (TF-IDF, smoothed as
//! in scikit-learn). Rules are taken in the order of how often they were proposed; each joins the first rule of the cluster it is
//! most like, or begins a cluster.
//!
//! Limits: stems and the list of empty words are English. Synonyms have two stems ("polite", "courteous") and make two clusters: then
//! both are voted on, and the one that explains nothing new is not kept. What denies and what affirms ("insults", "does not insult") are
//! never put together.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rust_stemmers::{Algorithm, Stemmer};

/// Words that say nothing of what is preferred. Those that deny or compare are not among them.
const EMPTY: &str = " a an and any are as at be been being but by can could do does for from has have in into is it its of on one or \
    own so some such than that the their them then there these they this those to too very was were what when where which who will \
    with would you your answer answers response responses reply user request person ";

/// Words that turn the sense round.
const DENYING: &str = " not no never without avoid avoids avoiding refrain refrains lack lacks lacking less fewer least cannot doesn t isn won \
    decline declines refuse refuses reject rejects neither nor free ";

/// Rules that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The rule that stands for all: the one that is most like the others.
    pub rule: String,
    /// The places of the proposals, in order.
    pub proposals: Vec<usize>,
    /// Pairs that they are from.
    pub pairs: usize,
}

/// A wording, and where it was proposed.
struct Wording<'a> {
    rule: &'a str,
    proposals: Vec<usize>,
    weights: BTreeMap<usize, f64>,
    denies: bool,
}

/// Clusters proposals: rules, each with the id of its pair. `alike`: the cosine from which two rules are taken for one. Clusters come in
/// the order of how many pairs they are from.
pub fn cluster(proposals: &[(&str, &str)], alike: f64) -> Vec<Cluster> {
    let wordings = wordings(proposals);
    let mut clusters: Vec<Vec<&Wording<'_>>> = Vec::new();
    for wording in &wordings {
        let cosines = clusters.iter().map(|cluster| likeness(cluster[0], wording)).enumerate();
        let most = cosines.filter(|(_, cosine)| *cosine >= alike);
        // The earliest of those that are equally like it.
        let most = most.fold(None, |best: Option<(usize, f64)>, next| match best {
            Some(best) if best.1 >= next.1 => Some(best),
            _ => Some(next),
        });
        match most {
            Some((place, _)) => clusters[place].push(wording),
            None => clusters.push(vec![wording]),
        }
    }
    let mut clusters: Vec<Cluster> = clusters.iter().map(|members| of(members, proposals)).collect();
    clusters.sort_by_key(|cluster| (std::cmp::Reverse(cluster.pairs), cluster.proposals[0]));
    clusters
}

/// The different wordings, the most frequent first, with the weights of their stems.
fn wordings<'a>(proposals: &[(&'a str, &str)]) -> Vec<Wording<'a>> {
    let stemmer = Stemmer::create(Algorithm::English);
    let mut wordings: Vec<Wording<'a>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let (mut stems, mut texts): (HashMap<String, usize>, Vec<BTreeMap<usize, f64>>) = Default::default();
    for (place, (rule, _)) in proposals.iter().enumerate() {
        let folded = rule.to_lowercase();
        if let Some(known) = known.get(&folded) {
            wordings[*known].proposals.push(place);
            continue;
        }
        let words = || folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let is_in = |list: &str, word: &str| list.contains(&format!(" {word} "));
        let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
        let mut count = |stem: String| {
            let next = stems.len();
            *counts.entry(*stems.entry(stem).or_insert(next)).or_default() += 1.0;
        };
        // All words that deny are one.
        words().filter(|word| !is_in(EMPTY, word)).for_each(|word| match is_in(DENYING, word) {
            true => count("not".to_owned()),
            false => count(stemmer.stem(word).into_owned()),
        });
        if counts.is_empty() {
            // Of empty words alone: like nothing but itself.
            counts.insert(stems.len(), 1.0);
            stems.insert(format!("= {folded}"), stems.len());
        }
        let denies = words().filter(|word| is_in(DENYING, word)).count() > 0;
        known.insert(folded, wordings.len());
        wordings.push(Wording { rule, proposals: vec![place], weights: BTreeMap::new(), denies });
        texts.push(counts);
    }
    let mut having = vec![0_usize; stems.len()];
    texts.iter().flat_map(BTreeMap::keys).for_each(|stem| having[*stem] += 1);
    let all = texts.len() as f64;
    for (wording, counts) in wordings.iter_mut().zip(texts) {
        let weight = |(stem, count): (usize, f64)| {
            (stem, count * (((1.0 + all) / (1.0 + having[stem] as f64)).ln() + 1.0))
        };
        let weights: BTreeMap<usize, f64> = counts.into_iter().map(weight).collect();
        let norm = weights.values().map(|weight| weight * weight).sum::<f64>().sqrt();
        wording.weights = weights.into_iter().map(|(stem, weight)| (stem, weight / norm)).collect();
    }
    wordings.sort_by_key(|wording| (std::cmp::Reverse(wording.proposals.len()), wording.proposals[0]));
    wordings
}

/// The cosine, or 0 where one denies and the other does not.
fn likeness(one: &Wording<'_>, other: &Wording<'_>) -> f64 {
    if one.denies != other.denies {
        return 0.0;
    }
    one.weights.iter().filter_map(|(stem, weight)| Some(weight * other.weights.get(stem)?)).sum()
}

/// A cluster of these wordings.
fn of(members: &[&Wording<'_>], proposals: &[(&str, &str)]) -> Cluster {
    let near = |one: &Wording<'_>| -> f64 {
        members.iter().map(|other| other.proposals.len() as f64 * likeness(one, other)).sum()
    };
    let middle = members[1..].iter().fold((members[0], near(members[0])), |best, next| {
        let near = near(next);
        // Rounding is no reason to take another.
        if near > best.1 + 1e-9 { (*next, near) } else { best }
    });
    let mut places: Vec<usize> =
        members.iter().flat_map(|wording| wording.proposals.iter().copied()).collect();
    places.sort_unstable();
    let pairs: BTreeSet<&str> = places.iter().map(|place| proposals[*place].1).collect();
    Cluster { rule: middle.0.rule.to_owned(), pairs: pairs.len(), proposals: places }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(rules: &[&str]) -> Vec<Cluster> {
        let pairs: Vec<String> = (0..rules.len()).map(|place| format!("p{place}")).collect();
        let proposals: Vec<(&str, &str)> =
            rules.iter().copied().zip(pairs.iter().map(String::as_str)).collect();
        cluster(&proposals, 0.5)
    }

    #[test]
    fn other_words_for_the_same_are_one_cluster_and_the_middle_stands_for_it() {
        let found = clusters(&[
            "is short",
            "is more polite",
            "Is More Polite",
            "politely greets the user more",
            "is more polite to the user",
            "gives sources for its claims",
        ]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(
            (found[0].rule.as_str(), &found[0].proposals[..], found[0].pairs),
            ("is more polite", &[1, 2, 3, 4][..], 4)
        );
        assert_eq!(
            (found[1].rule.as_str(), found[2].rule.as_str()),
            ("is short", "gives sources for its claims")
        );
    }

    #[test]
    fn opposites_are_never_together() {
        let found = clusters(&[
            "insults the user with rude words",
            "does not insult the user with rude words",
            "avoids insulting the user with rude words",
            "insults with rude words",
        ]);
        let members: Vec<&[usize]> = found.iter().map(|cluster| &cluster.proposals[..]).collect();
        assert_eq!(members, [&[0, 3][..], &[1, 2]]);
    }

    #[test]
    fn several_rules_of_a_pair_count_once() {
        let found = cluster(&[("is kind", "p"), ("is kind", "p"), ("is brief", "p"), ("is brief", "q")], 0.5);
        let counted: Vec<(&str, usize, usize)> =
            found.iter().map(|c| (c.rule.as_str(), c.proposals.len(), c.pairs)).collect();
        assert_eq!(counted, [("is brief", 2, 2), ("is kind", 2, 1)]);
        assert_eq!(cluster(&[], 0.5), []);
    }

    #[test]
    fn rules_without_english_words_are_like_themselves_alone() {
        let found = clusters(&["is the one", "est plus poli", "更有礼貌", "更有礼貌", "so it is"]);
        assert_eq!(found.iter().map(|cluster| cluster.proposals.len()).collect::<Vec<_>>(), [2, 1, 1, 1]);
    }
}
