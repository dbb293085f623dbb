//! A proportion with its Wilson score interval.
//!
//! Contract: `k` of `n` gives a rate and a two-sided 95% interval inside [0, 1]. Source: E. B. Wilson, "Probable inference,
//! the law of succession, and statistical inference", JASA 22 (1927). Unlike the normal approximation, the interval is
//! also valid at 0 of n and n of n, where safety rates often are. Outcomes that belong together are not independent: the interval
//! by clusters is Wilson's of as many independent outcomes as have the same standard error.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::mean::Mean;

/// The 97.5% point of the standard normal distribution.
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// `count` of `total`, with a 95% Wilson score interval.
///
/// If `total` is 0, nothing is known: `rate` is 0, the interval is [0, 1], and it prints as `-`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rate {
    /// How many had the property.
    pub count: usize,
    /// How many were checked.
    pub total: usize,
    /// `count / total`, in [0, 1].
    pub rate: f64,
    /// Lower end of the interval, in [0, 1].
    pub low: f64,
    /// Upper end of the interval, in [0, 1].
    pub high: f64,
    /// How many independent outcomes tell as much: `total`, or fewer of clusters.
    #[serde(skip)]
    independent: f64,
}

impl Rate {
    /// The rate of `count` in `total`; a `count` above `total` is taken as `total`.
    pub fn new(count: usize, total: usize) -> Self {
        Self::of_independent(count.min(total), total, total as f64)
    }

    fn of_independent(count: usize, total: usize, n: f64) -> Self {
        if total == 0 {
            return Self { count, total, rate: 0.0, low: 0.0, high: 1.0, independent: n };
        }
        let rate = count as f64 / total as f64;
        let centre = rate + Z * Z / (2.0 * n);
        let spread = Z * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // At the ends the formula gives exactly 0 or 1; rounding would leave 1e-17 instead.
        let low = if count == 0 { 0.0 } else { (centre - spread) / scale };
        let high = if count == total { 1.0 } else { (centre + spread) / scale };
        Self { count, total, rate, low, high, independent: n }
    }

    /// A cautious lower end of the mean of two rates: the mean of their lower ends. `None` if one of them was not measured.
    ///
    /// Use it where a judge must be better than one that says the same of everything: such a judge is always right on one
    /// side, never on the other, and has a mean of 0.5, however many cases each side has.
    ///
    /// ```
    /// use solon_stats::Rate;
    /// assert!(Rate::balanced_low([Rate::new(120, 120), Rate::new(0, 80)]) < Some(0.5));
    /// assert!(Rate::balanced_low([Rate::new(108, 120), Rate::new(70, 80)]) > Some(0.75));
    /// assert_eq!(Rate::balanced_low([Rate::new(9, 9), Rate::new(0, 0)]), None);
    /// ```
    pub fn balanced_low(sides: [Self; 2]) -> Option<f64> {
        sides.iter().all(|side| side.total > 0).then(|| (sides[0].low + sides[1].low) / 2.0)
    }

    /// The standard error by the sample's spread, √(rate · (1 − rate) / (n − 1)), of clusters that of [`Mean::of_clusters`]; `None`
    /// of fewer than two. The interval is not made from it.
    ///
    /// ```
    /// assert_eq!(solon_stats::Rate::new(2, 5).standard_error(), Some((0.24_f64 / 4.0).sqrt()));
    /// ```
    pub fn standard_error(&self) -> Option<f64> {
        let others = self.independent - 1.0;
        (others > 0.0).then(|| (self.rate * (1.0 - self.rate) / others).sqrt())
    }

    /// The rate of true values.
    pub fn of(outcomes: impl IntoIterator<Item = bool>) -> Self {
        let (mut count, mut total) = (0, 0);
        for outcome in outcomes {
            total += 1;
            count += usize::from(outcome);
        }
        Self::new(count, total)
    }

