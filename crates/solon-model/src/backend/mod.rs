//! What the decoder needs of a machine: buffers and about thirty operations, each with its backward.
//!
//! The decoder is written once over [`Backend`]. It never sees an element: values go in with `upload`, come out with
//! `download`, and only token ids, positions and row numbers cross as host slices. An implementation may run operations
//! in order on a stream; nothing here needs a result before it is downloaded.
//!
//! Contract of every operation: an output row depends on its own inputs and the weights alone. Sums over rows (weight,
//! bias and gain gradients) run in row order and are added to what the gradient held.

mod cpu;
mod reference;

pub use cpu::{Cpu, CpuCache};
pub use reference::Reference;
pub use solon_kernels::adamw::AdamW;
pub use solon_kernels::attention::{Heads, Span};
pub use solon_kernels::gemm::Write;
pub use solon_kernels::rope::Turn;
use std::borrow::Cow;

/// Whether a weight is only applied, or gradients flow back through it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightUse {
    /// Forward only.
    Inference,
    /// Forward only, rounded to int8: each row by one scale, `max|w| / 127`. Inputs stay as they are.
    InferenceInt8,
    /// Forward and input gradients.
    Training,
}

/// A run of consecutive rows of a cached forward pass: new tokens of one sequence.
#[derive(Clone, Debug)]
pub struct CachedRun {
    /// The cache segments before `segment` on this sequence's path, root first, and how many positions of each are seen. They
    /// must exist once this pass has appended its rows. Positions that are not seen change no bit if they are finite: the
    /// unseen one of a pair in bf16 is multiplied by zero.
    pub ancestors: Vec<(usize, usize)>,
    /// The cache segment that the new keys and values are appended to; no other run of the pass appends to it.
    pub segment: usize,
    /// Rows in this run.
    pub rows: usize,
}

/// One of several products of the same input. A backend may pack the input once for all of them.
pub struct Linear<'a, B: Backend> {
    /// The matrix.
    pub weight: &'a B::Weight,
    /// Where the product goes.
    pub out: &'a mut B::Buffer,
    /// What happens to what was there.
    pub write: Write,
}

/// A weight's gradient from that of its output.
pub struct WeightGrad<'a, B: Backend> {
    /// `[n, rows]`.
    pub dy: &'a B::Buffer,
    /// Rows of the weight.
    pub rows: usize,
    /// `[rows, columns]`; added to.
    pub dw: &'a mut B::Buffer,
}

