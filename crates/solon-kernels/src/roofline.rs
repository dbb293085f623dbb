//! What this machine can do at most, measured: the two lines under which every kernel's figure lies.

use crate::gemm::{PackedB, Precision, Strided, Write, gemm};
use crate::isa::{Isa, isa};
use crate::threads;
use std::time::Instant;

/// The best of a few large square products, in GFLOP/s, packing of the left operand included.
///
/// The right operand is packed beforehand, as a weight is. Uses the threads of the team it is called in.
pub fn gemm_gflops(precision: Precision) -> f64 {
    // Large enough that packing and writing the result are small beside it, and small where it runs in plain Rust.
    let isa = isa();
    let wide = isa != Isa::Avx2 && isa != Isa::Portable;
    let size = match wide && (precision == Precision::F32 || isa.has_bf16()) {
        true => 2048,
        false => 256,
    };
    product_gflops(size, size, size, precision, 5).into_iter().fold(0.0, f64::max)
}

/// GFLOP/s of `c = a·wᵀ` with `a [m, k]`, `w [n, k]`, once for each repeat, after one that is not counted.
pub fn product_gflops(m: usize, n: usize, k: usize, precision: Precision, repeats: usize) -> Vec<f64> {
    let numbers = |len: usize| (0..len).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect::<Vec<f32>>();
    let (a, w) = (numbers(m * k), numbers(n * k));
    let packed = PackedB::new(Strided::transposed(&w, k), k, n, precision);
    let mut c = vec![0.0; m * n];
    let mut once = || {
        let start = Instant::now();
        gemm(Strided::rows(&a, k), m, &packed, &mut c, Write::Replace);
        start.elapsed().as_secs_f64()
    };
    once();
    (0..repeats).map(|_| 2e-9 * (m * n * k) as f64 / once()).collect()
}

/// The best of a few readings of a quarter of a gigabyte, in GB/s (10⁹ bytes): what decoding one sequence is bound by.
pub fn memory_gb_per_s() -> f64 {
    const RUN: usize = 1 << 20;
    let data = vec![1.0_f32; 64 << 20];
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            let total: f32 =
                threads::map(data.len() / RUN, |i| sum(&data[i * RUN..(i + 1) * RUN])).iter().sum();
            std::hint::black_box(total);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    1e-9 * (4 * data.len()) as f64 / best
}

multiversion! {
    /// Several independent sums, so that the additions do not wait for each other.
    fn sum(data: &[f32]) -> f32 {
        let mut lanes = [0.0_f32; 64];
        for block in data.as_chunks::<64>().0 {
            for (lane, x) in lanes.iter_mut().zip(block) {
                *lane += x;
            }
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_finite_and_positive() {
        assert!(memory_gb_per_s() > 0.0);
        let rates = product_gflops(64, 48, 33, Precision::auto(), 3);
        assert!(rates.len() == 3 && rates.iter().all(|rate| rate.is_finite() && *rate > 0.0));
    }
}
