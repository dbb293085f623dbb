//! The shape of a decoder: what tells Llama, Mistral, Qwen2 and Qwen3 apart, as plain numbers.
//!
//! Contract: a [`ModelConfig`] that came out of [`ModelConfig::validate`] can be trusted by the decoder; nothing
//! downstream checks it again. Knows no file formats (`weights/` parses them into this).

use solon_kernels::attention::MAX_HEAD_DIM;

/// Which family the checkpoint came from. The decoder itself only looks at the switches in [`ModelConfig`];
/// the family decides names and file layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `LlamaForCausalLM`, which covers SmolLM2.
    Llama,
    /// `MistralForCausalLM`.
    Mistral,
    /// `Qwen2ForCausalLM`: biases on q, k and v.
    Qwen2,
    /// `Qwen3ForCausalLM`: RMSNorm on each head's q and k.
    Qwen3,
}

/// How RoPE frequencies are changed for long contexts; `rope.rs` has the formulas.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as `theta` gives them.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor, at least 1.
        factor: f32,
    },
    /// Llama 3.1's piecewise scaling (`rope_type = "llama3"`).
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f32,
        /// Wavelengths longer than `original_context / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Wavelengths shorter than `original_context / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// The context length of pretraining, in tokens.
        original_context: f32,
    },
    /// Frequencies as `theta` gives them within [`ModelConfig::max_position_embeddings`], which nothing here exceeds. Beyond
    /// it transformers changes them with the longest sequence that it has seen.
    Dynamic {
        /// Kept for whoever loads the model elsewhere.
        factor: f32,
    },
    /// YaRN.
    Yarn(Yarn),
    /// LongRoPE.
    LongRope(Box<LongRope>),
}

/// YaRN (Peng et al. 2023): low frequencies are divided by `factor`, high ones are kept, and those between are mixed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yarn {
    /// Divisor of the low frequencies, at least 1.
    pub factor: f32,
    /// The context length of pretraining, in tokens.
    pub original_context: f32,
    /// Frequencies that turn at least so often within the original context are kept.
    pub beta_fast: f32,
    /// Frequencies that turn at most so often within the original context are divided.
    pub beta_slow: f32,
    /// The bounds of the mixed frequencies are rounded outwards to whole places.
    pub truncate: bool,
    /// What cosine and sine are multiplied by; where it is absent, the next two and `factor` say it.
    pub attention_factor: Option<f32>,
    /// With [`Yarn::mscale_all_dim`]: the numerator's weight of `ln factor`.
    pub mscale: Option<f32>,
    /// With [`Yarn::mscale`]: the denominator's weight of `ln factor`.
    pub mscale_all_dim: Option<f32>,
}

/// LongRoPE (Ding et al. 2024): a divisor for each frequency, one list for short sequences and another for long ones.
///
/// A sequence changes from one list to the other when it grows beyond the original context, its earlier tokens too. Only
/// the short list is run: [`ModelConfig::max_position_embeddings`] is at most the original context.
#[derive(Clone, Debug, PartialEq)]
pub struct LongRope {
    /// Divisors within the original context, `[head_dim / 2]`.
    pub short_factors: Vec<f32>,
    /// Divisors beyond it, `[head_dim / 2]`; kept for whoever loads the model elsewhere.
    pub long_factors: Vec<f32>,
    /// The context length of pretraining, in tokens.
    pub original_context: usize,
    /// The context length with the long list, in tokens.
    pub long_context: usize,
    /// What cosine and sine are multiplied by.
    pub attention_factor: f32,
}

/// Everything the decoder needs to know about a model's shape.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f32,
    /// RoPE base.
    pub rope_theta: f32,
    /// RoPE scaling.
    pub rope_scaling: RopeScaling,
    /// Longest context in tokens.
    pub max_position_embeddings: usize,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// q, k and v have biases (Qwen2).
    pub qkv_bias: bool,
    /// Each head's q and k go through RMSNorm before RoPE (Qwen3).
    pub qk_norm: bool,
}

