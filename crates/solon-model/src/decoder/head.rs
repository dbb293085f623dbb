//! What is read off the hidden states: log-probs of scored tokens, and scalars (rewards and values).
//!
//! Logits exist for [`CHUNK`] rows at a time, only at scored positions.

use super::{Decoder, Gradients};
use crate::backend::{Backend, Linear, WeightGrad, WeightUse, Write};
use crate::batch::Scored;

/// Rows of logits held at once. Enough for a few GEMM tasks, so that the head's weight and its gradient, which are larger than
/// any cache, are read seldom.
pub const CHUNK: usize = 336;

/// A linear map from a hidden state to one number: a reward or a value.
pub struct ScalarHead<B: Backend> {
    /// `[hidden]`; call [`ScalarHead::repack`] after changing it.
    pub weight: B::Buffer,
    packed: B::Weight,
}

impl<B: Backend> ScalarHead<B> {
    /// A head with this weight, `[hidden]`.
    pub fn new(backend: &B, weight: Vec<f32>) -> Self {
        let columns = weight.len();
        let weight = backend.upload(weight);
        let packed = backend.pack(&weight, 1, columns, WeightUse::Training);
        Self { weight, packed }
    }

    /// Packs the weight again after it changed.
    pub fn repack(&mut self, backend: &B) {
        backend.repack(&mut self.packed, &self.weight);
    }
}

/// What a decoder predicts at some hidden states: another's predictions are compared with them.
pub struct Predictions<'a, B: Backend> {
    /// The decoder; of the same vocabulary.
    pub decoder: &'a Decoder<B>,
    /// Its hidden states of the same batch, `[tokens, hidden]`.
    pub hidden: &'a B::Buffer,
}

impl<B: Backend> Decoder<B> {
    /// Logits of the given hidden states, `[rows, vocab]`.
    pub fn logits(&self, hidden: &B::Buffer) -> B::Buffer {
        let rows = self.backend.len(hidden) / self.config.hidden_size;
        let mut logits = self.backend.scratch(rows * self.config.vocab_size);
        self.backend
            .linear(hidden, &mut [Linear { weight: &self.head, out: &mut logits, write: Write::Replace }]);
        logits
    }

    /// Log-probs of scored tokens in nats, `[scored.len()]`, at softmax temperature `temperature`.
    pub fn log_probs(&self, hidden: &B::Buffer, scored: &Scored, temperature: f32) -> Vec<f32> {
        let mut out = Vec::with_capacity(scored.len());
        for (rows, targets) in scored.rows.chunks(CHUNK).zip(scored.targets.chunks(CHUNK)) {
            let logits = self.logits(&self.backend.gather_rows(hidden, self.config.hidden_size, rows));
            out.extend(self.backend.log_probs(&logits, self.config.vocab_size, targets, 1.0 / temperature));
        }
        out
    }

    /// Adds the gradient of Σ dlogprob·logprob to `dhidden` and, where trained, to the head's weight. Returns the log-probs,
    /// so that a loss whose gradient is known beforehand (SFT) needs the head once.
    pub fn log_probs_grad(
        &self,
        hidden: &B::Buffer,
        scored: &Scored,
        temperature: f32,
        dlogprobs: &[f32],
        dhidden: &mut B::Buffer,
        gradients: &mut Gradients<B>,
    ) -> Vec<f32> {
        let (backend, width, vocab) = (&self.backend, self.config.hidden_size, self.config.vocab_size);
        let mut out = Vec::with_capacity(scored.len());
        let chunks = scored.rows.chunks(CHUNK).zip(scored.targets.chunks(CHUNK)).zip(dlogprobs.chunks(CHUNK));
        for ((rows, targets), dlogprobs) in chunks {
            let states = backend.gather_rows(hidden, width, rows);
            let mut logits = self.logits(&states);
            out.extend(backend.log_probs_grad(&mut logits, vocab, targets, 1.0 / temperature, dlogprobs));
            let mut dstates = backend.scratch(rows.len() * width);
            let product = Linear { weight: &self.head, out: &mut dstates, write: Write::Replace };
            backend.linear_input_grad(&logits, &mut [product]);
            backend.scatter_add_rows(&dstates, width, rows, dhidden);
            if let Some(model) = &mut gradients.model {
                let into = model.head.as_mut().unwrap_or(&mut model.embedding);
                backend.linear_weight_grad(
                    &states,
                    width,
                    &mut [WeightGrad { dy: &logits, rows: vocab, dw: into }],
                );
            }
        }
        out
    }

