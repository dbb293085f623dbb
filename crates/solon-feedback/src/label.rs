//! Preference labels: the labeller's probability that the first of two answers is the better one.
//!
//! Source: Bai et al. 2022, §4.1 (a principle drawn per comparison, log-probs of the options normalised, used as soft
//! targets; §4.3 reasoning first, and the clamp of such labels); Lee et al. 2023 (2309.00267), who ask in both orders and average.
//! How the labeller may be asked is a list of ways ([`Ask`]); each says what it asks and what the replies mean ([`Way`]).
//!
//! Contract: a label keeps the raw evidence of all its questions. Its principles depend on the key, the pair's id and, if the
//! settings give one, its prompt's category alone. A pair about which one question got no reply that can be used has no label, and a
//! reason: nothing is guessed.

mod apart;
mod known;
mod paper;
mod settings;
mod training;
mod ways;

use std::collections::HashSet;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::chat_shots::comparison_turns;
use crate::constitution::{ComparisonPrinciple, Constitution, draw};
use crate::error::FeedbackError;
use crate::model::{
    ChoiceRequest, FeedbackModel, GenerateRequest, NoAnswer, NoAnswerKind, OptionScores, choose, generate,
};
use crate::paper::{Form, ending};
use crate::quote::for_model;
use solon_records::{Context, Message, Pair, transcript};

pub use apart::{RequestCounts, declining_request, request_request};
pub use known::{KnownLabel, KnownPair, join_known};
pub use settings::LabelSettings;
pub use training::{
    HELD_OUT, KnownContrast, LabellerTraining, Material, known_examples, labeller_training, split_examples,
};
pub use ways::{comparison_request, rating_request, scoring_request};

/// How a labeller is asked which of two answers is the better one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Both answers side by side.
    #[default]
    #[serde(alias = "compare")]
    Choice,
    /// The same, after the labeller has reasoned about them.
    ChoiceCot,
    /// Each answer by itself: is it the one?
    Rate,
    /// Each answer by itself: from 1 to 10, the expected value.
    Score,
    /// How much likelier an answer is where the principle asks for it than where it asks for the opposite.
    Contrast,
    /// Whether the request should be declined, and whether each answer declines.
    Apart,
    /// Nothing: a reward model scores both answers.
    Reward,
}

impl Ask {
    /// Every way.
    pub const ALL: [Ask; 7] =
        [Ask::Choice, Ask::ChoiceCot, Ask::Rate, Ask::Score, Ask::Contrast, Ask::Apart, Ask::Reward];

    /// Its name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Ask::Choice => "choice",
            Ask::ChoiceCot => "choice-cot",
            Ask::Rate => "rate",
            Ask::Score => "score",
            Ask::Contrast => "contrast",
            Ask::Apart => "apart",
            Ask::Reward => "reward",
        }
    }

    /// Whether it needs a score of whole answers, which servers do not give.
    pub fn scores_answers(self) -> bool {
        matches!(self, Ask::Contrast | Ask::Reward)
    }

    /// Whether an option is the whole turn: whole answers are, and numbers, of which one may begin as another does (1 and 10).
    pub(crate) fn scores_whole_turns(self) -> bool {
        matches!(self, Ask::Score | Ask::Contrast | Ask::Reward)
    }

    /// The bounds of its labels where nothing else is said: labels after reasoning are nearly 0 or 1, so the paper clamps them.
    pub fn clamp(self) -> Option<(f64, f64)> {
        (self == Ask::ChoiceCot).then_some((0.4, 0.6))
    }

    /// Principles that a pair is judged by where nothing else is said.
    pub fn principles(self) -> NonZeroUsize {
        match self {
            Ask::Apart => NonZeroUsize::MIN.saturating_add(1),
            _ => NonZeroUsize::MIN,
        }
    }

    /// Whether it can be asked in this form: the paper compares two answers side by side.
    pub fn has(self, form: Form) -> bool {
        form == Form::Chat || matches!(self, Ask::Choice | Ask::ChoiceCot)
    }

    fn way(self) -> &'static dyn Way {
        match self {
            Ask::Choice | Ask::ChoiceCot => &ways::Choice,
            Ask::Rate => &ways::Rate,
            Ask::Score => &ways::Score,
            Ask::Contrast => &ways::Contrast,
            Ask::Apart => &apart::Apart,
            Ask::Reward => &ways::Reward,
        }
    }
}

