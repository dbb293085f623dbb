//! An adapter that runs, from and to its file in PEFT's format, and merged into the tensors of its base model.

use super::{AdapterConfig, AdapterFile, AdapterTask, Tensor};
use crate::adapter::{Adapter, LoraSettings};
use crate::backend::Backend;
use crate::config::ModelConfig;
use crate::parameters::Projection;
use solon_kernels::Precision;
use solon_kernels::gemm::{PackedB, Strided, Write, gemm};
use std::collections::BTreeMap;

impl<B: Backend> Adapter<B> {
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
