//! The block formats of ggml, widened to f32, bit-equal to ggml and to the `gguf` Python package.
//!
//! A row is cut into blocks of 32 (256 for the K formats). A block holds small integers and one or two f16 factors;
//! the K formats also hold a factor of six or eight bits for each group of 16 or 32. Products are taken in ggml's
//! order, which fixes their rounding.
//!
//! Source: ggml, `src/ggml-quants.c` (`dequantize_row_*`) and `src/ggml-common.h` (layouts).
//! Goldens: `tests/goldens/make_quant.py`.

use half::{bf16, f16};

/// The ggml types that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "ggml's own names, which file names and messages use")]
pub enum GgmlType {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// 16-bit brain floats.
    BF16,
    /// 4 bits, a factor.
    Q4_0,
    /// 4 bits, a factor and an offset.
    Q4_1,
    /// 5 bits, a factor.
    Q5_0,
    /// 5 bits, a factor and an offset.
    Q5_1,
    /// 8 bits, a factor.
    Q8_0,
    /// 4 bits, groups of 32 with factor and offset.
    Q4_K,
    /// 5 bits, groups of 32 with factor and offset.
    Q5_K,
    /// 6 bits, groups of 16 with a factor.
    Q6_K,
}

use GgmlType::*;

/// Type, number in the file, values per block, bytes per block.
const LAYOUTS: [(GgmlType, u32, usize, usize); 11] = [
    (F32, 0, 1, 4),
    (F16, 1, 1, 2),
    (BF16, 30, 1, 2),
    (Q4_0, 2, 32, 18),
    (Q4_1, 3, 32, 20),
    (Q5_0, 6, 32, 22),
    (Q5_1, 7, 32, 24),
    (Q8_0, 8, 32, 34),
    (Q4_K, 12, 256, 144),
    (Q5_K, 13, 256, 176),
    (Q6_K, 14, 256, 210),
];

impl GgmlType {
    /// The type with this number in a GGUF file, where it is read.
    pub fn from_id(id: u32) -> Option<Self> {
        LAYOUTS.iter().find(|layout| layout.1 == id).map(|layout| layout.0)
    }

    /// The number of the type in a GGUF file.
    pub fn id(self) -> u32 {
        LAYOUTS[self as usize].1
    }

    /// Values in a block.
    pub fn block_length(self) -> usize {
        LAYOUTS[self as usize].2
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        LAYOUTS[self as usize].3
    }

    /// ` (NAME)` of the common types that are not read, else nothing.
    pub(super) fn foreign_name(id: u32) -> &'static str {
        match id {
            9 => " (Q8_1)",
            10 => " (Q2_K)",
            11 => " (Q3_K)",
            15 => " (Q8_K)",
            16..=23 | 29 => " (an IQ type)",
            24..=28 => " (integers or F64)",
            34 | 35 => " (a ternary type)",
            39 => " (MXFP4)",
            _ => "",
        }
    }
}

/// Appends the values of whole blocks to `out`. Bytes beyond the last whole block are ignored; callers checked that
/// there are none.
pub fn dequantize(kind: GgmlType, bytes: &[u8], out: &mut Vec<f32>) {
    match kind {
        F32 => out.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        F16 => out.extend(bytes.chunks_exact(2).map(|b| half_at(b, 0))),
        BF16 => out.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
        Q4_0 => each_block(bytes, out, q4_0),
        Q4_1 => each_block(bytes, out, q4_1),
        Q5_0 => each_block(bytes, out, q5_0),
        Q5_1 => each_block(bytes, out, q5_1),
        Q8_0 => each_block(bytes, out, q8_0),
        Q4_K => each_block(bytes, out, q4_k),
        Q5_K => each_block(bytes, out, q5_k),
        Q6_K => each_block(bytes, out, q6_k),
    }
}

fn each_block<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut Vec<f32>,
    dequantize: fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let mut values = [0.0; VALUES];
    for block in bytes.as_chunks::<BYTES>().0 {
        dequantize(block, &mut values);
        out.extend_from_slice(&values);
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// f16 factor | 16 bytes: value `i` in the low half of byte `i`, value `i + 16` in the high half.
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let factor = half_at(block, 0);
    for i in 0..16 {
        out[i] = factor * (i32::from(block[2 + i] & 0x0f) - 8) as f32;
        out[i + 16] = factor * (i32::from(block[2 + i] >> 4) - 8) as f32;
    }
}

/// f16 factor | f16 offset | 16 bytes as in Q4_0.
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (factor, offset) = (half_at(block, 0), half_at(block, 2));
    for i in 0..16 {
        out[i] = factor * f32::from(block[4 + i] & 0x0f) + offset;
        out[i + 16] = factor * f32::from(block[4 + i] >> 4) + offset;
    }
}

