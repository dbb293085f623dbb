//! The innermost product: a few rows by one panel of columns, all accumulators in registers.
//!
//! AVX-512: 14 rows by 32 columns, 28 accumulators, two loads of `B` and 14 broadcasts of `A` a step. AVX2: 6 by 16.
//! Elsewhere the 6-by-16 tile in plain Rust. The number of rows is a constant of each instance, so a decode step with one
//! row does the work of one row.

use super::Precision;
use super::pack::{PackedA, PackedB};
use crate::isa::{Isa, isa};

/// The largest tile of any instruction set.
pub(super) const MAX_ROWS: usize = 14;
/// The widest panel of any instruction set.
pub(super) const MAX_COLUMNS: usize = 32;

/// Rows of a tile of `A`.
pub(super) fn tile_rows() -> usize {
    match isa() {
        Isa::Avx512Bf16 | Isa::Avx512 => 14,
        Isa::Avx2 | Isa::Portable => 6,
    }
}

/// Columns of a panel of `B`.
pub(super) fn panel_width() -> usize {
    match isa() {
        Isa::Avx512Bf16 | Isa::Avx512 => 32,
        Isa::Avx2 | Isa::Portable => 16,
    }
}

/// `c[0..rows][0..panel_width] (+)= A tile · B panel` over `count` steps from step `from`.
///
/// # Safety
/// `c` must be valid for reads and writes of `rows` rows of `panel_width()` elements, `stride` apart, and nobody else may
/// touch them meanwhile.
pub(super) unsafe fn multiply(
    a: &PackedA,
    b: &PackedB,
    tile: usize,
    panel: usize,
    from: usize,
    count: usize,
    rows: usize,
    c: *mut f32,
    stride: usize,
    start_from_output: bool,
) {
    let a = &a.tile(tile, from)[..count * tile_rows()];
    let precision = b.precision();
    let b = &b.panel(panel, from)[..count * panel_width()];
    macro_rules! by_rows {
        ($kernel:ident, $($n:literal)*) => {
            match rows {
                // SAFETY: the caller's promise about `c`; `isa()` checked the instructions; `a` and `b` were just cut to
                // `count` whole steps.
                $($n => unsafe { $kernel::<$n>(a, b, c, stride, start_from_output) },)*
                _ => unreachable!("a tile has at most {} rows, not {rows}", tile_rows()),
            }
        };
    }
    match (isa(), precision) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16, Precision::Bf16) => by_rows!(avx512_bf16, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16 | Isa::Avx512, Precision::F32) => {
            by_rows!(avx512_f32, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
        }
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Precision::F32) => by_rows!(avx2_f32, 1 2 3 4 5 6),
        (Isa::Avx512, _) => {
            // SAFETY: the caller's promise about `c`.
            unsafe { portable::<32>(a, b, c, stride, start_from_output, rows, tile_rows(), precision) }
        }
        // SAFETY: the caller's promise about `c`.
        _ => unsafe { portable::<16>(a, b, c, stride, start_from_output, rows, tile_rows(), precision) },
    }
}

/// # Safety
/// As [`multiply`]; needs AVX512-BF16; `a` holds 14 and `b` 32 elements a step.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512_bf16<const R: usize>(
    a: &[u32],
    b: &[u32],
    c: *mut f32,
    stride: usize,
    start_from_output: bool,
) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise covers every access to `c`; `a` and `b` are read in whole steps inside their slices.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); 2]; R];
        if start_from_output {
            for r in 0..R {
                acc[r][0] = _mm512_loadu_ps(c.add(r * stride));
                acc[r][1] = _mm512_loadu_ps(c.add(r * stride + 16));
            }
        }
        let steps = b.len() / 32;
        let (mut pa, mut pb) = (a.as_ptr(), b.as_ptr());
        for _ in 0..steps {
            let b0: __m512bh = std::mem::transmute(_mm512_loadu_si512(pb.cast()));
            let b1: __m512bh = std::mem::transmute(_mm512_loadu_si512(pb.add(16).cast()));
            for r in 0..R {
                let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(*pa.add(r) as i32));
                acc[r][0] = _mm512_dpbf16_ps(acc[r][0], x, b0);
                acc[r][1] = _mm512_dpbf16_ps(acc[r][1], x, b1);
            }
            pa = pa.add(14);
            pb = pb.add(32);
        }
        for r in 0..R {
            _mm512_storeu_ps(c.add(r * stride), acc[r][0]);
            _mm512_storeu_ps(c.add(r * stride + 16), acc[r][1]);
        }
    }
}

