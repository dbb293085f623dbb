//! `solon push`: a model or an adapter with its card to the Hugging Face Hub, as one commit.
//!
//! Contract: what goes up is listed first, and is files of a model alone: nothing of a run's ledger, data or training state.
//! The repository is private unless `--public` is given.

use crate::cli::{PushArgs, UsageError};
use crate::hub;
use crate::out::outln;
use anyhow::{Context, Result, bail};
use solon_hub::{RepositoryName, Upload, Visibility};
use std::path::Path;

/// Files of a model or an adapter beside its weights and its tokenizer.
const BESIDE: [&str; 11] = [
    "LICENSE",
    "README.md",
    "adapter_config.json",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "vocab.json",
];

/// Pushes a folder.
pub fn run(args: &PushArgs) -> Result<()> {
    let to = RepositoryName::read(&args.to).filter(|name| name.choice.is_none()).ok_or_else(|| {
        UsageError(format!("--to {}: that is no name of a repository\nhint: --to ORG/NAME", args.to))
    })?;
    let folder = match (&args.run, &args.model) {
        (Some(run), _) => run.join("model"),
        (None, Some(model)) => model.clone(),
        (None, None) => return Err(UsageError("give --run or --model".to_owned()).into()),
    };
    let files = files(&folder)?;
    if !files.iter().any(|file| file.name == "README.md") {
        let hint = "`solon run` and `solon report` write the card of a delivered model";
        eprintln!(
            "{}: there is no README.md, so the repository gets no model card ({hint})",
            folder.display()
        );
    }
    let visibility = if args.public { Visibility::Public } else { Visibility::Private };
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    eprintln!("pushing to {to}: {}", names.join(", "));
    outln!("{}", hub::push(&to, &files, visibility, &args.message)?);
    Ok(())
}

/// The files of a model in a folder, by name.
fn files(folder: &Path) -> Result<Vec<Upload>> {
    let entries = std::fs::read_dir(folder).with_context(|| {
        format!(
            "cannot list {}\nhint: --run takes a run that delivered a model; give another model or adapter as --model FOLDER",
            folder.display()
        )
    })?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_of_model(&name) && path.is_file() {
            files.push(Upload { name, path });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if !files.iter().any(|file| is_weights(&file.name)) {
        bail!(
            "{} holds no weights\nhint: give the folder of a model or of an adapter, with .safetensors or .gguf files",
            folder.display()
        );
    }
    Ok(files)
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

fn is_of_model(name: &str) -> bool {
    let is_tokenizer = name.starts_with("tokenizer") && (name.ends_with(".json") || name.ends_with(".model"));
    !name.starts_with('.') && (is_weights(name) || is_tokenizer || BESIDE.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_model_go_up_and_those_of_a_run_stay() {
        let folder = tempfile::tempdir().unwrap();
        let model = ["README.md", "config.json", "model.safetensors", "tokenizer.json"];
        for name in
            model.into_iter().chain(["ledger.sqlite", "recipe.toml", ".env", "answers.jsonl", "summary.json"])
        {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let names =
            |folder: &Path| files(folder).unwrap().into_iter().map(|file| file.name).collect::<Vec<_>>();
        assert_eq!(names(folder.path()), model);
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        assert!(files(folder.path()).unwrap_err().to_string().contains("holds no weights"));
        assert!(files(&folder.path().join("model")).unwrap_err().to_string().contains("delivered"));
    }
}
