//! The constitutions of Open Character Training (Maiya et al. 2025, 2511.01689; repository maiush/OpenCharacterTraining,
//! `constitutions/`): `[{"trait": …, "clarification": …, "questions": […]}, …]`, by hand as JSON in files that end in
//! `.txt`, and with generated `additional_questions` as JSONL. Traits are sentences in which the assistant speaks of itself.
//!
//! Contract: each trait becomes a revision principle and a comparison principle, put in the words below, and each of its
//! questions a [`ConstitutionPrompt`] of that revision principle. `clarification` becomes part of both. All but `trait` may
//! be left out; additional questions are questions like the others.

use std::path::Path;

use super::fields::Fields;
use super::imports::named_after;
use super::value::Value;
use super::{ComparisonPrinciple, Constitution, ConstitutionPrompt, RevisionPrinciple};
use crate::FeedbackError;

const DESCRIPTION: &str = "Traits in the format of Open Character Training.";
const KEYS: [&str; 4] = ["trait", "clarification", "questions", "additional_questions"];

/// Reads a trait from each line.
pub(super) fn parse_lines(text: &str, path: &Path) -> Result<Constitution, FeedbackError> {
    let mut items = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let item: Value = serde_json::from_str(line).map_err(|error| FeedbackError::Malformed {
            path: path.into(),
            reason: format!("line {number}: not valid JSON: {error}"),
        })?;
        items.push(item);
    }
    let constitution = read(items, path)?;
    constitution.validate(path)?;
    Ok(constitution)
}

/// Reads the list.
pub(super) fn read(items: Vec<Value>, path: &Path) -> Result<Constitution, FeedbackError> {
    let mut constitution = named_after(path, DESCRIPTION);
    for (number, item) in items.into_iter().enumerate() {
        let mut entry = Fields::of(path, format!("trait {}", number + 1), item, &KEYS)?;
        let mut trait_text = entry.text("trait")?.trim().to_owned();
        if trait_text.is_empty() {
            return Err(entry.wrong("trait", "it is empty; give it a text, or remove the entry"));
        }
        if let Some(clarification) = entry.some_text("clarification")? {
            let clarification = clarification.trim();
            if !clarification.is_empty() {
                trait_text = format!("{trait_text} {clarification}");
            }
        }
        let (revision, comparison) = (format!("trait{number}-revision"), format!("trait{number}-comparison"));
        let mut questions = Vec::new();
        for field in ["questions", "additional_questions"] {
            if entry.has(field) {
                questions.extend(entry.texts(field)?);
            }
        }
        for (place, text) in questions.into_iter().enumerate() {
            let (id, principle) = (format!("trait{number}-question{place}"), revision.clone());
            constitution.prompt.push(ConstitutionPrompt { id, principle, text });
        }
        constitution.revision.push(RevisionPrinciple {
            id: revision,
            critique: format!(
                "The assistant says of itself: “{trait_text}” Say where the answer does not show this."
            ),
            revision: format!(
                "Rewrite the answer so that it shows this, which the assistant says of itself: “{trait_text}” Show it, and \
                 do not announce it."
            ),
            applies: Vec::new(),
            weight: 1.0,
        });
        constitution.comparison.push(ComparisonPrinciple {
            id: comparison,
            question: format!(
                "An assistant says of itself: “{trait_text}” Which answer is more like that assistant?"
            ),
            applies: Vec::new(),
            request: None,
            weight: 1.0,
        });
    }
    Ok(constitution)
}

#[cfg(test)]
mod tests {
    use super::super::imports::parse;
    use super::*;

    #[test]
    fn a_trait_becomes_two_principles_and_its_questions_prompts() {
        let text = r#"[{"trait": " I am patient.", "clarification": "I repeat things gladly.\n", "questions": ["Again?", "Why?"],
              "additional_questions": ["How?"]},
            {"trait": "I am brief."}]"#;
        let read = parse(text, Path::new("a/patience.txt")).unwrap();
        assert_eq!((read.name.as_str(), read.revision.len(), read.comparison.len()), ("patience", 2, 2));
        let whole = "“I am patient. I repeat things gladly.”";
        assert!(read.revision[0].critique.contains(whole) && read.revision[0].revision.contains(whole));
        assert!(read.comparison[0].question.contains(whole));
        assert!(read.comparison[1].question.contains("“I am brief.”"));
        let prompts: Vec<_> = read.prompt.iter().map(|p| [p.id.as_str(), &p.principle, &p.text]).collect();
        assert_eq!(
            prompts,
            [
                ["trait0-question0", "trait0-revision", "Again?"],
                ["trait0-question1", "trait0-revision", "Why?"],
                ["trait0-question2", "trait0-revision", "How?"]
            ]
        );
    }

    #[test]
    fn lines_are_read_like_a_list() {
        let (first, second) = (r#"{"trait": "a", "additional_questions": ["q"]}"#, r#"{"trait": "b"}"#);
        let lines = parse_lines(&format!("{first}\n\n{second}\n"), Path::new("a.jsonl")).unwrap();
        assert_eq!(lines, parse(&format!("[{first}, {second}]"), Path::new("a.json")).unwrap());
        let error = parse_lines(&format!("{first}\n{{"), Path::new("a.jsonl")).unwrap_err().to_string();
        assert!(error.contains("a.jsonl: line 2"), "{error}");
        assert!(parse_lines("", Path::new("a.jsonl")).unwrap_err().to_string().contains("no principle"));
    }

    #[test]
    fn mistakes_name_the_trait() {
        for (text, said) in [
            (r#"[{"trait": "t"}, {"questions": ["q"]}]"#, "trait 2, field `trait`"),
            (r#"[{"trait": " "}]"#, "trait 1, field `trait`: it is empty"),
            (r#"[{"trait": "t", "questions": "q"}]"#, "trait 1, field `questions`"),
            (r#"[{"trait": "t", "questions": [" "]}]"#, "\"trait0-question0\""),
            (r#"[{"trait": "t", "notes": "n"}]"#, "`notes`: unknown key"),
            (r#"[{"trait": "t"}, "u"]"#, "trait 2 is of type string"),
            (r#"[{"trait": "t", "trait": "u"}]"#, "\"trait\" occurs twice"),
            (r#"[{"trait": "t\u0000"}]"#, "\\u{0}"),
        ] {
            let error = parse(text, Path::new("c.txt")).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("c.txt"), "{text}: {error}");
        }
    }
}
