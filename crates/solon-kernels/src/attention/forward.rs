//! Attention forward: of a whole pack, and of new rows over a cache. Both call [`attend`] for a few queries at a time.

use super::kv_block::LANES;
use super::{Heads, KvBlock, MAX_HEAD_DIM, Row, Span, check, path_tokens};
use crate::exp::{exp, sum_lanes};
use crate::gemm::Precision;
use crate::gemm::layout::{DEPTH, Layout, Left, MAX_ROWS, Place, ROW_STRIDE, Step, max_rows};
use crate::gemm::pack::pack_row;
use crate::gemm::round::{bf16_bits, rounded_bits};
use crate::gemm::tile;
use crate::memory::Block;
use crate::parallel::SharedOutput;
use crate::threads;

/// Tokens of a span that one task attends for, so that long spans are shared between threads.
pub(super) const TOKENS_PER_TASK: usize = 64;

/// What a task needs beside its inputs, kept from one group of rows to the next.
pub(super) struct Scratch {
    /// A tile of queries or of weights.
    pub(super) left: Block<u32>,
    pub(super) scores: Vec<f32>,
    mixed: Vec<f32>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { left: Block::uninit(MAX_ROWS * ROW_STRIDE), scores: Vec::new(), mixed: Vec::new() }
    }
}

multiversion! {
    /// Writes the weights of neighbouring positions as a row of a tile. Of a pair, the earlier one is added first.
    pub(super) fn pack_weights(weights: &[f32], kind: Step, out: &mut [u32]) {
        match kind {
            Step::F32 => {
                for (out, x) in out.iter_mut().zip(weights) {
                    *out = x.to_bits();
                }
            }
            Step::Rounded => {
                for (out, x) in out.iter_mut().zip(weights) {
                    *out = rounded_bits(*x);
                }
            }
            Step::Pair => {
                let (pairs, last) = weights.as_chunks::<2>();
                for (out, [earlier, later]) in out.iter_mut().zip(pairs) {
                    *out = bf16_bits(*earlier) << 16 | bf16_bits(*later);
                }
                if let [earlier] = last {
                    out[pairs.len()] = bf16_bits(*earlier) << 16;
                }
            }
        }
    }
}

multiversion! {
    /// Replaces the first `limit` scores of a row by `e^(scale · score - largest)` and the others by zero. Returns the largest
    /// scaled score and the sum.
    fn exponentials(row: &mut [f32], limit: usize, scale: f32) -> (f32, f32) {
        row[limit..].fill(0.0);
        let (head, tail) = row[..limit].as_chunks_mut::<LANES>();
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for x in head.iter_mut() {
            for i in 0..LANES {
                x[i] *= scale;
                lanes[i] = if x[i] > lanes[i] { x[i] } else { lanes[i] };
            }
        }
        let mut max = lanes.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        for x in tail.iter_mut() {
            *x *= scale;
            max = if *x > max { *x } else { max };
        }
        let mut lanes = [0.0; LANES];
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
        (max, sum_lanes(lanes))
    }
}

/// Multiplies the weights (`[rows][stride]`) of `count` positions, from place `at` of the path on, by their values. `out` is
/// `[rows][padded]`; it is replaced where `at` is 0 and added to elsewhere.
pub(super) fn mix(
    scores: &[f32],
    (rows, stride): (usize, usize),
    (at, count): (usize, usize),
    keys: &KvBlock,
    left: &mut [u32],
    out: &mut [f32],
) {
    let (kind, padded) = (keys.step(), keys.padded());
    for from in (0..count).step_by(DEPTH * kind.values()) {
        let some = (DEPTH * kind.values()).min(count - from);
        for (row, left) in left.chunks_exact_mut(ROW_STRIDE).take(rows).enumerate() {
            pack_weights(&scores[row * stride + at + from..][..some], kind, left);
        }
        let (left, right) = (Left { data: left, layout: Layout::Rows, rows }, keys.values(from, some));
        let place = Place { row_stride: padded, panel_stride: right.width, start_from_output: at + from > 0 };
        tile::product(left, right, kind, out, place);
    }
}

