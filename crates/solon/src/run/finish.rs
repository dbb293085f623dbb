//! After the last stage: `summary.json`, the report, and what is printed. Every stage adds its own part.
//!
//! Contract: the report is a function of the run's folder. What only the process knows that did the work (its
//! instruction set, its threads, its memory) is read from `summary.json` where nothing was left to do.

use super::folder::{RunFolder, SKIPPED};
use super::{Done, Reader, Run};
use crate::catalogue;
use crate::plan::Planned;
use crate::report::{self, Report};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use solon_data::files::write_bytes_atomically;
use solon_data::ledger::Stage;
use solon_kernels::{isa::isa, threads};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The key of `summary.json` that says what came of preregistered thresholds.
const PREREGISTRATION: &str = "preregistration";

/// What is known of the program and the machine that did the work; keys of `summary.json`.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct Machine {
    pub version: String,
    pub isa: String,
    pub precision: String,
    threads: usize,
    pub model_sha256: String,
    peak_memory_bytes: u64,
}

impl Run {
    /// Writes summary and report, says what came of the run, and returns the summary.
    pub fn finish(&self, done: &Done) -> Result<Value> {
        let recorded = if done.worked.is_empty() { self.recorded() } else { None };
        let machine = recorded.unwrap_or_else(|| self.machine());
        let mut report = self.report(&machine)?;
        let preregistered = self.preregistered()?;
        report.verdict.extend(preregistered.iter().map(|(_, told)| told.clone()));
        let told: Vec<&String> = report.notes.iter().chain(&report.verdict).collect();
        let seconds = report.stages.iter().map(|stage| (stage.name.clone(), json!(stage.seconds)));
        let mut summary = json!({
            "name": self.plan.recipe.name,
            "seed": self.plan.recipe.seed,
            "verdict": told,
            "warnings": report.warnings,
            "seconds": seconds.collect::<Map<_, _>>(),
            "total_seconds": report.setting.total_seconds,
        });
        if let (Some(summary), Value::Object(machine)) = (summary.as_object_mut(), json!(machine)) {
            summary.extend(machine);
            summary.extend(preregistered.map(|(value, _)| (PREREGISTRATION.to_owned(), value)));
            for planned in &self.plan.stages {
                let added = planned.stage.summary(&Reader::new(self, planned), summary);
                added.with_context(|| format!("the summary of stage `{}`", planned.name))?;
            }
        }
        let text = serde_json::to_string_pretty(&summary)?;
        write_bytes_atomically(&self.folder.path.join("summary.json"), text.as_bytes())?;
        self.write(&report)?;
        self.tell(&report);
        Ok(summary)
    }

    /// Writes the report of a run that was done before, as far as it was done.
    pub fn report_again(&self) -> Result<()> {
        let mut report = self.report(&self.recorded().unwrap_or_default())?;
        report.verdict.extend(self.preregistered()?.map(|(_, told)| told));
        self.write(&report)?;
        self.tell(&report);
        Ok(())
    }

    /// The card of data that were exported from a run that was done before.
    pub fn data_card(&self, files: &[report::DataFile], labelled: &[report::LabelledBy]) -> Result<String> {
        let mut report = self.report(&self.recorded().unwrap_or_default())?;
        if !self.plan.needs_model() {
            // The recipe names one, which took no part.
            report.model = report::Model::default();
        }
        Ok(report::data_card(&report, files, labelled))
    }

    /// The report as a page and as Markdown, and the card of the delivered model.
    fn write(&self, report: &Report) -> Result<()> {
        let RunFolder { path, .. } = &self.folder;
        write_bytes_atomically(&path.join("report.html"), report::render(report).as_bytes())?;
        write_bytes_atomically(&path.join("report.md"), report::markdown(report).as_bytes())?;
        let model = path.join("model");
        if report.delivered.is_some() && model.is_dir() {
            write_bytes_atomically(&model.join("README.md"), report::card(report).as_bytes())?;
        }
        Ok(())
    }

    /// Verdict, warnings, and where everything lies.
    fn tell(&self, report: &Report) {
        let path = &self.folder.path;
        eprintln!();
        for line in report.notes.iter().chain(&report.verdict).chain(&report.warnings) {
            eprintln!("{line}");
        }
        eprintln!();
        let files = [
            ("model", "model"),
            ("card", "model/README.md"),
            ("report", "report.html"),
            ("", "report.md"),
            ("summary", "summary.json"),
        ];
        for (what, file) in files {
            if path.join(file).exists() {
                eprintln!("{what:<8} {}", path.join(file).display());
            }
        }
        let report::Setting { total_seconds, peak_memory_bytes, .. } = report.setting;
        eprintln!("the run took {total_seconds:.0} s and {:.1} GB", peak_memory_bytes as f64 / 1e9);
    }

    /// This program and this machine.
    pub(super) fn machine(&self) -> Machine {
        Machine {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            isa: isa().name().to_owned(),
            precision: crate::commands::precision(self.plan.recipe.precision).name().to_owned(),
            threads: threads::count(),
            model_sha256: self.model_sha256.clone(),
            peak_memory_bytes: peak_memory_bytes(),
        }
    }

