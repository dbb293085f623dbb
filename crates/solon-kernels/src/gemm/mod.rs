//! Matrix products for linear layers, forward and backward.
//!
//! `C = A·B` or `C += A·B` with `A [m, k]` and `B [k, n]`, either of them read through strides, so that the three
//! products of a linear layer (`y = x Wᵀ`, `dx = dy W`, `dW += dyᵀ x`) are one function. `B` is packed first
//! ([`PackedB`]); weights are packed once per update and kept, activations are packed on the fly.
//!
//! Every element of `C` is summed over `k` in order, from `C`'s old value (or zero), with one fused multiply-add a term
//! (f32) or one `vdpbf16ps` a pair of terms (bf16). Without that instruction bf16 is an f32 product of rounded inputs.
//! Tiles, cache blocks and threads only choose *when* that happens. Hence rows do not depend on each other, and f32 results
//! are the same bits on AVX-512, AVX2 and plain Rust.
//! Where `B` is int8, its whole numbers are summed in this way from zero, and the sum is scaled once (`int8_product.rs`).

mod int8;
mod int8_product;
pub(crate) mod layout;
mod operand;
pub(crate) mod pack;
pub(crate) mod round;
pub(crate) mod tile;
mod widen;

use crate::parallel::SharedOutput;
use crate::threads;
use layout::{DEPTH, MAX_COLUMNS, MAX_ROWS, Place, TILES_PER_TASK, max_rows};
pub use operand::{Precision, Strided, Write};
use pack::PackedA;
pub use pack::PackedB;

/// Blocks of [`DEPTH`] steps that a task multiplies by all panels before it goes on: as much of its tiles as stays in L2.
const BLOCKS_PER_CHUNK: usize = 4;
/// Rows that keep one thread busy. With as many for each thread, only rows are split, not panels.
const ENOUGH_ROWS: usize = 48;
/// Products of fewer multiplications than this run on the calling thread.
const SMALL: usize = 64 * 1024;

/// One of several products of the same left-hand matrix.
pub struct Product<'a> {
    /// The right-hand matrix, `[k, n]`.
    pub b: &'a PackedB,
    /// Row-major `[m, n]`.
    pub c: &'a mut [f32],
    /// What happens to `c`.
    pub write: Write,
}

/// `c = a·b` or `c += a·b`; `c` is row-major `[m, b.n()]`.
pub fn gemm(a: Strided<'_>, m: usize, b: &PackedB, c: &mut [f32], write: Write) {
    gemm_many(a, m, &mut [Product { b, c, write }]);
}

/// Products of one matrix with several others. It is packed once, so `k` and the precision of all must agree.
pub fn gemm_many(a: Strided<'_>, m: usize, products: &mut [Product<'_>]) {
    let Some(first) = products.first().map(|product| product.b) else { return };
    for Product { b, c, write } in products.iter_mut() {
        assert!(b.k() == first.k() && b.precision() == first.precision(), "products of one matrix");
        assert_eq!(c.len(), m * b.n(), "output of a {m}x{} by {}x{} product", b.k(), b.k(), b.n());
        if b.k() == 0 && *write == Write::Replace {
            c.fill(0.0);
        }
    }
    if m == 0 || first.k() == 0 {
        return;
    }
    let outputs: Vec<Output<'_>> = products
        .iter_mut()
        .map(|product| Output { b: product.b, c: SharedOutput::new(product.c), write: product.write })
        .collect();
    let panels: usize = outputs.iter().map(|output| output.b.panels()).sum();
    let threads = threads::count();
    let work: usize = outputs.iter().map(|output| m * output.b.n() * output.b.k()).sum();
    // Blocks of equal height, as many for each thread.
    let enough = m >= threads * ENOUGH_ROWS;
    let blocks = m.div_ceil(TILES_PER_TASK * max_rows());
    let blocks = if enough { blocks.next_multiple_of(threads) } else { blocks };
    let block_rows = m.div_ceil(blocks);
    let blocks = m.div_ceil(block_rows);
    let pack = |block: usize| {
        let rows = block * block_rows..m.min((block + 1) * block_rows);
        PackedA::new(a.rows_from(rows.start), rows.len(), first)
    };
    // Each task packs its own rows and takes them through every panel while they are in its cache.
    let task = |block: usize| run_panels(&pack(block), block * block_rows, &outputs, 0..panels);
    if threads == 1 || work < SMALL {
        (0..blocks).for_each(task);
    } else if enough {
        threads::for_each(blocks, task);
    } else {
        // Few rows, as in decoding: the panels are split as well, so that every thread has its share of the work.
        let packed: Vec<PackedA> = match m * first.k() < SMALL {
            true => (0..blocks).map(pack).collect(),
            false => threads::map(blocks, pack),
        };
        let splits = (8 * threads).div_ceil(blocks).clamp(1, panels.div_ceil(2).max(1));
        threads::for_each(blocks * splits, |task| {
            let (block, split) = (task / splits, task % splits);
            let some = split * panels / splits..(split + 1) * panels / splits;
            run_panels(&packed[block], block * block_rows, &outputs, some);
        });
    }
}

