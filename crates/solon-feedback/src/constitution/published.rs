//! The published constitution of Bai et al. 2022 (2212.08073), as its repository writes it: five files.
//!
//! `CritiqueRevisionInstructions.json` is an object `{"harmful0": {"prompt": ["\n\nCritiqueRequest: …\n\nCritique:"],
//! "edit_request": "\n\nRevisionRequest: …\n\nRevision:"}, …}`; `RLMadisonInstructions.json` is a list of strings that
//! end in "Options:". Their markers are removed, because every form of asking puts its own. The three files of few-shots
//! are kept byte for byte: `CritiqueRevisionFewShotPrompts.json` is a list of strings, `RLMadisonFewShotPrompts.json` one of
//! `{"prompt", "corrects", "incorrects"}`, `RLMadisonPrecogFewShotPrompts.json` one of `{"prompt"}`.
//!
//! Contract: entries keep the files' order, and an id depends on the place in the file alone.

use std::path::Path;

use super::fields::Fields;
use super::imports::{named_after, parse};
use super::value::Value;
use super::{ComparisonPrinciple, Constitution, FewShot, RevisionPrinciple, Shot, read};
use crate::FeedbackError;

/// The five files, in the order in which a folder's are read.
const FILES: [&str; 5] = [
    "CritiqueRevisionInstructions.json",
    "RLMadisonInstructions.json",
    "CritiqueRevisionFewShotPrompts.json",
    "RLMadisonFewShotPrompts.json",
    "RLMadisonPrecogFewShotPrompts.json",
];
const DESCRIPTION: &str = "Principles in the format of Bai et al. 2022 (2212.08073).";

/// Revision principles: an object of them.
pub(super) fn instructions(table: Vec<(String, Value)>, path: &Path) -> Result<Constitution, FeedbackError> {
    let mut constitution = named_after(path, DESCRIPTION);
    for (key, value) in table {
        let entry = format!("entry {key:?}");
        let mut instruction = Fields::of(path, entry, value, &["prompt", "edit_request"])?;
        let (prompts, edit_request) = (instruction.texts("prompt")?, instruction.text("edit_request")?);
        if prompts.is_empty() {
            return Err(instruction.wrong("prompt", "the list is empty; write one critique request"));
        }
        let several = prompts.len() > 1;
        for (number, prompt) in prompts.iter().enumerate() {
            constitution.revision.push(RevisionPrinciple {
                id: if several { format!("{key}.{number}") } else { key.clone() },
                critique: between(prompt, "CritiqueRequest:", "Critique:"),
                revision: between(&edit_request, "RevisionRequest:", "Revision:"),
                applies: Vec::new(),
                weight: 1.0,
            });
        }
    }
    Ok(constitution)
}

/// A list of strings: comparison principles, or few-shots of critique and revision, which contain both requests.
pub(super) fn texts(items: Vec<Value>, path: &Path) -> Result<Constitution, FeedbackError> {
    let mut constitution = named_after(path, DESCRIPTION);
    let mut texts = Vec::with_capacity(items.len());
    for (number, item) in items.into_iter().enumerate() {
        match item {
            Value::Text(text) => texts.push(text),
            other => {
                return Err(malformed(
                    path,
                    format!(
                        "entry {} of the list is of type {}; the entries before it are strings",
                        number + 1,
                        other.kind()
                    ),
                ));
            }
        }
    }
    let is_few_shot = |text: &String| text.contains("CritiqueRequest:") && text.contains("Revision:");
    if texts.iter().any(is_few_shot) {
        if let Some(place) = texts.iter().position(|text| !is_few_shot(text)) {
            return Err(malformed(
                path,
                format!(
                    "entry {} of the list is no worked critique and revision, as others are; give few-shots and \
                     comparison principles in a file each",
                    place + 1
                ),
            ));
        }
        for (number, text) in texts.into_iter().enumerate() {
            let (id, shot) = (format!("critique-shot{number}"), Shot::Critique { text });
            constitution.few_shot.push(FewShot { id, shot });
        }
    } else {
        for (number, text) in texts.iter().enumerate() {
            constitution.comparison.push(ComparisonPrinciple {
                id: format!("comparison{number}"),
                question: between(text, "", "Options:"),
                applies: Vec::new(),
                request: None,
                weight: 1.0,
            });
        }
    }
    Ok(constitution)
}

