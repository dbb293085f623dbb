//! Which files of a data set are wanted.
//!
//! Contract: a function of names alone. The files of one split are chosen, in the order of their shards, or what there is to choose from is
//! listed; nothing is guessed, because training on a test split, or on a part of a split, would go unnoticed.
//!
//! Source: names of splits, <https://huggingface.co/docs/hub/datasets-file-names-and-splits>.

use std::collections::BTreeMap;

use crate::needed::Unchosen;

/// Endings of data that is read here.
const FORMATS: [&str; 5] = ["jsonl", "json", "csv", "parquet", "arrow"];
/// Endings of packed data.
const PACKED: [&str; 2] = ["gz", "zst"];
/// Starts of names that hold data about the data.
const ABOUT: [&str; 4] = ["dataset_info", "dataset_dict", "croissant", "state.json"];
/// Splits listed in an error; of a data set with more, the first.
const MOST_LISTED: usize = 20;

/// The files of one split, among those of a folder.
///
/// ```
/// let names = ["README.md", "train-00001-of-00002.parquet", "train-00000-of-00002.parquet"];
/// let files = solon_hub::files_of_split(&names, None).unwrap();
/// assert_eq!(files, [names[2], names[1]]);
/// ```
///
/// # Errors
/// Why none can be chosen, and what there is to choose from.
pub fn files_of_split(names: &[&str], choice: Option<&str>) -> Result<Vec<String>, String> {
    of_dataset(names, choice).map_err(|unchosen| unchosen.reason)
}

/// What a name of a file says.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
struct Part<'a> {
    /// The path without endings and the number of the shard.
    split: &'a str,
    /// Of how many shards it is one.
    total: Option<usize>,
    /// Its endings, with their dots.
    endings: &'a str,
    /// Which shard it is, from 0.
    number: usize,
}

/// Files that are read as one.
struct Split<'a> {
    name: &'a str,
    total: Option<usize>,
    /// In their order, each with its number.
    files: Vec<(usize, &'a str)>,
}

/// The files that are wanted.
pub(crate) fn of_dataset(names: &[&str], choice: Option<&str>) -> Result<Vec<String>, Unchosen> {
    if let Some(file) = choice.filter(|choice| names.contains(choice) && part_of(choice).is_some()) {
        return Ok(vec![file.to_owned()]);
    }
    let all = splits(names);
    if all.is_empty() {
        let hint = "files of JSON, JSON Lines, CSV, Parquet and Arrow are read, also packed by gzip or zstd";
        return Err(Unchosen::new("it has no file of data that can be read", hint));
    }
    let fits = |split: &&Split<'_>, choice: &str| split.name == choice;
    let mut fitting: Vec<&Split<'_>> = match choice {
        None => all.iter().collect(),
        Some(choice) => all.iter().filter(|split| fits(split, choice)).collect(),
    };
    if let (true, Some(choice)) = (fitting.is_empty(), choice) {
        fitting = all.iter().filter(|split| last(split.name) == choice).collect();
    }
    match (fitting.as_slice(), choice) {
        ([one], _) => one.whole(),
        ([], choice) => {
            let every: Vec<&Split<'_>> = all.iter().collect();
            let reason = format!(
                "it has no file or split `{}`; there are {}",
                choice.unwrap_or_default(),
                listed(&every)
            );
            Err(Unchosen::new(reason, "name one of them after the colon"))
        }
        (several @ [first, ..], _) => {
            // The shortest name that only one split has.
            let count = |name: &str| {
                all.iter().filter(|other| last(other.name) == name || other.name == name).count()
            };
            let short = [last(first.name), first.name].into_iter().find(|name| count(name) == 1);
            let example = short.unwrap_or(first.files[0].1);
            let reason = format!("it has several files of data: {}", listed(several));
            Err(Unchosen::new(reason, format!("name one after a colon, such as :{example}")))
        }
    }
}

