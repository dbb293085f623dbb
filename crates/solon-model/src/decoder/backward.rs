//! The backward pass: from the gradient of the hidden states to every gradient asked for.
//!
//! For `y = x Wᵀ + s (x Aᵀ) Bᵀ` with `t = s x Aᵀ` kept: `dx = dy W + dt A`, `dW += dyᵀ x`, `dB += dyᵀ t`, `dt = s dy B`,
//! `dA += dtᵀ x`. A frozen matrix gets no `dW`.

use super::forward::{BlockActivations, Kept};
use super::{Decoder, Forward, Gradients};
use crate::adapter::Adapter;
use crate::backend::{Backend, Linear, Turn, WeightGrad, Write};
use crate::batch::PackedBatch;
use crate::config::ModelConfig;
use crate::parameters::Projection;

/// Values that the backward pass holds at most for each token beside what the forward pass kept, with an adapter of this rank
/// on every matrix: the most that one step of [`Decoder::block_grad`] needs. Scratch of the threads is not counted.
pub(super) fn values_in_flight(config: &ModelConfig, rank: Option<usize>) -> usize {
    let (hidden, q, kv, mlp) =
        (config.hidden_size, config.q_width(), config.kv_width(), config.intermediate_size);
    // Gradients of the hidden states, of the residual stream, and of a norm's output.
    let always = 3 * hidden;
    // The norm of an input again, and the same packed.
    let normed = 2 * hidden;
    let gate_and_up = normed + 4 * mlp;
    // Gradients of attention's output, q, k and v; and keys and values as they are laid out in both directions.
    let attention = 2 * q + 2 * kv + 4 * kv;
    let head_norms = 2 * q + 2 * kv + q.max(kv);
    let q_k_and_v = 2 * q + 2 * kv + normed;
    // Gradients of the inner products of the LoRA pairs of one input, and one of them packed.
    let inner = 4 * rank.unwrap_or(0);
    always + gate_and_up.max(attention).max(head_norms).max(q_k_and_v) + inner
}

impl<B: Backend> Decoder<B> {
    /// Adds to `gradients`, given the gradient `dhidden` (`[tokens, hidden]`) of the normed hidden states.
    pub fn backward(
        &self,
        adapter: Option<&Adapter<B>>,
        batch: &PackedBatch,
        forward: Forward<B>,
        dhidden: &B::Buffer,
        gradients: &mut Gradients<B>,
    ) {
        // What is no longer needed is dropped as soon as it is not, here and in `block_grad`: this is where training holds most.
        let Forward { hidden, last, blocks } = forward;
        drop(hidden);
        let mut dx = self.backend.zeros(self.backend.len(dhidden));
        self.backend.rms_norm_grad(
            &last,
            &self.values.final_norm,
            self.config.rms_norm_eps,
            dhidden,
            &mut dx,
            gradients.model.as_mut().map(|m| &mut m.final_norm),
        );
        drop(last);
        for (layer, kept) in blocks.into_iter().enumerate().rev() {
            let activations = match kept {
                Kept::Activations(activations) => activations,
                Kept::Input(x) => self.block(layer, adapter, batch, x).1,
            };
            dx = self.block_grad(layer, adapter, batch, activations, dx, gradients);
        }
        if let Some(model) = &mut gradients.model {
            self.backend.scatter_add_rows(&dx, self.config.hidden_size, &batch.tokens, &mut model.embedding);
        }
    }

