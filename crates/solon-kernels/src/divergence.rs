//! The divergence between two rows of logits: KL(p ‖ q), and its gradient with respect to the logits of q.
//!
//! Like the log-prob head: the caller hands over logits in chunks of rows, each row is complete, and results do not
//! depend on the chunks.

use crate::exp::{LANES, exp, sum_lanes};
use crate::log_prob::{exponentials, largest, sum_of_exponentials};
use crate::parallel::{SharedOutput, for_chunks};

/// Σ e^(p - max p), and Σ e^(p - max p) · ((p - max p) - (q - max q)).
#[inline(always)]
fn sums(p: &[f32], q: &[f32], max_p: f32, max_q: f32) -> (f32, f32) {
    let ((p_head, p_tail), (q_head, q_tail)) = (p.as_chunks::<LANES>(), q.as_chunks::<LANES>());
    let (mut weights, mut differences) = ([0.0; LANES], [0.0; LANES]);
    for (p, q) in p_head.iter().zip(q_head) {
        for i in 0..LANES {
            let above = p[i] - max_p;
            let weight = exp(above);
            weights[i] += weight;
            differences[i] += weight * (above - (q[i] - max_q));
        }
    }
    let (mut weight_sum, mut difference_sum) = (sum_lanes(weights), sum_lanes(differences));
    for (p, q) in p_tail.iter().zip(q_tail) {
        let above = p - max_p;
        let weight = exp(above);
        weight_sum += weight;
        difference_sum += weight * (above - (q - max_q));
    }
    (weight_sum, difference_sum)
}

multiversion! {
    /// KL(softmax(p) ‖ softmax(q)), in nats. Rounding may make it a little less than 0 where the two are equal.
    pub fn row_divergence(p: &[f32], q: &[f32]) -> f32 {
        let (max_p, max_q) = (largest(p), largest(q));
        let (weights, differences) = sums(p, q, max_p, max_q);
        differences / weights - weights.ln() + sum_of_exponentials(q, max_q, 1.0).ln()
    }
}

multiversion! {
    /// Replaces `q` by `d · ∂KL(softmax(p) ‖ softmax(q))/∂q`, which is `d · (softmax(q) - softmax(p))`; returns the KL.
    pub fn row_divergence_grad(p: &[f32], q: &mut [f32], d: f32) -> f32 {
        let (max_p, max_q) = (largest(p), largest(q));
        let (weights, differences) = sums(p, q, max_p, max_q);
        let sum = exponentials(q, max_q, 1.0);
        let (of_p, of_q) = (d / weights, d / sum);
        for (q, p) in q.iter_mut().zip(p) {
            *q = *q * of_q - exp(p - max_p) * of_p;
        }
        differences / weights - weights.ln() + sum.ln()
    }
}

/// [`row_divergence`] of each row of `p` and `q`, both `[out.len(), vocab]`.
pub fn divergences(p: &[f32], q: &[f32], vocab: usize, out: &mut [f32]) {
    assert!(p.len() == vocab * out.len() && q.len() == p.len());
    for_chunks(out, 1, |i, out| {
        let row = i * vocab..(i + 1) * vocab;
        out[0] = row_divergence(&p[row.clone()], &q[row]);
    });
}

/// [`row_divergence_grad`] of each row, in place of `q`; `out` gets the divergences.
pub fn divergences_grad(p: &[f32], q: &mut [f32], vocab: usize, d: &[f32], out: &mut [f32]) {
    assert!(p.len() == vocab * out.len() && q.len() == p.len() && d.len() == out.len());
    let out = SharedOutput::new(out);
    for_chunks(q, vocab, |i, q| {
        let divergence = row_divergence_grad(&p[i * vocab..(i + 1) * vocab], q, d[i]);
        // SAFETY: `out` has an element for each row, and this task alone has the row.
        unsafe { out.slice(i, 1)[0] = divergence };
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn rows(len: usize, phase: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * 1.7 + phase).sin() * 6.0).collect()
    }

    #[test]
    fn a_divergence_is_the_same_bits_with_and_without_its_gradient() {
        for len in 1..200 {
            let (p, mut q) = (rows(len, 0.0), rows(len, 0.3));
            let alone = row_divergence(&p, &q);
            assert_eq!(row_divergence_grad(&p, &mut q, 1.0), alone, "{len} logits");
        }
    }

    #[test]
    fn rows_are_the_references() {
        let (count, vocab) = (9, 1003);
        let (p, q) = (rows(count * vocab, 0.0), rows(count * vocab, 0.2));
        let d: Vec<f32> = (0..count).map(|row| 0.3 - row as f32 * 0.2).collect();
        let (mut out, mut again, mut grad) = (vec![0.0; count], vec![0.0; count], q.clone());
        divergences(&p, &q, vocab, &mut out);
        divergences_grad(&p, &mut grad, vocab, &d, &mut again);
        assert_eq!(out, again);
        for row in 0..count {
            let at = row * vocab..(row + 1) * vocab;
            let mut expected = q[at.clone()].to_vec();
            let divergence = reference::divergence_grad(&p[at.clone()], &mut expected, d[row]);
            assert!((out[row] - divergence).abs() < 1e-5, "row {row}: {} {divergence}", out[row]);
            for (x, y) in grad[at].iter().zip(&expected) {
                assert!((x - y).abs() < 1e-6, "row {row}: {x} {y}");
            }
        }
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (p, q) = (rows(53, 0.0), rows(53, 0.4));
        let exact = |q: &[f64]| -> f64 {
            let log_softmax = |row: &[f64]| -> Vec<f64> {
                let sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
                row.iter().map(|x| x - sum).collect()
            };
            let p: Vec<f64> = p.iter().map(|x| f64::from(*x)).collect();
            log_softmax(&p).iter().zip(log_softmax(q)).map(|(p, q)| p.exp() * (p - q)).sum()
        };
        let wide: Vec<f64> = q.iter().map(|x| f64::from(*x)).collect();
        let mut grad = q.clone();
        let divergence = row_divergence_grad(&p, &mut grad, 0.5);
        assert!((f64::from(divergence) - exact(&wide)).abs() < 1e-5);
        for i in 0..53 {
            let (mut up, mut down) = (wide.clone(), wide.clone());
            up[i] += 1e-5;
            down[i] -= 1e-5;
            let numeric = 0.5 * (exact(&up) - exact(&down)) / 2e-5;
            assert!((numeric - f64::from(grad[i])).abs() < 1e-6, "{i}: {numeric} {}", grad[i]);
        }
        assert!(row_divergence(&p, &p).abs() < 1e-6);
    }
}
