//! The gradient of a batch: split into passes, pack, forward, loss, backward. Written once for every objective.
//!
//! Contract: gradients are added to the learner's; nothing is updated. The split into passes is a function of the batch
//! and the settings, because other passes share other prefixes and give other bits.

use crate::learner::Learner;
use crate::losses::LossError;
use crate::objective::{Head, Objective, Sequence};
use crate::schedule::passes;
use crate::settings::TrainSettings;
use crate::step::TrainError;
use solon_model::{Adapter, Backend, PackedBatch, Predictions, Scored};

/// Why a batch gave no update.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A loss refused its inputs.
    Loss(LossError),
    /// The loss was finite and its gradient was not.
    Gradient {
        /// Its global norm.
        norm: f64,
    },
    /// An error that ends the training.
    Train(TrainError),
}

impl From<LossError> for Failure {
    fn from(error: LossError) -> Self {
        Failure::Loss(error)
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        Failure::Train(error)
    }
}

impl Failure {
    /// What was not finite, in words: the reason to skip the step. Any other failure is an error of the step.
    pub(crate) fn not_finite(self, step: usize) -> Result<String, TrainError> {
        match self {
            Failure::Loss(LossError::NotFinite { input, index, value }) => {
                Ok(format!("{input}[{index}] is {value}"))
            }
            Failure::Gradient { norm } => Ok(format!("the gradient's norm is {norm}")),
            Failure::Loss(source) => Err(TrainError::Loss { step, source }),
            Failure::Train(error) => Err(error),
        }
    }
}

/// The result of [`add_gradient`].
pub(crate) struct BatchLoss<M> {
    /// The objective's metrics over the whole batch.
    pub metrics: M,
    /// Global norm of the learner's gradients; finite.
    pub norm: f64,
}

/// Adds the gradient of a batch's loss to the learner's gradients. Adds to `tokens` the number of tokens that went
/// through the model. `reference` is the adapter of the model that [`Head::Divergences`] compares with.
pub(crate) fn add_gradient<B: Backend, O: Objective>(
    learner: &mut Learner<B>,
    reference: Option<&Adapter<B>>,
    objective: &O,
    batch: &[usize],
    settings: &TrainSettings,
    tokens: &mut usize,
) -> Result<BatchLoss<O::Metrics>, Failure> {
    let normaliser = objective.normaliser(batch);
    let mut metrics = O::Metrics::default();
    let of_one_head = by_head(objective, batch);
    let passes = of_one_head.iter().flat_map(|(head, items)| {
        passes(items, settings.tokens_per_pass, |i| objective.tokens(i))
            .into_iter()
            .map(|items| (*head, items))
    });
    for (head, items) in passes {
        let sequences: Vec<Sequence> = items.iter().flat_map(|i| objective.sequences(*i)).collect();
        let (pack, scored) = pack(&sequences);
        *tokens += pack.len();
        let Learner { decoder, adapter, scalar, gradients, .. } = &mut *learner;
        let backend = decoder.backend();
        let forward = decoder.forward(adapter.as_ref(), &pack, settings.keep);
        let hidden = &forward.hidden;
        let zeros = || backend.zeros(backend.len(hidden));
        let mut loss = |read: &[f32]| objective.loss(&items, read, normaliser, &mut metrics);
        let dhidden = match (head, objective.known_gradient(&items, normaliser)) {
            (Head::LogProbs { temperature }, Some(known)) => {
                let mut dhidden = zeros();
                let read =
                    decoder.log_probs_grad(hidden, &scored, temperature, &known, &mut dhidden, gradients);
                let gradient = loss(&read)?;
                debug_assert_eq!(gradient, known, "the gradient differs from the objective's known gradient");
                dhidden
            }
            (Head::LogProbs { temperature }, None) => {
                let gradient = loss(&decoder.log_probs(hidden, &scored, temperature))?;
                let mut dhidden = zeros();
                decoder.log_probs_grad(hidden, &scored, temperature, &gradient, &mut dhidden, gradients);
                dhidden
            }
            (Head::Scalars(scale), _) => {
                let head = scalar.as_ref().ok_or(TrainError::NoScalarHead { whose: "the learner" })?;
                let raw = decoder.scalars(hidden, &scored.rows, head);
                let read: Vec<f32> = raw.iter().map(|raw| scale.normalise(*raw)).collect();
                let gradient: Vec<f32> = loss(&read)?.iter().map(|d| scale.gradient(*d)).collect();
                let mut dhidden = zeros();
                decoder.scalars_grad(hidden, &scored.rows, head, &gradient, &mut dhidden, gradients);
                dhidden
            }
            (Head::Divergences, known) => {
                let there = decoder.hidden_states(reference, &pack);
                let there = || Predictions { decoder: &**decoder, hidden: &there };
                let gradient = match &known {
                    Some(known) => known.clone(),
                    None => loss(&decoder.divergences(hidden, there(), &scored.rows))?,
                };
                let mut dhidden = zeros();
                let read = decoder.divergences_grad(hidden, there(), &scored.rows, &gradient, &mut dhidden);
                if known.is_some() {
                    loss(&read)?;
                }
                dhidden
            }
        };
        decoder.backward(adapter.as_ref(), &pack, forward, &dhidden, gradients);
    }
    let norm = learner.gradient_norm();
    if norm.is_finite() { Ok(BatchLoss { metrics, norm }) } else { Err(Failure::Gradient { norm }) }
}

