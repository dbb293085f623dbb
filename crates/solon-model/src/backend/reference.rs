//! The plain backend, for tests: every operation is the kernels' definition of correct ([`solon_kernels::reference`]) or
//! the plainest loop.

// `Vec<f32>` is this backend's buffer type; the trait's signatures take it by reference.
#![allow(clippy::ptr_arg)]
// Indices are the definition here; iterator chains would hide it.
#![allow(clippy::needless_range_loop)]

use super::{AdamW, Backend, CachedRun, Heads, Linear, Span, Turn, WeightGrad, WeightUse, Write};
use solon_kernels::reference::{self, attend_one, quantise};
use std::borrow::Cow;

/// Naive f32 loops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// A row-major matrix.
pub struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    usage: WeightUse,
}

/// The values that products see.
fn as_used(values: &[f32], columns: usize, usage: WeightUse) -> Vec<f32> {
    match usage {
        WeightUse::Inference | WeightUse::Training => values.to_vec(),
        WeightUse::InferenceInt8 => {
            let rounded = values.chunks_exact(columns).map(quantise);
            rounded.flat_map(|(row, scale)| row.into_iter().map(move |q| scale * f32::from(q))).collect()
        }
    }
}

/// Keys and values as they came, by layer: `[positions, kv_width]`.
pub struct ReferenceCache {
    heads: Heads,
    segments: Vec<Option<Vec<(Vec<f32>, Vec<f32>)>>>,
    layers: usize,
}

/// Tokens of the path to token `t` of span `s`, inclusive.
fn visible(spans: &[Span], s: usize, t: usize) -> Vec<usize> {
    let mut before = match spans[s].parent {
        Some(parent) => visible(spans, parent, spans[parent].len - 1),
        None => Vec::new(),
    };
    before.extend(spans[s].start..=spans[s].start + t);
    before
}

/// `rows` of a head: elements `[head * dim..][..dim]` of each row of `x`.
fn head_rows(x: &[f32], width: usize, rows: &[usize], head: usize, dim: usize) -> Vec<f32> {
    rows.iter().flat_map(|row| x[row * width + head * dim..][..dim].iter().copied()).collect()
}

impl Backend for Reference {
    type Buffer = Vec<f32>;
    type Weight = Matrix;
    type Rope = (Vec<f32>, f32);
    type Cache = ReferenceCache;

    fn scratch(&self, len: usize) -> Vec<f32> {
        // What is read before it is replaced does not pass a test.
        vec![f32::NAN; len]
    }

