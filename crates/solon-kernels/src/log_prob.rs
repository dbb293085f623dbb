//! The log-prob head: log-softmax of logits at a target, and the gradient back to the logits.
//!
//! The caller hands over logits in chunks of rows. Each row is complete, so results do not depend on the chunks.

use crate::exp::{LANES, exp, sum_lanes};
use crate::parallel::{SharedOutput, for_chunks};

/// The largest element.
#[inline(always)]
pub(crate) fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (head, tail) = row.as_chunks::<LANES>();
    for x in head {
        for i in 0..LANES {
            lanes[i] = if x[i] > lanes[i] { x[i] } else { lanes[i] };
        }
    }
    let mut max = lanes.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    for x in tail {
        max = max.max(*x);
    }
    max
}

/// Σ e^((x - max)·scale).
#[inline(always)]
pub(crate) fn sum_of_exponentials(row: &[f32], max: f32, scale: f32) -> f32 {
    let (head, tail) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for x in head {
        for i in 0..LANES {
            lanes[i] += exp((x[i] - max) * scale);
        }
    }
    tail.iter().fold(sum_lanes(lanes), |sum, x| sum + exp((x - max) * scale))
}

/// Replaces the row by e^((x - max)·scale) and returns the sum.
#[inline(always)]
pub(crate) fn exponentials(row: &mut [f32], max: f32, scale: f32) -> f32 {
    let (head, tail) = row.as_chunks_mut::<LANES>();
    let mut lanes = [0.0; LANES];
    for x in head {
        for i in 0..LANES {
            x[i] = exp((x[i] - max) * scale);
            lanes[i] += x[i];
        }
    }
    let mut sum = sum_lanes(lanes);
    for x in tail {
        *x = exp((*x - max) * scale);
        sum += *x;
    }
    sum
}

multiversion! {
    /// Log-probability of `target` under softmax(row · inverse_temperature), in nats.
    pub fn row_log_prob(row: &[f32], target: u32, inverse_temperature: f32) -> f32 {
        let max = largest(row);
        let sum = sum_of_exponentials(row, max, inverse_temperature);
        (row[target as usize] - max) * inverse_temperature - sum.ln()
    }
}

multiversion! {
    /// Softmax weights of a row before their division by the sum: `e^((row - largest) · inverse_temperature)`.
    pub fn row_weights(row: &[f32], inverse_temperature: f32, weights: &mut [f32]) {
        let max = largest(row);
        for (weight, x) in weights.iter_mut().zip(row) {
            *weight = exp((x - max) * inverse_temperature);
        }
    }
}

multiversion! {
    /// Replaces a row of logits by `dlogprob · ∂logprob(target)/∂logits` and returns the log-prob.
    pub fn row_log_prob_grad(row: &mut [f32], target: u32, inverse_temperature: f32, dlogprob: f32) -> f32 {
        let max = largest(row);
        let above = (row[target as usize] - max) * inverse_temperature;
        let sum = exponentials(row, max, inverse_temperature);
        let log_prob = above - sum.ln();
        let factor = dlogprob * inverse_temperature;
        let each = -factor / sum;
        for x in row.iter_mut() {
            *x *= each;
        }
        row[target as usize] += factor;
        log_prob
    }
}

/// [`row_log_prob`] of each row of `logits` (`[targets.len(), vocab]`).
pub fn log_probs(logits: &[f32], vocab: usize, targets: &[u32], inverse_temperature: f32, out: &mut [f32]) {
    assert!(logits.len() == vocab * targets.len() && out.len() == targets.len());
    for_chunks(out, 1, |i, out| {
        out[0] = row_log_prob(&logits[i * vocab..(i + 1) * vocab], targets[i], inverse_temperature);
    });
}

