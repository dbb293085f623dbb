//! Direct preference optimisation (Rafailov et al. 2023) with soft labels, LoRA or full; and lessons beside the pairs: answers
//! to imitate and answers to hold. DPO alone holds a model to nothing but the difference of two answers' log-probs: the
//! likelihood of both may fall, and what it writes elsewhere may fall apart.
//!
//! The reference's log-probs are computed once, before the first step ([`reference_sums`]); no second model is kept.

use crate::learner::Learner;
use crate::losses::dpo::{DpoMetrics, DpoPairs, DpoSettings, dpo_loss};
use crate::losses::sequences::{spread_over_tokens, sum_by_sequence};
use crate::losses::{LossError, check_lengths};
use crate::objective::{Head, Objective, Sequence};
use crate::pair::TokenPair;
use crate::settings::TrainSettings;
use crate::sft::{LessonMetrics, Lessons, Sft, check_held};
use crate::step::TrainError;
use crate::trainer::BatchTrainer;
use solon_draws::Draws;
use solon_infer::engine::Engine;
use solon_infer::prefixes::IN_USE;
use solon_infer::score::ScoreItem;
use solon_model::{Adapter, Backend, Decoder};

/// Summed log-probs of each pair's chosen and rejected answer under a model, nats.
pub fn reference_sums<B: Backend>(
    decoder: &Decoder<B>,
    adapter: Option<&Adapter<B>>,
    pairs: &[TokenPair],
    progress: &mut dyn FnMut(usize),
) -> Vec<[f64; 2]> {
    let items: Vec<ScoreItem> = pairs
        .iter()
        .map(|pair| ScoreItem {
            prompt: pair.prompt.clone(),
            completions: vec![pair.chosen.clone(), pair.rejected.clone()],
        })
        .collect();
    let sum = |logprobs: &[f32]| logprobs.iter().map(|x| f64::from(*x)).sum::<f64>();
    let scores = Engine::new(decoder, adapter, IN_USE).score(&items, 1.0, progress);
    scores.iter().map(|both| [sum(&both[0]), sum(&both[1])]).collect()
}

/// The objective: make chosen answers more likely than under the reference, and rejected ones less likely. Its items are the
/// pairs, then the lessons.
pub struct Dpo<'a> {
    pairs: &'a [TokenPair],
    references: Vec<[f64; 2]>,
    loss: DpoSettings,
    lessons: Sft<'a>,
}

/// Metrics of a step.
#[derive(Default)]
pub struct PreferenceMetrics {
    pairs: DpoMetrics,
    lessons: LessonMetrics,
}

/// DPO over a set of pairs.
pub type DpoTrainer<'a, B> = BatchTrainer<'a, B, Dpo<'a>>;

impl<'a, B: Backend> DpoTrainer<'a, B> {
    /// `references[i]` are pair i's sums from [`reference_sums`]. `lessons.weighting` says how much
    /// lessons count beside pairs, which count 1 each. Held conversations need a decoder that is not trained itself.
    ///
    /// # Errors
    /// Settings out of range, an empty set, a pair that is not oriented, a number of references other than the number of
    /// pairs, or a lesson without tokens to train on.
    pub fn new(
        learner: &'a mut Learner<B>,
        pairs: &'a [TokenPair],
        references: Vec<[f64; 2]>,
        settings: TrainSettings,
        loss: DpoSettings,
        lessons: Lessons<'a, B>,
        draws: Draws,
    ) -> Result<Self, TrainError> {
        TokenPair::check_all(pairs)?;
        TokenPair::check_answered(pairs)?;
        loss.validate()?;
        check_lengths(&[("pairs", pairs.len()), ("references", references.len())])?;
        let Lessons { imitated, held, reference, weighting } = lessons;
        check_held(learner, held)?;
        let lessons = Sft::of(imitated, held, &weighting)?;
        Ok(Self::of(learner, Dpo { pairs, references, loss, lessons }, settings, draws)?.held_to(reference))
    }
}

