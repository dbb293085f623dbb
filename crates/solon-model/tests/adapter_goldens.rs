//! Adapters with PEFT's settings for single modules, merged, against what `merge_and_unload` makes of them
//! (`goldens/make_adapter_goldens.py`).

use solon_model::weights::{AdapterFile, Checkpoint, Tensor};
use solon_model::{Adapter, Reference};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CASES: [&str; 5] = ["ranks", "rslora", "one-layer", "layers", "expression"];

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn merged(file: &AdapterFile, base: &Checkpoint) -> BTreeMap<String, Tensor> {
    let adapter = Adapter::from_file(&Reference, &base.config, file).unwrap();
    let mut tensors = base.tensors.clone();
    adapter.merge_into(&Reference, &mut tensors).unwrap();
    tensors
}

#[test]
fn merged_weights_are_those_of_peft() {
    let base = Checkpoint::open(&goldens().join("llama-tied")).unwrap();
    for case in CASES {
        let folder = goldens().join("adapters").join(case);
        let bytes = std::fs::read(folder.join("merged.safetensors")).unwrap();
        let expected = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let file = AdapterFile::open(&folder).unwrap();
        // As opened, and as saved by this program and opened again.
        let copy = tempfile::tempdir().unwrap();
        Adapter::from_file(&Reference, &base.config, &file)
            .unwrap()
            .to_file(&Reference, None, None)
            .save(copy.path())
            .unwrap();
        for file in [file, AdapterFile::open(copy.path()).unwrap()] {
            for (name, tensor) in merged(&file, &base) {
                let Ok(view) = expected.tensor(&name) else {
                    assert!(tensor == base.tensors[&name], "{case}: {name} changed");
                    continue;
                };
                let values = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                for (i, (found, expected)) in tensor.data.iter().zip(values).enumerate() {
                    assert!(
                        (found - expected).abs() < 1e-6,
                        "{case}: {name}, {i}: {found} and not {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_adapter_of_some_layers_is_saved_as_one() {
    let base = Checkpoint::open(&goldens().join("llama-tied")).unwrap();
    let file = AdapterFile::open(&goldens().join("adapters/one-layer")).unwrap();
    let adapter = Adapter::from_file(&Reference, &base.config, &file).unwrap();
    let saved = adapter.to_file(&Reference, None, None);
    let modules: Vec<&String> = saved.config.target_modules.iter().collect();
    assert_eq!(modules, ["model.layers.1.mlp.up_proj", "model.layers.1.self_attn.q_proj"]);
    assert_eq!(saved.tensors, file.tensors);
}
