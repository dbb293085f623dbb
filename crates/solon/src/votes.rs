//! The votes of people on disk.
//!
//! Contract: beside `OUT`, each annotator has a file `OUT.votes.NAME.jsonl`, which only their session writes; `OUT.votes.jsonl` holds votes
//! that were imported or stored without a name. A label is made from all of them, so files from other machines are joined by copying them
//! there. An appended vote is on disk when the call returns; an undone vote is removed. A line that a crash left unfinished was never
//! confirmed and does not count. A vote keeps a hash of its pair, so that it is not counted for other texts with the same id.

use crate::run::iso;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use solon_data::files::sha256_parts;
use solon_data::jsonl::write_jsonl;
use solon_feedback::{Annotator, FeedbackError, Pass, Vote, prompt_text};
use solon_records::Pair;
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The largest file of votes that is read: 1 GiB, some millions of votes.
const MAX_FILE_BYTES: u64 = 1 << 30;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    vote: Vote,
    /// When, as ISO 8601 in UTC; missing for votes from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    pair_sha256: String,
}

/// The path `OUT.WHAT.jsonl`.
pub fn beside(out: &Path, what: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(format!(".{what}.jsonl"));
    PathBuf::from(name)
}

/// What tells a pair's texts from others.
pub fn pair_hash(prompt: &str, first: &str, second: &str) -> String {
    sha256_parts([prompt, first, second])
}

/// The votes in a file, each with the hash of its pair.
pub fn read_votes(path: &Path) -> Result<Vec<(Vote, String)>> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let (bytes, _) = whole_lines(&mut file, path)?;
    let lines = Hashes(HashMap::new()).parse(path, &bytes)?;
    Ok(lines.into_iter().map(|(_, line)| (line.vote, line.pair_sha256)).collect())
}

/// Hashes of pairs by id.
struct Hashes(HashMap<String, String>);

impl Hashes {
    fn of(pairs: &[Pair]) -> Self {
        let hash = |pair: &Pair| pair_hash(&prompt_text(&pair.prompt), &pair.first, &pair.second);
        Self(pairs.iter().map(|pair| (pair.id.clone(), hash(pair))).collect())
    }

    fn line(&self, vote: Vote, time: Option<String>) -> Line {
        let pair_sha256 = self.0.get(&vote.pair_id).cloned().unwrap_or_default();
        Line { vote, time, pair_sha256 }
    }

    /// The votes in the whole lines of a file, each with its line number.
    fn parse(&self, path: &Path, bytes: &[u8]) -> Result<Vec<(usize, Line)>> {
        let shown = path.display();
        let mut lines = Vec::new();
        for (place, bytes) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, b)| !b.is_empty()) {
            let line: Line = serde_json::from_slice(bytes)
                .with_context(|| format!("{shown}:{} is not a vote", place + 1))?;
            if !line.vote.is_consistent() {
                bail!("{shown}:{} is not a vote: its probability is not that of its choice", place + 1);
            }
            match self.0.get(&line.vote.pair_id) {
                Some(expected) if *expected != line.pair_sha256 => bail!(
                    "{shown}:{}: the vote on {} belongs to a pair with other texts\nhint: give another --out, or move this file away",
                    place + 1,
                    line.vote.pair_id
                ),
                _ => lines.push((place + 1, line)),
            }
        }
        Ok(lines)
    }
}

/// All votes beside an output.
#[derive(Debug, PartialEq)]
pub struct StoredVotes {
    /// Those on the pairs.
    pub votes: Vec<Vote>,
    /// How many are on pairs that are not among them. They are kept in their files.
    pub on_others: usize,
}

impl StoredVotes {
    /// Reads every file of votes beside `out`. A vote that is there twice, because a file was copied, counts once.
    pub fn read(out: &Path, pairs: &[Pair]) -> Result<Self> {
        let hashes = Hashes::of(pairs);
        let mut seen: HashMap<(Annotator, String, Pass), (String, Line)> = HashMap::new();
        let mut stored = Self { votes: Vec::new(), on_others: 0 };
        for path in files_beside(out)? {
            let mut file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            let bytes = whole_lines(&mut file, &path)?.0;
            for (number, line) in hashes.parse(&path, &bytes)? {
                let place = format!("{}:{number}", path.display());
                let key = (line.vote.annotator.clone(), line.vote.pair_id.clone(), line.vote.pass);
                match seen.get(&key) {
                    Some((_, before)) if *before == line => continue,
                    Some((before, _)) => bail!(
                        "{place}: {} has another vote on {} at {before}\nhint: take one of the two lines out",
                        line.vote.annotator,
                        line.vote.pair_id
                    ),
                    None => _ = seen.insert(key, (place, line.clone())),
                }
                if hashes.0.contains_key(&line.vote.pair_id) {
                    stored.votes.push(line.vote);
                } else {
                    stored.on_others += 1;
                }
            }
        }
        Ok(stored)
    }
}

