//! Supervised fine-tuning: negative log-likelihood of demonstrations, and, where answers are to be held, the divergence
//! from the model that training started from.

use crate::learner::Learner;
use crate::losses::hold::{self, HoldMetrics, hold_loss};
use crate::losses::sft::{self, SftMetrics, sft_loss};
use crate::losses::{LossError, check_setting};
use crate::objective::{Head, Objective, Sequence};
use crate::settings::TrainSettings;
use crate::step::TrainError;
use crate::trainer::BatchTrainer;
use serde::{Deserialize, Serialize};
use solon_draws::Draws;
use solon_model::{Adapter, Backend, Training};

/// A tokenised conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct SftExample {
    /// The conversation's id.
    pub id: String,
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Which tokens are trained on, `[tokens]`.
    pub mask: Vec<bool>,
}

impl SftExample {
    /// The positions whose next token is trained on; no position predicts the first token.
    fn read(&self) -> impl Iterator<Item = usize> + '_ {
        (1..self.tokens.len()).filter(|at| self.mask[*at]).map(|at| at - 1)
    }

    /// Each trained token that has one before it, and its place in its turn of the assistant, from 0.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut place = 0;
        (1..self.tokens.len()).filter_map(move |at| {
            // A turn begins where a trained token follows one that is not.
            place = if self.mask[at - 1] && at > 1 { place + 1 } else { 0 };
            self.mask[at].then_some((at, place))
        })
    }

    /// The weight of each position of [`SftExample::read`], before averaging.
    fn weights(&self, weighting: &Weighting) -> Vec<f32> {
        let weight = |place| if place < weighting.first_tokens { weighting.first_weight } else { 1.0 };
        self.places().map(|(_, place)| weight(place)).collect()
    }

    /// The example without training on the first `count` tokens of each turn; `None` where no token is left.
    pub fn after(&self, count: usize) -> Option<Self> {
        let mut mask = vec![false; self.mask.len()];
        for (at, place) in self.places() {
            mask[at] = place >= count;
        }
        mask.contains(&true).then(|| Self { mask, ..self.clone() })
    }
}

/// What a batch's loss is the mean of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Average {
    /// Of its tokens: a long answer counts more than a short one.
    #[default]
    Token,
    /// Of its conversations: each counts the same.
    Sequence,
}

/// How much each token counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighting {
    /// What a batch's loss is the mean of.
    pub average: Average,
    /// How many tokens at the start of each of the assistant's turns count `first_weight` times.
    pub first_tokens: usize,
    /// At least 1. Whether to refuse is decided in the first tokens, which the many tokens after them would outvote.
    pub first_weight: f32,
    /// Weight of the divergence on held conversations; positive.
    pub hold_weight: f32,
}

impl Weighting {
    /// Every token counts the same.
    pub const EVEN: Self =
        Self { average: Average::Token, first_tokens: 0, first_weight: 1.0, hold_weight: 1.0 };

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<(), LossError> {
        let (first, hold) = (f64::from(self.first_weight), f64::from(self.hold_weight));
        check_setting("first_weight", first, first >= 1.0, "at least 1")?;
        check_setting("hold_weight", hold, hold > 0.0, "positive")
    }
}

/// What is learnt, and how.
pub struct Lessons<'a, B: Backend> {
    /// Conversations to imitate.
    pub imitated: &'a [SftExample],
    /// Conversations at whose trained tokens the learner is to predict what the reference predicts.
    pub held: &'a [SftExample],
    /// The adapter of the reference: the model before training. `None` is the bare decoder.
    pub reference: Option<Adapter<B>>,
    /// How much each token counts.
    pub weighting: Weighting,
}

/// The objective: maximise the likelihood of the demonstrations, and stay close to the reference on the held ones.
pub struct Sft<'a> {
    imitated: &'a [SftExample],
    held: &'a [SftExample],
    /// `[imitated + held]`, the weight of each position.
    weights: Vec<Vec<f32>>,
    /// `[imitated + held]`, what each adds to a batch's normaliser.
    shares: Vec<f64>,
}

/// SFT over a set of examples.
pub type SftTrainer<'a, B> = BatchTrainer<'a, B, Sft<'a>>;

impl<B: Backend> Lessons<'_, B> {
    /// Nothing is learnt.
    pub const NONE: Self = Self { imitated: &[], held: &[], reference: None, weighting: Weighting::EVEN };
}

impl<'a, B: Backend> SftTrainer<'a, B> {
    /// Trains on `examples`, every token alike.
    ///
    /// # Errors
    /// Settings out of range, an empty set, or an example without tokens to train on.
    pub fn new(
        learner: &'a mut Learner<B>,
        examples: &'a [SftExample],
        settings: TrainSettings,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        let lessons = Lessons { imitated: examples, held: &[], reference: None, weighting: Weighting::EVEN };
        Self::on(learner, lessons, settings, draws)
    }

