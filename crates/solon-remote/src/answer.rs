//! What a server said, as it is recorded, and what that is as a reply to a question.
//!
//! Contract: an answer is what was read of a server's reply and nothing derived from it, so that one recorded answer serves
//! any options.

use serde::{Deserialize, Serialize};

use crate::account::Tokens;
use crate::{Interface, Question, Reply, Unanswered, UnansweredKind};

/// A well-formed reply of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// May be blank.
    pub text: String,
    pub end: End,
    /// The likeliest first tokens, where the server lists them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<Likely>,
    /// As the server counts them, where it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// By itself.
    Whole,
    /// At the limit of new tokens, or of the model's context.
    Cut,
    /// The server withheld it or broke it off by its own rules.
    Declined,
}

/// A token and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Likely {
    pub token: String,
    /// In nats.
    pub logprob: f64,
}

impl Answer {
    /// The reply to a question.
    pub fn reply(&self, to: &Question) -> Result<Reply, Unanswered> {
        if self.end == End::Declined {
            let what = "the server withheld the answer by its own rules";
            return Err(Unanswered::new(UnansweredKind::Declined, what));
        }
        let weighed = match to.interface() {
            Interface::Chat => answered(&self.first, &to.options),
            Interface::Completions => continued(&self.first, &to.options, to.lead()),
        };
        if let Some(log_probs) = weighed {
            return Ok(Reply::Options(log_probs));
        }
        let stop = to.stop.iter().filter_map(|stop| self.text.find(stop.as_str())).min();
        let text = &self.text[..stop.unwrap_or(self.text.len())];
        match (text.trim().is_empty(), self.end) {
            (false, end) => {
                Ok(Reply::Said { text: text.to_owned(), truncated: end == End::Cut && stop.is_none() })
            }
            (true, End::Cut) if stop.is_none() => {
                let what = "the reply has no text within the limit of new tokens\n\
                            hint: a model that reasons first needs a larger limit";
                Err(Unanswered::new(UnansweredKind::Empty, what))
            }
            (true, _) => Err(Unanswered::new(UnansweredKind::Empty, "the reply has no text")),
        }
    }

    /// Whether the server shows log-probs, of a reply for which they were asked; `None` where it wrote nothing that could have some.
    pub fn shows_log_probs(&self) -> Option<bool> {
        match self {
            Self { first, .. } if !first.is_empty() => Some(true),
            Self { end: End::Declined, .. } => None,
            Self { text, end, .. } => (!text.is_empty() || *end == End::Cut).then_some(false),
        }
    }
}

/// The log-prob of each option as an answer in a conversation; tokens that differ in white space count together, and words that differ
/// in case too (the article a is not the option A).
///
/// `None` also where a listed token begins another option that is not listed (the 1 of 10): then it may be either.
fn answered(listed: &[Likely], options: &[String]) -> Option<Vec<f64>> {
    let is = |token: &str, option: &str| match (token.trim(), option.trim()) {
        (token, option) if option.chars().count() > 1 => token.eq_ignore_ascii_case(option),
        (token, option) => token == option,
    };
    let found = weighed(listed, options.len(), |token, place| is(token, &options[place]))?;
    let longer = |one: usize, other: usize| other != one && options[other].starts_with(options[one].as_str());
    let may_be_either = (0..options.len()).any(|one| {
        found[one].is_some() && (0..options.len()).any(|other| longer(one, other) && found[other].is_none())
    });
    (!may_be_either).then(|| bounded(listed, found))
}

/// The log-prob of each option as what follows a text and the options' common beginning `lead`. A token may be the first part of an
/// option (the A of "A)"), or go on after it, though not within a word or a number: " Not" is no No. One that begins several is none of them.
fn continued(listed: &[Likely], options: &[String], lead: &str) -> Option<Vec<f64>> {
    let begins = |token: &str, option: &str| {
        let rest = option.strip_prefix(lead).unwrap_or(option).trim_start();
        let goes_on = |more: &str| !more.starts_with(char::is_alphanumeric);
        !token.is_empty() && (rest.starts_with(token) || token.strip_prefix(rest).is_some_and(goes_on))
    };
    let is = |token: &str, place: usize| {
        let token = token.trim();
        let begun = |option: &String| begins(token, option);
        begun(&options[place]) && options.iter().filter(|option| begun(option)).count() == 1
    };
    weighed(listed, options.len(), is).map(|found| bounded(listed, found))
}

