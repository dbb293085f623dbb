//! Which file of a data set is wanted.
//!
//! Contract: a function of names alone. One file is chosen, or what there is to choose from is listed; nothing is guessed,
//! because training on a test split would go unnoticed.
//!
//! Source: names of splits, <https://huggingface.co/docs/hub/datasets-file-names-and-splits>.

use crate::needed::Unchosen;

/// Endings of data that is read here.
const FORMATS: [&str; 4] = ["jsonl", "json", "csv", "parquet"];
/// Endings of packed data.
const PACKED: [&str; 2] = ["gz", "zst"];
/// Starts of names that hold data about the data.
const ABOUT: [&str; 4] = ["dataset_info", "dataset_dict", "croissant", "state.json"];
/// Files listed in an error; of a data set with more, the first.
const MOST_LISTED: usize = 20;

/// The file that is wanted.
pub(crate) fn of_dataset(names: &[&str], choice: Option<&str>) -> Result<String, Unchosen> {
    let data: Vec<(&str, &str)> = names.iter().filter_map(|name| Some((*name, split_of(name)?))).collect();
    if data.is_empty() {
        let hint = "files of JSON, JSON Lines, CSV and Parquet are read, also packed by gzip or zstd";
        return Err(Unchosen::new("it has no file of data that can be read", hint));
    }
    let last = |split: &str| split.rsplit('/').next().unwrap_or_default().to_owned();
    let fits = |(name, split): &(&str, &str), choice: &str| *name == choice || *split == choice;
    let mut fitting: Vec<(&str, &str)> = match choice {
        None => data.clone(),
        Some(choice) => data.iter().copied().filter(|file| fits(file, choice)).collect(),
    };
    if let (true, Some(choice)) = (fitting.is_empty(), choice) {
        fitting = data.iter().copied().filter(|(_, split)| last(split) == choice).collect();
    }
    match (fitting.as_slice(), choice) {
        ([(one, _)], _) => Ok((*one).to_owned()),
        ([], choice) => {
            let reason = format!(
                "it has no file or split `{}`; there are {}",
                choice.unwrap_or_default(),
                listed(&data)
            );
            Err(Unchosen::new(reason, "name one of them after the colon"))
        }
        (several, _) => {
            // The shortest name that only one file has.
            let (first, split) = several[0];
            let count =
                |name: &str| data.iter().filter(|(_, other)| last(other) == name || *other == name).count();
            let short = [last(split), split.to_owned()].into_iter().find(|name| count(name) == 1);
            let example = short.unwrap_or_else(|| first.to_owned());
            let reason = format!("it has several files of data: {}", listed(several));
            Err(Unchosen::new(reason, format!("name one after a colon, such as :{example}")))
        }
    }
}

fn listed(files: &[(&str, &str)]) -> String {
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).take(MOST_LISTED).collect();
    let more = files.len() - names.len();
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{rest}", names.join(", "))
}

/// The split that a file is, or is a shard of: its path without endings and the number of the shard. None if it is no data.
fn split_of(name: &str) -> Option<&str> {
    let file = name.rsplit('/').next().unwrap_or(name);
    if file.starts_with('.') || name.starts_with('.') || ABOUT.iter().any(|about| file.starts_with(about)) {
        return None;
    }
    let unpacked = PACKED.iter().find_map(|ending| without(name, ending));
    let stem = FORMATS.iter().find_map(|ending| without(unpacked.unwrap_or(name), ending))?;
    // `-00000-of-00003`, after which there may be a hash.
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut rest = stem;
    if let Some((before, hash)) = rest.rsplit_once('-')
        && hash.len() == 16
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        rest = before;
    }
    let shard = rest.rsplit_once("-of-").filter(|(_, total)| is_number(total));
    let shard = shard.and_then(|(before, _)| before.rsplit_once('-')).filter(|(_, number)| is_number(number));
    Some(shard.map_or(stem, |(split, _)| split))
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
            (Ok(chosen), Ok(expected)) => assert_eq!(chosen, expected),
            (Err(Unchosen { reason, hint }), Err(parts)) => {
                let text = format!("{reason}\n{hint}");
                assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            }
            (chosen, _) => panic!("{choice:?}: {chosen:?}"),
        }
    }

    #[test]
    fn a_split_is_a_file_without_endings_and_shards() {
        assert_eq!(split_of("data/train-00000-of-00001.parquet"), Some("data/train"));
        assert_eq!(split_of("data/train-00000-of-00001-0123456789abcdef.parquet"), Some("data/train"));
        assert_eq!(split_of("harmless-base/train.jsonl.gz"), Some("harmless-base/train"));
        assert_eq!(split_of("test-of-time.csv"), Some("test-of-time"));
        for none in [
            "README.md",
            "dataset_infos.json",
            ".gitattributes",
            ".a/x.json",
            "load.py",
            "x/.json",
            "json",
            "a.zst",
        ] {
            assert_eq!(split_of(none), None, "{none}");
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
        let shards = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
        check(&shards, Some("train"), Err(&["several", ":train-00000-of-00002.parquet"]));
        let many: Vec<String> = (0..50).map(|n| format!("{n}.csv")).collect();
        check(&many.iter().map(String::as_str).collect::<Vec<_>>(), None, Err(&["and 30 more"]));
    }
}
