//! One file into the cache: resumed, checked, asked for again.
//!
//! Contract: a file has its name in the cache only with the hash that the Hub names. What came of it before a cut, or before
//! the process was killed, is kept and gone on with; it is hashed with the rest, so a wrong start is found, too.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::cache::{RepositoryFolder, make_parent};
use crate::hash::{ContentHash, Hasher};
use crate::http::{About, Ask, Client, Failure, header};
use crate::{Event, HubError};

/// Bytes read at a time.
const CHUNK: usize = 1 << 18;

/// A file at the Hub.
pub(crate) struct Wanted<'a> {
    pub name: &'a str,
    pub address: String,
    pub size: u64,
    pub hash: ContentHash,
}

/// Downloads a file into its blob, if it is not there. `before` are the bytes of the files before it, for [`Event::At`].
pub(crate) fn fetch(
    client: &Client,
    folder: &RepositoryFolder,
    about: About<'_>,
    wanted: &Wanted<'_>,
    before: u64,
    on: &mut dyn FnMut(Event<'_>),
) -> Result<(), HubError> {
    let Wanted { name, size, hash, .. } = wanted;
    if folder.whole(hash.hex(), *size).is_some() {
        return Ok(());
    }
    let busy = || on(Event::Note(&format!("waiting for another process that downloads {name}")));
    let _lock = folder.lock(hash.hex(), busy)?;
    if folder.whole(hash.hex(), *size).is_none() {
        let partial = Partial::open(folder.incomplete(hash.hex()), wanted)?;
        let whole = complete(client, about, wanted, partial, before, on)?;
        let blob = folder.blob(hash.hex());
        fs::rename(&whole, &blob).map_err(HubError::io("name", &blob))?;
    }
    Ok(())
}

/// Asks until the file is whole; returns its path.
fn complete(
    client: &Client,
    about: About<'_>,
    wanted: &Wanted<'_>,
    mut partial: Partial,
    before: u64,
    on: &mut dyn FnMut(Event<'_>),
) -> Result<PathBuf, HubError> {
    let file = || format!("{}: {}", about.name, wanted.name);
    let mut inherited = partial.length > 0;
    let (mut furthest, mut failed) = (partial.length, 0);
    let mut reason = "the reply ended".to_owned();
    loop {
        on(Event::At(before + partial.length));
        if partial.length == wanted.size {
            let got = partial.hash();
            if got == wanted.hash.hex() {
                return partial.close();
            }
            partial.start_again(wanted)?;
            if !inherited {
                fs::remove_file(&partial.path).map_err(HubError::io("remove", &partial.path))?;
                return Err(HubError::Hash { file: file(), expected: wanted.hash.hex().to_owned(), got });
            }
            let what = format!("{}: what was there of it is wrong; downloading all of it", wanted.name);
            on(Event::Note(&what));
            (inherited, furthest, failed) = (false, 0, 0);
        }
        let mut wait = None;
        match pull(client, about, wanted, &mut partial, &mut |length| on(Event::At(before + length))) {
            Ok(()) => "the reply ended".clone_into(&mut reason),
            Err(Failure::Passing { reason: why, wait: asked }) => (reason, wait) = (why, asked),
            Err(Failure::Lasting(error)) => return Err(error),
        }
        if partial.length == wanted.size {
            continue;
        }
        // What counts is how far it ever came: a server that cannot resume starts again each time.
        failed = if partial.length > furthest { 0 } else { failed + 1 };
        furthest = furthest.max(partial.length);
        if failed > client.retries() {
            partial.sync()?;
            return Err(HubError::Truncated { file: file(), got: furthest, size: wanted.size, reason });
        }
        let what =
            format!("{}: {} of {} bytes came ({reason}); going on", wanted.name, partial.length, wanted.size);
        on(Event::Note(&what));
        client.pause(failed, wait);
    }
}

/// One request for what is still to come.
fn pull(
    client: &Client,
    about: About<'_>,
    wanted: &Wanted<'_>,
    partial: &mut Partial,
    at: &mut dyn FnMut(u64),
) -> Result<(), Failure> {
    let from = partial.length;
    let response = client.ask(about, &wanted.address, Ask::Body { from })?;
    match response.status().as_u16() {
        206 if header(response.headers(), "content-range").and_then(first_byte) == Some(from) => {}
        // The server does not resume, or from elsewhere, or holds less than what is here.
        200 if from == 0 => {}
        200 => partial.start_again(wanted)?,
        status => {
            partial.start_again(wanted)?;
            let reason = format!("HTTP {status} to a request for the bytes from {from} on");
            return Err(Failure::Passing { reason, wait: None });
        }
    }
    let mut body = response.into_body().into_reader().take(wanted.size - partial.length);
    let mut buffer = vec![0; CHUNK];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => partial.add(&buffer[..read], wanted.size)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::Passing { reason: error.to_string(), wait: None }),
        }
        at(partial.length);
    }
}

/// The first byte of a `Content-Range: bytes 5-9/10`.
fn first_byte(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// The part of a file that is here.
struct Partial {
    path: PathBuf,
    file: File,
    /// In bytes.
    length: u64,
    hasher: Hasher,
}

impl Partial {
    /// Opens what an earlier attempt left, and hashes it.
    fn open(path: PathBuf, wanted: &Wanted<'_>) -> Result<Self, HubError> {
        make_parent(&path)?;
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(HubError::io("open", &path))?;
        let mut hasher = wanted.hash.hasher(wanted.size);
        let mut length = 0;
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    hasher.update(&buffer[..read]);
                    length += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(HubError::io("read", &path)(error)),
            }
            if length > wanted.size {
                break;
            }
        }
        let mut partial = Self { path, file, length, hasher };
        if length > wanted.size {
            partial.start_again(wanted)?;
        }
        Ok(partial)
    }

    /// Adds what came.
    fn add(&mut self, bytes: &[u8], size: u64) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(|error| written(&self.path, error, size - self.length))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what is there.
    fn start_again(&mut self, wanted: &Wanted<'_>) -> Result<(), HubError> {
        self.file = File::create(&self.path).map_err(HubError::io("open", &self.path))?;
        (self.length, self.hasher) = (0, wanted.hash.hasher(wanted.size));
        Ok(())
    }

    fn sync(&self) -> Result<(), HubError> {
        self.file.sync_all().map_err(HubError::io("sync", &self.path))
    }

    /// The hash of all that was added.
    fn hash(&self) -> String {
        self.hasher.clone().finish()
    }

    /// The path of the whole file, which survives a power cut from now on.
    fn close(self) -> Result<PathBuf, HubError> {
        self.sync()?;
        Ok(self.path)
    }
}

/// What a failed write means, with so many bytes to come.
fn written(path: &Path, error: io::Error, needed: u64) -> HubError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            HubError::NoSpace { path: path.to_path_buf(), needed }
        }
        _ => HubError::io("write", path)(error),
    }
}
