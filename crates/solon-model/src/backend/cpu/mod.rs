//! The fast backend: `solon-kernels` on the machine's own threads.

use super::{AdamW, Backend, CachedRun, Heads, Linear, Span, Turn, WeightGrad, WeightUse, Write};
use solon_kernels::attention::{self, CachedPath, KvBlock};
use solon_kernels::gemm::{PackedB, Product, Strided, gemm, gemm_many};
use solon_kernels::memory::{self, Block};
use solon_kernels::parallel::{for_chunks, for_rows};
use solon_kernels::rope::RopeTable;
use solon_kernels::{Precision, adamw, divergence, elementwise, log_prob, rms_norm, rope};
use std::borrow::Cow;

/// A vector in pooled memory.
pub type Buffer = Block<f32>;

/// The processor. Threads are those of the caller's team ([`solon_kernels::threads`]).
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
    segments: Vec<Option<Vec<KvBlock>>>,
}

impl Backend for Cpu {
    type Buffer = Buffer;
    type Weight = CpuWeight;
    type Rope = RopeTable;
    type Cache = CpuCache;

    fn scratch(&self, len: usize) -> Buffer {
        Block::uninit(len)
    }

    fn zeros(&self, len: usize) -> Buffer {
        Block::zeros(len)
    }

    fn upload(&self, values: Vec<f32>) -> Buffer {
        Buffer::from(&values[..])
    }

