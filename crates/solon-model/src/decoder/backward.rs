//! The backward pass: from the gradient of the hidden states to every gradient asked for.
//!
//! For `y = x Wᵀ + s (x Aᵀ) Bᵀ` with `t = s x Aᵀ` kept: `dx = dy W + dt A`, `dW += dyᵀ x`, `dB += dyᵀ t`, `dt = s dy B`,
//! `dA += dtᵀ x`. A frozen matrix gets no `dW`.

use super::forward::BlockActivations;
use super::{Decoder, Forward, Gradients};
use crate::adapter::Adapter;
use crate::backend::{Backend, Turn, Write};
use crate::batch::PackedBatch;
use crate::parameters::Projection;

impl<B: Backend> Decoder<B> {
    /// Adds to `gradients` what `dhidden` (`[tokens, hidden]`, with respect to the normed hidden states) implies.
    pub fn backward(
        &self,
        adapter: Option<&Adapter<B>>,
        batch: &PackedBatch,
        forward: Forward<B>,
        dhidden: &B::Buffer,
        gradients: &mut Gradients<B>,
    ) {
        let mut dx = self.backend.zeros(self.backend.len(dhidden));
        self.backend.rms_norm_grad(
            &forward.last,
            &self.values.final_norm,
            self.config.rms_norm_eps,
            dhidden,
            &mut dx,
            gradients.model.as_mut().map(|m| &mut m.final_norm),
        );
        for (layer, activations) in forward.blocks.into_iter().enumerate().rev() {
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
        let mut dactivated = backend.zeros(backend.len(&activated));
        self.project_grad(
            layer,
            Projection::Down,
            adapter,
            &activated,
            &kept.inner,
            &dout,
            &mut dactivated,
            Write::Replace,
            gradients,
        );
        let (dgate, dup) = backend.swiglu_grad(&kept.gate, &kept.up, &dactivated);
        let normed = backend.rms_norm(&kept.mid, &values.post_norm, eps);
        let mut dnormed = backend.zeros(backend.len(&normed));
        self.project_grad(
            layer,
            Projection::Gate,
            adapter,
            &normed,
            &kept.inner,
            &dgate,
            &mut dnormed,
            Write::Replace,
            gradients,
        );
        self.project_grad(
            layer,
            Projection::Up,
            adapter,
            &normed,
            &kept.inner,
            &dup,
            &mut dnormed,
            Write::Add,
            gradients,
        );
        let mut dmid = dout;
        let dgain = gradients.model.as_mut().map(|m| &mut m.blocks[layer].post_norm);
        backend.rms_norm_grad(&kept.mid, &values.post_norm, eps, &dnormed, &mut dmid, dgain);

        // mid = x + o(attention)
        let mut dattention = backend.zeros(backend.len(&kept.attention));
        self.project_grad(
            layer,
            Projection::O,
            adapter,
            &kept.attention,
            &kept.inner,
            &dmid,
            &mut dattention,
            Write::Replace,
            gradients,
        );
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
        self.project_grad(
            layer,
            Projection::Q,
            adapter,
            &normed,
            &kept.inner,
            &dq,
            &mut dnormed,
            Write::Replace,
            gradients,
        );
        self.project_grad(
            layer,
            Projection::K,
            adapter,
            &normed,
            &kept.inner,
            &dk,
            &mut dnormed,
            Write::Add,
            gradients,
        );
        self.project_grad(
            layer,
            Projection::V,
            adapter,
            &normed,
            &kept.inner,
            &dv,
            &mut dnormed,
            Write::Add,
            gradients,
        );
        let mut dx = dmid;
        let dgain = gradients.model.as_mut().map(|m| &mut m.blocks[layer].input_norm);
        backend.rms_norm_grad(&kept.x, &values.input_norm, eps, &dnormed, &mut dx, dgain);
        dx
    }

    /// Gradient of [`Decoder::project`]: writes `dx` and adds to the weight, bias and LoRA gradients that are wanted.
    fn project_grad(
        &self,
        layer: usize,
        projection: Projection,
        adapter: Option<&Adapter<B>>,
        x: &B::Buffer,
        inner: &[Option<B::Buffer>; 7],
        dy: &B::Buffer,
        dx: &mut B::Buffer,
        write: Write,
        gradients: &mut Gradients<B>,
    ) {
        let backend = &self.backend;
        let (rows, columns) = projection.shape(&self.config);
        let slot = projection as usize;
        backend.linear_input_grad(dy, &self.packed[layer][slot], dx, write);
        if let Some(model) = &mut gradients.model {
            let block = &mut model.blocks[layer];
            backend.linear_weight_grad(dy, x, rows, columns, &mut block.projections[slot]);
            if let Some(Some(bias)) = block.biases.get_mut(slot) {
                backend.bias_grad(dy, bias);
            }
        }
        let (Some(adapter), Some(inner)) = (adapter, &inner[slot]) else { return };
        let Some(pair) = &adapter.packed.blocks[layer][slot] else { return };
        let rank = adapter.settings.rank;
        let mut dinner = backend.zeros(backend.len(inner));
        backend.linear_input_grad(dy, &pair.b, &mut dinner, Write::Replace);
        backend.scale(&mut dinner, adapter.settings.scale());
        backend.linear_input_grad(&dinner, &pair.a, dx, Write::Add);
        if let Some(Some(into)) = gradients.lora.as_mut().map(|lora| lora.blocks[layer][slot].as_mut()) {
            backend.linear_weight_grad(dy, inner, rows, rank, &mut into.b);
            backend.linear_weight_grad(&dinner, x, rank, columns, &mut into.a);
        }
    }
}
