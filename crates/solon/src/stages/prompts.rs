//! `prompts`: loads prompts to answer from files (TRL's prompt-only format), whole or in part.
//!
//! Parts are taken in this order: `kinds`, `shuffle`, `every` with `offset`, `skip`, `count`. `shuffle` and `every` keep the
//! two prompts of a minimal pair together: a twin in another part would tell a model of this one's answer. The shuffle depends
//! on the prompts' ids alone, neither on the seed nor on the stage's name, so stages that take different parts of the same
//! files share no prompt.

use super::settings::{read_sources, sources};
use super::{Data, Kind, Preflight, Source, Stage, note_unused, parse, records};
use crate::cli::UsageError;
use crate::run::StageRun;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_data::ledger::NewItem;
use solon_data::records::{DataFile, Repeated, open_prompts};
use solon_draws::Draws;
use solon_feedback::prompt_text;
use solon_records::Prompt;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

pub const KIND: Kind =
    Kind { name: "prompts", about: "Loads prompts from files.", parse: parse::<Prompts>, files: Vec::new };

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Prompts {
    /// Rows with `prompt` or `messages`, in any format that is read; several files are read one after the other.
    #[serde(deserialize_with = "sources")]
    file: Vec<Source>,
    /// Only prompts of these kinds; all where it is not given.
    kinds: Option<Vec<String>>,
    /// Files are mostly sorted by kind; this mixes them.
    #[serde(default)]
    shuffle: bool,
    /// Every so many prompts one is taken; minimal pairs count as one.
    #[serde(default = "all")]
    every: NonZeroUsize,
    /// The first that is taken, below `every`.
    #[serde(default)]
    offset: usize,
    /// Prompts left out at the start of what is left.
    #[serde(default)]
    skip: usize,
    /// Prompts taken; all that are left where it is not given.
    count: Option<NonZeroUsize>,
}

fn all() -> NonZeroUsize {
    NonZeroUsize::MIN
}

impl Prompts {
    fn open(&self) -> Result<Vec<DataFile<Prompt>>> {
        // `pair` names prompts by their ids, and so do runs.
        Ok(read_sources(&self.file, Repeated::Refused, open_prompts)?)
    }

    fn read(&self) -> Result<Vec<Prompt>> {
        self.part(self.open()?)
    }

    /// The prompts of the files that are to be taken.
    fn part(&self, read: Vec<DataFile<Prompt>>) -> Result<Vec<Prompt>> {
        let Prompts { file, kinds, shuffle, every, offset, skip, count } = self;
        if *offset >= every.get() {
            let what = format!("offset = {offset} is not below every = {every}\nhint: offsets count from 0");
            return Err(UsageError(what).into());
        }
        let mut all: Vec<Prompt> = records(read).collect();
        let files = || {
            let paths = file.iter().map(|source| source.path.display().to_string());
            paths.collect::<Vec<_>>().join(" and ")
        };
        if let Some(kinds) = kinds {
            let there = |kind: &String| all.iter().any(|prompt| prompt.kind.as_ref() == Some(kind));
            if let Some(missing) = kinds.iter().find(|kind| !there(kind)) {
                bail!("{} has no prompts of the kind `{missing}`\nhint: correct `kinds`", files());
            }
            all.retain(|prompt| prompt.kind.as_ref().is_some_and(|kind| kinds.contains(kind)));
        }
        if *shuffle || every.get() > 1 {
            let mut units = units(all);
            if *shuffle {
                units.sort_by_cached_key(|unit| {
                    let id = unit.first().map(|prompt| prompt.id.clone()).unwrap_or_default();
                    (Draws::new(0, "prompts").item(&id).bits(0), id)
                });
            }
            all = units.into_iter().skip(*offset).step_by(every.get()).flatten().collect();
        }
        let left = all.len().saturating_sub(*skip);
        let wanted = count.map_or(left.max(1), NonZeroUsize::get);
        if left < wanted {
            bail!(
                "{} has {} prompts; with `skip` = {skip} that leaves {left}, and {wanted} are to be taken\n\
                 hint: lower `skip` or `count`, or leave `count` out to take all that are left",
                files(),
                all.len()
            );
        }
        Ok(all.into_iter().skip(*skip).take(wanted).collect())
    }
}

/// Prompts that stay together, each unit at the place of its first: those that name each other, or the same, by `pair`.
fn units(prompts: Vec<Prompt>) -> Vec<Vec<Prompt>> {
    // For each prompt the place of the unit it belongs to.
    let mut unit: Vec<usize> = (0..prompts.len()).collect();
    let mut first_named: HashMap<&str, usize> = HashMap::new();
    for (place, prompt) in prompts.iter().enumerate() {
        for name in [Some(&prompt.id), prompt.pair.as_ref()].into_iter().flatten() {
            let other = unit[*first_named.entry(name).or_insert(place)];
            let own = unit[place];
            if own != other {
                let (low, high) = (own.min(other), own.max(other));
                unit.iter_mut().filter(|at| **at == high).for_each(|at| *at = low);
            }
        }
    }
    let mut units: BTreeMap<usize, Vec<Prompt>> = BTreeMap::new();
    for (place, prompt) in unit.into_iter().zip(prompts) {
        units.entry(place).or_default().push(prompt);
    }
    units.into_values().collect()
}

