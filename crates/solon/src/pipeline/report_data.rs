//! What the report shows: the run's ledger, metrics and evaluations as the renderer's data.

use super::Pipeline;
use super::labeller::is_contrast;
use super::phase2::Labels;
use super::results::Evaluated;
use crate::report::{self, Report};
use anyhow::Result;
use solon_data::metrics::read_metrics;
use solon_eval::{Better, Comparison, compare};
use solon_feedback::{KnownLabel, Verdict};
use std::collections::BTreeMap;

impl Pipeline {
    /// The report's data.
    pub(super) fn report(
        &self,
        evaluated: &[Evaluated],
        comparison: &Comparison,
        labels: Option<&Labels>,
        verdict: Vec<String>,
        warnings: Vec<String>,
        total_seconds: f64,
        peak_memory_bytes: u64,
    ) -> Result<Report> {
        let stages = self.run.ledger.stages()?;
        let mut shown = Vec::new();
        for stage in &stages {
            let counts = self.run.ledger.drop_counts(&stage.name)?;
            shown.push(report::Stage {
                name: stage.name.clone(),
                what: what_a_stage_does(&stage.name).to_owned(),
                seconds: stage.seconds.unwrap_or(0.0),
                items: ["answers", "items", "examples", "pairs", "labels", "prompts"]
                    .iter()
                    .find_map(|key| stage.detail[*key].as_u64())
                    .unwrap_or(0) as usize,
                dropped: counts.iter().map(|c| (c.reason.clone(), c.count as usize)).collect(),
            });
        }
        Ok(Report {
            title: format!(
                "{}: {} by the constitution {}",
                self.recipe.name, self.recipe.model, self.constitution.name
            ),
            verdict,
            warnings,
            model: report::Model {
                name: self.recipe.model.clone(),
                path: self
                    .model
                    .path
                    .file_name()
                    .map(|n| n.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                sha256: self.model_sha256.clone(),
            },
            constitution: report::Constitution {
                name: self.constitution.name.clone(),
                revision_principles: self.constitution.revision.len(),
                comparison_principles: self.constitution.comparison.len(),
                examples: self.constitution.example.len(),
            },
            setting: report::Setting {
                solon_version: env!("CARGO_PKG_VERSION").to_owned(),
                recipe: toml::to_string_pretty(&self.recipe)?,
                seed: self.recipe.seed,
                isa: solon_kernels::isa::isa().name().to_owned(),
                threads: solon_kernels::threads::count(),
                precision: self.model.decoder.backend().precision().name().to_owned(),
                started: stages.first().map(|s| date(s.started_at)).unwrap_or_default(),
                total_seconds,
                peak_memory_bytes,
            },
            stages: shown,
            evaluation: evaluation_table(evaluated, comparison),
            curves: self.curves()?,
            labeller: labels.map(labeller_section),
            samples: samples(evaluated),
            trail: self.trail()?,
        })
    }

    /// Training curves from the metrics log.
    fn curves(&self) -> Result<Vec<report::Curve>> {
        let lines = read_metrics(&self.run.path.join("metrics.jsonl"))?;
        let wanted: [(&str, &str, &[(&str, &str)]); 8] = [
            ("critic", "Critic: loss", &[("loss", "nats per token")]),
            ("labeller", "Labeller: loss", &[("loss", "nats per token")]),
            ("sft", "SFT: loss", &[("loss", "nats per token")]),
            ("reward", "Reward model: loss and accuracy", &[("loss", "loss"), ("accuracy", "accuracy")]),
            ("dpo", "DPO: loss", &[("loss", "loss")]),
            (
                "dpo",
                "DPO: implicit rewards",
                &[("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")],
            ),
            (
                "ppo",
                "PPO: reward",
                &[("objective/scores", "score"), ("objective/rlhf_reward", "score less KL penalty")],
            ),
            ("ppo", "PPO: KL to the SFT model", &[("objective/kl", "nats per answer")]),
        ];
        let mut curves = Vec::new();
        for (stage, title, series) in wanted {
            let series: Vec<report::Series> = series
                .iter()
                .map(|(metric, name)| report::Series {
                    name: (*name).to_owned(),
                    points: lines
                        .iter()
                        .filter(|line| line.stage == stage)
                        .filter_map(|line| Some((line.step as f64, line.metrics.get(*metric)?.as_f64()?)))
                        .collect(),
                })
                .filter(|series| !series.points.is_empty())
                .collect();
            if !series.is_empty() {
                curves.push(report::Curve {
                    title: title.to_owned(),
                    x_label: "step".to_owned(),
                    y_label: series[0].name.clone(),
                    series,
                    note: None,
                });
            }
        }
        Ok(curves)
    }

    /// The trail of one revision and one label.
    fn trail(&self) -> Result<Vec<report::Trail>> {
        use solon_data::ledger::ItemKind;
        let first = |stage: &str, kind| -> Result<Option<String>> {
            Ok(self.run.ledger.kept_raw_items(stage, kind)?.first().map(|item| item.id.clone()))
        };
        let ids = [first("revise", ItemKind::Revision)?, first("label", ItemKind::Label)?];
        ids.into_iter()
            .flatten()
            .map(|id| {
                let lines = self.run.ledger.explain(&id)?.to_string().lines().map(str::to_owned).collect();
                Ok(report::Trail { id, lines })
            })
            .collect()
    }
}

fn evaluation_table(evaluated: &[Evaluated], comparison: &Comparison) -> report::Evaluation {
    let rows = comparison
        .rows
        .iter()
        .map(|row| report::Measure {
            name: row.measure.to_owned(),
            explanation: row.explanation.to_owned(),
            better: match row.better {
                Better::Lower => report::Better::Lower,
                Better::Higher => report::Better::Higher,
                Better::Neither => report::Better::Neither,
            },
            cells: row
                .rates
                .iter()
                .enumerate()
                .map(|(column, rate)| {
                    let paired = row.test(column, 0);
                    Some(report::Rate {
                        rate: rate.rate,
                        low: rate.low,
                        high: rate.high,
                        count: rate.count,
                        total: rate.total,
                        p_value: paired.map(|p| p.p_value),
                    })
                })
                .collect(),
        })
        .collect();
    let method = evaluated.first().map(|e| &e.summary.method);
    report::Evaluation {
        columns: evaluated.iter().map(|e| e.name.clone()).collect(),
        rows,
        method: method.map(|m| format!("{} {}", m.asked, compare::METHOD)).unwrap_or_default(),
        rule: method.map(|m| m.judged.clone()).unwrap_or_default(),
        rule_agreement: method.and_then(|m| m.believed.clone()),
    }
}

fn labeller_section(labels: &Labels) -> report::Labeller {
    let report = &labels.report;
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    let mut rows = Vec::new();
    let examples: Vec<&KnownLabel> =
        labels.known.iter().filter(|known| !is_contrast(&known.label.pair_id)).collect();
    let judged_by = match examples.len() < labels.known.len() {
        true => "contrasts of the policy's own answers",
        false => "examples of the constitution",
    };
    if let Some(known) = &report.known {
        rows.push((
            format!("accuracy on held-out {judged_by}"),
            format!(
                "{} of {} ({}; 95 % interval {} to {})",
                known.correct,
                known.pairs,
                percent(known.accuracy),
                percent(known.accuracy_interval[0]),
                percent(known.accuracy_interval[1])
            ),
        ));
        if !examples.is_empty() && examples.len() < labels.known.len() {
            let right = examples.iter().filter(|known| known.is_right()).count();
            rows.push((
                "accuracy on the constitution's own examples, held out".to_owned(),
                format!("{right} of {}", examples.len()),
            ));
        }
        rows.push((
            "accuracy of always choosing the longer answer".to_owned(),
            percent(known.longer_answer_accuracy),
        ));
        rows.push((
            "expected calibration error".to_owned(),
            format!("{:.3}", known.expected_calibration_error),
        ));
    }
    let refuses = |answer: &str| solon_eval::classify(answer) == solon_eval::Verdict::Refusal;
    let differ =
        labels.records.iter().filter(|pair| refuses(&pair.chosen) != refuses(&pair.rejected)).count();
    rows.push((
        "sampled pairs of which one answer refuses and the other does not".to_owned(),
        format!("{differ} of {}", labels.records.len()),
    ));
    for (name, measures) in [("sampled pairs", &report.unlabelled), ("held-out pairs", &report.known_labels)]
    {
        let Some(measures) = measures else { continue };
        if let Some(swap) = &measures.swap {
            rows.push((format!("same answer preferred in both orders, {name}"), percent(swap.consistency)));
            rows.push((format!("A chosen in both orders, {name}"), percent(swap.always_a)));
            rows.push((format!("B chosen in both orders, {name}"), percent(swap.always_b)));
        } else {
            let rated = "each answer is rated by itself, so there is no order";
            rows.push((format!("same answer preferred in both orders, {name}"), rated.to_owned()));
        }
        rows.push((format!("mean confidence, {name}"), percent(measures.mean_confidence)));
    }
    report::Labeller {
        verdict: format!("{:?}", report.verdict),
        warning: (report.verdict != Verdict::Trustworthy).then(|| report.warning.clone()),
        rows,
        calibration: report
            .known
            .iter()
            .flat_map(|known| &known.bins)
            .filter(|bin| bin.pairs > 0)
            .map(|bin| report::CalibrationBin {
                mean_confidence: bin.mean_probability,
                accuracy: bin.first_is_better,
                count: bin.pairs,
            })
            .collect(),
    }
}

/// Some answers side by side: the first prompts of each kind.
fn samples(evaluated: &[Evaluated]) -> Vec<report::Sample> {
    let Some(first) = evaluated.first() else { return Vec::new() };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut out = Vec::new();
    for (place, judged) in first.summary.items.iter().enumerate() {
        let count = counts.entry(judged.item.group).or_default();
        *count += 1;
        if *count > 8 {
            continue;
        }
        out.push(report::Sample {
            id: judged.item.id.clone(),
            kind: first.summary.heading(judged.item.group).to_owned(),
            category: judged.item.category.clone().unwrap_or_default(),
            prompt: judged.prompt().to_owned(),
            answers: evaluated
                .iter()
                .filter_map(|e| {
                    let judged = e.summary.items.get(place)?;
                    Some(report::Answer {
                        column: e.name.clone(),
                        text: judged.answer.text.clone(),
                        verdict: judged.judgement.shown().to_owned(),
                    })
                })
                .collect(),
        });
    }
    out
}

fn what_a_stage_does(stage: &str) -> &'static str {
    match stage {
        "sources" => "Records principles and prompts.",
        "critic" => "Warms an adapter up on the constitution's worked examples, to criticise and revise.",
        "respond" => "The base model answers red-team and helpful prompts.",
        "revise" => "Answers to red-team prompts are criticised by a principle and revised.",
        "sft" => {
            "Fine-tunes the base model on revisions, helpful answers and the worked examples' own revisions."
        }
        "contrast" => {
            "Pairs whose better answer is known: a revision beside what it revised, an answer beside a needless refusal."
        }
        "labeller" => "Goes on from the SFT model to judge answers by a principle.",
        "sample" => "The SFT model answers each prompt twice.",
        "label" => {
            "The labeller says which answer is better: compared in both orders, or each rated by itself."
        }
        "reward" => "Trains a reward model on the soft labels.",
        "dpo" => "Optimises the SFT model on the soft labels directly.",
        "ppo" => "Optimises the SFT model against the reward model, held to it by a KL penalty.",
        "deliver" => "Merges the chosen adapter and saves the model.",
        _ => "Answers the held-out prompts and judges the answers.",
    }
}

/// A time in seconds since 1970 as a UTC date.
fn date(seconds: i64) -> String {
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => format!("{} {:02}:{:02} UTC", at.date(), at.hour(), at.minute()),
        Err(_) => String::new(),
    }
}
