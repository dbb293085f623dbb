//! Folders and files that appear whole or not at all.
//!
//! Contract: files are written into a temporary folder beside the final one and synced; [`StagedFolder::commit`]
//! renames them. Dropping it earlier, as on an error or a full disk, removes the temporary folder, and the final name
//! is never touched. Where the final folder exists already, its files are replaced one by one, each atomically, and
//! files of other names are left alone.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::WeightsError;

/// Writes one file: under a temporary name beside it, synced, then renamed. Folders above it are made where they are
/// missing.
pub(super) fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> std::io::Result<()>,
) -> Result<(), WeightsError> {
    let target = std::path::absolute(path).map_err(WeightsError::io(path, "resolve"))?;
    let (Some(parent), false) = (target.parent(), target.is_dir()) else {
        return Err(WeightsError::invalid(path, "file", "a folder", "give the name of a file"));
    };
    std::fs::create_dir_all(parent).map_err(WeightsError::io(parent, "create"))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".solon-saving-");
    // The permissions of an ordinary file (the umask still applies).
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(parent).map_err(WeightsError::io(parent, "create a file in"))?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    let written =
        fill(&mut writer).and_then(|()| writer.flush()).and_then(|()| temporary.as_file().sync_all());
    written.map_err(WeightsError::io(path, "write"))?;
    drop(writer);
    temporary
        .persist(&target)
        .map_err(|error| WeightsError::io(path, "rename the finished file to")(error.error))?;
    sync_folder(parent)
}

/// A folder under construction.
pub(super) struct StagedFolder {
    temporary: tempfile::TempDir,
    target: PathBuf,
    names: Vec<String>,
}

impl StagedFolder {
    /// Makes the temporary folder beside `target`, and the folders above it where they are missing.
    pub(super) fn new(target: &Path) -> Result<Self, WeightsError> {
        // A name such as `.` has no parent to write beside; its absolute form has.
        let target = std::path::absolute(target).map_err(WeightsError::io(target, "resolve"))?;
        let Some(parent) = target.parent() else {
            return Err(WeightsError::invalid(&target, "folder", "the root", "give a folder of its own"));
        };
        std::fs::create_dir_all(parent).map_err(WeightsError::io(parent, "create"))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".solon-saving-");
        // The folder is renamed into place, so it needs the permissions of an ordinary one (the umask still applies).
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let temporary = builder.tempdir_in(parent).map_err(WeightsError::io(parent, "create a folder in"))?;
        Ok(Self { temporary, target, names: Vec::new() })
    }

    /// Writes one file and syncs it.
    pub(super) fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
    ) -> Result<(), WeightsError> {
        let path = self.temporary.path().join(name);
        let written = File::create_new(&path).and_then(|file| {
            let mut writer = BufWriter::with_capacity(1 << 20, file);
            fill(&mut writer)?;
            writer.into_inner().map_err(|error| error.into_error())?.sync_all()
        });
        written.map_err(WeightsError::io(&self.target.join(name), "write"))?;
        self.names.push(name.to_string());
        Ok(())
    }

    /// Gives everything its final name.
    pub(super) fn commit(self) -> Result<(), WeightsError> {
        let failed = |path: &Path| WeightsError::io(path, "rename the finished files to");
        sync_folder(self.temporary.path())?;
        if self.target.exists() {
            for name in &self.names {
                let target = self.target.join(name);
                std::fs::rename(self.temporary.path().join(name), &target).map_err(failed(&target))?;
            }
            sync_folder(&self.target)?;
        } else {
            std::fs::rename(self.temporary.path(), &self.target).map_err(failed(&self.target))?;
            // The folder has moved; there is nothing left to remove under its old name.
            let _ = self.temporary.keep();
        }
        match self.target.parent() {
            Some(parent) => sync_folder(parent),
            None => Ok(()),
        }
    }
}

/// Makes renames durable. Windows cannot sync a folder and does not need to.
fn sync_folder(path: &Path) -> Result<(), WeightsError> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(WeightsError::io(path, "sync"))?;
    }
    Ok(())
}

/// Writes bytes as one file of a staged folder.
pub(super) fn bytes(content: &[u8]) -> impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()> {
    move |writer| writer.write_all(content)
}
