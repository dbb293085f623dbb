//! What all stages do alike: begin, work or skip, save an adapter, tell how it went.

use super::{Pipeline, Trained};
use crate::memory::Pass;
use crate::run_folder::{Begun, folder_hash};
use crate::training::fresh_adapter;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use solon_data::ledger::{ItemKind, NewItem};
use solon_model::weights::AdapterFile;
use solon_model::{Adapter, Cpu, ScalarHead};
use solon_train::{Learner, MAX_SKIPPED, Optimizer, Schedule, TrainSettings, Trainer};
use std::sync::Arc;

impl Pipeline {
    /// Runs the stage's work unless it was done with the same inputs; returns the hash of what it made and what it told.
    /// Items made by the work are in the ledger; their hash is part of the stage's output.
    pub(super) fn stage(
        &mut self,
        name: &str,
        inputs: &[&str],
        work: impl FnOnce(&mut Self) -> Result<Value>,
    ) -> Result<(String, Value)> {
        let base = self.base_hash.clone();
        let all: Vec<&str> = [name, &base].into_iter().chain(inputs.iter().copied()).collect();
        match self.run.begin(name, &all)? {
            Begun::Done { output_hash, detail } => Ok((output_hash, detail)),
            Begun::Work(clock) => {
                let detail = work(self).with_context(|| format!("stage {name}"))?;
                let items = self.run.ledger.items_hash(name)?;
                let adapter = self.adapter_folder(name);
                let output_hash = match adapter.join("adapter_config.json").exists() {
                    true => folder_hash(&adapter)?,
                    false => items,
                };
                self.run.finish(clock, &output_hash, &detail)?;
                eprintln!("{name}: done {}", told(&detail));
                Ok((output_hash, detail))
            }
        }
    }

    fn adapter_folder(&self, stage: &str) -> std::path::PathBuf {
        self.run.path.join("checkpoints").join(stage)
    }

    /// Saves what a stage trained as a PEFT adapter and records it.
    pub(super) fn save_adapter(&mut self, stage: &str, learner: &Learner<Cpu>, steps: usize) -> Result<()> {
        let folder = self.adapter_folder(stage);
        let backend = *self.model.decoder.backend();
        let adapter = learner.adapter.as_ref().context("the pipeline trains adapters")?;
        let score = learner.scalar.as_ref().map(|head| &head.weight);
        adapter.to_file(&backend, Some(self.recipe.model.clone()), score).save(&folder)?;
        let hash = folder_hash(&folder)?;
        self.run.ledger.record_checkpoint(stage, steps as u64, &format!("checkpoints/{stage}"), &hash)?;
        Ok(())
    }

    /// The adapter a finished stage saved.
    pub(super) fn trained(&self, stage: &str) -> Result<Trained> {
        let folder = self.adapter_folder(stage);
        let file = AdapterFile::open(&folder)?;
        let adapter = Adapter::from_file(self.model.decoder.backend(), self.model.config(), &file)
            .map_err(|reason| anyhow::anyhow!("{}: {reason}", folder.display()))?;
        Ok(Trained { adapter, score: file.score.map(|score| score.data), hash: folder_hash(&folder)? })
    }

    /// A learner with a fresh adapter, or one that goes on from another's.
    pub(super) fn learner(
        &self,
        stage: &str,
        from: Option<&Adapter<Cpu>>,
        score: Option<Vec<f32>>,
    ) -> Learner<Cpu> {
        let backend = self.model.decoder.backend();
        let lora = self.recipe.lora;
        let adapter = match from {
            Some(adapter) => adapter.duplicate(backend),
            None => fresh_adapter(&self.model, lora.rank, lora.alpha, self.draws(stage)),
        };
        let scalar = score.map(|weight| ScalarHead::new(backend, weight));
        Learner::new(Arc::clone(&self.model.decoder), Some(adapter), scalar)
    }

    /// The trainers' loop for a recipe's settings.
    pub(super) fn loop_of(
        &self,
        learning_rate: f64,
        epochs: usize,
        batch_size: usize,
    ) -> Result<TrainSettings> {
        let (budget, rank) = (self.recipe.memory_gb, Some(self.recipe.lora.rank));
        let precision = self.model.decoder.backend().precision();
        let pass = Pass::within(budget, self.model.config(), rank, precision)?;
        Ok(TrainSettings {
            learning_rate,
            schedule: Schedule::Cosine,
            warmup: 0.05,
            batch_size: batch_size.max(1),
            epochs,
            optimizer: Optimizer::default(),
            max_skipped: MAX_SKIPPED,
            tokens_per_pass: pass.tokens,
            keep: pass.keep,
        })
    }

    /// Steps a trainer to its end.
    pub(super) fn train(&mut self, stage: &str, what: &str, trainer: &mut dyn Trainer) -> Result<()> {
        self.run.train(stage, what, trainer)?;
        Ok(())
    }

    /// Inserts items into a running stage.
    pub(super) fn insert(&mut self, stage: &str, items: &[NewItem]) -> Result<()> {
        Ok(self.run.ledger.insert_items(stage, items)?)
    }

    /// Ids a running stage has already made.
    pub(super) fn made(&self, stage: &str, kind: ItemKind) -> Result<std::collections::HashSet<String>> {
        Ok(self.run.ledger.items(stage, kind)?.into_iter().map(|item| item.id).collect())
    }

    /// What was dropped in a stage, by reason.
    pub(super) fn dropped(&self, stage: &str) -> Result<Value> {
        let counts = self.run.ledger.drop_counts(stage)?;
        Ok(json!(counts.iter().map(|c| json!({"reason": c.reason, "count": c.count})).collect::<Vec<_>>()))
    }
}

/// A stage's counts in a few words.
fn told(detail: &Value) -> String {
    let Some(object) = detail.as_object() else { return String::new() };
    let parts: Vec<String> = object
        .iter()
        .filter(|(_, value)| value.is_number())
        .map(|(name, value)| match value.as_f64() {
            Some(x) if x.fract() != 0.0 => format!("{name} {x:.3}"),
            _ => format!("{name} {value}"),
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!("({})", parts.join(", ")) }
}
