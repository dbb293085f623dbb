//! f32 into ggml's types: the inverse of `gguf_quant.rs`, which describes the layouts.
//!
//! Contract: the blocks are byte-equal to those of ggml's reference quantisers without an importance matrix, which
//! `llama-quantize` uses by default, and to those of the `gguf` Python package where it has a quantiser. Blocks do not
//! depend on each other, so threads change no byte.
//!
//! Source: ggml, `src/ggml-quants.c` (`quantize_row_*_ref`). Goldens: `tests/goldens/make_quantized.py`.

use half::{bf16, f16};
use solon_kernels::parallel::for_chunks;

use super::gguf_quant::GgmlType;
use super::gguf_quantize_k::{q4_k, q6_k};

/// Values of one task of a thread: whole blocks of every type.
const TASK: usize = 1 << 14;

/// The types that are written.
pub(super) fn is_written(kind: GgmlType) -> bool {
    !matches!(kind, GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q5_K)
}

/// The largest magnitude that a type holds: what is beyond becomes an infinity, as a value or as a block's factor.
pub(super) fn largest(kind: GgmlType) -> f32 {
    match kind {
        GgmlType::F32 => f32::MAX,
        GgmlType::BF16 => bf16::MAX.to_f32(),
        _ => f16::MAX.to_f32(),
    }
}

/// Replaces `out` by the blocks of `values`: finite, no larger than [`largest`], whole blocks of a type that
/// [`is_written`].
pub(super) fn quantize(kind: GgmlType, values: &[f32], out: &mut Vec<u8>) {
    let (length, bytes) = (kind.block_length(), kind.block_bytes());
    debug_assert!(values.len().is_multiple_of(length) && is_written(kind));
    out.clear();
    out.resize(values.len() / length * bytes, 0);
    for_chunks(out, TASK / length * bytes, |task, out| {
        let values = &values[task * TASK..][..out.len() / bytes * length];
        match kind {
            GgmlType::F32 => each(values, out, |[value], block: &mut [u8; 4]| *block = value.to_le_bytes()),
            GgmlType::F16 => each(values, out, |[value], block| *block = f16::from_f32(*value).to_le_bytes()),
            GgmlType::BF16 => {
                each(values, out, |[value], block| *block = bf16::from_f32(*value).to_le_bytes())
            }
            GgmlType::Q8_0 => each(values, out, q8_0),
            GgmlType::Q4_0 => each(values, out, q4_0),
            GgmlType::Q5_0 => each(values, out, q5_0),
            GgmlType::Q4_K => each(values, out, q4_k),
            GgmlType::Q6_K => each(values, out, q6_k),
            GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q5_K => unreachable!("{kind:?} is not written"),
        }
    });
}

fn each<const VALUES: usize, const BYTES: usize>(
    values: &[f32],
    out: &mut [u8],
    quantize: impl Fn(&[f32; VALUES], &mut [u8; BYTES]),
) {
    for (values, block) in values.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        quantize(values, block);
    }
}

/// Stores an f16 factor.
pub(super) fn put_half(block: &mut [u8], at: usize, value: f32) {
    block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// `1 / value`, and 0 of 0.
fn inverse(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { 1.0 / value }
}

/// The factor is a 127th of the largest magnitude.
fn q8_0(values: &[f32; 32], block: &mut [u8; 34]) {
    let factor = values.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
    let inverse = inverse(factor);
    put_half(block, 0, factor);
    for (byte, value) in block[2..].iter_mut().zip(values) {
        // Ties go away from zero here, unlike in the K formats.
        *byte = (value * inverse).round() as i8 as u8;
    }
}

/// Integers of which the lowest, `-half`, stands for the value of the largest magnitude. Returns the factor and the
/// integers from 0.
fn signed(values: &[f32; 32], half: f32) -> (f32, [u8; 32]) {
    // Of equal magnitudes the first decides the sign.
    let widest =
        values.iter().fold(0.0f32, |widest, &value| if value.abs() > widest.abs() { value } else { widest });
    let factor = widest / -half;
    let inverse = inverse(factor);
    (factor, values.map(|value| ((value * inverse + (half + 0.5)) as u8).min(2 * half as u8 - 1)))
}

fn q4_0(values: &[f32; 32], block: &mut [u8; 18]) {
    let (factor, quants) = signed(values, 8.0);
    put_half(block, 0, factor);
    for i in 0..16 {
        block[2 + i] = quants[i] | quants[i + 16] << 4;
    }
}

fn q5_0(values: &[f32; 32], block: &mut [u8; 22]) {
    let (factor, quants) = signed(values, 16.0);
    put_half(block, 0, factor);
    let fifth = quants.iter().rev().fold(0u32, |bits, quant| bits << 1 | u32::from(quant >> 4));
    block[2..6].copy_from_slice(&fifth.to_le_bytes());
    for i in 0..16 {
        block[6 + i] = quants[i] & 0x0f | (quants[i + 16] & 0x0f) << 4;
    }
}

#[cfg(test)]
mod tests {
    use super::super::gguf_quant::dequantize;
    use super::*;
    use GgmlType::{BF16, F16, Q4_0, Q4_K, Q5_0, Q6_K, Q8_0};

    fn golden(kind: GgmlType) -> (Vec<f32>, Vec<u8>) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/quantized");
        let values = std::fs::read(folder.join("values.bin")).unwrap();
        let values = values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        (values, std::fs::read(folder.join(format!("{kind:?}.bin"))).unwrap())
    }

    /// Of ggml itself; the simple types are also those of Python's gguf.
    #[test]
    fn byte_equal_to_ggml() {
        for kind in [F16, BF16, Q8_0, Q4_0, Q5_0, Q4_K, Q6_K] {
            let (values, expected) = golden(kind);
            let mut blocks = vec![1, 2, 3];
            quantize(kind, &values, &mut blocks);
            let size = kind.block_bytes();
            for (place, (block, expected)) in blocks.chunks(size).zip(expected.chunks(size)).enumerate() {
                assert_eq!(block, expected, "block {place} of {kind:?}");
            }
            assert_eq!(blocks.len(), expected.len(), "{kind:?}");
        }
    }

    /// The root of the mean squared error over that of the values, for normal values. By 2^-bits and the formats' range:
    /// each bit halves it.
    #[test]
    fn the_error_is_that_of_the_bits() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        // Sums of twelve uniform values are nearly normal.
        let values: Vec<f32> = (0..1 << 14).map(|_| (0..12).map(|_| uniform()).sum()).collect();
        let root =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        for (kind, most) in [(Q8_0, 0.006), (Q6_K, 0.02), (Q5_0, 0.047), (Q4_K, 0.08), (Q4_0, 0.095)] {
            let (mut blocks, mut read) = (Vec::new(), Vec::new());
            quantize(kind, &values, &mut blocks);
            dequantize(kind, &blocks, &mut read);
            let error = root(&mut read.iter().zip(&values).map(|(read, value)| read - value));
            let error = error / root(&mut values.iter().copied());
            assert!(error < most && error > most / 2.0, "{kind:?}: {error}");
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for kind in [Q8_0, Q4_0, Q5_0, Q4_K, Q6_K] {
            let (mut blocks, mut read) = (Vec::new(), Vec::new());
            quantize(kind, &[0.0; 512], &mut blocks);
            dequantize(kind, &blocks, &mut read);
            assert_eq!(read, [0.0; 512], "{kind:?}");
        }
    }
}
