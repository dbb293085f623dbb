//! Operands of a product, packed in the order in which the tile kernel reads them (`layout.rs`).
//!
//! `B` is `[panel][step][column]`; tiles of `A` lie as the source does. Whole pairs and whole panels are filled up with
//! zeros, and a zero term changes no sum.

use super::int8::Int8Panels;
use super::layout::{DEPTH, Layout, Left, MAX_COLUMNS, ROW_STRIDE, Right, Step, max_rows, panel_width};
use super::operand::{Precision, Strided};
use super::round::{Pairs, bf16_bits, multiversion_pairs, rounded_bits};
use crate::memory::Block;
use crate::parallel::for_chunks;

/// The right-hand operand, `[k, n]`.
#[derive(Clone)]
pub struct PackedB {
    n: usize,
    k: usize,
    width: usize,
    precision: Precision,
    step: Step,
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
        Self::of_steps(source, k, n, precision, Step::of(precision))
    }

    pub(super) fn of_steps(
        source: Strided<'_>,
        k: usize,
        n: usize,
        precision: Precision,
        step: Step,
    ) -> Self {
        let width = panel_width(n);
        let values = Values::Full(Block::uninit(n.div_ceil(width) * step.count(k) * width));
        let mut packed = Self { n, k, width, precision, step, values };
        packed.repack(source);
        packed
    }

    /// Rounds a `[k, n]` matrix whose columns are whole to int8, each column by a scale of its own, and packs that for
    /// products with rows rounded to `precision`.
    pub fn int8(source: Strided<'_>, k: usize, n: usize, precision: Precision) -> Self {
        let (width, step) = (panel_width(n), Step::of(precision));
        let panel_len = step.count(k) * step.values() * width;
        let values = Values::Int8(Int8Panels::uninit(n.div_ceil(width), panel_len, width));
        let mut packed = Self { n, k, width, precision, step, values };
        packed.repack(source);
        packed
    }

    /// Packs new values of the same shape into the same memory.
    pub fn repack(&mut self, source: Strided<'_>) {
        let (k, n, width, kind) = (self.k, self.n, self.width, self.step);
        let panel_len = (self.steps() * width).max(1);
        let Strided { data, row_stride, column_stride } = source;
        assert!(row_stride == 1 || column_stride == 1, "rows or columns are whole");
        let packed = match &mut self.values {
            Values::Full(packed) => packed,
            Values::Int8(panels) => return panels.quantise(source, k, n, kind),
        };
        for_chunks(packed, PANELS_PER_TASK * panel_len, |task, out| {
            let first = task * PANELS_PER_TASK * width;
            let columns = (PANELS_PER_TASK * width).min(n - first);
            if column_stride == 1 {
                let place =
                    Lanes { width, apart: width, groups: out.len() / panel_len, group_len: panel_len };
                pack_steps(&data[first..], row_stride, k, columns, place, kind, out);
                return;
            }
            for (panel, out) in out.chunks_exact_mut(panel_len).enumerate() {
                let from = panel * width;
                // (lane, k) of the panel is (k, first + from + lane) of the matrix.
                let rows = &data[(first + from) * column_stride..];
                pack_turned(rows, column_stride, width.min(columns - from), width, k, kind, out);
            }
        });
    }

    /// Bytes that a value takes in what [`PackedB::new`] packs. bf16 takes as many as f32 where the processor does not
    /// multiply it.
    pub fn value_bytes(precision: Precision) -> usize {
        size_of::<u32>() / Step::of(precision).values()
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

    /// What its steps hold.
    pub(super) fn step(&self) -> Step {
        self.step
    }

    pub(super) fn steps(&self) -> usize {
        self.step.count(self.k)
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

/// Panels of `B` that one task packs. More than one, so that rows of the source are read in longer runs.
const PANELS_PER_TASK: usize = 4;
/// Distance between steps where [`PackedA`] is laid out by steps. A whole vector packs faster than exactly a tile's rows.
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
        let (k, steps, kind) = (b.k(), b.steps(), b.step());
        assert!(source.row_stride == 1 || source.column_stride == 1, "rows or columns are whole");
        // As many tiles as must be, of as many rows as each other: a tile of one or two rows has too little to do.
        let tiles = m.div_ceil(max_rows());
        let tile_rows = m.div_ceil(tiles.max(1));
        let layout = match source.column_stride {
            1 => Layout::Rows,
            _ => Layout::Steps { stride: STEP_STRIDE },
        };
        let mut packed = Self { rows: m, steps, tile_rows, layout, data: Block::default() };
        packed.data = Block::uninit(tiles * steps.div_ceil(DEPTH) * packed.block_len());
        for from in (0..steps).step_by(DEPTH) {
            let values = from * kind.values()..k.min((from + DEPTH) * kind.values());
            let data = &source.data[values.start * source.column_stride..];
            let (first, block_len) = (packed.block_at(0, from), packed.block_len());
            match layout {
                Layout::Rows => {
                    for row in 0..m {
                        let at = packed.block_at(row / tile_rows, from) + row % tile_rows * ROW_STRIDE;
                        let row = &data[row * source.row_stride..][..values.len()];
                        pack_row(row, kind, &mut packed.data[at..at + ROW_STRIDE]);
                    }
                }
                Layout::Steps { stride } => {
                    let group_len = steps.div_ceil(DEPTH) * block_len;
                    let place = Lanes { width: stride, apart: tile_rows, groups: tiles, group_len };
                    let out = &mut packed.data[first..];
                    pack_steps(data, source.column_stride, values.len(), m, place, kind, out);
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

multiversion_pairs! {
    /// Writes a row of values as steps.
    pub(crate) fn pack_row<P>(row: &[f32], kind: Step, out: &mut [u32]) {
        match kind {
            Step::F32 => {
                for (out, x) in out.iter_mut().zip(row) {
                    *out = x.to_bits();
                }
            }
            Step::Rounded => {
                for (out, x) in out.iter_mut().zip(row) {
                    *out = rounded_bits(*x);
                }
            }
            Step::Pair => pair_neighbours::<P>(row, out),
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
    /// Packs `columns` columns of a matrix `[k][row_stride]`. Each row is read once for all groups. Lanes past the last column
    /// are zero, or hold the first columns of the next group.
    fn pack_steps<P>(data: &[f32], row_stride: usize, k: usize, columns: usize, place: Lanes, kind: Step, out: &mut [u32]) {
        let Lanes { width, apart, groups, group_len } = place;
        let per_step = kind.values();
        for step in 0..k.div_ceil(per_step) {
            let low = &data[per_step * step * row_stride..][..columns];
            let high = match per_step == 2 && 2 * step + 1 < k {
                true => &data[(2 * step + 1) * row_stride..][..columns],
                false => &[],
            };
            for group in 0..groups {
                let from = group * apart;
                let out = &mut out[group * group_len + step * width..][..width];
                match (kind, low.get(from..from + width), high.get(from..from + width)) {
                    (Step::F32, Some(low), _) => {
                        for (out, x) in out.iter_mut().zip(low) {
                            *out = x.to_bits();
                        }
                    }
                    (Step::Rounded, Some(low), _) => {
                        for (out, x) in out.iter_mut().zip(low) {
                            *out = rounded_bits(*x);
                        }
                    }
                    (Step::Pair, Some(low), Some(high)) => {
                        let halves = low.as_chunks::<16>().0.iter().zip(high.as_chunks::<16>().0);
                        for (out, (low, high)) in out.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
                            *out = P::of_rows(low, high);
                        }
                    }
                    // The last columns, or the last value without a partner.
                    _ => {
                        for (lane, out) in out.iter_mut().enumerate() {
                            let at = |row: &[f32]| row.get(from + lane).copied().unwrap_or(0.0);
                            *out = match kind {
                                Step::F32 => at(low).to_bits(),
                                Step::Rounded => rounded_bits(at(low)),
                                Step::Pair => bf16_bits(at(low)) | bf16_bits(at(high)) << 16,
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
    fn pack_turned<P>(data: &[f32], row_stride: usize, lanes: usize, width: usize, k: usize, kind: Step, out: &mut [u32]) {
        if lanes < width {
            out.fill(0);
        }
        match kind {
            Step::F32 => transpose_rows(lanes, width, k, out, |lane, from, block| {
                let row = &data[lane * row_stride + from..lane * row_stride + k.min(from + BLOCK)];
                for (out, x) in block.iter_mut().zip(row) {
                    *out = x.to_bits();
                }
            }),
            Step::Rounded => transpose_rows(lanes, width, k, out, |lane, from, block| {
                let row = &data[lane * row_stride + from..lane * row_stride + k.min(from + BLOCK)];
                for (out, x) in block.iter_mut().zip(row) {
                    *out = rounded_bits(*x);
                }
            }),
            Step::Pair => transpose_rows(lanes, width, k.div_ceil(2), out, |lane, from, block| {
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
    let mut blocks = [[0_u32; BLOCK]; MAX_COLUMNS];
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
