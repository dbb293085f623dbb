//! Sets of pairs that people have judged, to measure a labeller on.
//!
//! Contract: reads the Constitutional AI paper's comparisons and its questions about conversations (`evals/*.jsonl`), PandaLM's human
//! test set, hh-rlhf, and any file of preferences. The form is told from the content. What cannot measure anything is left out and counted:
//! ties, and pairs of hh-rlhf that share no prompt. Where a file always puts the better answer first, the order is drawn by the
//! pair's id.
//! Sources: anthropics/ConstitutionalHarmlessnessPaper; WeOpenML/PandaLM; anthropics/hh-rlhf.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use solon_data::jsonl::read_jsonl_numbered;
use solon_data::records::{LabelRow, parse_preference, read_labels};
use solon_draws::Draws;
use solon_records::{Message, Pair, Preference};

use crate::error::FeedbackError;
use crate::label::KnownPair;
use crate::quote::without_control;

/// Pairs and questions whose right answer people gave.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownSet {
    /// The file's name without its endings.
    pub name: String,
    /// What is asked.
    pub items: Vec<KnownItem>,
    /// Rows that are left out, by the reason.
    pub left_out: BTreeMap<&'static str, usize>,
}

/// Something whose right answer is known.
#[derive(Debug, Clone, PartialEq)]
pub enum KnownItem {
    /// Two answers, one of them better.
    Pair(KnownPair),
    /// A question with options, asked as it stands.
    Question(KnownQuestion),
}

/// A question with options.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownQuestion {
    /// Unique in the set.
    pub id: String,
    /// The question, which ends with the options.
    pub messages: Vec<Message>,
    /// The options: letters.
    pub options: Vec<String>,
    /// The place of the right one.
    pub right: usize,
}

impl KnownItem {
    /// Its id, unique in the set.
    pub fn id(&self) -> &str {
        match self {
            Self::Pair(known) => &known.pair.id,
            Self::Question(question) => &question.id,
        }
    }
}

impl KnownSet {
    /// The share that guessing gets right.
    pub fn chance(&self) -> f64 {
        let of = |item: &KnownItem| match item {
            KnownItem::Pair(_) => 0.5,
            KnownItem::Question(question) => 1.0 / question.options.len() as f64,
        };
        self.items.iter().map(of).sum::<f64>() / self.items.len().max(1) as f64
    }

    /// So many of its items, evenly spaced; all where `rows` is 0.
    #[must_use]
    pub fn spread(mut self, rows: usize) -> Self {
        let all = self.items.len();
        if rows > 0 && rows < all {
            let chosen = (0..rows).map(|n| self.items[n * all / rows].clone());
            self.items = chosen.collect();
        }
        self
    }
}

const TIE: &str = "ties";
const NO_PROMPT: &str = "pairs without a shared prompt";

/// Reads a file.
///
/// Errors where a row is of no form that is known, or nothing is left to measure.
pub fn read_known_set(path: &Path) -> Result<KnownSet, FeedbackError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.split('.').next().unwrap_or_default().to_owned();
    let mut set = KnownSet { name, items: Vec::new(), left_out: BTreeMap::new() };
    match first_row(path)? {
        First::Panda => panda(path, &mut set)?,
        First::Paper => paper(path, &mut set)?,
        First::Transcripts => transcripts(path, &mut set)?,
        First::Preference => preferences(path, &mut set)?,
    }
    if set.items.is_empty() {
        let reason = "no row of it has a better answer, so it measures nothing".to_owned();
        return Err(FeedbackError::Malformed { path: path.into(), reason });
    }
    Ok(set)
}

enum First {
    Panda,
    Paper,
    Transcripts,
    Preference,
}

/// What form the first row has.
fn first_row(path: &Path) -> Result<First, FeedbackError> {
    if path.extension().is_some_and(|extension| extension == "json") {
        return Ok(First::Panda);
    }
    let rows = rows(path)?;
    let has = |key: &str| rows.first().is_some_and(|(_, row)| row.get(key).is_some());
    Ok(match () {
        () if has("corrects") => First::Paper,
        () if has("prompt") || has("unlabelled") => First::Preference,
        () if rows.first().is_some_and(|(_, row)| row["chosen"].is_string()) => First::Transcripts,
        () => First::Preference,
    })
}

