//! A Hugging Face Hub on loopback that holds what a test gives it.

use serde_json::{Value, json};
use solon_data::files::sha256_bytes;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The commit of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Files by their paths on the Hub: `org/name/FILE`, or `datasets/org/name/FILE`.
type Files = BTreeMap<String, Vec<u8>>;

pub struct FakeHub {
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeHub {
    /// A Hub that holds the files of these folders, but not of folders in them, each under the path of its repository.
    pub fn new(repositories: &[(&str, &Path)]) -> Self {
        let mut files = Files::new();
        for (repository, folder) in repositories {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if !path.is_file() {
                    continue;
                }
                let name = path.file_name().unwrap().to_str().unwrap();
                files.insert(format!("{repository}/{name}"), std::fs::read(&path).unwrap());
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &files, &log);
            }
        });
        Self { url, asked }
    }

    /// The paths of all requests.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, files: &Files, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    let mut line = String::new();
    reader.read_line(&mut first).unwrap();
    while reader.read_line(&mut line).unwrap() > 2 {
        line.clear();
    }
    let Some(path) = first.split(' ').nth(1) else { return };
    log.lock().unwrap().push(path.to_owned());
    let (status, body) = match reply(path, files) {
        Some(body) => (200, body),
        None => (404, b"{\"error\":\"Repository not found\"}".to_vec()),
    };
    let head =
        format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn reply(path: &str, files: &Files) -> Option<Vec<u8>> {
    if let Some(rest) = path.strip_prefix("/api/") {
        let rest = rest.strip_suffix("?blobs=true")?;
        let (repository, revision) = rest.strip_prefix("models/").unwrap_or(rest).split_once("/revision/")?;
        let sibling = |(path, bytes): (&String, &Vec<u8>)| {
            let name = path.strip_prefix(repository)?.strip_prefix('/')?;
            let lfs = json!({"sha256": sha256_bytes(bytes), "size": bytes.len()});
            Some(json!({"rfilename": name, "size": bytes.len(), "lfs": lfs}))
        };
        let siblings: Vec<Value> = files.iter().filter_map(sibling).collect();
        let is_there = !siblings.is_empty() && ["main", COMMIT].contains(&revision);
        return is_there.then(|| json!({"sha": COMMIT, "siblings": siblings}).to_string().into_bytes());
    }
    let (repository, file) = path.strip_prefix('/')?.split_once(&format!("/resolve/{COMMIT}/"))?;
    files.get(&format!("{repository}/{file}")).cloned()
}
