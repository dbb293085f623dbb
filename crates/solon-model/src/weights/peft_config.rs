//! `adapter_config.json` of a LoRA adapter in PEFT's format, in both directions.
//!
//! Contract: a setting is either understood completely or refused by its name, and so is any setting not listed here that
//! is not at rest.
//! Source: peft 0.21, `tuners/lora/config.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::DAMAGED;
use super::json_fields::Fields;
use super::peft_patterns::{Patterns, names_of};
use super::{WeightsError, json_fields};
use crate::adapter::LoraShape;

pub(super) const MAX_RANK: u64 = 1 << 16;

/// Settings that change nothing about what a finished adapter computes, whatever they say.
const HARMLESS: [&str; 11] = [
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "ensure_weight_tying",
];

/// Settings that [`AdapterConfig`] is made of, or that are looked at one by one.
const READ: [&str; 14] = [
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "task_type",
    "use_rslora",
];

/// What the adapted model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterTask {
    /// `CAUSAL_LM`.
    CausalLm,
    /// `SEQ_CLS`: a scoring model; the score head is saved with the adapter.
    SequenceClassification,
}

/// `adapter_config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Inner width of the pairs.
    pub rank: usize,
    /// Numerator of [`AdapterConfig::scale`].
    pub alpha: f32,
    /// Modules of another rank or alpha, by whole path.
    pub exceptions: BTreeMap<String, LoraShape>,
    /// Names of the adapted modules: `q_proj` for all layers', or a whole path such as
    /// `model.layers.0.self_attn.q_proj`.
    pub target_modules: BTreeSet<String>,
    /// The model this was trained on, as a path or hub name.
    pub base_model: Option<String>,
    /// What the adapted model is for.
    pub task: AdapterTask,
    /// Scale by `alpha / sqrt(rank)` instead of `alpha / rank`.
    pub use_rslora: bool,
}

impl AdapterConfig {
    /// Rank and alpha of the modules that are no exceptions.
    pub fn own_shape(&self) -> LoraShape {
        LoraShape { rank: self.rank, alpha: self.alpha }
    }

    /// Rank and alpha of a module, by its whole path.
    pub fn shape(&self, module: &str) -> LoraShape {
        self.exceptions.get(module).copied().unwrap_or(self.own_shape())
    }

    /// What a low-rank product of this shape is multiplied by.
    pub fn scale(&self, LoraShape { rank, alpha }: LoraShape) -> f32 {
        alpha / if self.use_rslora { (rank as f32).sqrt() } else { rank as f32 }
    }

    /// The same strength, as [`LoraShape::scale`] says it.
    pub fn plain(&self, shape: LoraShape) -> LoraShape {
        LoraShape { rank: shape.rank, alpha: self.scale(shape) * shape.rank as f32 }
    }

    /// `adapter_config.json`, as PEFT writes it.
    pub(super) fn render(&self) -> String {
        // PEFT declares it as an integer.
        let integer = |alpha: f32| match alpha.fract() == 0.0 && alpha.abs() < 1e9 {
            true => json!(alpha as i64),
            false => json_fields::number(alpha),
        };
        let of_others = |field: &dyn Fn(&LoraShape) -> Option<Value>| {
            let others = self.exceptions.iter();
            Value::Object(
                others.filter_map(|(module, shape)| Some((module.clone(), field(shape)?))).collect(),
            )
        };
        let scoring = self.task == AdapterTask::SequenceClassification;
        let mut fields = json!({
            "alpha_pattern": of_others(&|shape| (shape.alpha != self.alpha).then(|| integer(shape.alpha))),
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": integer(self.alpha),
            "lora_dropout": 0.0,
            "modules_to_save": if scoring { json!(["score"]) } else { Value::Null },
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": of_others(&|shape| (shape.rank != self.rank).then(|| json!(shape.rank))),
            "revision": null,
            "target_modules": self.target_modules,
            "task_type": if scoring { "SEQ_CLS" } else { "CAUSAL_LM" },
            "use_dora": false,
            "use_rslora": self.use_rslora,
        });
        if let Value::Object(fields) = &mut fields {
            fields.sort_keys();
        }
        format!("{fields:#}\n")
    }

