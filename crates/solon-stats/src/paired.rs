//! Exact paired tests: two models answered the same prompts; do they differ by more than chance?
//!
//! Contract: only the prompts on which the two differ are counted. Under the null hypothesis each of them favours either
//! model with probability ½, independently, so the counts are binomial.
//! Sources: Q. McNemar, Psychometrika 12 (1947), in its binomial form; the weighted test is the randomisation test of
//! R. A. Fisher, "The Design of Experiments" (1935), §21, over all sign flips instead of random ones.

/// McNemar's exact two-sided p-value: twice the smaller tail of Binomial(n, ½), at most 1.
///
/// `one_way` and `other_way` count the pairs that differ in each direction.
pub fn mcnemar_exact(one_way: usize, other_way: usize) -> f64 {
    let fewer = one_way.min(other_way);
    let tail: f64 = binomial_half(one_way + other_way).take(fewer + 1).sum();
    (2.0 * tail).min(1.0)
}

/// Prompts with the same weight in [`weighted_sign_test`]. Only prompts on which the two models differ are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stratum {
    /// How much one prompt adds to the score; above 0.
    pub weight: f64,
    /// Prompts on which the new model is the better one.
    pub gains: usize,
    /// Prompts on which the old model is the better one.
    pub losses: usize,
}

impl Stratum {
    /// The difference of the scores in this stratum if `gains` of its prompts favour the new model.
    fn difference(&self, gains: usize) -> f64 {
        self.weight * (2.0 * gains as f64 - (self.gains + self.losses) as f64)
    }
}

/// The one-sided p-value of a gain in a weighted score: the probability that chance gives a difference at least as large.
///
/// The difference is the sum over strata of `weight · (gains − losses)`. The distribution is computed in full, so the
/// p-value is exact. The work grows with the product of all strata's counts but the last, so use few strata. With one
/// stratum this is the one-sided sign test: half of [`mcnemar_exact`] if there are more gains than losses.
///
/// ```
/// use solon_stats::{Stratum, weighted_sign_test};
/// // Five prompts changed, all for the better: chance does that once in 2⁵.
/// let p_value = weighted_sign_test(&[Stratum { weight: 0.01, gains: 5, losses: 0 }]);
/// assert!((p_value - 1.0 / 32.0).abs() < 1e-12);
/// ```
pub fn weighted_sign_test(strata: &[Stratum]) -> f64 {
    let seen: f64 = strata.iter().map(|stratum| stratum.difference(stratum.gains)).sum();
    // Sums of the same weights in another order differ by rounding and count as ties.
    let tie = 1e-9 * strata.iter().map(|stratum| stratum.weight).fold(f64::INFINITY, f64::min).min(1.0);
    at_least(strata, seen - tie).min(1.0)
}

/// P(difference of the strata ≥ `threshold`).
fn at_least(strata: &[Stratum], threshold: f64) -> f64 {
    let Some((first, rest)) = strata.split_first() else {
        return if threshold <= 0.0 { 1.0 } else { 0.0 };
    };
    let chances = binomial_half(first.gains + first.losses).enumerate();
    if rest.is_empty() {
        return chances.filter(|(gains, _)| first.difference(*gains) >= threshold).map(|(_, p)| p).sum();
    }
    chances.map(|(gains, p)| p * at_least(rest, threshold - first.difference(gains))).sum()
}

/// P(k) of Binomial(n, ½) for k = 0, 1, … n.
fn binomial_half(n: usize) -> impl Iterator<Item = f64> {
    // In logs: 2⁻ⁿ underflows from n = 1075 on.
    let mut log_p = -(n as f64) * std::f64::consts::LN_2;
    (0..=n).map(move |k| {
        if k > 0 {
            log_p += ((n - k + 1) as f64 / k as f64).ln();
        }
        log_p.exp()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_is_the_binomial_test() {
        for (one_way, other_way, expected) in [
            (0, 0, 1.0),
            (3, 3, 1.0),
            (0, 5, 2.0 / 32.0),
            (1, 9, 22.0 / 1024.0),
            (12, 3, 2.0 * (1.0 + 15.0 + 105.0 + 455.0) / 32768.0),
        ] {
            let p_value = mcnemar_exact(one_way, other_way);
            assert!((p_value - expected).abs() < 1e-12, "{one_way} {other_way}: {p_value}, not {expected}");
        }
        assert!(mcnemar_exact(2000, 2000) > 0.99);
        assert!(mcnemar_exact(700, 800) > 0.009 && mcnemar_exact(700, 800) < 0.011);
    }

    fn strata(parts: &[(f64, usize, usize)]) -> Vec<Stratum> {
        parts.iter().map(|&(weight, gains, losses)| Stratum { weight, gains, losses }).collect()
    }

    #[test]
    fn one_stratum_is_half_of_mcnemar() {
        for (gains, losses) in [(9, 1), (12, 3), (700, 600)] {
            let p_value = weighted_sign_test(&strata(&[(0.01, gains, losses)]));
            let half = mcnemar_exact(gains, losses) / 2.0;
            assert!((p_value - half).abs() < 1e-9, "{gains} {losses}: {p_value}, not {half}");
        }
    }

    /// Enumerates all sign flips, prompt by prompt.
    fn by_enumeration(parts: &[Stratum]) -> f64 {
        let weights: Vec<f64> =
            parts.iter().flat_map(|s| std::iter::repeat_n(s.weight, s.gains + s.losses)).collect();
        let seen: f64 = parts.iter().map(|s| s.weight * (s.gains as f64 - s.losses as f64)).sum();
        let flipped = |signs: u32| -> f64 {
            weights.iter().enumerate().map(|(i, w)| if signs >> i & 1 == 1 { *w } else { -w }).sum()
        };
        let all = 1_u32 << weights.len();
        (0..all).filter(|&signs| flipped(signs) >= seen - 1e-12).count() as f64 / f64::from(all)
    }

    #[test]
    fn the_weighted_test_flips_every_sign() {
        for parts in [
            strata(&[]),
            strata(&[(0.01, 0, 0)]),
            strata(&[(0.01, 3, 3), (0.02, 1, 1)]),
            strata(&[(0.01, 5, 1), (1.0 / 60.0, 2, 4)]),
            strata(&[(1.0 / 3.0, 2, 3), (0.1, 4, 0), (0.7, 1, 2)]),
        ] {
            let (p_value, expected) = (weighted_sign_test(&parts), by_enumeration(&parts));
            assert!((p_value - expected).abs() < 1e-12, "{parts:?}: {p_value}, not {expected}");
        }
    }
}
