//! `config.json` of a Hugging Face folder, in both directions.
//!
//! Contract: absent fields take transformers' defaults (`configuration_{llama,mistral,qwen2,qwen3}.py`, version 5); a
//! setting that would change the computation in a way the decoder does not know is refused by name.
//!
//! Sliding windows: attention over the last `window` tokens equals full attention as long as the context is no longer
//! than the window, so a model with a window is accepted with `max_position_embeddings` capped to it. Results stay
//! right; contexts beyond the window are refused by whoever checks `max_position_embeddings`. For the same reason that is
//! capped to LongRoPE's original context.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::DAMAGED;
use super::hugging_face_rope::rope_scaling;
use super::json_fields::{Fields, number};
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
    /// `*ForSequenceClassification`; its score is that of the last token that is not `padding`.
    Score {
        /// `pad_token_id`.
        padding: Option<u32>,
    },
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
    let (rope_theta, mut rope_scaling) = fields.rope(context)?;
    let mut longest = context.min(window);
    if let RopeScaling::LongRope(longrope) = &mut rope_scaling {
        longrope.long_context = longest;
        longest = longest.min(longrope.original_context);
    }
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
        max_position_embeddings: longest,
        // A scoring model has no language head of its own.
        tie_word_embeddings: head != Head::Language
            || fields.boolean("tie_word_embeddings")?.unwrap_or(false),
        qkv_bias: architecture == Architecture::Qwen2,
        qk_norm: architecture == Architecture::Qwen3,
    };
    config.validate().map_err(|found| {
        WeightsError::invalid(path, "configuration", found, "compare config.json with the published one")
    })?;
    Ok((config, head))
}

/// What `config.json` says beside plain fields.
impl Fields<'_> {
    fn architecture(&self) -> Result<(Architecture, Head), WeightsError> {
        let named = self.get("architectures").and_then(|names| names.get(0));
        let found =
            named.or(self.get("model_type")).and_then(Value::as_str).unwrap_or("no architecture").to_string();
        for (architecture, class, model_type) in FAMILIES {
            if named.is_none() && found == model_type || found == format!("{class}ForCausalLM") {
                return Ok((architecture, Head::Language));
            }
            if found == format!("{class}ForSequenceClassification") {
                return Ok((architecture, Head::Score { padding: self.padding() }));
            }
        }
        Err(WeightsError::unsupported(
            self.path,
            "architectures",
            found.chars().take(100).collect::<String>(),
            "supported are Llama, Mistral, Qwen2 and Qwen3, each ForCausalLM or ForSequenceClassification",
        ))
    }

    /// `pad_token_id`, if it is an id: some folders have -1 for none.
    fn padding(&self) -> Option<u32> {
        self.get("pad_token_id")?.as_u64().and_then(|id| u32::try_from(id).ok())
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
        "max_position_embeddings": config.published_context(),
        "model_type": model_type,
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": config.num_kv_heads,
        "pad_token_id": ids.pad,
        "rms_norm_eps": number(config.rms_norm_eps),
        "rope_scaling": rope_scaling(&config.rope_scaling),
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
        assert_eq!((&llama.rope_scaling, head), (&RopeScaling::None, Head::Language));
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
        assert_eq!((head, score.tie_word_embeddings), (Head::Score { padding: None }, true));
        for (written, padding) in [(json!(7), Some(7)), (json!(-1), None), (json!(null), None)] {
            let (_, head) =
                read(json!({"architectures": ["LlamaForSequenceClassification"], "pad_token_id": written}))
                    .unwrap();
            assert_eq!(head, Head::Score { padding });
        }
        let (by_type, _) = read(json!({"architectures": null, "model_type": "llama"})).unwrap();
        assert_eq!(by_type, llama);
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
    fn scalings_that_cannot_be_run_are_refused() {
        let refuses = |scaling: Value, part: &str| refuses(json!({"rope_scaling": scaling}), part);
        refuses(json!({"type": "linear", "factor": 0.5}), "below 1");
        refuses(
            json!({"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}),
            "not above",
        );
        let yarn = |field: &str, value: Value| {
            let mut scaling = json!({"type": "yarn", "factor": 4.0});
            scaling[field] = value;
            scaling
        };
        refuses(yarn("factor", json!(0.5)), "below 1");
        refuses(yarn("beta_slow", json!(-1)), "beta_slow is -1");
        refuses(yarn("beta_fast", json!(0.5)), "beta_fast (0.5) is below beta_slow (1)");
        refuses(yarn("attention_factor", json!(0)), "attention factor of YaRN is 0");
        refuses(yarn("original_max_position_embeddings", json!(1u64 << 40)), "mixes no frequency");
        refuses(
            json!({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0, 2.0, 3.0, 4.0]}),
            "short_factor has 1 numbers",
        );
        refuses(
            json!({"type": "longrope", "short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [1.0, 2.0, 3.0, -4.0]}),
            "long_factor is -4",
        );
    }

    #[test]
    fn longrope_caps_the_context_and_is_saved_with_all_of_it() {
        let list = [1.0, 1.5, 2.0, 2.5];
        let scaling = json!({"type": "longrope", "short_factor": list, "long_factor": list});
        let fields = json!({"rope_scaling": scaling, "max_position_embeddings": 4096,
            "original_max_position_embeddings": 1024});
        let (config, _) = read(fields).unwrap();
        assert_eq!((config.max_position_embeddings, config.published_context()), (1024, 4096));
        let text = render(&config, SaveType::F32, &TokenIds::default(), None);
        assert!(text.contains("\"max_position_embeddings\": 4096"), "{text}");
        assert_eq!(parse(Path::new("config.json"), &text).unwrap().0, config);
    }

    /// Every scaling, as a `rope_scaling` of heads of eight.
    const SCALINGS: [&str; 8] = [
        r#"{"rope_type": "default"}"#,
        r#"{"rope_type": "linear", "factor": 2.5}"#,
        r#"{"rope_type": "dynamic", "factor": 2.5}"#,
        r#"{"rope_type": "llama3", "factor": 32, "low_freq_factor": 1, "high_freq_factor": 4,
            "original_max_position_embeddings": 512}"#,
        r#"{"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 512}"#,
        r#"{"rope_type": "yarn", "factor": 4, "beta_fast": 16, "beta_slow": 2.5, "attention_factor": 0.7,
            "truncate": false}"#,
        r#"{"rope_type": "yarn", "factor": 4, "mscale": 0.7, "mscale_all_dim": 1.1}"#,
        r#"{"rope_type": "longrope", "short_factor": [1, 1.1, 1.2, 1.3], "long_factor": [1, 2, 3, 4],
            "original_max_position_embeddings": 512}"#,
    ];

    #[test]
    fn what_is_written_reads_back() {
        for (architecture, _, _) in FAMILIES {
            for scaling in SCALINGS {
                let scaling: Value = serde_json::from_str(scaling).unwrap();
                let config = ModelConfig {
                    architecture,
                    rms_norm_eps: 1e-5,
                    qkv_bias: architecture == Architecture::Qwen2,
                    qk_norm: architecture == Architecture::Qwen3,
                    ..read(json!({"num_key_value_heads": 2, "rope_scaling": scaling})).unwrap().0
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
}