/// A list of objects: few-shots of comparisons, with answers of either kind or with a chain of thought.
pub(super) fn comparison_few_shots(items: Vec<Value>, path: &Path) -> Result<Constitution, FeedbackError> {
    let mut constitution = named_after(path, DESCRIPTION);
    for (number, item) in items.into_iter().enumerate() {
        let entry = format!("entry {} of the list", number + 1);
        let mut entry = Fields::of(path, entry, item, &["prompt", "corrects", "incorrects"])?;
        let few_shot = if entry.has("corrects") || entry.has("incorrects") {
            FewShot {
                id: format!("comparison-shot{number}"),
                shot: Shot::Comparison {
                    prompt: entry.text("prompt")?,
                    chosen: entry.texts("corrects")?,
                    rejected: entry.texts("incorrects")?,
                },
            }
        } else {
            FewShot {
                id: format!("comparison-cot-shot{number}"),
                shot: Shot::ComparisonCot { text: entry.text("prompt")? },
            }
        };
        constitution.few_shot.push(few_shot);
    }
    Ok(constitution)
}

/// A folder with any of the five files, read as one constitution.
pub(super) fn open_folder(folder: &Path) -> Result<Constitution, FeedbackError> {
    let mut whole = named_after(folder, DESCRIPTION);
    if let Some(name) = folder.file_name() {
        whole.name = name.to_string_lossy().into_owned();
    }
    let mut found = false;
    for path in FILES.map(|name| folder.join(name)).into_iter().filter(|path| path.is_file()) {
        let part = parse(&read(&path)?, &path)?;
        whole.revision.extend(part.revision);
        whole.comparison.extend(part.comparison);
        whole.few_shot.extend(part.few_shot);
        found = true;
    }
    if !found {
        return Err(malformed(
            folder,
            format!("the folder holds none of {}; give the path of a file", FILES.join(", ")),
        ));
    }
    whole.validate(folder)?;
    Ok(whole)
}