/// `OUT.votes.jsonl` and every `OUT.votes.NAME.jsonl`, by name.
fn files_beside(out: &Path) -> Result<Vec<PathBuf>> {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = out.file_name().with_context(|| format!("{} names no file", out.display()))?.to_string_lossy();
    let (shared, of_one) = (format!("{name}.votes.jsonl"), format!("{name}.votes."));
    let failed = || format!("cannot read {}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name == shared.as_str() || (name.starts_with(&of_one) && name.ends_with(".jsonl")) {
            files.push(out.with_file_name(name.as_ref()));
        }
    }
    files.sort();
    Ok(files)
}

/// A file up to its last line feed, and whether something came after it.
fn whole_lines(file: &mut File, path: &Path) -> Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let failed = || format!("cannot read {}", path.display());
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).with_context(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        bail!("{} is larger than {} GiB", path.display(), MAX_FILE_BYTES >> 30);
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let torn = whole < bytes.len();
    bytes.truncate(whole);
    Ok((bytes, torn))
}

/// The file of one annotator, locked for one session.
pub struct OwnVotes {
    file: File,
    hashes: Hashes,
    /// This session's votes: the pair, and the file's length before the vote.
    undo: Vec<(String, u64)>,
    length: u64,
}

impl OwnVotes {
    /// Opens the annotator's file, or creates it, and cuts off a line that was not finished.
    pub fn open(out: &Path, annotator: &Annotator, pairs: &[Pair]) -> Result<Self> {
        let path = beside(out, &format!("votes.{annotator}"));
        let shown = path.display();
        let mut file = File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {shown}"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "{shown} is in use by another session\nhint: end that session first; someone else gives another --annotator"
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {shown}"));
            }
        }
        let (bytes, torn) = whole_lines(&mut file, &path)?;
        let length = bytes.len() as u64;
        if torn {
            file.set_len(length).with_context(|| format!("cannot write {shown}"))?;
        }
        let hashes = Hashes::of(pairs);
        let lines = hashes.parse(&path, &bytes)?;
        if let Some((number, line)) = lines.iter().find(|(_, line)| line.vote.annotator != *annotator) {
            bail!(
                "{shown}:{number}: the vote is of {}, and the file of {annotator}\nhint: rename the file",
                line.vote.annotator
            );
        }
        Ok(Self { file, hashes, undo: Vec::new(), length })
    }

    /// Stores a vote.
    pub fn append(&mut self, vote: Vote) -> Result<(), FeedbackError> {
        let pair_id = vote.pair_id.clone();
        let line = self.hashes.line(vote, Some(now()));
        let mut bytes = serde_json::to_vec(&line).map_err(FeedbackError::persist)?;
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Part of the line may be there, and the next one must not follow it.
            let _ = self.file.set_len(self.length);
            return Err(FeedbackError::persist(error));
        }
        self.undo.push((pair_id, self.length));
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Removes the session's last vote, which is the one on this pair.
    pub fn take_back(&mut self, pair_id: &str) -> Result<(), FeedbackError> {
        let Some((_, length)) = self.undo.pop_if(|(last, _)| last == pair_id) else {
            return Err(FeedbackError::persist(format!("{pair_id} is not the last vote of this session")));
        };
        self.file.set_len(length).and_then(|()| self.file.sync_data()).map_err(FeedbackError::persist)?;
        self.length = length;
        Ok(())
    }
}

/// Writes imported votes to `OUT.votes.jsonl`. Refuses to replace other votes.
pub fn write_imported(out: &Path, pairs: &[Pair], votes: Vec<Vote>) -> Result<()> {
    let path = beside(out, "votes");
    let hashes = Hashes::of(pairs);
    let lines: Vec<Line> = votes.into_iter().map(|vote| hashes.line(vote, None)).collect();
    if path.exists() {
        let mut file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let (bytes, torn) = whole_lines(&mut file, &path)?;
        let before: Vec<Line> = hashes.parse(&path, &bytes)?.into_iter().map(|(_, line)| line).collect();
        if torn || before != lines {
            bail!(
                "{} holds other votes, which are not replaced\nhint: give another --out, or rename it to {}.votes.EARLIER.jsonl to keep them beside the new ones",
                path.display(),
                out.display()
            );
        }
    }
    Ok(write_jsonl(&path, &lines)?)
}

fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    iso(seconds as i64)
}

#[cfg(test)]
mod tests;
