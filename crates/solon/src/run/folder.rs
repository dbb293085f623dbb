//! A run on disk: `ledger.sqlite`, `metrics.jsonl` and `checkpoints/`, and stages that are done once and resumed.
//!
//! A stage that is done with the same hash is skipped. One that was broken off goes on at the item or the checkpoint it
//! had reached. One whose hash changed starts anew.

use super::lacks_replies;
use super::stop::{safe_point, stop_asked};
use crate::cli::UsageError;
use crate::progress::Progress;
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use solon_data::files::{
    FolderLock, remove_stale_temporaries, sha256_bytes, sha256_file, sha256_parts, write_bytes_atomically,
};
use solon_data::ledger::{Ledger, NewStep, StageState};
use solon_data::metrics::{MetricsLine, MetricsLog, read_metrics};
use solon_train::{Skipped, TrainError, Trainer};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A run's folder, locked for this process.
pub struct RunFolder {
    /// Where it is.
    pub path: PathBuf,
    /// What was made from what.
    pub ledger: Ledger,
    metrics: MetricsLog,
    _lock: FolderLock,
}

/// How a stage begins.
pub enum Begun {
    /// There is work to do; items made before are in the ledger. A stage that lacks replies is still done there.
    Work(StageClock),
    /// It was done before.
    Done {
        /// Hash of what it made.
        output_hash: String,
    },
}

/// A running stage's name and time.
pub struct StageClock {
    name: String,
    started: Instant,
    before: f64,
}

/// The metric of a step that was not applied.
pub const SKIPPED: &str = "skipped";

/// How often training state is saved: every 45 seconds, or `SOLON_CHECKPOINT_SECONDS`. No result depends on it.
fn checkpoint_every() -> Result<Duration> {
    match std::env::var("SOLON_CHECKPOINT_SECONDS") {
        Ok(text) => {
            let seconds = text.parse::<u64>().map_err(|error| {
                UsageError(format!(
                    "SOLON_CHECKPOINT_SECONDS is {text:?}: {error}\nhint: give a whole number of seconds"
                ))
            })?;
            Ok(Duration::from_secs(seconds))
        }
        Err(_) => Ok(Duration::from_secs(45)),
    }
}

/// What a run that was broken off early has in its folder; what may have been put there first (its recipe, and recorded
/// answers of servers); and what a fresh disk has. Hidden files count as little.
const BEGINNINGS: [&str; 6] =
    ["answers", "checkpoints", "ledger.sqlite-journal", "lost+found", "metrics.jsonl", "recipe.toml"];

/// Refuses a folder that holds other things than a run: training puts a model there, in the place of what it finds.
pub fn check_folder(path: &Path) -> Result<(), String> {
    if let Some(file) = path.ancestors().find(|above| above.exists() && !above.is_dir()) {
        return Err(format!("{} is a file; give a folder", file.display()));
    }
    if !path.exists() || path.join("ledger.sqlite").exists() {
        return Ok(());
    }
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut others = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if !BEGINNINGS.contains(&name.as_str()) && !name.starts_with('.') {
            others.push(name);
        }
    }
    others.sort();
    match others.first() {
        None => Ok(()),
        Some(first) => {
            let more =
                if others.len() > 1 { format!(" and {} more", others.len() - 1) } else { String::new() };
            Err(format!(
                "{} is not a run's folder: it holds {first}{more}; give a folder that is new or empty",
                path.display()
            ))
        }
    }
}

impl RunFolder {
    /// Opens or makes a run's folder, which nobody else may have open.
    pub fn open(path: &Path) -> Result<Self> {
        check_folder(path).map_err(UsageError)?;
        let checkpoints = path.join("checkpoints");
        std::fs::create_dir_all(&checkpoints).with_context(|| format!("cannot make {}", path.display()))?;
        let lock = FolderLock::acquire(path)?;
        remove_stale_temporaries(path)?;
        remove_stale_temporaries(&checkpoints)?;
        let ledger = Ledger::open(&path.join("ledger.sqlite"))?;
        let metrics = MetricsLog::open(&path.join("metrics.jsonl"))?;
        Ok(Self { path: path.to_owned(), ledger, metrics, _lock: lock })
    }

