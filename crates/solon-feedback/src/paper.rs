//! The form of the prompts of Bai et al. 2022 (2212.08073): texts that a model continues, with few-shots in front.
//!
//! Contract: made of the published files, a prompt has the published bytes; tests compare. What stands inside a prompt
//! (conversations, answers, critiques, principles) cannot pose as its next part: where a line of it begins with a marker such
//! as `Human:`, the marker loses its colon, and a chat template's control tokens are broken. Few-shots are texts of the
//! constitution and are shown whole.
//!
//! Source: the paper, §3.1, §4.1 and its appendices, and the files of its repository, which hold what the paper does not say:
//! the white space, `[[[…]]]` around answers, and that a principle stands on a line of its own before `Options:`.

mod chain;

use serde::{Deserialize, Serialize};
use solon_records::{Message, SamplingSettings};

use crate::error::FeedbackError;
use crate::quote::{without_control, without_markers};

pub use chain::Link;
pub(crate) use chain::{Chain, critique_few_shots};

/// How a model is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// As a conversation, for a chat model.
    #[default]
    Chat,
    /// As a text that it continues, as the Constitutional AI paper asks.
    Paper,
}

pub(crate) const HUMAN: &str = "\n\nHuman:";
pub(crate) const ASSISTANT: &str = "\n\nAssistant:";
pub(crate) const CRITIQUE_REQUEST: &str = "\n\nCritiqueRequest:";
pub(crate) const CRITIQUE: &str = "\n\nCritique:";
pub(crate) const REVISION_REQUEST: &str = "\n\nRevisionRequest:";
pub(crate) const REVISION: &str = "\n\nRevision:";
/// What begins a part of a prompt, at the beginning of a line.
pub(crate) const MARKERS: [&str; 6] =
    ["Human:", "Assistant:", "CritiqueRequest:", "Critique:", "RevisionRequest:", "Revision:"];

/// Text from outside for the inside of a prompt.
pub(crate) fn quoted(text: &str) -> String {
    without_markers(text, &MARKERS)
}

/// A conversation as text. `speakers`: what begins a turn of the human, and one of the assistant. `quoted`: how a turn's text is
/// put in, which is not trimmed.
///
/// Errors where somebody else than the two speaks, which the form cannot say.
pub(crate) fn conversation(
    id: &str,
    messages: &[Message],
    speakers: [&str; 2],
    quoted: impl Fn(&str) -> String,
) -> Result<String, FeedbackError> {
    let [human, assistant] = speakers;
    let mut text = String::new();
    for message in messages {
        let speaker = match message.role.as_str() {
            "user" => human,
            "assistant" => assistant,
            other => return Err(FeedbackError::Speaker { id: id.to_owned(), role: other.to_owned() }),
        };
        let tools = !message.beside.tool_calls().is_empty() || !message.beside.inputs.tools.is_empty();
        let reasoning = message.beside.reasoning().is_some();
        if let Some((_, what)) = [(tools, "tools"), (reasoning, "reasoning")].iter().find(|(there, _)| *there)
        {
            let role = format!("{} with {what}", message.role);
            return Err(FeedbackError::Speaker { id: id.to_owned(), role });
        }
        text.extend([speaker, " ", &quoted(&message.content)]);
    }
    Ok(text)
}

/// The same sampling, which also ends where the next part of a prompt begins.
pub(crate) fn ending(sampling: &SamplingSettings) -> SamplingSettings {
    let mut sampling = sampling.clone();
    sampling.stop.extend(MARKERS.map(|marker| format!("\n{marker}")));
    sampling
}

/// Few-shots one after the other. Where one ends with the beginning of the next ("\n\nHuman:"), the two overlap there; where
/// one begins with less than two line feeds, they are put in front. So each stands in the result byte for byte, but for control
/// tokens.
pub(crate) fn joined<'a>(few_shots: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for few_shot in few_shots {
        let few_shot = without_control(few_shot);
        join(&mut text, &few_shot);
    }
    text
}

/// Puts what begins with a turn of the human or another few-shot after few-shots.
pub(crate) fn join(text: &mut String, next: &str) {
    if let Some(before) = text.strip_suffix(HUMAN) {
        text.truncate(before.len());
    }
    let feeds = next.bytes().take_while(|byte| *byte == b'\n').count();
    text.push_str(&"\n\n"[feeds.min(2)..]);
    text.push_str(next);
}

#[cfg(test)]
pub(crate) mod tests;
