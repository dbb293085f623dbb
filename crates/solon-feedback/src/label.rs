//! Preference labels: the labeller's probability that the first of two answers is the better one.
//!
//! Source: Bai et al. 2022, §4.1 (a principle drawn per comparison, log-probs of the options normalised, used as soft
//! targets; §4.3 the clamp, which the paper applies to chain-of-thought labels only); Lee et al. 2023 (2309.00267), who
//! ask in both orders and average. Comparisons always do so here, because small labellers prefer one letter.
//!
//! To compare, a model must judge both answers and report the letter of the better one. Small models learn that slowly.
//! [`Ask::Rate`] asks about each answer by itself whether it is the one the principle asks for. The difference of the
//! two log-odds gives the preference, as in Bradley and Terry (1952), and no order is involved. [`Ask::Apart`] does not
//! ask which answer is better at all, see [`apart`].
//!
//! Contract: a label keeps the raw log-probs of all questions. Its principles depend on the key, the pair's id and, if the
//! settings give one, its prompt's category alone. No temperature and no calibration are applied.

mod apart;
mod training;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::constitution::{ComparisonPrinciple, Constitution, draw};
use crate::error::FeedbackError;
use crate::model::{ChoiceRequest, FeedbackModel, choose};
use crate::quote::for_model;
use solon_draws::Draws;
use solon_records::{Message, Pair, transcript};

pub use apart::{RequestAnswer, RequestCounts, declining_request, request_request};
pub use training::{
    HELD_OUT, KnownContrast, LabellerTraining, Material, known_examples, labeller_training, split_examples,
};

const LETTERS: [&str; 2] = ["A", "B"];
const YES_NO: [&str; 2] = ["Yes", "No"];

/// How a labeller is asked which of two answers is the better one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// Both answers side by side, in both orders.
    #[default]
    Compare,
    /// Each answer by itself.
    Rate,
    /// Whether the request should be declined, and whether each answer declines.
    Apart,
}

/// Raw log-probs, in nats, of the options of the questions asked about a pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Answers {
    /// The options are "A" and "B".
    Compare {
        /// With the first answer as A.
        log_probs_ab: [f64; 2],
        /// With the second answer as A.
        log_probs_ba: [f64; 2],
    },
    /// The options are "Yes" and "No".
    Rate {
        /// Of the first answer.
        log_probs_first: [f64; 2],
        /// Of the second answer.
        log_probs_second: [f64; 2],
    },
    /// The options are "Yes" and "No".
    Apart {
        /// Of the questions about the request; not empty.
        requests: Vec<RequestAnswer>,
        /// Of whether the first answer declines.
        log_probs_first: [f64; 2],
        /// Of whether the second answer declines.
        log_probs_second: [f64; 2],
    },
}

/// A labelled pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The pair.
    pub pair_id: String,
    /// The comparison principle it was judged by, the first of several.
    pub principle_id: String,
    /// The log-probs of the options, for all questions.
    #[serde(flatten)]
    pub answers: Answers,
    /// P(first is better), clamped if the settings say so.
    pub probability: f64,
    /// Characters of the first and the second answer; they show whether a labeller only prefers longer answers.
    pub characters: [usize; 2],
}

/// How pairs are labelled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelSettings {
    /// Key of the draw of principles.
    pub draws: Draws,
    /// How the labeller is asked.
    pub ask: Ask,
    /// Bounds of the probability, such as (0.4, 0.6) for chain-of-thought labels in the paper.
    pub clamp: Option<(f64, f64)>,
    /// How many principles are asked about a request, if the labeller is asked apart.
    pub principles: NonZeroUsize,
}

/// A pair whose better answer is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPair {
    /// The pair, with its principle.
    pub pair: Pair,
    /// Whether the first answer is the better one.
    pub first_is_better: bool,
}

/// The label of a pair whose better answer is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownLabel {
    /// The labeller's label.
    pub label: Label,
    /// Whether the first answer is the better one.
    pub first_is_better: bool,
}

impl KnownLabel {
    /// Whether the probability is on the correct side of ½; exactly ½ is wrong.
    pub fn is_right(&self) -> bool {
        let p = self.label.probability;
        if self.first_is_better { p > 0.5 } else { p < 0.5 }
    }
}

/// A prompt as text for a labeller or a person: a single user turn as its text, any other conversation as a transcript.
pub fn prompt_text(prompt: &[Message]) -> String {
    match prompt {
        [only] if only.role == "user" => only.content.clone(),
        messages => transcript(messages),
    }
}

