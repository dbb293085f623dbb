//! Atomic writes of files, SHA-256 hashes, files under their hash, and the lock on a run's folder.
//!
//! Contract: a write goes to a temporary file in the same folder, which is flushed, synced and renamed over the target.
//! The folder is synced last, so that the rename survives a power cut. A failure before the rename leaves the old file
//! untouched and removes the temporary file. A killed process may leave a temporary file behind;
//! [`remove_stale_temporaries`] removes it.
//!
//! Source: the sequence is the one SQLite and LevelDB use; see "All File Systems Are Not Created Equal" (OSDI 2014).

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::DataError;

/// Temporary files are named `.{target}.{random}{TEMPORARY_SUFFIX}`.
const TEMPORARY_SUFFIX: &str = ".solon-tmp";

/// Writes `bytes` to `path` where no file is there yet; says whether it did. What is there is never changed.
///
/// # Errors
/// [`DataError::Io`] if the system refuses; then there is no file.
pub fn create_bytes_atomically(path: &Path, bytes: &[u8]) -> Result<bool, DataError> {
    let folder = folder_of(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut temporary =
        create_temporary(folder, &name).map_err(DataError::io("create a file beside", path))?;
    temporary.as_file_mut().write_all(bytes).map_err(DataError::io("write", path))?;
    temporary.as_file().sync_all().map_err(DataError::io("sync", path))?;
    match temporary.persist_noclobber(path) {
        Ok(_) => sync_folder(folder).map(|()| true),
        Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(failed) => Err(DataError::io("create", path)(failed.error)),
    }
}

/// Keeps what `reader` gives, to its end, in `folder` under the SHA-256 of its content; returns the file. A file that is there already
/// counts as used now.
///
/// # Errors
/// [`DataError::Io`] if the system refuses; then nothing is kept.
pub fn keep_by_hash(reader: &mut dyn Read, folder: &Path) -> Result<PathBuf, DataError> {
    let mut temporary =
        create_temporary(folder, "kept").map_err(DataError::io("create a file in", folder))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                temporary.write_all(&buffer[..n]).map_err(DataError::io("write a file in", folder))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DataError::io("read what is to be kept in", folder)(error)),
        }
    }
    let path = folder.join(hex(&hasher.finalize()));
    if path.exists() {
        used_now(&path)?;
        return Ok(path);
    }
    temporary.as_file().sync_all().map_err(DataError::io("sync", &path))?;
    temporary.persist(&path).map_err(|failed| DataError::io("create", &path)(failed.error))?;
    sync_folder(folder)?;
    Ok(path)
}

/// Notes that a file is used, for [`remove_unused_since`].
///
/// # Errors
/// [`DataError::Io`] if the system refuses.
pub fn used_now(path: &Path) -> Result<(), DataError> {
    let touched =
        File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    touched.map_err(DataError::io("note the use of", path))
}

/// Removes the files in `folder` that were neither made nor used since `limit`; returns their number.
///
/// # Errors
/// [`DataError::Io`] when the folder cannot be read or a file cannot be removed.
pub fn remove_unused_since(folder: &Path, limit: SystemTime) -> Result<usize, DataError> {
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(DataError::io("read", folder))? {
        let path = entry.map_err(DataError::io("read", folder))?.path();
        // Another process may be removing the same files.
        let Ok(about) = fs::metadata(&path) else { continue };
        if about.is_file() && about.modified().is_ok_and(|modified| modified < limit) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(DataError::io("remove", &path)(error));
                }
                _ => removed += 1,
            }
        }
    }
    Ok(removed)
}

/// Replaces `path` with what `write` writes, or leaves it unchanged.
///
/// A symbolic link is followed, and an existing file's permissions are kept.
///
/// # Errors
/// [`DataError::Io`] if the system refuses or `write` returns an error; then `path` is unchanged.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), DataError> {
    let target = follow_links(path)?;
    let folder = folder_of(&target);
    let name = target.file_name().ok_or_else(|| DataError::Io {
        action: "write",
        path: path.to_path_buf(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"),
    })?;
    let mut temporary = create_temporary(folder, &name.to_string_lossy())
        .map_err(DataError::io("create a file beside", path))?;

    let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    write(&mut buffered).and_then(|()| buffered.flush()).map_err(DataError::io("write", path))?;
    drop(buffered);

    if let Ok(existing) = fs::metadata(&target) {
        temporary
            .as_file()
            .set_permissions(existing.permissions())
            .map_err(DataError::io("keep permissions of", path))?;
    }
    temporary.as_file().sync_all().map_err(DataError::io("sync", path))?;
    temporary.persist(&target).map_err(|failed| DataError::io("replace", path)(failed.error))?;
    sync_folder(folder)
}

/// Replaces `path` with `bytes`, or leaves it unchanged.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_bytes_atomically(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    write_atomically(path, |out| out.write_all(bytes))
}

