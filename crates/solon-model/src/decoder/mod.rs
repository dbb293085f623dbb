//! The decoder: one architecture with switches, written once over [`Backend`].
//!
//! Pre-norm blocks of grouped-query attention with RoPE and a SwiGLU MLP (Touvron et al. 2023), with biases on q, k, v
//! (Qwen2) or norms on each head's q and k (Qwen3) where the configuration has them. Packed token ids go in; hidden
//! states, log-probs and scalars come out. It knows no losses and no text.
//!
//! `forward.rs` runs a pack and keeps what the gradient needs, `backward.rs` walks it back, `cached.rs` runs new tokens
//! against a cache with the same operations in the same order, and `head.rs` scores. `memory.rs` says what training holds.

mod backward;
mod cached;
mod forward;
mod head;
pub(crate) mod memory;

pub use cached::CachedRows;
pub use forward::{Forward, Keep};
pub use head::{CHUNK as LOGIT_ROWS, Predictions, ScalarHead};

use crate::adapter::Adapter;
use crate::backend::{Backend, Heads, Linear, WeightUse, Write};
use crate::config::ModelConfig;
use crate::parameters::{LoraTensors, ModelTensors, Projection};
use crate::rope;

/// Whether the decoder's own weights are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Training {
    /// No training: weights only run forward, for sampling and scoring. Only then may they be rounded further.
    None(Weights),
    /// Weights are frozen, gradients flow through them to an adapter or a scalar head.
    Frozen,
    /// Every weight is trained.
    Full,
}

/// How weights that only run forward are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// As the backend's products take them.
    Full,
    /// Matrices, the output head among them, in int8 with a scale for each output channel ([`WeightUse::InferenceInt8`]).
    /// The token embedding, norms, biases and adapters are not rounded.
    Int8,
}

/// A decoder on a backend.
pub struct Decoder<B: Backend> {
    pub(crate) backend: B,
    pub(crate) config: ModelConfig,
    pub(crate) rope: B::Rope,
    /// Values of embedding, norms and biases; of the matrices too when they are trained (empty otherwise).
    pub(crate) values: ModelTensors<B::Buffer>,
    pub(crate) packed: Vec<[B::Weight; 7]>,
    pub(crate) head: B::Weight,
    training: Training,
}

/// The gradients that a backward pass adds to. A part that is `None` is frozen and costs nothing.
pub struct Gradients<B: Backend> {
    /// Of the decoder's own tensors.
    pub model: Option<ModelTensors<B::Buffer>>,
    /// Of the adapter's factors.
    pub lora: Option<LoraTensors<B::Buffer>>,
    /// Of the scalar head, `[hidden]`.
    pub scalar: Option<B::Buffer>,
}

