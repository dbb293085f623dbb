//! Preference pairs with what each of several annotators says of them: the annotated-pairs JSON of Inverse Constitutional AI, which
//! Feedback Forensics reads.
//!
//! Contract: version 2.0 of the format. Every annotator that is named has an annotation, because Feedback Forensics reads a column for
//! each. What an annotation holds beside the format's own keys is for other readers; that program ignores it.
//!
//! Source: <https://github.com/rdnfn/icai>, README ("annotated-pairs json format"), and its `annotated_pairs_format.py`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::DataError;
use crate::files::write_bytes_atomically;

/// The version of the format.
const VERSION: &str = "2.0";

/// The id of the annotator that the others are compared with. Feedback Forensics takes the annotator with this id, whatever
/// `default_annotator` says.
pub const DEFAULT_ANNOTATOR: &str = "ba751e7b";

/// A file of annotated pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnnotatedPairs {
    metadata: Metadata,
    /// By their ids.
    annotators: BTreeMap<String, Annotator>,
    comparisons: Vec<Comparison>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Metadata {
    version: &'static str,
    description: String,
    created_at: String,
    dataset_name: String,
    default_annotator: &'static str,
    available_metadata_keys_per_comparison: Vec<String>,
}

/// Who says which answer is better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Annotator {
    /// A principle has none: its description is what is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is; of a principle what it asks.
    pub description: String,
    /// Of which kind.
    pub r#type: AnnotatorType,
}

/// The kind of an annotator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AnnotatorType {
    /// People.
    Human,
    /// A model.
    Ai,
    /// A principle, by which a model judges.
    Principle,
    /// A rule, or nobody knows.
    Unknown,
}

/// A pair of answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Unique in the file.
    pub id: String,
    /// As text.
    pub prompt: String,
    /// The first answer.
    pub response_a: Response,
    /// The second answer.
    pub response_b: Response,
    /// By annotators' ids.
    pub annotations: BTreeMap<String, Annotation>,
    /// What else is known of it.
    pub metadata: BTreeMap<String, String>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Response {
    /// Its text.
    pub text: String,
}

/// What one annotator says of a pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Annotation {
    /// `a`, `b`, or none.
    pref: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_pref_reason: Option<&'static str>,
    /// P(`a` is better).
    probability: f64,
}

impl Annotation {
    /// The preference for the answer that is more likely the better one; of a tie there is none.
    pub fn of(probability: f64) -> Self {
        let pref = match probability {
            p if p > 0.5 => Some("a"),
            p if p < 0.5 => Some("b"),
            _ => None,
        };
        Self { pref, no_pref_reason: pref.is_none().then_some("neither"), probability }
    }
}

impl AnnotatedPairs {
    /// A data set of this name, made at this time (ISO 8601). Annotators that say nothing of any pair are left out.
    pub fn new(
        dataset_name: String,
        description: String,
        created_at: String,
        mut annotators: BTreeMap<String, Annotator>,
        comparisons: Vec<Comparison>,
    ) -> Self {
        annotators
            .retain(|id, _| comparisons.iter().any(|comparison| comparison.annotations.contains_key(id)));
        let mut keys: Vec<String> = comparisons.iter().flat_map(|one| one.metadata.keys().cloned()).collect();
        keys.sort();
        keys.dedup();
        let metadata = Metadata {
            version: VERSION,
            description,
            created_at,
            dataset_name,
            default_annotator: DEFAULT_ANNOTATOR,
            available_metadata_keys_per_comparison: keys,
        };
        Self { metadata, annotators, comparisons }
    }

    /// How many pairs and annotators it has.
    pub fn counts(&self) -> (usize, usize) {
        (self.comparisons.len(), self.annotators.len())
    }

    /// Writes it.
    ///
    /// # Errors
    /// [`DataError::Io`] if the system refuses. Then `path` is unchanged.
    pub fn write(&self, path: &Path) -> Result<(), DataError> {
        let mut text = serde_json::to_string_pretty(self).map_err(|error| DataError::Format {
            path: path.to_path_buf(),
            message: format!("cannot be written as JSON: {error}"),
        })?;
        text.push('\n');
        write_bytes_atomically(path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn annotator(name: Option<&str>, description: &str, r#type: AnnotatorType) -> Annotator {
        Annotator { name: name.map(str::to_owned), description: description.to_owned(), r#type }
    }

    /// The golden has the keys and values of the example that the format's README shows, with texts of our own.
    #[test]
    fn a_file_has_the_published_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.json");
        let comparison = Comparison {
            id: "4b49a6e7".to_owned(),
            prompt: "Write a line about a pet.".to_owned(),
            response_a: Response { text: "The cat hid a key under the moon.".to_owned() },
            response_b: Response { text: "The dog sailed to the harbour.".to_owned() },
            annotations: [(DEFAULT_ANNOTATOR, 0.75), ("2f45a6d0", 1.0), ("435cef52", 0.25), ("tie", 0.5)]
                .map(|(id, probability)| (id.to_owned(), Annotation::of(probability)))
                .into(),
            metadata: [("index".to_owned(), "0".to_owned())].into(),
        };
        let annotators = [
            (
                DEFAULT_ANNOTATOR,
                annotator(Some("Human"), "Human annotator from original dataset", AnnotatorType::Human),
            ),
            (
                "2f45a6d0",
                annotator(None, "Select the response that is mysterious.", AnnotatorType::Principle),
            ),
            (
                "435cef52",
                annotator(None, "Select the response that is adventurous.", AnnotatorType::Principle),
            ),
            ("tie", annotator(Some("tie"), "Says that neither is better.", AnnotatorType::Ai)),
            ("silent", annotator(Some("silent"), "Says nothing.", AnnotatorType::Unknown)),
        ];
        let annotators = annotators.map(|(id, annotator)| (id.to_owned(), annotator)).into();
        let made = AnnotatedPairs::new(
            "Pets".to_owned(),
            "A pair with annotations".to_owned(),
            "2025-04-02T16:02:37+00:00".to_owned(),
            annotators,
            vec![comparison],
        );
        assert_eq!(made.counts(), (1, 4));
        made.write(&path).unwrap();
        let written: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let golden: Value = serde_json::from_str(include_str!("../goldens/annotated_pairs.json")).unwrap();
        assert_eq!(written, golden);
    }
}
