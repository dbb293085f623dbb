//! AdamW (Loshchilov & Hutter 2019) with bias correction, as PyTorch computes it, in one pass over the parameter.

use crate::parallel::SharedOutput;
use crate::threads;

/// Settings of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Which update this is, from 1.
    pub step: u32,
    /// Multiplies the gradient first: clipping by global norm.
    pub gradient_scale: f32,
}

multiversion! {
    /// Updates one run of parameters and moments, and zeroes the gradient.
    pub fn adamw_run(hyper: AdamW, param: &mut [f32], grad: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        let correction1 = 1.0 - f64::from(hyper.beta1).powi(hyper.step as i32);
        let correction2 = 1.0 - f64::from(hyper.beta2).powi(hyper.step as i32);
        let step_size = (f64::from(hyper.learning_rate) / correction1) as f32;
        let root = (1.0 / correction2.sqrt()) as f32;
        let keep = 1.0 - hyper.learning_rate * hyper.weight_decay;
        for (((param, grad), first), second) in param.iter_mut().zip(grad).zip(first).zip(second) {
            let g = *grad * hyper.gradient_scale;
            *grad = 0.0;
            *first = hyper.beta1 * *first + (1.0 - hyper.beta1) * g;
            *second = hyper.beta2 * *second + (1.0 - hyper.beta2) * g * g;
            *param = *param * keep - step_size * *first / (second.sqrt() * root + hyper.eps);
        }
    }
}

/// Elements of one task.
const RUN: usize = 64 * 1024;

/// Updates a parameter and its moments and zeroes its gradient, split between threads.
pub fn adamw(hyper: AdamW, param: &mut [f32], grad: &mut [f32], first: &mut [f32], second: &mut [f32]) {
    let len = param.len();
    assert!(grad.len() == len && first.len() == len && second.len() == len);
    let all = [param, grad, first, second].map(SharedOutput::new);
    threads::for_each(len.div_ceil(RUN), |i| {
        // SAFETY: the run ends with the arrays at the latest, and this task alone has it.
        let [param, grad, first, second] =
            all.map(|values| unsafe { values.slice(i * RUN, RUN.min(len - i * RUN)) });
        adamw_run(hyper, param, grad, first, second);
    });
}

multiversion! {
    /// Σ x² of a run, in eight f64 lanes.
    fn sum_of_squares_run(run: &[f32]) -> f64 {
        let mut lanes = [0.0_f64; 8];
        let (head, tail) = run.as_chunks::<8>();
        for x in head {
            for i in 0..8 {
                lanes[i] = f64::from(x[i]).mul_add(f64::from(x[i]), lanes[i]);
            }
        }
        let tail: f64 = tail.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        lanes.iter().sum::<f64>() + tail
    }
}

/// Σ x², in f64, in runs of 64 Ki elements added in order.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let run = |i: usize| sum_of_squares_run(&x[i * RUN..x.len().min((i + 1) * RUN)]);
    threads::map(x.len().div_ceil(RUN), run).iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u32) -> AdamW {
        AdamW {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            step,
            gradient_scale: 1.0,
        }
    }

    #[test]
    fn a_long_parameter_is_updated_as_its_runs_are() {
        let numbers = |a: f32| (0..2 * RUN + 3).map(|i| (i as f32 * a).sin()).collect::<Vec<f32>>();
        let hyper = AdamW { gradient_scale: 0.5, ..step(3) };
        let start = [numbers(0.1), numbers(0.2), numbers(0.3), numbers(0.4).iter().map(|x| x * x).collect()];
        let [mut p, mut g, mut m, mut v] = start.clone();
        threads::with_threads(2, || adamw(hyper, &mut p, &mut g, &mut m, &mut v));
        let [mut p1, mut g1, mut m1, mut v1] = start;
        adamw_run(hyper, &mut p1, &mut g1, &mut m1, &mut v1);
        assert!(p == p1 && g == g1 && m == m1 && v == v1);
    }

    #[test]
    fn three_steps_equal_pytorch() {
        // torch.optim.AdamW([1.0, -2.0], lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01),
        // gradients [0.5, -1.0], [0.1, 0.2], [-0.3, 0.0]; worked in f64 from the definition.
        let gradients = [[0.5_f32, -1.0], [0.1, 0.2], [-0.3, 0.0]];
        let (mut p, mut m, mut v) = (vec![1.0_f32, -2.0], vec![0.0; 2], vec![0.0; 2]);
        let (mut p64, mut m64, mut v64) = ([1.0_f64, -2.0], [0.0_f64; 2], [0.0_f64; 2]);
        for (t, g) in gradients.iter().enumerate() {
            let hyper = step(t as u32 + 1);
            let mut gradient = *g;
            adamw(hyper, &mut p, &mut gradient, &mut m, &mut v);
            assert_eq!(gradient, [0.0; 2]);
            for i in 0..2 {
                let g = f64::from(g[i]);
                m64[i] = 0.9 * m64[i] + 0.1 * g;
                v64[i] = 0.999 * v64[i] + 0.001 * g * g;
                let (mh, vh) = (
                    m64[i] / (1.0 - 0.9_f64.powi(t as i32 + 1)),
                    v64[i] / (1.0 - 0.999_f64.powi(t as i32 + 1)),
                );
                p64[i] = p64[i] * (1.0 - 0.1 * 0.01) - 0.1 * mh / (vh.sqrt() + 1e-8);
            }
        }
        for i in 0..2 {
            assert!((f64::from(p[i]) - p64[i]).abs() < 1e-5, "{p:?} {p64:?}");
        }
    }
}
