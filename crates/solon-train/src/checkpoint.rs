//! A learner's parameters and moments as bytes, in safetensors form: what a killed run goes on from.
//!
//! Bytes are the same for the same state. Writing them to a file, whole or not at all, is the caller's part.

use crate::learner::Learner;
use crate::step::TrainError;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::SafeTensors;
use solon_model::Backend;
use std::collections::BTreeMap;

/// Everything the next step depends on.
pub fn to_bytes<B: Backend>(learner: &Learner<B>, next_step: usize) -> Result<Vec<u8>, TrainError> {
    let backend = learner.decoder.backend();
    let (first, second, updates) = learner.moments();
    let mut tensors: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let bytes = |buffer: &B::Buffer| -> Vec<u8> {
        backend.download(buffer).iter().flat_map(|x| x.to_le_bytes()).collect()
    };
    for (i, (name, value)) in learner.named().into_iter().enumerate() {
        tensors.insert(format!("value.{name}"), bytes(value));
        tensors.insert(format!("first.{name}"), bytes(&first[i]));
        tensors.insert(format!("second.{name}"), bytes(&second[i]));
    }
    let counts: Vec<u8> =
        [next_step as u64, u64::from(updates)].iter().flat_map(|x| x.to_le_bytes()).collect();
    tensors.insert("counts".to_owned(), counts);
    let views = tensors.iter().map(|(name, data)| {
        let (dtype, width) = if name == "counts" { (Dtype::U64, 8) } else { (Dtype::F32, 4) };
        TensorView::new(dtype, vec![data.len() / width], data).map(|view| (name.clone(), view))
    });
    let views: Vec<_> = views.collect::<Result<_, _>>().map_err(|e| TrainError::Checkpoint(e.to_string()))?;
    safetensors::serialize(views, None).map_err(|e| TrainError::Checkpoint(e.to_string()))
}

/// Puts a state back and returns the step to do next.
pub fn from_bytes<B: Backend>(learner: &mut Learner<B>, bytes: &[u8]) -> Result<usize, TrainError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| TrainError::Checkpoint(e.to_string()))?;
    let lengths: Vec<(String, usize)> = learner
        .named()
        .into_iter()
        .map(|(name, value)| (name, learner.decoder.backend().len(value)))
        .collect();
    let read = |prefix: &str| -> Result<Vec<Vec<f32>>, TrainError> {
        lengths
            .iter()
            .map(|(name, len)| {
                let key = format!("{prefix}.{name}");
                let view = file.tensor(&key).map_err(|e| TrainError::Checkpoint(format!("{key}: {e}")))?;
                let values: Vec<f32> =
                    view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
                if view.dtype() != Dtype::F32 || values.len() != *len {
                    return Err(TrainError::Checkpoint(format!(
                        "{key} holds {} values of {:?} where {len} of F32 are trained",
                        values.len(),
                        view.dtype()
                    )));
                }
                Ok(values)
            })
            .collect()
    };
    let (values, first, second) = (read("value")?, read("first")?, read("second")?);
    let counts = file.tensor("counts").map_err(|e| TrainError::Checkpoint(format!("counts: {e}")))?;
    let [next_step, updates] = counts.data().as_chunks::<8>().0 else {
        return Err(TrainError::Checkpoint("counts does not hold two numbers".to_owned()));
    };
    learner.restore(values, first, second, u64::from_le_bytes(*updates) as u32);
    Ok(u64::from_le_bytes(*next_step) as usize)
}
