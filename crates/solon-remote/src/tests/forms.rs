//! What is sent, and how a server's wishes change it.

use super::servers::{Mock, completion, said, status};
use super::*;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

/// A chat completion whose first token has these log-probs.
pub fn weighed(options: &[(&str, f64)]) -> ResponseTemplate {
    let mut whole = completion(options[0].0);
    let first: Vec<Value> =
        options.iter().map(|(token, logprob)| json!({"token": token, "logprob": logprob})).collect();
    whole["choices"][0]["logprobs"] = json!({"content": [{"token": options[0].0, "top_logprobs": first}]});
    ResponseTemplate::new(200).set_body_json(whole)
}

#[test]
fn a_conversation_is_sent_as_openais_protocol_says() {
    let mock = Mock::start(|_, _| said("yes"));
    let replies = asked(&mock.url(), &[question("1", &[])]).unwrap();
    assert_eq!(replies, [Ok(Reply::Said { text: "yes".to_owned(), truncated: false })]);
    let expected = json!({
        "model": "judge",
        "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Is it 1?"}],
        "max_tokens": 4, "temperature": 0.0, "stream": false,
    });
    assert_eq!(mock.asked(), [expected]);
    asked(&format!("{}/api/v3/", mock.url()), &[question("1", &[])]).unwrap();
    assert_eq!(mock.paths(), ["/v1/chat/completions", "/api/v3/chat/completions"]);
}

#[test]
fn a_conversation_is_sent_as_anthropics_protocol_says() {
    let mock = Mock::start(|_, at| match at {
        0 => status(529, "{\"type\": \"error\"}").insert_header("retry-after", "0"),
        _ => ResponseTemplate::new(200).set_body_json(json!({
            "content": [{"type": "text", "text": "yes"}], "stop_reason": "max_tokens",
            "usage": {"input_tokens": 10, "output_tokens": 2},
        })),
    });
    let settings = RemoteSettings { provider: Provider::Anthropic, ..settings(&[&mock.url()]) };
    let remote = Remote::new(settings).unwrap();
    // There are no log-probs, so options are answered in words.
    let replies = ask(&remote, &[question("1", &["yes", "no"])]).unwrap();
    assert_eq!(replies, [Ok(Reply::Said { text: "yes".to_owned(), truncated: true })]);
    let expected = json!({
        "model": "judge", "max_tokens": 4, "system": "Judge.",
        "messages": [{"role": "user", "content": "Is it 1?"}], "temperature": 0.0,
    });
    assert_eq!(mock.asked(), [expected.clone(), expected]);
    assert_eq!(mock.paths(), ["/v1/messages", "/v1/messages"]);
    assert_eq!(mock.heads("x-api-key")[0], "sk-the-secret");
    assert_eq!(mock.heads("anthropic-version")[0], "2023-06-01");
    assert_eq!(mock.heads("authorization")[0], "");
    assert_eq!(remote.usage().tokens, Tokens { input: 10, output: 2 });
}

#[test]
fn options_are_answered_with_log_probs_or_else_in_words() {
    let mock = Mock::start(|_, _| weighed(&[("yes", -0.5), ("no", -1.5)]));
    let replies = asked(&mock.url(), &[question("1", &["yes", "no"])]).unwrap();
    let Ok(Reply::Options(log_probs)) = &replies[0] else { panic!("{replies:?}") };
    assert!((log_probs[0] + 0.5).abs() < 1e-12 && (log_probs[1] + 1.5).abs() < 1e-12, "{log_probs:?}");
    assert_eq!(mock.asked()[0]["top_logprobs"], 20);
    // A server that shows none is asked without them, once and for all, whether it says so or ignores the wish.
    for (refuses, expected) in [(true, vec![true, false, false]), (false, vec![true, false])] {
        let mock = Mock::start(move |body, _| match body.get("logprobs") {
            Some(_) if refuses => status(400, "{\"error\": \"logprobs are not supported\"}"),
            _ => said("no"),
        });
        let remote = Remote::new(settings(&[&mock.url()])).unwrap();
        assert_eq!(remote.shows_log_probs(Interface::Chat).unwrap(), None);
        let asked = [question("1", &["yes", "no"]), question("2", &["yes", "no"])];
        assert!(ask(&remote, &asked).unwrap().iter().all(|reply| text(reply) == "no"));
        let with: Vec<bool> = mock.asked().iter().map(|body| body.get("logprobs").is_some()).collect();
        assert_eq!(with, expected);
        assert_eq!(remote.shows_log_probs(Interface::Chat).unwrap(), Some(false));
        assert_eq!(remote.usage().notes(), [format!("{}/v1: asked with no log-probs", mock.url())]);
    }
}

fn text_question(options: &[&str]) -> Question {
    let stop = vec!["\n\nHuman:".to_owned()];
    Question {
        context: "\n\nHuman: Is it?\n\nThe answer is:".to_owned().into(),
        stop,
        ..question("1", options)
    }
}

