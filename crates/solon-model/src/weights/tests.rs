//! Whole folders: saved, opened, and refused.

use std::collections::BTreeMap;
use std::path::Path;

use super::test_models::{random_tensors, tiny};
use super::*;
use crate::config::Architecture;

const ALL: [Architecture; 4] =
    [Architecture::Llama, Architecture::Mistral, Architecture::Qwen2, Architecture::Qwen3];

fn save(folder: &Path, config: &ModelConfig, tensors: &BTreeMap<String, Tensor>) -> Result<(), WeightsError> {
    save_hugging_face(folder, config, tensors, SaveType::F32, None, &[], &TokenIds::default())
}

/// Saves a tiny Llama, lets `spoil` at the folder, and expects an error that says `part`.
#[track_caller]
fn refuses(spoil: impl FnOnce(&Path), part: &str) {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny(Architecture::Llama);
    save(folder.path(), &config, &random_tensors(&config)).unwrap();
    spoil(folder.path());
    let message = Checkpoint::open(folder.path()).expect_err("must be refused").to_string();
    assert!(message.contains(part), "{message:?} does not say {part:?}");
}

/// Sets a field of `config.json`.
fn set(folder: &Path, field: &str, value: serde_json::Value) {
    let mut config = config_of(folder);
    config[field] = value;
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

fn config_of(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
}

/// Writes tensors as one safetensors file.
fn write_shard(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut file = std::fs::File::create(path).unwrap();
    safetensors_file::write(&mut file, &tensors, SaveType::F32).unwrap();
}

#[test]
fn what_is_saved_opens_again() {
    for architecture in ALL {
        for tied in [false, true] {
            let config = ModelConfig { tie_word_embeddings: tied, ..tiny(architecture) };
            let mut tensors = random_tensors(&config);
            let folder = tempfile::tempdir().unwrap();
            save(folder.path(), &config, &tensors).unwrap();
            let opened = Checkpoint::open(folder.path()).unwrap();
            assert_eq!((&opened.config, &opened.tensors), (&config, &tensors));
            assert!(matches!(opened.text, TextSource::Folder(text) if text == folder.path()));
            if tied {
                // A copy of the embedding is dropped on the way out.
                tensors.insert("lm_head.weight".into(), tensors["model.embed_tokens.weight"].clone());
                let again = tempfile::tempdir().unwrap();
                save(again.path(), &config, &tensors).unwrap();
                let bytes = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
                assert!(bytes(again.path()) == bytes(folder.path()));
            }
        }
    }
}

#[test]
fn a_score_head_replaces_the_language_head() {
    for tied in [false, true] {
        let config = ModelConfig { tie_word_embeddings: tied, ..tiny(Architecture::Qwen2) };
        let mut tensors = random_tensors(&config);
        let score = Tensor { shape: vec![1, 12], data: vec![0.5; 12] };
        let folder = tempfile::tempdir().unwrap();
        let ids = TokenIds { pad: Some(0), ..TokenIds::default() };
        save_hugging_face(folder.path(), &config, &tensors, SaveType::F32, Some(&score), &[], &ids).unwrap();
        assert_eq!(config_of(folder.path())["pad_token_id"], 0);
        let opened = Checkpoint::open(folder.path()).unwrap();
        tensors.remove("lm_head.weight");
        assert_eq!((opened.tensors, opened.score, opened.padding), (tensors, Some(score), Some(0)));
        assert!(opened.config.tie_word_embeddings);
        set(folder.path(), "hidden_size", 24.into());
        set(folder.path(), "head_dim", 8.into());
        assert!(Checkpoint::open(folder.path()).unwrap_err().to_string().contains("tensor score.weight"));
    }
}

#[test]
fn saving_is_deterministic_and_keeps_strangers() {
    let config = tiny(Architecture::Llama);
    let tensors = random_tensors(&config);
    let ids = TokenIds { bos: Some(1), eos: vec![2, 0], pad: None };
    let text = [("tokenizer.json".to_string(), b"{}".to_vec())];
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("model");
    let save = || save_hugging_face(&folder, &config, &tensors, SaveType::Bf16, None, &text, &ids).unwrap();
    let content = || -> BTreeMap<_, _> {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect()
    };
    save();
    let mut first = content();
    assert_eq!(first.len(), 4);
    std::fs::write(folder.join("notes.txt"), "mine").unwrap();
    save();
    first.insert("notes.txt".into(), b"mine".to_vec());
    assert!(content() == first);
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left behind");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = parent.path().join("plain");
        std::fs::create_dir(&plain).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&folder), mode(&plain), "as mkdir makes it, not private as temporary folders are");
    }
}

