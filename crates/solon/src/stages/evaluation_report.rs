//! What an `evaluate` stage adds to the report: its table, its categories, its judge, its sentences and its samples.

use super::Column;
use super::evaluate::place;
use crate::report;
use crate::run::Reader;
use solon_eval::compare::ComparisonRow;
use solon_eval::judge::both::JudgeAgreement;
use solon_eval::{Answer, Benchmark, Comparison, Figure, Outcome, Summary, Unit};
use std::collections::{BTreeMap, BTreeSet};

/// The stage, its benchmark, and what each model's answers add up to.
pub struct Shown<'a> {
    pub read: &'a Reader<'a>,
    pub benchmark: &'a dyn Benchmark,
    pub columns: &'a [Column],
    /// How far two judges agree, and about what.
    pub agreements: &'a [(String, JudgeAgreement)],
}

/// Answers that are shown of each group.
const SHOWN_EACH: usize = 24;

impl Shown<'_> {
    /// What each model's scored measures are, in a plain sentence; those of the first column stand beside.
    pub fn verdict(&self) -> Vec<String> {
        let first_model = self.columns.first().map(|column| &column.model);
        // Which evaluation a sentence is about is only unclear where there are several.
        let stage = match self.read.evaluations() {
            0 | 1 => String::new(),
            _ => format!(" ({})", self.read.name()),
        };
        let sentence = |Column { name, judge, summary, .. }: &Column| {
            let scored: Vec<_> = summary.measures.iter().filter(|measure| measure.scored).collect();
            // The first measure of a benchmark without a score is what it is about.
            let told = if scored.is_empty() { summary.measures.iter().take(1).collect() } else { scored };
            let parts = told.into_iter().filter_map(|measure| {
                let shown = |summary: &Summary| {
                    let value = summary.figure(measure.key)?.value();
                    Some(match measure.unit {
                        _ if value.is_nan() => "not measured".to_owned(),
                        Unit::Share => format!("{:.0} %", 100.0 * value),
                        Unit::Number { .. } => format!("{value:.2}"),
                    })
                };
                // The first columns are those of the first model, one for each judge.
                let before = self.columns.get(*judge).and_then(|first| shown(&first.summary));
                let before = before.map(|before| format!("{before} → ")).unwrap_or_default();
                Some(format!("{} {before}{}", measure.title, shown(summary)?))
            });
            format!("{name}{stage}: {}.", parts.collect::<Vec<_>>().join(", "))
        };
        self.columns.iter().filter(|column| Some(&column.model) != first_model).map(sentence).collect()
    }

    /// The table of the report.
    pub fn table(&self, comparison: &Comparison) -> report::Evaluation {
        let method = self.columns.first().map(|column| column.summary.method.clone());
        let (scored, judged) = (self.scored(), self.judged());
        let rows = comparison.rows.iter().map(|row| report::Measure {
            key: row.key.to_owned(),
            name: row.measure.to_owned(),
            explanation: row.explanation.to_owned(),
            better: row.better.into(),
            most: row.most,
            scored: scored.contains(row.key),
            judged: judged.contains(row.key),
            cells: (0..self.columns.len()).map(|column| self.cell(row, column)).collect(),
        });
        // A measure of items that were not asked, such as the other subjects of MMLU, says nothing.
        let rows = rows.filter(|measure| measure.cells.iter().any(Option::is_some));
        report::Evaluation {
            name: self.read.name().to_owned(),
            benchmark: self.benchmark.name().to_owned(),
            columns: self.columns.iter().map(|column| column.name.clone()).collect(),
            rows: rows.collect(),
            method: match &method {
                Some(method) => format!("{} {}", method.asked, solon_eval::compare::METHOD),
                None => String::new(),
            },
            rule: method.as_ref().map(|method| method.judged.clone()).unwrap_or_default(),
            rule_agreement: self.believed(),
            costs: Vec::new(),
            judges: self.judges(),
            categories: self.categories(),
        }
    }

    /// A figure, tested against the first column and against the model that its training started from; `None` of no items.
    fn cell(&self, row: &ComparisonRow, column: usize) -> Option<report::Rate> {
        if row.figures[column].total() == 0 {
            return None;
        }
        let p_value = |reference: Option<usize>| row.test(column, reference?).map(|paired| paired.p_value);
        let first = self.columns.first().map(|first| first.model.as_str());
        let Column { model, judge, .. } = &self.columns[column];
        let origin = self.read.source_of(model, "from").filter(|origin| Some(*origin) != first);
        let against = |origin: &str| p_value(place(self.columns, origin, *judge));
        Some(report::Rate {
            p_value: p_value(Some(*judge)),
            against_origin: origin.and_then(|origin| Some((origin.to_owned(), against(origin)?))),
            ..rate(row.figures[column], row.most)
        })
    }

    /// What is said of each judge, once, and how far they agree.
    fn believed(&self) -> Option<String> {
        let said = self.columns.iter().filter_map(|column| column.summary.method.believed.clone());
        let agreed = self.agreements.iter().map(|(about, agreement)| agreement.sentence(about));
        let mut believed: Vec<String> = Vec::new();
        for sentence in said.chain(agreed) {
            if !believed.contains(&sentence) {
                believed.push(sentence);
            }
        }
        (!believed.is_empty()).then(|| believed.join(" "))
    }

    /// The judges, each once.
    fn judges(&self) -> Vec<report::Judge> {
        let mut judges: Vec<report::Judge> = Vec::new();
        for figures in self.columns.iter().filter_map(|column| column.summary.judge.as_ref()) {
            if !judges.iter().any(|known| known.name == figures.name) {
                judges.push(judge(figures));
            }
        }
        judges
    }

    fn scored(&self) -> BTreeSet<&'static str> {
        let scored = self.benchmark.measures().iter().filter(|measure| measure.scored);
        scored.map(|measure| measure.key).collect()
    }

    /// The measures that the judge decides: of which nothing is known once its reply is taken away.
    fn judged(&self) -> BTreeSet<String> {
        let items = self.columns.iter().flat_map(|column| &column.summary.items);
        let mut judged = BTreeSet::new();
        for item in items.filter(|item| item.answer.judge.is_some()) {
            let without = self.benchmark.judge(&item.item, &Answer { judge: None, ..item.answer.clone() });
            let unknown = without.outcomes.into_iter().filter(|(_, outcome)| *outcome == Outcome::Unknown);
            judged.extend(unknown.map(|(key, _)| key));
        }
        judged
    }

    /// The figures of each category, for the groups that have several.
    fn categories(&self) -> Vec<report::Categories> {
        let Some(Column { summary: first, .. }) = self.columns.first() else { return Vec::new() };
        let mut out = Vec::new();
        for group in first.groups {
            let Some(measure) = first.measures.iter().find(|measure| measure.key == group.by_category) else {
                continue;
            };
            let all = self.columns.iter().flat_map(|column| &column.summary.by_category);
            let of_group = all.filter(|row| row.group == group.name).map(|row| row.figure);
            let most = solon_eval::compare::scale(measure.unit, of_group);
            let mut rows: BTreeMap<&str, Vec<Option<report::Rate>>> = BTreeMap::new();
            for (column, Column { summary, .. }) in self.columns.iter().enumerate() {
                for row in summary.by_category.iter().filter(|row| row.group == group.name) {
                    let cells = rows.entry(&row.category).or_insert_with(|| vec![None; self.columns.len()]);
                    cells[column] = (row.figure.total() > 0).then(|| rate(row.figure, most));
                }
            }
            rows.retain(|category, _| !category.is_empty());
            if rows.len() > 1 {
                let rows =
                    rows.into_iter().map(|(name, cells)| report::Category { name: name.to_owned(), cells });
                out.push(report::Categories {
                    heading: group.heading.to_owned(),
                    measure: measure.title.to_owned(),
                    better: measure.better.into(),
                    most,
                    rows: rows.collect(),
                });
            }
        }
        out
    }

    /// Some answers side by side: items of each group, evenly spaced over it. Where an earlier evaluation shows the same
    /// item, the answers of further models stand beside.
    pub fn samples(&self, out: &mut Vec<report::Sample>) {
        let Some(Column { summary: first, .. }) = self.columns.first() else { return };
        let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
        first.items.iter().for_each(|shown| *totals.entry(shown.item.group).or_default() += 1);
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, shown) in first.items.iter().enumerate() {
            let (item, seen) = (&shown.item, seen.entry(shown.item.group).or_default());
            let total = totals[item.group];
            let taken = |n: usize| n * SHOWN_EACH.min(total) / total;
            *seen += 1;
            if taken(*seen) == taken(*seen - 1) {
                continue;
            }
            let answers = self.columns.iter().filter_map(|Column { name, summary, .. }| {
                let judged = summary.items.get(place)?;
                Some(report::Answer {
                    column: name.clone(),
                    text: judged.answer.text.clone(),
                    verdict: judged.judgement.shown().to_owned(),
                })
            });
            let kind = first.heading(item.group);
            match out
                .iter_mut()
                .find(|sample| sample.id == item.id && sample.kind == kind && sample.prompt == shown.prompt())
            {
                Some(sample) => {
                    let known: Vec<String> =
                        sample.answers.iter().map(|answer| answer.column.clone()).collect();
                    sample.answers.extend(answers.filter(|answer| !known.contains(&answer.column)));
                }
                None => out.push(report::Sample {
                    id: item.id.clone(),
                    kind: kind.to_owned(),
                    category: item.category.clone().unwrap_or_default(),
                    prompt: shown.prompt().to_owned(),
                    answers: answers.collect(),
                    rounds: Vec::new(),
                }),
            }
        }
    }
}

/// A figure as the report holds it, untested.
fn rate(figure: Figure, most: f64) -> report::Rate {
    let [low, high] = figure.interval();
    report::Rate {
        rate: figure.value() / most,
        low: low / most,
        high: high / most,
        count: figure.rate().map(|rate| rate.count),
        total: figure.total(),
        p_value: None,
        against_origin: None,
    }
}

fn judge(figures: &solon_eval::judge::labels::JudgeFigures) -> report::Judge {
    let sets = figures.measured.iter().flatten().map(|(name, set)| report::JudgedSet {
        name: name.clone(),
        answers: set.answers,
        unjudged: set.unjudged,
        accuracy: set.accuracy,
        kappa: set.kappa,
        kappa_low: set.kappa_low,
    });
    report::Judge { name: figures.name.clone(), sets: sets.collect() }
}
