//! The RoPE settings of `config.json`, in both directions.
//!
//! Source: transformers 5.24, `modeling_rope_utils.py`.

use serde_json::{Value, json};

use super::WeightsError;
use super::json_fields::{Fields, number};
use crate::config::RopeScaling;

impl Fields<'_> {
    /// `rope_theta` and `rope_scaling`, at the top (transformers 4) or in `rope_parameters` (5).
    pub(super) fn rope(&self, context: usize) -> Result<(f32, RopeScaling), WeightsError> {
        let filled = |field: &'static str| {
            self.get(field)
                .filter(|value| value.as_object().is_none_or(|object| !object.is_empty()))
                .map(|_| field)
        };
        let Some(place) = filled("rope_scaling").or(filled("rope_parameters")) else {
            return Ok((self.rope_theta(None)?, RopeScaling::None));
        };
        let Some(object) = self.get(place).and_then(Value::as_object) else {
            return Err(self.wrong(place, "object"));
        };
        let rope = Fields { path: self.path, fields: object };
        if object.values().any(Value::is_object) {
            return Err(self.unsupported(place, "one setting for all layers is supported"));
        }
        for fields in [self, &rope] {
            if fields.number("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
                return Err(fields.unsupported("partial_rotary_factor", "whole heads are rotated"));
            }
        }
        let theta = self.rope_theta(Some(&rope))?;
        let required = |field: &str| {
            let absent = || WeightsError::invalid(self.path, format!("{place}.{field}"), "absent", "add it");
            rope.number(field)?.filter(|number| *number > 0.0).ok_or_else(absent)
        };
        let scaling = match rope.get("rope_type").or(rope.get("type")).map(Value::as_str) {
            None | Some(Some("default" | "none")) => RopeScaling::None,
            Some(Some("linear")) => RopeScaling::Linear { factor: required("factor")? },
            Some(Some("llama3")) => RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: required("low_freq_factor")?,
                high_freq_factor: required("high_freq_factor")?,
                original_context: match rope.get("original_max_position_embeddings") {
                    Some(_) => required("original_max_position_embeddings")?,
                    None => context as f32,
                },
            },
            Some(_) => {
                return Err(self.unsupported(place, "supported rope types are default, linear and llama3"));
            }
        };
        check_scaling(scaling)
            .map_err(|found| WeightsError::invalid(self.path, place, found, "correct it"))?;
        Ok((theta, scaling))
    }

    fn rope_theta(&self, rope: Option<&Fields>) -> Result<f32, WeightsError> {
        let inner = rope.map(|rope| rope.number("rope_theta")).transpose()?.flatten();
        Ok(inner.or(self.number("rope_theta")?).unwrap_or(10_000.0))
    }
}

/// Refuses scalings whose formula divides by zero or speeds frequencies up.
pub(super) fn check_scaling(scaling: RopeScaling) -> Result<(), String> {
    match scaling {
        RopeScaling::Linear { factor } | RopeScaling::Llama3 { factor, .. } if factor < 1.0 => {
            Err(format!("factor is {factor}, below 1"))
        }
        RopeScaling::Llama3 { low_freq_factor: low, high_freq_factor: high, .. } if high <= low => {
            Err(format!("high_freq_factor ({high}) is not above low_freq_factor ({low})"))
        }
        _ => Ok(()),
    }
}

pub(super) fn rope_scaling(scaling: RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"factor": number(factor), "rope_type": "linear"}),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "factor": number(factor),
            "high_freq_factor": number(high_freq_factor),
            "low_freq_factor": number(low_freq_factor),
            "original_max_position_embeddings": original_context as u64,
            "rope_type": "llama3",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Map;

    use super::*;

    /// Reads a `config.json` with these fields.
    fn read(fields: Value) -> Result<(f32, RopeScaling), WeightsError> {
        let fields: Map<String, Value> = fields.as_object().unwrap().clone();
        Fields { path: Path::new("config.json"), fields: &fields }.rope(2048)
    }

    #[track_caller]
    fn refuses(fields: Value, part: &str) {
        let message = read(fields).expect_err("must be refused").to_string();
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }

    #[test]
    fn rope_is_read_from_both_places() {
        let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192});
        let expected = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192.0,
        };
        assert_eq!(
            read(json!({"rope_theta": 500000.0, "rope_scaling": llama3})).unwrap(),
            (500000.0, expected)
        );
        let mut inside = llama3.clone();
        inside["rope_theta"] = json!(7.0);
        let new = read(json!({"rope_theta": 500000.0, "rope_parameters": inside})).unwrap();
        assert_eq!(new, (7.0, expected));
        let linear = read(json!({"rope_scaling": {"type": "linear", "factor": 2.0}})).unwrap();
        assert_eq!(linear, (10_000.0, RopeScaling::Linear { factor: 2.0 }));
        let none = read(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5}})).unwrap();
        assert_eq!(none, (5.0, RopeScaling::None));

        refuses(json!({"rope_scaling": {"type": "yarn", "factor": 2.0}}), "rope_scaling: {\"type\":\"yarn\"");
        refuses(json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor: absent");
        refuses(json!({"rope_scaling": {"type": "linear", "factor": 0.5}}), "below 1");
        refuses(json!({"rope_scaling": 3}), "rope_scaling: 3 is no object");
        refuses(
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1}}}),
            "one setting for all layers",
        );
        refuses(
            json!({"rope_parameters": {"rope_theta": 1, "partial_rotary_factor": 0.5}}),
            "partial_rotary_factor",
        );
        refuses(
            json!({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}}),
            "not above",
        );
    }
}
