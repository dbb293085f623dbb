//! The folder of downloaded repositories, laid out as `huggingface_hub` does it, so that transformers finds the files too.
//!
//! ```text
//! models--org--name/blobs/HASH                  a file's content
//! models--org--name/blobs/HASH.incomplete       its first part, while it is downloaded
//! models--org--name/refs/main                   the commit that `main` was when it was last asked for
//! models--org--name/snapshots/COMMIT/a/b.json   a link to a blob
//! .locks/models--org--name/HASH.lock            held by the process that downloads it
//! ```
//!
//! Contract: a name in `snapshots` leads to a whole, checked file. What is written here is renamed into place, so a killed
//! process leaves at most an incomplete blob, which the next one goes on with.
//!
//! Source: <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::HubError;
use crate::name::{RepositoryKind, RepositoryName, is_commit};

/// Folders inside a snapshot that are looked into.
const DEEPEST: usize = 16;

/// Where the listings of commits lie, beside the folders that all clients know.
const LISTINGS: &str = ".solon-listings";

/// The folder of one repository.
pub(crate) struct RepositoryFolder {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepositoryFolder {
    pub fn new(cache: &Path, kind: RepositoryKind, id: &str) -> Self {
        let name = format!("{}--{}", kind.plural(), id.replace('/', "--"));
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    /// Where the content with this hash lies.
    pub fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    /// Where it lies while it is downloaded.
    pub fn incomplete(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{hash}.incomplete"))
    }

    /// The folder of a commit's files.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The commit that a revision was when it was last asked for.
    pub fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes which commit a revision is.
    pub fn note_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        let next = beside(&path);
        make_parent(&path)?;
        fs::write(&next, commit).map_err(HubError::io("write", &next))?;
        fs::rename(&next, &path).map_err(HubError::io("replace", &path))
    }

    /// Notes which files a commit has, whether they are here or not. Others who fill the cache do not note it.
    pub fn note_listing(&self, commit: &str, names: &[&str]) -> Result<(), HubError> {
        if self.listed(commit).is_some_and(|known| known == names) {
            return Ok(());
        }
        let path = self.folder.join(LISTINGS).join(commit);
        let next = beside(&path);
        make_parent(&path)?;
        fs::write(&next, names.join("\n")).map_err(HubError::io("write", &next))?;
        fs::rename(&next, &path).map_err(HubError::io("replace", &path))
    }

    /// Which files a commit has, where that was noted.
    pub fn listed(&self, commit: &str) -> Option<Vec<String>> {
        let text = fs::read_to_string(self.folder.join(LISTINGS).join(commit)).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    }

    /// The names of all files of a commit that are here whole.
    pub fn names(&self, commit: &str) -> Vec<String> {
        let root = self.snapshot(commit);
        let mut names = Vec::new();
        let mut folders = vec![(root.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
                // Links are followed: a link to a blob that is gone is no file.
                if path.is_file() {
                    let name = path.strip_prefix(&root).ok().and_then(Path::to_str);
                    names.extend(name.map(|name| name.replace('\\', "/")));
                } else if path.is_dir() && depth < DEEPEST {
                    folders.push((path, depth + 1));
                }
            }
        }
        names.sort();
        names
    }

    /// The blob with this hash, if it is here with this size.
    pub fn whole(&self, hash: &str, size: u64) -> Option<PathBuf> {
        let blob = self.blob(hash);
        fs::metadata(&blob).is_ok_and(|there| there.is_file() && there.len() == size).then_some(blob)
    }

    /// Waits until no other process downloads this blob, and keeps others from it until the lock is dropped. `busy` is
    /// called before it waits.
    pub fn lock(&self, hash: &str, busy: impl FnOnce()) -> Result<File, HubError> {
        let path = self.locks.join(format!("{hash}.lock"));
        make_parent(&path)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(HubError::io("open the lock", &path))?;
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            busy();
            file.lock().map_err(HubError::io("lock", &path))?;
        }
        // A file system without locks, as some networks have, is used without them.
        Ok(file)
    }

