//! What the record adds to a question: answering from it, recording a reply, and opening it.
//!
//! `cargo bench -p solon-remote`. The server is on this machine and answers at once, so its figures are an upper bound.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use solon_records::Message;
use solon_remote::{Provider, Question, Remote, RemoteSettings};
use std::path::Path;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

const RECORDED: usize = 10_000;

fn questions(n: usize) -> Vec<Question> {
    let question = |at: usize| Question {
        id: at.to_string(),
        context: vec![Message::user(format!("question {at} {}", "about something ".repeat(60)))].into(),
        options: vec!["yes".to_owned(), "no".to_owned()],
        max_new_tokens: 200,
        temperature: 0.0,
        stop: Vec::new(),
        sample: 0,
    };
    (0..n).map(question).collect()
}

fn remote(url: &str, answers: Option<&Path>) -> Remote {
    let settings = RemoteSettings {
        answers: answers.map(Path::to_owned),
        ..RemoteSettings::new(Provider::OpenAi, "judge", vec![url.to_owned()])
    };
    Remote::new(settings).unwrap()
}

fn record(criterion: &mut Criterion) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(MockServer::builder().disable_request_recording().start());
    let body =
        serde_json::json!({"choices": [{"message": {"content": "a reply of some words ".repeat(30)}}]});
    let answer = ResponseTemplate::new(200).set_body_json(body);
    runtime.block_on(Mock::given(any()).respond_with(answer).mount(&server));
    let url = server.uri();
    let folder = tempfile::tempdir_in(".").unwrap();
    let path = folder.path().join("answers.jsonl");
    let all = questions(RECORDED);
    remote(&url, Some(&path)).ask(&all, &|| false, &|_| {}).unwrap();

    let mut group = criterion.benchmark_group("record");
    group.sample_size(10).throughput(Throughput::Elements(RECORDED as u64));
    {
        let remote = remote(&url, Some(&path));
        group.bench_function("10000 answers from the record", |bencher| {
            bencher.iter(|| remote.ask(&all, &|| false, &|_| {}).unwrap());
        });
    }
    group.bench_function("opening 10000 answers", |bencher| bencher.iter(|| remote(&url, Some(&path))));
    let few = &all[..500];
    group.throughput(Throughput::Elements(few.len() as u64));
    group.bench_function("500 replies, not recorded", |bencher| {
        let remote = remote(&url, None);
        bencher.iter(|| remote.ask(few, &|| false, &|_| {}).unwrap());
    });
    // Each time a new record: in an old one, there would be nothing to ask.
    let mut at = 0;
    group.bench_function("500 replies, recorded", |bencher| {
        bencher.iter(|| {
            at += 1;
            let path = folder.path().join(format!("{at}.jsonl"));
            remote(&url, Some(&path)).ask(few, &|| false, &|_| {}).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, record);
criterion_main!(benches);
