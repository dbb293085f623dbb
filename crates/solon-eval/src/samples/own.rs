//! Rows of `solon eval --samples`: of items with options the choice and the log-probs, of others the answer; and what was found.
//!
//! Contract: older files say of an item with options neither which option is right nor what was found. That is unknown then.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Sample, likeliest};
use crate::benchmark::Outcome;

/// One line.
#[derive(Deserialize)]
pub(super) struct Row {
    id: String,
    /// Of items with options. A log-prob that is no number is written as null.
    #[serde(default)]
    loglikelihoods: Vec<Option<f64>>,
    #[serde(default)]
    choice: Option<usize>,
    #[serde(default)]
    right: Vec<usize>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    answer: Option<String>,
    #[serde(default)]
    outcomes: BTreeMap<String, Outcome>,
}

impl Row {
    pub(super) fn sample(self) -> Sample {
        let log_probs: Vec<f64> =
            self.loglikelihoods.into_iter().map(|log_prob| log_prob.unwrap_or(f64::NAN)).collect();
        let one = |right: &[usize]| match right {
            [place] => Some(*place),
            _ => None,
        };
        Sample {
            id: self.id,
            questions: self.prompt.into_iter().collect(),
            choice: self.choice.or_else(|| likeliest(&log_probs)),
            right: one(&self.right),
            log_probs,
            answer: self.answer,
            figures: self.outcomes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::file;
    use crate::samples::{Form, read};

    #[test]
    fn every_form_of_a_row_is_read() {
        let text = concat!(
            r#"{"id": "anatomy/0", "choice": 1, "loglikelihoods": [-2.0, -1.0, null]}"#,
            "\r\n",
            r#"{"id": "0/mc2", "choice": 0, "loglikelihoods": [-1.0, -2.0], "right": [0, 1], "outcomes": {"mc2": 1.0}}"#,
            "\n\n",
            r#"{"id": "s1", "prompt": "Hi?", "kind": "safe", "category": "", "answer": "Yo.", "truncated": false,"#,
            r#" "judge": {"said": "no"}, "verdict": "answer", "fault": null, "outcomes": {"refused": false, "grade": null}}"#,
        );
        let (_folder, path) = file("samples.jsonl", text);
        let samples = read(&path).unwrap();
        assert_eq!((samples.form, samples.rows.len()), (Form::Solon, 3));
        let [short, long, written] = &samples.rows[..] else { panic!() };
        assert_eq!((short.choice, short.log_probs.len(), short.log_probs[2].is_nan()), (Some(1), 3, true));
        assert_eq!((short.right, short.figures.len(), short.questions.len()), (None, 0, 0));
        assert_eq!((long.right, long.figures["mc2"]), (None, Outcome::Number(1.0)));
        assert_eq!((written.questions[0].as_str(), written.answer.as_deref()), ("Hi?", Some("Yo.")));
        assert_eq!(written.figures["refused"], Outcome::Holds(false));
        assert_eq!((written.figures["grade"], written.choice), (Outcome::Unknown, None));
    }
}
