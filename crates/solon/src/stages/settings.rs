//! How a stage's table is read: keys that several kinds share, and values that are checked while they are read.

use crate::run::{data_hash, model_hash};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use solon_data::DataError;
use solon_data::check::{Looked, empty_answers};
use solon_data::records::{DataFile, Identified, Repeated, UnusedColumn, open_several};
use solon_eval::benchmarks::own;
use solon_eval::judge::labels::{SETS, sets};
use solon_feedback::Form;
use solon_records::SamplingSettings;
use solon_train::{MAX_SKIPPED, Optimizer, Schedule};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The keys of a stage's table that are still to be read.
pub struct Keys {
    table: toml::Table,
    taken: Vec<&'static str>,
}

impl Keys {
    /// A stage's table without `kind` and `name`.
    pub fn new(table: toml::Table) -> Self {
        Self { table, taken: Vec::new() }
    }

    /// Reads the keys that `T` knows and takes them out of the table.
    ///
    /// # Errors
    /// A value of the wrong type or out of its range, with its key.
    pub fn take<T: DeserializeOwned>(&mut self, known: &[&'static str]) -> Result<T, String> {
        let mut own = toml::Table::new();
        for key in known {
            if let Some(value) = self.table.remove(*key) {
                own.insert((*key).to_owned(), value);
            }
        }
        self.taken.extend(known);
        read(own)
    }

    /// Reads what is left; a key that nothing knows is refused.
    pub fn rest<T: DeserializeOwned>(self) -> Result<T, String> {
        read(self.table).map_err(|error| match error.starts_with("unknown field") && !self.taken.is_empty() {
            true => format!("{error}, or one of `{}`", self.taken.join("`, `")),
            false => error,
        })
    }
}

fn read<T: DeserializeOwned>(table: toml::Table) -> Result<T, String> {
    table.try_into().map_err(|error: toml::de::Error| error.to_string().trim_end().replace('\n', " "))
}

/// A file or folder that a stage reads. What counts of it is its content: it is hashed when the recipe is read, and its
/// path enters no hash.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it lies.
    pub path: PathBuf,
    sha256: String,
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::open(PathBuf::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Source {
    /// The hash of its content.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    fn open(path: PathBuf) -> Result<Self, String> {
        let sha256 = model_hash(&path).map_err(|error| format!("{error:#}"))?;
        Ok(Self { path, sha256 })
    }
}

/// The files of a stage, read as one.
pub fn read_sources<T: Identified>(
    files: &[Source],
    repeated: Repeated,
    open: impl Fn(&Path) -> Result<DataFile<T>, DataError>,
) -> Result<Vec<DataFile<T>>, DataError> {
    let paths: Vec<PathBuf> = files.iter().map(|source| source.path.clone()).collect();
    open_several(&paths, repeated, open)
}

/// The records of all files.
pub fn records<T>(files: Vec<DataFile<T>>) -> impl Iterator<Item = T> {
    files.into_iter().flat_map(|file| file.records)
}

/// Says what of a stage's files is not used, and where they teach to say nothing.
pub fn note<T: Looked>(stage: &str, sources: &[Source], files: &[DataFile<T>]) {
    note_unused(stage, files.iter().flat_map(|file| &file.unused));
    for (source, file) in sources.iter().zip(files) {
        let empty = empty_answers(file);
        if let Some(first) = empty.first() {
            let path = source.path.display();
            let more =
                if empty.len() == 1 { String::new() } else { format!(" and {} more", empty.len() - 1) };
            eprintln!("{stage}: {path}: an answer to learn from is empty: {first}{more}");
        }
    }
}

/// Says which columns of files are not used.
pub fn note_unused<'a>(what: &str, unused: impl IntoIterator<Item = &'a UnusedColumn>) {
    let mut names: Vec<String> = Vec::new();
    for name in unused.into_iter().map(|column| column.name.escape_debug().to_string()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if !names.is_empty() {
        eprintln!("{what}: columns that are not used: {}", names.join(", "));
    }
}

/// Reads one file, or a list of at least one.
pub fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Source>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a file or a list of files")]
    enum Files {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    let paths = match Files::deserialize(deserializer)? {
        Files::One(path) => vec![path],
        Files::Many(paths) if paths.is_empty() => {
            return Err(D::Error::custom("the list is empty; name a file"));
        }
        Files::Many(paths) => paths,
    };
    paths.into_iter().map(Source::open).collect::<Result<_, _>>().map_err(D::Error::custom)
}

/// Reads the file or folder of a benchmark, or nothing.
pub fn data<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Source>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    // What a description's items lie in is a part of it. Where that file is not there, the benchmark says so when it is opened.
    let beside = own::beside(&path).filter(|beside| beside.is_file());
    let files = [Some(path.clone()), beside].into_iter().flatten();
    let hashes = files.map(|file| data_hash(&file)).collect::<anyhow::Result<Vec<_>>>();
    let hashes = hashes.map_err(|error| D::Error::custom(format!("{error:#}")))?;
    Ok(Some(Source { path, sha256: hashes.join(" ") }))
}