/// Where a product goes, for tasks that write disjoint parts of it.
struct Output<'a> {
    b: &'a PackedB,
    c: SharedOutput<'a>,
    write: Write,
}

/// Takes packed rows, of which the first is row `first_row` of `C`, through some of the panels of all products.
fn run_panels(a: &PackedA, first_row: usize, outputs: &[Output<'_>], panels: std::ops::Range<usize>) {
    let mut before = 0;
    for Output { b, c, write } in outputs {
        let of_this = |panel: usize| panel.clamp(before, before + b.panels()) - before;
        let own = of_this(panels.start)..of_this(panels.end);
        if !own.is_empty() {
            let out = c.from(first_row * b.n());
            match b.as_int8() {
                Some(panels) => int8_product::run_block(a, b, panels, own, out, *write),
                None => run_block(a, b, own, out, *write),
            }
        }
        before += b.panels();
    }
}

/// The products of packed rows with some column panels; `out` is at the first of the rows.
///
/// A panel is read in memory order, each block of it once for all tiles. The tiles of `A` come from the second-level cache; the
/// tiles of `C` stay in the first.
fn run_block(a: &PackedA, b: &PackedB, panels: std::ops::Range<usize>, out: SharedOutput<'_>, write: Write) {
    let (n, steps, width) = (b.n(), b.steps(), b.panel_width());
    let mut scratch = [0.0_f32; MAX_ROWS * MAX_COLUMNS];
    for chunk in (0..steps).step_by(BLOCKS_PER_CHUNK * DEPTH) {
        for panel in panels.clone() {
            let columns = width.min(n - panel * width);
            for from in (chunk..steps.min(chunk + BLOCKS_PER_CHUNK * DEPTH)).step_by(DEPTH) {
                let count = DEPTH.min(steps - from);
                let start_from_output = write == Write::Add || from > 0;
                let right = b.panel(panel, from, count);
                for tile in 0..a.tiles() {
                    let (left, rows) = (a.tile(tile, from), a.rows_of(tile));
                    let offset = tile * a.tile_rows() * n + panel * width;
                    let place = Place { row_stride: n, panel_stride: 0, start_from_output };
                    if columns == width {
                        // SAFETY: the whole tile lies inside `c`, and no other task has this tile and panel.
                        unsafe { tile::multiply(left, right, b.step(), out.from(offset), place) };
                        continue;
                    }
                    // A partial panel is computed whole in scratch; its padding columns are thrown away.
                    let row_of_c = |row: usize| {
                        // SAFETY: `columns` was cut to the matrix just above, so they lie inside `c`, and no other task
                        // has this tile and panel.
                        unsafe { out.slice(offset + row * n, columns) }
                    };
                    if start_from_output {
                        for (row, scratch) in scratch.chunks_exact_mut(width).take(rows).enumerate() {
                            scratch[..columns].copy_from_slice(row_of_c(row));
                        }
                    }
                    let place = Place { row_stride: width, ..place };
                    tile::product(left, right, b.step(), &mut scratch, place);
                    for (row, scratch) in scratch.chunks_exact(width).take(rows).enumerate() {
                        row_of_c(row).copy_from_slice(&scratch[..columns]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::layout::Step;
    use super::*;
    use crate::reference;
    use crate::threads::with_threads;

    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            })
            .collect()
    }

    const BOTH: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// The transpose of a matrix with `rows` rows.
    fn turned(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..rows * columns).map(|i| x[i % rows * columns + i / rows]).collect()
    }

    const SHAPES: [(usize, usize, usize); 7] =
        [(1, 1, 1), (3, 5, 7), (14, 32, 64), (15, 33, 65), (40, 96, 700), (129, 48, 1537), (1, 200, 576)];

    #[test]
    fn f32_equals_the_reference_to_the_bit() {
        for (m, n, k) in SHAPES {
            let (a, b) = (numbers(m * k, 1), numbers(n * k, 2));
            for write in [Write::Replace, Write::Add] {
                let mut expected = numbers(m * n, 3);
                let mut got = expected.clone();
                reference::matmul(
                    Strided::rows(&a, k),
                    Strided::transposed(&b, k),
                    m,
                    n,
                    k,
                    &mut expected,
                    write,
                );
                let packed = PackedB::new(Strided::transposed(&b, k), k, n, Precision::F32);
                gemm(Strided::rows(&a, k), m, &packed, &mut got, write);
                assert_eq!(got, expected, "{m}x{n}x{k} {write:?}");
            }
        }
    }

    /// To the bit where f32 kernels multiply the rounded values; those run on every processor. `vdpbf16ps` adds in another
    /// order.
    #[test]
    fn bf16_is_the_f32_product_of_rounded_inputs() {
        let round =
            |x: &Vec<f32>| -> Vec<f32> { x.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect() };
        for (m, n, k) in SHAPES {
            let (a, b) = (numbers(m * k, 4), numbers(n * k, 5));
            let (ra, rb) = (round(&a), round(&b));
            let mut expected = vec![0.0; m * n];
            reference::matmul(
                Strided::rows(&ra, k),
                Strided::transposed(&rb, k),
                m,
                n,
                k,
                &mut expected,
                Write::Replace,
            );
            let (w, turned) = (Strided::transposed(&b, k), turned(&b, n, k));
            let w_by_rows = Strided::rows(&turned, n);
            for (w, step) in [(w, Step::Rounded), (w_by_rows, Step::Rounded), (w, Step::of(Precision::Bf16))]
            {
                let packed = PackedB::of_steps(w, k, n, Precision::Bf16, step);
                let mut got = vec![0.0; m * n];
                gemm(Strided::rows(&a, k), m, &packed, &mut got, Write::Replace);
                if step == Step::Rounded {
                    assert_eq!(got, expected, "{m}x{n}x{k}");
                }
                for (x, y) in got.iter().zip(&expected) {
                    assert!((x - y).abs() <= 1e-5 * (k as f32).sqrt(), "{m}x{n}x{k}: {x} {y}");
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        let (n, k) = (70, 601);
        let (a, b) = (numbers(50 * k, 6), numbers(n * k, 7));
        for precision in BOTH {
            let packed = PackedB::new(Strided::transposed(&b, k), k, n, precision);
            let mut all = vec![0.0; 50 * n];
            gemm(Strided::rows(&a, k), 50, &packed, &mut all, Write::Replace);
            for row in 0..50 {
                let mut one = vec![0.0; n];
                gemm(Strided::rows(&a[row * k..(row + 1) * k], k), 1, &packed, &mut one, Write::Replace);
                assert_eq!(one, all[row * n..(row + 1) * n], "row {row} {precision:?}");
            }
        }
    }

    #[test]
    fn several_products_are_each_alone_and_many_blocks_change_no_bit() {
        // Enough rows that two threads take whole blocks each, on every instruction set; few, that they share panels.
        for (m, precision) in [100, 1900].into_iter().flat_map(|m| BOTH.map(|precision| (m, precision))) {
            let k = 40;
            let a = numbers(m * k, 10);
            let b = [48, 16].map(|n| {
                let values = numbers(n * k, n as u32);
                PackedB::new(Strided::transposed(&values, k), k, n, precision)
            });
            let writes = [Write::Replace, Write::Add];
            let start = [numbers(m * 48, 11), numbers(m * 16, 12)];
            let mut alone = start.clone();
            for ((b, c), write) in b.iter().zip(&mut alone).zip(writes) {
                for row in 0..m {
                    let c = &mut c[row * b.n()..(row + 1) * b.n()];
                    gemm(Strided::rows(&a[row * k..(row + 1) * k], k), 1, b, c, write);
                }
            }
            for threads in [1, 2] {
                let mut together = start.clone();
                with_threads(threads, || {
                    let mut products: Vec<Product<'_>> = b
                        .iter()
                        .zip(&mut together)
                        .zip(writes)
                        .map(|((b, c), write)| Product { b, c, write })
                        .collect();
                    gemm_many(Strided::rows(&a, k), m, &mut products);
                });
                assert_eq!(together, alone, "{m} rows, {threads} threads, {precision:?}");
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let (m, n, k) = (300, 96, 333);
        let (a, b) = (numbers(m * k, 8), numbers(n * k, 9));
        for precision in BOTH {
            let packed = PackedB::new(Strided::transposed(&b, k), k, n, precision);
            let run = |threads| {
                with_threads(threads, || {
                    let mut c = vec![0.0; m * n];
                    gemm(Strided::rows(&a, k), m, &packed, &mut c, Write::Replace);
                    c
                })
            };
            assert_eq!(run(1), run(3), "{precision:?}");
        }
    }
}