    /// Trains on `lessons`. Held conversations need a decoder that is not trained itself, since it is the reference too.
    ///
    /// # Errors
    /// Settings out of range, nothing to imitate, or an example without tokens to train on.
    pub fn on(
        learner: &'a mut Learner<B>,
        lessons: Lessons<'a, B>,
        settings: TrainSettings,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        let Lessons { imitated, held, reference, weighting } = lessons;
        if imitated.is_empty() {
            return Err(TrainError::Empty { what: "the set of demonstrations" });
        }
        check_held(learner, held)?;
        let objective = Sft::of(imitated, held, &weighting)?;
        Ok(Self::of(learner, objective, settings, draws)?.held_to(reference))
    }
}

/// Refuses to hold a learner to a decoder that it trains itself.
pub(crate) fn check_held<B: Backend>(learner: &Learner<B>, held: &[SftExample]) -> Result<(), TrainError> {
    match (held.first(), learner.decoder.training()) {
        (Some(first), Training::Full) => {
            let reason = "it is to be held to the decoder before training, and that decoder is trained";
            Err(TrainError::Example { id: first.id.clone(), reason: reason.to_owned() })
        }
        _ => Ok(()),
    }
}

impl<'a> Sft<'a> {
    /// Either set may be empty.
    ///
    /// # Errors
    /// Settings out of range, or an example without tokens to train on.
    pub(crate) fn of(
        imitated: &'a [SftExample],
        held: &'a [SftExample],
        weighting: &Weighting,
    ) -> Result<Self, TrainError> {
        weighting.validate()?;
        for example in imitated.iter().chain(held) {
            let fault = if example.mask.len() != example.tokens.len() {
                "its loss mask is not as long as its tokens"
            } else if example.read().next().is_none() {
                "its loss mask is empty: no assistant turn in it"
            } else {
                continue;
            };
            return Err(TrainError::Example { id: example.id.clone(), reason: fault.to_owned() });
        }
        let (mut weights, mut shares) = (Vec::new(), Vec::new());
        for (place, example) in imitated.iter().chain(held).enumerate() {
            let weight = if place < imitated.len() { 1.0 } else { weighting.hold_weight };
            let own = example.weights(weighting);
            let sum: f32 = own.iter().sum();
            let (divisor, share) = match weighting.average {
                Average::Token => (1.0, f64::from(sum)),
                Average::Sequence => (sum, 1.0),
            };
            weights.push(own.iter().map(|own| own * weight / divisor).collect());
            shares.push(share);
        }
        Ok(Sft { imitated, held, weights, shares })
    }

    fn example(&self, item: usize) -> &SftExample {
        self.imitated.get(item).unwrap_or_else(|| &self.held[item - self.imitated.len()])
    }

    fn is_held(&self, item: usize) -> bool {
        item >= self.imitated.len()
    }

    /// How many numbers are read of an item.
    pub(crate) fn reads(&self, item: usize) -> usize {
        self.weights[item].len()
    }

    fn weights(&self, items: &[usize]) -> Vec<f32> {
        items.iter().flat_map(|item| &self.weights[*item]).copied().collect()
    }
}

/// Metrics of a step.
#[derive(Default)]
pub struct LessonMetrics {
    imitated: SftMetrics,
    held: HoldMetrics,
}

impl LessonMetrics {
    /// Adds another batch.
    pub(crate) fn merge(&mut self, other: &LessonMetrics) {
        self.imitated.merge(&other.imitated);
        self.held.merge(&other.held);
    }

    /// Of lessons beside another objective: `imitation` is the mean negative log-likelihood of the imitated tokens,
    /// `divergence` the mean KL of the held ones. There may be none of either.
    pub(crate) fn report(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let imitation = self.nll().map(|mean| ("imitation", mean));
        imitation.into_iter().chain(self.divergence().map(|mean| ("divergence", mean)))
    }

    /// Mean KL of the held tokens, nats; `None` if there were none.
    pub(crate) fn divergence(&self) -> Option<f64> {
        self.held.mean()
    }

    /// Mean negative log-likelihood of the imitated tokens, nats; `None` if there were none.
    pub(crate) fn nll(&self) -> Option<f64> {
        (self.imitated.tokens > 0).then(|| self.imitated.mean_nll())
    }

    #[cfg(test)]
    pub(crate) fn weighted_sum(&self) -> f64 {
        self.imitated.weighted_sum() + self.held.weighted_sum()
    }
}

