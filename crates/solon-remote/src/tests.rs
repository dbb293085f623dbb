//! The whole crate against servers that behave in every way that servers do.

mod budget;
mod endpoints;
mod faults;
mod forms;
mod recorded;
mod servers;

use crate::*;
use servers::{Mock, said};
use solon_records::Message;
use std::sync::Mutex;
use std::time::Duration;

fn question(id: &str, options: &[&str]) -> Question {
    Question {
        id: id.to_owned(),
        context: vec![Message::system("Judge."), Message::user(format!("Is it {id}?"))].into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        max_new_tokens: 4,
        temperature: 0.0,
        stop: Vec::new(),
        sample: 0,
    }
}

fn questions(n: usize) -> Vec<Question> {
    (0..n).map(|at| question(&at.to_string(), &[])).collect()
}

/// Settings of a patient caller in a hurry: with a key, one question at a time.
fn settings(urls: &[&str]) -> RemoteSettings {
    RemoteSettings {
        key: Some("sk-the-secret".to_owned()),
        concurrency: 1,
        retries: 2,
        timeout: Duration::from_secs(5),
        timeout_per_token: Duration::ZERO,
        ..RemoteSettings::new(Provider::OpenAi, "judge", urls.iter().map(|url| (*url).to_owned()).collect())
    }
}

fn ask(remote: &Remote, questions: &[Question]) -> Result<Vec<Result<Reply, Unanswered>>, RemoteError> {
    remote.ask(questions, &|| false, &|_| {})
}

fn asked(url: &str, questions: &[Question]) -> Result<Vec<Result<Reply, Unanswered>>, RemoteError> {
    ask(&Remote::new(settings(&[url])).unwrap(), questions)
}

