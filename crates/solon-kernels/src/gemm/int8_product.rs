//! Products with a `B` in int8.
//!
//! bf16 and f32 hold every int8 exactly, so the products are the tile's own over whole numbers, summed over all of `k` from
//! zero; the finished sum is scaled, and added to what was there, once. Whether values are widened as they are read or a
//! block at a time changes no bit.

use super::int8::Int8Panels;
use super::layout::{DEPTH, MAX_COLUMNS, MAX_ROWS, Place, Right, TILES_PER_TASK};
use super::operand::Write;
use super::pack::{PackedA, PackedB};
use super::{tile, widen};
use crate::memory::Block;
use crate::parallel::SharedOutput;
use std::ops::Range;

/// Sums of a task's tiles with one panel, `[tile][row][column]`. Aligned to a cache line, because a vector that crosses two
/// lines is read and written at half the speed.
#[repr(align(64))]
struct Sums([f32; TILES_PER_TASK * MAX_ROWS * MAX_COLUMNS]);

/// The products of packed rows with some column panels of `b`, which holds `int8`; `out` is at the first of the rows.
///
/// One tile alone uses each value once, so values are widened in registers. Several tiles share a widened block.
pub(super) fn run_block(
    a: &PackedA,
    b: &PackedB,
    int8: &Int8Panels,
    panels: Range<usize>,
    out: SharedOutput<'_>,
    write: Write,
) {
    let (steps, width, kind) = (b.steps(), b.panel_width(), b.step());
    let in_registers = a.tiles() == 1 && widen::in_registers(kind, width);
    let Sums(sums) = &mut Sums([0.0; TILES_PER_TASK * MAX_ROWS * MAX_COLUMNS]);
    let mut widened: Block<u32> = Block::uninit(if in_registers { 0 } else { DEPTH * width });
    for panel in panels {
        for from in (0..steps).step_by(DEPTH) {
            let count = DEPTH.min(steps - from);
            let values = int8.panel(panel, kind.values(), from, count);
            let place = Place { row_stride: width, panel_stride: 0, start_from_output: from > 0 };
            if in_registers {
                let (pairs, _) = values.as_chunks::<2>();
                tile::product_int8(a.tile(0, from), Right::panel(pairs, width, count), sums, place);
                continue;
            }
            let widened = &mut widened[..count * width];
            int8.prefetch(panel, kind.values(), from + count);
            widen::widen(values, width, kind, widened);
            let right = Right::panel(&widened[..], width, count);
            for (tile, sums) in sums.chunks_exact_mut(a.tile_rows() * width).take(a.tiles()).enumerate() {
                tile::product(a.tile(tile, from), right, kind, sums, place);
            }
        }
        finish(sums, a.rows(), b, int8, panel, out, write);
    }
}

/// Scales a panel's finished sums (`[rows, width]`) into the output.
fn finish(
    sums: &[f32],
    rows: usize,
    b: &PackedB,
    int8: &Int8Panels,
    panel: usize,
    out: SharedOutput<'_>,
    write: Write,
) {
    let (n, width) = (b.n(), b.panel_width());
    let columns = width.min(n - panel * width);
    let scales = &int8.scales(panel)[..columns];
    for (row, sums) in sums.chunks_exact(width).take(rows).enumerate() {
        // SAFETY: these columns of a row of this task's lie inside `c`, and no other task has these rows and this panel.
        let out = unsafe { out.slice(row * n + panel * width, columns) };
        scale_row(sums, scales, write, out);
    }
}

