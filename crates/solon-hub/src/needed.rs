//! Which files of a model or an adapter are needed.
//!
//! Contract: a function of names alone, so that it is the same for a listing of the Hub and for a folder of the cache. Weights
//! are safetensors, else one GGUF file; a pickle is never downloaded, because opening one runs its code.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::name::is_inside;

/// Files beside the weights; what has none of them is complete without.
const BESIDE: [&str; 4] =
    ["config.json", "generation_config.json", "special_tokens_map.json", "chat_template.jinja"];
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// What is needed, in the order in which it is downloaded: weights last, so that weights in the cache mean that the rest is
/// there.
#[derive(Debug, PartialEq)]
pub(crate) enum Needed {
    /// A folder with these files.
    Folder(Vec<String>),
    /// A folder with these files, and the shards that the index among them names.
    Sharded { beside: Vec<String>, index: String },
    /// One file.
    File(String),
    /// Files of data, which are read as one.
    Data(Vec<String>),
}

/// Why nothing can be chosen, and what to do.
#[derive(Debug, PartialEq)]
pub(crate) struct Unchosen {
    pub reason: String,
    pub hint: String,
}

impl Unchosen {
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

/// The files of a model.
pub(crate) fn of_model(names: &[&str], choice: Option<&str>) -> Result<Needed, Unchosen> {
    let has = |name: &str| names.contains(&name);
    if let Some(choice) = choice {
        return chosen_gguf(names, choice).map(Needed::File);
    }
    if !has(SINGLE) && !has(INDEX) {
        return only_gguf(names).map(Needed::File);
    }
    for (file, why) in [("config.json", "the model's shape"), ("tokenizer.json", "its tokenizer")] {
        if !has(file) {
            let reason = format!("there is no {file}, which holds {why}");
            return Err(Unchosen::new(
                reason,
                "look for a repository that was saved by transformers 4 or later",
            ));
        }
    }
    let is_beside = |name: &str| {
        let is_tokenizer = name.starts_with("tokenizer") && name.ends_with(".json");
        let is_template = name.starts_with("additional_chat_templates/") && name.ends_with(".jinja");
        BESIDE.contains(&name) || is_template || (is_tokenizer && !name.contains('/'))
    };
    let mut beside: Vec<String> =
        names.iter().filter(|name| is_beside(name)).map(|name| (*name).to_owned()).collect();
    if has(SINGLE) {
        beside.push(SINGLE.to_owned());
        return Ok(Needed::Folder(beside));
    }
    Ok(Needed::Sharded { beside, index: INDEX.to_owned() })
}

/// The files of an adapter.
pub(crate) fn of_adapter(names: &[&str]) -> Result<Needed, Unchosen> {
    match ADAPTER.iter().find(|file| !names.contains(file)) {
        Some(missing) => {
            let reason = format!("there is no {missing}, so it is no adapter that can be read");
            Err(Unchosen::new(
                reason,
                "an adapter is saved by peft as adapter_config.json and adapter_model.safetensors",
            ))
        }
        None => Ok(Needed::Folder(ADAPTER.map(str::to_owned).to_vec())),
    }
}

/// The shards that an index names, each once; the error says what is wrong with it.
pub(crate) fn shards(index: &str) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_str(index).map_err(|error| format!("{INDEX}: {error}"))?;
    let mut shards: Vec<String> = index.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    match shards.iter().find(|shard| !is_inside(shard) || !shard.ends_with(".safetensors")) {
        Some(wrong) => Err(format!("{INDEX} names a file that is not allowed: {wrong:?}")),
        None => Ok(shards),
    }
}

/// The GGUF files that hold a whole model.
fn ggufs<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let is_whole = |name: &str| {
        let lower = name.to_ascii_lowercase();
        let file = lower.rsplit('/').next().unwrap_or(&lower).to_owned();
        // Parts of one model, and the part of another kind of model that sees pictures.
        file.ends_with(".gguf") && !file.contains("-of-") && !file.starts_with("mmproj")
    };
    names.iter().copied().filter(|name| is_whole(name)).collect()
}

fn only_gguf(names: &[&str]) -> Result<String, Unchosen> {
    let all = ggufs(names);
    match all.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => {
            let has = |ending: &str| names.iter().any(|name| name.ends_with(ending));
            let hint = if names.contains(&ADAPTER[0]) {
                "it holds an adapter: give it as --adapter, and its base model as --model"
            } else if has(".bin") || has(".pt") || has(".pth") {
                "its weights are pickles, which are not read because opening one runs its code; look for a repository \
                 with safetensors"
            } else if has(".gguf") {
                "its GGUF files are parts of a model; look for one in a single file"
            } else {
                "is it the repository of a model?"
            };
            Err(Unchosen::new("it has neither model.safetensors nor a GGUF file", hint))
        }
        several => Err(Unchosen::new(
            format!("it has several GGUF files: {}", several.join(", ")),
            format!("name one after a colon, such as :{}", several[0]),
        )),
    }
}

