//! After the last stage: `summary.json`, `report.html`, and what is printed. Every stage adds its own part.

use super::folder::{RunFolder, SKIPPED};
use super::{Reader, Run};
use crate::report::{self, Report};
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use solon_data::files::write_bytes_atomically;
use solon_kernels::{isa::isa, threads};

impl Run {
    /// Writes summary and report, says what came of the run, and returns the summary.
    pub fn finish(&self) -> Result<Value> {
        let readers = || self.plan.stages.iter().map(|planned| (planned, Reader::new(self, planned)));
        let seconds = self.seconds()?;
        let total: f64 = seconds.iter().map(|(_, seconds)| seconds).sum();
        let peak = peak_memory_bytes();

        let mut report = self.report(&seconds, total, peak)?;
        let mut parts = Map::new();
        for (planned, reader) in readers() {
            let what = || format!("the report of stage `{}`", planned.name);
            report.curves.extend(curves(&planned.stage.curves(), &reader)?);
            if let Some(skipped) = reader.detail()?[SKIPPED].as_u64() {
                report.warnings.push(format!(
                    "{skipped} training steps of {} were not applied, because a value in them was not finite.",
                    planned.name
                ));
            }
            planned.stage.report(&reader, &mut report).with_context(what)?;
            planned.stage.summary(&reader, &mut parts).with_context(what)?;
        }
        let preregistered = self.preregistered()?;
        if let Some((value, line)) = preregistered {
            report.verdict.push(line);
            parts.insert("preregistration".to_owned(), value);
        }
        let mut summary = json!({
            "name": self.plan.recipe.name,
            "seed": self.plan.recipe.seed,
            "version": env!("CARGO_PKG_VERSION"),
            "isa": isa().name(),
            "precision": report.setting.precision,
            "threads": threads::count(),
            "model_sha256": self.model_sha256,
            "verdict": report.verdict,
            "warnings": report.warnings,
            "seconds": seconds.iter().map(|(name, seconds)| (name.clone(), json!(seconds))).collect::<Map<_, _>>(),
            "total_seconds": total,
            "peak_memory_bytes": peak,
        });
        if let Some(summary) = summary.as_object_mut() {
            summary.extend(parts);
        }
        let RunFolder { path, .. } = &self.folder;
        write_bytes_atomically(
            &path.join("summary.json"),
            serde_json::to_string_pretty(&summary)?.as_bytes(),
        )?;
        write_bytes_atomically(&path.join("report.html"), report::render(&report).as_bytes())?;
        self.tell(&report, total, peak);
        Ok(summary)
    }

    /// Verdict, warnings, and where everything lies.
    fn tell(&self, report: &Report, total: f64, peak: u64) {
        let path = &self.folder.path;
        eprintln!();
        for line in report.verdict.iter().chain(&report.warnings) {
            eprintln!("{line}");
        }
        eprintln!();
        for (what, file) in [("model", "model"), ("report", "report.html"), ("summary", "summary.json")] {
            if path.join(file).exists() {
                eprintln!("{what:<8} {}", path.join(file).display());
            }
        }
        eprintln!("{total:.0} s, {:.1} GB", peak as f64 / 1e9);
    }

    /// How long each stage took.
    fn seconds(&self) -> Result<Vec<(String, f64)>> {
        let known = self.folder.ledger.stages()?;
        let of = |name: &str| known.iter().find(|stage| stage.name == name).and_then(|stage| stage.seconds);
        Ok(self.plan.stages.iter().map(|p| (p.name.clone(), of(&p.name).unwrap_or(0.0))).collect())
    }

    /// The report without what the stages add.
    fn report(
        &self,
        seconds: &[(String, f64)],
        total_seconds: f64,
        peak_memory_bytes: u64,
    ) -> Result<Report> {
        let recipe = &self.plan.recipe;
        let stages = self.folder.ledger.stages()?;
        let mut shown = Vec::new();
        for (planned, (name, seconds)) in self.plan.stages.iter().zip(seconds) {
            let detail = stages.iter().find(|stage| &stage.name == name).map(|stage| &stage.detail);
            let counts =
                ["prompts", "answers", "demonstrations", "examples", "pairs", "labels", "principles"];
            let items = detail.and_then(|detail| counts.iter().find_map(|key| detail[*key].as_u64()));
            shown.push(report::Stage {
                name: name.clone(),
                what: planned.kind.about.to_owned(),
                seconds: *seconds,
                items: items.unwrap_or(0) as usize,
                dropped: self
                    .folder
                    .ledger
                    .drop_counts(name)?
                    .into_iter()
                    .map(|count| (count.reason, count.count as usize))
                    .collect(),
            });
        }
        let began = stages.iter().map(|stage| stage.started_at).min();
        let constitution = match &self.constitution {
            Some(constitution) => format!(" by the constitution {}", constitution.name),
            None => String::new(),
        };
        Ok(Report {
            title: format!("{}: {}{constitution}", recipe.name, recipe.model),
            model: report::Model {
                name: recipe.model.clone(),
                path: self
                    .model_path
                    .file_name()
                    .map(|n| n.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                sha256: self.model_sha256.clone(),
            },
            setting: report::Setting {
                solon_version: env!("CARGO_PKG_VERSION").to_owned(),
                recipe: toml::to_string_pretty(recipe)?,
                seed: recipe.seed,
                isa: isa().name().to_owned(),
                threads: threads::count(),
                precision: crate::commands::precision(recipe.precision).name().to_owned(),
                started: began.map(date).unwrap_or_default(),
                total_seconds,
                peak_memory_bytes,
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
