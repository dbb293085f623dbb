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

/// An output that several tasks write at places that never overlap.
#[derive(Clone, Copy)]
pub(crate) struct SharedOutput {
    start: *mut f32,
    len: usize,
}

impl SharedOutput {
    pub(crate) fn new(output: &mut [f32]) -> Self {
        Self { start: output.as_mut_ptr(), len: output.len() }
    }

    /// What follows element `offset`.
    ///
    /// # Panics
    /// If there is no such element.
    pub(crate) fn from(self, offset: usize) -> Self {
        assert!(offset <= self.len);
        // SAFETY: just checked to be inside.
        Self { start: unsafe { self.start.add(offset) }, len: self.len - offset }
    }

    /// Where `count` elements from `offset` on begin; checked in debug builds.
    ///
    /// # Safety
    /// They must lie inside the output.
    pub(crate) unsafe fn at(self, offset: usize, count: usize) -> *mut f32 {
        debug_assert!(offset + count <= self.len, "{offset} and {count} more of {}", self.len);
        // SAFETY: the caller's promise.
        unsafe { self.start.add(offset) }
    }

    /// `count` elements from `offset` on.
    ///
    /// # Safety
    /// They must lie inside the output, and belong to this task alone as long as the slice lives.
    pub(crate) unsafe fn slice<'a>(self, offset: usize, count: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset, count), count) }
    }
}

// SAFETY: every user of `SharedOutput` writes a set of elements that belongs to one task alone.
unsafe impl Send for SharedOutput {}
// SAFETY: as above.
unsafe impl Sync for SharedOutput {}
