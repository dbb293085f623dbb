//! The settings of PEFT that mean modules by patterns: `rank_pattern`, `alpha_pattern`, `layers_to_transform`,
//! `layers_pattern`, `exclude_modules`, and `target_modules` that is no list.
//!
//! Contract: which modules are adapted the file's tensors say. The settings are held to them where they are lists: PEFT
//! leaves out a tensor of a module that they leave out, so such a file is refused. Of two patterns that match, the first
//! counts.
//! Source: peft 0.21, `utils/other.py` (`get_pattern_key`), `tuners/tuners_utils.py` (`check_target_module_exists`).

use std::collections::BTreeSet;
use std::path::Path;

use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::WeightsError;
use super::json_fields::Fields;
use super::peft_config::{AdapterConfig, MAX_RANK};
use crate::adapter::LoraShape;

/// Patterns of one setting: one for each matrix of a model of 126 layers would be 882.
const MOST_PATTERNS: usize = 1024;
/// Bytes that a pattern may take when it is compiled, and again when it is run: what a short text asks for may be gigabytes.
const MOST_BYTES: usize = 1 << 16;

/// What the patterns of an `adapter_config.json` say.
pub(super) struct Patterns {
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f32)>,
    layers: Option<BTreeSet<usize>>,
    excluded: BTreeSet<String>,
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
                let names: Option<BTreeSet<String>> =
                    names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
                names.ok_or_else(|| fields.wrong("exclude_modules", "list of names"))?
            }
            _ => BTreeSet::new(),
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
        if names_of(module).any(|name| self.excluded.contains(name)) {
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

/// The names by which a list of modules may mean one: its path, and what follows each point in it.
pub(super) fn names_of(module: &str) -> impl Iterator<Item = &str> {
    std::iter::once(module).chain(module.match_indices('.').map(|(at, _)| &module[at + 1..]))
}

fn layer(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|layer| usize::try_from(layer).ok())
}

fn first<T: Copy>(patterns: &[(Regex, T)], module: &str) -> Option<T> {
    patterns.iter().find(|(pattern, _)| pattern.is_match(module.as_bytes())).map(|(_, value)| *value)
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
    if object.len() > MOST_PATTERNS {
        let hint = format!("at most {MOST_PATTERNS} are read; write patterns that mean several modules");
        let what = format!("{} patterns", object.len());
        return Err(WeightsError::unsupported(fields.path, field, what, hint));
    }
    let mut patterns = Vec::with_capacity(object.len());
    for (key, found) in object {
        if key.len() > MOST_BYTES {
            let what = format!("a pattern of {} bytes", key.len());
            return Err(WeightsError::unsupported(fields.path, field, what, "write the modules' names"));
        }
        let at = format!("{field}[{key:?}]");
        let value = value(found).ok_or_else(|| {
            WeightsError::invalid(fields.path, &at, found.to_string(), "correct it in adapter_config.json")
        })?;
        let regex = regex(key).map_err(|_| {
            let hint = "write the modules' names; only plain and short regular expressions are read";
            WeightsError::unsupported(fields.path, &at, "a pattern that cannot be read", hint)
        })?;
        patterns.push((regex, value));
    }
    Ok(patterns)
}

/// Python's `re.match` of `(.*\.)?(KEY)$`, for names of modules, which are ASCII: classes of Unicode would make it large.
fn regex(key: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{key})$"))
        .unicode(false)
        .size_limit(MOST_BYTES)
        .dfa_size_limit(MOST_BYTES)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_as_large_as_those_that_people_write_and_no_larger() {
        let layers: Vec<String> = (0..126).map(|layer| layer.to_string()).collect();
        let all =
            format!(r"model\.layers\.({})\.(self_attn|mlp)\.(q|k|v|o|gate|up|down)_proj", layers.join("|"));
        for (key, module) in [
            ("q_proj", "model.layers.17.self_attn.q_proj"),
            (r".*\.\d+\..*q_proj", "model.layers.17.self_attn.q_proj"),
            (r"model\.layers\.\w+\.\w+\.q_proj", "model.layers.17.self_attn.q_proj"),
            (r"layers\.[0-9]{1,3}\.mlp\.[a-z]+_proj", "model.layers.125.mlp.up_proj"),
            (&all, "model.layers.125.mlp.up_proj"),
        ] {
            let found = regex(key).unwrap_or_else(|error| panic!("{key}: {error}"));
            assert!(found.is_match(module.as_bytes()) && !found.is_match(b"lm_head"), "{key}");
        }
        assert!(regex(r"\w{1000}a17").is_err());
    }
}
