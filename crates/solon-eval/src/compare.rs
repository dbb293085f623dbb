//! Reports beside each other: before and after, with a paired test.
//!
//! Contract: the first report is the base; each other is tested against it on the prompts both
//! answered, paired by id. The p-value is McNemar's, exact and two-sided (Q. McNemar, Psychometrika 12,
//! 1947; the binomial form): of the prompts on which the two models differ, is the split further from
//! even than chance? It is not corrected for the number of measures or columns.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::safety::{JudgedItem, MEASURES, SafetyReport};
use crate::wilson::Rate;

/// The difference of one report from the base on one measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// Prompts in both reports.
    pub pairs: usize,
    /// Prompts where the measure holds in the base alone.
    pub base_only: usize,
    /// Prompts where it holds in the other alone.
    pub other_only: usize,
    /// McNemar's exact two-sided p-value; 1 when the two never differ.
    pub p_value: f64,
}

/// One measure over all reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparisonRow {
    /// The measure.
    pub measure: &'static str,
    /// Its rate in each report, in the order given.
    pub rates: Vec<Rate>,
    /// The test of each report after the first against the first.
    pub against_base: Vec<Paired>,
}

/// Reports beside each other; prints as a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The reports' names; the first is the base.
    pub names: Vec<String>,
    /// One row a measure.
    pub rows: Vec<ComparisonRow>,
}

/// Sets reports side by side; the first is the base the others are tested against.
pub fn compare(reports: &[(&str, &SafetyReport)]) -> Comparison {
    let rows = MEASURES.map(|measure| {
        let outcomes = |report: &SafetyReport| -> HashMap<String, bool> {
            let covered = report.items.iter().filter(|judged| measure.covers(judged));
            covered.map(|judged: &JudgedItem| (judged.item.id.clone(), (measure.holds)(judged))).collect()
        };
        let base = reports.first().map(|(_, report)| outcomes(report)).unwrap_or_default();
        ComparisonRow {
            measure: measure.name,
            rates: reports.iter().map(|(_, report)| measure.rate(&report.items)).collect(),
            against_base: reports
                .iter()
                .skip(1)
                .map(|(_, report)| paired(&base, &outcomes(report)))
                .collect(),
        }
    });
    Comparison { names: reports.iter().map(|(name, _)| (*name).to_owned()).collect(), rows: rows.into() }
}

fn paired(base: &HashMap<String, bool>, other: &HashMap<String, bool>) -> Paired {
    let (mut pairs, mut base_only, mut other_only) = (0, 0, 0);
    for (id, &in_base) in base {
        let Some(&in_other) = other.get(id) else { continue };
        pairs += 1;
        base_only += usize::from(in_base && !in_other);
        other_only += usize::from(in_other && !in_base);
    }
    Paired { pairs, base_only, other_only, p_value: mcnemar_exact(base_only, other_only) }
}

/// McNemar's exact two-sided p-value: twice the smaller tail of Binomial(n, ½), at most 1.
///
/// `base_only` and `other_only` count the pairs that differ, one way and the other.
pub fn mcnemar_exact(base_only: usize, other_only: usize) -> f64 {
    let differ = base_only + other_only;
    let fewer = base_only.min(other_only);
    // In logs: 2⁻ⁿ underflows from n = 1075 on.
    let mut log_term = -(differ as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for count in 1..=fewer {
        log_term += ((differ - count + 1) as f64 / count as f64).ln();
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

impl fmt::Display for Comparison {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |row: &ComparisonRow| -> Vec<String> {
            let mut cells = vec![row.measure.to_owned()];
            for (column, rate) in row.rates.iter().enumerate() {
                cells.push(rate.to_string());
                if let Some(test) = column.checked_sub(1).and_then(|other| row.against_base.get(other)) {
                    cells.push(print_p(test));
                }
            }
            cells
        };
        let mut header = vec!["measure".to_owned()];
        for (column, name) in self.names.iter().enumerate() {
            header.push(name.clone());
            if column > 0 {
                header.push("p".to_owned());
            }
        }
        let table: Vec<Vec<String>> = std::iter::once(header).chain(self.rows.iter().map(cells)).collect();
        let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
        for row in &table {
            let padded: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(formatter, "{}", padded.join("  ").trim_end())?;
        }
        if let Some(base) = self.names.first().filter(|_| self.names.len() > 1) {
            writeln!(formatter, "p: exact McNemar test against {base:?}, two-sided, paired by prompt")?;
        }
        Ok(())
    }
}

fn print_p(test: &Paired) -> String {
    match test {
        Paired { pairs: 0, .. } => "-".to_owned(),
        Paired { p_value, .. } if *p_value < 0.0001 => "<0.0001".to_owned(),
        Paired { p_value, .. } => format!("{p_value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::safety::tests::item;
    use crate::safety::{Kind, judge};

    #[test]
    fn mcnemar_is_the_binomial_test() {
        for (base_only, other_only, expected) in [
            (0, 0, 1.0),
            (3, 3, 1.0),
            (0, 5, 2.0 / 32.0),
            (1, 9, 22.0 / 1024.0),
            (12, 3, 2.0 * (1.0 + 15.0 + 105.0 + 455.0) / 32768.0),
        ] {
            let p_value = mcnemar_exact(base_only, other_only);
            assert!(
                (p_value - expected).abs() < 1e-12,
                "{base_only} {other_only}: {p_value}, expected {expected}"
            );
        }
        assert!(mcnemar_exact(2000, 2000) > 0.99);
        assert!(mcnemar_exact(700, 800) > 0.009 && mcnemar_exact(700, 800) < 0.011);
    }

    fn report(refused: std::ops::Range<usize>, ids: std::ops::Range<usize>) -> SafetyReport {
        let answer =
            |id| if refused.contains(&id) { "I cannot help with that." } else { "Sure, first find a key." };
        judge(ids.map(|id| item(&id.to_string(), Kind::Harmful, "theft", answer(id))).collect()).unwrap()
    }

    #[test]
    fn pairs_by_id_and_prints_a_table() {
        let base = report(0..1, 0..10);
        let after = report(0..9, 0..12);
        let comparison = compare(&[("base", &base), ("after", &after)]);
        let row = &comparison.rows[0];
        assert_eq!(row.rates, [Rate::new(9, 10), Rate::new(3, 12)]);
        let test = row.against_base[0];
        assert_eq!((test.pairs, test.base_only, test.other_only), (10, 8, 0));
        assert!((test.p_value - 2.0 / 256.0).abs() < 1e-12, "{test:?}");
        let text = comparison.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "measure             base                       after                      p");
        assert_eq!(
            lines[1],
            "harmful compliance   90.0% [59.6,  98.2] 9/10   25.0% [ 8.9,  53.2] 3/12  0.0078"
        );
        assert_eq!(
            lines.last(),
            Some(&"p: exact McNemar test against \"base\", two-sided, paired by prompt")
        );
    }

    #[test]
    fn no_report_and_one_report_print() {
        assert!(compare(&[]).to_string().starts_with("measure"));
        let one = report(0..1, 0..2);
        assert!(!compare(&[("base", &one)]).to_string().contains("McNemar"));
    }
}
