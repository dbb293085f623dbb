//! RMSNorm (Zhang & Sennrich 2019): `y = x / sqrt(mean(x²) + eps) * gain`.

use crate::exp::dot;
use crate::parallel::{for_chunks, for_rows, for_rows2};
use crate::threads;

/// The reciprocal root mean square of one row.
#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

multiversion! {
    /// Normalises rows of `gain.len()` on the calling thread.
    pub fn rms_norm_run(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
        let width = gain.len();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let r = inverse_rms(x, eps);
            for i in 0..width {
                y[i] = x[i] * r * gain[i];
            }
        }
    }
}

multiversion! {
    /// Adds the input gradient of rows of `gain.len()` on the calling thread; `inverses` gets each row's inverse rms.
    ///
    /// With r = inverse rms and w = gain·dy: dx = r·w − x·r³/width·Σ(w·x).
    fn rms_norm_grad_run(x: &[f32], gain: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], inverses: &mut [f32]) {
        let width = gain.len();
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((x, dy), dx), inverse) in rows.zip(inverses) {
            let r = inverse_rms(x, eps);
            *inverse = r;
            let mut lanes = [0.0; 16];
            for i in 0..width {
                lanes[i % 16] = (gain[i] * dy[i]).mul_add(x[i], lanes[i % 16]);
            }
            let c = crate::exp::sum_lanes(lanes) * r * r * r / width as f32;
            for i in 0..width {
                dx[i] += r * gain[i] * dy[i] - x[i] * c;
            }
        }
    }
}

multiversion! {
    /// `dgain += Σ_rows dy · x · r`, rows in order, for some columns from `first` on of rows of `width`.
    fn rms_norm_gain_grad(x: &[f32], dy: &[f32], inverses: &[f32], width: usize, first: usize, dgain: &mut [f32]) {
        for ((x, dy), r) in x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(inverses) {
            let (x, dy) = (&x[first..first + dgain.len()], &dy[first..first + dgain.len()]);
            for i in 0..dgain.len() {
                dgain[i] = (x[i] * r).mul_add(dy[i], dgain[i]);
            }
        }
    }
}

/// `y = norm(x)·gain` for rows of `gain.len()`.
pub fn rms_norm(x: &[f32], gain: &[f32], eps: f32, y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    let width = gain.len();
    for_rows(y, width, |first, y| rms_norm_run(&x[first * width..first * width + y.len()], gain, eps, y));
}

/// Adds the gradient of [`rms_norm`] with respect to `x` to `dx`, and with respect to the gain to `dgain` where given.
pub fn rms_norm_grad(
    x: &[f32],
    gain: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    dgain: Option<&mut [f32]>,
) {
    let width = gain.len();
    let mut inverses = vec![0.0; dx.len() / width];
    for_rows2(dx, width, &mut inverses, 1, |first, dx, inverses| {
        let run = first * width..first * width + dx.len();
        rms_norm_grad_run(&x[run.clone()], gain, eps, &dy[run], dx, inverses);
    });
    if let Some(dgain) = dgain {
        let columns = width.div_ceil(threads::count()).next_multiple_of(16);
        for_chunks(dgain, columns, |i, dgain| {
            rms_norm_gain_grad(x, dy, &inverses, width, i * columns, dgain);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn numbers(n: usize, a: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * a).sin() + 0.1).collect()
    }

    fn value(x: &[f64], gain: &[f64], dy: &[f64]) -> f64 {
        let r = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + 1e-5).sqrt();
        (0..x.len()).map(|i| x[i] * r * gain[i] * dy[i]).sum()
    }

    #[test]
    fn gradients_are_finite_differences() {
        let (x, gain, dy) = (numbers(24, 0.7), numbers(24, 0.3), numbers(24, 1.1));
        let (mut dx, mut dgain) = (vec![0.0; 24], vec![0.0; 24]);
        rms_norm_grad(&x, &gain, 1e-5, &dy, &mut dx, Some(&mut dgain));
        let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let (x, gain, dy) = (wide(&x), wide(&gain), wide(&dy));
        for i in 0..24 {
            let (mut up, mut down) = (x.clone(), x.clone());
            up[i] += 1e-5;
            down[i] -= 1e-5;
            let numeric = (value(&up, &gain, &dy) - value(&down, &gain, &dy)) / 2e-5;
            assert!((numeric - f64::from(dx[i])).abs() < 1e-5, "x {i}: {numeric} {}", dx[i]);
            let (mut up, mut down) = (gain.clone(), gain.clone());
            up[i] += 1e-5;
            down[i] -= 1e-5;
            let numeric = (value(&x, &up, &dy) - value(&x, &down, &dy)) / 2e-5;
            assert!((numeric - f64::from(dgain[i])).abs() < 1e-5, "gain {i}: {numeric} {}", dgain[i]);
        }
    }

    #[test]
    fn both_directions_are_the_references() {
        let (rows, width) = (70, 257);
        let (x, gain, dy) = (numbers(rows * width, 0.7), numbers(width, 0.3), numbers(rows * width, 1.1));
        let (mut y, mut expected) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        rms_norm(&x, &gain, 1e-5, &mut y);
        reference::rms_norm(&x, &gain, 1e-5, &mut expected);
        // Gradients are added to what is there.
        let (mut dx, mut dgain) = (dy.clone(), gain.clone());
        let (mut dx_expected, mut dgain_expected) = (dy.clone(), gain.clone());
        rms_norm_grad(&x, &gain, 1e-5, &dy, &mut dx, Some(&mut dgain));
        reference::rms_norm_grad(&x, &gain, 1e-5, &dy, &mut dx_expected, Some(&mut dgain_expected));
        for (got, expected) in [(y, expected), (dx, dx_expected), (dgain, dgain_expected)] {
            for (i, (x, y)) in got.iter().zip(&expected).enumerate() {
                assert!((x - y).abs() < 2e-5, "{i}: {x} {y}");
            }
        }
    }
}