impl Dpo<'_> {
    /// The item's place among the lessons, if it is one.
    fn lesson(&self, item: usize) -> Option<usize> {
        item.checked_sub(self.pairs.len())
    }

    /// How many numbers are read of an item.
    fn reads(&self, item: usize) -> usize {
        match self.lesson(item) {
            Some(lesson) => self.lessons.reads(lesson),
            None => self.pairs[item].chosen.len() + self.pairs[item].rejected.len(),
        }
    }

    /// The loss of pairs; see [`Objective::loss`].
    fn prefer(
        &self,
        items: &[usize],
        logprobs: &[f32],
        normaliser: f64,
        metrics: &mut DpoMetrics,
    ) -> Result<Vec<f32>, LossError> {
        let pairs: Vec<&TokenPair> = items.iter().map(|i| &self.pairs[*i]).collect();
        let chosen_tokens: Vec<usize> = pairs.iter().map(|pair| pair.chosen.len()).collect();
        let rejected_tokens: Vec<usize> = pairs.iter().map(|pair| pair.rejected.len()).collect();
        let lengths: Vec<usize> =
            pairs.iter().flat_map(|pair| [pair.chosen.len(), pair.rejected.len()]).collect();
        let probability: Vec<f32> = pairs.iter().map(|pair| pair.probability).collect();
        let references: Vec<[f64; 2]> = items.iter().map(|i| self.references[*i]).collect();
        let (reference_chosen, reference_rejected) = sides(&references);
        let sums = sum_by_sequence(logprobs, &lengths)?;
        let (policy_chosen, policy_rejected) = sides(sums.as_chunks::<2>().0);
        let inputs = DpoPairs {
            policy_chosen: &policy_chosen,
            policy_rejected: &policy_rejected,
            reference_chosen: &reference_chosen,
            reference_rejected: &reference_rejected,
            chosen_tokens: &chosen_tokens,
            rejected_tokens: &rejected_tokens,
            probability: &probability,
        };
        let output = dpo_loss(&inputs, &self.loss, normaliser)?;
        metrics.merge(&output.metrics);
        let d_sums: Vec<f32> =
            output.d_chosen.iter().zip(&output.d_rejected).flat_map(|(c, r)| [*c, *r]).collect();
        spread_over_tokens(&d_sums, &lengths)
    }
}

impl Objective for Dpo<'_> {
    type Metrics = PreferenceMetrics;

    fn count(&self) -> usize {
        self.pairs.len() + self.lessons.count()
    }

    fn id(&self, item: usize) -> &str {
        match self.lesson(item) {
            Some(lesson) => self.lessons.id(lesson),
            None => &self.pairs[item].id,
        }
    }

    fn sequences(&self, item: usize) -> Vec<Sequence> {
        match self.lesson(item) {
            Some(lesson) => self.lessons.sequences(lesson),
            None => self.pairs[item].sequences(Sequence::of_answer),
        }
    }

    fn tokens(&self, item: usize) -> usize {
        match self.lesson(item) {
            Some(lesson) => self.lessons.tokens(lesson),
            None => self.pairs[item].tokens(),
        }
    }

    fn head(&self, item: usize) -> Head {
        match self.lesson(item) {
            Some(lesson) => self.lessons.head(lesson),
            None => Head::LogProbs { temperature: 1.0 },
        }
    }

    /// The number of pairs, and what the lessons add: each 1 where their tokens are averaged by conversation.
    fn normaliser(&self, batch: &[usize]) -> f64 {
        let share =
            |item: &usize| self.lesson(*item).map_or(1.0, |lesson| self.lessons.normaliser(&[lesson]));
        batch.iter().map(share).sum()
    }

    fn known_gradient(&self, items: &[usize], normaliser: f64) -> Option<Vec<f32>> {
        let lessons: Option<Vec<usize>> = items.iter().map(|item| self.lesson(*item)).collect();
        self.lessons.known_gradient(&lessons?, normaliser)
    }

    fn loss(
        &self,
        items: &[usize],
        read: &[f32],
        normaliser: f64,
        metrics: &mut PreferenceMetrics,
    ) -> Result<Vec<f32>, LossError> {
        // Pairs and imitated answers have one head, so a pass may hold both.
        let (mut pairs, mut lessons) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        let mut at = 0;
        for item in items {
            let own = &read[at..at + self.reads(*item)];
            at += own.len();
            let (place, (items, reads)) = match self.lesson(*item) {
                Some(lesson) => (lesson, &mut lessons),
                None => (*item, &mut pairs),
            };
            items.push(place);
            reads.extend_from_slice(own);
        }
        let mut of_pairs = Vec::new();
        if !pairs.0.is_empty() {
            of_pairs = self.prefer(&pairs.0, &pairs.1, normaliser, &mut metrics.pairs)?;
        }
        let mut of_lessons = Vec::new();
        if !lessons.0.is_empty() {
            of_lessons = self.lessons.loss(&lessons.0, &lessons.1, normaliser, &mut metrics.lessons)?;
        }
        let (mut of_pairs, mut of_lessons) = (of_pairs.into_iter(), of_lessons.into_iter());
        let mut gradient = Vec::with_capacity(read.len());
        for item in items {
            let from = if self.lesson(*item).is_some() { &mut of_lessons } else { &mut of_pairs };
            gradient.extend(from.take(self.reads(*item)));
        }
        Ok(gradient)
    }

    /// TRL's names, of the pairs alone, and those of the lessons. A batch may lack any.
    fn report(&self, metrics: &PreferenceMetrics) -> Vec<(&'static str, f64)> {
        let PreferenceMetrics { pairs, lessons } = metrics;
        let mut report = Vec::new();
        if pairs.pairs > 0 {
            report.extend([
                ("loss", pairs.mean_loss()),
                ("rewards/chosen", pairs.rewards_chosen()),
                ("rewards/rejected", pairs.rewards_rejected()),
                ("rewards/margins", pairs.rewards_margins()),
                ("logps/chosen", pairs.logps_chosen()),
                ("logps/rejected", pairs.logps_rejected()),
            ]);
            report.extend(pairs.rewards_accuracies().map(|accuracy| ("rewards/accuracies", accuracy)));
        }
        report.extend(lessons.report());
        report
    }
}