impl ModelConfig {
    /// Refuses shapes the decoder cannot run, naming the field.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_layers),
            ("num_attention_heads", self.num_heads),
            ("num_key_value_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, value) in positive {
            // 2^24 keeps every product of two dimensions far from overflow.
            if value == 0 || value > 1 << 24 {
                return Err(format!("{name} is {value}, which no model has"));
            }
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            return Err(format!(
                "num_attention_heads ({}) is no multiple of num_key_value_heads ({})",
                self.num_heads, self.num_kv_heads
            ));
        }
        if self.head_dim > MAX_HEAD_DIM {
            return Err(format!(
                "head_dim ({}) is above {MAX_HEAD_DIM}, the widest that is supported",
                self.head_dim
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim ({}) is odd; RoPE needs pairs", self.head_dim));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps > 0.0) {
            return Err(format!("rms_norm_eps is {}", self.rms_norm_eps));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 0.0) {
            return Err(format!("rope_theta is {}", self.rope_theta));
        }
        self.validate_rope_scaling()
    }

    /// Refuses scalings whose formula divides by zero, speeds frequencies up, or is not the same everywhere.
    fn validate_rope_scaling(&self) -> Result<(), String> {
        let positive = |name: &str, value: f32| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(format!("{name} is {value}, and should be above 0")),
        };
        match &self.rope_scaling {
            RopeScaling::Linear { factor }
            | RopeScaling::Llama3 { factor, .. }
            | RopeScaling::Dynamic { factor }
            | RopeScaling::Yarn(Yarn { factor, .. })
                if !(factor.is_finite() && *factor >= 1.0) =>
            {
                Err(format!("the factor of the RoPE scaling is {factor}, below 1"))
            }
            RopeScaling::Llama3 { low_freq_factor: low, high_freq_factor: high, .. } if high <= low => {
                Err(format!("high_freq_factor ({high}) is not above low_freq_factor ({low})"))
            }
            RopeScaling::Yarn(yarn) => {
                positive("original_max_position_embeddings", yarn.original_context)?;
                positive("beta_slow", yarn.beta_slow)?;
                positive("the attention factor of YaRN", yarn.attention_factor())?;
                if !(yarn.beta_fast.is_finite() && yarn.beta_fast >= yarn.beta_slow) {
                    return Err(format!(
                        "beta_fast ({}) is below beta_slow ({})",
                        yarn.beta_fast, yarn.beta_slow
                    ));
                }
                let (low, high) = yarn.mixed(self.head_dim, self.rope_theta);
                // transformers and llama.cpp part here: one divides all frequencies, the other none.
                if low.partial_cmp(&high).is_none_or(|order| order.is_gt()) {
                    return Err(format!(
                        "with rope_theta {} and an original context of {} YaRN mixes no frequency of heads of {}",
                        self.rope_theta, yarn.original_context, self.head_dim
                    ));
                }
                Ok(())
            }
            RopeScaling::LongRope(longrope) => {
                for (name, factors) in
                    [("short_factor", &longrope.short_factors), ("long_factor", &longrope.long_factors)]
                {
                    if factors.len() != self.head_dim / 2 {
                        let (found, wanted) = (factors.len(), self.head_dim / 2);
                        return Err(format!(
                            "{name} has {found} numbers, and heads of {} have {wanted} frequencies",
                            self.head_dim
                        ));
                    }
                    factors.iter().try_for_each(|factor| positive(name, *factor))?;
                }
                positive("the attention factor of LongRoPE", longrope.attention_factor)?;
                match self.max_position_embeddings <= longrope.original_context {
                    true => Ok(()),
                    false => Err(format!(
                        "a context of {} is beyond LongRoPE's original {}, where its frequencies change",
                        self.max_position_embeddings, longrope.original_context
                    )),
                }
            }
            _ => Ok(()),
        }
    }

    /// Query heads that share one key/value head.
    pub fn group(&self) -> usize {
        self.num_heads / self.num_kv_heads
    }

    /// The context that files of this model name: more than is run where LongRoPE's frequencies would change.
    pub fn published_context(&self) -> usize {
        match &self.rope_scaling {
            RopeScaling::LongRope(longrope) => longrope.long_context,
            _ => self.max_position_embeddings,
        }
    }

    /// Width of the concatenated query heads.
    pub fn q_width(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Width of the concatenated key (or value) heads.
    pub fn kv_width(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }
}
