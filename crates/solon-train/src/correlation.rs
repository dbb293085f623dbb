//! Pearson's correlation: how far a reward follows the length of the answers.

/// The correlation of two lists, from -1 to 1; `None` where there are fewer than two values, or one list is constant.
///
/// # Panics
/// Lists of unequal length.
///
/// ```
/// use solon_train::correlation;
/// assert!(correlation(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]) > Some(0.999_999));
/// assert_eq!(correlation(&[1.0, 1.0], &[2.0, 4.0]), None);
/// ```
pub fn correlation(xs: &[f64], ys: &[f64]) -> Option<f64> {
    assert_eq!(xs.len(), ys.len(), "two lists of one length");
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (x_mean, y_mean) = (mean(xs), mean(ys));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in xs.iter().zip(ys) {
        let (dx, dy) = (x - x_mean, y - y_mean);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    let found = xy / (xx.sqrt() * yy.sqrt());
    (xs.len() > 1 && found.is_finite()).then(|| found.clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_a_computation_by_hand() {
        // Deviations (-1, 0, 1) and (-1, 2, -1): no correlation. (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 · 14/3).
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[0.0, 3.0, 0.0]), Some(0.0));
        let found = correlation(&[1.0, 2.0, 3.0], &[0.0, 1.0, 3.0]).unwrap();
        assert!((found - 3.0 / (2.0f64 * 14.0 / 3.0).sqrt()).abs() < 1e-12);
        assert!(correlation(&[1.0, 2.0, 3.0], &[5.0, 2.0, -7.0]).unwrap() < -0.9);
    }

    #[test]
    fn what_does_not_vary_has_none() {
        assert_eq!(correlation(&[], &[]), None);
        assert_eq!(correlation(&[1.0], &[1.0]), None);
        assert_eq!(correlation(&[1.0, 2.0], &[3.0, 3.0]), None);
        assert_eq!(correlation(&[1.0, f64::NAN], &[3.0, 4.0]), None);
    }
}
