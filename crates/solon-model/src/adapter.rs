//! LoRA (Hu et al. 2021): `y = x Wᵀ + (x Aᵀ) Bᵀ · alpha/rank`, in activation space: the dense update is never built.

use std::collections::BTreeMap;

use crate::backend::{Backend, WeightUse};
use crate::config::ModelConfig;
use crate::parameters::{LoraPair, LoraTensors, Projection};

/// How wide and how strong one pair is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraShape {
    /// Inner width.
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f32,
}

impl LoraShape {
    /// What the low-rank product is multiplied by.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }
}

/// Which matrices are adapted, and how strongly.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// Inner width.
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f32,
    /// The adapted matrices of every layer.
    pub targets: Vec<Projection>,
    /// Matrices for which this is otherwise, by layer: with a shape of their own, or without a pair.
    pub exceptions: BTreeMap<(usize, Projection), Option<LoraShape>>,
}

impl LoraSettings {
    /// The same for all layers.
    pub fn new(rank: usize, alpha: f32, targets: impl Into<Vec<Projection>>) -> Self {
        Self { rank, alpha, targets: targets.into(), exceptions: BTreeMap::new() }
    }

    /// The pair of a matrix, if it is adapted.
    pub fn shape(&self, layer: usize, projection: Projection) -> Option<LoraShape> {
        match self.exceptions.get(&(layer, projection)) {
            Some(shape) => *shape,
            None => {
                self.targets.contains(&projection).then_some(LoraShape { rank: self.rank, alpha: self.alpha })
            }
        }
    }

    /// The largest inner width: what memory is counted with.
    pub fn largest_rank(&self) -> usize {
        self.exceptions.values().flatten().map(|shape| shape.rank).fold(self.rank, usize::max)
    }
}

/// A LoRA adapter: values to train and their packed forms to run.
pub struct Adapter<B: Backend> {
    /// Shape and strength.
    pub settings: LoraSettings,
    /// The factors.
    pub values: LoraTensors<B::Buffer>,
    pub(crate) packed: LoraTensors<B::Weight>,
    pub(crate) config: ModelConfig,
}

impl<B: Backend> Adapter<B> {
    /// An adapter with the factors that `make(name, shape)` gives.
    pub fn build<E>(
        backend: &B,
        config: &ModelConfig,
        settings: LoraSettings,
        mut make: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let values = LoraTensors::build(config, &settings, |name, shape| {
            make(name, shape).map(|values| backend.upload(values))
        })?;
        let packed = LoraTensors {
            blocks: values
                .blocks
                .iter()
                .enumerate()
                .map(|(layer, block)| {
                    let mut packed = [const { None }; 7];
                    for (projection, pair) in Projection::ALL.iter().zip(block) {
                        let (rows, columns) = projection.shape(config);
                        let shape = settings.shape(layer, *projection);
                        packed[*projection as usize] =
                            pair.as_ref().zip(shape).map(|(pair, shape)| LoraPair {
                                a: backend.pack(&pair.a, shape.rank, columns, WeightUse::Training),
                                b: backend.pack(&pair.b, rows, shape.rank, WeightUse::Training),
                            });
                    }
                    packed
                })
                .collect(),
        };
        Ok(Self { settings, values, packed, config: config.clone() })
    }

    /// A fresh adapter as PEFT makes it: `A` uniform in ±1/√in (Kaiming with a = √5), `B` zero.
    /// `uniform(name, index)` gives the draw in [0, 1) for an element, keyed by its place.
    pub fn fresh(
        backend: &B,
        config: &ModelConfig,
        settings: LoraSettings,
        uniform: impl Fn(&str, usize) -> f32,
    ) -> Self {
        let made = Self::build(backend, config, settings, |name, shape| {
            let len = shape.iter().product::<usize>();
            Ok::<_, std::convert::Infallible>(if name.ends_with("lora_A") {
                let bound = 1.0 / (shape[1] as f32).sqrt();
                (0..len).map(|i| (2.0 * uniform(name, i) - 1.0) * bound).collect()
            } else {
                vec![0.0; len]
            })
        });
        match made {
            Ok(adapter) => adapter,
            Err(never) => match never {},
        }
    }

    /// A copy with its own factors.
    pub fn duplicate(&self, backend: &B) -> Self {
        let values: Vec<Vec<f32>> =
            self.values.named().iter().map(|(_, v)| backend.download(v).into_owned()).collect();
        let mut values = values.into_iter();
        let made = Self::build(backend, &self.config, self.settings.clone(), |_, _| {
            Ok::<_, std::convert::Infallible>(values.next().unwrap_or_default())
        });
        match made {
            Ok(adapter) => adapter,
            Err(never) => match never {},
        }
    }

    /// A copy whose update is `factor` times as strong. Only `alpha` changes, so that its file says exactly this.
    pub fn scaled(&self, backend: &B, factor: f32) -> Self {
        let mut scaled = self.duplicate(backend);
        scaled.settings.alpha *= factor;
        for shape in scaled.settings.exceptions.values_mut().flatten() {
            shape.alpha *= factor;
        }
        scaled
    }

    /// Packs the factors again after they changed.
    pub fn repack(&mut self, backend: &B) {
        for (values, packed) in self.values.blocks.iter().zip(&mut self.packed.blocks) {
            for (values, packed) in values.iter().zip(packed) {
                if let (Some(values), Some(packed)) = (values, packed) {
                    backend.repack(&mut packed.a, &values.a);
                    backend.repack(&mut packed.b, &values.b);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Reference;
    use crate::config::{Architecture, RopeScaling};

    #[test]
    fn a_scaled_adapter_has_the_same_factors_and_another_alpha() {
        let config = ModelConfig {
            architecture: Architecture::Llama,
            vocab_size: 8,
            hidden_size: 8,
            intermediate_size: 8,
            num_layers: 1,
            num_heads: 2,
            num_kv_heads: 1,
            head_dim: 4,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            max_position_embeddings: 16,
            tie_word_embeddings: true,
            qkv_bias: false,
            qk_norm: false,
        };
        let backend = Reference;
        let mut settings = LoraSettings::new(2, 4.0, [Projection::Q]);
        settings.exceptions.insert((0, Projection::K), Some(LoraShape { rank: 1, alpha: 0.5 }));
        let adapter = Adapter::fresh(&backend, &config, settings, |_, index| index as f32 / 100.0);
        let scaled = adapter.scaled(&backend, 1.5);
        let scale = |projection| scaled.settings.shape(0, projection).map(|shape| shape.scale());
        assert_eq!([Projection::Q, Projection::K, Projection::V].map(scale), [Some(3.0), Some(0.75), None]);
        for ((name, before), (_, after)) in adapter.values.named().iter().zip(scaled.values.named()) {
            assert_eq!(backend.download(before), backend.download(after), "{name}");
        }
    }
}
