//! MMLU (Hendrycks et al., ICLR 2021): multiple-choice questions of 57 subjects, scored by the log-probs of the choices.
//!
//! Contract: reads the official files, one CSV a subject and split (`test/anatomy_test.csv`), with or without a header,
//! the answer as a letter or a number. A folder with none of the official subjects has its own ([`subjects`]). Prompts, scoring and groups are those of the harness that [`Format`] names.
//! Sources: lm-evaluation-harness 0.4.13, `tasks/mmlu`; lighteval, `mmlu_cf` as in the recipe of SmolLM2.

use std::path::Path;

use serde::Deserialize;

use super::{Known, Open, Settings, first, how, option, part, read};
use crate::benchmark::{Answer, Ask, Benchmark, Better, Group, Item, Judgement, Measure, Method};
use crate::degenerate::fault;
use crate::error::EvalError;
use crate::options::{best, best_by_length, outcomes};
use solon_records::{Message, SamplingSettings};

/// The benchmark in the list of all.
pub const KNOWN: Known = Known {
    name: "mmlu",
    about: "MMLU: multiple-choice questions of 57 subjects",
    groups: &GROUPS,
    files: &[],
    open: Open::Files(open),
};

const GROUPS: [Group; 4] = [
    Group { name: "stem", heading: "STEM", by_category: "accuracy" },
    Group { name: "humanities", heading: "Humanities", by_category: "accuracy" },
    Group { name: "social_sciences", heading: "Social sciences", by_category: "accuracy" },
    Group { name: "other", heading: "Other", by_category: "accuracy" },
];

/// The subjects of each of [`GROUPS`], as lm-evaluation-harness groups them.
const SUBJECTS: [&[&str]; 4] = [
    &[
        "abstract_algebra",
        "anatomy",
        "astronomy",
        "college_biology",
        "college_chemistry",
        "college_computer_science",
        "college_mathematics",
        "college_physics",
        "computer_security",
        "conceptual_physics",
        "electrical_engineering",
        "elementary_mathematics",
        "high_school_biology",
        "high_school_chemistry",
        "high_school_computer_science",
        "high_school_mathematics",
        "high_school_physics",
        "high_school_statistics",
        "machine_learning",
    ],
    &[
        "formal_logic",
        "high_school_european_history",
        "high_school_us_history",
        "high_school_world_history",
        "international_law",
        "jurisprudence",
        "logical_fallacies",
        "moral_disputes",
        "moral_scenarios",
        "philosophy",
        "prehistory",
        "professional_law",
        "world_religions",
    ],
    &[
        "econometrics",
        "high_school_geography",
        "high_school_government_and_politics",
        "high_school_macroeconomics",
        "high_school_microeconomics",
        "high_school_psychology",
        "human_sexuality",
        "professional_psychology",
        "public_relations",
        "security_studies",
        "sociology",
        "us_foreign_policy",
    ],
    &[
        "business_ethics",
        "clinical_knowledge",
        "college_medicine",
        "global_facts",
        "human_aging",
        "management",
        "marketing",
        "medical_genetics",
        "miscellaneous",
        "nutrition",
        "professional_accounting",
        "professional_medicine",
        "virology",
    ],
];

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// The measures of every format; those after [`PLAIN`] are of [`Format::Continuation`] alone.
const MEASURES: [Measure; 7] = [
    accuracy("accuracy", "accuracy", "Share of questions whose right choice is the likeliest.", &[]).scored(),
    accuracy("accuracy_stem", "accuracy, STEM", "The same of the STEM subjects.", &["stem"]),
    accuracy("accuracy_humanities", "accuracy, humanities", "The same of the humanities.", &["humanities"]),
    accuracy(
        "accuracy_social_sciences",
        "accuracy, social sciences",
        "The same of the social sciences.",
        &["social_sciences"],
    ),
    accuracy("accuracy_other", "accuracy, other", "The same of the other subjects.", &["other"]),
    crate::options::TRUNCATED,
    accuracy(
        "accuracy_by_length",
        "accuracy by length",
        "Share of questions whose right choice has the highest log-prob for each of its characters.",
        &[],
    ),
];
const PLAIN: usize = 6;

