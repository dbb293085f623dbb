//! A model's tensors by their place in it, generic over what is stored there: values, gradients, or Adam's moments.
//!
//! One walk over the structure ([`ModelTensors::named`]) fixes the order and the Hugging Face names of all parameters;
//! saving, the optimizer and gradient norms all use it.

use crate::adapter::{LoraSettings, LoraShape};
use crate::config::ModelConfig;

/// The seven matrices of a block, in the order of [`Projection::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// MLP gate.
    Gate,
    /// MLP up.
    Up,
    /// MLP down.
    Down,
}

impl Projection {
    /// Every projection, in storage order.
    pub const ALL: [Projection; 7] = [
        Projection::Q,
        Projection::K,
        Projection::V,
        Projection::O,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
    ];

    /// The module's name, as PEFT's `target_modules` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Projection::Q => "q_proj",
            Projection::K => "k_proj",
            Projection::V => "v_proj",
            Projection::O => "o_proj",
            Projection::Gate => "gate_proj",
            Projection::Up => "up_proj",
            Projection::Down => "down_proj",
        }
    }

    /// The module's path below `model.layers.{layer}.`, without `.weight`.
    pub fn path(self, layer: usize) -> String {
        let part = if self >= Projection::Gate { "mlp" } else { "self_attn" };
        format!("model.layers.{layer}.{part}.{}", self.name())
    }

    /// `(rows, columns)` of the weight: outputs by inputs.
    pub fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
        match self {
            Projection::Q => (config.q_width(), hidden),
            Projection::K | Projection::V => (config.kv_width(), hidden),
            Projection::O => (hidden, config.q_width()),
            Projection::Gate | Projection::Up => (mlp, hidden),
            Projection::Down => (hidden, mlp),
        }
    }
}

/// One block's tensors.
#[derive(Clone, Debug)]
pub struct BlockTensors<T> {
    /// RMSNorm gain before attention, `[hidden]`.
    pub input_norm: T,
    /// RMSNorm gain before the MLP, `[hidden]`.
    pub post_norm: T,
    /// RMSNorm gain of each query head, `[head_dim]`, where the model has it.
    pub q_norm: Option<T>,
    /// RMSNorm gain of each key head, `[head_dim]`, where the model has it.
    pub k_norm: Option<T>,
    /// The matrices, in the order of [`Projection::ALL`].
    pub projections: [T; 7],
    /// Biases of q, k and v, where the model has them.
    pub biases: [Option<T>; 3],
}

/// A whole model's tensors.
#[derive(Clone, Debug)]
pub struct ModelTensors<T> {
    /// `[vocab, hidden]`.
    pub embedding: T,
    /// The blocks, first to last.
    pub blocks: Vec<BlockTensors<T>>,
    /// `[hidden]`.
    pub final_norm: T,
    /// `[vocab, hidden]`, where it is not the embedding.
    pub head: Option<T>,
}

impl<T> ModelTensors<T> {
    /// Builds every tensor the configuration has from its name and shape.
    pub fn build<E>(
        config: &ModelConfig,
        mut make: impl FnMut(&str, &[usize]) -> Result<T, E>,
    ) -> Result<Self, E> {
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let embedding = make("model.embed_tokens.weight", &[vocab, hidden])?;
        let mut blocks = Vec::with_capacity(config.num_layers);
        for layer in 0..config.num_layers {
            let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
            let input_norm = make(&at("input_layernorm"), &[hidden])?;
            let post_norm = make(&at("post_attention_layernorm"), &[hidden])?;
            let mut head_norm = |name: &str| match config.qk_norm {
                true => make(&at(name), &[config.head_dim]).map(Some),
                false => Ok(None),
            };
            let (q_norm, k_norm) = (head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?);
            let mut matrix = |projection: Projection| {
                let (rows, columns) = projection.shape(config);
                make(&format!("{}.weight", projection.path(layer)), &[rows, columns])
            };
            let [q, k, v, o, gate, up, down] = Projection::ALL;
            let projections =
                [matrix(q)?, matrix(k)?, matrix(v)?, matrix(o)?, matrix(gate)?, matrix(up)?, matrix(down)?];
            let mut bias = |projection: Projection| match config.qkv_bias {
                true => {
                    make(&format!("{}.bias", projection.path(layer)), &[projection.shape(config).0]).map(Some)
                }
                false => Ok(None),
            };
            let biases = [bias(q)?, bias(k)?, bias(v)?];
            blocks.push(BlockTensors { input_norm, post_norm, q_norm, k_norm, projections, biases });
        }
        let final_norm = make("model.norm.weight", &[hidden])?;
        let head = match config.tie_word_embeddings {
            true => None,
            false => Some(make("lm_head.weight", &[vocab, hidden])?),
        };
        Ok(Self { embedding, blocks, final_norm, head })
    }

