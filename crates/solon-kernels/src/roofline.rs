//! What this machine can do at most, measured: the two lines under which every kernel's figure lies.

use crate::gemm::layout::{Layout, Left, MAX_COLUMNS, MAX_ROWS, Place, Right, Step, max_rows, panel_width};
use crate::gemm::{PackedB, Precision, Strided, Write, gemm, tile};
use crate::threads;
use std::time::{Duration, Instant};

/// Steps of one tile in [`peak_gflops`]: about a third of a millisecond, so that handing tiles out takes no time beside them,
/// and other programs seldom interrupt all of a round.
const PEAK_STEPS: usize = 1 << 15;
/// How long rounds are repeated.
const PEAK_TIME: Duration = Duration::from_millis(500);

/// The most that products can reach, in GFLOP/s: the innermost kernel multiplies the same few numbers again and again, so it
/// never waits for memory. The best of many short rounds of one tile a thread.
///
/// Uses the threads of the team it is called in, and the instruction set in use.
pub fn peak_gflops(precision: Precision) -> f64 {
    let kind = Step::of(precision);
    let threads = threads::count();
    let mut best = Duration::MAX;
    let begin = Instant::now();
    while begin.elapsed() < PEAK_TIME {
        let start = Instant::now();
        threads::for_each(threads, |_| {
            std::hint::black_box(tile_of_ones(kind, PEAK_STEPS));
        });
        best = best.min(start.elapsed());
    }
    1e-9 * (threads * tile_flops(kind, PEAK_STEPS)) as f64 / best.as_secs_f64()
}

/// Multiplications and additions of [`tile_of_ones`].
fn tile_flops(kind: Step, steps: usize) -> usize {
    2 * max_rows() * panel_width(MAX_COLUMNS) * steps * kind.values()
}

/// The largest tile's product of ones. Distances of zero between steps make the kernel read the same step again.
fn tile_of_ones(kind: Step, steps: usize) -> [f32; MAX_ROWS * MAX_COLUMNS] {
    let one = match kind {
        Step::F32 | Step::Rounded => 1.0_f32.to_bits(),
        Step::Pair => 1.0_f32.to_bits() | 1.0_f32.to_bits() >> 16,
    };
    let (rows, width) = (max_rows(), panel_width(MAX_COLUMNS));
    let (a, b) = std::hint::black_box(([one; MAX_ROWS], [one; MAX_COLUMNS]));
    let left = Left { data: &a, layout: Layout::Steps { stride: 0 }, rows };
    let right = Right { data: &b[..], width, step_stride: 0, panels: 1, panel_stride: 0, steps };
    let mut sums = [0.0; MAX_ROWS * MAX_COLUMNS];
    let place = Place { row_stride: width, panel_stride: 0, start_from_output: false };
    tile::product(left, right, kind, &mut sums, place);
    sums
}

/// GFLOP/s of `c = a·wᵀ` with `a [m, k]`, `w [n, k]`, once for each repeat, after one that is not counted. `w` is packed
/// beforehand, as a weight is; packing `a` is timed.
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
    let data = vec![1.0_f32; 64 << 20];
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(sum_of_all(&data));
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    1e-9 * (4 * data.len()) as f64 / best
}

/// Reads every element once, on all threads.
fn sum_of_all(data: &[f32]) -> f32 {
    const RUN: usize = 1 << 20;
    let run = |i: usize| sum(&data[i * RUN..data.len().min((i + 1) * RUN)]);
    threads::map(data.len().div_ceil(RUN), run).iter().sum()
}

multiversion! {
    /// Several independent sums, so that the additions do not wait for each other.
    fn sum(data: &[f32]) -> f32 {
        let mut lanes = [0.0_f32; 64];
        let (blocks, rest) = data.as_chunks::<64>();
        for block in blocks {
            for (lane, x) in lanes.iter_mut().zip(block) {
                *lane += x;
            }
        }
        lanes.iter().chain(rest).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rate is as true as its count of operations: every multiplication of ones adds one to a sum.
    #[test]
    fn as_many_operations_run_as_are_counted() {
        for kind in [Step::F32, Step::Rounded, Step::of(Precision::Bf16)] {
            for steps in [1, 1000, PEAK_STEPS] {
                let sums = tile_of_ones(kind, steps);
                let multiplications: f64 = sums.iter().map(|sum| f64::from(*sum)).sum();
                assert_eq!(2.0 * multiplications, tile_flops(kind, steps) as f64, "{kind:?}, {steps} steps");
            }
        }
    }

    #[test]
    fn memory_is_read_once() {
        for len in [0, 63, 64, (1 << 20) + 65, 3 << 20] {
            assert_eq!(sum_of_all(&vec![1.0; len]), len as f32);
        }
    }
}
