//! `config.json` of a Hugging Face folder, in both directions.
//!
//! Contract: absent fields take transformers' defaults (`configuration_{llama,mistral,qwen2,qwen3}.py`, version 5); a
//! setting that would change the computation in a way the decoder does not know is refused by name.
//!
//! Sliding windows: attention over the last `window` tokens equals full attention as long as the context is no longer
//! than the window, so a model with a window is accepted with `max_position_embeddings` capped to it. Results stay
//! right; contexts beyond the window are refused by whoever checks `max_position_embeddings`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::DAMAGED;
use super::{SaveType, TokenIds, WeightsError};
use crate::config::{Architecture, ModelConfig, RopeScaling};

const FAMILIES: [(Architecture, &str, &str); 4] = [
    (Architecture::Llama, "Llama", "llama"),
    (Architecture::Mistral, "Mistral", "mistral"),
    (Architecture::Qwen2, "Qwen2", "qwen2"),
    (Architecture::Qwen3, "Qwen3", "qwen3"),
];

/// What stands on top of the last hidden state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// `*ForCausalLM`.
    Language,
    /// `*ForSequenceClassification`.
    Score,
}

/// Reads `config.json`.
pub(super) fn parse(path: &Path, text: &str) -> Result<(ModelConfig, Head), WeightsError> {
    let fields: Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| WeightsError::invalid(path, "JSON", error.to_string(), DAMAGED))?;
    let fields = Fields { path, fields: &fields };
    let (architecture, head) = fields.architecture()?;
    let refuse = |field: &str, hint: &str| fields.unsupported(field, hint);
    let unquantized = "use the unquantized model, or a GGUF file of it";
    for field in ["quantization_config", "compression_config"] {
        if fields.get(field).is_some() {
            return Err(WeightsError::unsupported(path, field, "quantized weights", unquantized));
        }
    }
    if architecture != Architecture::Qwen2 && fields.boolean("attention_bias")?.unwrap_or(false) {
        return Err(refuse("attention_bias", "biases are known for Qwen2's q, k and v only"));
    }
    if fields.boolean("mlp_bias")?.unwrap_or(false) {
        return Err(refuse("mlp_bias", "the MLP is run without biases"));
    }
    if let Some(activation) = fields.get("hidden_act")
        && !matches!(activation.as_str(), Some("silu" | "swish"))
    {
        return Err(refuse("hidden_act", "the MLP is run with silu only"));
    }

    let num_heads = fields.required("num_attention_heads")?;
    let hidden_size = fields.required("hidden_size")?;
    let num_layers = fields.required("num_hidden_layers")?;
    let default_kv_heads = match architecture {
        _ if fields.get("num_key_value_heads").is_none()
            && fields.fields.contains_key("num_key_value_heads") =>
        {
            num_heads // an explicit null
        }
        Architecture::Llama => num_heads,
        Architecture::Mistral => 8,
        Architecture::Qwen2 | Architecture::Qwen3 => 32,
    };
    let head_dim = match fields.integer("head_dim")? {
        Some(head_dim) => head_dim,
        None if architecture == Architecture::Qwen3 => 128,
        None if num_heads > 0 && hidden_size % num_heads == 0 => hidden_size / num_heads,
        None => {
            return Err(WeightsError::invalid(
                path,
                "head_dim",
                format!("absent, and {hidden_size} does not divide by {num_heads} heads"),
                "add head_dim to config.json",
            ));
        }
    };
    let default_context = match architecture {
        Architecture::Llama => 2048,
        Architecture::Mistral => 131_072,
        Architecture::Qwen2 | Architecture::Qwen3 => 32_768,
    };
    let context = fields.integer("max_position_embeddings")?.unwrap_or(default_context);
    let window = fields.window(architecture, num_layers)?.unwrap_or(usize::MAX);
    let (rope_theta, rope_scaling) = fields.rope(context)?;
    let config = ModelConfig {
        architecture,
        vocab_size: fields.required("vocab_size")?,
        hidden_size,
        intermediate_size: fields.required("intermediate_size")?,
        num_layers,
        num_heads,
        num_kv_heads: fields.integer("num_key_value_heads")?.unwrap_or(default_kv_heads),
        head_dim,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        max_position_embeddings: context.min(window),
        // A scoring model has no language head of its own.
        tie_word_embeddings: head == Head::Score || fields.boolean("tie_word_embeddings")?.unwrap_or(false),
        qkv_bias: architecture == Architecture::Qwen2,
        qk_norm: architecture == Architecture::Qwen3,
    };
    config.validate().map_err(|found| {
        WeightsError::invalid(path, "configuration", found, "compare config.json with the published one")
    })?;
    Ok((config, head))
}

