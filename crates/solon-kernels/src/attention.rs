//! Causal attention over packed segments and over a cache: forward and backward.
//!
//! One kernel serves training and decoding. A query's scores over its path are written side by side, whatever blocks the
//! keys are stored in; softmax reads them as one row, with lanes chosen by the key's place in the path; values are added
//! key by key. So a query's result depends on its own path alone: not on the block it was batched in, not on whether the
//! keys came from a cache, not on threads. Nothing of size T×T is ever held: scratch is eight rows of scores.
//!
//! Backward recomputes the probabilities from the saved log-sum (FlashAttention, Dao et al. 2022, §3.1):
//! `dV += Pᵀ dO`, `dP = dO Vᵀ`, `dS = P ∘ (dP − rowsum(dO ∘ O))`, `dQ = dS K`, `dK += dSᵀ Q`.

use crate::exp::{LANES, dot, exp, sum_lanes};
use crate::parallel::SharedOutput;
use rayon::prelude::*;

/// Query rows handled together, so that a key is loaded once for eight of them.
const ROWS: usize = 8;

/// The keys and values of one head over a run of positions: keys in panels of 16 (`[panel][dim][16]`), values in rows
/// padded to whole lanes.
#[derive(Clone)]
pub struct Keys {
    dim: usize,
    padded: usize,
    len: usize,
    panels: Vec<f32>,
    rows: Vec<f32>,
}

impl Keys {
    /// Room for `capacity` positions without moving memory.
    pub fn with_capacity(dim: usize, capacity: usize) -> Self {
        let padded = dim.next_multiple_of(LANES);
        Self {
            dim,
            padded,
            len: 0,
            panels: Vec::with_capacity(capacity.next_multiple_of(LANES) * dim),
            rows: Vec::with_capacity(capacity * padded),
        }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held for each position.
    pub fn bytes_per_position(dim: usize) -> usize {
        4 * (dim + dim.next_multiple_of(LANES))
    }

    /// Forgets every position, keeping the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.panels.clear();
        self.rows.clear();
    }

    /// Appends a position's key and value, `[dim]` each.
    pub fn push(&mut self, key: &[f32], value: &[f32]) {
        let lane = self.len % LANES;
        if lane == 0 {
            self.panels.resize(self.panels.len() + self.dim * LANES, 0.0);
        }
        let at = self.panels.len() - self.dim * LANES;
        for (slot, x) in self.panels[at + lane..].iter_mut().step_by(LANES).zip(key) {
            *slot = *x;
        }
        self.rows.extend_from_slice(value);
        self.rows.resize((self.len + 1) * self.padded, 0.0);
        self.len += 1;
    }
}

/// Scratch of one thread.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    dscores: Vec<f32>,
}

/// `scores[r][at + t] = scale * q[r]·key[t]` for the keys of one block.
#[inline(always)]
fn scores_of<const R: usize>(
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
fn mix<const R: usize>(
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

/// The numbers of an attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key/value heads; divides `queries`.
    pub keys: usize,
    /// Width of a head.
    pub dim: usize,
}

impl Heads {
    fn group(self) -> usize {
        self.queries / self.keys
    }

    fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// A run of packed tokens that attends to itself and to its ancestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First token in the pack.
    pub start: usize,
    /// Tokens.
    pub len: usize,
    /// An earlier span that this one continues.
    pub parent: Option<usize>,
    /// Tokens on the path before this span.
    pub prefix: usize,
}

/// The spans of the path to and including `span`, root first.
fn path(spans: &[Span], span: usize) -> Vec<usize> {
    let mut path = vec![span];
    while let Some(parent) = spans[path[path.len() - 1]].parent {
        path.push(parent);
    }
    path.reverse();
    path
}

/// Token indices along the path to and including `span`.
fn path_tokens(spans: &[Span], span: usize) -> impl Iterator<Item = usize> {
    path(spans, span).into_iter().flat_map(|s| spans[s].start..spans[s].start + spans[s].len)
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
            let mut queries: [&[f32]; ROWS] = [&[]; ROWS];
            let mut limits = [0; ROWS];
            for r in 0..count {
                let (token, query_head) = ((first + r) / group, head * group + (first + r) % group);
                queries[r] = &q[(span.start + token) * q_width + query_head * dim..][..dim];
                limits[r] = span.prefix + token + 1;
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
            for r in 0..count {
                let (token, query_head) =
                    (span.start + (first + r) / group, head * group + (first + r) % group);
                // SAFETY: token < tokens and query_head < heads.queries, so both places are inside the outputs, and this
                // (span, key head) task alone writes its tokens' query heads.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        mixed[r * dim..].as_ptr(),
                        out.0.add(token * q_width + query_head * dim),
                        dim,
                    );
                    *logsum.0.add(token * heads.queries + query_head) = sums[r];
                }
            }
        }
    });
}

