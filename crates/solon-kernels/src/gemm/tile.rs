//! The innermost product: a few rows by one panel of columns, all accumulators in registers.
//!
//! AVX-512: 14 rows by 32 columns, 28 accumulators, two loads of `B` and 14 broadcasts of `A` a step; 16 columns where the
//! matrix has no more. AVX2: 6 by 16. Elsewhere the same in plain Rust. The number of rows is a constant of each instance,
//! so a decode step with one row does the work of one row.

use super::layout::{Layout, Left, Place, ROW_STRIDE, Right, Step, max_rows};
use super::widen;
use crate::isa::{Isa, isa};
use crate::parallel::SharedOutput;

/// Calls the instance of a kernel for a tile's rows and layout.
#[cfg(target_arch = "x86_64")]
macro_rules! by_rows {
    ($kernel:ident, $vectors:literal, ($left:ident, $right:ident, $c:ident, $place:ident), $($n:literal)*) => {
        match ($left.rows, $left.layout) {
            $(
                // SAFETY: `c` holds every element of the tile (the caller's promise or check), `check` saw that `left` and
                // `right` hold what is read of them, and `isa()` that the processor has the instructions.
                ($n, Layout::Rows) => unsafe {
                    $kernel::<$n, $vectors, ROW_STRIDE>($left.data, 1, $right, $c, $place)
                },
                // SAFETY: as above.
                ($n, Layout::Steps { stride }) => unsafe {
                    $kernel::<$n, $vectors, 1>($left.data, stride, $right, $c, $place)
                },
            )*
            _ => unreachable!("a tile has at most {} rows, not {}", max_rows(), $left.rows),
        }
    };
}

/// Panics unless the operands hold everything that the kernels read: up to the last row's last step, and the last panel's.
fn check<T>(left: Left<'_>, right: Right<'_, T>) {
    let Left { data, layout, rows } = left;
    assert!(rows > 0 && right.panels > 0, "a tile of nothing");
    let last = match layout {
        Layout::Rows => (rows - 1) * ROW_STRIDE + right.steps,
        Layout::Steps { stride } => right.steps.saturating_sub(1) * stride + rows,
    };
    assert!(last <= data.len(), "a tile of A ends at {last} of {}", data.len());
    let last = (right.panels - 1) * right.panel_stride
        + right.steps.saturating_sub(1) * right.step_stride
        + right.width;
    assert!(
        last <= right.data.len() || right.steps == 0,
        "a panel of B ends at {last} of {}",
        right.data.len()
    );
}

/// One past the last element of the product of `left` and `right` at `place`.
fn end<T>(left: Left<'_>, right: Right<'_, T>, place: Place) -> usize {
    (right.panels - 1) * place.panel_stride + (left.rows - 1) * place.row_stride + right.width
}

/// `c (+)= A tile · B panels`, into a slice that holds the whole result.
pub(crate) fn product(left: Left<'_>, right: Right<'_>, kind: Step, c: &mut [f32], place: Place) {
    if right.panels == 0 || left.rows == 0 {
        return;
    }
    let last = end(left, right, place);
    assert!(last <= c.len(), "a tile ends at {last} of {}", c.len());
    // SAFETY: just checked, and `c` is borrowed for this call alone.
    unsafe { multiply(left, right, kind, SharedOutput::new(c), place) }
}

