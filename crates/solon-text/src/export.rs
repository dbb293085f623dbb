//! Writes a tokenizer as the files transformers loads.
//!
//! Contract: `AutoTokenizer.from_pretrained` on these files gives the same ids and renderings as the tokenizer they
//! came from, and the same tokenizer always gives the same bytes. This module makes the bytes; the caller writes them
//! to a folder.

use serde_json::{Map, Value, json};

use crate::{ChatTokenizer, TextError};

impl ChatTokenizer {
    /// File names and contents: `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`, and
    /// `chat_template.jinja` where there is a template.
    ///
    /// The tokenizer class is always `PreTrainedTokenizerFast`, which uses `tokenizer.json` unchanged; model-specific
    /// classes rebuild parts of it.
    pub fn export_files(&self) -> Result<Vec<(String, Vec<u8>)>, TextError> {
        self.export_files_padded(None)
    }

    /// The same with this padding token where the tokenizer has none, as a reward model needs it for batches.
    pub fn export_files_padded(&self, padding: Option<u32>) -> Result<Vec<(String, Vec<u8>)>, TextError> {
        let mut tokens: Map<String, Value> =
            self.template_tokens.defined().map(|(field, token)| (field.to_owned(), json!(token))).collect();
        if let Some(padding) = padding.and_then(|id| self.id_to_token(id)) {
            tokens.entry("pad_token").or_insert(json!(padding));
        }

        let mut configuration = self.configuration.clone();
        // Remote code is not exported, and the tokens that it lists are already in tokenizer.json.
        for field in [
            "auto_map",
            "added_tokens_decoder",
            "chat_template",
            "bos_token",
            "eos_token",
            "unk_token",
            "pad_token",
        ] {
            configuration.shift_remove(field);
        }
        configuration.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        configuration.entry("clean_up_tokenization_spaces").or_insert(json!(false));
        configuration.extend(tokens.clone());
        if let Some(template) = self.template() {
            configuration.insert("chat_template".to_owned(), json!(template));
        }

        let mut files = vec![
            ("tokenizer.json".to_owned(), self.definition.clone().into_bytes()),
            ("tokenizer_config.json".to_owned(), pretty("tokenizer_config.json", &configuration)?),
            ("special_tokens_map.json".to_owned(), pretty("special_tokens_map.json", &tokens)?),
        ];
        if let Some(template) = self.template() {
            files.push(("chat_template.jinja".to_owned(), template.as_bytes().to_vec()));
        }
        Ok(files)
    }
}

fn pretty(file: &'static str, object: &Map<String, Value>) -> Result<Vec<u8>, TextError> {
    let mut bytes = serde_json::to_vec_pretty(object)
        .map_err(|error| TextError::Export { file, reason: error.to_string() })?;
    bytes.push(b'\n');
    Ok(bytes)
}
