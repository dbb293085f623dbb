//! Servers for tests: one that answers requests by a function of what it is asked, and one that sends bytes as they are given.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wiremock::matchers::any;
use wiremock::{MockServer, Request, ResponseTemplate};

/// A server that answers by a function of the body and of how many requests came before.
pub struct Mock {
    runtime: tokio::runtime::Runtime,
    server: MockServer,
}

impl Mock {
    pub fn start(answer: impl Fn(&Value, usize) -> ResponseTemplate + Send + Sync + 'static) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(MockServer::start());
        let came = AtomicUsize::new(0);
        let answer = move |request: &Request| {
            let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
            answer(&body, came.fetch_add(1, Ordering::SeqCst))
        };
        runtime.block_on(wiremock::Mock::given(any()).respond_with(answer).mount(&server));
        Self { runtime, server }
    }

    pub fn url(&self) -> String {
        self.server.uri()
    }

    fn requests(&self) -> Vec<Request> {
        self.runtime.block_on(self.server.received_requests()).unwrap()
    }

    /// The bodies of all requests so far.
    pub fn asked(&self) -> Vec<Value> {
        self.requests()
            .iter()
            .map(|request| serde_json::from_slice(&request.body).unwrap_or(Value::Null))
            .collect()
    }

    /// The paths of all requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.url.path().to_owned()).collect()
    }

    /// A header of all requests so far.
    pub fn heads(&self, name: &str) -> Vec<String> {
        let head =
            |request: &Request| request.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        self.requests().iter().map(|request| head(request).unwrap_or_default()).collect()
    }
}

/// A chat completion of ten tokens in and two out.
pub fn said(text: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(completion(text))
}

pub fn completion(text: &str) -> Value {
    json!({
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2},
    })
}

pub fn status(status: u16, body: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_raw(body.to_owned(), "application/json")
}

/// A server that answers each connection's request with these bytes, one after the other, over and over from the last, and
/// then closes the connection. Returns its address and the number of requests that came.
pub fn raw(replies: Vec<Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let came = Arc::new(AtomicUsize::new(0));
    let count = came.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if take_request(&stream) {
                let place = count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(&replies[place.min(replies.len() - 1)]);
            }
        }
    });
    (address, came)
}

/// A server that answers two requests at once, when both have come: one with each of these. Returns its address and the number
/// of requests that came.
pub fn pair(replies: [Vec<u8>; 2]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let came = Arc::new(AtomicUsize::new(0));
    let count = came.clone();
    std::thread::spawn(move || {
        let mut waiting = Vec::new();
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            take_request(&stream);
            if count.fetch_add(1, Ordering::SeqCst) < 2 {
                waiting.push(stream);
            }
            if waiting.len() == 2 {
                for (mut stream, reply) in waiting.drain(..).zip(&replies) {
                    let _ = stream.write_all(reply);
                }
            }
        }
    });
    (address, came)
}

/// Reads a request to its end; returns whether it had one.
fn take_request(stream: &TcpStream) -> bool {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    reader.read_exact(&mut vec![0; length]).is_ok()
}

/// The bytes of a reply with a body of this length, of which so much is sent.
pub fn bytes(body: &str, sent: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), &body.as_bytes()[..sent]].concat()
}
