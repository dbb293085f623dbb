//! The kernels at SmolLM2-135M's shapes, 1,024 tokens of 4 sequences, on all cores.
//!
//! Throughput is in FLOP/s (criterion's "elem/s") for products and attention, in bytes for what memory bounds. The roofline,
//! measured first, is what to hold them to.

// criterion's macro makes a function without documentation.
#![allow(missing_docs)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use solon_kernels::adamw::{AdamW, adamw};
use solon_kernels::attention::{Heads, Span, packed, packed_grad};
use solon_kernels::elementwise::swiglu;
use solon_kernels::gemm::{PackedB, Precision, Strided, Write, gemm};
use solon_kernels::log_prob::log_probs_grad;
use solon_kernels::memory::Block;
use solon_kernels::rms_norm::rms_norm;
use solon_kernels::roofline;
use std::hint::black_box;
use std::time::Duration;

const TOKENS: usize = 1024;
const HIDDEN: usize = 576;
const MLP: usize = 1536;
const VOCAB: usize = 49152;

fn numbers(len: usize) -> Block<f32> {
    let mut block = Block::uninit(len);
    for (i, x) in block.iter_mut().enumerate() {
        *x = (i % 251) as f32 / 251.0 - 0.5;
    }
    block
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn print_roofline() {
    for precision in PRECISIONS {
        println!("roofline: {} products {:.0} GFLOP/s", precision.name(), roofline::peak_gflops(precision));
    }
    println!(
        "roofline: memory {:.1} GB/s, {} threads",
        roofline::memory_gb_per_s(),
        solon_kernels::threads::count()
    );
}

fn products(criterion: &mut Criterion) {
    print_roofline();
    let mut group = criterion.benchmark_group("product");
    for precision in PRECISIONS {
        for (m, n, k) in [
            (TOKENS, MLP, HIDDEN),
            (TOKENS, HIDDEN, MLP),
            (32, MLP, HIDDEN),
            (8, MLP, HIDDEN),
            (1, VOCAB, HIDDEN),
            (TOKENS, 16, HIDDEN),
        ] {
            let (a, w, mut c) = (numbers(m * k), numbers(n * k), numbers(m * n));
            let packed = PackedB::new(Strided::transposed(&w, k), k, n, precision);
            group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
            group.bench_function(BenchmarkId::new(precision.name(), format!("{m}x{n}x{k}")), |bencher| {
                bencher.iter(|| gemm(Strided::rows(&a, k), m, &packed, &mut c, Write::Replace));
            });
        }
        // The gradient of a weight: both operands are packed.
        let (dy, x, mut dw) = (numbers(TOKENS * MLP), numbers(TOKENS * HIDDEN), numbers(MLP * HIDDEN));
        group.throughput(Throughput::Elements(2 * (TOKENS * MLP * HIDDEN) as u64));
        group.bench_function(BenchmarkId::new(precision.name(), "weight gradient"), |bencher| {
            bencher.iter(|| {
                let packed = PackedB::new(Strided::rows(&x, HIDDEN), TOKENS, HIDDEN, precision);
                gemm(Strided::transposed(&dy, MLP), MLP, &packed, &mut dw, Write::Add);
            });
        });
        let mut packed = PackedB::new(Strided::transposed(&dw, HIDDEN), HIDDEN, MLP, precision);
        group.throughput(Throughput::Bytes(4 * (MLP * HIDDEN) as u64));
        group.bench_function(BenchmarkId::new(precision.name(), "repack a weight"), |bencher| {
            bencher.iter(|| packed.repack(Strided::transposed(&dw, HIDDEN)));
        });
    }
    group.finish();
}

fn attention(criterion: &mut Criterion) {
    let heads = Heads { queries: 9, keys: 3, dim: 64 };
    let len = 256;
    let spans: Vec<Span> =
        (0..TOKENS / len).map(|i| Span { start: i * len, len, parent: None, prefix: 0 }).collect();
    let (q, k, v) = (numbers(TOKENS * 576), numbers(TOKENS * 192), numbers(TOKENS * 192));
    let mut group = criterion.benchmark_group("attention, 4 x 256");
    let flops = 4 * spans.len() * 576 * len * (len + 1) / 2;
    for precision in PRECISIONS {
        let (mut out, mut logsum) = (numbers(q.len()), numbers(TOKENS * 9));
        group.throughput(Throughput::Elements(flops as u64));
        group.bench_function(BenchmarkId::new(precision.name(), "forward"), |bencher| {
            bencher.iter(|| packed(heads, &spans, precision, (&q, &k, &v), &mut out, &mut logsum));
        });
        let (mut dq, mut dk, mut dv) = (numbers(q.len()), numbers(k.len()), numbers(v.len()));
        group.throughput(Throughput::Elements(5 * flops as u64 / 2));
        group.bench_function(BenchmarkId::new(precision.name(), "backward"), |bencher| {
            bencher.iter(|| {
                let into = (&mut dq[..], &mut dk[..], &mut dv[..]);
                packed_grad(heads, &spans, precision, (&q, &k, &v), &out, &logsum, &q, into);
            });
        });
    }
    group.finish();
}

fn passes_over_memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory");
    let (x, gain, mut y) = (numbers(TOKENS * HIDDEN), numbers(HIDDEN), numbers(TOKENS * HIDDEN));
    group.throughput(Throughput::Bytes(8 * x.len() as u64));
    group.bench_function("rms_norm", |bencher| bencher.iter(|| rms_norm(&x, &gain, 1e-5, &mut y)));
    let (gate, up, mut out) = (numbers(TOKENS * MLP), numbers(TOKENS * MLP), numbers(TOKENS * MLP));
    group.throughput(Throughput::Bytes(12 * gate.len() as u64));
    group.bench_function("swiglu", |bencher| bencher.iter(|| swiglu(&gate, &up, &mut out)));
    let rows = 336;
    let (mut logits, mut log_probs) = (numbers(rows * VOCAB), vec![0.0; rows]);
    group.throughput(Throughput::Bytes(8 * logits.len() as u64));
    group.bench_function("log-prob and its gradient", |bencher| {
        bencher.iter(|| {
            log_probs_grad(&mut logits, VOCAB, &vec![5; rows], 1.0, &vec![0.1; rows], &mut log_probs);
            black_box(&log_probs);
        });
    });
    let len = 16 << 20;
    let (mut p, mut g, mut m, mut v) = (numbers(len), numbers(len), numbers(len), Block::zeros(len));
    let hyper = AdamW {
        learning_rate: 1e-6,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        step: 10,
        gradient_scale: 1.0,
    };
    group.throughput(Throughput::Bytes(32 * len as u64));
    group.bench_function("adamw", |bencher| bencher.iter(|| adamw(hyper, &mut p, &mut g, &mut m, &mut v)));
    group.finish();
}

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    targets = products, attention, passes_over_memory
}
criterion_main!(kernels);