/// Those of [`Format::Generative`].
const WRITTEN: [Measure; 8] = [
    MEASURES[0],
    MEASURES[1],
    MEASURES[2],
    MEASURES[3],
    MEASURES[4],
    super::REPETITION,
    super::EMPTY,
    super::TRUNCATED,
];

/// The harness writes up to 256 tokens; a first line that is a letter ends long before.
const LETTER_TOKENS: usize = 16;

const fn accuracy(
    key: &'static str,
    title: &'static str,
    explanation: &'static str,
    groups: &'static [&'static str],
) -> Measure {
    Measure::share(key, title, explanation, Better::Higher, groups)
}

/// How a question is put, and how a choice is scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// The choices stand in the question, and their letters are scored (lm-evaluation-harness, `mmlu`).
    #[default]
    Letters,
    /// The choices do not stand in the question; their texts are scored (lm-evaluation-harness, `mmlu_continuation`).
    Continuation,
    /// The same, log-probs divided by the choices' characters (lighteval, `mmlu_cf`).
    Cloze,
    /// As for letters, but the model writes, and its first line has to be the letter (lm-evaluation-harness,
    /// `mmlu_generative`).
    Generative,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// Which subjects; all where it is not given.
    #[serde(default)]
    subjects: Vec<String>,
    /// Questions with their answers before each question, from the `dev` files.
    #[serde(default)]
    shots: usize,
    #[serde(default)]
    format: Format,
    /// Whether the question is a user's turn in the model's chat template.
    #[serde(default = "super::yes")]
    template: bool,
    /// So many questions are asked, from the start; 0 asks all.
    #[serde(default)]
    limit: usize,
}

/// One row of a file.
struct Question {
    question: String,
    choices: [String; 4],
    answer: usize,
}

struct Mmlu {
    items: Vec<Item>,
    keys: Keys,
    /// How many subjects the folder has, where they are not MMLU's.
    own: Option<usize>,
}

/// The benchmark on the folder that holds `test` and, where `shots` is above 0, `dev`.
fn open(folder: &Path, settings: Settings) -> Result<Box<dyn Benchmark>, EvalError> {
    let keys: Keys = read(KNOWN.name, settings)?;
    if keys.format == Format::Cloze && keys.shots > 0 {
        let reason = "format = \"cloze\" is asked without examples\nhint: leave `shots` out".to_owned();
        return Err(EvalError::Settings { benchmark: KNOWN.name.to_owned(), reason });
    }
    if keys.format == Format::Generative && !keys.template {
        let reason =
            "format = \"generative\" is asked in the model's chat template\nhint: leave `template` out";
        return Err(EvalError::Settings { benchmark: KNOWN.name.to_owned(), reason: reason.to_owned() });
    }
    let known = subjects(folder)?;
    if let Some(unknown) = keys.subjects.iter().find(|name| !known.iter().any(|(known, _)| known == *name)) {
        let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
        let reason = format!("there is no subject `{unknown}`\nhint: the subjects are {}", names.join(", "));
        return Err(EvalError::Settings { benchmark: KNOWN.name.to_owned(), reason });
    }
    let mut items = Vec::new();
    for (subject, group) in &known {
        if !keys.subjects.is_empty() && !keys.subjects.contains(subject) {
            continue;
        }
        let examples = match keys.shots {
            0 => Vec::new(),
            shots => examples(folder, subject, shots)?,
        };
        for (row, question) in questions(folder, "test", subject)?.into_iter().enumerate() {
            items.push(Item {
                id: format!("{subject}/{row}"),
                messages: keys.format.messages(subject, &examples, &question, keys.template),
                options: keys.format.options(&question, keys.template),
                right: vec![question.answer],
                group: group.name,
                category: Some(subject.clone()),
                ..Item::default()
            });
        }
    }
    first(&mut items, keys.limit);
    let own = (!SUBJECTS.concat().contains(&known[0].0.as_str())).then_some(known.len());
    Ok(Box::new(Mmlu { items, keys, own }))
}

impl Format {
    /// What stands first.
    fn introduction(self, subject: &str) -> String {
        let subject = subject.replace('_', " ");
        match self {
            Self::Letters | Self::Generative => {
                format!("The following are multiple choice questions (with answers) about {subject}.\n\n")
            }
            Self::Continuation => format!("The following are questions (with answers) about {subject}.\n\n"),
            Self::Cloze => format!("The following are questions about {subject}.\n"),
        }
    }

