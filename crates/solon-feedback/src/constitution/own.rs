//! This project's own format: the same keys in TOML and in JSON. `constitutions/README.md` describes them.
//!
//! Contract: what serde writes of a [`Constitution`] is read here as the same constitution.

use std::path::Path;

use serde::Serialize;
use solon_records::{Message, ROLES};

use super::fields::Fields;
use super::value::Value;
use super::{
    ComparisonPrinciple, Constitution, ConstitutionPrompt, FewShot, RevisionPrinciple, Shot, WorkedExample,
};
use crate::FeedbackError;

const KEYS: [&str; 8] =
    ["name", "version", "description", "revision", "comparison", "example", "few_shot", "prompt"];
pub(super) const REVISION: [&str; 5] = ["id", "applies", "weight", "critique", "revision"];
pub(super) const COMPARISON: [&str; 5] = ["id", "applies", "weight", "request", "question"];
pub(super) const EXAMPLE: [&str; 8] =
    ["id", "kind", "category", "principle", "request", "flawed", "critique", "revision"];
pub(super) const FEW_SHOT: [&str; 7] = ["id", "for", "text", "messages", "prompt", "chosen", "rejected"];
const PROMPT: [&str; 3] = ["id", "principle", "text"];

/// Reads a whole file; `origin` names it in errors.
pub(super) fn parse(value: Value, origin: &Path) -> Result<Constitution, FeedbackError> {
    let mut top = Fields::of(origin, "the top level".into(), value, &KEYS)?;
    let mut constitution = Constitution::empty(top.text("name")?, &top.text("description")?);
    constitution.version = top.version("version")?;
    for mut entry in top.entries("revision", &REVISION)? {
        constitution.revision.push(RevisionPrinciple {
            id: entry.text("id")?,
            critique: entry.text("critique")?,
            revision: entry.text("revision")?,
            applies: entry.names("applies")?,
            weight: entry.weight("weight")?,
        });
    }
    for mut entry in top.entries("comparison", &COMPARISON)? {
        constitution.comparison.push(ComparisonPrinciple {
            id: entry.text("id")?,
            question: entry.text("question")?,
            applies: entry.names("applies")?,
            request: entry.some_text("request")?,
            weight: entry.weight("weight")?,
        });
    }
    for mut entry in top.entries("example", &EXAMPLE)? {
        constitution.example.push(WorkedExample {
            id: entry.text("id")?,
            kind: entry.text("kind")?,
            category: entry.text("category")?,
            principle: entry.text("principle")?,
            request: entry.text("request")?,
            flawed: entry.text("flawed")?,
            critique: entry.text("critique")?,
            revision: entry.text("revision")?,
        });
    }
    for entry in top.entries("few_shot", &FEW_SHOT)? {
        constitution.few_shot.push(few_shot(entry)?);
    }
    for mut entry in top.entries("prompt", &PROMPT)? {
        constitution.prompt.push(ConstitutionPrompt {
            id: entry.text("id")?,
            principle: entry.text("principle")?,
            text: entry.text("text")?,
        });
    }
    constitution.validate(origin)?;
    Ok(constitution)
}

/// A constitution as a file holds it: without tables that have no entry.
#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    version: u32,
    description: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    revision: &'a [RevisionPrinciple],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    comparison: &'a [ComparisonPrinciple],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    example: &'a [WorkedExample],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    few_shot: &'a [FewShot],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    prompt: &'a [ConstitutionPrompt],
}

impl Constitution {
    /// The constitution as TOML, which [`Constitution::parse_toml`] reads as the same.
    pub fn to_toml(&self) -> Result<String, FeedbackError> {
        let Self { name, version, description, revision, comparison, example, few_shot, prompt } = self;
        let written =
            Written { name, version: *version, description, revision, comparison, example, few_shot, prompt };
        toml::to_string_pretty(&written).map_err(FeedbackError::EncodeToml)
    }
}

fn few_shot(mut entry: Fields) -> Result<FewShot, FeedbackError> {
    let (id, used_for) = (entry.text("id")?, entry.text("for")?);
    let shot = match used_for.as_str() {
        "critique" => Shot::Critique { text: entry.text("text")? },
        "critique-chat" => Shot::CritiqueChat { messages: messages(&mut entry, "messages")? },
        "comparison" => Shot::Comparison {
            prompt: entry.text("prompt")?,
            chosen: entry.texts("chosen")?,
            rejected: entry.texts("rejected")?,
        },
        "comparison-cot" => Shot::ComparisonCot { text: entry.text("text")? },
        other => {
            let reason = format!("{other:?} is no use of a few-shot; write one of {}", Shot::USES.join(", "));
            return Err(entry.wrong("for", reason));
        }
    };
    entry.finish(&format!("a few-shot with for = {used_for:?} has no such field; remove it"))?;
    Ok(FewShot { id, shot })
}

/// A conversation.
pub(super) fn messages(entry: &mut Fields, field: &str) -> Result<Vec<Message>, FeedbackError> {
    let read = entry.tables(field, "message", &["role", "content"])?.into_iter().map(|mut message| {
        let (role, content) = (message.text("role")?, message.text("content")?);
        match ROLES.contains(&role.as_str()) {
            true => Ok(Message::new(role, content)),
            false => {
                Err(message.wrong("role", format!("{role:?} is no role; write one of {}", ROLES.join(", "))))
            }
        }
    });
    read.collect()
}
