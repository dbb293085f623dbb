//! RoPE's frequencies and attention factors against transformers, from the same `config.json`
//! (`goldens/make_rope_goldens.py`).

use serde_json::{Map, Value, json};
use solon_model::rope;
use solon_model::weights::Description;

#[test]
fn frequencies_are_those_of_transformers() {
    let cases: Vec<Map<String, Value>> = serde_json::from_str(include_str!("goldens/rope.json")).unwrap();
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut fields = json!({"architectures": ["LlamaForCausalLM"], "vocab_size": 8, "hidden_size": 8,
            "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 4});
        let given = case["config"].as_object().unwrap().clone();
        fields.as_object_mut().unwrap().extend(given);
        std::fs::write(folder.path().join("config.json"), fields.to_string()).unwrap();

        let config =
            Description::read(folder.path()).unwrap_or_else(|error| panic!("{name}: {error}")).config;
        let numbers = |value: &Value| value.as_f64().unwrap() as f32;
        let expected: Vec<f32> = case["inv_freq"].as_array().unwrap().iter().map(numbers).collect();
        let found = rope::frequencies(&config);
        assert_eq!(found.len(), expected.len(), "{name}");
        for (pair, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (found - expected).abs() <= 4e-7 * expected,
                "{name}, {pair}: {found} and not {expected}"
            );
        }
        let (found, expected) = (rope::attention_factor(&config), numbers(&case["attention_factor"]));
        assert!((found - expected).abs() <= 1e-6 * expected, "{name}: {found} and not {expected}");
        assert_eq!(config.max_position_embeddings as u64, case["context"].as_u64().unwrap(), "{name}");
    }
    assert!(cases.len() > 20);
}
