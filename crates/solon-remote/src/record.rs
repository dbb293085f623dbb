//! The record of answers: a file to which each answer is appended, once.
//!
//! Contract: an answer counts as had only once it is on disk. A last line that a kill cut short is cut off when the file is
//! opened; any other wrong line is an error that names file and line. One process at a time may use the file. Nothing in it
//! says at which address a model was asked, or with which key.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::account::Tokens;
use crate::answer::Answer;
use crate::protocol::Key;
use crate::{Provider, RemoteError};

/// The first line. It keeps a file of another kind from being taken for a record and cut.
const HEADER: &str = "{\"format\":\"solon answers\",\"version\":1}\n";
/// Longest line that is read: a reply of the largest size, each of its bytes escaped.
const LONGEST_LINE: u64 = 64 << 20;

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    key: String,
    provider: &'a str,
    #[serde(borrow)]
    model: std::borrow::Cow<'a, str>,
    answer: Answer,
    /// The most that it took, where the server did not say what it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    most_tokens: Option<Tokens>,
}

/// A record that is open.
pub(crate) struct Record {
    path: PathBuf,
    provider: Provider,
    model: String,
    /// Tokens of this model's answers that were there when it was opened.
    pub earlier: Tokens,
    /// This model's answers that were there when it was opened.
    pub answers: usize,
    /// A second handle, so that syncing keeps nobody from reading.
    syncing: File,
    state: Mutex<State>,
    /// So many appended lines are on disk.
    synced: Mutex<u64>,
}

struct State {
    file: File,
    /// Where each answer's line is: its start and its length.
    places: HashMap<Key, (u64, usize)>,
    end: u64,
    appended: u64,
}

impl Record {
    /// Opens the record of a model's answers, or makes it. Other models may have answers in the same file.
    pub fn open(path: &Path, provider: Provider, model: &str) -> Result<Self, RemoteError> {
        let at = |reason: String| RemoteError::Record { path: path.to_owned(), reason };
        let io = |error: std::io::Error| at(error.to_string());
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(at(
                    "another process records answers there\nhint: wait for it, or name another file"
                        .to_owned(),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let syncing = file.try_clone().map_err(io)?;
        let mut record = Self {
            path: path.to_owned(),
            provider,
            model: model.to_owned(),
            earlier: Tokens::default(),
            answers: 0,
            syncing,
            state: Mutex::new(State { file, places: HashMap::new(), end: 0, appended: 0 }),
            synced: Mutex::new(0),
        };
        record.read()?;
        Ok(record)
    }

    /// Reads all lines, and cuts off a last one that is not whole.
    fn read(&mut self) -> Result<(), RemoteError> {
        let path = self.path.clone();
        let at = |reason: String| RemoteError::Record { path: path.clone(), reason };
        let io = |error: std::io::Error| at(error.to_string());
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut reader = BufReader::new(&state.file);
        let (mut number, mut end) = (0, 0_u64);
        let (mut torn, mut lacks_end) = (false, false);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let length = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes).map_err(io)?;
            if length == 0 {
                break;
            }
            number += 1;
            let is_whole = bytes.ends_with(b"\n");
            if !is_whole && length as u64 == LONGEST_LINE {
                return Err(at(format!("line {number} is longer than {} MiB", LONGEST_LINE >> 20)));
            }
            if number == 1 {
                let header = HEADER.as_bytes();
                torn = !is_whole && header.starts_with(&bytes);
                if !torn && bytes != header {
                    return Err(at(
                        "it is no record of answers\nhint: name a file that is not there yet".to_owned()
                    ));
                }
            } else {
                match parse(&bytes) {
                    Ok((key, line)) => {
                        // Whole but for its end: it was paid for, so it is kept.
                        lacks_end = !is_whole;
                        if line.provider == self.provider.name() && line.model == self.model {
                            self.answers += 1;
                            self.earlier = self
                                .earlier
                                .plus(line.answer.tokens.or(line.most_tokens).unwrap_or_default());
                        }
                        state.places.entry(key).or_insert((end, length));
                    }
                    // The end of a file that was being written when the process died.
                    Err(_) if !is_whole => torn = true,
                    Err(reason) => {
                        let hint = "hint: the file was changed by hand or damaged; remove the line, or name another file";
                        return Err(at(format!("line {number}: {reason}\n{hint}")));
                    }
                }
            }
            if torn {
                break;
            }
            end += length as u64;
        }
        if torn {
            state.file.set_len(end).map_err(io)?;
        }
        if lacks_end {
            state.file.seek(SeekFrom::Start(end)).map_err(io)?;
            state.file.write_all(b"\n").map_err(io)?;
            state.file.sync_all().map_err(io)?;
            end += 1;
        }
        if end == 0 {
            state.file.seek(SeekFrom::Start(0)).map_err(io)?;
            state.file.write_all(HEADER.as_bytes()).map_err(io)?;
            state.file.sync_all().map_err(io)?;
            end = HEADER.len() as u64;
            sync_folder(&path).map_err(io)?;
        }
        state.end = end;
        Ok(())
    }

