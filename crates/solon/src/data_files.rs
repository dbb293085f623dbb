//! Which files a name of data stands for: a file, a pipe, a folder, a pattern, or a split on the Hugging Face Hub.
//!
//! Contract: the files of one name are read one after another, as one. What is on this machine goes first. A pattern gives its files in
//! the order of their paths; folders above a recipe's are not searched, because much may match there. Of a folder, as of the Hub, one split is taken, whose shards are all there; where it has several, they are
//! listed and none is taken.

use crate::assets;
use crate::hub;
use crate::piped::at_rest;
use anyhow::{Context, Result, bail};
use glob::{MatchOptions, Pattern, glob_with};
use solon_hub::files_of_split;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// As in a shell: `*` stays in its folder and leaves out hidden files.
const AS_IN_A_SHELL: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// The files of a name, which is looked for in `folders`, in those above them, and in the working folder; a pattern not above them.
pub fn find(name: &Path, folders: &[&Path]) -> Result<Vec<PathBuf>> {
    let here = assets::find(name, folders);
    match (here, name.to_str()) {
        (Ok(folder), _) if folder.is_dir() => in_folder(&folder),
        (Ok(file), _) => Ok(vec![at_rest(file)?]),
        (Err(_), Some(text)) if is_pattern(text) => matching(text, folders),
        (Err(missing), Some(text)) => match hub::named(text) {
            Some(name) => hub::files(hub::Wanted::Data, &name),
            None => Err(missing),
        },
        (Err(missing), None) => Err(missing),
    }
}

/// The files of several names, in their order.
///
/// # Errors
/// If a name has none, or if two of the files are one: its rows would be read twice.
pub fn find_all(names: &[PathBuf], folders: &[&Path]) -> Result<Vec<PathBuf>> {
    Ok(find_each(names, folders)?.concat())
}

/// The same, those of each name apart.
pub fn find_each(names: &[PathBuf], folders: &[&Path]) -> Result<Vec<Vec<PathBuf>>> {
    let all = names.iter().map(|name| find(name, folders)).collect::<Result<Vec<_>>>()?;
    let mut seen = HashSet::new();
    for file in all.iter().flatten() {
        if !seen.insert(the_file_itself(file)) {
            bail!("{} is named twice\nhint: name it once", file.display());
        }
    }
    Ok(all)
}

/// One path for every spelling of a file. In the Hub's cache two files with the same content are links to one.
fn the_file_itself(path: &Path) -> PathBuf {
    let is_of_hub = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("blobs"));
    let itself = path.canonicalize().ok().filter(|itself| !is_of_hub(itself));
    itself.unwrap_or_else(|| path.to_owned())
}

/// Whether a text has a mark of patterns in it.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A pattern as it means the same in every folder.
pub fn absolute_pattern(pattern: &str) -> Result<String> {
    let folder = std::env::current_dir().context("the working folder cannot be found")?;
    Ok(in_folder_named(&folder, pattern))
}

/// The pattern below a folder, in whose own name no mark counts.
fn in_folder_named(folder: &Path, pattern: &str) -> String {
    match folder.to_str() {
        Some(folder) if !folder.is_empty() && !Path::new(pattern).is_absolute() => {
            format!("{}/{pattern}", Pattern::escape(folder))
        }
        _ => pattern.to_owned(),
    }
}

fn matching(pattern: &str, folders: &[&Path]) -> Result<Vec<PathBuf>> {
    for folder in folders.iter().copied().chain([Path::new("")]) {
        let found = glob_with(&in_folder_named(folder, pattern), AS_IN_A_SHELL)
            .with_context(|| format!("{pattern} is no pattern"))?;
        let found = found.collect::<Result<Vec<PathBuf>, _>>().context("a folder cannot be read")?;
        let files: Vec<PathBuf> = found.into_iter().filter(|path| !path.is_dir()).collect();
        if !files.is_empty() {
            return files.into_iter().map(at_rest).collect();
        }
    }
    bail!(
        "no file matches {pattern}\nhint: `*` stands for any part of a name, but not for folders; `**` does"
    )
}

