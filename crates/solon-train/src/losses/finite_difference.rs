//! Central differences: the check of every gradient in this folder.
//!
//! Contract: inputs are small multiples of the step 2^-10, so `x + step` and `x - step` are exact in `f32`. Losses are
//! `f64` inside, so only the truncation error of order step^2 is left.

/// The step in each direction.
pub(crate) const STEP: f32 = 1.0 / 1024.0;

/// Compares `gradient` with `(loss(x + step) - loss(x - step)) / (2 * step)`, element by element.
pub(crate) fn check_gradient<T>(inputs: &[T], gradient: &[f32], loss: impl Fn(&[T]) -> f64)
where
    T: Copy + From<f32> + std::ops::Add<Output = T> + std::ops::Sub<Output = T>,
{
    assert_eq!(inputs.len(), gradient.len());
    for (index, &analytic) in gradient.iter().enumerate() {
        let mut moved = inputs.to_vec();
        moved[index] = inputs[index] + T::from(STEP);
        let above = loss(&moved);
        moved[index] = inputs[index] - T::from(STEP);
        let below = loss(&moved);
        let numeric = (above - below) / (2.0 * f64::from(STEP));
        let error = (numeric - f64::from(analytic)).abs();
        assert!(error <= 1e-5 * numeric.abs().max(0.1), "[{index}]: analytic {analytic}, numeric {numeric}");
    }
}
