//! Rounding to bf16, with the processor's instruction or in plain Rust.
//!
//! Both round to nearest, ties to even, and keep NaN. They differ in subnormal numbers: the instruction takes them for zero,
//! as `vdpbf16ps` does.

/// bf16 bits of `x`.
#[inline(always)]
pub(crate) fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16;
    if x.is_nan() { (bits >> 16) | 0x40 } else { rounded }
}

/// Bits of the f32 that `x` rounded to bf16 is.
#[inline(always)]
pub(crate) fn rounded_bits(x: f32) -> u32 {
    bf16_bits(x) << 16
}

/// A way to round sixteen pairs: the first of a pair is the low half.
pub(crate) trait Pairs {
    /// Pairs of the same place in two rows.
    fn of_rows(low: &[f32; 16], high: &[f32; 16]) -> [u32; 16];
    /// Pairs of neighbours.
    fn of_neighbours(x: &[f32; 32]) -> [u32; 16];
}

/// In plain Rust.
pub(crate) struct Plain;

impl Pairs for Plain {
    #[inline(always)]
    fn of_rows(low: &[f32; 16], high: &[f32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| bf16_bits(low[i]) | bf16_bits(high[i]) << 16)
    }

    #[inline(always)]
    fn of_neighbours(x: &[f32; 32]) -> [u32; 16] {
        std::array::from_fn(|i| bf16_bits(x[2 * i]) | bf16_bits(x[2 * i + 1]) << 16)
    }
}

/// With AVX512-BF16. Used only in what [`multiversion_pairs`] compiles for it.
#[cfg(target_arch = "x86_64")]
pub(crate) struct Native;

#[cfg(target_arch = "x86_64")]
impl Pairs for Native {
    #[inline(always)]
    fn of_rows(low: &[f32; 16], high: &[f32; 16]) -> [u32; 16] {
        use std::arch::x86_64::*;
        // SAFETY: the processor has the instructions (`multiversion_pairs`); arrays of the vectors' size are read, and any
        // bits are a value of them.
        unsafe {
            let wide = |x: &[f32; 16]| {
                let halves = _mm512_cvtneps_pbh(_mm512_loadu_ps(x.as_ptr()));
                _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(halves))
            };
            let pairs = _mm512_or_si512(wide(low), _mm512_slli_epi32::<16>(wide(high)));
            std::mem::transmute::<__m512i, [u32; 16]>(pairs)
        }
    }

    #[inline(always)]
    fn of_neighbours(x: &[f32; 32]) -> [u32; 16] {
        use std::arch::x86_64::*;
        // SAFETY: as above.
        unsafe {
            let (first, second) = (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16)));
            std::mem::transmute::<__m512bh, [u32; 16]>(_mm512_cvtne2ps_pbh(second, first))
        }
    }
}

/// As `multiversion`, for a body that rounds to bf16 by the [`Pairs`] that it calls `P`.
macro_rules! multiversion_pairs {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<P>($($arg:ident : $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn body<P: $crate::gemm::round::Pairs>($($arg: $ty),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                use $crate::gemm::round::{Native, Plain};
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
                fn avx512bf16($($arg: $ty),*) { body::<Native>($($arg),*) }
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) { body::<Plain>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) { body::<Plain>($($arg),*) }
                match $crate::isa::isa() {
                    $crate::isa::Isa::Avx512Bf16 => {
                        // SAFETY: `isa()` found these features on this processor.
                        return unsafe { avx512bf16($($arg),*) };
                    }
                    $crate::isa::Isa::Avx512 => {
                        // SAFETY: as above.
                        return unsafe { avx512($($arg),*) };
                    }
                    $crate::isa::Isa::Avx2 => {
                        // SAFETY: as above.
                        return unsafe { avx2($($arg),*) };
                    }
                    $crate::isa::Isa::Portable => {}
                }
            }
            body::<$crate::gemm::round::Plain>($($arg),*)
        }
    };
}
pub(crate) use multiversion_pairs;

#[cfg(test)]
mod tests {
    multiversion_pairs! {
        fn both<P>(x: &[f32; 32], rows: &mut [u32; 16], neighbours: &mut [u32; 16]) {
            *rows = P::of_rows(x.first_chunk().unwrap(), x.last_chunk().unwrap());
            *neighbours = P::of_neighbours(x);
        }
    }

    #[test]
    fn every_way_rounds_to_nearest_with_ties_to_even() {
        // Ties, values beside them, the largest, infinities, NaN and zeros, in every place.
        let hard = [
            1.0,
            1.003_906_2,
            1.011_718_8,
            1.003_906_4,
            -1.003_906_2,
            3.3e38,
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            0.0,
            -0.0,
            1e-30,
            -7.77,
        ];
        for shift in 0..hard.len() {
            let x: [f32; 32] = std::array::from_fn(|i| hard[(i + shift) % hard.len()]);
            let bits = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
            let (mut rows, mut neighbours) = ([0; 16], [0; 16]);
            both(&x, &mut rows, &mut neighbours);
            for i in 0..16 {
                let same = |got: u32, low: f32, high: f32| {
                    for (got, x) in [(got & 0xffff, low), (got >> 16, high)] {
                        let nan = f32::from_bits(got << 16).is_nan();
                        assert!(if x.is_nan() { nan } else { got == bits(x) }, "{x}: {got:x}");
                    }
                };
                same(rows[i], x[i], x[16 + i]);
                same(neighbours[i], x[2 * i], x[2 * i + 1]);
            }
        }
    }
}