/// The rows of a file with their lines.
fn rows(path: &Path) -> Result<Vec<(usize, Value)>, FeedbackError> {
    let rows = read_jsonl_numbered::<Value>(path).map_err(FeedbackError::model)?;
    Ok(rows.into_iter().map(|row| (row.line, row.value)).collect())
}

fn wrong(path: &Path, line: usize, reason: impl std::fmt::Display) -> FeedbackError {
    FeedbackError::Malformed { path: path.into(), reason: format!("line {line}: {reason}") }
}

/// The id of a row.
fn row_id(line: usize) -> String {
    format!("line-{line}")
}

/// A preference as a known pair, its order drawn.
fn drawn(preference: Preference) -> KnownPair {
    let Preference { id, prompt, chosen, rejected, probability, cut_off, .. } = preference;
    let swap = Draws::new(0, "known pairs").item(&id).below(0, 2) == 1;
    let chosen_is_better = probability > 0.5;
    let (first, second) = if swap { (rejected, chosen) } else { (chosen, rejected) };
    let cut_off = if swap { [cut_off[1], cut_off[0]] } else { cut_off };
    let pair = Pair { id, prompt, first, second, cut_off, principle_id: None };
    KnownPair { pair, first_is_better: chosen_is_better != swap }
}

/// A file of preferences: whose probability is ½ is a tie.
fn preferences(path: &Path, set: &mut KnownSet) -> Result<(), FeedbackError> {
    for row in read_labels(path).map_err(FeedbackError::model)? {
        match row {
            LabelRow::Labelled(preference) if !preference.is_plain() => {
                *set.left_out
                    .entry("rows whose answers call tools or reason beside their text")
                    .or_default() += 1;
            }
            LabelRow::Labelled(preference) if preference.probability != 0.5 => {
                set.items.push(KnownItem::Pair(drawn(preference)));
            }
            LabelRow::Labelled(_) => *set.left_out.entry(TIE).or_default() += 1,
            LabelRow::Unlabelled { .. } => *set.left_out.entry("rows without a label").or_default() += 1,
        }
    }
    Ok(())
}

/// hh-rlhf: two whole transcripts.
fn transcripts(path: &Path, set: &mut KnownSet) -> Result<(), FeedbackError> {
    for (line, row) in rows(path)? {
        match parse_preference(row, row_id(line)) {
            Ok(preference) => set.items.push(KnownItem::Pair(drawn(preference))),
            Err(reason) if reason.contains("share no prompt") || reason.contains("a pair must differ in") => {
                *set.left_out.entry(NO_PROMPT).or_default() += 1;
            }
            Err(reason) => return Err(wrong(path, line, reason)),
        }
    }
    Ok(())
}

/// One row of the paper's files.
#[derive(Deserialize)]
struct PaperRow {
    prompt: String,
    corrects: Vec<String>,
    incorrects: Vec<String>,
    text_correct: Option<String>,
    text_incorrect: Option<String>,
}

/// The paper's comparisons, which hold both transcripts, and its questions, which hold their options.
fn paper(path: &Path, set: &mut KnownSet) -> Result<(), FeedbackError> {
    for (line, row) in rows(path)? {
        let row: PaperRow = serde_json::from_value(row).map_err(|error| wrong(path, line, error))?;
        let letter = |option: &String| option.trim().trim_matches(['(', ')']).to_owned();
        let [correct] = &row.corrects[..] else {
            return Err(wrong(path, line, "`corrects` has to hold one option"));
        };
        if let (Some(better), Some(worse)) = (row.text_correct, row.text_incorrect) {
            let transcripts = serde_json::json!({"chosen": better, "rejected": worse});
            match parse_preference(transcripts, row_id(line)) {
                Ok(preference) => {
                    // The file's own order.
                    let first_is_better = letter(correct) == "A";
                    let Preference { id, prompt, chosen, rejected, cut_off, .. } = preference;
                    let (first, second) =
                        if first_is_better { (chosen, rejected) } else { (rejected, chosen) };
                    let pair = Pair { id, prompt, first, second, cut_off, principle_id: None };
                    set.items.push(KnownItem::Pair(KnownPair { pair, first_is_better }));
                }
                Err(_) => *set.left_out.entry(NO_PROMPT).or_default() += 1,
            }
            continue;
        }
        let right = letter(correct);
        let mut options: Vec<String> = row.corrects.iter().chain(&row.incorrects).map(letter).collect();
        options.sort();
        let place = options.iter().position(|option| *option == right);
        let (Some(right), 2..) = (place, options.len()) else {
            return Err(wrong(path, line, "it needs two options or more"));
        };
        let question = without_control(row.prompt.trim());
        let question = question.strip_suffix("The answer is:").unwrap_or(&question).trim_end();
        let messages = vec![Message::user(format!("{question}\n\nReply with the letter alone."))];
        set.items.push(KnownItem::Question(KnownQuestion { id: row_id(line), messages, options, right }));
    }
    Ok(())
}

