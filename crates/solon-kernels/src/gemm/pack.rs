//! Operands of a product laid out in the order the tile kernel reads them.
//!
//! A *step* is what one instruction consumes along `k`: one f32, or a pair of bf16 in one `u32`. `B` is cut into panels of
//! columns, `[panel][step][column]`; `A` into tiles of rows, which lie as the source does. Whole pairs and whole panels
//! are filled up with zeros, and a zero term changes no sum.

use super::int8::Int8Panels;
use super::round::{Pairs, bf16_bits, multiversion_pairs};
use super::tile::{self, Left, Right};
use super::{Precision, Strided};
use crate::memory::Block;
use crate::parallel::for_chunks;

/// The right-hand operand, `[k, n]`.
#[derive(Clone)]
pub struct PackedB {
    n: usize,
    k: usize,
    width: usize,
    precision: Precision,
    values: Values,
}

#[derive(Clone)]
enum Values {
    /// `[panel][step][column]`.
    Full(Block<u32>),
    /// Rounded once more, with a scale for each column.
    Int8(Int8Panels),
}

impl PackedB {
    /// Packs a `[k, n]` matrix.
    pub fn new(source: Strided<'_>, k: usize, n: usize, precision: Precision) -> Self {
        let width = tile::panel_width(n);
        let values = Values::Full(Block::stale(n.div_ceil(width) * steps(k, precision) * width));
        let mut packed = Self { n, k, width, precision, values };
        packed.repack(source);
        packed
    }

    /// Rounds a `[k, n]` matrix whose columns are whole to int8, each column by a scale of its own, and packs that for
    /// products with rows rounded to `precision`.
    pub fn int8(source: Strided<'_>, k: usize, n: usize, precision: Precision) -> Self {
        let width = tile::panel_width(n);
        let panel_len = steps(k, precision) * values_per_step(precision) * width;
        let values = Values::Int8(Int8Panels::stale(n.div_ceil(width), panel_len, width));
        let mut packed = Self { n, k, width, precision, values };
        packed.repack(source);
        packed
    }

