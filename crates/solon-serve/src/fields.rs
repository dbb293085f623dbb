//! A request's body, read field by field: each is honoured or refused by name, none is passed over.

use crate::error::ApiError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Fields that are not read yet.
pub(crate) struct Fields(Map<String, Value>);

/// Fields that only say something to the operator of a service.
const WITHOUT_EFFECT: [&str; 7] = [
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
    "store",
    "parallel_tool_calls",
];

/// Fields that are not honoured, with the values under which they ask for nothing.
const NOT_HONOURED: [(&str, &[&str]); 16] = [
    ("presence_penalty", &["0", "0.0"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("repetition_penalty", &["1", "1.0"]),
    ("logit_bias", &["{}"]),
    ("tools", &["[]"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("functions", &["[]"]),
    ("function_call", &["\"none\"", "\"auto\""]),
    ("response_format", &["{\"type\":\"text\"}"]),
    ("modalities", &["[\"text\"]"]),
    ("suffix", &["\"\""]),
    ("min_tokens", &["0"]),
    ("ignore_eos", &["false"]),
    ("skip_special_tokens", &["true"]),
    ("add_generation_prompt", &["true"]),
    ("continue_final_message", &["false"]),
];

impl Fields {
    /// The fields of a JSON object; a field that is null counts as absent.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => {
                Ok(Self(fields.into_iter().filter(|(_, value)| !value.is_null()).collect()))
            }
            Ok(_) => Err(ApiError::refused("the body must be a JSON object")),
            Err(error) => Err(ApiError::refused(format!("the body is not JSON: {error}"))),
        }
    }

    /// Takes a field out.
    pub fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, ApiError> {
        let value = self.0.shift_remove(name).map(serde_json::from_value);
        value.transpose().map_err(|error| ApiError::field(name, format!("`{name}`: {error}")))
    }

    /// Refuses what is left and would change the answer.
    pub fn finish(mut self) -> Result<(), ApiError> {
        for name in WITHOUT_EFFECT {
            self.0.shift_remove(name);
        }
        for (name, neutral) in NOT_HONOURED {
            if let Some(value) = self.0.shift_remove(name)
                && !neutral.contains(&value.to_string().as_str())
            {
                return Err(ApiError::field(name, format!("`{name}` is not supported; leave it out")));
            }
        }
        match self.0.keys().next() {
            Some(name) => Err(ApiError::refused(format!("`{name}` is not a field of this request"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(body: &str) -> String {
        match Fields::parse(body.as_bytes()).and_then(Fields::finish) {
            Ok(()) => "accepted".to_owned(),
            Err(error) => error.body()["error"]["message"].as_str().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        assert_eq!(
            finish(r#"{"user": "a", "tools": [], "logit_bias": null, "presence_penalty": 0}"#),
            "accepted"
        );
        assert_eq!(
            finish(r#"{"presence_penalty": 0.5}"#),
            "`presence_penalty` is not supported; leave it out"
        );
        assert_eq!(finish(r#"{"temprature": 1}"#), "`temprature` is not a field of this request");
        assert!(finish("{").starts_with("the body is not JSON"));
        assert_eq!(finish("[]"), "the body must be a JSON object");
    }

    #[test]
    fn a_field_of_another_type_names_itself() {
        let mut fields = Fields::parse(br#"{"n": "two"}"#).unwrap();
        let error = fields.take::<usize>("n").unwrap_err().body();
        assert_eq!(error["error"]["param"], "n");
    }
}
