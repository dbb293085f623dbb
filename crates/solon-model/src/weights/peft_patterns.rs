//! The settings of PEFT that mean modules by patterns: `rank_pattern`, `alpha_pattern`, `layers_to_transform`,
//! `layers_pattern`, `exclude_modules`, and `target_modules` that is no list.
//!
//! Contract: which modules are adapted the file's tensors say. The settings are held to them where they are lists: PEFT
//! leaves out a tensor of a module that they leave out, so such a file is refused. Of two patterns that match, the first
//! counts.
//! Source: peft 0.21, `utils/other.py` (`get_pattern_key`), `tuners/tuners_utils.py` (`check_target_module_exists`).

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;
use serde_json::{Map, Value};

use super::WeightsError;
use super::json_fields::Fields;
use super::peft_config::{AdapterConfig, MAX_RANK};
use crate::adapter::LoraShape;

/// What the patterns of an `adapter_config.json` say.
pub(super) struct Patterns {
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f32)>,
    layers: Option<BTreeSet<usize>>,
    excluded: Vec<String>,
    /// `target_modules` and `exclude_modules` are lists, and nothing but the first decides.
    names_all: bool,
    /// `target_modules` is a list.
    is_listed: bool,
}

impl Patterns {
    pub(super) fn parse(fields: &Fields) -> Result<Self, WeightsError> {
        let layers = match fields.get("layers_to_transform") {
            None => None,
            Some(Value::Array(list)) if list.is_empty() => None,
            Some(Value::Array(list)) => Some(list.iter().map(layer).collect::<Option<_>>()),
            Some(one) => Some(layer(one).map(|one| BTreeSet::from([one]))),
        };
        let layers =
            layers.map(|layers| layers.ok_or_else(|| fields.wrong("layers_to_transform", "list of layers")));
        let layers = layers.transpose()?;
        let is_layers = |name: &Value| name == "layers" || name == "model.layers";
        let known = match fields.get("layers_pattern") {
            None => true,
            Some(Value::Array(names)) => names.iter().all(is_layers),
            Some(name) => name == "" || is_layers(name),
        };
        if !known {
            return Err(fields.unsupported("layers_pattern", "the layers of these models are `layers`"));
        }
        let excluded = match fields.get("exclude_modules") {
            Some(Value::Array(names)) => {
                let names: Option<Vec<String>> =
                    names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                names.ok_or_else(|| fields.wrong("exclude_modules", "list of names"))?
            }
            _ => Vec::new(),
        };
        let is_listed = fields.get("target_modules").is_some_and(Value::is_array);
        let excludes = fields.get("exclude_modules").is_some_and(|names| names != &Value::Array(Vec::new()));
        let rank = |value: &Value| {
            value.as_u64().filter(|rank| (1..=MAX_RANK).contains(rank)).map(|rank| rank as usize)
        };
        let alpha =
            |value: &Value| value.as_f64().map(|alpha| alpha as f32).filter(|alpha| alpha.is_finite());
        Ok(Self {
            ranks: pattern(fields, "rank_pattern", rank)?,
            alphas: pattern(fields, "alpha_pattern", alpha)?,
            names_all: is_listed && layers.is_none() && !excludes,
            is_listed,
            layers,
            excluded,
        })
    }

    /// Writes into `config` what the patterns mean for these modules (whole paths), those that the file has tensors of.
    pub(super) fn resolve<'a>(
        &self,
        path: &Path,
        config: &mut AdapterConfig,
        modules: impl Iterator<Item = &'a str>,
    ) -> Result<(), WeightsError> {
        let mut found = BTreeSet::new();
        for module in modules {
            if let Some(field) = self.leaves_out(config, module) {
                let hint = format!("peft would ignore it; correct {field} in adapter_config.json");
                return Err(WeightsError::tensor(path, module, format!("{field} leaves it out"), hint));
            }
            let shape = LoraShape {
                rank: first(&self.ranks, module).unwrap_or(config.rank),
                alpha: first(&self.alphas, module).unwrap_or(config.alpha),
            };
            if shape != config.shape(module) {
                config.exceptions.insert(module.to_owned(), shape);
            }
            found.insert(module.to_owned());
        }
        if !self.names_all {
            config.target_modules = found;
        }
        Ok(())
    }

    /// The setting by which PEFT would not adapt this module.
    fn leaves_out(&self, config: &AdapterConfig, module: &str) -> Option<&'static str> {
        let names = |name: &String| module == name || module.ends_with(&format!(".{name}"));
        if self.excluded.iter().any(names) {
            return Some("exclude_modules");
        }
        if !self.is_listed {
            return None;
        }
        if !config.targets(module) {
            return Some("target_modules");
        }
        let layer = module.split('.').find_map(|part| part.parse::<usize>().ok());
        let is_named_whole = config.target_modules.contains(module);
        let is_left_out = |layers: &BTreeSet<usize>| !layer.is_some_and(|layer| layers.contains(&layer));
        (!is_named_whole && self.layers.as_ref().is_some_and(is_left_out)).then_some("layers_to_transform")
    }
}

fn layer(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|layer| usize::try_from(layer).ok())
}

fn first<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| pattern.is_match(module)).map(|(_, value)| *value)
}

/// An object from patterns to values.
fn pattern<T>(
    fields: &Fields,
    field: &str,
    value: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(Regex, T)>, WeightsError> {
    let empty = Map::new();
    let object = match fields.get(field) {
        None => &empty,
        Some(Value::Object(object)) => object,
        Some(_) => return Err(fields.wrong(field, "object")),
    };
    let mut patterns = Vec::with_capacity(object.len());
    for (key, found) in object {
        let at = format!("{field}[{key:?}]");
        let value = value(found).ok_or_else(|| {
            WeightsError::invalid(fields.path, &at, found.to_string(), "correct it in adapter_config.json")
        })?;
        // Python's `re.match` of `(.*\.)?(KEY)$`.
        let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).map_err(|_| {
            let hint = "write the modules' names; only plain regular expressions are read";
            WeightsError::unsupported(fields.path, &at, "a pattern that cannot be read", hint)
        })?;
        patterns.push((regex, value));
    }
    Ok(patterns)
}
