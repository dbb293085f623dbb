//! Learning rates, the order of examples and the split of a batch into passes, as functions of the step.

use solon_draws::Draws;

/// The learning rate after warm-up; `constant`, `linear` or `cosine` in a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Constant.
    Constant,
    /// Linear decay to zero.
    Linear,
    /// Half a cosine, down to a tenth of the peak (OpenRLHF's `cosine_with_min_lr`).
    Cosine,
}

impl Schedule {
    /// The rate of update `step` (from 0) of `total`, after `warmup` updates of linear increase.
    pub fn rate(self, peak: f64, step: usize, total: usize, warmup: usize) -> f64 {
        if step < warmup {
            return peak * (step + 1) as f64 / warmup as f64;
        }
        let progress = (step - warmup) as f64 / (total.saturating_sub(warmup)).max(1) as f64;
        match self {
            Schedule::Constant => peak,
            Schedule::Linear => peak * (1.0 - progress),
            Schedule::Cosine => peak * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * progress).cos())),
        }
    }
}

/// Batches of `size` over `epochs` passes of `items`, each pass in its own order. The last batch of a pass may be
/// short.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    /// Items in a pass.
    pub items: usize,
    /// Items in a batch.
    pub size: usize,
    /// Passes.
    pub epochs: usize,
    /// The key of the random orders.
    pub draws: Draws,
}

impl Batches {
    /// Batches in a pass.
    pub fn per_epoch(&self) -> usize {
        self.items.div_ceil(self.size)
    }

    /// Batches in all.
    pub fn total(&self) -> usize {
        self.per_epoch() * self.epochs
    }

    /// The items of batch `step`.
    pub fn batch(&self, step: usize) -> Vec<usize> {
        let (epoch, within) = (step / self.per_epoch(), step % self.per_epoch());
        let order = self.draws.index(epoch as u64).permutation(self.items);
        order[within * self.size..((within + 1) * self.size).min(self.items)].to_vec()
    }
}

/// Splits items into groups of about `budget` tokens; a group has at least one item.
pub(crate) fn passes(items: &[usize], budget: usize, tokens: impl Fn(usize) -> usize) -> Vec<Vec<usize>> {
    let mut out: Vec<Vec<usize>> = Vec::new();
    let mut used = 0;
    for item in items {
        let cost = tokens(*item);
        if out.is_empty() || used + cost > budget {
            out.push(Vec::new());
            used = 0;
        }
        used += cost;
        if let Some(run) = out.last_mut() {
            run.push(*item);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_then_fall() {
        assert_eq!(Schedule::Linear.rate(1.0, 0, 10, 2), 0.5);
        assert_eq!(Schedule::Linear.rate(1.0, 2, 10, 2), 1.0);
        assert_eq!(Schedule::Linear.rate(1.0, 6, 10, 2), 0.5);
        assert_eq!(Schedule::Constant.rate(1.0, 9, 10, 0), 1.0);
        assert!((Schedule::Cosine.rate(1.0, 10, 10, 0) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn every_pass_takes_every_item_once() {
        let batches = Batches { items: 7, size: 3, epochs: 2, draws: Draws::new(1, "order") };
        assert_eq!((batches.per_epoch(), batches.total()), (3, 6));
        for epoch in 0..2 {
            let mut seen: Vec<usize> = (0..3).flat_map(|b| batches.batch(epoch * 3 + b)).collect();
            seen.sort_unstable();
            assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        }
        assert_ne!(batches.batch(0), batches.batch(3));
    }
}
