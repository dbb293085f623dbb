//! What must hold of a constitution and cannot be said by its types.

use std::collections::HashMap;
use std::path::Path;

use super::{Constitution, Shot};
use crate::FeedbackError;

/// One entry, to name in errors and to check.
struct Entry<'a> {
    origin: &'a Path,
    table: &'static str,
    id: &'a str,
}

impl Constitution {
    /// Checks what the types cannot express; `origin` names the constitution in errors.
    pub fn validate(&self, origin: &Path) -> Result<(), FeedbackError> {
        if self.revision.is_empty() && self.comparison.is_empty() && self.few_shot.is_empty() {
            return Err(FeedbackError::Malformed {
                path: origin.into(),
                reason: "it has no principle and no few-shot; add a [[revision]] or a [[comparison]] entry"
                    .into(),
            });
        }
        for (field, text) in [("name", &self.name), ("description", &self.description)] {
            if let Some(reason) = control(text) {
                return Err(FeedbackError::Entry {
                    path: origin.into(),
                    entry: "the top level".into(),
                    field: field.into(),
                    reason,
                });
            }
        }
        let entry = |table, id| Entry { origin, table, id };
        for p in &self.revision {
            let entry = entry("revision", &p.id);
            entry.texts(&[("critique", &p.critique), ("revision", &p.revision)])?;
            entry.applies(&p.applies)?;
            entry.weight(p.weight)?;
        }
        for p in &self.comparison {
            let entry = entry("comparison", &p.id);
            entry.texts(&[("question", &p.question)])?;
            if let Some(request) = &p.request {
                entry.texts(&[("request", request)])?;
            }
            entry.applies(&p.applies)?;
            entry.weight(p.weight)?;
        }
        for e in &self.example {
            entry("example", &e.id).texts(&[
                ("kind", &e.kind),
                ("category", &e.category),
                ("request", &e.request),
                ("flawed", &e.flawed),
                ("critique", &e.critique),
                ("revision", &e.revision),
            ])?;
        }
        for few_shot in &self.few_shot {
            entry("few_shot", &few_shot.id).shot(&few_shot.shot)?;
        }
        for prompt in &self.prompt {
            entry("prompt", &prompt.id).texts(&[("text", &prompt.text)])?;
        }
        self.unique_ids(origin)?;
        self.references(origin)
    }

    fn unique_ids(&self, origin: &Path) -> Result<(), FeedbackError> {
        let ids = (self.revision.iter().map(|p| ("revision", p.id.as_str())))
            .chain(self.comparison.iter().map(|p| ("comparison", p.id.as_str())))
            .chain(self.example.iter().map(|e| ("example", e.id.as_str())))
            .chain(self.few_shot.iter().map(|shot| ("few_shot", shot.id.as_str())))
            .chain(self.prompt.iter().map(|prompt| ("prompt", prompt.id.as_str())));
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for (table, id) in ids {
            if let Some(earlier) = seen.insert(id, table) {
                let reason = format!(
                    "an earlier [[{earlier}]] entry has this id; give each entry of the file its own id"
                );
                return Err(Entry { origin, table, id }.wrong("id", reason));
            }
        }
        Ok(())
    }

    fn references(&self, origin: &Path) -> Result<(), FeedbackError> {
        for e in &self.example {
            let entry = Entry { origin, table: "example", id: &e.id };
            if self.revision_principle(&e.principle).is_none() {
                let reason =
                    format!("no [[revision]] entry has the id {:?}; name one that exists", e.principle);
                return Err(entry.wrong("principle", reason));
            }
            if e.flawed.trim() == e.revision.trim() {
                let reason = "it equals `flawed`, so nothing can be learnt from it; rewrite it";
                return Err(entry.wrong("revision", reason.into()));
            }
        }
        for prompt in &self.prompt {
            let id = &prompt.principle;
            if self.revision_principle(id).is_none() && self.comparison_principle(id).is_none() {
                let reason = format!(
                    "no [[revision]] or [[comparison]] entry has the id {id:?}; name one that exists"
                );
                return Err(Entry { origin, table: "prompt", id: &prompt.id }.wrong("principle", reason));
            }
        }
        Ok(())
    }
}

impl Entry<'_> {
    fn wrong(&self, field: &str, reason: String) -> FeedbackError {
        FeedbackError::Entry {
            path: self.origin.into(),
            entry: format!("[[{}]] {:?}", self.table, self.id),
            field: field.into(),
            reason,
        }
    }

    /// The id, and that each text says something.
    fn texts(&self, texts: &[(&str, &str)]) -> Result<(), FeedbackError> {
        if !is_plain(self.id) {
            let rule = "an id must be 1 to 100 letters, digits, `-`, `_` or `.`, because it is used in records and logs";
            return Err(self.wrong("id", rule.into()));
        }
        for (field, text) in texts {
            if text.trim().is_empty() {
                return Err(self.wrong(field, "it is empty; give it a text, or remove the entry".into()));
            }
            if let Some(reason) = control(text) {
                return Err(self.wrong(field, reason));
            }
        }
        Ok(())
    }

    fn applies(&self, names: &[String]) -> Result<(), FeedbackError> {
        match names.iter().find(|name| !is_plain(name)) {
            Some(name) => {
                let reason = format!(
                    "{name:?} is no kind or category of prompts; a name is 1 to 100 letters, digits, `-`, `_` or `.`"
                );
                Err(self.wrong("applies", reason))
            }
            None => Ok(()),
        }
    }

    fn weight(&self, weight: f64) -> Result<(), FeedbackError> {
        match weight.is_finite() && weight > 0.0 {
            true => Ok(()),
            false => {
                let rule = "a weight is a positive number; to leave a principle out, remove its entry";
                Err(self.wrong("weight", format!("it is {weight}; {rule}")))
            }
        }
    }

    fn shot(&self, shot: &Shot) -> Result<(), FeedbackError> {
        match shot {
            Shot::Critique { text } => self.texts(&[("text", text)]),
            Shot::ComparisonCot { text } => {
                self.texts(&[("text", text)])?;
                match text.matches(Shot::PLACE).count() {
                    1 => Ok(()),
                    count => {
                        let reason = format!(
                            "it has `{{}}` {count} times; write it once, where the principle is put in"
                        );
                        Err(self.wrong("text", reason))
                    }
                }
            }
            Shot::Comparison { prompt, chosen, rejected } => {
                self.texts(&[("prompt", prompt)])?;
                for (field, answers) in [("chosen", chosen), ("rejected", rejected)] {
                    if answers.is_empty() {
                        return Err(self.wrong(field, "the list is empty; give at least one answer".into()));
                    }
                    for answer in answers {
                        self.texts(&[(field, answer)])?;
                    }
                }
                Ok(())
            }
            Shot::CritiqueChat { messages } => {
                for message in messages {
                    self.texts(&[("messages", &message.content)])?;
                }
                let (first, last) = (messages.first(), messages.last());
                match first.is_some_and(|m| !m.is_assistant()) && last.is_some_and(|m| m.is_assistant()) {
                    true => Ok(()),
                    false => {
                        let rule = "a conversation must begin with the user or the system, and end with the assistant";
                        Err(self.wrong("messages", rule.into()))
                    }
                }
            }
        }
    }
}

/// Whether a name may stand in records and logs as it is.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=100).contains(&name.len()) && name.chars().all(plain)
}

/// What is wrong with a text that holds control characters, which no model was trained on and a terminal would obey.
fn control(text: &str) -> Option<String> {
    let found = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))?;
    Some(format!("it holds the control character {}; remove it", found.escape_unicode()))
}
