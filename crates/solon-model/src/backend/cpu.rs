//! The fast backend: `solon-kernels` on the machine's own threads.

// `Vec<f32>` is this backend's buffer type; the trait's signatures take it by reference.
#![allow(clippy::ptr_arg)]

use super::{AdamW, Backend, CachedRun, Heads, Linear, Span, Turn, WeightGrad, WeightUse, Write};
use rayon::prelude::*;
use solon_kernels::attention::{self, Keys};
use solon_kernels::gemm::{PackedB, Product, Strided, gemm, gemm_many};
use solon_kernels::rope::RopeTable;
use solon_kernels::{Precision, adamw, elementwise, log_prob, rms_norm, rope};

/// The processor. Threads are those of the rayon pool the caller runs in.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    precision: Precision,
}

impl Cpu {
    /// A backend whose products round their inputs to `precision`.
    pub fn new(precision: Precision) -> Self {
        Self { precision }
    }

    /// What products' inputs are rounded to.
    pub fn precision(&self) -> Precision {
        self.precision
    }
}

/// A weight packed for `y = x Wᵀ` and, where gradients flow, for `dx = dy W`.
pub struct CpuWeight {
    rows: usize,
    columns: usize,
    forward: PackedB,
    backward: Option<PackedB>,
}

/// Keys and values of each segment, by layer and head.
pub struct CpuCache {
    layers: usize,
    heads: Heads,
    segments: Vec<Option<Vec<Keys>>>,
}

impl Backend for Cpu {
    type Buffer = Vec<f32>;
    type Weight = CpuWeight;
    type Rope = RopeTable;
    type Cache = CpuCache;

    fn zeros(&self, len: usize) -> Vec<f32> {
        vec![0.0; len]
    }

    fn upload(&self, values: Vec<f32>) -> Vec<f32> {
        values
    }

    fn download(&self, buffer: &Vec<f32>) -> Vec<f32> {
        buffer.clone()
    }

    fn len(&self, buffer: &Vec<f32>) -> usize {
        buffer.len()
    }

    fn clear(&self, buffer: &mut Vec<f32>) {
        buffer.fill(0.0);
    }

    fn duplicate(&self, buffer: &Vec<f32>) -> Vec<f32> {
        buffer.clone()
    }

