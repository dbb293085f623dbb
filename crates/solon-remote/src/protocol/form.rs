//! The form of a request that a server takes. Servers and models differ in which parameters they know.
//!
//! Contract: a parameter is changed or left out only where a refusal names it as one that the server does not know. A refusal
//! of a parameter's *value* changes nothing: what was asked for is honoured or refused.

/// Which parameters are sent. The first form that is tried is the default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// `max_completion_tokens` instead of `max_tokens`.
    pub completion_tokens: bool,
    /// The temperature is said.
    pub temperature: bool,
    /// So many log-probs of each token are asked for.
    pub log_probs: usize,
}

/// Tokens whose log-probs are asked for first. Most servers refuse more.
const MOST: usize = 20;
/// The number that is tried where so many are refused.
const FEWER: usize = 5;

impl Default for Form {
    fn default() -> Self {
        Self { completion_tokens: false, temperature: true, log_probs: MOST }
    }
}

/// How servers say that they do not know a parameter.
const UNKNOWN: [&str; 7] =
    ["support", "deprecat", "unknown", "unrecognized", "unexpected", "not permitted", "not allowed"];

impl Form {
    /// The form to try after a refusal (HTTP 400 or 422) in these words, of a request with log-probs or without.
    pub fn after(self, refusal: &str, with_log_probs: bool) -> Option<Self> {
        let refusal = refusal.to_lowercase();
        let is_unknown = UNKNOWN.iter().any(|word| refusal.contains(word));
        if with_log_probs && self.log_probs > 0 && refusal.contains("logprobs") {
            let log_probs = if is_unknown || self.log_probs == FEWER { 0 } else { FEWER };
            return Some(Self { log_probs, ..self });
        }
        if !is_unknown {
            return None;
        }
        if !self.completion_tokens && refusal.contains("max_completion_tokens") {
            return Some(Self { completion_tokens: true, ..self });
        }
        if self.temperature && refusal.contains("temperature") {
            return Some(Self { temperature: false, ..self });
        }
        None
    }

    /// The form of a server that wishes what either says.
    pub fn and(self, other: Self) -> Self {
        Self {
            completion_tokens: self.completion_tokens || other.completion_tokens,
            temperature: self.temperature && other.temperature,
            log_probs: self.log_probs.min(other.log_probs),
        }
    }

    /// How it differs from the first form, in words.
    pub fn differences(self) -> Vec<String> {
        let mut words = Vec::new();
        if self.completion_tokens {
            words.push("max_completion_tokens instead of max_tokens".to_owned());
        }
        if !self.temperature {
            words.push("the server's own temperature, because it takes no other".to_owned());
        }
        match self.log_probs {
            MOST => {}
            0 => words.push("no log-probs".to_owned()),
            n => words.push(format!("log-probs of {n} tokens")),
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_is_not_known_is_changed_and_a_wrong_value_is_not() {
        let first = Form::default();
        let completion = Some(Form { completion_tokens: true, ..first });
        let without = Some(Form { temperature: false, ..first });
        let log_probs = |log_probs| Some(Form { log_probs, ..first });
        for (refusal, expected) in [
            (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
                completion,
            ),
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 9000. The maximum context length is 4096",
                None,
            ),
            ("Unsupported value: 'temperature' does not support 0.0 with this model.", without),
            ("`temperature` is deprecated for this model.", without),
            ("temperature must be between 0 and 1", None),
            ("logprobs are not supported", log_probs(0)),
            ("Requested sample logprobs of 20, which is greater than max allowed: 5", log_probs(5)),
            ("the prompt is too long", None),
        ] {
            assert_eq!(first.after(refusal, true), expected, "{refusal}");
        }
        assert_eq!(first.after("logprobs are not supported", false), None);
        let fewer = Form { log_probs: 5, ..first };
        assert_eq!(fewer.after("logprobs: at most 3", true), log_probs(0));
        // A form is never tried twice.
        let last = Form { completion_tokens: true, temperature: false, log_probs: 0 };
        assert_eq!(last.after("max_completion_tokens, temperature, logprobs: not supported", true), None);
        assert_eq!(last.differences().len(), 3);
        assert!(first.differences().is_empty());
    }
}
