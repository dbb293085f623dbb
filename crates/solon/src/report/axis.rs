//! Axes of charts: ranges, round ticks and their labels, and positions on the page.

use std::fmt;

/// Larger values are not drawn: they are errors, and arithmetic on ranges would overflow.
const MAX_VALUE: f64 = 1e100;

/// Whether a point can be drawn.
pub fn drawable((x, y): (f64, f64)) -> bool {
    x.abs() <= MAX_VALUE && y.abs() <= MAX_VALUE
}

/// A length in the SVG's units, written with only the digits that are visible.
pub struct Length(pub f64);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let rounded = (self.0 * 10.0).round() / 10.0;
        // Adding zero turns -0 into 0.
        write!(f, "{}", rounded + 0.0)
    }
}

/// An axis that maps the values `low..=high` to `start..=end` on the page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    /// The least value shown.
    pub low: f64,
    /// The greatest value shown; above `low`.
    pub high: f64,
    /// The position of `low`.
    pub start: f64,
    /// The position of `high`.
    pub end: f64,
    /// The distance between ticks: a round number above zero.
    pub step: f64,
}

impl Axis {
    /// An axis for all `values`, which must be [`drawable`]. If all values are equal, it gets room on both sides.
    pub fn over(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Option<Self> {
        let (low, high) = values
            .map(|v| (v, v))
            .reduce(|(low, high), (v, _)| (if v < low { v } else { low }, if v > high { v } else { high }))?;
        let least = (low.abs().max(high.abs()) * 1e-9).max(1e-12);
        if high - low > least {
            return Some(Self { low, high, start, end, step: step(high - low) });
        }
        let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        Some(Self { low: low - room, high: high + room, start, end, step: step(2.0 * room) })
    }

    /// The axis with its ends extended to round values.
    pub fn rounded(self) -> Self {
        let step = self.step;
        Self {
            low: (self.low / step + 1e-6).floor() * step,
            high: (self.high / step - 1e-6).ceil() * step,
            ..self
        }
    }

    /// The position of `value`.
    pub fn place(self, value: f64) -> f64 {
        self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)
    }

    /// Round values along the axis with their labels.
    pub fn ticks(self) -> Vec<(f64, String)> {
        let step = self.step;
        let first = (self.low / step - 1e-6).ceil();
        let last = (self.high / step + 1e-6).floor();
        let n = (last - first).clamp(0.0, 20.0) as usize;
        (0..=n).map(|i| (first + i as f64) * step).map(|value| (value, label(value, step))).collect()
    }
}

/// A round distance that divides `range` into three to eight parts.
fn step(range: f64) -> f64 {
    let rough = range / 7.0;
    let unit = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|m| m * unit).find(|step| *step >= rough * 0.999).unwrap_or(10.0 * unit)
}

/// A tick's label, with as many decimals as distinguish it from the next tick.
fn label(value: f64, step: f64) -> String {
    if value.abs() < step * 1e-6 {
        return "0".to_owned();
    }
    let text = if step < 0.9e-4 || value.abs() >= 1e6 {
        let digits = (value.abs().log10().floor() - step.log10().floor()).clamp(0.0, 9.0) as usize;
        format!("{value:.digits$e}")
    } else {
        let decimals = (-(step * 1.001).log10().floor()).clamp(0.0, 5.0) as usize;
        format!("{value:.decimals$}")
    };
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::over(values.iter().copied(), 0.0, 100.0).unwrap().rounded();
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(&[0.0, 1.0]),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"].map(|l| l.replace("0.0", "0"))
        );
        assert_eq!(labels(&[0.0, 480.0]), ["0", "100", "200", "300", "400", "500"]);
        assert_eq!(labels(&[1.37, 2.3]), ["1.2", "1.4", "1.6", "1.8", "2.0", "2.2", "2.4"]);
        assert_eq!(labels(&[-1.0, 1.0]), ["−1.0", "−0.5", "0", "0.5", "1.0"]);
        assert_eq!(labels(&[0.0, 2e-5]), ["0", "5e−6", "1.0e−5", "1.5e−5", "2.0e−5"]);
    }

    #[test]
    fn one_value_gets_room_on_both_sides() {
        for value in [0.0, 3.0, -0.25, 1e90, 1e-30] {
            let axis = Axis::over([value].into_iter(), 0.0, 100.0).unwrap();
            assert!(axis.low < value && value < axis.high, "{value}");
            assert!((1.0..99.0).contains(&axis.place(value)));
            assert!(!axis.rounded().ticks().is_empty());
        }
        assert_eq!(Axis::over(std::iter::empty(), 0.0, 1.0), None);
    }

    #[test]
    fn only_finite_points_are_drawable() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            assert!(!drawable((0.0, bad)) && !drawable((bad, 0.0)));
        }
        assert!(drawable((-1.0, 1e99)));
    }

    #[test]
    fn lengths_are_short() {
        assert_eq!(Length(1.0 / 3.0).to_string(), "0.3");
        assert_eq!(Length(-0.01).to_string(), "0");
    }
}
