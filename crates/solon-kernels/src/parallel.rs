//! Splitting outputs between threads. Only output axes are ever split, so the number of threads changes no bit.

use crate::threads;
use std::marker::PhantomData;

/// Work on fewer elements than this runs on the calling thread: handing out parts would cost more than it saves.
const SMALL: usize = 16 * 1024;

/// Rows per task that give each thread a few tasks and no task less than [`SMALL`] elements.
pub fn rows_per_task(rows: usize, width: usize) -> usize {
    let by_size = SMALL.div_ceil(width.max(1));
    let by_threads = rows.div_ceil(4 * threads::count());
    by_size.max(by_threads).max(1)
}

/// Calls `f(number, chunk)` for each run of `len` elements of `out`, of which the last may be shorter.
pub fn for_chunks<T: Send>(out: &mut [T], len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let total = out.len();
    let out = SharedOutput::new(out);
    threads::for_each(total.div_ceil(len), |i| {
        // SAFETY: the run ends with the output at the latest, and this task alone has it.
        f(i, unsafe { out.slice(i * len, len.min(total - i * len)) });
    });
}

/// Calls `f(first_row, rows_of_out)` over disjoint runs of rows of `out` (`[rows, width]`).
pub fn for_rows(out: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = out.len() / width.max(1);
    let step = rows_per_task(rows, width);
    if rows <= step || threads::count() == 1 {
        return f(0, out);
    }
    for_chunks(out, step * width, |i, chunk| f(i * step, chunk));
}

/// As [`for_rows`] with two outputs of the same number of rows.
pub fn for_rows2(
    a: &mut [f32],
    a_width: usize,
    b: &mut [f32],
    b_width: usize,
    f: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let rows = a.len() / a_width.max(1);
    assert_eq!(b.len(), rows * b_width);
    let step = rows_per_task(rows, a_width.max(b_width));
    if rows <= step || threads::count() == 1 {
        return f(0, a, b);
    }
    let b = SharedOutput::new(b);
    for_chunks(a, step * a_width, |i, a| {
        // SAFETY: as many rows of `b` as of `a`, which this task alone has.
        f(i * step, a, unsafe { b.slice(i * step * b_width, a.len() / a_width * b_width) });
    });
}

/// An output that several tasks write at places that never overlap. It borrows the output for as long as it lives.
pub(crate) struct SharedOutput<'a, T = f32> {
    start: *mut T,
    len: usize,
    output: PhantomData<&'a mut [T]>,
}

impl<T> Clone for SharedOutput<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedOutput<'_, T> {}

impl<'a, T> SharedOutput<'a, T> {
    pub(crate) fn new(output: &'a mut [T]) -> Self {
        Self { start: output.as_mut_ptr(), len: output.len(), output: PhantomData }
    }

    /// What follows element `offset`.
    ///
    /// # Panics
    /// If there is no such element.
    pub(crate) fn from(self, offset: usize) -> Self {
        assert!(offset <= self.len, "element {offset} of {}", self.len);
        // SAFETY: just checked to be inside.
        Self { start: unsafe { self.start.add(offset) }, len: self.len - offset, ..self }
    }

    /// Where `count` elements from `offset` on begin; checked in debug builds.
    ///
    /// # Safety
    /// They must lie inside the output.
    pub(crate) unsafe fn at(self, offset: usize, count: usize) -> *mut T {
        debug_assert!(offset + count <= self.len, "{offset} and {count} more of {}", self.len);
        // SAFETY: the caller's promise.
        unsafe { self.start.add(offset) }
    }

    /// `count` elements from `offset` on; checked in debug builds.
    ///
    /// # Safety
    /// They must lie inside the output, and belong to this task alone as long as the slice lives.
    pub(crate) unsafe fn slice(self, offset: usize, count: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset, count), count) }
    }
}

// SAFETY: every user of `SharedOutput` writes a set of elements that belongs to one task alone.
unsafe impl<T: Send> Send for SharedOutput<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedOutput<'_, T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_outputs_are_cut_at_the_same_rows() {
        threads::with_threads(2, || {
            let rows = 3 * SMALL + 7;
            let (mut wide, mut narrow) = (vec![0.0; 3 * rows], vec![0.0; rows]);
            for_rows2(&mut wide, 3, &mut narrow, 1, |first, wide, narrow| {
                for (i, (wide, narrow)) in wide.chunks_exact_mut(3).zip(narrow).enumerate() {
                    wide[2] += (first + i) as f32;
                    *narrow += (first + i) as f32;
                }
            });
            assert!(narrow.iter().enumerate().all(|(i, x)| *x == i as f32));
            assert!(wide.chunks_exact(3).enumerate().all(|(i, row)| *row == [0.0, 0.0, i as f32]));
        });
    }
}
