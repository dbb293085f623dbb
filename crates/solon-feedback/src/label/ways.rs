//! The ways to ask which of two answers is better.
//!
//! To compare, a model must judge both answers and report the letter of the better one. Small models learn that slowly, and
//! prefer one letter: so both orders are asked and averaged. A rating asks about each answer by itself whether it is the one that the
//! principle asks for; the difference of the two log-odds gives the preference, as in Bradley and Terry (1952). A score is the expected
//! value of a number from 1 to 10 (Lee et al. 2023, §2.3.2, where it is the reward). A contrast asks nothing: it is how much
//! likelier an answer is where its writer is told to please the principle than where its writer is told not to. A reward model is asked
//! nothing either, and its rewards are compared.
//!
//! Contract: every text inside a question goes through [`for_model`], so it cannot end a turn; and those from outside through [`quoted`], so they cannot pose as
//! another part of the question.

use super::{Evidence, Question, Shown, Way, normalised};
use crate::constitution::ComparisonPrinciple;
use crate::quote::{for_model, without_markers};
use solon_records::{Context, Message};

const LETTERS: [&str; 2] = ["A", "B"];
pub(super) const YES_NO: [&str; 2] = ["Yes", "No"];
/// The ends of the scale.
const SCALE: std::ops::RangeInclusive<u32> = 1..=10;

/// What begins a part of a question, at the beginning of a line.
const MARKERS: [&str; 4] = ["Request:", "Answer:", "Answer A:", "Answer B:"];

/// A text from outside for the inside of a question: it cannot pose as the question's next part.
pub(super) fn quoted(text: &str) -> String {
    without_markers(&for_model(text), &MARKERS)
}

