//! int8 as the steps that the tile multiplies: f32, or pairs of bf16. Either holds every int8 exactly.

use super::layout::Step;
#[cfg(target_arch = "x86_64")]
use crate::isa::{Isa, isa};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Where a column's int8, or pair of them, lies within a step. A step of 32 pairs is widened whole, by an instruction that
/// takes four pairs for the first 16 columns and four for the others from each 16 bytes.
pub(super) fn place(column: usize, width: usize, kind: Step) -> usize {
    match (kind, width) {
        (Step::Pair, 32) => column % 16 / 4 * 8 + column / 16 * 4 + column % 4,
        _ => column,
    }
}

/// Whether [`widened_pairs`] runs here, on steps of this width.
pub(super) fn in_registers(kind: Step, width: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    return isa() == Isa::Avx512Bf16
        && is_x86_feature_detected!("avx512vbmi")
        && kind == Step::Pair
        && width == 32;
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (kind, width);
        false
    }
}

/// Widens whole steps of `width` columns.
pub(super) fn widen(values: &[i8], width: usize, kind: Step, out: &mut [u32]) {
    assert_eq!(values.len(), out.len() * kind.values());
    match kind {
        Step::F32 | Step::Rounded => widen_ones(values, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `in_registers` found the instructions.
        Step::Pair if in_registers(kind, width) => unsafe { widen_steps(values, out) },
        Step::Pair => widen_pairs(values, width, out),
    }
}

multiversion! {
    fn widen_ones(values: &[i8], out: &mut [u32]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = f32::from(*value).to_bits();
        }
    }
}

multiversion! {
    /// bf16 is the upper half of the f32, because int8 has few enough digits.
    fn widen_pairs(values: &[i8], width: usize, out: &mut [u32]) {
        let (pairs, _) = values.as_chunks::<2>();
        for (out, pairs) in out.chunks_exact_mut(width).zip(pairs.chunks_exact(width)) {
            for (column, out) in out.iter_mut().enumerate() {
                let [low, high] = pairs[place(column, width, Step::Pair)];
                *out = f32::from(low).to_bits() >> 16 | f32::from(high).to_bits();
            }
        }
    }
}

/// The same of steps of 32 pairs.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn widen_steps(values: &[i8], out: &mut [u32]) {
    for (out, step) in out.as_chunks_mut::<32>().0.iter_mut().zip(values.as_chunks::<64>().0) {
        // SAFETY: a step is 64 bytes, and becomes twice 64.
        unsafe {
            let [first, second] = widened_pairs(step.as_ptr());
            _mm512_storeu_si512(out.as_mut_ptr().cast(), first);
            _mm512_storeu_si512(out[16..].as_mut_ptr().cast(), second);
        }
    }
}

/// One of the bytes of bf16 0, 1, 2, … 127: the lower or the upper.
#[cfg(target_arch = "x86_64")]
const fn bytes_of_bf16(upper: usize) -> [u8; 128] {
    let mut bytes = [0; 128];
    let mut i = 0;
    while i < 128 {
        bytes[i] = (i as f32).to_bits().to_le_bytes()[2 + upper];
        i += 1;
    }
    bytes
}

#[cfg(target_arch = "x86_64")]
static LOWER: [u8; 128] = bytes_of_bf16(0);
#[cfg(target_arch = "x86_64")]
static UPPER: [u8; 128] = bytes_of_bf16(1);

/// A step of 32 pairs as bf16: both bytes are looked up by the magnitude, which is half the instructions of converting
/// through f32.
///
/// # Safety
/// 64 bytes are read from `step`.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) unsafe fn widened_pairs(step: *const i8) -> [__m512i; 2] {
    // SAFETY: the caller's promise, and the tables have 128 bytes.
    let (values, look_up) = unsafe {
        let values = _mm512_loadu_si512(step.cast());
        let magnitude = _mm512_abs_epi8(values);
        let look_up = move |table: &[u8; 128]| {
            let halves = table.as_ptr().cast::<__m512i>();
            _mm512_permutex2var_epi8(_mm512_loadu_si512(halves), magnitude, _mm512_loadu_si512(halves.add(1)))
        };
        (values, look_up)
    };
    // upper | (values & 0x80): the sign is the same bit.
    let upper = _mm512_ternarylogic_epi32::<0xf8>(look_up(&UPPER), values, _mm512_set1_epi8(i8::MIN));
    let lower = look_up(&LOWER);
    [_mm512_unpacklo_epi8(lower, upper), _mm512_unpackhi_epi8(lower, upper)]
}
