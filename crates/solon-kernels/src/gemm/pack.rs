//! Operands of a product laid out in the order the tile kernel reads them.
//!
//! A *step* is what one instruction consumes along `k`: one f32, or a pair of bf16 in one `u32`. `B` is cut into panels of
//! columns, `[panel][step][column]`; `A` into tiles of rows, `[tile][step][row]`. Both are zero-padded to whole tiles and
//! whole pairs, and a zero term changes no sum.

use super::{Precision, Strided, tile};
use rayon::prelude::*;
use std::sync::Mutex;

/// The right-hand operand, `[k, n]`.
#[derive(Clone)]
pub struct PackedB {
    n: usize,
    k: usize,
    width: usize,
    precision: Precision,
    data: Vec<u32>,
}

impl PackedB {
    /// Packs a `[k, n]` matrix.
    pub fn new(source: Strided<'_>, k: usize, n: usize, precision: Precision) -> Self {
        let mut packed = Self { n, k, width: tile::panel_width(), precision, data: Vec::new() };
        packed.repack(source);
        packed
    }

    /// Packs new values of the same shape into the same memory.
    pub fn repack(&mut self, source: Strided<'_>) {
        let (k, n, width, precision) = (self.k, self.n, self.width, self.precision);
        let steps = self.steps();
        self.data.resize(n.div_ceil(width) * steps * width, 0);
        self.data.par_chunks_mut((steps * width).max(1)).enumerate().for_each(|(panel, out)| {
            let columns = width.min(n - panel * width);
            // (lane, k) of the panel is (k, panel * width + lane) of the matrix.
            let view = Strided {
                data: &source.data[panel * width * source.column_stride..],
                row_stride: source.column_stride,
                column_stride: source.row_stride,
            };
            pack_lanes(view, columns, width, k, precision, out);
        });
    }

    /// Columns.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Rows.
    pub fn k(&self) -> usize {
        self.k
    }

    /// What the values were rounded to.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.data.len() * 4
    }

    pub(super) fn panel_width(&self) -> usize {
        self.width
    }

    pub(super) fn panels(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    pub(super) fn steps(&self) -> usize {
        steps(self.k, self.precision)
    }

    pub(super) fn panel(&self, panel: usize, from: usize) -> &[u32] {
        &self.data[(panel * self.steps() + from) * self.width..(panel + 1) * self.steps() * self.width]
    }
}

/// Rows of the left-hand operand, packed for one or several products.
pub(super) struct PackedA {
    rows: usize,
    steps: usize,
    tile_rows: usize,
    data: Vec<u32>,
}

/// Packing buffers that are free, so that a step in steady state allocates nothing here.
static SPARE: Mutex<Vec<Vec<u32>>> = Mutex::new(Vec::new());

impl PackedA {
    pub(super) fn new(source: Strided<'_>, m: usize, b: &PackedB) -> Self {
        let tile_rows = tile::tile_rows();
        let steps = b.steps();
        let (k, precision) = (b.k(), b.precision());
        let mut data = SPARE.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
        data.resize(m.div_ceil(tile_rows) * steps * tile_rows, 0);
        for (tile, out) in data.chunks_mut(steps * tile_rows).enumerate() {
            let rows = tile_rows.min(m - tile * tile_rows);
            let view = Strided {
                data: &source.data[tile * tile_rows * source.row_stride..],
                row_stride: source.row_stride,
                column_stride: source.column_stride,
            };
            pack_lanes(view, rows, tile_rows, k, precision, out);
        }
        Self { rows: m, steps, tile_rows, data }
    }