/// Attention of a few queries over the same blocks. Query `r` sees the first `limits[r]` positions of the path.
///
/// There are at most as many queries as a tile has rows. A block is given with the number of its positions that are in the
/// path. `result` gets each query's number, its output (`[dim]`), and the log of its sum.
fn attend(
    queries: &[&[f32]],
    limits: &[usize],
    blocks: &[(&KvBlock, usize)],
    scale: f32,
    scratch: &mut Scratch,
    mut result: impl FnMut(usize, &[f32], f32),
) {
    let Some((first, _)) = blocks.first() else { return };
    let (rows, kind, padded) = (queries.len(), first.step(), first.padded());
    let Scratch { left, scores, mixed } = scratch;
    let total: usize = blocks.iter().map(|(_, count)| count).sum();
    // A block's last panel is scored whole; the next block, or the limit, covers what is too much.
    let stride = total.next_multiple_of(LANES) + LANES;
    scores.resize(rows * stride, 0.0);
    mixed.resize(rows * padded, 0.0);
    for (query, left) in queries.iter().zip(left.chunks_exact_mut(ROW_STRIDE)) {
        pack_row(query, kind, left);
    }
    let mut at = 0;
    for (keys, count) in blocks {
        let place = Place { row_stride: stride, panel_stride: LANES, start_from_output: false };
        let left = Left { data: left, layout: Layout::Rows, rows };
        tile::product(left, keys.keys(*count), kind, &mut scores[at..], place);
        at += count;
    }
    let mut sums = [(0.0, 0.0); MAX_ROWS];
    for (r, limit) in limits.iter().enumerate() {
        sums[r] = exponentials(&mut scores[r * stride..(r + 1) * stride], *limit, scale);
    }
    let mut at = 0;
    for (keys, count) in blocks {
        mix(scores, (rows, stride), (at, *count), keys, left, mixed);
        at += count;
    }
    for (r, (max, sum)) in sums[..rows].iter().enumerate() {
        let out = &mut mixed[r * padded..][..queries[r].len()];
        let inverse = 1.0 / sum;
        out.iter_mut().for_each(|x| *x *= inverse);
        result(r, out, max + sum.ln());
    }
}

/// The keys of every span's path, for each key head: `[span][head]`.
pub(super) fn keys_of_spans(
    heads: Heads,
    spans: &[Span],
    precision: Precision,
    (k, v): (&[f32], &[f32]),
) -> Vec<KvBlock> {
    let (width, dim) = (heads.keys * heads.dim, heads.dim);
    threads::map(spans.len() * heads.keys, |task| {
        let (s, head) = (task / heads.keys, task % heads.keys);
        let mut keys = KvBlock::with_capacity(dim, precision, spans[s].prefix + spans[s].len);
        for token in path_tokens(spans, s) {
            let at = token * width + head * dim;
            keys.push(&k[at..at + dim], &v[at..at + dim]);
        }
        keys
    })
}

/// Runs of at most `most` tokens of each span: the span's number, the run's first token in it, and one past its last.
pub(super) fn runs(spans: &[Span], most: usize) -> Vec<(usize, usize, usize)> {
    let of_span = |(s, span): (usize, &Span)| {
        let len = span.len;
        (0..len).step_by(most).map(move |from| (s, from, len.min(from + most)))
    };
    spans.iter().enumerate().flat_map(of_span).collect()
}

/// Attention of every packed token over its path.
///
/// `q`, `out`: `[tokens, heads.queries * dim]`; `k`, `v`: `[tokens, heads.keys * dim]`; `logsum`: `[tokens, heads.queries]`.
pub fn packed(
    heads: Heads,
    spans: &[Span],
    precision: Precision,
    (q, k, v): (&[f32], &[f32], &[f32]),
    out: &mut [f32],
    logsum: &mut [f32],
) {
    let (q_width, kv_width) = (heads.queries * heads.dim, heads.keys * heads.dim);
    let tokens = q.len() / q_width;
    check(heads, spans, tokens);
    assert_eq!(q.len(), tokens * q_width);
    assert!(out.len() == q.len() && k.len() == tokens * kv_width && v.len() == k.len());
    assert_eq!(logsum.len(), tokens * heads.queries);
    let (out, logsum) = (SharedOutput::new(out), SharedOutput::new(logsum));
    let keys = keys_of_spans(heads, spans, precision, (k, v));
    let runs = runs(spans, TOKENS_PER_TASK);
    threads::for_each(runs.len() * heads.keys, |task| {
        let (s, from, to) = runs[task / heads.keys];
        let (span, head) = (spans[s], task % heads.keys);
        let keys = &keys[s * heads.keys + head];
        let path = |seen: usize| vec![(keys, seen)];
        attend_tokens(
            heads,
            head,
            (span.start + from, span.prefix + from, to - from),
            q,
            path,
            out,
            Some(logsum),
        );
    });
}

