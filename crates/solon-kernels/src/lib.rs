//! Arithmetic on slices: GEMM, attention, norms, RoPE, the log-prob head, AdamW.
//!
//! This crate knows no models, no files and no tokenizer. Every fast kernel has a readable twin in [`reference`], and a
//! test holds the two together.
//!
//! Every kernel keeps one promise: **an output element is one fixed sequence of operations on its own inputs**. The number
//! of rows in the call, the number of threads and cache blocking change no bit of it. A sum runs over the reduced axis in
//! order, with fused multiply-adds, into an accumulator that starts from the output's old value. Work is split between
//! threads along output axes only.

// A lane loop over fixed-size arrays reads as what it is: one vector instruction. Iterator chains hide that.
#![allow(clippy::needless_range_loop)]

/// Compiles one body for each instruction set and picks at run time. The body is plain Rust over slices; fused
/// multiply-adds are written `mul_add`, which rounds alike everywhere, so all versions agree to the bit.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                match $crate::isa::isa() {
                    $crate::isa::Isa::Avx512Bf16 | $crate::isa::Isa::Avx512 => {
                        // SAFETY: `isa()` found these features on this processor.
                        return unsafe { avx512($($arg),*) };
                    }
                    $crate::isa::Isa::Avx2 => {
                        // SAFETY: as above.
                        return unsafe { avx2($($arg),*) };
                    }
                    $crate::isa::Isa::Portable => {}
                }
            }
            body($($arg),*)
        }
    };
}

pub mod adamw;
pub mod attention;
pub mod divergence;
pub mod elementwise;
pub mod exp;
pub mod gemm;
pub mod isa;
pub mod log_prob;
pub mod memory;
pub mod parallel;
pub mod reference;
pub mod rms_norm;
pub mod roofline;
pub mod rope;
pub mod threads;

pub use gemm::Precision;