impl Stage for Prompts {
    fn output(&self) -> Data {
        Data::Prompts
    }

    fn settings(&self) -> Value {
        json!(self)
    }

    fn preflight(&self, _: &Preflight<'_>) -> Result<Vec<String>> {
        Ok(self.read()?.into_iter().map(|prompt| prompt.id).collect())
    }

    fn measures_on(&self) -> Vec<&Source> {
        self.file.iter().collect()
    }

    fn prompts(&self) -> Option<Result<Vec<Prompt>>> {
        Some(self.read())
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        let files = self.open()?;
        note_unused(run.name(), files.iter().flat_map(|file| &file.unused));
        let mut items = Vec::new();
        for (place, prompt) in (0..).zip(self.part(files)?) {
            let text = prompt_text(&prompt.messages);
            let mut item = NewItem::of(prompt.id.clone(), place, text, &prompt)?;
            item.prompt_id = Some(prompt.id);
            items.push(item);
        }
        run.insert(&items)?;
        Ok(json!({"prompts": items.len()}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    /// The ids that a stage with these keys reads from a file of prompts `id kind pair`.
    fn read(rows: &str, keys: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for (n, rows) in rows.split('|').enumerate() {
            let mut text = String::new();
            for row in rows.split_whitespace() {
                let mut parts = row.split(':');
                let (id, kind, pair) = (parts.next(), parts.next(), parts.next());
                writeln!(text, "{}", json!({"id": id, "prompt": "Hi", "kind": kind, "pair": pair})).unwrap();
            }
            let path = folder.path().join(format!("{n}.jsonl"));
            std::fs::write(&path, text).unwrap();
            names.push(path.display().to_string());
        }
        let file = if names.len() == 1 { json!(names[0]) } else { json!(names) };
        let stage: Prompts = toml::from_str(&format!("file = {file}\n{keys}")).map_err(|e| e.to_string())?;
        let ids = stage.read().map_err(|error| error.to_string())?.into_iter().map(|prompt| prompt.id);
        Ok(ids.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn parts_are_taken_by_kind_and_in_turn() {
        let rows = "a:x b:y c:x d:y e:x";
        for (keys, expected) in [
            ("", "a b c d e"),
            ("skip = 1\ncount = 2", "b c"),
            ("kinds = [\"x\"]", "a c e"),
            ("kinds = [\"x\"]\nevery = 2\noffset = 1", "c"),
            ("every = 2", "a c e"),
            ("every = 2\nskip = 1", "c e"),
            ("kinds = [\"y\", \"x\"]", "a b c d e"),
        ] {
            assert_eq!(read(rows, keys).as_deref(), Ok(expected), "{keys}");
        }
        assert_eq!(read("a b|c d", "every = 3").as_deref(), Ok("a d"), "files are read one after the other");
        for (rows, keys, expected) in [
            ("a:x", "kinds = [\"z\"]", "no prompts of the kind `z`"),
            ("a:x", "every = 2\noffset = 2", "not below every = 2"),
            ("a|a", "", "`a` is already the id of line 1 of"),
        ] {
            let error = read(rows, keys).unwrap_err();
            assert!(error.contains(expected) && error.contains("hint:"), "{error}");
        }
        assert!(toml::from_str::<Prompts>("file = []").is_err_and(|e| e.to_string().contains("empty")));
    }

    #[test]
    fn twins_stay_together() {
        let rows = "a:x:d b:x c:x:e d:y:a e:y:c f:x";
        assert_eq!(read(rows, "every = 2").as_deref(), Ok("a d c e"));
        assert_eq!(read(rows, "every = 2\noffset = 1").as_deref(), Ok("b f"));
        // One that names its twin is enough, and so is a name that several share.
        assert_eq!(read("a:x b:x c:x:a", "every = 2").as_deref(), Ok("a c"));
        assert_eq!(read("a:x:p b:x c:x:p", "every = 2").as_deref(), Ok("a c"));
        assert_eq!(read(rows, "").as_deref(), Ok("a b c d e f"), "a file that is not split keeps its order");
    }

    #[test]
    fn a_shuffle_is_one_order_whatever_part_is_taken() {
        let rows: String = (0..20).map(|i| format!("p{i}:x:q{i} ")).collect();
        let rows = rows + &(0..20).map(|i| format!("q{i}:y:p{i} ")).collect::<String>();
        let whole = read(&rows, "shuffle = true").unwrap();
        let ids: Vec<&str> = whole.split(' ').collect();
        assert!(ids.as_chunks::<2>().0.iter().all(|[a, b]| a[1..] == b[1..]), "{whole}");
        assert_ne!(ids.iter().step_by(2).copied().collect::<Vec<_>>(), {
            let order: Vec<String> = (0..20).map(|i| format!("p{i}")).collect();
            order
        });
        let half =
            |offset: usize| read(&rows, &format!("shuffle = true\nevery = 2\noffset = {offset}")).unwrap();
        let (first, second) = (half(0), half(1));
        let mut both: Vec<&str> = first.split(' ').chain(second.split(' ')).collect();
        assert_eq!(both[..2], ids[..2]);
        both.sort_unstable();
        let mut all = ids;
        all.sort_unstable();
        assert_eq!(both, all);
    }
}