#[test]
fn saving_refuses_what_could_not_be_opened_and_leaves_nothing() {
    let config = tiny(Architecture::Llama);
    let good = random_tensors(&config);
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("model");
    let refuses = |config: &ModelConfig, tensors: &BTreeMap<String, Tensor>, file: &str, part: &str| {
        let text = [(file.to_string(), Vec::new())];
        let saved =
            save_hugging_face(&folder, config, tensors, SaveType::F32, None, &text, &TokenIds::default());
        let message = saved.expect_err("must be refused").to_string();
        assert!(message.contains(part), "{message:?} does not say {part:?}");
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0, "nothing is left behind");
    };
    let with = |change: fn(&mut Tensor)| {
        let mut tensors = good.clone();
        change(tensors.get_mut("model.norm.weight").unwrap());
        tensors
    };
    refuses(
        &config,
        &with(|norm| norm.data[3] = f32::NAN),
        "a",
        "tensor model.norm.weight: element 3 is NaN",
    );
    refuses(&config, &with(|norm| norm.shape = vec![13]), "a", "tensor model.norm.weight: its shape is [13]");
    refuses(&config, &with(|norm| norm.data.truncate(2)), "a", "2 values for shape [12]");
    refuses(&config, &BTreeMap::new(), "a", "cannot make 2 layers");
    refuses(&ModelConfig { qkv_bias: true, ..config.clone() }, &good, "a", "qkv_bias true");
    for file in ["../tokenizer.json", "", "..", "config.json", "a/b"] {
        refuses(&config, &good, file, "cannot be a tokenizer's file");
    }
}

#[test]
fn shards_are_joined() {
    refuses(
        |folder| std::fs::remove_file(folder.join("model.safetensors")).unwrap(),
        "model.safetensors: absent",
    );
    let config = tiny(Architecture::Llama);
    let tensors = random_tensors(&config);
    let (mut first, mut second) = (tensors.clone(), tensors.clone());
    first.retain(|name, _| name.contains("layers"));
    second.retain(|name, _| !name.contains("layers"));
    // Shards `a` and `b`, and the index that `change` makes of the true one.
    let shard = |folder: &Path, change: &dyn Fn(&mut serde_json::Value)| {
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
        write_shard(&folder.join("a.safetensors"), &first);
        write_shard(&folder.join("b.safetensors"), &second);
        let places = tensors.keys().map(|name| {
            let file = if first.contains_key(name) { "a.safetensors" } else { "b.safetensors" };
            (name.clone(), file.into())
        });
        let mut map = serde_json::Value::Object(places.collect());
        change(&mut map);
        let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &config, &tensors).unwrap();
    shard(folder.path(), &|_| {});
    assert_eq!(Checkpoint::open(folder.path()).unwrap().tensors, tensors);

    for escape in ["../a.safetensors", "/etc/passwd", "..", "", "x\\y", "C:x"] {
        refuses(
            |folder| shard(folder, &|map| map["model.norm.weight"] = escape.into()),
            "no plain file name",
        );
    }
    refuses(
        |folder| shard(folder, &|map| map["model.norm.weight"] = "c.safetensors".into()),
        "c.safetensors",
    );
    refuses(
        |folder| shard(folder, &|map| map["model.norm.weight"] = "a.safetensors".into()),
        "tensor model.norm.weight: the index places it here",
    );
    refuses(|folder| shard(folder, &|map| *map = 3.into()), "JSON");
    refuses(
        |folder| {
            shard(folder, &|_| {});
            write_shard(&folder.join("b.safetensors"), &tensors);
        },
        "also in",
    );
}

