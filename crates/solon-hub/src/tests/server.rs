//! A Hub on loopback: it speaks the Hub's paths for the repositories that a test gives it, and has the faults that a test asks for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::hash::{ContentHash, hex};

/// Files of at least this many bytes are in LFS.
const LARGE: usize = 1000;

/// A request that came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The first byte that is asked for.
    fn from(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |from| from.parse().unwrap())
    }
}

/// What is replied.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is closed.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }
}

type Answer = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A server that answers by a function of the request and of how many came before.
pub struct Server {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (shared, answer): (_, Arc<Answer>) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (requests, answer) = (shared.clone(), answer.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &requests, &*answer));
            }
        });
        Self { url, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// The paths of all requests so far, without the names of the repository and its commit.
    pub fn paths(&self) -> Vec<String> {
        let short =
            |path: String| path.rsplit("/resolve/").next().unwrap().replace(&format!("{COMMIT}/"), "");
        self.requests().into_iter().map(|request| short(request.path)).collect()
    }
}

fn serve(mut stream: TcpStream, requests: &Mutex<Vec<Request>>, answer: &Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = Request { method, path, headers, body };
    let came = {
        let mut requests = requests.lock().unwrap();
        requests.push(request.clone());
        requests.len() - 1
    };
    let Reply { status, headers, body, cut } = answer(&request, came);
    let mut head = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let sent =
        if request.method == "HEAD" { &[] } else { &body[..cut.unwrap_or(body.len()).min(body.len())] };
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(sent));
}

/// The commit of every repository here.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A repository's files.
#[derive(Clone, Default)]
pub struct Repository(BTreeMap<String, Vec<u8>>);

impl Repository {
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        Self(files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect())
    }

    /// A small model with a tokenizer and weights of some thousand bytes.
    pub fn model() -> Self {
        Self::new(&[
            ("README.md", b"# a model"),
            ("config.json", b"{\"hidden_size\": 4}"),
            ("tokenizer.json", b"{}"),
            ("pytorch_model.bin", &[7; 5000]),
            ("model.safetensors", &weights()),
        ])
    }

    pub fn file(&self, name: &str) -> &[u8] {
        &self.0[name]
    }

    /// The reply to the request for the listing.
    pub fn listing(&self) -> Reply {
        let sibling = |(name, bytes): (&String, &Vec<u8>)| match bytes.len() >= LARGE {
            true => json!({
                "rfilename": name, "size": bytes.len(), "blobId": "9".repeat(40),
                "lfs": {"sha256": name_of(bytes), "size": bytes.len(), "pointerSize": 130},
            }),
            false => json!({"rfilename": name, "size": bytes.len(), "blobId": name_of(bytes)}),
        };
        let siblings: Vec<_> = self.0.iter().map(sibling).collect();
        Reply::new(200, json!({"sha": COMMIT, "siblings": siblings}).to_string())
    }

    /// What the Hub replies.
    pub fn answer(&self, request: &Request) -> Reply {
        let path = request.path.as_str();
        if path.starts_with("/api/") {
            let revision =
                path.split_once("/revision/").and_then(|(_, rest)| rest.strip_suffix("?blobs=true"));
            return match revision {
                Some("main" | COMMIT) => self.listing(),
                _ => {
                    Reply::new(404, "{\"error\":\"Invalid rev id\"}").with("X-Error-Code", "RevisionNotFound")
                }
            };
        }
        let name = path.split_once(&format!("/resolve/{COMMIT}/")).map(|(_, name)| name).unwrap_or_default();
        match self.0.get(name) {
            Some(bytes) => ranged(bytes, request).with("ETag", format!("\"{}\"", name_of(bytes))),
            None => Reply::new(404, "").with("X-Error-Code", "EntryNotFound"),
        }
    }
}

/// Bytes as a server sends them that can resume.
pub fn ranged(bytes: &[u8], request: &Request) -> Reply {
    match request.from() {
        0 => Reply::new(200, bytes),
        from if from >= bytes.len() => Reply::new(416, ""),
        from => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new(206, &bytes[from..]).with("Content-Range", range)
        }
    }
}

/// Weights of some thousand different bytes.
pub fn weights() -> Vec<u8> {
    (0..20_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// What the Hub names content by.
pub fn name_of(bytes: &[u8]) -> String {
    if bytes.len() >= LARGE {
        return hex(&Sha256::digest(bytes));
    }
    let mut hasher = ContentHash::Git(String::new()).hasher(bytes.len() as u64);
    hasher.update(bytes);
    hasher.finish()
}
