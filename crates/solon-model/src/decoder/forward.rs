//! The forward pass over a packed batch.

use super::Decoder;
use crate::adapter::Adapter;
use crate::backend::{Backend, Turn};
use crate::batch::PackedBatch;
use crate::config::ModelConfig;
use crate::parameters::Projection;

/// What a forward pass keeps of each block for the backward pass. The results are the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Everything the gradient needs.
    Activations,
    /// The block's input alone; the block runs once more, forward, before its gradient (Chen et al. 2016, "Training Deep
    /// Nets with Sublinear Memory Cost").
    Inputs,
}

/// One block's part of a forward pass.
pub(super) enum Kept<B: Backend> {
    Activations(BlockActivations<B>),
    Input(B::Buffer),
}

/// What one block keeps for its gradient. Norms and SwiGLU outputs are cheap and are computed again instead.
pub(super) struct BlockActivations<B: Backend> {
    /// The residual stream on entry, `[tokens, hidden]`.
    pub x: B::Buffer,
    /// q and k before their norm, where the model has one.
    pub raw_qk: Option<(B::Buffer, B::Buffer)>,
    /// q after norm and RoPE, `[tokens, q_width]`.
    pub q: B::Buffer,
    /// k after norm and RoPE, `[tokens, kv_width]`.
    pub k: B::Buffer,
    /// `[tokens, kv_width]`.
    pub v: B::Buffer,
    /// `[tokens, q_width]`.
    pub attention: B::Buffer,
    /// `[tokens, heads]`.
    pub logsum: B::Buffer,
    /// The residual stream after attention, `[tokens, hidden]`.
    pub mid: B::Buffer,
    /// `[tokens, intermediate]`.
    pub gate: B::Buffer,
    /// `[tokens, intermediate]`.
    pub up: B::Buffer,
    /// Scaled inner products of the LoRA pairs, `[tokens, rank]`.
    pub inner: [Option<B::Buffer>; 7],
}

/// Values that [`BlockActivations`] hold for each token, with an adapter of this rank on every matrix.
pub(super) fn values_kept(config: &ModelConfig, rank: Option<usize>) -> usize {
    let (q, kv) = (config.q_width(), config.kv_width());
    let raw_qk = if config.qk_norm { q + kv } else { 0 };
    let (x_and_mid, attention_and_q, k_and_v) = (2 * config.hidden_size, 2 * q, 2 * kv);
    let gate_and_up = 2 * config.intermediate_size;
    let inner = 7 * rank.unwrap_or(0);
    x_and_mid + raw_qk + attention_and_q + k_and_v + config.num_heads + gate_and_up + inner
}

/// A finished forward pass.
pub struct Forward<B: Backend> {
    /// Hidden states after the final norm, `[tokens, hidden]`.
    pub hidden: B::Buffer,
    pub(super) last: B::Buffer,
    pub(super) blocks: Vec<Kept<B>>,
}

impl<B: Backend> Decoder<B> {
    /// Runs a pack and keeps only the hidden states, `[tokens, hidden]`.
    pub fn hidden_states(&self, adapter: Option<&Adapter<B>>, batch: &PackedBatch) -> B::Buffer {
        let mut x = self.embed(&batch.tokens);
        for layer in 0..self.config.num_layers {
            x = self.block(layer, adapter, batch, x).0;
        }
        self.backend.rms_norm(&x, &self.values.final_norm, self.config.rms_norm_eps)
    }

    /// Runs a pack and keeps what [`Decoder::backward`] needs.
    pub fn forward(&self, adapter: Option<&Adapter<B>>, batch: &PackedBatch, keep: Keep) -> Forward<B> {
        let mut x = self.embed(&batch.tokens);
        let mut blocks = Vec::with_capacity(self.config.num_layers);
        for layer in 0..self.config.num_layers {
            let (next, activations) = self.block(layer, adapter, batch, x);
            blocks.push(match keep {
                Keep::Activations => Kept::Activations(activations),
                Keep::Inputs => Kept::Input(activations.x),
            });
            x = next;
        }
        let hidden = self.backend.rms_norm(&x, &self.values.final_norm, self.config.rms_norm_eps);
        Forward { hidden, last: x, blocks }
    }

    pub(super) fn embed(&self, tokens: &[u32]) -> B::Buffer {
        self.backend.gather_rows(&self.values.embedding, self.config.hidden_size, tokens)
    }

    /// Queries, keys and values of a block's input: `(raw q and k, q, k, v, LoRA inner products)`.
    pub(super) fn queries_keys_values(
        &self,
        layer: usize,
        adapter: Option<&Adapter<B>>,
        x: &B::Buffer,
        positions: &[u32],
    ) -> (Option<(B::Buffer, B::Buffer)>, [B::Buffer; 3], [Option<B::Buffer>; 3]) {
        let (values, eps) = (&self.values.blocks[layer], self.config.rms_norm_eps);
        let normed = self.backend.rms_norm(x, &values.input_norm, eps);
        let ([mut q, mut k, v], inner) =
            self.project(layer, [Projection::Q, Projection::K, Projection::V], adapter, &normed);
        let mut raw = None;
        if let (Some(q_norm), Some(k_norm)) = (&values.q_norm, &values.k_norm) {
            let normed_q = self.backend.rms_norm(&q, q_norm, eps);
            let normed_k = self.backend.rms_norm(&k, k_norm, eps);
            raw = Some((std::mem::replace(&mut q, normed_q), std::mem::replace(&mut k, normed_k)));
        }
        self.backend.rope(&mut q, self.config.q_width(), &self.rope, positions, Turn::Forward);
        self.backend.rope(&mut k, self.config.kv_width(), &self.rope, positions, Turn::Forward);
        (raw, [q, k, v], inner)
    }

    /// The block after attention: `(residual after attention, gate, up, output, LoRA inner products of o, gate, up, down)`.
    pub(super) fn after_attention(
        &self,
        layer: usize,
        adapter: Option<&Adapter<B>>,
        x: &B::Buffer,
        attention: &B::Buffer,
    ) -> ([B::Buffer; 4], [Option<B::Buffer>; 4]) {
        let ([mut mid], [inner_o]) = self.project(layer, [Projection::O], adapter, attention);
        self.backend.add(x, &mut mid);
        let normed =
            self.backend.rms_norm(&mid, &self.values.blocks[layer].post_norm, self.config.rms_norm_eps);
        let ([gate, up], [inner_gate, inner_up]) =
            self.project(layer, [Projection::Gate, Projection::Up], adapter, &normed);
        let activated = self.backend.swiglu(&gate, &up);
        let ([mut out], [inner_down]) = self.project(layer, [Projection::Down], adapter, &activated);
        self.backend.add(&mid, &mut out);
        ([mid, gate, up, out], [inner_o, inner_gate, inner_up, inner_down])
    }

    pub(super) fn block(
        &self,
        layer: usize,
        adapter: Option<&Adapter<B>>,
        batch: &PackedBatch,
        x: B::Buffer,
    ) -> (B::Buffer, BlockActivations<B>) {
        let (raw_qk, [q, k, v], [a, b, c]) = self.queries_keys_values(layer, adapter, &x, &batch.positions);
        let (attention, logsum) = self.backend.attention(self.heads(), &batch.spans, &q, &k, &v);
        let ([mid, gate, up, out], [d, e, f, g]) = self.after_attention(layer, adapter, &x, &attention);
        let inner = [a, b, c, d, e, f, g];
        (out, BlockActivations { x, raw_qk, q, k, v, attention, logsum, mid, gate, up, inner })
    }
}
