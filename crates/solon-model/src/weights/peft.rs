//! LoRA adapters in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Contract: what is saved here `peft` loads unchanged, and an adapter of `peft` is either understood completely or
//! refused by the name of the setting (DoRA, biases, initialisations that rewrite the base model, and any setting not
//! known here that is not at rest).
//!
//! Names: PEFT's `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` is
//! `model.layers.0.self_attn.q_proj.lora_A` here; `base_model.model.score.weight` is [`AdapterFile::score`].
//! Source: peft 0.21, `tuners/lora/config.py`, `utils/save_and_load.py`.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::DAMAGED;
use super::peft_config::{self, MAX_RANK};
use super::safetensors_file::SafetensorsFile;
use super::save::check_data;
use super::staging::{StagedFolder, bytes};
use super::{AdapterConfig, AdapterTask, SaveType, Tensor, WeightsError, read_small_file, safetensors_file};
use crate::adapter::LoraShape;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
const PREFIX: &str = "base_model.model.";
const SCORE: &str = "base_model.model.score.weight";

/// The modules of a block that can carry an adapter.
const MODULES: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// An adapter as it lies on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterFile {
    /// Rank, strength and targets.
    pub config: AdapterConfig,
    /// `model.layers.{i}.{module}.lora_A`: `[rank, in]`, and `….lora_B`: `[out, rank]`, of the module's rank; always in pairs.
    pub tensors: BTreeMap<String, Tensor>,
    /// The score head, `[labels, hidden_size]`.
    pub score: Option<Tensor>,
}

impl AdapterFile {
    /// Opens the folder of an adapter. Whether its shapes fit a base model is for whoever has one to check.
    pub fn open(dir: &Path) -> Result<Self, WeightsError> {
        let path = dir.join(CONFIG);
        let (mut config, patterns) = peft_config::parse(&path, &read_small_file(&path, 16 << 20)?)?;
        let weights = dir.join(WEIGHTS);
        if !weights.exists() && dir.join("adapters.safetensors").exists() {
            let hint = "merge it with `mlx_lm.fuse` and open the merged model";
            return Err(WeightsError::unsupported(dir, "format", "adapters.safetensors of mlx-lm", hint));
        }
        if !weights.exists() && dir.join("adapter_model.bin").exists() {
            let hint = "pickled adapters are not read; load it with peft and save it again";
            return Err(WeightsError::unsupported(dir, WEIGHTS, "adapter_model.bin alone", hint));
        }
        let mut file = SafetensorsFile::open(&weights)?;
        let (mut tensors, mut score) = (BTreeMap::new(), None);
        let names: Vec<String> = file.tensors.keys().cloned().collect();
        for name in names {
            if name == SCORE && config.task == AdapterTask::SequenceClassification {
                score = Some(file.read(&name)?);
                continue;
            }
            let Some(short) = short_name(&name) else {
                return Err(WeightsError::unsupported(
                    &weights,
                    format!("tensor {name}"),
                    "neither lora_A nor lora_B of a projection",
                    format!("adapters of these modules are supported: {}", MODULES.join(", ")),
                ));
            };
            tensors.insert(short, file.read(&name)?);
        }
        patterns.resolve(&weights, &mut config, modules(&tensors))?;
        let adapter = Self { config, tensors, score };
        adapter.check(&weights)?;
        Ok(adapter)
    }

    /// Saves the adapter as the folder `dir`, in f32. The same adapter gives the same bytes.
    pub fn save(&self, dir: &Path) -> Result<(), WeightsError> {
        self.check(dir)?;
        let long: Vec<String> = self.tensors.keys().map(|name| format!("{PREFIX}{name}.weight")).collect();
        let mut tensors: BTreeMap<&str, &Tensor> =
            long.iter().map(String::as_str).zip(self.tensors.values()).collect();
        tensors.extend(self.score.iter().map(|score| (SCORE, score)));
        for (name, tensor) in &tensors {
            check_data(dir, name, tensor)?;
        }
        let mut folder = StagedFolder::new(dir)?;
        folder.write(CONFIG, bytes(self.config.render().as_bytes()))?;
        folder.write(WEIGHTS, |writer| safetensors_file::write(writer, &tensors, SaveType::F32))?;
        folder.commit()
    }

