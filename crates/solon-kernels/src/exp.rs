//! The exponential, as one sequence of multiply-adds that vectorises and rounds alike on every instruction set.
//!
//! Range reduction by ln 2 in two parts, then a degree-6 polynomial (coefficients as in Cephes' `expf`); relative error
//! below 2e-7 on the whole range. Inputs are clamped to [-87.3, 88.3], so the result is always finite and positive. A caller
//! that masks must write exact zeros itself.

/// Lanes that the kernels work on at a time.
pub const LANES: usize = 16;

/// e^x for x in about [-87.3, 88.3]; clamped outside.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.3);
    // Adding and taking away 1.5·2^23 rounds to the nearest integer without a branch.
    let magic = 12_582_912.0_f32;
    let n = x.mul_add(std::f32::consts::LOG2_E, magic) - magic;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_2e-4_f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_6e-1);
    let p = p.mul_add(r, 0.5);
    let y = p.mul_add(r * r, r) + 1.0;
    let scale = f32::from_bits((((n as i32) + 127) << 23) as u32);
    y * scale
}

/// Adds lanes in a fixed tree.
#[inline(always)]
pub fn sum_lanes(lanes: [f32; LANES]) -> f32 {
    let mut half = [0.0; 8];
    for i in 0..8 {
        half[i] = lanes[i] + lanes[i + 8];
    }
    let mut quarter = [0.0; 4];
    for i in 0..4 {
        quarter[i] = half[i] + half[i + 4];
    }
    (quarter[0] + quarter[2]) + (quarter[1] + quarter[3])
}

/// Sum of products of two equally long slices, in lanes of 16 with the remainder last.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a_head, a_tail) = a.as_chunks::<LANES>();
    let (b_head, b_tail) = b.as_chunks::<LANES>();
    for (x, y) in a_head.iter().zip(b_head) {
        for i in 0..LANES {
            lanes[i] = x[i].mul_add(y[i], lanes[i]);
        }
    }
    let mut sum = sum_lanes(lanes);
    for (x, y) in a_tail.iter().zip(b_tail) {
        sum = x.mul_add(*y, sum);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_library_over_the_range() {
        let mut worst = 0.0_f64;
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            worst = worst.max(((f64::from(exp(x)) - exact) / exact).abs());
        }
        assert!(worst < 3e-7, "worst relative error {worst}");
    }

    #[test]
    fn exp_stays_finite_and_positive_outside_the_range() {
        for x in [f32::NEG_INFINITY, -1e9, 1e9, f32::INFINITY] {
            assert!(exp(x).is_finite() && exp(x) > 0.0);
        }
    }
}
