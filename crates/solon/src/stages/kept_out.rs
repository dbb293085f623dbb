//! What a new prompt must not be near: what the recipe's stages measure models on, the shipped prompts that models are measured on,
//! files that a stage names, and what the models that it is to test have learnt from.

use super::{Measured, Source};
use crate::assets;
use crate::cli::UsageError;
use crate::items::NearTo;
use anyhow::Result;
use solon_data::records::read_prompts;
use solon_eval::Texts;
use solon_records::Prompt;

/// Why a prompt is dropped that is near what models are measured on.
pub const IN_EVALUATION: &str = "near what models are measured on";
/// Why a prompt is dropped that is near a prompt of a file to avoid.
pub const AVOIDED: &str = "near what is to be avoided";
/// Why a prompt is dropped that tests a model on familiar ground.
pub const LEARNT: &str = "near what a target has learnt from";

/// Texts that no new prompt may be near, by where they are from.
pub struct KeptOut {
    measured: Vec<(String, Texts)>,
    avoided: Vec<(String, Texts)>,
    learnt: Vec<(String, Texts)>,
}

impl KeptOut {
    /// `measured`: of the recipe's stages. `avoid`: files of prompts.
    pub fn of(measured: &[Measured], avoid: &[Source]) -> Result<Self> {
        let of_stage = |measured: &Measured| {
            let texts = measured.texts.iter().map(String::as_str).collect();
            (measured.stage.clone(), texts)
        };
        let of_shipped = |(name, texts): (&str, Vec<String>)| {
            (name.to_owned(), texts.iter().map(String::as_str).collect())
        };
        let shipped = assets::evaluation_prompts()?.into_iter().map(of_shipped);
        let mut avoided = Vec::new();
        for source in avoid {
            let prompts = read_prompts(&source.path)?;
            let name = source.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            avoided.push((name, prompts.iter().map(Prompt::text).collect()));
        }
        let measured = measured.iter().map(of_stage).chain(shipped).collect();
        Ok(Self { measured, avoided, learnt: Vec::new() })
    }

    /// The same beside the prompts that a model has learnt from.
    #[must_use]
    pub fn beside_learnt(mut self, model: &str, prompts: &[String]) -> Self {
        self.learnt.push((model.to_owned(), prompts.iter().map(String::as_str).collect()));
        self
    }

    /// Refuses seeds that models are measured on: what is written after them would be near them, and who learns from it would
    /// have seen what measures it.
    pub fn check_seeds(&self, seeds: &[Prompt]) -> Result<()> {
        for seed in seeds {
            let same = |(_, texts): &&(String, Texts)| texts.nearest(seed.text(), 1.0).is_some();
            if let Some((of, _)) = self.measured.iter().find(same) {
                let what = format!(
                    "the seed `{}` is one of the prompts of `{of}`, on which models are measured\n\
                     hint: take seeds that nothing is measured on",
                    seed.id
                );
                return Err(UsageError(what).into());
            }
        }
        Ok(())
    }

    /// What a prompt is near, and why it is dropped for that.
    pub fn near(&self, prompt: &str, similarity: f64) -> Option<(&'static str, NearTo)> {
        let all = [(IN_EVALUATION, &self.measured), (AVOIDED, &self.avoided), (LEARNT, &self.learnt)];
        all.into_iter().find_map(|(reason, sources)| {
            sources.iter().find_map(|(of, texts)| {
                let near = texts.nearest(prompt, similarity)?;
                Some((reason, NearTo { of: of.clone(), similarity: near.similarity }))
            })
        })
    }
}
