//! Perplexity of a text: how far does a model expect it?
//!
//! Contract: reads a text file, which is one document, or JSONL with `text`, a document a line. A document is cut into windows
//! of so many characters, at white space, and the log-prob of each window is measured from its start. What is reported is of the
//! text's bytes and words, so models with other tokenizers can be compared: bits per byte and nats per word, whose exponential is
//! the word perplexity. lm-evaluation-harness does the same for `wikitext` (`bits_per_byte`, `word_perplexity`), with disjoint
//! windows as long as the model's context; shorter windows give higher figures.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use solon_records::Message;

use super::{Known, Open, Settings, first, jsonl, part, read};
use crate::benchmark::{
    Answer, Ask, Benchmark, Better, Group, Item, Judgement, Measure, Method, Outcome, Unit,
};
use crate::error::EvalError;

/// The benchmark in the list of all.
pub const KNOWN: Known = Known {
    name: "perplexity",
    about: "Perplexity of a text of yours: bits per byte, nats per word",
    data: "a text file, or JSONL with `text`",
    groups: &GROUPS,
    files: &[],
    open: Open::Files(open),
};

const GROUPS: [Group; 1] =
    [Group { name: "text", heading: "Windows of the text", by_category: "bits_per_byte" }];

const MEASURES: [Measure; 3] = [
    number(
        "bits_per_byte",
        "bits per byte",
        "The text's negative log-prob in bits, for each of its bytes; a window counts by its length.",
    ),
    number(
        "nats_per_word",
        "nats per word",
        "The same in nats, for each of its words; e to this power is the word perplexity.",
    ),
    crate::options::TRUNCATED,
];

/// There is no highest: a text can be as unlikely as you like.
const fn number(key: &'static str, title: &'static str, explanation: &'static str) -> Measure {
    let unit = Unit::Number { least: 0.0, most: f64::INFINITY };
    Measure::share(key, title, explanation, Better::Lower, &[]).in_unit(unit)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Characters of a window.
    #[serde(default = "window")]
    window: usize,
    /// So many windows are asked, from the start; 0 asks all.
    #[serde(default)]
    limit: usize,
}

/// About 1,000 tokens of English.
fn window() -> usize {
    4000
}

#[derive(Deserialize)]
struct Document {
    text: String,
}

struct Perplexity {
    items: Vec<Item>,
    /// Bytes and words of a window, on average.
    mean: [f64; 2],
    file: PathBuf,
    window: usize,
    limit: usize,
}

fn open(path: &Path, settings: Settings) -> Result<Box<dyn Benchmark>, EvalError> {
    let Keys { window, limit } = read(KNOWN.name, settings)?;
    if window == 0 {
        let reason = "window = 0\nhint: give the characters of a window".to_owned();
        return Err(EvalError::Settings { benchmark: KNOWN.name.to_owned(), reason });
    }
    let wrong = |reason: String| EvalError::File { path: path.to_owned(), reason };
    let documents: Vec<String> = match path.extension().is_some_and(|ending| ending == "jsonl") {
        true => jsonl(path)?.into_iter().map(|Document { text }| text).collect(),
        false => vec![std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?],
    };
    let mut items = Vec::new();
    for (number, document) in documents.iter().enumerate() {
        for (place, text) in windows(document.trim_end(), window).into_iter().enumerate() {
            items.push(Item {
                id: format!("{number}/{place}"),
                messages: vec![Message::user("")],
                options: vec![text.to_owned()],
                right: vec![0],
                group: GROUPS[0].name,
                ..Item::default()
            });
        }
    }
    first(&mut items, limit);
    if items.is_empty() {
        return Err(wrong("the file has no text".to_owned()));
    }
    let sizes = items.iter().map(|item| size(&item.options[0]));
    let total = sizes.fold([0.0, 0.0], |[bytes, words], [b, w]| [bytes + b, words + w]);
    let mean = total.map(|total| total / items.len() as f64);
    Ok(Box::new(Perplexity { items, mean, file: path.to_owned(), window, limit }))
}

/// Bytes and words of a text; a text without white space is one word.
fn size(text: &str) -> [f64; 2] {
    [text.len() as f64, text.split_whitespace().count() as f64]
}

/// The text in pieces of at most `most` characters, cut before white space where there is some. Nothing is left out.
fn windows(text: &str, most: usize) -> Vec<&str> {
    let mut rest = text;
    let mut found = Vec::new();
    while let Some((end, _)) = rest.char_indices().nth(most) {
        let space = rest[..end].rfind(char::is_whitespace).filter(|at| !rest[..*at].trim().is_empty());
        let (piece, after) = rest.split_at(if rest[end..].starts_with(char::is_whitespace) {
            end
        } else {
            space.unwrap_or(end)
        });
        found.push(piece);
        rest = after;
    }
    if !rest.trim().is_empty() {
        found.push(rest);
    }
    found
}

