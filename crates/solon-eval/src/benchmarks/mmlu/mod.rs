//! MMLU (Hendrycks et al., ICLR 2021): multiple-choice questions of 57 subjects, scored by the log-probs of the choices.
//!
//! Contract: reads the official CSV files or those of the Hugging Face Hub ([`files`]); a folder with none of the official subjects has its
//! own. Prompts, scoring and groups are those of the harness that [`Format`] names.
//! Sources: lm-evaluation-harness 0.4.13, `tasks/mmlu`; lighteval, `mmlu_cf` as in the recipe of SmolLM2.

mod files;

use std::path::Path;

use serde::Deserialize;

use self::files::{Files, Question, SUBJECTS};

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
    data: "folder with test/SUBJECT_test.csv and dev, or the Parquet files of the Hub",
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

struct Mmlu {
    items: Vec<Item>,
    keys: Keys,
    /// How many subjects the folder has, where they are not MMLU's.
    own: Option<usize>,
}

/// The benchmark on a folder with the questions of `test` and, where `shots` is above 0, of `dev`.
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
    let (files, known) = Files::open(folder)?;
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
            shots => files.examples(subject, shots)?,
        };
        for (row, question) in files.questions("test", subject)?.into_iter().enumerate() {
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
    fn known(&self) -> &'static Known {
        &KNOWN
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn ask(&self) -> Ask {
        match self.keys.format {
            // The harness stops at the end of the first line.
            Format::Generative => Ask::Generate(SamplingSettings {
                stop: vec!["\n".to_owned()],
                ..SamplingSettings::greedy(LETTER_TOKENS)
            }),
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
                Format::Letters if self.keys.template => {
                    "The answer is the likeliest of the letters A to D, as in lm-evaluation-harness with \
                     `--apply_chat_template`; its default is without one (`template = false`)."
                }
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
mod tests;
