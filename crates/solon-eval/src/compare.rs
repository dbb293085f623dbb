//! Models side by side on one benchmark, with paired tests.
//!
//! Contract: any column can be tested against any other, on the items that both answered, paired by id. The p-value is
//! McNemar's, exact and two-sided ([`mcnemar_exact`]): it counts the items on which the two models differ, and asks
//! whether chance alone would split them so unevenly. Of numbers, that is the sign test. It is not corrected for the
//! number of measures or pairs. The mean difference, with its interval, stands beside it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Serialize;
use solon_stats::{Mean, mcnemar_exact};

use crate::benchmark::{Better, Measure, Outcome, Unit, clusters};
use crate::error::EvalError;
use crate::summary::{Figure, JudgedItem, Summary};

/// How intervals and p-values are computed, for the report.
pub const METHOD: &str = "Intervals are at 95 %: Wilson's of shares, the normal approximation of means. \
     P-values are two-sided on the same items: exact McNemar tests of shares, sign tests of numbers. \
     Items that belong together, such as the turns of a conversation, are not taken as independent.";

/// The difference of a column from the one it is tested against, on one measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// The index of the column.
    pub column: usize,
    /// The index of the column it is tested against.
    pub reference: usize,
    /// Items that both answered; those of a cluster, such as the turns of a conversation, count as one.
    pub pairs: usize,
    /// Items where the measure holds in the reference alone; of a number, where it is higher there.
    pub reference_only: usize,
    /// Items where it holds in the column alone; of a number, where it is higher there.
    pub column_only: usize,
    /// The mean over the items of column − reference, where a measure that holds counts 1; `None` of no pairs.
    pub difference: Option<Mean>,
    /// McNemar's exact two-sided p-value; 1 when the two never differ.
    pub p_value: f64,
}

/// One measure over all columns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparisonRow {
    /// The measure's name in files.
    pub key: &'static str,
    /// The measure's name in tables.
    pub measure: &'static str,
    /// The measure's explanation, one sentence.
    pub explanation: &'static str,
    /// The direction that is an improvement.
    pub better: Better,
    /// What plots go up to: see [`scale`].
    #[serde(skip)]
    pub most: f64,
    /// What it comes to in each column.
    #[serde(rename = "rates")]
    pub figures: Vec<Figure>,
    /// One test for each requested pair, in that order.
    pub tests: Vec<Paired>,
}

impl ComparisonRow {
    /// The test of a column against another, if it was requested.
    pub fn test(&self, column: usize, reference: usize) -> Option<&Paired> {
        self.tests.iter().find(|test| (test.column, test.reference) == (column, reference))
    }
}

/// Columns beside each other; prints as two tables, rates and tests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The columns' names.
    pub names: Vec<String>,
    /// One row for each measure.
    pub rows: Vec<ComparisonRow>,
}

/// Compares the summaries of one benchmark.
///
/// A pair `(column, reference)` of `against` requests a test of one column against another. Both are indices into
/// `summaries`. Typically each stage is tested against the stage it started from, and against the base model.
///
/// Errors if the summaries are of different benchmarks, and if a pair names a column that does not exist.
pub fn compare(summaries: &[(&str, &Summary)], against: &[(usize, usize)]) -> Result<Comparison, EvalError> {
    let measures = summaries.first().map_or(&[][..], |(_, first)| first.measures);
    for pair in summaries.windows(2) {
        same_benchmark(pair[0], pair[1])?;
    }
    let columns = summaries.len();
    let named = against.iter().flat_map(|&(column, reference)| [column, reference]);
    if let Some(column) = named.into_iter().find(|column| *column >= columns) {
        return Err(EvalError::NoColumn { column, columns });
    }
    let figures = |measure: &Measure| summaries.iter().map(|(_, summary)| summary.figures.of[measure.key]);
    let row = |measure: &'static Measure| ComparisonRow {
        key: measure.key,
        measure: measure.title,
        explanation: measure.explanation,
        better: measure.better,
        most: scale(measure.unit, figures(measure)),
        figures: figures(measure).collect(),
        tests: against
            .iter()
            .map(|&(column, reference)| {
                let differences = differences(measure, summaries[reference].1, summaries[column].1);
                let [reference_only, column_only] = split(&differences);
                Paired {
                    column,
                    reference,
                    pairs: differences.len(),
                    reference_only,
                    column_only,
                    difference: Mean::of(&differences),
                    p_value: mcnemar_exact(reference_only, column_only),
                }
            })
            .collect(),
    };
    Ok(Comparison {
        names: summaries.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: measures.iter().map(row).collect(),
    })
}

