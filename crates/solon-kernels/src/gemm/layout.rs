//! How operands lie in memory when the tile kernel reads them.
//!
//! A *step* is what one instruction consumes along `k`, in one `u32`: an f32, or a pair of bf16. `B` is cut into panels of
//! columns, `A` into tiles of rows.

use super::operand::Precision;
use crate::isa::{Isa, isa};

/// What a step holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An f32 as it is.
    F32,
    /// An f32 that was rounded to bf16: for processors that do not multiply bf16. The f32 kernels take it.
    Rounded,
    /// Two bf16, the first in the lower half.
    Pair,
}

impl Step {
    /// What steps hold here for products whose inputs are rounded to `precision`.
    pub(crate) fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Step::F32,
            Precision::Bf16 if isa().has_bf16() => Step::Pair,
            Precision::Bf16 => Step::Rounded,
        }
    }

    /// Values of `k` in a step.
    pub(crate) fn values(self) -> usize {
        match self {
            Step::F32 | Step::Rounded => 1,
            Step::Pair => 2,
        }
    }

    /// Steps that hold `k` values.
    pub(crate) fn count(self, k: usize) -> usize {
        k.div_ceil(self.values())
    }
}

/// Steps of `A` that lie together, and most between two visits to a tile of `C`: a panel of `B` this deep stays in the
/// first-level cache while every tile passes.
pub(crate) const DEPTH: usize = 512;
/// Distance between rows of a tile in [`Layout::Rows`], in steps: an odd number of cache lines, so that rows fall into
/// different sets of the cache.
pub(crate) const ROW_STRIDE: usize = DEPTH + 16;
/// Tiles of rows of `A` per task, so that a panel of `B` is read once from L2 for all of them and they stay in L2
/// themselves while every panel passes.
pub(crate) const TILES_PER_TASK: usize = 8;
/// The largest tile of any instruction set.
pub(crate) const MAX_ROWS: usize = 14;
/// The widest panel of any instruction set.
pub(crate) const MAX_COLUMNS: usize = 32;

/// Most rows of a tile of `A`.
pub(crate) fn max_rows() -> usize {
    match isa() {
        Isa::Avx512Bf16 | Isa::Avx512 => 14,
        Isa::Avx2 | Isa::Portable => 6,
    }
}

/// Columns of a panel of a `B` with `n` columns.
pub(crate) fn panel_width(n: usize) -> usize {
    match isa() {
        Isa::Avx512Bf16 | Isa::Avx512 if n > 16 => 32,
        _ => 16,
    }
}

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

/// A tile of `A`: at most [`max_rows`] rows.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    /// As the layout says.
    pub data: &'a [u32],
    /// How rows and steps lie.
    pub layout: Layout,
    /// Rows.
    pub rows: usize,
}

/// One or several panels of `B` of [`panel_width`] columns. `T` is what a step is stored as: a `u32`, or int8 that is
/// widened to one when it is read.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a, T = u32> {
    /// Element (panel, step, column) is at `panel * panel_stride + step * step_stride + column`.
    pub data: &'a [T],
    /// Columns: 16, or 32 where [`panel_width`] gives that.
    pub width: usize,
    /// Distance between steps.
    pub step_stride: usize,
    /// Panels.
    pub panels: usize,
    /// Distance between panels.
    pub panel_stride: usize,
    /// Steps.
    pub steps: usize,
}

impl<'a, T> Right<'a, T> {
    /// One panel of steps that follow each other.
    pub(crate) fn panel(data: &'a [T], width: usize, steps: usize) -> Self {
        Self { data, width, step_stride: width, panels: 1, panel_stride: 0, steps }
    }
}

/// Where a tile's product goes: element (panel, row, column) is at `panel * panel_stride + row * row_stride + column`.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between panels.
    pub panel_stride: usize,
    /// Whether the sums go on from what is there.
    pub start_from_output: bool,
}
