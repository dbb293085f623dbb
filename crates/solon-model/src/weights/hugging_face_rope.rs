//! The RoPE settings of `config.json`, in both directions.
//!
//! Contract: they mean what they mean in transformers, which has two places for them (`rope_parameters` since version 5,
//! `rope_theta` and `rope_scaling` at the top before) and defaults that depend on other fields. Types and fields that
//! transformers does not know for these families are refused by name.
//!
//! Source: transformers 5.24, `modeling_rope_utils.py`.

use serde_json::{Value, json};

use super::WeightsError;
use super::json_fields::{Fields, number};
use crate::config::{LongRope, RopeScaling, Yarn};

/// The fields that transformers knows, whichever type they belong to, and one that it has never read.
const KNOWN: [&str; 17] = [
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "finetuned",
    "high_freq_factor",
    "long_factor",
    "low_freq_factor",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "short_factor",
    "truncate",
    "type",
];

impl Fields<'_> {
    /// `rope_theta`, and how it is scaled in a model with this `max_position_embeddings`.
    pub(super) fn rope(&self, context: usize) -> Result<(f32, RopeScaling), WeightsError> {
        self.whole_heads()?;
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
        if object.values().any(Value::is_object) {
            return Err(
                self.unsupported(place, "one setting for all layers is supported, as in transformers")
            );
        }
        let rope = Fields { path: self.path, fields: object };
        rope.whole_heads()?;
        if let Some(unknown) =
            object.keys().find(|key| !KNOWN.contains(&key.as_str()) && rope.get(key).is_some())
        {
            return Err(rope.unsupported(
                unknown,
                &format!(
                    "transformers knows no such field of {place}; remove it if the model runs without it"
                ),
            ));
        }
        let scaling = Scaling { config: self, place, rope: &rope, context };
        Ok((self.rope_theta(Some(&rope))?, scaling.read()?))
    }

    fn whole_heads(&self) -> Result<(), WeightsError> {
        match self.number("partial_rotary_factor")? {
            None | Some(1.0) => Ok(()),
            Some(_) => Err(self.unsupported("partial_rotary_factor", "whole heads are rotated")),
        }
    }

    fn rope_theta(&self, rope: Option<&Fields>) -> Result<f32, WeightsError> {
        let inner = rope.map(|rope| rope.number("rope_theta")).transpose()?.flatten();
        Ok(inner.or(self.number("rope_theta")?).unwrap_or(10_000.0))
    }
}

/// The object that says how frequencies are scaled.
struct Scaling<'a> {
    /// All of `config.json`.
    config: &'a Fields<'a>,
    /// Where the object stands.
    place: &'static str,
    rope: &'a Fields<'a>,
    /// `max_position_embeddings`.
    context: usize,
}

impl Scaling<'_> {
    fn read(&self) -> Result<RopeScaling, WeightsError> {
        Ok(match self.rope.get("rope_type").or(self.rope.get("type")).map(Value::as_str) {
            None | Some(Some("default" | "none")) => RopeScaling::None,
            Some(Some("linear")) => RopeScaling::Linear { factor: self.required("factor")? },
            Some(Some("dynamic")) => RopeScaling::Dynamic { factor: self.required("factor")? },
            Some(Some("llama3")) => RopeScaling::Llama3 {
                factor: self.required("factor")?,
                low_freq_factor: self.required("low_freq_factor")?,
                high_freq_factor: self.required("high_freq_factor")?,
                original_context: self.original_context()? as f32,
            },
            Some(Some("yarn")) => RopeScaling::Yarn(self.yarn()?),
            Some(Some("longrope")) => RopeScaling::LongRope(Box::new(self.longrope()?)),
            Some(_) => {
                let hint = "supported rope types are default, linear, dynamic, llama3, yarn and longrope";
                return Err(self.config.unsupported(self.place, hint));
            }
        })
    }

    fn yarn(&self) -> Result<Yarn, WeightsError> {
        let original_context = self.original_context()?;
        // As in transformers, where a threshold of 0 is its default, `null` of `factor` is the ratio of the two contexts, and
        // `null` of `truncate` is false.
        let threshold = |field: &str, default: f32| {
            Ok::<_, WeightsError>(self.rope.number(field)?.filter(|turns| *turns != 0.0).unwrap_or(default))
        };
        Ok(Yarn {
            factor: match self.rope.fields.get("factor") {
                Some(Value::Null) => self.ratio(original_context),
                _ => self.required("factor")?,
            },
            original_context: original_context as f32,
            beta_fast: threshold("beta_fast", 32.0)?,
            beta_slow: threshold("beta_slow", 1.0)?,
            truncate: match self.rope.fields.get("truncate") {
                None => true,
                Some(_) => self.rope.boolean("truncate")?.unwrap_or(false),
            },
            attention_factor: self.rope.number("attention_factor")?,
            mscale: self.rope.number("mscale")?,
            mscale_all_dim: self.rope.number("mscale_all_dim")?,
        })
    }

    fn longrope(&self) -> Result<LongRope, WeightsError> {
        let original_context = self.original_context()?;
        let factor = self.rope.number("factor")?.unwrap_or(self.ratio(original_context));
        let growth = 1.0 + f64::from(factor).ln() / (original_context as f64).ln();
        let default = if factor <= 1.0 { 1.0 } else { growth.sqrt() as f32 };
        Ok(LongRope {
            short_factors: self.list("short_factor")?,
            long_factors: self.list("long_factor")?,
            original_context,
            long_context: self.context,
            attention_factor: self.rope.number("attention_factor")?.unwrap_or(default),
        })
    }

    /// How far the context was extended.
    fn ratio(&self, original_context: usize) -> f32 {
        (self.context as f64 / original_context as f64) as f32
    }

    /// `original_max_position_embeddings`: the one at the top, the one in the object, or all of the context.
    fn original_context(&self) -> Result<usize, WeightsError> {
        const FIELD: &str = "original_max_position_embeddings";
        for fields in [self.config, self.rope] {
            match fields.integer(FIELD)? {
                None => {}
                Some(0) => return Err(fields.wrong(FIELD, "number of tokens")),
                Some(tokens) => return Ok(tokens),
            }
        }
        Ok(self.context)
    }

    fn required(&self, field: &str) -> Result<f32, WeightsError> {
        let absent = || self.absent(field);
        self.rope.number(field)?.filter(|number| *number > 0.0).ok_or_else(absent)
    }

    fn list(&self, field: &str) -> Result<Vec<f32>, WeightsError> {
        let list = self.rope.get(field).ok_or_else(|| self.absent(field))?;
        let numbers = list.as_array().and_then(|list| {
            list.iter()
                .map(|number| number.as_f64().map(|number| number as f32))
                .collect::<Option<Vec<f32>>>()
        });
        numbers.ok_or_else(|| self.rope.wrong(field, "list of numbers"))
    }

    fn absent(&self, field: &str) -> WeightsError {
        WeightsError::invalid(
            self.config.path,
            format!("{}.{field}", self.place),
            "absent, or not above 0",
            "add it",
        )
    }
}