/// A JSON object and the file it came from.
struct Fields<'a> {
    path: &'a Path,
    fields: &'a Map<String, Value>,
}

impl Fields<'_> {
    /// The value, where it is there and not null.
    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn unsupported(&self, field: &str, hint: &str) -> WeightsError {
        WeightsError::unsupported(
            self.path,
            field,
            short(self.fields.get(field).unwrap_or(&Value::Null)),
            hint,
        )
    }

    fn wrong(&self, field: &str, wanted: &str) -> WeightsError {
        let found = short(self.fields.get(field).unwrap_or(&Value::Null));
        WeightsError::invalid(
            self.path,
            field,
            format!("{found} is no {wanted}"),
            "correct it in config.json",
        )
    }

    fn integer(&self, field: &str) -> Result<Option<usize>, WeightsError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let integer = value.as_u64().and_then(|integer| usize::try_from(integer).ok());
        integer.map(Some).ok_or_else(|| self.wrong(field, "whole number"))
    }

    fn required(&self, field: &str) -> Result<usize, WeightsError> {
        let absent =
            || WeightsError::invalid(self.path, field, "absent", "add it from the published config.json");
        self.integer(field)?.ok_or_else(absent)
    }

    fn number(&self, field: &str) -> Result<Option<f32>, WeightsError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.wrong(field, "finite number"))
    }

    fn boolean(&self, field: &str) -> Result<Option<bool>, WeightsError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong(field, "true or false"))
    }

    fn architecture(&self) -> Result<(Architecture, Head), WeightsError> {
        let named = self.get("architectures").and_then(|names| names.get(0));
        let found =
            named.or(self.get("model_type")).and_then(Value::as_str).unwrap_or("no architecture").to_string();
        for (architecture, class, model_type) in FAMILIES {
            if named.is_none() && found == model_type || found == format!("{class}ForCausalLM") {
                return Ok((architecture, Head::Language));
            }
            if found == format!("{class}ForSequenceClassification") {
                return Ok((architecture, Head::Score));
            }
        }
        Err(WeightsError::unsupported(
            self.path,
            "architectures",
            found.chars().take(100).collect::<String>(),
            "supported are Llama, Mistral, Qwen2 and Qwen3, each ForCausalLM or ForSequenceClassification",
        ))
    }

    /// Tokens each token may look back on, itself included, where some layer limits it.
    fn window(&self, architecture: Architecture, num_layers: usize) -> Result<Option<usize>, WeightsError> {
        let window = match self.fields.get("sliding_window") {
            None => Some(4096), // transformers' default of all three families that have one
            Some(_) => self.integer("sliding_window")?,
        };
        match architecture {
            Architecture::Llama => Ok(None),
            Architecture::Mistral => Ok(window),
            Architecture::Qwen2 | Architecture::Qwen3 => {
                if !self.boolean("use_sliding_window")?.unwrap_or(false) {
                    return Ok(None);
                }
                let limited = match self.get("layer_types").map(Value::as_array) {
                    None => self.integer("max_window_layers")?.unwrap_or(28) < num_layers,
                    Some(None) => return Err(self.wrong("layer_types", "list")),
                    Some(Some(types)) => {
                        let known = |layer: &Value| {
                            matches!(layer.as_str(), Some("full_attention" | "sliding_attention"))
                        };
                        if !types.iter().all(known) {
                            return Err(self.unsupported(
                                "layer_types",
                                "layers are full_attention or sliding_attention",
                            ));
                        }
                        types.iter().any(|layer| layer == "sliding_attention")
                    }
                };
                Ok(window.filter(|_| limited))
            }
        }
    }

    /// `rope_theta` and `rope_scaling`, at the top (transformers 4) or in `rope_parameters` (5).
    fn rope(&self, context: usize) -> Result<(f32, RopeScaling), WeightsError> {
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

/// A value as it may stand in a message.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The shortest decimal that reads back as this f32, where `f64::from` would write 9.999999747378752e-06 for 1e-5.
pub(super) fn number(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or(f64::from(value)))
}

