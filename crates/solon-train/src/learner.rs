//! A learner: the parameters that are trained (a decoder's own weights, a LoRA adapter, a scalar head), their gradients
//! and AdamW moments.
//!
//! Several learners may share one frozen decoder: policy, reward model and critic are adapters on the same weights.

use crate::settings::Optimizer;
use solon_model::backend::AdamW;
use solon_model::{Adapter, Backend, Decoder, Gradients, ScalarHead, Training};
use std::sync::Arc;

/// A set of parameters being trained.
pub struct Learner<B: Backend> {
    /// The decoder: shared if frozen, with a single owner if it is trained itself.
    pub decoder: Arc<Decoder<B>>,
    /// The adapter on it.
    pub adapter: Option<Adapter<B>>,
    /// The scalar head on it, for reward models and critics.
    pub scalar: Option<ScalarHead<B>>,
    /// Gradients accumulated since the last update.
    pub gradients: Gradients<B>,
    first: Vec<B::Buffer>,
    second: Vec<B::Buffer>,
    updates: u32,
}

impl<B: Backend> Learner<B> {
    /// Starts with zero moments.
    ///
    /// # Panics
    /// If the decoder is built to be trained in full and has another owner.
    pub fn new(
        mut decoder: Arc<Decoder<B>>,
        adapter: Option<Adapter<B>>,
        scalar: Option<ScalarHead<B>>,
    ) -> Self {
        assert!(
            decoder.training() != Training::Full || Arc::get_mut(&mut decoder).is_some(),
            "a trained decoder has one owner"
        );
        let gradients = decoder.zero_gradients(adapter.as_ref(), scalar.as_ref());
        let mut learner =
            Self { decoder, adapter, scalar, gradients, first: Vec::new(), second: Vec::new(), updates: 0 };
        let lengths: Vec<usize> =
            learner.named().iter().map(|(_, p)| learner.decoder.backend().len(p)).collect();
        let backend = learner.decoder.backend();
        learner.first = lengths.iter().map(|len| backend.zeros(*len)).collect();
        learner.second = lengths.iter().map(|len| backend.zeros(*len)).collect();
        learner
    }

    /// Every trained parameter with its name, in a fixed order.
    pub fn named(&self) -> Vec<(String, &B::Buffer)> {
        let mut out = Vec::new();
        out.extend(self.decoder.trained_values().into_iter().flat_map(|values| values.named()));
        out.extend(self.adapter.iter().flat_map(|adapter| adapter.values.named()));
        out.extend(self.scalar.iter().map(|head| ("score.weight".to_owned(), &head.weight)));
        out
    }

    /// Copies of every trained parameter, in the order of [`Learner::named`].
    pub(crate) fn values(&self) -> Vec<Vec<f32>> {
        let backend = self.decoder.backend();
        self.named().iter().map(|(_, values)| backend.download(values).into_owned()).collect()
    }

    /// Sets every trained parameter, in the order of [`Learner::named`]; moments and the count of updates do not change.
    pub(crate) fn set_values(&mut self, values: Vec<Vec<f32>>) {
        let backend = self.decoder.backend().clone();
        for (parameter, values) in self.parameters_mut().into_iter().zip(values) {
            *parameter = backend.upload(values);
        }
        self.repack();
    }

    /// AdamW's moments, in the order of [`Learner::named`], and how many updates made them.
    pub(crate) fn moments(&self) -> (&[B::Buffer], &[B::Buffer], u32) {
        (&self.first, &self.second, self.updates)
    }

    /// Restores parameters and moments, in the order of [`Learner::named`].
    pub(crate) fn restore(
        &mut self,
        values: Vec<Vec<f32>>,
        first: Vec<Vec<f32>>,
        second: Vec<Vec<f32>>,
        updates: u32,
    ) {
        self.set_values(values);
        let backend = self.decoder.backend();
        self.first = first.into_iter().map(|values| backend.upload(values)).collect();
        self.second = second.into_iter().map(|values| backend.upload(values)).collect();
        self.updates = updates;
    }

    /// Global norm of the accumulated gradients; not finite if one of them is not.
    pub fn gradient_norm(&mut self) -> f64 {
        let backend = self.decoder.backend().clone();
        all_gradients(&mut self.gradients).iter().map(|g| backend.sum_of_squares(g)).sum::<f64>().sqrt()
    }

    /// One AdamW update from the accumulated gradients, which it sets to zero. `norm` is their
    /// [`gradient_norm`](Self::gradient_norm), which must be finite.
    pub fn update(&mut self, learning_rate: f64, norm: f64, optimizer: &Optimizer) {
        let backend = self.decoder.backend().clone();
        self.updates += 1;
        let hyper = AdamW {
            learning_rate: learning_rate as f32,
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            eps: optimizer.eps,
            weight_decay: optimizer.weight_decay,
            step: self.updates,
            gradient_scale: optimizer.gradient_scale(norm) as f32,
        };
        let (mut first, mut second) = (std::mem::take(&mut self.first), std::mem::take(&mut self.second));
        let mut gradients =
            std::mem::replace(&mut self.gradients, Gradients { model: None, lora: None, scalar: None });
        let moments = first.iter_mut().zip(&mut second);
        for ((parameter, gradient), (first, second)) in
            self.parameters_mut().into_iter().zip(all_gradients(&mut gradients)).zip(moments)
        {
            backend.adamw(hyper, parameter, gradient, first, second);
        }
        (self.first, self.second, self.gradients) = (first, second, gradients);
        self.repack();
    }

    /// Sets the accumulated gradients to zero; parameters, moments and the count of updates do not change.
    pub fn discard_gradients(&mut self) {
        self.gradients = self.decoder.zero_gradients(self.adapter.as_ref(), self.scalar.as_ref());
    }

    fn parameters_mut(&mut self) -> Vec<&mut B::Buffer> {
        let mut out = Vec::new();
        if self.decoder.training() == Training::Full {
            let decoder = Arc::get_mut(&mut self.decoder).expect("a trained decoder has one owner");
            out.extend(decoder.trained_values_mut().into_iter().flat_map(|values| values.all_mut()));
        }
        out.extend(self.adapter.iter_mut().flat_map(|adapter| adapter.values.all_mut()));
        out.extend(self.scalar.iter_mut().map(|head| &mut head.weight));
        out
    }

    fn repack(&mut self) {
        let backend = self.decoder.backend().clone();
        if self.decoder.training() == Training::Full {
            Arc::get_mut(&mut self.decoder).expect("a trained decoder has one owner").repack();
        }
        if let Some(adapter) = &mut self.adapter {
            adapter.repack(&backend);
        }
        if let Some(head) = &mut self.scalar {
            head.repack(&backend);
        }
    }
}

/// Every gradient, in the order of [`Learner::named`].
fn all_gradients<B: Backend>(gradients: &mut Gradients<B>) -> Vec<&mut B::Buffer> {
    let mut out = Vec::new();
    out.extend(gradients.model.iter_mut().flat_map(|tensors| tensors.all_mut()));
    out.extend(gradients.lora.iter_mut().flat_map(|tensors| tensors.all_mut()));
    out.extend(gradients.scalar.iter_mut());
    out
}
