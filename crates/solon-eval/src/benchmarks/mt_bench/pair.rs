//! MT-Bench in pairs: is an answer better than a baseline's?
//!
//! Contract: FastChat's `pairwise-baseline` mode at 0e6d3e4 (`gen_judgment.py`, `show_result.py`). The judge sees both answers
//! in both orders. It prefers one where it does so in both orders; else it is a tie. The figure is the adjusted win rate, (wins +
//! ties / 2) / n, of the turns with a verdict in both orders; the others are counted as unjudged and left out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{FIRST, MtBench, SECOND, Turns, asked, conversation_of, has_reference};
use crate::benchmark::{Answer, Better, Group, Item, Judgement, Measure, Outcome, Question, Reply, Unit};
use crate::benchmarks::{EMPTY, REPETITION, TRUNCATED, jsonl, text_outcomes};
use crate::degenerate::fault;
use crate::error::EvalError;
use crate::judge::UNJUDGED;
use crate::judge::preference::Preferred;

pub(super) const GROUPS: [Group; 2] = [
    Group { name: FIRST, heading: "First turns", by_category: "adjusted_win_rate" },
    Group { name: SECOND, heading: "Second turns", by_category: "adjusted_win_rate" },
];

pub(super) const MEASURES: [Measure; 11] = [
    rate(
        "adjusted_win_rate",
        "adjusted win rate",
        "Wins and half of the ties, as a share of judged turns.",
        &[],
    ),
    rate("adjusted_win_rate_turn_1", "adjusted win rate, first turn", "The same of first turns.", &[FIRST]),
    rate(
        "adjusted_win_rate_turn_2",
        "adjusted win rate, second turn",
        "The same of second turns.",
        &[SECOND],
    ),
    share(
        "win",
        "win",
        "Share of judged turns in which the judge prefers the answer in both orders.",
        Better::Higher,
    ),
    share("tie", "tie", "Share of judged turns in which it prefers neither in both orders.", Better::Neither),
    share(
        "loss",
        "loss",
        "Share of judged turns in which it prefers the baseline's in both orders.",
        Better::Lower,
    ),
    share(
        "order_decided",
        "order decided",
        "Share of judged turns in which the judge gave another verdict in the other order; they are among the ties.",
        Better::Neither,
    ),
    UNJUDGED,
    REPETITION,
    EMPTY,
    TRUNCATED,
];

const fn rate(
    key: &'static str,
    title: &'static str,
    explanation: &'static str,
    groups: &'static [&'static str],
) -> Measure {
    Measure::share(key, title, explanation, Better::Higher, groups)
        .in_unit(Unit::Number { least: 0.0, most: 1.0 })
}

const fn share(key: &'static str, title: &'static str, explanation: &'static str, better: Better) -> Measure {
    Measure::share(key, title, explanation, better, &[])
}

/// The templates for one turn and for two, without references and with them.
pub(super) const TEMPLATES: [&str; 4] =
    ["pair-v2", "pair-math-v1", "pair-v2-multi-turn", "pair-math-v1-multi-turn"];

/// Another model's answers to the questions.
pub(super) struct Baseline {
    answers: HashMap<u64, [String; 2]>,
    /// As the file names it, else the file's own name.
    name: String,
}

#[derive(Deserialize)]
struct Row {
    question_id: u64,
    model_id: Option<String>,
    choices: Vec<Turns>,
}

impl Baseline {
    /// Reads FastChat's answers. Errors name a question that has none, or that is answered twice.
    pub(super) fn read(file: &Path, questions: impl Iterator<Item = u64>) -> Result<Self, EvalError> {
        let wrong = |reason: String| EvalError::File { path: PathBuf::from(file), reason };
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut baseline = Self { answers: HashMap::new(), name: stem };
        for Row { question_id, model_id, choices } in jsonl(file)? {
            let Some(Turns { turns }) = choices.into_iter().next() else {
                return Err(wrong(format!("question {question_id} has no choices")));
            };
            if baseline.answers.insert(question_id, turns).is_some() {
                let hint = "hint: give the answers of one model, one line a question";
                return Err(wrong(format!("question {question_id} is answered twice\n{hint}")));
            }
            baseline.name = model_id.unwrap_or(baseline.name);
        }
        for question in questions {
            if !baseline.answers.contains_key(&question) {
                let hint = "hint: the baseline needs an answer to each question that is asked";
                return Err(wrong(format!("question {question} has no answer\n{hint}")));
            }
        }
        Ok(baseline)
    }