impl Split<'_> {
    /// Its files.
    ///
    /// # Errors
    /// If a shard is missing, is there twice, or is none of them: what is there is another data set.
    fn whole(&self) -> Result<Vec<String>, Unchosen> {
        if let Some(total) = self.total {
            self.check_shards(total)?;
        }
        Ok(self.files.iter().map(|(_, file)| (*file).to_owned()).collect())
    }

    /// Checks that the shards are those from 0 on, each once.
    fn check_shards(&self, total: usize) -> Result<(), Unchosen> {
        for two in self.files.windows(2) {
            if let [(number, first), (same, second)] = two
                && number == same
            {
                let reason = format!(
                    "of the {total} files of `{}` number {number:05} is there twice: {first}, {second}",
                    self.name
                );
                return Err(Unchosen::new(reason, "remove one of them, or name one file"));
            }
        }
        let mut numbers = self.files.iter().map(|(number, _)| *number);
        if let Some(missing) = (0..total).find(|wanted| numbers.next() != Some(*wanted)) {
            let reason = format!("of the {total} files of `{}` number {missing:05} is not there", self.name);
            return Err(Unchosen::new(reason, "fetch it, or name one file"));
        }
        match self.files.get(total) {
            None => Ok(()),
            Some((_, beyond)) => {
                let reason = format!("{beyond} is none of the {total} files of `{}`", self.name);
                Err(Unchosen::new(reason, "its numbers count from 00000; remove it, or name one file"))
            }
        }
    }
}

/// The last part of a path.
fn last(split: &str) -> &str {
    split.rsplit('/').next().unwrap_or_default()
}

/// The splits that files are, or are shards of. The same rows in two formats are two splits.
fn splits<'a>(names: &[&'a str]) -> Vec<Split<'a>> {
    let mut splits: BTreeMap<(&str, Option<usize>, &str), Vec<(usize, &str)>> = BTreeMap::new();
    for name in names {
        if let Some(Part { split, total, endings, number }) = part_of(name) {
            splits.entry((split, total, endings)).or_default().push((number, name));
        }
    }
    let split = |((name, total, _), mut files): ((&'a str, Option<usize>, &str), Vec<(usize, &'a str)>)| {
        files.sort_unstable();
        Split { name, total, files }
    };
    splits.into_iter().map(split).collect()
}

fn listed(splits: &[&Split<'_>]) -> String {
    let named = |split: &&Split<'_>| match split.files.as_slice() {
        [(_, file)] => (*file).to_owned(),
        files => format!("{} ({} files)", split.name, files.len()),
    };
    let names: Vec<String> = splits.iter().take(MOST_LISTED).map(named).collect();
    let more = splits.len() - names.len();
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{rest}", names.join(", "))
}

/// What a file is by its name. None if it is no data.
fn part_of(name: &str) -> Option<Part<'_>> {
    let file = last(name);
    // What `datasets` computed from the data lies beside it.
    let is_computed = file.starts_with("cache-") && file.ends_with(".arrow");
    if is_computed
        || file.starts_with('.')
        || name.starts_with('.')
        || ABOUT.iter().any(|about| file.starts_with(about))
    {
        return None;
    }
    let unpacked = PACKED.iter().find_map(|ending| without(name, ending));
    let stem = FORMATS.iter().find_map(|ending| without(unpacked.unwrap_or(name), ending))?;
    let whole = Part { split: stem, total: None, endings: &name[stem.len()..], number: 0 };
    // `-00000-of-00003`, after which there may be a hash.
    let number = |text: &str| {
        let digits = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let mut rest = stem;
    if let Some((before, hash)) = rest.rsplit_once('-')
        && hash.len() == 16
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        rest = before;
    }
    let shard = rest.rsplit_once("-of-").and_then(|(before, total)| {
        let (split, place) = before.rsplit_once('-')?;
        Some(Part { split, total: Some(number(total)?), number: number(place)?, ..whole })
    });
    Some(shard.unwrap_or(whole))
}

