//! Whether anything may be learnt from a reward model: by its accuracy on pairs that were kept back. `ppo` and `rloo`, which train against
//! it, and `label`, which labels with it, go by the same answer.

use crate::run::Reader;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use solon_eval::Rate;

/// Whether anything may be learnt from a reward model, and why.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Gate {
    /// Whether it may.
    pub passed: bool,
    /// The reason, as the end of a sentence.
    pub why: String,
}

impl Gate {
    /// `measured`: the accuracy on the pairs kept back, where some were, and apart where the better answer declines and where
    /// it helps. A model that always rewards refusing must not pass, whatever the share of the two.
    pub fn of(required: f64, measured: Option<(Rate, [Rate; 2])>) -> Self {
        let gate = |passed, why| Self { passed, why };
        if required == 0.0 {
            return gate(true, "no accuracy is required".to_owned());
        }
        let Some((rate, sides)) = measured.filter(|(rate, _)| rate.total > 0) else {
            return gate(false, "no pair of those kept back is decided, so it was not measured".to_owned());
        };
        let percent = |x: f64| format!("{:.0} %", 100.0 * x);
        let right = format!(
            "it is right on {} of {} pairs kept back, 95 % interval {} to {}",
            rate.count,
            rate.total,
            percent(rate.low),
            percent(rate.high)
        );
        if rate.rate < required {
            return gate(false, format!("{right}; {} is required", percent(required)));
        }
        if rate.low <= 0.5 {
            return gate(false, format!("{right}, which is not above chance"));
        }
        if Rate::balanced_low(sides).is_some_and(|low| low <= 0.5) {
            let [declines, helps] = sides.map(|side| percent(side.rate));
            return gate(
                false,
                format!(
                    "it is right on {declines} where the better answer declines and on {helps} where it helps, which always preferring one of the two explains"
                ),
            );
        }
        gate(true, right)
    }
}

/// Why nothing may be learnt from the reward models that the input `key` names; nothing where they passed. One from a file has no gate.
pub fn not_passed(read: &Reader<'_>, key: &str) -> Result<Option<String>> {
    let mut reasons = Vec::new();
    for name in read.input(key) {
        let Some(reader) = read.reader_of(name) else { continue };
        let gate: Option<Gate> = serde_json::from_value(reader.detail()?["gate"].clone())?;
        if let Some(Gate { passed: false, why }) = gate {
            reasons.push(format!("the reward model {name} did not pass ({why})"));
        }
    }
    Ok((!reasons.is_empty()).then(|| reasons.join(", and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_passes_that_is_right_often_enough_and_beyond_chance() {
        let gate = |required: f64, count: usize, total: usize| {
            let half = Rate::new(count / 2, total / 2);
            Gate::of(required, Some((Rate::new(count, total), [half; 2])))
        };
        assert!(gate(0.5, 70, 100).passed);
        assert!(!gate(0.75, 70, 100).passed && gate(0.75, 70, 100).why.contains("75 % is required"));
        // 8 of 12: the interval is 39 to 86 %.
        assert!(!gate(0.5, 8, 12).passed && gate(0.5, 8, 12).why.contains("not above chance"));
        assert!(!gate(0.5, 0, 0).passed && !Gate::of(0.5, None).passed);
        assert!(gate(0.0, 1, 12).passed && Gate::of(0.0, None).passed);
        // Refusing is always preferred, and right on 80 of 100.
        let refuses = Gate::of(0.75, Some((Rate::new(80, 100), [Rate::new(80, 80), Rate::new(0, 20)])));
        assert!(!refuses.passed && refuses.why.contains("always preferring"), "{}", refuses.why);
    }
}