impl Objective for Sft<'_> {
    type Metrics = LessonMetrics;

    fn count(&self) -> usize {
        self.imitated.len() + self.held.len()
    }

    fn id(&self, item: usize) -> &str {
        &self.example(item).id
    }

    fn sequences(&self, item: usize) -> Vec<Sequence> {
        let example = self.example(item);
        vec![Sequence { tokens: example.tokens.clone(), read: example.read().collect() }]
    }

    fn tokens(&self, item: usize) -> usize {
        self.example(item).tokens.len()
    }

    fn head(&self, item: usize) -> Head {
        if self.is_held(item) { Head::Divergences } else { Head::LogProbs { temperature: 1.0 } }
    }

    /// The number of conversations, or the weights of all tokens before that of holding.
    fn normaliser(&self, batch: &[usize]) -> f64 {
        batch.iter().map(|item| self.shares[*item]).sum()
    }

    fn known_gradient(&self, items: &[usize], normaliser: f64) -> Option<Vec<f32>> {
        let weights = self.weights(items);
        Some(match self.is_held(items[0]) {
            true => hold::gradient(&weights, normaliser),
            false => sft::gradient(&weights, normaliser),
        })
    }

    fn loss(
        &self,
        items: &[usize],
        read: &[f32],
        normaliser: f64,
        metrics: &mut LessonMetrics,
    ) -> Result<Vec<f32>, LossError> {
        let weights = self.weights(items);
        if self.is_held(items[0]) {
            let output = hold_loss(read, &weights, normaliser)?;
            metrics.held.merge(&output.metrics);
            return Ok(output.d_divergences);
        }
        let output = sft_loss(read, &weights, normaliser)?;
        metrics.imitated.merge(&output.metrics);
        Ok(output.d_logprobs)
    }

    /// `loss` is the mean negative log-likelihood of the imitated tokens, `divergence` the mean KL of the held ones.
    fn report(&self, metrics: &LessonMetrics) -> Vec<(&'static str, f64)> {
        let LessonMetrics { imitated, held } = metrics;
        let mut report = vec![("tokens", (imitated.tokens + held.positions) as f64)];
        report.extend(metrics.nll().map(|mean| ("loss", mean)));
        report.extend(metrics.divergence().map(|mean| ("divergence", mean)));
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pass::check::check_adapter_gradient;
    use crate::step::Trainer;
    use crate::tiny;
    use solon_kernels::Precision;

    const HELD: Weighting =
        Weighting { average: Average::Sequence, first_tokens: 2, first_weight: 3.0, hold_weight: 0.5 };

    #[test]
    fn the_first_tokens_of_every_turn_weigh_more() {
        let mask = [false, true, true, true, false, false, true, true, true];
        let example = SftExample { id: "0".into(), tokens: tiny::tokens(0, 9), mask: mask.into() };
        assert_eq!(example.weights(&HELD), [3.0, 3.0, 1.0, 3.0, 3.0, 1.0]);
        assert_eq!(example.weights(&Weighting::EVEN), [1.0; 6]);
        assert_eq!(example.read().count(), 6);
        let after = example.after(2).unwrap();
        assert_eq!(after.read().collect::<Vec<_>>(), [2, 7]);
        assert_eq!((example.after(0).unwrap().mask, example.after(3)), (example.mask, None));
    }

    #[test]
    fn every_conversation_has_the_same_say() {
        let mut examples = tiny::examples();
        examples[1].mask[2..8].fill(false);
        let objective = Sft::of(&examples[..2], &examples[2..3], &HELD).unwrap();
        let sum = |item: usize| objective.weights[item].iter().sum::<f32>();
        assert!((sum(0) - 1.0).abs() < 1e-6 && (sum(1) - 1.0).abs() < 1e-6 && (sum(2) - 0.5).abs() < 1e-6);
        assert_eq!(objective.normaliser(&[0, 1, 2]), 3.0);
    }

    #[test]
    fn gradients_of_imitating_and_holding_match_finite_differences() {
        let examples = tiny::examples();
        let objective = Sft::of(&examples[..2], &examples[2..4], &HELD).unwrap();
        let total = |metrics: &LessonMetrics| {
            assert!(metrics.held.mean().unwrap() > 0.001);
            metrics.weighted_sum() / 4.0
        };
        check_adapter_gradient(&objective, &[0, 2, 1, 3], total);
    }

    #[test]
    fn a_learner_that_is_its_reference_is_not_moved_by_holding() {
        let examples = tiny::examples();
        let mut learner = tiny::learner_in(Precision::F32, false);
        let reference = learner.adapter.as_ref().map(|adapter| adapter.duplicate(learner.decoder.backend()));
        let lessons = Lessons { imitated: &examples[..1], held: &examples[1..], reference, weighting: HELD };
        let settings = TrainSettings { batch_size: 7, ..tiny::settings() };
        let mut trainer = SftTrainer::on(&mut learner, lessons, settings, tiny::seed()).unwrap();
        let first = trainer.step(0).unwrap();
        assert!(first.metrics["divergence"].abs() < 1e-6, "{:?}", first.metrics);
        let second = trainer.step(1).unwrap();
        assert!(second.metrics["divergence"] > 1e-6, "{:?}", second.metrics);
        assert!(second.metrics["loss"] < first.metrics["loss"]);
    }
}
