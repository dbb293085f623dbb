//! `rloo`: REINFORCE against reward models, each answer compared with the other answers to its prompt (Ahmadian et al. 2024,
//! 2402.14740). As `ppo`, but without a critic: an answer's advantage is that of each of its tokens.

use super::rollouts::{Differences, Rollouts};
use super::{Curve, Data, Input, Keys, Kind, Method, Stage};
use crate::report::Report;
use crate::run::{Reader, StageRun};
use anyhow::Result;
use serde::Deserialize;
use serde_json::{Map, Value};
use solon_train::ppo::PpoPreset;
use std::num::NonZeroUsize;

pub const KIND: Kind = Kind {
    name: "rloo",
    about: "Optimises a model against a reward model, without a critic.",
    parse,
    files: Vec::new,
};

struct Rloo {
    rollouts: Rollouts,
}

/// It has no key of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {}

const DIFFERENCES: Differences = Differences {
    method: "RLOO",
    answers_each: NonZeroUsize::MIN.saturating_add(3),
    overrides: &[],
    // The other answers' mean is the baseline already; TRL's RLOOTrainer does not normalise either.
    preset: |preset| PpoPreset { whiten_advantages: None, ..preset },
};

fn parse(mut keys: Keys) -> Result<Box<dyn Stage>, String> {
    let rollouts = Rollouts::take(&mut keys, &DIFFERENCES)?;
    let Own {} = keys.rest()?;
    if rollouts.answers_each() < 2 {
        return Err(
            "answers_each is 1; RLOO compares each answer with the others to its prompt: give 2 or more"
                .to_owned(),
        );
    }
    Ok(Box::new(Rloo { rollouts }))
}

impl Stage for Rloo {
    fn inputs(&self) -> Vec<Input> {
        self.rollouts.inputs()
    }

    fn output(&self) -> Data {
        Data::Model
    }

    fn settings(&self) -> Value {
        self.rollouts.settings()
    }

    fn trains(&self) -> Option<Method> {
        Some(self.rollouts.training().method)
    }

    fn run(&self, run: &mut StageRun<'_>) -> Result<Value> {
        self.rollouts.run(run, None)
    }

    fn curves(&self) -> Vec<Curve> {
        self.rollouts.curves()
    }

    fn report(&self, read: &Reader<'_>, report: &mut Report) -> Result<()> {
        self.rollouts.report(read, report)
    }

    fn summary(&self, read: &Reader<'_>, summary: &mut Map<String, Value>) -> Result<()> {
        self.rollouts.summary(read, summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_nothing_is_refused() {
        let error = |text: &str| parse(Keys::new(text.parse().unwrap())).err().unwrap_or_default();
        assert_eq!(error("kl_coefficient = 0.1\nwhiten_advantages = \"trl\""), "");
        assert!(error("answers_each = 1").contains("answers_each is 1"));
        for key in ["lambda = 1.0", "gamma = 1.0", "value_clip = 0.2", "critic_learning_rate = 1e-4"] {
            assert!(error(key).contains("unknown field"), "{key}: {}", error(key));
        }
        for key in ["imitate_after = 4", "hold_weight = 2.0", "lessons_each = 4"] {
            assert!(error(key).contains("is about the answers of"), "{key}: {}", error(key));
        }
        assert_eq!(error("hold = \"rehearse\"\nhold_weight = 2.0\nlessons_each = 4"), "");
        assert!(error("method = \"full\"").contains("RLOO trains adapters"));
    }
}