/// One row of PandaLM's test set: 1 and 2 name the better response, 0 a tie.
#[derive(Deserialize)]
struct PandaRow {
    idx: u64,
    instruction: String,
    input: String,
    #[serde(deserialize_with = "text")]
    response1: String,
    #[serde(deserialize_with = "text")]
    response2: String,
    annotator1: u8,
    annotator2: u8,
    annotator3: u8,
}

/// Six responses of the file stand there as true, and not as a text.
fn text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Bool(true) => Ok("True".to_owned()),
        Value::Bool(false) => Ok("False".to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(serde::de::Error::custom(format!("{other} is no text"))),
    }
}

/// PandaLM's test set, by the majority of its three annotators.
fn panda(path: &Path, set: &mut KnownSet) -> Result<(), FeedbackError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| FeedbackError::Read { path: path.into(), source })?;
    let rows: Vec<PandaRow> = serde_json::from_str(&text).map_err(|error| FeedbackError::Malformed {
        path: path.into(),
        reason: format!("a JSON file is to be PandaLM's test set with its annotators: {error}"),
    })?;
    for row in rows {
        let votes = [row.annotator1, row.annotator2, row.annotator3];
        let count = |verdict: u8| votes.iter().filter(|vote| **vote == verdict).count();
        let first_is_better = match (count(1), count(2)) {
            (2.., _) => true,
            (_, 2..) => false,
            _ => {
                *set.left_out.entry(TIE).or_default() += 1;
                continue;
            }
        };
        let prompt = match row.input.trim() {
            "" => row.instruction,
            input => format!("{}\n\n{input}", row.instruction),
        };
        let pair = Pair {
            id: row.idx.to_string(),
            prompt: vec![Message::user(prompt)],
            first: row.response1,
            second: row.response2,
            cut_off: [false; 2],
            principle_id: None,
        };
        set.items.push(KnownItem::Pair(KnownPair { pair, first_is_better }));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<KnownSet, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_known_set(&path).map_err(|error| error.to_string())
    }

    fn pairs(set: &KnownSet) -> Vec<(&str, &str, bool)> {
        let of = |item| match item {
            &KnownItem::Pair(KnownPair { ref pair, first_is_better }) => {
                (pair.first.as_str(), pair.second.as_str(), first_is_better)
            }
            KnownItem::Question(question) => panic!("{question:?}"),
        };
        set.items.iter().map(of).collect()
    }

    #[test]
    fn the_better_answer_is_the_published_one_in_every_form() {
        let preferences: String = (0..20)
            .map(|n| {
                format!("{{\"id\":\"{n}\",\"prompt\":\"Q\",\"chosen\":\"good\",\"rejected\":\"bad\"}}\n")
            })
            .collect();
        let tie = "{\"id\":\"t\",\"prompt\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\",\"probability\":0.5}\n";
        let set = read("mine.jsonl", &format!("{preferences}{tie}")).unwrap();
        assert_eq!((set.name.as_str(), set.items.len(), set.left_out[TIE]), ("mine", 20, 1));
        let shown = pairs(&set);
        let firsts = shown.iter().filter(|(first, second, first_is_better)| {
            assert_eq!(if *first_is_better { [first, second] } else { [second, first] }, [&"good", &"bad"]);
            *first_is_better
        });
        assert!((4..=16).contains(&firsts.count()), "the order is drawn");

        let hh = r#"{"chosen":"\n\nHuman: Q\n\nAssistant: good","rejected":"\n\nHuman: Q\n\nAssistant: bad"}
            {"chosen":"\n\nHuman: Q\n\nAssistant: good","rejected":"\n\nHuman: X\n\nAssistant: bad"}"#;
        let set = read("test.jsonl.gz", hh).unwrap();
        assert_eq!((set.name.as_str(), set.items.len(), set.left_out[NO_PROMPT]), ("test", 1, 1));

        let hhh = r#"{"prompt":"?","corrects":[" (B)"],"incorrects":[" (A)"],"text_correct":"\n\nHuman: Q\n\nAssistant: good","text_incorrect":"\n\nHuman: Q\n\nAssistant: bad"}"#;
        assert_eq!(pairs(&read("hhh.jsonl", hhh).unwrap()), [("bad", "good", false)]);

        let panda = r#"[{"idx":3,"instruction":"I","input":"in","response1":"bad","response2":"good","annotator1":2,"annotator2":0,"annotator3":2},
            {"idx":4,"instruction":"I","input":"","response1":"a","response2":"b","annotator1":1,"annotator2":0,"annotator3":2}]"#;
        let set = read("testset.json", panda).unwrap();
        assert_eq!((pairs(&set), set.left_out[TIE]), (vec![("bad", "good", false)], 1));
        let KnownItem::Pair(known) = &set.items[0] else { panic!("{set:?}") };
        assert_eq!(known.pair.prompt, [Message::user("I\n\nin")]);
    }

    #[test]
    fn a_question_keeps_its_options() {
        let row = r#"{"prompt":"Which?\n (A) One\n (B) Two\n (C) Three\nThe answer is:","corrects":[" (B)"],"incorrects":[" (A)"," (C)"]}"#;
        let set = read("kinds.jsonl", row).unwrap();
        let KnownItem::Question(question) = &set.items[0] else { panic!("{set:?}") };
        assert_eq!((question.options.concat().as_str(), question.right), ("ABC", 1));
        assert_eq!(
            question.messages[0].content,
            "Which?\n (A) One\n (B) Two\n (C) Three\n\nReply with the letter alone."
        );
        assert!((set.chance() - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn what_measures_nothing_is_refused() {
        for (name, text, part) in [
            (
                "x.jsonl",
                "{\"prompt\":\"Q\",\"chosen\":\"a\",\"rejected\":\"b\",\"probability\":0.5}",
                "measures nothing",
            ),
            ("x.jsonl", "{\"prompt\":\"Q\",\"chosen\":\"a\"}", "rejected"),
            ("x.json", "{}", "PandaLM"),
            ("x.jsonl", "{\"prompt\":\"Q\",\"corrects\":[],\"incorrects\":[]}", "line 1"),
        ] {
            let error = read(name, text).unwrap_err();
            assert!(error.contains(part) && error.contains(name), "{error}");
        }
    }

    #[test]
    fn the_published_sets_are_read_whole() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
        if !data.is_dir() {
            eprintln!("skipped: {} is not there", data.display());
            return;
        }
        for (file, items, left_out, chance) in [
            ("cai-paper/evals/438HHHEvaluations.jsonl", 438, 0, 0.5),
            ("cai-paper/evals/HarmfulVsEthical.jsonl", 254, 0, 0.5),
            ("cai-paper/evals/HarmfulnessClassification.jsonl", 287, 0, 1.0 / 9.0),
            ("pandalm/testset-v1.json", 894, 105, 0.5),
            ("hh-rlhf/harmless-base-test.jsonl.gz", 2312, 0, 0.5),
        ] {
            let set = read_known_set(&data.join(file)).unwrap();
            let out: usize = set.left_out.values().sum();
            assert_eq!(
                (set.items.len() + out, out),
                (items + left_out, left_out),
                "{file}: {:?}",
                set.left_out
            );
            assert!((set.chance() - chance).abs() < 1e-9, "{file}");
        }
    }
}