    /// A question up to its answer.
    fn question(self, Question { question, choices: [a, b, c, d], .. }: &Question) -> String {
        match self {
            Self::Letters | Self::Generative => {
                format!("{}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:", question.trim())
            }
            Self::Continuation => format!("Question: {}\nAnswer:", question.trim()),
            Self::Cloze => format!("Question: {question}\nAnswer:"),
        }
    }

    /// What stands before the answer. In a chat template, as in lm-evaluation-harness, the introduction is the system's
    /// message, and each example a question and its answer; lighteval puts all into one question. As plain text it is one.
    fn messages(
        self,
        subject: &str,
        examples: &[Question],
        question: &Question,
        template: bool,
    ) -> Vec<Message> {
        let introduction = self.introduction(subject);
        if template && self != Self::Cloze {
            let turns = examples.iter().flat_map(|example| {
                [Message::user(self.question(example)), Message::assistant(self.answer(example))]
            });
            let question = [Message::user(self.question(question))];
            return [Message::system(introduction)].into_iter().chain(turns).chain(question).collect();
        }
        let shown = examples.iter();
        let shown = shown.map(|example| format!("{} {}\n\n", self.question(example), self.answer(example)));
        let examples: String = shown.collect();
        vec![Message::user(format!("{introduction}{examples}{}", self.question(question)))]
    }

    /// The right answer.
    fn answer(self, question: &Question) -> &str {
        match self {
            Self::Letters | Self::Generative => LETTERS[question.answer],
            Self::Continuation | Self::Cloze => &question.choices[question.answer],
        }
    }

    /// What is scored after the context.
    fn options(self, question: &Question, template: bool) -> Vec<String> {
        let choices = match self {
            Self::Generative => return Vec::new(),
            Self::Letters => LETTERS.map(str::to_owned),
            Self::Continuation | Self::Cloze => question.choices.clone(),
        };
        choices.map(|choice| option(&choice, template)).into()
    }
}

/// The subjects that a folder is about, with their groups. They are MMLU's 57; a folder with none of these in `test` has its own,
/// one for each file there, in the group of other subjects.
fn subjects(folder: &Path) -> Result<Vec<(String, Group)>, EvalError> {
    let test = folder.join("test");
    let official =
        SUBJECTS.iter().zip(GROUPS).flat_map(|(subjects, group)| subjects.iter().map(move |s| (*s, group)));
    let official: Vec<(String, Group)> =
        official.map(|(subject, group)| (subject.to_owned(), group)).collect();
    let wrong = |reason: String| EvalError::File { path: test.clone(), reason };
    let entries = std::fs::read_dir(&test)
        .map_err(|error| wrong(format!("{error}\nhint: give the folder that holds `test`")))?;
    let mut own = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| wrong(error.to_string()))?.file_name();
        let Some(subject) = name.to_str().and_then(|name| name.strip_suffix("_test.csv")) else { continue };
        if official.iter().any(|(known, _)| known == subject) {
            return Ok(official);
        }
        own.push((subject.to_owned(), GROUPS[3]));
    }
    if own.is_empty() {
        return Err(wrong("there is no SUBJECT_test.csv".to_owned()));
    }
    own.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(own)
}

/// The first questions of a subject's `dev` file.
fn examples(folder: &Path, subject: &str, shots: usize) -> Result<Vec<Question>, EvalError> {
    let mut dev = questions(folder, "dev", subject)?;
    if dev.len() < shots {
        let reason = format!(
            "shots = {shots}, but the `dev` file of {subject} has {} questions\nhint: lower `shots`",
            dev.len()
        );
        return Err(EvalError::Settings { benchmark: KNOWN.name.to_owned(), reason });
    }
    dev.truncate(shots);
    Ok(dev)
}

