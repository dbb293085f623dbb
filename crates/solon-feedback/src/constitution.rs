//! A constitution: principles for critique and revision, questions for comparison, and worked examples of both.
//!
//! Contract: what [`Constitution::open`] returns is valid. Ids are unique in the file and use plain characters, no text
//! is empty, every example names a revision principle that exists, and unknown keys are refused. Errors name the file,
//! the entry and the field. Sources: `constitutions/default.toml` (this project's format) and the published files of
//! Bai et al. 2022 (`CritiqueRevisionInstructions.json`, `RLMadisonInstructions.json`), see [`published`].

mod fields;
mod published;

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;

use crate::FeedbackError;
use fields::Fields;

/// What is known of a prompt: where its file puts it. Nothing where the file does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// Such as `harmful`, `harmless`, `sounds-harmful`, `unanswerable`.
    pub kind: Option<&'a str>,
    /// Such as `fraud`.
    pub category: Option<&'a str>,
}

impl<'a> About<'a> {
    /// What is known of a prompt of this kind and category.
    pub fn new(kind: Option<&'a str>, category: Option<&'a str>) -> Self {
        Self { kind, category }
    }

    /// Whether a principle with this `applies` is about the prompt. A principle without one is about every prompt, and
    /// every principle is about a prompt of which nothing is known.
    pub fn fits(&self, applies: &[String]) -> bool {
        let known = [self.kind, self.category];
        let listed = |name: &str| applies.iter().any(|listed| listed == name);
        applies.is_empty() || known == [None, None] || known.into_iter().flatten().any(listed)
    }
}

/// A principle of the supervised stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RevisionPrinciple {
    /// Unique in the constitution.
    pub id: String,
    /// Asks for a critique of an answer.
    pub critique: String,
    /// Asks for a revision of the answer.
    pub revision: String,
    /// Kinds and categories of prompts it is about; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applies: Vec<String>,
}

/// A principle of the preference stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComparisonPrinciple {
    /// Unique in the constitution.
    pub id: String,
    /// Asks which of two answers is better.
    pub question: String,
    /// Kinds and categories of prompts it is about; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applies: Vec<String>,
    /// Asks about the request alone. Yes means that by this principle the assistant should decline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A worked critique and revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkedExample {
    /// Unique in the constitution.
    pub id: String,
    /// The kind of request, such as `harmful`, `sounds-harmful`, `harmless`, `unanswerable`.
    pub kind: String,
    /// The subject, such as `fraud`.
    pub category: String,
    /// The id of the [`RevisionPrinciple`] that it illustrates.
    pub principle: String,
    /// The user's request.
    pub request: String,
    /// An answer with a fault.
    pub flawed: String,
    /// What is wrong with it.
    pub critique: String,
    /// The better answer.
    pub revision: String,
}

/// A written constitution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Constitution {
    /// Its name; the file's name for a published JSON file.
    pub name: String,
    /// Its version, from 1.
    pub version: u32,
    /// What it is for.
    pub description: String,
    /// Revision principles, in the file's order.
    pub revision: Vec<RevisionPrinciple>,
    /// Comparison principles, in the file's order.
    pub comparison: Vec<ComparisonPrinciple>,
    /// Worked examples, in the file's order.
    pub example: Vec<WorkedExample>,
}