    /// Refuses pairs that are incomplete or of another rank, and modules that PEFT would not adapt.
    fn check(&self, path: &Path) -> Result<(), WeightsError> {
        let refuse =
            |name: &str, found: String, hint: &str| Err(WeightsError::tensor(path, name, found, hint));
        let own = self.config.own_shape();
        for LoraShape { rank, alpha } in self.config.exceptions.values().copied().chain([own]) {
            if rank == 0 || rank as u64 > MAX_RANK || !alpha.is_finite() {
                let found = format!("rank {rank} and alpha {alpha}");
                return Err(WeightsError::invalid(path, "r", found, "the rank is between 1 and 65536"));
            }
        }
        if self.tensors.is_empty() {
            return Err(WeightsError::invalid(
                path,
                "tensors",
                "none",
                "the adapter is incomplete; train it again",
            ));
        }
        for (name, tensor) in &self.tensors {
            let (module, partner, rank_axis) = match name.rsplit_once(".lora_") {
                Some((module, "A")) => (module, "B", 0),
                Some((module, "B")) => (module, "A", 1),
                _ => ("", "", 0),
            };
            if !is_module(module) {
                return refuse(
                    name,
                    "no pair of a projection".to_string(),
                    "adapt the projections of blocks only",
                );
            }
            if !self.tensors.contains_key(&format!("{module}.lora_{partner}")) {
                return refuse(name, format!("its lora_{partner} is missing"), DAMAGED);
            }
            let rank = self.config.shape(module).rank;
            if tensor.shape.len() != 2 || tensor.shape[rank_axis] != rank {
                let found = format!("its shape {:?} does not have rank {rank}", tensor.shape);
                return refuse(name, found, "lora_A is [rank, in], lora_B [out, rank]");
            }
            if !self.config.targets(module) {
                let found = format!("target_modules ({:?}) does not name it", self.config.target_modules);
                return refuse(name, found, "peft would ignore it; add it to target_modules");
            }
        }
        match (&self.score, self.config.task) {
            (None, AdapterTask::CausalLm) => Ok(()),
            (Some(score), AdapterTask::SequenceClassification)
                if score.shape.len() == 2 && score.shape[0] > 0 =>
            {
                Ok(())
            }
            (score, task) => {
                let found = format!("{:?} for task {task:?}", score.as_ref().map(|score| &score.shape));
                refuse(
                    "score.weight",
                    found,
                    "a SEQ_CLS adapter, and no other, has one, [labels, hidden_size]",
                )
            }
        }
    }
}

/// `base_model.model.X.lora_A.weight` → `X.lora_A`, for the modules we know.
fn short_name(name: &str) -> Option<String> {
    let short = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    let module = short.strip_suffix(".lora_A").or(short.strip_suffix(".lora_B"))?;
    is_module(module).then(|| short.to_string())
}

/// `model.layers.{i}.{one of MODULES}`.
fn is_module(path: &str) -> bool {
    let parts = path.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(layer, module)| {
        MODULES.contains(&module) && layer.parse::<u32>().is_ok_and(|number| number.to_string() == layer)
    })
}