impl Benchmark for Perplexity {
    fn known(&self) -> &'static Known {
        &KNOWN
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn ask(&self) -> Ask {
        Ask::Choose { template: false }
    }

    fn judge(&self, item: &Item, answer: &Answer) -> Judgement {
        let nats = -answer.log_probs.first().copied().unwrap_or(f64::NAN);
        let [bytes, words] = self.mean;
        // Over the mean length: so the mean of these is the sum of all over the text's length.
        let number =
            |number: f64| if number.is_finite() { Outcome::Number(number) } else { Outcome::Unknown };
        let outcomes = [
            ("bits_per_byte", number(nats / bytes / std::f64::consts::LN_2)),
            ("nats_per_word", number(nats / words)),
            (crate::options::TRUNCATED.key, answer.truncated.into()),
        ];
        let outcomes = outcomes.map(|(key, outcome)| (key.to_owned(), outcome));
        let own = size(item.options.first().map(String::as_str).unwrap_or_default())[0];
        let verdict = format!("{:.3} bits per byte", nats / own / std::f64::consts::LN_2);
        Judgement { verdict, fault: None, outcomes: outcomes.into() }
    }

    fn measures(&self) -> &'static [Measure] {
        &MEASURES
    }

    fn rule(&self) -> &'static str {
        "perplexity"
    }

    fn method(&self) -> Method {
        Method {
            asked: format!(
                "The text of {} as plain text, in {} windows of up to {} characters, each from its start.{}",
                self.file.file_name().unwrap_or_default().to_string_lossy(),
                self.items.len(),
                self.window,
                part(self.limit)
            ),
            judged: "The log-prob of the text is measured, for each of its bytes and words. Longer windows give lower figures."
                .to_owned(),
            believed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::tests::describes_itself_consistently;
    use crate::{Judged, summarise};

    fn opened(name: &str, text: &str, keys: serde_json::Value) -> Result<Box<dyn Benchmark>, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        open(&file, keys.as_object().unwrap().clone())
    }

    #[test]
    fn a_text_is_cut_at_white_space_and_nothing_is_lost() {
        for (text, most, expected) in [
            ("one two three", 7, &["one two", " three"][..]),
            ("one two three", 6, &["one", " two", " three"]),
            ("été\n\nà la mer", 6, &["été\n\nà", " la", " mer"]),
            ("abcdefgh", 3, &["abc", "def", "gh"]),
            ("short", 9, &["short"]),
            ("", 9, &[]),
        ] {
            let found = windows(text, most);
            assert_eq!((found.concat(), &found[..]), (text.to_owned(), expected), "{text}");
        }
    }

    #[test]
    fn windows_count_by_their_length() {
        let benchmark = opened("t.txt", "one two three four\n", serde_json::json!({"window": 13})).unwrap();
        describes_itself_consistently(&KNOWN, &*benchmark);
        let texts: Vec<&str> = benchmark.items().iter().map(|item| item.options[0].as_str()).collect();
        assert_eq!(texts, ["one two three", " four"]);
        let nats = [13.0, 3.0];
        let judged = benchmark
            .items()
            .iter()
            .zip(nats)
            .map(|(item, nats)| Judged::new(&*benchmark, item, Answer::chosen(item, vec![-nats], false)));
        let summary = summarise(&*benchmark, judged.collect::<Vec<_>>()).unwrap();
        let value = |key: &str| summary.figure(key).unwrap().value();
        assert!((value("bits_per_byte") - 16.0 / 18.0 / std::f64::consts::LN_2).abs() < 1e-12);
        assert!((value("nats_per_word") - 4.0).abs() < 1e-12);
    }

    #[test]
    fn documents_are_lines_of_jsonl() {
        let text = "{\"text\": \"a b c\"}\n{\"text\": \"d\", \"x\": 1}\n";
        let benchmark = opened("t.jsonl", text, serde_json::json!({})).unwrap();
        let ids: Vec<&str> = benchmark.items().iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, ["0/0", "1/0"]);
        for (name, text, keys, part) in [
            ("t.txt", " \n", serde_json::json!({}), "the file has no text"),
            ("t.jsonl", "{\"txt\": 1}", serde_json::json!({}), "line 1: missing field `text`"),
            ("t.txt", "a", serde_json::json!({"window": 0}), "hint: give the characters"),
        ] {
            let error = opened(name, text, keys).err().unwrap().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
