//! How many tokens go through the model in one pass, given a memory budget.
//!
//! The pass is a function of the model, the precision and the budget alone, never of the machine's free memory, because
//! the result depends on where a step is cut into passes. In bf16 it also depends on the instruction set, as matrix
//! products do.

use crate::cli::UsageError;
use anyhow::Result;
use solon_kernels::Precision;
use solon_model::{Device, Keep, ModelConfig, fixed_training_bytes, training_bytes_per_token};

/// Tokens in one forward and backward pass if memory is not limited: enough for full tiles.
pub const TOKENS_PER_PASS: usize = 1024;
/// With fewer tokens than this, tiles are not full. Activations are then recomputed and not kept, so that more tokens
/// fit.
const FULL_TILES: usize = 256;
/// A pass with fewer tokens than this is refused.
const MIN_TOKENS: usize = 64;
/// Memory of the program, the tokenizer, the ledger and the kernels' scratch space.
const OTHER_MEMORY: usize = 200 << 20;

/// The size of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Approximate number of tokens.
    pub tokens: usize,
    /// What is kept for the backward pass.
    pub keep: Keep,
}

impl Pass {
    /// The largest pass that fits into `budget` GB (10⁹ bytes); the default size if there is no budget. `rank` is the
    /// trained adapter's; `None` trains all weights.
    ///
    /// A single sequence that is longer than the pass is not cut, and takes more memory.
    pub fn within(
        budget: Option<f64>,
        config: &ModelConfig,
        rank: Option<usize>,
        precision: Precision,
    ) -> Result<Self> {
        let most = Self { tokens: TOKENS_PER_PASS, keep: Keep::Activations };
        let Some(budget) = budget else { return Ok(most) };
        if !(budget.is_finite() && budget > 0.0) {
            return Err(UsageError(format!("the memory budget is {budget} GB; it must be above 0")).into());
        }
        let fixed = OTHER_MEMORY + fixed_training_bytes(&Device::new(precision), config, rank);
        let room = (budget * 1e9) as usize;
        for keep in [Keep::Activations, Keep::Inputs] {
            let tokens = room.saturating_sub(fixed) / training_bytes_per_token(config, rank, keep);
            if tokens >= FULL_TILES || (keep == Keep::Inputs && tokens >= MIN_TOKENS) {
                return Ok(Self { tokens: tokens.min(TOKENS_PER_PASS), keep });
            }
        }
        let least = fixed + MIN_TOKENS * training_bytes_per_token(config, rank, Keep::Inputs);
        let least = (1e-8 * least as f64).ceil() / 10.0;
        let hint =
            if rank.is_none() { "increase the budget, or train an adapter" } else { "increase the budget" };
        let text = format!(
            "training this model takes at least {least:.1} GB; the memory budget is {budget} GB\nhint: {hint}"
        );
        Err(UsageError(text).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_model::config::{Architecture, RopeScaling};

    fn smollm2() -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Llama,
            vocab_size: 49152,
            hidden_size: 576,
            intermediate_size: 1536,
            num_layers: 30,
            num_heads: 9,
            num_kv_heads: 3,
            head_dim: 64,
            rms_norm_eps: 1e-5,
            rope_theta: 1e5,
            rope_scaling: RopeScaling::None,
            max_position_embeddings: 8192,
            tie_word_embeddings: true,
            qkv_bias: false,
            qk_norm: false,
        }
    }

    fn pass(budget: f64) -> Result<Pass> {
        Pass::within(Some(budget), &smollm2(), None, Precision::Bf16)
    }

    /// The pass of a budget with room for so many tokens. What a processor packs weights into differs, so the budget does too.
    fn pass_of(tokens: usize, keep: Keep) -> Result<Pass> {
        let fixed = fixed_training_bytes(&Device::new(Precision::Bf16), &smollm2(), None);
        let room = tokens * training_bytes_per_token(&smollm2(), None, keep);
        pass((OTHER_MEMORY + fixed + room) as f64 / 1e9 + 1e-6)
    }

    #[test]
    fn less_memory_means_shorter_passes_then_recomputation_then_a_refusal() {
        assert_eq!(pass(20.0).unwrap(), Pass { tokens: TOKENS_PER_PASS, keep: Keep::Activations });
        let middle = pass_of(600, Keep::Activations).unwrap();
        assert_eq!(middle, Pass { tokens: 600, keep: Keep::Activations });
        assert_eq!(pass_of(FULL_TILES - 1, Keep::Activations).unwrap().keep, Keep::Inputs);
        assert_eq!(
            pass_of(MIN_TOKENS, Keep::Inputs).unwrap(),
            Pass { tokens: MIN_TOKENS, keep: Keep::Inputs }
        );
        let refusal = pass_of(MIN_TOKENS - 1, Keep::Inputs).unwrap_err().to_string();
        let least = refusal.split(' ').find_map(|word| word.parse::<f64>().ok()).unwrap();
        assert!(pass(least).is_ok(), "{refusal}");
        assert!(pass(f64::NAN).is_err() && pass(-1.0).is_err());
    }
}
