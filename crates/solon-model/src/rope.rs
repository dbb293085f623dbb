//! The angles of rotary position embeddings: how far each pair of a head turns with each position, and how long it
//! becomes.
//!
//! Contract: the numbers are transformers' for every sequence that fits the configuration's context, whatever else is run
//! beside it. A type whose numbers change with the sequence is bounded to where they do not (`RopeScaling::Dynamic`,
//! `RopeScaling::LongRope`).
//!
//! | scaling | frequency `i`, with `f = theta^(-2i/head_dim)` | attention factor |
//! |---|---|---|
//! | none, dynamic | `f` | 1 |
//! | linear | `f / factor` | 1 |
//! | llama3 | `f`, `f / factor` or a mixture, by the wavelength `2π/f` | 1 |
//! | yarn | `f`, `f / factor` or a mixture, by the place `i` | `1 + 0.1 ln factor`, or as given |
//! | longrope | `f / short_factor[i]` | as given |
//!
//! Source: transformers 5.24, `modeling_rope_utils.py`; `tests/rope_goldens.rs` holds it to its numbers.

use std::f32::consts::TAU;

use crate::config::{ModelConfig, RopeScaling, Yarn};

/// Radians a position, for each pair of elements of a head: `[head_dim / 2]`.
pub fn frequencies(config: &ModelConfig) -> Vec<f32> {
    (0..config.head_dim / 2).map(|pair| scaled(config, pair, period(config, pair))).collect()
}

/// What scaling divides each frequency by, `[head_dim / 2]`.
pub(crate) fn divisors(config: &ModelConfig) -> Vec<f32> {
    (0..config.head_dim / 2)
        .map(|pair| {
            let period = period(config, pair);
            1.0 / (period * scaled(config, pair, period))
        })
        .collect()
}

/// What cosine and sine are multiplied by: attention's logits grow with its square.
pub fn attention_factor(config: &ModelConfig) -> f32 {
    match &config.rope_scaling {
        RopeScaling::Yarn(yarn) => yarn.attention_factor(),
        RopeScaling::LongRope(longrope) => longrope.attention_factor,
        RopeScaling::None
        | RopeScaling::Linear { .. }
        | RopeScaling::Llama3 { .. }
        | RopeScaling::Dynamic { .. } => 1.0,
    }
}

/// Positions a radian, before scaling.
fn period(config: &ModelConfig, pair: usize) -> f32 {
    config.rope_theta.powf((2 * pair) as f32 / config.head_dim as f32)
}

/// The frequency of a pair with this period before scaling.
fn scaled(config: &ModelConfig, pair: usize, period: f32) -> f32 {
    let frequency = 1.0 / period;
    match &config.rope_scaling {
        RopeScaling::None | RopeScaling::Dynamic { .. } => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let wavelength = TAU / frequency;
            if wavelength < original_context / high_freq_factor {
                frequency
            } else if wavelength > original_context / low_freq_factor {
                frequency / factor
            } else {
                let smooth =
                    (original_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
        RopeScaling::Yarn(yarn) => {
            let (low, high) = yarn.mixed(config.head_dim, config.rope_theta);
            // transformers' guard against a division by zero.
            let width = if low == high { 0.001 } else { high - low };
            let kept = 1.0 - ((pair as f64 - low) / width).clamp(0.0, 1.0) as f32;
            1.0 / (yarn.factor * period) * (1.0 - kept) + frequency * kept
        }
        RopeScaling::LongRope(longrope) => 1.0 / (longrope.short_factors[pair] * period),
    }
}

impl Yarn {
    /// What cosine and sine are multiplied by.
    pub fn attention_factor(&self) -> f32 {
        let growth = |weight: f32| match self.factor <= 1.0 {
            true => 1.0,
            false => 0.1 * f64::from(weight) * f64::from(self.factor).ln() + 1.0,
        };
        let given = |weight: Option<f32>| weight.filter(|weight| *weight != 0.0);
        match (self.attention_factor, given(self.mscale), given(self.mscale_all_dim)) {
            (Some(factor), _, _) => factor,
            (None, Some(mscale), Some(all_dim)) => (growth(mscale) / growth(all_dim)) as f32,
            (None, _, _) => growth(1.0) as f32,
        }
    }

    /// The first and the last place of the frequencies that are mixed: those before are kept, those behind divided.
    pub(crate) fn mixed(&self, head_dim: usize, theta: f32) -> (f64, f64) {
        let dim = head_dim as f64;
        // The place whose frequency turns so often within the original context.
        let place = |turns: f32| {
            let wavelength = f64::from(self.original_context) / (f64::from(turns) * std::f64::consts::TAU);
            dim * wavelength.ln() / (2.0 * f64::from(theta).ln())
        };
        let (low, high) = (place(self.beta_fast), place(self.beta_slow));
        let (low, high) = if self.truncate { (low.floor(), high.ceil()) } else { (low, high) };
        (low.max(0.0), high.min(dim - 1.0))
    }
}
