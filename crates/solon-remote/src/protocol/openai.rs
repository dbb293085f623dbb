//! OpenAI's chat completions, which vLLM, SGLang, llama.cpp, Ollama, `solon serve` and hosted services offer.
//!
//! Source: <https://platform.openai.com/docs/api-reference/chat>. Of a reply the first choice is read.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use solon_records::Message;

use super::{Form, Misread, written};
use crate::Question;
use crate::account::Tokens;
use crate::answer::{Answer, End, Likely};

/// The body that asks a question.
pub(crate) fn body(model: &str, messages: &[Message], question: &Question, form: Form) -> Value {
    let messages: Vec<Value> =
        messages.iter().map(|message| json!({"role": message.role, "content": message.content})).collect();
    let mut body = json!({"model": model, "messages": messages});
    let limit = if form.completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    body[limit] = question.max_new_tokens.into();
    if form.temperature {
        body["temperature"] = written(question.temperature).into();
    }
    body["stream"] = false.into();
    if !question.stop.is_empty() {
        body["stop"] = told_stops(&question.stop).into();
    }
    if !question.options.is_empty() && form.log_probs > 0 {
        body["logprobs"] = true.into();
        body["top_logprobs"] = form.log_probs.into();
    }
    body
}

/// OpenAI takes no more.
const MOST_STOPS: usize = 4;

/// The stops that a server is told.
pub(super) fn told_stops(stop: &[String]) -> &[String] {
    &stop[..stop.len().min(MOST_STOPS)]
}

/// What is read of a reply, whose choices are of the interface's own form.
#[derive(Deserialize)]
struct Completion<C> {
    choices: Vec<C>,
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    finish_reason: Option<String>,
    logprobs: Option<Listed>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    /// The model's own words where it declines; then there is no content.
    refusal: Option<String>,
}

/// The log-probs of a reply's tokens.
#[derive(Deserialize)]
pub(super) struct Listed {
    content: Option<Vec<Place>>,
}

impl Listed {
    /// The likeliest first tokens.
    pub fn first(self) -> Vec<Likely> {
        let first = self.content.and_then(|places| places.into_iter().next());
        let listed = first.map(|place| place.top_logprobs).unwrap_or_default();
        listed.into_iter().map(|Listing { token, logprob }| Likely { token, logprob }).collect()
    }
}

#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    top_logprobs: Vec<Listing>,
}

#[derive(Deserialize)]
struct Listing {
    token: String,
    logprob: f64,
}

/// The first choice of a reply, and the tokens that it took. `what` names the reply in errors.
pub(super) fn first_choice<C: DeserializeOwned>(
    text: &str,
    what: &str,
) -> Result<(C, Option<Tokens>), Misread> {
    let completion: Completion<C> = serde_json::from_str(text).map_err(|error| Misread::of(what, &error))?;
    let choice = completion.choices.into_iter().next();
    let choice = choice.ok_or_else(|| Misread::Malformed("the reply has no choices".to_owned()))?;
    Ok((choice, completion.usage.map(Tokens::from)))
}

/// The tokens that a reply took.
#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl From<Counted> for Tokens {
    fn from(usage: Counted) -> Self {
        Self { input: usage.prompt_tokens, output: usage.completion_tokens }
    }
}

/// How an answer ended, by its `finish_reason`.
pub(super) fn end(finish_reason: Option<&str>) -> End {
    match finish_reason {
        Some("length") => End::Cut,
        Some("content_filter") => End::Declined,
        _ => End::Whole,
    }
}

/// The answer in a server's text.
pub(crate) fn read(text: &str) -> Result<Answer, Misread> {
    let (choice, tokens) = first_choice::<Choice>(text, "chat completion")?;
    let said = choice.message.content.filter(|text| !text.is_empty());
    Ok(Answer {
        text: said.or(choice.message.refusal).unwrap_or_default(),
        end: end(choice.finish_reason.as_deref()),
        first: choice.logprobs.map(Listed::first).unwrap_or_default(),
        tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_field_by_field() {
        let read = |value: Value| read(&value.to_string());
        let whole = read(json!({
            "id": "x", "choices": [{"message": {"role": "assistant", "content": "yes", "reasoning_content": "hm"},
                "finish_reason": "length", "logprobs": {"content": [
                    {"token": "yes", "logprob": -0.1, "top_logprobs": [{"token": "yes", "logprob": -0.1, "bytes": [1]}]},
                    {"token": "!", "logprob": -0.1, "top_logprobs": [{"token": "!", "logprob": -0.1}]}]}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        }))
        .unwrap();
        let first = vec![Likely { token: "yes".to_owned(), logprob: -0.1 }];
        let tokens = Some(Tokens { input: 7, output: 2 });
        assert_eq!(whole, Answer { text: "yes".to_owned(), end: End::Cut, first, tokens });
        let said = |message: Value, reason: &str| {
            let answer = read(json!({"choices": [{"message": message, "finish_reason": reason}]})).unwrap();
            (answer.text, answer.end)
        };
        assert_eq!(said(json!({"content": null}), "length"), (String::new(), End::Cut));
        assert_eq!(said(json!({"content": null, "refusal": "No."}), "stop"), ("No.".to_owned(), End::Whole));
        assert_eq!(said(json!({"content": "a"}), "content_filter"), ("a".to_owned(), End::Declined));
        for (text, part) in [
            ("<html>", "no chat completion"),
            ("{\"choices\": []}", "no choices"),
            ("{\"choices\": [{\"message\": {\"content\": 3}}]}", "no chat completion"),
            ("[]", "no chat completion"),
        ] {
            let Err(Misread::Malformed(reason)) = super::read(text) else { panic!("{text}") };
            assert!(reason.contains(part), "{reason}");
        }
        assert!(matches!(super::read("{\"choices\": [{\"mess"), Err(Misread::BrokenOff(_))));
    }
}
