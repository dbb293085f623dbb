//! Krippendorff's alpha: how much any number of annotators agree beyond chance, whoever of them judged what.
//!
//! Contract: nominal verdicts, which agree or do not. A unit that only one annotator judged says nothing about agreement and is left
//! out. The interval is a bootstrap over units; the caller gives the draws, so that this crate has none of its own.
//!
//! Sources: K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C; for the interval A. Zapf et al., "Measuring
//! inter-rater reliability for nominal data", BMC Medical Research Methodology 16:93 (2016).

use std::collections::BTreeMap;

/// Samples that an interval is made from.
pub const REPLICATES: usize = 1000;

/// A unit that was judged at least twice.
#[derive(Debug, Clone)]
struct Unit {
    /// How often each verdict was given.
    counts: Vec<usize>,
    /// How many verdicts it has.
    total: usize,
    /// Ordered pairs of verdicts that differ, divided by `total - 1`.
    disagreement: f64,
}

/// What annotators said of units, such as pairs of answers.
#[derive(Debug, Clone)]
pub struct Verdicts {
    units: Vec<Unit>,
    kinds: usize,
}

impl Verdicts {
    /// From the verdicts on each unit, in any order; those that are missing are left out.
    pub fn of<V: Ord>(units: impl IntoIterator<Item = Vec<V>>) -> Self {
        let units: Vec<Vec<V>> = units.into_iter().filter(|verdicts| verdicts.len() > 1).collect();
        let mut places: BTreeMap<&V, usize> = units.iter().flatten().map(|verdict| (verdict, 0)).collect();
        for (place, (_, slot)) in places.iter_mut().enumerate() {
            *slot = place;
        }
        let kinds = places.len();
        let unit = |verdicts: &Vec<V>| {
            let mut counts = vec![0; kinds];
            for verdict in verdicts {
                counts[places[verdict]] += 1;
            }
            let total = verdicts.len();
            let same: usize = counts.iter().map(|count| count * count).sum();
            Unit { counts, total, disagreement: (total * total - same) as f64 / (total - 1) as f64 }
        };
        Self { units: units.iter().map(unit).collect(), kinds }
    }

    /// Units with at least two verdicts.
    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// Alpha: 1 where all agree, 0 at chance. `None` if fewer than two different verdicts were given: then chance alone always agrees.
    ///
    /// ```
    /// use solon_stats::Verdicts;
    /// // Ten units, two annotators (Krippendorff 2011, section A).
    /// let first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0];
    /// let second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0];
    /// let verdicts = Verdicts::of(first.iter().zip(&second).map(|(a, b)| vec![a, b]));
    /// assert!((verdicts.alpha().unwrap() - 0.095).abs() < 5e-4);
    /// ```
    pub fn alpha(&self) -> Option<f64> {
        self.alpha_of(self.units.iter())
    }

    /// The 95 % interval of alpha: percentiles over [`REPLICATES`] samples of as many units, drawn with replacement. `None` if alpha is,
    /// of one unit, or if so many samples have no alpha that the ends cannot be found.
    ///
    /// `draw(replicate, place)` must be uniform in `0..units()`.
    pub fn alpha_interval(&self, mut draw: impl FnMut(usize, usize) -> usize) -> Option<[f64; 2]> {
        self.alpha().filter(|_| self.units() > 1)?;
        let mut alphas: Vec<f64> = (0..REPLICATES)
            .filter_map(|replicate| {
                let drawn = (0..self.units()).filter_map(|place| self.units.get(draw(replicate, place)));
                self.alpha_of(drawn)
            })
            .collect();
        let tail = REPLICATES / 40;
        if alphas.len() < REPLICATES - tail {
            return None;
        }
        alphas.sort_by(f64::total_cmp);
        Some([alphas[tail], alphas[alphas.len() - 1 - tail]])
    }