    /// Whether PEFT would adapt this module: its path is a target or ends in `.target`.
    pub(super) fn targets(&self, module: &str) -> bool {
        names_of(module).any(|name| self.target_modules.contains(name))
    }
}

/// Reads the configuration, and the patterns in it, which mean nothing before the tensors are known.
pub(super) fn parse(path: &Path, text: &str) -> Result<(AdapterConfig, Patterns), WeightsError> {
    let fields: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| WeightsError::invalid(path, "JSON", error.to_string(), DAMAGED))?;
    let get = |field: &str| fields.get(field).unwrap_or(&Value::Null);
    let short = |value: &Value| value.to_string().chars().take(120).collect::<String>();
    let invalid = |field: &str| {
        WeightsError::invalid(path, field, short(get(field)), "correct it in adapter_config.json")
    };
    let unsupported =
        |field: &str, hint: &str| Err(WeightsError::unsupported(path, field, short(get(field)), hint));

    if fields.contains_key("lora_parameters") || fields.contains_key("fine_tune_type") {
        let hint = "it is an adapter of mlx-lm, and PEFT's are read; merge it with `mlx_lm.fuse` and open the merged model";
        return Err(WeightsError::unsupported(path, "format", "mlx-lm", hint));
    }
    if get("peft_type") != "LORA" {
        return unsupported("peft_type", "adapters are LoRA");
    }
    if !matches!(get("bias"), Value::Null) && get("bias") != "none" {
        return unsupported("bias", "adapters with trained biases are not run; train with bias=\"none\"");
    }
    match get("init_lora_weights") {
        Value::Null | Value::Bool(_) => {}
        Value::String(kind) if ["gaussian", "eva", "orthogonal"].contains(&kind.as_str()) => {}
        _ => {
            let hint = "this initialisation rewrites the base model; convert the adapter with peft's \
                        path_initial_model_for_weight_conversion";
            return unsupported("init_lora_weights", hint);
        }
    }
    let task = match get("task_type") {
        Value::Null => AdapterTask::CausalLm,
        task if task == "CAUSAL_LM" => AdapterTask::CausalLm,
        task if task == "SEQ_CLS" => AdapterTask::SequenceClassification,
        _ => return unsupported("task_type", "supported are CAUSAL_LM and SEQ_CLS"),
    };
    let saved: Vec<&Value> = get("modules_to_save").as_array().into_iter().flatten().collect();
    // PEFT lists `classifier` beside `score` for every SEQ_CLS adapter; our families have no such module.
    let known = |module: &&Value| {
        task == AdapterTask::SequenceClassification && (**module == "score" || **module == "classifier")
    };
    if !saved.iter().all(known) {
        return unsupported("modules_to_save", "only the score head can be saved with an adapter");
    }
    for (field, value) in &fields {
        let at_rest = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(object) => object.is_empty(),
            _ => false,
        };
        let known = READ.contains(&field.as_str()) || HARMLESS.contains(&field.as_str());
        if !known && !at_rest {
            return unsupported(
                field,
                "plain LoRA is supported, with its own ranks and alphas for some modules, nothing else",
            );
        }
    }

    let rank = get("r").as_u64().filter(|rank| (1..=MAX_RANK).contains(rank)).ok_or_else(|| invalid("r"))?;
    let alpha = get("lora_alpha").as_f64().map(|alpha| alpha as f32).filter(|alpha| alpha.is_finite());
    let use_rslora = match get("use_rslora") {
        Value::Null => false,
        value => value.as_bool().ok_or_else(|| invalid("use_rslora"))?,
    };
    let target_modules = match get("target_modules") {
        Value::String(_) => BTreeSet::new(),
        Value::Array(names) => {
            let names: Option<BTreeSet<String>> =
                names.iter().map(|name| Some(name.as_str()?.to_string())).collect();
            names.ok_or_else(|| invalid("target_modules"))?
        }
        _ => return Err(invalid("target_modules")),
    };
    let config = AdapterConfig {
        rank: rank as usize,
        alpha: alpha.ok_or_else(|| invalid("lora_alpha"))?,
        exceptions: BTreeMap::new(),
        target_modules,
        base_model: get("base_model_name_or_path").as_str().map(str::to_string),
        task,
        use_rslora,
    };
    Ok((config, Patterns::parse(&Fields { path, fields: &fields })?))
}