/// `rope_scaling`, as transformers 4 and 5 both read it. Of LongRoPE `max_position_embeddings` is
/// [`LongRope::long_context`].
pub(super) fn rope_scaling(scaling: &RopeScaling) -> Value {
    let optional = |value: Option<f32>| value.map_or(Value::Null, number);
    let mut object = match scaling {
        RopeScaling::None => return Value::Null,
        RopeScaling::Linear { factor } => json!({"factor": number(*factor), "rope_type": "linear"}),
        RopeScaling::Dynamic { factor } => json!({"factor": number(*factor), "rope_type": "dynamic"}),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "factor": number(*factor),
            "high_freq_factor": number(*high_freq_factor),
            "low_freq_factor": number(*low_freq_factor),
            "original_max_position_embeddings": *original_context as u64,
            "rope_type": "llama3",
        }),
        RopeScaling::Yarn(yarn) => json!({
            "attention_factor": optional(yarn.attention_factor),
            "beta_fast": number(yarn.beta_fast),
            "beta_slow": number(yarn.beta_slow),
            "factor": number(yarn.factor),
            "mscale": optional(yarn.mscale),
            "mscale_all_dim": optional(yarn.mscale_all_dim),
            "original_max_position_embeddings": yarn.original_context as u64,
            "rope_type": "yarn",
            "truncate": if yarn.truncate { Value::Null } else { json!(false) },
        }),
        RopeScaling::LongRope(longrope) => {
            let list = |factors: &[f32]| factors.iter().map(|factor| number(*factor)).collect::<Value>();
            json!({
                "attention_factor": number(longrope.attention_factor),
                "long_factor": list(&longrope.long_factors),
                "original_max_position_embeddings": longrope.original_context,
                "rope_type": "longrope",
                "short_factor": list(&longrope.short_factors),
            })
        }
    };
    if let Value::Object(object) = &mut object {
        // An absent field and a null one are not the same to transformers.
        object.retain(|_, value| !value.is_null());
    }
    object
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
            (500000.0, expected.clone())
        );
        let mut inside = llama3.clone();
        inside["rope_theta"] = json!(7.0);
        let new = read(json!({"rope_theta": 500000.0, "rope_parameters": inside})).unwrap();
        assert_eq!(new, (7.0, expected));
        let linear = read(json!({"rope_scaling": {"type": "linear", "factor": 2.0}})).unwrap();
        assert_eq!(linear, (10_000.0, RopeScaling::Linear { factor: 2.0 }));
        let none = read(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5}})).unwrap();
        assert_eq!(none, (5.0, RopeScaling::None));

        refuses(json!({"rope_scaling": {"type": "su", "factor": 2.0}}), "rope_scaling: {\"type\":\"su\"");
        refuses(json!({"rope_scaling": {"type": "yarn"}}), "rope_scaling.factor: absent");
        refuses(
            json!({"rope_scaling": {"type": "linear", "factor": 2.0, "attn_factor": 2}}),
            "attn_factor: 2",
        );
        refuses(
            json!({"rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 0}}),
            "original_max_position_embeddings: 0",
        );
        refuses(
            json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": ["x"]}}),
            "long_factor",
        );
        refuses(json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor");
        refuses(json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor: absent");
        refuses(json!({"rope_scaling": 3}), "rope_scaling: 3 is no object");
        refuses(
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1}}}),
            "one setting for all layers",
        );
        refuses(
            json!({"rope_parameters": {"rope_theta": 1, "partial_rotary_factor": 0.5}}),
            "partial_rotary_factor",
        );
    }
}