/// The questions of a subject's file.
fn questions(folder: &Path, split: &str, subject: &str) -> Result<Vec<Question>, EvalError> {
    let path = folder.join(split).join(format!("{subject}_{split}.csv"));
    let csv = |source| EvalError::Csv { path: path.clone(), source };
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_path(&path).map_err(csv)?;
    let mut questions = Vec::new();
    for (place, record) in reader.records().enumerate() {
        let record = record.map_err(csv)?;
        let fields: Vec<&str> = record.iter().collect();
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |reason: String| EvalError::Row { path: path.clone(), line, reason };
        let [question, a, b, c, d, answer] = fields[..] else {
            let reason = format!(
                "the row has {} columns; it needs six: the question, four choices and the answer",
                fields.len()
            );
            return Err(wrong(reason));
        };
        if place == 0 && question == "question" && answer == "answer" {
            continue;
        }
        if question.trim().is_empty() {
            return Err(wrong("the question is empty".to_owned()));
        }
        let place = |letters: [&str; 4]| letters.iter().position(|letter| *letter == answer.trim());
        let answer = place(LETTERS)
            .or(place(["0", "1", "2", "3"]))
            .ok_or_else(|| wrong(format!("the answer is {answer:?}; it must be one of A to D, or 0 to 3")))?;
        let choices = [a, b, c, d].map(str::to_owned);
        questions.push(Question { question: question.to_owned(), choices, answer });
    }
    if questions.is_empty() {
        return Err(EvalError::Row { path, line: 1, reason: "the file has no questions".to_owned() });
    }
    Ok(questions)
}

/// An answer's first line as the harness compares it: without white space around it, in lower case, without punctuation.
fn first_line(answer: &str) -> String {
    let line = answer.split('\n').next().unwrap_or_default().trim().to_lowercase();
    line.chars().filter(|c| !c.is_ascii_punctuation()).collect()
}

impl Mmlu {
    /// Judges a written answer.
    fn written(&self, item: &Item, answer: &Answer) -> Judgement {
        let line = first_line(&answer.text);
        let right = item.right.iter().any(|place| LETTERS[*place].to_lowercase() == line);
        let fault = fault(&answer.text);
        let mut outcomes = super::text_outcomes(fault, answer);
        let covered = MEASURES[..PLAIN - 1].iter().filter(|measure| measure.covers(item.group));
        outcomes.extend(covered.map(|measure| (measure.key.to_owned(), right.into())));
        let verdict = if right { "right" } else { "wrong" };
        Judgement { verdict: verdict.to_owned(), fault, outcomes }
    }
}

impl Benchmark for Mmlu {
    fn name(&self) -> &'static str {
        KNOWN.name
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn ask(&self) -> Ask {
        match self.keys.format {
            Format::Generative => Ask::Generate(SamplingSettings::greedy(LETTER_TOKENS)),
            _ => Ask::Choose { template: self.keys.template },
        }
    }

    fn judge(&self, item: &Item, answer: &Answer) -> Judgement {
        if self.keys.format == Format::Generative {
            return self.written(item, answer);
        }
        let by_length = best_by_length(item, answer);
        let chosen = match self.keys.format {
            Format::Letters | Format::Continuation | Format::Generative => best(answer),
            Format::Cloze => by_length,
        };
        let right = |choice: Option<usize>| choice.is_some_and(|choice| item.right.contains(&choice));
        let found = self.measures().iter().filter(|measure| measure.covers(item.group));
        let outcomes = outcomes(found, |key| match key {
            "truncated" => answer.truncated,
            "accuracy_by_length" => right(by_length),
            _ => right(chosen),
        });
        let verdict = if right(chosen) { "right" } else { "wrong" };
        Judgement { verdict: verdict.to_owned(), fault: None, outcomes }
    }

