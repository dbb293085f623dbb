//! The constitution's few-shots in the form of a chat: turns of a user, who asks as the question itself does, and of an assistant, who
//! answers as the few-shot has it. They stand in front of the question.
//!
//! Contract: the turns are made by the functions that ask, so both have the same form; a constitution's text cannot end a turn. A
//! few-shot that does not have the parts of a question and its answer is refused by its id. As in the paper's form, a comparison gets a
//! principle and letters that are drawn for each pair.

use crate::constitution::{Constitution, FewShot, RevisionPrinciple, Shot, draw};
use crate::critique::{direct_revision_request, revision_request};
use crate::error::FeedbackError;
use crate::label::{Ask, LabelSettings, comparison_request, prompt_text};
use crate::paper::{ASSISTANT, CRITIQUE, CRITIQUE_REQUEST, HUMAN, REVISION, REVISION_REQUEST};
use crate::quote::for_model;
use solon_records::Message;

/// A critique and a revision, shown.
struct Shown<'a> {
    prompt: Vec<Message>,
    answer: &'a str,
    asked_critique: &'a str,
    critique: &'a str,
    asked_revision: &'a str,
    revision: &'a str,
}

/// The turns of the few-shots of critiques. `critiques`: whether a revision is asked for after a critique, or directly.
///
/// Errors where the constitution has none, and where one has not the parts that are needed.
pub(crate) fn critique_turns(
    constitution: &Constitution,
    critiques: bool,
) -> Result<Vec<Message>, FeedbackError> {
    let mut turns = Vec::new();
    for few_shot in &constitution.few_shot {
        let shown = match &few_shot.shot {
            Shot::Critique { text } => parts_of_text(text),
            Shot::CritiqueChat { messages } => parts_of_chat(messages),
            _ => continue,
        };
        let shown = shown
            .ok_or_else(|| refused(few_shot, "it is not an answer with one critique and one revision"))?;
        let principle = RevisionPrinciple {
            id: few_shot.id.clone(),
            critique: shown.asked_critique.trim().to_owned(),
            revision: shown.asked_revision.trim().to_owned(),
            applies: Vec::new(),
            weight: 1.0,
        };
        let (request, answer) = (prompt_text(&shown.prompt), shown.answer.trim());
        match critiques {
            true => turns.extend(revision_request(&principle, &request, answer, shown.critique)),
            false => turns.extend(direct_revision_request(&principle, &request, answer)),
        }
        turns.push(Message::assistant(for_model(shown.revision.trim())));
    }
    if turns.is_empty() {
        return Err(none(constitution, "critiques"));
    }
    Ok(turns)
}

/// The turns of the few-shots of comparisons, made for a pair.
///
/// Errors where they cannot be asked in this way, and where the constitution has none.
pub(crate) fn comparison_turns(
    constitution: &Constitution,
    settings: &LabelSettings,
    pair_id: &str,
) -> Result<Vec<Message>, FeedbackError> {
    if settings.ask != Ask::Choice {
        let value = "true".to_owned();
        let rule = "in a chat they are comparisons with a letter as the answer; write ask = \"choice\", or form = \"paper\" with \
                    \"choice-cot\"";
        return Err(FeedbackError::Setting { setting: "few_shots", value, rule });
    }
    let weights: Vec<f64> = constitution.comparison.iter().map(|principle| principle.weight).collect();
    let mut turns = Vec::new();
    for few_shot in &constitution.few_shot {
        let Shot::Comparison { prompt, chosen, rejected } = &few_shot.shot else { continue };
        let draws = settings.draws.item("few-shot").item(pair_id).item(&few_shot.id);
        let Some(principle) = draw(draws.item("principle"), 0, 0, &weights) else { continue };
        let principle = &constitution.comparison[principle];
        let one = |answers: &[String]| {
            let drawn = (!answers.is_empty()).then(|| draws.item("answer").below(0, answers.len()));
            drawn.map(|place| answers[place].trim().to_owned())
        };
        let (Some(chosen), Some(rejected)) = (one(chosen), one(rejected)) else {
            return Err(refused(few_shot, "it has no answers of both kinds"));
        };
        // What is asked about stands before the answers, whose turn has begun in the text.
        let prompt = prompt.trim_end();
        let prompt = turns_of(prompt.strip_suffix(ASSISTANT.trim_start()).unwrap_or(prompt));
        let request = prompt_text(&prompt);
        let (letter, a, b) = match draws.item("letter").below(0, 2) {
            0 => ("A", &chosen, &rejected),
            _ => ("B", &rejected, &chosen),
        };
        turns.extend(comparison_request(principle, &request, a, b));
        turns.push(Message::assistant(letter));
    }
    if turns.is_empty() {
        return Err(none(constitution, "comparisons"));
    }
    Ok(turns)
}

