//! A temporary folder with a tiny model, and `solon` run in it.

// Each test binary uses its own part of this.
#![allow(dead_code)]

pub mod hub;
pub mod server;

use serde_json::{Value, json};
use solon_draws::Draws;
use solon_model::ModelConfig;
use solon_model::config::{Architecture, RopeScaling};
use solon_model::weights::{SaveType, Tensor, TokenIds, expected_tensors, save_hugging_face};
use solon_text::ChatTokenizer;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a run of the binary left.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stderr: {}", self.err);
        self
    }

    /// Fails with this exit code and an error that says all of `parts`.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "stderr: {}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "{:?} lacks {part:?}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    pub fn rows(&self) -> Vec<Value> {
        rows(&self.out)
    }
}

pub fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Pairs `p0`, `p1`, … to be labelled.
pub fn pairs(n: usize) -> Vec<Value> {
    (0..n)
        .map(|i| json!({"id": format!("p{i}"), "prompt": format!("ask {i}"), "chosen": format!("left {i}"), "rejected": format!("right {i}")}))
        .collect()
}

/// A folder to work in.
pub struct Place(pub tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A folder with the tiny model in `model`.
    pub fn with_model() -> Self {
        let place = Self::new();
        save_tiny_model(&place.path("model"));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, rows: &[Value]) {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs `solon` with these words; `typed` is its standard input.
    pub fn run(&self, words: &str, typed: &str) -> Ran {
        self.run_with(&words.split_whitespace().collect::<Vec<_>>(), typed)
    }

    /// Starts `solon` with these words.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// `solon` with these words, and without what this machine's environment says.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_solon"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("SOLON_CACHE", self.path("cache"))
            .env_remove("OPENAI_API_KEY")
            // No test asks the real Hub: a path that is not there may look like a name of it.
            .env("HF_HOME", self.path("hub"))
            .env("HF_HUB_OFFLINE", "1")
            .env_remove("HF_ENDPOINT")
            .env_remove("HF_HUB_CACHE")
            .env_remove("HF_TOKEN")
            .env_remove("HF_TOKEN_PATH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn run_with(&self, arguments: &[&str], typed: &str) -> Ran {
        Self::finish(self.start(arguments), typed)
    }

    /// What a run leaves that gets this on its standard input.
    pub fn finish(mut child: Child, typed: &str) -> Ran {
        // A command that fails early closes its input before all is written.
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Two layers of random weights over the vocabulary of solon-text's golden tokenizer.
pub fn save_tiny_model(folder: &Path) {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../solon-text/tests/goldens/folder");
    let text = ChatTokenizer::from_folder(&text).unwrap();
    let config = ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: text.vocab_size(),
        hidden_size: 32,
        intermediate_size: 48,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 4096,
        tie_word_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
    };
    let draws = Draws::new(3, "tiny model");
    let tensors = expected_tensors(&config)
        .into_iter()
        .map(|(name, shape)| {
            let draws = draws.item(&name);
            let value = |i| if shape.len() == 1 { 1.0 } else { draws.normal(i) as f32 * 0.3 };
            let data = (0..shape.iter().product::<usize>() as u64).map(value).collect();
            (name, Tensor { shape, data })
        })
        .collect();
    let ids = TokenIds { bos: text.bos(), eos: text.stop_ids().to_vec(), pad: text.pad() };
    save_hugging_face(folder, &config, &tensors, SaveType::F32, None, &text.export_files().unwrap(), &ids)
        .unwrap();
}