/// A GGUF file by its path, or by the end of its name: `Q4_K_M` of `model-Q4_K_M.gguf`.
fn chosen_gguf(names: &[&str], choice: &str) -> Result<String, Unchosen> {
    let all = ggufs(names);
    if all.contains(&choice) {
        return Ok(choice.to_owned());
    }
    let ends_so = |name: &&str| {
        let stem = name.to_ascii_lowercase();
        let stem = stem.trim_end_matches(".gguf");
        stem.strip_suffix(&choice.to_ascii_lowercase()).is_some_and(|rest| rest.ends_with(['-', '.', '/']))
    };
    let fitting: Vec<&str> = all.iter().copied().filter(ends_so).collect();
    match fitting.as_slice() {
        [one] => Ok((*one).to_owned()),
        _ if all.is_empty() => Err(Unchosen::new(
            format!("it has no GGUF file, so no `{choice}`"),
            "leave out the colon and what follows",
        )),
        _ => Err(Unchosen::new(
            format!("`{choice}` names none or several of its GGUF files"),
            format!("there are {}", all.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_folder_is_its_weights_tokenizer_and_templates() {
        let mut names = vec![
            ".gitattributes",
            "README.md",
            "additional_chat_templates/tools.jinja",
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.Q4_1.gguf",
            "model.safetensors",
            "onnx/tokenizer.json",
            "pytorch_model.bin",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "training_args.bin",
        ];
        let kept = [
            "additional_chat_templates/tools.jinja",
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        let whole = owned(&[&kept[..], &["model.safetensors"]].concat());
        assert_eq!(of_model(&names, None), Ok(Needed::Folder(whole)));
        assert_eq!(of_model(&names, Some("Q4_1")), Ok(Needed::File("model.Q4_1.gguf".to_owned())));
        names.retain(|name| *name != "model.safetensors");
        names.push("model.safetensors.index.json");
        let sharded =
            Needed::Sharded { beside: owned(&kept), index: "model.safetensors.index.json".to_owned() };
        assert_eq!(of_model(&names, None), Ok(sharded));
        names.retain(|name| *name != "tokenizer.json");
        assert!(of_model(&names, None).unwrap_err().reason.contains("tokenizer.json"));
    }

    #[test]
    fn a_gguf_file_is_chosen_where_there_are_several() {
        let names = ["a-Q4_K_M.gguf", "a-Q8_0.gguf", "a-f16-00001-of-00002.gguf", "mmproj-a.gguf"];
        let asked = of_model(&names, None).unwrap_err();
        assert_eq!(asked.reason, "it has several GGUF files: a-Q4_K_M.gguf, a-Q8_0.gguf");
        let chosen = |choice| of_model(&names, Some(choice));
        assert_eq!(chosen("q8_0"), Ok(Needed::File("a-Q8_0.gguf".to_owned())));
        assert_eq!(chosen("a-Q4_K_M.gguf"), Ok(Needed::File("a-Q4_K_M.gguf".to_owned())));
        for wrong in ["M", "0", "Q5_0", "mmproj-a.gguf"] {
            assert!(chosen(wrong).unwrap_err().hint.contains("a-Q8_0.gguf"), "{wrong}");
        }
        assert_eq!(of_model(&names[1..], None), Ok(Needed::File("a-Q8_0.gguf".to_owned())));
    }

    #[test]
    fn what_cannot_be_read_is_not_downloaded_and_said() {
        let hint = |names: &[&str]| of_model(names, None).unwrap_err().hint;
        assert!(hint(&["config.json", "pytorch_model.bin"]).contains("runs its code"));
        assert!(hint(&["adapter_config.json", "adapter_model.safetensors"]).contains("--adapter"));
        assert!(hint(&["README.md"]).contains("repository of a model"));
        assert!(of_adapter(&["adapter_config.json", "adapter_model.bin"]).is_err());
        let files = owned(&["adapter_config.json", "adapter_model.safetensors"]);
        assert_eq!(
            of_adapter(&["adapter_config.json", "adapter_model.safetensors"]),
            Ok(Needed::Folder(files))
        );
    }

    #[test]
    fn an_index_names_shards_of_its_folder_alone() {
        let index = |file: &str| shards(&format!(r#"{{"weight_map":{{"a":"{file}","b":"{file}"}}}}"#));
        assert_eq!(index("m-1.safetensors"), Ok(owned(&["m-1.safetensors"])));
        for hostile in ["../m.safetensors", "/m.safetensors", "m.bin", ""] {
            assert!(index(hostile).unwrap_err().contains("not allowed"), "{hostile}");
        }
        assert!(shards("{}").is_err());
    }
}
