//! A process that is killed while it asks, and started again: nothing that was answered is asked twice.

use serde_json::{Value, json};
use solon_records::Message;
use solon_remote::{Provider, Question, Remote, RemoteSettings, Reply, Unanswered};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

const QUESTIONS: usize = 150;
const CONCURRENCY: usize = 4;
/// Set for the process that is to be killed: the server's address and the record.
const VICTIM: [&str; 2] = ["SOLON_REMOTE_TEST_URL", "SOLON_REMOTE_TEST_ANSWERS"];

fn ask_all(url: &str, answers: &Path) -> Vec<Result<Reply, Unanswered>> {
    let settings = RemoteSettings {
        concurrency: CONCURRENCY,
        answers: Some(answers.to_owned()),
        ..RemoteSettings::new(Provider::OpenAi, "judge", vec![url.to_owned()])
    };
    let questions: Vec<Question> = (0..QUESTIONS)
        .map(|at| Question {
            id: at.to_string(),
            context: vec![Message::user(format!("question {at}"))].into(),
            options: Vec::new(),
            max_new_tokens: 8,
            temperature: 0.0,
            stop: Vec::new(),
            sample: 0,
        })
        .collect();
    Remote::new(settings).unwrap().ask(&questions, &|| false, &|_| {}).unwrap()
}

fn content(request: &Request) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    body["messages"][0]["content"].as_str().unwrap().to_owned()
}

/// The questions whose replies are on disk: each reply repeats its question.
fn recorded(answers: &Path) -> HashSet<String> {
    let text = String::from_utf8_lossy(&std::fs::read(answers).unwrap()).into_owned();
    let whole = text.split_inclusive('\n').skip(1).filter(|line| line.ends_with('\n'));
    let said = |line: &str| {
        serde_json::from_str::<Value>(line).unwrap()["answer"]["text"].as_str().unwrap().to_owned()
    };
    whole.map(said).collect()
}

#[test]
fn what_was_answered_before_a_kill_is_not_asked_after_it() {
    if let [Ok(url), Ok(answers)] = VICTIM.map(std::env::var) {
        ask_all(&url, &PathBuf::from(answers));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers.jsonl");
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(MockServer::start());
    let (told, asked) = mpsc::channel();
    let told = Mutex::new(told);
    let answer = move |request: &Request| {
        told.lock().unwrap().send(()).unwrap();
        let message = json!({"role": "assistant", "content": content(request)});
        let body = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
        ResponseTemplate::new(200).set_body_json(body).set_delay(Duration::from_millis(5))
    };
    runtime.block_on(Mock::given(any()).respond_with(answer).mount(&server));
    let log = || runtime.block_on(server.received_requests()).unwrap();

    let (mut kills, mut known) = (0, HashSet::new());
    for after in [3, 17, 40, 25] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_answered_before_a_kill_is_not_asked_after_it"])
            .env(VICTIM[0], server.uri())
            .env(VICTIM[1], &answers)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..after {
            asked.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        victim.kill().unwrap();
        let status = victim.wait().unwrap();
        assert!(!status.success(), "it was done before it was killed");
        kills += 1;
        let now = recorded(&answers);
        assert!(now.is_superset(&known));
        // What the dead process had sent and nobody counted.
        while asked.try_recv().is_ok() {}
        known = now;
    }
    assert!(known.len() > 50 && known.len() < QUESTIONS, "{} were recorded", known.len());
    let before = log().len();
    let replies = ask_all(&server.uri(), &answers);
    for (at, reply) in replies.iter().enumerate() {
        assert_eq!(*reply, Ok(Reply::Said { text: format!("question {at}"), truncated: false }));
    }
    let all = log();
    let late: HashSet<String> = all[before..].iter().map(content).collect();
    assert!(late.is_disjoint(&known));
    // Nothing is asked twice but what was under way at a kill.
    let mut times: HashMap<String, usize> = HashMap::new();
    for request in &all {
        *times.entry(content(request)).or_default() += 1;
    }
    assert_eq!(times.len(), QUESTIONS);
    let again = all.len() - QUESTIONS;
    assert!(again <= kills * CONCURRENCY, "{again} questions were asked twice");
}