    /// Begins a stage whose inputs and settings hash to this.
    pub fn begin(&mut self, stage: &str, input_hash: &str) -> Result<Begun> {
        let input_hash = hash_with_build(input_hash)?;
        let known = self.ledger.stage(stage)?.filter(|s| s.input_hash == input_hash);
        if known.is_none() {
            // Before the ledger says that the stage is new: nothing may go on from another stage's state, or be taken for
            // what this one made.
            remove_if_there(&self.state_file(stage))?;
            remove_folder_if_there(&self.saved(stage))?;
        }
        let before = known.as_ref().and_then(|s| s.seconds);
        let clock =
            StageClock { name: stage.to_owned(), started: Instant::now(), before: before.unwrap_or(0.0) };
        if known.is_some_and(|s| lacks_replies(&s)) {
            eprintln!("{stage}: asked again about what the servers did not answer");
            return Ok(Begun::Work(clock));
        }
        match self.ledger.begin_stage(stage, &input_hash)? {
            StageState::Done { output_hash, .. } => return Ok(Begun::Done { output_hash }),
            StageState::Resumed { items, last_step } => match last_step {
                Some(step) => eprintln!("{stage}: resumed (step {step} was the last)"),
                None => eprintln!("{stage}: resumed ({items} items were there)"),
            },
            StageState::Fresh { replaced } => {
                if replaced.is_some() {
                    eprintln!("{stage}: its inputs or settings changed, so it runs again");
                }
                self.metrics.drop_stage(stage)?;
            }
        }
        Ok(Begun::Work(clock))
    }

    /// Ends a stage.
    pub fn finish(&mut self, clock: StageClock, output_hash: &str, detail: &Value) -> Result<()> {
        let seconds = clock.before + clock.started.elapsed().as_secs_f64();
        self.metrics.sync()?;
        self.ledger.finish_stage(&clock.name, output_hash, seconds, detail)?;
        remove_if_there(&self.state_file(&clock.name))?;
        Ok(())
    }

    /// Steps a trainer to its end, from its last checkpoint where there is one, recording every step. Returns the tokens that
    /// went through the model.
    pub fn train(&mut self, stage: &str, trainer: &mut dyn Trainer) -> Result<usize> {
        let state_file = self.state_file(stage);
        let mut next = 0;
        if state_file.exists() {
            let bytes = std::fs::read(&state_file)
                .with_context(|| format!("cannot read {}", state_file.display()))?;
            next = trainer.restore(&bytes).with_context(|| format!("{}", state_file.display()))?;
        }
        self.ledger.truncate_steps_after(stage, next as u64)?;
        self.metrics.drop_after(stage, next as u64)?;
        let total = trainer.total_steps();
        let every = checkpoint_every()?;
        let mut progress = Progress::new(stage, total, "steps");
        progress.resume_at(next);
        let mut saved = Instant::now();
        let mut tokens = 0;
        for step in next..total {
            let record = match trainer.step(step) {
                Ok(record) => record,
                Err(error) => {
                    if let TrainError::NotFinite { step, skipped, .. } = &error {
                        self.keep_skipped(stage, *step, skipped)?;
                    }
                    return Err(error.into());
                }
            };
            tokens += record.tokens;
            if let Some(skipped) = &record.skipped {
                self.keep_skipped(stage, step, skipped)?;
            }
            let mut metrics: Map<String, Value> = record
                .metrics
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
                .collect();
            if record.skipped.is_some() {
                metrics.insert(SKIPPED.to_owned(), Value::from(1));
            }
            self.metrics.append(stage, step as u64 + 1, &metrics)?;
            let data = Value::Object(metrics);
            self.ledger.record_step(
                stage,
                &NewStep { step: step as u64 + 1, data, items: record.items, sha256: None },
            )?;
            let shown = ["loss", "objective/rlhf_reward"];
            let note = shown.iter().find_map(|name| {
                let value = record.metrics.get(name)?;
                Some(format!("{} {value:.3}", name.trim_start_matches("objective/")))
            });
            progress.step(record.tokens, note);
            if stop_asked() || (saved.elapsed() >= every && step + 1 < total) {
                write_bytes_atomically(&state_file, &trainer.checkpoint(step + 1)?)?;
                saved = Instant::now();
                safe_point()?;
            }
        }
        progress.finish();
        Ok(tokens)
    }

    /// Keeps the batch of a step that was not applied, items with their tokens, and says in which file.
    fn keep_skipped(&self, stage: &str, step: usize, skipped: &Skipped) -> Result<()> {
        let folder = self.path.join("skipped");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let file = folder.join(format!("{stage}-step-{}.json", step + 1));
        write_bytes_atomically(&file, serde_json::to_string_pretty(skipped)?.as_bytes())?;
        let (step, reason, file) = (step + 1, &skipped.reason, file.display());
        eprintln!("{stage}: step {step} was not applied: {reason}; its batch is in {file}");
        Ok(())
    }