/// Makes the two questions about a pair from principle, prompt and answers: messages, the options, and which option says
/// that the first answer is better.
pub(crate) type PairQuestions =
    fn(&ComparisonPrinciple, &str, &str, &str) -> [(Vec<Message>, [&'static str; 2], &'static str); 2];

impl Ask {
    /// The questions about which answer is better; none where that is not asked.
    pub(crate) fn pair_questions(self) -> Option<PairQuestions> {
        match self {
            Ask::Compare => Some(|principle, prompt, first, second| {
                [
                    (comparison_request(principle, prompt, first, second), LETTERS, "A"),
                    (comparison_request(principle, prompt, second, first), LETTERS, "B"),
                ]
            }),
            Ask::Rate => Some(|principle, prompt, first, second| {
                [
                    (rating_request(principle, prompt, first), YES_NO, "Yes"),
                    (rating_request(principle, prompt, second), YES_NO, "No"),
                ]
            }),
            Ask::Apart => None,
        }
    }
}

/// Asks which of two answers is better; A and B are the assistant's possible answers.
pub fn comparison_request(
    principle: &ComparisonPrinciple,
    prompt: &str,
    first: &str,
    second: &str,
) -> Vec<Message> {
    let (prompt, first, second) = (for_model(prompt), for_model(first), for_model(second));
    let question = for_model(&principle.question);
    vec![Message::user(format!(
        "Read the request and the two answers.\n\nRequest: {prompt}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\n\
         {question} Reply with A or B."
    ))]
}

/// Asks whether an answer is the better one of two. The other answer is not shown. Yes and No are the assistant's
/// possible answers.
pub fn rating_request(principle: &ComparisonPrinciple, prompt: &str, answer: &str) -> Vec<Message> {
    let (prompt, answer) = (for_model(prompt), for_model(answer));
    let question = for_model(&principle.question);
    vec![Message::user(format!(
        "Read the request and the answer.\n\nRequest: {prompt}\n\nAnswer: {answer}\n\nThere is another answer. {question} \
         Is it this one? Reply with Yes or No."
    ))]
}

/// Labels every pair; labels are in the order of the pairs. `progress` is told the number of finished requests: two for
/// each pair, and one for each principle beside if the labeller is asked apart.
pub fn label_pairs(
    model: &dyn FeedbackModel,
    constitution: &Constitution,
    pairs: &[Pair],
    settings: &LabelSettings,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Label>, FeedbackError> {
    if let Some((low, high)) = settings.clamp
        && !((0.0..=0.5).contains(&low) && (0.5..=1.0).contains(&high))
    {
        return Err(FeedbackError::Setting {
            setting: "clamp",
            value: format!("({low}, {high})"),
            rule: "give a lower bound in 0..=0.5 and an upper bound in 0.5..=1",
        });
    }
    let mut seen = HashSet::new();
    let (mut requests, mut judged_by) = (Vec::new(), Vec::with_capacity(pairs.len()));
    for pair in pairs {
        if !seen.insert(&pair.id) {
            return Err(FeedbackError::DuplicateId { id: pair.id.clone(), what: "pairs" });
        }
        let prompt = prompt_text(&pair.prompt);
        let (principles, asked) = match settings.ask.pair_questions() {
            Some(questions) => {
                let principle = principle_for(constitution, pair, settings)?;
                let asked = questions(principle, &prompt, &pair.first, &pair.second);
                let ids = ["ab", "ba"].map(str::to_owned);
                let asked = ids.into_iter().zip(asked.map(|(messages, options, _)| (messages, options)));
                (vec![principle], asked.collect::<Vec<_>>())
            }
            None => {
                let principles = apart::principles_for(constitution, pair, settings)?;
                let asked = apart::questions(&principles, &prompt, &pair.first, &pair.second);
                (principles.into_iter().map(|(principle, _)| principle).collect(), asked)
            }
        };
        for (which, (messages, options)) in asked {
            let options = options.map(str::to_owned).to_vec();
            requests.push(ChoiceRequest { id: format!("{}/{which}", pair.id), messages, options });
        }
        judged_by.push(principles);
    }
    let rows = choose(model, &requests, progress)?;
    let mut rows = rows.iter().map(|row| [row[0], row[1]]);
    let mut next = |pair: &Pair| {
        let missing = || FeedbackError::MissingRecord { id: pair.id.clone(), what: "answer".into() };
        rows.next().ok_or_else(missing)
    };
    let mut labels = Vec::with_capacity(pairs.len());
    for (pair, principles) in pairs.iter().zip(judged_by) {
        let answers = match settings.ask {
            Ask::Compare => Answers::Compare { log_probs_ab: next(pair)?, log_probs_ba: next(pair)? },
            Ask::Rate => Answers::Rate { log_probs_first: next(pair)?, log_probs_second: next(pair)? },
            Ask::Apart => {
                let mut requests = Vec::with_capacity(principles.len());
                for principle in &principles {
                    requests
                        .push(RequestAnswer { principle_id: principle.id.clone(), log_probs: next(pair)? });
                }
                Answers::Apart { requests, log_probs_first: next(pair)?, log_probs_second: next(pair)? }
            }
        };
        let principle = principles.first().map(|principle| principle.id.as_str()).unwrap_or_default();
        labels.push(Label::new(pair, principle, answers, settings.clamp));
    }
    Ok(labels)
}

fn principle_for<'a>(
    constitution: &'a Constitution,
    pair: &Pair,
    settings: &LabelSettings,
) -> Result<&'a ComparisonPrinciple, FeedbackError> {
    if let Some(own) = own_principle(constitution, pair)? {
        return Ok(own);
    }
    let draws = settings.draws.item("principle").item(&pair.id);
    let weights: Vec<f64> = constitution.comparison.iter().map(|principle| principle.weight).collect();
    let drawn = draw(draws, 0, 0, &weights).map(|place| &constitution.comparison[place]);
    drawn.ok_or_else(|| FeedbackError::NothingToDraw {
        constitution: constitution.name.clone(),
        table: "comparison",
        purpose: "compare answers",
    })
}