fn text(reply: &Result<Reply, Unanswered>) -> &str {
    match reply {
        Ok(Reply::Said { text, .. }) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_are_in_the_order_of_the_questions_and_progress_adds_up() {
    let mock = Mock::start(|body, _| said(body["messages"][1]["content"].as_str().unwrap()));
    let remote = Remote::new(RemoteSettings { concurrency: 7, ..settings(&[&mock.url()]) }).unwrap();
    let mut asked = questions(40);
    asked.push(question("3", &[]));
    let done = Mutex::new(0);
    let replies = remote.ask(&asked, &|| false, &|n| *done.lock().unwrap() += n).unwrap();
    for (reply, question) in replies.iter().zip(&asked) {
        assert_eq!(text(reply), question.context.messages().unwrap()[1].content);
    }
    assert_eq!(*done.lock().unwrap(), 41);
    // The last is the same as one before, and was asked once.
    assert_eq!(mock.asked().len(), 40);
    let usage = remote.usage();
    assert_eq!((usage.sent, usage.retried, usage.recorded, usage.untold), (40, 0, 0, 0));
    assert_eq!(usage.tokens, Tokens { input: 400, output: 80 });
}

#[test]
fn nothing_is_asked_after_a_stop() {
    let mock = Mock::start(|_, _| said("yes"));
    let remote = Remote::new(settings(&[&mock.url()])).unwrap();
    let replies = remote.ask(&questions(2), &|| true, &|_| {}).unwrap();
    assert!(replies.iter().all(|reply| reply.as_ref().unwrap_err().kind == UnansweredKind::NotAsked));
    assert!(mock.asked().is_empty());
}

#[test]
fn what_no_server_can_answer_is_refused_by_name() {
    let remote = Remote::new(settings(&["http://127.0.0.1:1"])).unwrap();
    for (change, part) in [
        ((|q| q.context = Vec::new().into()) as fn(&mut Question), "no messages"),
        (|q| q.context = String::new().into(), "no text"),
        (|q| q.max_new_tokens = 0, "no new tokens"),
        (|q| q.temperature = f32::NAN, "temperature"),
        (|q| q.temperature = -1.0, "temperature"),
    ] {
        let mut question = question("q7", &[]);
        change(&mut question);
        let error = ask(&remote, &[question]).unwrap_err().to_string();
        assert!(error.contains("`q7`") && error.contains(part), "{error}");
    }
}

/// A run that was judged there can be read without the key; nothing is sent without it.
#[test]
fn a_key_that_is_known_to_be_needed_is_asked_for_before_anything_is_sent() {
    let urls = vec!["https://api.anthropic.com".to_owned()];
    let remote = Remote::new(RemoteSettings::new(Provider::Anthropic, "claude", urls)).unwrap();
    assert_eq!(ask(&remote, &[]), Ok(Vec::new()));
    for error in [ask(&remote, &questions(1)).unwrap_err(), remote.probe(Interface::Chat).unwrap_err()] {
        assert!(error.to_string().contains("needs one in ANTHROPIC_API_KEY"), "{error}");
    }
    assert_eq!(remote.usage().sent, 0);
}

#[test]
fn settings_that_leave_nothing_to_ask_are_refused() {
    let url = "http://127.0.0.1:1";
    let budget = |budget| Some(Budget { max_tokens: Some(1), ..budget });
    let record = || Some(std::path::PathBuf::from("/nowhere/answers.jsonl"));
    let base = || settings(&[url]);
    for (wrong, part) in [
        (RemoteSettings { model: String::new(), ..base() }, "model"),
        (RemoteSettings { urls: Vec::new(), ..base() }, "address"),
        (RemoteSettings { urls: vec![url.to_owned(), url.to_owned()], ..base() }, "twice"),
        (RemoteSettings { urls: vec!["host".to_owned()], ..base() }, "http://"),
        (RemoteSettings { urls: vec!["http://host".to_owned()], ..base() }, "https"),
        (RemoteSettings { key: Some("sk-the\nsecret".to_owned()), ..base() }, "OPENAI_API_KEY"),
        (RemoteSettings { concurrency: 0, ..base() }, "concurrency"),
        (RemoteSettings { timeout: Duration::ZERO, ..base() }, "timeout"),
        (RemoteSettings { requests_per_minute: Some(0), ..base() }, "requests"),
        (RemoteSettings { tokens_per_minute: Some(0), ..base() }, "tokens"),
        (RemoteSettings { budget: budget(Budget::default()), ..base() }, "record"),
        (RemoteSettings { budget: Some(Budget::default()), answers: record(), ..base() }, "budget"),
        (
            RemoteSettings {
                budget: budget(Budget { price_in: f64::NAN, ..Budget::default() }),
                answers: record(),
                ..base()
            },
            "price",
        ),
        (
            RemoteSettings {
                budget: Some(Budget { max_cost: Some(1.0), ..Budget::default() }),
                answers: record(),
                ..base()
            },
            "prices",
        ),
        (RemoteSettings { answers: record(), ..base() }, "/nowhere/answers.jsonl"),
    ] {
        let error = Remote::new(wrong).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains("secret"), "{part}: {error}");
    }
}

#[test]
fn a_key_is_sent_and_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    let mock = Mock::start(|_, at| match at {
        0 => said("yes"),
        // A server may repeat what it was sent.
        _ => servers::status(400, "{\"error\": \"Bearer sk-the-secret is not enough\"}"),
    });
    let settings = RemoteSettings { answers: Some(answers.clone()), ..settings(&[&mock.url()]) };
    assert!(!format!("{settings:?}").contains("secret"));
    let remote = Remote::new(settings).unwrap();
    let replies = ask(&remote, &questions(2)).unwrap();
    let reason = &replies[1].as_ref().unwrap_err().reason;
    assert!(reason.contains("Bearer (the key) is not enough"), "{reason}");
    assert!(!format!("{remote:?} {:?}", remote.usage()).contains("secret"));
    assert!(!std::fs::read_to_string(answers).unwrap().contains("secret"));
    let heads = mock.heads("authorization");
    assert_eq!(heads, ["Bearer sk-the-secret", "Bearer sk-the-secret"]);
}