/// A pair as a way to ask shows it.
struct Shown<'a> {
    /// The prompt as text.
    prompt: &'a str,
    /// The same as turns.
    turns: &'a [Message],
    first: &'a str,
    second: &'a str,
    /// The orders in which answers are shown that are shown together: `ab`, `ba` or both.
    orders: &'static [&'static str],
}

/// A question about a pair. Its reply is the log-probs of its options, or a reward model's rewards of them.
struct Question {
    /// Its name among the questions about the pair, such as `ab`.
    name: String,
    /// By which of the pair's principles.
    principle: Option<String>,
    context: Context,
    options: Vec<String>,
}

impl Question {
    /// Puts turns in front of a conversation.
    fn put_in_front(&mut self, turns: &[Message]) {
        if let Context::Chat(messages) = &mut self.context {
            messages.splice(..0, turns.iter().cloned());
        }
    }
}

/// A way to ask about a pair.
trait Way: Sync {
    /// What is asked, by these principles; not empty but for [`Ask::Reward`].
    fn questions(&self, principles: &[&ComparisonPrinciple], shown: &Shown<'_>) -> Vec<Question>;

    /// P(first is better) from the replies to all questions, in their order.
    fn probability(&self, evidence: &[Evidence]) -> f64;
}

/// A question about a pair, and its reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Its name: `ab` and `ba` show both answers in these orders, `first` and `second` one, `request-1` none.
    pub question: String,
    /// The principle it asks by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principle_id: Option<String>,
    /// `[n_options]`, in nats: raw where the model shows them, else of the shares of votes. A reward model's are its rewards.
    pub log_probs: Vec<f64>,
    /// `[n_options]`, of sampled answers, where the model shows no log-probs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<u32>,
    /// What the labeller said before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
}

/// A labelled pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The pair.
    pub pair_id: String,
    /// The comparison principle it was judged by, the first of several; none by a reward model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principle_id: Option<String>,
    /// How it was asked.
    pub ask: Ask,
    /// The replies to all questions.
    pub evidence: Vec<Evidence>,
    /// P(first is better), clamped if the settings say so.
    pub probability: f64,
    /// Characters of the first and the second answer; they show whether a labeller only prefers longer answers.
    pub characters: [usize; 2],
}

/// A prompt as text for a labeller or a person: a single user turn as its text, any other conversation as a transcript.
pub fn prompt_text(prompt: &[Message]) -> String {
    match prompt {
        // Values of a template's variables are no part of what is shown.
        [only]
            if only.role == "user"
                && only.beside.fields.is_empty()
                && only.beside.inputs.tools.is_empty() =>
        {
            only.content.clone()
        }
        messages => transcript(messages),
    }
}

/// What is asked about one pair.
struct Asked<'a> {
    pair: &'a Pair,
    /// The first of its principles.
    principle: Option<String>,
    questions: Vec<Question>,
}

