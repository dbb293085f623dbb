//! The one error of everything that reads or writes model files.
//!
//! Contract: every message names the file, the field or tensor, what was found there, and what to do about it (the
//! `hint:` line). Files from outside are untrusted, so these are ordinary results, never panics.

use std::path::{Path, PathBuf};

use solon_records::{GIT_LFS_POINTER, IS_GIT_LFS_POINTER};

/// Why a checkpoint or an adapter could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb: "read", "create".
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file contradicts itself or its format: it is damaged or hostile.
    #[error("{}: {field}: {found}\nhint: {hint}", path.display())]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// The field of the file that is wrong.
        field: String,
        /// What stands there.
        found: String,
        /// What to do.
        hint: String,
    },
    /// The file is sound, but holds something Solon cannot run.
    #[error("{}: {field}: {found}, which is not supported\nhint: {hint}", path.display())]
    Unsupported {
        /// The file or folder.
        path: PathBuf,
        /// The field that asks for it.
        field: String,
        /// What stands there.
        found: String,
        /// What to do.
        hint: String,
    },
    /// Git LFS has not fetched the file.
    #[error("{} {IS_GIT_LFS_POINTER}", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// A tensor is missing, superfluous, mis-shaped or not finite.
    #[error("{}: tensor {name}: {found}\nhint: {hint}", path.display())]
    Tensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor's name, as the file spells it.
        name: String,
        /// What is wrong with it.
        found: String,
        /// What to do.
        hint: String,
    },
}

/// For files that are cut short or altered.
pub(super) const DAMAGED: &str = "the file is damaged or not what its name says; download or export it again";

impl WeightsError {
    /// The error of a file that begins with these bytes, if Git LFS left it in place of the file itself.
    pub(super) fn if_pointer(path: &Path, start: &[u8]) -> Option<Self> {
        start.starts_with(GIT_LFS_POINTER.as_bytes()).then(|| Self::Pointer { path: path.to_path_buf() })
    }

    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    pub(super) fn invalid(
        path: &Path,
        field: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Invalid {
            path: path.to_path_buf(),
            field: field.into(),
            found: found.into(),
            hint: hint.into(),
        }
    }

    pub(super) fn unsupported(
        path: &Path,
        field: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            path: path.to_path_buf(),
            field: field.into(),
            found: found.into(),
            hint: hint.into(),
        }
    }

    pub(super) fn tensor(
        path: &Path,
        name: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Tensor { path: path.to_path_buf(), name: name.into(), found: found.into(), hint: hint.into() }
    }
}