    fn gather_rows(&self, source: &Vec<f32>, width: usize, rows: &[u32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(rows.len() * width);
        for row in rows {
            out.extend_from_slice(&source[*row as usize * width..][..width]);
        }
        out
    }

    fn scatter_add_rows(&self, source: &Vec<f32>, width: usize, rows: &[u32], into: &mut Vec<f32>) {
        for (source, row) in source.chunks_exact(width).zip(rows) {
            elementwise::axpy(1.0, source, &mut into[*row as usize * width..][..width]);
        }
    }

    fn add(&self, x: &Vec<f32>, y: &mut Vec<f32>) {
        elementwise::add(y, x);
    }

    fn scale(&self, x: &mut Vec<f32>, factor: f32) {
        elementwise::scale(x, factor);
    }

    fn pack(&self, values: &Vec<f32>, rows: usize, columns: usize, usage: WeightUse) -> CpuWeight {
        assert_eq!(values.len(), rows * columns);
        let forward = PackedB::new(Strided::transposed(values, columns), columns, rows, self.precision);
        let backward = (usage == WeightUse::Training)
            .then(|| PackedB::new(Strided::rows(values, columns), rows, columns, self.precision));
        CpuWeight { rows, columns, forward, backward }
    }

    fn repack(&self, weight: &mut CpuWeight, values: &Vec<f32>) {
        weight.forward.repack(Strided::transposed(values, weight.columns));
        if let Some(backward) = &mut weight.backward {
            backward.repack(Strided::rows(values, weight.columns));
        }
    }

    fn linear(&self, x: &Vec<f32>, products: &mut [Linear<'_, Self>]) {
        let Some(columns) = products.first().map(|product| product.weight.columns) else { return };
        let mut products: Vec<Product<'_>> = products
            .iter_mut()
            .map(|Linear { weight, out, write }| Product { b: &weight.forward, c: out, write: *write })
            .collect();
        gemm_many(Strided::rows(x, columns), x.len() / columns, &mut products);
    }

    fn linear_input_grad(&self, dy: &Vec<f32>, products: &mut [Linear<'_, Self>]) {
        let Some(rows) = products.first().map(|product| product.weight.rows) else { return };
        let mut products: Vec<Product<'_>> = products
            .iter_mut()
            .map(|Linear { weight, out, write }| {
                let b = weight.backward.as_ref().expect("the weight was packed for training");
                Product { b, c: out, write: *write }
            })
            .collect();
        gemm_many(Strided::rows(dy, rows), dy.len() / rows, &mut products);
    }

    fn linear_weight_grad(&self, x: &Vec<f32>, columns: usize, gradients: &mut [WeightGrad<'_, Self>]) {
        let packed = PackedB::new(Strided::rows(x, columns), x.len() / columns, columns, self.precision);
        for WeightGrad { dy, rows, dw } in gradients {
            gemm(Strided::transposed(dy, *rows), *rows, &packed, dw, Write::Add);
        }
    }

    fn add_bias(&self, y: &mut Vec<f32>, bias: &Vec<f32>) {
        elementwise::add_bias(y, bias);
    }

    fn bias_grad(&self, dy: &Vec<f32>, db: &mut Vec<f32>) {
        elementwise::bias_grad(dy, db);
    }

    fn rms_norm(&self, x: &Vec<f32>, gain: &Vec<f32>, eps: f32) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        rms_norm::rms_norm(x, gain, eps, &mut y);
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
        rms_norm::rms_norm_grad(x, gain, eps, dy, dx, dgain.map(Vec::as_mut_slice));
    }

    fn rope_table(&self, frequencies: &[f32], positions: usize) -> RopeTable {
        RopeTable::new(frequencies, positions)
    }

    fn rope(&self, x: &mut Vec<f32>, width: usize, table: &RopeTable, positions: &[u32], turn: Turn) {
        rope::rope(x, width, table, positions, turn);
    }

    fn attention(
        &self,
        heads: Heads,
        spans: &[Span],
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
    ) -> (Vec<f32>, Vec<f32>) {
        let mut out = vec![0.0; q.len()];
        let mut logsum = vec![0.0; q.len() / heads.dim];
        attention::packed(heads, spans, q, k, v, &mut out, &mut logsum);
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
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        attention::packed_grad(heads, spans, (q, k, v), out, logsum, dout, (&mut dq, &mut dk, &mut dv));
        (dq, dk, dv)
    }

    fn swiglu(&self, gate: &Vec<f32>, up: &Vec<f32>) -> Vec<f32> {
        let mut out = vec![0.0; gate.len()];
        elementwise::swiglu(gate, up, &mut out);
        out
    }

    fn swiglu_grad(&self, gate: &Vec<f32>, up: &Vec<f32>, dout: &Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        let (mut dgate, mut dup) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
        elementwise::swiglu_grad(gate, up, dout, &mut dgate, &mut dup);
        (dgate, dup)
    }

    fn log_probs(
        &self,
        logits: &Vec<f32>,
        vocab: usize,
        targets: &[u32],
        inverse_temperature: f32,
    ) -> Vec<f32> {
        let mut out = vec![0.0; targets.len()];
        log_prob::log_probs(logits, vocab, targets, inverse_temperature, &mut out);
        out
    }

    fn log_probs_grad(
        &self,
        logits: &mut Vec<f32>,
        vocab: usize,
        targets: &[u32],
        inverse_temperature: f32,
        dlogprobs: &[f32],
    ) {
        log_prob::log_probs_grad(logits, vocab, targets, inverse_temperature, dlogprobs);
    }

    fn adamw(
        &self,
        hyper: AdamW,
        param: &mut Vec<f32>,
        grad: &Vec<f32>,
        first: &mut Vec<f32>,
        second: &mut Vec<f32>,
    ) {
        adamw::adamw(hyper, param, grad, first, second);
    }

    fn sum_of_squares(&self, x: &Vec<f32>) -> f64 {
        adamw::sum_of_squares(x)
    }

    fn new_cache(&self, layers: usize, heads: Heads) -> CpuCache {
        CpuCache { layers, heads, segments: Vec::new() }
    }

    fn add_segment(&self, cache: &mut CpuCache, capacity: usize) -> usize {
        let keys = (0..cache.layers * cache.heads.keys)
            .map(|_| Keys::with_capacity(cache.heads.dim, capacity))
            .collect();
        match cache.segments.iter().position(Option::is_none) {
            Some(free) => {
                cache.segments[free] = Some(keys);
                free
            }
            None => {
                cache.segments.push(Some(keys));
                cache.segments.len() - 1
            }
        }
    }

    fn remove_segment(&self, cache: &mut CpuCache, segment: usize) {
        cache.segments[segment] = None;
    }

    fn cached_attention(
        &self,
        cache: &mut CpuCache,
        layer: usize,
        runs: &[CachedRun],
        q: &Vec<f32>,
        k: &Vec<f32>,
        v: &Vec<f32>,
    ) -> Vec<f32> {
        let heads = cache.heads;
        let (dim, group) = (heads.dim, heads.queries / heads.keys);
        let (q_width, kv_width) = (heads.queries * dim, heads.keys * dim);
        let mut row = 0;
        for run in runs {
            let segment = cache.segments[run.segment].as_mut().expect("a live segment");
            for at in row..row + run.rows {
                for head in 0..heads.keys {
                    let from = at * kv_width + head * dim;
                    segment[layer * heads.keys + head].push(&k[from..from + dim], &v[from..from + dim]);
                }
            }
            row += run.rows;
        }
        // Attend in the cache's order, one task a run and key head; results are placed in the rows afterwards.
        let starts: Vec<usize> = runs
            .iter()
            .scan(0, |row, run| {
                *row += run.rows;
                Some(*row - run.rows)
            })
            .collect();
        let segments = &cache.segments;
        let pieces: Vec<Vec<f32>> = (0..runs.len() * heads.keys)
            .into_par_iter()
            .map(|task| {
                let (run, head) = (&runs[task / heads.keys], task % heads.keys);
                let start = starts[task / heads.keys];
                let keys_of =
                    |s: usize| &segments[s].as_ref().expect("a live segment")[layer * heads.keys + head];
                let mut path: Vec<(&Keys, usize)> =
                    run.ancestors.iter().map(|s| (keys_of(*s), keys_of(*s).len())).collect();
                let before: usize = path.iter().map(|(_, len)| len).sum();
                let own = keys_of(run.segment);
                let first_limit = before + own.len() - run.rows;
                let rows = run.rows * group;
                let mut out = vec![0.0; rows * dim];
                let mut scores = Vec::new();
                let mut logsums = [0.0; 8];
                for first in (0..rows).step_by(8) {
                    let count = 8.min(rows - first);
                    let (mut queries, mut limits): ([&[f32]; 8], [usize; 8]) = ([&[]; 8], [0; 8]);
                    for r in 0..count {
                        let (token, query_head) = ((first + r) / group, head * group + (first + r) % group);
                        queries[r] = &q[(start + token) * q_width + query_head * dim..][..dim];
                        limits[r] = first_limit + token + 1;
                    }
                    path.push((own, limits[count - 1] - before));
                    attention::attend(
                        &queries[..count],
                        &limits[..count],
                        &path,
                        1.0 / (dim as f32).sqrt(),
                        &mut scores,
                        &mut out[first * dim..],
                        &mut logsums,
                    );
                    path.pop();
                }
                out
            })
            .collect();
        let mut out = vec![0.0; q.len()];
        for (task, piece) in pieces.iter().enumerate() {
            let (start, head) = (starts[task / heads.keys], task % heads.keys);
            for (i, values) in piece.chunks_exact(dim).enumerate() {
                let (token, query_head) = (start + i / group, head * group + i % group);
                out[token * q_width + query_head * dim..][..dim].copy_from_slice(values);
            }
        }
        out
    }
}