    fn measures(&self) -> &'static [Measure] {
        match self.keys.format {
            Format::Continuation => &MEASURES,
            Format::Letters | Format::Cloze => &MEASURES[..PLAIN],
            Format::Generative => &WRITTEN,
        }
    }

    fn groups(&self) -> &'static [Group] {
        &GROUPS
    }

    fn rule(&self) -> &'static str {
        match self.keys.format {
            Format::Letters => "mmlu",
            Format::Continuation => "mmlu_continuation",
            Format::Cloze => "mmlu_cf",
            Format::Generative => "mmlu_generative",
        }
    }

    fn method(&self) -> Method {
        let shots = match self.keys.shots {
            0 => "without examples".to_owned(),
            1 => "after one example".to_owned(),
            shots => format!("after {shots} examples"),
        };
        let subjects = match &self.keys.subjects[..] {
            [] => "all subjects".to_owned(),
            [subject] => subject.clone(),
            subjects => format!("{} subjects ({})", subjects.len(), subjects.join(", ")),
        };
        let whose = match self.own {
            None => "MMLU's test files".to_owned(),
            Some(own) => {
                format!("a folder's own test files in MMLU's format ({own} subjects, none of them MMLU's)")
            }
        };
        Method {
            asked: format!(
                "Questions of {whose}, {subjects}, {shots}, {}.{}",
                how(self.keys.template),
                part(self.keys.limit)
            ),
            judged: match self.keys.format {
                Format::Letters => {
                    "The answer is the likeliest of the letters A to D, as in lm-evaluation-harness."
                }
                Format::Continuation => {
                    "The answer is the likeliest of the four texts, as in lm-evaluation-harness's `mmlu_continuation`."
                }
                Format::Cloze => {
                    "The answer is the text with the highest log-prob for each of its characters, as in lighteval's \
                     `mmlu_cf`."
                }
                Format::Generative => {
                    "The first line of the answer has to be the letter alone, whatever its case and punctuation, as in \
                     lm-evaluation-harness's `mmlu_generative`."
                }
            }
            .to_owned(),
            believed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmarks::tests::{describes_itself_consistently, shared_data};
    use crate::{Judged, summarise};
    use std::fs;

    const HEADER: &str = "question,choice0,choice1,choice2,choice3,answer\n";
    const TEST: &str = "\" Which is, of these, a bone?\",The femur,The liver,\"The \"\"iris\"\"\",A vein,0\nWhat beats?,Bone,Heart,Skin,Hair,B\n";
    const DEV: &str = "What sees?,Eye,Ear,Nose,Toe,A\nWhat hears?,Eye,Ear,Nose,Toe,B\n";

    fn folder(test: &str, dev: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (split, text) in [("test", test), ("dev", dev)] {
            fs::create_dir(folder.path().join(split)).unwrap();
            fs::write(folder.path().join(format!("{split}/anatomy_{split}.csv")), text).unwrap();
        }
        folder
    }

    fn settings(json: serde_json::Value) -> Settings {
        let mut settings = json.as_object().unwrap().clone();
        settings.entry("subjects").or_insert(vec!["anatomy"].into());
        settings
    }

    fn opened(folder: &tempfile::TempDir, keys: serde_json::Value) -> Box<dyn Benchmark> {
        open(folder.path(), settings(keys)).unwrap()
    }

    #[test]
    fn questions_are_put_as_the_harnesses_put_them() {
        let folder = folder(TEST, DEV);
        let asked = |keys: serde_json::Value| {
            let item = opened(&folder, keys).items()[0].clone();
            let context: Vec<String> = item.messages.iter().map(|m| m.content.clone()).collect();
            (context.concat(), item.options, item.id, item.messages)
        };
        let letters = "The following are multiple choice questions (with answers) about anatomy.\n\n";
        let question =
            "Which is, of these, a bone?\nA. The femur\nB. The liver\nC. The \"iris\"\nD. A vein\nAnswer:";
        let (context, options, id, _) = asked(serde_json::json!({"template": false}));
        assert_eq!((context.as_str(), id.as_str()), (format!("{letters}{question}").as_str(), "anatomy/0"));
        assert_eq!(options, [" A", " B", " C", " D"]);
        let (context, options, ..) = asked(serde_json::json!({"shots": 2, "template": false}));
        let shots = "What sees?\nA. Eye\nB. Ear\nC. Nose\nD. Toe\nAnswer: A\n\nWhat hears?\nA. Eye\nB. Ear\nC. Nose\nD. Toe\nAnswer: B\n\n";
        assert_eq!((context, options.len()), (format!("{letters}{shots}{question}"), 4));
        // In a template: the system's message, an example as a turn, the question.
        let (_, options, _, messages) = asked(serde_json::json!({"shots": 1}));
        let example = "What sees?\nA. Eye\nB. Ear\nC. Nose\nD. Toe\nAnswer:";
        let turns = [
            Message::system(letters),
            Message::user(example),
            Message::assistant("A"),
            Message::user(question),
        ];
        assert_eq!((messages, options), (turns.to_vec(), LETTERS.map(str::to_owned).to_vec()));
        let (context, options, ..) =
            asked(serde_json::json!({"format": "continuation", "shots": 1, "template": false}));
        assert_eq!(
            context,
            "The following are questions (with answers) about anatomy.\n\nQuestion: What sees?\nAnswer: Eye\n\n\
             Question: Which is, of these, a bone?\nAnswer:"
        );
        assert_eq!(options, [" The femur", " The liver", " The \"iris\"", " A vein"]);
        let (context, _, _, messages) = asked(serde_json::json!({"format": "cloze"}));
        assert_eq!(messages.len(), 1);
        // lighteval leaves the question as it is.
        assert_eq!(
            context,
            "The following are questions about anatomy.\nQuestion:  Which is, of these, a bone?\nAnswer:"
        );
    }

    #[test]
    fn a_header_and_numbers_are_the_same_as_letters() {
        let (plain, headed) =
            (folder(TEST, DEV), folder(&format!("{HEADER}{}", TEST.replace(",B\n", ",1\n")), DEV));
        let (plain, headed) = (opened(&plain, serde_json::json!({})), opened(&headed, serde_json::json!({})));
        assert_eq!(plain.items(), headed.items());
        assert_eq!(plain.items().iter().map(|item| item.right[0]).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(opened(&folder(TEST, DEV), serde_json::json!({"limit": 1})).items().len(), 1);
    }

    #[test]
    fn rows_and_settings_that_do_not_fit_are_named() {
        let error = |test: &str, keys: serde_json::Value| {
            open(folder(test, DEV).path(), settings(keys)).err().unwrap().to_string()
        };
        let none = || serde_json::json!({});
        for (test, keys, part) in [
            ("What?,a,b,c,A\n", none(), "anatomy_test.csv, line 1: the row has 5 columns"),
            ("What?,a,b,c,d,A\n\"Which\nof\",a,b,c,d,E\n", none(), "line 2: the answer is \"E\""),
            (" ,a,b,c,d,A\n", none(), "the question is empty"),
            (HEADER, none(), "the file has no questions"),
            (TEST, serde_json::json!({"shots": 3}), "has 2 questions"),
            (TEST, serde_json::json!({"format": "cloze", "shots": 1}), "without examples"),
            (TEST, serde_json::json!({"subjects": ["anatomi"]}), "no subject `anatomi`"),
            (TEST, serde_json::json!({"subjects": ["virology"]}), "virology_test.csv"),
            (TEST, serde_json::json!({"shot": 1}), "unknown field `shot`"),
        ] {
            let error = error(test, keys);
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn the_right_choice_is_the_likeliest_or_the_likeliest_for_its_length() {
        let folder = folder(TEST, DEV);
        for format in ["letters", "continuation", "cloze"] {
            let benchmark = opened(&folder, serde_json::json!({"format": format}));
            describes_itself_consistently(&KNOWN, &*benchmark);
            let judged = benchmark.items().iter().map(|item| {
                // "Bone" and "Heart", "The femur" and "A vein": the longer loses in sum and wins by length, and is right.
                let log_probs = match item.id.as_str() {
                    "anatomy/0" => vec![-2.0, -9.0, -9.0, -3.0],
                    _ => vec![-2.0, -2.4, -9.0, -9.0],
                };
                Judged::new(&*benchmark, item, Answer::chosen(item, log_probs, false))
            });
            let summary = summarise(&*benchmark, judged.collect::<Vec<_>>()).unwrap();
            let right = |key| summary.rate(key).map(|rate| rate.count);
            match format {
                "letters" => assert_eq!((right("accuracy"), right("accuracy_by_length")), (Some(1), None)),
                "continuation" => {
                    assert_eq!((right("accuracy"), right("accuracy_by_length")), (Some(1), Some(2)));
                }
                _ => assert_eq!((right("accuracy"), right("accuracy_stem")), (Some(2), Some(2))),
            }
        }
    }

    /// The harness's filters, then its `exact_match`.
    #[test]
    fn a_written_answer_is_right_where_its_first_line_is_the_letter() {
        let folder = folder(TEST, DEV);
        let benchmark = opened(&folder, serde_json::json!({"format": "generative", "shots": 1}));
        describes_itself_consistently(&KNOWN, &*benchmark);
        assert_eq!(benchmark.ask(), Ask::Generate(SamplingSettings::greedy(16)));
        let item = &benchmark.items()[0];
        assert!(item.options.is_empty() && item.messages.len() == 4);
        for (text, right) in [
            ("A", true),
            (" (a). ", true),
            ("A\nB", true),
            ("\nA", false),
            ("A. The femur", false),
            ("B", false),
            ("", false),
        ] {
            let judged = benchmark.judge(item, &Answer::written(text.to_owned(), false));
            assert_eq!(judged.outcomes["accuracy"], right.into(), "{text:?}");
            assert_eq!(judged.outcomes["accuracy_stem"], right.into());
        }
        let keys = settings(serde_json::json!({"format": "generative", "template": false}));
        let error = open(folder.path(), keys).err().unwrap().to_string();
        assert!(error.contains("hint: leave `template` out"), "{error}");
    }

    #[test]
    fn a_folder_without_official_subjects_has_its_own() {
        let folder = folder(TEST, DEV);
        for split in ["test", "dev"] {
            let path = |name: &str| folder.path().join(format!("{split}/{name}_{split}.csv"));
            fs::rename(path("anatomy"), path("zoo_keeping")).unwrap();
            fs::copy(path("zoo_keeping"), path("baking")).unwrap();
        }
        let open = |keys: serde_json::Value| super::open(folder.path(), keys.as_object().unwrap().clone());
        let benchmark = open(serde_json::json!({"shots": 1})).unwrap();
        let ids: Vec<&str> = benchmark.items().iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, ["baking/0", "baking/1", "zoo_keeping/0", "zoo_keeping/1"]);
        assert!(benchmark.items().iter().all(|item| item.group == "other"));
        let asked = benchmark.method().asked;
        assert!(
            asked.contains("own test files") && asked.contains("2 subjects, none of them MMLU's"),
            "{asked}"
        );
        assert_eq!(open(serde_json::json!({"subjects": ["baking"]})).unwrap().items().len(), 2);
        let error = open(serde_json::json!({"subjects": ["anatomy"]})).err().unwrap().to_string();
        assert!(error.contains("no subject `anatomy`") && error.ends_with("baking, zoo_keeping"), "{error}");
        // Beside an official subject they are none.
        fs::write(folder.path().join("test/virology_test.csv"), TEST).unwrap();
        let error = open(serde_json::json!({})).err().unwrap().to_string();
        assert!(error.contains("abstract_algebra_test.csv"), "{error}");
        let nothing = tempfile::tempdir().unwrap();
        let error = |path: &Path| super::open(path, Settings::new()).err().unwrap().to_string();
        assert!(error(nothing.path()).contains("hint: give the folder that holds `test`"));
        fs::create_dir(nothing.path().join("test")).unwrap();
        assert!(error(nothing.path()).contains("there is no SUBJECT_test.csv"));
    }

    /// The project's own questions, which stand in for MMLU's where these are not there.
    #[test]
    fn the_projects_own_questions_are_sixty_and_each_letter_is_right_as_often() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/knowledge");
        let benchmark = super::open(&folder, Settings::from_iter([("shots".to_owned(), 3.into())])).unwrap();
        let items = benchmark.items();
        assert_eq!(items.len(), 60);
        for place in 0..4 {
            assert_eq!(items.iter().filter(|item| item.right == [place]).count(), 15);
        }
        let texts: std::collections::HashSet<&str> =
            items.iter().map(|item| item.messages.last().unwrap().content.as_str()).collect();
        assert_eq!(texts.len(), 60);
    }

    #[test]
    fn the_official_files_have_their_size() {
        let Some(data) = shared_data("mmlu") else { return };
        let benchmark = open(&data, Settings::new()).unwrap();
        let items = benchmark.items();
        assert_eq!(items.len(), 14_042);
        let answers = [0, 1, 2, 3].map(|place| items.iter().filter(|item| item.right == [place]).count());
        assert_eq!(answers, [3222, 3462, 3582, 3776]);
        let with_five = open(&data, Settings::from_iter([("shots".to_owned(), 5.into())])).unwrap();
        assert_eq!(with_five.items().len(), 14_042);
    }
}