/// Labels every pair; labels are in the order of the pairs. A pair has none where a question about it got no reply that can be used;
/// the reason is that of the first such question. `progress` is told the number of finished requests.
pub fn label_pairs(
    model: &dyn FeedbackModel,
    constitution: &Constitution,
    pairs: &[Pair],
    settings: &LabelSettings,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Result<Label, NoAnswer>>, FeedbackError> {
    settings.check()?;
    let mut seen = HashSet::new();
    let mut asked = Vec::with_capacity(pairs.len());
    for pair in pairs {
        if !seen.insert(&pair.id) {
            return Err(FeedbackError::DuplicateId { id: pair.id.clone(), what: "pairs" });
        }
        let principles = principles_for(constitution, pair, settings)?;
        let prompt = prompt_text(&pair.prompt);
        let shown = Shown {
            prompt: &prompt,
            turns: &pair.prompt,
            first: &pair.first,
            second: &pair.second,
            orders: settings.orders(pair),
        };
        let questions = match settings.form {
            Form::Chat => {
                let mut questions = settings.ask.way().questions(&principles, &shown);
                if settings.few_shots {
                    let turns = comparison_turns(constitution, settings, &pair.id)?;
                    questions.iter_mut().for_each(|question| question.put_in_front(&turns));
                }
                questions
            }
            Form::Paper => paper::questions(constitution, &principles, pair, &shown, settings)?,
        };
        let principle = principles.first().map(|principle| principle.id.clone());
        asked.push(Asked { pair, principle, questions });
    }
    let reasoning = match settings.ask {
        Ask::ChoiceCot => reasoned(model, &mut asked, settings, progress)?,
        _ => asked.iter().map(|asked| asked.questions.iter().map(|_| Ok(None)).collect()).collect(),
    };
    // A question that got no reasoning is not asked.
    let requests = asked.iter().zip(&reasoning).flat_map(|(asked, reasoning)| {
        let questions = asked.questions.iter().zip(reasoning).filter(|(_, reasoning)| reasoning.is_ok());
        questions.map(|(question, _)| ChoiceRequest {
            id: format!("{}/{}", asked.pair.id, question.name),
            about: asked.pair.id.clone(),
            context: question.context.clone(),
            options: question.options.clone(),
            whole: settings.ask.scores_whole_turns(),
            cut_off: if settings.ask == Ask::Reward { asked.pair.cut_off.to_vec() } else { Vec::new() },
        })
    });
    let mut rows = choose(model, &requests.collect::<Vec<_>>(), progress)?.into_iter();
    let labels = asked.into_iter().zip(reasoning).map(|(asked, reasoning)| {
        // Every reply is taken, whether or not an earlier one of the pair is missing.
        let replies: Vec<Result<(Option<String>, OptionScores), NoAnswer>> = reasoning
            .into_iter()
            .map(|reasoning| {
                let reasoning = reasoning?;
                let scores = rows.next().unwrap_or_else(|| Err(NoAnswer::not_asked()))?;
                Ok((reasoning, scores))
            })
            .collect();
        let replies: Vec<(Option<String>, OptionScores)> = replies.into_iter().collect::<Result<_, _>>()?;
        let evidence =
            asked.questions.into_iter().zip(replies).map(|(question, (reasoning, scores))| Evidence {
                question: question.name,
                principle_id: question.principle,
                log_probs: scores.log_probs,
                votes: scores.votes,
                reasoning,
            });
        Ok(Label::new(asked.pair, asked.principle, evidence.collect(), settings))
    });
    Ok(labels.collect())
}

/// Lets the labeller reason about every question, and puts the reasoning before the question proper.
fn reasoned(
    model: &dyn FeedbackModel,
    asked: &mut [Asked<'_>],
    settings: &LabelSettings,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<Result<Option<String>, NoAnswer>>>, FeedbackError> {
    let requests = asked.iter().flat_map(|asked| {
        asked.questions.iter().map(|question| GenerateRequest {
            id: format!("{}/{}/reasoning", asked.pair.id, question.name),
            context: ways::to_reason(&question.context),
            prefill: String::new(),
        })
    });
    let requests: Vec<GenerateRequest> = requests.collect();
    let draws = settings.draws.item("reasoning");
    let sampling = match settings.form {
        Form::Chat => settings.reasoning.clone(),
        Form::Paper => ending(&settings.reasoning),
    };
    let mut answers = generate(model, &requests, &sampling, draws, progress)?.into_iter();
    let mut requests = requests.into_iter();
    let mut of_all = Vec::with_capacity(asked.len());
    for asked in asked {
        let mut of_pair = Vec::with_capacity(asked.questions.len());
        for question in &mut asked.questions {
            let answer = answers.next().unwrap_or_else(|| Err(NoAnswer::not_asked()));
            let before = requests.next().map(|request| request.context);
            of_pair.push(answer.and_then(|answer| {
                let said = answer.to_last_sentence().text;
                question.context = match before {
                    Some(_) if said.trim().is_empty() => {
                        return Err(NoAnswer::new(NoAnswerKind::Empty, "there is no reasoning"));
                    }
                    Some(Context::Text(text)) => paper::after_reasoning(&text, &said).into(),
                    Some(Context::Chat(messages)) => {
                        ways::after_reasoning(messages, &for_model(&said)).into()
                    }
                    None => return Err(NoAnswer::not_asked()),
                };
                Ok(Some(for_model(&said)))
            }));
        }
        of_all.push(of_pair);
    }
    Ok(of_all)
}

/// The principles by which a pair is judged: its own first, then drawn ones, all different.
fn principles_for<'a>(
    constitution: &'a Constitution,
    pair: &Pair,
    settings: &LabelSettings,
) -> Result<Vec<&'a ComparisonPrinciple>, FeedbackError> {
    let mut left = match settings.ask {
        // It has learnt what is better, and is asked by no principle.
        Ask::Reward => return Ok(Vec::new()),
        Ask::Apart => apart::principles(constitution)?,
        _ => constitution.comparison.iter().collect(),
    };
    if let Some(about) = &settings.about {
        left.retain(|principle| principle.applies.is_empty() || principle.applies.contains(about));
    }
    let mut principles = Vec::new();
    if let Some(own) = own_principle(constitution, pair)?
        && (settings.ask != Ask::Apart || own.request.is_some())
    {
        left.retain(|principle| principle.id != own.id);
        principles.push(own);
    }
    let draws = settings.draws.item("principle").item(&pair.id);
    for place in 0.. {
        if principles.len() >= settings.principles.get() {
            break;
        }
        let weights: Vec<f64> = left.iter().map(|principle| principle.weight).collect();
        let Some(drawn) = draw(draws, place, 0, &weights) else { break };
        principles.push(left.remove(drawn));
    }
    match principles.is_empty() {
        false => Ok(principles),
        true => Err(FeedbackError::NothingToDraw {
            constitution: constitution.name.clone(),
            table: "comparison",
            purpose: "compare answers",
        }),
    }
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
    /// The label of a pair, from the replies to all questions about it.
    pub(crate) fn new(
        pair: &Pair,
        principle_id: Option<String>,
        evidence: Vec<Evidence>,
        settings: &LabelSettings,
    ) -> Self {
        let mut probability = settings.ask.way().probability(&evidence);
        if settings.temperature != 1.0 {
            let log_odds = probability.ln() - (1.0 - probability).ln();
            probability = normalised(log_odds / settings.temperature, 0.0);
        }
        Label {
            pair_id: pair.id.clone(),
            principle_id,
            ask: settings.ask,
            evidence,
            probability: settings.clamp.map_or(probability, |(low, high)| probability.max(low).min(high)),
            characters: [pair.first.chars().count(), pair.second.chars().count()],
        }
    }

    /// P(first is better) by each of its principles alone, neither clamped nor at another temperature: what the questions by it say, with
    /// those by no principle.
    pub fn by_principle(&self) -> Vec<(&str, f64)> {
        let mut principles: Vec<&str> = Vec::new();
        for principle in self.evidence.iter().filter_map(|evidence| evidence.principle_id.as_deref()) {
            if !principles.contains(&principle) {
                principles.push(principle);
            }
        }
        let of = |principle: &str| {
            let is_of =
                |evidence: &&Evidence| evidence.principle_id.as_deref().is_none_or(|id| id == principle);
            let evidence: Vec<Evidence> = self.evidence.iter().filter(is_of).cloned().collect();
            self.ask.way().probability(&evidence)
        };
        principles.into_iter().map(|principle| (principle, of(principle))).collect()
    }

    /// The letters chosen in both orders by the first principle, `None` for a tie; `None` if the answers were not shown in both
    /// orders.
    pub fn letters(&self) -> Option<[Option<char>; 2]> {
        let of = |order: &str| {
            let [a, b] = self.evidence.iter().find(|e| e.question == order)?.log_probs[..] else {
                return None;
            };
            Some(if a > b { Some('A') } else { (a < b).then_some('B') })
        };
        Some([of("ab")?, of("ba")?])
    }
}

#[cfg(test)]
pub(crate) mod tests;
