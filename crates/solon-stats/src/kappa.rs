//! Cohen's kappa: how much two judges agree beyond chance.
//!
//! Source: J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20
//! (1960).

use std::collections::BTreeMap;

/// Cohen's kappa of two judges who say yes or no. It is at most 1, and 0 at chance. It is also 0 if nothing was judged,
/// or if chance alone always agrees.
///
/// The arguments count the items to which both say yes, only the first does, only the second does, and neither does.
pub fn cohens_kappa(both: usize, first_only: usize, second_only: usize, neither: usize) -> f64 {
    let total = both + first_only + second_only + neither;
    let share = |count: usize| count as f64 / total as f64;
    let (first, second) = (share(both + first_only), share(both + second_only));
    let chance = first * second + (1.0 - first) * (1.0 - second);
    if total == 0 || chance >= 1.0 { 0.0 } else { (share(both + neither) - chance) / (1.0 - chance) }
}

/// Cohen's kappa of two judges with any number of verdicts, from what each said of every item. `None` if nothing was judged, or
/// if both always say the same one thing: then chance alone always agrees, and nothing is beyond it.
///
/// ```
/// use solon_stats::{cohens_kappa, cohens_kappa_of};
/// let said = [(true, true), (true, false), (false, false), (false, false)];
/// assert!((cohens_kappa_of(&said).unwrap() - cohens_kappa(1, 1, 0, 2)).abs() < 1e-12);
/// ```
pub fn cohens_kappa_of<V: Ord>(verdicts: &[(V, V)]) -> Option<f64> {
    let mut counts: BTreeMap<&V, [usize; 2]> = BTreeMap::new();
    for (first, second) in verdicts {
        counts.entry(first).or_default()[0] += 1;
        counts.entry(second).or_default()[1] += 1;
    }
    let total = verdicts.len();
    let share = |count: usize| count as f64 / total as f64;
    let same = share(verdicts.iter().filter(|(first, second)| first == second).count());
    let chance: f64 = counts.values().map(|[first, second]| share(*first) * share(*second)).sum();
    (counts.len() > 1).then(|| (same - chance) / (1.0 - chance))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three diagnoses of 200 cases in J. Cohen, "Weighted kappa", Psychological Bulletin 70 (1968): unweighted, 0.492.
    #[test]
    fn more_than_two_verdicts() {
        let table = [[88, 14, 18], [10, 40, 10], [2, 6, 12]];
        let said: Vec<(usize, usize)> = (0..9)
            .flat_map(|cell| std::iter::repeat_n((cell / 3, cell % 3), table[cell / 3][cell % 3]))
            .collect();
        let kappa = cohens_kappa_of(&said).unwrap();
        assert!((kappa - 0.49153).abs() < 1e-4, "{kappa}");
        assert_eq!(cohens_kappa_of::<u8>(&[]), None);
        assert_eq!(cohens_kappa_of(&[(1, 1), (1, 1)]), None);
        // Each always says its own: no agreement, and none by chance.
        assert_eq!(cohens_kappa_of(&[(1, 2), (1, 2)]), Some(0.0));
    }

    #[test]
    fn known_tables() {
        // The textbook table; then two with the same agreement, 60 of 100, and other margins.
        for (table, expected) in
            [([20, 5, 10, 15], 0.4), ([45, 15, 25, 15], 3.0 / 23.0), ([25, 35, 5, 35], 7.0 / 27.0)]
        {
            let kappa = cohens_kappa(table[0], table[1], table[2], table[3]);
            assert!((kappa - expected).abs() < 1e-12, "{table:?}: {kappa}, not {expected}");
        }
        assert_eq!(cohens_kappa(3, 0, 0, 4), 1.0);
        assert!(cohens_kappa(0, 5, 5, 0) < -0.99);
        assert_eq!(cohens_kappa(0, 0, 0, 0), 0.0);
        assert_eq!(cohens_kappa(7, 0, 0, 0), 0.0);
    }
}
