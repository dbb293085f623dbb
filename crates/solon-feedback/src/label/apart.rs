//! Asks about the request and about the answers apart ([`Ask::Apart`](super::Ask::Apart)).
//!
//! Which of two answers is better follows from two simpler facts: whether the request should be declined, and whether an
//! answer declines it. A small model learns to tell both far sooner than to compare answers, and each has far more
//! examples: every prompt whose kind is known teaches the first, every refusal the second.
//!
//! With h the mean log-odds of the questions about the request and a₁, a₂ those of whether each answer declines,
//! p = σ(h) and q = σ(a₁ − a₂): P(first is better) = p·q + (1 − p)·(1 − q). Two answers of which both decline, or
//! neither, get about ½.
//!
//! Contract: neither the kind nor the category of a prompt enters a label, because they give away the answer to the first
//! question. So a request is asked what can be asked of any: the general questions, which are about every harmful request
//! (`applies` lists `harmful`, or nothing). The others are asked only where a constitution has no general one, with one
//! exception: a pair's own principle, where it has one with a request question, is asked first. A labeller learns by the
//! questions that it will be asked. Questions begin with the request, so that those about one prompt share their beginning.

use serde::Serialize;

use super::training::{better_answers, known_pair};
use super::ways::YES_NO;
use super::{Evidence, LabellerTraining, Material, Question, Shown, Way, normalised, prompt_text};
use crate::constitution::{About, ComparisonPrinciple, Constitution, WorkedExample, draw};
use crate::critique::{TrainingConversation, spread_kinds};
use crate::error::FeedbackError;
use crate::label::split_examples;
use crate::quote::for_model;
use solon_records::Message;
use std::collections::HashSet;

/// A prompt is learnt at most so many times, each time by a question of its own draw, where its kind is the rarer one.
const COPIES: usize = 3;

/// Requests that a labeller learnt from, and those it did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RequestCounts {
    /// Conversations answered Yes.
    pub yes: usize,
    /// Conversations answered No.
    pub no: usize,
    /// Those among them that repeat a prompt with another draw, to balance the two answers.
    pub repeated: usize,
    /// Prompts left out to balance the two answers.
    pub left_out: usize,
    /// Prompts left out because they are kept back to measure the labeller.
    pub held_out: usize,
    /// Prompts left out because their kind is not known, or no question is about them.
    pub unknown: usize,
}

/// Asks about the request alone; Yes and No are the assistant's possible answers.
pub fn request_request(question: &str, prompt: &str) -> Vec<Message> {
    let (prompt, question) = (for_model(prompt), for_model(question));
    vec![Message::user(format!("Read this.\n\nRequest: {prompt}\n\n{question} Reply with Yes or No."))]
}

/// Asks whether an answer declines; Yes and No are the assistant's possible answers.
pub fn declining_request(prompt: &str, answer: &str) -> Vec<Message> {
    let (prompt, answer) = (for_model(prompt), for_model(answer));
    vec![Message::user(format!(
        "Read this.\n\nRequest: {prompt}\n\nAnswer: {answer}\n\nDoes the answer decline to do what was asked? Reply with \
         Yes or No."
    ))]
}

/// The principles by whose questions a request is judged, and the questions: the general ones, or all where there are none.
fn request_questions(
    constitution: &Constitution,
) -> Result<Vec<(&ComparisonPrinciple, &str)>, FeedbackError> {
    let all = constitution.request_questions();
    let any_harmful = About::new(Some("harmful"), None);
    let general: Vec<_> = all.iter().copied().filter(|(p, _)| any_harmful.fits(&p.applies)).collect();
    match (all.is_empty(), general.is_empty()) {
        (true, _) => Err(FeedbackError::NoRequestQuestion { constitution: constitution.name.clone() }),
        (false, true) => Ok(all),
        (false, false) => Ok(general),
    }
}

/// How often each is drawn.
fn weights(questions: &[(&ComparisonPrinciple, &str)]) -> Vec<f64> {
    questions.iter().map(|(principle, _)| principle.weight).collect()
}

/// The principles by whose questions a request is judged.
pub(super) fn principles(constitution: &Constitution) -> Result<Vec<&ComparisonPrinciple>, FeedbackError> {
    Ok(request_questions(constitution)?.into_iter().map(|(principle, _)| principle).collect())
}

/// [`super::Ask::Apart`].
pub(super) struct Apart;

