//! Names of repositories as they are typed: `org/name[@revision][:choice]`.
//!
//! Contract: a text has this form or it has not; what has not is taken for a path by the caller. A name that ends like a file
//! (`data/train.jsonl`) is a file. No part of a name can leave the folder or the address that it becomes a part of.
//!
//! Source: the Hub's grammar, as in `huggingface_hub/utils/_validators.py` (`REPO_ID_REGEX`); revisions follow
//! `git check-ref-format`.

/// What a repository holds. The Hub keeps the two apart: they may have the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryKind {
    /// A model, or an adapter.
    Model,
    /// A data set.
    Dataset,
}

impl RepositoryKind {
    /// How the Hub calls several of them, in addresses and in names of folders.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// What stands before the name in the address of a page or a file.
    pub(crate) fn page_prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

/// The revision where none is given.
const MAIN: &str = "main";

/// Endings of files that are read or written here. No repository is looked for under such a name.
const FILE_ENDINGS: [&str; 18] = [
    "arrow",
    "bin",
    "csv",
    "gguf",
    "gz",
    "html",
    "jinja",
    "json",
    "jsonl",
    "md",
    "parquet",
    "pt",
    "safetensors",
    "toml",
    "tsv",
    "txt",
    "yaml",
    "zst",
];

/// A repository at a revision, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryName {
    /// `org/name`.
    pub id: String,
    /// A branch, a tag, `refs/pr/1`, or a commit.
    pub revision: String,
    /// Which file or split, where one of several must be chosen.
    pub choice: Option<String>,
}

impl RepositoryName {
    /// Reads a name; none if the text does not have the form of one.
    ///
    /// ```
    /// use solon_hub::RepositoryName;
    /// let name = RepositoryName::read("org/name@v1.0:train").unwrap();
    /// assert_eq!((name.id.as_str(), name.revision.as_str()), ("org/name", "v1.0"));
    /// assert_eq!(name.choice.as_deref(), Some("train"));
    /// assert_eq!(RepositoryName::read("data/train.jsonl"), None);
    /// ```
    pub fn read(text: &str) -> Option<Self> {
        let (rest, choice) = match text.split_once(':') {
            Some((rest, choice)) => (rest, Some(choice)),
            None => (text, None),
        };
        let (id, revision) = rest.split_once('@').unwrap_or((rest, MAIN));
        let (organisation, name) = id.split_once('/')?;
        let fits = is_part(organisation)
            && is_part(name)
            && id.len() <= 96
            && !names_a_file(name)
            && is_revision(revision)
            && choice.is_none_or(is_inside);
        fits.then(|| Self {
            id: id.to_owned(),
            revision: revision.to_owned(),
            choice: choice.map(str::to_owned),
        })
    }
}

impl std::fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.id)?;
        if self.revision != MAIN {
            write!(formatter, "@{}", self.revision)?;
        }
        match &self.choice {
            Some(choice) => write!(formatter, ":{choice}"),
            None => Ok(()),
        }
    }
}

/// Whether a text is the name of an organisation, a person or a repository.
fn is_part(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: char| matches!(c, '-' | '.');
    !text.is_empty()
        && text.chars().all(plain)
        && !text.starts_with(edge)
        && !text.ends_with(edge)
        && !text.contains("--")
        && !text.contains("..")
        && !text.ends_with(".git")
}

fn names_a_file(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| FILE_ENDINGS.contains(&ending.as_str()))
}

/// Whether a text can be a revision. It becomes a part of an address and the path of a file in the cache.
fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+');
    text.len() <= 200 && text.chars().all(plain) && is_inside(text)
}

/// Whether a path stays inside the folder that it is read from, on every system.
pub(crate) fn is_inside(path: &str) -> bool {
    let hostile = |c: char| c.is_control() || matches!(c, '\\' | ':');
    let is_name = |part: &str| !matches!(part, "" | "." | "..");
    path.len() <= 1000 && !path.contains(hostile) && path.split('/').all(is_name)
}

/// Whether a revision is a commit, which never changes.
pub(crate) fn is_commit(revision: &str) -> bool {
    is_hex(revision, 40)
}

/// Whether a text is lowercase hex of this length.
pub(crate) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_parts() {
        let read = |text: &str| {
            let name = RepositoryName::read(text)?;
            assert_eq!(name.to_string(), text);
            Some((name.id, name.revision, name.choice))
        };
        let of = |id: &str, revision: &str, choice: Option<&str>| {
            Some((id.to_owned(), revision.to_owned(), choice.map(str::to_owned)))
        };
        assert_eq!(read("Qwen/Qwen2.5-0.5B"), of("Qwen/Qwen2.5-0.5B", "main", None));
        assert_eq!(read("a/b@refs/pr/1"), of("a/b", "refs/pr/1", None));
        assert_eq!(read("a/b:harmless-base/train"), of("a/b", "main", Some("harmless-base/train")));
        assert_eq!(read("a/b@v1:m.Q4_K_M.gguf"), of("a/b", "v1", Some("m.Q4_K_M.gguf")));
    }

    #[test]
    fn what_is_a_path_or_hostile_is_no_name() {
        for text in [
            "name",
            "a/b/c",
            "/a/b",
            "./a",
            "../a",
            "a/..",
            "a/",
            "/a",
            "a//b",
            "~/b",
            "-a/b",
            "a/b-",
            "a/b--c",
            "a/b..c",
            "a/b.git",
            "data/train.jsonl",
            "models/x.GGUF",
            "a/b@",
            "a/b@../../x",
            "a/b@/etc",
            "a/b@x y",
            "a/b@x?y",
            "a/b:",
            "a/b:../x",
            "a/b:/etc/passwd",
            "a/b:c\\d",
            "a\n/b",
            "ä/b",
            "https://huggingface.co/a/b",
            "C:/b",
        ] {
            assert_eq!(RepositoryName::read(text), None, "{text}");
        }
        assert_eq!(RepositoryName::read(&format!("a/{}", "b".repeat(95))), None);
    }
}