impl Constitution {
    /// Reads a `.toml` constitution, a published `.json` file, or a folder holding the two published files.
    pub fn open(path: &Path) -> Result<Self, FeedbackError> {
        if path.is_dir() {
            return published::open_folder(path);
        }
        let text = read(path)?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Self::parse_toml(&text, path),
            Some("json") => published::parse(&text, path),
            _ => Err(FeedbackError::Malformed {
                path: path.into(),
                reason: "the file name must end in .toml or .json; rename the file to match its format"
                    .into(),
            }),
        }
    }

    /// Reads a constitution from TOML text; `origin` names it in errors.
    pub fn parse_toml(text: &str, origin: &Path) -> Result<Self, FeedbackError> {
        let table: toml::Table = toml::from_str(text).map_err(|error| FeedbackError::Malformed {
            path: origin.into(),
            reason: format!("not valid TOML: {error}"),
        })?;
        let keys = ["name", "version", "description", "revision", "comparison", "example"];
        let mut top = Fields::new(origin, "the top level".into(), table, &keys)?;
        let mut constitution = Constitution {
            name: top.text("name")?,
            version: top.version("version")?,
            description: top.text("description")?,
            revision: Vec::new(),
            comparison: Vec::new(),
            example: Vec::new(),
        };
        for mut entry in top.entries("revision", &["id", "applies", "critique", "revision"])? {
            constitution.revision.push(RevisionPrinciple {
                id: entry.text("id")?,
                critique: entry.text("critique")?,
                revision: entry.text("revision")?,
                applies: entry.names("applies")?,
            });
        }
        for mut entry in top.entries("comparison", &["id", "applies", "request", "question"])? {
            constitution.comparison.push(ComparisonPrinciple {
                id: entry.text("id")?,
                question: entry.text("question")?,
                applies: entry.names("applies")?,
                request: entry.some_text("request")?,
            });
        }
        let keys = ["id", "kind", "category", "principle", "request", "flawed", "critique", "revision"];
        for mut entry in top.entries("example", &keys)? {
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
        constitution.validate(origin)?;
        Ok(constitution)
    }

    /// The revision principle with this id.
    pub fn revision_principle(&self, id: &str) -> Option<&RevisionPrinciple> {
        self.revision.iter().find(|principle| principle.id == id)
    }

    /// The comparison principle with this id.
    pub fn comparison_principle(&self, id: &str) -> Option<&ComparisonPrinciple> {
        self.comparison.iter().find(|principle| principle.id == id)
    }

    /// The comparison principles that ask about the request alone, with their questions, in the file's order.
    pub fn request_questions(&self) -> Vec<(&ComparisonPrinciple, &str)> {
        self.comparison.iter().filter_map(|p| Some((p, p.request.as_deref()?.trim()))).collect()
    }

    /// Checks what the types cannot express; `origin` names the constitution in errors.
    pub fn validate(&self, origin: &Path) -> Result<(), FeedbackError> {
        if self.revision.is_empty() && self.comparison.is_empty() {
            return Err(FeedbackError::Malformed {
                path: origin.into(),
                reason: "it has no principle; add a [[revision]] or a [[comparison]] entry".into(),
            });
        }
        let mut seen: HashMap<&str, &str> = HashMap::new();
        let check = |table: &'static str, id: &str, texts: &[(&str, &str)]| {
            let wrong = |field: &str, reason: String| FeedbackError::Entry {
                path: origin.into(),
                entry: format!("[[{table}]] {id:?}"),
                field: field.into(),
                reason,
            };
            if !is_plain(id) {
                let rule = "an id must be 1 to 100 letters, digits, `-`, `_` or `.`, because it is used in records and logs";
                return Err(wrong("id", rule.into()));
            }
            match texts.iter().find(|(_, text)| text.trim().is_empty()) {
                Some((field, _)) => {
                    Err(wrong(field, "it is empty; give it a text, or remove the entry".into()))
                }
                None => Ok(()),
            }
        };
        let applies = |table: &str, id: &str, names: &[String]| match names
            .iter()
            .find(|name| !is_plain(name))
        {
            Some(name) => Err(FeedbackError::Entry {
                path: origin.into(),
                entry: format!("[[{table}]] {id:?}"),
                field: "applies".into(),
                reason: format!(
                    "{name:?} is no kind or category of prompts; a name is 1 to 100 letters, digits, `-`, `_` or `.`"
                ),
            }),
            None => Ok(()),
        };
        for p in &self.revision {
            check("revision", &p.id, &[("critique", &p.critique), ("revision", &p.revision)])?;
            applies("revision", &p.id, &p.applies)?;
        }
        for p in &self.comparison {
            let request = p.request.as_deref().map(|request| ("request", request));
            let texts: Vec<_> = [("question", p.question.as_str())].into_iter().chain(request).collect();
            check("comparison", &p.id, &texts)?;
            applies("comparison", &p.id, &p.applies)?;
        }
        for e in &self.example {
            let texts = [
                ("kind", e.kind.as_str()),
                ("category", &e.category),
                ("request", &e.request),
                ("flawed", &e.flawed),
                ("critique", &e.critique),
                ("revision", &e.revision),
            ];
            check("example", &e.id, &texts)?;
        }
        let ids = (self.revision.iter().map(|p| ("revision", p.id.as_str())))
            .chain(self.comparison.iter().map(|p| ("comparison", p.id.as_str())))
            .chain(self.example.iter().map(|e| ("example", e.id.as_str())));
        for (table, id) in ids {
            if let Some(earlier) = seen.insert(id, table) {
                return Err(FeedbackError::Entry {
                    path: origin.into(),
                    entry: format!("[[{table}]] {id:?}"),
                    field: "id".into(),
                    reason: format!(
                        "an earlier [[{earlier}]] entry has this id; give each entry of the file its own id"
                    ),
                });
            }
        }
        for e in &self.example {
            let wrong = |field: &str, reason: String| FeedbackError::Entry {
                path: origin.into(),
                entry: format!("[[example]] {:?}", e.id),
                field: field.into(),
                reason,
            };
            if self.revision_principle(&e.principle).is_none() {
                let reason =
                    format!("no [[revision]] entry has the id {:?}; name one that exists", e.principle);
                return Err(wrong("principle", reason));
            }
            if e.flawed.trim() == e.revision.trim() {
                return Err(wrong(
                    "revision",
                    "it equals `flawed`, so nothing can be learnt from it; rewrite it".into(),
                ));
            }
        }
        Ok(())
    }
}