/// # Safety
/// As [`multiply`]; needs AVX-512; `a` holds 14 and `b` 32 elements a step.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512_f32<const R: usize>(
    a: &[u32],
    b: &[u32],
    c: *mut f32,
    stride: usize,
    start_from_output: bool,
) {
    use std::arch::x86_64::*;
    // SAFETY: as in `avx512_bf16`.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); 2]; R];
        if start_from_output {
            for r in 0..R {
                acc[r][0] = _mm512_loadu_ps(c.add(r * stride));
                acc[r][1] = _mm512_loadu_ps(c.add(r * stride + 16));
            }
        }
        let steps = b.len() / 32;
        let (mut pa, mut pb) = (a.as_ptr().cast::<f32>(), b.as_ptr().cast::<f32>());
        for _ in 0..steps {
            let b0 = _mm512_loadu_ps(pb);
            let b1 = _mm512_loadu_ps(pb.add(16));
            for r in 0..R {
                let x = _mm512_set1_ps(*pa.add(r));
                acc[r][0] = _mm512_fmadd_ps(x, b0, acc[r][0]);
                acc[r][1] = _mm512_fmadd_ps(x, b1, acc[r][1]);
            }
            pa = pa.add(14);
            pb = pb.add(32);
        }
        for r in 0..R {
            _mm512_storeu_ps(c.add(r * stride), acc[r][0]);
            _mm512_storeu_ps(c.add(r * stride + 16), acc[r][1]);
        }
    }
}

/// # Safety
/// As [`multiply`]; needs AVX2 and FMA; `a` holds 6 and `b` 16 elements a step.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_f32<const R: usize>(
    a: &[u32],
    b: &[u32],
    c: *mut f32,
    stride: usize,
    start_from_output: bool,
) {
    use std::arch::x86_64::*;
    // SAFETY: as in `avx512_bf16`.
    unsafe {
        let mut acc = [[_mm256_setzero_ps(); 2]; R];
        if start_from_output {
            for r in 0..R {
                acc[r][0] = _mm256_loadu_ps(c.add(r * stride));
                acc[r][1] = _mm256_loadu_ps(c.add(r * stride + 8));
            }
        }
        let steps = b.len() / 16;
        let (mut pa, mut pb) = (a.as_ptr().cast::<f32>(), b.as_ptr().cast::<f32>());
        for _ in 0..steps {
            let b0 = _mm256_loadu_ps(pb);
            let b1 = _mm256_loadu_ps(pb.add(8));
            for r in 0..R {
                let x = _mm256_set1_ps(*pa.add(r));
                acc[r][0] = _mm256_fmadd_ps(x, b0, acc[r][0]);
                acc[r][1] = _mm256_fmadd_ps(x, b1, acc[r][1]);
            }
            pa = pa.add(6);
            pb = pb.add(16);
        }
        for r in 0..R {
            _mm256_storeu_ps(c.add(r * stride), acc[r][0]);
            _mm256_storeu_ps(c.add(r * stride + 8), acc[r][1]);
        }
    }
}

/// The same sums in plain Rust; also bf16 where the processor has no instruction for it (a pair's second product is added
/// first, as `vdpbf16ps` does).
///
/// # Safety
/// As [`multiply`]; `b` holds `W` and `a` `tile` elements a step.
unsafe fn portable<const W: usize>(
    a: &[u32],
    b: &[u32],
    c: *mut f32,
    stride: usize,
    start_from_output: bool,
    rows: usize,
    tile: usize,
    precision: Precision,
) {
    for row in 0..rows {
        // SAFETY: the caller's promise about `c`; the slice is this call's alone.
        let out = unsafe { std::slice::from_raw_parts_mut(c.add(row * stride), W) };
        let mut acc = [0.0_f32; W];
        if start_from_output {
            acc.copy_from_slice(out);
        }
        for (a, b) in a.chunks_exact(tile).zip(b.as_chunks::<W>().0) {
            match precision {
                Precision::F32 => {
                    let x = f32::from_bits(a[row]);
                    for i in 0..W {
                        acc[i] = x.mul_add(f32::from_bits(b[i]), acc[i]);
                    }
                }
                Precision::Bf16 => {
                    let (low, high) = (f32::from_bits(a[row] << 16), f32::from_bits(a[row] & 0xffff_0000));
                    for i in 0..W {
                        acc[i] = high.mul_add(f32::from_bits(b[i] & 0xffff_0000), acc[i]);
                        acc[i] = low.mul_add(f32::from_bits(b[i] << 16), acc[i]);
                    }
                }
            }
        }
        out.copy_from_slice(&acc);
    }
}
