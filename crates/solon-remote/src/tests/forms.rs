//! What is sent, and how a server's wishes change it.

use super::servers::{Mock, completion, said, status};
use super::*;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

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
    let mock = Mock::start(|_, _| {
        let mut whole = completion("yes");
        let first = json!([{"token": "yes", "logprob": -0.5}, {"token": "no", "logprob": -1.5}]);
        whole["choices"][0]["logprobs"] = json!({"content": [{"token": "yes", "top_logprobs": first}]});
        ResponseTemplate::new(200).set_body_json(whole)
    });
    let replies = asked(&mock.url(), &[question("1", &["yes", "no"])]).unwrap();
    let Ok(Reply::Options(log_probs)) = &replies[0] else { panic!("{replies:?}") };
    assert!((log_probs[0] + 0.5).abs() < 1e-12 && (log_probs[1] + 1.5).abs() < 1e-12, "{log_probs:?}");
    assert_eq!(mock.asked()[0]["top_logprobs"], 20);
    // A server that shows none is asked without them, once and for all.
    let mock = Mock::start(|body, _| match body.get("logprobs") {
        Some(_) => status(400, "{\"error\": \"logprobs are not supported\"}"),
        None => said("no"),
    });
    let replies =
        asked(&mock.url(), &[question("1", &["yes", "no"]), question("2", &["yes", "no"])]).unwrap();
    assert!(replies.iter().all(|reply| text(reply) == "no"));
    let with: Vec<bool> = mock.asked().iter().map(|body| body.get("logprobs").is_some()).collect();
    assert_eq!(with, [true, false, false]);
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
        _ => {
            let mut whole = completion("Yes");
            let first = json!([{"token": "Yes", "logprob": -0.5}, {"token": "No", "logprob": -1.5}]);
            whole["choices"][0]["logprobs"] = json!({"content": [{"top_logprobs": first}]});
            ResponseTemplate::new(200).set_body_json(whole)
        }
    });
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let remote = Remote::new(settings(&[&mock.url(), &format!("http://{free}")])).unwrap();
    let found = remote.probe().unwrap();
    let first = &found.endpoints[0];
    assert_eq!((&first.chat, first.log_probs), (&Ok(()), 2));
    assert_eq!(first.models.as_deref().unwrap(), ["judge", "other"]);
    let shown = found.to_string();
    assert!(shown.contains("log-probs of 2 tokens; models: judge, other"), "{shown}");
    assert!(shown.contains("is the server running?"), "{shown}");
    assert_eq!(remote.probe().unwrap(), found);
    assert_eq!(mock.paths(), ["/v1/chat/completions", "/v1/models"]);
    assert_eq!(remote.usage().tokens, Tokens { input: 10, output: 2 });
    let mock = Mock::start(|_, _| status(401, "{}"));
    let error = Remote::new(settings(&[&mock.url()])).unwrap().probe().unwrap_err();
    assert!(error.to_string().contains("HTTP 401"), "{error}");
}