/// Whether a name may stand in records and logs as it is.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=100).contains(&name.len()) && name.chars().all(plain)
}

fn read(path: &Path) -> Result<String, FeedbackError> {
    std::fs::read_to_string(path).map_err(|source| FeedbackError::Read { path: path.into(), source })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The constitution this project ships.
    pub fn default_constitution() -> Constitution {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../constitutions/default.toml");
        Constitution::open(&path).unwrap()
    }

    const GOOD: &str = r#"
name = "t"
version = 1
description = "d"
[[revision]]
id = "kind"
critique = "Is it kind?"
revision = "Make it kind."
[[comparison]]
id = "kinder"
applies = ["harmful", "fraud"]
request = "Is it unkind?"
question = "Which is kinder?"
[[example]]
id = "e"
kind = "harmful"
category = "c"
principle = "kind"
request = "q"
flawed = "f"
critique = "c"
revision = "r"
"#;

    #[track_caller]
    fn refused(from: &str, to: &str, said: &[&str]) {
        assert!(GOOD.contains(from), "the test's own text lacks {from:?}");
        let error = Constitution::parse_toml(&GOOD.replacen(from, to, 1), Path::new("my.toml")).unwrap_err();
        let error = error.to_string();
        for part in said.iter().chain(&["my.toml"]) {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }

    #[test]
    fn the_shipped_constitution_is_valid() {
        let constitution = default_constitution();
        assert!(constitution.revision.len() >= 16 && constitution.comparison.len() >= 16);
        assert!(constitution.example.len() >= 100);
    }

    #[test]
    fn a_principle_is_about_what_it_lists() {
        let read = Constitution::parse_toml(GOOD, Path::new("my.toml")).unwrap();
        let (everything, kinder) = (&read.revision[0].applies, &read.comparison[0].applies);
        let fits = |kind, category, applies: &[String]| About::new(kind, category).fits(applies);
        assert!(fits(Some("harmless"), Some("travel"), everything) && fits(None, None, kinder));
        assert!(fits(Some("harmful"), Some("theft"), kinder) && fits(None, Some("fraud"), kinder));
        assert!(!fits(Some("harmless"), Some("travel"), kinder) && !fits(None, Some("theft"), kinder));
        assert_eq!(read.request_questions(), [(&read.comparison[0], "Is it unkind?")]);
        let json = serde_json::to_value(&read).unwrap();
        assert!(json["revision"][0].get("applies").is_none(), "{json}");
        assert_eq!(json["comparison"][0]["applies"][1], "fraud");
    }

    /// Kinds and categories of this project's own training prompts.
    const CATEGORIES: [(&str, &[&str]); 4] = [
        (
            "harmful",
            &[
                "legal-evasion",
                "harassment",
                "child-safety",
                "animal-cruelty",
                "academic-dishonesty",
                "property-damage",
                "self-harm",
                "cybercrime",
                "violence",
                "misinformation",
                "hate",
                "sexual-misconduct",
                "extremism",
                "theft",
                "weapons",
                "fraud",
                "drugs",
                "illegal-trade",
                "privacy",
                "dangerous-chemistry",
            ],
        ),
        ("sounds-harmful", &["homonym"]),
        ("harmless", &["cooking"]),
        ("unanswerable", &["invented-thing"]),
    ];

    #[test]
    fn the_shipped_principles_cover_the_shipped_prompts() {
        let constitution = default_constitution();
        let (harmful, others) = CATEGORIES.split_first().unwrap();
        for category in harmful.1 {
            // A category needs a principle of its own, not only one about everything harmful.
            let about = About::new(None, Some(category));
            assert!(constitution.revision.iter().any(|p| about.fits(&p.applies)), "{category}");
            assert!(
                constitution.request_questions().iter().any(|(p, _)| about.fits(&p.applies)),
                "{category}"
            );
        }
        for (kind, categories) in others {
            let about = About::new(Some(kind), Some(categories[0]));
            assert!(constitution.revision.iter().any(|p| about.fits(&p.applies)), "{kind}");
            assert!(constitution.comparison.iter().any(|p| about.fits(&p.applies)), "{kind}");
            // Yes to a request question means that the assistant should decline.
            assert!(!constitution.request_questions().iter().any(|(p, _)| about.fits(&p.applies)), "{kind}");
        }
        let kinds: HashMap<&str, usize> = constitution.example.iter().fold(HashMap::new(), |mut all, e| {
            *all.entry(e.kind.as_str()).or_default() += 1;
            all
        });
        assert!(CATEGORIES.iter().all(|(kind, _)| kinds.contains_key(kind)) && kinds.len() == 4, "{kinds:?}");
        assert!(kinds["unanswerable"] >= 12);
        let known: Vec<&str> =
            CATEGORIES.iter().flat_map(|(kind, names)| [kind].into_iter().chain(*names)).copied().collect();
        let named = (constitution.revision.iter().flat_map(|p| &p.applies))
            .chain(constitution.comparison.iter().flat_map(|p| &p.applies));
        for name in named {
            assert!(known.contains(&name.as_str()), "no prompt has the kind or category {name}");
        }
    }

    #[test]
    fn errors_name_file_entry_and_field() {
        Constitution::parse_toml(GOOD, Path::new("my.toml")).unwrap();
        refused("question = ", "qestion = ", &["[[comparison]] \"kinder\"", "`qestion`", "question"]);
        refused("flawed = \"f\"", "flawed = \" \"", &["[[example]] \"e\"", "`flawed`", "empty"]);
        refused("flawed = \"f\"\n", "", &["[[example]] \"e\"", "`flawed`", "missing"]);
        refused("flawed = \"f\"", "flawed = 3", &["[[example]] \"e\"", "`flawed`", "integer"]);
        refused("principle = \"kind\"", "principle = \"cold\"", &["\"e\"", "`principle`", "\"cold\""]);
        refused("id = \"kinder\"", "id = \"kind\"", &["[[comparison]] \"kind\"", "`id`", "[[revision]]"]);
        refused("id = \"e\"", "id = \"a b\"", &["[[example]] \"a b\"", "`id`"]);
        refused("id = \"e\"\n", "", &["[[example]] number 1", "`id`", "missing"]);
        refused("revision = \"r\"", "revision = \"f\"", &["\"e\"", "`revision`", "`flawed`"]);
        refused("\"harmful\", ", "\"harm ful\", ", &["\"kinder\"", "`applies`", "harm ful"]);
        refused("[\"harmful\", \"fraud\"]", "[]", &["\"kinder\"", "`applies`", "leave it out"]);
        refused("[\"harmful\", \"fraud\"]", "\"fraud\"", &["\"kinder\"", "`applies`", "string", "list"]);
        refused("\"harmful\", \"fraud\"", "\"fraud\", 3", &["\"kinder\"", "`applies`", "integer"]);
        refused("request = \"Is it unkind?\"", "request = \" \"", &["\"kinder\"", "`request`", "empty"]);
        refused("request = \"Is it unkind?\"", "request = 1", &["\"kinder\"", "`request`", "integer"]);
        refused("[[comparison]]", "[comparison]", &["`comparison`", "[[comparison]]"]);
        refused("version = 1", "version = 0", &["`version`"]);
        refused("name = \"t\"", "name = ", &["line 2"]);
    }
}
