//! How an evaluation came about, for the formats of other programs.

use super::finish::Machine;
use super::{Run, sha256_json};
use crate::stages::{BASE, Column, Data};
use anyhow::{Context, Result};
use serde_json::Value;
use solon_data::ledger::Stage;
use solon_eval::Summary;
use solon_eval::formats::{Dataset, Provenance};

/// A model's evaluation by one stage, by one judge.
pub struct Evaluated {
    /// The stage's name.
    pub stage: String,
    /// The model's name in the recipe.
    pub model: String,
    /// The place of the judge, from 1, where there are two.
    pub judge: Option<usize>,
    /// The figures and answers.
    pub summary: Summary,
    /// How they came about.
    pub provenance: Provenance,
}

impl Run {
    /// What every evaluation that is done with the run's recipe and its present inputs found of each model, in the order of
    /// the plan. Two judges are two evaluations.
    pub fn evaluated(&self) -> Result<Vec<Evaluated>> {
        let mut all = Vec::new();
        let machine = self.recorded().unwrap_or_else(|| self.machine());
        for planned in self.plan.stages.iter().filter(|planned| planned.stage.output() == Data::Evaluation) {
            let Some(done) =
                self.folder.ledger.stage(&planned.name)?.filter(|_| self.has_made(&planned.name))
            else {
                continue;
            };
            let two = planned.stage.judges().len() > 1;
            for Column { model, judge, summary, .. } in self.columns(&planned.name)? {
                let mut provenance = self.provenance(&done, &model, &machine)?;
                if let (true, Some(judge)) = (two, &summary.judge) {
                    provenance.settings.insert("judge".to_owned(), judge.name.clone().into());
                }
                let judge = two.then_some(judge + 1);
                all.push(Evaluated { stage: planned.name.clone(), model, judge, summary, provenance });
            }
        }
        Ok(all)
    }

    fn provenance(&self, stage: &Stage, model: &str, machine: &Machine) -> Result<Provenance> {
        let recipe = &self.plan.recipe;
        let planned = self.plan.stage(&stage.name).context("the stage is of the plan")?;
        let settings = match planned.stage.settings() {
            Value::Object(settings) => settings,
            other => [("settings".to_owned(), other)].into_iter().collect(),
        };
        let datasets = self.plan.measures_on(&stage.name).into_iter().map(|source| Dataset {
            name: source.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: source.sha256().to_owned(),
        });
        let shown = match (model, &recipe.adapter) {
            (BASE, None) => recipe.model.clone(),
            (BASE, Some(adapter)) => format!("{} with {}", recipe.model, adapter.display()),
            _ => format!("{}/{model}", recipe.name),
        };
        let trained = self.plan.stage(model).is_some_and(|planned| planned.stage.trains().is_some());
        let id = sha256_json(&(&stage.input_hash, stage.started_at, model))?;
        Ok(Provenance {
            id: id.chars().take(22).collect(),
            version: machine.version.clone(),
            model: shown,
            base_sha256: machine.model_sha256.clone(),
            trained_here: trained,
            settings,
            datasets: datasets.collect(),
            seed: recipe.seed,
            precision: machine.precision.clone(),
            isa: machine.isa.clone(),
            started_at: stage.started_at,
            started: iso(stage.started_at),
            seconds: stage.seconds.unwrap_or(0.0),
        })
    }
}

/// A time in seconds since 1970 as ISO 8601 in UTC; empty where it is none.
pub fn iso(seconds: i64) -> String {
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => format!("{}T{:02}:{:02}:{:02}+00:00", at.date(), at.hour(), at.minute(), at.second()),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_other_programs_read_them() {
        assert_eq!(iso(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(iso(1_790_000_000), "2026-09-21T14:13:20+00:00");
    }
}
