//! Encodes conversations for training and scoring: token ids, and which of them are the assistant's own.
//!
//! Contract: turn by turn, the ids are those that the model gets when it samples (the template with its generation
//! prompt), followed by the ids that it should answer with: all that the template writes for the assistant's turn after
//! the generation prompt, an empty thinking block included, up to its end of turn. So training and sampling use the same
//! ids, even if one encoding of the whole text would merge the prompt's last characters with the answer's first. Every
//! trainer and every score takes its ids from here.
//!
//! Where the template does not repeat its generation prompt before an answer that is given (DeepSeek-R1 opens a thinking
//! block only there), the turn begins where the two ids part: the longest common prefix, as TRL has it.
//!
//! The border and the end of turn are found in the rendered text, so it does not matter if the pad token equals the end of
//! turn. An answer that calls tools ends behind its last call: with the end of turn, or with another token at which generation stops.
//!
//! What messages hold beside their texts is rendered with them, and must leave a trace (`traces.rs`).

use crate::traces::set_arguments;
use crate::{ChatTokenizer, TextError};
use solon_records::Message;

/// A conversation as ids, with a mask of the positions that are trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, ending with the end of turn of the last message that is learnt.
    pub ids: Vec<u32>,
    /// As long as `ids`; true on what the assistant writes in a turn that is learnt, and on its end of turn.
    pub loss_mask: Vec<bool>,
}

/// A conversation and an answer to it, as ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What stands before the answer.
    pub prompt: Vec<u32>,
    /// The assistant's turn, its end included.
    pub answer: Vec<u32>,
}

impl Encoded {
    fn extend(&mut self, ids: &[u32], trained: bool) {
        self.ids.extend_from_slice(ids);
        self.loss_mask.resize(self.ids.len(), trained);
    }
}

impl ChatTokenizer {
    /// Encodes a conversation for training on the assistant's messages for whose index `learnt` is true. What follows the
    /// last of them is left out.
    ///
    /// # Errors
    /// [`TextError::EmptyLossMask`] if nothing is learnt; [`TextError::NotPrefixPreserving`] if the turns before a message
    /// render differently once it follows; [`TextError::ContentRewritten`] if the template changes an answer by more than
    /// its white space, or drops its reasoning; [`TextError::Lost`] if it drops tools or calls.
    pub fn encode_conversation(
        &self,
        messages: &[Message],
        learnt: impl Fn(usize) -> bool,
    ) -> Result<Encoded, TextError> {
        let turns: Vec<usize> =
            (0..messages.len()).filter(|index| messages[*index].is_assistant() && learnt(*index)).collect();
        let Some(last) = turns.last().copied() else {
            return Err(TextError::EmptyLossMask { messages: messages.len() });
        };
        let rendered = self.render(&messages[..=last], false)?;
        self.check_traces(&messages[..=last], &rendered, false, &turns)?;
        let mut encoded = Encoded { ids: Vec::new(), loss_mask: Vec::new() };
        let mut done = Done { bytes: 0, ending: None };
        for index in turns {
            let opening = self.opening(&rendered, messages, index, done.bytes)?;
            let bound = self.bound(&rendered, &messages[..=last], index)?;
            let (end, ending) = self.turn_end(&rendered, &messages[..=last], index, opening.start, bound)?;
            // The end of turn is encoded with the content, because some take the white space before them (`lstrip`).
            let (before, answer) = match &opening.not_repeated {
                None => {
                    let (before, answer) = (&rendered[..opening.start], &rendered[opening.start..end]);
                    let answer = if self.takes_what_follows(before) { answer.trim_start() } else { answer };
                    (self.encode_between(before, &done)?, self.encode_continuation(answer)?)
                }
                Some(prompt) => {
                    let prompt = self.encode_between(prompt, &done)?;
                    let mut before = self.encode_between(&rendered[..end], &done)?;
                    let shared = prompt.iter().zip(&before).take_while(|(a, b)| a == b).count();
                    let answer = before.split_off(shared);
                    (before, answer)
                }
            };
            encoded.extend(&before, false);
            encoded.extend(&answer, true);
            if ending.is_none() && index == last {
                // Without an end of turn in training, the model would never learn to stop.
                encoded.extend(&[self.ending().id], true);
            }
            done = Done { bytes: end, ending };
        }
        Ok(encoded)
    }

    /// The ids of a conversation and of an answer to it: those that are trained on and scored. The prompt is that of
    /// [`prompt_ids`](Self::prompt_ids), or its start where the template does not repeat its end before an answer.
    ///
    /// # Errors
    /// As [`encode_conversation`](Self::encode_conversation).
    pub fn turn_ids(&self, prompt: &[Message], answer: &Message) -> Result<Turn, TextError> {
        let messages = [prompt, std::slice::from_ref(answer)].concat();
        let Encoded { mut ids, loss_mask } =
            self.encode_conversation(&messages, |index| index == prompt.len())?;
        let start = loss_mask.iter().position(|trained| *trained).unwrap_or(ids.len());
        let answer = ids.split_off(start);
        Ok(Turn { prompt: ids, answer })
    }

