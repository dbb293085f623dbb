//! Keys and values laid out as right-hand operands of the tile product.

pub(super) use crate::exp::LANES;
use crate::gemm::Precision;
use crate::gemm::layout::{Right, Step, panel_width};
use crate::gemm::round::{bf16_bits, rounded_bits};
use crate::memory::Block;

/// Keys and values of one head over a run of positions, rounded in the same way as the inputs of products.
///
/// Keys are in panels of 16, `[panel][step of dim][16]`. Values are in rows, `[step of positions][padded dim]`. Where a step
/// is a pair of positions, the earlier one is in the half that is added first. So a sum over positions is the same sequence
/// of additions wherever a block begins.
#[derive(Clone)]
pub struct KvBlock {
    dim: usize,
    step: Step,
    len: usize,
    panels: Block<u32>,
    rows: Block<u32>,
}

impl KvBlock {
    /// Room for `capacity` positions.
    pub fn with_capacity(dim: usize, precision: Precision, capacity: usize) -> Self {
        let step = Step::of(precision);
        Self {
            dim,
            step,
            len: 0,
            panels: Block::uninit(capacity.div_ceil(LANES) * step.count(dim) * LANES),
            rows: Block::uninit(step.count(capacity) * dim.next_multiple_of(LANES)),
        }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a position's key and value, `[dim]` each.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn push(&mut self, key: &[f32], value: &[f32]) {
        let (panel_len, lane) = (self.panel_len(), self.len % LANES);
        let panel = &mut self.panels[self.len / LANES * panel_len..][..panel_len];
        if lane == 0 {
            panel.fill(0);
        }
        let slots = panel[lane..].iter_mut().step_by(LANES);
        match self.step {
            Step::F32 => slots.zip(key).for_each(|(slot, x)| *slot = x.to_bits()),
            Step::Rounded => slots.zip(key).for_each(|(slot, x)| *slot = rounded_bits(*x)),
            Step::Pair => slots.zip(key.chunks(2)).for_each(|(slot, pair)| {
                *slot = bf16_bits(pair[0]) | pair.get(1).map_or(0, |x| bf16_bits(*x) << 16);
            }),
        }
        let padded = self.padded();
        let row = &mut self.rows[self.len / self.step.values() * padded..][..padded];
        match (self.step, self.len % 2) {
            (Step::F32, _) => row.iter_mut().zip(value).for_each(|(slot, x)| *slot = x.to_bits()),
            (Step::Rounded, _) | (Step::Pair, 0) => {
                row.iter_mut().zip(value).for_each(|(slot, x)| *slot = rounded_bits(*x))
            }
            (Step::Pair, _) => row.iter_mut().zip(value).for_each(|(slot, x)| *slot |= bf16_bits(*x)),
        }
        row[value.len()..].fill(0);
        self.len += 1;
    }

    /// What its steps hold.
    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// Columns of the values, rounded up to whole vectors.
    pub(super) fn padded(&self) -> usize {
        self.dim.next_multiple_of(LANES)
    }

    /// Steps of a query.
    pub(super) fn dim_steps(&self) -> usize {
        self.step.count(self.dim)
    }

    /// The first `count` keys, rounded up to whole panels.
    pub(super) fn keys(&self, count: usize) -> Right<'_> {
        Right {
            data: &self.panels,
            width: LANES,
            step_stride: LANES,
            panels: count.div_ceil(LANES),
            panel_stride: self.panel_len(),
            steps: self.dim_steps(),
        }
    }

    /// The values of `count` positions from `from` on; `from` is the first position of a step.
    pub(super) fn values(&self, from: usize, count: usize) -> Right<'_> {
        let (per_step, padded) = (self.step.values(), self.padded());
        columns(&self.rows[from / per_step * padded..], padded, count.div_ceil(per_step))
    }

    fn panel_len(&self) -> usize {
        self.dim_steps() * LANES
    }
}

/// Rows of `padded` columns as panels of the widest tile.
pub(super) fn columns(rows: &[u32], padded: usize, steps: usize) -> Right<'_> {
    let width = if padded.is_multiple_of(panel_width(padded)) { panel_width(padded) } else { LANES };
    Right { data: rows, width, step_stride: padded, panels: padded / width, panel_stride: width, steps }
}