    /// Packs new values of the same shape into the same memory.
    pub fn repack(&mut self, source: Strided<'_>) {
        let (k, n, width, precision) = (self.k, self.n, self.width, self.precision);
        let panel_len = (self.steps() * width).max(1);
        let Strided { data, row_stride, column_stride } = source;
        assert!(row_stride == 1 || column_stride == 1, "rows or columns are whole");
        let packed = match &mut self.values {
            Values::Full(packed) => packed,
            Values::Int8(panels) => return panels.quantise(source, k, n, precision),
        };
        for_chunks(packed, PANELS_PER_TASK * panel_len, |task, out| {
            let first = task * PANELS_PER_TASK * width;
            let columns = (PANELS_PER_TASK * width).min(n - first);
            if column_stride == 1 {
                let place =
                    Lanes { width, apart: width, groups: out.len() / panel_len, group_len: panel_len };
                pack_steps(&data[first..], row_stride, k, columns, place, precision, out);
                return;
            }
            for (panel, out) in out.chunks_exact_mut(panel_len).enumerate() {
                let from = panel * width;
                // (lane, k) of the panel is (k, first + from + lane) of the matrix.
                let rows = &data[(first + from) * column_stride..];
                pack_turned(rows, column_stride, width.min(columns - from), width, k, precision, out);
            }
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

    pub(super) fn panel_width(&self) -> usize {
        self.width
    }

    pub(super) fn panels(&self) -> usize {
        self.n.div_ceil(self.width)
    }

    pub(super) fn steps(&self) -> usize {
        steps(self.k, self.precision)
    }

    /// The int8 values, where that is what it holds.
    pub(super) fn as_int8(&self) -> Option<&Int8Panels> {
        match &self.values {
            Values::Int8(panels) => Some(panels),
            Values::Full(_) => None,
        }
    }

    /// A panel's `count` steps from step `from` on.
    ///
    /// # Panics
    /// If it holds int8.
    pub(super) fn panel(&self, panel: usize, from: usize, count: usize) -> Right<'_> {
        let Values::Full(values) = &self.values else { panic!("int8 has a product of its own") };
        let data = &values[(panel * self.steps() + from) * self.width..][..count * self.width];
        Right::panel(data, self.width, count)
    }
}

/// Steps of `A` that lie together, and most between two visits to a tile of `C`: a panel of `B` this deep stays in the
/// first-level cache while every tile passes.
pub(crate) const DEPTH: usize = 512;
/// Distance between rows of a tile in [`Layout::Rows`], in steps: an odd number of cache lines, so that rows fall into
/// different sets of the cache.
pub(crate) const ROW_STRIDE: usize = DEPTH + 16;

/// How a tile of `A` lies in memory: as it is read from there without turning it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `[row][ROW_STRIDE]`, from a matrix whose rows are whole.
    Rows,
    /// `[step][stride]`, from one whose columns are.
    Steps {
        /// Distance between steps.
        stride: usize,
    },
}

/// Panels of `B` that one task packs: rows of the source are read in longer runs than one panel's.
const PANELS_PER_TASK: usize = 4;
/// Steps lie this far apart where [`PackedA`] is laid out by steps: a whole vector, which packs faster than a tile's rows.
const STEP_STRIDE: usize = 16;

/// Rows of the left-hand operand, packed for one or several products: `[tile][block of DEPTH steps]`, and within that as
/// its layout says.
pub(super) struct PackedA {
    rows: usize,
    steps: usize,
    tile_rows: usize,
    layout: Layout,
    data: Block<u32>,
}

impl PackedA {
    pub(super) fn new(source: Strided<'_>, m: usize, b: &PackedB) -> Self {
        let (k, steps, precision) = (b.k(), b.steps(), b.precision());
        assert!(source.row_stride == 1 || source.column_stride == 1, "rows or columns are whole");
        // As many tiles as must be, of as many rows as each other: a tile of one or two rows has too little to do.
        let tiles = m.div_ceil(tile::max_rows());
        let tile_rows = m.div_ceil(tiles.max(1));
        let layout = match source.column_stride {
            1 => Layout::Rows,
            _ => Layout::Steps { stride: STEP_STRIDE },
        };
        let mut packed = Self { rows: m, steps, tile_rows, layout, data: Block::default() };
        packed.data = Block::stale(tiles * steps.div_ceil(DEPTH) * packed.block_len());
        for from in (0..steps).step_by(DEPTH) {
            let values =
                from * values_per_step(precision)..k.min((from + DEPTH) * values_per_step(precision));
            let data = &source.data[values.start * source.column_stride..];
            let (first, block_len) = (packed.block_at(0, from), packed.block_len());
            match layout {
                Layout::Rows => {
                    for row in 0..m {
                        let at = packed.block_at(row / tile_rows, from) + row % tile_rows * ROW_STRIDE;
                        let row = &data[row * source.row_stride..][..values.len()];
                        pack_row(row, precision, &mut packed.data[at..at + ROW_STRIDE]);
                    }
                }
                Layout::Steps { stride } => {
                    let group_len = steps.div_ceil(DEPTH) * block_len;
                    let place = Lanes { width: stride, apart: tile_rows, groups: tiles, group_len };
                    let out = &mut packed.data[first..];
                    pack_steps(data, source.column_stride, values.len(), m, place, precision, out);
                }
            }
        }
        packed
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn tiles(&self) -> usize {
        self.rows.div_ceil(self.tile_rows.max(1))
    }

    /// Rows of every tile but the last, which may have fewer.
    pub(super) fn tile_rows(&self) -> usize {
        self.tile_rows
    }

    pub(super) fn rows_of(&self, tile: usize) -> usize {
        self.tile_rows.min(self.rows - tile * self.tile_rows)
    }

    /// A tile's steps from `from`, a multiple of [`DEPTH`], to the end of their block.
    pub(super) fn tile(&self, tile: usize, from: usize) -> Left<'_> {
        let data = &self.data[self.block_at(tile, from)..][..self.block_len()];
        Left { data, layout: self.layout, rows: self.rows_of(tile) }
    }

    fn block_at(&self, tile: usize, from: usize) -> usize {
        (tile * self.steps.div_ceil(DEPTH) + from / DEPTH) * self.block_len()
    }