    /// The ids of a conversation and of several answers to it, as of [`turn_ids`](Self::turn_ids); all have the same prompt.
    ///
    /// # Errors
    /// As [`encode_conversation`](Self::encode_conversation).
    pub fn turns_ids(
        &self,
        prompt: &[Message],
        answers: &[Message],
    ) -> Result<(Vec<u32>, Vec<Vec<u32>>), TextError> {
        let turns: Vec<Turn> =
            answers.iter().map(|answer| self.turn_ids(prompt, answer)).collect::<Result<_, _>>()?;
        // Each prompt is a start of the longest: where the template does not repeat its generation prompt, an answer that
        // begins like the rest of it has a longer one.
        let shared = turns.iter().map(|turn| &turn.prompt).min_by_key(|prompt| prompt.len());
        let shared = shared.cloned().unwrap_or_default();
        let answers =
            turns.iter().map(|turn| [&turn.prompt[shared.len()..], &turn.answer].concat()).collect();
        Ok((shared, answers))
    }

    /// Where the turn of message `index` begins in the rendering, of which `done` bytes are encoded already.
    fn opening(
        &self,
        rendered: &str,
        messages: &[Message],
        index: usize,
        done: usize,
    ) -> Result<Opening, TextError> {
        if index == 0 {
            // Templates do not render an empty conversation as the start of another.
            let bos = self.template_tokens.bos_token.as_deref().filter(|bos| rendered.starts_with(bos));
            let header = Some(self.ending().header.as_str()).filter(|header| !header.is_empty());
            let opened = header.or(bos).unwrap_or_default();
            let start = rendered.find(opened).ok_or(TextError::NotPrefixPreserving { index })? + opened.len();
            return Ok(Opening { start, not_repeated: None });
        }
        let prompt = self.render(&messages[..index], true)?;
        if rendered.starts_with(&prompt) && prompt.len() >= done {
            return Ok(Opening { start: prompt.len(), not_repeated: None });
        }
        let before = self.render(&messages[..index], false)?;
        if before.len() < done || !rendered.starts_with(&before) || !prompt.starts_with(&before) {
            return Err(TextError::NotPrefixPreserving { index });
        }
        Ok(Opening { start: before.len(), not_repeated: Some(prompt) })
    }

    /// Where in the rendering the turn of message `index` ends, behind its end of turn, and which token that is; none if the template
    /// writes none. `start`: behind the turn's opening.
    fn turn_end(
        &self,
        rendered: &str,
        messages: &[Message],
        index: usize,
        start: usize,
        bound: Bound,
    ) -> Result<(usize, Option<String>), TextError> {
        let rewritten = TextError::ContentRewritten { index };
        let Some(text) = rendered.get(start..bound.end) else { return Err(rewritten) };
        let message = &messages[index];
        let Some(last_call) = message.beside.tool_calls().len().checked_sub(1) else {
            let written = self.ending().written.clone();
            let Some(length) = self.find_end(text, &message.content) else { return Err(rewritten) };
            return Ok((start + length + written.as_ref().map_or(0, String::len), written));
        };
        if !self.has_content(text, &message.content) {
            return Err(rewritten);
        }
        // Behind what differs with other arguments of the last call, nothing is the call's own.
        let mut other = messages.to_vec();
        set_arguments(&mut other[index], last_call);
        let other = self.render(&other, false).map_err(|error| match error {
            TextError::TemplateTooExpensive | TextError::TemplateThread { .. } => error,
            // The template refuses these arguments, so it is unknown where the call ends.
            _ => TextError::ContentRewritten { index },
        })?;
        let shared = common_suffix(&other, rendered);
        let called = start.max(rendered.len() - shared);
        let Some(rest) = rendered.get(called..bound.end) else { return Err(rewritten) };
        let stops = self.stop_ids().iter().filter_map(|id| self.id_to_token(*id));
        let ending = self
            .ending()
            .written
            .clone()
            .into_iter()
            .chain(stops)
            .find(|token| rest.contains(token.as_str()));
        Ok(match ending {
            Some(token) => (called + rest.find(&token).unwrap_or_default() + token.len(), Some(token)),
            None if !bound.exact => return Err(rewritten),
            None => {
                let end = called + rest.trim_end().len();
                (end, self.special_at_end(&rendered[called..end]))
            }
        })
    }

    /// Whether the words of a content that stands beside calls of tools are in a turn.
    fn has_content(&self, turn: &str, content: &str) -> bool {
        let parts = match content.split_once("</think>") {
            Some((thinking, rest)) => {
                [thinking.trim_start().strip_prefix("<think>").unwrap_or(thinking), rest]
            }
            None => ["", content],
        };
        parts.iter().all(|part| ends_of(turn, part).next().is_some())
    }

