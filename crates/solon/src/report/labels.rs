//! Where the names of points stand in a chart: beside their points, and not over each other.

/// A rectangle of a drawing, in its units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Box {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Box {
    /// A square around a point.
    pub fn around(x: f64, y: f64, reach: f64) -> Self {
        Self { left: x - reach, top: y - reach, right: x + reach, bottom: y + reach }
    }

    /// The area that two have in common.
    fn overlap(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    /// The part of the area that is outside `frame`.
    fn outside(&self, frame: &Self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top) - self.overlap(frame)
    }
}

/// Width of a character of a label, a little more than the mean.
const CHARACTER: f64 = 6.6;
const HEIGHT: f64 = 14.0;

/// Where the name of the point at `(x, y)` stands: the first place around it that is free, else the one that covers least.
pub fn place((x, y): (f64, f64), name: &str, area: &Box, taken: &[Box]) -> Box {
    let width = CHARACTER * name.chars().count() as f64;
    let mut best: Option<(f64, Box)> = None;
    // The four corners first, because the point's own bars go straight; then the same farther away.
    for distance in [0.0, 12.0, 24.0, 36.0] {
        for (right, above) in [(true, true), (true, false), (false, true), (false, false)] {
            let left = if right { x + 7.0 } else { x - 7.0 - width };
            let top = if above { y - 3.0 - HEIGHT - distance } else { y + 3.0 + distance };
            let label = Box { left, top, right: left + width, bottom: top + HEIGHT };
            let covered: f64 = taken.iter().map(|other| label.overlap(other)).sum();
            let cost = covered + 4.0 * label.outside(area) + distance;
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, label));
            }
        }
    }
    best.map_or(Box::around(x, y, 0.0), |(_, label)| label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Box = Box { left: 0.0, top: 0.0, right: 300.0, bottom: 200.0 };

    #[test]
    fn names_of_near_points_do_not_overlap() {
        let points = [(100.0, 100.0), (104.0, 103.0), (98.0, 97.0), (101.0, 106.0)];
        let mut taken: Vec<Box> = points.iter().map(|(x, y)| Box::around(*x, *y, 6.0)).collect();
        for point in points {
            let label = place(point, "checkpoint", &AREA, &taken);
            assert!(taken.iter().all(|other| label.overlap(other) < 1e-9), "{label:?} over {taken:?}");
            taken.push(label);
        }
    }

    #[test]
    fn a_name_stays_inside_the_chart() {
        for point in [(299.0, 1.0), (299.0, 199.0), (1.0, 199.0)] {
            assert!(place(point, "base", &AREA, &[]).outside(&AREA) < 1e-9);
        }
    }
}
