//! Files that can be read only once: pipes, process substitutions (`<(…)`), standard input.
//!
//! Contract: a run reads its data several times (hashes it, checks it, loads it), and a later run of the same command has to
//! tell whether the data changed. So what a pipe gives is read once, to its end, and kept under the hash of its content. What was not
//! used for [`KEPT`] is removed when the next pipe is read.

use crate::catalogue::cache_folder;
use anyhow::{Context, Result, bail};
use solon_data::files::{keep_by_hash, remove_unused_since, used_now};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a command line calls standard input.
const STDIN: &str = "-";

/// How long data of a pipe is kept after its last use. A run that was broken off is mostly gone on with before.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The path of a file named on the command line.
pub fn named(path: &Path) -> PathBuf {
    if path == Path::new(STDIN) { PathBuf::from("/dev/stdin") } else { path.to_owned() }
}

/// The file itself, if it can be read as often as one likes; else a file with what it gave.
pub fn at_rest(path: PathBuf) -> Result<PathBuf> {
    let about = || path.display().to_string();
    let kind = std::fs::metadata(&path).with_context(about)?;
    let is_descriptor = path.starts_with("/dev") || path.starts_with("/proc");
    let folder = || Ok::<_, anyhow::Error>(cache_folder()?.join("piped"));
    if kind.is_dir() || (kind.is_file() && !is_descriptor) {
        if folder().is_ok_and(|folder| path.parent() == Some(&folder)) {
            used_now(&path)?;
        }
        return Ok(path);
    }
    // `< file` is that file, which a later command finds too.
    if kind.is_file()
        && let Ok(named) = std::fs::canonicalize(&path)
        && named.is_file()
    {
        return Ok(named);
    }
    if !kind.is_file() && !has_an_end(&path, &kind) {
        bail!("{} is neither a file nor a pipe", path.display());
    }
    let folder = folder()?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut pipe = File::open(&path).with_context(about)?;
    let kept = keep_by_hash(&mut pipe, &folder).with_context(about)?;
    if let Some(limit) = SystemTime::now().checked_sub(KEPT) {
        remove_unused_since(&folder, limit)?;
    }
    Ok(kept)
}

/// Whether it is a pipe, or standard input of any kind; a device such as `/dev/zero` has no end.
#[cfg(unix)]
fn has_an_end(path: &Path, kind: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let kind = kind.file_type();
    kind.is_fifo() || kind.is_socket() || path == named(Path::new(STDIN))
}

#[cfg(not(unix))]
fn has_an_end(_: &Path, _: &std::fs::Metadata) -> bool {
    true
}