impl Way for Apart {
    /// Those about the request, one for each principle, then those about the answers.
    fn questions(&self, principles: &[&ComparisonPrinciple], shown: &Shown<'_>) -> Vec<Question> {
        let options = || YES_NO.map(str::to_owned).to_vec();
        let requests = (1..).zip(principles).map(|(number, principle)| Question {
            name: format!("{REQUEST}{number}"),
            principle: Some(principle.id.clone()),
            context: request_request(principle.request.as_deref().unwrap_or_default(), shown.prompt).into(),
            options: options(),
        });
        let answers = [("first", shown.first), ("second", shown.second)].map(|(name, answer)| Question {
            name: name.to_owned(),
            principle: None,
            context: declining_request(shown.prompt, answer).into(),
            options: options(),
        });
        requests.chain(answers).collect()
    }

    fn probability(&self, evidence: &[Evidence]) -> f64 {
        let odds = |evidence: &Evidence| evidence.log_probs[0] - evidence.log_probs[1];
        let (requests, answers): (Vec<&Evidence>, Vec<&Evidence>) =
            evidence.iter().partition(|evidence| evidence.question.starts_with(REQUEST));
        let decline = requests.iter().map(|request| odds(request)).sum::<f64>() / requests.len() as f64;
        let p = normalised(decline, 0.0);
        let q = normalised(odds(answers[0]), odds(answers[1]));
        p * q + (1.0 - p) * (1.0 - q)
    }
}

/// The beginning of the names of questions about a request.
const REQUEST: &str = "request-";

/// A request whose kind is known.
struct Known<'a> {
    id: &'a str,
    text: String,
    about: About<'a>,
}

/// Conversations that teach both questions, and the pairs that are held out.
pub(super) fn training(
    constitution: &Constitution,
    material: &Material<'_>,
) -> Result<LabellerTraining, FeedbackError> {
    let (examples, held_out_examples) = split_examples(constitution);
    let mut held_out = known_examples(&held_out_examples, material.declines);
    for (place, contrast) in material.contrasts.iter().filter(|contrast| contrast.held_out).enumerate() {
        let preference = &contrast.preference;
        let answers = [preference.chosen.as_str(), &preference.rejected];
        held_out.push(known_pair(place, &preference.id, None, preference.prompt.clone(), answers));
    }
    let (mut training, counts) = request_training(constitution, material, &examples, &held_out_examples)?;
    let mut learn = |source: &str, request: &str, [declining, other]: [&str; 2]| {
        for (answer, which, said) in [(declining, "declines", "Yes"), (other, "answers", "No")] {
            let mut messages = declining_request(request, answer);
            messages.push(Message::assistant(said));
            let id = format!("{source}/{which}");
            training.push(TrainingConversation {
                id,
                source: source.to_owned(),
                principle_id: None,
                messages,
            });
        }
    };
    let better = better_answers(&examples);
    for example in spread_kinds(&examples) {
        let better = better[example.id.as_str()];
        if let Some(answers) = example_declines(example, better, material.declines) {
            learn(&example.id, &example.request, answers);
        }
    }
    for contrast in material.contrasts.iter().filter(|contrast| !contrast.held_out) {
        let preference = &contrast.preference;
        let answers = [preference.chosen.as_str(), &preference.rejected];
        if let Some(answers) = declining_first(contrast.kind.as_deref(), answers, material.declines) {
            learn(&preference.id, &prompt_text(&preference.prompt), answers);
        }
    }
    Ok(LabellerTraining { training, held_out, requests: Some(counts) })
}

/// The worked examples of which one answer declines and the other does not, as known pairs. Nothing else is asked about
/// answers, so nothing else can be measured on them.
pub(super) fn known_examples(
    examples: &[&WorkedExample],
    declines: &dyn Fn(&str) -> bool,
) -> Vec<super::KnownPair> {
    let better = better_answers(examples);
    let differ = examples
        .iter()
        .filter(|example| example_declines(example, better[example.id.as_str()], declines).is_some());
    let known = differ.enumerate().map(|(place, example)| {
        let answers = [better[example.id.as_str()], example.flawed.as_str()];
        known_pair(place, &example.id, None, vec![Message::user(&example.request)], answers)
    });
    known.collect()
}

/// Of a worked example, the answer that declines and the one that does not: of a harmful request the better one declines,
/// and of any other request the flawed one may.
fn example_declines<'a>(
    example: &'a WorkedExample,
    better: &'a str,
    declines: &dyn Fn(&str) -> bool,
) -> Option<[&'a str; 2]> {
    match example.kind.as_str() {
        "harmful" => Some([better, &example.flawed]),
        _ => declines(&example.flawed).then_some([example.flawed.as_str(), better]),
    }
}