/// Writes `config.json` as transformers 4 and 5 both read it: RoPE settings at the top level. A `labels` count makes
/// it a `*ForSequenceClassification`.
pub(super) fn render(
    config: &ModelConfig,
    save_type: SaveType,
    ids: &TokenIds,
    labels: Option<usize>,
) -> String {
    let (_, class, model_type) = FAMILIES[config.architecture as usize];
    let head = if labels.is_some() { "SequenceClassification" } else { "CausalLM" };
    let mut fields = json!({
        "architectures": [format!("{class}For{head}")],
        "attention_dropout": 0.0,
        "bos_token_id": ids.bos,
        "eos_token_id": ids.eos_json(),
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "model_type": model_type,
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": config.num_kv_heads,
        "pad_token_id": ids.pad,
        "rms_norm_eps": number(config.rms_norm_eps),
        "rope_scaling": rope_scaling(config.rope_scaling),
        "rope_theta": number(config.rope_theta),
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": match save_type { SaveType::F32 => "float32", SaveType::Bf16 => "bfloat16" },
        "use_cache": true,
        "vocab_size": config.vocab_size,
    });
    match config.architecture {
        Architecture::Llama => {
            fields["attention_bias"] = json!(false);
            fields["mlp_bias"] = json!(false);
        }
        Architecture::Mistral => fields["sliding_window"] = Value::Null,
        Architecture::Qwen2 | Architecture::Qwen3 => {
            fields["attention_bias"] = json!(config.qkv_bias);
            fields["sliding_window"] = Value::Null;
            fields["use_sliding_window"] = json!(false);
        }
    }
    if let Some(labels) = labels {
        let names = (0..labels).map(|label| (label.to_string(), json!(format!("LABEL_{label}"))));
        fields["id2label"] = Value::Object(names.collect());
        let numbers = (0..labels).map(|label| (format!("LABEL_{label}"), json!(label)));
        fields["label2id"] = Value::Object(numbers.collect());
    }
    if let Value::Object(fields) = &mut fields {
        fields.sort_keys();
    }
    format!("{fields:#}\n")
}

