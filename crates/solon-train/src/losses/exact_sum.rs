//! A sum that does not depend on the order and grouping of its terms.
//!
//! Contract: each term is rounded once to a multiple of 2^-48 and added as an integer, and integer addition is
//! associative. So merged metrics have the same bits however a step was split into micro-batches, threads or ranks. A
//! sum of floats does not have this property. Source: fixed-point accumulation; it is possible here because
//! [`LARGEST_TERM`](super::LARGEST_TERM) bounds the terms.

/// 2^48: with 127 bits and terms up to 10^18 there is room for a hundred thousand of the largest terms, and 2^-48 is
/// far smaller than what a metric shows.
const SCALE: f64 = (1u64 << 48) as f64;

/// The running sum.
///
/// ```
/// use solon_train::losses::exact_sum::ExactSum;
/// let (mut forward, mut backward) = (ExactSum::default(), ExactSum::default());
/// let terms = [1e16, 0.5, -1e16, 0.25];
/// terms.iter().for_each(|&term| forward.add(term));
/// terms.iter().rev().for_each(|&term| backward.add(term));
/// assert_eq!(forward, backward);
/// assert_eq!(forward.total(), 0.75);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExactSum(i128);

impl ExactSum {
    /// Adds one term. Losses check terms first; a term out of range saturates and does not wrap.
    pub fn add(&mut self, term: f64) {
        self.0 = self.0.saturating_add((term * SCALE).round() as i128);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: ExactSum) {
        self.0 = self.0.saturating_add(other.0);
    }

    /// The sum, rounded once.
    pub fn total(self) -> f64 {
        self.0 as f64 / SCALE
    }

    /// The mean over `count` terms; 0 if `count` is 0.
    pub fn mean(self, count: usize) -> f64 {
        self.total() / count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grouping_does_not_matter() {
        let terms: Vec<f64> = (0..1000).map(|i| f64::from(i).sin() * 10f64.powi(i % 17 - 8)).collect();
        let mut whole = ExactSum::default();
        terms.iter().for_each(|&term| whole.add(term));
        for size in [1, 3, 7, 500] {
            let mut merged = ExactSum::default();
            for chunk in terms.chunks(size) {
                let mut part = ExactSum::default();
                chunk.iter().for_each(|&term| part.add(term));
                merged.merge(part);
            }
            assert_eq!(merged, whole);
        }
        let naive: f64 = terms.iter().sum();
        assert!((whole.total() - naive).abs() < 1e-6);
    }

    #[test]
    fn holds_many_of_the_largest_terms() {
        let mut sum = ExactSum::default();
        // A power of two, so that only saturation could change the mean.
        (0..1 << 17).for_each(|_| sum.add(super::super::LARGEST_TERM));
        assert_eq!(sum.mean(1 << 17), super::super::LARGEST_TERM);
    }
}