/// The principle that the pair itself names, if it names one.
fn own_principle<'a>(
    constitution: &'a Constitution,
    pair: &Pair,
) -> Result<Option<&'a ComparisonPrinciple>, FeedbackError> {
    let Some(id) = &pair.principle_id else { return Ok(None) };
    let found = constitution.comparison_principle(id).ok_or_else(|| FeedbackError::UnknownPrinciple {
        item: pair.id.clone(),
        principle: id.clone(),
        constitution: constitution.name.clone(),
    });
    found.map(Some)
}

/// e^a / (e^a + e^b), without overflow.
fn normalised(a: f64, b: f64) -> f64 {
    if a >= b {
        1.0 / (1.0 + (b - a).exp())
    } else {
        let ratio = (a - b).exp();
        ratio / (1.0 + ratio)
    }
}

impl Label {
    /// The label of a pair. If the answers were compared, the probability is the mean of both orders' normalised
    /// probabilities. If they were rated, it is e^a / (e^a + e^b) of their log-odds. If they were asked about apart, see
    /// [`apart`].
    pub(crate) fn new(pair: &Pair, principle_id: &str, answers: Answers, clamp: Option<(f64, f64)>) -> Self {
        let probability = match &answers {
            Answers::Compare { log_probs_ab: ab, log_probs_ba: ba } => {
                (normalised(ab[0], ab[1]) + normalised(ba[1], ba[0])) / 2.0
            }
            Answers::Rate { log_probs_first: first, log_probs_second: second } => {
                normalised(first[0] - first[1], second[0] - second[1])
            }
            Answers::Apart { requests, log_probs_first, log_probs_second } => {
                apart::probability(requests, *log_probs_first, *log_probs_second)
            }
        };
        Label {
            pair_id: pair.id.clone(),
            principle_id: principle_id.into(),
            answers,
            probability: clamp.map_or(probability, |(low, high)| probability.max(low).min(high)),
            characters: [pair.first.chars().count(), pair.second.chars().count()],
        }
    }

    /// The letters chosen in both orders, `None` for a tie; `None` if the answers were not compared.
    pub fn letters(&self) -> Option<[Option<char>; 2]> {
        let letter = |[a, b]: [f64; 2]| if a > b { Some('A') } else { (a < b).then_some('B') };
        match &self.answers {
            Answers::Compare { log_probs_ab, log_probs_ba } => {
                Some([letter(*log_probs_ab), letter(*log_probs_ba)])
            }
            Answers::Rate { .. } | Answers::Apart { .. } => None,
        }
    }
}

/// Joins the labels of known pairs with the known answers, in the order of the pairs.
pub fn join_known(pairs: &[KnownPair], labels: &[Label]) -> Result<Vec<KnownLabel>, FeedbackError> {
    let by_pair: HashMap<&str, &Label> = labels.iter().map(|label| (label.pair_id.as_str(), label)).collect();
    let join = |known: &KnownPair| {
        let label = by_pair.get(known.pair.id.as_str()).ok_or_else(|| FeedbackError::MissingRecord {
            id: known.pair.id.clone(),
            what: "label".into(),
        })?;
        Ok(KnownLabel { label: (*label).clone(), first_is_better: known.first_is_better })
    };
    pairs.iter().map(join).collect()
}

#[cfg(test)]
mod tests;