/// Reads the folder that holds the sets of labelled answers which a judge is measured on.
pub fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Source>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    let hashes = sets(&path).iter().map(|(_, labels)| data_hash(labels)).collect::<anyhow::Result<Vec<_>>>();
    let hashes = hashes.map_err(|error| D::Error::custom(format!("{error:#}")))?;
    if hashes.is_empty() {
        let what = format!("{} holds neither `{}` nor `{}`", path.display(), SETS[0], SETS[1]);
        return Err(D::Error::custom(what));
    }
    Ok(Some(Source { path, sha256: hashes.join(" ") }))
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.sha256.serialize(serializer)
    }
}

/// One name or several.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// Left out.
    #[default]
    #[serde(skip)]
    None,
    /// `data = "revise"`.
    One(String),
    /// `data = ["revise", "rehearse"]`.
    Many(Vec<String>),
}

impl OneOrMany {
    /// Whether no name is given.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::One(_) => false,
            Self::Many(names) => names.is_empty(),
        }
    }
}

impl From<&OneOrMany> for Vec<String> {
    fn from(names: &OneOrMany) -> Self {
        match names {
            OneOrMany::None => Vec::new(),
            OneOrMany::One(name) => vec![name.clone()],
            OneOrMany::Many(names) => names.clone(),
        }
    }
}

/// Reads a number above 0.
pub fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    in_range(deserializer, |x| x > 0.0, "a number above 0")
}

/// Reads a number above 0, or nothing.
pub fn some_positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    positive(deserializer).map(Some)
}

/// Reads a number of at least 0.
pub fn not_negative<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    in_range(deserializer, |x| x >= 0.0, "a number of at least 0")
}

/// Reads a share: a number from 0 to 1, or nothing.
pub fn some_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    in_range(deserializer, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1").map(Some)
}

/// Reads sampling settings that a sampler can use.
pub fn sampling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SamplingSettings, D::Error> {
    let settings = SamplingSettings::deserialize(deserializer)?;
    settings.validate().map_err(D::Error::custom)?;
    Ok(settings)
}

/// The same, or nothing.
pub fn some_sampling<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SamplingSettings>, D::Error> {
    sampling(deserializer).map(Some)
}

/// Whether few-shots are shown: where nothing is said, in the paper's form alone.
pub fn few_shots(form: Form, given: Option<bool>) -> bool {
    given.unwrap_or(form == Form::Paper)
}

/// Whether it is the form where nothing is said.
pub fn is_chat(form: &Form) -> bool {
    *form == Form::Chat
}

fn in_range<'de, D: Deserializer<'de>>(
    deserializer: D,
    fits: fn(f64) -> bool,
    wanted: &str,
) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if value.is_finite() && fits(value) {
        return Ok(value);
    }
    Err(D::Error::custom(format!("{value} was given; give {wanted}")))
}

/// Which weights a stage trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A low-rank adapter on every matrix; the model stays as it is.
    #[default]
    Lora,
    /// Every weight.
    Full,
}

/// How a training stage goes over its data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Training {
    /// Which weights are trained.
    pub method: Method,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Passes over the data.
    pub epochs: NonZeroUsize,
    /// Examples, pairs or prompts in a step.
    pub batch_size: NonZeroUsize,
    /// Share of the steps spent rising to the peak.
    pub warmup: f64,
    /// How the rate falls afterwards.
    pub schedule: Schedule,
    /// AdamW's settings.
    pub optimizer: Optimizer,
    /// Steps that may be skipped because their loss or gradient was not finite, before training stops.
    pub max_skipped: usize,
}

