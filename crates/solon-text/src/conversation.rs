//! Encodes conversations for training: token ids, and a mask of those that are trained on.
//!
//! Contract: turn by turn, the ids are those that the model gets when it samples (the template with its generation
//! prompt), followed by the ids it should answer with. So training and sampling use the same ids, even if one encoding
//! of the whole text would merge the prompt's last characters with the answer's first. For one question and one answer,
//! `ids == prompt_ids(question) + completion_ids(answer)`.
//!
//! The mask is true from the end of each generation prompt to the end of turn. Both are found in the rendered text and
//! never by comparing ids, so it does not matter if the pad token equals the end of turn.

use crate::{ChatTokenizer, TextError};
use solon_records::Message;

/// A conversation as ids, with a mask of the positions that are trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, ending with the last assistant message's end of turn.
    pub ids: Vec<u32>,
    /// As long as `ids`; true on assistant content and its end of turn.
    pub loss_mask: Vec<bool>,
}

impl Encoded {
    fn extend(&mut self, ids: &[u32], trained: bool) {
        self.ids.extend_from_slice(ids);
        self.loss_mask.resize(self.ids.len(), trained);
    }
}

impl ChatTokenizer {
    /// Encodes a conversation for training. Turns after the last assistant message are left out, because nothing in
    /// them is trained on.
    ///
    /// White space, or an empty thinking block, that the template writes between the generation prompt and the content
    /// is trained on too: the model has to produce it when it samples.
    ///
    /// # Errors
    /// [`TextError::EmptyLossMask`] without an assistant message; [`TextError::NotPrefixPreserving`] if a prompt is not
    /// the start of the whole rendering; [`TextError::ContentRewritten`] if the template changes an answer by more than
    /// stripping its white space.
    pub fn encode_conversation(&self, messages: &[Message]) -> Result<Encoded, TextError> {
        let last = messages
            .iter()
            .rposition(Message::is_assistant)
            .ok_or(TextError::EmptyLossMask { messages: messages.len() })?;
        let rendered = self.render(&messages[..=last], false)?;
        let mut encoded = Encoded { ids: Vec::new(), loss_mask: Vec::new() };
        let mut done = 0;
        for (index, message) in messages[..=last].iter().enumerate() {
            if !message.is_assistant() {
                continue;
            }
            let prompt = self.render(&messages[..index], true)?;
            if !rendered.starts_with(&prompt) || prompt.len() < done {
                return Err(TextError::NotPrefixPreserving { index });
            }
            encoded.extend(&self.encode_between(&rendered[done..prompt.len()], done)?, false);
            let turn = &rendered[prompt.len()..];
            let end = self.find_end(turn, &message.content).ok_or(TextError::ContentRewritten { index })?;
            encoded.extend(&self.encode_continuation(&turn[..end])?, true);
            done = prompt.len() + end;
            if let Some(written) = &self.ending().written {
                encoded.extend(&[self.ending().id], true);
                done += written.len();
            } else if index == last {
                // Without an end of turn in training, the model would never learn to stop.
                encoded.extend(&[self.ending().id], true);
            }
        }
        Ok(encoded)
    }

    /// The ids of the text between an assistant's turn and the next generation prompt.
    fn encode_between(&self, text: &str, start: usize) -> Result<Vec<u32>, TextError> {
        match &self.ending().written {
            _ if start == 0 => self.encode(text),
            // Some end-of-turn tokens include the white space that follows them (`rstrip`), so they are encoded
            // together with it.
            Some(written) => Ok(self.encode_continuation(&format!("{written}{text}"))?.split_off(1)),
            None => self.encode_continuation(text),
        }
    }

    /// The position, in the text after the generation prompt, where the assistant's content ends and the end of turn
    /// begins.
    fn find_end(&self, turn: &str, content: &str) -> Option<usize> {
        [content, content.trim()].into_iter().find_map(|content| {
            // The answer's text may also appear earlier, as in a thinking block, or contain the text of the end of
            // turn.
            turn.match_indices(content).map(|(start, _)| start + content.len()).find_map(|after| {
                let Some(written) = &self.ending().written else {
                    return Some(after);
                };
                let rest = &turn[after..];
                let space = rest.len() - rest.trim_start().len();
                rest[space..].starts_with(written.as_str()).then_some(after + space)
            })
        })
    }
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
        let encoded = tokenizer.encode_conversation(messages).expect("encodes");
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
    fn one_answer_is_its_prompt_and_its_completion() {
        let tokenizer = byte_tokenizer();
        for answer in ["yes", "", "\n\nyes", " <|im_end|> yes "] {
            let messages = question_and_answer(answer);
            let prompt = tokenizer.prompt_ids(&messages[..1]).expect("encodes");
            let completion = tokenizer.completion_ids(answer).expect("encodes");
            let encoded = tokenizer.encode_conversation(&messages).expect("encodes");
            assert_eq!(encoded.ids, [prompt, completion].concat());
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

    /// Phi-3's `<|end|>` includes the line end that the template writes after it.
    #[test]
    fn an_end_of_turn_that_swallows_space_does_so_between_turns() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let definition = byte_tokenizer().definition.replace("\"rstrip\": false", "\"rstrip\": true");
        std::fs::write(folder.path().join("tokenizer.json"), definition).expect("a file");
        let eos = "{\"eos_token\": \"<|im_end|>\"}";
        std::fs::write(folder.path().join("tokenizer_config.json"), eos).expect("a file");
        let tokenizer = ChatTokenizer::from_folder(folder.path()).expect("loads");
        let tokenizer = tokenizer.with_template(crate::CHATML_TEMPLATE).expect("ChatML");
        let turns = [question_and_answer("one"), question_and_answer("two")].concat();
        let encoded = tokenizer.encode_conversation(&turns).expect("encodes");
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
        let silent = byte_tokenizer().encode_conversation(&[Message::user("q")]);
        assert!(matches!(silent, Err(TextError::EmptyLossMask { messages: 1 })), "{silent:?}");
        assert!(matches!(
            byte_tokenizer().encode_conversation(&[]),
            Err(TextError::EmptyLossMask { messages: 0 })
        ));

        let counting = "{{ messages | length }}{% for m in messages %}{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}\
            {% if add_generation_prompt %}assistant:{% endif %}";
        let result = with(counting).encode_conversation(&question_and_answer("yes"));
        assert!(matches!(result, Err(TextError::NotPrefixPreserving { index: 1 })), "{result:?}");

        let shouting = "{% for m in messages %}{{ m.role }}:{{ m.content | upper }}<|im_end|>{% endfor %}\
            {% if add_generation_prompt %}assistant:{% endif %}";
        let result = with(shouting).encode_conversation(&question_and_answer("yes"));
        assert!(matches!(result, Err(TextError::ContentRewritten { index: 1 })), "{result:?}");
    }
}
