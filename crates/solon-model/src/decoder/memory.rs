//! How much memory training takes, as a function of the model's shape: what [`Decoder`](super::Decoder) and its passes
//! allocate, counted beside the code that allocates it. `tests/memory.rs` holds it to what a pass really takes.

use super::LOGIT_ROWS;
use super::backward::values_in_flight;
use super::forward::{Keep, values_kept};
use crate::backend::Backend;
use crate::config::ModelConfig;
use crate::parameters::Projection;

/// Bytes of an f32.
const F32: usize = 4;

/// Bytes that do not depend on the batch: weights in the forms that products read, what is trained with its gradient and two
/// moments, and the head's chunk of logits. `rank` is the trained adapter's; `None` trains every weight.
pub fn fixed_training_bytes<B: Backend>(backend: &B, config: &ModelConfig, rank: Option<usize>) -> usize {
    let shapes = Projection::ALL.map(|p| p.shape(config));
    let matrices: usize = shapes.iter().map(|(rows, columns)| rows * columns).sum();
    let embedding = config.vocab_size * config.hidden_size;
    let heads = if config.tie_word_embeddings { 1 } else { 2 };
    // Packed for the forward pass and for the input's gradient.
    let packed = 2 * backend.packed_value_bytes();
    let trained = match rank {
        // Values, gradients and two moments.
        None => 4 * F32 * (config.num_layers * matrices + heads * embedding),
        // The same of the factors, with their packed forms; PPO trains two adapters and holds two more.
        Some(rank) => {
            let factors: usize = shapes.iter().map(|(rows, columns)| rank * (rows + columns)).sum();
            F32 * embedding + 4 * (4 * F32 + packed) * config.num_layers * factors
        }
    };
    packed * (config.num_layers * matrices + embedding) + trained + F32 * LOGIT_ROWS * config.vocab_size
}

/// Bytes that a forward and backward pass holds at most for each of its tokens, beside the scratch of each thread.
pub fn training_bytes_per_token(config: &ModelConfig, rank: Option<usize>, keep: Keep) -> usize {
    let block = values_kept(config, rank);
    let kept = match keep {
        Keep::Activations => config.num_layers * block,
        Keep::Inputs => config.num_layers * config.hidden_size + block,
    };
    F32 * (kept + values_in_flight(config, rank))
}

#[cfg(test)]
mod tests {
    use super::super::forward::{BlockActivations, Kept};
    use super::*;
    use crate::config::{Architecture, RopeScaling};
    use crate::{Adapter, Decoder, LoraSettings, PackedBatch, Reference, Training};

    /// Every buffer that a forward pass keeps is counted, and nothing else.
    #[test]
    fn what_a_forward_pass_keeps_is_what_is_said() {
        for (qk_norm, rank) in [(false, None), (true, None), (true, Some(3))] {
            let config = ModelConfig {
                architecture: Architecture::Qwen3,
                vocab_size: 11,
                hidden_size: 10,
                intermediate_size: 14,
                num_layers: 3,
                num_heads: 4,
                num_kv_heads: 2,
                head_dim: 6,
                rms_norm_eps: 1e-5,
                rope_theta: 1e4,
                rope_scaling: RopeScaling::None,
                max_position_embeddings: 32,
                tie_word_embeddings: true,
                qkv_bias: true,
                qk_norm,
            };
            let make = |_: &str, shape: &[usize]| Ok::<_, ()>(vec![0.1; shape.iter().product()]);
            let decoder = Decoder::build(Reference, config.clone(), Training::Frozen, 32, make).unwrap();
            let adapter = rank.map(|rank| {
                let settings = LoraSettings::new(rank, 1.0, Projection::ALL);
                Adapter::fresh(&Reference, &config, settings, |_, _| 0.5)
            });
            let (batch, _) = PackedBatch::of(&[[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]]);
            for keep in [Keep::Activations, Keep::Inputs] {
                let held = |kept: &Kept<Reference>| match kept {
                    Kept::Input(x) => x.len(),
                    Kept::Activations(kept) => {
                        let BlockActivations { x, raw_qk, q, k, v, attention, logsum, mid, gate, up, inner } =
                            kept;
                        let always = [x, q, k, v, attention, logsum, mid, gate, up].map(Vec::len);
                        let raw = raw_qk.as_ref().map_or(0, |(q, k)| q.len() + k.len());
                        always.iter().sum::<usize>()
                            + raw
                            + inner.iter().flatten().map(Vec::len).sum::<usize>()
                    }
                };
                let forward = decoder.forward(adapter.as_ref(), &batch, keep);
                let got: usize = forward.blocks.iter().map(held).sum();
                let each = match keep {
                    Keep::Activations => values_kept(&config, rank),
                    Keep::Inputs => config.hidden_size,
                };
                assert_eq!(got, batch.len() * config.num_layers * each, "{keep:?}, {rank:?}, {qk_norm}");
            }
        }
    }
}
