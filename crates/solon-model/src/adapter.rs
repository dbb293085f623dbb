//! LoRA (Hu et al. 2021): `y = x Wᵀ + (x Aᵀ) Bᵀ · alpha/rank`, in activation space: the dense update is never built.

use crate::backend::{Backend, WeightUse};
use crate::config::ModelConfig;
use crate::parameters::{LoraPair, LoraTensors, Projection};
use crate::weights::{AdapterConfig, AdapterFile, AdapterTask, Tensor};
use solon_kernels::Precision;
use solon_kernels::gemm::{PackedB, Strided, Write, gemm};
use std::collections::BTreeMap;

/// Which matrices are adapted, and how strongly.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSettings {
    /// Inner width.
    pub rank: usize,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f32,
    /// The adapted matrices.
    pub targets: Vec<Projection>,
}

impl LoraSettings {
    /// What the low-rank product is multiplied by.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }
}

/// A LoRA adapter: values to train and their packed forms to run.
pub struct Adapter<B: Backend> {
    /// Shape and strength.
    pub settings: LoraSettings,
    /// The factors.
    pub values: LoraTensors<B::Buffer>,
    pub(crate) packed: LoraTensors<B::Weight>,
    config: ModelConfig,
}

impl<B: Backend> Adapter<B> {
    /// An adapter with the factors that `make(name, shape)` gives.
    pub fn build<E>(
        backend: &B,
        config: &ModelConfig,
        settings: LoraSettings,
        mut make: impl FnMut(&str, &[usize]) -> Result<Vec<f32>, E>,
    ) -> Result<Self, E> {
        let values = LoraTensors::build(config, &settings.targets, settings.rank, |name, shape| {
            make(name, shape).map(|values| backend.upload(values))
        })?;
        let packed = LoraTensors {
            blocks: values
                .blocks
                .iter()
                .map(|block| {
                    let mut packed = [const { None }; 7];
                    for (projection, pair) in Projection::ALL.iter().zip(block) {
                        let (rows, columns) = projection.shape(config);
                        packed[*projection as usize] = pair.as_ref().map(|pair| LoraPair {
                            a: backend.pack(&pair.a, settings.rank, columns, WeightUse::Training),
                            b: backend.pack(&pair.b, rows, settings.rank, WeightUse::Training),
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

    /// The adapter a PEFT folder holds, or what does not fit this model.
    pub fn from_file(backend: &B, config: &ModelConfig, file: &AdapterFile) -> Result<Self, String> {
        let targets: Vec<Projection> = Projection::ALL
            .into_iter()
            .filter(|p| file.tensors.keys().any(|name| name.ends_with(&format!(".{}.lora_A", p.name()))))
            .collect();
        let rank = file.config.rank;
        // What is stored as rank-stabilised is run with the plain scale that equals it.
        let settings = LoraSettings { rank, alpha: file.config.scale() * rank as f32, targets };
        let mut used = 0;
        let adapter = Self::build(backend, config, settings, |name, shape| {
            let tensor = file.tensors.get(name).ok_or_else(|| {
                format!("{name} is missing: an adapter must cover the same modules in every layer of the base model")
            })?;
            if tensor.shape != shape {
                return Err(format!("{name} is {:?}, the base model needs {shape:?}", tensor.shape));
            }
            used += 1;
            Ok(tensor.data.clone())
        })?;
        match file.tensors.len() - used {
            0 => Ok(adapter),
            extra => Err(format!("{extra} of its tensors belong to layers the base model does not have")),
        }
    }

    /// The adapter as a PEFT folder holds it; `score` is a scalar head saved with it.
    pub fn to_file(&self, backend: &B, base_model: Option<String>, score: Option<&B::Buffer>) -> AdapterFile {
        let tensors = self.values.named().into_iter().map(|(name, values)| {
            let data = backend.download(values).into_owned();
            let shape = match name.ends_with(".lora_A") {
                true => vec![self.settings.rank, data.len() / self.settings.rank],
                false => vec![data.len() / self.settings.rank, self.settings.rank],
            };
            (name, Tensor { shape, data })
        });
        AdapterFile {
            config: AdapterConfig {
                rank: self.settings.rank,
                alpha: self.settings.alpha,
                target_modules: self.settings.targets.iter().map(|p| p.name().to_owned()).collect(),
                base_model,
                task: if score.is_some() {
                    AdapterTask::SequenceClassification
                } else {
                    AdapterTask::CausalLm
                },
                use_rslora: false,
            },
            tensors: tensors.collect(),
            score: score.map(|weight| {
                let data = backend.download(weight).into_owned();
                Tensor { shape: vec![1, data.len()], data }
            }),
        }
    }

    /// Adds the update to the base model's matrices, `W += alpha/rank · B A`, in f32.
    pub fn merge_into(&self, backend: &B, tensors: &mut BTreeMap<String, Tensor>) -> Result<(), String> {
        for (layer, block) in self.values.blocks.iter().enumerate() {
            for (projection, pair) in Projection::ALL.iter().zip(block) {
                let Some(pair) = pair else { continue };
                let name = format!("{}.weight", projection.path(layer));
                let weight = tensors.get_mut(&name).ok_or_else(|| format!("the base model has no {name}"))?;
                let (rows, columns) = projection.shape(&self.config);
                let a = backend.download(&pair.a);
                let mut b = backend.download(&pair.b).into_owned();
                b.iter_mut().for_each(|x| *x *= self.settings.scale());
                let rank = self.settings.rank;
                let packed = PackedB::new(Strided::rows(&a, columns), rank, columns, Precision::F32);
                gemm(Strided::rows(&b, rank), rows, &packed, &mut weight.data, Write::Add);
            }
        }
        Ok(())
    }
}
