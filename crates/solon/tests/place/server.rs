//! A server with OpenAI's chat completions that says what a test wants.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// What the server replies: a status and a body. Without a status it hangs up instead.
pub type Reply = (u16, String);

/// A server that replies to each request as `reply` says, which gets the number of the request, from 0, and its body.
/// Requests are served at the same time.
pub struct Server {
    /// Its base address.
    pub url: String,
    /// The bodies of all requests.
    pub received: Arc<Mutex<Vec<Value>>>,
    /// Told of each.
    arrived: Arc<Condvar>,
    /// The bodies of the requests that were replied to with status 200 to the last byte.
    pub answered: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    pub fn new(reply: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let logs = [(); 2].map(|()| Arc::new(Mutex::new(Vec::new())));
        let [received, answered] = logs.clone();
        let (logs, reply) = (Arc::new(logs), Arc::new(reply));
        let arrived = Arc::new(Condvar::new());
        let told = Arc::clone(&arrived);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (logs, reply, told) = (Arc::clone(&logs), Arc::clone(&reply), Arc::clone(&told));
                std::thread::spawn(move || serve(stream.unwrap(), number, &*reply, &logs, &told));
            }
        });
        Self { url, received, arrived, answered }
    }

    /// Waits until it has received so many requests.
    pub fn wait_for(&self, requests: usize) {
        let received = self.received.lock().unwrap();
        drop(self.arrived.wait_while(received, |received| received.len() < requests).unwrap());
    }

    /// How many requests it has received.
    pub fn asked(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    /// How many requests it has answered.
    pub fn count(&self) -> usize {
        self.answered.lock().unwrap().len()
    }
}

/// A chat completion with this text.
pub fn said(text: &str) -> String {
    serde_json::json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
        .to_string()
}

/// A chat completion whose first token has these log-probs.
pub fn weighed(options: &[(&str, f64)]) -> String {
    let top: Vec<Value> = options
        .iter()
        .map(|(token, logprob)| serde_json::json!({"token": token, "logprob": logprob}))
        .collect();
    serde_json::json!({"choices": [{
        "message": {"role": "assistant", "content": options[0].0}, "finish_reason": "stop",
        "logprobs": {"content": [{"token": options[0].0, "logprob": options[0].1, "top_logprobs": top}]},
    }]})
    .to_string()
}

fn serve(
    mut stream: TcpStream,
    number: usize,
    reply: &dyn Fn(usize, &Value) -> Reply,
    [received, answered]: &[Arc<Mutex<Vec<Value>>>; 2],
    arrived: &Condvar,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
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
    let mut body = vec![0; length];
    // Whoever asked may be killed at any moment: what came is no request then.
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else { return };
    received.lock().unwrap().push(asked.clone());
    arrived.notify_all();
    let (status, text) = reply(number, &asked);
    if status == 0 {
        return;
    }
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close",
        text.len()
    );
    if write!(stream, "{head}\r\n\r\n{text}").is_ok() && status == 200 {
        answered.lock().unwrap().push(asked);
    }
}
