//! The definition of correct: each kernel as the shortest loop that says what it computes. Slow, single-threaded, in f64
//! where the kernel makes no promise about bits.

use crate::adamw::AdamW;
use crate::gemm::{Strided, Write};
use crate::rope::Turn;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

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

/// The part of one query's gradients that comes from one key of its path. All slices are `[dim]`; those of `gradients` (of the
/// query, the key and the value) are added to. `logsum` and `out` are what [`attend_one`] gave for the query.
pub fn attend_one_grad(
    (query, key, value): (&[f32], &[f32], &[f32]),
    scale: f32,
    (out, logsum, dout): (&[f32], f32, &[f32]),
    (dquery, dkey, dvalue): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let p = (dot(query, key) * f64::from(scale) - f64::from(logsum)).exp();
    let dscore = p * (dot(dout, value) - dot(dout, out)) * f64::from(scale);
    for i in 0..query.len() {
        dquery[i] += (dscore * f64::from(key[i])) as f32;
        dkey[i] += (dscore * f64::from(query[i])) as f32;
        dvalue[i] += (p * f64::from(dout[i])) as f32;
    }
}

/// Adds the gradient of [`rms_norm`] to `dx` and, where given, `dgain`.
pub fn rms_norm_grad(
    x: &[f32],
    gain: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    mut dgain: Option<&mut [f32]>,
) {
    let width = gain.len();
    for row in 0..x.len() / width {
        let at = |v: &[f32], i: usize| f64::from(v[row * width + i]);
        let mean = (0..width).map(|i| at(x, i) * at(x, i)).sum::<f64>() / width as f64;
        let r = 1.0 / (mean + f64::from(eps)).sqrt();
        let along = (0..width).map(|i| at(dy, i) * f64::from(gain[i]) * at(x, i)).sum::<f64>();
        for i in 0..width {
            let across = at(x, i) * along * r.powi(3) / width as f64;
            dx[row * width + i] += (r * f64::from(gain[i]) * at(dy, i) - across) as f32;
            if let Some(dgain) = &mut dgain {
                dgain[i] += (at(dy, i) * at(x, i) * r) as f32;
            }
        }
    }
}

/// Turns elements `i` and `i + half` of each head by `position · frequencies[i]`, where `half = frequencies.len()`, and makes
/// them `attention_factor` times as long; rows of `x` are `width` long.
pub fn rope(
    x: &mut [f32],
    width: usize,
    frequencies: &[f32],
    attention_factor: f32,
    positions: &[u32],
    turn: Turn,
) {
    let half = frequencies.len();
    for (row, position) in x.chunks_exact_mut(width).zip(positions) {
        for head in row.chunks_exact_mut(2 * half) {
            for i in 0..half {
                // The angle is rounded to f32, as in transformers.
                let angle = f64::from(*position as f32 * frequencies[i]);
                let (sin, cos) = if turn == Turn::Forward { angle } else { -angle }.sin_cos();
                let (sin, cos) = (f64::from(attention_factor) * sin, f64::from(attention_factor) * cos);
                let (a, b) = (f64::from(head[i]), f64::from(head[i + half]));
                head[i] = (a * cos - b * sin) as f32;
                head[i + half] = (b * cos + a * sin) as f32;
            }
        }
    }
}

/// `out = silu(gate) · up` with `silu(g) = g · sigmoid(g)`.
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for i in 0..out.len() {
        let (g, u) = (f64::from(gate[i]), f64::from(up[i]));
        out[i] = (g * sigmoid(g) * u) as f32;
    }
}

/// Gradient of [`swiglu`]; replaces `dgate` and `dup`.
pub fn swiglu_grad(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    for i in 0..gate.len() {
        let (g, u, d) = (f64::from(gate[i]), f64::from(up[i]), f64::from(dout[i]));
        dgate[i] = (d * u * sigmoid(g) * (1.0 + g * (1.0 - sigmoid(g)))) as f32;
        dup[i] = (d * g * sigmoid(g)) as f32;
    }
}

/// log softmax(row · inverse_temperature), in nats.
pub fn log_softmax(row: &[f32], inverse_temperature: f32) -> Vec<f64> {
    let z: Vec<f64> = row.iter().map(|x| f64::from(*x) * f64::from(inverse_temperature)).collect();
    let max = z.iter().fold(f64::MIN, |a, b| a.max(*b));
    let sum = z.iter().map(|x| (x - max).exp()).sum::<f64>().ln() + max;
    z.iter().map(|x| x - sum).collect()
}

/// Replaces a row of logits by `dlogprob · ∂logprob(target)/∂logits` and returns the log-prob.
pub fn log_prob_grad(row: &mut [f32], target: u32, inverse_temperature: f32, dlogprob: f32) -> f32 {
    let log_probs = log_softmax(row, inverse_temperature);
    for (j, x) in row.iter_mut().enumerate() {
        let hit = if j == target as usize { 1.0 } else { 0.0 };
        *x = (f64::from(dlogprob * inverse_temperature) * (hit - log_probs[j].exp())) as f32;
    }
    log_probs[target as usize] as f32
}

/// Replaces `q` by `d · ∂KL(softmax(p) ‖ softmax(q))/∂q` and returns the KL, in nats.
pub fn divergence_grad(p: &[f32], q: &mut [f32], d: f32) -> f32 {
    let (log_p, log_q) = (log_softmax(p, 1.0), log_softmax(q, 1.0));
    for (q, (log_p, log_q)) in q.iter_mut().zip(log_p.iter().zip(&log_q)) {
        *q = (f64::from(d) * (log_q.exp() - log_p.exp())) as f32;
    }
    log_p.iter().zip(&log_q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>() as f32
}

/// One update, as the paper's algorithm 2 says it; zeroes the gradient.
pub fn adamw(hyper: AdamW, param: &mut [f32], grad: &mut [f32], first: &mut [f32], second: &mut [f32]) {
    let (b1, b2) = (f64::from(hyper.beta1), f64::from(hyper.beta2));
    for i in 0..param.len() {
        let g = f64::from(grad[i] * hyper.gradient_scale);
        let m = b1 * f64::from(first[i]) + (1.0 - b1) * g;
        let v = b2 * f64::from(second[i]) + (1.0 - b2) * g * g;
        let m_hat = m / (1.0 - b1.powi(hyper.step as i32));
        let v_hat = v / (1.0 - b2.powi(hyper.step as i32));
        let kept = f64::from(param[i]) * (1.0 - f64::from(hyper.learning_rate * hyper.weight_decay));
        let moved = f64::from(hyper.learning_rate) * m_hat / (v_hat.sqrt() + f64::from(hyper.eps));
        param[i] = (kept - moved) as f32;
        (first[i], second[i], grad[i]) = (m as f32, v as f32, 0.0);
    }
}

/// Σ x².
pub fn sum_of_squares(x: &[f32]) -> f64 {
    dot(x, x)
}
