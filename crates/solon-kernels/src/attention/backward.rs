//! The gradient of a pack's attention.

use super::forward::{mix, scores_of};
use super::{Heads, Keys, ROWS, Row, Span, path_tokens};
use crate::exp::{LANES, dot, exp};
use crate::parallel::SharedOutput;
use rayon::prelude::*;

/// Scratch of one thread.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    dscores: Vec<f32>,
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
                let mut places = [Row::default(); ROWS];
                let mut queries: [&[f32]; ROWS] = [&[]; ROWS];
                let (mut douts, mut outs) = (queries, queries);
                let (mut limits, mut logsums) = ([0; ROWS], [0.0; ROWS]);
                for r in 0..count {
                    places[r] = heads.row(&span, head, first + r);
                    let Row { place, limit } = places[r];
                    let vector = place * dim..(place + 1) * dim;
                    (queries[r], douts[r], outs[r]) =
                        (&q[vector.clone()], &dout[vector.clone()], &out[vector]);
                    (limits[r], logsums[r]) = (limit, logsum[place]);
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
                for (r, Row { place, .. }) in places[..count].iter().enumerate() {
                    // SAFETY: inside `dq` as in `packed`; this task alone writes its tokens' query heads.
                    unsafe {
                        std::ptr::copy_nonoverlapping(
                            rows_dq[r * dim..].as_ptr(),
                            out_dq.0.add(place * dim),
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