/// What plots of figures in a unit go up to: the highest possible, 1 of a share. Where there is none, a whole number that none of
/// these figures and intervals is above; it is at least 2, because 1 stands for a share.
pub fn scale(unit: Unit, figures: impl IntoIterator<Item = Figure>) -> f64 {
    let [_, most] = unit.range();
    if most.is_finite() {
        return most;
    }
    let ends = figures.into_iter().flat_map(|figure| [figure.value(), figure.interval()[1]]);
    ends.filter(|end| end.is_finite()).fold(2.0, f64::max).ceil()
}

/// An error unless both summaries are of the same benchmark.
pub(crate) fn same_benchmark(first: (&str, &Summary), second: (&str, &Summary)) -> Result<(), EvalError> {
    if first.1.benchmark == second.1.benchmark {
        return Ok(());
    }
    Err(EvalError::OtherBenchmark {
        first: first.0.to_owned(),
        second: second.0.to_owned(),
        benchmarks: [first.1.benchmark, second.1.benchmark],
    })
}

/// Second − first for each item of which both are known; what holds counts 1. Of the items of one cluster it is the mean:
/// they are not independent. In the order of the second's items.
pub(crate) fn differences(measure: &Measure, first: &Summary, second: &Summary) -> Vec<f64> {
    let found = |judged: &JudgedItem| {
        let number = match judged.outcome(measure)? {
            Outcome::Holds(holds) => f64::from(u8::from(holds)),
            Outcome::Number(number) => number,
            Outcome::Unknown => return None,
        };
        Some((judged.item.id.clone(), number))
    };
    let first: HashMap<String, f64> = first.items.iter().filter_map(found).collect();
    let places = clusters(second.items.iter().map(|judged| &judged.item));
    let mut of_clusters: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (judged, place) in second.items.iter().zip(places) {
        let difference = found(judged).and_then(|(id, in_second)| Some(in_second - first.get(&id)?));
        of_clusters.entry(place).or_default().extend(difference);
    }
    let known = of_clusters.values().filter(|differences| !differences.is_empty());
    known.map(|differences| differences.iter().sum::<f64>() / differences.len() as f64).collect()
}

/// How many of the differences are below 0, and how many above.
pub(crate) fn split(differences: &[f64]) -> [usize; 2] {
    [
        differences.iter().filter(|difference| **difference < 0.0).count(),
        differences.iter().filter(|difference| **difference > 0.0).count(),
    ]
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = std::iter::once("measure".to_owned()).chain(self.names.iter().cloned());
        let rates = self.rows.iter().map(|row| {
            std::iter::once(row.measure.to_owned()).chain(row.figures.iter().map(Figure::to_string)).collect()
        });
        write_table(formatter, std::iter::once(header.collect()).chain(rates).collect())?;
        let Some(first) = self.rows.first().filter(|row| !row.tests.is_empty()) else { return Ok(()) };
        let pairs =
            first.tests.iter().map(|t| format!("{} / {}", self.names[t.column], self.names[t.reference]));
        let header = std::iter::once("p".to_owned()).chain(pairs);
        let tests = self.rows.iter().map(|row| {
            std::iter::once(row.measure.to_owned()).chain(row.tests.iter().map(print_test)).collect()
        });
        writeln!(formatter)?;
        write_table(formatter, std::iter::once(header.collect()).chain(tests).collect())?;
        writeln!(
            formatter,
            "p of A / B: exact McNemar test (of numbers the sign test), two-sided, paired by item; +: items where the \
             measure holds in A alone or is higher there, -: in B"
        )
    }
}

/// Writes rows of equal length with aligned columns.
fn write_table(formatter: &mut fmt::Formatter<'_>, table: Vec<Vec<String>>) -> fmt::Result {
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
    for row in &table {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(formatter, "{}", padded.join("  ").trim_end())?;
    }
    Ok(())
}