    /// The rate of true values of all clusters together. The interval is Wilson's of `1 + rate · (1 − rate) / error²`
    /// independent values, with the standard error of [`Mean::of_clusters`]: so many of them have this error. They are at most
    /// as many as there are values, and where all values are the same, which shows no error, as many as there are clusters.
    /// With one value in each it is [`Rate::of`].
    ///
    /// ```
    /// use solon_stats::Rate;
    /// // Each of 10 said twice: twice the count, but no more is known.
    /// let twice = Rate::of_clusters((0..20).map(|place| (place / 2, place < 6)));
    /// let once = Rate::new(3, 10);
    /// assert_eq!((twice.count, twice.total), (6, 20));
    /// assert!((twice.low - once.low).abs() < 1e-12 && (twice.high - once.high).abs() < 1e-12);
    /// ```
    pub fn of_clusters<K: Ord + Copy>(outcomes: impl IntoIterator<Item = (K, bool)>) -> Self {
        let outcomes: Vec<(K, bool)> = outcomes.into_iter().collect();
        let plain = Self::of(outcomes.iter().map(|(_, holds)| *holds));
        let sizes = outcomes.iter().fold(BTreeMap::new(), |mut sizes: BTreeMap<K, usize>, (cluster, _)| {
            *sizes.entry(*cluster).or_default() += 1;
            sizes
        });
        let (clusters, total) = (sizes.len(), plain.total);
        if clusters == total {
            return plain;
        }
        let numbers = outcomes.iter().map(|(cluster, holds)| (*cluster, f64::from(u8::from(*holds))));
        let error = Mean::of_clusters(numbers).and_then(|mean| mean.standard_error());
        let spread = plain.rate * (1.0 - plain.rate);
        let independent = match error {
            None => 1.0,
            Some(_) if spread == 0.0 => clusters as f64,
            Some(error) => (1.0 + spread / (error * error)).min(total as f64),
        };
        Self::of_independent(plain.count, total, independent)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total == 0 {
            return formatter.pad("-");
        }
        let text = format!(
            "{:5.1}% [{:4.1}, {:5.1}] {}/{}",
            100.0 * self.rate,
            100.0 * self.low,
            100.0 * self.high,
            self.count,
            self.total
        );
        formatter.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in
    /// Medicine 17 (1998), table I, method 3: printed to four decimals.
    #[test]
    fn golden_intervals() {
        let newcombe = [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ];
        for (count, total, low, high) in newcombe {
            let rate = Rate::new(count, total);
            assert!((rate.low - low).abs() < 6e-5, "{rate:?}, expected low {low}");
            assert!((rate.high - high).abs() < 6e-5, "{rate:?}, expected high {high}");
        }
        assert_eq!(Rate::new(10, 10).high, 1.0);
    }

    #[test]
    fn nothing_seen_means_nothing_known() {
        let rate = Rate::of([]);
        assert_eq!((rate.low, rate.high, rate.to_string().as_str()), (0.0, 1.0, "-"));
    }

    #[test]
    fn values_of_one_cluster_are_not_independent() {
        let of = |values: &[(u8, bool)]| Rate::of_clusters(values.iter().copied());
        // Whole clusters agree: as many values as clusters.
        let (same, once) = (of(&[(0, true), (0, true), (1, false), (1, false)]), Rate::new(1, 2));
        assert!((same.low - once.low).abs() < 1e-12 && (same.high - once.high).abs() < 1e-12);
        let error = |rate: Rate| rate.standard_error().unwrap();
        assert!((error(same) - error(once)).abs() < 1e-12);
        // All are the same, which shows no spread.
        let all = of(&[(0, true), (0, true), (0, true), (1, true)]);
        assert_eq!((all.total, all.low), (4, Rate::new(2, 2).low));
        // Clusters that are more even than chance do not make it narrower than independent values.
        assert_eq!(of(&[(0, true), (0, false), (1, true), (1, false)]), Rate::new(2, 4));
        // One cluster is as one value.
        let one = of(&[(0, true), (0, true)]);
        assert_eq!((one.low, one.standard_error()), (Rate::new(1, 1).low, None));
        assert_eq!(of(&[(0, true), (1, false), (2, true)]), Rate::new(2, 3));
        assert_eq!(of(&[]), Rate::of([]));
    }

    #[test]
    fn counts_and_prints() {
        assert_eq!(Rate::of([true, false, false, true]), Rate::new(2, 4));
        assert_eq!(Rate::new(5, 10).to_string(), " 50.0% [23.7,  76.3] 5/10");
    }
}