    fn alpha_of<'a>(&self, units: impl Iterator<Item = &'a Unit>) -> Option<f64> {
        let mut totals = vec![0; self.kinds];
        let (mut total, mut observed) = (0, 0.0);
        for unit in units {
            for (sum, count) in totals.iter_mut().zip(&unit.counts) {
                *sum += count;
            }
            total += unit.total;
            observed += unit.disagreement;
        }
        let n = total as f64;
        let same: f64 = totals.iter().map(|count| (*count as f64).powi(2)).sum();
        let by_chance = (n * n - same) / (n - 1.0);
        (by_chance > 0.0).then(|| 1.0 - observed / by_chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units<const N: usize>(rows: &[[&str; N]]) -> Vec<Vec<String>> {
        let verdicts = |column: usize| rows.iter().map(move |row| row[column]).filter(|v| *v != ".");
        (0..N).map(|column| verdicts(column).map(str::to_owned).collect()).collect()
    }

    /// Krippendorff (2011), sections B and C: two observers with five verdicts; four observers, twelve units, verdicts missing.
    #[test]
    fn published_values() {
        let two = units(&[
            ["a", "a", "b", "b", "d", "c", "c", "c", "e", "d", "d", "a"],
            ["b", "a", "b", "b", "b", "c", "c", "c", "e", "d", "d", "d"],
        ]);
        assert!((Verdicts::of(two).alpha().unwrap() - 0.692).abs() < 5e-4);
        let four = units(&[
            ["1", "2", "3", "3", "2", "1", "4", "1", "2", ".", ".", "."],
            ["1", "2", "3", "3", "2", "2", "4", "1", "2", "5", ".", "3"],
            [".", "3", "3", "3", "2", "3", "4", "2", "2", "5", "1", "."],
            ["1", "2", "3", "3", "2", "4", "4", "1", "2", "5", "1", "."],
        ]);
        let verdicts = Verdicts::of(four);
        assert_eq!(verdicts.units(), 11, "the twelfth was judged once");
        assert!((verdicts.alpha().unwrap() - 0.743).abs() < 5e-4, "{:?}", verdicts.alpha());
    }

    #[test]
    fn agreement_disagreement_and_nothing_to_say() {
        let of = |units: &[&[u8]]| Verdicts::of(units.iter().map(|unit| unit.to_vec()));
        assert_eq!(of(&[&[1, 1], &[2, 2, 2]]).alpha(), Some(1.0));
        assert!(of(&[&[1, 2], &[2, 1]]).alpha().unwrap() < 0.0);
        for nothing in [of(&[]), of(&[&[1], &[2]]), of(&[&[1, 1], &[1, 1, 1]])] {
            assert_eq!((nothing.alpha(), nothing.alpha_interval(|_, place| place)), (None, None));
        }
    }

    #[test]
    fn the_interval_is_that_of_the_samples_drawn() {
        let verdicts =
            Verdicts::of((0..40_u8).map(|i| vec![i % 2, if i % 5 == 0 { 1 - i % 2 } else { i % 2 }]));
        let alpha = verdicts.alpha().unwrap();
        // The same units each time: no spread.
        assert_eq!(verdicts.alpha_interval(|_, place| place), Some([alpha, alpha]));
        // A linear congruential generator is random enough to see that the interval is around alpha.
        let mut state = 1_u64;
        let mut draw = |_, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % 40
        };
        let [low, high] = verdicts.alpha_interval(&mut draw).unwrap();
        assert!(low < alpha - 0.1 && alpha + 0.1 < high && high <= 1.0, "{low} {alpha} {high}");
        let one = Verdicts::of([vec![1, 2]]);
        assert_eq!((one.alpha(), one.alpha_interval(|_, place| place)), (Some(0.0), None));
        // Two units of which one alone has the rare verdict: a quarter of the samples have no alpha.
        let few = Verdicts::of([vec![1, 1], vec![2, 2]]);
        assert_eq!(
            (few.alpha(), few.alpha_interval(|replicate, place| replicate >> place & 1)),
            (Some(1.0), None)
        );
    }
}
