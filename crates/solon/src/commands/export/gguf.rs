//! `solon export --gguf`: a model as one file that llama.cpp and Ollama load, with tokenizer and chat template.
//!
//! It is a form of `export` and no command of its own, because `export` is what takes a run's results to other programs.
//! The model of a run is the one that it delivered (`model/`); any other is named by `--model`, with `--adapter` merged in,
//! because Ollama takes no adapters. `--adapter-only` writes the adapter alone, which llama.cpp takes.
//!
//! Contract: no decoder is built. The weights are held once, in f32, and one tensor at a time is rounded while it is
//! written.

use super::modelfile;
use crate::catalogue;
use crate::cli::{ExportArgs, GgufFlag};
use anyhow::{Context, Result, anyhow, bail};
use solon_data::files::write_bytes_atomically;
use solon_infer::chat::ChatError;
use solon_infer::checkpoint_text::{gguf_keys, open_text};
use solon_kernels::Precision;
use solon_model::weights::{AdapterFile, Checkpoint, GgufType, GgufValue, save_gguf, save_gguf_adapter};
use solon_model::{Adapter, Device};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Writes the file, and the Modelfile where one is asked for.
pub(super) fn run(args: &ExportArgs, file_type: GgufFlag) -> Result<()> {
    if args.out.is_dir() {
        bail!(
            "--out {} is a folder\nhint: with --gguf it names the file: --out {}",
            args.out.display(),
            args.out.join("model.gguf").display()
        );
    }
    let path = model_path(args)?;
    let modelfile = args.ollama.then(|| args.out.with_file_name("Modelfile"));
    check_places(&args.out, &path, modelfile.as_deref())?;
    let mut checkpoint = Checkpoint::open(&path)?;
    if checkpoint.score.is_some() {
        return Err(ChatError::Scoring { path }.into());
    }
    let file_type = GgufType::from(file_type);
    if let Some(folder) = args.adapter.clone().map(catalogue::resolve_adapter).transpose()? {
        let (file, adapter) = open_adapter(&checkpoint, &folder)?;
        if args.adapter_only {
            save_gguf_adapter(&args.out, &checkpoint.config, &file, file_type)?;
            return tell(&args.out, file_type);
        }
        adapter.merge_into(&backend(), &mut checkpoint.tensors).map_err(|reason| anyhow!(reason))?;
    }
    let text = open_text(&checkpoint.text).with_context(|| format!("model {}", path.display()))?;
    let name = args.out.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut keys = vec![("general.name".to_owned(), GgufValue::Text(name))];
    keys.extend(gguf_keys(&text, checkpoint.config.vocab_size)?);
    save_gguf(&args.out, &checkpoint.config, &checkpoint.tensors, file_type, &keys)?;
    tell(&args.out, file_type)?;
    if text.template().is_none() {
        eprintln!("note: the model has no chat template, so programs that load it guess one");
    }
    if let Some(modelfile) = modelfile {
        let content = modelfile::render(&args.out, &text)?;
        write_bytes_atomically(&modelfile, content.as_bytes())?;
        eprintln!("{}: ollama create NAME -f {0}", modelfile.display());
    }
    Ok(())
}

/// Refuses to replace the model itself, or a file that is no GGUF file; and a Modelfile that was not written here.
fn check_places(out: &Path, model: &Path, modelfile: Option<&Path>) -> Result<()> {
    if out.exists() {
        let same = |path: &Path| path.canonicalize().ok();
        if same(out) == same(model) {
            bail!("--out {} is the model itself\nhint: give another --out", out.display());
        }
        let mut start = [0; 4];
        let read = std::fs::File::open(out).and_then(|mut file| file.read_exact(&mut start));
        if read.is_err() || &start != b"GGUF" {
            bail!("--out {} is there and is no GGUF file\nhint: give another --out", out.display());
        }
    }
    if let Some(modelfile) = modelfile
        && let Ok(text) = std::fs::read_to_string(modelfile)
        && !text.starts_with(modelfile::FIRST_LINE)
    {
        let shown = modelfile.display();
        bail!(
            "{shown} is there and was not written by Solon\nhint: remove it, or give an --out in another folder"
        );
    }
    Ok(())
}

/// What is exported: the model that a run delivered, or that of `--model`.
fn model_path(args: &ExportArgs) -> Result<PathBuf> {
    match (&args.model, &args.run) {
        (Some(model), _) => catalogue::resolve(model),
        (None, Some(run)) => {
            let path = run.join("model");
            if !path.join("config.json").is_file() {
                bail!(
                    "{} has no model/: a finished run with a `deliver` stage has one\n\
                     hint: name another model with --model, and a stage's adapter (checkpoints/STAGE) with --adapter",
                    run.display()
                );
            }
            Ok(path)
        }
        (None, None) => bail!("--run or --model names the model"),
    }
}

/// A PEFT adapter that fits the model.
fn open_adapter(checkpoint: &Checkpoint, folder: &Path) -> Result<(AdapterFile, Adapter<Device>)> {
    let file = AdapterFile::open(folder)?;
    if file.score.is_some() {
        return Err(ChatError::Scoring { path: folder.to_owned() }.into());
    }
    let adapter = Adapter::from_file(&backend(), &checkpoint.config, &file)
        .map_err(|reason| ChatError::Adapter { path: folder.to_owned(), reason })?;
    Ok((file, adapter))
}

/// Adapters are merged in f32.
fn backend() -> Device {
    Device::new(Precision::F32)
}

/// Says what was written.
fn tell(path: &Path, file_type: GgufType) -> Result<()> {
    let bytes = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
    eprintln!("{} ({file_type}, {:.1} MB)", path.display(), bytes as f64 / 1e6);
    Ok(())
}

impl From<GgufFlag> for GgufType {
    fn from(flag: GgufFlag) -> Self {
        match flag {
            GgufFlag::F32 => Self::F32,
            GgufFlag::F16 => Self::F16,
            GgufFlag::Bf16 => Self::Bf16,
            GgufFlag::Q8_0 => Self::Q8_0,
            GgufFlag::Q4_0 => Self::Q4_0,
            GgufFlag::Q4KM => Self::Q4KM,
        }
    }
}
