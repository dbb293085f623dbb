//! A mean with its interval.
//!
//! Contract: the two-sided 95 % interval of the mean by the normal approximation, `mean ± 1.96 · deviation / √n` with the
//! deviation of a sample (n - 1). Use it for thirty values or more. Of one value the interval is the whole line. Values that
//! belong together, such as the turns of a conversation, are no independent values: their interval is by clusters.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::rate::Z;

/// The mean of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// How many numbers.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Mean {
    /// The mean of `values`; `None` of none.
    ///
    /// ```
    /// let mean = solon_stats::Mean::of(&[1.0, 3.0]).unwrap();
    /// assert!((mean.high - (2.0 + 1.96)).abs() < 1e-4 && mean.mean == 2.0);
    /// ```
    pub fn of(values: &[f64]) -> Option<Self> {
        Self::of_clusters(values.iter().copied().enumerate())
    }

    /// The standard error, which the interval is made from; `None` of one cluster.
    ///
    /// ```
    /// let error = solon_stats::Mean::of(&[1.0, 3.0]).unwrap().standard_error().unwrap();
    /// assert!((error - 1.0).abs() < 1e-12);
    /// ```
    pub fn standard_error(&self) -> Option<f64> {
        let error = (self.high - self.low) / (2.0 * Z);
        error.is_finite().then_some(error)
    }

    /// The mean of all values, with the interval of a mean of clusters: the residuals of a cluster are added up before they
    /// are squared (Liang and Zeger 1986), `C / (C - 1)` for `C` clusters. With one value in each it is [`Mean::of`].
    ///
    /// ```
    /// use solon_stats::Mean;
    /// // Twice the same values: twice the count, but no more is known.
    /// let once = Mean::of(&[1.0, 3.0, 4.0]).unwrap();
    /// let twice = Mean::of_clusters([1.0, 3.0, 4.0, 1.0, 3.0, 4.0].into_iter().enumerate().map(|(i, x)| (i % 3, x))).unwrap();
    /// assert!((once.high - twice.high).abs() < 1e-12 && twice.count == 6);
    /// ```
    pub fn of_clusters<K: Ord>(values: impl IntoIterator<Item = (K, f64)>) -> Option<Self> {
        let mut clusters: BTreeMap<K, Vec<f64>> = BTreeMap::new();
        for (cluster, value) in values {
            clusters.entry(cluster).or_default().push(value);
        }
        let count: usize = clusters.values().map(Vec::len).sum();
        if count == 0 {
            return None;
        }
        let n = count as f64;
        let mean = clusters.values().flatten().sum::<f64>() / n;
        if clusters.len() < 2 {
            return Some(Self { count, mean, low: f64::NEG_INFINITY, high: f64::INFINITY });
        }
        let residual = |cluster: &Vec<f64>| cluster.iter().map(|x| x - mean).sum::<f64>();
        let squares: f64 = clusters.values().map(|cluster| residual(cluster).powi(2)).sum();
        let of_clusters = clusters.len() as f64;
        let spread = Z * (squares * of_clusters / (of_clusters - 1.0)).sqrt() / n;
        Some(Self { count, mean, low: mean - spread, high: mean + spread })
    }
}

impl fmt::Display for Mean {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval =
            if self.count < 2 { String::new() } else { format!(" [{:.3}, {:.3}]", self.low, self.high) };
        formatter.pad(&format!("{:6.3}{interval} of {}", self.mean, self.count))
    }
}
