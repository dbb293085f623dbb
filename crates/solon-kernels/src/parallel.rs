//! Splitting output rows between threads. Only output axes are ever split, so the number of threads changes no bit.

use rayon::prelude::*;

/// Work below this many elements runs on the calling thread: waking another costs more than it saves.
const SMALL: usize = 16 * 1024;

/// Rows per task that give each thread a few tasks and no task less than [`SMALL`] elements.
pub fn rows_per_task(rows: usize, width: usize) -> usize {
    let by_size = SMALL.div_ceil(width.max(1));
    let by_threads = rows.div_ceil(4 * rayon::current_num_threads());
    by_size.max(by_threads).max(1)
}

/// Calls `f(first_row, rows_of_out)` over disjoint runs of rows of `out` (`[rows, width]`).
pub fn for_rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    let rows = out.len() / width.max(1);
    let step = rows_per_task(rows, width);
    if rows <= step || rayon::current_num_threads() == 1 {
        return f(0, out);
    }
    out.par_chunks_mut(step * width).enumerate().for_each(|(i, chunk)| f(i * step, chunk));
}

/// As [`for_rows`] with two outputs of the same number of rows.
pub fn for_rows2(
    a: &mut [f32],
    a_width: usize,
    b: &mut [f32],
    b_width: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync + Send,
) {
    let rows = a.len() / a_width.max(1);
    let step = rows_per_task(rows, a_width.max(b_width));
    if rows <= step || rayon::current_num_threads() == 1 {
        return f(0, a, b);
    }
    a.par_chunks_mut(step * a_width)
        .zip(b.par_chunks_mut(step * b_width))
        .enumerate()
        .for_each(|(i, (a, b))| f(i * step, a, b));
}

/// A pointer to an output that several tasks write at places that never overlap.
#[derive(Clone, Copy)]
pub(crate) struct SharedOutput(pub *mut f32);

// SAFETY: every user of `SharedOutput` writes a set of elements that belongs to one task alone.
unsafe impl Send for SharedOutput {}
// SAFETY: as above.
unsafe impl Sync for SharedOutput {}