    /// KL(p ‖ q) of the next token at some rows, in nats, `[rows.len()]`: q is this decoder's distribution at `hidden`,
    /// p that of `reference` at its own hidden states.
    pub fn divergences(&self, hidden: &B::Buffer, reference: Predictions<'_, B>, rows: &[u32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(rows.len());
        for rows in rows.chunks(CHUNK) {
            let [q, p] = [(self, hidden), (reference.decoder, reference.hidden)].map(|(decoder, hidden)| {
                decoder.logits(&self.backend.gather_rows(hidden, decoder.config.hidden_size, rows))
            });
            out.extend(self.backend.divergences(&p, &q, self.config.vocab_size));
        }
        out
    }

    /// Adds the gradient of Σ d·KL to `dhidden`, and returns the KL of [`Decoder::divergences`]. The reference gets no
    /// gradient. For a decoder that is not trained itself: the head's weight gets none either.
    pub fn divergences_grad(
        &self,
        hidden: &B::Buffer,
        reference: Predictions<'_, B>,
        rows: &[u32],
        d: &[f32],
        dhidden: &mut B::Buffer,
    ) -> Vec<f32> {
        let (backend, width, vocab) = (&self.backend, self.config.hidden_size, self.config.vocab_size);
        let mut out = Vec::with_capacity(rows.len());
        for (rows, d) in rows.chunks(CHUNK).zip(d.chunks(CHUNK)) {
            let p = reference.decoder.logits(&backend.gather_rows(reference.hidden, width, rows));
            let mut q = self.logits(&backend.gather_rows(hidden, width, rows));
            out.extend(backend.divergences_grad(&p, &mut q, vocab, d));
            let mut dstates = backend.scratch(rows.len() * width);
            let product = Linear { weight: &self.head, out: &mut dstates, write: Write::Replace };
            backend.linear_input_grad(&q, &mut [product]);
            backend.scatter_add_rows(&dstates, width, rows, dhidden);
        }
        out
    }

    /// One number for each of the given rows of hidden states, `[rows.len()]`.
    pub fn scalars(&self, hidden: &B::Buffer, rows: &[u32], head: &ScalarHead<B>) -> Vec<f32> {
        let states = self.backend.gather_rows(hidden, self.config.hidden_size, rows);
        let mut out = self.backend.scratch(rows.len());
        let product = Linear { weight: &head.packed, out: &mut out, write: Write::Replace };
        self.backend.linear(&states, &mut [product]);
        self.backend.download(&out).into_owned()
    }

    /// Adds the gradient of Σ dscalar·scalar to `dhidden` and to the head's weight.
    pub fn scalars_grad(
        &self,
        hidden: &B::Buffer,
        rows: &[u32],
        head: &ScalarHead<B>,
        dscalars: &[f32],
        dhidden: &mut B::Buffer,
        gradients: &mut Gradients<B>,
    ) {
        let (backend, width) = (&self.backend, self.config.hidden_size);
        let dout = backend.upload(dscalars.to_vec());
        let mut dstates = backend.scratch(rows.len() * width);
        let product = Linear { weight: &head.packed, out: &mut dstates, write: Write::Replace };
        backend.linear_input_grad(&dout, &mut [product]);
        backend.scatter_add_rows(&dstates, width, rows, dhidden);
        if let Some(into) = &mut gradients.scalar {
            let states = backend.gather_rows(hidden, width, rows);
            backend.linear_weight_grad(&states, width, &mut [WeightGrad { dy: &dout, rows: 1, dw: into }]);
        }
    }
}