    /// The same places with other contents.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> ModelTensors<U> {
        let embedding = f(self.embedding);
        let blocks = self.blocks.into_iter().map(|block| BlockTensors {
            input_norm: f(block.input_norm),
            post_norm: f(block.post_norm),
            q_norm: block.q_norm.map(&mut f),
            k_norm: block.k_norm.map(&mut f),
            projections: block.projections.map(&mut f),
            biases: block.biases.map(|bias| bias.map(&mut f)),
        });
        let blocks = blocks.collect();
        ModelTensors { embedding, blocks, final_norm: f(self.final_norm), head: self.head.map(f) }
    }

    /// Every tensor with its name, in a fixed order.
    pub fn named(&self) -> Vec<(String, &T)> {
        let mut out = vec![("model.embed_tokens.weight".to_owned(), &self.embedding)];
        for (layer, block) in self.blocks.iter().enumerate() {
            let at = |name: &str| format!("model.layers.{layer}.{name}.weight");
            out.push((at("input_layernorm"), &block.input_norm));
            out.push((at("post_attention_layernorm"), &block.post_norm));
            out.extend(block.q_norm.as_ref().map(|t| (at("self_attn.q_norm"), t)));
            out.extend(block.k_norm.as_ref().map(|t| (at("self_attn.k_norm"), t)));
            for (projection, tensor) in Projection::ALL.iter().zip(&block.projections) {
                out.push((format!("{}.weight", projection.path(layer)), tensor));
            }
            for (projection, tensor) in Projection::ALL.iter().zip(&block.biases) {
                out.extend(tensor.as_ref().map(|t| (format!("{}.bias", projection.path(layer)), t)));
            }
        }
        out.push(("model.norm.weight".to_owned(), &self.final_norm));
        out.extend(self.head.as_ref().map(|t| ("lm_head.weight".to_owned(), t)));
        out
    }

    /// The tensors to change, in the order of [`ModelTensors::named`].
    pub fn all_mut(&mut self) -> Vec<&mut T> {
        let mut out = vec![&mut self.embedding];
        for block in &mut self.blocks {
            out.push(&mut block.input_norm);
            out.push(&mut block.post_norm);
            out.extend(&mut block.q_norm);
            out.extend(&mut block.k_norm);
            out.extend(&mut block.projections);
            out.extend(block.biases.iter_mut().flatten());
        }
        out.push(&mut self.final_norm);
        out.extend(&mut self.head);
        out
    }
}

/// The two factors of one LoRA pair.
#[derive(Clone, Debug)]
pub struct LoraPair<T> {
    /// `[rank, in]`.
    pub a: T,
    /// `[out, rank]`.
    pub b: T,
}

/// LoRA factors of every adapted matrix, by layer and projection.
#[derive(Clone, Debug)]
pub struct LoraTensors<T> {
    /// One entry a block, in the order of [`Projection::ALL`].
    pub blocks: Vec<[Option<LoraPair<T>>; 7]>,
}

impl<T> LoraTensors<T> {
    /// Builds the factors of the adapted matrices from their names and shapes.
    pub fn build<E>(
        config: &ModelConfig,
        settings: &LoraSettings,
        mut make: impl FnMut(&str, &[usize]) -> Result<T, E>,
    ) -> Result<Self, E> {
        let mut blocks = Vec::with_capacity(config.num_layers);
        for layer in 0..config.num_layers {
            let mut block = [const { None }; 7];
            for projection in Projection::ALL {
                let Some(LoraShape { rank, .. }) = settings.shape(layer, projection) else { continue };
                let (rows, columns) = projection.shape(config);
                let path = projection.path(layer);
                block[projection as usize] = Some(LoraPair {
                    a: make(&format!("{path}.lora_A"), &[rank, columns])?,
                    b: make(&format!("{path}.lora_B"), &[rows, rank])?,
                });
            }
            blocks.push(block);
        }
        Ok(Self { blocks })
    }

    /// Every factor with its name, in a fixed order.
    pub fn named(&self) -> Vec<(String, &T)> {
        let mut out = Vec::new();
        for (layer, block) in self.blocks.iter().enumerate() {
            for (projection, pair) in Projection::ALL.iter().zip(block) {
                if let Some(pair) = pair {
                    out.push((format!("{}.lora_A", projection.path(layer)), &pair.a));
                    out.push((format!("{}.lora_B", projection.path(layer)), &pair.b));
                }
            }
        }
        out
    }

    /// The factors to change, in the order of [`LoraTensors::named`].
    pub fn all_mut(&mut self) -> Vec<&mut T> {
        self.blocks.iter_mut().flatten().flatten().flat_map(|pair| [&mut pair.a, &mut pair.b]).collect()
    }
}