#[test]
fn a_text_is_continued_by_the_completions() {
    let mock = Mock::start(|_, _| {
        let choice = json!({"text": "A", "finish_reason": "length", "logprobs": {"top_logprobs": [{"A": -0.25, "B": -1.5}]}});
        ResponseTemplate::new(200).set_body_json(json!({"choices": [choice]}))
    });
    let remote = Remote::new(settings(&[&mock.url()])).unwrap();
    let replies = ask(&remote, &[text_question(&[" (A)", " (B)"]), text_question(&[])]).unwrap();
    assert_eq!(replies[0], Ok(Reply::Options(vec![-0.25, -1.5])));
    assert_eq!(text(&replies[1]), "A");
    assert_eq!(mock.paths(), ["/v1/completions", "/v1/completions"]);
    assert_eq!(mock.asked()[0]["prompt"], "\n\nHuman: Is it?\n\nThe answer is: (");
    assert_eq!(
        (&mock.asked()[0]["logprobs"], &mock.asked()[0]["stop"]),
        (&json!(20), &json!(["\n\nHuman:"]))
    );
    assert_eq!(mock.asked()[1]["prompt"], "\n\nHuman: Is it?\n\nThe answer is:");
    assert_eq!(remote.shows_log_probs(Interface::Completions).unwrap(), Some(true));
    assert_eq!(remote.shows_log_probs(Interface::Chat).unwrap(), None, "that is another interface");
    let shown = remote.probe(Interface::Completions).unwrap().to_string();
    assert!(shown.contains("continues texts, log-probs of 2 tokens"), "{shown}");
}

#[test]
fn a_server_that_only_chats_says_so_of_texts() {
    for reply in [status(404, "{}"), status(405, "{}"), status(501, "{}")] {
        let mock = Mock::start(move |_, _| reply.clone());
        let error = asked(&mock.url(), &[text_question(&[])]).unwrap_err().to_string();
        assert!(error.contains("hint: does the server continue texts? Many only chat."), "{error}");
    }
    let anthropic = RemoteSettings { provider: Provider::Anthropic, ..settings(&["http://127.0.0.1:1"]) };
    let replies = ask(&Remote::new(anthropic).unwrap(), &[text_question(&[])]).unwrap();
    assert!(replies[0].as_ref().unwrap_err().reason.contains("continue no text"), "{replies:?}");
}

#[test]
fn a_parameter_that_a_model_does_not_know_is_changed_once() {
    let refused = |parameter: &str, instead: &str| {
        let what =
            format!("Unsupported parameter: '{parameter}' is not supported with this model. {instead}");
        status(400, &json!({"error": {"message": what, "param": parameter}}).to_string())
    };
    let mock = Mock::start(move |body, _| match body {
        body if body.get("max_tokens").is_some() => {
            refused("max_tokens", "Use 'max_completion_tokens' instead.")
        }
        body if body.get("temperature").is_some() => refused("temperature", ""),
        _ => said("yes"),
    });
    let remote = Remote::new(settings(&[&mock.url()])).unwrap();
    assert!(ask(&remote, &questions(2)).unwrap().iter().all(|reply| text(reply) == "yes"));
    let bodies = mock.asked();
    assert_eq!(bodies.len(), 4);
    assert!(
        bodies[2..]
            .iter()
            .all(|body| body["max_completion_tokens"] == 4 && body["temperature"] == Value::Null)
    );
    let usage = remote.usage();
    assert_eq!((usage.sent, usage.retried), (4, 2));
    let notes = usage.notes();
    assert!(notes[0].ends_with("asked with max_completion_tokens instead of max_tokens"), "{notes:?}");
    assert!(notes[1].contains("the server's own temperature"), "{notes:?}");
}

#[test]
fn what_a_server_can_do_is_found_out_once() {
    let mock = Mock::start(|body, _| match body {
        Value::Null => status(200, "{\"data\": [{\"id\": \"judge\"}, {\"id\": \"other\"}]}"),
        _ => weighed(&[("Yes", -0.5), ("No", -1.5)]),
    });
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let remote = Remote::new(settings(&[&mock.url(), &format!("http://{free}")])).unwrap();
    let found = remote.probe(Interface::Chat).unwrap();
    let first = &found.endpoints[0];
    assert_eq!((&first.answers, first.log_probs), (&Ok(()), 2));
    assert_eq!(first.models.as_deref().unwrap(), ["judge", "other"]);
    let shown = found.to_string();
    assert!(shown.contains("log-probs of 2 tokens; models: judge, other"), "{shown}");
    assert!(shown.contains("is the server running?"), "{shown}");
    assert_eq!(remote.probe(Interface::Chat).unwrap(), found);
    assert_eq!(mock.paths(), ["/v1/chat/completions", "/v1/models"]);
    assert_eq!(remote.usage().tokens, Tokens { input: 10, output: 2 });
    let mock = Mock::start(|_, _| status(401, "{}"));
    let error = Remote::new(settings(&[&mock.url()])).unwrap().probe(Interface::Chat).unwrap_err();
    assert!(error.to_string().contains("HTTP 401"), "{error}");
}