impl<B: Backend> Decoder<B> {
    /// A decoder from tensors by Hugging Face name; `take(name, shape)` gives each one's values once.
    ///
    /// `max_positions` bounds the longest path that will be run, in tokens.
    pub fn build<E>(
        backend: B,
        config: ModelConfig,
        training: Training,
        max_positions: usize,
        mut take: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let mut host = ModelTensors::build(&config, &mut take)?;
        let usage = match training {
            Training::None(Weights::Full) => WeightUse::Inference,
            Training::None(Weights::Int8) => WeightUse::InferenceInt8,
            Training::Frozen | Training::Full => WeightUse::Training,
        };
        let mut packed = Vec::with_capacity(config.num_layers);
        let mut trained = Vec::new();
        for block in &mut host.blocks {
            packed.push(Projection::ALL.map(|projection| {
                let (rows, columns) = projection.shape(&config);
                let values = backend.upload(std::mem::take(&mut block.projections[projection as usize]));
                let weight = backend.pack(&values, rows, columns, usage);
                if training == Training::Full {
                    trained.push(values);
                }
                weight
            }));
        }
        let mut values = host.map(|values| backend.upload(values));
        let matrices = values.blocks.iter_mut().flat_map(|block| &mut block.projections);
        matrices.zip(trained).for_each(|(slot, values)| *slot = values);
        let head_values = values.head.as_ref().unwrap_or(&values.embedding);
        let head = backend.pack(head_values, config.vocab_size, config.hidden_size, usage);
        if training != Training::Full {
            values.head = values.head.map(|_| backend.zeros(0));
        }
        let positions = max_positions.min(config.max_position_embeddings);
        let rope =
            backend.rope_table(&rope::frequencies(&config), rope::attention_factor(&config), positions);
        backend.release();
        Ok(Self { backend, config, rope, values, packed, head, training })
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The backend it runs on.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Whether its own weights are trained.
    pub fn training(&self) -> Training {
        self.training
    }

    /// The trained values, or `None` where the weights are frozen.
    pub fn trained_values(&self) -> Option<&ModelTensors<B::Buffer>> {
        (self.training == Training::Full).then_some(&self.values)
    }

    /// The trained values to update; call [`Decoder::repack`] afterwards.
    pub fn trained_values_mut(&mut self) -> Option<&mut ModelTensors<B::Buffer>> {
        (self.training == Training::Full).then_some(&mut self.values)
    }

    /// Packs the matrices again after their values changed.
    pub fn repack(&mut self) {
        for (values, packed) in self.values.blocks.iter().zip(&mut self.packed) {
            for (values, packed) in values.projections.iter().zip(packed) {
                self.backend.repack(packed, values);
            }
        }
        self.backend.repack(&mut self.head, self.values.head.as_ref().unwrap_or(&self.values.embedding));
    }

    /// Zero gradients for what is trained: the decoder itself, an adapter, a scalar head.
    pub fn zero_gradients(
        &self,
        adapter: Option<&Adapter<B>>,
        scalar: Option<&ScalarHead<B>>,
    ) -> Gradients<B> {
        let zeros =
            |shape: &[usize]| Ok::<_, std::convert::Infallible>(self.backend.zeros(shape.iter().product()));
        let model = (self.training == Training::Full)
            .then(|| ModelTensors::build(&self.config, |_, shape| zeros(shape)))
            .map(|Ok(tensors)| tensors);
        let lora = adapter
            .map(|a| LoraTensors::build(&self.config, &a.settings, |_, shape| zeros(shape)))
            .map(|Ok(tensors)| tensors);
        let scalar = scalar.map(|_| self.backend.zeros(self.config.hidden_size));
        Gradients { model, lora, scalar }
    }

    pub(crate) fn heads(&self) -> Heads {
        Heads { queries: self.config.num_heads, keys: self.config.num_kv_heads, dim: self.config.head_dim }
    }

    /// `x Wᵀ (+ bias) (+ LoRA)` of several projections of one input, and the scaled inner products of their LoRA pairs
    /// for the backward pass.
    pub(crate) fn project<const N: usize>(
        &self,
        layer: usize,
        projections: [Projection; N],
        adapter: Option<&Adapter<B>>,
        x: &B::Buffer,
    ) -> ([B::Buffer; N], [Option<B::Buffer>; N]) {
        let backend = &self.backend;
        let tokens = backend.len(x) / projections.first().map_or(1, |p| p.shape(&self.config).1);
        let pair =
            |p: Projection| adapter.and_then(|adapter| adapter.packed.blocks[layer][p as usize].as_ref());
        let mut outputs = projections.map(|p| backend.scratch(tokens * p.shape(&self.config).0));
        let shape = |p: Projection| adapter.and_then(|adapter| adapter.settings.shape(layer, p));
        let mut inners = projections.map(|p| shape(p).map(|shape| backend.scratch(tokens * shape.rank)));
        let mut products = Vec::with_capacity(2 * N);
        for ((projection, out), inner) in projections.iter().zip(&mut outputs).zip(&mut inners) {
            let weight = &self.packed[layer][*projection as usize];
            products.push(Linear { weight, out, write: Write::Replace });
            if let (Some(pair), Some(out)) = (pair(*projection), inner) {
                products.push(Linear { weight: &pair.a, out, write: Write::Replace });
            }
        }
        backend.linear(x, &mut products);
        for ((projection, out), inner) in projections.iter().zip(&mut outputs).zip(&mut inners) {
            if let Some(Some(bias)) = self.values.blocks[layer].biases.get(*projection as usize) {
                backend.add_bias(out, bias);
            }
            if let (Some(shape), Some(pair), Some(inner)) = (shape(*projection), pair(*projection), inner) {
                backend.scale(inner, shape.scale());
                backend.linear(inner, &mut [Linear { weight: &pair.b, out, write: Write::Add }]);
            }
        }
        (outputs, inners)
    }
}
