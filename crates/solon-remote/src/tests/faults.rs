//! Every fault of a server: what passes is asked again, what lasts fails alone, and what fails for all is one error.

use super::servers::{Mock, bytes, completion, pair, raw, said, status};
use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wiremock::ResponseTemplate;

#[test]
fn what_passes_is_asked_again() {
    for passing in [408, 409, 429, 500, 502, 503, 504, 529] {
        let mock = Mock::start(move |_, at| match at {
            0 => status(passing, "{}").insert_header("retry-after", "0"),
            _ => said("yes"),
        });
        let remote = Remote::new(settings(&[&mock.url()])).unwrap();
        assert_eq!(text(&ask(&remote, &questions(1)).unwrap()[0]), "yes", "HTTP {passing}");
        let usage = remote.usage();
        // The refusal cost nothing.
        assert_eq!((usage.sent, usage.retried, usage.untold), (2, 1, 0), "HTTP {passing}");
    }
}

/// A connection that closes before the reply, in its head, in its body, and a body that ends early by its own count.
#[test]
fn what_breaks_off_is_asked_again_and_counts_as_perhaps_paid() {
    let whole = completion("yes").to_string();
    let cut = &whole[..whole.len() - 9];
    for broken in [Vec::new(), b"HTTP/1.1 200 O".to_vec(), bytes(&whole, 40), bytes(cut, cut.len())] {
        let shown = String::from_utf8_lossy(&broken).into_owned();
        let (url, came) = raw(vec![broken, bytes(&whole, whole.len())]);
        let remote = Remote::new(settings(&[&url])).unwrap();
        assert_eq!(text(&ask(&remote, &questions(1)).unwrap()[0]), "yes", "{shown}");
        let usage = remote.usage();
        assert_eq!((usage.sent, usage.retried, usage.untold), (2, 1, 1), "{shown}");
        assert_eq!(came.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn a_server_that_hangs_or_drips_is_given_up() {
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let dripping = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let urls = [address(&hanging), address(&dripping)];
    std::thread::spawn(move || {
        for stream in dripping.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            // A byte each time that nothing was heard for so long, until the client hangs up.
            while stream.write_all(b" ").is_ok() && !matches!(stream.read(&mut [0; 4096]), Ok(0)) {}
        }
    });
    for url in urls {
        let settings = RemoteSettings {
            retries: 1,
            timeout: Duration::from_millis(50),
            timeout_per_token: Duration::from_millis(50),
            ..settings(&[&url])
        };
        let remote = Remote::new(settings).unwrap();
        let error = ask(&remote, &questions(1)).unwrap_err().to_string();
        assert!(error.contains("no reply within 0.2 seconds") && error.contains(&url), "{error}");
        assert_eq!(remote.usage().untold, 2);
    }
}

#[test]
fn what_lasts_fails_alone_and_is_not_asked_again() {
    let huge = "x".repeat(9 << 20);
    for (reply, kind, part) in [
        (status(400, "{\"error\": \"too\\nlong\"}"), UnansweredKind::Refused, "HTTP 400: too long"),
        (status(422, "too\nlong\u{1b}[2J"), UnansweredKind::Refused, "HTTP 422: too long [2J"),
        // The number of a request is another each time, and no reason.
        (
            status(
                400,
                "{\"error\": {\"type\": \"invalid_request_error\", \"message\": \"no such model\"}, \"request_id\": \"req_1\"}",
            ),
            UnansweredKind::Refused,
            "HTTP 400: no such model",
        ),
        (status(413, ""), UnansweredKind::Refused, "HTTP 413"),
        (
            ResponseTemplate::new(200).set_body_raw("<html>Log in", "text/html"),
            UnansweredKind::Malformed,
            "content type text/html: <html>Log in",
        ),
        (status(200, "{\"choices\": []}"), UnansweredKind::Malformed, "no choices"),
        (
            ResponseTemplate::new(200).set_body_raw(b"{\"\xff\"}".to_vec(), "application/json"),
            UnansweredKind::Malformed,
            "not UTF-8",
        ),
        (ResponseTemplate::new(200).set_body_string(huge), UnansweredKind::TooLarge, "8 MiB"),
        (said(""), UnansweredKind::Empty, "no text"),
        (
            status(200, "{\"choices\": [{\"message\": {\"content\": null, \"reasoning_content\": \"Hm\"}}]}"),
            UnansweredKind::Empty,
            "no text",
        ),
        (
            status(
                200,
                "{\"choices\": [{\"message\": {\"content\": \"a\"}, \"finish_reason\": \"content_filter\"}]}",
            ),
            UnansweredKind::Declined,
            "withheld",
        ),
    ] {
        let mock = Mock::start(move |_, at| if at == 1 { reply.clone() } else { said("yes") });
        let replies = asked(&mock.url(), &questions(3)).unwrap();
        assert!(replies[0].is_ok() && replies[2].is_ok());
        let unanswered = replies[1].as_ref().unwrap_err();
        assert_eq!(unanswered.kind, kind, "{unanswered:?}");
        assert!(unanswered.reason.contains(part), "{part}: {unanswered}");
        assert_eq!(mock.asked().len(), 3);
    }
}

/// It works, and takes none of these questions: each has its own reason.
#[test]
fn a_server_that_refuses_everything_is_no_error() {
    for refused in [400, 413, 422] {
        let mock = Mock::start(move |_, _| status(refused, "{\"error\": \"no\"}"));
        let replies = asked(&mock.url(), &questions(20)).unwrap();
        let is_refused = |reply: &Result<Reply, Unanswered>| matches!(reply, Err(Unanswered { kind: UnansweredKind::Refused, reason }) if reason.contains("no"));
        assert!(replies.iter().all(is_refused), "HTTP {refused}: {replies:?}");
        assert_eq!(mock.asked().len(), 20);
    }
    // A dead one is an error at the eighth question, unless it refuses some in between.
    let dead = |refuses: bool| {
        Mock::start(move |body, _| match body["messages"][1]["content"].as_str().unwrap() {
            "Is it 0?" => said("yes"),
            "Is it 5?" if refuses => status(400, "{}"),
            _ => status(500, "{}"),
        })
    };
    let ask_of = |mock: &Mock| {
        ask(&Remote::new(RemoteSettings { retries: 0, ..settings(&[&mock.url()]) }).unwrap(), &questions(12))
    };
    let error = ask_of(&dead(false)).unwrap_err().to_string();
    assert!(error.contains("8 questions in a row"), "{error}");
    assert_eq!(ask_of(&dead(true)).unwrap().iter().filter(|reply| reply.is_err()).count(), 11);
}

#[test]
fn what_stays_busy_has_no_reply_and_the_others_go_on() {
    let mock = Mock::start(|body, _| match body["messages"][1]["content"] == "Is it 1?" {
        true => status(429, "{}").insert_header("retry-after-ms", "1"),
        false => said("yes"),
    });
    let replies = asked(&mock.url(), &questions(3)).unwrap();
    assert!(replies[0].is_ok() && replies[2].is_ok());
    let unanswered = replies[1].as_ref().unwrap_err();
    assert!(
        unanswered.kind == UnansweredKind::NoReply && unanswered.reason.contains("HTTP 429"),
        "{unanswered:?}"
    );
    // Once, and two retries.
    assert_eq!(mock.asked().len(), 5);
}

#[test]
fn what_fails_for_all_is_one_error() {
    for (reply, part) in [
        (status(401, "{}"), "OPENAI_API_KEY"),
        (status(403, "{}"), "OPENAI_API_KEY"),
        (status(404, "{}"), "`judge`"),
        (status(405, "{}"), "is the address right?"),
        (status(402, "{\"error\": \"pay\"}"), "pay"),
        (status(308, "{}").insert_header("location", "https://elsewhere/"), "is the address right?"),
        (status(429, "{\"error\": {\"code\": \"insufficient_quota\"}}"), "insufficient_quota"),
        (status(429, "{}").insert_header("retry-after", "86400"), "86400 seconds"),
        // Of a server that never replied, what fails is more than one question.
        (ResponseTemplate::new(200).set_body_raw("<html>", "text/html"), "no chat completion"),
    ] {
        let mock = Mock::start(move |_, _| reply.clone());
        let error = asked(&mock.url(), &questions(2)).unwrap_err().to_string();
        let is_known = error.contains("86399 seconds") && part.starts_with("86400");
        assert!((error.contains(part) || is_known) && error.contains(&mock.url()), "{part}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let mock = Mock::start(|_, _| status(401, "{}"));
    asked(&mock.url(), &questions(5)).unwrap_err();
    assert_eq!(mock.asked().len(), 1);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = asked(&format!("http://{free}"), &questions(1)).unwrap_err().to_string();
    assert!(error.contains("hint: is the server running?"), "{error}");
}

/// The server asks one question to wait a minute, and then does not know the key of the other: nobody waits the minute.
#[test]
fn a_wait_ends_with_the_asking() {
    let reply = |head: &str| format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n").into_bytes();
    let (url, came) = pair([reply("429 Busy\r\nRetry-After: 60"), reply("401 Unauthorized")]);
    let settings_of = |url: &str| RemoteSettings { concurrency: 2, ..settings(&[url]) };
    let error = ask(&Remote::new(settings_of(&url)).unwrap(), &questions(2)).unwrap_err();
    assert!(error.to_string().contains("HTTP 401"), "{error}");
    assert_eq!(came.load(Ordering::SeqCst), 2);
    // The caller's wish ends it as well, once the server has asked to wait.
    let mock = Mock::start(|_, _| status(429, "{}").insert_header("retry-after", "60"));
    let remote = Remote::new(settings_of(&mock.url())).unwrap();
    let has_come = || !mock.asked().is_empty();
    let replies = remote.ask(&questions(1), &has_come, &|_| {}).unwrap();
    assert_eq!(replies[0].as_ref().unwrap_err().kind, UnansweredKind::NotAsked);
    assert_eq!(mock.asked().len(), 1);
}

#[test]
fn a_limit_per_minute_is_kept() {
    let mock = Mock::start(|_, _| said("yes"));
    let settings = RemoteSettings { requests_per_minute: Some(2), ..settings(&[&mock.url()]) };
    let remote = Remote::new(settings).unwrap();
    // The wait of the third question glances at the wish to stop ten times a second; what is sent, once or twice in all.
    let glances = Mutex::new(0);
    let stop = || {
        let mut glances = glances.lock().unwrap();
        *glances += usize::from(mock.asked().len() >= 2);
        *glances > 8
    };
    let replies = remote.ask(&questions(3), &stop, &|_| {}).unwrap();
    assert!(replies[0].is_ok() && replies[1].is_ok());
    assert_eq!(replies[2].as_ref().unwrap_err().kind, UnansweredKind::NotAsked);
    assert_eq!(mock.asked().len(), 2);
}

/// A server with a certificate that nobody vouches for, and one that does not speak TLS: neither sees the key.
#[test]
fn a_connection_that_is_not_secure_is_refused() {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut connection = rustls::ServerConnection::new(config.clone()).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        }
    });
    let error = asked(&format!("https://localhost:{port}/v1"), &questions(2)).unwrap_err().to_string();
    assert!(error.contains("no secure connection") && error.contains("certificate"), "{error}");
    let (plain, came) = raw(vec![b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec()]);
    let error = asked(&plain.replace("http://", "https://"), &questions(2)).unwrap_err().to_string();
    assert!(error.contains("no secure connection"), "{error}");
    assert!(!error.contains("secret") && came.load(Ordering::SeqCst) <= 1);
}