#[test]
fn missing_extra_and_mis_shaped_tensors_are_named() {
    let good = random_tensors(&tiny(Architecture::Llama));
    let with = |folder: &Path, name: &str, shape: &[usize]| {
        let mut tensors = good.clone();
        tensors
            .insert(name.into(), Tensor { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] });
        write_shard(&folder.join("model.safetensors"), &tensors);
    };
    refuses(|folder| with(folder, "model.norm.weight", &[5]), "tensor model.norm.weight: its shape is [5]");
    refuses(|folder| with(folder, "model.layers.2.mlp.up_proj.weight", &[1]), "no part of this architecture");
    refuses(
        |folder| {
            let mut fewer = good.clone();
            fewer.remove("model.layers.1.self_attn.k_proj.weight");
            write_shard(&folder.join("model.safetensors"), &fewer);
        },
        "tensor model.layers.1.self_attn.k_proj.weight: missing",
    );
    refuses(|folder| set(folder, "num_hidden_layers", (1 << 24).into()), "cannot make 16777216 layers");
    refuses(|folder| set(folder, "tie_word_embeddings", true.into()), "tensor lm_head.weight: it differs");

    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &tiny(Architecture::Llama), &good).unwrap();
    with(folder.path(), "model.layers.0.self_attn.rotary_emb.inv_freq", &[4]);
    assert_eq!(Checkpoint::open(folder.path()).unwrap().tensors, good, "old buffers are ignored");
}

#[test]
fn wrong_paths_get_a_hint() {
    #[track_caller]
    fn check(make: impl FnOnce(&Path) -> std::path::PathBuf, part: &str) {
        let folder = tempfile::tempdir().unwrap();
        let message = Checkpoint::open(&make(folder.path())).expect_err("must be refused").to_string();
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    let file = |name: &'static str, content: &'static str| {
        move |folder: &Path| {
            std::fs::write(folder.join(name), content).unwrap();
            folder.join(name)
        }
    };
    check(|folder| folder.join("absent"), "cannot open");
    check(|folder| folder.to_path_buf(), "a model is a folder");
    check(file("a.safetensors", "x"), "give the folder");
    check(file("a.gguf", "GG"), "neither a folder nor a GGUF file");
    check(file("a.gguf", "GGUF"), "version");
    check(|folder| file("m.GGUF", "")(folder).parent().unwrap().to_path_buf(), "m.GGUF");
    check(|folder| file("adapter_config.json", "")(folder).parent().unwrap().to_path_buf(), "PEFT adapter");
    refuses(
        |folder| {
            std::fs::remove_file(folder.join("model.safetensors")).unwrap();
            std::fs::write(folder.join("pytorch_model.bin"), "").unwrap();
        },
        "save_pretrained",
    );
}

#[test]
fn opens_what_transformers_saved() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    for (name, architecture) in [
        ("llama-tied", Architecture::Llama),
        ("llama-score", Architecture::Llama),
        ("llama3-untied", Architecture::Llama),
        ("qwen2", Architecture::Qwen2),
        ("qwen3", Architecture::Qwen3),
    ] {
        let opened = Checkpoint::open(&goldens.join(name)).unwrap();
        assert_eq!(opened.config.architecture, architecture);
        assert_eq!(opened.score.is_some(), name == "llama-score");
        // The order and bytes of the tensors are transformers' own.
        let copy = tempfile::tempdir().unwrap();
        let (score, ids) = (opened.score.as_ref(), TokenIds::default());
        save_hugging_face(copy.path(), &opened.config, &opened.tensors, SaveType::F32, score, &[], &ids)
            .unwrap();
        let bytes = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
        assert!(bytes(copy.path()) == bytes(&goldens.join(name)), "{name}");
        assert_eq!(Checkpoint::open(copy.path()).unwrap().config, opened.config);
    }
}

/// Sets each byte of `file` in turn to values that turn small numbers into large ones and text into noise.
fn each_changed_byte(file: &Path, limit: usize, mut open: impl FnMut()) {
    let good = std::fs::read(file).unwrap();
    for place in 0..good.len().min(limit) {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[place] ^= change;
            std::fs::write(file, bytes).unwrap();
            open();
        }
    }
    std::fs::write(file, good).unwrap();
}

#[test]
fn no_changed_byte_makes_it_panic() {
    let config = ModelConfig { num_layers: 1, ..tiny(Architecture::Qwen2) };
    let tensors = random_tensors(&config);
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), &config, &tensors).unwrap();
    // The header of 15 tensors is about 1,500 bytes; the data behind it has nothing to parse.
    for name in ["config.json", "model.safetensors"] {
        each_changed_byte(&folder.path().join(name), 1600, || drop(Checkpoint::open(folder.path())));
    }
    let gguf = folder.path().join("model.gguf");
    std::fs::write(&gguf, test_models::gguf(&config, &tensors).build()).unwrap();
    each_changed_byte(&gguf, 1600, || drop(Checkpoint::open(&gguf)));
}