/// One group of query rows in the backward pass.
struct GradRows<'a> {
    queries: &'a [&'a [f32]],
    douts: &'a [&'a [f32]],
    outs: &'a [&'a [f32]],
    logsums: &'a [f32],
    limits: &'a [usize],
}

#[inline(always)]
fn grad_rows<const R: usize>(
    rows: &GradRows<'_>,
    keys: &Keys,
    values: &Keys,
    count: usize,
    scale: f32,
    scratch: &mut Scratch,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let (mut queries, mut douts): ([&[f32]; R], [&[f32]; R]) = ([&[]; R], [&[]; R]);
    queries.copy_from_slice(&rows.queries[..R]);
    douts.copy_from_slice(&rows.douts[..R]);
    let (dim, padded) = (keys.dim, keys.padded);
    let stride = count.next_multiple_of(LANES);
    scratch.scores.resize(R * stride, 0.0);
    scratch.dscores.resize(R * stride, 0.0);
    let (scores, dscores) = (&mut scratch.scores[..R * stride], &mut scratch.dscores[..R * stride]);
    scores_of::<R>(&queries, keys, count, scale, scores, stride, 0);
    scores_of::<R>(&douts, values, count, 1.0, dscores, stride, 0);
    for r in 0..R {
        let (p, ds) = (&mut scores[r * stride..][..stride], &mut dscores[r * stride..][..stride]);
        let (limit, logsum) = (rows.limits[r], rows.logsums[r]);
        p[limit..].fill(0.0);
        ds[limit..].fill(0.0);
        let delta = dot(rows.douts[r], rows.outs[r]);
        for (p, ds) in p[..limit].iter_mut().zip(&mut ds[..limit]) {
            *p = exp(*p - logsum);
            *ds = *p * (*ds - delta) * scale;
        }
    }
    for chunk in 0..padded / LANES {
        let width = LANES.min(dim - chunk * LANES);
        let mut acc = [[0.0; LANES]; R];
        // `values` was filled the other way round: its rows are the keys.
        mix::<R>(dscores, stride, &[(values, count)], &mut acc, chunk);
        let (mut q_lanes, mut d_lanes) = ([[0.0; LANES]; R], [[0.0; LANES]; R]);
        for r in 0..R {
            dq[r * dim + chunk * LANES..][..width].copy_from_slice(&acc[r][..width]);
            q_lanes[r][..width].copy_from_slice(&queries[r][chunk * LANES..][..width]);
            d_lanes[r][..width].copy_from_slice(&douts[r][chunk * LANES..][..width]);
        }
        for t in 0..count {
            let at = t * padded + chunk * LANES;
            let (mut k_acc, mut v_acc) = ([0.0; LANES], [0.0; LANES]);
            k_acc.copy_from_slice(&dk[at..at + LANES]);
            v_acc.copy_from_slice(&dv[at..at + LANES]);
            for r in 0..R {
                let (ds, p) = (dscores[r * stride + t], scores[r * stride + t]);
                for i in 0..LANES {
                    k_acc[i] = ds.mul_add(q_lanes[r][i], k_acc[i]);
                    v_acc[i] = p.mul_add(d_lanes[r][i], v_acc[i]);
                }
            }
            dk[at..at + LANES].copy_from_slice(&k_acc);
            dv[at..at + LANES].copy_from_slice(&v_acc);
        }
    }
}

multiversion! {
    /// The backward pass of up to eight query rows; `dq` is replaced, `dk` and `dv` (`[count, padded]`) are added to.
    fn attend_grad(rows: &GradRows<'_>, keys: &Keys, values: &Keys, count: usize, scale: f32, scratch: &mut Scratch, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
        match rows.queries.len() {
            1 => grad_rows::<1>(rows, keys, values, count, scale, scratch, dq, dk, dv),
            2 => grad_rows::<2>(rows, keys, values, count, scale, scratch, dq, dk, dv),
            3 => grad_rows::<3>(rows, keys, values, count, scale, scratch, dq, dk, dv),
            4 => grad_rows::<4>(rows, keys, values, count, scale, scratch, dq, dk, dv),
            5 => grad_rows::<5>(rows, keys, values, count, scale, scratch, dq, dk, dv),
            6 => grad_rows::<6>(rows, keys, values, count, scale, scratch, dq, dk, dv),
            7 => grad_rows::<7>(rows, keys, values, count, scale, scratch, dq, dk, dv),
            _ => grad_rows::<8>(rows, keys, values, count, scale, scratch, dq, dk, dv),
        }
    }
}

