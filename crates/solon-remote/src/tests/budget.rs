//! The budget: what is spent never exceeds it, and what was paid for is kept.

use super::servers::{Mock, said};
use super::*;
use std::path::Path;

fn with_budget(url: &str, answers: &Path, max_tokens: u64) -> Remote {
    let budget = Some(Budget { max_tokens: Some(max_tokens), price_in: 1e6, ..Budget::default() });
    let answers = Some(answers.to_owned());
    Remote::new(RemoteSettings { concurrency: 8, budget, answers, ..settings(&[url]) }).unwrap()
}

/// Questions of the same length: each takes 12 tokens, and may take 62.
fn questions(n: usize) -> Vec<Question> {
    (0..n).map(|at| question(&format!("{at:03}"), &[])).collect()
}

#[test]
fn a_budget_is_a_hard_stop_over_runs() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    let mock = Mock::start(|_, _| said("yes"));
    let remote = with_budget(&mock.url(), &answers, 300);
    let error = ask(&remote, &questions(100)).unwrap_err();
    assert!(matches!(error, RemoteError::Budget { .. }), "{error}");
    let first = remote.usage();
    let spent = first.tokens.total();
    assert!((200..=300).contains(&spent), "{spent}");
    assert_eq!(first.cost, Some(first.tokens.input as f64));
    drop(remote);
    // The same budget leaves nothing, a larger one the difference. What was answered is not asked again.
    let remote = with_budget(&mock.url(), &answers, 300);
    assert!(matches!(ask(&remote, &questions(100)), Err(RemoteError::Budget { .. })));
    assert_eq!((remote.usage().sent, remote.usage().earlier.total()), (0, spent));
    assert_eq!(remote.usage().recorded, spent / 12);
    drop(remote);
    let remote = with_budget(&mock.url(), &answers, 10_000);
    assert!(ask(&remote, &questions(100)).unwrap().iter().all(Result::is_ok));
    assert_eq!(mock.asked().len(), 100);
    assert_eq!(remote.usage().tokens.total() + spent, 1200);
}
