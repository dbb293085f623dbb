//! What a chat template writes around each turn, as plain strings, for programs that do not run Jinja.
//!
//! Contract: joined again, the parts give what the template renders for every conversation that is tried here, with and
//! without a system message. A template that does more than to wrap each turn has no parts.

use solon_records::Message;

use crate::{ChatTokenizer, TextError};

/// A chat template as strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnParts {
    /// Opens a conversation, without a beginning of sequence that the tokenizer puts there itself.
    pub start: String,
    /// Follows where there is no system message: a default one, or nothing.
    pub without_system: String,
    /// Before and after the system message; `None` of a template that refuses one.
    pub system: Option<[String; 2]>,
    /// Before and after a message of the user.
    pub user: [String; 2],
    /// Before and after an answer.
    pub assistant: [String; 2],
    /// Opens the answer that is asked for.
    pub prompt: String,
}

const SYSTEM: &str = "PROBE-SYSTEM";
const USER: &str = "PROBE-QUESTION";
const ANSWER: &str = "PROBE-ANSWER";

impl ChatTokenizer {
    /// The parts of the chat template, if wrapping each turn is all it does.
    pub fn turn_parts(&self) -> Result<Option<TurnParts>, TextError> {
        let Some(parts) = self.find_parts() else { return Ok(None) };
        let tried = [
            vec![Message::user("Who?")],
            vec![Message::user("a"), Message::assistant("b\nc"), Message::user("d?")],
            vec![Message::system("Be brief."), Message::user("Hi")],
            vec![
                Message::system("s"),
                Message::user("Où?"),
                Message::assistant("Là."),
                Message::user("2"),
                Message::assistant("3"),
                Message::user("4"),
            ],
        ];
        let is_known = |messages: &&Vec<Message>| parts.system.is_some() || messages[0].role != "system";
        for messages in tried.iter().filter(is_known) {
            if self.render(messages, true)? != parts.join(messages) {
                return Ok(None);
            }
        }
        let opened = self.template_tokens.bos_token.clone().filter(|bos| parts.start == *bos);
        let start = match opened {
            Some(_) if self.adds_bos()? => String::new(),
            _ => parts.start.clone(),
        };
        Ok(Some(TurnParts { start, ..parts }))
    }

    fn find_parts(&self) -> Option<TurnParts> {
        let (user, answer) = (Message::user(USER), Message::assistant(ANSWER));
        let render = |messages: &[Message]| self.render(messages, false).ok();
        // A conversation from outside in: what closes a turn is known before what opens the next.
        let alone = render(std::slice::from_ref(&user))?;
        let (before_user, user_close) = alone.split_once(USER)?;
        let both = render(&[user.clone(), answer.clone()])?;
        let (_, after_user) = both.split_once(USER)?;
        let (opening, assistant_close) = after_user.split_once(ANSWER)?;
        let assistant_open = opening.strip_prefix(user_close)?;
        let again = render(&[user.clone(), answer, user.clone()])?;
        let (_, after_answer) = again.split_once(ANSWER)?;
        let user_open = after_answer.strip_prefix(assistant_close)?.split_once(USER)?.0;
        let asked = self.render(std::slice::from_ref(&user), true).ok()?;
        let prompt = asked.split_once(USER)?.1.strip_prefix(user_close)?;
        let opening = before_user.strip_suffix(user_open)?;
        let bos = self.template_tokens.bos_token.as_deref().unwrap_or_default();
        // ChatML's beginning of sequence may open each turn; it is then part of the turns.
        let opens_once = opening.starts_with(bos) && !user_open.starts_with(bos);
        let start = if opens_once { bos } else { "" };
        let system = match render(&[Message::system(SYSTEM), user]) {
            None => None,
            Some(with_system) => {
                let (open, rest) = with_system.split_once(SYSTEM)?;
                let close = rest.split_once(USER)?.0.strip_suffix(user_open)?;
                Some([open.strip_prefix(start)?.to_owned(), close.to_owned()])
            }
        };
        Some(TurnParts {
            start: start.to_owned(),
            without_system: opening[start.len()..].to_owned(),
            system,
            user: [user_open, user_close].map(str::to_owned),
            assistant: [assistant_open, assistant_close].map(str::to_owned),
            prompt: prompt.to_owned(),
        })
    }
}

impl TurnParts {
    /// A conversation with the opening of the next answer.
    fn join(&self, messages: &[Message]) -> String {
        let mut text = self.start.clone();
        if messages.iter().all(|message| message.role != "system") {
            text.push_str(&self.without_system);
        }
        for message in messages {
            let around = match message.role.as_str() {
                "system" => self.system.as_ref(),
                "user" => Some(&self.user),
                _ => Some(&self.assistant),
            };
            if let Some([before, after]) = around {
                text.extend([before, message.content.as_str(), after]);
            }
        }
        text + &self.prompt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::tests::byte_tokenizer;

    fn parts(template: &str) -> Option<TurnParts> {
        byte_tokenizer().with_template(template).expect("a template").turn_parts().expect("renders")
    }

    #[test]
    fn chatml_has_parts() {
        let found = parts(crate::CHATML_TEMPLATE).expect("parts");
        let around = |role: &str| [format!("<|im_start|>{role}\n"), "<|im_end|>\n".to_owned()];
        assert_eq!(
            found,
            TurnParts {
                start: String::new(),
                without_system: String::new(),
                system: Some(around("system")),
                user: around("user"),
                assistant: around("assistant"),
                prompt: "<|im_start|>assistant\n".to_owned(),
            }
        );
    }

    #[test]
    fn a_default_system_message_and_a_beginning_are_kept() {
        let template = "{{ bos_token }}{% if messages[0]['role'] != 'system' %}[s]Default.[/s]{% endif %}\
            {% for m in messages %}[{{ m['role'][0] }}]{{ m['content'] }}[/{{ m['role'][0] }}]{% endfor %}\
            {% if add_generation_prompt %}[a]{% endif %}<|im_end|>";
        // What follows a turn only at the end belongs to no turn.
        assert_eq!(parts(template), None);
        let found = parts(template.trim_end_matches("<|im_end|>")).expect("parts");
        assert_eq!(
            (found.start.as_str(), found.without_system.as_str()),
            ("<|im_start|>", "[s]Default.[/s]")
        );
        assert_eq!(found.system, Some(["[s]", "[/s]"].map(str::to_owned)));
    }

    /// SmolLM2's: its beginning of sequence is `<|im_start|>`.
    #[test]
    fn a_beginning_that_opens_each_turn_is_part_of_the_turns() {
        let template = "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nD<|im_end|>\n\
            {% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}\
            {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
        let found = parts(template).expect("parts");
        assert_eq!(
            (found.start.as_str(), found.without_system.as_str()),
            ("", "<|im_start|>system\nD<|im_end|>\n")
        );
        assert_eq!(found.system, Some(["<|im_start|>system\n", "<|im_end|>\n"].map(str::to_owned)));
    }

    #[test]
    fn a_template_that_does_more_has_none() {
        // The system message is put into the user's turn.
        let folded = "{% for m in messages %}{% if m['role'] == 'user' %}[{% if messages[0]['role'] == 'system' %}\
            {{ messages[0]['content'] }} {% endif %}{{ m['content'] }}]{% elif m['role'] == 'assistant' %}\
            {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}";
        assert_eq!(parts(folded), None);
        // One that refuses a system message has parts without.
        let refusing = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}\
            {{ m['role'] }}: {{ m['content'] }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
        assert_eq!(parts(refusing).expect("parts").system, None);
    }
}