fn malformed(path: &Path, reason: String) -> FeedbackError {
    FeedbackError::Malformed { path: path.into(), reason }
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
    fn few_shots_keep_their_bytes() {
        let path = Path::new("a.json");
        let critique = " \n\nHuman: q\n\nCritiqueRequest: why\n\nCritique: c\n\nRevision: r\n\nHuman:\n";
        let text = serde_json::to_string(&[critique]).unwrap();
        let read = parse(&text, path).unwrap().few_shot;
        let id = "critique-shot0".to_owned();
        assert_eq!(read, [FewShot { id, shot: Shot::Critique { text: critique.into() } }]);

        let text =
            r#"[{"prompt": "\n\nHuman: q\n\nAssistant:", "corrects": [" a"], "incorrects": ["b ", "c"]}]"#;
        let [FewShot { id, shot: Shot::Comparison { prompt, chosen, rejected } }] =
            &parse(text, path).unwrap().few_shot[..]
        else {
            panic!("not a comparison")
        };
        assert_eq!((id.as_str(), prompt.as_str()), ("comparison-shot0", "\n\nHuman: q\n\nAssistant:"));
        assert_eq!((chosen.join("|"), rejected.join("|")), (" a".into(), "b |c".into()));

        let read = parse(r#"[{"prompt": "\n{}\nSo: (B) "}]"#, path).unwrap().few_shot;
        let id = "comparison-cot-shot0".to_owned();
        assert_eq!(read, [FewShot { id, shot: Shot::ComparisonCot { text: "\n{}\nSo: (B) ".into() } }]);
    }

    #[test]
    fn mistakes_name_the_entry() {
        let good = r#""a": {"prompt": ["x"], "edit_request": "y"}"#;
        for (text, said) in [
            (format!("{{{good}, {good}}}"), "\"a\" occurs twice"),
            (r#"{"b": {"prompt": ["x"], "prompt": ["z"], "edit_request": "y"}}"#.into(), "occurs twice"),
            (r#"{"b": {"prompt": ["x"]}}"#.into(), "edit_request"),
            (r#"{"b": {"prompt": ["x"], "edit_request": "y", "extra": 1}}"#.into(), "extra"),
            (r#"{"b": {"prompt": [], "edit_request": "y"}}"#.into(), "\"b\""),
            (r#"{"b": {"prompt": [" "], "edit_request": "y"}}"#.into(), "`critique`"),
            (r#"{"b": {"prompt": "x", "edit_request": "y"}}"#.into(), "\"b\", field `prompt`"),
            (r#"{"b": {"prompt": ["x", 2], "edit_request": "y"}}"#.into(), "number 2"),
            (r#"{"b": "x"}"#.into(), "\"b\" is of type string"),
            ("[]".into(), "no principle"),
            ("{}".into(), "no principle"),
            ("3".into(), "single integer"),
            (r#"["x", 3]"#.into(), "entry 2"),
            (r#"["x", "CritiqueRequest: c Revision: r"]"#.into(), "entry 1"),
            (r#"[{"prompt": "no place"}]"#.into(), "`{}` 0 times"),
            (r#"[{"prompt": "{} {}"}]"#.into(), "`{}` 2 times"),
            (r#"[{"prompt": "p", "corrects": ["a"]}]"#.into(), "entry 1 of the list, field `incorrects`"),
            (r#"[{"prompt": "p", "corrects": [], "incorrects": ["b"]}]"#.into(), "`chosen`"),
            (r#"[{"prompt": "p", "corrects": ["a"], "incorrects": ["b"], "more": 1}]"#.into(), "more"),
            (r#"[{"prompt": "p {}"}, "x"]"#.into(), "entry 2"),
            (r#"["a\u001b[2J"]"#.into(), "\\u{1b}"),
        ] {
            let error = parse(&text, Path::new("c.json")).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("c.json"), "{text}: {error}");
        }
    }

    #[test]
    fn the_published_folder_is_read_whole_and_byte_for_byte() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cai-paper/prompts");
        if !folder.is_dir() {
            eprintln!("skipped: {} is not there", folder.display());
            return;
        }
        let constitution = Constitution::open(&folder).unwrap();
        assert_eq!((constitution.revision.len(), constitution.comparison.len()), (16, 16));
        assert_eq!(constitution.name, "prompts");
        for number in 0..16 {
            assert_eq!(constitution.revision[number].id, format!("harmful{number}"));
            assert_eq!(constitution.comparison[number].id, format!("comparison{number}"));
        }
        for text in constitution.comparison.iter().map(|p| &p.question) {
            assert!(!text.contains("Options:") && text.trim() == text, "{text:?}");
        }
        let json = |name: &str| -> serde_json::Value {
            serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
        };
        let [critiques, comparisons, chains] = [FILES[2], FILES[3], FILES[4]].map(json);
        let counts = [&critiques, &comparisons, &chains].map(|list| list.as_array().unwrap().len());
        assert_eq!(counts, [5, 5, 6]);
        assert_eq!(constitution.few_shot.len(), 16);
        for (place, FewShot { id, shot }) in constitution.few_shot.iter().enumerate() {
            match shot {
                Shot::Critique { text } => {
                    assert_eq!(
                        (id, text.as_str()),
                        (&format!("critique-shot{place}"), critiques[place].as_str().unwrap())
                    );
                }
                Shot::Comparison { prompt, chosen, rejected } => {
                    let (number, published) = (place - 5, &comparisons[place - 5]);
                    assert_eq!(*id, format!("comparison-shot{number}"));
                    assert_eq!(prompt, published["prompt"].as_str().unwrap());
                    assert_eq!(serde_json::json!(chosen), published["corrects"]);
                    assert_eq!(serde_json::json!(rejected), published["incorrects"]);
                }
                Shot::ComparisonCot { text } => {
                    let number = place - 10;
                    assert_eq!(*id, format!("comparison-cot-shot{number}"));
                    assert_eq!(text, chains[number]["prompt"].as_str().unwrap());
                }
                Shot::CritiqueChat { .. } => panic!("{id}"),
            }
        }
        let alone = Constitution::open(&folder.join(FILES[4])).unwrap();
        assert_eq!(alone.few_shot, constitution.few_shot[10..]);
    }
}