multiversion! {
    /// Writes a row of sums, scaled, or adds it.
    fn scale_row(sums: &[f32], scales: &[f32], write: Write, out: &mut [f32]) {
        let sums_and_scales = sums.iter().zip(scales);
        match write {
            Write::Replace => out.iter_mut().zip(sums_and_scales).for_each(|(out, (sum, scale))| *out = scale * sum),
            Write::Add => {
                out.iter_mut().zip(sums_and_scales).for_each(|(out, (sum, scale))| *out = scale.mul_add(*sum, *out));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Precision, Product, Strided, gemm, gemm_many};
    use super::*;
    use crate::{reference, threads::with_threads};
    use solon_draws::Draws;

    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let draws = Draws::new(seed, "int8");
        (0..len as u64).map(|i| 2.0 * draws.uniform(i) as f32 - 1.0).collect()
    }

    /// Odd `k`, last panels that are not full, several tiles, and more steps than a block has.
    const SHAPES: [(usize, usize, usize); 8] = [
        (1, 1, 1),
        (3, 5, 7),
        (14, 32, 64),
        (15, 33, 65),
        (40, 96, 700),
        (129, 48, 1537),
        (1, 200, 576),
        (2, 40, 2049),
    ];
    const BOTH: [Precision; 2] = [Precision::F32, Precision::Bf16];

    fn packed(w: &[f32], k: usize, precision: Precision) -> PackedB {
        PackedB::int8(Strided::transposed(w, k), k, w.len() / k, precision)
    }

    #[test]
    fn f32_equals_the_reference_to_the_bit() {
        for (m, n, k) in SHAPES {
            let (x, w) = (numbers(m * k, 2), numbers(n * k, 3));
            for write in [Write::Replace, Write::Add] {
                let mut expected = numbers(m * n, 4);
                let mut got = expected.clone();
                reference::matmul_int8(&x, &w, k, &mut expected, write);
                gemm(Strided::rows(&x, k), m, &packed(&w, k, Precision::F32), &mut got, write);
                assert_eq!(got, expected, "{m}x{n}x{k} {write:?}");
            }
        }
    }

    #[test]
    fn the_product_is_that_of_the_rounded_weights() {
        for (m, n, k) in SHAPES {
            let (x, w) = (numbers(m * k, 5), numbers(n * k, 6));
            let rounded: Vec<f32> = w
                .chunks_exact(k)
                .flat_map(|row| {
                    let (values, scale) = reference::quantise(row);
                    values.into_iter().map(move |value| scale * f32::from(value))
                })
                .collect();
            for precision in BOTH {
                let x_rounded: Vec<f32> = match precision {
                    Precision::F32 => x.clone(),
                    Precision::Bf16 => x.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect(),
                };
                let (a, b) = (Strided::rows(&x_rounded, k), Strided::transposed(&rounded, k));
                for write in [Write::Replace, Write::Add] {
                    let mut expected = numbers(m * n, 7);
                    let mut got = expected.clone();
                    reference::matmul(a, b, m, n, k, &mut expected, write);
                    gemm(Strided::rows(&x, k), m, &packed(&w, k, precision), &mut got, write);
                    for (x, y) in got.iter().zip(&expected) {
                        let off = (x - y).abs();
                        assert!(off <= 1e-5 * (k as f32).sqrt(), "{m}x{n}x{k} {precision:?}: {x} {y}");
                    }
                }
            }
        }
    }

    /// Few rows are widened in registers and many by blocks, threads share panels or take rows, and other products of the
    /// same rows stand beside: every row is the same bits.
    #[test]
    fn rows_threads_and_neighbours_change_no_bit() {
        let (n, k) = (40, 1101);
        let (w, v) = (numbers(n * k, 8), numbers(24 * k, 9));
        for (precision, m) in BOTH.into_iter().flat_map(|precision| [5, 50, 1900].map(|m| (precision, m))) {
            let x = numbers(m * k, 10);
            let int8 = packed(&w, k, precision);
            let full = PackedB::new(Strided::transposed(&v, k), k, 24, precision);
            let start = numbers(m * n, 11);
            let run = |threads| {
                let (mut c, mut d) = (start.clone(), vec![0.0; m * 24]);
                let mut products = [
                    Product { b: &full, c: &mut d, write: Write::Replace },
                    Product { b: &int8, c: &mut c, write: Write::Add },
                ];
                with_threads(threads, || gemm_many(Strided::rows(&x, k), m, &mut products));
                c
            };
            let together = run(1);
            assert_eq!(run(2), together, "{m} rows, {precision:?}: threads");
            for row in (0..m).step_by(1 + m / 40) {
                let mut one = start[row * n..(row + 1) * n].to_vec();
                gemm(Strided::rows(&x[row * k..][..k], k), 1, &int8, &mut one, Write::Add);
                assert_eq!(one, together[row * n..(row + 1) * n], "row {row} of {m}, {precision:?}");
            }
            // Rows that lie by columns are packed in another layout.
            let turned: Vec<f32> = (0..m * k).map(|i| x[i % m * k + i / m]).collect();
            let mut c = start.clone();
            gemm(Strided::transposed(&turned, m), m, &int8, &mut c, Write::Add);
            assert_eq!(c, together, "{m} rows, {precision:?}: layout");
        }
    }

    #[test]
    fn a_weight_that_is_no_number_is_not_hidden() {
        let w = [1.0, f32::NAN, 0.5, 0.25];
        let mut c = [0.0; 2];
        gemm(Strided::rows(&[1.0, 1.0], 2), 1, &packed(&w, 2, Precision::auto()), &mut c, Write::Replace);
        assert!(c[0].is_nan() && c[1].is_finite());
    }
}
