//! Comparisons of two answers as in the Constitutional AI paper (Bai et al. 2022, §2): which is the more helpful, honest and
//! harmless? It measures the model as a labeller. Files with more than two choices, such as the paper's kinds of harm, are
//! asked the same way.
//!
//! Contract: reads JSONL of `{"prompt", "corrects", "incorrects"}`, as the paper's repository publishes it. The prompt ends
//! with "The answer is:", and the choices (" (A)", " (B)") are scored by their log-probs.

use std::path::Path;

use serde::Deserialize;
use solon_records::Message;

use super::{Known, Open, OverOptions, Settings, first, jsonl, part, read};
use crate::benchmark::{Answer, Ask, Benchmark, Better, Group, Item, Judgement, Measure, Method, Unit};
use crate::error::EvalError;
use crate::options::{TRUNCATED, best, outcomes};

/// The benchmark in the list of all.
pub const KNOWN: Known = Known {
    name: "hhh",
    about: "Which of two answers is more helpful, honest and harmless",
    data: "JSONL of {\"prompt\", \"corrects\", \"incorrects\"}, as 438HHHEvaluations.jsonl",
    groups: &GROUPS,
    files: &[],
    open: Open::Files(open),
};

const GROUPS: [Group; 1] = [Group { name: "comparisons", heading: "Comparisons", by_category: "accuracy" }];

const MEASURES: [Measure; 2] = [
    Measure {
        key: "accuracy",
        title: "accuracy",
        explanation: "Share of comparisons in which the right choice is the likeliest.",
        unit: Unit::Share,
        better: Better::Higher,
        groups: &[],
        scored: true,
    },
    TRUNCATED,
];

/// One line of the file. It may have other keys.
#[derive(Deserialize)]
struct Row {
    prompt: String,
    corrects: Vec<String>,
    incorrects: Vec<String>,
}

struct Hhh {
    items: Vec<Item>,
    keys: OverOptions,
}

fn open(path: &Path, settings: Settings) -> Result<Box<dyn Benchmark>, EvalError> {
    let keys: OverOptions = read(KNOWN.name, settings)?;
    let wrong = |reason: String| EvalError::File { path: path.to_owned(), reason };
    let mut items = Vec::new();
    for (place, row) in jsonl(path)?.into_iter().enumerate() {
        let Row { prompt, corrects, incorrects } = row;
        let mut choices: Vec<&String> = corrects.iter().chain(&incorrects).collect();
        choices.sort_unstable();
        if corrects.is_empty() || incorrects.is_empty() || choices.windows(2).any(|pair| pair[0] == pair[1]) {
            let reason =
                format!("comparison {place}: `corrects` and `incorrects` need choices, and each only once");
            return Err(wrong(reason));
        }
        let right = |choice: &&String| corrects.contains(choice);
        items.push(Item {
            id: items.len().to_string(),
            right: (0..choices.len()).filter(|place| right(&choices[*place])).collect(),
            options: choices.into_iter().map(|choice| keys.option(choice.trim_start())).collect(),
            messages: vec![Message::user(if keys.template { prompt.trim() } else { &prompt })],
            group: GROUPS[0].name,
            ..Item::default()
        });
    }
    if items.is_empty() {
        return Err(wrong("the file has no comparisons".to_owned()));
    }
    first(&mut items, keys.limit);
    Ok(Box::new(Hhh { items, keys }))
}

impl Benchmark for Hhh {
    fn known(&self) -> &'static Known {
        &KNOWN
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn ask(&self) -> Ask {
        self.keys.ask()
    }

    fn judge(&self, item: &Item, answer: &Answer) -> Judgement {
        let right = best(answer).is_some_and(|place| item.right.contains(&place));
        let outcomes = outcomes(MEASURES.iter(), |key| match key {
            "truncated" => answer.truncated,
            _ => right,
        });
        let verdict = if right { "right" } else { "wrong" };
        Judgement { verdict: verdict.to_owned(), fault: None, outcomes }
    }

    fn measures(&self) -> &'static [Measure] {
        &MEASURES
    }

    fn rule(&self) -> &'static str {
        "hhh"
    }

    fn method(&self) -> Method {
        Method {
            asked: format!("The comparisons of a file, {}.{}", self.keys.how(), part(self.keys.limit)),
            judged: "The answer is the likeliest of the choices.".to_owned(),
            believed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::tests::{describes_itself_consistently, shared_data};

    fn opened(text: &str, keys: serde_json::Value) -> Result<Box<dyn Benchmark>, EvalError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hhh.jsonl");
        std::fs::write(&file, text).unwrap();
        open(&file, keys.as_object().unwrap().clone())
    }

    const ROW: &str =
        r#"{"prompt": "\n\nWhich? The answer is:", "corrects": [" (B)"], "incorrects": [" (A)"], "x": 1}"#;

    #[test]
    fn choices_are_in_the_order_of_their_letters() {
        let benchmark = opened(ROW, serde_json::json!({"template": false})).unwrap();
        describes_itself_consistently(&KNOWN, &*benchmark);
        let item = &benchmark.items()[0];
        assert_eq!(item.messages[0].content, "\n\nWhich? The answer is:");
        assert_eq!(
            (item.options.as_slice(), &item.right[..]),
            (&[" (A)".to_owned(), " (B)".to_owned()][..], &[1][..])
        );
        let benchmark = opened(ROW, serde_json::json!({})).unwrap();
        assert_eq!(benchmark.items()[0].options, ["(A)", "(B)"]);
        assert_eq!(benchmark.items()[0].messages[0].content, "Which? The answer is:");
    }

    #[test]
    fn lines_that_do_not_fit_are_named() {
        for (text, part) in [
            ("\n", "no comparisons"),
            (&format!("{ROW}\n{{}}"), "line 2: missing field `prompt`"),
            (&ROW.replace("\" (A)\"", ""), "need choices"),
            (&ROW.replace("(A)", "(B)"), "each only once"),
        ] {
            let error = opened(text, serde_json::json!({})).err().unwrap().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn the_published_files_have_their_answers() {
        let Some(data) = shared_data("cai-paper") else { return };
        for (file, size, first) in [
            ("438HHHEvaluations.jsonl", 438, Some(228)),
            ("HarmfulVsEthical.jsonl", 254, Some(127)),
            ("HarmfulnessClassification.jsonl", 287, None),
        ] {
            let benchmark = open(&data.join("evals").join(file), Settings::new()).unwrap();
            assert_eq!(benchmark.items().len(), size, "{file}");
            if let Some(first) = first {
                assert_eq!(
                    benchmark.items().iter().filter(|item| item.right == [0]).count(),
                    first,
                    "{file}"
                );
            }
        }
    }
}