    /// Gradient of one block: takes that of its output, returns that of its input.
    fn block_grad(
        &self,
        layer: usize,
        adapter: Option<&Adapter<B>>,
        batch: &PackedBatch,
        kept: BlockActivations<B>,
        dout: B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> B::Buffer {
        let (backend, eps) = (&self.backend, self.config.rms_norm_eps);
        let values = &self.values.blocks[layer];

        // out = mid + down(swiglu(gate(n), up(n))), n = norm(mid)
        let activated = backend.swiglu(&kept.gate, &kept.up);
        let mut dactivated = backend.scratch(backend.len(&activated));
        let parts = [(Projection::Down, &dout)];
        self.project_grad(layer, parts, adapter, &activated, &kept.inner, &mut dactivated, gradients);
        let (dgate, dup) = backend.swiglu_grad(&kept.gate, &kept.up, &dactivated);
        let normed = backend.rms_norm(&kept.mid, &values.post_norm, eps);
        let mut dnormed = backend.scratch(backend.len(&normed));
        let parts = [(Projection::Gate, &dgate), (Projection::Up, &dup)];
        self.project_grad(layer, parts, adapter, &normed, &kept.inner, &mut dnormed, gradients);
        let mut dmid = dout;
        let dgain = gradients.model.as_mut().map(|m| &mut m.blocks[layer].post_norm);
        backend.rms_norm_grad(&kept.mid, &values.post_norm, eps, &dnormed, &mut dmid, dgain);
        drop((activated, dactivated, dgate, dup, normed));

        // mid = x + o(attention)
        let mut dattention = backend.scratch(backend.len(&kept.attention));
        let parts = [(Projection::O, &dmid)];
        self.project_grad(layer, parts, adapter, &kept.attention, &kept.inner, &mut dattention, gradients);
        let (mut dq, mut dk, dv) = backend.attention_grad(
            self.heads(),
            &batch.spans,
            (&kept.q, &kept.k, &kept.v),
            &kept.attention,
            &kept.logsum,
            &dattention,
        );
        backend.rope(&mut dq, self.config.q_width(), &self.rope, &batch.positions, Turn::Back);
        backend.rope(&mut dk, self.config.kv_width(), &self.rope, &batch.positions, Turn::Back);
        if let (Some((raw_q, raw_k)), Some(q_norm), Some(k_norm)) =
            (&kept.raw_qk, &values.q_norm, &values.k_norm)
        {
            let mut model = gradients.model.as_mut().map(|m| &mut m.blocks[layer]);
            let mut draw = backend.zeros(backend.len(&dq));
            let dgain = model.as_mut().and_then(|m| m.q_norm.as_mut());
            backend.rms_norm_grad(raw_q, q_norm, eps, &dq, &mut draw, dgain);
            dq = draw;
            let mut draw = backend.zeros(backend.len(&dk));
            let dgain = model.as_mut().and_then(|m| m.k_norm.as_mut());
            backend.rms_norm_grad(raw_k, k_norm, eps, &dk, &mut draw, dgain);
            dk = draw;
        }
        let normed = backend.rms_norm(&kept.x, &values.input_norm, eps);
        let parts = [(Projection::Q, &dq), (Projection::K, &dk), (Projection::V, &dv)];
        self.project_grad(layer, parts, adapter, &normed, &kept.inner, &mut dnormed, gradients);
        let mut dx = dmid;
        let dgain = gradients.model.as_mut().map(|m| &mut m.blocks[layer].input_norm);
        backend.rms_norm_grad(&kept.x, &values.input_norm, eps, &dnormed, &mut dx, dgain);
        dx
    }

    /// Gradient of [`Decoder::project`]: replaces `dx` and adds to the weight, bias and LoRA gradients that are wanted.
    fn project_grad<const N: usize>(
        &self,
        layer: usize,
        parts: [(Projection, &B::Buffer); N],
        adapter: Option<&Adapter<B>>,
        x: &B::Buffer,
        inner: &[Option<B::Buffer>; 7],
        dx: &mut B::Buffer,
        gradients: &mut Gradients<B>,
    ) {
        let backend = &self.backend;
        let columns = parts.first().map_or(1, |(projection, _)| projection.shape(&self.config).1);
        let mut write = Write::Replace;
        let mut dinners = [const { None }; N];
        for ((projection, dy), kept) in parts.iter().zip(&mut dinners) {
            let slot = *projection as usize;
            let weight = &self.packed[layer][slot];
            let pair = adapter.and_then(|a| {
                let shape = a.settings.shape(layer, *projection)?;
                Some((shape, a.packed.blocks[layer][slot].as_ref()?, inner[slot].as_ref()?))
            });
            let Some((shape, pair, inner)) = pair else {
                backend.linear_input_grad(dy, &mut [Linear { weight, out: dx, write }]);
                write = Write::Add;
                continue;
            };
            let mut dinner = backend.scratch(backend.len(inner));
            backend.linear_input_grad(
                dy,
                &mut [
                    Linear { weight, out: dx, write },
                    Linear { weight: &pair.b, out: &mut dinner, write: Write::Replace },
                ],
            );
            write = Write::Add;
            backend.scale(&mut dinner, shape.scale());
            backend.linear_input_grad(&dinner, &mut [Linear { weight: &pair.a, out: dx, write }]);
            if let Some(Some(into)) = gradients.lora.as_mut().map(|lora| lora.blocks[layer][slot].as_mut()) {
                let rows = projection.shape(&self.config).0;
                backend.linear_weight_grad(
                    inner,
                    shape.rank,
                    &mut [WeightGrad { dy, rows, dw: &mut into.b }],
                );
                *kept = Some(dinner);
            }
        }
        let mut wanted = Vec::with_capacity(2 * N);
        if let Some(lora) = &mut gradients.lora {
            for (slot, pair) in lora.blocks[layer].iter_mut().enumerate() {
                let part = parts.iter().position(|(projection, _)| *projection as usize == slot);
                if let (Some(dy), Some(into)) = (part.and_then(|part| dinners[part].as_ref()), pair) {
                    let shape =
                        adapter.and_then(|adapter| adapter.settings.shape(layer, Projection::ALL[slot]));
                    let rows = shape.map_or(0, |shape| shape.rank);
                    wanted.push(WeightGrad { dy, rows, dw: &mut into.a });
                }
            }
        }
        if let Some(model) = &mut gradients.model {
            let block = &mut model.blocks[layer];
            for (slot, dw) in block.projections.iter_mut().enumerate() {
                if let Some((projection, dy)) =
                    parts.iter().find(|(projection, _)| *projection as usize == slot)
                {
                    let rows = projection.shape(&self.config).0;
                    wanted.push(WeightGrad { dy: *dy, rows, dw });
                    if let Some(Some(bias)) = block.biases.get_mut(slot) {
                        backend.bias_grad(dy, bias);
                    }
                }
            }
        }
        if !wanted.is_empty() {
            backend.linear_weight_grad(x, columns, &mut wanted);
        }
    }
}
