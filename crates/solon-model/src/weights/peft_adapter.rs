//! An adapter that runs, from and to its file in PEFT's format, and merged into the tensors of its base model.

use super::{AdapterConfig, AdapterFile, AdapterTask, Tensor};
use crate::adapter::{Adapter, LoraSettings};
use crate::backend::Backend;
use crate::config::ModelConfig;
use crate::parameters::Projection;
use solon_kernels::Precision;
use solon_kernels::gemm::{PackedB, Strided, Write, gemm};
use std::collections::{BTreeMap, BTreeSet};

impl<B: Backend> Adapter<B> {
    /// The adapter a PEFT folder holds, or what does not fit this model.
    pub fn from_file(backend: &B, config: &ModelConfig, file: &AdapterFile) -> Result<Self, String> {
        let holds = |layer: usize, projection: Projection| {
            file.tensors.contains_key(&format!("{}.lora_A", projection.path(layer)))
        };
        let targets: Vec<Projection> = Projection::ALL
            .into_iter()
            .filter(|projection| (0..config.num_layers).any(|layer| holds(layer, *projection)))
            .collect();
        // What is stored as rank-stabilised is run with the plain scale that equals it.
        let own = file.config.plain(file.config.own_shape());
        let mut settings = LoraSettings::new(own.rank, own.alpha, targets);
        for layer in 0..config.num_layers {
            for projection in settings.targets.clone() {
                let path = projection.path(layer);
                let shape = file.config.plain(file.config.shape(&path));
                match holds(layer, projection) {
                    true if shape != own => {
                        settings.exceptions.insert((layer, projection), Some(shape));
                    }
                    false if !file.config.targets(&path) => {
                        settings.exceptions.insert((layer, projection), None);
                    }
                    _ => {}
                }
            }
        }
        let mut used = 0;
        let adapter = Self::build(backend, config, settings, |name, shape| {
            let tensor = file.tensors.get(name).ok_or_else(|| {
                format!(
                    "{name} is missing, and target_modules names its module in every layer of the base model"
                )
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
        let settings = &self.settings;
        let mut tensors = BTreeMap::new();
        let mut modules = BTreeSet::new();
        let mut exceptions = BTreeMap::new();
        for (layer, block) in self.values.blocks.iter().enumerate() {
            for (projection, pair) in Projection::ALL.iter().zip(block) {
                let Some((pair, shape)) = pair.as_ref().zip(settings.shape(layer, *projection)) else {
                    continue;
                };
                let module = projection.path(layer);
                for (part, values) in [("A", &pair.a), ("B", &pair.b)] {
                    let data = backend.download(values).into_owned();
                    let other = data.len() / shape.rank;
                    let shape = if part == "A" { vec![shape.rank, other] } else { vec![other, shape.rank] };
                    tensors.insert(format!("{module}.lora_{part}"), Tensor { shape, data });
                }
                if (shape.rank, shape.alpha) != (settings.rank, settings.alpha) {
                    exceptions.insert(module.clone(), shape);
                }
                modules.insert(module);
            }
        }
        // The same in every layer: their short names.
        if !settings.exceptions.values().any(Option::is_none) {
            modules = settings.targets.iter().map(|projection| projection.name().to_owned()).collect();
        }
        AdapterFile {
            config: AdapterConfig {
                rank: settings.rank,
                alpha: settings.alpha,
                exceptions,
                target_modules: modules,
                base_model,
                task: if score.is_some() {
                    AdapterTask::SequenceClassification
                } else {
                    AdapterTask::CausalLm
                },
                use_rslora: false,
            },
            tensors,
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
                let shape = self.settings.shape(layer, *projection);
                let Some((pair, shape)) = pair.as_ref().zip(shape) else { continue };
                let name = format!("{}.weight", projection.path(layer));
                let weight = tensors.get_mut(&name).ok_or_else(|| format!("the base model has no {name}"))?;
                let (rows, columns) = projection.shape(&self.config);
                let a = backend.download(&pair.a);
                let mut b = backend.download(&pair.b).into_owned();
                b.iter_mut().for_each(|x| *x *= shape.scale());
                let rank = shape.rank;
                let packed = PackedB::new(Strided::rows(&a, columns), rank, columns, Precision::F32);
                gemm(Strided::rows(&b, rank), rows, &packed, &mut weight.data, Write::Add);
            }
        }
        Ok(())
    }
}
