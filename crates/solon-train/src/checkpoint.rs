//! Training state as bytes in safetensors form: the parameters and moments of learners, from which an interrupted run
//! resumes.
//!
//! The same state gives the same bytes. The caller writes them to a file atomically.

use crate::learner::Learner;
use crate::step::TrainError;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use solon_model::Backend;
use std::collections::BTreeMap;

/// Named learners and some numbers: everything that the next step depends on.
pub(crate) fn to_bytes<B: Backend>(
    learners: &[(&str, &Learner<B>)],
    numbers: &[u64],
) -> Result<Vec<u8>, TrainError> {
    to_bytes_with_best(learners, None, numbers)
}

/// The same with the best parameters so far of the first learner, in the order of [`Learner::named`].
pub(crate) fn to_bytes_with_best<B: Backend>(
    learners: &[(&str, &Learner<B>)],
    best: Option<&[Vec<f32>]>,
    numbers: &[u64],
) -> Result<Vec<u8>, TrainError> {
    let mut tensors: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut numbers = numbers.to_vec();
    for (owner, learner) in learners {
        let backend = learner.decoder.backend();
        let bytes = |buffer: &B::Buffer| -> Vec<u8> {
            backend.download(buffer).iter().flat_map(|x| x.to_le_bytes()).collect()
        };
        let (first, second, updates) = learner.moments();
        for (i, (name, value)) in learner.named().into_iter().enumerate() {
            tensors.insert(format!("{owner}.value.{name}"), bytes(value));
            tensors.insert(format!("{owner}.first.{name}"), bytes(&first[i]));
            tensors.insert(format!("{owner}.second.{name}"), bytes(&second[i]));
        }
        numbers.push(u64::from(updates));
    }
    if let (Some((_, learner)), Some(best)) = (learners.first(), best) {
        for ((name, _), values) in learner.named().into_iter().zip(best) {
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.insert(format!("{BEST}.value.{name}"), bytes);
        }
    }
    tensors.insert(NUMBERS.to_owned(), numbers.iter().flat_map(|x| x.to_le_bytes()).collect());
    let views = tensors.iter().map(|(name, data)| {
        let (dtype, width) = if name == NUMBERS { (Dtype::U64, 8) } else { (Dtype::F32, 4) };
        TensorView::new(dtype, vec![data.len() / width], data).map(|view| (name.clone(), view))
    });
    let views: Vec<_> = views.collect::<Result<_, _>>().map_err(|e| TrainError::Checkpoint(e.to_string()))?;
    safetensors::serialize(views, None).map_err(|e| TrainError::Checkpoint(e.to_string()))
}

/// Restores the learners, and returns the `count` numbers.
pub(crate) fn from_bytes<B: Backend>(
    learners: &mut [(&str, &mut Learner<B>)],
    count: usize,
    bytes: &[u8],
) -> Result<Vec<u64>, TrainError> {
    Ok(from_bytes_with_best(learners, count, bytes)?.0)
}

/// Restores the learners, and returns the `count` numbers and the best parameters where there are some.
pub(crate) fn from_bytes_with_best<B: Backend>(
    learners: &mut [(&str, &mut Learner<B>)],
    count: usize,
    bytes: &[u8],
) -> Result<(Vec<u64>, Option<Vec<Vec<f32>>>), TrainError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| TrainError::Checkpoint(e.to_string()))?;
    let numbers = file.tensor(NUMBERS).map_err(|e| TrainError::Checkpoint(format!("{NUMBERS}: {e}")))?;
    let numbers: Vec<u64> =
        numbers.data().as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    if numbers.len() != count + learners.len() {
        return Err(TrainError::Checkpoint(format!(
            "it was written by another kind of training ({NUMBERS})"
        )));
    }
    for (i, (owner, learner)) in learners.iter_mut().enumerate() {
        let read = |part: &str| read_part(&file, owner, part, learner);
        let (values, first, second) = (read("value")?, read("first")?, read("second")?);
        learner.restore(values, first, second, numbers[count + i] as u32);
    }
    let prefix = format!("{BEST}.");
    let best = match learners.first() {
        Some((_, learner)) if file.names().iter().any(|name| name.starts_with(&prefix)) => {
            Some(read_part(&file, BEST, "value", learner)?)
        }
        _ => None,
    };
    Ok((numbers[..count].to_vec(), best))
}

/// Whose tensors the best parameters are.
const BEST: &str = "best";

/// The tensor that holds the numbers.
const NUMBERS: &str = "numbers";

/// One part (values or a moment) of every parameter of a learner, in the learner's order.
fn read_part<B: Backend>(
    file: &SafeTensors<'_>,
    owner: &str,
    part: &str,
    learner: &Learner<B>,
) -> Result<Vec<Vec<f32>>, TrainError> {
    let backend = learner.decoder.backend();
    let parameters = learner.named().into_iter().map(|(name, value)| (name, backend.len(value)));
    parameters
        .map(|(name, len)| {
            let key = format!("{owner}.{part}.{name}");
            let view = file.tensor(&key).map_err(|e| TrainError::Checkpoint(format!("{key}: {e}")))?;
            let values: Vec<f32> =
                view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            if view.dtype() != Dtype::F32 || values.len() != len {
                return Err(TrainError::Checkpoint(format!(
                    "{key} has {} values of {:?}; {len} of F32 were expected",
                    values.len(),
                    view.dtype()
                )));
            }
            Ok(values)
        })
        .collect()
}