    /// Where a stage saves the adapter or the model it trained.
    pub fn saved(&self, stage: &str) -> PathBuf {
        self.path.join("checkpoints").join(stage)
    }

    /// Hash of what a stage saved there; `None` where it saved nothing.
    pub fn saved_hash(&self, stage: &str) -> Result<Option<String>> {
        let folder = self.saved(stage);
        if folder.is_dir() { trained_hash(&folder).map(Some) } else { Ok(None) }
    }

    /// The metrics of all stages.
    pub fn metrics(&self) -> Result<Vec<MetricsLine>> {
        Ok(read_metrics(&self.path.join("metrics.jsonl"))?)
    }

    /// Where a stage's training state is saved while it runs.
    fn state_file(&self, stage: &str) -> PathBuf {
        self.path.join("checkpoints").join(format!("{stage}.state"))
    }
}

/// A stage's input hash as the ledger keeps it: this build of the program is one of the inputs.
pub fn hash_with_build(input_hash: &str) -> Result<String> {
    Ok(sha256_parts([build_hash()?.as_str(), input_hash]))
}

/// Hash of the program's own file: promises about bits are made for one build.
fn build_hash() -> Result<String> {
    static HASH: OnceLock<String> = OnceLock::new();
    if let Some(hash) = HASH.get() {
        return Ok(hash.clone());
    }
    let program = std::env::current_exe().context("the system does not tell where the program is")?;
    let hash = sha256_file(&program)?;
    Ok(HASH.get_or_init(|| hash).clone())
}

/// Hash of a model file, or of a model's or adapter's folder.
pub fn model_hash(path: &Path) -> Result<String> {
    if path.is_dir() { folder_hash(path) } else { Ok(sha256_file(path)?) }
}

/// What the files of a model, tokenizer or adapter end with; a folder may hold others, and other folders.
const MODEL_FILES: [&str; 5] = ["safetensors", "json", "jinja", "model", "txt"];

/// Hash of the model files in a folder by name, so that what is saved there can be an input of later stages.
pub fn folder_hash(folder: &Path) -> Result<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.retain(|name| {
        let path = folder.join(name);
        let known = path.extension().is_some_and(|ending| MODEL_FILES.iter().any(|known| ending == *known));
        known && path.is_file()
    });
    names.sort();
    let mut parts = Vec::new();
    for name in names {
        let file = folder.join(&name);
        parts.push(sha256_file(&file)?);
        parts.push(name);
    }
    Ok(sha256_parts(parts))
}

/// What the files of a benchmark end with.
const DATA_FILES: [&str; 4] = ["csv", "json", "jsonl", "parquet"];

/// Hash of a data file, or of the data files in a folder and the folders inside it, by their names.
pub fn data_hash(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return Ok(sha256_file(path)?);
    }
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    let mut seen = HashSet::new();
    while let Some(folder) = folders.pop() {
        // Links are followed, and one may lead in a circle.
        if !seen.insert(folder.canonicalize().with_context(|| folder.display().to_string())?) {
            continue;
        }
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| DATA_FILES.iter().any(|known| ending == *known)) {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut parts = Vec::new();
    for file in files {
        parts.push(sha256_file(&file)?);
        parts.push(file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned());
    }
    Ok(sha256_parts(parts))
}

/// Hash of an adapter or a model that a stage trained. How an adapter's file spells its base model does not count.
fn trained_hash(folder: &Path) -> Result<String> {
    let config = folder.join(super::ADAPTER_CONFIG);
    if !config.exists() {
        return folder_hash(folder);
    }
    let text = std::fs::read_to_string(&config).with_context(|| config.display().to_string())?;
    let mut settings: Map<String, Value> =
        serde_json::from_str(&text).with_context(|| config.display().to_string())?;
    settings.remove("base_model_name_or_path");
    Ok(sha256_parts([sha256_json(&settings)?, sha256_file(&folder.join("adapter_model.safetensors"))?]))
}

/// Hash of a value's JSON.
pub fn sha256_json(value: &impl serde::Serialize) -> Result<String> {
    Ok(sha256_bytes(&serde_json::to_vec(value)?))
}

fn remove_folder_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

pub fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
