//! Lessons beside preferences or rewards: what `dpo`, `ppo` and `rloo` share. Each answer counts the same.

use super::lessons::{DIVERGENCE, check_hold, lessons};
use super::settings::some_positive;
use super::{Curve, Data, Input, Keys, Method, OneOrMany};
use crate::run::StageRun;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solon_infer::chat::ChatModel;
use solon_model::Backend;
use solon_train::sft::{Average, Lessons, SftExample, Weighting};

/// The keys of a recipe.
#[derive(Deserialize, Serialize)]
pub struct Beside {
    /// Answers that are imitated.
    #[serde(default, skip_serializing)]
    imitate: OneOrMany,
    /// How many tokens at the start of each imitated answer are left to the preferences or the reward.
    #[serde(default)]
    imitate_after: usize,
    /// Answers on which the model is held to what it predicts without its adapter: the KL divergence of its whole
    /// next-token distribution, at every token.
    #[serde(default, skip_serializing)]
    hold: OneOrMany,
    /// Weight of the divergence; 1 where it is not given.
    #[serde(default, deserialize_with = "some_positive")]
    hold_weight: Option<f64>,
}

const KEYS: [&str; 4] = ["imitate", "imitate_after", "hold", "hold_weight"];

/// The answers as tokens.
pub struct Tokenised {
    imitated: Vec<SftExample>,
    held: Vec<SftExample>,
    weighting: Weighting,
    /// What the stage tells of them.
    told: Vec<(&'static str, usize)>,
}

impl Beside {
    /// Reads the keys. One that would change nothing is refused.
    pub fn take(keys: &mut Keys, method: Method) -> Result<Self, String> {
        let own: Self = keys.take(&KEYS)?;
        let unused =
            |key: &str, of: &str| Err(format!("`{key}` is about the answers of `{of}`; give `{of}` too"));
        if own.imitate_after > 0 && own.imitate.is_empty() {
            return unused("imitate_after", "imitate");
        }
        if own.hold_weight.is_some() && own.hold.is_empty() {
            return unused("hold_weight", "hold");
        }
        check_hold(&own.hold, method)?;
        Ok(own)
    }

    /// Whether none are given.
    pub fn is_empty(&self) -> bool {
        self.imitate.is_empty() && self.hold.is_empty()
    }

    /// What is read.
    pub fn inputs(&self) -> [Input; 2] {
        let takes = &[Data::Demonstrations, Data::Answers];
        [Input::optional("imitate", &self.imitate, takes), Input::optional("hold", &self.hold, takes)]
    }

    /// What the report draws.
    pub fn curves(&self) -> Option<Curve> {
        (!self.hold.is_empty()).then_some(DIVERGENCE)
    }

    /// Records the answers as items of the stage and tokenises them.
    pub fn tokenise(&self, run: &mut StageRun<'_>, chat: &ChatModel) -> Result<Tokenised> {
        let (imitated, held) = (run.read().demonstrations("imitate")?, run.read().demonstrations("hold")?);
        let count = imitated.len();
        let examples = lessons(run, chat, imitated, held)?;
        let (imitated, held) = examples.split_at(count);
        let after = self.imitate_after;
        let imitated: Vec<SftExample> = imitated.iter().filter_map(|example| example.after(after)).collect();
        let too_short = count - imitated.len();
        if too_short > 0 && imitated.is_empty() {
            bail!("no answer of `imitate` has more than {after} tokens\nhint: lower `imitate_after`");
        }
        let mut told = Vec::new();
        if !self.imitate.is_empty() {
            told.push(("imitated", imitated.len()));
        }
        if too_short > 0 {
            told.push(("too_short_to_imitate", too_short));
        }
        if !self.hold.is_empty() {
            told.push(("held", held.len()));
        }
        let hold_weight = self.hold_weight.unwrap_or(1.0) as f32;
        let weighting = Weighting { average: Average::Sequence, hold_weight, ..Weighting::EVEN };
        Ok(Tokenised { imitated, held: held.to_vec(), weighting, told })
    }
}

impl Tokenised {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.imitated.is_empty() && self.held.is_empty()
    }

    /// For the trainer. The model is held to the one without an adapter.
    pub fn lessons<B: Backend>(&self) -> Lessons<'_, B> {
        let Self { imitated, held, weighting, .. } = self;
        Lessons { imitated, held, reference: None, weighting: *weighting }
    }

    /// Adds how many there are to what the stage tells.
    pub fn tell(&self, told: &mut Value) {
        for (name, count) in &self.told {
            told[*name] = json!(count);
        }
    }
}
