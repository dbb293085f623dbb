//! Weights in int8, for models that only run forward: a quarter of the memory of f32 to hold and to read.
//!
//! Only weights are rounded, symmetrically, with one scale for each output channel (a column of `B`): "absmax", with the rows
//! as they are (Dettmers et al. 2022, §2). `int8_product.rs` multiplies them.

use super::layout::{DEPTH, Step};
use super::operand::Strided;
use super::widen;
use crate::memory::Block;
use crate::parallel::{SharedOutput, for_chunks};

/// The largest whole number. The range is symmetric, so a scale alone undoes the rounding.
const LARGEST: f32 = 127.0;

/// Panels of int8 as `[panel][step][column]`, a step being one value or a pair, of columns at their
/// [`widen::place`].
#[derive(Clone)]
pub(super) struct Int8Panels {
    width: usize,
    panel_len: usize,
    values: Block<i8>,
    /// The scale of each column: the value of 1. Zero past the last column.
    scales: Block<f32>,
}

impl Int8Panels {
    /// Panels of `panel_len` values each, for [`Int8Panels::quantise`] to fill.
    pub(super) fn uninit(panels: usize, panel_len: usize, width: usize) -> Self {
        let (values, scales) = (Block::uninit(panels * panel_len), Block::uninit(panels * width));
        Self { width, panel_len, values, scales }
    }

    /// Rounds a `[k, n]` matrix.
    ///
    /// # Panics
    /// If its columns are not whole.
    pub(super) fn quantise(&mut self, source: Strided<'_>, k: usize, n: usize, kind: Step) {
        let Strided { data, row_stride, column_stride } = source;
        assert_eq!(row_stride, 1, "output channels are whole");
        let width = self.width;
        let scales = SharedOutput::new(&mut self.scales);
        for_chunks(&mut self.values, self.panel_len.max(1), |panel, out| {
            let first = panel * width;
            // SAFETY: a panel has as many scales as columns, and this task alone has the panel.
            let scales = unsafe { scales.slice(first, width) };
            let lanes = width.min(n - first);
            quantise_panel(&data[first * column_stride..], column_stride, lanes, k, kind, out, scales);
        });
    }

    /// Prefetches the block that follows step `from` of a panel (the next panel's where this one ends). Memory would otherwise
    /// be idle while values are multiplied, because those come from the cache.
    pub(super) fn prefetch(&self, panel: usize, per_step: usize, from: usize) {
        let next = &self.values[panel * self.panel_len + from * self.width * per_step..];
        #[cfg(target_arch = "x86_64")]
        for line in next.chunks(64).take(DEPTH * self.width * per_step / 64) {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            // SAFETY: a hint, about an address inside the slice; every x86-64 processor has it.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr()) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = next;
    }

    /// The scale of each column of a panel.
    pub(super) fn scales(&self, panel: usize) -> &[f32] {
        &self.scales[panel * self.width..][..self.width]
    }

    /// A panel's values, of `per_step` a column, `count` steps from step `from` on.
    pub(super) fn panel(&self, panel: usize, per_step: usize, from: usize, count: usize) -> &[i8] {
        let step_len = self.width * per_step;
        &self.values[panel * self.panel_len + from * step_len..][..count * step_len]
    }
}

multiversion! {
    /// Rounds `lanes` rows, `row_stride` apart, of `k` values, and lays them out by steps; one scale a lane.
    fn quantise_panel(rows: &[f32], row_stride: usize, lanes: usize, k: usize, kind: Step, out: &mut [i8], scales: &mut [f32]) {
        let (width, per_step) = (scales.len(), kind.values());
        out.fill(0);
        scales.fill(0.0);
        for lane in 0..lanes {
            let row = &rows[lane * row_stride..][..k];
            // As bits, because NaN is the largest of those: a weight that is no number gives outputs that are none.
            let largest = row.iter().fold(0, |max: u32, x| max.max(x.abs().to_bits()));
            let scale = f32::from_bits(largest) / LARGEST;
            scales[lane] = scale;
            // Zeros, or so small that their scale is.
            if scale == 0.0 {
                continue;
            }
            let place = widen::place(lane, width, kind);
            for (step, values) in row.chunks(per_step).enumerate() {
                let at = (step * width + place) * per_step;
                for (out, x) in out[at..at + per_step].iter_mut().zip(values) {
                    *out = (x / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Precision;
    use crate::reference;
    use solon_draws::Draws;

    /// The rounded values of column `j`, as they are read back from the panels.
    fn column(panels: &Int8Panels, j: usize, k: usize, kind: Step) -> (Vec<i8>, f32) {
        let (panel, lane) = (j / panels.width, j % panels.width);
        let (place, per_step) = (widen::place(lane, panels.width, kind), kind.values());
        let values = &panels.values[panel * panels.panel_len..][..panels.panel_len];
        let at = |t: usize| values[(t / per_step * panels.width + place) * per_step + t % per_step];
        ((0..k).map(at).collect(), panels.scales(panel)[lane])
    }

    #[test]
    fn rounding_is_the_references_and_off_by_half_a_step_at_most() {
        // Odd `k`, and last panels that are not full.
        for (n, k) in [(1, 1), (5, 7), (33, 65), (200, 576)] {
            let draws = Draws::new(1, "int8");
            let mut w: Vec<f32> = (0..(n * k) as u64).map(|i| 2.0 * draws.uniform(i) as f32 - 1.0).collect();
            // Channels of very different size, one of nothing, one that rounds to nothing.
            w.chunks_exact_mut(k).enumerate().for_each(|(j, row)| {
                let size = match j {
                    3 => 0.0,
                    4 => 1e-44,
                    _ => 10_f32.powi(j as i32 % 7 - 3),
                };
                row.iter_mut().for_each(|x| *x *= size);
            });
            for kind in [Step::F32, Step::of(Precision::Bf16)] {
                let width = 32;
                let mut panels =
                    Int8Panels::uninit(n.div_ceil(width), kind.count(k) * kind.values() * width, width);
                panels.quantise(Strided::transposed(&w, k), k, n, kind);
                for (j, row) in w.chunks_exact(k).enumerate() {
                    let (values, scale) = column(&panels, j, k, kind);
                    assert_eq!((&values, scale), (&reference::quantise(row).0, reference::quantise(row).1));
                    for (x, value) in row.iter().zip(&values) {
                        let off = (x - scale * f32::from(*value)).abs();
                        assert!(j == 4 || off <= 0.5001 * scale, "{x} became {value} of {scale}");
                    }
                }
            }
        }
    }
}