/// Removes the temporary files that killed processes left in `folder` (not in its sub-folders); returns their number.
///
/// Call it only while holding the folder's [`FolderLock`]. Otherwise a temporary file may belong to a running process.
///
/// # Errors
/// [`DataError::Io`] when the folder cannot be read or a file cannot be removed.
pub fn remove_stale_temporaries(folder: &Path) -> Result<usize, DataError> {
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(DataError::io("read", folder))? {
        let entry = entry.map_err(DataError::io("read", folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX) {
            fs::remove_file(entry.path()).map_err(DataError::io("remove", &entry.path()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// SHA-256 of a file's bytes, lowercase hex.
///
/// # Errors
/// [`DataError::Io`] when the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, DataError> {
    let mut file = File::open(path).map_err(DataError::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DataError::io("read", path)(error)),
        }
    }
}

/// SHA-256 of bytes, lowercase hex.
///
/// ```
/// let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// assert_eq!(solon_data::files::sha256_bytes(b""), empty);
/// ```
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of several parts, lowercase hex. Each part is preceded by its length as 8 little-endian bytes, so `["ab",
/// "c"]` and `["a", "bc"]` differ.
pub fn sha256_parts<Part: AsRef<[u8]>>(parts: impl IntoIterator<Item = Part>) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex(&hasher.finalize())
}

/// An exclusive lock on a folder. It is released when dropped, and by the system when the process dies.
///
/// The lock is on a file `.lock` in the folder and is advisory: readers such as `solon explain` do not need it.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`DataError::InUse`] if another process holds it; [`DataError::Io`] if the lock file cannot be created.
    pub fn acquire(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(DataError::io("open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataError::InUse { path: folder.to_path_buf() }),
            Err(TryLockError::Error(error)) => Err(DataError::io("lock", &path)(error)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Resolves links: a rename over a link would replace the link, and the file it points to would stay unchanged.
fn follow_links(path: &Path) -> Result<PathBuf, DataError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_symlink() => {
            fs::canonicalize(path).map_err(DataError::io("follow", path))
        }
        _ => Ok(path.to_path_buf()),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn create_temporary(folder: &Path, name: &str) -> io::Result<tempfile::NamedTempFile> {
    // A long target name with our additions must still fit the usual limit of 255 bytes.
    let stem: String = name.chars().take(40).collect();
    let prefix = format!(".{stem}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(TEMPORARY_SUFFIX);
    // tempfile's default of 0600 would make a model folder unreadable to the user's group; the umask restricts 0666.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Windows cannot sync a folder and does not need to: its rename is journaled.
fn sync_folder(folder: &Path) -> Result<(), DataError> {
    if cfg!(unix) {
        File::open(folder)
            .and_then(|opened| opened.sync_all())
            .map_err(DataError::io("sync the folder", folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_write_creates_and_then_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_bytes_atomically(&path, b"one").unwrap();
        write_bytes_atomically(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_bytes_atomically(&path, b"old").unwrap();
        let error = write_atomically(&path, |out| {
            out.write_all(&vec![7; 3 << 20])?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_panicking_writer_leaves_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_bytes_atomically(&path, b"old").unwrap();
        let panicked = std::panic::catch_unwind(|| write_atomically(&path, |_| panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_kill_between_temporary_and_rename_leaves_the_old_file_and_is_swept_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_bytes_atomically(&path, b"old").unwrap();
        // What SIGKILL leaves: a half-written temporary file that was never dropped.
        let mut orphan = create_temporary(folder.path(), "a.bin").unwrap();
        orphan.write_all(b"ne").unwrap();
        orphan.keep().unwrap();
        assert_eq!(names(folder.path()).len(), 2);
        assert_eq!(fs::read(&path).unwrap(), b"old");

        write_bytes_atomically(&path, b"new").unwrap();
        fs::write(folder.path().join("notes.solon-tmp"), "the user's own").unwrap();
        assert_eq!(remove_stale_temporaries(folder.path()).unwrap(), 1);
        assert_eq!(names(folder.path()), ["a.bin", "notes.solon-tmp"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_bytes_atomically(&folder.path().join("no/such/a.bin"), b"x").unwrap_err();
        assert!(error.to_string().contains("no/such/a.bin"), "{error}");
        assert!(write_bytes_atomically(Path::new("/"), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_and_permissions_are_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        write_bytes_atomically(&real, b"old").unwrap();
        assert_ne!(fs::metadata(&real).unwrap().permissions().mode() & 0o044, 0, "others may read");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        write_bytes_atomically(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_is_there_is_not_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frozen.json");
        assert!(create_bytes_atomically(&path, b"first").unwrap());
        assert!(!create_bytes_atomically(&path, b"second").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(create_bytes_atomically(&folder.path().join("gone/file"), b"").is_err());
    }

    #[test]
    fn hashes_are_the_published_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(&path).unwrap(), expected);
        assert_eq!(sha256_bytes(b"abc"), expected);
        assert_ne!(sha256_parts(["ab", "c"]), sha256_parts(["a", "bc"]));
        assert!(sha256_file(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }

    #[test]
    fn a_folder_is_held_once() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::acquire(folder.path()).unwrap();
        assert!(matches!(FolderLock::acquire(folder.path()), Err(DataError::InUse { .. })));
        drop(held);
        FolderLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn what_is_kept_has_the_name_of_its_content_and_goes_when_it_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |bytes: &[u8]| keep_by_hash(&mut &bytes[..], folder.path()).unwrap();
        let (one, other) = (keep(b"one"), keep(b"other"));
        assert_eq!(one, folder.path().join(sha256_bytes(b"one")));
        assert_eq!(fs::read(&one).unwrap(), b"one");
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        for path in [&one, &other] {
            File::options().append(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        let day_later = long_ago + std::time::Duration::from_secs(86_400);
        assert_eq!(keep(b"one"), one);
        assert_eq!(remove_unused_since(folder.path(), day_later).unwrap(), 1);
        assert_eq!(names(folder.path()), [sha256_bytes(b"one")]);
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        assert!(keep_by_hash(&mut Broken, folder.path()).is_err());
        assert_eq!(names(folder.path()).len(), 1);
    }
}