/// New rows of one sequence, and the blocks of the cache that they see. The last block is seen whole and ends with the
/// positions of the rows themselves.
pub struct CachedPath<'a> {
    /// The first of its rows.
    pub first_row: usize,
    /// How many.
    pub rows: usize,
    /// The blocks of its path, root first: one [`KvBlock`] for each key head, and how many positions of it are in the path.
    pub blocks: Vec<(&'a [KvBlock], usize)>,
}

/// Attention of new rows over what is cached, `q` and `out` `[rows, heads.queries * dim]`, as [`packed`] computes it.
pub fn cached(heads: Heads, paths: &[CachedPath<'_>], q: &[f32], out: &mut [f32]) {
    assert_eq!(q.len(), out.len());
    assert!(heads.dim <= MAX_HEAD_DIM && heads.queries.is_multiple_of(heads.keys));
    let mut rows = 0;
    for path in paths {
        assert_eq!(path.first_row, rows, "the rows of paths follow each other");
        let held = |(keys, count): &(&[KvBlock], usize)| keys.iter().all(|keys| *count <= keys.len());
        assert!(path.blocks.iter().all(held), "a path sees what is there");
        rows += path.rows;
    }
    assert_eq!(q.len(), rows * heads.queries * heads.dim);
    let out = SharedOutput::new(out);
    let tasks: Vec<(&CachedPath<'_>, usize, usize)> = paths
        .iter()
        .flat_map(|path| {
            (0..path.rows)
                .step_by(TOKENS_PER_TASK)
                .map(move |from| (path, from, path.rows.min(from + TOKENS_PER_TASK)))
        })
        .collect();
    threads::for_each(tasks.len() * heads.keys, |task| {
        let ((path, from, to), head) = (tasks[task / heads.keys], task % heads.keys);
        let length: usize = path.blocks.iter().map(|(_, count)| count).sum();
        let before = length.checked_sub(path.rows).expect("the rows' own positions are in the last block");
        let blocks = |seen: usize| {
            let mut left = seen;
            let mut blocks = Vec::with_capacity(path.blocks.len());
            for (keys, count) in &path.blocks {
                let count = left.min(*count);
                blocks.push((&keys[head], count));
                left -= count;
            }
            blocks
        };
        attend_tokens(heads, head, (path.first_row + from, before + from, to - from), q, blocks, out, None);
    });
}

/// One key head's queries of `count` tokens from row `first` on, the first of which has `prefix` positions before it.
fn attend_tokens<'k>(
    heads: Heads,
    head: usize,
    (first, prefix, count): (usize, usize, usize),
    q: &[f32],
    path: impl Fn(usize) -> Vec<(&'k KvBlock, usize)>,
    out: SharedOutput<'_>,
    logsum: Option<SharedOutput<'_>>,
) {
    let dim = heads.dim;
    let mut scratch = Scratch::new();
    let group = max_rows();
    let rows = count * heads.group();
    for from in (0..rows).step_by(group) {
        let many = group.min(rows - from);
        let mut places = [Row::default(); MAX_ROWS];
        let mut queries: [&[f32]; MAX_ROWS] = [&[]; MAX_ROWS];
        let mut limits = [0; MAX_ROWS];
        for r in 0..many {
            places[r] = heads.row(first, prefix, head, from + r);
            queries[r] = &q[places[r].place * dim..][..dim];
            limits[r] = places[r].limit;
        }
        let blocks = path(limits[many - 1]);
        attend(&queries[..many], &limits[..many], &blocks, heads.scale(), &mut scratch, |r, values, sum| {
            let place = places[r].place;
            // SAFETY: `place * dim` was just read from in `q`, which is as long as `out`, and the log-sums have one
            // element for each vector of it; this task alone has these tokens' queries of this key head.
            unsafe {
                out.slice(place * dim, dim).copy_from_slice(values);
                if let Some(logsum) = logsum {
                    logsum.slice(place, 1)[0] = sum;
                }
            }
        });
    }
}
