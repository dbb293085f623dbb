//! The K formats that are written: Q4_K and Q6_K.
//!
//! A block of 256 values is cut into groups, each group gets the factor (and offset) of the least weighted squared error
//! among a few candidates, and the groups' factors are themselves rounded to small integers. Then each value takes the
//! nearest integer under the factors as they are stored. Weights are larger for larger values, which matter more in
//! products.
//!
//! Contract: byte-equal to ggml. Sums and products are taken in ggml's order, because it fixes their rounding, and
//! rounding is to the nearest, ties to even.
//!
//! Source: ggml, `src/ggml-quants.c` (`quantize_row_q4_K_ref`, `quantize_row_q6_K_ref`).

use half::f16;

use super::gguf_quantize::put_half;

/// Below this magnitude a group of Q6_K counts as zero.
const NOTHING: f32 = 1e-15;

/// Groups of 32 values: `factor · quant - offset` with quants from 0 to 15.
pub(super) fn q4_k(values: &[f32; 256], block: &mut [u8; 144]) {
    let groups = values.as_chunks::<32>().0;
    let mut quants = [0u8; 256];
    let (mut factors, mut offsets) = ([0.0f32; 8], [0.0f32; 8]);
    for (i, (group, quants)) in groups.iter().zip(quants.as_chunks_mut::<32>().0).enumerate() {
        (factors[i], offsets[i]) = fit_with_offset(group, quants);
    }
    let most =
        |values: &[f32]| values.iter().fold(0.0f32, |most, &value| if value > most { value } else { most });
    let (factor, offset) = (most(&factors), most(&offsets));
    let six_bits = |value: f32, most: f32| {
        let inverse = if most > 0.0 { 63.0 / most } else { 0.0 };
        (nearest(inverse * value) as u8).min(63)
    };
    let factors = factors.map(|value| six_bits(value, factor));
    let offsets = offsets.map(|value| six_bits(value, offset));
    put_half(block, 0, factor / 63.0);
    put_half(block, 2, offset / 63.0);
    for i in 0..4 {
        // The first four are stored whole; the high two bits of the last four lie above them.
        block[4 + i] = factors[i] | factors[i + 4] >> 4 << 6;
        block[8 + i] = offsets[i] | offsets[i + 4] >> 4 << 6;
        block[12 + i] = factors[i + 4] & 0x0f | (offsets[i + 4] & 0x0f) << 4;
    }
    let (factor, offset) = (rounded(factor / 63.0), rounded(offset / 63.0));
    for (i, (group, quants)) in groups.iter().zip(quants.as_chunks_mut::<32>().0).enumerate() {
        let (scale, minimum) = (factor * f32::from(factors[i]), offset * f32::from(offsets[i]));
        if scale != 0.0 {
            *quants = group.map(|value| nearest((value + minimum) / scale).clamp(0, 15) as u8);
        }
    }
    for (pair, bytes) in quants.as_chunks::<64>().0.iter().zip(block[16..].as_chunks_mut::<32>().0) {
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = pair[i] | pair[i + 32] << 4;
        }
    }
}

/// The factor and the offset (not negative) under which quants from 0 to 15 come closest to a group's values.
///
/// A candidate spreads the values over a range of 14 to 16 steps and rounds; weighted least squares then gives factor and
/// offset for these quants.
fn fit_with_offset(values: &[f32; 32], quants: &mut [u8; 32]) -> (f32, f32) {
    let mean_square = values.iter().fold(0.0, |sum, value| sum + value * value) / 32.0;
    let root = mean_square.sqrt();
    let weights = values.map(|value| root + value.abs());
    let (mut low, mut high) = (values[0], values[0]);
    let (mut sum_w, mut sum_x) = (weights[0], weights[0] * values[0]);
    for (&value, &weight) in values.iter().zip(&weights).skip(1) {
        (low, high) = (low.min(value), high.max(value));
        sum_w += weight;
        sum_x += weight * value;
    }
    low = low.min(0.0);
    if high == low {
        *quants = [0; 32];
        return (0.0, -low);
    }
    let error = |factor: f32, low: f32, quants: &[u8; 32]| {
        let each = values.iter().zip(&weights).zip(quants);
        each.fold(0.0, |sum, ((value, weight), &quant)| {
            let difference = factor * f32::from(quant) + low - value;
            sum + weight * (difference * difference)
        })
    };
    let mut inverse = 15.0 / (high - low);
    // Candidates start from the last accepted offset, as ggml's do.
    let mut best = (1.0 / inverse, low);
    *quants = values.map(|value| nearest(inverse * (value - low)).clamp(0, 15) as u8);
    let mut best_error = error(best.0, best.1, quants);
    for step in 0..=20u8 {
        inverse = (-1.0 + 0.1 * f32::from(step) + 15.0) / (high - best.1);
        let candidate = values.map(|value| nearest(inverse * (value - best.1)).clamp(0, 15) as u8);
        let (mut sum_q, mut sum_qq, mut sum_xq) = (0.0, 0.0, 0.0);
        for ((value, weight), &quant) in values.iter().zip(&weights).zip(&candidate) {
            let quant = f32::from(quant);
            sum_q += weight * quant;
            sum_qq += weight * quant * quant;
            sum_xq += weight * quant * value;
        }
        let determinant = sum_w * sum_qq - sum_q * sum_q;
        if determinant <= 0.0 {
            continue;
        }
        let mut found =
            ((sum_w * sum_xq - sum_x * sum_q) / determinant, (sum_qq * sum_x - sum_q * sum_xq) / determinant);
        if found.1 > 0.0 {
            found = (sum_xq / sum_qq, 0.0);
        }
        let found_error = error(found.0, found.1, &candidate);
        if found_error < best_error {
            (best, best_error, *quants) = (found, found_error, candidate);
        }
    }
    (best.0, -best.1)
}

