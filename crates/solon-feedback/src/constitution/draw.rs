//! Draws of principles by their weights.
//!
//! Contract: a draw depends on its key and the weights alone. Where all weights are equal it is the plain uniform draw
//! ([`Draws::below`]), to the same entry, so that a constitution without weights gives what it always gave.

use solon_draws::Draws;

/// The place of the drawn one among entries with these weights; `None` where there are none. `turn` numbers draws of one
/// key that are to fall on different entries: with equal weights turn 1 gives the entry after that of turn 0. Each turn by
/// itself draws every entry as often as its weight says.
pub(crate) fn draw(draws: Draws, position: u64, turn: usize, weights: &[f64]) -> Option<usize> {
    let (first, count) = (weights.first()?, weights.len());
    if weights.iter().all(|weight| weight == first) {
        return Some((draws.below(position, count) + turn) % count);
    }
    // Relative to the largest, so that the sum stays finite.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let shares: Vec<f64> = weights.iter().map(|weight| weight / largest).collect();
    let total: f64 = shares.iter().sum();
    let drawn = (draws.uniform(position) + turn as f64 / count as f64).fract() * total;
    let mut reached = 0.0;
    let place = shares.iter().position(|share| {
        reached += share;
        drawn < reached
    });
    // Rounding may leave the last bit of the total uncovered.
    place.or_else(|| shares.iter().rposition(|share| *share > 0.0))
}

/// Entries in turn, each as often as its weight says: the next is always the one that is furthest behind its share. With
/// equal weights that is the file's order, again and again.
pub(crate) struct InTurn {
    shares: Vec<f64>,
    taken: Vec<f64>,
    made: f64,
}

impl InTurn {
    /// `weights`: one for each entry.
    pub(crate) fn new(weights: &[f64]) -> Self {
        let largest = weights.iter().copied().fold(0.0, f64::max);
        let total: f64 = weights.iter().map(|weight| weight / largest).sum();
        let shares = weights.iter().map(|weight| weight / largest / total).collect();
        Self { shares, taken: vec![0.0; weights.len()], made: 0.0 }
    }

    /// The place of the next entry; `None` where there are none.
    pub(crate) fn next(&mut self) -> Option<usize> {
        self.made += 1.0;
        let behind = |place: usize| self.shares[place] * self.made - self.taken[place];
        let mut places = 0..self.shares.len();
        let first = places.next()?;
        // The earliest of those that are furthest behind.
        let next = places.fold(first, |best, place| if behind(place) > behind(best) { place } else { best });
        self.taken[next] += 1.0;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_draw_what_was_always_drawn() {
        for count in [1, 2, 3, 7, 16, 39] {
            for weight in [1.0, 0.1, 2.5, 1e300, 5e-324] {
                let (weights, mut in_turn) = (vec![weight; count], InTurn::new(&vec![weight; count]));
                for i in 0..200 {
                    let draws = Draws::new(3, "label").item("principle").item(&format!("p{i}"));
                    assert_eq!(draw(draws, i, 0, &weights), Some(draws.below(i, count)));
                    assert_eq!(draw(draws, i, 2, &weights), Some((draws.below(i, count) + 2) % count));
                    assert_eq!(in_turn.next(), Some(i as usize % count), "{count} of weight {weight}");
                }
            }
        }
        assert_eq!(draw(Draws::new(1, "x"), 0, 0, &[]), None);
        assert_eq!(InTurn::new(&[]).next(), None);
    }

    #[test]
    fn entries_come_as_often_as_their_weights_say() {
        let weights = [1.0, 5.0, 0.5, 3.5];
        let draws = Draws::new(9, "weights");
        for turn in 0..3 {
            let mut counts = [0_usize; 4];
            for i in 0..20_000 {
                counts[draw(draws, i, turn, &weights).unwrap()] += 1;
            }
            for (count, weight) in counts.iter().zip(weights) {
                let expected = weight / 10.0;
                assert!((*count as f64 / 20_000.0 - expected).abs() < 0.015, "turn {turn}: {counts:?}");
            }
        }
        let mut in_turn = InTurn::new(&weights);
        let mut counts = [0; 4];
        (0..20).for_each(|_| counts[in_turn.next().unwrap()] += 1);
        assert_eq!(counts, [2, 10, 1, 7]);
    }

    #[test]
    fn weights_at_the_ends_of_the_range_do_not_overflow() {
        let draws = Draws::new(9, "extreme");
        for i in 0..1000 {
            assert_eq!(draw(draws, i, 0, &[5e-324, f64::MAX]), Some(1));
            let both = draw(draws, i, 0, &[f64::MAX, f64::MAX, 1.0]).unwrap();
            assert!(both < 2);
        }
        assert_eq!(InTurn::new(&[f64::MAX, f64::MAX / 2.0]).next(), Some(0));
    }
}