/// Of each of so many options the log-prob of all its tokens among those listed, or none. `is`: whether a token is an option.
///
/// `None` where the likeliest token is no option: then the answer begins otherwise, and the options' small rest says nothing.
fn weighed(listed: &[Likely], options: usize, is: impl Fn(&str, usize) -> bool) -> Option<Vec<Option<f64>>> {
    let likeliest = known(listed).max_by(|a, b| a.logprob.total_cmp(&b.logprob))?;
    if !(0..options).any(|place| is(&likeliest.token, place)) {
        return None;
    }
    let of = |place: usize| {
        let mut of_option = known(listed).filter(|likely| is(&likely.token, place)).peekable();
        of_option.peek()?;
        Some(of_option.map(|likely| likely.logprob.exp()).sum::<f64>().max(LEAST.exp()).ln())
    };
    Some((0..options).map(of).collect())
}

/// The same with a bound for each option that is not listed: the least of the tokens that are, or what they leave.
fn bounded(listed: &[Likely], found: Vec<Option<f64>>) -> Vec<f64> {
    let least = known(listed).map(|likely| likely.logprob).fold(0.0, f64::min);
    let rest = 1.0 - known(listed).map(|likely| likely.logprob.exp()).sum::<f64>();
    let bound = least.min(rest.max(LEAST.exp()).ln());
    found.into_iter().map(|log_prob| log_prob.unwrap_or(bound)).collect()
}

/// A log-prob is at most 0; what a server says beyond is no log-prob, and far below is none that counts.
fn known(listed: &[Likely]) -> impl Iterator<Item = &Likely> {
    listed.iter().filter(|likely| (LEAST..=0.0).contains(&likely.logprob))
}

/// Below this a log-prob is as good as none: e^-100.
const LEAST: f64 = -100.0;

#[cfg(test)]
mod tests {
    use super::*;
    use solon_records::{Context, Message};

    fn question(context: Context, options: &[&str]) -> Question {
        Question {
            id: "1".to_owned(),
            context,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            max_new_tokens: 1,
            temperature: 0.0,
            stop: Vec::new(),
            sample: 0,
        }
    }

    fn reply(text: &str, end: End, first: &[(&str, f64)], options: &[&str]) -> Result<Reply, UnansweredKind> {
        let first = first
            .iter()
            .map(|(token, logprob)| Likely { token: (*token).to_owned(), logprob: *logprob })
            .collect();
        let question = question(vec![Message::user("Is it?")].into(), options);
        Answer { text: text.to_owned(), end, first, tokens: None }
            .reply(&question)
            .map_err(|error| error.kind)
    }

    #[test]
    fn options_are_read_from_log_probs_where_the_likeliest_is_one() {
        let asked = |first: &[(&str, f64)]| reply("yes", End::Whole, first, &["yes", "no"]);
        let Ok(Reply::Options(log_probs)) = asked(&[("yes", -1.0), (" Yes", -1.0), ("x", -4.0)]) else {
            panic!()
        };
        assert!((log_probs[0] - (2.0 * (-1.0_f64).exp()).ln()).abs() < 1e-12);
        // What is not listed is at most as likely as the least that is, and as what all leave.
        assert_eq!(log_probs[1], -4.0);
        let Ok(Reply::Options(log_probs)) = asked(&[("no", -0.01)]) else { panic!() };
        assert!((log_probs[0] - (1.0 - (-0.01_f64).exp()).ln()).abs() < 1e-9, "{log_probs:?}");
        // The article is no letter, and a 1 may begin a 10.
        let letters = reply("a", End::Whole, &[("a", -0.1), ("A", -3.0)], &["A", "B"]);
        assert!(matches!(letters, Ok(Reply::Said { .. })), "{letters:?}");
        let scale = ["1", "2", "10"];
        assert!(matches!(
            reply("1", End::Whole, &[("1", -0.1), ("2", -3.0)], &scale),
            Ok(Reply::Said { .. })
        ));
        let all = [("1", -0.1), ("2", -3.0), ("10", -4.0)];
        assert!(matches!(reply("1", End::Whole, &all, &scale), Ok(Reply::Options(_))));
        for first in [&[][..], &[("maybe", -0.1)], &[("I", -0.001), ("no", -9.0)], &[("yes", 1e308)]] {
            assert_eq!(
                asked(first),
                Ok(Reply::Said { text: "yes".to_owned(), truncated: false }),
                "{first:?}"
            );
        }
        // The same answer serves a question without options, or with others.
        assert!(matches!(
            reply("yes", End::Cut, &[("yes", -0.1)], &[]),
            Ok(Reply::Said { truncated: true, .. })
        ));
        assert!(matches!(reply("A", End::Cut, &[("A", -0.1)], &["A", "B"]), Ok(Reply::Options(_))));
    }

