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
    use crate::reference;
    use serde_json::Value;

    #[test]
    fn a_long_parameter_is_updated_as_its_runs_are() {
        let numbers = |a: f32| (0..2 * RUN + 3).map(|i| (i as f32 * a).sin()).collect::<Vec<f32>>();
        let hyper = AdamW {
            learning_rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            step: 3,
            gradient_scale: 0.5,
        };
        let start = [numbers(0.1), numbers(0.2), numbers(0.3), numbers(0.4).iter().map(|x| x * x).collect()];
        let [mut p, mut g, mut m, mut v] = start.clone();
        threads::with_threads(2, || adamw(hyper, &mut p, &mut g, &mut m, &mut v));
        let [mut p1, mut g1, mut m1, mut v1] = start;
        adamw_run(hyper, &mut p1, &mut g1, &mut m1, &mut v1);
        assert!(p == p1 && g == g1 && m == m1 && v == v1);
    }

    #[test]
    fn ten_steps_equal_pytorch() {
        let golden: Value = serde_json::from_str(include_str!("../tests/goldens/adamw.json")).unwrap();
        let array = |value: &Value| -> Vec<f32> {
            value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
        };
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 3);
        for case in cases {
            let setting = |name: &str| case["settings"][name].as_f64().unwrap() as f32;
            let mut param = array(&case["start"]);
            let (mut first, mut second) = (vec![0.0; param.len()], vec![0.0; param.len()]);
            for (t, step) in case["steps"].as_array().unwrap().iter().enumerate() {
                let hyper = AdamW {
                    learning_rate: setting("learning_rate"),
                    beta1: setting("beta1"),
                    beta2: setting("beta2"),
                    eps: setting("eps"),
                    weight_decay: setting("weight_decay"),
                    step: t as u32 + 1,
                    gradient_scale: setting("gradient_scale"),
                };
                let mut gradient = array(&step["gradient"]);
                adamw(hyper, &mut param, &mut gradient, &mut first, &mut second);
                assert!(gradient.iter().all(|g| *g == 0.0), "the gradient is used up");
                for (name, got) in [("parameter", &param), ("first", &first), ("second", &second)] {
                    for (i, (x, exact)) in got.iter().zip(array(&step[name])).enumerate() {
                        let off = (x - exact).abs();
                        assert!(
                            off <= 2e-6 * exact.abs().max(0.1),
                            "{}, step {t}, {name} {i}: {x} {exact}",
                            case["name"]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn updates_and_sums_are_the_references() {
        let numbers = |a: f32| (0..RUN + 77).map(|i| (i as f32 * a).sin()).collect::<Vec<f32>>();
        let start = [numbers(0.1), numbers(0.2), numbers(0.3), numbers(0.4).iter().map(|x| x * x).collect()];
        let hyper = AdamW {
            learning_rate: 0.05,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-6,
            weight_decay: 0.1,
            step: 7,
            gradient_scale: 0.3,
        };
        let exact = reference::sum_of_squares(&start[0]);
        assert!((sum_of_squares(&start[0]) - exact).abs() < 1e-9 * exact);
        let [mut p, mut g, mut m, mut v] = start.clone();
        adamw(hyper, &mut p, &mut g, &mut m, &mut v);
        let [mut p1, mut g1, mut m1, mut v1] = start;
        reference::adamw(hyper, &mut p1, &mut g1, &mut m1, &mut v1);
        for (got, expected) in [(p, p1), (g, g1), (m, m1), (v, v1)] {
            for (i, (x, y)) in got.iter().zip(&expected).enumerate() {
                assert!((x - y).abs() <= 2e-6 * y.abs().max(0.5), "{i}: {x} {y}");
            }
        }
    }
}