    pub(super) fn method(&self, references: &str) -> String {
        format!(
            "A judge compares each turn with that of {} in both orders, and where the orders differ it is a tie; {references}",
            self.name
        )
    }
}

impl MtBench {
    /// What the judge is asked: first with the model's answer as A, then with the baseline's.
    pub(super) fn both_orders(
        &self,
        baseline: &Baseline,
        [reference_1, reference_2]: [&str; 2],
        before: &[(&Item, &Answer)],
        item: &Item,
        answer: &Answer,
    ) -> Vec<Question> {
        let Some([baseline_1, baseline_2]) = baseline.answers.get(&conversation_of(item)) else {
            return Vec::new();
        };
        let [one, one_with, two, two_with] = TEMPLATES;
        let with_reference = has_reference(item);
        let questions = match before.first() {
            None => [(&answer.text, baseline_1), (baseline_1, &answer.text)].map(|(a, b)| {
                let values = [
                    ("question", asked(item)),
                    ("answer_a", a.as_str()),
                    ("answer_b", b),
                    ("ref_answer_1", reference_1),
                ];
                self.filled(if with_reference { one_with } else { one }, &values)
            }),
            Some((first, first_answer)) => {
                let (own, other) = ([&first_answer.text, &answer.text], [baseline_1, baseline_2]);
                [(own, other), (other, own)].map(|([a_1, a_2], [b_1, b_2])| {
                    let values = [
                        ("question_1", asked(first)),
                        ("question_2", asked(item)),
                        ("answer_a_1", a_1.as_str()),
                        ("answer_a_2", a_2),
                        ("answer_b_1", b_1),
                        ("answer_b_2", b_2),
                        ("ref_answer_1", reference_1),
                        ("ref_answer_2", reference_2),
                    ];
                    self.filled(if with_reference { two_with } else { two }, &values)
                })
            }
        };
        questions.into_iter().flatten().collect()
    }
}

/// What two verdicts come to: the model's answer is the first one, then the second.
pub(super) fn judge(item: &Item, answer: &Answer) -> Judgement {
    let fault = fault(&answer.text);
    let verdicts = match &answer.judge {
        Some(Reply::Several(replies)) => {
            let said = |place: usize| Preferred::said(replies.get(place)?.text()?);
            said(0).zip(said(1).map(Preferred::swapped))
        }
        _ => None,
    };
    let agreed = verdicts.map(|(one, other)| one.agreed(other));
    let share = |holds: Option<bool>| holds.map_or(Outcome::Unknown, Outcome::Holds);
    let won = agreed.map_or(Outcome::Unknown, |agreed| match agreed {
        Preferred::First => Outcome::Number(1.0),
        Preferred::Tie => Outcome::Number(0.5),
        Preferred::Second => Outcome::Number(0.0),
    });
    let of_turn = if item.group == FIRST { "adjusted_win_rate_turn_1" } else { "adjusted_win_rate_turn_2" };
    let mut outcomes = text_outcomes(fault, answer);
    let found = [
        ("adjusted_win_rate", won),
        (of_turn, won),
        ("win", share(agreed.map(|agreed| agreed == Preferred::First))),
        ("tie", share(agreed.map(|agreed| agreed == Preferred::Tie))),
        ("loss", share(agreed.map(|agreed| agreed == Preferred::Second))),
        ("order_decided", share(verdicts.map(|(one, other)| one != other))),
        (UNJUDGED.key, agreed.is_none().into()),
    ];
    outcomes.extend(found.map(|(key, outcome)| (key.to_owned(), outcome)));
    let verdict = match agreed {
        Some(Preferred::First) => "win",
        Some(Preferred::Second) => "loss",
        Some(Preferred::Tie) => "tie",
        None => "unjudged",
    };
    Judgement { verdict: verdict.to_owned(), fault, outcomes }
}
