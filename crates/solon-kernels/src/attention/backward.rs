//! The gradient of a pack's attention.

use super::forward::{Scratch, keys_of_spans, mix, runs};
use super::kv_block::{LANES, columns};
use super::{Heads, KvBlock, MAX_HEAD_DIM, Row, Span, check, path_tokens};
use crate::exp::{dot, exp};
use crate::gemm::Precision;
use crate::gemm::layout::{Layout, Left, MAX_ROWS, Place, ROW_STRIDE, Step, max_rows};
use crate::gemm::pack::pack_row;
use crate::gemm::round::{bf16_bits, rounded_bits};
use crate::gemm::tile;
use crate::parallel::SharedOutput;
use crate::threads;

/// Tokens of a span whose part of the keys' gradients is summed separately. It is fixed, because the order of the sums is part
/// of the result.
const TOKENS_PER_PIECE: usize = 512;
/// Tiles of query rows handled together, so that the keys' gradients are visited seldom.
const TILES: usize = 4;

/// One group of query rows.
struct Rows<'a> {
    queries: [&'a [f32]; TILES * MAX_ROWS],
    douts: [&'a [f32]; TILES * MAX_ROWS],
    logsums: [f32; TILES * MAX_ROWS],
    /// Σ dout · out, by row.
    deltas: [f32; TILES * MAX_ROWS],
    limits: [usize; TILES * MAX_ROWS],
    count: usize,
}

/// What a task keeps from one group of rows to the next.
struct GradScratch {
    forward: Scratch,
    dscores: Vec<f32>,
    /// Probabilities or scores' gradients by steps of rows, `[step][stride]`.
    turned: Vec<u32>,
    /// Queries or outputs' gradients by steps of rows, `[step][padded]`.
    vectors: Vec<u32>,
}

multiversion! {
    /// Replaces a row of scores `p` by probabilities, and the products of the output's gradient with the values `ds` by the
    /// gradients of the scores. Both are zero from `limit` on.
    fn row_grad(p: &mut [f32], ds: &mut [f32], limit: usize, scale: f32, logsum: f32, delta: f32) {
        p[limit..].fill(0.0);
        ds[limit..].fill(0.0);
        for (p, ds) in p[..limit].iter_mut().zip(&mut ds[..limit]) {
            *p = exp(*p * scale - logsum);
            *ds = *p * (*ds - delta) * scale;
        }
    }
}

multiversion! {
    /// One row as steps, or two as one row of pairs, of which the second may be missing.
    fn pack_pair(first: &[f32], second: Option<&[f32]>, kind: Step, out: &mut [u32]) {
        match (kind, second) {
            (Step::F32, _) => {
                for (out, x) in out.iter_mut().zip(first) {
                    *out = x.to_bits();
                }
            }
            (Step::Rounded, _) => {
                for (out, x) in out.iter_mut().zip(first) {
                    *out = rounded_bits(*x);
                }
            }
            (Step::Pair, None) => {
                for (out, x) in out.iter_mut().zip(first) {
                    *out = bf16_bits(*x);
                }
            }
            (Step::Pair, Some(second)) => {
                for ((out, x), y) in out.iter_mut().zip(first).zip(second) {
                    *out = bf16_bits(*x) | bf16_bits(*y) << 16;
                }
            }
        }
    }
}

multiversion! {
    fn vectors_dot(a: &[f32], b: &[f32]) -> f32 {
        dot(a, b)
    }
}

/// The backward pass of a group of query rows. `dq` is called with each row's gradient; `dk` and `dv` (`[count, padded]`) are
/// added to. In `values`, keys and values have changed places.
fn attend_grad(
    rows: &Rows<'_>,
    (keys, values): (&KvBlock, &KvBlock),
    scale: f32,
    scratch: &mut GradScratch,
    mut dq: impl FnMut(usize, &[f32]),
    (dk, dv): (&mut [f32], &mut [f32]),
) {
    let (kind, padded) = (keys.step(), keys.padded());
    let seen = rows.limits[rows.count - 1];
    let stride = seen.next_multiple_of(LANES) + LANES;
    let GradScratch { forward: Scratch { left, scores, .. }, dscores, turned, vectors } = scratch;
    scores.resize(rows.count * stride, 0.0);
    dscores.resize(rows.count * stride, 0.0);
    let height = max_rows();
    let mut mixed = [0.0; MAX_ROWS * MAX_HEAD_DIM];
    for first in (0..rows.count).step_by(height) {
        let many = height.min(rows.count - first);
        let place = Place { row_stride: stride, panel_stride: LANES, start_from_output: false };
        for (vectors, keys, out) in
            [(&rows.queries, keys, &mut *scores), (&rows.douts, values, &mut *dscores)]
        {
            for (vector, left) in vectors[first..first + many].iter().zip(left.chunks_exact_mut(ROW_STRIDE)) {
                pack_row(vector, kind, left);
            }
            let left = Left { data: left, layout: Layout::Rows, rows: many };
            tile::product(left, keys.keys(seen), kind, &mut out[first * stride..], place);
        }
        for r in first..first + many {
            let own = r * stride..(r + 1) * stride;
            let (p, ds) = (&mut scores[own.clone()], &mut dscores[own]);
            row_grad(p, ds, rows.limits[r], scale, rows.logsums[r], rows.deltas[r]);
        }
        // `values` was filled the other way round: its values are the keys.
        mix(&dscores[first * stride..], (many, stride), (0, seen), values, left, &mut mixed);
        for r in 0..many {
            dq(first + r, &mixed[r * padded..][..rows.queries[0].len()]);
        }
    }
    let (per_step, steps) = (kind.values(), kind.count(rows.count));
    for (weights, vectors_of, out) in [(&*dscores, &rows.queries, dk), (&*scores, &rows.douts, dv)] {
        turned.resize(steps * stride, 0);
        vectors.resize(steps * padded, 0);
        for step in 0..steps {
            let (first, second) = (step * per_step, step * per_step + 1);
            let row = |r: usize| &weights[r * stride..(r + 1) * stride];
            let both = (per_step == 2 && second < rows.count).then_some(second);
            pack_pair(row(first), both.map(row), kind, &mut turned[step * stride..][..stride]);
            let out = &mut vectors[step * padded..][..padded];
            pack_pair(vectors_of[first], both.map(|r| vectors_of[r]), kind, out);
        }
        for first in (0..seen).step_by(height) {
            let many = height.min(seen - first);
            let left = Left { data: &turned[first..], layout: Layout::Steps { stride }, rows: many };
            let right = columns(vectors, padded, steps);
            let place = Place { row_stride: padded, panel_stride: right.width, start_from_output: true };
            tile::product(left, right, kind, &mut out[first * padded..], place);
        }
    }
}

/// Gradient of [`packed`](super::packed): replaces `dq`, `dk` and `dv`.
pub fn packed_grad(
    heads: Heads,
    spans: &[Span],
    precision: Precision,
    (q, k, v): (&[f32], &[f32], &[f32]),
    out: &[f32],
    logsum: &[f32],
    dout: &[f32],
    (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let (q_width, kv_width, dim) = (heads.queries * heads.dim, heads.keys * heads.dim, heads.dim);
    let tokens = q.len() / q_width;
    check(heads, spans, tokens);
    assert_eq!(q.len(), tokens * q_width);
    assert!(dq.len() == q.len() && out.len() == q.len() && dout.len() == q.len());
    assert!(
        dk.len() == tokens * kv_width && dv.len() == dk.len() && k.len() == dk.len() && v.len() == dk.len()
    );
    assert_eq!(logsum.len(), tokens * heads.queries);
    let shared_dq = SharedOutput::new(dq);
    let keys = keys_of_spans(heads, spans, precision, (k, v));
    let values = keys_of_spans(heads, spans, precision, (v, k));
    let runs = runs(spans, TOKENS_PER_PIECE);
    let padded = dim.next_multiple_of(LANES);
    // What each run of tokens adds to the keys and values of its path; added up afterwards in the runs' order.
    let pieces: Vec<[Vec<f32>; 2]> = threads::map(runs.len() * heads.keys, |task| {
        let (s, from, to) = runs[task / heads.keys];
        let (span, head) = (spans[s], task % heads.keys);
        let path = (&keys[s * heads.keys + head], &values[s * heads.keys + head]);
        let mut scratch = GradScratch {
            forward: Scratch::new(),
            dscores: Vec::new(),
            turned: Vec::new(),
            vectors: Vec::new(),
        };
        let seen = span.prefix + to;
        let (mut path_dk, mut path_dv) = (vec![0.0; seen * padded], vec![0.0; seen * padded]);
        let rows = (to - from) * heads.group();
        let group = TILES * max_rows();
        for first in (0..rows).step_by(group) {
            let count = group.min(rows - first);
            let mut places = [Row::default(); TILES * MAX_ROWS];
            let mut some = Rows {
                queries: [&[]; TILES * MAX_ROWS],
                douts: [&[]; TILES * MAX_ROWS],
                logsums: [0.0; TILES * MAX_ROWS],
                deltas: [0.0; TILES * MAX_ROWS],
                limits: [0; TILES * MAX_ROWS],
                count,
            };
            for r in 0..count {
                places[r] = heads.row(span.start + from, span.prefix + from, head, first + r);
                let Row { place, limit } = places[r];
                let vector = place * dim..(place + 1) * dim;
                (some.queries[r], some.douts[r]) = (&q[vector.clone()], &dout[vector.clone()]);
                (some.limits[r], some.logsums[r]) = (limit, logsum[place]);
                some.deltas[r] = vectors_dot(&dout[vector.clone()], &out[vector]);
            }
            let hand_over = |r: usize, values: &[f32]| {
                let place: usize = places[r].place;
                // SAFETY: inside `dq` as in `packed`; this task alone writes its tokens' query heads.
                unsafe { shared_dq.slice(place * dim, dim) }.copy_from_slice(values);
            };
            let sums = (&mut path_dk[..], &mut path_dv[..]);
            attend_grad(&some, path, heads.scale(), &mut scratch, hand_over, sums);
        }
        [path_dk, path_dv]
    });
    let sums = [SharedOutput::new(dk), SharedOutput::new(dv)];
    threads::for_each(2 * heads.keys, |task| {
        let (which, head) = (task % 2, task / 2);
        // SAFETY: a token's vector of one head lies inside the output, and this task alone has that head.
        let vector = |token: usize| unsafe { sums[which].slice(token * kv_width + head * dim, dim) };
        (0..tokens).for_each(|token| vector(token).fill(0.0));
        for (run, (s, _, _)) in runs.iter().enumerate() {
            let piece = &pieces[run * heads.keys + head][which];
            for (token, piece) in path_tokens(spans, *s).zip(piece.chunks_exact(padded)) {
                for (sum, x) in vector(token).iter_mut().zip(piece) {
                    *sum += x;
                }
            }
        }
    });
}
