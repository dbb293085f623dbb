//! The record: nothing that was answered is asked again.

use super::servers::{Mock, completion, said, status};
use super::*;
use serde_json::json;
use std::path::Path;
use wiremock::ResponseTemplate;

fn recording(url: &str, answers: &Path) -> Remote {
    let answers = Some(answers.to_owned());
    Remote::new(RemoteSettings { concurrency: 4, answers, ..settings(&[url]) }).unwrap()
}

#[test]
fn what_is_recorded_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    let mock = Mock::start(|body, _| said(body["messages"][1]["content"].as_str().unwrap()));
    let first = ask(&recording(&mock.url(), &answers), &questions(20)).unwrap();
    // Another server, which would say something else: the address is no part of what an answer depends on.
    let other = Mock::start(|_, _| said("other"));
    let remote = recording(&other.url(), &answers);
    let done = Mutex::new(0);
    let again = remote.ask(&questions(21), &|| false, &|n| *done.lock().unwrap() += n).unwrap();
    assert_eq!(again[..20], first);
    assert_eq!((text(&again[20]), other.asked().len(), *done.lock().unwrap()), ("other", 1, 21));
    let usage = remote.usage();
    assert_eq!((usage.recorded, usage.sent, usage.earlier.total(), usage.tokens.total()), (20, 1, 240, 12));
    // Within one process as well, and where the wish is to stop.
    assert_eq!(remote.ask(&questions(21), &|| true, &|_| {}).unwrap(), again);
    assert_eq!(other.asked().len(), 1);
}

#[test]
fn samples_are_apart_and_options_share_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mock = Mock::start(|_, at| {
        let mut whole = completion(&format!("reply {at}"));
        let first = json!([{"token": "A", "logprob": -0.5}, {"token": "B", "logprob": -1.5}]);
        whole["choices"][0]["logprobs"] = json!({"content": [{"top_logprobs": first}]});
        ResponseTemplate::new(200).set_body_json(whole)
    });
    let remote = recording(&mock.url(), &folder.path().join("answers.jsonl"));
    let warm = |sample| Question { temperature: 0.7, sample, ..question("1", &[]) };
    let replies = ask(&remote, &[warm(0), warm(1), warm(0)]).unwrap();
    assert!(text(&replies[0]) == text(&replies[2]) && text(&replies[0]) != text(&replies[1]));
    assert_eq!(mock.asked().len(), 2);
    let by_options = [question("1", &["A", "B"]), question("1", &["B", "A"]), question("1", &["yes"])];
    let replies = ask(&remote, &by_options).unwrap();
    let (Ok(Reply::Options(ab)), Ok(Reply::Options(ba))) = (&replies[0], &replies[1]) else {
        panic!("{replies:?}")
    };
    assert!(ab[0] == ba[1] && ab[1] == ba[0]);
    assert_eq!(text(&replies[2]), "reply 2");
    assert_eq!(mock.asked().len(), 3);
}

/// What one server of several shows is known from the record, without asking any.
#[test]
fn the_record_tells_that_log_probs_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    let mock = Mock::start(|_, _| said("A"));
    let (chosen, plain) = (question("1", &["A", "B"]), question("2", &[]));
    ask(&recording(&mock.url(), &answers), &[chosen.clone(), plain.clone()]).unwrap();
    let before = mock.asked().len();
    let shown = |questions: &[Question]| {
        let urls = [mock.url(), format!("{}/v1", mock.url())];
        let answers = Some(answers.clone());
        let remote = Remote::new(RemoteSettings { answers, ..settings(&[&urls[0], &urls[1]]) }).unwrap();
        let recorded = remote.recorded(questions).unwrap();
        (recorded, remote.known_to_show_log_probs(Interface::Chat))
    };
    assert_eq!(shown(&[chosen, question("1", &["A"]), question("new", &["A"])]), (2, Some(false)));
    // None were asked for.
    assert_eq!(shown(&[plain]), (1, None));
    assert_eq!(mock.asked().len(), before);
}

#[test]
fn only_replies_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    let mock = Mock::start(|_, at| match at {
        0 => said("yes"),
        1 => status(400, "{}"),
        2 => status(200, "<html>"),
        // Blank, but said and paid for.
        3 => said(" "),
        _ => said("late"),
    });
    let settings = RemoteSettings { answers: Some(answers.clone()), ..settings(&[&mock.url()]) };
    let remote = Remote::new(settings.clone()).unwrap();
    let kinds = |replies: Vec<Result<Reply, Unanswered>>| -> Vec<Option<UnansweredKind>> {
        replies.into_iter().map(|reply| reply.err().map(|error| error.kind)).collect()
    };
    let (refused, malformed, empty) =
        (Some(UnansweredKind::Refused), Some(UnansweredKind::Malformed), Some(UnansweredKind::Empty));
    assert_eq!(kinds(ask(&remote, &questions(4)).unwrap()), [None, refused, malformed, empty]);
    drop(remote);
    let remote = Remote::new(settings).unwrap();
    assert_eq!(kinds(ask(&remote, &questions(4)).unwrap()), [None, None, None, empty]);
    assert_eq!(mock.asked().len(), 6);
}

/// A run in which all but one too long question is answered already is not one in which the server never replied.
#[test]
fn a_question_that_is_refused_alone_ends_no_later_run() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    let mock = Mock::start(|_, at| if at == 0 { said("yes") } else { status(400, "too long") });
    for _ in 0..2 {
        let replies = ask(&recording(&mock.url(), &answers), &questions(1)).unwrap();
        assert!(replies[0].is_ok());
        let replies = ask(&recording(&mock.url(), &answers), &questions(2)).unwrap();
        assert_eq!(replies[1].as_ref().unwrap_err().kind, UnansweredKind::Refused);
    }
}

#[test]
fn one_at_a_time_may_use_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    let settings = || RemoteSettings { answers: Some(answers.clone()), ..settings(&["http://127.0.0.1:1"]) };
    let first = Remote::new(settings()).unwrap();
    let error = Remote::new(settings()).unwrap_err().to_string();
    assert!(error.contains("another process") && error.contains("answers.jsonl"), "{error}");
    drop(first);
    Remote::new(settings()).unwrap();
}

#[test]
fn an_error_for_all_keeps_what_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    let mock = Mock::start(|_, at| if at < 5 { said("yes") } else { status(401, "{}") });
    let settings = RemoteSettings { answers: Some(answers.clone()), ..settings(&[&mock.url()]) };
    ask(&Remote::new(settings).unwrap(), &questions(8)).unwrap_err();
    let mock = Mock::start(|_, _| said("yes"));
    assert!(ask(&recording(&mock.url(), &answers), &questions(8)).unwrap().iter().all(Result::is_ok));
    assert_eq!(mock.asked().len(), 3);
}
