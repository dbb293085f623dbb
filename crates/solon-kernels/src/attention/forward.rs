//! Softmax-weighted sums of values: of a few queries over blocks of keys, and of a whole pack.

use super::{Heads, Keys, ROWS, Row, Span, path_tokens};
use crate::exp::{LANES, exp, sum_lanes};
use crate::parallel::SharedOutput;
use rayon::prelude::*;

/// `scores[r][at + t] = scale * q[r]·key[t]` for the keys of one block.
#[inline(always)]
pub(super) fn scores_of<const R: usize>(
    queries: &[&[f32]; R],
    keys: &Keys,
    count: usize,
    scale: f32,
    scores: &mut [f32],
    stride: usize,
    at: usize,
) {
    let dim = keys.dim;
    for (panel, keys) in keys.panels.chunks_exact(dim * LANES).take(count.div_ceil(LANES)).enumerate() {
        let mut acc = [[0.0_f32; LANES]; R];
        for (d, lanes) in keys.as_chunks::<LANES>().0.iter().enumerate() {
            for r in 0..R {
                let x = queries[r][d];
                for i in 0..LANES {
                    acc[r][i] = x.mul_add(lanes[i], acc[r][i]);
                }
            }
        }
        let valid = LANES.min(count - panel * LANES);
        for r in 0..R {
            let from = r * stride + at + panel * LANES;
            for i in 0..LANES {
                acc[r][i] *= scale;
            }
            scores[from..from + valid].copy_from_slice(&acc[r][..valid]);
        }
    }
}

/// `out[r] = Σ_t weights[r][t] * rows[t]` over several blocks, keys in order.
#[inline(always)]
pub(super) fn mix<const R: usize>(
    weights: &[f32],
    stride: usize,
    blocks: &[(&Keys, usize)],
    out: &mut [[f32; LANES]; R],
    chunk: usize,
) {
    let mut at = 0;
    for (keys, count) in blocks {
        let padded = keys.padded;
        for t in 0..*count {
            let row = &keys.rows[t * padded + chunk * LANES..][..LANES];
            for r in 0..R {
                let w = weights[r * stride + at + t];
                for i in 0..LANES {
                    out[r][i] = w.mul_add(row[i], out[r][i]);
                }
            }
        }
        at += count;
    }
}

/// Softmax of one row in place over its first `limit` entries, zeros after; returns the log of the sum.
#[inline(always)]
fn softmax_row(row: &mut [f32], limit: usize) -> f32 {
    row[limit..].fill(0.0);
    let mut max = f32::NEG_INFINITY;
    for x in &row[..limit] {
        max = if *x > max { *x } else { max };
    }
    let mut lanes = [0.0; LANES];
    let (head, tail) = row[..limit].as_chunks_mut::<LANES>();
    for x in head {
        for i in 0..LANES {
            x[i] = exp(x[i] - max);
            lanes[i] += x[i];
        }
    }
    for (i, x) in tail.iter_mut().enumerate() {
        *x = exp(*x - max);
        lanes[i] += *x;
    }
    let sum = sum_lanes(lanes);
    let inverse = 1.0 / sum;
    for x in &mut row[..limit] {
        *x *= inverse;
    }
    max + sum.ln()
}

#[inline(always)]
fn attend_rows<const R: usize>(
    queries: &[&[f32]],
    limits: &[usize],
    blocks: &[(&Keys, usize)],
    scale: f32,
    scores: &mut Vec<f32>,
    out: &mut [f32],
    logsum: &mut [f32],
) {
    let mut first: [&[f32]; R] = [&[]; R];
    first.copy_from_slice(&queries[..R]);
    let total: usize = blocks.iter().map(|(_, count)| count).sum();
    let stride = total.next_multiple_of(LANES);
    scores.resize(R * stride, 0.0);
    let mut at = 0;
    for (keys, count) in blocks {
        scores_of::<R>(&first, keys, *count, scale, scores, stride, at);
        at += count;
    }
    for r in 0..R {
        logsum[r] = softmax_row(&mut scores[r * stride..(r + 1) * stride], limits[r]);
    }
    let dim = queries[0].len();
    for chunk in 0..dim.div_ceil(LANES) {
        let mut acc = [[0.0; LANES]; R];
        mix::<R>(scores, stride, blocks, &mut acc, chunk);
        let width = LANES.min(dim - chunk * LANES);
        for r in 0..R {
            out[r * dim + chunk * LANES..][..width].copy_from_slice(&acc[r][..width]);
        }
    }
}

