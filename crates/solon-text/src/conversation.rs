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
mod tests {
    use super::*;
    use crate::gguf::tests::byte_tokenizer;

    const END: u32 = 256;

    fn with(template: &str) -> ChatTokenizer {
        byte_tokenizer().with_template(template).expect("a template")
    }

    fn question_and_answer(answer: &str) -> [Message; 2] {
        [Message::user("q"), Message::assistant(answer)]
    }

    /// Checks the text that is trained on; the end of turn is written `$`.
    fn check(tokenizer: &ChatTokenizer, messages: &[Message], expected: &str) {
        check_learnt(tokenizer, messages, |_| true, expected);
    }

    fn check_learnt(
        tokenizer: &ChatTokenizer,
        messages: &[Message],
        learnt: impl Fn(usize) -> bool,
        expected: &str,
    ) {
        let encoded = tokenizer.encode_conversation(messages, learnt).expect("encodes");
        assert_eq!(encoded.ids.len(), encoded.loss_mask.len());
        assert_eq!(encoded.loss_mask.last(), Some(&true));
        let mut trained = Vec::new();
        for (id, _) in encoded.ids.iter().zip(&encoded.loss_mask).filter(|(_, trained)| **trained) {
            trained.push(if *id == END { b'$' } else { *id as u8 });
        }
        assert_eq!(String::from_utf8(trained).expect("text"), expected);
    }

    #[test]
    fn trains_content_and_end_of_turn() {
        let tokenizer = byte_tokenizer();
        assert_eq!(tokenizer.pad(), Some(tokenizer.end_of_turn()));
        check(&tokenizer, &question_and_answer("yes\n"), "yes\n$");
        check(&tokenizer, &question_and_answer(""), "$");
        let turns = [question_and_answer("\none"), question_and_answer("two"), question_and_answer(" three")]
            .concat();
        check(&tokenizer, &turns, "\none$two$ three$");
        check(&tokenizer, &[turns.as_slice(), &[Message::user("unanswered")]].concat(), "\none$two$ three$");
        check(&tokenizer, &question_and_answer("a<|im_end|>b"), "a$b$");
    }

    #[test]
    fn one_answer_is_its_prompt_and_what_continues_it() {
        let tokenizer = byte_tokenizer();
        for answer in ["yes", "", "\n\nyes", " <|im_end|> yes "] {
            let messages = question_and_answer(answer);
            let prompt = tokenizer.prompt_ids(&messages[..1]).expect("encodes");
            let mut completion = tokenizer.continuation_ids(answer).expect("encodes");
            completion.push(END);
            let turn = tokenizer.turn_ids(&messages[..1], &Message::assistant(answer)).expect("encodes");
            assert_eq!((turn.prompt, turn.answer), (prompt, completion));
        }
    }

    #[test]
    fn the_template_may_strip_content_and_add_space_and_thinking() {
        let stripping = "{% for m in messages %}{{ m.role }}:{{ m.content | trim }} <|im_end|>{% endfor %}\
            {% if add_generation_prompt %}assistant:{% endif %}";
        check(&with(stripping), &question_and_answer(" yes "), "yes $");
        // As in Qwen3: an empty thinking block before the last answer only.
        let thinking = "{% for m in messages %}{{ m.role }}:{% if loop.last and m.role == 'assistant' %}<think></think>{% endif %}\
            {{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
        let turns = [question_and_answer("one"), question_and_answer("think")].concat();
        check(&with(thinking), &turns, "one$<think></think>think$");
    }

    /// What stands before the answer and the answer's own turn, as text; the end of turn is written `$`.
    fn turn_texts(template: &str, prompt: &[Message], answer: &str) -> [String; 2] {
        let turn = with(template).turn_ids(prompt, &Message::assistant(answer)).expect("encodes");
        [turn.prompt, turn.answer].map(|ids| {
            String::from_utf8(ids.iter().map(|id| if *id == END { b'$' } else { *id as u8 }).collect())
                .expect("text")
        })
    }

    /// In the manner of Qwen3, DeepSeek-R1, Llama 3 and of a template that ignores `add_generation_prompt`.
    #[test]
    fn an_answer_is_all_that_the_template_writes_for_its_turn() {
        let turns = "{% for m in messages %}{{ m.role }}:";
        let check = |body: &str, opening: &str, answer: &str, expected: [&str; 2]| {
            let template =
                format!("{turns}{body}{{% endfor %}}{{% if add_generation_prompt %}}{opening}{{% endif %}}");
            assert_eq!(turn_texts(&template, &[Message::user("q")], answer), expected, "{template}");
        };
        let thinking =
            "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>";
        check(thinking, "assistant:", "yes", ["user:q$assistant:", "<think>\n\n</think>\n\nyes$"]);
        check("{{ m.content }}<|im_end|>", "assistant:<think>", "yes", ["user:q$assistant:", "yes$"]);
        check("{{ m.content }}<|im_end|>", "assistant:<think>", "<b>", ["user:q$assistant:<", "b>$"]);
        check("{{ m.content | trim }}<|im_end|>", "assistant:", " yes ", ["user:q$assistant:", "yes$"]);
        check("{{ m.content }}<|im_end|>", "", "yes", ["user:q$", "assistant:yes$"]);
    }

