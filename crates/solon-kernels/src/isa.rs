//! Which instruction set the kernels use, found once at run time.
//!
//! `SOLON_ISA=avx512bf16|avx512|avx2|portable` lowers the choice (never raises it above what the processor has), so
//! that every path can be tested on one machine.

use std::sync::OnceLock;

/// An instruction set the kernels have code for, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, whatever the compiler makes of it.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with `vdpbf16ps`.
    Avx512Bf16,
}

impl Isa {
    /// The name used in reports and in `SOLON_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
        }
    }

    /// Whether bf16 products run in hardware.
    pub fn has_bf16(self) -> bool {
        self == Isa::Avx512Bf16
    }
}

/// The instruction set in use by this process.
pub fn isa() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let found = detect();
        let wanted = match std::env::var("SOLON_ISA").as_deref() {
            Ok("portable") => Isa::Portable,
            Ok("avx2") => Isa::Avx2,
            Ok("avx512") => Isa::Avx512,
            _ => Isa::Avx512Bf16,
        };
        found.min(wanted)
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = avx2
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (avx512, avx512 && is_x86_feature_detected!("avx512bf16")) {
        (_, true) => Isa::Avx512Bf16,
        (true, _) => Isa::Avx512,
        _ if avx2 => Isa::Avx2,
        _ => Isa::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Portable
}