    fn download<'a>(&self, buffer: &'a Buffer) -> Cow<'a, [f32]> {
        Cow::Borrowed(buffer)
    }

    fn len(&self, buffer: &Buffer) -> usize {
        buffer.len()
    }

    fn release(&self) {
        memory::release();
    }

    fn duplicate(&self, buffer: &Buffer) -> Buffer {
        buffer.clone()
    }

    fn gather_rows(&self, source: &Buffer, width: usize, rows: &[u32]) -> Buffer {
        let mut out = Block::uninit(rows.len() * width);
        for_rows(&mut out, width, |first, out| {
            for (out, row) in out.chunks_exact_mut(width).zip(&rows[first..]) {
                out.copy_from_slice(&source[*row as usize * width..][..width]);
            }
        });
        out
    }

    fn scatter_add_rows(&self, source: &Buffer, width: usize, rows: &[u32], into: &mut Buffer) {
        for (source, row) in source.chunks_exact(width).zip(rows) {
            elementwise::axpy(1.0, source, &mut into[*row as usize * width..][..width]);
        }
    }

    fn add(&self, x: &Buffer, y: &mut Buffer) {
        elementwise::add(y, x);
    }

    fn scale(&self, x: &mut Buffer, factor: f32) {
        elementwise::scale(x, factor);
    }

    fn pack(&self, values: &Buffer, rows: usize, columns: usize, usage: WeightUse) -> CpuWeight {
        assert_eq!(values.len(), rows * columns);
        let transposed = Strided::transposed(values, columns);
        let forward = match usage {
            WeightUse::InferenceInt8 => PackedB::int8(transposed, columns, rows, self.precision),
            WeightUse::Inference | WeightUse::Training => {
                PackedB::new(transposed, columns, rows, self.precision)
            }
        };
        let backward = (usage == WeightUse::Training)
            .then(|| PackedB::new(Strided::rows(values, columns), rows, columns, self.precision));
        CpuWeight { rows, columns, forward, backward }
    }

    fn repack(&self, weight: &mut CpuWeight, values: &Buffer) {
        weight.forward.repack(Strided::transposed(values, weight.columns));
        if let Some(backward) = &mut weight.backward {
            backward.repack(Strided::rows(values, weight.columns));
        }
    }

    fn packed_value_bytes(&self) -> usize {
        PackedB::value_bytes(self.precision)
    }

    fn linear(&self, x: &Buffer, products: &mut [Linear<'_, Self>]) {
        let Some(columns) = products.first().map(|product| product.weight.columns) else { return };
        let mut products: Vec<Product<'_>> = products
            .iter_mut()
            .map(|Linear { weight, out, write }| Product { b: &weight.forward, c: out, write: *write })
            .collect();
        gemm_many(Strided::rows(x, columns), x.len() / columns, &mut products);
    }

    fn linear_input_grad(&self, dy: &Buffer, products: &mut [Linear<'_, Self>]) {
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

    fn linear_weight_grad(&self, x: &Buffer, columns: usize, gradients: &mut [WeightGrad<'_, Self>]) {
        let packed = PackedB::new(Strided::rows(x, columns), x.len() / columns, columns, self.precision);
        for WeightGrad { dy, rows, dw } in gradients {
            gemm(Strided::transposed(dy, *rows), *rows, &packed, dw, Write::Add);
        }
    }

    fn add_bias(&self, y: &mut Buffer, bias: &Buffer) {
        elementwise::add_bias(y, bias);
    }

    fn bias_grad(&self, dy: &Buffer, db: &mut Buffer) {
        elementwise::bias_grad(dy, db);
    }

    fn rms_norm(&self, x: &Buffer, gain: &Buffer, eps: f32) -> Buffer {
        let mut y = Block::uninit(x.len());
        rms_norm::rms_norm(x, gain, eps, &mut y);
        y
    }

    fn rms_norm_grad(
        &self,
        x: &Buffer,
        gain: &Buffer,
        eps: f32,
        dy: &Buffer,
        dx: &mut Buffer,
        dgain: Option<&mut Buffer>,
    ) {
        rms_norm::rms_norm_grad(x, gain, eps, dy, dx, dgain.map(|dgain| &mut dgain[..]));
    }

    fn rope_table(&self, frequencies: &[f32], attention_factor: f32, positions: usize) -> RopeTable {
        RopeTable::new(frequencies, attention_factor, positions)
    }

    fn rope(&self, x: &mut Buffer, width: usize, table: &RopeTable, positions: &[u32], turn: Turn) {
        rope::rope(x, width, table, positions, turn);
    }

    fn attention(
        &self,
        heads: Heads,
        spans: &[Span],
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
    ) -> (Buffer, Buffer) {
        let mut out = Block::uninit(q.len());
        let mut logsum = Block::uninit(q.len() / heads.dim);
        attention::packed(heads, spans, self.precision, (q, k, v), &mut out, &mut logsum);
        (out, logsum)
    }

    fn attention_grad(
        &self,
        heads: Heads,
        spans: &[Span],
        (q, k, v): (&Buffer, &Buffer, &Buffer),
        out: &Buffer,
        logsum: &Buffer,
        dout: &Buffer,
    ) -> (Buffer, Buffer, Buffer) {
        let (mut dq, mut dk, mut dv) =
            (Block::uninit(q.len()), Block::uninit(k.len()), Block::uninit(v.len()));
        let into = (&mut dq[..], &mut dk[..], &mut dv[..]);
        attention::packed_grad(heads, spans, self.precision, (q, k, v), out, logsum, dout, into);
        (dq, dk, dv)
    }

    fn swiglu(&self, gate: &Buffer, up: &Buffer) -> Buffer {
        let mut out = Block::uninit(gate.len());
        elementwise::swiglu(gate, up, &mut out);
        out
    }

    fn swiglu_grad(&self, gate: &Buffer, up: &Buffer, dout: &Buffer) -> (Buffer, Buffer) {
        let (mut dgate, mut dup) = (Block::uninit(gate.len()), Block::uninit(gate.len()));
        elementwise::swiglu_grad(gate, up, dout, &mut dgate, &mut dup);
        (dgate, dup)
    }

    fn log_probs(
        &self,
        logits: &Buffer,
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
        logits: &mut Buffer,
        vocab: usize,
        targets: &[u32],
        inverse_temperature: f32,
        dlogprobs: &[f32],
    ) -> Vec<f32> {
        let mut out = vec![0.0; targets.len()];
        log_prob::log_probs_grad(logits, vocab, targets, inverse_temperature, dlogprobs, &mut out);
        out
    }

    fn divergences(&self, p: &Buffer, q: &Buffer, vocab: usize) -> Vec<f32> {
        let mut out = vec![0.0; p.len() / vocab];
        divergence::divergences(p, q, vocab, &mut out);
        out
    }

    fn divergences_grad(&self, p: &Buffer, q: &mut Buffer, vocab: usize, d: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; d.len()];
        divergence::divergences_grad(p, q, vocab, d, &mut out);
        out
    }

    fn adamw(
        &self,
        hyper: AdamW,
        param: &mut Buffer,
        grad: &mut Buffer,
        first: &mut Buffer,
        second: &mut Buffer,
    ) {
        adamw::adamw(hyper, param, grad, first, second);
    }

    fn sum_of_squares(&self, x: &Buffer) -> f64 {
        adamw::sum_of_squares(x)
    }

    fn new_cache(&self, layers: usize, heads: Heads) -> CpuCache {
        CpuCache { layers, heads, segments: Vec::new() }
    }

    fn add_segment(&self, cache: &mut CpuCache, capacity: usize) -> usize {
        let keys = (0..cache.layers * cache.heads.keys)
            .map(|_| KvBlock::with_capacity(cache.heads.dim, self.precision, capacity))
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
        q: &Buffer,
        k: &Buffer,
        v: &Buffer,
    ) -> Buffer {
        let heads = cache.heads;
        let (dim, kv_width) = (heads.dim, heads.keys * heads.dim);
        let mut row = 0;
        let mut new_rows: Vec<_> = runs
            .iter()
            .map(|run| {
                row += run.rows;
                (run.segment, row - run.rows..row)
            })
            .collect();
        new_rows.sort_unstable_by_key(|(segment, _)| *segment);
        let mut growing = Vec::with_capacity(runs.len() * heads.keys);
        let (mut rest, mut passed) = (&mut cache.segments[..], 0);
        for (segment, rows) in &new_rows {
            assert!(*segment >= passed, "one run a segment");
            let (before, after) = std::mem::take(&mut rest).split_at_mut(segment + 1 - passed);
            (rest, passed) = (after, segment + 1);
            let keys = before.last_mut().and_then(Option::as_mut).expect("a live segment");
            let of_layer = &mut keys[layer * heads.keys..(layer + 1) * heads.keys];
            growing.extend(of_layer.iter_mut().enumerate().map(|(head, keys)| (keys, head, rows)));
        }
        for_chunks(&mut growing, 4, |_, some| {
            for (keys, head, rows) in some {
                for from in (*rows).clone().map(|row| row * kv_width + *head * dim) {
                    keys.push(&k[from..from + dim], &v[from..from + dim]);
                }
            }
        });
        let segments = &cache.segments;
        let of_layer = |segment: usize| {
            let keys = segments[segment].as_ref().expect("a live segment");
            &keys[layer * heads.keys..(layer + 1) * heads.keys]
        };
        let mut first_row = 0;
        let paths: Vec<CachedPath<'_>> = runs
            .iter()
            .map(|run| {
                first_row += run.rows;
                let own = of_layer(run.segment);
                let ancestors = run.ancestors.iter().map(|(segment, seen)| (of_layer(*segment), *seen));
                CachedPath {
                    first_row: first_row - run.rows,
                    rows: run.rows,
                    blocks: ancestors.chain([(own, own[0].len())]).collect(),
                }
            })
            .collect();
        let mut out = Block::uninit(q.len());
        attention::cached(heads, &paths, q, &mut out);
        out
    }
}