multiversion! {
    /// Up to eight queries over the same blocks; query `r` sees the first `limits[r]` positions of the path.
    ///
    /// `out`: `[queries, dim]`; `logsum`: `[queries]`. A block is its keys and how many of them are in the path.
    pub fn attend(queries: &[&[f32]], limits: &[usize], blocks: &[(&Keys, usize)], scale: f32, scores: &mut Vec<f32>, out: &mut [f32], logsum: &mut [f32]) {
        match queries.len() {
            1 => attend_rows::<1>(queries, limits, blocks, scale, scores, out, logsum),
            2 => attend_rows::<2>(queries, limits, blocks, scale, scores, out, logsum),
            3 => attend_rows::<3>(queries, limits, blocks, scale, scores, out, logsum),
            4 => attend_rows::<4>(queries, limits, blocks, scale, scores, out, logsum),
            5 => attend_rows::<5>(queries, limits, blocks, scale, scores, out, logsum),
            6 => attend_rows::<6>(queries, limits, blocks, scale, scores, out, logsum),
            7 => attend_rows::<7>(queries, limits, blocks, scale, scores, out, logsum),
            _ => attend_rows::<8>(queries, limits, blocks, scale, scores, out, logsum),
        }
    }
}

/// Attention of every packed token over its path.
///
/// `q`, `out`: `[tokens, heads.queries * dim]`; `k`, `v`: `[tokens, heads.keys * dim]`; `logsum`: `[tokens, heads.queries]`.
pub fn packed(
    heads: Heads,
    spans: &[Span],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    logsum: &mut [f32],
) {
    let (q_width, kv_width, dim, group) =
        (heads.queries * heads.dim, heads.keys * heads.dim, heads.dim, heads.group());
    let tokens = q.len() / q_width;
    assert!(out.len() == q.len() && k.len() == tokens * kv_width && v.len() == k.len());
    assert_eq!(logsum.len(), tokens * heads.queries);
    let (out, logsum) = (SharedOutput(out.as_mut_ptr()), SharedOutput(logsum.as_mut_ptr()));
    (0..spans.len() * heads.keys).into_par_iter().for_each(|task| {
        let (out, logsum) = (out, logsum);
        let (s, head) = (task / heads.keys, task % heads.keys);
        let span = spans[s];
        let mut scores = Vec::new();
        let mut keys = Keys::with_capacity(dim, span.prefix + span.len);
        let mut mixed = vec![0.0; ROWS * dim];
        let mut sums = [0.0; ROWS];
        for token in path_tokens(spans, s) {
            let at = token * kv_width + head * dim;
            keys.push(&k[at..at + dim], &v[at..at + dim]);
        }
        let rows = span.len * group;
        for first in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - first);
            let mut places = [Row::default(); ROWS];
            let mut queries: [&[f32]; ROWS] = [&[]; ROWS];
            let mut limits = [0; ROWS];
            for r in 0..count {
                places[r] = heads.row(&span, head, first + r);
                queries[r] = &q[places[r].place * dim..][..dim];
                limits[r] = places[r].limit;
            }
            let seen = limits[count - 1];
            attend(
                &queries[..count],
                &limits[..count],
                &[(&keys, seen)],
                heads.scale(),
                &mut scores,
                &mut mixed,
                &mut sums,
            );
            for (r, Row { place, .. }) in places[..count].iter().enumerate() {
                // SAFETY: `place` is below tokens * heads.queries, so both writes are inside the outputs, and this
                // (span, key head) task alone writes its tokens' query heads.
                unsafe {
                    std::ptr::copy_nonoverlapping(mixed[r * dim..].as_ptr(), out.0.add(place * dim), dim);
                    *logsum.0.add(*place) = sums[r];
                }
            }
        }
    });
}