fn refused(few_shot: &FewShot, reason: &'static str) -> FeedbackError {
    FeedbackError::FewShot { id: few_shot.id.clone(), reason }
}

fn none(constitution: &Constitution, of: &'static str) -> FeedbackError {
    FeedbackError::NoFewShots { constitution: constitution.name.clone(), of }
}

/// The parts of a text in the paper's form.
fn parts_of_text(text: &str) -> Option<Shown<'_>> {
    // The next few-shot's turn may have begun.
    let text = text.trim_end();
    let text = text.strip_suffix(HUMAN.trim_start()).unwrap_or(text);
    let (said, rest) = text.split_once(CRITIQUE_REQUEST)?;
    let (asked_critique, rest) = rest.split_once(CRITIQUE)?;
    let (critique, rest) = rest.split_once(REVISION_REQUEST)?;
    let (asked_revision, revision) = rest.split_once(REVISION)?;
    let (prompt, answer) = said.rsplit_once(ASSISTANT)?;
    let once =
        [CRITIQUE_REQUEST, CRITIQUE, REVISION_REQUEST, REVISION, HUMAN].iter().all(|m| !revision.contains(m));
    let shown =
        Shown { prompt: turns_of(prompt), answer, asked_critique, critique, asked_revision, revision };
    (once && !answer.trim().is_empty() && !shown.prompt.is_empty()).then_some(shown)
}

/// The parts of a conversation: what was asked, the answer, and two further turns of both.
fn parts_of_chat(messages: &[Message]) -> Option<Shown<'_>> {
    let turns = messages.iter().position(|message| message.role == "user")?;
    let (prompt, last) = messages[turns..].split_last_chunk::<5>()?;
    let [answer, asked_critique, critique, asked_revision, revision] = last;
    let alternate = messages[turns..]
        .iter()
        .enumerate()
        .all(|(place, message)| message.role == if place % 2 == 0 { "user" } else { "assistant" });
    (alternate && !prompt.is_empty()).then(|| Shown {
        prompt: prompt.to_vec(),
        answer: &answer.content,
        asked_critique: &asked_critique.content,
        critique: &critique.content,
        asked_revision: &asked_revision.content,
        revision: &revision.content,
    })
}

/// The turns of a conversation that is written as a text; one without marks is a turn of the user.
fn turns_of(text: &str) -> Vec<Message> {
    let mut turns: Vec<Message> = Vec::new();
    let text = format!("\n\n{}", text.trim_start());
    let mut rest = text.as_str();
    let mut role = "user";
    loop {
        let next = [(HUMAN, "user"), (ASSISTANT, "assistant")]
            .into_iter()
            .filter_map(|(mark, role)| rest.find(mark).map(|at| (at, mark, role)))
            .min();
        let said = &rest[..next.map_or(rest.len(), |(at, ..)| at)];
        if !said.trim().is_empty() {
            turns.push(Message::new(role, said.trim()));
        }
        let Some((at, mark, next)) = next else { return turns };
        (rest, role) = (&rest[at + mark.len()..], next);
    }
}

#[cfg(test)]
mod tests;
