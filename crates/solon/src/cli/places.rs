//! Where results go, checked before anything is worked out: clap's error then names the flag.

use crate::run::check_folder;
use std::path::{Path, PathBuf};

/// A file that is to be written.
pub fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() || path.file_name().is_none() {
        return Err("it is a folder; give the name of a file".to_owned());
    }
    // A link stays, and the file that it names is replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.clone());
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(format!("there is no folder {}; make it first", folder.display()));
    }
    // What stands there is replaced, so the folder is what must be open to writing.
    match tempfile::Builder::new().prefix(".solon-").tempfile_in(folder) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("no file can be made in {}: {error}", folder.display())),
    }
}

/// A run's folder: one that is not there yet, an empty one, or that of a run.
pub fn run_folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    check_folder(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_needs_a_folder_and_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        assert_eq!(file(&at("new.json")), Ok(folder.path().join("new.json")));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the check leaves nothing");
        std::fs::write(at("old"), "").unwrap();
        file(&at("old")).unwrap();
        for (wrong, said) in
            [(at(""), "is a folder"), (at("none/x.json"), "no folder"), (at("old/x.json"), "no folder")]
        {
            let error = file(&wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
        assert_eq!(file("here.json"), Ok(PathBuf::from("here.json")));
    }

    #[test]
    fn a_run_takes_no_folder_of_other_things() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        run_folder(&at("new/below")).unwrap();
        run_folder(&at("")).unwrap();
        std::fs::write(at("config.json"), "{}").unwrap();
        std::fs::write(at(".gitignore"), "").unwrap();
        let error = run_folder(&at("")).unwrap_err();
        assert!(error.contains("it holds config.json"), "{error}");
        assert!(run_folder(&at("config.json")).unwrap_err().contains("is a file"));
        assert!(run_folder(&at("config.json/run")).unwrap_err().contains("is a file"));
        std::fs::write(at("ledger.sqlite"), "").unwrap();
        run_folder(&at("")).unwrap();
    }
}
