//! Files that TRL, LLaMA-Factory and others publish, where they are on this machine: in the folder of `SOLON_SHARED_DATA`, or in
//! `../shared/data` beside the repository.

use std::path::{Path, PathBuf};

use super::*;
use crate::check::Opened;

fn shared() -> Option<PathBuf> {
    let folder = match std::env::var_os("SOLON_SHARED_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    };
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn published_files_are_read_whole() {
    let Some(folder) = shared() else { return };
    use FileFormat::{JsonArray, JsonLines};
    for (file, purpose, format, form, rows) in [
        ("llama-factory/alpaca_en_demo.json", Purpose::Demonstrations, JsonArray, Form::Alpaca, 999),
        ("llama-factory/identity.json", Purpose::Demonstrations, JsonArray, Form::Alpaca, 91),
        ("llama-factory/dpo_en_demo.json", Purpose::Preferences, JsonArray, Form::Sharegpt, 300),
        ("llama-factory/v1_sft_demo.jsonl", Purpose::Demonstrations, JsonLines, Form::Messages, 500),
        ("llama-factory/v1_dpo_demo.jsonl", Purpose::Preferences, JsonLines, Form::MessagePair, 10),
        ("trl-zen/standard_preference.jsonl", Purpose::Preferences, JsonLines, Form::Preference, 19),
        ("hh-rlhf/harmless-base-test.jsonl.gz", Purpose::Preferences, JsonLines, Form::Transcripts, 2312),
        ("llama-factory/kto_en_demo.json", Purpose::Unpaired, JsonArray, Form::Unpaired, 300),
        ("trl-zen/standard_unpaired_preference.jsonl", Purpose::Unpaired, JsonLines, Form::Unpaired, 19),
        ("pandalm/testset-v1.json", Purpose::Prompts, JsonArray, Form::Alpaca, 999),
    ] {
        let found = Opened::open(&folder.join(file), None).unwrap().check();
        assert_eq!((found.purpose, found.format, found.rows), (purpose, format, rows), "{file}");
        assert_eq!(found.forms, BTreeMap::from([(form, rows)]), "{file}");
    }
}

#[test]
fn published_files_that_are_no_demonstrations_say_why() {
    let Some(folder) = shared() else { return };
    for (file, expected) in [
        ("llama-factory/kto_en_demo.json", "kto_en_demo.json:2: has a `label`"),
        ("llama-factory/c4_demo.jsonl", "c4_demo.jsonl:1: has a `text` without roles"),
        ("trl-zen/standard_unpaired_preference.jsonl", "preference.jsonl:1: has a `label`"),
        ("llama-factory/dpo_en_demo.json", "dpo_en_demo.json:2: is a preference pair"),
        ("llama-factory/wiki_demo.txt", "wiki_demo.txt:1: this is plain text, not rows"),
    ] {
        let error = read_demonstrations(&folder.join(file)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
