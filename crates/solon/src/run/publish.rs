//! What a command puts into its `--out`: the adapter or the model of its one stage, beside the run.
//!
//! Contract: the folder holds one of the two, never both, and a mark that is written last says which. A kill in between
//! leaves no mark, so the same command publishes again.

use super::folder::remove_if_there;
use super::{ADAPTER_CONFIG, Run, save_merged};
use crate::chat_template;
use anyhow::Result;
use solon_data::files::{sha256_parts, write_bytes_atomically};
use solon_model::weights::AdapterFile;
use std::path::Path;

/// The files of an adapter.
const ADAPTER: [&str; 2] = [ADAPTER_CONFIG, "adapter_model.safetensors"];
/// The files by which a folder is loaded as a whole model.
const WHOLE_MODEL: [&str; 2] = ["config.json", "model.safetensors"];
/// Says what a command has put into its `--out`.
const PUBLISHED: &str = "published";

impl Run {
    /// Puts what a stage trained into a folder of its own: the adapter, or the whole model. A mark is written last, so that
    /// a kill in between is noticed.
    pub fn publish(&self, stage: &str, out: &Path, merge: bool) -> Result<()> {
        remove_if_there(&out.join(PUBLISHED))?;
        let saved = self.folder.saved(stage);
        // Readers would load an adapter that lies beside a model on top of it, or the old model in place of the adapter.
        let stale = match !merge && saved.join(ADAPTER_CONFIG).exists() {
            true => {
                AdapterFile::open(&saved)?.save(out)?;
                self.save_template(out)?;
                WHOLE_MODEL
            }
            false => {
                save_merged(&self.model(stage)?, out)?;
                ADAPTER
            }
        };
        for file in stale {
            remove_if_there(&out.join(file))?;
        }
        let mark = self.published_mark(stage, merge)?;
        Ok(write_bytes_atomically(&out.join(PUBLISHED), mark.as_bytes())?)
    }

    /// Puts the chat template that stands in place of the model's own beside an adapter. A whole model has it among its files.
    pub(super) fn save_template(&self, folder: &Path) -> Result<()> {
        let path = folder.join(chat_template::FILE);
        match &self.plan.recipe.chat_template {
            Some(file) => Ok(write_bytes_atomically(&path, chat_template::source(file)?.as_bytes())?),
            // What an earlier training or a whole model left there is not this adapter's.
            None => remove_if_there(&path),
        }
    }

    /// Whether a folder holds what [`Run::publish`] would put there.
    pub fn is_published(&self, stage: &str, out: &Path, merge: bool) -> Result<bool> {
        let there = std::fs::read(out.join(PUBLISHED)).ok();
        Ok(there.as_deref() == Some(self.published_mark(stage, merge)?.as_bytes()))
    }

    fn published_mark(&self, stage: &str, merge: bool) -> Result<String> {
        let saved = self.folder.saved_hash(stage)?.unwrap_or_default();
        let template = self.plan.recipe.chat_template.as_deref().map(chat_template::source).transpose()?;
        let form = if merge { "merged" } else { "as trained" };
        Ok(sha256_parts([saved.as_str(), form, template.as_deref().unwrap_or_default()]))
    }
}
