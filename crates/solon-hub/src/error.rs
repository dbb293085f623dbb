//! What goes wrong with the Hub: each error says what, of which repository or file, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A setting of the environment cannot be used.
    #[error("{variable} is `{value}`; {rule}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// Its value; never a token.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The Hub does not let the caller in.
    #[error("{repository}: the Hub does not give access (HTTP {status}{says})\nhint: {hint}")]
    Access {
        /// The repository.
        repository: String,
        /// 401 or 403.
        status: u16,
        /// What the Hub says, after a colon, or nothing.
        says: String,
        /// What to do.
        hint: String,
    },
    /// There is no such repository, revision or file.
    #[error("{repository}: {what}{says}\nhint: {hint}")]
    NotFound {
        /// The repository.
        repository: String,
        /// What is not there.
        what: String,
        /// What the Hub says, after a colon, or nothing.
        says: String,
        /// What to do.
        hint: String,
    },
    /// The Hub replies with something else than what was asked for.
    #[error("{repository}: {reason}")]
    Reply {
        /// The repository.
        repository: String,
        /// What it says.
        reason: String,
    },
    /// The Hub cannot be reached, and the cache does not hold what is needed.
    #[error(
        "{repository}: the Hub cannot be reached at {endpoint}: {reason}\n\
         hint: is there a network? What is in the cache already can be used with HF_HUB_OFFLINE=1"
    )]
    Unreachable {
        /// The repository.
        repository: String,
        /// The Hub's address.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The Hub is not to be asked, and the cache does not hold what is needed.
    #[error(
        "{repository}: HF_HUB_OFFLINE is set, and the cache in {} does not hold it: {reason}\n\
         hint: unset HF_HUB_OFFLINE once to download it, or set HF_HOME to the folder of another cache",
        cache.display()
    )]
    Offline {
        /// The repository.
        repository: String,
        /// The cache.
        cache: PathBuf,
        /// What is lacking.
        reason: String,
    },
    /// The repository does not hold what is needed, or holds several of it.
    #[error("{repository}: {reason}\nhint: {hint}")]
    Choice {
        /// The repository.
        repository: String,
        /// What is lacking, or a list of what there is.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A file came whole and is not the file that the Hub names.
    #[error(
        "{file}: the download has the hash {got} instead of {expected}; it was thrown away\n\
         hint: try again; if it happens again, something between here and the Hub changes files"
    )]
    Hash {
        /// The file.
        file: String,
        /// The hash that the Hub names.
        expected: String,
        /// The hash of what came.
        got: String,
    },
    /// A file does not come whole, however often it is asked for.
    #[error(
        "{file}: {got} of {size} bytes came, then nothing more: {reason}\n\
         hint: what came is kept; the same command goes on from there"
    )]
    Truncated {
        /// The file.
        file: String,
        /// Bytes that came.
        got: u64,
        /// Bytes of the whole file.
        size: u64,
        /// How the last attempt ended.
        reason: String,
    },
    /// Nothing is pushed.
    #[error("{repository}: {reason}; nothing was pushed\nhint: {hint}")]
    NotPushed {
        /// The repository.
        repository: String,
        /// Why.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The disk is full.
    #[error(
        "{}: no space is left; {needed} bytes of the file are still to come\n\
         hint: make room, or set HF_HOME to a folder on a larger disk; what came is kept",
        path.display()
    )]
    NoSpace {
        /// The file that was written.
        path: PathBuf,
        /// Bytes of it that are still to come.
        needed: u64,
    },
    /// The system refuses something in the cache.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// A verb, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl HubError {
    /// For `map_err`: the action on the path failed.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