fn rope_scaling(scaling: RopeScaling) -> Value {
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
    use super::*;

    const LLAMA: &str = r#"{"architectures":["LlamaForCausalLM"],"vocab_size":64,"hidden_size":32,
        "intermediate_size":48,"num_hidden_layers":2,"num_attention_heads":4}"#;

    /// [`LLAMA`] with the fields of `changes` set.
    fn read(changes: Value) -> Result<(ModelConfig, Head), WeightsError> {
        let mut fields: Map<String, Value> = serde_json::from_str(LLAMA).unwrap();
        for (name, value) in changes.as_object().unwrap() {
            fields.insert(name.clone(), value.clone());
        }
        parse(Path::new("config.json"), &Value::Object(fields).to_string())
    }

    #[track_caller]
    fn refuses(changes: Value, part: &str) {
        let message = read(changes).expect_err("must be refused").to_string();
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }

    #[test]
    fn absent_fields_take_the_defaults_of_transformers() {
        let (llama, head) = read(json!({})).unwrap();
        assert_eq!((llama.head_dim, llama.num_kv_heads, llama.max_position_embeddings), (8, 4, 2048));
        assert_eq!((llama.rms_norm_eps, llama.rope_theta, llama.tie_word_embeddings), (1e-6, 1e4, false));
        assert_eq!((llama.rope_scaling, head), (RopeScaling::None, Head::Language));
        let (qwen3, _) =
            read(json!({"architectures": ["Qwen3ForCausalLM"], "num_key_value_heads": null})).unwrap();
        assert_eq!(
            (qwen3.head_dim, qwen3.num_kv_heads, qwen3.qk_norm, qwen3.qkv_bias),
            (128, 4, true, false)
        );
        let (qwen2, _) =
            read(json!({"architectures": ["Qwen2ForCausalLM"], "num_key_value_heads": 2})).unwrap();
        assert_eq!((qwen2.max_position_embeddings, qwen2.qk_norm, qwen2.qkv_bias), (32768, false, true));
        let (score, head) = read(json!({"architectures": ["LlamaForSequenceClassification"]})).unwrap();
        assert_eq!((head, score.tie_word_embeddings), (Head::Score, true));
        let (by_type, _) = read(json!({"architectures": null, "model_type": "llama"})).unwrap();
        assert_eq!(by_type, llama);
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
        let (old, _) = read(json!({"rope_theta": 500000.0, "rope_scaling": llama3})).unwrap();
        assert_eq!((old.rope_theta, old.rope_scaling), (500000.0, expected));
        let mut inside = llama3.clone();
        inside["rope_theta"] = json!(7.0);
        let (new, _) = read(json!({"rope_theta": 500000.0, "rope_parameters": inside})).unwrap();
        assert_eq!((new.rope_theta, new.rope_scaling), (7.0, expected));
        let (linear, _) = read(json!({"rope_scaling": {"type": "linear", "factor": 2.0}})).unwrap();
        assert_eq!(linear.rope_scaling, RopeScaling::Linear { factor: 2.0 });
        let (none, _) = read(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5}})).unwrap();
        assert_eq!((none.rope_theta, none.rope_scaling), (5.0, RopeScaling::None));

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

    #[test]
    fn a_sliding_window_caps_the_context() {
        #[track_caller]
        fn check(mut changes: Value, class: &str, context: usize) {
            changes["architectures"] = json!([format!("{class}ForCausalLM")]);
            changes["num_key_value_heads"] = json!(2);
            changes["max_position_embeddings"] = json!(9000);
            assert_eq!(read(changes).unwrap().0.max_position_embeddings, context);
        }
        check(json!({"sliding_window": null}), "Mistral", 9000);
        check(json!({"sliding_window": 9000}), "Mistral", 9000);
        check(json!({"sliding_window": 100}), "Mistral", 100);
        check(json!({}), "Mistral", 4096);
        check(json!({"sliding_window": 100}), "Qwen2", 9000);
        check(json!({"sliding_window": 100, "use_sliding_window": true}), "Qwen2", 9000);
        check(
            json!({"sliding_window": 100, "use_sliding_window": true, "max_window_layers": 1}),
            "Qwen3",
            100,
        );
        check(
            json!({"sliding_window": 100, "use_sliding_window": true, "layer_types": ["sliding_attention"]}),
            "Qwen2",
            100,
        );
        check(json!({"sliding_window": 100}), "Llama", 9000);
    }

    #[test]
    fn refuses_what_the_decoder_would_compute_wrongly() {
        refuses(
            json!({"architectures": ["GPT2LMHeadModel"]}),
            "supported are Llama, Mistral, Qwen2 and Qwen3",
        );
        refuses(json!({"architectures": null}), "no architecture");
        refuses(json!({"architectures": ["LlamaModel"]}), "LlamaModel");
        refuses(json!({"quantization_config": {"bits": 4}}), "quantization_config: quantized weights");
        refuses(json!({"attention_bias": true}), "attention_bias: true");
        refuses(json!({"mlp_bias": true}), "mlp_bias: true");
        refuses(json!({"hidden_act": "gelu"}), "hidden_act: \"gelu\"");
        refuses(json!({"hidden_size": 33}), "does not divide");
        refuses(json!({"hidden_size": -1}), "hidden_size: -1 is no whole number");
        refuses(json!({"hidden_size": 1.5}), "hidden_size: 1.5 is no whole number");
        refuses(json!({"vocab_size": null}), "vocab_size: absent");
        refuses(json!({"vocab_size": u64::MAX}), "vocab_size is");
        refuses(json!({"num_attention_heads": 0}), "does not divide");
        refuses(json!({"rms_norm_eps": "x"}), "rms_norm_eps");
        refuses(json!({"rms_norm_eps": 1e300}), "rms_norm_eps");
        refuses(json!({"tie_word_embeddings": 1}), "tie_word_embeddings: 1 is no true or false");
        assert!(parse(Path::new("config.json"), &"[".repeat(100_000)).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        for (architecture, _, _) in FAMILIES {
            let config = ModelConfig {
                architecture,
                rms_norm_eps: 1e-5,
                rope_scaling: RopeScaling::Llama3 {
                    factor: 32.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_context: 8192.0,
                },
                qkv_bias: architecture == Architecture::Qwen2,
                qk_norm: architecture == Architecture::Qwen3,
                ..read(json!({"num_key_value_heads": 2})).unwrap().0
            };
            let text = render(&config, SaveType::F32, &TokenIds::default(), None);
            assert!(
                text.contains("\"rms_norm_eps\": 0.00001,") || text.contains("\"rms_norm_eps\": 1e-5,"),
                "{text}"
            );
            assert_eq!(parse(Path::new("config.json"), &text).unwrap(), (config, Head::Language));
        }
    }
}