    fn zeros(&self, len: usize) -> Vec<f32> {
        vec![0.0; len]
    }
    fn upload(&self, values: Vec<f32>) -> Vec<f32> {
        values
    }
    fn download<'a>(&self, buffer: &'a Vec<f32>) -> Cow<'a, [f32]> {
        Cow::Borrowed(buffer)
    }
    fn len(&self, buffer: &Vec<f32>) -> usize {
        buffer.len()
    }
    fn release(&self) {}

    fn duplicate(&self, buffer: &Vec<f32>) -> Vec<f32> {
        buffer.clone()
    }
    fn gather_rows(&self, source: &Vec<f32>, width: usize, rows: &[u32]) -> Vec<f32> {
        rows.iter().flat_map(|row| source[*row as usize * width..][..width].to_vec()).collect()
    }
    fn scatter_add_rows(&self, source: &Vec<f32>, width: usize, rows: &[u32], into: &mut Vec<f32>) {
        for (i, row) in rows.iter().enumerate() {
            for j in 0..width {
                into[*row as usize * width + j] += source[i * width + j];
            }
        }
    }
    fn add(&self, x: &Vec<f32>, y: &mut Vec<f32>) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
    }
    fn scale(&self, x: &mut Vec<f32>, factor: f32) {
        x.iter_mut().for_each(|x| *x *= factor);
    }

    fn pack(&self, values: &Vec<f32>, rows: usize, columns: usize, usage: WeightUse) -> Matrix {
        Matrix { rows, columns, values: as_used(values, columns, usage), usage }
    }
    fn repack(&self, weight: &mut Matrix, values: &Vec<f32>) {
        weight.values = as_used(values, weight.columns, weight.usage);
    }
    fn packed_value_bytes(&self) -> usize {
        size_of::<f32>()
    }
    fn linear(&self, x: &Vec<f32>, products: &mut [Linear<'_, Self>]) {
        for Linear { weight: w, out, write } in products {
            for (x, y) in x.chunks_exact(w.columns).zip(out.chunks_exact_mut(w.rows)) {
                for (y, row) in y.iter_mut().zip(w.values.chunks_exact(w.columns)) {
                    let sum: f64 = x.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    *y = if *write == Write::Add { *y + sum as f32 } else { sum as f32 };
                }
            }
        }
    }
    fn linear_input_grad(&self, dy: &Vec<f32>, products: &mut [Linear<'_, Self>]) {
        for Linear { weight: w, out, write } in products {
            for (dy, dx) in dy.chunks_exact(w.rows).zip(out.chunks_exact_mut(w.columns)) {
                for j in 0..w.columns {
                    let sum: f64 =
                        (0..w.rows).map(|i| f64::from(dy[i]) * f64::from(w.values[i * w.columns + j])).sum();
                    dx[j] = if *write == Write::Add { dx[j] + sum as f32 } else { sum as f32 };
                }
            }
        }
    }
    fn linear_weight_grad(&self, x: &Vec<f32>, columns: usize, gradients: &mut [WeightGrad<'_, Self>]) {
        for WeightGrad { dy, rows, dw } in gradients {
            for (dy, x) in dy.chunks_exact(*rows).zip(x.chunks_exact(columns)) {
                for i in 0..*rows {
                    for j in 0..columns {
                        dw[i * columns + j] += dy[i] * x[j];
                    }
                }
            }
        }
    }
    fn add_bias(&self, y: &mut Vec<f32>, bias: &Vec<f32>) {
        y.chunks_exact_mut(bias.len()).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
    }
    fn bias_grad(&self, dy: &Vec<f32>, db: &mut Vec<f32>) {
        dy.chunks_exact(db.len()).for_each(|row| db.iter_mut().zip(row).for_each(|(b, d)| *b += d));
    }

    fn rms_norm(&self, x: &Vec<f32>, gain: &Vec<f32>, eps: f32) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        reference::rms_norm(x, gain, eps, &mut y);
        y
    }
    fn rms_norm_grad(
        &self,
        x: &Vec<f32>,
        gain: &Vec<f32>,
        eps: f32,
        dy: &Vec<f32>,
        dx: &mut Vec<f32>,
        dgain: Option<&mut Vec<f32>>,
    ) {
        reference::rms_norm_grad(x, gain, eps, dy, dx, dgain.map(|dgain| &mut dgain[..]));
    }

    fn rope_table(&self, frequencies: &[f32], attention_factor: f32, _: usize) -> Self::Rope {
        (frequencies.to_vec(), attention_factor)
    }
    fn rope(
        &self,
        x: &mut Vec<f32>,
        width: usize,
        (frequencies, attention_factor): &Self::Rope,
        positions: &[u32],
        turn: Turn,
    ) {
        reference::rope(x, width, frequencies, *attention_factor, positions, turn);
    }

    fn attention(
        &self,
        heads: Heads,
        spans: &[Span],
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
    ) -> (Vec<f32>, Vec<f32>) {
        let (q_width, kv_width) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let (mut out, mut logsum) = (vec![0.0; q.len()], vec![0.0; q.len() / heads.dim]);
        for (s, span) in spans.iter().enumerate() {
            for t in 0..span.len {
                let seen = visible(spans, s, t);
                for head in 0..heads.queries {
                    let key_head = head * heads.keys / heads.queries;
                    let at = (span.start + t) * q_width + head * heads.dim;
                    let (mixed, sum) = attend_one(
                        &q[at..at + heads.dim],
                        &head_rows(k, kv_width, &seen, key_head, heads.dim),
                        &head_rows(v, kv_width, &seen, key_head, heads.dim),
                        1.0 / (heads.dim as f32).sqrt(),
                    );
                    out[at..at + heads.dim].copy_from_slice(&mixed);
                    logsum[(span.start + t) * heads.queries + head] = sum;
                }
            }
        }
        (out, logsum)
    }
    fn attention_grad(
        &self,
        heads: Heads,
        spans: &[Span],
        (q, k, v): (&Vec<f32>, &Vec<f32>, &Vec<f32>),
        out: &Vec<f32>,
        logsum: &Vec<f32>,
        dout: &Vec<f32>,
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (q_width, kv_width, dim) = (heads.queries * heads.dim, heads.keys * heads.dim, heads.dim);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        for (s, span) in spans.iter().enumerate() {
            for t in 0..span.len {
                for head in 0..heads.queries {
                    let at = (span.start + t) * q_width + head * dim;
                    let own = at..at + dim;
                    let logsum = logsum[(span.start + t) * heads.queries + head];
                    for key in visible(spans, s, t) {
                        let from = key * kv_width + head * heads.keys / heads.queries * dim;
                        let of_key = from..from + dim;
                        reference::attend_one_grad(
                            (&q[own.clone()], &k[of_key.clone()], &v[of_key.clone()]),
                            1.0 / (dim as f32).sqrt(),
                            (&out[own.clone()], logsum, &dout[own.clone()]),
                            (&mut dq[own.clone()], &mut dk[of_key.clone()], &mut dv[of_key]),
                        );
                    }
                }
            }
        }
        (dq, dk, dv)
    }

    fn swiglu(&self, gate: &Vec<f32>, up: &Vec<f32>) -> Vec<f32> {
        let mut out = vec![0.0; gate.len()];
        reference::swiglu(gate, up, &mut out);
        out
    }
    fn swiglu_grad(&self, gate: &Vec<f32>, up: &Vec<f32>, dout: &Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        let (mut dgate, mut dup) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
        reference::swiglu_grad(gate, up, dout, &mut dgate, &mut dup);
        (dgate, dup)
    }

    fn log_probs(
        &self,
        logits: &Vec<f32>,
        vocab: usize,
        targets: &[u32],
        inverse_temperature: f32,
    ) -> Vec<f32> {
        logits
            .chunks_exact(vocab)
            .zip(targets)
            .map(|(row, target)| reference::log_softmax(row, inverse_temperature)[*target as usize] as f32)
            .collect()
    }
    fn log_probs_grad(
        &self,
        logits: &mut Vec<f32>,
        vocab: usize,
        targets: &[u32],
        inverse_temperature: f32,
        dlogprobs: &[f32],
    ) -> Vec<f32> {
        let rows = logits.chunks_exact_mut(vocab).zip(targets).zip(dlogprobs);
        rows.map(|((row, target), dlogprob)| {
            reference::log_prob_grad(row, *target, inverse_temperature, *dlogprob)
        })
        .collect()
    }

    fn divergences(&self, p: &Vec<f32>, q: &Vec<f32>, vocab: usize) -> Vec<f32> {
        self.divergences_grad(p, &mut q.clone(), vocab, &vec![0.0; p.len() / vocab])
    }
    fn divergences_grad(&self, p: &Vec<f32>, q: &mut Vec<f32>, vocab: usize, d: &[f32]) -> Vec<f32> {
        let rows = p.chunks_exact(vocab).zip(q.chunks_exact_mut(vocab)).zip(d);
        rows.map(|((p, q), d)| reference::divergence_grad(p, q, *d)).collect()
    }

    fn adamw(
        &self,
        hyper: AdamW,
        param: &mut Vec<f32>,
        grad: &mut Vec<f32>,
        first: &mut Vec<f32>,
        second: &mut Vec<f32>,
    ) {
        reference::adamw(hyper, param, grad, first, second);
    }
    fn sum_of_squares(&self, x: &Vec<f32>) -> f64 {
        reference::sum_of_squares(x)
    }

    fn new_cache(&self, layers: usize, heads: Heads) -> ReferenceCache {
        ReferenceCache { heads, segments: Vec::new(), layers }
    }
    fn add_segment(&self, cache: &mut ReferenceCache, _capacity: usize) -> usize {
        let empty = Some(vec![Default::default(); cache.layers]);
        match cache.segments.iter().position(Option::is_none) {
            Some(free) => {
                cache.segments[free] = empty;
                free
            }
            None => {
                cache.segments.push(empty);
                cache.segments.len() - 1
            }
        }
    }
    fn remove_segment(&self, cache: &mut ReferenceCache, segment: usize) {
        cache.segments[segment] = None;
    }
    fn cached_attention(
        &self,
        cache: &mut ReferenceCache,
        layer: usize,
        runs: &[CachedRun],
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
    ) -> Vec<f32> {
        let heads = cache.heads;
        let (q_width, kv_width) = (heads.queries * heads.dim, heads.keys * heads.dim);
        let mut out = vec![0.0; q.len()];
        let mut row = 0;
        for run in runs {
            for _ in 0..run.rows {
                let own = &mut cache.segments[run.segment].as_mut().expect("a live segment")[layer];
                own.0.extend_from_slice(&k[row * kv_width..][..kv_width]);
                own.1.extend_from_slice(&v[row * kv_width..][..kv_width]);
                let (mut keys, mut values) = (Vec::new(), Vec::new());
                let own =
                    cache.segments[run.segment].as_ref().expect("a live segment")[layer].0.len() / kv_width;
                for (segment, seen) in run.ancestors.iter().chain([&(run.segment, own)]) {
                    let kept = &cache.segments[*segment].as_ref().expect("a live segment")[layer];
                    keys.extend_from_slice(&kept.0[..seen * kv_width]);
                    values.extend_from_slice(&kept.1[..seen * kv_width]);
                }
                let all: Vec<usize> = (0..keys.len() / kv_width).collect();
                for head in 0..heads.queries {
                    let key_head = head * heads.keys / heads.queries;
                    let at = row * q_width + head * heads.dim;
                    let (mixed, _) = attend_one(
                        &q[at..at + heads.dim],
                        &head_rows(&keys, kv_width, &all, key_head, heads.dim),
                        &head_rows(&values, kv_width, &all, key_head, heads.dim),
                        1.0 / (heads.dim as f32).sqrt(),
                    );
                    out[at..at + heads.dim].copy_from_slice(&mixed);
                }
                row += 1;
            }
        }
        out
    }
}
