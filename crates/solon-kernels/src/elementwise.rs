//! Sums, scaling and SwiGLU, element by element.

use crate::exp::exp;
use crate::parallel::{for_rows, for_rows2};

multiversion! {
    /// `y += a * x`.
    pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = a.mul_add(*x, *y);
        }
    }
}

/// `y += x`, split between threads.
pub fn add(y: &mut [f32], x: &[f32]) {
    for_rows(y, 1, |first, y| axpy(1.0, &x[first..first + y.len()], y));
}

multiversion! {
    /// `x *= a`.
    pub fn scale(x: &mut [f32], a: f32) {
        for x in x {
            *x *= a;
        }
    }
}

/// Adds `bias` to each row of `y`.
pub fn add_bias(y: &mut [f32], bias: &[f32]) {
    for_rows(y, bias.len(), |_, rows| {
        for row in rows.chunks_exact_mut(bias.len()) {
            axpy(1.0, bias, row);
        }
    });
}

/// `db += Σ_rows dy`, rows in order.
pub fn bias_grad(dy: &[f32], db: &mut [f32]) {
    for row in dy.chunks_exact(db.len()) {
        axpy(1.0, row, db);
    }
}

multiversion! {
    /// One run of `out = silu(gate) * up`, silu(g) = g / (1 + e^-g).
    pub fn swiglu_run(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
            *out = g / (1.0 + exp(-g)) * u;
        }
    }
}

multiversion! {
    /// One run of the gradient of [`swiglu_run`]: with s = sigmoid(g), dup = dout·g·s and
    /// dgate = dout·up·s·(1 + g·(1 − s)).
    pub fn swiglu_grad_run(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for i in 0..gate.len() {
            let (g, u, d) = (gate[i], up[i], dout[i]);
            let s = 1.0 / (1.0 + exp(-g));
            dup[i] = d * g * s;
            dgate[i] = d * u * s * (1.0 + g * (1.0 - s));
        }
    }
}

/// `out = silu(gate) * up` (Shazeer 2020, "GLU Variants Improve Transformer").
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && up.len() == out.len());
    for_rows(out, 1, |first, out| {
        let run = first..first + out.len();
        swiglu_run(&gate[run.clone()], &up[run], out);
    });
}

/// Gradient of [`swiglu`]; replaces `dgate` and `dup`.
pub fn swiglu_grad(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    assert!(gate.len() == up.len() && up.len() == dout.len() && dgate.len() == dup.len());
    for_rows2(dgate, 1, dup, 1, |first, dgate, dup| {
        let run = first..first + dgate.len();
        swiglu_grad_run(&gate[run.clone()], &up[run.clone()], &dout[run], dgate, dup);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn swiglu_gradient_is_the_finite_difference() {
        let gate: Vec<f32> = (0..40).map(|i| (i as f32 - 20.0) * 0.3).collect();
        let up: Vec<f32> = (0..40).map(|i| (i as f32 * 0.7).sin()).collect();
        let dout: Vec<f32> = (0..40).map(|i| (i as f32 * 0.3).cos()).collect();
        let (mut dgate, mut dup) = (vec![0.0; 40], vec![0.0; 40]);
        swiglu_grad(&gate, &up, &dout, &mut dgate, &mut dup);
        let value = |g: f64, u: f64| g / (1.0 + (-g).exp()) * u;
        for i in 0..40 {
            let (g, u, d) = (f64::from(gate[i]), f64::from(up[i]), f64::from(dout[i]));
            let by_gate = d * (value(g + 1e-5, u) - value(g - 1e-5, u)) / 2e-5;
            let by_up = d * (value(g, u + 1e-5) - value(g, u - 1e-5)) / 2e-5;
            assert!((by_gate - f64::from(dgate[i])).abs() < 1e-5, "gate {i}: {by_gate} {}", dgate[i]);
            assert!((by_up - f64::from(dup[i])).abs() < 1e-5, "up {i}: {by_up} {}", dup[i]);
        }
    }

    #[test]
    fn bias_gradient_sums_rows() {
        let mut db = vec![1.0, 2.0];
        bias_grad(&[1.0, 10.0, 2.0, 20.0], &mut db);
        assert_eq!(db, [4.0, 32.0]);
    }

    #[test]
    fn swiglu_is_the_references_in_both_directions() {
        // Large gates too, where the exponential is clamped, and more elements than one thread takes.
        let gate: Vec<f32> = (0..50_001).map(|i| (i as f32 * 0.013).sin() * 100.0).collect();
        let up: Vec<f32> = (0..50_001).map(|i| (i as f32 * 0.7).sin()).collect();
        let dout: Vec<f32> = (0..50_001).map(|i| (i as f32 * 0.3).cos()).collect();
        let zeros = || vec![0.0; gate.len()];
        let [mut out, mut dgate, mut dup] = [zeros(), zeros(), zeros()];
        let [mut out_expected, mut dgate_expected, mut dup_expected] = [zeros(), zeros(), zeros()];
        swiglu(&gate, &up, &mut out);
        swiglu_grad(&gate, &up, &dout, &mut dgate, &mut dup);
        reference::swiglu(&gate, &up, &mut out_expected);
        reference::swiglu_grad(&gate, &up, &dout, &mut dgate_expected, &mut dup_expected);
        for (got, expected) in [(out, out_expected), (dgate, dgate_expected), (dup, dup_expected)] {
            for (i, (x, y)) in got.iter().zip(&expected).enumerate() {
                assert!((x - y).abs() <= 2e-6 * y.abs().max(1.0), "{i}, gate {}: {x} {y}", gate[i]);
            }
        }
    }
}
