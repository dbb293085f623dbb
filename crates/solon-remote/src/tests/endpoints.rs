//! Several servers of one model.

use super::servers::{Mock, said, status};
use super::*;
use std::net::TcpListener;

fn counts(remote: &Remote) -> Vec<u64> {
    remote.usage().endpoints.iter().map(|endpoint| endpoint.replies).collect()
}

#[test]
fn questions_are_spread_and_each_is_asked_once() {
    let mocks: Vec<Mock> =
        (0..3).map(|_| Mock::start(|_, _| said("yes").set_delay(Duration::from_millis(20)))).collect();
    let urls: Vec<String> = mocks.iter().map(Mock::url).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let remote = Remote::new(RemoteSettings { concurrency: 6, ..settings(&urls) }).unwrap();
    assert!(ask(&remote, &questions(60)).unwrap().iter().all(Result::is_ok));
    let replies = counts(&remote);
    assert!(replies.iter().sum::<u64>() == 60 && replies.iter().all(|n| *n >= 10), "{replies:?}");
    assert_eq!(remote.usage().sent, 60);
}

#[test]
fn a_dead_server_costs_no_question() {
    let mock = Mock::start(|_, _| said("yes"));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = format!("http://{free}");
    // Not even where nothing is asked again: another server is no second try.
    let settings = RemoteSettings { retries: 0, ..settings(&[&dead, &mock.url()]) };
    let remote = Remote::new(settings).unwrap();
    assert!(ask(&remote, &questions(20)).unwrap().iter().all(Result::is_ok));
    assert_eq!(counts(&remote), [0, 20]);
    let EndpointUsage { aside, failures, .. } = remote.usage().endpoints[0].clone();
    let aside = aside.unwrap();
    assert_eq!(failures, 1, "it was tried once");
    assert!(aside.contains("is the server running?"), "{aside}");
    let notes = remote.usage().notes();
    assert!(
        notes.len() == 1 && notes[0].starts_with(&format!("{dead}/v1: set aside, because ")),
        "{notes:?}"
    );
}

#[test]
fn a_server_that_fails_again_and_again_is_set_aside() {
    let failing = Mock::start(|_, _| status(500, "{}"));
    let mock = Mock::start(|_, _| said("yes"));
    let remote = Remote::new(settings(&[&failing.url(), &mock.url()])).unwrap();
    assert!(ask(&remote, &questions(20)).unwrap().iter().all(Result::is_ok));
    assert_eq!(failing.asked().len(), 3);
    assert!(remote.usage().endpoints[0].aside.as_deref().unwrap().contains("HTTP 500"));
}

#[test]
fn one_that_asks_to_wait_is_left_alone_while_others_answer() {
    let busy = Mock::start(|_, _| status(429, "{}").insert_header("retry-after", "3600"));
    let mock = Mock::start(|_, _| said("yes"));
    let remote = Remote::new(settings(&[&busy.url(), &mock.url()])).unwrap();
    assert!(ask(&remote, &questions(10)).unwrap().iter().all(Result::is_ok));
    assert_eq!((busy.asked().len(), mock.asked().len()), (1, 10));
}

/// A wrong model at one address is the caller's mistake, and is said at once; one that was right and no longer is, is set aside.
#[test]
fn a_server_that_never_knew_the_model_is_an_error() {
    let without = Mock::start(|_, _| status(404, "{}"));
    let mock = Mock::start(|_, _| said("yes"));
    let error =
        ask(&Remote::new(settings(&[&without.url(), &mock.url()])).unwrap(), &questions(3)).unwrap_err();
    assert!(error.to_string().contains(&without.url()), "{error}");
    let forgetful = Mock::start(|_, at| if at == 0 { said("yes") } else { status(404, "{}") });
    let remote = Remote::new(settings(&[&forgetful.url(), &mock.url()])).unwrap();
    assert!(ask(&remote, &questions(10)).unwrap().iter().all(Result::is_ok));
    assert_eq!(counts(&remote), [1, 9]);
    assert!(remote.usage().endpoints[0].aside.as_deref().unwrap().contains("HTTP 404"));
}

/// What one server shows is no matter of which question it gets.
#[test]
fn several_servers_are_asked_once_whether_they_show_log_probs() {
    let shows = || Mock::start(|_, _| forms::weighed(&[("yes", -0.5), ("no", -1.5)]));
    let shows_none = Mock::start(|_, _| said("yes"));
    let (first, second) = (shows(), shows());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = format!("http://{free}");
    for (urls, expected) in [
        ([first.url(), second.url()], Some(true)),
        ([first.url(), shows_none.url()], Some(false)),
        // One that cannot be reached may.
        ([first.url(), dead], Some(true)),
    ] {
        let remote = Remote::new(settings(&[&urls[0], &urls[1]])).unwrap();
        for _ in 0..2 {
            assert_eq!(remote.shows_log_probs(Interface::Chat).unwrap(), expected, "{urls:?}");
        }
    }
    // Beside the question, the models are asked for.
    assert_eq!((first.asked().len(), second.asked().len(), shows_none.asked().len()), (6, 2, 2));
}

#[test]
fn where_all_die_there_is_one_error() {
    let addresses: Vec<String> = (0..2)
        .map(|_| format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()))
        .collect();
    let settings = RemoteSettings { retries: 1, ..settings(&[&addresses[0], &addresses[1]]) };
    let error = ask(&Remote::new(settings).unwrap(), &questions(5)).unwrap_err();
    assert!(error.to_string().contains("is the server running?"), "{error}");
}
