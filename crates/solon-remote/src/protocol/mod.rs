//! What is sent to a server and what is read of its reply, for each provider.
//!
//! Contract: pure functions. A request's canonical form is the one that is tried first; its key depends on nothing else, so a
//! reply is found again whatever form a server made us switch to.

mod anthropic;
mod completions;
mod form;
mod openai;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use solon_records::Context;

use crate::answer::Answer;
use crate::{Interface, Provider, Question, Unanswered, UnansweredKind};

pub(crate) use form::Form;

/// What names a recorded answer: the hash of all that it depends on.
pub(crate) type Key = [u8; 32];

/// The key of a question to a model.
pub(crate) fn key(provider: Provider, model: &str, question: &Question) -> Result<Key, Unanswered> {
    let body = body(provider, model, question, Form::default())?;
    let sample = (question.temperature > 0.0).then_some(question.sample);
    let whole = json!({"provider": provider.name(), "request": body, "sample": sample});
    Ok(Sha256::digest(whole.to_string()).into())
}

/// The path of an interface, below the base address.
pub(crate) fn path(provider: Provider, interface: Interface) -> &'static str {
    match (provider, interface) {
        (Provider::OpenAi, Interface::Chat) => "/chat/completions",
        (Provider::OpenAi, Interface::Completions) => "/completions",
        (Provider::Anthropic, _) => "/messages",
    }
}

/// The headers of a provider's requests. Those of a key are marked so.
pub(crate) fn headers(provider: Provider, key: Option<&str>) -> Vec<(&'static str, String)> {
    match provider {
        Provider::OpenAi => key.map(|key| ("authorization", format!("Bearer {key}"))).into_iter().collect(),
        Provider::Anthropic => {
            let version = ("anthropic-version", "2023-06-01".to_owned());
            key.map(|key| ("x-api-key", key.to_owned())).into_iter().chain([version]).collect()
        }
    }
}

/// The body that asks a question in a form that the server takes.
///
/// Errors where the provider's protocol has no place for what stands before the answer.
pub(crate) fn body(
    provider: Provider,
    model: &str,
    question: &Question,
    form: Form,
) -> Result<Value, Unanswered> {
    match (provider, &question.context) {
        (Provider::OpenAi, Context::Chat(messages)) => Ok(openai::body(model, messages, question, form)),
        (Provider::OpenAi, Context::Text(text)) => Ok(completions::body(model, text, question, form)),
        (Provider::Anthropic, Context::Chat(messages)) => anthropic::body(model, messages, question, form),
        (Provider::Anthropic, Context::Text(_)) => {
            let what = "Anthropic's servers chat, and continue no text";
            Err(Unanswered::new(UnansweredKind::Refused, what))
        }
    }
}

/// Why a text is not the reply that a protocol says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misread {
    /// It ends too early: a part of it was lost on the way.
    BrokenOff(String),
    /// It is something else.
    Malformed(String),
}

impl Misread {
    fn of(what: &str, error: &serde_json::Error) -> Self {
        let reason = format!("the reply is no {what} ({error})");
        if error.is_eof() { Self::BrokenOff(reason) } else { Self::Malformed(reason) }
    }
}

/// The answer in a server's text.
pub(crate) fn read(provider: Provider, interface: Interface, text: &str) -> Result<Answer, Misread> {
    match (provider, interface) {
        (Provider::OpenAi, Interface::Chat) => openai::read(text),
        (Provider::OpenAi, Interface::Completions) => completions::read(text),
        (Provider::Anthropic, _) => anthropic::read(text),
    }
}

/// A temperature as it was written: as an `f32`, 0.7 is 0.699999988079071.
fn written(temperature: f32) -> f64 {
    temperature.to_string().parse().unwrap_or(f64::from(temperature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use solon_records::Message;

    fn question() -> Question {
        Question {
            id: "1".to_owned(),
            context: vec![Message::system("Judge."), Message::user("Is it?")].into(),
            options: Vec::new(),
            max_new_tokens: 4,
            temperature: 0.0,
            stop: Vec::new(),
            sample: 0,
        }
    }

    /// Another key would ask, and pay, for everything again.
    #[test]
    fn keys_never_change() {
        let hex = |provider| {
            let key = key(provider, "judge", &question()).unwrap();
            key.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(hex(Provider::OpenAi), "160ceb75cca79384b17c05818de57a90253f91f1a340d4a0098e804dca179353");
        let text = Question { context: Context::Text("Is it?".to_owned()), ..question() };
        let key = key(Provider::OpenAi, "judge", &text).unwrap();
        let hex_of_text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex_of_text, "52e6f2d1b91f252b2fad62b38b07415d576c4d6192154bf9fb63a618db3d5774");
        assert_eq!(
            hex(Provider::Anthropic),
            "116120ef7b92bdb073acb50a1d7fb44c7ed2cfc5620ef40ebc8eb48a6d667e5a"
        );
    }

    #[test]
    fn a_key_is_of_what_the_answer_depends_on() {
        let of = |model: &str, question: &Question| key(Provider::OpenAi, model, question).unwrap();
        let base = of("judge", &question());
        let changed = |change: &dyn Fn(&mut Question)| {
            let mut question = question();
            change(&mut question);
            of("judge", &question)
        };
        assert_eq!(changed(&|q| q.id = "2".to_owned()), base);
        assert_eq!(changed(&|q| q.sample = 1), base, "greedy answers are all the same sample");
        assert_ne!(of("other", &question()), base);
        assert_ne!(key(Provider::Anthropic, "judge", &question()).unwrap(), base);
        assert_ne!(changed(&|q| q.context = vec![Message::user("Is it?")].into()), base);
        assert_ne!(changed(&|q| q.stop.push("\n".to_owned())), base);
        assert_ne!(changed(&|q| q.max_new_tokens = 5), base);
        let yes_no = changed(&|q| q.options = vec!["yes".to_owned(), "no".to_owned()]);
        assert_ne!(yes_no, base, "log-probs are asked for");
        assert_eq!(
            changed(&|q| q.options = vec!["A".to_owned()]),
            yes_no,
            "the same reply serves any options"
        );
        let warm = |sample| changed(&move |q| (q.temperature, q.sample) = (0.7, sample));
        assert!(warm(0) != base && warm(0) != warm(1));
    }

    #[test]
    fn a_temperature_is_sent_as_it_was_written() {
        assert_eq!(json!(written(0.7)).to_string(), "0.7");
        assert_eq!(json!(written(0.0)).to_string(), "0.0");
        assert_eq!(json!(written(1.0)).to_string(), "1.0");
    }
}