    /// Gives a blob its name in a commit, and returns the path of that name.
    pub fn link(&self, commit: &str, name: &str, hash: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot(commit).join(name);
        // Out of the folders that the name has, of the commit's and of `snapshots`.
        let up = "../".repeat(name.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{hash}"));
        if fs::read_link(&path).is_ok_and(|there| there == target) {
            return Ok(path);
        }
        make_parent(&path)?;
        // A link is made beside and renamed, because it may replace another that is in use.
        let next = beside(&path);
        let made = match make_link(&target, &next) {
            Ok(()) => Ok(()),
            Err(_) => fs::copy(self.blob(hash), &next).map(|_| ()),
        };
        made.and_then(|()| fs::rename(&next, &path)).map_err(HubError::io("link", &path))?;
        Ok(path)
    }
}

/// The name of what lies at a path of a cache, at its commit; none if the path is in no snapshot.
///
/// ```
/// use std::path::Path;
/// let commit = "0123456789abcdef0123456789abcdef01234567";
/// let file = format!("/cache/hub/datasets--org--name/snapshots/{commit}/data/train.jsonl");
/// let name = solon_hub::name_in_cache(Path::new(&file)).unwrap();
/// assert_eq!(name.to_string(), format!("org/name@{commit}:data/train.jsonl"));
/// assert_eq!(solon_hub::name_in_cache(Path::new("/cache/train.jsonl")), None);
/// ```
pub fn name_in_cache(path: &Path) -> Option<RepositoryName> {
    let parts: Vec<&str> = path.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    let at = parts.windows(3).rposition(|three| three[1] == "snapshots" && is_commit(three[2]))?;
    let kinds = [RepositoryKind::Model, RepositoryKind::Dataset];
    let id = kinds.iter().find_map(|kind| parts[at].strip_prefix(kind.plural())?.strip_prefix("--"))?;
    let (organisation, name) = id.split_once("--")?;
    let choice = parts[at + 3..].join("/");
    let colon = if choice.is_empty() { "" } else { ":" };
    RepositoryName::read(&format!("{organisation}/{name}@{}{colon}{choice}", parts[at + 2]))
}

/// Makes the folder that a file is to be in.
pub(crate) fn make_parent(path: &Path) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(HubError::io("make the folder", folder))
}

/// A name in the same folder that nobody else writes to at the same time.
fn beside(path: &Path) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    path.with_file_name(format!(".solon-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

#[cfg(unix)]
fn make_link(target: &Path, at: &Path) -> std::io::Result<()> {
    // What a killed process of the same number left.
    let _ = fs::remove_file(at);
    std::os::unix::fs::symlink(target, at)
}

/// Links need a right on Windows that few have; the caller copies.
#[cfg(not(unix))]
fn make_link(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_name_leads_to_its_blob_at_every_depth_and_is_replaced() {
        let cache = tempfile::tempdir().unwrap();
        let folder = RepositoryFolder::new(cache.path(), RepositoryKind::Model, "org/name");
        for hash in ["a1", "b2"] {
            make_parent(&folder.blob(hash)).unwrap();
            fs::write(folder.blob(hash), hash).unwrap();
            for name in ["config.json", "deep/er/x.jinja"] {
                let path = folder.link(COMMIT, name, hash).unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), hash);
                assert!(path.ends_with(name) && path.starts_with(cache.path().join("models--org--name")));
            }
        }
        assert_eq!(folder.names(COMMIT), ["config.json", "deep/er/x.jinja"]);
        fs::remove_file(folder.blob("b2")).unwrap();
        assert!(folder.names(COMMIT).is_empty() || cfg!(not(unix)), "links to nothing are no files");
        assert_eq!((folder.whole("a1", 2).is_some(), folder.whole("a1", 3)), (true, None));
    }

    #[test]
    fn a_revision_is_noted_with_its_commit() {
        let cache = tempfile::tempdir().unwrap();
        let folder = RepositoryFolder::new(cache.path(), RepositoryKind::Dataset, "org/name");
        for revision in ["main", "refs/pr/1"] {
            assert_eq!(folder.commit_of(revision), None);
            folder.note_commit(revision, COMMIT).unwrap();
            assert_eq!(folder.commit_of(revision).as_deref(), Some(COMMIT));
        }
        assert_eq!(folder.commit_of(COMMIT).as_deref(), Some(COMMIT));
        fs::write(cache.path().join("datasets--org--name/refs/main"), "../../x").unwrap();
        assert_eq!(folder.commit_of("main"), None);
    }
}