/// The adapted modules' paths.
fn modules(tensors: &BTreeMap<String, Tensor>) -> impl Iterator<Item = &str> {
    tensors.keys().filter_map(|name| name.strip_suffix(".lora_A"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn pair(module: &str, rank: usize) -> [(String, Tensor); 2] {
        let filled = |shape: [usize; 2], value| Tensor {
            shape: shape.to_vec(),
            data: vec![value; shape[0] * shape[1]],
        };
        [
            (format!("model.layers.{module}.lora_A"), filled([rank, 3], 0.5)),
            (format!("model.layers.{module}.lora_B"), filled([5, rank], -0.25)),
        ]
    }

    fn adapter() -> AdapterFile {
        AdapterFile {
            config: AdapterConfig {
                rank: 2,
                alpha: 16.0,
                exceptions: BTreeMap::new(),
                target_modules: ["q_proj", "up_proj"].map(str::to_string).into(),
                base_model: Some("smollm2".to_string()),
                task: AdapterTask::CausalLm,
                use_rslora: false,
            },
            tensors: [pair("0.self_attn.q_proj", 2), pair("10.mlp.up_proj", 2)]
                .into_iter()
                .flatten()
                .collect(),
            score: None,
        }
    }

    fn scoring() -> AdapterFile {
        let mut adapter = adapter();
        adapter.config.task = AdapterTask::SequenceClassification;
        adapter.score = Some(Tensor { shape: vec![1, 3], data: vec![1.0, 2.0, 3.0] });
        adapter
    }

    /// Saves the adapter, sets `field`, and opens it again.
    fn reopened(adapter: &AdapterFile, field: &str, value: Value) -> Result<AdapterFile, WeightsError> {
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path()).unwrap();
        let path = folder.path().join(CONFIG);
        let mut fields: Map<String, Value> =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        fields.insert(field.to_string(), value);
        std::fs::write(&path, Value::Object(fields).to_string()).unwrap();
        AdapterFile::open(folder.path())
    }

    #[test]
    fn what_is_saved_opens_again() {
        for mut adapter in [adapter(), scoring()] {
            let folder = tempfile::tempdir().unwrap();
            adapter.config.alpha = 0.1;
            let at = folder.path().join("a").join("b");
            adapter.save(&at).unwrap();
            assert_eq!(AdapterFile::open(&at).unwrap(), adapter);
            let first = std::fs::read(at.join(WEIGHTS)).unwrap();
            adapter.save(&at).unwrap();
            assert_eq!(std::fs::read(at.join(WEIGHTS)).unwrap(), first);
            assert_eq!(
                std::fs::read_dir(folder.path().join("a")).unwrap().count(),
                1,
                "nothing is left behind"
            );
        }
        let scale = |config: AdapterConfig| config.scale(config.own_shape());
        assert_eq!(scale(adapter().config), 8.0);
        assert_eq!(scale(AdapterConfig { rank: 4, use_rslora: true, ..adapter().config }), 8.0);
    }

    #[test]
    fn opens_what_peft_saved() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/lora");
        let adapter = AdapterFile::open(&folder).unwrap();
        assert_eq!((adapter.config.rank, adapter.config.alpha, adapter.tensors.len()), (4, 8.0, 28));
        assert_eq!(adapter.tensors["model.layers.1.mlp.down_proj.lora_A"].shape, [4, 48]);
        let copy = tempfile::tempdir().unwrap();
        adapter.save(copy.path()).unwrap();
        let bytes = |folder: &Path| std::fs::read(folder.join(WEIGHTS)).unwrap();
        assert!(bytes(copy.path()) == bytes(&folder), "peft's own bytes");
    }

    #[test]
    fn a_pattern_becomes_the_modules_it_matched() {
        let opened = reopened(&adapter(), "target_modules", json!("all-linear")).unwrap();
        let expected = ["model.layers.0.self_attn.q_proj", "model.layers.10.mlp.up_proj"].map(str::to_string);
        assert_eq!(opened.config.target_modules, expected.into());
    }

    #[test]
    fn settings_that_change_the_computation_are_refused() {
        for (field, value) in [
            ("use_dora", json!(true)),
            ("bias", json!("lora_only")),
            ("rank_pattern", json!({"q_proj": 0})),
            ("rank_pattern", json!({"(?=q)q_proj": 2})),
            ("rank_pattern", json!([2])),
            ("alpha_pattern", json!({"q_proj": "x"})),
            ("exclude_modules", json!(["up_proj"])),
            ("exclude_modules", json!([1])),
            ("fan_in_fan_out", json!(true)),
            ("layers_pattern", json!("h")),
            ("layers_to_transform", json!([0])),
            ("layers_to_transform", json!("0")),
            ("layer_replication", json!([[0, 1]])),
            ("lora_bias", json!(true)),
            ("modules_to_save", json!(["lm_head"])),
            ("modules_to_save", json!(["score"])),
            ("init_lora_weights", json!("pissa")),
            ("peft_type", json!("IA3")),
            ("task_type", json!("SEQ_2_SEQ_LM")),
            ("trainable_token_indices", json!([1])),
            ("some_new_trick", json!(0.5)),
            ("r", json!(0)),
            ("r", json!(-1)),
            ("r", json!(1u64 << 60)),
            ("lora_alpha", json!("x")),
            ("target_modules", json!(null)),
            ("target_modules", json!([1])),
        ] {
            let message = reopened(&adapter(), field, value.clone()).expect_err(field).to_string();
            assert!(message.contains(field), "{message:?} does not name {field} ({value})");
        }
        // The rank of its tensors is another one.
        let message = reopened(&adapter(), "rank_pattern", json!({"q_proj": 4})).unwrap_err().to_string();
        assert!(message.contains("does not have rank 4"), "{message}");
        for (field, value) in
            [("lora_dropout", json!(0.1)), ("eva_config", json!({"rho": 2})), ("x", json!([]))]
        {
            reopened(&adapter(), field, value).unwrap();
        }
        reopened(&scoring(), "modules_to_save", json!(["classifier", "score"])).unwrap();
    }

    #[test]
    fn tensors_that_peft_would_drop_or_miss_are_refused() {
        #[track_caller]
        fn refuses(change: impl FnOnce(&mut AdapterFile), part: &str) {
            let mut adapter = adapter();
            change(&mut adapter);
            let folder = tempfile::tempdir().unwrap();
            let message = adapter.save(&folder.path().join("new")).expect_err("must be refused").to_string();
            assert!(message.contains(part), "{message:?} does not say {part:?}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
        }
        refuses(|adapter| adapter.tensors.clear(), "none");
        refuses(
            |adapter| drop(adapter.tensors.remove("model.layers.0.self_attn.q_proj.lora_A")),
            "lora_A is missing",
        );
        refuses(|adapter| adapter.tensors.extend(pair("1.self_attn.q_proj", 3)), "does not have rank 2");
        refuses(|adapter| adapter.tensors.extend(pair("1.self_attn.k_proj", 2)), "does not name it");
        refuses(|adapter| adapter.tensors.extend(pair("01.self_attn.q_proj", 2)), "no pair of a projection");
        refuses(|adapter| adapter.tensors.extend(pair("1.mlp.q_proj", 2)), "no pair of a projection");
        refuses(|adapter| adapter.score = scoring().score, "score.weight");
        refuses(|adapter| adapter.config.task = AdapterTask::SequenceClassification, "score.weight");
        refuses(
            |adapter| {
                let tensor = adapter.tensors.get_mut("model.layers.0.self_attn.q_proj.lora_A").unwrap();
                tensor.data[1] = f32::NAN;
            },
            "element 1 is NaN",
        );
    }
}