/// Gradient of [`packed`]: replaces `dq`, `dk` and `dv`.
pub fn packed_grad(
    heads: Heads,
    spans: &[Span],
    (q, k, v): (&[f32], &[f32], &[f32]),
    out: &[f32],
    logsum: &[f32],
    dout: &[f32],
    (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let (q_width, kv_width, dim, group) =
        (heads.queries * heads.dim, heads.keys * heads.dim, heads.dim, heads.group());
    let tokens = q.len() / q_width;
    assert!(dq.len() == q.len() && out.len() == q.len() && dout.len() == q.len());
    assert!(
        dk.len() == tokens * kv_width && dv.len() == dk.len() && k.len() == dk.len() && v.len() == dk.len()
    );
    assert_eq!(logsum.len(), tokens * heads.queries);
    let shared_dq = SharedOutput(dq.as_mut_ptr());
    // What each span adds to the keys and values of its path; added up afterwards in the spans' order.
    let pieces: Vec<[Vec<f32>; 2]> = (0..spans.len() * heads.keys)
        .into_par_iter()
        .map(|task| {
            let out_dq = shared_dq;
            let (s, head) = (task / heads.keys, task % heads.keys);
            let span = spans[s];
            let mut scratch = Scratch::default();
            let seen = span.prefix + span.len;
            let (mut keys, mut values) = (Keys::with_capacity(dim, seen), Keys::with_capacity(dim, seen));
            for token in path_tokens(spans, s) {
                let at = token * kv_width + head * dim;
                keys.push(&k[at..at + dim], &v[at..at + dim]);
                values.push(&v[at..at + dim], &k[at..at + dim]);
            }
            let mut path_dk = vec![0.0; seen * keys.padded];
            let mut path_dv = vec![0.0; seen * keys.padded];
            let mut rows_dq = vec![0.0; ROWS * dim];
            let rows = span.len * group;
            for first in (0..rows).step_by(ROWS) {
                let count = ROWS.min(rows - first);
                let mut queries: [&[f32]; ROWS] = [&[]; ROWS];
                let (mut douts, mut outs) = (queries, queries);
                let (mut limits, mut logsums) = ([0; ROWS], [0.0; ROWS]);
                for r in 0..count {
                    let (token, query_head) = ((first + r) / group, head * group + (first + r) % group);
                    let at = (span.start + token) * q_width + query_head * dim;
                    (queries[r], douts[r], outs[r]) =
                        (&q[at..at + dim], &dout[at..at + dim], &out[at..at + dim]);
                    limits[r] = span.prefix + token + 1;
                    logsums[r] = logsum[(span.start + token) * heads.queries + query_head];
                }
                let group_rows = GradRows {
                    queries: &queries[..count],
                    douts: &douts[..count],
                    outs: &outs[..count],
                    logsums: &logsums[..count],
                    limits: &limits[..count],
                };
                attend_grad(
                    &group_rows,
                    &keys,
                    &values,
                    limits[count - 1],
                    heads.scale(),
                    &mut scratch,
                    &mut rows_dq,
                    &mut path_dk,
                    &mut path_dv,
                );
                for r in 0..count {
                    let (token, query_head) =
                        (span.start + (first + r) / group, head * group + (first + r) % group);
                    // SAFETY: inside `dq` as in `packed`; this task alone writes its tokens' query heads.
                    unsafe {
                        std::ptr::copy_nonoverlapping(
                            rows_dq[r * dim..].as_ptr(),
                            out_dq.0.add(token * q_width + query_head * dim),
                            dim,
                        );
                    }
                }
            }
            [path_dk, path_dv]
        })
        .collect();
    let padded = dim.next_multiple_of(LANES);
    for (sum, which) in [(dk, 0), (dv, 1)] {
        sum.fill(0.0);
        for (task, piece) in pieces.iter().enumerate() {
            let (s, head) = (task / heads.keys, task % heads.keys);
            for (token, piece) in path_tokens(spans, s).zip(piece[which].chunks_exact(padded)) {
                let at = token * kv_width + head * dim;
                for (sum, x) in sum[at..at + dim].iter_mut().zip(piece) {
                    *sum += x;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    const HEADS: Heads = Heads { queries: 4, keys: 2, dim: 8 };

    fn numbers(n: usize, a: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * a + a).sin()).collect()
    }

    /// A shared prompt of 19 with two answers, then a sequence by itself.
    fn spans() -> Vec<Span> {
        vec![
            Span { start: 0, len: 19, parent: None, prefix: 0 },
            Span { start: 19, len: 5, parent: Some(0), prefix: 19 },
            Span { start: 24, len: 3, parent: Some(0), prefix: 19 },
            Span { start: 27, len: 6, parent: None, prefix: 0 },
        ]
    }

    fn forward(q: &[f32], k: &[f32], v: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (mut out, mut logsum) = (vec![0.0; q.len()], vec![0.0; q.len() / HEADS.dim]);
        packed(HEADS, &spans(), q, k, v, &mut out, &mut logsum);
        (out, logsum)
    }

    #[test]
    fn packed_equals_the_reference_on_each_path() {
        let (q, k, v) = (numbers(33 * 32, 0.37), numbers(33 * 16, 0.71), numbers(33 * 16, 0.53));
        let (out, logsum) = forward(&q, &k, &v);
        let spans = spans();
        for (s, span) in spans.iter().enumerate() {
            let tokens: Vec<usize> = path_tokens(&spans, s).collect();
            for t in 0..span.len {
                for head in 0..4 {
                    let seen = &tokens[..span.prefix + t + 1];
                    let of = |x: &[f32]| -> Vec<f32> {
                        seen.iter().flat_map(|token| x[token * 16 + head / 2 * 8..][..8].to_vec()).collect()
                    };
                    let at = (span.start + t) * 32 + head * 8;
                    let (expected, sum) =
                        reference::attend_one(&q[at..at + 8], &of(&k), &of(&v), HEADS.scale());
                    for i in 0..8 {
                        assert!((out[at + i] - expected[i]).abs() < 1e-5, "span {s} token {t} head {head}");
                    }
                    assert!((logsum[(span.start + t) * 4 + head] - sum).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn cached_blocks_give_the_same_bits_as_the_pack() {
        let (q, k, v) = (numbers(33 * 32, 0.37), numbers(33 * 16, 0.71), numbers(33 * 16, 0.53));
        let (out, _) = forward(&q, &k, &v);
        // The second answer's last token, with the prompt in blocks of 7 and 12 and the answer in its own block.
        let mut blocks = [Keys::with_capacity(8, 7), Keys::with_capacity(8, 12), Keys::with_capacity(8, 3)];
        for token in (0..19).chain(24..27) {
            let block = if token < 7 {
                0
            } else if token < 19 {
                1
            } else {
                2
            };
            blocks[block].push(&k[token * 16 + 8..][..8], &v[token * 16 + 8..][..8]);
        }
        let path: Vec<(&Keys, usize)> = blocks.iter().map(|b| (b, b.len())).collect();
        let query = &q[26 * 32 + 3 * 8..][..8];
        let (mut one, mut sum) = (vec![0.0; 8], [0.0]);
        attend(&[query], &[22], &path, HEADS.scale(), &mut Vec::new(), &mut one, &mut sum);
        assert_eq!(one, out[26 * 32 + 3 * 8..][..8]);
    }

    #[test]
    fn gradients_are_finite_differences() {
        let (q, k, v) = (numbers(33 * 32, 0.37), numbers(33 * 16, 0.71), numbers(33 * 16, 0.53));
        let dout = numbers(33 * 32, 0.91);
        let (out, logsum) = forward(&q, &k, &v);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        packed_grad(HEADS, &spans(), (&q, &k, &v), &out, &logsum, &dout, (&mut dq, &mut dk, &mut dv));
        let value = |q: &[f32], k: &[f32], v: &[f32]| -> f64 {
            forward(q, k, v).0.iter().zip(&dout).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let eps = 1e-2_f32;
        for i in (0..q.len()).step_by(7) {
            let (mut up, mut down) = (q.clone(), q.clone());
            up[i] += eps;
            down[i] -= eps;
            let numeric = (value(&up, &k, &v) - value(&down, &k, &v)) / (2.0 * f64::from(eps));
            assert!((numeric - f64::from(dq[i])).abs() < 2e-3, "q {i}: {numeric} {}", dq[i]);
        }
        for i in (0..k.len()).step_by(5) {
            let (mut up, mut down) = (k.clone(), k.clone());
            up[i] += eps;
            down[i] -= eps;
            let numeric = (value(&q, &up, &v) - value(&q, &down, &v)) / (2.0 * f64::from(eps));
            assert!((numeric - f64::from(dk[i])).abs() < 2e-3, "k {i}: {numeric} {}", dk[i]);
            let (mut up, mut down) = (v.clone(), v.clone());
            up[i] += eps;
            down[i] -= eps;
            let numeric = (value(&q, &k, &up) - value(&q, &k, &down)) / (2.0 * f64::from(eps));
            assert!((numeric - f64::from(dv[i])).abs() < 2e-3, "v {i}: {numeric} {}", dv[i]);
        }
    }
}
