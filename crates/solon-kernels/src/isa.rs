//! Which instruction set the kernels use, chosen once at run time.
//!
//! The fastest one that this processor runs is the default. `SOLON_ISA=NAME` chooses another of [`Isa::usable`], so that
//! every path can be tested on one machine. A program calls [`from_environment`] when it starts, to report a name that
//! cannot be used as an error of its user; [`isa`] panics with the same text.

use std::sync::OnceLock;

/// An instruction set that the kernels have code for.
///
/// There is no order among them: which ones a processor runs is a list ([`Isa::usable`]), not a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust for the target's base instructions: SSE2 on x86-64, NEON on AArch64.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// The same with `vdpbf16ps`.
    Avx512Bf16,
}

impl Isa {
    /// Every instruction set.
    pub const ALL: [Isa; 4] = [Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// Those that this processor runs, the fastest first. [`Isa::Portable`] is always the last.
    pub fn usable() -> Vec<Isa> {
        by_speed(Self::ALL.into_iter().filter(|isa| isa.is_usable()).collect(), is_intel())
    }

    #[cfg(target_arch = "x86_64")]
    fn is_usable(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Isa::Avx512 => {
                Isa::Avx2.is_usable()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            Isa::Avx512Bf16 => Isa::Avx512.is_usable() && is_x86_feature_detected!("avx512bf16"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_usable(self) -> bool {
        self == Isa::Portable
    }

    /// The name used in reports and in `SOLON_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Avx512Bf16 => "avx512bf16",
        }
    }

    /// Whether one instruction multiplies bf16.
    pub fn has_bf16(self) -> bool {
        self == Isa::Avx512Bf16
    }
}

/// On Intel's processors f32 products are taken to be faster than those of bf16 pairs. Measured on Emerald Rapids (two cores, `solon bench
/// train`): at most 133 GFLOP/s of pairs and 226 of f32. On AMD's Zen 4 pairs are about twice as fast.
fn by_speed(mut usable: Vec<Isa>, is_intel: bool) -> Vec<Isa> {
    if is_intel && usable.starts_with(&[Isa::Avx512Bf16, Isa::Avx512]) {
        usable.swap(0, 1);
    }
    usable
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    // The vendor's name stands in EBX, EDX and ECX.
    let leaf = std::arch::x86_64::__cpuid(0);
    let name = [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat();
    name == b"GenuineIntel"
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

/// A value of `SOLON_ISA` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsaError {
    /// No instruction set has this name.
    Unknown(String),
    /// This processor does not run it.
    Missing(Isa),
}

impl std::fmt::Display for IsaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |isas: &[Isa]| isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
        match self {
            IsaError::Unknown(name) => {
                write!(f, "SOLON_ISA is \"{name}\", which names no instruction set ({})", names(&Isa::ALL))?;
            }
            IsaError::Missing(isa) => write!(f, "SOLON_ISA is {}, which this processor lacks", isa.name())?,
        }
        write!(f, "\nhint: unset SOLON_ISA, or set it to what this processor has: {}", names(&Isa::usable()))
    }
}

impl std::error::Error for IsaError {}

/// The instruction set that `SOLON_ISA` asks for, or the fastest one where it is not set.
///
/// # Errors
/// If the value names no instruction set, or one that this processor lacks.
pub fn from_environment() -> Result<Isa, IsaError> {
    match std::env::var_os("SOLON_ISA") {
        Some(name) => choose(&name.to_string_lossy(), &Isa::usable()),
        None => Ok(Isa::usable()[0]),
    }
}

fn choose(name: &str, usable: &[Isa]) -> Result<Isa, IsaError> {
    let known = Isa::ALL.into_iter().find(|isa| isa.name() == name);
    let isa = known.ok_or_else(|| IsaError::Unknown(name.to_owned()))?;
    if usable.contains(&isa) { Ok(isa) } else { Err(IsaError::Missing(isa)) }
}

/// The instruction set in use by this process: [`from_environment`] at the first call.
///
/// # Panics
/// If `SOLON_ISA` cannot be used.
pub fn isa() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| from_environment().unwrap_or_else(|error| panic!("{error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_only_where_the_processor_has_it() {
        let avx2_machine = [Isa::Avx2, Isa::Portable];
        assert_eq!(choose("avx2", &avx2_machine), Ok(Isa::Avx2));
        assert_eq!(choose("portable", &avx2_machine), Ok(Isa::Portable));
        assert_eq!(choose("avx512", &avx2_machine), Err(IsaError::Missing(Isa::Avx512)));
        for name in ["avx-2", "AVX2", "", "neon"] {
            assert_eq!(choose(name, &Isa::ALL), Err(IsaError::Unknown(name.to_owned())));
        }
    }

    #[test]
    fn an_error_names_what_may_be_written() {
        let unknown = IsaError::Unknown("avx3".into()).to_string();
        let missing = IsaError::Missing(Isa::Avx512).to_string();
        assert!(unknown.contains("\"avx3\"") && missing.contains("avx512, which this processor lacks"));
        assert!(Isa::ALL.iter().all(|isa| unknown.contains(isa.name())), "{unknown}");
        for text in [unknown, missing] {
            let hint = text.split("hint: ").nth(1).expect("a hint");
            assert!(Isa::usable().iter().all(|isa| hint.contains(isa.name())), "{text}");
        }
    }

    #[test]
    fn bf16_pairs_come_second_where_f32_is_faster() {
        let all = Isa::ALL.to_vec();
        assert_eq!(by_speed(all.clone(), false), all);
        assert_eq!(by_speed(all, true), [Isa::Avx512, Isa::Avx512Bf16, Isa::Avx2, Isa::Portable]);
        assert_eq!(by_speed(vec![Isa::Avx2, Isa::Portable], true), [Isa::Avx2, Isa::Portable]);
    }

    #[test]
    fn what_is_in_use_is_usable() {
        assert!(Isa::usable().contains(&isa()));
        assert_eq!(Isa::usable().last(), Some(&Isa::Portable));
    }
}