    #[test]
    fn what_holds_no_text_is_no_reply() {
        assert_eq!(reply(" \n", End::Whole, &[], &[]), Err(UnansweredKind::Empty));
        assert_eq!(reply("", End::Cut, &[], &[]), Err(UnansweredKind::Empty));
        assert_eq!(reply("Well,", End::Declined, &[], &[]), Err(UnansweredKind::Declined));
    }

    #[test]
    fn after_a_text_a_token_is_what_it_alone_begins() {
        let weighed = |first: &[(&str, f64)], options: &[&str]| {
            let asked = question(Context::Text("The answer is:".to_owned()), options);
            let first =
                first.iter().map(|(token, logprob)| Likely { token: (*token).to_owned(), logprob: *logprob });
            let answer =
                Answer { text: "A)".to_owned(), end: End::Cut, first: first.collect(), tokens: None };
            match answer.reply(&asked).unwrap() {
                Reply::Options(log_probs) => Some(log_probs),
                Reply::Said { .. } => None,
            }
        };
        let letters = [" (A)", " (B)"];
        assert_eq!(question(Context::Text("t".to_owned()), &letters).lead(), " (");
        assert_eq!(weighed(&[("B", -0.5), ("A", -1.5)], &letters), Some(vec![-1.5, -0.5]));
        assert_eq!(weighed(&[("B)", -0.5), ("A).", -1.5)], &letters), Some(vec![-1.5, -0.5]));
        // Not listed: at most as likely as the least that is.
        assert_eq!(weighed(&[("B", -0.5), ("x", -3.0)], &letters), Some(vec![-3.0, -0.5]));
        for first in [[("a", -0.5), ("A", -1.5)], [("", -0.5), ("A", -1.5)], [("Both", -0.5), ("A", -1.5)]] {
            assert_eq!(weighed(&first, &letters), None, "{first:?}");
        }
        // Longer words and numbers are others.
        for first in [[(" Not", -0.5), (" Yes", -1.5)], [(" No", -1.5), ("Yesterday", -0.5)]] {
            assert_eq!(weighed(&first, &[" Yes", " No"]), None, "{first:?}");
        }
        assert_eq!(weighed(&[(" No.", -0.5), (" None", -3.0)], &[" Yes", " No"]), Some(vec![-3.0, -0.5]));
        // White space alone is no beginning to write, and a 1 may begin a 10.
        assert_eq!(question(Context::Text("t".to_owned()), &[" Yes", " No"]).lead(), "");
        assert_eq!(weighed(&[(" Yes", -0.5), (" No", -1.5)], &[" Yes", " No"]), Some(vec![-0.5, -1.5]));
        assert_eq!(question(Context::Text("t".to_owned()), &[" 1", " 10"]).lead(), "");
        assert_eq!(weighed(&[(" 1", -0.5), (" 2", -1.5)], &[" 1", " 2", " 10"]), None);
    }

    #[test]
    fn a_text_ends_before_its_first_stop() {
        let stop = ["\nB:", "\nA:"].map(str::to_owned).to_vec();
        let asked = Question { stop, ..question(Context::Text("t".to_owned()), &[]) };
        let reply = |text: &str| {
            Answer { text: text.to_owned(), end: End::Cut, first: Vec::new(), tokens: None }.reply(&asked)
        };
        let said = |text: &str, truncated| Ok(Reply::Said { text: text.to_owned(), truncated });
        assert_eq!(reply("one\nA: two\nB: three"), said("one", false));
        assert_eq!(reply("one"), said("one", true));
        assert_eq!(reply(" \nA: two").unwrap_err().reason, "the reply has no text");
    }

    #[test]
    fn only_what_was_written_says_that_log_probs_are_not_shown() {
        let shows = |text: &str, end, first: &[Likely]| {
            Answer { text: text.to_owned(), end, first: first.to_vec(), tokens: None }.shows_log_probs()
        };
        let listed = [Likely { token: "a".to_owned(), logprob: -0.1 }];
        assert_eq!(shows("", End::Whole, &listed), Some(true));
        assert_eq!(shows("a", End::Whole, &[]), Some(false));
        assert_eq!(shows("", End::Cut, &[]), Some(false));
        assert_eq!(shows("", End::Whole, &[]), None);
        assert_eq!(shows("a", End::Declined, &[]), None);
    }
}
