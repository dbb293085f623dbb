//! The texts that the project ships. They are found beside a recipe, in the working folder, or in the program itself.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use solon_data::files::write_bytes_atomically;
use std::path::{Path, PathBuf};

/// The default constitution.
pub const CONSTITUTION: &str = "constitutions/default.toml";
/// The prompts on which choices are made: training never sees them.
pub const EVALUATION_PROMPTS: &str = "prompts/dev.jsonl";

/// The names of all shipped prompts that models are measured on.
const MEASURING: [&str; 2] = [EVALUATION_PROMPTS, "prompts/test.jsonl"];

/// The files compiled into the program.
const SHIPPED: &[(&str, &str)] = &[
    (CONSTITUTION, include_str!("../../../constitutions/default.toml")),
    (EVALUATION_PROMPTS, include_str!("../../../prompts/dev.jsonl")),
    ("prompts/red-team.jsonl", include_str!("../../../prompts/red-team.jsonl")),
    ("prompts/helpful.jsonl", include_str!("../../../prompts/helpful.jsonl")),
    ("prompts/test.jsonl", include_str!("../../../prompts/test.jsonl")),
    ("data/honest.jsonl", include_str!("../../../data/honest.jsonl")),
    ("data/demonstrations.jsonl", include_str!("../../../data/demonstrations.jsonl")),
    ("data/preferences.jsonl", include_str!("../../../data/preferences.jsonl")),
    ("data/safety.jsonl", include_str!("../../../data/safety.jsonl")),
    (
        "data/knowledge/test/arithmetic_test.csv",
        include_str!("../../../data/knowledge/test/arithmetic_test.csv"),
    ),
    ("data/knowledge/test/everyday_test.csv", include_str!("../../../data/knowledge/test/everyday_test.csv")),
    (
        "data/knowledge/test/geography_test.csv",
        include_str!("../../../data/knowledge/test/geography_test.csv"),
    ),
    ("data/knowledge/test/language_test.csv", include_str!("../../../data/knowledge/test/language_test.csv")),
    ("data/knowledge/test/logic_test.csv", include_str!("../../../data/knowledge/test/logic_test.csv")),
    ("data/knowledge/test/nature_test.csv", include_str!("../../../data/knowledge/test/nature_test.csv")),
    ("data/knowledge/dev/arithmetic_dev.csv", include_str!("../../../data/knowledge/dev/arithmetic_dev.csv")),
    ("data/knowledge/dev/everyday_dev.csv", include_str!("../../../data/knowledge/dev/everyday_dev.csv")),
    ("data/knowledge/dev/geography_dev.csv", include_str!("../../../data/knowledge/dev/geography_dev.csv")),
    ("data/knowledge/dev/language_dev.csv", include_str!("../../../data/knowledge/dev/language_dev.csv")),
    ("data/knowledge/dev/logic_dev.csv", include_str!("../../../data/knowledge/dev/logic_dev.csv")),
    ("data/knowledge/dev/nature_dev.csv", include_str!("../../../data/knowledge/dev/nature_dev.csv")),
];

/// The file that the user gave, or the shipped file of this name.
pub fn path_or_default(given: Option<&Path>, shipped: &str) -> Result<PathBuf> {
    match given {
        Some(path) => Ok(path.to_owned()),
        None => find(Path::new(shipped), &[]),
    }
}

/// The shipped prompts that models are measured on, by the names of their files.
pub fn evaluation_prompts() -> Result<Vec<(&'static str, Vec<String>)>> {
    #[derive(Deserialize)]
    struct Row {
        prompt: String,
    }
    let shipped = SHIPPED.iter().filter(|(name, _)| MEASURING.contains(name));
    let read = |(name, text): &(&'static str, &str)| {
        let rows: Result<Vec<Row>, _> = text.lines().map(serde_json::from_str).collect();
        Ok((*name, rows.context(*name)?.into_iter().map(|row| row.prompt).collect()))
    };
    shipped.map(read).collect()
}

/// Finds a file named in a recipe: beside the recipe, in a folder above it, in the working folder, or among the shipped
/// files.
pub fn find(name: &Path, folders: &[&Path]) -> Result<PathBuf> {
    let mut tried = Vec::new();
    for folder in folders.iter().flat_map(|f| f.ancestors()).chain([Path::new("")]) {
        let candidate = folder.join(name);
        if candidate.exists() {
            return Ok(candidate);
        }
        let candidate = candidate.display().to_string();
        if !tried.contains(&candidate) {
            tried.push(candidate);
        }
    }
    // The file of this name, or all in the folder of this name.
    let shipped: Vec<_> =
        SHIPPED.iter().filter(|(shipped, _)| Path::new(shipped).starts_with(name)).collect();
    if shipped.is_empty() {
        bail!("there is no file {}\nhint: it was searched for at {}", name.display(), tried.join(", "));
    }
    let written = crate::catalogue::cache_folder()?.join("shipped").join(env!("CARGO_PKG_VERSION"));
    for (shipped, text) in shipped {
        let target = written.join(shipped);
        if std::fs::read(&target).ok().as_deref() != Some(text.as_bytes()) {
            let folder = target.parent().context("a shipped file has a parent folder")?;
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            write_bytes_atomically(&target, text.as_bytes())?;
        }
    }
    Ok(written.join(name))
}

/// The name under which [`find`] gives a file with this content: the path's own ending, where the program carries that file
/// unchanged.
pub fn shipped_name(path: &Path) -> Option<&'static str> {
    let (name, text) = SHIPPED.iter().find(|(name, _)| path.is_absolute() && path.ends_with(name))?;
    let same = std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes());
    same.then_some(*name)
}