fn print_test(test: &Paired) -> String {
    let p_value = match test {
        Paired { pairs: 0, .. } => return "-".to_owned(),
        Paired { p_value, .. } if *p_value < 0.0001 => "<0.0001".to_owned(),
        Paired { p_value, .. } => format!("{p_value:.4}"),
    };
    format!("{p_value} (+{} -{})", test.column_only, test.reference_only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::safety::tests::{ANSWERS, REFUSES, judge_all, safety};
    use crate::summary::summarise;
    use solon_stats::Rate;
    use std::ops::Range;

    /// Answers to the harmful prompts `ids`; those in `refused` are refused.
    fn summary(refused: Range<usize>, ids: Range<usize>) -> Summary {
        let names: Vec<String> = ids.clone().map(|id| id.to_string()).collect();
        let prompts: Vec<_> = names.iter().map(|id| (id.as_str(), "harmful", "theft")).collect();
        let answers: Vec<&str> =
            ids.map(|id| if refused.contains(&id) { REFUSES } else { ANSWERS }).collect();
        let benchmark = safety(&prompts);
        summarise(benchmark.as_ref(), judge_all(benchmark.as_ref(), &answers)).unwrap()
    }

    #[test]
    fn any_column_is_tested_against_any_other() {
        let (base, sft, dpo) = (summary(0..1, 0..10), summary(0..9, 0..12), summary(0..2, 0..10));
        let columns = [("base", &base), ("sft", &sft), ("dpo", &dpo)];
        let comparison = compare(&columns, &[(1, 0), (2, 1), (0, 2)]).unwrap();
        let row = &comparison.rows[0];
        assert_eq!(row.figures, [(9, 10), (3, 12), (8, 10)].map(|(k, n)| Figure::Rate(Rate::new(k, n))));
        for (column, reference, column_only, reference_only, p_value) in
            [(1, 0, 0, 8, 2.0 / 256.0), (2, 1, 7, 0, 2.0 / 128.0), (0, 2, 1, 0, 1.0)]
        {
            let test = row.test(column, reference).unwrap();
            assert_eq!(
                (test.pairs, test.column_only, test.reference_only),
                (10, column_only, reference_only)
            );
            assert!((test.p_value - p_value).abs() < 1e-12, "{test:?}");
        }
        assert_eq!(row.test(2, 0), None);
    }

    #[test]
    fn prints_rates_and_tests() {
        let (base, after) = (summary(0..1, 0..10), summary(0..9, 0..12));
        let text = compare(&[("base", &base), ("after", &after)], &[(1, 0)]).unwrap().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "measure             base                       after");
        assert_eq!(lines[1], "harmful compliance   90.0% [59.6,  98.2] 9/10   25.0% [ 8.9,  53.2] 3/12");
        // The heading, the measures, an empty line.
        let tests = &lines[2 + base.measures.len()..];
        assert_eq!(tests[0], "p                   after / base");
        assert_eq!(tests[1], "harmful compliance  0.0078 (+0 -8)");
        assert!(tests.contains(&"harmless answered   -"), "{text}");
        assert!(lines.last().unwrap().starts_with("p of A / B: exact McNemar test (of numbers"));
    }

    #[test]
    fn a_scale_is_the_highest_possible_or_above_all_figures() {
        let mean = |values: &[f64]| Figure::Mean(Mean::of(values));
        let open = Unit::Number { least: 0.0, most: f64::INFINITY };
        for (unit, figures, expected) in [
            (Unit::Share, vec![], 1.0),
            (Unit::Number { least: -100.0, most: 100.0 }, vec![mean(&[-3.0])], 100.0),
            (open, vec![mean(&[9.0, 9.0]), mean(&[3.2, 3.2]), mean(&[])], 9.0),
            (open, vec![mean(&[11.5])], 12.0),
            (open, vec![mean(&[0.5, 0.5])], 2.0),
        ] {
            assert_eq!(scale(unit, figures), expected, "{unit:?}");
        }
    }

    #[test]
    fn no_column_and_no_test_print() {
        assert_eq!(compare(&[], &[]).unwrap().to_string(), "measure\n");
        let one = summary(0..1, 0..2);
        assert!(!compare(&[("base", &one)], &[]).unwrap().to_string().contains("McNemar"));
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let one = summary(0..1, 0..2);
        let error = compare(&[("base", &one)], &[(1, 0)]).unwrap_err().to_string();
        assert_eq!(error, "no column 1 to compare (columns are counted from 0; their number is 1)");
        let other = Summary { benchmark: "mmlu", ..one.clone() };
        let error = compare(&[("base", &one), ("sft", &other)], &[]).unwrap_err().to_string();
        assert!(error.starts_with("\"base\" is of the benchmark safety, \"sft\" of mmlu"), "{error}");
    }
}
