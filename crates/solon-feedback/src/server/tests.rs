use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

/// A server that gives these replies one after the other, over and over from the last: each a status line's end with
/// headers, and a body. Returns its address and what it was asked.
fn server(replies: &[(&str, String)]) -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (replies, log) = (
        replies.iter().map(|(head, body)| ((*head).to_owned(), body.clone())).collect::<Vec<_>>(),
        asked.clone(),
    );
    std::thread::spawn(move || {
        for (place, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            log.lock().unwrap().push((head, serde_json::from_slice(&body).unwrap_or(Value::Null)));
            let (status, text) = &replies[place.min(replies.len() - 1)];
            if status.is_empty() {
                continue; // the connection breaks off
            }
            let sent = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
            let _ = stream.write_all(sent.as_bytes());
        }
    });
    (address, asked)
}

fn said(text: &str) -> String {
    json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
        .to_string()
}

fn question(id: &str, options: &[&str]) -> ServerQuestion {
    ServerQuestion {
        id: id.to_owned(),
        messages: vec![Message::system("Judge."), Message::user("Is it?")],
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        max_new_tokens: 4,
        temperature: 0.0,
        sample: 0,
    }
}

fn asked(url: &str, questions: &[ServerQuestion]) -> Result<Vec<Result<ServerReply, String>>, String> {
    let settings = ServerSettings {
        key: Some("secret".to_owned()),
        concurrency: 1,
        retries: 2,
        timeout: Duration::from_secs(2),
        timeout_per_token: Duration::ZERO,
        ..ServerSettings::new("judge", url)
    };
    Server::new(settings).unwrap().ask(questions, &|| false).map_err(|error| error.to_string())
}

#[test]
fn a_conversation_is_sent_as_the_protocol_says() {
    let (url, log) = server(&[("200 OK", said("yes"))]);
    let replies = asked(&url, &[question("1", &[])]).unwrap();
    assert_eq!(replies, [Ok(ServerReply::Said { text: "yes".to_owned(), truncated: false })]);
    let (head, body) = log.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer secret"), "{head}");
    let expected = json!({
        "model": "judge",
        "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Is it?"}],
        "max_tokens": 4, "temperature": 0.0, "stream": false,
    });
    assert_eq!(body, expected);
    let (url, log) = server(&[("200 OK", said("yes"))]);
    asked(&format!("{url}/api/v3/"), &[question("1", &[])]).unwrap();
    assert!(log.lock().unwrap()[0].0.starts_with("POST /api/v3/chat/completions "));
}

#[test]
fn options_are_read_from_log_probs_or_from_the_text() {
    let listed = |tokens: Value| {
        json!({"choices": [{"message": {"content": "yes"}, "finish_reason": "length",
            "logprobs": {"content": [{"token": "yes", "logprob": -0.1, "top_logprobs": tokens}]}}]})
        .to_string()
    };
    let tokens = json!([{"token": "yes", "logprob": -1.0}, {"token": " Yes", "logprob": -1.0}, {"token": "x", "logprob": -4.0}]);
    let (url, log) = server(&[("200 OK", listed(tokens))]);
    let replies = asked(&url, &[question("1", &["yes", "no"])]).unwrap();
    let Ok(ServerReply::Options(log_probs)) = &replies[0] else { panic!("{replies:?}") };
    assert!(
        (log_probs[0] - (2.0 * (-1.0_f64).exp()).ln()).abs() < 1e-12 && log_probs[1] == UNLISTED,
        "{log_probs:?}"
    );
    assert_eq!(log.lock().unwrap()[0].1["top_logprobs"], 20);
    // One token is listed, and it is the less liked of the two options.
    let (url, _) = server(&[("200 OK", listed(json!([{"token": "no", "logprob": -0.01}])))]);
    let replies = asked(&url, &[question("1", &["yes", "no"])]).unwrap();
    assert_eq!(replies[0], Ok(ServerReply::Options(vec![UNLISTED, (-0.01_f64).exp().ln()])));
    for tokens in [
        json!([]),
        json!([{"token": "maybe", "logprob": -0.1}]),
        json!([{"token": "I", "logprob": -0.001}, {"token": "no", "logprob": -9.0}]),
        json!([{"token": "yes", "logprob": 1e308}]),
        json!([{"token": "yes", "logprob": null}]),
    ] {
        let (url, _) = server(&[("200 OK", listed(tokens))]);
        match asked(&url, &[question("1", &["yes", "no"])]) {
            Ok(replies) => {
                let said = ServerReply::Said { text: "yes".to_owned(), truncated: true };
                assert_eq!(replies, [Ok(said)]);
            }
            Err(reason) => assert!(reason.contains("no chat completion"), "{reason}"),
        }
    }
    // A server that shows no log-probs is asked without them, once and for all.
    let (url, log) = server(&[
        ("400 Bad Request", json!({"error": "logprobs are not supported"}).to_string()),
        ("200 OK", said("no")),
    ]);
    let replies = asked(&url, &[question("1", &["yes", "no"]), question("2", &["yes", "no"])]).unwrap();
    assert!(replies.iter().all(|reply| matches!(reply, Ok(ServerReply::Said { text, .. }) if text == "no")));
    let log = log.lock().unwrap();
    assert_eq!(
        log.iter().map(|(_, body)| body.get("logprobs").is_some()).collect::<Vec<_>>(),
        [true, false, false]
    );
}

