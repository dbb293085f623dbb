//! The published constitution of Bai et al. 2022 (2212.08073), as its repository writes it.
//!
//! `CritiqueRevisionInstructions.json` is a dict `{"harmful0": {"prompt": ["\n\nCritiqueRequest: …\n\nCritique:"],
//! "edit_request": "\n\nRevisionRequest: …\n\nRevision:"}, …}`; `RLMadisonInstructions.json` is a list of strings that
//! end in "Options:". The markers are removed, because this crate's own formats contain their own.

use std::fmt;
use std::path::Path;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{ComparisonPrinciple, Constitution, RevisionPrinciple, read};
use crate::FeedbackError;

const REVISION_FILE: &str = "CritiqueRevisionInstructions.json";
const COMPARISON_FILE: &str = "RLMadisonInstructions.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Instruction {
    prompt: Vec<String>,
    edit_request: String,
}

/// A JSON object in its own order, with unique keys (serde_json would silently keep the last of two).
struct Instructions(Vec<(String, Instruction)>);

impl<'de> Deserialize<'de> for Instructions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Instructions;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str(
                    "an object with entries of the form {\"prompt\": [...], \"edit_request\": \"...\"}",
                )
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Instructions, A::Error> {
                let mut entries: Vec<(String, Instruction)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, serde_json::Value>()? {
                    if entries.iter().any(|(earlier, _)| *earlier == key) {
                        return Err(A::Error::custom(format_args!("the entry {key:?} occurs twice")));
                    }
                    let instruction = serde_json::from_value(value)
                        .map_err(|error| A::Error::custom(format_args!("entry {key:?}: {error}")))?;
                    entries.push((key, instruction));
                }
                Ok(Instructions(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// One published file: an object holds revision principles, a list holds comparison principles.
pub(super) fn parse(text: &str, path: &Path) -> Result<Constitution, FeedbackError> {
    let wrong = |error: serde_json::Error| FeedbackError::Malformed {
        path: path.into(),
        reason: format!("not a published constitution: {error}"),
    };
    let mut constitution = Constitution {
        name: path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        version: 1,
        description: "Principles in the format of Bai et al. 2022 (2212.08073).".into(),
        revision: Vec::new(),
        comparison: Vec::new(),
        example: Vec::new(),
    };
    if text.trim_start().starts_with('[') {
        let questions: Vec<String> = serde_json::from_str(text).map_err(wrong)?;
        for (number, question) in questions.iter().enumerate() {
            constitution.comparison.push(ComparisonPrinciple {
                id: format!("comparison{number}"),
                question: between(question, "", "Options:"),
                applies: Vec::new(),
                request: None,
            });
        }
    } else {
        let instructions: Instructions = serde_json::from_str(text).map_err(wrong)?;
        for (key, instruction) in instructions.0 {
            if instruction.prompt.is_empty() {
                return Err(FeedbackError::Entry {
                    path: path.into(),
                    entry: format!("{key:?}"),
                    field: "prompt".into(),
                    reason: "the list is empty; write one critique request".into(),
                });
            }
            let several = instruction.prompt.len() > 1;
            for (number, prompt) in instruction.prompt.iter().enumerate() {
                constitution.revision.push(RevisionPrinciple {
                    id: if several { format!("{key}.{number}") } else { key.clone() },
                    critique: between(prompt, "CritiqueRequest:", "Critique:"),
                    revision: between(&instruction.edit_request, "RevisionRequest:", "Revision:"),
                    applies: Vec::new(),
                });
            }
        }
    }
    constitution.validate(path)?;
    Ok(constitution)
}

/// The published folder: reads one or both of its two instruction files.
pub(super) fn open_folder(folder: &Path) -> Result<Constitution, FeedbackError> {
    let mut found: Option<Constitution> = None;
    for name in [REVISION_FILE, COMPARISON_FILE] {
        let path = folder.join(name);
        if !path.is_file() {
            continue;
        }
        let part = parse(&read(&path)?, &path)?;
        match &mut found {
            None => found = Some(part),
            Some(whole) => whole.comparison.extend(part.comparison),
        }
    }
    let mut constitution = found.ok_or_else(|| FeedbackError::Malformed {
        path: folder.into(),
        reason: format!(
            "the folder holds neither {REVISION_FILE} nor {COMPARISON_FILE}; give the path of a file"
        ),
    })?;
    constitution.name =
        folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or(constitution.name);
    constitution.validate(folder)?;
    Ok(constitution)
}

/// `text` without its opening and closing markers.
fn between(text: &str, opening: &str, closing: &str) -> String {
    let text = text.trim();
    let text = text.strip_prefix(opening).unwrap_or(text);
    text.strip_suffix(closing).unwrap_or(text).trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_markers_are_taken_off() {
        let text = r#"{"harmful1": {"prompt": ["\n\nCritiqueRequest: Explain it.\n\nCritique:"],
            "edit_request": "\n\nRevisionRequest: Rewrite it.\n\nRevision:"},
            "harmful0": {"prompt": ["One?", "Two?"], "edit_request": "Better."}}"#;
        let constitution = parse(text, Path::new("a/Instructions.json")).unwrap();
        let read: Vec<_> =
            constitution.revision.iter().map(|p| [p.id.as_str(), &p.critique, &p.revision]).collect();
        assert_eq!(
            read,
            [
                ["harmful1", "Explain it.", "Rewrite it."],
                ["harmful0.0", "One?", "Better."],
                ["harmful0.1", "Two?", "Better."]
            ]
        );
        assert_eq!(constitution.name, "Instructions");
        let list = parse(r#"["\nWhich is kinder? Options:"]"#, Path::new("b.json")).unwrap();
        assert_eq!(list.comparison[0].question, "Which is kinder?");
    }

    #[test]
    fn mistakes_name_the_entry() {
        let good = r#""a": {"prompt": ["x"], "edit_request": "y"}"#;
        for (text, said) in [
            (format!("{{{good}, {good}}}"), "\"a\" occurs twice"),
            (r#"{"b": {"prompt": ["x"]}}"#.into(), "edit_request"),
            (r#"{"b": {"prompt": ["x"], "edit_request": "y", "extra": 1}}"#.into(), "extra"),
            (r#"{"b": {"prompt": [], "edit_request": "y"}}"#.into(), "\"b\""),
            (r#"{"b": {"prompt": [" "], "edit_request": "y"}}"#.into(), "`critique`"),
            ("[]".into(), "no principle"),
        ] {
            let error = parse(&text, Path::new("c.json")).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("c.json"), "{error}");
        }
    }
}
