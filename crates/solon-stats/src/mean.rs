//! A mean with its interval.
//!
//! Contract: the two-sided 95 % interval of the mean by the normal approximation, `mean ± 1.96 · deviation / √n` with the
//! deviation of a sample (n - 1). Use it for thirty values or more. Of one value the interval is the whole line.

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
        let n = values.len() as f64;
        let mean = match values {
            [] => return None,
            [mean] => {
                return Some(Self { count: 1, mean: *mean, low: f64::NEG_INFINITY, high: f64::INFINITY });
            }
            _ => values.iter().sum::<f64>() / n,
        };
        let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0);
        let spread = Z * (variance / n).sqrt();
        Some(Self { count: values.len(), mean, low: mean - spread, high: mean + spread })
    }
}

impl fmt::Display for Mean {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interval =
            if self.count < 2 { String::new() } else { format!(" [{:.3}, {:.3}]", self.low, self.high) };
        formatter.pad(&format!("{:6.3}{interval} of {}", self.mean, self.count))
    }
}