/// Groups of 16 values: `factor · quant` with quants from -32 to 31, stored from 0.
pub(super) fn q6_k(values: &[f32; 256], block: &mut [u8; 210]) {
    let groups = values.as_chunks::<16>().0;
    let mut quants = [0i8; 256];
    let mut factors = [0.0f32; 16];
    for (i, (group, quants)) in groups.iter().zip(quants.as_chunks_mut::<16>().0).enumerate() {
        factors[i] = fit_signed(group, quants);
    }
    let widest =
        factors.iter().fold(0.0f32, |widest, &value| if value.abs() > widest.abs() { value } else { widest });
    if widest.abs() < NOTHING {
        *block = [0; 210];
        return;
    }
    let inverse = -128.0 / widest;
    let scales = factors.map(|value| nearest(inverse * value).min(127) as i8);
    put_half(block, 208, 1.0 / inverse);
    let factor = rounded(1.0 / inverse);
    for (i, (group, quants)) in groups.iter().zip(quants.as_chunks_mut::<16>().0).enumerate() {
        block[192 + i] = scales[i] as u8;
        let scale = factor * f32::from(scales[i]);
        if scale != 0.0 {
            *quants = group.map(|value| nearest(value / scale).clamp(-32, 31) as i8 + 32);
        }
    }
    for part in 0..2 {
        let quant = |j: usize, i: usize| quants[part * 128 + j * 32 + i] as u8;
        for i in 0..32 {
            block[part * 64 + i] = quant(0, i) & 0x0f | (quant(2, i) & 0x0f) << 4;
            block[part * 64 + 32 + i] = quant(1, i) & 0x0f | (quant(3, i) & 0x0f) << 4;
            block[128 + part * 32 + i] = (0..4).fold(0, |bits, j| bits | quant(j, i) >> 4 << (2 * j));
        }
    }
}

/// The factor under which quants from -32 to 31 come closest to a group's values, with a value's square as its weight.
/// The quants are stored from 0.
fn fit_signed(values: &[f32; 16], quants: &mut [i8; 16]) -> f32 {
    let widest =
        values.iter().fold(0.0f32, |widest, &value| if value.abs() > widest.abs() { value } else { widest });
    if widest.abs() < NOTHING {
        *quants = [0; 16];
        return 0.0;
    }
    // The quants of a candidate, the weighted sum of value times quant, and that of the quants' squares.
    let candidate = |inverse: f32| {
        let quants = values.map(|value| nearest(inverse * value).clamp(-32, 31) as i8);
        let (mut sum_xq, mut sum_qq) = (0.0, 0.0);
        for (value, &quant) in values.iter().zip(&quants) {
            let (weight, quant) = (value * value, f32::from(quant));
            sum_xq += weight * value * quant;
            sum_qq += weight * quant * quant;
        }
        (quants, sum_xq, sum_qq)
    };
    let (first, sum_xq, sum_qq) = candidate(-32.0 / widest);
    let mut chosen = first;
    let mut factor = if sum_qq != 0.0 { sum_xq / sum_qq } else { 0.0 };
    let mut best = factor * sum_xq;
    for step in (-9..=9i8).filter(|step| *step != 0) {
        let (found, sum_xq, sum_qq) = candidate(-(32.0 + 0.1 * f32::from(step)) / widest);
        if sum_qq > 0.0 && sum_xq * sum_xq > best * sum_qq {
            (chosen, factor) = (found, sum_xq / sum_qq);
            best = factor * sum_xq;
        }
    }
    *quants = chosen.map(|quant| quant + 32);
    factor
}

/// The nearest integer, ties to even.
fn nearest(value: f32) -> i32 {
    value.round_ties_even() as i32
}

/// A factor as its f16 is read.
fn rounded(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}