/// A machine that can run the decoder.
pub trait Backend: Clone + Send + Sync + 'static {
    /// A vector of f32 on the machine.
    type Buffer: Send + Sync;
    /// A matrix `[out, in]` in whatever form the machine multiplies best.
    type Weight: Send + Sync;
    /// Precomputed rotation angles.
    type Rope: Send + Sync;
    /// Keys and values of sequences being decoded.
    type Cache: Send + Sync;

    /// A buffer with any values, for an operation that replaces them all.
    fn scratch(&self, len: usize) -> Self::Buffer;
    /// A buffer of zeros.
    fn zeros(&self, len: usize) -> Self::Buffer;
    /// A buffer with these values.
    fn upload(&self, values: Vec<f32>) -> Self::Buffer;
    /// The values of a buffer.
    fn download<'a>(&self, buffer: &'a Self::Buffer) -> Cow<'a, [f32]>;
    /// Elements of a buffer.
    fn len(&self, buffer: &Self::Buffer) -> usize;
    /// Returns pooled memory to the system after one-off work.
    fn release(&self);
    /// Copies a buffer.
    fn duplicate(&self, buffer: &Self::Buffer) -> Self::Buffer;

    /// Rows `rows` of `source` (`[_, width]`).
    fn gather_rows(&self, source: &Self::Buffer, width: usize, rows: &[u32]) -> Self::Buffer;
    /// Adds row `i` of `source` to row `rows[i]` of `into`, in order.
    fn scatter_add_rows(&self, source: &Self::Buffer, width: usize, rows: &[u32], into: &mut Self::Buffer);
    /// `y += x`.
    fn add(&self, x: &Self::Buffer, y: &mut Self::Buffer);
    /// `x *= factor`.
    fn scale(&self, x: &mut Self::Buffer, factor: f32);

    /// Packs a matrix `[rows, columns]` into the form that products read.
    fn pack(&self, values: &Self::Buffer, rows: usize, columns: usize, usage: WeightUse) -> Self::Weight;
    /// The same with new values.
    fn repack(&self, weight: &mut Self::Weight, values: &Self::Buffer);
    /// Bytes that a value takes in each packed form.
    fn packed_value_bytes(&self) -> usize;
    /// `y = x Wᵀ` or `y += x Wᵀ` for each of several weights; `x [n, in]`, `y [n, out]`.
    fn linear(&self, x: &Self::Buffer, products: &mut [Linear<'_, Self>]);
    /// `dx = dy W` or `dx += dy W` for each of several weights, packed for [`WeightUse::Training`].
    fn linear_input_grad(&self, dy: &Self::Buffer, products: &mut [Linear<'_, Self>]);
    /// `dW += dyᵀ x` for each of several `dy` of one `x [n, columns]`.
    fn linear_weight_grad(&self, x: &Self::Buffer, columns: usize, gradients: &mut [WeightGrad<'_, Self>]);
    /// Adds `bias` to each row of `y`.
    fn add_bias(&self, y: &mut Self::Buffer, bias: &Self::Buffer);
    /// `db += Σ_rows dy`.
    fn bias_grad(&self, dy: &Self::Buffer, db: &mut Self::Buffer);

    /// RMSNorm of rows as wide as `gain`.
    fn rms_norm(&self, x: &Self::Buffer, gain: &Self::Buffer, eps: f32) -> Self::Buffer;
    /// Adds RMSNorm's gradients to `dx` and, where given, `dgain`.
    fn rms_norm_grad(
        &self,
        x: &Self::Buffer,
        gain: &Self::Buffer,
        eps: f32,
        dy: &Self::Buffer,
        dx: &mut Self::Buffer,
        dgain: Option<&mut Self::Buffer>,
    );

    /// Rotation angles for `positions` positions; what is turned becomes `attention_factor` times as long.
    fn rope_table(&self, frequencies: &[f32], attention_factor: f32, positions: usize) -> Self::Rope;
    /// Turns each head of each row (`[positions.len(), width]`).
    fn rope(&self, x: &mut Self::Buffer, width: usize, table: &Self::Rope, positions: &[u32], turn: Turn);

    /// Attention of packed tokens over their paths: output and log-sums.
    fn attention(
        &self,
        heads: Heads,
        spans: &[Span],
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
    ) -> (Self::Buffer, Self::Buffer);
    /// Gradients of [`Backend::attention`] with respect to q, k and v.
    fn attention_grad(
        &self,
        heads: Heads,
        spans: &[Span],
        qkv: (&Self::Buffer, &Self::Buffer, &Self::Buffer),
        out: &Self::Buffer,
        logsum: &Self::Buffer,
        dout: &Self::Buffer,
    ) -> (Self::Buffer, Self::Buffer, Self::Buffer);

    /// `silu(gate) * up`.
    fn swiglu(&self, gate: &Self::Buffer, up: &Self::Buffer) -> Self::Buffer;
    /// Gradients of [`Backend::swiglu`] with respect to gate and up.
    fn swiglu_grad(
        &self,
        gate: &Self::Buffer,
        up: &Self::Buffer,
        dout: &Self::Buffer,
    ) -> (Self::Buffer, Self::Buffer);

    /// Log-probability of each row's target under softmax(logits / temperature), in nats.
    fn log_probs(
        &self,
        logits: &Self::Buffer,
        vocab: usize,
        targets: &[u32],
        inverse_temperature: f32,
    ) -> Vec<f32>;
    /// As [`Backend::log_probs`]; also replaces the logits by the gradient of Σ dlogprob · logprob.
    fn log_probs_grad(
        &self,
        logits: &mut Self::Buffer,
        vocab: usize,
        targets: &[u32],
        inverse_temperature: f32,
        dlogprobs: &[f32],
    ) -> Vec<f32>;

    /// KL(softmax(p) ‖ softmax(q)) of each row of logits, in nats.
    fn divergences(&self, p: &Self::Buffer, q: &Self::Buffer, vocab: usize) -> Vec<f32>;
    /// As [`Backend::divergences`]; also replaces `q` by the gradient of Σ d · KL with respect to it.
    fn divergences_grad(&self, p: &Self::Buffer, q: &mut Self::Buffer, vocab: usize, d: &[f32]) -> Vec<f32>;

    /// One AdamW update, after which the gradient is zero.
    fn adamw(
        &self,
        hyper: AdamW,
        param: &mut Self::Buffer,
        grad: &mut Self::Buffer,
        first: &mut Self::Buffer,
        second: &mut Self::Buffer,
    );
    /// Σ x², in f64 and a fixed order.
    fn sum_of_squares(&self, x: &Self::Buffer) -> f64;

    /// An empty cache for a model of `layers` layers.
    fn new_cache(&self, layers: usize, heads: Heads) -> Self::Cache;
    /// A new empty segment with room for `capacity` positions; returns its number.
    fn add_segment(&self, cache: &mut Self::Cache, capacity: usize) -> usize;
    /// Gives a segment's memory back; its number may be used again.
    fn remove_segment(&self, cache: &mut Self::Cache, segment: usize);
    /// Appends each run's keys and values at one layer, then attends over each run's path. A run whose segment is seen by
    /// others comes before them.
    fn cached_attention(
        &self,
        cache: &mut Self::Cache,
        layer: usize,
        runs: &[CachedRun],
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
    ) -> Self::Buffer;
}
