//! Files as they come from outside: unpacked, and recognised by their first bytes.
//!
//! Contract: every reader of data opens its file here, so that a pointer of Git LFS, a web page or an archive is named wherever it stands.
//! A file is read once, from its start, so that pipes are read too.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Error, Read};
use std::path::Path;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use solon_records::{GIT_LFS_POINTER, IS_GIT_LFS_POINTER};

use crate::DataError;
use crate::jsonl::MAX_LINE_BYTES;

/// How many bytes are looked at to recognise a file.
const HEAD_BYTES: u64 = 4096;

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The first character is `[`.
    JsonArray,
    /// The first character is `{`.
    JsonObject,
    /// The first line is a JSON value, such as a text in quotation marks.
    JsonText,
    /// Another text.
    Text,
    /// Not UTF-8.
    Unknown,
    Parquet,
    /// Apache Arrow, as a file or a stream.
    Arrow,
}

/// How a file is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// A file that is open.
pub(crate) struct Input {
    pub content: Content,
    pub packing: Option<Packing>,
    /// Its bytes from the start, unpacked.
    pub reader: Box<dyn BufRead>,
}

/// Files that are no data, by their first bytes: what they are, and what to do.
const NO_DATA: [(&[u8], &str); 10] = [
    (GIT_LFS_POINTER.as_bytes(), IS_GIT_LFS_POINTER),
    (b"PK\x03\x04", "is a zip archive (or an Excel table)\nhint: unpack it, or save the table as CSV"),
    (b"\xd0\xcf\x11\xe0", "is an old Office file\nhint: save the table as CSV"),
    (b"SQLite format 3", "is an SQLite database\nhint: export the table as CSV or JSON Lines"),
    (b"PARE", "is an encrypted Parquet file\nhint: write it without encryption"),
    (b"BZh", "is compressed with bzip2\nhint: unpack it with `bunzip2`, or use gzip or Zstandard"),
    (b"\xfd7zXZ", "is compressed with xz\nhint: unpack it with `unxz`, or use gzip or Zstandard"),
    (
        b"<!DOCTYPE",
        "is a web page\nhint: download the file itself, such as by its `resolve` address on the Hub",
    ),
    (b"<html", "is a web page\nhint: download the file itself, such as by its `resolve` address on the Hub"),
    (
        b"\x80\x04\x95",
        "is a Python pickle, which can run code when it is opened\nhint: save the data as JSON Lines",
    ),
];

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    /// [`DataError::Io`] if it cannot be read; [`DataError::Format`] if it is known to be no data.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        let read = DataError::io("read", path);
        let (packing, head, reader) = unpacked(Box::new(BufReader::new(file))).map_err(read)?;
        if let Some((_, what)) = NO_DATA.iter().find(|(start, _)| head.starts_with(start)) {
            return Err(DataError::Format { path: path.to_path_buf(), message: (*what).to_owned() });
        }
        Ok(Self { content: Content::of(&head), packing, reader })
    }
}

impl Content {
    fn of(head: &[u8]) -> Self {
        const STARTS: [(&[u8], Content); 3] =
            [(b"PAR1", Content::Parquet), (b"ARROW1", Content::Arrow), (b"\xff\xff\xff\xff", Content::Arrow)];
        if let Some((_, content)) = STARTS.iter().find(|(start, _)| head.starts_with(start)) {
            return *content;
        }
        let text = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head);
        match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => Self::JsonArray,
            Some(b'{') => Self::JsonObject,
            _ if is_json(text) => Self::JsonText,
            _ if is_utf8(text) => Self::Text,
            _ => Self::Unknown,
        }
    }
}

/// Whether the first line that is not blank is a JSON value. One that is longer than what was read of it is none.
fn is_json(text: &[u8]) -> bool {
    let line = text.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

/// Whether it is UTF-8, of which the last character may be cut.
fn is_utf8(text: &[u8]) -> bool {
    std::str::from_utf8(text).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// How many times the bytes that they are packed in rows may have, beyond as many as one row may have. gzip's own limit is 1032.
const MOST_GROWTH: u64 = 1000;

/// Bytes as they are unpacked. They end with an error where they are too many: a few kilobytes can hold gigabytes of rows.
struct NoBomb<R> {
    unpacked: R,
    bytes: u64,
    /// Bytes read so far to unpack them.
    packed: Rc<Cell<u64>>,
}

impl<R: Read> Read for NoBomb<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.unpacked.read(into)?;
        self.bytes += read as u64;
        if self.bytes > MAX_LINE_BYTES as u64 + MOST_GROWTH * self.packed.get() {
            return Err(Error::other(format!("it unpacks to more than {MOST_GROWTH} times its size")));
        }
        Ok(read)
    }
}

/// Counts the bytes that are read.
struct Counted {
    reader: Box<dyn BufRead>,
    bytes: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(into)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

/// How it is compressed, its first bytes, and a reader of all its bytes.
fn unpacked(reader: Box<dyn BufRead>) -> std::io::Result<(Option<Packing>, Vec<u8>, Box<dyn BufRead>)> {
    let (head, reader) = looked_at(reader)?;
    let (packing, inner): (Packing, Box<dyn Read>) = match () {
        () if head.starts_with(&[0x1f, 0x8b]) => (Packing::Gzip, Box::new(MultiGzDecoder::new(reader))),
        () if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => {
            let packed = Rc::new(Cell::new(0));
            let unpacked = zstd::Decoder::new(Counted { reader, bytes: packed.clone() })?;
            (Packing::Zstd, Box::new(NoBomb { unpacked, bytes: 0, packed }))
        }
        () => return Ok((None, head, reader)),
    };
    let (head, reader) = looked_at(Box::new(BufReader::new(inner)))?;
    Ok((Some(packing), head, reader))
}

fn looked_at(mut reader: Box<dyn BufRead>) -> std::io::Result<(Vec<u8>, Box<dyn BufRead>)> {
    let mut head = Vec::new();
    reader.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(reader))))
}