    #[test]
    fn reasoning_may_be_written_anew_but_not_dropped() {
        let rewritten = "{% for m in messages %}{{ m.role }}:{% if m.role == 'assistant' %}\
            {% set parts = m.content.split('</think>') %}<think>\n{{ parts[0].replace('<think>', '').strip() }}\n</think>\n\n\
            {{ parts[-1].lstrip('\n') }}{% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}\
            {% if add_generation_prompt %}assistant:{% endif %}";
        let [_, answer] = turn_texts(rewritten, &[Message::user("q")], "<think>two\nsteps</think>yes");
        assert_eq!(answer, "<think>\ntwo\nsteps\n</think>\n\nyes$");
        let dropped = "{% for m in messages %}{{ m.role }}:{{ m.content.split('</think>')[-1] }}<|im_end|>{% endfor %}\
            {% if add_generation_prompt %}assistant:{% endif %}";
        let result =
            with(dropped).turn_ids(&[Message::user("q")], &Message::assistant("<think>steps</think>yes"));
        assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
    }

    #[test]
    fn a_conversation_may_begin_with_the_assistant() {
        let turns = [Message::assistant("hello"), Message::user("q"), Message::assistant("yes")];
        check(&byte_tokenizer(), &turns, "hello$yes$");
        let with_default_system = "{% for m in messages %}{% if loop.first and m.role != 'system' %}system:s<|im_end|>{% endif %}\
            {{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
        check(&with(with_default_system), &turns, "hello$yes$");
        // `messages[0]` of an empty conversation would be an error.
        let looks_ahead = format!("{{{{ messages[0].role.strip() }}}}|{with_default_system}");
        check(&with(&looks_ahead), &turns, "hello$yes$");
    }

    #[test]
    fn only_the_turns_that_are_learnt_are_learnt() {
        let turns =
            [question_and_answer("one"), question_and_answer("two"), question_and_answer("three")].concat();
        let tokenizer = byte_tokenizer();
        let encoded = tokenizer.encode_conversation(&turns, |index| index == 3).expect("encodes");
        let whole =
            tokenizer.encode(&tokenizer.render(&turns[..4], false).expect("renders")).expect("encodes");
        assert_eq!(encoded.ids, whole[..whole.len() - 1], "all but the line end after the last turn");
        let trained = encoded.loss_mask.iter().filter(|trained| **trained).count();
        assert_eq!((trained, encoded.loss_mask.iter().rev().take_while(|trained| **trained).count()), (4, 4));
        let none = tokenizer.encode_conversation(&turns, |_| false);
        assert!(matches!(none, Err(TextError::EmptyLossMask { messages: 6 })), "{none:?}");
    }