/// The files of the one split that lies in a folder.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() { &mut folders } else { &mut files }.push(name.to_owned());
    }
    files.sort();
    folders.sort();
    let names: Vec<&str> = files.iter().map(String::as_str).collect();
    match files_of_split(&names, None) {
        Ok(split) => Ok(split.iter().map(|name| folder.join(name)).collect()),
        Err(reason) => {
            let hint = match folders.as_slice() {
                [] => format!("name a file, or several by a pattern, such as '{}/*.jsonl'", folder.display()),
                folders => format!("name a file, a pattern, or one of its folders ({})", folders.join(", ")),
            };
            bail!("{}: {reason}\nhint: {hint}", folder.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a name gives in a folder with these files: the paths below it, or the error without the folder's name.
    fn check(files: &[&str], name: &str, expected: Result<&[&str], &str>) {
        // A mark of patterns in the name of a folder above does not count.
        let place = tempfile::Builder::new().prefix("a[b]*").tempdir().unwrap();
        let folder = place.path().canonicalize().unwrap();
        for file in files {
            let path = folder.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let shown = |text: String| text.replace(&format!("{}", folder.display()), "HERE");
        match (find(Path::new(name), &[&folder]), expected) {
            (Ok(found), Ok(expected)) => {
                let found: Vec<&str> =
                    found.iter().map(|path| path.strip_prefix(&folder).unwrap().to_str().unwrap()).collect();
                assert_eq!(found, expected, "{name}");
            }
            (Err(error), Err(part)) => {
                let text = shown(error.to_string());
                assert!(text.contains(part) && text.contains("hint: "), "{name}: {text}");
            }
            (found, _) => panic!("{name}: {found:?}"),
        }
    }

    #[test]
    fn patterns_give_their_files_in_order() {
        let files = ["d/b.jsonl", "d/a.jsonl", "d/.c.jsonl", "d/e/f.jsonl", "d/g[1].jsonl", "d/g1.jsonl"];
        check(&files, "d/*.jsonl", Ok(&["d/a.jsonl", "d/b.jsonl", "d/g1.jsonl", "d/g[1].jsonl"]));
        check(&files, "d/?.jsonl", Ok(&["d/a.jsonl", "d/b.jsonl"]));
        check(&files, "**/f.jsonl", Ok(&["d/e/f.jsonl"]));
        // A file of that very name goes first.
        check(&files, "d/g[1].jsonl", Ok(&["d/g[1].jsonl"]));
        check(&files, "d/*.csv", Err("no file matches d/*.csv"));
    }

    /// Above a recipe lie a user's other files.
    #[test]
    fn patterns_are_not_looked_for_in_the_folders_above() {
        let place = tempfile::tempdir().unwrap();
        let recipe = place.path().join("recipes");
        std::fs::create_dir(&recipe).unwrap();
        std::fs::write(place.path().join("above.jsonl"), "").unwrap();
        for pattern in ["*.jsonl", "**/above.jsonl"] {
            let error = find(Path::new(pattern), &[&recipe]).unwrap_err().to_string();
            assert!(error.contains("no file matches"), "{error}");
        }
    }

    #[test]
    fn a_file_is_named_twice_however_it_is_spelled() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        std::fs::create_dir(folder.join("x")).unwrap();
        for name in ["a.jsonl", "b.jsonl"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let found = |names: &[&str]| {
            let names: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
            find_all(&names, &[folder]).map(|files| files.len()).map_err(|error| error.to_string())
        };
        assert_eq!(found(&["a.jsonl", "b.jsonl"]), Ok(2));
        for other in ["a.jsonl", "./a.jsonl", "x/../a.jsonl", "a*"] {
            let error = found(&["a.jsonl", other]).unwrap_err();
            assert!(error.contains("a.jsonl is named twice"), "{other}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_the_file_that_it_leads_to_but_in_the_hubs_cache() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        std::fs::create_dir(folder.join("blobs")).unwrap();
        for (content, links) in [("a", ["b", "c"]), ("blobs/d", ["e", "f"])] {
            std::fs::write(folder.join(content), "").unwrap();
            for link in links {
                std::os::unix::fs::symlink(folder.join(content), folder.join(link)).unwrap();
            }
        }
        let found = |names: [&str; 2]| find_all(&names.map(PathBuf::from), &[folder]);
        assert!(found(["b", "c"]).unwrap_err().to_string().contains("c is named twice"));
        assert_eq!(found(["e", "f"]).unwrap().len(), 2);
    }

    #[test]
    fn a_folder_is_its_one_split() {
        let shards =
            ["d/state.json", "d/data-00001-of-00002.arrow", "d/data-00000-of-00002.arrow", "d/README.md"];
        check(&shards, "d", Ok(&["d/data-00000-of-00002.arrow", "d/data-00001-of-00002.arrow"]));
        check(&shards[..2], "d", Err("HERE/d: of the 2 files of `data` number 00000 is not there"));
        check(&["d/train.jsonl", "d/test.jsonl"], "d", Err("several files of data: test.jsonl, train.jsonl"));
        check(
            &["d/dataset_dict.json", "d/train/a.arrow", "d/test/a.arrow"],
            "d",
            Err("folders (test, train)"),
        );
    }
}