/// Makes the two questions about a pair from principle, prompt and answers: messages, the options, and which option says
/// that the first answer is better.
type PairQuestions =
    fn(&ComparisonPrinciple, &str, &str, &str) -> [(Vec<Message>, [&'static str; 2], &'static str); 2];

impl super::Ask {
    /// The questions about which answer is better that a labeller can be taught to answer; none for a way that asks none.
    pub(crate) fn pair_questions(self) -> Option<PairQuestions> {
        match self {
            Self::Choice => Some(|principle, prompt, first, second| {
                [
                    (comparison_request(principle, prompt, first, second), LETTERS, "A"),
                    (comparison_request(principle, prompt, second, first), LETTERS, "B"),
                ]
            }),
            Self::Rate => Some(|principle, prompt, first, second| {
                [
                    (rating_request(principle, prompt, first), YES_NO, "Yes"),
                    (rating_request(principle, prompt, second), YES_NO, "No"),
                ]
            }),
            Self::ChoiceCot | Self::Score | Self::Contrast | Self::Apart | Self::Reward => None,
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
    let [prompt, first, second] = [prompt, first, second].map(quoted);
    let question = for_model(&principle.question);
    vec![Message::user(format!(
        "Read the request and the two answers.\n\nRequest: {prompt}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\n\
         {question} {REPLY}"
    ))]
}

/// How a comparison ends.
const REPLY: &str = "Reply with A or B.";

/// Asks whether an answer is the better one of two. The other answer is not shown. Yes and No are the assistant's
/// possible answers.
pub fn rating_request(principle: &ComparisonPrinciple, prompt: &str, answer: &str) -> Vec<Message> {
    let [prompt, answer] = [prompt, answer].map(quoted);
    let question = for_model(&principle.question);
    vec![Message::user(format!(
        "Read the request and the answer.\n\nRequest: {prompt}\n\nAnswer: {answer}\n\nThere is another answer. {question} \
         Is it this one? Reply with Yes or No."
    ))]
}

/// Asks for a number from 1 to 10; these are the assistant's possible answers.
pub fn scoring_request(principle: &ComparisonPrinciple, prompt: &str, answer: &str) -> Vec<Message> {
    let [prompt, answer] = [prompt, answer].map(quoted);
    let question = for_model(&principle.question);
    vec![Message::user(format!(
        "Read the request and the answer.\n\nRequest: {prompt}\n\nAnswer: {answer}\n\nAnswers are compared by this question: \
         {question} How well does this answer do, from 1 (badly) to 10 (perfectly)? Reply with a number from 1 to 10."
    ))]
}

/// A request to an assistant that wants to be chosen by the principle's question, or not to be.
fn contrast_request(principle: &ComparisonPrinciple, prompt: &str, chosen: bool) -> Vec<Message> {
    let (prompt, question) = (for_model(prompt), for_model(&principle.question));
    let aim = if chosen { "the one that is chosen" } else { "the one that is not chosen" };
    vec![Message::user(format!(
        "{prompt}\n\n(Your answer will be compared with another by this question: {question} Let yours be {aim}.)"
    ))]
}

/// A comparison that asks to reason first; the paper's form does so already.
pub(super) fn to_reason(question: &Context) -> Context {
    let Context::Chat(mut messages) = question.clone() else { return question.clone() };
    if let Some(last) = messages.last_mut() {
        let asked = last.content.strip_suffix(REPLY).unwrap_or(&last.content).trim_end();
        last.content =
            format!("{asked} Let's think step by step. Say what speaks for each answer, in a few sentences.");
    }
    messages.into()
}

/// The question proper, after the reasoning that was asked for.
pub(super) fn after_reasoning(mut asked: Vec<Message>, reasoning: &str) -> Vec<Message> {
    asked.push(Message::assistant(reasoning));
    asked.push(Message::user(format!("So which answer is it? {REPLY}")));
    asked
}

/// The names of questions, of which each principle but the first has its number.
pub(super) fn named(name: &str, place: usize) -> String {
    if place == 0 { name.to_owned() } else { format!("{name}-{}", place + 1) }
}

/// The questions of each principle, by name.
fn of_each(
    principles: &[&ComparisonPrinciple],
    questions: impl Fn(&ComparisonPrinciple) -> Vec<(&'static str, Vec<Message>, Vec<String>)>,
) -> Vec<Question> {
    let of = |(place, principle): (usize, &&ComparisonPrinciple)| {
        let id = principle.id.clone();
        let made = questions(principle).into_iter().map(move |(name, messages, options)| Question {
            name: named(name, place),
            principle: Some(id.clone()),
            context: messages.into(),
            options,
        });
        made.collect::<Vec<_>>()
    };
    principles.iter().enumerate().flat_map(of).collect()
}

fn owned(options: [&str; 2]) -> Vec<String> {
    options.map(str::to_owned).to_vec()
}

/// The mean of what each principle's questions, so many at a time, say.
fn mean_of<const N: usize>(evidence: &[Evidence], says: impl Fn([&[f64]; N]) -> f64) -> f64 {
    let chunks = evidence.chunks_exact(N);
    let count = chunks.len() as f64;
    let said = chunks.map(|chunk| says(std::array::from_fn(|place| &chunk[place].log_probs[..])));
    said.sum::<f64>() / count
}

/// Yes against No, or A against B.
fn odds(log_probs: &[f64]) -> f64 {
    log_probs[0] - log_probs[1]
}

/// [`super::Ask::Choice`].
pub(super) struct Choice;

impl Way for Choice {
    fn questions(&self, principles: &[&ComparisonPrinciple], shown: &Shown<'_>) -> Vec<Question> {
        let &Shown { prompt, first, second, orders, .. } = shown;
        of_each(principles, |principle| {
            let asked = orders.iter().map(|order| {
                let (a, b) = if *order == "ab" { (first, second) } else { (second, first) };
                (*order, comparison_request(principle, prompt, a, b), owned(LETTERS))
            });
            asked.collect()
        })
    }

    /// The mean over orders and principles of the normalised probability.
    fn probability(&self, evidence: &[Evidence]) -> f64 {
        let first = evidence.iter().map(|evidence| {
            let [a, b] = [evidence.log_probs[0], evidence.log_probs[1]];
            if evidence.question.starts_with("ab") { normalised(a, b) } else { normalised(b, a) }
        });
        first.sum::<f64>() / evidence.len() as f64
    }
}

/// [`super::Ask::Rate`].
pub(super) struct Rate;

impl Way for Rate {
    fn questions(&self, principles: &[&ComparisonPrinciple], shown: &Shown<'_>) -> Vec<Question> {
        of_each(principles, |principle| {
            vec![
                ("first", rating_request(principle, shown.prompt, shown.first), owned(YES_NO)),
                ("second", rating_request(principle, shown.prompt, shown.second), owned(YES_NO)),
            ]
        })
    }

    fn probability(&self, evidence: &[Evidence]) -> f64 {
        mean_of(evidence, |[first, second]| normalised(odds(first), odds(second)))
    }
}

/// [`super::Ask::Score`].
pub(super) struct Score;

impl Way for Score {
    fn questions(&self, principles: &[&ComparisonPrinciple], shown: &Shown<'_>) -> Vec<Question> {
        let options = || SCALE.map(|score| score.to_string()).collect();
        of_each(principles, |principle| {
            vec![
                ("first", scoring_request(principle, shown.prompt, shown.first), options()),
                ("second", scoring_request(principle, shown.prompt, shown.second), options()),
            ]
        })
    }

    /// σ of the difference of the expected scores, as if they were rewards.
    fn probability(&self, evidence: &[Evidence]) -> f64 {
        mean_of(evidence, |[first, second]| normalised(expected(first), expected(second)))
    }
}

/// The expected score, from the log-probs of all scores.
fn expected(log_probs: &[f64]) -> f64 {
    let highest = log_probs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = log_probs.iter().map(|log_prob| (log_prob - highest).exp()).collect();
    let sum: f64 = SCALE.zip(&weights).map(|(score, weight)| f64::from(score) * weight).sum();
    sum / weights.iter().sum::<f64>()
}

/// [`super::Ask::Contrast`].
pub(super) struct Contrast;

impl Way for Contrast {
    fn questions(&self, principles: &[&ComparisonPrinciple], shown: &Shown<'_>) -> Vec<Question> {
        of_each(principles, |principle| {
            let ask = |chosen| contrast_request(principle, shown.prompt, chosen);
            let [first, second] = [shown.first, shown.second].map(|answer| vec![for_model(answer)]);
            vec![
                ("first", ask(true), first.clone()),
                ("first-against", ask(false), first),
                ("second", ask(true), second.clone()),
                ("second-against", ask(false), second),
            ]
        })
    }

    fn probability(&self, evidence: &[Evidence]) -> f64 {
        mean_of(evidence, |[first, first_against, second, second_against]| {
            normalised(first[0] - first_against[0], second[0] - second_against[0])
        })
    }
}

/// [`super::Ask::Reward`].
pub(super) struct Reward;

impl Way for Reward {
    /// The answers as the assistant's turns, as a reward model learns them.
    fn questions(&self, _: &[&ComparisonPrinciple], shown: &Shown<'_>) -> Vec<Question> {
        vec![Question {
            name: "rewards".to_owned(),
            principle: None,
            context: shown.turns.to_vec().into(),
            options: vec![shown.first.to_owned(), shown.second.to_owned()],
        }]
    }

    /// σ of the difference of the rewards, which is what they were trained to mean (Bradley and Terry 1952).
    fn probability(&self, evidence: &[Evidence]) -> f64 {
        normalised(evidence[0].log_probs[0], evidence[0].log_probs[1])
    }
}