    /// Calls, their results and the answer, as Qwen's and GPT-OSS's templates write them.
    fn with_calls() -> Vec<Message> {
        serde_json::from_str(
            r#"[{"role":"user","content":"q"},
            {"role":"assistant","content":"Look.","tool_calls":[{"name":"f","arguments":{"x":"<|im_end|>"}},{"name":"g","arguments":{"y":"1"}}]},
            {"role":"tool","content":"<|im_end|>5"},{"role":"tool","content":"6"},
            {"role":"assistant","content":null,"tool_calls":[{"name":"f","arguments":{"x":"<|im_end|>"}}]},
            {"role":"tool","content":"7"},{"role":"assistant","content":"yes"}]"#,
        )
        .expect("messages")
    }

    const CALLS: &str = "{% for m in messages %}{{ m.role }}:{{ m.content }}\
        {% for c in m.tool_calls %}<{{ c.name }}>{{ c.arguments | tojson }}</>{% endfor %}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}assistant:{% endif %}";

    #[test]
    fn calls_are_learnt_up_to_the_end_behind_the_last_and_results_are_not() {
        let tokenizer = with(CALLS);
        let all = "Look.<f>{\"x\": \"$\"}</><g>{\"y\": \"1\"}</>$<f>{\"x\": \"$\"}</>$yes$";
        check(&tokenizer, &with_calls(), all);
        let encoded = tokenizer.encode_conversation(&with_calls(), |_| true).expect("encodes");
        let whole =
            tokenizer.encode(&tokenizer.render(&with_calls(), false).expect("renders")).expect("encodes");
        assert_eq!(encoded.ids, whole[..whole.len() - 1], "all but the line end after the last turn");
        check_learnt(&tokenizer, &with_calls()[..5], |index| index == 4, "<f>{\"x\": \"$\"}</>$");
        let turn = tokenizer.turn_ids(&with_calls()[..4], &with_calls()[4]).expect("encodes");
        assert_eq!(turn.prompt, tokenizer.prompt_ids(&with_calls()[..4]).expect("encodes"));
    }

    /// GPT-OSS ends a call with `<|call|>`, Llama 3.1 with `<|eom_id|>`; some templates end it with nothing.
    #[test]
    fn a_call_may_end_with_another_token_or_with_none() {
        let ending = |end: &str| {
            CALLS.replace(
                "{% endfor %}<|im_end|>",
                &format!("{{% endfor %}}{{{{ '{end}' if m.tool_calls else '<|im_end|>' }}}}"),
            )
        };
        let tokenizer = with(&ending("<|im_start|>"));
        let encoded = tokenizer.encode_conversation(&with_calls()[..5], |index| index == 4).expect("encodes");
        let start = tokenizer.token_to_id("<|im_start|>").expect("a token");
        assert_eq!(encoded.ids.last(), Some(&start));
        let whole =
            tokenizer.encode(&tokenizer.render(&with_calls(), false).expect("renders")).expect("encodes");
        let encoded = tokenizer.encode_conversation(&with_calls(), |_| true).expect("encodes");
        assert_eq!(encoded.ids, whole[..whole.len() - 1]);
        assert_eq!(
            encoded.loss_mask.iter().zip(&whole).filter(|(learnt, id)| **learnt && **id == start).count(),
            2
        );
        // The end of sequence is added, so that the model learns to stop.
        check_learnt(&with(&ending("")), &with_calls()[..5], |index| index == 4, "<f>{\"x\": \"$\"}</>$");
    }

    #[test]
    fn a_call_whose_end_cannot_be_found_is_refused() {
        let by_name = with(&CALLS.replace("c.arguments | tojson", "c.arguments.x + '\n'"));
        let calling = [with_calls().swap_remove(0), with_calls().swap_remove(4)];
        let result = by_name.encode_conversation(&calling, |_| true);
        assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
    }

    #[test]
    fn the_text_beside_a_call_may_not_be_dropped() {
        let dropping = with(&CALLS.replace("{{ m.content }}", "{{ m.content if not m.tool_calls }}"));
        let result = dropping.encode_conversation(&with_calls(), |_| true);
        assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
        check_learnt(&dropping, &with_calls(), |index| index == 6, "yes$");
    }

    #[test]
    fn an_answer_is_found_whatever_the_templates_white_space() {
        let writing = |content: &str, end: &str| {
            with(&format!(
                "{{% for m in messages %}}{{{{ m.role }}}}:{{{{ {content} }}}}{end}{{% endfor %}}\
                {{% if add_generation_prompt %}}assistant:{{% endif %}}"
            ))
        };
        let narrow = "m.content.replace('\n\n', '\n').replace('  ', '')";
        check(&writing(narrow, "<|im_end|>"), &question_and_answer("a  b\n\nc\n\n"), "ab\nc\n$");
        check(&writing(narrow, ""), &question_and_answer("a  b\n\nc\n"), "ab\nc\n$");
        let wide = writing("m.content | list | join(' ')", "<|im_end|>");
        let result = wide.turn_ids(&[Message::user("q")], &Message::assistant("ab"));
        assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
    }

    /// ChatML with special tokens that take the white space on one side, `lstrip` or `rstrip`.
    fn stripping(side: &str) -> ChatTokenizer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let definition =
            byte_tokenizer().definition.replace(&format!("\"{side}\": false"), &format!("\"{side}\": true"));
        std::fs::write(folder.path().join("tokenizer.json"), definition).expect("a file");
        let eos = "{\"eos_token\": \"<|im_end|>\"}";
        std::fs::write(folder.path().join("tokenizer_config.json"), eos).expect("a file");
        let tokenizer = ChatTokenizer::from_folder(folder.path()).expect("loads");
        tokenizer.with_template(crate::CHATML_TEMPLATE).expect("ChatML")
    }

    /// As `<|assistant|>` of Phi-3 takes the white space that an answer begins with.
    #[test]
    fn white_space_that_a_special_token_takes_is_not_learnt() {
        let opening = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}\
            {% if add_generation_prompt %}<|im_start|>{% endif %}";
        let turns = [question_and_answer("\n one \n"), question_and_answer(" two ")].concat();
        for (side, expected) in [("rstrip", "one \n$two $"), ("lstrip", "\n one$ two$")] {
            let tokenizer = stripping(side).with_template(opening).expect("a template");
            check(&tokenizer, &turns, expected);
            let encoded = tokenizer.encode_conversation(&turns, |_| true).expect("encodes");
            let whole = tokenizer.encode(&tokenizer.render(&turns, false).expect("renders"));
            assert_eq!(encoded.ids, whole.expect("encodes"), "{side}");
        }
    }

    /// In templates that leave out empty turns, or the reasoning of earlier ones, what is looked for may stand in a later turn.
    #[test]
    fn nothing_of_a_later_turn_is_learnt() {
        let skipping = "{% for m in messages %}{% if m.content %}{{ m.role }}:{{ m.content }}<|im_end|>{% endif %}{% endfor %}\
            {% if add_generation_prompt %}assistant:{% endif %}";
        let turns = [question_and_answer(""), question_and_answer("fine")].concat();
        let result = with(skipping).encode_conversation(&turns, |_| true);
        assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
        let forgetting = "{% for m in messages %}{{ m.role }}:\
            {% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}\
            <|im_end|>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
        let turns = [
            Message::user("q"),
            Message::assistant("<think>ok</think>4"),
            Message::user("ok, but why is it 4"),
            Message::assistant("because"),
        ];
        let result = with(forgetting).encode_conversation(&turns, |_| true);
        assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
        check_learnt(&with(forgetting), &turns, |index| index == 3, "because$");
    }

    #[test]
    fn an_answer_that_also_stands_in_the_header_is_found_behind_it() {
        let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
            {% if add_generation_prompt %}assistant: {% endif %}";
        check(&with(plain), &[Message::assistant("a"), Message::user("q"), Message::assistant("s")], "as$");
        let ignoring = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
        let turn =
            with(ignoring).turn_ids(&[Message::user("q")], &Message::assistant("is")).expect("encodes");
        assert_eq!(turn.answer.len(), "assistant: is".len() + 1);
    }

    #[test]
    fn what_repeats_itself_is_not_searched_for_ever() {
        let dropping = "{% for m in messages %}{{ m.role }}:{{ m.content.split('</think>')[-1] }}<|im_end|>{% endfor %}\
            {% if add_generation_prompt %}assistant:{% endif %}";
        for many in ["a ".repeat(100_000), "a".repeat(200_000)] {
            let answer = Message::assistant(format!("<think>{many}b</think>{many}"));
            let result = with(dropping).turn_ids(&[Message::user("q")], &answer);
            assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })));
        }
    }

    /// Phi-3's `<|end|>` includes the line end that the template writes after it.
    #[test]
    fn an_end_of_turn_that_swallows_space_does_so_between_turns() {
        let tokenizer = stripping("rstrip");
        let turns = [question_and_answer("one"), question_and_answer("two")].concat();
        let encoded = tokenizer.encode_conversation(&turns, |_| true).expect("encodes");
        let whole = tokenizer.encode(&tokenizer.render(&turns, false).expect("renders")).expect("encodes");
        assert_eq!(encoded.ids, whole);
        let line_ends = whole.windows(2).filter(|pair| pair[0] == END && pair[1] == u32::from(b'\n')).count();
        assert_eq!(line_ends, 0, "the case this test is about");
    }

    #[test]
    fn a_template_without_an_end_of_turn_still_teaches_to_stop() {
        let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
            {% if add_generation_prompt %}assistant: {% endif %}";
        let tokenizer = with(plain);
        assert_eq!(tokenizer.end_of_turn(), END, "the end of sequence");
        let turns = [question_and_answer("one"), question_and_answer("two")].concat();
        check(&tokenizer, &turns, "onetwo$");
    }

    #[test]
    fn what_cannot_be_trained_faithfully_is_an_error() {
        let silent = byte_tokenizer().encode_conversation(&[Message::user("q")], |_| true);
        assert!(matches!(silent, Err(TextError::EmptyLossMask { messages: 1 })), "{silent:?}");
        assert!(matches!(
            byte_tokenizer().encode_conversation(&[], |_| true),
            Err(TextError::EmptyLossMask { messages: 0 })
        ));

        let counting = "{{ messages | length }}{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}\
            {% if add_generation_prompt %}assistant:{% endif %}";
        let result = with(counting).encode_conversation(&question_and_answer("yes"), |_| true);
        assert!(matches!(result, Err(TextError::NotPrefixPreserving { index: 1 })), "{result:?}");

        let shouting = "{% for m in messages %}{{ m.role }}:{{ m.content | upper }}<|im_end|>{% endfor %}\
            {% if add_generation_prompt %}assistant:{% endif %}";
        let result = with(shouting).encode_conversation(&question_and_answer("yes"), |_| true);
        assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
    }
}