    /// Where in the rendering the turn of message `index` has ended: nothing behind it is the assistant's.
    fn bound(&self, rendered: &str, messages: &[Message], index: usize) -> Result<Bound, TextError> {
        if index + 1 == messages.len() {
            return Ok(Bound { end: rendered.len(), exact: true });
        }
        let own = self.render(&messages[..=index], false)?;
        if rendered.starts_with(&own) {
            return Ok(Bound { end: own.len(), exact: true });
        }
        // Earlier turns are written otherwise than the last. What comes before the next message's content does not change
        // with that content.
        let mut probed = messages.to_vec();
        probed[index + 1].content = "\u{1}".to_owned();
        probed[index + 1].beside.without_content = false;
        Ok(Bound { end: common_prefix(&self.render(&probed, false)?, rendered), exact: false })
    }

    /// The ids of the end of `text`, of which `done` is encoded already.
    fn encode_between(&self, text: &str, done: &Done) -> Result<Vec<u32>, TextError> {
        let text = &text[done.bytes..];
        match &done.ending {
            _ if done.bytes == 0 => self.encode(text),
            // Some end-of-turn tokens include the white space that follows them (`rstrip`), so they are encoded
            // together with it.
            Some(ending) => Ok(self.encode_continuation(&format!("{ending}{text}"))?.split_off(1)),
            None => self.encode_continuation(text),
        }
    }

    /// The position, in the text after the generation prompt, where the assistant's content ends and the end of turn
    /// begins.
    fn find_end(&self, turn: &str, content: &str) -> Option<usize> {
        if let Some(end) = self.find_end_of(turn, content) {
            return Some(end);
        }
        // Templates of reasoning models write the thinking anew, with other tags around it, or leave it out.
        let (thinking, rest) = content.split_once("</think>")?;
        let thinking = thinking.trim_start().strip_prefix("<think>").unwrap_or(thinking);
        let after = ends_of(turn, thinking).next()?;
        Some(after + self.find_end_of(&turn[after..], rest)?)
    }

    fn find_end_of(&self, turn: &str, content: &str) -> Option<usize> {
        let Some(written) = &self.ending().written else {
            // The answer's text may also stand in the header, which the template may not write as a generation prompt.
            return ends_of(turn, content).last();
        };
        // The answer's text may also appear earlier, as in a thinking block, or contain the text of the end of turn.
        ends_of(turn, content).find_map(|after| {
            let rest = &turn[after..];
            let space = rest.len() - rest.trim_start().len();
            rest[space..].starts_with(written.as_str()).then_some(after + space)
        })
    }
}

/// Where `content` ends in `text`, for each place that has its words one after the other. Templates write other white space
/// than the content's: they strip it, or replace it. The content's own white space behind its last word belongs to it.
fn ends_of(text: &str, content: &str) -> impl Iterator<Item = usize> {
    // What repeats itself could be compared from every place again; a search that goes on for so long finds nothing.
    let words: Vec<&str> = content.split_whitespace().collect();
    let mut bytes_left = 256 * (text.len() + content.len() + 64);
    let starts = text.char_indices().map(|(start, _)| start).chain([text.len()]);
    starts.filter_map(move |start| {
        let mut rest = &text[start..];
        for (index, word) in words.iter().enumerate() {
            let next = if index == 0 { rest } else { rest.trim_start() };
            let pairs = next.bytes().zip(word.bytes()).take(bytes_left);
            let same = pairs.take_while(|(a, b)| a == b).count();
            bytes_left = bytes_left.saturating_sub(1 + same + rest.len() - next.len());
            if same < word.len() || bytes_left == 0 {
                return None;
            }
            rest = &next[same..];
        }
        rest = rest.strip_prefix(&content[content.trim_end().len()..]).unwrap_or(rest);
        Some(text.len() - rest.len())
    })
}

/// How much of a rendering is encoded: up to a turn's end, and the token that it ends with.
struct Done {
    bytes: usize,
    ending: Option<String>,
}

/// Behind this place in a rendering nothing is a turn's own. What opens the next turn may stand before it, unless it is exact.
#[derive(Clone, Copy)]
struct Bound {
    end: usize,
    exact: bool,
}

/// Where a turn begins in a rendering.
struct Opening {
    /// The end of the generation prompt, or of the turns before it if the rendering does not repeat it.
    start: usize,
    /// In that case the rendering of the turns before it with the generation prompt.
    not_repeated: Option<String>,
}

/// Bytes of the longest common prefix, in whole characters.
pub(crate) fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// Bytes of the longest common suffix, in whole characters.
fn common_suffix(a: &str, b: &str) -> usize {
    a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

#[cfg(test)]
mod tests;
