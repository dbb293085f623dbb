//! Several files that are read one after another as one, such as the shards of a split.
//!
//! Contract: ids are unique over all files. Those of the first file are what they are when it is read alone. In later files, a row without
//! an `id` has the number of its file before what it would be called alone: `2:line-1`. What becomes of an `id` that an earlier file
//! has too is for the caller to say ([`Repeated`]). Rows that name a renamed row of their own file name it as it is called now.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use solon_records::{Demonstration, Pair, Prompt};

use super::{DataFile, LabelRow};
use crate::DataError;
use crate::rows::Place;

/// What becomes of an `id` that an earlier file has too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// It gets the number of its file before it.
    Renamed,
    /// It is an error: other rows, or files, refer to it.
    Refused,
}

/// A record with an id.
pub trait Identified {
    /// Its id.
    fn id_mut(&mut self) -> &mut String;
    /// The id of another record that it names.
    fn named_mut(&mut self) -> Option<&mut String> {
        None
    }
}

impl Identified for Demonstration {
    fn id_mut(&mut self) -> &mut String {
        &mut self.id
    }
}

impl Identified for Prompt {
    fn id_mut(&mut self) -> &mut String {
        &mut self.id
    }

    fn named_mut(&mut self) -> Option<&mut String> {
        self.pair.as_mut()
    }
}

impl Identified for Pair {
    fn id_mut(&mut self) -> &mut String {
        &mut self.id
    }
}

impl Identified for LabelRow {
    fn id_mut(&mut self) -> &mut String {
        match self {
            Self::Labelled(preference) => &mut preference.id,
            Self::Unlabelled { pair, .. } => &mut pair.id,
        }
    }
}

/// Reads files with `open`, one after another.
///
/// # Errors
/// Those of `open`; [`DataError::Line`] or [`DataError::Row`] for an `id` that an earlier file has too, where it is refused;
/// [`DataError::Format`] if there is no row in any of them.
pub fn open_several<T: Identified>(
    paths: &[PathBuf],
    repeated: Repeated,
    open: impl Fn(&Path) -> Result<DataFile<T>, DataError>,
) -> Result<Vec<DataFile<T>>, DataError> {
    let mut files = paths.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut ids: HashMap<String, (usize, Place)> = HashMap::new();
    for (number, (path, file)) in (1..).zip(paths.iter().zip(&mut files)) {
        // From the ids in the file to those that are new.
        let mut renamed: HashMap<String, String> = HashMap::new();
        let rows = file.records.iter_mut().zip(file.places.iter().zip(&file.derived_ids));
        for (record, (place, &is_derived)) in rows {
            let id = record.id_mut();
            let in_file = id.clone();
            if number > 1 && is_derived {
                *id = format!("{number}:{id}");
            }
            while let Some((other, there)) = ids.get(id) {
                if repeated == Repeated::Refused && !is_derived {
                    let message = format!(
                        "field `id`: `{id}` is already the id of {there} of {}\nhint: give every row an `id` of its own",
                        paths[other - 1].display()
                    );
                    return Err(place.fault(path, message));
                }
                *id = format!("{number}:{id}");
            }
            ids.insert(id.clone(), (number, *place));
            if *id != in_file {
                renamed.insert(in_file, id.clone());
            }
        }
        for named in file.records.iter_mut().filter_map(Identified::named_mut) {
            if let Some(id) = renamed.get(named) {
                named.clone_from(id);
            }
        }
    }
    match (ids.is_empty(), paths.first()) {
        (true, Some(path)) => Err(DataError::Format { path: path.clone(), message: "has no rows".into() }),
        _ => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{open_labels, open_prompts};
    use super::*;

    /// The ids of files with these texts; or the error without the folder's name.
    fn ids(texts: &[&str], repeated: Repeated) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = ["a.jsonl", "b.json", "c"]
            .iter()
            .take(texts.len())
            .map(|name| folder.path().join(name))
            .collect();
        for (path, text) in paths.iter().zip(texts) {
            std::fs::write(path, text).unwrap();
        }
        let shown = format!("{}/", folder.path().display());
        let files = open_several(&paths, repeated, open_prompts);
        let files = files.map_err(|error| error.to_string().replace(&shown, ""))?;
        Ok(files.into_iter().flat_map(|file| file.records).map(|prompt| prompt.id).collect())
    }

    #[test]
    fn ids_are_unique_over_all_files_and_those_of_the_first_stay() {
        let row = r#"{"prompt":"Why?"}"#;
        let named = r#"{"prompt":"Why?","id":"x"}"#;
        for repeated in [Repeated::Renamed, Repeated::Refused] {
            let found = ids(&[&format!("{row}\n{named}"), &format!("[{row},{row}]"), row], repeated);
            assert_eq!(found.unwrap(), ["line-1", "x", "2:row-1", "2:row-2", "3:line-1"]);
        }
        let twice = ids(&[named, named, named], Repeated::Renamed).unwrap();
        assert_eq!(twice, ["x", "2:x", "3:x"]);
        let error = ids(&[named, &format!("{row}\n{named}")], Repeated::Refused).unwrap_err();
        assert_eq!(
            error,
            "b.json:2: field `id`: `x` is already the id of line 1 of a.jsonl\nhint: give every row an `id` of its own"
        );
        // A row without an id makes way for one that has it.
        let taken = r#"{"prompt":"Why?","id":"2:line-1"}"#;
        assert_eq!(ids(&[taken, row], Repeated::Refused).unwrap(), ["2:line-1", "2:2:line-1"]);
    }

    #[test]
    fn an_id_that_is_written_is_no_derived_one_though_it_looks_so() {
        let written = r#"{"prompt":"Why?","id":"line-1"}"#;
        let error = ids(&[written, written], Repeated::Refused);
        assert!(error.is_err(), "{error:?}");
        assert_eq!(ids(&[written, written], Repeated::Renamed).unwrap(), ["line-1", "2:line-1"]);
        let other = r#"{"prompt":"Why?","id":"x"}"#;
        assert_eq!(ids(&[other, written], Repeated::Refused).unwrap(), ["x", "line-1"]);
    }

    #[test]
    fn what_names_a_renamed_row_follows_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.jsonl");
        let rows = [r#"{"prompt":"Why?","pair":"line-2"}"#, r#"{"prompt":"How?","pair":"a-twin"}"#];
        std::fs::write(&path, rows.join("\n")).unwrap();
        let files = open_several(&[path.clone(), path], Repeated::Refused, open_prompts).unwrap();
        let pairs: Vec<_> = files
            .iter()
            .flat_map(|file| &file.records)
            .map(|prompt| prompt.pair.as_deref().unwrap())
            .collect();
        assert_eq!(pairs, ["line-2", "a-twin", "2:line-2", "a-twin"]);
    }

    #[test]
    fn one_file_may_be_empty_and_not_all() {
        assert_eq!(ids(&["", r#"{"prompt":"Why?"}"#], Repeated::Renamed).unwrap(), ["2:line-1"]);
        assert_eq!(ids(&["", "[]"], Repeated::Renamed).unwrap_err(), "a.jsonl has no rows");
    }

    #[test]
    fn pairs_without_a_label_have_ids_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        let row = r#"{"id":"u","prompt":"T","first":"a","second":"b","unlabelled":"no reply"}"#;
        std::fs::write(&path, row).unwrap();
        let mut files = open_several(&[path.clone(), path], Repeated::Renamed, open_labels).unwrap();
        assert_eq!(files[1].records[0].id_mut(), "2:u");
    }
}