/// As [`product`] in bf16, with one panel of pairs of int8, placed as `widen.rs` says, which are widened as they are read.
///
/// # Panics
/// Where there is no such kernel: ask [`widen::in_registers`].
pub(crate) fn product_int8(left: Left<'_>, right: Right<'_, [i8; 2]>, c: &mut [f32], place: Place) {
    check(left, right);
    assert!(widen::in_registers(Step::Pair, right.width), "{} has no kernel for int8", isa().name());
    let last = end(left, right, place);
    assert!(right.panels == 1 && last <= c.len(), "a tile ends at {last} of {}", c.len());
    #[cfg(target_arch = "x86_64")]
    {
        let c = c.as_mut_ptr();
        by_rows!(avx512_int8, 2, (left, right, c, place), 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

/// `c (+)= A tile · B panels`.
///
/// # Panics
/// If what is said of `left` and `right` does not fit their data, or there is no row or no panel.
///
/// # Safety
/// Every element that `place` gives must lie in `c` (checked in debug builds), and nobody else may touch them meanwhile.
pub(crate) unsafe fn multiply(
    left: Left<'_>,
    right: Right<'_>,
    kind: Step,
    c: SharedOutput<'_>,
    place: Place,
) {
    check(left, right);
    // SAFETY: the caller's promise.
    let c = unsafe { c.at(0, end(left, right, place)) };
    match (isa(), kind, right.width) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16, Step::Pair, 32) => {
            by_rows!(avx512_bf16, 2, (left, right, c, place), 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
        }
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16, Step::Pair, 16) => {
            by_rows!(avx512_bf16, 1, (left, right, c, place), 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
        }
        (_, Step::Pair, _) => unreachable!("{} does not multiply pairs", isa().name()),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16 | Isa::Avx512, _, 32) => {
            by_rows!(avx512_f32, 2, (left, right, c, place), 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
        }
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16 | Isa::Avx512, _, 16) => {
            by_rows!(avx512_f32, 1, (left, right, c, place), 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
        }
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, _, 16) => by_rows!(avx2_f32, 2, (left, right, c, place), 1 2 3 4 5 6),
        // SAFETY: the caller's promise about `c`.
        (_, _, 32) => unsafe { portable::<32>(left, right, c, place) },
        // SAFETY: the caller's promise about `c`.
        (_, _, 16) => unsafe { portable::<16>(left, right, c, place) },
        (_, _, width) => unreachable!("a panel has 16 or 32 columns, not {width}"),
    }
}

/// One kernel for each instruction set and form of `B`: `R` rows by `V` vectors of columns; element (row, step) of `a` is
/// at `row * ROW + step * a_step`.
macro_rules! kernel {
    (
        $(#[$meta:meta])* $name:ident, $features:literal, $element:ty, $step:ty, $lanes:literal,
        zero $zero:expr, load $load:expr, store $store:expr, read $read:expr, spread $spread:expr, add $add:expr
    ) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// As [`multiply`], which checked `a` and `right`; needs the instructions it is compiled for.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<const R: usize, const V: usize, const ROW: usize>(
            a: &[u32],
            a_step: usize,
            right: Right<'_, $step>,
            c: *mut f32,
            place: Place,
        ) {
            use std::arch::x86_64::*;
            let stride = place.row_stride;
            for panel in 0..right.panels {
                // SAFETY: the caller's promise covers every access to `c`; `a` and `b` were checked to hold every step.
                unsafe {
                    let c = c.add(panel * place.panel_stride);
                    let mut acc = [[$zero; V]; R];
                    if place.start_from_output {
                        for r in 0..R {
                            for v in 0..V {
                                acc[r][v] = $load(c.add(r * stride + v * $lanes));
                            }
                        }
                    }
                    let mut pa = a.as_ptr().cast::<$element>();
                    let mut pb = right.data.as_ptr().wrapping_add(panel * right.panel_stride);
                    for _ in 0..right.steps {
                        let mut columns = [$read(pb, 0); V];
                        for v in 1..V {
                            columns[v] = $read(pb, v);
                        }
                        for r in 0..R {
                            let x = $spread(*pa.add(r * ROW));
                            for v in 0..V {
                                acc[r][v] = $add(acc[r][v], x, columns[v]);
                            }
                        }
                        pa = pa.wrapping_add(a_step);
                        pb = pb.wrapping_add(right.step_stride);
                    }
                    for r in 0..R {
                        for v in 0..V {
                            $store(c.add(r * stride + v * $lanes), acc[r][v]);
                        }
                    }
                }
            }
        }
    };
}

kernel!(
    /// Pairs of bf16: `vdpbf16ps` adds a pair's second product first.
    avx512_bf16, "avx512f,avx512bf16", i32, u32, 16,
    zero _mm512_setzero_ps(), load _mm512_loadu_ps, store _mm512_storeu_ps,
    read |p: *const u32, v: usize| {
        std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(p.cast::<__m512i>().add(v)))
    },
    spread |x| std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x)),
    add |sum, x, b| _mm512_dpbf16_ps(sum, x, b)
);

kernel!(
    /// The same with pairs of int8, of two vectors of columns at a time.
    avx512_int8, "avx512f,avx512bw,avx512vbmi,avx512bf16", i32, [i8; 2], 16,
    zero _mm512_setzero_ps(), load _mm512_loadu_ps, store _mm512_storeu_ps,
    read |p: *const [i8; 2], v: usize| {
        std::mem::transmute::<__m512i, __m512bh>(widen::widened_pairs(p.cast())[v])
    },
    spread |x| std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x)),
    add |sum, x, b| _mm512_dpbf16_ps(sum, x, b)
);

kernel!(
    /// f32 in vectors of 16.
    avx512_f32, "avx512f", f32, u32, 16,
    zero _mm512_setzero_ps(), load _mm512_loadu_ps, store _mm512_storeu_ps,
    read |p: *const u32, v: usize| _mm512_loadu_ps(p.cast::<f32>().add(16 * v)), spread _mm512_set1_ps, add |sum, x, b| _mm512_fmadd_ps(x, b, sum)
);

kernel!(
    /// f32 in vectors of 8.
    avx2_f32, "avx2,fma", f32, u32, 8,
    zero _mm256_setzero_ps(), load _mm256_loadu_ps, store _mm256_storeu_ps,
    read |p: *const u32, v: usize| _mm256_loadu_ps(p.cast::<f32>().add(8 * v)), spread _mm256_set1_ps, add |sum, x, b| _mm256_fmadd_ps(x, b, sum)
);

/// f32 in plain Rust.
///
/// # Safety
/// As [`multiply`].
unsafe fn portable<const W: usize>(left: Left<'_>, right: Right<'_>, c: *mut f32, place: Place) {
    let (row_stride, step_stride) = match left.layout {
        Layout::Rows => (ROW_STRIDE, 1),
        Layout::Steps { stride } => (1, stride),
    };
    for (panel, row) in (0..right.panels).flat_map(|panel| (0..left.rows).map(move |row| (panel, row))) {
        // SAFETY: the caller's promise about `c`; the slice is this call's alone.
        let out = unsafe {
            let c = c.add(panel * place.panel_stride + row * place.row_stride);
            std::slice::from_raw_parts_mut(c, W)
        };
        let mut acc = [0.0_f32; W];
        if place.start_from_output {
            acc.copy_from_slice(out);
        }
        for step in 0..right.steps {
            let x = f32::from_bits(left.data[row * row_stride + step * step_stride]);
            let b = &right.data[panel * right.panel_stride + step * right.step_stride..][..W];
            for i in 0..W {
                acc[i] = x.mul_add(f32::from_bits(b[i]), acc[i]);
            }
        }
        out.copy_from_slice(&acc);
    }
}