/// The fifth bits of value `i` and value `i + 16`, in place.
fn fifth_bits(high: &[u8], i: usize) -> (u8, u8) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    ((((high >> i) & 1) as u8) << 4, (((high >> (i + 16)) & 1) as u8) << 4)
}

/// f16 factor | 32 fifth bits | 16 bytes as in Q4_0.
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let factor = half_at(block, 0);
    for i in 0..16 {
        let (low, high) = fifth_bits(&block[2..6], i);
        out[i] = factor * (i32::from(block[6 + i] & 0x0f | low) - 16) as f32;
        out[i + 16] = factor * (i32::from(block[6 + i] >> 4 | high) - 16) as f32;
    }
}

/// f16 factor | f16 offset | 32 fifth bits | 16 bytes as in Q4_0.
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (factor, offset) = (half_at(block, 0), half_at(block, 2));
    for i in 0..16 {
        let (low, high) = fifth_bits(&block[4..8], i);
        out[i] = factor * f32::from(block[8 + i] & 0x0f | low) + offset;
        out[i + 16] = factor * f32::from(block[8 + i] >> 4 | high) + offset;
    }
}

/// f16 factor | 32 signed bytes.
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let factor = half_at(block, 0);
    for (value, &byte) in out.iter_mut().zip(&block[2..]) {
        *value = factor * f32::from(byte as i8);
    }
}

/// Factor and offset (six bits each) of group `i` of 8, from the 12 bytes that K formats pack them in.
fn group_scales(packed: &[u8], i: usize) -> (f32, f32) {
    let (factor, offset) = if i < 4 {
        (packed[i] & 0x3f, packed[i + 4] & 0x3f)
    } else {
        (packed[i + 4] & 0x0f | (packed[i - 4] >> 6) << 4, packed[i + 4] >> 4 | (packed[i] >> 6) << 4)
    };
    (f32::from(factor), f32::from(offset))
}

/// f16 factor | f16 offset | 12 bytes of group scales | 128 bytes: two groups of 32 share 32 bytes, low halves first.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (factor, offset) = (half_at(block, 0), half_at(block, 2));
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (group_factor, group_offset) = group_scales(&block[4..16], group);
        let (scale, minimum) = (factor * group_factor, offset * group_offset);
        let bytes = &block[16 + group / 2 * 32..][..32];
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value = scale * f32::from(byte >> (group % 2 * 4) & 0x0f) - minimum;
        }
    }
}

/// As Q4_K, with 32 bytes of fifth bits (bit `group` of byte `i`) before the 128.
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (factor, offset) = (half_at(block, 0), half_at(block, 2));
    let high = &block[16..48];
    for (group, values) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (group_factor, group_offset) = group_scales(&block[4..16], group);
        let (scale, minimum) = (factor * group_factor, offset * group_offset);
        let bytes = &block[48 + group / 2 * 32..][..32];
        for ((value, byte), high) in values.iter_mut().zip(bytes).zip(high) {
            let quantized = byte >> (group % 2 * 4) & 0x0f | (high >> group & 1) << 4;
            *value = scale * f32::from(quantized) - minimum;
        }
    }
}

/// 128 bytes of low four bits | 64 bytes of high two bits | 16 signed group factors | f16 factor.
/// Each half of 128 values: value `32 j + i` has its low bits in byte `32 (j % 2) + i` (low half of the byte for
/// `j < 2`), and its high bits at `2 j` of high byte `i`.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let factor = half_at(block, 208);
    for (index, value) in out.iter_mut().enumerate() {
        let (part, j, i) = (index / 128, index % 128 / 32, index % 32);
        let low = block[part * 64 + j % 2 * 32 + i] >> (j / 2 * 4) & 0x0f;
        let high = block[128 + part * 32 + i] >> (2 * j) & 3;
        let scale = factor * f32::from(block[192 + index / 16] as i8);
        *value = scale * (i32::from(low | high << 4) - 32) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_in_the_order_of_the_enum() {
        for (place, (kind, id, ..)) in LAYOUTS.into_iter().enumerate() {
            assert_eq!((kind as usize, GgmlType::from_id(id)), (place, Some(kind)));
        }
    }

    /// `NAME.bin`: blocks of random bytes, then the f32 values that Python's gguf makes of them.
    #[test]
    fn bit_equal_to_the_gguf_package() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/quant");
        for (kind, _, length, block) in LAYOUTS {
            let golden = std::fs::read(folder.join(format!("{kind:?}.bin"))).unwrap();
            let blocks = golden.len() / (block + 4 * length);
            assert!(blocks * length >= 1024 && blocks * (block + 4 * length) == golden.len(), "{kind:?}");
            let (bytes, expected) = golden.split_at(blocks * block);
            let mut values = Vec::new();
            dequantize(kind, bytes, &mut values);
            let values: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            let expected: Vec<u32> =
                expected.as_chunks::<4>().0.iter().map(|value| u32::from_le_bytes(*value)).collect();
            assert_eq!(values, expected, "{kind:?}");
        }
    }
}
