//! Comparisons in the form of Bai et al. 2022, §4.1: a text that ends with "The answer is:", which " (A)" or " (B)" follows.
//!
//! In front stand the constitution's few-shots of the kind. Each gets a principle of its own, drawn for each pair, and each
//! plain one the letters of its answers: so no letter is the right one more often over many pairs. After reasoning the text is a
//! conversation between a human who asks and an assistant who thinks step by step, as in the published few-shots.
//!
//! Contract: see [`crate::paper`]. `[[[` and `]]]`, between which answers stand, are broken inside of them.

use super::{LabelSettings, Question, Shown};
use crate::constitution::{ComparisonPrinciple, Constitution, Shot, draw};
use crate::error::FeedbackError;
use crate::label::Ask;
use crate::paper::{ASSISTANT, HUMAN, MARKERS, conversation, join, joined};
use crate::quote::{without_control, without_markers};
use solon_draws::Draws;
use solon_records::{Context, Pair};

/// Begins a comparison.
const CONSIDER: &str = "\n\nConsider the following conversation between a human and an assistant:";
/// Begins one that is reasoned about.
const CONSIDER_FIRST: &str =
    "\n\nHuman: Consider the following conversation between a human (H) and an assistant (A):";
const THE_ANSWER: &str = "\n\nThe answer is:";
const THINK: &str = "\n\nAssistant: Let's think step by step:";
const SO_THE_ANSWER: &str = "\n\nHuman:\nSo the answer is:";
/// What may follow.
const LETTERS: [&str; 2] = [" (A)", " (B)"];
/// What begins a part, beside [`MARKERS`].
const OWN_MARKERS: [&str; 5] = ["H:", "A:", "Options:", "The answer is:", "So the answer is:"];

/// What is asked about a pair.
pub(super) fn questions(
    constitution: &Constitution,
    principles: &[&ComparisonPrinciple],
    pair: &Pair,
    shown: &Shown<'_>,
    settings: &LabelSettings,
) -> Result<Vec<Question>, FeedbackError> {
    let few_shots = match settings.few_shots {
        true => joined(few_shots(constitution, settings, &pair.id).iter().map(String::as_str)),
        false => String::new(),
    };
    let mut questions = Vec::new();
    for (place, principle) in principles.iter().enumerate() {
        for order in shown.orders {
            let (a, b) = match *order {
                "ab" => (shown.first, shown.second),
                _ => (shown.second, shown.first),
            };
            let mut text = few_shots.clone();
            join(&mut text, &comparison(settings.ask, principle, pair, a, b)?);
            questions.push(Question {
                name: super::ways::named(order, place),
                principle: Some(principle.id.clone()),
                context: Context::Text(text),
                options: LETTERS.map(str::to_owned).to_vec(),
            });
        }
    }
    Ok(questions)
}

/// A comparison up to its answer or its reasoning.
fn comparison(
    ask: Ask,
    principle: &ComparisonPrinciple,
    pair: &Pair,
    a: &str,
    b: &str,
) -> Result<String, FeedbackError> {
    let (opening, speakers, end) = match ask {
        Ask::ChoiceCot => (CONSIDER_FIRST, ["\n\nH:", "\n\nA:"], THINK),
        _ => (CONSIDER, [HUMAN, ASSISTANT], THE_ANSWER),
    };
    let conversation = conversation(&pair.id, &pair.prompt, speakers, inside)?;
    let options = options(&question(principle), a, b);
    Ok(format!("{opening}{conversation}\n\n{options}{end}"))
}

/// The text that goes on after the reasoning. What the model wrote first, a space or a line feed, stays: the few-shots have both.
pub(super) fn after_reasoning(asked: &str, reasoning: &str) -> String {
    let lead = if reasoning.starts_with('\n') { "\n" } else { " " };
    format!("{asked}{lead}{}{SO_THE_ANSWER}", inside(reasoning).trim())
}

/// Asks by a principle; the answers follow.
fn question(principle: &ComparisonPrinciple) -> String {
    format!("\n{} Options:", inside(&principle.question).trim())
}

fn options(question: &str, a: &str, b: &str) -> String {
    let [a, b] = [a, b].map(|answer| inside(answer).trim().to_owned());
    format!("{question}\n (A) [[[{a}]]]\n (B) [[[{b}]]]")
}

/// Text from outside for the inside of a comparison.
fn inside(text: &str) -> String {
    let markers: Vec<&str> = MARKERS.into_iter().chain(OWN_MARKERS).collect();
    unbracketed(&without_markers(text, &markers))
}

/// `text` without three square brackets in a row.
fn unbracketed(text: &str) -> String {
    let mut text = text.to_owned();
    for (brackets, apart) in [("[[[", "[ [["), ("]]]", "]] ]")] {
        while text.contains(brackets) {
            text = text.replace(brackets, apart);
        }
    }
    text
}

/// The few-shots of the way of asking, made for a pair.
fn few_shots(constitution: &Constitution, settings: &LabelSettings, pair_id: &str) -> Vec<String> {
    let weights: Vec<f64> = constitution.comparison.iter().map(|principle| principle.weight).collect();
    let made = constitution.few_shot.iter().filter_map(|few_shot| {
        let draws = settings.draws.item("few-shot").item(pair_id).item(&few_shot.id);
        let principle = &constitution.comparison[draw(draws.item("principle"), 0, 0, &weights)?];
        match (&few_shot.shot, settings.ask) {
            (Shot::Comparison { prompt, chosen, rejected }, Ask::Choice) => {
                Some(plain(prompt, [chosen, rejected], principle, draws))
            }
            (Shot::ComparisonCot { text }, Ask::ChoiceCot) => {
                Some(text.replacen(Shot::PLACE, &question(principle), 1))
            }
            _ => None,
        }
    });
    made.collect()
}

/// A comparison with its answer.
fn plain(prompt: &str, answers: [&[String]; 2], principle: &ComparisonPrinciple, draws: Draws) -> String {
    let [chosen, rejected] = answers.map(|answers| match answers.len() {
        0 => "",
        count => answers[draws.item("answer").below(0, count)].as_str(),
    });
    let right = draws.item("letter").below(0, 2);
    let (a, b) = if right == 0 { (chosen, rejected) } else { (rejected, chosen) };
    let conversation = prompt.trim_end().strip_suffix(ASSISTANT.trim_start()).unwrap_or(prompt).trim_end();
    let conversation = unbracketed(&without_control(conversation));
    let lead = if conversation.starts_with(HUMAN) { "" } else { "\n\n" };
    let options = options(&question(principle), a, b);
    format!("{CONSIDER}{lead}{conversation}\n\n{options}{THE_ANSWER}{}", LETTERS[right])
}

#[cfg(test)]
mod tests;
