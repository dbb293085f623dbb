//! OpenAI's completions of texts, which vLLM, SGLang, llama.cpp, Ollama and `solon serve` offer.
//!
//! Source: <https://platform.openai.com/docs/api-reference/completions>. Of a reply the first choice is read. llama.cpp lists
//! log-probs as chat completions do, the others as a map from tokens: both are read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::openai::{Listed, end, first_choice, told_stops};
use super::{Form, Misread, written};
use crate::Question;
use crate::answer::{Answer, Likely};

/// The body that asks to continue a text.
pub(crate) fn body(model: &str, text: &str, question: &Question, form: Form) -> Value {
    let prompt = format!("{text}{}", question.lead());
    let mut body = json!({"model": model, "prompt": prompt, "max_tokens": question.max_new_tokens});
    if form.temperature {
        body["temperature"] = written(question.temperature).into();
    }
    body["stream"] = false.into();
    if !question.stop.is_empty() {
        body["stop"] = told_stops(&question.stop).into();
    }
    if !question.options.is_empty() && form.log_probs > 0 {
        body["logprobs"] = form.log_probs.into();
    }
    body
}

/// What is read of a choice.
#[derive(Deserialize)]
struct Choice {
    text: String,
    finish_reason: Option<String>,
    logprobs: Option<LogProbs>,
}

/// The log-probs of a reply's tokens, in either form.
#[derive(Deserialize)]
struct LogProbs {
    /// Of each token, if it has some.
    top_logprobs: Option<Vec<Option<BTreeMap<String, f64>>>>,
    #[serde(flatten)]
    as_in_chats: Listed,
}

impl LogProbs {
    /// The likeliest first tokens.
    fn first(self) -> Vec<Likely> {
        match self.top_logprobs.and_then(|places| places.into_iter().next()?) {
            Some(map) => map.into_iter().map(|(token, logprob)| Likely { token, logprob }).collect(),
            None => self.as_in_chats.first(),
        }
    }
}

/// The answer in a server's text.
pub(crate) fn read(text: &str) -> Result<Answer, Misread> {
    let (choice, tokens) = first_choice::<Choice>(text, "text completion")?;
    Ok(Answer {
        text: choice.text,
        end: end(choice.finish_reason.as_deref()),
        first: choice.logprobs.map(LogProbs::first).unwrap_or_default(),
        tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Tokens;
    use crate::answer::End;
    use solon_records::Context;

    #[test]
    fn a_text_is_sent_with_what_its_options_share() {
        let options = [" (A)", " (B)"].map(str::to_owned).to_vec();
        let question = Question {
            id: "1".to_owned(),
            context: Context::Text("The answer is:".to_owned()),
            options,
            max_new_tokens: 1,
            temperature: 0.0,
            stop: ["1", "2", "3", "4", "5"].map(str::to_owned).to_vec(),
            sample: 0,
        };
        let asked = body("m", "The answer is:", &question, Form::default());
        let expected = json!({
            "model": "m", "prompt": "The answer is: (", "max_tokens": 1, "temperature": 0.0, "stream": false,
            "stop": ["1", "2", "3", "4"], "logprobs": 20,
        });
        assert_eq!(asked, expected);
        let plain = Question { options: Vec::new(), stop: Vec::new(), ..question };
        let asked = body("m", "The answer is:", &plain, Form { log_probs: 0, ..Form::default() });
        assert_eq!(asked["prompt"], "The answer is:");
        assert!(asked.get("logprobs").is_none() && asked.get("stop").is_none());
    }

    #[test]
    fn a_reply_is_read_in_either_form_of_log_probs() {
        let read = |logprobs: Value| {
            let choice = json!({"text": "A", "finish_reason": "length", "logprobs": logprobs});
            let usage = json!({"prompt_tokens": 7, "completion_tokens": 1});
            read(&json!({"choices": [choice], "usage": usage}).to_string()).unwrap()
        };
        let likely = |token: &str, logprob| Likely { token: token.to_owned(), logprob };
        let first = vec![likely("A", -0.1), likely("B", -2.5)];
        let maps =
            json!({"tokens": ["A"], "token_logprobs": [-0.1], "top_logprobs": [{"A": -0.1, "B": -2.5}]});
        let as_in_chats = json!({"content": [{"token": "A", "logprob": -0.1, "top_logprobs": [
            {"token": "A", "logprob": -0.1}, {"token": "B", "logprob": -2.5}]}]});
        for listed in [maps, as_in_chats] {
            let tokens = Some(Tokens { input: 7, output: 1 });
            assert_eq!(
                read(listed),
                Answer { text: "A".to_owned(), end: End::Cut, first: first.clone(), tokens }
            );
        }
        for none in [
            Value::Null,
            json!({"top_logprobs": null}),
            json!({"top_logprobs": [null]}),
            json!({"content": null}),
        ] {
            assert_eq!(read(none.clone()).first, [], "{none}");
        }
        let Err(Misread::Malformed(reason)) = super::read("{\"choices\": [{\"message\": {}}]}") else {
            panic!()
        };
        assert!(reason.contains("no text completion"), "{reason}");
    }
}