/// A path without its ending.
fn without<'a>(path: &'a str, ending: &str) -> Option<&'a str> {
    path.strip_suffix(ending)?.strip_suffix('.').filter(|stem| !stem.is_empty() && !stem.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], choice: Option<&str>, expected: Result<&str, &[&str]>) {
        match (of_dataset(names, choice), expected) {
            (Ok(chosen), Ok(expected)) => assert_eq!(chosen, [expected]),
            (Err(Unchosen { reason, hint }), Err(parts)) => {
                let text = format!("{reason}\n{hint}");
                assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            }
            (chosen, _) => panic!("{choice:?}: {chosen:?}"),
        }
    }

    fn split(name: &str) -> Option<&str> {
        part_of(name).map(|part| part.split)
    }

    #[test]
    fn a_split_is_a_file_without_endings_and_shards() {
        assert_eq!(split("data/train-00000-of-00001.parquet"), Some("data/train"));
        assert_eq!(split("data/train-00000-of-00001-0123456789abcdef.parquet"), Some("data/train"));
        assert_eq!(split("harmless-base/train.jsonl.gz"), Some("harmless-base/train"));
        assert_eq!(split("test-of-time.csv"), Some("test-of-time"));
        for none in [
            "README.md",
            "dataset_infos.json",
            ".gitattributes",
            ".a/x.json",
            "load.py",
            "x/.json",
            "json",
            "a.zst",
            "cache-0123456789abcdef.arrow",
        ] {
            assert_eq!(split(none), None, "{none}");
        }
    }

    #[test]
    fn one_file_is_taken_and_several_are_listed() {
        check(&["README.md", "rows.jsonl"], None, Ok("rows.jsonl"));
        let names = ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"];
        check(&names, Some("train"), Ok(names[1]));
        check(&names, Some("data/train"), Ok(names[1]));
        check(&names, Some(names[0]), Ok(names[0]));
        check(&names, None, Err(&["several", names[0], names[1], ":test"]));
        check(&names, Some("dev"), Err(&["no file or split `dev`", names[0]]));
        check(&["load.py"], None, Err(&["no file of data", "Parquet"]));
        let folders = ["base/test.jsonl.gz", "base/train.jsonl.gz", "online/train.jsonl.gz"];
        check(&folders, Some("base/train"), Ok(folders[1]));
        check(&folders, Some("train"), Err(&["several", folders[1], folders[2], ":base/train"]));
        let many: Vec<String> = (0..50).map(|n| format!("{n}.csv")).collect();
        check(&many.iter().map(String::as_str).collect::<Vec<_>>(), None, Err(&["and 30 more"]));
    }

    #[test]
    fn shards_are_one_split_in_their_order() {
        let shards = [
            "data/train-00002-of-00003.parquet",
            "data/train-00000-of-00003.parquet",
            "data/train-00001-of-00003-0123456789abcdef.parquet",
            "data/test-00000-of-00001.parquet",
        ];
        let train = Ok(vec![shards[1].to_owned(), shards[2].to_owned(), shards[0].to_owned()]);
        assert_eq!(of_dataset(&shards, Some("train")), train);
        assert_eq!(of_dataset(&shards[..3], None), train);
        check(&shards, Some(shards[0]), Ok(shards[0]));
        check(&shards, None, Err(&["data/test-00000-of-00001.parquet, data/train (3 files)", ":test"]));
        check(
            &shards[1..],
            Some("train"),
            Err(&["of the 3 files of `data/train` number 00002 is not there"]),
        );
        // Two versions of a split that differ in their hashes alone.
        let twice = [
            "train-00000-of-00001-0123456789abcdef.parquet",
            "train-00000-of-00001-fedcba9876543210.parquet",
        ];
        check(&twice, None, Err(&["number 00000 is there twice", twice[0], twice[1]]));
        check(&twice, Some(twice[1]), Ok(twice[1]));
        let beyond = ["a-00000-of-00002.csv", "a-00001-of-00002.csv", "a-00007-of-00002.csv"];
        check(&beyond, None, Err(&["a-00007-of-00002.csv is none of the 2 files of `a`"]));
        check(&beyond[1..], None, Err(&["of the 2 files of `a` number 00000 is not there"]));
        check(&["a-00000-of-00000.csv"], None, Err(&["is none of the 0 files"]));
        // Two versions of a split, and one in two formats, are two things to choose from.
        let two =
            ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
        check(&two, Some("train"), Err(&["several", two[0], "train (2 files)"]));
        let both = ["train.jsonl", "train.parquet"];
        check(&both, Some("train"), Err(&["several", both[0], both[1], ":train.jsonl"]));
        check(
            &["state.json", "dataset_info.json", "data-00000-of-00001.arrow"],
            None,
            Ok("data-00000-of-00001.arrow"),
        );
    }
}