#[test]
fn what_passes_is_asked_again_and_what_lasts_fails_alone() {
    let busy = ("429 Too Many Requests\r\nRetry-After: 0", "{}".to_owned());
    let (url, log) = server(&[busy.clone(), ("503 Busy", String::new()), ("200 OK", said("yes"))]);
    assert!(asked(&url, &[question("1", &[])]).unwrap()[0].is_ok());
    assert_eq!(log.lock().unwrap().len(), 3);
    let (url, _) = server(&[("", String::new()), ("200 OK", said("yes"))]);
    assert!(asked(&url, &[question("1", &[])]).unwrap()[0].is_ok());
    for (reply, part) in [
        (busy, "HTTP 429"),
        (("400 Bad Request", "{\"error\": \"too\nlong\"}".to_owned()), "HTTP 400: {\"error\": \"too long\"}"),
        (("200 OK", "<html>".to_owned()), "no chat completion"),
        (("200 OK", "{\"choices\": []}".to_owned()), "no choices"),
        (("200 OK", "{\"choices\": [{\"message\": {}}]}".to_owned()), "no content"),
    ] {
        let yes = ("200 OK", said("yes"));
        let mut script = vec![yes];
        script.resize(4, reply.clone());
        let (url, _) = server(&script);
        let replies = asked(&url, &[question("1", &[]), question("2", &[])]).unwrap();
        assert!(replies[0].is_ok());
        let reason = replies[1].as_ref().unwrap_err();
        assert!(reason.contains(part) && !reason.contains("secret"), "{part}: {reason}");
        // Of a server that never replied, the same is an error for all.
        let (url, _) = server(&[reply]);
        let error = asked(&url, &[question("1", &[]), question("2", &[])]).unwrap_err();
        assert!(error.contains(part) && error.contains(&url), "{error}");
    }
}

#[test]
fn nothing_is_asked_after_a_stop() {
    let (url, log) = server(&[("200 OK", said("yes"))]);
    let server = Server::new(ServerSettings::new("judge", url)).unwrap();
    let replies = server.ask(&[question("1", &[])], &|| true).unwrap();
    assert!(replies[0].is_err() && log.lock().unwrap().is_empty());
}

/// The server asks one question to wait a minute, and then does not know the key of the other: nobody waits the minute.
#[test]
fn a_wait_ends_with_the_asking() {
    let busy = ("429 Too Many Requests\r\nRetry-After: 60", "{}".to_owned());
    let (url, log) = server(&[busy.clone(), ("401 Unauthorized", "{}".to_owned())]);
    let settings = ServerSettings { concurrency: 2, ..ServerSettings::new("judge", url) };
    let questions = [question("1", &[]), question("2", &[])];
    let error = Server::new(settings).unwrap().ask(&questions, &|| false).unwrap_err();
    assert!(error.to_string().contains("HTTP 401"), "{error}");
    assert_eq!(log.lock().unwrap().len(), 2);
    // The caller's wish ends it as well, once the server has asked to wait.
    let (url, log) = server(&[busy]);
    let server = Server::new(ServerSettings::new("judge", url)).unwrap();
    let replies = server.ask(&questions[..1], &|| !log.lock().unwrap().is_empty()).unwrap();
    assert!(replies[0].is_err());
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[test]
fn what_fails_for_all_is_one_error() {
    for (reply, part) in [
        ("401 Unauthorized", "OPENAI_API_KEY"),
        ("404 Not Found", "`judge`"),
        ("308 Permanent Redirect\r\nLocation: https://elsewhere/", "is the address right?"),
    ] {
        let (url, log) = server(&[(reply, "{}".to_owned())]);
        let error = asked(&url, &[question("1", &[]), question("2", &[])]).unwrap_err();
        assert!(error.contains(part) && error.contains(&url) && !error.contains("secret"), "{error}");
        assert_eq!(log.lock().unwrap().len(), 1);
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = asked(&format!("http://{free}"), &[question("1", &[])]).unwrap_err();
    assert!(error.contains("hint: is the server running?"), "{error}");
    for bad in ["127.0.0.1:80", "ftp://host", "http://", "http://key@host", "http://host/v1?x=1"] {
        assert!(Server::new(ServerSettings::new("judge", bad)).is_err(), "{bad}");
    }
    assert!(Server::new(ServerSettings::new("", "http://host")).is_err());
    let with_key =
        |url: &str| ServerSettings { key: Some("secret".to_owned()), ..ServerSettings::new("judge", url) };
    assert!(
        Server::new(with_key("http://host/v1")).is_err() && Server::new(with_key("https://host/v1")).is_ok()
    );
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = ServerSettings {
        retries: 0,
        timeout: Duration::from_millis(50),
        timeout_per_token: Duration::from_millis(50),
        ..ServerSettings::new("judge", url)
    };
    let error = Server::new(settings).unwrap().ask(&[question("1", &[])], &|| false).unwrap_err();
    assert!(error.to_string().contains("0.2 seconds"), "{error}");
}
