//! The definition of correct: each kernel as the shortest loop that says what it computes. Slow, single-threaded.

use crate::gemm::{Strided, Write};

/// `c = a·b` or `c += a·b`, one fused multiply-add a term, `k` in order.
pub fn matmul(a: Strided<'_>, b: Strided<'_>, m: usize, n: usize, k: usize, c: &mut [f32], write: Write) {
    for i in 0..m {
        for j in 0..n {
            let mut sum = if write == Write::Add { c[i * n + j] } else { 0.0 };
            for t in 0..k {
                let x = a.data[i * a.row_stride + t * a.column_stride];
                let y = b.data[t * b.row_stride + j * b.column_stride];
                sum = x.mul_add(y, sum);
            }
            c[i * n + j] = sum;
        }
    }
}

/// A row as whole numbers of at most 127 and what one of them stands for: `max|x| / 127`. Nearest, ties to even.
pub fn quantise(row: &[f32]) -> (Vec<i8>, f32) {
    let scale = row.iter().fold(0.0_f32, |max, x| max.max(x.abs())) / 127.0;
    if scale == 0.0 {
        return (vec![0; row.len()], 0.0);
    }
    (row.iter().map(|x| (x / scale).round_ties_even().clamp(-127.0, 127.0) as i8).collect(), scale)
}

/// `c = x Wᵀ` or `c += x Wᵀ` with rows of `w [n, k]` rounded to int8: whole numbers are summed as in [`matmul`], from zero,
/// and the sum is scaled once.
pub fn matmul_int8(x: &[f32], w: &[f32], k: usize, c: &mut [f32], write: Write) {
    let n = w.len() / k;
    for (j, row) in w.chunks_exact(k).enumerate() {
        let (values, scale) = quantise(row);
        for (i, x) in x.chunks_exact(k).enumerate() {
            let sum =
                x.iter().zip(&values).fold(0.0_f32, |sum, (x, value)| x.mul_add(f32::from(*value), sum));
            let c = &mut c[i * n + j];
            *c = if write == Write::Add { scale.mul_add(sum, *c) } else { scale * sum };
        }
    }
}

/// `y = x / sqrt(mean(x²) + eps) · gain` for rows of `gain.len()`.
pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
    let width = gain.len();
    for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
        let mean = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / width as f64;
        let r = 1.0 / (mean + f64::from(eps)).sqrt();
        for i in 0..width {
            y[i] = (f64::from(x[i]) * r * f64::from(gain[i])) as f32;
        }
    }
}

/// Softmax attention of one query over `keys.len() / dim` keys: returns the mixed value and the log of the sum.
pub fn attend_one(query: &[f32], keys: &[f32], values: &[f32], scale: f32) -> (Vec<f32>, f32) {
    let dim = query.len();
    let scores: Vec<f64> = keys
        .chunks_exact(dim)
        .map(|key| {
            f64::from(scale) * query.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        })
        .collect();
    let max = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
    let mut out = vec![0.0_f64; dim];
    for (score, value) in scores.iter().zip(values.chunks_exact(dim)) {
        let p = (score - max).exp() / sum;
        for i in 0..dim {
            out[i] += p * f64::from(value[i]);
        }
    }
    (out.iter().map(|x| *x as f32).collect(), (max + sum.ln()) as f32)
}
