//! A stage at work: what it may write, and the two shapes of work, once: items in chunks, and training.

use super::folder::SKIPPED;
use super::stop::safe_point;
use super::{Reader, Run, Start};
use crate::plan::Planned;
use crate::progress::Progress;
use crate::stages::Training;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, NewItem};
use solon_draws::Draws;
use solon_kernels::Precision;
use solon_train::{TrainSettings, Trainer};
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Instant;

/// Answers sampled at a time, and items between two visits to the ledger: what a killed run loses at most. A recipe's
/// `batch` replaces it.
pub const SLOTS: usize = 64;

/// A stage at work.
pub struct StageRun<'a> {
    run: &'a mut Run,
    planned: Rc<Planned>,
}

impl<'a> StageRun<'a> {
    pub(super) fn new(run: &'a mut Run, planned: Rc<Planned>) -> Self {
        Self { run, planned }
    }

    /// What the stage may read.
    pub fn read(&self) -> Reader<'_> {
        Reader::new(self.run, &self.planned)
    }

    pub(super) fn run(&self) -> &Run {
        self.run
    }

    /// The stage's name.
    pub fn name(&self) -> &str {
        &self.planned.name
    }

    /// Whether it was done and works again, because replies are missing, and nothing of it was replaced yet.
    pub fn is_done(&self) -> Result<bool> {
        self.run.is_done(&self.planned.name)
    }

    /// How many answers are sampled at a time. No result depends on it.
    pub fn slots(&self) -> usize {
        self.run.plan.recipe.batch.map_or(SLOTS, NonZeroUsize::get)
    }

    /// The number format of the recipe's models.
    pub fn precision(&self) -> Precision {
        crate::commands::precision(self.run.plan.recipe.precision)
    }

    /// The key of the stage's draws.
    pub fn draws(&self) -> Draws {
        Draws::new(self.run.plan.recipe.seed, &self.planned.name)
    }

    /// An id of the stage's own for something that has the id `of`.
    pub fn id(&self, of: &str) -> String {
        format!("{}/{of}", self.planned.name)
    }

    /// Puts items into the ledger.
    pub fn insert(&mut self, items: &[NewItem]) -> Result<()> {
        self.run.reopen_stage(&self.planned.name)?;
        Ok(self.run.folder.ledger.insert_items(&self.planned.name, items)?)
    }

    /// Makes items in chunks. `id` is that of the item that says that all of an input's items are there; inputs that have
    /// theirs are skipped. `make` gets those that are left of a chunk with their places, and returns their items, which
    /// are recorded at once.
    pub fn in_chunks<T>(
        &mut self,
        unit: &'static str,
        inputs: &[T],
        kind: ItemKind,
        id: impl Fn(&T) -> String,
        make: impl FnMut(&Self, &[(u64, &T)]) -> Result<Vec<NewItem>>,
    ) -> Result<()> {
        let there = self.read().own_ids(kind)?;
        self.in_chunks_beside(unit, inputs, &there, id, make)
    }

    /// The same beside items of which `there` stay; the others are made again and replaced.
    pub fn in_chunks_beside<T>(
        &mut self,
        unit: &'static str,
        inputs: &[T],
        there: &HashSet<String>,
        id: impl Fn(&T) -> String,
        mut make: impl FnMut(&Self, &[(u64, &T)]) -> Result<Vec<NewItem>>,
    ) -> Result<()> {
        let mut progress = Progress::new(self.name(), inputs.len(), unit);
        progress.resume_at(inputs.iter().filter(|input| there.contains(&id(input))).count());
        let size = self.slots();
        for (chunk, inputs) in inputs.chunks(size).enumerate() {
            safe_point()?;
            let places = (chunk * size) as u64..;
            let todo: Vec<(u64, &T)> =
                places.zip(inputs).filter(|(_, input)| !there.contains(&id(input))).collect();
            if todo.is_empty() {
                continue;
            }
            let items = make(self, &todo)?;
            self.insert(&items)?;
            progress.add(todo.len());
        }
        progress.finish();
        Ok(())
    }

    /// Steps a trainer to its end, from its last checkpoint where there is one. Returns what is told of it: `seconds` and
    /// `tokens` are of this attempt.
    pub fn train(&mut self, trainer: &mut dyn Trainer, started: Instant) -> Result<Value> {
        let tokens = self.run.folder.train(&self.planned.name, trainer)?;
        let (steps, seconds) = (trainer.total_steps(), started.elapsed().as_secs_f64());
        let mut told = json!({"steps": steps, "tokens": tokens, "seconds": seconds});
        let lines = self.read().metrics()?;
        let skipped: Vec<bool> = lines.iter().map(|line| line.metrics.contains_key(SKIPPED)).collect();
        if skipped.last() == Some(&true) {
            bail!(
                "the last step was not applied, because a value in it was not finite: the training has diverged\n\
                 hint: lower the learning rate"
            );
        }
        if skipped.contains(&true) {
            told[SKIPPED] = json!(skipped.iter().filter(|skipped| **skipped).count());
        }
        Ok(told)
    }

    /// The trainers' settings for what training starts from.
    pub fn train_settings(&self, training: &Training, start: &Start) -> Result<TrainSettings> {
        let rank = start
            .adapter()
            .map_or(self.run.plan.recipe.lora.rank.get(), |adapter| adapter.settings.largest_rank());
        let pass = self.run.pass(start.chat(), training.method, rank)?;
        Ok(TrainSettings {
            learning_rate: training.learning_rate,
            schedule: training.schedule,
            warmup: training.warmup,
            batch_size: training.batch_size.get(),
            epochs: training.epochs.get(),
            tokens_per_pass: pass.tokens,
            keep: pass.keep,
            optimizer: training.optimizer,
            max_skipped: training.max_skipped,
        })
    }

    /// Records what the stage saved.
    pub(super) fn record_checkpoint(&mut self, steps: usize, hash: &str) -> Result<()> {
        let path = format!("checkpoints/{}", self.planned.name);
        self.run.folder.ledger.record_checkpoint(&self.planned.name, steps as u64, &path, hash)?;
        Ok(())
    }

    /// The folder the stage saves to.
    pub fn folder(&self) -> std::path::PathBuf {
        self.run.folder.saved(&self.planned.name)
    }

    /// A folder of the run beside the stages'.
    pub fn beside(&self, name: &str) -> std::path::PathBuf {
        self.run.folder.path.join(name)
    }

    /// What the stage dropped, by reason, as it is told.
    pub fn drops(&self) -> Result<Value> {
        let counts = self.read().own_drops()?;
        Ok(counts.iter().map(|c| json!({"reason": c.reason, "count": c.count})).collect())
    }
}