/// [`row_log_prob_grad`] of each row of `logits`, in place; `out` gets the log-probs.
pub fn log_probs_grad(
    logits: &mut [f32],
    vocab: usize,
    targets: &[u32],
    inverse_temperature: f32,
    dlogprobs: &[f32],
    out: &mut [f32],
) {
    assert!(logits.len() == vocab * targets.len() && dlogprobs.len() == targets.len());
    assert_eq!(out.len(), targets.len());
    let out = SharedOutput::new(out);
    for_chunks(logits, vocab, |i, row| {
        let log_prob = row_log_prob_grad(row, targets[i], inverse_temperature, dlogprobs[i]);
        // SAFETY: `out` has an element for each row, and this task alone has the row.
        unsafe { out.slice(i, 1)[0] = log_prob };
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn exact(row: &[f64], target: usize, scale: f64) -> f64 {
        let max = row.iter().fold(f64::MIN, |a, b| a.max(*b));
        let sum: f64 = row.iter().map(|x| ((x - max) * scale).exp()).sum();
        (row[target] - max) * scale - sum.ln()
    }

    #[test]
    fn a_log_prob_is_the_same_bits_with_and_without_its_gradient() {
        for len in 1..200 {
            let mut row: Vec<f32> = (0..len).map(|i| ((i * len) as f32 * 0.7).sin() * 9.0).collect();
            let alone = row_log_prob(&row, len as u32 / 2, 0.9);
            assert_eq!(row_log_prob_grad(&mut row, len as u32 / 2, 0.9, 1.0), alone, "{len} logits");
        }
    }

    #[test]
    fn value_and_gradient_agree_with_f64() {
        let row: Vec<f32> = (0..53).map(|i| (i as f32 * 1.7).sin() * 4.0).collect();
        let wide: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        for scale in [1.0_f32, 1.0 / 0.7] {
            let got = f64::from(row_log_prob(&row, 11, scale));
            assert!((got - exact(&wide, 11, f64::from(scale))).abs() < 1e-5);
            let mut grad = row.clone();
            let again = row_log_prob_grad(&mut grad, 11, scale, 0.5);
            assert_eq!(again, row_log_prob(&row, 11, scale));
            for i in 0..53 {
                let (mut up, mut down) = (wide.clone(), wide.clone());
                up[i] += 1e-5;
                down[i] -= 1e-5;
                let numeric =
                    0.5 * (exact(&up, 11, f64::from(scale)) - exact(&down, 11, f64::from(scale))) / 2e-5;
                assert!((numeric - f64::from(grad[i])).abs() < 1e-6, "{i}: {numeric} {}", grad[i]);
            }
        }
    }

    #[test]
    fn rows_are_the_references() {
        let (rows, vocab) = (9, 1003);
        let logits: Vec<f32> = (0..rows * vocab).map(|i| (i as f32 * 1.7).sin() * 8.0).collect();
        let targets: Vec<u32> = (0..rows as u32).map(|row| row * 111).collect();
        let dlogprobs: Vec<f32> = (0..rows).map(|row| 0.3 - row as f32 * 0.2).collect();
        for inverse_temperature in [1.0, 1.0 / 0.7] {
            let (mut out, mut grad, mut again) = (vec![0.0; rows], logits.clone(), vec![0.0; rows]);
            log_probs(&logits, vocab, &targets, inverse_temperature, &mut out);
            log_probs_grad(&mut grad, vocab, &targets, inverse_temperature, &dlogprobs, &mut again);
            assert_eq!(out, again);
            for (i, (row, got)) in logits.chunks_exact(vocab).zip(grad.chunks_exact(vocab)).enumerate() {
                let mut expected = row.to_vec();
                let (target, dlogprob) = (targets[i], dlogprobs[i]);
                let log_prob = reference::log_prob_grad(&mut expected, target, inverse_temperature, dlogprob);
                assert!((out[i] - log_prob).abs() < 1e-5, "row {i}: {} {log_prob}", out[i]);
                for (j, (x, y)) in got.iter().zip(&expected).enumerate() {
                    assert!((x - y).abs() < 1e-6, "row {i}, logit {j}: {x} {y}");
                }
                let mut weights = vec![0.0; vocab];
                row_weights(row, inverse_temperature, &mut weights);
                let exact = reference::log_softmax(row, inverse_temperature);
                let largest = exact.iter().fold(f64::MIN, |a, b| a.max(*b));
                for (j, (weight, exact)) in weights.iter().zip(&exact).enumerate() {
                    let exact = (exact - largest).exp();
                    assert!(
                        (f64::from(*weight) - exact).abs() < 1e-6,
                        "row {i}, weight {j}: {weight} {exact}"
                    );
                }
            }
        }
    }
}
