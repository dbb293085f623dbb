//! Large files to the Hub by Git LFS, before the commit that names them.
//!
//! Contract: a file is sent as a whole or in parts, as the server asks for; each part is sent again where a failure may pass. A
//! file that the server has is not sent. The token goes to the Hub and not to where the bytes go.
//!
//! Source: <https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md>; parts as in `huggingface_hub/lfs.py`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::{Value, json};

use crate::http::{About, Client, Failure, JSON, LFS, Method, Send, header};
use crate::{Event, HubError};

/// Most files that are asked about at a time.
const BATCH: usize = 100;

/// A file to send.
pub(crate) struct Large<'a> {
    pub path: &'a Path,
    pub sha256: &'a str,
    pub size: u64,
}

/// Sends files that the server does not have.
pub(crate) fn upload(
    client: &Client,
    about: About<'_>,
    files: &[Large<'_>],
    on: &mut dyn FnMut(Event<'_>),
) -> Result<(), HubError> {
    let all = files.iter().map(|file| file.size).sum();
    if files.is_empty() {
        return Ok(());
    }
    on(Event::Begins { bytes: all, here: 0 });
    let mut done = 0;
    for batch in files.chunks(BATCH) {
        let objects = actions(client, about, batch)?;
        for file in batch {
            let object = objects.iter().find(|object| object["oid"] == file.sha256);
            let object =
                object.ok_or_else(|| client.misread(about, "it does not say where a file is sent"))?;
            if let Some(says) = object["error"]["message"].as_str() {
                return Err(client.misread(about, &format!("{}: {says}", file.path.display())));
            }
            one(client, about, file, &object["actions"], &mut |sent| on(Event::At(done + sent)))?;
            done += file.size;
            on(Event::At(done));
        }
    }
    on(Event::Ends);
    Ok(())
}

/// Asks where files are sent.
fn actions(client: &Client, about: About<'_>, files: &[Large<'_>]) -> Result<Vec<Value>, HubError> {
    let objects: Vec<Value> =
        files.iter().map(|file| json!({"oid": file.sha256, "size": file.size})).collect();
    let wish = json!({
        "operation": "upload", "transfers": ["basic", "multipart"], "objects": objects, "hash_algo": "sha256",
        "ref": {"name": about.name.revision},
    });
    let path = format!("{}{}.git/info/lfs/objects/batch", about.kind.page_prefix(), about.name.id);
    let reply = client.post(about, &client.address(&path), LFS, &wish.to_string());
    let (_, reply) = reply.map_err(|failure| client.failed(about, failure))?;
    match &reply["objects"] {
        Value::Array(objects) => Ok(objects.clone()),
        _ => Err(client.misread(about, "it does not say where files are sent")),
    }
}

/// Sends one file as the server asks for; without actions it has it.
fn one(
    client: &Client,
    about: About<'_>,
    file: &Large<'_>,
    actions: &Value,
    sent: &mut dyn FnMut(u64),
) -> Result<(), HubError> {
    let Some(address) = actions["upload"]["href"].as_str() else { return Ok(()) };
    let head = &actions["upload"]["header"];
    let post = |address: &str, content_type: &str, body: &Value| {
        let reply = client.post(about, address, content_type, &body.to_string());
        reply.map(|_| ()).map_err(|failure| client.failed(about, failure))
    };
    match &head["chunk_size"] {
        Value::Null => {
            put(client, about, address, file, 0..file.size, sent)?;
        }
        size => {
            let size = size.as_u64().or_else(|| size.as_str()?.parse().ok()).filter(|size| *size > 0);
            let size = size.ok_or_else(|| client.misread(about, "it does not say how long parts are"))?;
            let mut parts = Vec::new();
            for (number, from) in
                (1..).zip((0..file.size).step_by(usize::try_from(size).unwrap_or(usize::MAX)))
            {
                let address = part_address(head, number).ok_or_else(|| {
                    client.misread(about, &format!("it does not say where part {number} is sent"))
                })?;
                let range = from..(from + size).min(file.size);
                let etag = put(client, about, address, file, range, sent)?;
                let etag =
                    etag.ok_or_else(|| client.misread(about, "a part was received without an ETag"))?;
                parts.push(json!({"partNumber": number, "etag": etag}));
            }
            post(address, LFS, &json!({"oid": file.sha256, "parts": parts}))?;
        }
    }
    match actions["verify"]["href"].as_str() {
        Some(address) => post(address, JSON, &json!({"oid": file.sha256, "size": file.size})),
        None => Ok(()),
    }
}

/// Where a part is sent: the headers hold addresses under the parts' numbers, written with or without leading zeros.
fn part_address(head: &Value, number: u64) -> Option<&str> {
    let is_number = |key: &str| key.parse::<u64>() == Ok(number);
    head.as_object()?.iter().find(|(key, _)| is_number(key))?.1.as_str()
}

/// Sends bytes of a file, again where a failure may pass; returns the `ETag` of what was received.
fn put(
    client: &Client,
    about: About<'_>,
    address: &str,
    file: &Large<'_>,
    range: std::ops::Range<u64>,
    sent: &mut dyn FnMut(u64),
) -> Result<Option<String>, HubError> {
    let send = Send { method: Method::Put, address, content_type: None, accept: "" };
    let length = range.end - range.start;
    let done = client.patiently(client.retries(), || {
        let mut opened = File::open(file.path).map_err(HubError::io("open", file.path))?;
        opened.seek(SeekFrom::Start(range.start)).map_err(HubError::io("read", file.path))?;
        let mut counted = Counted { inner: opened.take(length), at: range.start, sent: &mut *sent };
        let response = client.send(about, &send, ureq::SendBody::from_reader(&mut counted), length)?;
        match response.status().as_u16() {
            409 => Err(Failure::Lasting(client.misread(about, "HTTP 409 to a part of a file"))),
            _ => Ok(header(response.headers(), "etag").map(str::to_owned)),
        }
    });
    done.map_err(|failure| client.failed(about, failure))
}

/// A reader that tells how far it is.
struct Counted<'a, R> {
    inner: R,
    at: u64,
    sent: &'a mut dyn FnMut(u64),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        (self.sent)(self.at);
        Ok(read)
    }
}