    fn block_len(&self) -> usize {
        match self.layout {
            Layout::Rows => self.tile_rows * ROW_STRIDE,
            Layout::Steps { stride } => DEPTH * stride,
        }
    }
}

/// Values of `k` in a step.
pub(crate) fn values_per_step(precision: Precision) -> usize {
    match precision {
        Precision::F32 => 1,
        Precision::Bf16 => 2,
    }
}

fn steps(k: usize, precision: Precision) -> usize {
    k.div_ceil(values_per_step(precision))
}

multiversion_pairs! {
    /// Writes a row of values as steps.
    pub(crate) fn pack_row<P>(row: &[f32], precision: Precision, out: &mut [u32]) {
        match precision {
            Precision::F32 => {
                for (out, x) in out.iter_mut().zip(row) {
                    *out = x.to_bits();
                }
            }
            Precision::Bf16 => pair_neighbours::<P>(row, out),
        }
    }
}

/// Writes neighbours of a row as pairs; the last may have no partner.
#[inline(always)]
fn pair_neighbours<P: Pairs>(row: &[f32], out: &mut [u32]) {
    let (vectors, rest) = row.as_chunks::<32>();
    let (out, out_rest) = out.split_at_mut(16 * vectors.len());
    for (x, out) in vectors.iter().zip(out.as_chunks_mut::<16>().0) {
        *out = P::of_neighbours(x);
    }
    for (out, pair) in out_rest.iter_mut().zip(rest.chunks(2)) {
        *out = bf16_bits(pair[0]) | pair.get(1).map_or(0, |x| bf16_bits(*x) << 16);
    }
}

/// Where [`pack_steps`] writes: groups of lanes, which may overlap in what they read.
#[derive(Clone, Copy)]
struct Lanes {
    /// Lanes of a group.
    width: usize,
    /// Columns between the first lanes of neighbouring groups.
    apart: usize,
    /// Groups.
    groups: usize,
    /// Elements between groups in the output, where a step's lanes follow the step's before.
    group_len: usize,
}

multiversion_pairs! {
    /// Packs a matrix that lies by steps: `[k][row_stride]`, of which `columns` are packed. A row is read once, whole, for all
    /// groups. Lanes past the last column are zero, or hold what the next group begins with.
    fn pack_steps<P>(data: &[f32], row_stride: usize, k: usize, columns: usize, place: Lanes, precision: Precision, out: &mut [u32]) {
        let Lanes { width, apart, groups, group_len } = place;
        let per_step = values_per_step(precision);
        for step in 0..k.div_ceil(per_step) {
            let low = &data[per_step * step * row_stride..][..columns];
            let high = match per_step == 2 && 2 * step + 1 < k {
                true => &data[(2 * step + 1) * row_stride..][..columns],
                false => &[],
            };
            for group in 0..groups {
                let from = group * apart;
                let out = &mut out[group * group_len + step * width..][..width];
                let (vectors, _) = out.as_chunks_mut::<16>();
                match (precision, low.get(from..from + width), high.get(from..from + width)) {
                    (Precision::F32, Some(low), _) => {
                        for (out, low) in vectors.iter_mut().zip(low.as_chunks::<16>().0) {
                            for i in 0..16 {
                                out[i] = low[i].to_bits();
                            }
                        }
                    }
                    (Precision::Bf16, Some(low), Some(high)) => {
                        let halves = low.as_chunks::<16>().0.iter().zip(high.as_chunks::<16>().0);
                        for (out, (low, high)) in vectors.iter_mut().zip(halves) {
                            *out = P::of_rows(low, high);
                        }
                    }
                    // The last columns, or the last value without a partner.
                    _ => {
                        for (lane, out) in out.iter_mut().enumerate() {
                            let at = |row: &[f32]| row.get(from + lane).copied().unwrap_or(0.0);
                            *out = match precision {
                                Precision::F32 => at(low).to_bits(),
                                Precision::Bf16 => bf16_bits(at(low)) | bf16_bits(at(high)) << 16,
                            };
                        }
                    }
                }
            }
        }
    }
}

multiversion_pairs! {
    /// Writes `lanes` rows of a matrix, `row_stride` apart, as `[step][width]`, zeros in the lanes past the last.
    fn pack_turned<P>(data: &[f32], row_stride: usize, lanes: usize, width: usize, k: usize, precision: Precision, out: &mut [u32]) {
        if lanes < width {
            out.fill(0);
        }
        match precision {
            Precision::F32 => transpose_rows(lanes, width, k, out, |lane, from, block| {
                let row = &data[lane * row_stride + from..lane * row_stride + k.min(from + BLOCK)];
                for (out, x) in block.iter_mut().zip(row) {
                    *out = x.to_bits();
                }
            }),
            Precision::Bf16 => transpose_rows(lanes, width, k.div_ceil(2), out, |lane, from, block| {
                let row = &data[lane * row_stride + 2 * from..lane * row_stride + k.min(2 * (from + BLOCK))];
                pair_neighbours::<P>(row, block);
            }),
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