/// The items of a batch by the head that they need, each head's in order.
fn by_head<O: Objective>(objective: &O, batch: &[usize]) -> Vec<(Head, Vec<usize>)> {
    let mut groups: Vec<(Head, Vec<usize>)> = Vec::new();
    for item in batch {
        let head = objective.head(*item);
        match groups.iter_mut().find(|(known, _)| *known == head) {
            Some((_, items)) => items.push(*item),
            None => groups.push((head, vec![*item])),
        }
    }
    groups
}

/// Packs sequences with shared prefixes computed once. Also returns the rows whose outputs are needed, and the token
/// after each.
pub(crate) fn pack(sequences: &[Sequence]) -> (PackedBatch, Scored) {
    let tokens: Vec<&[u32]> = sequences.iter().map(|sequence| &sequence.tokens[..]).collect();
    let (pack, rows) = PackedBatch::of(&tokens);
    let mut scored = Scored::default();
    for (sequence, rows) in sequences.iter().zip(&rows) {
        for at in &sequence.read {
            scored.rows.push(rows[*at]);
            // The scalar head is also read at the last token, which no token follows; its target is not used.
            scored.targets.push(sequence.tokens.get(at + 1).copied().unwrap_or_default());
        }
    }
    (pack, scored)
}

/// A check that tests of several objectives share.
#[cfg(test)]
pub(crate) mod check {
    use super::add_gradient;
    use crate::objective::Objective;
    use crate::{Learner, tiny};
    use solon_kernels::Precision;
    use solon_model::{Backend, Cpu};

    /// Compares the gradient of an adapter's parameters with finite differences of the batch's loss, which `loss` reads from
    /// its metrics. The reference is the decoder without an adapter.
    pub fn check_adapter_gradient<O: Objective>(
        objective: &O,
        batch: &[usize],
        loss: impl Fn(&O::Metrics) -> f64,
    ) {
        let mut learner = tiny::learner_in(Precision::F32, false);
        let backend = *learner.decoder.backend();
        // A fresh adapter changes nothing, and where nothing diverges the gradient of a divergence is 0.
        for values in learner.adapter.as_mut().unwrap().values.all_mut() {
            for (place, value) in values.iter_mut().enumerate() {
                *value += 0.4 * ((place * 7) as f32).sin();
            }
        }
        let measure = |learner: &mut Learner<Cpu>| {
            learner.adapter.as_mut().unwrap().repack(&backend);
            let made = add_gradient(learner, None, objective, batch, &tiny::settings(), &mut 0).unwrap();
            let adapter = learner.gradients.lora.as_ref().unwrap();
            let gradient: Vec<f32> = adapter
                .named()
                .iter()
                .flat_map(|(_, values)| backend.download(values).into_owned())
                .collect();
            learner.discard_gradients();
            (loss(&made.metrics), gradient)
        };
        let (_, gradient) = measure(&mut learner);
        let mut value = |place: usize, by: f32| {
            let mut at = place;
            for values in learner.adapter.as_mut().unwrap().values.all_mut() {
                if at < values.len() {
                    values[at] += by;
                    break;
                }
                at -= values.len();
            }
            measure(&mut learner).0
        };
        let count = gradient.len();
        for place in (0..count).step_by(count / 23) {
            let up = value(place, 0.01);
            let down = value(place, -0.02);
            value(place, 0.01);
            let numeric = (up - down) / 0.02;
            let error = (numeric - f64::from(gradient[place])).abs();
            assert!(error < 2e-3 * numeric.abs().max(0.05), "[{place}]: {} {numeric}", gradient[place]);
        }
    }
}