    /// Gives the buffer back for the next product.
    pub(super) fn recycle(self) {
        if let Ok(mut spare) = SPARE.lock() {
            spare.push(self.data);
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn tiles(&self) -> usize {
        self.rows.div_ceil(self.tile_rows)
    }

    pub(super) fn tile_rows(&self) -> usize {
        self.tile_rows
    }

    pub(super) fn tile(&self, tile: usize, from: usize) -> &[u32] {
        &self.data[(tile * self.steps + from) * self.tile_rows..(tile + 1) * self.steps * self.tile_rows]
    }
}

fn steps(k: usize, precision: Precision) -> usize {
    match precision {
        Precision::F32 => k,
        Precision::Bf16 => k.div_ceil(2),
    }
}

/// bf16 bits of `x`, to nearest with ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
    if x.is_nan() { (bits >> 16) | 0x40 } else { rounded }
}

multiversion! {
    /// Writes `lanes` rows of `source` as `[step][width]`, zeros in the lanes past the last.
    pub fn pack_lanes(source: Strided<'_>, lanes: usize, width: usize, k: usize, precision: Precision, out: &mut [u32]) {
        let Strided { data, row_stride, column_stride } = source;
        if lanes < width {
            out.fill(0);
        }
        match precision {
            Precision::F32 if row_stride == 1 => {
                for (step, out) in out.chunks_exact_mut(width).enumerate() {
                    let row = &data[step * column_stride..step * column_stride + lanes];
                    for (out, x) in out.iter_mut().zip(row) {
                        *out = x.to_bits();
                    }
                }
            }
            Precision::F32 => {
                debug_assert_eq!(column_stride, 1, "one of the strides is 1");
                transpose_rows(lanes, width, k, out, |lane, from, block| {
                    let row = &data[lane * row_stride + from..lane * row_stride + k.min(from + BLOCK)];
                    for (out, x) in block.iter_mut().zip(row) {
                        *out = x.to_bits();
                    }
                });
            }
            Precision::Bf16 if row_stride == 1 => {
                for (step, out) in out.chunks_exact_mut(width).enumerate() {
                    let low = &data[2 * step * column_stride..2 * step * column_stride + lanes];
                    if 2 * step + 1 < k {
                        let high = &data[(2 * step + 1) * column_stride..(2 * step + 1) * column_stride + lanes];
                        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                            *out = bf16_bits(*low) | bf16_bits(*high) << 16;
                        }
                    } else {
                        for (out, low) in out.iter_mut().zip(low) {
                            *out = bf16_bits(*low);
                        }
                    }
                }
            }
            Precision::Bf16 => {
                debug_assert_eq!(column_stride, 1, "one of the strides is 1");
                transpose_rows(lanes, width, k.div_ceil(2), out, |lane, from, block| {
                    let row = &data[lane * row_stride + 2 * from..lane * row_stride + k.min(2 * (from + BLOCK))];
                    let (pairs, last) = row.as_chunks::<2>();
                    for (out, [low, high]) in block.iter_mut().zip(pairs) {
                        *out = bf16_bits(*low) | bf16_bits(*high) << 16;
                    }
                    if let [low] = last {
                        block[pairs.len()] = bf16_bits(*low);
                    }
                });
            }
        }
    }
}

/// Steps converted at a time before they are laid out step by step.
const BLOCK: usize = 64;

/// Fills `out` (`[steps][width]`) from rows that `convert(lane, first step, block)` gives in runs of [`BLOCK`] steps.
#[inline(always)]
fn transpose_rows(
    lanes: usize,
    width: usize,
    steps: usize,
    out: &mut [u32],
    convert: impl Fn(usize, usize, &mut [u32; BLOCK]),
) {
    let mut blocks = [[0_u32; BLOCK]; tile::MAX_COLUMNS];
    for from in (0..steps).step_by(BLOCK) {
        let count = BLOCK.min(steps - from);
        for (lane, block) in blocks[..lanes].iter_mut().enumerate() {
            convert(lane, from, block);
        }
        for step in 0..count {
            let out = &mut out[(from + step) * width..][..lanes];
            for (out, block) in out.iter_mut().zip(&blocks) {
                *out = block[step];
            }
        }
    }
}
