//! How answers are sampled.

use serde::{Deserialize, Serialize};

/// How an answer's tokens are chosen, and where it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingSettings {
    /// Largest number of new tokens in an answer.
    pub max_new_tokens: usize,
    /// 0 is greedy.
    #[serde(default = "one")]
    pub temperature: f32,
    /// Keep the most likely tokens whose probabilities add up to this; 1 keeps all.
    #[serde(default = "one")]
    pub top_p: f32,
    /// Keep the k most likely tokens; 0 keeps all.
    #[serde(default)]
    pub top_k: usize,
    /// Keep tokens that are at least this fraction as likely as the most likely one; 0 keeps all.
    #[serde(default)]
    pub min_p: f32,
    /// Strings that end an answer; they are not part of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

fn one() -> f32 {
    1.0
}

impl SamplingSettings {
    /// Plain sampling at temperature 1, up to `max_new_tokens`.
    pub fn of_length(max_new_tokens: usize) -> Self {
        Self { max_new_tokens, temperature: 1.0, top_p: 1.0, top_k: 0, min_p: 0.0, stop: Vec::new() }
    }

    /// Always the most likely token.
    pub fn greedy(max_new_tokens: usize) -> Self {
        Self { temperature: 0.0, ..Self::of_length(max_new_tokens) }
    }

    /// Checks the settings; the error names the setting that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        if self.max_new_tokens == 0 {
            return Err("max_new_tokens is 0; give at least 1".to_owned());
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(format!("temperature is {}; it must be 0 (greedy) or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(format!("top_p is {}; it must be above 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err(format!("min_p is {}; it must be between 0 and 1", self.min_p));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err("stop holds an empty string, which would end every answer at once".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_settings_are_named() {
        let good = SamplingSettings::of_length(8);
        assert_eq!(good.validate(), Ok(()));
        for (bad, name) in [
            (SamplingSettings { max_new_tokens: 0, ..good.clone() }, "max_new_tokens"),
            (SamplingSettings { temperature: f32::NAN, ..good.clone() }, "temperature"),
            (SamplingSettings { top_p: 0.0, ..good.clone() }, "top_p"),
            (SamplingSettings { min_p: 1.5, ..good.clone() }, "min_p"),
            (SamplingSettings { stop: vec![String::new()], ..good }, "stop"),
        ] {
            assert!(bad.validate().unwrap_err().contains(name), "{bad:?}");
        }
    }
}