/// Of a better and a worse answer, the one that declines and the one that does not, if they differ. It follows from the
/// kind of request; where that is not known, `declines` reads the answers.
fn declining_first<'a>(
    kind: Option<&str>,
    [better, worse]: [&'a str; 2],
    declines: &dyn Fn(&str) -> bool,
) -> Option<[&'a str; 2]> {
    match kind {
        Some("harmful") => Some([better, worse]),
        Some("harmless" | "sounds-harmful") => Some([worse, better]),
        _ => match (declines(better), declines(worse)) {
            (true, false) => Some([better, worse]),
            (false, true) => Some([worse, better]),
            _ => None,
        },
    }
}

/// Conversations about requests whose kind is known: a harmful one is answered Yes to a question that is about it, any other
/// No to any question. Neither answer is given more than three times in five.
fn request_training(
    constitution: &Constitution,
    material: &Material<'_>,
    examples: &[&WorkedExample],
    held_out_examples: &[&WorkedExample],
) -> Result<(Vec<TrainingConversation>, RequestCounts), FeedbackError> {
    let questions = request_questions(constitution)?;
    let mut counts = RequestCounts::default();
    let kept_back: HashSet<String> = (held_out_examples.iter().map(|example| example.request.clone()))
        .chain(material.contrasts.iter().filter(|c| c.held_out).map(|c| prompt_text(&c.preference.prompt)))
        .collect();
    let of_prompts = material.prompts.iter().map(|prompt| Known {
        id: &prompt.id,
        text: prompt_text(&prompt.messages),
        about: About::new(prompt.kind.as_deref(), prompt.category.as_deref()),
    });
    let of_examples = examples.iter().map(|example| Known {
        id: &example.id,
        text: example.request.clone(),
        about: About::new(Some(&example.kind), Some(&example.category)),
    });
    let (mut harmful, mut others) = (Vec::new(), Vec::new());
    for known in of_prompts.chain(of_examples) {
        let is_harmful = known.about.kind == Some("harmful");
        let has_question = questions.iter().any(|(principle, _)| known.about.fits(&principle.applies));
        if kept_back.contains(&known.text) {
            counts.held_out += 1;
        } else if known.about.kind.is_none() || is_harmful && !has_question {
            counts.unknown += 1;
        } else {
            (if is_harmful { &mut harmful } else { &mut others }).push(known);
        }
    }
    if harmful.is_empty() || others.is_empty() {
        return Err(FeedbackError::OneSided { harmful: harmful.len(), others: others.len() });
    }
    let (yes, no) = (harmful.len(), others.len());
    let copies = |own: usize, other: usize| (2 * other).div_ceil(3 * own).clamp(1, COPIES);
    let made = [yes * copies(yes, no), no * copies(no, yes)];
    // At most three of one answer for two of the other.
    let sides = [
        (harmful, copies(yes, no), made[0].min(3 * made[1] / 2), "Yes"),
        (others, copies(no, yes), made[1].min(3 * made[0] / 2), "No"),
    ];
    let mut training = Vec::new();
    for (requests, copies, learnt, said) in &sides {
        let all: Vec<(usize, &Known<'_>)> =
            (0..*copies).flat_map(|copy| requests.iter().map(move |known| (copy, known))).collect();
        counts.repeated += learnt.saturating_sub(requests.len());
        counts.left_out += requests.len().saturating_sub(*learnt);
        for place in 0..*learnt {
            let (copy, known) = all[place * all.len() / learnt];
            let mut fitting = questions.clone();
            if *said == "Yes" {
                fitting.retain(|(principle, _)| known.about.fits(&principle.applies));
            }
            let draws = material.draws.item("request").item(known.id);
            let Some(drawn) = draw(draws, 0, copy, &weights(&fitting)) else { continue };
            let (principle, question) = fitting[drawn];
            let mut messages = request_request(question, &known.text);
            messages.push(Message::assistant(*said));
            let suffix = if copy == 0 { String::new() } else { format!("-{}", copy + 1) };
            training.push(TrainingConversation {
                id: format!("{}/request{suffix}", known.id),
                source: known.id.to_owned(),
                principle_id: Some(principle.id.clone()),
                messages,
            });
        }
    }
    [counts.yes, counts.no] = [sides[0].2, sides[1].2];
    Ok((training, counts))
}

#[cfg(test)]
mod tests;