/// The keys of [`Training`] as a recipe may give them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainingKeys {
    #[serde(default)]
    method: Method,
    #[serde(default, deserialize_with = "some_positive")]
    learning_rate: Option<f64>,
    epochs: Option<NonZeroUsize>,
    batch_size: Option<NonZeroUsize>,
    #[serde(default, deserialize_with = "some_share")]
    warmup: Option<f64>,
    schedule: Option<Schedule>,
    #[serde(default)]
    optimizer: Optimizer,
    max_skipped: Option<usize>,
}

const TRAINING_KEYS: [&str; 8] =
    ["method", "learning_rate", "epochs", "batch_size", "warmup", "schedule", "optimizer", "max_skipped"];

/// Peak learning rates where the recipe gives none: for an adapter, and for every weight.
pub struct Rates {
    /// Of an adapter.
    pub lora: f64,
    /// Of every weight.
    pub full: f64,
}

impl Training {
    /// Reads a training stage's keys.
    pub fn take(keys: &mut Keys, rates: &Rates) -> Result<Self, String> {
        let given: TrainingKeys = keys.take(&TRAINING_KEYS)?;
        let rate = match given.method {
            Method::Lora => rates.lora,
            Method::Full => rates.full,
        };
        given.optimizer.validate().map_err(|error| format!("optimizer: {error}"))?;
        Ok(Self {
            method: given.method,
            learning_rate: given.learning_rate.unwrap_or(rate),
            epochs: given.epochs.unwrap_or(NonZeroUsize::MIN),
            batch_size: given.batch_size.unwrap_or(NonZeroUsize::MIN.saturating_add(15)),
            warmup: given.warmup.unwrap_or(0.05),
            schedule: given.schedule.unwrap_or(Schedule::Cosine),
            optimizer: given.optimizer,
            max_skipped: given.max_skipped.unwrap_or(MAX_SKIPPED),
        })
    }
}

/// A chart of a stage's metrics.
pub struct Curve {
    /// What is shown.
    pub title: &'static str,
    /// What runs up, with its unit.
    pub y_label: &'static str,
    /// Metrics by their names in `metrics.jsonl`, and what the legend calls them.
    pub series: &'static [(&'static str, &'static str)],
}

/// The chart of a loss.
pub const LOSS: Curve = Curve { title: "loss", y_label: "nats per token", series: &[("loss", "loss")] };

#[cfg(test)]
mod tests {
    use super::*;

    fn training(text: &str) -> Result<Training, String> {
        let mut keys = Keys::new(text.parse().unwrap());
        Training::take(&mut keys, &Rates { lora: 3e-4, full: 2e-5 })
    }

    #[test]
    fn values_out_of_range_are_refused_by_key() {
        assert_eq!(training("").unwrap().learning_rate, 3e-4);
        assert_eq!(training("method = \"full\"").unwrap().learning_rate, 2e-5);
        for (bad, key) in [
            ("epochs = 0", "epochs"),
            ("batch_size = 0", "batch_size"),
            ("learning_rate = -1.0", "learning_rate"),
            ("learning_rate = 0", "learning_rate"),
            ("learning_rate = nan", "learning_rate"),
            ("warmup = 1.5", "warmup"),
            ("method = \"lorra\"", "method"),
            ("schedule = \"cosin\"", "schedule"),
        ] {
            let error = training(bad).unwrap_err();
            assert!(error.contains(key), "{bad}: {error}");
        }
    }

    #[test]
    fn a_key_that_nothing_knows_is_refused_beside_what_is_known() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Own {
            #[allow(dead_code)]
            beta: Option<f64>,
        }
        let mut keys = Keys::new("epoch = 2".parse().unwrap());
        Training::take(&mut keys, &Rates { lora: 1.0, full: 1.0 }).unwrap();
        let error = keys.rest::<Own>().unwrap_err();
        assert!(
            error.contains("`epoch`") && error.contains("`epochs`") && error.contains("`beta`"),
            "{error}"
        );
    }
}
