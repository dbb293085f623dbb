//! How much of a batch goes through the model at a time, by the memory it may take.
//!
//! A function of the model, the precision and the budget alone, never of what the machine has free: where a step is cut
//! into passes is part of its result.

use crate::cli::UsageError;
use anyhow::Result;
use solon_kernels::Precision;
use solon_model::parameters::Projection;
use solon_model::{Keep, LOGIT_ROWS, ModelConfig};

/// Tokens in one forward and backward pass where memory does not bind: enough for full tiles.
pub const TOKENS_PER_PASS: usize = 1024;
/// Fewer tokens than this fill no tiles; then activations are computed again instead of kept.
const FEW_TOKENS: usize = 256;
/// The least that is worth a pass.
const LEAST_TOKENS: usize = 64;
/// The program, the tokenizer, the ledger and the kernels' scratch.
const BESIDE: usize = 200 << 20;

/// What one pass takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Tokens, about.
    pub tokens: usize,
    /// What it keeps for the gradient.
    pub keep: Keep,
}

impl Pass {
    /// The pass that fits into `budget` GB (10⁹ bytes), the largest where there is no budget. `rank` is the trained
    /// adapter's; `None` trains every weight.
    ///
    /// A sequence that is longer by itself is run whole, and then takes more.
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
        let fixed = fixed_bytes(config, rank, precision);
        let room = (budget * 1e9) as usize;
        for keep in [Keep::Activations, Keep::Inputs] {
            let tokens = room.saturating_sub(fixed) / token_bytes(config, rank, keep);
            if tokens >= FEW_TOKENS || (keep == Keep::Inputs && tokens >= LEAST_TOKENS) {
                return Ok(Self { tokens: tokens.min(TOKENS_PER_PASS), keep });
            }
        }
        let least = fixed + LEAST_TOKENS * token_bytes(config, rank, Keep::Inputs);
        let least = (1e-8 * least as f64).ceil() / 10.0;
        let hint = if rank.is_none() { "raise the budget, or train an adapter" } else { "raise the budget" };
        let text = format!(
            "training this model takes {least:.1} GB at least, the budget is {budget} GB\nhint: {hint}"
        );
        Err(UsageError(text).into())
    }
}

/// What does not depend on the batch: weights in the forms that products read, and what is trained with its gradient and
/// moments; logits of the head's chunk.
fn fixed_bytes(config: &ModelConfig, rank: Option<usize>, precision: Precision) -> usize {
    let shapes = Projection::ALL.map(|p| p.shape(config));
    let matrices: usize = shapes.iter().map(|(rows, columns)| rows * columns).sum();
    let embedding = config.vocab_size * config.hidden_size;
    let heads = if config.tie_word_embeddings { 1 } else { 2 };
    let packed = 2 * if precision == Precision::Bf16 { 2 } else { 4 };
    let trained = match rank {
        // Values, gradients and two moments.
        None => 16 * (config.num_layers * matrices + heads * embedding),
        // The same of the factors, with their packed forms; PPO trains two adapters and holds two more.
        Some(rank) => {
            let factors: usize = shapes.iter().map(|(rows, columns)| rank * (rows + columns)).sum();
            4 * embedding + 4 * (16 + packed) * config.num_layers * factors
        }
    };
    let logits = 4 * LOGIT_ROWS * config.vocab_size;
    BESIDE + packed * (config.num_layers * matrices + embedding) + trained + logits
}

/// What a pass holds for each of its tokens.
fn token_bytes(config: &ModelConfig, rank: Option<usize>, keep: Keep) -> usize {
    let (hidden, q, kv, mlp) =
        (config.hidden_size, config.q_width(), config.kv_width(), config.intermediate_size);
    let raw = if config.qk_norm { q + kv } else { 0 };
    let inner = 7 * rank.unwrap_or(0);
    let block = 2 * hidden + 2 * q + 2 * kv + raw + config.num_heads + 2 * mlp + inner;
    let kept = match keep {
        Keep::Activations => config.num_layers * block,
        Keep::Inputs => config.num_layers * hidden + block,
    };
    // One block's gradients, in flight.
    4 * (kept + 4 * hidden + 2 * q + 4 * kv + 4 * mlp)
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

    #[test]
    fn less_memory_means_shorter_passes_then_recomputation_then_a_refusal() {
        assert_eq!(pass(20.0).unwrap(), Pass { tokens: TOKENS_PER_PASS, keep: Keep::Activations });
        let middle = pass(3.4).unwrap();
        assert!(middle.keep == Keep::Activations && middle.tokens < TOKENS_PER_PASS, "{middle:?}");
        assert_eq!(pass(3.1).unwrap().keep, Keep::Inputs);
        let refusal = pass(2.0).unwrap_err().to_string();
        let least = refusal.split(' ').find_map(|word| word.parse::<f64>().ok()).unwrap();
        assert!(pass(least).is_ok(), "{refusal}");
        assert!(pass(f64::NAN).is_err() && pass(-1.0).is_err());
    }
}