    /// The answer under a key.
    pub fn get(&self, key: &Key) -> Result<Option<Answer>, RemoteError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&(start, length)) = state.places.get(key) else { return Ok(None) };
        let mut bytes = vec![0; length];
        state.file.seek(SeekFrom::Start(start)).map_err(|error| self.wrong(&error))?;
        state.file.read_exact(&mut bytes).map_err(|error| self.wrong(&error))?;
        drop(state);
        match parse(&bytes) {
            Ok((found, line)) if found == *key => Ok(Some(line.answer)),
            _ => Err(self.wrong(&format!("byte {start}: it was changed while it was in use"))),
        }
    }

    /// Appends an answer, which took so many tokens at most, and returns once it is on disk.
    ///
    /// Answers that come at the same time share a sync, so that a slow disk keeps nobody waiting for more than two.
    pub fn keep(&self, key: Key, answer: &Answer, most: Tokens) -> Result<(), RemoteError> {
        let line = Line {
            key: hex(&key),
            provider: self.provider.name(),
            model: self.model.as_str().into(),
            answer: answer.clone(),
            most_tokens: answer.tokens.is_none().then_some(most),
        };
        let mut bytes = serde_json::to_vec(&line).map_err(|error| self.wrong(&error))?;
        bytes.push(b'\n');
        let mine = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let start = state.end;
            state.file.seek(SeekFrom::Start(start)).map_err(|error| self.wrong(&error))?;
            if let Err(error) = state.file.write_all(&bytes) {
                // The next line must not be glued to half of this one. If this fails too, the half is cut off on opening.
                let _ = state.file.set_len(start);
                return Err(self.unwritten(&error));
            }
            state.end += bytes.len() as u64;
            state.appended += 1;
            state.places.insert(key, (start, bytes.len()));
            state.appended
        };
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced < mine {
            let appended = self.state.lock().unwrap_or_else(PoisonError::into_inner).appended;
            self.syncing.sync_data().map_err(|error| self.unwritten(&error))?;
            *synced = appended;
        }
        Ok(())
    }

    /// An answer that could not be written. Those before it are on disk.
    fn unwritten(&self, error: &std::io::Error) -> RemoteError {
        let full = matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::FileTooLarge | ErrorKind::QuotaExceeded
        );
        let hint = match full {
            true => "\nhint: free some space and give the same again; what was answered before is kept",
            false => "",
        };
        self.wrong(&format_args!("{error}{hint}"))
    }

    fn wrong(&self, reason: &dyn std::fmt::Display) -> RemoteError {
        RemoteError::Record { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// A new file is there after a crash only once its folder is on disk.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn parse(bytes: &[u8]) -> Result<(Key, Line<'_>), String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let key = unhex(&line.key).ok_or_else(|| format!("`{}` is no key", line.key))?;
    Ok((key, line))
}

fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Key> {
    let bytes = text.as_bytes();
    let mut key = Key::default();
    if bytes.len() != 2 * key.len() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(bytes.chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests;