/// Splits sums into those of chosen and of rejected answers.
fn sides(sums: &[[f64; 2]]) -> (Vec<f64>, Vec<f64>) {
    sums.iter().map(|[chosen, rejected]| (*chosen, *rejected)).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::dpo::DpoLoss;
    use crate::pass::check::check_adapter_gradient;
    use crate::sft::{Average, Weighting};
    use crate::step::Trainer;
    use crate::tiny;
    use solon_kernels::Precision;
    use solon_model::Training;

    const LOSS: DpoSettings = DpoSettings { loss: DpoLoss::Sigmoid, beta: 0.5, label_smoothing: 0.0 };

    const EVENLY: Weighting = Weighting { average: Average::Sequence, hold_weight: 2.0, ..Weighting::EVEN };

    #[test]
    fn gradients_of_pairs_and_lessons_match_finite_differences() {
        let (pairs, examples) = (tiny::pairs(), tiny::examples());
        let lessons = Sft::of(&examples[..2], &examples[2..4], &EVENLY).unwrap();
        let references = vec![[-20.0, -21.0]; pairs.len()];
        let count = pairs.len();
        let objective = Dpo { pairs: &pairs, references, loss: LOSS, lessons };
        assert_eq!(objective.count(), count + 4);
        let loss = |metrics: &PreferenceMetrics| {
            assert!(metrics.lessons.divergence().unwrap() > 0.001);
            (metrics.pairs.mean_loss() * 2.0 + metrics.lessons.weighted_sum()) / 6.0
        };
        // Pairs and imitated answers in turn.
        check_adapter_gradient(&objective, &[count, 0, count + 2, 1, count + 1, count + 3], loss);
    }

    #[test]
    fn a_held_model_moves_less_from_the_decoder() {
        let (pairs, examples) = (tiny::pairs(), tiny::examples());
        let divergence = |weight: f32| {
            let mut learner = tiny::learner(false);
            let references = reference_sums(&learner.decoder, None, &pairs, &mut |_| {});
            let weighting = Weighting { hold_weight: weight, ..EVENLY };
            let hold = Lessons { imitated: &[], held: &examples, reference: None, weighting };
            let settings =
                TrainSettings { batch_size: pairs.len() + examples.len(), epochs: 12, ..tiny::settings() };
            let draws = tiny::seed();
            let mut trainer =
                DpoTrainer::new(&mut learner, &pairs, references, settings, LOSS, hold, draws).unwrap();
            let steps: Vec<_> = (0..trainer.total_steps()).map(|step| trainer.step(step).unwrap()).collect();
            assert!(steps[0].metrics["divergence"].abs() < 1e-4, "{:?}", steps[0].metrics);
            let last = &steps[steps.len() - 1].metrics;
            assert!(last["loss"] < steps[0].metrics["loss"], "{last:?}");
            last["divergence"]
        };
        let (loose, tight) = (divergence(1e-3), divergence(10.0));
        assert!(tight < 0.5 * loose, "{loose} {tight}");
    }

    #[test]
    fn a_decoder_that_is_trained_cannot_hold() {
        let (pairs, examples) = (tiny::pairs(), tiny::examples());
        let mut learner = Learner::new(tiny::decoder(Training::Full, Precision::auto()), None, None);
        let hold = Lessons { imitated: &[], held: &examples, reference: None, weighting: EVENLY };
        let references = vec![[0.0; 2]; pairs.len()];
        let made =
            DpoTrainer::new(&mut learner, &pairs, references, tiny::settings(), LOSS, hold, tiny::seed());
        assert!(made.err().unwrap().to_string().contains("that decoder is trained"));
    }
}