    /// What the run's summary says of those that did the work; `None` where there is no summary yet.
    pub(super) fn recorded(&self) -> Option<Machine> {
        let text = std::fs::read_to_string(self.folder.path.join("summary.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Whether a stage is finished with the run's recipe and its present inputs.
    pub(super) fn has_made(&self, stage: &str) -> bool {
        self.made.contains_key(stage)
    }

    /// The whole report: what is common to all stages, then what each finished stage adds.
    fn report(&self, machine: &Machine) -> Result<Report> {
        let known = self.folder.ledger.stages()?;
        let is_done = |planned: &&Rc<Planned>| self.has_made(&planned.name);
        let mut report = self.ingredients(machine, &known)?;
        let missing: Vec<&str> = (self.plan.stages.iter())
            .filter(|planned| !is_done(planned))
            .map(|planned| planned.name.as_str())
            .collect();
        if !missing.is_empty() {
            report.warnings.push(format!(
                "This run is not finished: {} of {} stages have not ended ({}). The report holds the others.",
                missing.len(),
                self.plan.stages.len(),
                missing.join(", ")
            ));
            let was_done = |name: &&&str| known.iter().any(|stage| stage.name == **name && stage.done);
            let old: Vec<&str> = missing.iter().filter(was_done).copied().collect();
            if !old.is_empty() {
                report.warnings.push(format!(
                    "The recipe or the inputs of these stages changed after they had ended: {}. \
                     What they made before is left out. The same `solon run` without --until makes it again.",
                    old.join(", ")
                ));
            }
        }
        for planned in self.plan.stages.iter().filter(is_done) {
            let reader = Reader::new(self, planned);
            report.curves.extend(curves(&planned.stage.curves(), &reader)?);
            if let Some(skipped) = reader.detail()?[SKIPPED].as_u64() {
                report.warnings.push(format!(
                    "{skipped} training steps of {} were not applied, because a value in them was not finite.",
                    planned.name
                ));
            }
            let added = planned.stage.report(&reader, &mut report);
            added.with_context(|| format!("the report of stage `{}`", planned.name))?;
        }
        Ok(report)
    }

    /// The report without what the stages add.
    fn ingredients(&self, machine: &Machine, known: &[Stage]) -> Result<Report> {
        let recipe = &self.plan.recipe;
        let mut shown = Vec::new();
        for planned in &self.plan.stages {
            // What another recipe made in the folder is no part of this run.
            let stage = known.iter().find(|stage| stage.name == planned.name && self.has_made(&planned.name));
            let counts =
                ["prompts", "answers", "demonstrations", "examples", "pairs", "labels", "principles"];
            let items = stage.and_then(|stage| counts.iter().find_map(|key| stage.detail[*key].as_u64()));
            // An item and what became of it may both have been dropped, for the same reason.
            let mut dropped: BTreeMap<String, usize> = BTreeMap::new();
            let counts = match stage {
                Some(stage) => self.folder.ledger.drop_counts(&stage.name)?,
                None => Vec::new(),
            };
            for count in counts {
                let known = dropped.entry(count.reason).or_default();
                *known = (*known).max(count.count as usize);
            }
            let mut dropped: Vec<(String, usize)> = dropped.into_iter().collect();
            dropped.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            shown.push(report::Stage {
                name: planned.name.clone(),
                kind: planned.kind.name.to_owned(),
                what: planned.kind.about.to_owned(),
                seconds: stage.and_then(|stage| stage.seconds).unwrap_or(0.0),
                items: items.unwrap_or(0) as usize,
                dropped,
            });
        }
        let planned = |stage: &&Stage| self.plan.stage(&stage.name).is_some() && self.has_made(&stage.name);
        let began = known.iter().filter(planned).map(|stage| stage.started_at).min();
        let constitution = match &self.plan.constitution {
            Some(constitution) => format!(", constitution “{}”", constitution.name),
            None => String::new(),
        };
        let path = self.model_path.file_name().map(|name| name.to_string_lossy().into_owned());
        let entry = catalogue::entry(&recipe.model);
        Ok(Report {
            title: format!("{}: {}{constitution}", recipe.name, catalogue::shown(&recipe.model)),
            model: report::Model {
                name: catalogue::shown(&recipe.model),
                path: path.unwrap_or_default(),
                sha256: machine.model_sha256.clone(),
                hub: catalogue::hub_id(&recipe.model),
                license: entry.map(|entry| entry.license.to_owned()),
            },
            setting: report::Setting {
                solon_version: machine.version.clone(),
                name: recipe.name.clone(),
                recipe: toml::to_string_pretty(&recipe.portable())?,
                seed: recipe.seed,
                isa: machine.isa.clone(),
                threads: machine.threads,
                precision: machine.precision.clone(),
                started: began.map(date).unwrap_or_default(),
                total_seconds: shown.iter().map(|stage| stage.seconds).sum(),
                peak_memory_bytes: machine.peak_memory_bytes,
            },
            stages: shown,
            ..Report::default()
        })
    }
}

/// A stage's charts from its metrics.
fn curves(wanted: &[crate::stages::Curve], reader: &Reader<'_>) -> Result<Vec<report::Curve>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let lines = reader.metrics()?;
    let mut curves = Vec::new();
    for curve in wanted {
        let series: Vec<report::Series> = curve
            .series
            .iter()
            .map(|(metric, name)| report::Series {
                name: (*name).to_owned(),
                points: lines
                    .iter()
                    .filter_map(|line| Some((line.step as f64, line.metrics.get(*metric)?.as_f64()?)))
                    .collect(),
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        if !series.is_empty() {
            curves.push(report::Curve {
                title: format!("{}: {}", reader.name(), curve.title),
                x_label: "step".to_owned(),
                y_label: curve.y_label.to_owned(),
                series,
                note: None,
            });
        }
    }
    Ok(curves)
}

/// A time in seconds since 1970 as a UTC date.
fn date(seconds: i64) -> String {
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute()),
        Err(_) => String::new(),
    }
}

/// The most memory this process has held, in bytes; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}
