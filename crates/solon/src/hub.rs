//! Models, adapters and data of the Hugging Face Hub for the program: what is on this machine goes first, and progress is shown.
//!
//! Contract: a name is looked up once in a process, so that what is hashed and what is opened are of one commit.

use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use solon_hub::{Event, Hub, HubError, HubSettings, RepositoryName, Upload, Visibility};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What is looked for in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// A model.
    Model,
    /// A PEFT adapter.
    Adapter,
    /// The files of a split of data.
    Data,
}

/// The repository that a text names: where the text has the form of a name, and nothing of that name is on this machine.
pub fn named(text: &str) -> Option<RepositoryName> {
    RepositoryName::read(text).filter(|_| !Path::new(text).exists())
}

/// What is wanted of a repository, downloaded if it is not in the cache: a folder, or one file.
pub fn get(wanted: Wanted, name: &RepositoryName) -> Result<PathBuf> {
    let found = files(wanted, name)?;
    match <[PathBuf; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(several) => bail!(
            "{name} has {} files, and one is read here\nhint: name one after a colon, by its path in the repository",
            several.len()
        ),
    }
}

/// The same, with all files of a split of data.
pub fn files(wanted: Wanted, name: &RepositoryName) -> Result<Vec<PathBuf>> {
    static FOUND: Mutex<BTreeMap<(Wanted, String), Vec<PathBuf>>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (wanted, name.to_string());
    if let Some(paths) = found.get(&key) {
        return Ok(paths.clone());
    }
    let paths = download(wanted, name)
        .with_context(|| format!("there is no {} here, so the Hugging Face Hub was asked", name.id))?;
    found.insert(key, paths.clone());
    Ok(paths)
}

/// A model of the cache. Nothing is asked of the Hub.
pub fn cached_model(name: &RepositoryName) -> Option<PathBuf> {
    Hub::new(HubSettings::from_environment().ok()?).cached_model(name)
}

/// Makes files a commit of a repository, and returns the address of what was made.
pub fn push(
    name: &RepositoryName,
    files: &[Upload],
    visibility: Visibility,
    message: &str,
) -> Result<String, HubError> {
    let hub = Hub::new(HubSettings::from_environment()?);
    let mut shown = Shown::new("sending", name);
    hub.push(name, files, visibility, message, &mut |event| shown.show(event))
}

fn download(wanted: Wanted, name: &RepositoryName) -> Result<Vec<PathBuf>, HubError> {
    let hub = Hub::new(HubSettings::from_environment()?);
    let mut shown = Shown::new("downloading", name);
    let mut on = |event: Event<'_>| shown.show(event);
    match wanted {
        Wanted::Model => hub.model(name, &mut on).map(|path| vec![path]),
        Wanted::Adapter => hub.adapter(name, &mut on).map(|path| vec![path]),
        Wanted::Data => hub.data(name, &mut on),
    }
}

/// A transfer on stderr, in megabytes.
struct Shown {
    /// `downloading` or `sending`.
    doing: &'static str,
    what: String,
    bar: Option<Progress>,
    megabytes: usize,
}

impl Shown {
    fn new(doing: &'static str, name: &RepositoryName) -> Self {
        Self { doing, what: name.id.clone(), bar: None, megabytes: 0 }
    }

    fn show(&mut self, event: Event<'_>) {
        match (event, &mut self.bar) {
            (Event::Begins { bytes, here }, _) => {
                eprintln!("{} {} ({} MB)", self.doing, self.what, megabytes(bytes).max(1));
                let mut bar = Progress::new(&self.what, megabytes(bytes), "MB");
                self.megabytes = megabytes(here);
                bar.resume_at(self.megabytes);
                self.bar = Some(bar);
            }
            // The number falls where a file starts again; then the bar waits.
            (Event::At(bytes), Some(bar)) if megabytes(bytes) > self.megabytes => {
                bar.add(megabytes(bytes) - self.megabytes);
                self.megabytes = megabytes(bytes);
            }
            (Event::Note(note), Some(bar)) => bar.say(note),
            (Event::Note(note), None) => eprintln!("{note}"),
            (Event::Ends, bar) => {
                if let Some(bar) = bar.take() {
                    bar.finish();
                }
            }
            (Event::At(_), _) => {}
        }
    }
}

fn megabytes(bytes: u64) -> usize {
    usize::try_from(bytes / 1_000_000).unwrap_or(usize::MAX)
}
