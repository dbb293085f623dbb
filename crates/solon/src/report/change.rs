//! Whether a figure differs from another, and which way.
//!
//! A difference is called clear if its p-value is below 0.05 or, if there is no test, if the intervals do not overlap. Any
//! other difference is "no clear change", however large it looks.

use super::data::{Better, Measure, Rate};

/// How a figure compares with that of the first column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is the first column, or there is nothing to compare it with.
    None,
    /// It may be chance.
    Unclear,
    /// Clear, and an improvement.
    Better,
    /// Clear, and no improvement.
    Worse,
    /// Clear, but for this measure no direction is better.
    Different,
}

impl Change {
    /// The change of `cell` from `base`.
    pub fn of(cell: &Rate, base: &Rate, better: Better) -> Self {
        let clear = match cell.p_value {
            Some(p) => p < 0.05,
            None => cell.low > base.high || cell.high < base.low,
        };
        if !clear || cell.rate == base.rate {
            return Change::Unclear;
        }
        match (better, cell.rate > base.rate) {
            (Better::Neither, _) => Change::Different,
            (Better::Higher, true) | (Better::Lower, false) => Change::Better,
            (Better::Higher, false) | (Better::Lower, true) => Change::Worse,
        }
    }

    /// The class in the style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Change::None => "base",
            Change::Unclear => "unclear",
            Change::Better => "better",
            Change::Worse => "worse",
            Change::Different => "different",
        }
    }

    /// A sign and a word, so that the meaning does not depend on colour.
    pub fn words(self) -> &'static str {
        match self {
            Change::None => "",
            Change::Unclear => "≈ no clear change",
            Change::Better => "✓ better",
            Change::Worse => "✗ worse",
            Change::Different => "≠ different",
        }
    }
}

/// Each column's figure of a measure, with its change from the first column's.
pub fn changes(measure: &Measure, columns: usize) -> Vec<Option<(&Rate, Change)>> {
    let cell = |i: usize| measure.cells.get(i).and_then(Option::as_ref);
    let figure = |i: usize| {
        cell(i).map(|rate| match cell(0) {
            Some(base) if i > 0 => (rate, Change::of(rate, base, measure.better)),
            _ => (rate, Change::None),
        })
    };
    (0..columns).map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(rate: f64, p_value: Option<f64>) -> Rate {
        let (low, high) = (rate - 0.05, rate + 0.05);
        Rate { rate, low, high, count: Some(1), total: 2, p_value, against_origin: None }
    }

    #[test]
    fn a_change_is_named_only_where_it_is_clear() {
        let base = rate(0.5, None);
        let cases = [
            (rate(0.3, Some(0.001)), Better::Lower, Change::Better),
            (rate(0.3, Some(0.001)), Better::Higher, Change::Worse),
            (rate(0.3, Some(0.001)), Better::Neither, Change::Different),
            (rate(0.3, Some(0.2)), Better::Lower, Change::Unclear),
            (rate(0.3, Some(f64::NAN)), Better::Lower, Change::Unclear),
            (rate(0.45, None), Better::Lower, Change::Unclear),
            (rate(0.7, None), Better::Higher, Change::Better),
            (rate(f64::NAN, None), Better::Higher, Change::Unclear),
        ];
        for (cell, better, expected) in cases {
            assert_eq!(Change::of(&cell, &base, better), expected, "{cell:?} {better:?}");
        }
    }
}
